"""The two problems of the paper in which a language model optimises numbers and orders, with what to compare it to.

A problem has an open `program`, an `evaluate` (to be minimised), a `meta_prompt`, and the `starts` of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from heuretic.lm.opro.meta_prompts import NumbersMetaPrompt, TourMetaPrompt
from heuretic.search.algorithm import Algorithm, Result
from heuretic.search.choices import number, permutation
from heuretic.search.space import Space
from heuretic.symbolic import Symbolic


class Line(Symbolic):
    """y = w x + b."""

    w: int
    b: int


class Tour(Symbolic):
    """A closed tour from point 0 through the other points in this order."""

    order: tuple[int, ...]


class LinearRegression:
    """Find the line through 50 points: w and b of least squared error, over whole numbers in [-100, 100].

    Points are x = 1, ..., 50 and y = w x + b plus normal noise of variance 1.

    Args: w, b: The true line; in the paper 15 and 14 in the code, and others from near to far from the starts.
        repetition: Decides the noise and the starts, from 0.
    Source: optimize_linear_regression.py of arXiv 2309.03409, with its seeds (20 pairs shown, 8 points a step, 5 starts in [10, 20], at
        most 500 steps, 5 repetitions). Departure: the interval of the choices.
    """

    STEPS, PER_STEP = 500, 8

    def __init__(self, w: int = 15, b: int = 14, repetition: int = 0, points: int = 50) -> None:
        self.w, self.b, self.repetition = w, b, repetition
        self.x = np.arange(points, dtype=float) + 1
        self.y = self.x * w + b + np.random.RandomState(repetition + 1).randn(points)
        self.program = Line(number(-100, 100), number(-100, 100))
        self.meta_prompt = NumbersMetaPrompt()

    def evaluate(self, line: Line) -> float:
        """Return the sum of squared errors."""
        return float(np.sum((self.y - (self.x * line.w + line.b)) ** 2))

    @cached_property
    def starts(self) -> list[Line]:
        """The five starts, alike ones once."""
        ws = np.random.RandomState((self.repetition + 1) * 10).uniform(10, 20, 5)
        bs = np.random.RandomState((self.repetition + 1) * 100).uniform(10, 20, 5)
        return [Line(int(w), int(b)) for w, b in np.unique(np.round(np.stack([ws, bs], 1)), axis=0)]

    @property
    def optimum(self) -> float:
        """The least error of whole numbers, which need not be that of the true line (there the paper stops)."""
        centre = np.polyfit(self.x, self.y, 1).round().astype(int)
        near = [(centre[0] + i, centre[1] + j) for i in range(-1, 2) for j in range(-40, 41)]
        return min(self.evaluate(Line(int(w), int(b))) for w, b in near)

    @property
    def true_value(self) -> float:
        """The error of the true line."""
        return self.evaluate(Line(self.w, self.b))


class TravellingSalesman:
    """Find the shortest closed tour of points with whole coordinates, uniform in [-100, 100].

    Args: n: How many points; the paper has 10, 15, 20 and 50. seed: Decides the points and starts.
    Source: optimize_tsp.py of arXiv 2309.03409 (10 tours shown, 8 a step, 5 starts, at most 500 steps), whose code draws
        without a seed. Departure: lengths are not cut off to whole numbers but in the meta-prompt.
    """

    STEPS, PER_STEP = 500, 8

    def __init__(self, n: int = 10, seed: int = 0) -> None:
        if n < 4:
            raise ValueError(f"n must be >= 4, got {n}. All tours of fewer points have the same length")
        rng = np.random.RandomState(seed)
        x, y = rng.uniform(-100, 100, n), rng.uniform(-100, 100, n)
        self.points = [(int(a), int(b)) for a, b in zip(x, y, strict=True)]
        self.n, self._rng_starts = n, [rng.permutation(n - 1) + 1 for _ in range(5)]
        self.program = Tour(permutation(range(1, n)))
        self.meta_prompt = TourMetaPrompt(tuple((float(a), float(b)) for a, b in self.points))

    def evaluate(self, tour: Tour) -> float:
        """Return the length of the closed tour."""
        path = [0, *tour.order]
        return math.fsum(math.dist(self.points[a], self.points[b]) for a, b in zip(path, [*path[1:], 0], strict=True))

    @cached_property
    def starts(self) -> list[Tour]:
        """Five random tours."""
        return [Tour(tuple(map(int, order))) for order in self._rng_starts]

    @cached_property
    def optimum(self) -> float:
        """The length of the shortest tour, by dynamic programming over subsets (Held and Karp 1962).

        Raises: ValueError for more than 12 points, for which it would take too long.
        """
        if self.n > 12:
            raise ValueError(f"n must be <= 12 for the exact optimum, got {self.n}. Compare with nearest_neighbour")
        d = [[math.dist(a, b) for b in self.points] for a in self.points]
        best = {(1 << k, k): d[0][k] for k in range(1, self.n)}
        for size in range(2, self.n):
            for subset in combinations(range(1, self.n), size):
                bits = sum(1 << k for k in subset)
                for k in subset:
                    before = bits & ~(1 << k)
                    best[bits, k] = min(best[before, j] + d[j][k] for j in subset if j != k)
        full = sum(1 << k for k in range(1, self.n))
        return min(best[full, k] + d[k][0] for k in range(1, self.n))

    def nearest_neighbour(self) -> Tour:
        """Return the tour that always goes on to the nearest point left."""
        order: list[int] = []
        here, left = 0, set(range(1, self.n))
        while left:
            here = min(left, key=lambda k: (math.dist(self.points[here], self.points[k]), k))
            left.remove(here)
            order.append(here)
        return Tour(tuple(order))

    def farthest_insertion(self) -> Tour:
        """Return the tour of the paper's second heuristic: always insert the point whose cheapest place costs most."""
        path, left = [0], list(range(1, self.n))
        while left:
            found: list[tuple[float, int, int]] = []
            for point in left:
                lengths = [
                    (self.evaluate(Tour(tuple([*path[:i], point, *path[i:]][1:]))), i) for i in range(1, len(path) + 1)
                ]
                length, place = min(lengths)
                found.append((length, -point, place))
            _, minus, place = max(found)
            path.insert(place, -minus)
            left.remove(-minus)
        return Tour(tuple(path[1:]))


def drive(
    algorithm: Algorithm,
    program: Any,
    evaluate: Callable[[Any], float],
    *,
    trials: int,
    starts: Sequence[Any] = (),
    seed: int = 0,
    minimize: bool = True,
    until: Callable[[float], bool] | None = None,
) -> list[Result]:
    """Run an algorithm in memory, one evaluation at a time, and return the results in order; `hr.discover` does more.

    A program that was evaluated before is answered from memory and does not count. Ends after `trials` evaluations (those of
    `starts` included), when `until` holds for a value, or when nothing new comes up.
    """
    space = Space(program)
    search = algorithm.start(space, seed)
    results: dict[Any, Result] = {}
    queue = [space.encode(start) for start in starts]
    repeats = 0
    while len(results) < trials and repeats < 1000:
        if queue:
            genome = queue.pop(0)
        else:
            asked = search.ask(1)
            if not asked:
                break
            genome = asked[0].genome
        known = results.get(genome)
        if known is not None:
            repeats += 1
            search.tell([known])
            continue
        repeats = 0
        value = evaluate(space.decode(genome))
        results[genome] = Result(len(results), genome, -value if minimize else value, metrics={"value": value})
        search.tell([results[genome]])
        if until is not None and until(value):
            break
    return list(results.values())
