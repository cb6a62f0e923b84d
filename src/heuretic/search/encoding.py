"""Genomes as arrays of coordinates, for algorithms that fit models to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heuretic.search.decisions import Categorical, Interval, Length, Order, Subset
from heuretic.search.space import Genome, Space

Array = NDArray[np.float64]


class Points(NamedTuple):
    """Genomes in coordinates.

    Attributes:
        columns: Shape (genomes, columns): numbers in [-1/2, 1/2], categories and subsets as indicators, orders by the
            place of each item; 0 where a decision does not apply.
        waves: Shape (genomes, numbers * WAVES): cosines of each number, 0 where it does not apply.
    """

    columns: Array
    waves: Array

    def __len__(self) -> int:  # type: ignore[override]
        return len(self.columns)


class Encoding:
    """Coordinates of a space.

    Attributes:
        groups: For each column, which decision it belongs to (decisions of one candidate have no column).
        places: Intervals and lengths: decision, column, kind. numbers: Their columns.
    """

    #: Cosines per number: waves as short as a twelfth of its range.
    WAVES = 24

    def __init__(self, space: Space) -> None:
        self.space = space
        groups: list[int] = []
        self.places: list[tuple[int, int, Interval | Length]] = []
        self._first: list[int] = []
        for index, decision in enumerate(space.decisions):
            self._first.append(len(groups))
            if isinstance(decision, Interval | Length):
                self.places.append((index, len(groups), decision))
                groups.append(index)
            elif isinstance(decision, Subset) and decision.ordered:
                groups += [index] * (2 * decision.n)
            elif isinstance(decision, Categorical | Subset | Order):
                groups += [index] * decision.n
            else:
                raise TypeError(
                    f"{space.paths[index]} must be a choice that has coordinates, got {type(decision).__name__}. For an open text "
                    f"try hr.lm.OPRO, or hr.one_of of a few texts"
                )
        _, self.groups = np.unique(np.array(groups, int), return_inverse=True)
        self.numbers = [column for _, column, _ in self.places]
        self._rates = np.pi * np.arange(1, self.WAVES + 1)

    def points(self, genomes: Sequence[Genome]) -> Points:
        """Return coordinates of genomes."""
        genes = np.array(genomes, dtype=np.float64).reshape(len(genomes), self.space.width)
        applies = self.applies(genes)
        columns = np.zeros((len(genes), len(self.groups)))
        for index, decision in enumerate(self.space.decisions):
            start, first = self.space.offsets[index], self._first[index]
            mine = genes[:, start : start + decision.width]
            if isinstance(decision, Interval):
                columns[:, first] = unit(decision, mine[:, 0]) - 0.5
            elif isinstance(decision, Length):
                columns[:, first] = (mine[:, 0] - decision.lo) / max(decision.hi - decision.lo, 1) - 0.5
            elif isinstance(decision, Categorical):
                columns[:, first : first + decision.n] = mine == np.arange(decision.n)
            elif isinstance(decision, Subset | Order):
                at = mine[:, :, None] == np.arange(decision.n)  # genome, place, item
                if isinstance(decision, Subset):
                    columns[:, first : first + decision.n] = at.any(1)
                    first += decision.n
                if isinstance(decision, Order) or decision.ordered:
                    places = np.arange(1, decision.width + 1) / decision.width
                    columns[:, first : first + decision.n] = (at * places[:, None]).sum(1)
            if not applies[index].all():
                columns[~applies[index], self._first[index] : first + getattr(decision, "n", 1)] = 0.0
        return Points(columns, self.waves(columns[:, self.numbers], self._numbers_on(applies, len(genes))))

    def numbers_on(self, genes: Array) -> Array:
        """Return 1 for each number that applies, else 0, shape (genomes, numbers)."""
        return self._numbers_on(self.applies(genes), len(genes))

    def _numbers_on(self, applies: list[NDArray[np.bool_]], count: int) -> Array:
        return np.array([applies[index] for index, _, _ in self.places], dtype=np.float64).reshape(-1, count).T

    def applies(self, genes: Array) -> list[NDArray[np.bool_]]:
        """Return for each decision the genomes in which it applies; `genes` has shape (genomes, width)."""
        result: list[NDArray[np.bool_]] = []
        for parent in self.space.parents:
            if parent is None:
                result.append(np.ones(len(genes), bool))
                continue
            above, branch = parent
            decision, start = self.space.decisions[above], self.space.offsets[above]
            mine = genes[:, start : start + decision.width]
            if isinstance(decision, Length):
                chosen = branch < mine[:, 0]
            elif isinstance(decision, Order):
                chosen = np.ones(len(genes), bool)
            else:
                chosen = (mine == branch).any(1)
            result.append(result[above] & chosen)
        return result

    def waves(self, numbers: Array, on: Array) -> Array:
        """Return the cosines of numbers in [-1/2, 1/2], both of shape (genomes, numbers)."""
        waves = np.cos((numbers + 0.5)[:, :, None] * self._rates)
        waves *= on[:, :, None] * np.sqrt(2 / max(len(self.numbers), 1))
        return waves.reshape(len(numbers), -1)

    def slopes(self, numbers: Array, on: Array) -> Array:
        """Return the derivatives of `waves` by the number, shape (genomes, numbers, WAVES)."""
        slopes = np.sin((numbers + 0.5)[:, :, None] * self._rates)
        slopes *= self._rates * on[:, :, None] * -np.sqrt(2 / max(len(self.numbers), 1))
        return slopes


def unit(interval: Interval, values: Array) -> Array:
    """Map values of an interval to [0, 1] (by their logarithm where it is logarithmic)."""
    if interval.log:
        lo, hi = np.log(interval.lo), np.log(interval.hi)
        return (np.log(np.maximum(values, interval.lo)) - lo) / (hi - lo)
    return (values - interval.lo) / (interval.hi - interval.lo)


def value(interval: Interval, at: float) -> int | float:
    """Map a number in [0, 1] to the nearest value of an interval."""
    lo, hi = interval.lo, interval.hi
    exact = float(lo * (hi / lo) ** at) if interval.log else lo + at * (hi - lo)
    if interval.whole or interval.step:
        return interval._on_grid(round((exact - lo) / (interval.step or 1)))
    return min(max(exact, lo), hi)
