"""How many problems repeated sampling solves, how that grows with the samples, and how many samples are worth their cost.

Brown et al. 2024, "Large Language Monkeys: Scaling Inference Compute with Repeated Sampling", arXiv:2407.21787. Coverage at k is the
share of problems that at least one of k samples solves (pass@k of Chen et al. 2021, arXiv:2107.03374).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heuretic.lm.answer import Sample

FIT_POINTS, FIT_UP_TO = 40, 10_000
"""The paper fits to 40 numbers of samples, evenly spread on a logarithmic scale up to 10,000 (or as many as there are)."""


def coverage_at_k(correct: int, samples: int, k: int) -> float:
    """Return the probability that at least one of `k` samples is right, given that `correct` of `samples` are.

    It is 1 - C(samples - correct, k) / C(samples, k), without bias, computed as a product that neither overflows nor cancels.

    Raises: ValueError if k > samples, where there is no unbiased estimate, or the numbers make no sense.
    """
    if not 0 <= correct <= samples:
        raise ValueError(f"correct must be between 0 and samples, got {correct} of {samples}")
    if not 1 <= k <= samples:
        raise ValueError(f"k must be between 1 and samples={samples}, got {k}. Draw more samples, or fit the curve")
    if samples - correct < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(samples - correct + 1, samples + 1))


@dataclass(frozen=True, slots=True)
class Point:
    """Coverage by k samples: the mean over problems, with its interval by bootstrap over the problems."""

    k: int
    coverage: float
    low: float
    high: float


def coverage_curve(
    counts: Sequence[tuple[int, int]], ks: Sequence[int], *, seed: int = 0, level: float = 0.95, resamples: int = 10_000
) -> list[Point]:
    """Return coverage by k samples for each of `ks`.

    Args:
        counts: For each problem, how many samples are right, and of how many. Problems without a right one belong to it.
        seed: Of the bootstrap. It draws problems, never samples: these are exchangeable, the problems are what varies.
    Raises: ValueError if there is no problem, or a k is larger than the fewest samples of a problem.
    """
    if not counts:
        raise ValueError("counts must have at least one problem, got none")
    values = np.array([[coverage_at_k(c, n, k) for k in ks] for c, n in counts])
    means = _resampled(values, seed, resamples)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [Point(k, float(m), float(a), float(b)) for k, m, a, b in zip(ks, values.mean(0), low, high, strict=True)]


def _resampled(values: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    """Return means over problems drawn with replacement, shape (resamples, columns)."""
    problems = len(values)
    rng = np.random.Generator(np.random.Philox(seed))
    weights = rng.multinomial(problems, [1 / problems] * problems, size=resamples) / problems
    return weights @ values


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """Coverage as exp(a * k**b), a < 0 and b < 0: the logarithm of coverage is a power of the number of samples."""

    a: float
    b: float

    def __call__(self, k: float) -> float:
        """Return coverage by k samples."""
        return math.exp(self.a * k**self.b)

    def samples_for(self, coverage: float) -> float:
        """Return the number of samples that reach a coverage. Raises: ValueError if it is not in (0, 1)."""
        if not 0 < coverage < 1:
            raise ValueError(f"coverage must be in (0, 1), got {coverage}")
        return (math.log(coverage) / self.a) ** (1 / self.b)


def fit_ks(samples: int) -> list[int]:
    """Return the numbers of samples that the paper fits to, at most `samples`, each once."""
    points = np.unique(np.geomspace(1, min(samples, FIT_UP_TO), FIT_POINTS).round().astype(int))
    return [int(k) for k in points]


def fit_power_law(ks: Sequence[float], coverage: Sequence[float]) -> PowerLaw:
    """Return the least-squares fit of exp(a * k**b) to coverage, by SciPy's curve_fit as in the paper.

    It begins at the line through log(-log coverage) over log k, which points at 0 or 1 have no part in.

    Raises: ValueError for fewer than two points with a coverage inside (0, 1), which have no curve.
    """
    from scipy.optimize import curve_fit

    x, y = np.asarray(ks, float), np.asarray(coverage, float)
    inside = (y > 0) & (y < 1)
    if inside.sum() < 2 or len(set(x[inside])) < 2:
        raise ValueError(
            f"coverage must lie inside (0, 1) at two or more k, got {y.tolist()}. Take more problems or samples"
        )
    slope, height = np.polyfit(np.log(x[inside]), np.log(-np.log(y[inside])), 1)
    start = (-math.exp(height), min(float(slope), -1e-6))
    bounds = ([-np.inf, -np.inf], [-1e-12, -1e-12])
    (a, b), _ = curve_fit(lambda k, a, b: np.exp(a * k**b), x, y, p0=start, bounds=bounds, maxfev=20_000)
    return PowerLaw(float(a), float(b))


def forecast(
    counts: Sequence[tuple[int, int]], k: int, *, seed: int = 0, level: float = 0.95, resamples: int = 400
) -> Point:
    """Return coverage by `k` samples from the fit to those that there are, with its interval by bootstrap over the problems.

    `k` may be larger than the number of samples. Resamples of problems that leave nothing to fit are left out.

    Raises: ValueError if there is nothing to fit.
    """
    ks = fit_ks(min(n for _, n in counts))
    values = np.array([[coverage_at_k(c, n, each) for each in ks] for c, n in counts])
    told = fit_power_law(ks, values.mean(0).tolist())(k)
    others = []
    for row in _resampled(values, seed, resamples):
        try:
            others.append(fit_power_law(ks, row.tolist())(k))
        except (ValueError, RuntimeError):
            continue
    low, high = np.quantile(others, [(1 - level) / 2, (1 + level) / 2]) if others else (told, told)
    return Point(k, told, float(low), float(high))


@dataclass(frozen=True, slots=True)
class Choice:
    """How many samples to draw: `k`, the coverage expected of them, their cost for a problem, and why no more and no fewer."""

    k: int
    coverage: float
    cost: float
    reason: str


def choose_k(
    coverage: Callable[[int], float],
    *,
    prompt: float,
    sample: float,
    value: float | None = None,
    budget: float | None = None,
    most: int = 10_000,
) -> Choice:
    """Return the number of samples that is worth its cost.

    Args:
        coverage: Of k samples, such as a `PowerLaw`. It is taken never to fall with k.
        prompt, sample: Cost of the prompt, paid once, and of each sample, in one unit (tokens, dollars, seconds).
        value: What a solved problem is worth, in that unit: k maximises value * coverage - cost.
        budget: Most that a problem may cost; alone, the largest k within it is taken.
        most: Largest k to consider.
    Raises: ValueError if neither value nor budget is given, or the budget does not pay for one sample.
    """
    if value is None and budget is None:
        raise ValueError("value or budget must be given, got neither")
    if sample <= 0:
        raise ValueError(f"sample must cost > 0, got {sample}")
    largest = most if budget is None else min(most, int((budget - prompt) / sample + 1e-9))
    if largest < 1:
        raise ValueError(f"budget must pay for a prompt and a sample ({prompt + sample}), got {budget}")
    if value is None:
        k, why = (
            largest,
            f"the budget of {budget:g} ends here" if largest < most else f"no more than {most} were considered",
        )
    else:
        ks = np.arange(1, largest + 1)
        gains = value * np.array([coverage(int(each)) for each in ks]) - prompt - sample * ks
        k = int(ks[np.argmax(gains)])
        why = f"one more sample costs {sample:g} and is worth {value * (coverage(k + 1) - coverage(k)):.3g}"
        if k == largest:
            why = "the budget ends here" if largest < most else f"no more than {most} were considered"
    return Choice(k, coverage(k), prompt + sample * k, why)


def precision(
    attempts: Sequence[Sequence[Sample]],
    right: Sequence[Sequence[bool]],
    select: Callable[[Sequence[Sample]], int | None],
) -> float | None:
    """Return how often a selector picks a right attempt, among the problems that have one; None if none has.

    Args:
        attempts, right: For each problem its attempts, and which of them are right.
        select: Returns the place of the attempt that is picked, or None.
    """
    hits = []
    for samples, goods in zip(attempts, right, strict=True):
        if any(goods):
            place = select(samples)
            hits.append(place is not None and goods[place])
    return sum(hits) / len(hits) if hits else None
