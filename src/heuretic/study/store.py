"""Stores: where studies live. `Memory` here, SQL databases in `sql_store`; all keep the same promises.

A trial, the state of the search after it and the candidates proposed next are written in one transaction, so whenever
a process is killed the store holds a moment of the run from which it can go on as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import nlargest
from typing import Any, Protocol

from heuretic.search import Genome
from heuretic.study.records import StudyRecord, TrialRecord
from heuretic.study.trial import Ticket

RunState = dict[str, Any]


class StoreError(RuntimeError):
    """A store cannot be used, or a study in it is not what was asked for. Nothing was written."""


class Conflict(StoreError):
    """Another process advanced the same study in the meantime. Nothing was written."""


class Store(Protocol):
    """A place that holds studies by name."""

    url: str

    def create(self, study: StudyRecord) -> None:
        """Add a study. Raises: StoreError if the name is taken."""
        ...

    def study(self, name: str) -> StudyRecord | None:
        """Return a study, or None if there is none of this name."""
        ...

    def names(self) -> list[str]:
        """Return the names of all studies, oldest first."""
        ...

    def add_space(self, name: str, program: str) -> int:
        """Add a larger open program to a study; return its index (the original program has 0)."""
        ...

    def spaces(self, name: str) -> list[str]:
        """Return the open programs of a study, first to last."""
        ...

    def environment(self, facts: Mapping[str, str]) -> int:
        """Return the number under which these facts are known, adding them if they are new."""
        ...

    def environments(self) -> dict[int, dict[str, str]]:
        """Return all known environments by number."""
        ...

    def commit(
        self, name: str, trials: Sequence[TrialRecord], state: RunState, revision: int, tickets: Sequence[Ticket] = ()
    ) -> int:
        """Write finished trials, the state of the run and new tickets in one transaction; return the new revision.

        The tickets of the trials are gone afterwards.

        Raises: Conflict if the study is no longer at `revision`.
        """
        ...

    def tickets(self, name: str) -> list[Ticket]:
        """Return the candidates that were proposed and are no trials yet, in order. Their digests are left out."""
        ...

    def state(self, name: str) -> tuple[RunState | None, int]:
        """Return the state of the run (None before the first commit) and its revision."""
        ...

    def trials(self, name: str, numbers: Iterable[int] | None = None) -> Iterator[TrialRecord]:
        """Yield trials in order of number: all from 0 on, or those with the given numbers."""
        ...

    def enqueue(self, name: str, space: int, genome: Genome) -> None:
        """Add a hand-picked genome to those that the run of a study is to evaluate next."""
        ...

    def enqueued(self, name: str, after: int = 0) -> list[tuple[int, int, Genome]]:
        """Return (number, space, genome) of hand-picked genomes in order, from the one after number `after`."""
        ...

    def digests(self, name: str) -> Iterator[tuple[bytes, int]]:
        """Yield (digest, number) of all trials from 0 on."""
        ...

    def best(self, name: str) -> TrialRecord | None:
        """Return the finished trial with the least violation and the highest score; of equals the first."""
        ...

    def top(self, name: str, count: int) -> list[TrialRecord]:
        """Return the best so many finished trials, best first."""
        ...

    def counts(self, name: str) -> dict[str, int]:
        """Return the number of trials by state."""
        ...

    def close(self) -> None:
        """Release connections. The store can be opened again."""
        ...


class Memory:
    """A store in this process's memory; gone with it."""

    url = "memory"

    def __init__(self) -> None:
        self._studies: dict[str, StudyRecord] = {}
        self._spaces: dict[str, list[str]] = {}
        self._trials: dict[str, dict[int, TrialRecord]] = {}
        self._states: dict[str, tuple[RunState | None, int]] = {}
        self._environments: dict[int, dict[str, str]] = {}
        self._enqueued: dict[str, list[tuple[int, int, Genome]]] = {}
        self._tickets: dict[str, dict[int, Ticket]] = {}

    def create(self, study: StudyRecord) -> None:
        if study.name in self._studies:
            raise StoreError(f"study {study.name!r} exists already")
        self._studies[study.name] = study
        self._spaces[study.name], self._trials[study.name] = [study.program], {}
        self._states[study.name], self._tickets[study.name] = (None, 0), {}

    def study(self, name: str) -> StudyRecord | None:
        return self._studies.get(name)

    def names(self) -> list[str]:
        return list(self._studies)

    def add_space(self, name: str, program: str) -> int:
        self._spaces[name].append(program)
        return len(self._spaces[name]) - 1

    def spaces(self, name: str) -> list[str]:
        return list(self._spaces[name])

    def environment(self, facts: Mapping[str, str]) -> int:
        wanted = dict(facts)
        number = next((n for n, known in self._environments.items() if known == wanted), len(self._environments) + 1)
        self._environments[number] = wanted
        return number

    def environments(self) -> dict[int, dict[str, str]]:
        return dict(self._environments)

    def commit(
        self, name: str, trials: Sequence[TrialRecord], state: RunState, revision: int, tickets: Sequence[Ticket] = ()
    ) -> int:
        if self._states[name][1] != revision:
            raise Conflict(f"study {name!r} was advanced by another run in the meantime")
        self._trials[name].update((trial.number, trial) for trial in trials)
        for trial in trials:
            self._tickets[name].pop(trial.number, None)
        self._tickets[name].update((ticket.number, ticket) for ticket in tickets)
        self._states[name] = (state, revision + 1)
        return revision + 1

    def state(self, name: str) -> tuple[RunState | None, int]:
        return self._states[name]

    def tickets(self, name: str) -> list[Ticket]:
        return sorted(self._tickets[name].values(), key=lambda ticket: ticket.number)

    def trials(self, name: str, numbers: Iterable[int] | None = None) -> Iterator[TrialRecord]:
        trials = self._trials[name]
        wanted = (n for n in trials if n >= 0) if numbers is None else (n for n in numbers if n in trials)
        return (trials[n] for n in sorted(wanted))

    def enqueue(self, name: str, space: int, genome: Genome) -> None:
        queue = self._enqueued.setdefault(name, [])
        queue.append((len(queue) + 1, space, genome))

    def enqueued(self, name: str, after: int = 0) -> list[tuple[int, int, Genome]]:
        return self._enqueued.get(name, [])[after:]

    def digests(self, name: str) -> Iterator[tuple[bytes, int]]:
        return ((bytes.fromhex(trial.digest), trial.number) for trial in self.trials(name))

    def best(self, name: str) -> TrialRecord | None:
        return next(iter(self.top(name, 1)), None)

    def top(self, name: str, count: int) -> list[TrialRecord]:
        finished = (trial for trial in self._trials[name].values() if trial.score is not None and trial.number >= 0)
        return nlargest(count, finished, key=lambda t: (t.result.rank, -t.number))

    def counts(self, name: str) -> dict[str, int]:
        counts: dict[str, int] = {}
        for trial in self.trials(name):
            counts[trial.state] = counts.get(trial.state, 0) + 1
        return counts

    def close(self) -> None:
        pass


def open_store(url: str | Store | None) -> Store:
    """Return the store at `url`: None for memory, `sqlite:///file.db` for a file, `postgresql://user@host/database` for a
    server; a store passes as it is.

    Raises: StoreError if the URL cannot be opened.
    """
    if url is None:
        return Memory()
    if not isinstance(url, str):
        return url
    from heuretic.study.sql_store import SqlStore  # imports SQLAlchemy

    return SqlStore(url)
