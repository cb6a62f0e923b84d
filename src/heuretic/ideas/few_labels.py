"""Checks of semi-supervised training: data sets with few labels, and one treatment against learning the labels alone.

In every check both arms have the same labelled rows and the same updates of the model that is measured, and choose among
equally many candidates by validation rows. Compute is not equal: a semi-supervised step sees unlabelled rows too, and a teacher
may be trained beside the student; how many rows are learned from for each update of the measured model is noted with each arm.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch
from torch import nn

import heuretic as hr
from heuretic.data.augment import FlipCrop, RandAugment
from heuretic.data.text import SUBJECTS
from heuretic.data.text_augmentation import FittedWordReplacement, WordReplacement
from heuretic.data.vocabulary import Vocabulary
from heuretic.ideas.idea import Scale
from heuretic.ideas.result import Arm, Comparison, Reproduction, Verdict, compare, estimate
from heuretic.ideas.trainings import checked_seeds, one_thread, tuned_arms, verdict_of
from heuretic.nn.text_classifier import TextClassifier
from heuretic.train import Loop, Optimization, Texts, Trained, supervised
from heuretic.train.classification import Classification
from heuretic.train.consistency import Annealing

METRIC = "test_accuracy"
RULE = (
    "d is the paired difference in test accuracy, {treatment} minus supervised, in the mean over the data sets, with its 95% "
    "interval over the seeds. Reproduced if d lies wholly above 0, and on no data set wholly below; not reproduced if it lies wholly "
    "below 0; else not testable at this scale. Smoke runs are too short."
)
CONTROL = "supervised"
SEEDS: Mapping[Scale, tuple[int, ...]] = {"smoke": (1, 2), "small": (11, 12, 13, 14, 15), "full": (1, 2, 3, 4, 5)}


@dataclass(frozen=True, slots=True)
class Task:
    """What both arms learn. The parts are programs, or values that a program may hold.

    Attributes:
        name: Of the data set. data: With few labels, validation and unlabelled rows. model: Classifies its rows.
        weak: Augmentations that labelled rows are given by default. strong: Those whose result is to be predicted alike.
        inputs: What models are given; None for images.
        steps: Updates. batch: Labelled rows of a step. ratio: Unlabelled rows for each of them.
        lrs: Learning rates to choose from in each arm. annealings: For UDA, of labels, to choose from.
        confidence: For UDA, above which a prediction is a target.
        cpu: Stay on the CPU where there is a GPU too, as small checks do, so that the same seed gives the same bits.
    """

    name: str
    data: Any
    model: Any
    weak: tuple[Any, ...]
    strong: tuple[Any, ...]
    steps: int
    lrs: tuple[float, ...]
    batch: int = 32
    ratio: int = 3
    inputs: Any = None
    annealings: tuple[Annealing | None, ...] = (None, "linear")
    confidence: float = 0.8
    cpu: bool = True

    def optimization(self) -> Any:
        """Return AdamW with an open learning rate."""
        return hr.sym(Optimization)(
            optimizer=hr.sym(functools.partial)(torch.optim.AdamW, lr=hr.one_of(*self.lrs), weight_decay=0.01),
            cpu=self.cpu,
        )

    def loop(self) -> Any:
        return hr.sym(Loop)(steps=self.steps, progress=False)

    def shared(self) -> dict[str, Any]:
        """Return the arguments that all recipes take."""
        return {
            "optimization": self.optimization(), "loop": self.loop(), "batch": self.batch, "inputs": self.inputs,
        }  # fmt: skip

    def control(self) -> Any:
        """Return the program of learning the labels alone; its augmentation is chosen."""
        return hr.sym(supervised)(
            self.model, self.data, augment=hr.one_of(self.weak, self.strong), **self.shared()
        )  # fmt: skip

    def measure(self, trained: Trained) -> dict[str, float]:
        """Return the accuracy on test rows."""
        data = hr.build(self.data)
        device = next(trained.model.parameters()).device
        task = Classification(data, hr.build(self.inputs), device)
        return {METRIC: task.measure(trained.model, data.test)["accuracy"]}


def image_task(
    name: str, *, labels: int, validation: int, steps: int, lrs: tuple[float, ...], width: int = 8, magnitude: float = 5.0,
    ratio: int = 3, cpu: bool = True,
) -> Task:  # fmt: skip
    """Return small images with labels for `labels` of them, and a network of three convolutions with stride 2."""
    side, channels, pad = {"digits": (8, 1, 1), "fashion-mnist": (28, 1, 2), "cifar10": (32, 3, 4)}[name]
    layers: list[Any] = []
    for inside, outside in ((channels, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [
            hr.sym(nn.Conv2d)(inside, outside, 3, 2, 1, bias=False), hr.sym(nn.BatchNorm2d)(outside), hr.sym(nn.ReLU)()
        ]  # fmt: skip
        side = (side + 1) // 2
    model = hr.sym(nn.Sequential)(*layers, hr.sym(nn.Flatten)(), hr.sym(nn.Linear)(4 * width * side**2, 10))
    weak: tuple[Any, ...] = (FlipCrop(pad),)
    strong = (*weak, RandAugment(magnitude=magnitude))
    if name == "digits":  # which are no other digits when mirrored
        weak, strong = (), (FlipCrop(pad, flip=False),)
    data = hr.sym(hr.data.load)(name, validation=validation, labels=labels)
    return Task(name, data, model, weak, strong, steps, lrs, ratio=ratio, cpu=cpu)


def image_tasks(scale: Scale) -> tuple[Task, ...]:
    """Return the sets of images of a scale: scikit-learn's digits, or Fashion-MNIST and CIFAR-10.

    A shorter "small" was run first, of 700 or 800 and 400 steps with the seeds 1 to 4, CIFAR-10 with 500 labels; then validation
    rows said that students need more steps. In it the mean difference was 0.001 [-0.008, 0.010] for Noisy Student, 0.006
    [-0.002, 0.014] for UDA (with four groups of questions for texts), -0.018 [-0.033, -0.004] for meta pseudo labels.
    Raises: ValueError for an unknown scale.
    """
    if scale == "smoke":
        return (image_task("digits", labels=50, validation=300, steps=40, lrs=(0.01,), width=4),)
    if scale == "small":
        return (
            image_task("fashion-mnist", labels=250, validation=2_000, steps=1_500, lrs=(0.005, 0.01)),
            image_task("cifar10", labels=1_000, validation=2_000, steps=500, lrs=(0.003, 0.006)),
        )
    if scale == "full":
        large: dict[str, Any] = {
            "validation": 5_000,
            "lrs": (0.001, 0.003, 0.01),
            "width": 64,
            "ratio": 7,
            "cpu": False,
        }
        return (
            image_task("fashion-mnist", labels=250, steps=20_000, **large),
            image_task("cifar10", labels=4_000, steps=50_000, **large),
        )
    raise ValueError(f"scale must be one of {', '.join(SEEDS)}, got {scale!r}")


def text_task(
    *, labels: int, validation: int, steps: int, lrs: tuple[float, ...], words: int = 8_000, length: int = 48,
    replaced: float = 0.9, ratio: int = 4, cpu: bool = True,
) -> Task:  # fmt: skip
    """Return questions of MMLU to be sorted by subject, and a classifier of the mean of their words' embeddings.

    Such a classifier is seldom sure of itself, so every prediction is a target.
    """
    data = hr.sym(hr.data.load)("mmlu-subjects", validation=validation, labels=labels)
    model = hr.sym(TextClassifier)(words, len(SUBJECTS), width=32, dropout=0.3)
    inputs = hr.sym(question_words)(labels, validation, words, length)
    strong = (hr.sym(question_rewording)(labels, validation, replaced),)
    return Task(
        "mmlu-subjects", data, model, (), strong, steps, lrs, ratio=ratio, inputs=inputs, annealings=(None, "log"), confidence=0.0,
        cpu=cpu,
    )  # fmt: skip


def text_tasks(scale: Scale) -> tuple[Task, ...]:
    """Return the sets of texts of a scale: none, or questions of MMLU."""
    if scale == "small":
        return (text_task(labels=120, validation=1_000, steps=400, lrs=(0.01, 0.03)),)
    if scale == "full":
        return (text_task(labels=120, validation=1_000, steps=2_000, lrs=(0.003, 0.01, 0.03), cpu=False),)
    return ()


def question_words(labels: int, validation: int, words: int, length: int) -> Texts:
    """Return what makes numbers of the words of questions; its vocabulary is that of the unlabelled ones."""
    return Texts(_vocabulary(labels, validation, words), length)


def question_rewording(labels: int, validation: int, replaced: float) -> FittedWordReplacement:
    """Return what replaces words that say little, as the unlabelled questions have it."""
    return _replacement(labels, validation, replaced)


# Programs name functions; every training builds its program anew, but a corpus need be counted only once.


@functools.cache
def _vocabulary(labels: int, validation: int, words: int) -> Vocabulary:
    return Vocabulary.build(_questions(labels, validation), words)


@functools.cache
def _replacement(labels: int, validation: int, replaced: float) -> FittedWordReplacement:
    return WordReplacement(replaced).fit(_questions(labels, validation))


def _questions(labels: int, validation: int) -> Any:
    rows = hr.data.load("mmlu-subjects", validation=validation, labels=labels).unlabelled
    assert rows is not None
    return rows.inputs


def check(
    slug: str, claim: str, program: Callable[[Task], Any], rows: Callable[[Task], int], tasks: Sequence[Task], scale: Scale,
    seeds: Sequence[int] | None, progress: Callable[[str], None] | None,
) -> Reproduction:  # fmt: skip
    """Compare an idea with learning the labels alone on each task.

    Args:
        program: Returns the idea's training program; what is open in it is chosen by validation rows.
        rows: Returns how many rows models get gradients from for each update of the measured one.
    """
    chosen, began, treatment = checked_seeds(seeds, SEEDS[scale]), time.perf_counter(), slug
    arms: dict[str, Arm] = {}
    comparisons = []
    with one_thread():
        for task in tasks:
            ours, theirs = f"{treatment}, {task.name}", f"{CONTROL}, {task.name}"
            programs = {theirs: task.control(), ours: program(task)}
            arms |= tuned_arms(programs, task.measure, seeds=chosen, said=progress or (lambda line: None))
            for name, count in ((theirs, task.batch), (ours, rows(task))):
                arms[name] = replace(arms[name], settings={**arms[name].settings, "rows_per_update": count})
            comparisons.append(compare(arms, METRIC, ours, theirs))
    for name in (CONTROL, treatment):
        arms[name] = _mean(arms[f"{name}, {task.name}"] for task in tasks)
    overall = compare(arms, METRIC, treatment, CONTROL)
    return Reproduction(
        idea=slug, claim=claim, scale=scale, seeds=chosen, data={task.name: hr.build(task.data).checksum for task in tasks},
        arms=arms, comparisons=(overall, *comparisons), rule=RULE.format(treatment=treatment),
        verdict=judged(scale, overall, comparisons), reason=reason_of(arms, overall, comparisons),
        seconds=time.perf_counter() - began,
    )  # fmt: skip


def _mean(arms: Iterable[Arm]) -> Arm:
    """Return the mean of the accuracies of several arms, seed by seed."""
    values = zip(*(arm.measurements[METRIC] for arm in arms), strict=True)
    return Arm({"of": "the mean over the data sets"}, {METRIC: tuple(fmean(each) for each in values)})


def judged(scale: Scale, overall: Comparison, each: Sequence[Comparison]) -> Verdict:
    """Return the verdict by `RULE`."""
    verdict = verdict_of(scale, overall)
    worse_somewhere = any(verdict_of(scale, comparison) == "not reproduced" for comparison in each)
    return "not testable at this scale" if verdict == "reproduced" and worse_somewhere else verdict


def reason_of(arms: Mapping[str, Arm], overall: Comparison, each: Sequence[Comparison]) -> str:
    """Return the sentence that says what came of each comparison."""
    parts = []
    for comparison in each:
        ours, theirs = (
            estimate(arms[name].measurements[METRIC]).mean for name in (comparison.treatment, comparison.control)
        )
        parts.append(
            f"{ours:.4f} against {theirs:.4f} on {comparison.treatment.split(', ')[1]} ({comparison.estimate})"
        )
    return f"Test accuracy differs by {overall.estimate} in the mean: {'; '.join(parts)}."
