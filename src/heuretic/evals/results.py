"""Scores of many answers as columns, and numbers over them with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heuretic.lm.opro.prompts import Rate

Values = NDArray[np.float64]

RESAMPLES = 2_000
"""Resamples of a bootstrap; their random numbers are the same every time."""
_FEWEST = 5
_AT_ONCE = 4_000_000
"""Most values drawn at once, which bounds the memory."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number over scores with its 95% interval.

    Attributes: low, high: None where one score gives no interval. count: Scores it is made of.
    """

    value: float
    low: float | None = None
    high: float | None = None
    count: int = 0

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3g}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def times(self, factor: float) -> Estimate:
        """Return the estimate in another unit."""
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return Estimate(self.value * factor, low, high, self.count)


@dataclass(frozen=True, slots=True)
class Results:
    """One row for each answer, as columns of equal length.

    Attributes:
        ids: Of the questions. values: Scores, NaN where there is none.
        outcomes: Of the answers. about: What the questions are broken down by, and `within`.
        metrics: The other numbers, NaN where an answer has none.
        clusters: What questions have in common, for intervals; None if they are independent.
    """

    ids: Sequence[str]
    values: Values
    outcomes: Sequence[str]
    about: Mapping[str, Sequence[str]] = field(default_factory=dict)
    metrics: Mapping[str, Values] = field(default_factory=dict)
    clusters: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def column(self, metric: str = "") -> Values:
        """Return the scores, or another number by name."""
        return self.metrics[metric] if metric else self.values

    def where(self, kept: Any) -> Results:
        """Return the rows for which a mask of booleans, shape (rows,), is true."""
        mask = np.asarray(kept, bool)
        chosen = np.flatnonzero(mask).tolist()

        def some(values: Sequence[str]) -> list[str]:
            return [values[k] for k in chosen]

        return Results(
            some(self.ids), self.values[mask], some(self.outcomes), {k: some(v) for k, v in self.about.items()},
            {k: v[mask] for k, v in self.metrics.items()}, None if self.clusters is None else some(self.clusters),
        )  # fmt: skip

    def groups(self, key: str) -> dict[str, Results]:
        """Return the rows by what `about` says under `key`, in alphabetical order."""
        column = np.asarray(self.about[key], object)
        return {group: self.where(column == group) for group in sorted(set(self.about[key]))}

    def mean(self, metric: str = "", share: bool = True) -> Estimate:
        """Return the mean of the numbers there are, with its interval over questions or their clusters, see `bootstrap_mean`."""
        column = self.column(metric)
        known = ~np.isnan(column)
        clusters = None if self.clusters is None else [c for c, k in zip(self.clusters, known, strict=True) if k]
        return bootstrap_mean(column[known], clusters, share)

    def mean_of_groups(
        self, key: str, combine: Callable[[Values], Values] = lambda means: means.mean(axis=-1), metric: str = ""
    ) -> Estimate:
        """Return a number over the means of groups, such as their (macro) average.

        Questions are resampled within groups; where a group has fewer than 5, which says too little about its spread, groups are
        resampled instead, as if they were drawn from many.

        Args: combine: From means, shape (..., groups), to a number for each, shape (...).
        """
        column, rng = self.column(metric), np.random.default_rng(0)
        labels = np.asarray(self.about[key], object)
        parts = [column[(labels == group) & ~np.isnan(column)] for group in sorted(set(self.about[key]))]
        parts = [part for part in parts if len(part)]
        count = sum(map(len, parts))
        if not parts:
            return Estimate(float("nan"))
        value = float(combine(np.array([part.mean() for part in parts])))
        if count < 2:
            return Estimate(value, count=count)
        if min(map(len, parts)) < _FEWEST:
            if len(parts) < 2:
                return Estimate(value, count=count)
            drawn = np.array([part.mean() for part in parts])[rng.integers(0, len(parts), (RESAMPLES, len(parts)))]
        else:
            drawn = np.stack([_resampled_means(part, np.ones(len(part)), rng) for part in parts], axis=-1)
        low, high = np.quantile(combine(drawn), (0.025, 0.975))
        everything = np.concatenate(parts)
        if low == high and set(everything.tolist()) <= {
            0.0,
            1.0,
        }:  # nothing varies, which a bootstrap takes for certainty
            ends = Rate(float(everything.sum()), count).interval
            low, high = (float(combine(np.full(len(parts), end))) for end in ends)
        return Estimate(value, float(low), float(high), count)


def bootstrap_mean(
    values: Sequence[float] | Values, clusters: Sequence[str] | None = None, share: bool = True
) -> Estimate:
    """Return the mean of values with its 95% interval.

    Of zeros and ones it is Wilson's (1927), which is right for none and all of them too; of other values, and where clusters are
    given, the percentiles of a bootstrap over values or whole clusters (Efron and Tibshirani 1993, chapters 8 and 13).

    Args: share: Whether values are in [0, 1] by their nature. Counts are not, even if each happens to be 0 or 1.
    """
    return _mean(
        values, clusters, (0.0, 1.0) if share else (), lambda shares: Rate(float(shares.sum()), len(shares)).interval
    )


def mean_difference(differences: Sequence[float] | Values, clusters: Sequence[str] | None = None) -> Estimate:
    """Return the mean of paired differences with its 95% interval, whose ends change their signs with the differences.

    Of -1, 0 and 1 (right or wrong answers) it is the adjusted Wald interval of Bonett and Price 2012, "Adjusted Wald confidence
    interval for a difference of binomial proportions based on paired data", which is no point where all are equal; of other
    differences, and where clusters are given, the bootstrap of `bootstrap_mean`.
    """
    return _mean(differences, clusters, (-1.0, 0.0, 1.0), _bonett_price)


def _mean(
    values: Sequence[float] | Values,
    clusters: Sequence[str] | None,
    few: tuple[float, ...],
    interval: Callable[[Values], tuple[float, float]],
) -> Estimate:
    """Return the mean of values with `interval` where all of them, one to a cluster, are of a `few`, else by a bootstrap."""
    held = np.asarray(values, float)
    if not len(held):
        return Estimate(float("nan"))
    sums = np.asarray(held, np.float64)
    sizes = np.ones(len(held))
    if clusters is not None:
        _, place = np.unique(np.asarray(clusters, object).astype(str), return_inverse=True)
        sums, sizes = np.bincount(place, held).astype(np.float64), np.bincount(place).astype(np.float64)
    if len(sums) < 2:
        return Estimate(float(held.mean()), count=len(held))
    shares = sums / sizes
    if set(np.unique(shares).tolist()) <= set(few) and (len(sums) == len(held) or np.ptp(shares) == 0):
        low, high = interval(shares)
    elif not few and np.ptp(shares) == 0:  # nothing to tell a spread from
        return Estimate(float(held.mean()), count=len(held))
    else:
        low, high = np.quantile(_resampled_means(sums, sizes, np.random.default_rng(0)), (0.025, 0.975))
    return Estimate(float(held.mean()), float(low), float(high), len(held))


def _bonett_price(differences: Values) -> tuple[float, float]:
    count = len(differences) + 2
    better, worse = (float((differences == sign).sum() + 1) / count for sign in (1, -1))
    centre = better - worse
    half = 1.959963984540054 * math.sqrt((better + worse - centre**2) / count)
    return max(-1.0, centre - half), min(1.0, centre + half)


def _resampled_means(sums: Values, sizes: Values, rng: np.random.Generator) -> Values:
    """Return the means of resamples, shape (RESAMPLES,), of clusters given by their sums and sizes."""
    count = len(sums)
    whole = bool((sizes == 1).all())
    if whole and set(np.unique(sums).tolist()) <= {0.0, 1.0}:  # draws of zeros and ones need not be made one by one
        return rng.binomial(count, sums.mean(), RESAMPLES) / count
    means, at_once = [], max(1, _AT_ONCE // count)
    for first in range(0, RESAMPLES, at_once):
        drawn = rng.integers(0, count, (min(at_once, RESAMPLES - first), count))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)
