"""Decisions: one choice of a space, as a run of numbers in a genome.

Each kind knows how to draw, change and count its values; a space is a list of them. Draws need no numpy: one gene
costs about 0.1 microseconds, and most changes touch one gene.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import combinations, permutations
from random import Random
from typing import Protocol

Genes = tuple[int | float, ...]


class Decision(Protocol):
    """One choice. `genes` are its numbers in a genome, `width` of them."""

    @property
    def width(self) -> int:
        """How many genes."""
        ...

    def default(self) -> Genes:
        """Return the genes of the starting program, which are also those of a choice that does not apply."""
        ...

    def sample(self, rng: Random) -> Genes:
        """Draw genes uniformly (for numbers with `log`: uniformly in the logarithm)."""
        ...

    def mutate(self, genes: Genes, rng: Random) -> Genes:
        """Return other genes, near the given ones where near has a meaning; the same if there are no others."""
        ...

    def neighbours(self, genes: Genes) -> Iterator[Genes]:
        """Yield all genes one smallest change away."""
        ...

    def every(self) -> Iterator[Genes]:
        """Yield all genes there are. Raises: ValueError for a number that is not on a grid."""
        ...

    def contains(self, genes: Genes) -> bool:
        """Whether the genes are valid and in canonical form."""
        ...

    def selects(self, genes: Genes, branch: int) -> bool:
        """Whether the choices inside candidate (or copy) number `branch` apply."""
        ...


def below(rng: Random, n: int) -> int:
    """Draw an int from 0 to n - 1 (n far below 2**53)."""
    return int(rng.random() * n)


@dataclass(frozen=True, slots=True)
class Categorical:
    """One of `n`."""

    n: int
    width: int = 1

    def default(self) -> Genes:
        return (0,)

    def sample(self, rng: Random) -> Genes:
        return (int(rng.random() * self.n),)

    def mutate(self, genes: Genes, rng: Random) -> Genes:
        if self.n == 1:
            return genes
        other = int(rng.random() * (self.n - 1))
        return (other + (other >= genes[0]),)

    def neighbours(self, genes: Genes) -> Iterator[Genes]:
        return ((i,) for i in range(self.n) if i != genes[0])

    def every(self) -> Iterator[Genes]:
        return ((i,) for i in range(self.n))

    def contains(self, genes: Genes) -> bool:
        return type(genes[0]) is int and 0 <= genes[0] < self.n

    def selects(self, genes: Genes, branch: int) -> bool:
        return genes[0] == branch


@dataclass(frozen=True, slots=True)
class Length:
    """How many copies, `lo` to `hi`."""

    lo: int
    hi: int
    width: int = 1

    def default(self) -> Genes:
        return (self.lo,)

    def sample(self, rng: Random) -> Genes:
        return (self.lo + below(rng, self.hi - self.lo + 1),)

    def mutate(self, genes: Genes, rng: Random) -> Genes:
        options = list(self.neighbours(genes))
        return options[below(rng, len(options))] if options else genes

    def neighbours(self, genes: Genes) -> Iterator[Genes]:
        return ((v,) for v in (int(genes[0]) - 1, int(genes[0]) + 1) if self.lo <= v <= self.hi)

    def every(self) -> Iterator[Genes]:
        return ((v,) for v in range(self.lo, self.hi + 1))

    def contains(self, genes: Genes) -> bool:
        return type(genes[0]) is int and self.lo <= genes[0] <= self.hi

    def selects(self, genes: Genes, branch: int) -> bool:
        return branch < genes[0]


@dataclass(frozen=True, slots=True)
class Interval:
    """A number in [lo, hi]; the gene is the number itself."""

    lo: float
    hi: float
    log: bool
    step: float | None
    whole: bool
    width: int = 1
    #: Decimals of the values on a grid of floats: 0.1 + 2 * 0.1 is to be 0.3.
    decimals: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.step and not self.whole:
            decimals = max(-int(Decimal(repr(v)).as_tuple().exponent) for v in (float(self.lo), float(self.step)))
            object.__setattr__(self, "decimals", max(decimals, 0))

    def _steps(self) -> int:
        """Return the number of values less one; only for numbers on a grid."""
        step = self.step or 1
        if self.whole:
            return int((self.hi - self.lo) // step)
        return int((self.hi - self.lo) / step * (1 + 1e-12) + 1e-9)

    def values(self) -> Iterator[int | float]:
        """Yield all values of a number on a grid, from low to high."""
        return (self._on_grid(k) for k in range(self._steps() + 1))

    def last(self) -> int | float:
        """Return the highest value."""
        return self._on_grid(self._steps()) if self.whole or self.step else self.hi

    def size(self) -> float:
        return self._steps() + 1 if self.whole or self.step else math.inf

    def _at(self, u: float) -> int | float:
        """Map u in [0, 1] to a value; on a grid, every value gets an equal part of [0, 1) (of its logarithm)."""
        if self.log and self.whole:
            lo, hi = math.log(self.lo - 0.5), math.log(self.hi + 0.5)
            return min(max(round(math.exp(lo + u * (hi - lo))), int(self.lo)), int(self.hi))
        if self.log:
            lo, hi = math.log(self.lo), math.log(self.hi)
            return min(max(math.exp(lo + u * (hi - lo)), self.lo), self.hi)
        if self.whole or self.step:
            return self._on_grid(int(u * (self._steps() + 1)))
        return min(self.lo + u * (self.hi - self.lo), self.hi)

    def _on_grid(self, k: int) -> int | float:
        k = min(max(k, 0), self._steps())
        value = self.lo + k * (self.step or 1)
        return int(value) if self.whole else min(round(value, self.decimals), self.hi)

    def _unit(self, value: float) -> float:
        if self.log:
            return (math.log(value) - math.log(self.lo)) / (math.log(self.hi) - math.log(self.lo))
        return (value - self.lo) / (self.hi - self.lo)

    def default(self) -> Genes:
        return (self._at(0.5),)

    def sample(self, rng: Random) -> Genes:
        return (self._at(rng.random()),)

    def mutate(self, genes: Genes, rng: Random) -> Genes:
        # A normal step whose scale is drawn anew from 1% to 30% of the range: fine and coarse search at once.
        unit = self._unit(genes[0])
        for _ in range(8):
            scale = 0.01 * 30.0 ** rng.random()
            moved = unit + rng.gauss(0.0, 1.0) * scale
            moved = abs(moved) if moved < 0 else 2 - moved if moved > 1 else moved
            value = self._at(min(max(moved, 0.0), math.nextafter(1.0, 0.0)))
            if value != genes[0]:
                return (value,)
        options = list(self.neighbours(genes))
        return options[below(rng, len(options))] if options else genes

    def neighbours(self, genes: Genes) -> Iterator[Genes]:
        if self.whole or self.step:
            k = self._place(genes[0])
            return ((self._on_grid(i),) for i in (k - 1, k + 1) if 0 <= i <= self._steps())
        unit = self._unit(genes[0])
        return ((v,) for u in (unit - 0.05, unit + 0.05) if 0 <= u <= 1 and (v := self._at(u)) != genes[0])

    def every(self) -> Iterator[Genes]:
        if not self.whole and not self.step:
            raise ValueError(f"a number between {self.lo} and {self.hi} must have a step to be listed, got none")
        return ((value,) for value in self.values())

    def _place(self, value: float) -> int:
        if self.whole:
            return int((value - self.lo) // (self.step or 1))
        return round((value - self.lo) / (self.step or 1))

    def contains(self, genes: Genes) -> bool:
        value = genes[0]
        if isinstance(value, bool) or isinstance(value, int) != self.whole or not self.lo <= value <= self.hi:
            return False
        if self.step or self.whole:
            return value == self._on_grid(self._place(value))
        return True

    def selects(self, genes: Genes, branch: int) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Subset:
    """From `lo` to `hi` of `n` candidates by number, -1 in unused places; ascending unless `ordered`."""

    n: int
    lo: int
    hi: int
    ordered: bool

    @property
    def width(self) -> int:
        return self.hi

    def _canonical(self, picked: list[int]) -> Genes:
        return (*(picked if self.ordered else sorted(picked)), *(-1,) * (self.hi - len(picked)))

    def default(self) -> Genes:
        return self._canonical(list(range(self.lo)))

    def sample(self, rng: Random) -> Genes:
        return self._canonical(rng.sample(range(self.n), self.lo + below(rng, self.hi - self.lo + 1)))

    def mutate(self, genes: Genes, rng: Random) -> Genes:
        options = list(self.neighbours(genes))
        return options[below(rng, len(options))] if options else genes

    def neighbours(self, genes: Genes) -> Iterator[Genes]:
        """Yield all results of exchanging, adding or removing one candidate or, if ordered, swapping two."""
        picked = [int(g) for g in genes if g >= 0]
        unused = [c for c in range(self.n) if c not in picked]
        for i in range(len(picked)):
            for other in unused:
                yield self._canonical([*picked[:i], other, *picked[i + 1 :]])
            if len(picked) > self.lo:
                yield self._canonical(picked[:i] + picked[i + 1 :])
        if len(picked) < self.hi:
            for other in unused:
                yield self._canonical([*picked, other])
        if self.ordered:
            for i in range(len(picked)):
                for j in range(i):
                    swapped = list(picked)
                    swapped[i], swapped[j] = picked[j], picked[i]
                    yield self._canonical(swapped)

    def every(self) -> Iterator[Genes]:
        ways = permutations if self.ordered else combinations
        return (self._canonical(list(p)) for k in range(self.lo, self.hi + 1) for p in ways(range(self.n), k))

    def contains(self, genes: Genes) -> bool:
        picked = [int(g) for g in genes if g >= 0]
        return (
            all(type(g) is int for g in genes)
            and self.lo <= len(picked) <= self.hi
            and len(set(picked)) == len(picked)
            and all(p < self.n for p in picked)
            and tuple(genes) == self._canonical(picked)
        )

    def selects(self, genes: Genes, branch: int) -> bool:
        return branch in genes


@dataclass(frozen=True, slots=True)
class Order:
    """An order of `n` items: which item stands first, second, ..."""

    n: int

    @property
    def width(self) -> int:
        return self.n

    def default(self) -> Genes:
        return tuple(range(self.n))

    def sample(self, rng: Random) -> Genes:
        return tuple(rng.sample(range(self.n), self.n))

    def mutate(self, genes: Genes, rng: Random) -> Genes:
        if self.n == 1:
            return genes
        i, j = rng.sample(range(self.n), 2)
        swapped = list(genes)
        swapped[i], swapped[j] = genes[j], genes[i]
        return tuple(swapped)

    def neighbours(self, genes: Genes) -> Iterator[Genes]:
        for i in range(self.n):
            for j in range(i):
                swapped = list(genes)
                swapped[i], swapped[j] = genes[j], genes[i]
                yield tuple(swapped)

    def every(self) -> Iterator[Genes]:
        return permutations(range(self.n))

    def contains(self, genes: Genes) -> bool:
        return all(type(g) is int for g in genes) and sorted(genes) == list(range(self.n))

    def selects(self, genes: Genes, branch: int) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Writing:
    """A text of at most `width` characters: their code points, -1 in unused places.

    No draw or change writes a new text; they choose among the `initial` ones.
    """

    initial: tuple[str, ...]
    width: int

    def genes(self, text: str) -> Genes:
        """Return the genes of a text. Raises: ValueError if it is too long or cannot be written in UTF-8."""
        genes = tuple(map(ord, text))
        if len(genes) > self.width or any(0xD800 <= g <= 0xDFFF for g in genes):
            raise ValueError(f"text must have at most {self.width} characters, all of Unicode, got {text[:60]!r}")
        return genes + (-1,) * (self.width - len(genes))

    def text(self, genes: Genes) -> str:
        """Return the text that genes spell."""
        return "".join(chr(int(g)) for g in genes if g >= 0)

    def default(self) -> Genes:
        return self.genes(self.initial[0])

    def sample(self, rng: Random) -> Genes:
        return self.genes(self.initial[below(rng, len(self.initial))])

    def mutate(self, genes: Genes, rng: Random) -> Genes:
        options = list(self.neighbours(genes))
        return options[below(rng, len(options))] if options else genes

    def neighbours(self, genes: Genes) -> Iterator[Genes]:
        return (other for other in map(self.genes, self.initial) if other != genes)

    def every(self) -> Iterator[Genes]:
        raise ValueError("a text must be replaced by one_of of a few texts to be listed, got one that may be any")

    def contains(self, genes: Genes) -> bool:
        whole = all(type(g) is int and -1 <= g < 0x110000 and not 0xD800 <= g <= 0xDFFF for g in genes)
        return whole and len(genes) == self.width and tuple(genes) == self.genes(self.text(genes))

    def selects(self, genes: Genes, branch: int) -> bool:
        return True
