"""Schedules of the learning rate: plain functions of the step, so that a resumed run needs no state of theirs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class Schedule(Protocol):
    """Gives the factor of the learning rate in step `step` (from 0) of `steps`. Any such function is a schedule."""

    def __call__(self, step: int, steps: int, /) -> float: ...


@dataclass(frozen=True, slots=True)
class Cosine:
    """Rise linearly for a share of the steps, then fall to `floor` by half a cosine.

    Args:
        warmup: Share of the steps to rise in, in [0, 1). floor: Last factor, in [0, 1].
    Reference: Loshchilov & Hutter 2016, arXiv:1608.03983, without restarts.
    """

    warmup: float = 0.05
    floor: float = 0.0

    def __post_init__(self) -> None:
        _check_warmup(self.warmup)
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor must be in [0, 1], got {self.floor}. Try 0.01")

    def __call__(self, step: int, steps: int, /) -> float:
        risen = _risen(step, steps, self.warmup)
        if risen < 1:
            return risen
        first = _first(steps, self.warmup)
        share = min(1.0, (step - first) / max(1, steps - first))
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True, slots=True)
class Constant:
    """Rise linearly for a share of the steps, then stay."""

    warmup: float = 0.0

    def __post_init__(self) -> None:
        _check_warmup(self.warmup)

    def __call__(self, step: int, steps: int, /) -> float:
        return min(1.0, _risen(step, steps, self.warmup))


@dataclass(frozen=True, slots=True)
class Decay:
    """Rise linearly for a share of the steps, then fall by the factor `by`, `times` times, in equal distances.

    EfficientNet's is by=0.97 every 2.4 epochs (Tan & Le 2019, arXiv:1905.11946, section 5.2).
    """

    by: float = 0.97
    times: int = 100
    warmup: float = 0.0

    def __post_init__(self) -> None:
        _check_warmup(self.warmup)
        if not 0 < self.by <= 1 or self.times < 1:
            raise ValueError(f"by must be in (0, 1] and times at least 1, got by={self.by}, times={self.times}")

    def __call__(self, step: int, steps: int, /) -> float:
        first = _first(steps, self.warmup)
        return min(1.0, _risen(step, steps, self.warmup)) * self.by ** max(
            0, (step - first) * self.times // max(1, steps - first)
        )


def _first(steps: int, warmup: float) -> int:
    """Return the first step at the full rate."""
    return round(warmup * steps)


def _risen(step: int, steps: int, warmup: float) -> float:
    first = _first(steps, warmup)
    return (step + 1) / (first + 1) if step < first else 1.0


def _check_warmup(warmup: float) -> None:
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup must be a share of the steps in [0, 1), got {warmup}. Try 0.05")
