"""The run loop: proposes candidates, has them evaluated, tells the search, and commits each step."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from heuretic.search import Candidate, Genome, Limit, Result, Search, Space
from heuretic.search.limits import total_violation
from heuretic.study.engines import Engine
from heuretic.study.progress import Progress
from heuretic.study.records import TrialRecord
from heuretic.study.store import Store
from heuretic.study.trial import Outcome, Ticket, trial_seed
from heuretic.symbolic import FrozenDict, dumps
from heuretic.symbolic.digests import digest_bytes

Stop = Literal["trials", "time", "target", "plateau", "exhausted", "failures", "interrupted", ""]
#: (trial, step, metrics, steps of all trials by number) -> whether to end the trial now.
Prune = Callable[[int, int, Mapping[str, float], Mapping[int, Mapping[int, Mapping[str, float]]]], bool]


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop: after so many trials in all, seconds of this run, a value reached, trials without improvement,
    or failures in a row."""

    trials: int | None
    time_s: float | None
    target: float | None
    plateau: int | None
    max_failures: int


@dataclass(slots=True)
class Run:
    """One run of a study in this process: from its last commit to whatever stops it."""

    name: str
    store: Store
    space: Space
    search: Search
    seed: int
    objective: str
    sign: int
    limits: tuple[Limit, ...]
    costs: Callable[[Any], dict[str, float]]
    budget: Budget
    define_by_run: bool
    deterministic: bool
    prune: Prune | None
    start: Genome | None
    progress: Progress
    revision: int = 0
    next_number: int = 0
    reused: int = 0
    failures: int = 0
    stopped: Stop = ""
    best: Result | None = None
    seen: dict[bytes, int] = field(default_factory=dict)
    pending: dict[int, Ticket] = field(default_factory=dict)
    waiting: dict[int, TrialRecord] = field(default_factory=dict)
    uncommitted: dict[int, Result] = field(default_factory=dict)
    history: dict[int, dict[int, Mapping[str, float]]] = field(default_factory=dict)
    space_index: int = 0
    spaces: list[Space] = field(default_factory=list)
    environments: dict[str, int] = field(default_factory=dict)
    _began: float = 0.0
    _interrupts: int = 0

    REPEATS = 1000

    def restore(self) -> None:
        """Go on from what the store holds."""
        state, self.revision = self.store.state(self.name)
        self.space_index = len(self.spaces) - 1
        if state is None:
            return
        self.next_number, self.reused = state["next"], state["reused"]
        self.search.restore(state["search"], self._results)
        for digest, number in self.store.digests(self.name):
            self.seen[digest] = min(number, self.seen.get(digest, number))
        best = self.store.best(self.name)
        self.best = best.result if best else None
        for number, genome, parents, origin, space in state["pending"]:
            genome = tuple(genome)
            digest = digest_bytes(self.spaces[space].decode(genome))
            ticket = Ticket(number, genome, digest, trial_seed(self.seed, number), tuple(parents), origin, space)
            self.pending[number] = ticket
        for record in self.store.trials(self.name, list(self.pending)):  # finished, but not told when the process ended
            self.waiting[record.number] = record
            self.seen.pop(bytes.fromhex(record.digest), None)
        if self.prune is not None:
            self.history = {t.number: dict(t.steps) for t in self.store.trials(self.name)}

    def go(self, engine: Engine) -> None:
        """Run until something stops it; everything finished is committed when this returns or raises."""
        self._began = time.monotonic()
        for ticket in self.pending.values():
            if ticket.number not in self.waiting:
                engine.submit(ticket)
        self._fill(engine)
        with _interruptible(self):
            while len(self.pending) > len(self.waiting):
                for outcome in engine.wait(0.5):
                    self._finish(outcome, engine)
                self.progress.update(None, self.reused)
        if not self.stopped:
            self.stopped = "interrupted" if self._interrupts else "exhausted"

    def report(self, number: int, step: int, metrics: dict[str, float]) -> bool:
        """Take in metrics of a running trial; return whether it shall end."""
        if self.prune is None:
            return False
        self.history.setdefault(number, {})[step] = metrics
        return bool(self.prune(number, step, metrics, self.history))

    def interrupt(self) -> None:
        """Stop asking for candidates; the second time, stop at once."""
        self._interrupts += 1
        self.stopped = "interrupted"
        if self._interrupts > 1:
            raise KeyboardInterrupt
        running = len(self.pending) - len(self.waiting)
        self.progress.note(f"Interrupted: finishing {running} running trial(s). Press Ctrl-C again to stop at once.")

    # -- proposing ----------------------------------------------------------------------------------------------

    def _fill(self, engine: Engine) -> None:
        """Propose until the engine is busy, commit the proposals, then submit them: in this order, so that a
        process killed at any point proposes the same again."""
        were_waiting = len(self.waiting)
        tickets = [*self._tell_ready(engine.workers), *self._proposals(engine.workers)]
        if tickets or self.revision == 0 or len(self.waiting) < were_waiting:
            self._commit([])
        for ticket in tickets:
            engine.submit(ticket)

    def _proposals(self, workers: int) -> Iterator[Ticket]:
        while not self._is_spent() and len(self.pending) < workers:
            ticket = self._propose()
            if ticket is None:
                return
            self.pending[ticket.number] = ticket
            yield ticket

    def _is_spent(self) -> bool:
        budget, told = self.budget, self.next_number - len(self.pending)
        if self.stopped:
            return True
        if budget.trials is not None and self.next_number >= budget.trials:
            self.stopped = "trials"
        elif budget.time_s is not None and time.monotonic() - self._began >= budget.time_s:
            self.stopped = "time"
        elif self.failures >= budget.max_failures:
            self.stopped = "failures"
        elif self.best is not None and self.best.score is not None and self.best.violation == 0:
            if budget.target is not None and self.best.score >= budget.target * self.sign:
                self.stopped = "target"
            elif budget.plateau is not None and told - self.best.number > budget.plateau:
                self.stopped = "plateau"
        return bool(self.stopped)

    def _propose(self) -> Ticket | None:
        """Return a program never evaluated before, or None if none came up. Repeats are answered from memory."""
        in_flight = {ticket.digest for ticket in self.pending.values()}
        for _ in range(self.REPEATS):
            candidate = self._candidate()
            digest = self._digest(candidate.genome)
            number = self.seen.get(digest)
            if digest in in_flight:
                continue
            if number is None:
                ticket = Ticket(
                    self.next_number, candidate.genome, digest, trial_seed(self.seed, self.next_number),
                    candidate.parents, candidate.origin, self.space_index,
                )  # fmt: skip
                self.next_number += 1
                return ticket
            [known] = self._results([number])
            self.search.tell([known])
            self.reused += 1
        if not self.pending:
            self.stopped = "exhausted"
        return None

    def _candidate(self) -> Candidate:
        if self.next_number == 0 and self.start is not None and not self.pending:
            return Candidate(self.start, origin="start")
        return self.search.ask(1)[0]

    def _digest(self, genome: Genome) -> bytes:
        return digest_bytes(self.space.decode(genome))

    def _results(self, numbers: Iterable[int]) -> list[Result]:
        wanted = list(numbers)
        found = {n: self.uncommitted[n] for n in wanted if n in self.uncommitted}
        missing = [n for n in wanted if n not in found]
        if missing:
            found.update({t.number: self._adapted(t).result for t in self.store.trials(self.name, missing)})
        return [found[n] for n in wanted]

    # -- finishing ----------------------------------------------------------------------------------------------

    def _finish(self, outcome: Outcome, engine: Engine) -> None:
        ticket = self.pending[outcome.number]
        if outcome.met:
            self._grow(outcome, engine)
        record = self._record(ticket, outcome)
        self.progress.update(record, self.reused)
        self.waiting[record.number] = record
        fresh = self._tell_ready(engine.workers)
        self._commit([record])
        for new in fresh:
            engine.submit(new)

    def _tell_ready(self, workers: int) -> list[Ticket]:
        """Tell finished trials, in deterministic mode only while none before them is pending; return what follows."""
        fresh: list[Ticket] = []
        while self.waiting:
            number = next(iter(self.pending if self.deterministic else self.waiting))
            if number not in self.waiting:
                break
            self._tell(self.waiting.pop(number))
            fresh.extend(self._proposals(workers))
        return fresh

    def _tell(self, record: TrialRecord) -> None:
        del self.pending[record.number]
        self.seen.setdefault(bytes.fromhex(record.digest), record.number)
        self.failures = self.failures + 1 if record.state == "failed" else 0
        result = self.uncommitted[record.number] = record.result
        if result.score is not None and (self.best is None or result.rank > self.best.rank):
            self.best = result
        if record.state != "pruned":
            self.search.tell([result])

    def _record(self, ticket: Ticket, outcome: Outcome) -> TrialRecord:
        genome, digest, program = ticket.genome, ticket.digest, None
        if self.define_by_run:
            chosen = {**self.spaces[ticket.space].decode(genome), **{k: value for k, (_, value) in outcome.met.items()}}
            genome = self.space.encode({**self.space.decode(self.space.default()), **chosen})
            program = self.space.decode(genome)
            digest = digest_bytes(program)
        elif self.limits:
            program = self.space.decode(genome)
        values, error = outcome.values, outcome.error
        score, costs, violation = None, {}, 0.0
        if outcome.pruned:
            values = outcome.steps[-1][1] if outcome.steps else {}
        elif error is None:
            score = values[self.objective] * self.sign
        if self.limits:
            costs = self.costs(program)
            violation = total_violation(self.limits, {**values, **costs}) if error is None else 0.0
        return TrialRecord(
            number=ticket.number, state="failed" if error else "pruned" if outcome.pruned else "finished",
            genome=genome, digest=digest.hex(), seed=ticket.seed, values=values, costs=costs,
            score=score, violation=violation, parents=ticket.parents, origin=ticket.origin,
            steps=tuple(outcome.steps), started=outcome.started, seconds=outcome.seconds, worker=outcome.worker,
            environment=self._environment(outcome), space=self.space_index, error=error,
        )  # fmt: skip

    def _environment(self, outcome: Outcome) -> int:
        """Return the environment of the outcome's worker, which states its facts only when they change."""
        if outcome.facts or outcome.worker not in self.environments:
            self.environments[outcome.worker] = self.store.environment(outcome.facts)
        return self.environments[outcome.worker]

    def _commit(self, records: list[TrialRecord]) -> None:
        pending = [[t.number, t.genome, t.parents, t.origin, t.space] for t in self.pending.values()]
        state = {
            "search": self.search.state(), "next": self.next_number, "reused": self.reused, "pending": pending,
        }  # fmt: skip
        self.revision = self.store.commit(self.name, records, state, self.revision)
        self.uncommitted.clear()

    # -- choices met while running --------------------------------------------------------------------------------

    def _grow(self, outcome: Outcome, engine: Engine) -> None:
        """Add choices that a trial met to the space, and carry the search over to it."""
        known: FrozenDict = self.space.program
        new = {name: choice for name, (choice, _) in outcome.met.items() if name not in known}
        for name, (choice, _value) in list(outcome.met.items()):
            if name in known and known[name] != choice:  # two trials met different choices under one name
                outcome.error = f"ValueError: choice {name!r} was first met as {known[name]!r}, now as {choice!r}. Give each choice its own name"
                del outcome.met[name]
        if not new:
            return
        old, self.space = self.space, Space(FrozenDict({**known, **new}), self.space.feasible)
        added = self.space.default()[old.width :]
        self.search.grow(self.space, lambda genome: genome + added)
        self.space_index = self.store.add_space(self.name, dumps(self.space.program))
        self.spaces.append(self.space)
        engine.add_space(self.space)

    def _adapted(self, record: TrialRecord) -> TrialRecord:
        """Return a trial with its genome in the present space (spaces only grow at the end)."""
        missing = self.space.width - len(record.genome)
        return record if not missing else replace(record, genome=record.genome + self.space.default()[-missing:])


@contextmanager
def _interruptible(run: Run) -> Iterator[None]:
    """Let the first Ctrl-C finish what is running; only the main thread may handle signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(*_: object) -> None:
        run.interrupt()

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield
    except KeyboardInterrupt:
        run.stopped = "interrupted"
    finally:
        signal.signal(signal.SIGINT, previous)
