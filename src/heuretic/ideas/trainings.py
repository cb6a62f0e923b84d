"""Checks of claims about training: every arm tuned alike on validation rows, then trained anew with fresh seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from heuretic.ideas.idea import Scale
from heuretic.ideas.result import Arm, Comparison, Verdict, estimate
from heuretic.search import Space
from heuretic.symbolic import sym
from heuretic.train import Trained, run

TUNING_SEED = 1000
#: The rule of checks that compare one measure of two arms; the arms and the measure are filled in.
RULE = (
    "d is the paired difference in {metric}, {treatment} minus {control}, with its 95% interval over the seeds. Reproduced "
    "if d lies wholly {better} 0, not reproduced if wholly {worse} 0, else not testable at this scale. Smoke runs are too short."
)


def tuned_arms(
    programs: Mapping[str, Any], measure: Callable[[Trained], Mapping[str, float]], *, seeds: Sequence[int],
    by: str = "validation_accuracy", said: Callable[[str], None] = lambda line: None,
) -> dict[str, Arm]:  # fmt: skip
    """Return what each arm measures with each seed, with the settings that were best on validation rows.

    Every candidate of an arm is trained once, with a seed of its own, and the one with the highest `by` (lowest, if "loss" is
    in the name) is trained anew with each of `seeds`.

    Args:
        programs: Training programs (`hr.sym(hr.train.supervised)(...)`) by the name of their arm; what is open is tuned.
        measure: What is measured of each training: test rows are touched here only.
    Raises: ValueError if arms differ in how many candidates they have: all must be tuned alike.
    """
    spaces = {name: Space(program) for name, program in programs.items()}
    sizes = {name: int(space.size) for name, space in spaces.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"arms must have equally many candidates, got {sizes}")
    arms = {}
    for name, space in spaces.items():
        tried: dict[str, float] = {}
        candidates = {}
        for genome in space.genomes():
            shown = ", ".join(f"{path} {value}" for path, value in space.chosen(genome).items()) or "as it is"
            candidates[shown] = space.decode(genome)
            if sizes[name] > 1:
                tried[shown] = run(candidates[shown], seed=TUNING_SEED).metrics[by]
                said(f"{name}: {by} {tried[shown]:.4f} with {shown}")
        best = (min if "loss" in by else max)(candidates, key=lambda shown: tried.get(shown, 0.0))
        rows = []
        for seed in seeds:
            rows.append(dict(measure(run(candidates[best], seed=seed))))
            said(f"{name}, seed {seed}: " + ", ".join(f"{metric} {value:.4g}" for metric, value in rows[-1].items()))
        settings = {"chosen": best, f"tried_{by}": tried, "program": repr(candidates[best])}
        arms[name] = Arm(settings, {metric: tuple(row[metric] for row in rows) for metric in rows[0]})
    return arms


def rule_of(metric: str, treatment: str, control: str, *, less_is_better: bool = False) -> str:
    """Return the rule by which `verdict_of` judges."""
    better, worse = ("below", "above") if less_is_better else ("above", "below")
    return RULE.format(metric=metric, treatment=treatment, control=control, better=better, worse=worse)


def verdict_of(scale: Scale, comparison: Comparison) -> Verdict:
    """Return the verdict by `rule_of`."""
    d, sign = comparison.estimate, -1 if comparison.less_is_better else 1
    if scale == "smoke" or d.low is None or d.high is None:
        return "not testable at this scale"
    low, high = sorted((sign * d.low, sign * d.high))
    return "reproduced" if low > 0 else "not reproduced" if high < 0 else "not testable at this scale"


def reason_of(arms: Mapping[str, Arm], comparison: Comparison) -> str:
    """Return the sentence that says what was compared and what came of it."""
    ours, theirs = (
        estimate(arms[arm].measurements[comparison.metric]).mean for arm in (comparison.treatment, comparison.control)
    )
    return (
        f"{comparison.metric} {ours:.4g} with {comparison.treatment} against {theirs:.4g} with {comparison.control}, "
        f"difference {comparison.estimate}."
    )


def checked_seeds(seeds: Sequence[int] | None, default: Sequence[int]) -> tuple[int, ...]:
    """Return the seeds of a check.

    Raises: ValueError for fewer than 2, equal ones, or the one used for tuning.
    """
    chosen = tuple(default if seeds is None else seeds)
    if len(set(chosen)) < max(2, len(chosen)) or TUNING_SEED in chosen:
        raise ValueError(
            f"seeds must be at least 2, different, and without {TUNING_SEED} (used for tuning), got {chosen}"
        )
    return chosen


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside the block: sums are taken in one order, and small networks lose by more on busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def plain_network(channels: int, width: int, classes: int = 10) -> Any:
    """Return the program of four 3 x 3 convolutions, each with batch normalisation and ReLU, that halve the side three times."""
    layers = []
    for inputs, outputs, stride in (
        (channels, width, 2), (width, 2 * width, 2), (2 * width, 2 * width, 1), (2 * width, 4 * width, 2)
    ):  # fmt: skip
        layers += [
            sym(nn.Conv2d)(inputs, outputs, 3, stride, 1, bias=False),
            sym(nn.BatchNorm2d)(outputs),
            sym(nn.ReLU)(),
        ]
    head = (sym(nn.AdaptiveAvgPool2d)(1), sym(nn.Flatten)(), sym(nn.Linear)(4 * width, classes))
    return sym(nn.Sequential)(*layers, *head)
