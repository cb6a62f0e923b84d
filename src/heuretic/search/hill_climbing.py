"""Hill climbing with restarts: change the best program known, keep what is no worse, start anew when stuck."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from heuretic.search.algorithm import Candidate, Result, stream
from heuretic.search.space import Genome, Space
from heuretic.symbolic import Symbolic, field


class HillClimbing(Symbolic):
    """Mutate the current program; move to the mutant if it is no worse; restart at random when stuck.

    Args:
        patience: Candidates without improvement after which the climb starts anew from a random program.

    Reference: Russell & Norvig, "Artificial Intelligence: A Modern Approach", section 4.1 (stochastic first-choice
    hill climbing with random restarts).
    """

    patience: int = field(default=50, ge=1)

    def start(self, space: Space, seed: int = 0) -> HillClimbingRun:
        """Begin a run."""
        return HillClimbingRun(self, space, seed)


class HillClimbingRun:
    """State: candidates asked for, the trial climbed to (None before the first result), results since it improved."""

    def __init__(self, settings: HillClimbing, space: Space, seed: int) -> None:
        self.settings, self.space, self.seed = settings, space, seed
        self.asked, self.stuck = 0, 0
        self.current: Result | None = None

    def ask(self, n: int = 1) -> list[Candidate]:
        candidates: list[Candidate] = []
        for _ in range(n):
            rng = stream(self.seed, self.asked)
            self.asked += 1
            if self.current is None:
                candidates.append(Candidate(self.space.sample(rng)))
            else:
                mutant = self.space.mutate(self.current.genome, rng)
                candidates.append(Candidate(mutant, (self.current.number,), "mutation"))
        return candidates

    def tell(self, results: Sequence[Result]) -> None:
        for result in results:
            if result.score is not None and (self.current is None or result.rank >= self.current.rank):
                improved = self.current is None or result.rank > self.current.rank
                self.stuck = 0 if improved else self.stuck + 1
                self.current = result
            else:
                self.stuck += 1
            if self.stuck >= self.settings.patience:
                self.current, self.stuck = None, 0

    def state(self) -> dict[str, Any]:
        return {"asked": self.asked, "stuck": self.stuck, "current": self.current and self.current.number}

    def restore(self, state: dict[str, Any], results: Callable[[Iterable[int]], list[Result]]) -> None:
        self.asked, self.stuck = state["asked"], state["stuck"]
        self.current = results([state["current"]])[0] if state["current"] is not None else None

    def grow(self, space: Space, adapt: Callable[[Genome], Genome]) -> None:
        self.space = space
        self.current = self.current and replace(self.current, genome=adapt(self.current.genome))
