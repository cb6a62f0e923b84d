"""Noisy Student: a teacher labels what has no labels, a student learns from it under noise and is the next teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from heuretic.symbolic import build
from heuretic.train.batches import Inputs, together
from heuretic.train.classification import Classification, predictions, unlabelled_rows
from heuretic.train.consistency import check_positive, check_shares, in_one_pass
from heuretic.train.loop import Loop, Meter, Reporter
from heuretic.train.optimization import Loss, Optimization
from heuretic.train.pseudo_labels import Relabelled, balanced_rows
from heuretic.train.recipes.supervised import supervised
from heuretic.train.seeds import derived_seed, seeded
from heuretic.train.training_program import Trained

if TYPE_CHECKING:
    from heuretic.data import DataSet, Split

#: A network, or something that makes one: a program or a function without arguments.
Model = nn.Module | Callable[[], nn.Module]


def noisy_student(
    models: Sequence[Model], data: DataSet, *, noise: Sequence[Callable[..., Any]] = (),
    optimization: Optimization = Optimization(), loop: Loop = Loop(), teacher_loop: Loop | None = None, batch: int = 128,
    ratio: float = 14, augment: Sequence[Callable[..., Any]] = (), soft: bool = True, confidence: float = 0.3,
    per_class: int | None = None, label_smoothing: float = 0.1, inputs: Inputs | None = None, seed: int = 0,
    trial: Reporter | None = None, meter: Meter | None = None,
) -> Trained:  # fmt: skip
    """Train a teacher on `data.train`, then students on it and on `data.unlabelled` as the one before labels it.

    A teacher predicts in evaluation mode, on rows that are not augmented. Its predictions are filtered and balanced by class.
    A student begins with weights of its own and minimises the mean cross-entropy over labelled and pseudo-labelled rows, which
    go through it in one pass. Dropout and stochastic depth, the other noise of the paper, are part of the models.

    Args:
        models: The teacher, then a student for each iteration, best as large as the one before or larger. Modules are
            changed in place; functions and programs are called when it is their turn.
        noise: Augmentation of all rows that students learn from, such as `(FlipCrop(), RandAugment(magnitude=27))`.
        loop: Of each student, and of the teacher unless `teacher_loop` is given. In its folder each model gets one of its own.
        batch: Labelled rows of a step. ratio: Pseudo-labelled rows for each of them.
        augment: Of labelled rows for the teacher.
        soft: Students learn the teacher's probabilities, else its most probable class.
        confidence: Least probability of a pseudo label, in [0, 1].
        per_class: Pseudo-labelled rows of each class: the most confident, or duplicates. Default: unlabelled rows / classes.
        label_smoothing: Share of labels, given or hard pseudo labels, that is spread over all classes, in [0, 1).
        inputs: Makes what the models are given. Default: images, normalised.
        seed: Of everything random but the weights of modules. trial: Gets the measures of the last student.
        meter: See `Loop.run`.
    Returns: The last student with "validation_loss" in nats and "validation_accuracy", those of the teacher as
        "teacher_validation_...", if there are validation rows; runs are of the teacher and of all students.
    Raises: ValueError if there are no unlabelled rows, fewer than two models, or a number is out of range.

    Reference: Xie et al. 2019, "Self-training with Noisy Student improves ImageNet classification", arXiv:1911.04252, sections
    2 and 3.1: soft labels, confidence 0.3, the ratio of its first iterations (28 in the last); smoothing as in its code. Departures:
    exactly `per_class` rows of each class are taken, where the code finds a confidence in steps of 0.01 and draws among the rows
    above; the mean is over all rows, as in the paper, where the code divides by the labelled ones, which is another learning rate.
    """
    if len(models) < 2:
        raise ValueError(f"models must be a teacher and at least one student, got {len(models)}")
    check_shares(confidence=confidence)
    check_positive(ratio=ratio)
    rows = unlabelled_rows(data)
    each = max(1, len(rows) // len(data.classes)) if per_class is None else per_class
    teacher = supervised(
        _made(models[0], derived_seed(seed, "model", 0)), data, optimization=optimization,
        loop=(teacher_loop or loop).within("0-teacher"), batch=batch, augment=augment, label_smoothing=label_smoothing,
        inputs=inputs, seed=seed, meter=meter,
    )  # fmt: skip
    last, runs = teacher, [*teacher.runs]
    for number, given in enumerate(models[1:], 1):
        own = derived_seed(seed, "student", number)
        student = _made(given, derived_seed(seed, "model", number)).train()
        training = optimization.start(student, loop.steps, _loss(label_smoothing, soft))
        task = Classification(data, inputs, training.device)
        labelled = _pseudo_labelled(last.model, task, rows, soft, confidence, each, own)
        batches = together(
            task.batches(data.train, batch, own, noise),
            task.batches(labelled, max(1, round(ratio * batch)), derived_seed(own, "unlabelled"), noise),
        )
        run = loop.within(f"{number}-student").run(
            training, batches, seed=own, evaluate=task.validation(training), meter=meter,
            trial=trial if number == len(models) - 1 else None,
        )  # fmt: skip
        runs.append(run)
        last = task.trained(training, run)
    metrics = last.metrics | {f"teacher_{name}": value for name, value in teacher.metrics.items()}
    return Trained(last.model, metrics, tuple(runs))


def _pseudo_labelled(
    teacher: nn.Module, task: Classification, rows: Split, soft: bool, confidence: float, per_class: int, seed: int
) -> Split:
    """Return the rows to learn from with the labels of a teacher."""
    probabilities = predictions(teacher.to(task.device), task.in_order(rows)).numpy()
    chosen = balanced_rows(probabilities, confidence, per_class, seed)
    labels = probabilities[chosen]
    return cast("Split", Relabelled(rows, chosen, labels if soft else labels.argmax(1)))


def _loss(label_smoothing: float, soft: bool) -> Loss:
    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor | float]]:
        (x, y), (x_pseudo, y_pseudo) = batch
        logits, logits_pseudo = in_one_pass(model, x, x_pseudo)
        known = F.cross_entropy(logits, y, label_smoothing=label_smoothing)
        pseudo = F.cross_entropy(logits_pseudo, y_pseudo, label_smoothing=0.0 if soft else label_smoothing)
        share = len(x) / (len(x) + len(x_pseudo))
        return share * known + (1 - share) * pseudo, {"labelled": known.detach(), "pseudo": pseudo.detach()}

    return loss


def _made(model: Model, seed: int) -> nn.Module:
    if isinstance(model, nn.Module):
        return model
    with seeded(seed):
        made: Any = build(model)
        return made if isinstance(made, nn.Module) else made()
