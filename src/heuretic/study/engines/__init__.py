"""Engines: where evaluations run. `Inline` in this process; each of the others in a module of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from heuretic.search import Space
from heuretic.study.environment import environment_facts
from heuretic.study.trial import Evaluator, Outcome, Ticket

#: (trial, step, metrics) -> whether the trial shall end now.
Report = Callable[[int, int, dict[str, float]], bool]


class EngineError(RuntimeError):
    """Evaluations cannot be run at all, as opposed to one that failed."""


class Engine(Protocol):
    """A place that runs evaluations. Results come back in any order, through `wait`."""

    @property
    def workers(self) -> int:
        """How many evaluations can run at a time."""
        ...

    def submit(self, ticket: Ticket) -> None:
        """Begin (or queue) an evaluation."""
        ...

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Return the evaluations that ended; waits up to `timeout_s` for the first."""
        ...

    def withdraw(self) -> list[int]:
        """Take back the tickets that are not begun (queued, or waiting for another attempt); return their numbers.

        No outcome comes for them.
        """
        ...

    def add_space(self, space: Space) -> None:
        """Make a larger space known to the workers."""
        ...

    def close(self) -> None:
        """End all workers at once; what is still running is lost."""
        ...


class Inline:
    """Evaluates in the calling process, one trial after the other."""

    workers = 1

    def __init__(self, evaluator: Evaluator, report: Report) -> None:
        self._evaluator, self._report = evaluator, report
        self._queue: deque[Ticket] = deque()
        self._facts: dict[str, str] = {}

    def submit(self, ticket: Ticket) -> None:
        self._queue.append(ticket)

    def wait(self, timeout_s: float) -> list[Outcome]:
        outcome = self._evaluator(self._queue.popleft(), self._report)
        facts = environment_facts()
        if facts != self._facts:
            outcome.facts = self._facts = facts
        return [outcome]

    def withdraw(self) -> list[int]:
        taken = [ticket.number for ticket in self._queue]
        self._queue.clear()
        return taken

    def add_space(self, space: Space) -> None:
        self._evaluator.add_space(space)

    def close(self) -> None:
        self._queue.clear()
