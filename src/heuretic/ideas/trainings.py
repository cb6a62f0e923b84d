"""Checks of claims about training: every arm tuned alike on validation rows, then trained anew with fresh seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import nn

from heuretic.ideas.idea import Scale
from heuretic.ideas.result import Arm, Comparison, Verdict, estimate
from heuretic.search import Algorithm, Space
from heuretic.study import discover
from heuretic.symbolic import sym
from heuretic.train import Diverged, Trained, run

TUNING_SEED = 1000


@dataclass(frozen=True, slots=True)
class Tuned:
    """A training program with the settings that were best on validation rows.

    Attributes:
        program: Without open choices. settings: What was chosen and what was tried, for `Arm.settings`.
    """

    program: Any
    settings: Mapping[str, Any]


def tuned(
    program: Any, *, by: str = "validation_accuracy", trainings: int | None = None, algorithm: Algorithm | None = None,
    said: Callable[[str], None] = lambda line: None,
) -> Tuned:  # fmt: skip
    """Train candidates of a program once each, with a seed of their own, and return the one with the highest `by`.

    The lowest, if "loss" is in the name. All candidates are tried, or `trainings` that `algorithm` proposes; of one alone
    there is nothing to try. Trainings that diverge are passed over.

    Raises: ValueError if all diverge.
    """
    sign = -1 if "loss" in by else 1
    space = Space(program)
    tried: dict[str, float] = {}
    candidates: dict[str, Any] = {}

    def trial(candidate: Any, shown: str) -> float:
        value = run(candidate, seed=TUNING_SEED).metrics[by]
        candidates[shown], tried[shown] = candidate, value
        said(f"{by} {value:.4f} with {shown}")
        return sign * value

    if algorithm is not None:
        numbers = count(1)
        discover(
            program, lambda candidate: trial(candidate, f"candidate {next(numbers)}"), algorithm=algorithm,
            trials=trainings, seed=TUNING_SEED, progress=False,
        )  # fmt: skip
    elif space.size == 1:
        return Tuned(space.decode(next(iter(space.genomes()))), {"chosen": "as it is", "program": repr(program)})
    else:
        for genome in space.genomes():
            shown = ", ".join(f"{path} {value}" for path, value in space.chosen(genome).items())
            with suppress(Diverged):
                trial(space.decode(genome), shown)
    if not tried:
        raise ValueError(
            f"candidates must be trainable, got none of {trainings or int(space.size)} whose loss stayed finite"
        )
    best = max(tried, key=lambda shown: sign * tried[shown])
    return Tuned(candidates[best], {"chosen": best, f"tried_{by}": tried, "program": repr(candidates[best])})


def tuned_arms(
    programs: Mapping[str, Any], measure: Callable[[Trained], Mapping[str, float]], *, seeds: Sequence[int],
    by: str = "validation_accuracy", searched: Mapping[str, Algorithm] = {}, said: Callable[[str], None] = lambda line: None,
) -> dict[str, Arm]:  # fmt: skip
    """Return what each arm measures with each seed, with the settings that were best on validation rows.

    Every candidate of an arm is trained once, with a seed of its own, and the one with the highest `by` (lowest, if "loss" is
    in the name) is trained anew with each of `seeds`.

    Args:
        programs: Training programs (`hr.sym(hr.train.supervised)(...)`) by the name of their arm; what is open is tuned.
        measure: What is measured of each training: test rows are touched here only.
        searched: Algorithms, by arm, that propose as many candidates as the other arms have, where there are more.
    Raises: ValueError if arms differ in how many candidates they have: all must be tuned alike.
    """
    sizes = {name: int(Space(program).size) for name, program in programs.items() if name not in searched}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"arms must have equally many candidates, got {sizes}")
    trainings = next(iter(sizes.values()))
    arms = {}
    for name, program in programs.items():

        def told(line: str, name: str = name) -> None:
            said(f"{name}: {line}")

        chosen = tuned(program, by=by, trainings=trainings, algorithm=searched.get(name), said=told)
        rows = []
        for seed in seeds:
            rows.append(dict(measure(run(chosen.program, seed=seed))))
            said(f"{name}, seed {seed}: " + ", ".join(f"{metric} {value:.4g}" for metric, value in rows[-1].items()))
        arms[name] = Arm(chosen.settings, {metric: tuple(row[metric] for row in rows) for metric in rows[0]})
    return arms


def verdict_of(scale: Scale, comparison: Comparison) -> Verdict:
    """Return "reproduced" if the interval of the paired difference lies wholly on the better side of 0, "not reproduced" if
    wholly on the other, else, and always at the scale smoke, "not testable at this scale"."""
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
