"""What a search algorithm is: a description (`Algorithm`, a value) that starts a run (`Search`, ask and tell)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, runtime_checkable

from heuretic.search.space import Genome, Space


@dataclass(frozen=True, slots=True)
class Candidate:
    """A genome proposed for evaluation. `parents` are the numbers of the trials it was made from."""

    genome: Genome
    parents: tuple[int, ...] = ()
    origin: str = "sample"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a genome.

    Attributes:
        number: The trial in which the genome was evaluated.
        score: Higher is better, whatever the user's direction; None if the evaluation failed.
        violation: How far measured limits were exceeded, relative to them; 0 if they hold.
    """

    number: int
    genome: Genome
    score: float | None
    violation: float = 0.0

    @property
    def rank(self) -> tuple[bool, float, float]:
        """Sort key: evaluated before failed, less violation before more, then the higher score."""
        if self.score is None or self.score != self.score:
            return False, -self.violation, 0.0
        return True, -self.violation, self.score


class Search(Protocol):
    """One run of an algorithm. Knows nothing of storage, engines or programs, only of genomes and results."""

    def ask(self, n: int = 1) -> list[Candidate]:
        """Return `n` genomes to evaluate. May be called again before any result is told."""
        ...

    def tell(self, results: Sequence[Result]) -> None:
        """Take in results, in any order; also of genomes that this run never asked for (warm starts)."""
        ...

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on later, as JSON-able values; trials are referred to by number."""
        ...

    def restore(self, state: dict[str, Any], results: Callable[[Iterable[int]], list[Result]]) -> None:
        """Go on from `state`, exactly. `results` gives the results of trials by number."""
        ...

    def grow(self, space: Space, adapt: Callable[[Genome], Genome]) -> None:
        """Go on in a larger space; `adapt` turns a genome of the old space into one of the new."""
        ...


@runtime_checkable
class Algorithm(Protocol):
    """The description of an algorithm: usually a `Symbolic` whose fields are the settings."""

    def start(self, space: Space, seed: int = 0) -> Search:
        """Begin a run. Equal space, seed and results give equal candidates."""
        ...


def stream(seed: int, counter: int) -> Random:
    """Return the random numbers for one step of a run: a function of seed and step only, so a run can go on anywhere.

    Raises: ValueError if the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"seed must be >= 0, got {seed}")
    return Random(seed << 64 | counter)
