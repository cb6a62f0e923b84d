"""The 4M practices: a better model, machine, mechanisation and map, and what each saves in energy and CO2e.

Patterson et al. 2022, "The Carbon Footprint of Machine Learning Training Will Plateau, Then Shrink", arXiv:2204.05149.
Every trial can measure its energy (`discover(..., energy=True)`), and `heuretic carbon` shows
what each practice would save.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heuretic as hr
from heuretic.data import load
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Arm, Comparison, Reproduction, Verdict, compare
from heuretic.ideas.trainings import one_thread
from heuretic.study import Energy
from heuretic.study.emissions import load_factors
from heuretic.study.footprint import PARTS

CLAIM = (
    "model, machine, mechanisation and map together reduce the energy of training by up to 100x and CO2e by up to 1000x"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much one scale runs: programs searched and epochs of training, for each seed."""

    trials: int
    epochs: int
    seeds: tuple[int, ...]


PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan(3, 1, (1, 2)),
    "small": Plan(24, 15, (1, 2, 3, 4, 5)),
    "full": Plan(96, 40, tuple(range(1, 11))),
}
TRAIN, VALIDATION, BATCH = 900, 300, 64
TOLERANCE, MARGIN = 0.01, 0.01
RULE = (
    "d is the paired difference in test accuracy, the efficient choice minus the most accurate one, with its 95% interval; "
    "f is the geometric mean over seeds of how many times less energy its training takes, with its 95% interval. Not "
    "reproduced if f's interval lies wholly below 1, or d's wholly below -0.01. Else not testable at this scale: of the "
    "four practices one machine can measure the choice of the model alone, and the claim is about all four at the scale "
    "of a data centre. Smoke runs are too short to test anything."
)


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None
) -> Reproduction:
    """Measure what an efficient choice of the model saves at equal accuracy; set published factors beside it.

    For each seed one study tries networks for handwritten digits of different kinds and sizes, and measures the energy
    of every trial. Two are picked from the same trials: the one with the best validation accuracy, and the cheapest one
    within 0.01 of it. Both are trained anew with another seed, which measures energy (kWh, processors and memory, as
    codecarbon models them) and accuracy on the test images. What machine, mechanisation and map save cannot be measured
    on one machine; their published ranges multiply the measured factor in two more arms.

    Data: scikit-learn's digits. Raises: ImportError without codecarbon, ValueError for an unknown scale or fewer than 2
    seeds.
    """
    plan = plan_of(PLANS, scale)
    chosen = tuple(plan.seeds if seeds is None else seeds)
    if len(set(chosen)) != len(chosen) or len(chosen) < 2:
        raise ValueError(f"seeds must be at least 2 and different, got {chosen}")
    began, said = time.perf_counter(), progress or (lambda line: None)
    with one_thread():
        digits = load("digits")  # few, so the test is drawn from all
        pixels = np.concatenate([digits.train.inputs, digits.test.inputs])[..., 0]
        labels = np.concatenate([digits.train.labels, digits.test.labels])
        data = _split((pixels / 240).astype(np.float32), labels)
        runs = [_one_seed(plan, data, seed, said) for seed in chosen]
    arms = {label: _arm(plan, [run[label] for run in runs]) for label in ("most accurate", "efficient")}
    arms.update(_combined(arms))
    comparisons = (
        compare(arms, "test_accuracy", "efficient", "most accurate"),
        compare(arms, "training_kwh", "efficient", "most accurate", less_is_better=True),
        compare(arms, "log10_training_kwh", "efficient", "most accurate", less_is_better=True),
    )
    verdict, reason = judge(scale, comparisons)
    return Reproduction(
        idea="carbon", claim=CLAIM, scale=scale, seeds=chosen, data={"digits": digits.checksum}, arms=arms,
        comparisons=comparisons, rule=RULE, verdict=verdict, reason=reason, seconds=time.perf_counter() - began,
    )  # fmt: skip


def judge(scale: Scale, comparisons: Sequence[Comparison]) -> tuple[Verdict, str]:
    """Return the verdict by `RULE`, and the sentence that says why."""
    by_metric = {each.metric: each.estimate for each in comparisons}
    accuracy, ratio = by_metric["test_accuracy"], by_metric["log10_training_kwh"]
    low, high = (ratio.mean if end is None else end for end in (ratio.low, ratio.high))
    factor, least, most = (10**-value for value in (ratio.mean, high, low))
    reason = (
        f"The efficient choice trained with {factor:.3g} times less energy (95% interval {least:.3g} to {most:.3g}), at a "
        f"difference in test accuracy of {accuracy}; machine, mechanisation and map were not measured but taken as published."
    )
    worse = most < 1 or (accuracy.mean if accuracy.high is None else accuracy.high) < -MARGIN
    verdict: Verdict = "not reproduced" if worse and scale != "smoke" else "not testable at this scale"
    return verdict, reason


@dataclass(frozen=True, slots=True)
class Data:
    """Images of shape (images, 1, 8, 8) in [0, 1] with labels 0..9, in three parts."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Run:
    """What one choice came to with one seed."""

    accuracy: float
    kwh: float
    parameters: int


def _one_seed(plan: Plan, data: Data, seed: int, said: Callable[[str], None]) -> dict[str, Run]:
    def evaluate(program: Any) -> float:
        return _train(hr.build(program), data, data.validation, plan.epochs, seed)

    study = hr.discover(
        _space(),
        evaluate,
        algorithm="random",
        trials=plan.trials,
        seed=seed,
        energy=Energy(),
        progress=False,
        name="search",
    )
    finished = [trial for trial in study.trials if trial.score is not None]
    if not finished:
        raise RuntimeError(f"no network of {plan.trials} could be trained. Try more trials")
    best = max(finished, key=lambda t: (t.values["value"], -_kwh(t.energy)))
    near = [trial for trial in finished if trial.values["value"] >= best.values["value"] - TOLERANCE]
    cheapest = min(near, key=lambda t: _kwh(t.energy))
    found = {
        label: _again(study.decode(trial), data, plan, seed)
        for label, trial in (("most accurate", best), ("efficient", cheapest))
    }
    said(", ".join(f"{label}: {run.accuracy:.4f} for {run.kwh:.3g} kWh" for label, run in found.items()))
    return found


def _again(program: Any, data: Data, plan: Plan, seed: int) -> Run:
    """Train a network with a fresh seed and measure it on the test images, energy included."""
    parameters: list[int] = []

    def evaluate(given: Any) -> float:
        model = hr.build(given)
        accuracy = _train(model, data, data.test, plan.epochs, 10_000 + seed)
        parameters.append(sum(p.numel() for p in model.parameters()))
        return accuracy

    study = hr.discover(program, evaluate, trials=1, energy=Energy(), progress=False, name="again")
    [trial] = study.trials
    return Run(trial.values["value"], _kwh(trial.energy), parameters[0])


def _space() -> Any:
    """Return networks of two kinds: dense ones, and convolutions with strides."""
    dense = hr.sym(nn.Sequential)(
        hr.sym(nn.Flatten)(),
        hr.sym(nn.LazyLinear)(hr.one_of(32, 128, 512, 2048)),
        hr.sym(nn.ReLU)(),
        hr.sym(nn.LazyLinear)(10),
    )
    convolutional = hr.sym(nn.Sequential)(
        hr.sym(nn.LazyConv2d)(hr.one_of(8, 16, 32, 64), 3, stride=hr.one_of(1, 2), padding=1), hr.sym(nn.ReLU)(),
        hr.sym(nn.LazyConv2d)(hr.one_of(16, 32, 64), 3, stride=hr.one_of(1, 2), padding=1), hr.sym(nn.ReLU)(),
        hr.sym(nn.Flatten)(), hr.sym(nn.LazyLinear)(10),
    )  # fmt: skip
    return hr.one_of(dense, convolutional)


def _train(model: nn.Module, data: Data, held_out: tuple[Tensor, Tensor], epochs: int, seed: int) -> float:
    """Train a network from scratch and return its accuracy on `held_out`."""
    images, labels = data.train
    order = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model(images[:1])  # weights of lazy layers are drawn here
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * math.ceil(len(images) / BATCH))
        for _ in range(epochs):
            for batch in torch.randperm(len(images), generator=order).split(BATCH):
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(model(images[batch]), labels[batch]).backward()
                optimizer.step()
                schedule.step()
    with torch.inference_mode():
        return (model(held_out[0]).argmax(1) == held_out[1]).double().mean().item()


def _split(pixels: Any, labels: Any) -> Data:
    order = np.random.default_rng(0).permutation(len(pixels))
    parts = (order[:TRAIN], order[TRAIN : TRAIN + VALIDATION], order[TRAIN + VALIDATION :])
    first, second, third = (
        (torch.from_numpy(pixels[part][:, None]), torch.from_numpy(labels[part].astype(np.int64))) for part in parts
    )
    return Data(first, second, third)


def _kwh(energy: Mapping[str, float]) -> float:
    return sum(energy[part] for part in PARTS)


def _arm(plan: Plan, runs: Sequence[Run]) -> Arm:
    return Arm(
        settings={
            "trials_searched": plan.trials, "epochs": plan.epochs, "training_images": TRAIN, "batch_size": BATCH,
            "parameters": [run.parameters for run in runs], "grid_g_per_kwh": Energy().intensity(), "pue": Energy().pue,
        },
        measurements={
            "test_accuracy": tuple(run.accuracy for run in runs),
            "training_kwh": tuple(run.kwh for run in runs),
            "log10_training_kwh": tuple(math.log10(run.kwh) for run in runs),
        },
    )  # fmt: skip


def _combined(arms: Mapping[str, Arm]) -> dict[str, Arm]:
    """Return the measured factor of the model times the published ones of the other three, by their low and high ends."""
    factors = load_factors()
    pairs = zip(
        arms["most accurate"].measurements["training_kwh"], arms["efficient"].measurements["training_kwh"], strict=True
    )
    model = [before / after for before, after in pairs]
    others = ("machine", "mechanisation", "map")
    found: dict[str, Arm] = {}
    for end, label in enumerate(("low", "high")):
        machine, mechanisation, place = (factors.practices[name][end] for name in others)
        found[f"measured model, published rest ({label} ends)"] = Arm(
            settings={
                **{f"{name}_factor": factors.practices[name][end] for name in others}, "source": factors.sources["practices"],
            },
            measurements={
                "energy_factor": tuple(factor * machine * mechanisation for factor in model),
                "co2e_factor": tuple(factor * machine * mechanisation * place for factor in model),
            },
        )  # fmt: skip
    return found


IDEA = Idea(
    slug="carbon",
    title="The 4M practices: model, machine, mechanisation, map",
    paper=Paper(
        authors="Patterson, Gonzalez, Hölzle, Le, Liang, Munguia, Rothchild, So, Texier, Dean",
        year=2022,
        title="The Carbon Footprint of Machine Learning Training Will Plateau, Then Shrink",
        arxiv="2204.05149",
    ),
    claim=CLAIM,
    usage=(
        "import heuretic as hr\n"
        'study = hr.discover(program, evaluate, energy=hr.Energy(country="FRA", pue=1.2), store="sqlite:///study.db")\n'
        "# then on the command line: heuretic carbon --store sqlite:///study.db"
    ),
    provides=("heuretic.study:Energy", "heuretic.study.footprint:footprint"),
    reproduce=reproduce,
)
