"""The run loop: proposes candidates, has them evaluated, tells the search, and commits each step."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from heuretic.search import Candidate, Genome, Limit, Pruning, Result, Search, Space
from heuretic.search.limits import total_violation
from heuretic.search.pareto import Front
from heuretic.study.engines import Engine
from heuretic.study.progress import Progress
from heuretic.study.records import Objective, TrialRecord
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
    spaces: list[Space]
    begin: Callable[[Space], Search]
    adapt: Callable[[Genome, int, int], Genome]
    seed: int
    objectives: tuple[Objective, ...]
    limits: tuple[Limit, ...]
    costs: Callable[[Any], dict[str, float]]
    budget: Budget
    define_by_run: bool
    deterministic: bool
    prune: Prune | None
    pruning: Pruning | None
    start: Genome | None
    earlier: Sequence[TrialRecord]
    progress: Progress
    facts: Mapping[str, str]
    revision: int = 0
    next_number: int = 0
    reused: int = 0
    failures: int = 0
    stopped: Stop = ""
    best: Result | None = None
    front: Front = field(default_factory=Front)
    improved: int = -1
    seen: dict[bytes, int] = field(default_factory=dict)
    pending: dict[int, Ticket] = field(default_factory=dict)
    waiting: dict[int, TrialRecord] = field(default_factory=dict)
    uncommitted: dict[int, Result] = field(default_factory=dict)
    history: dict[int, dict[int, Mapping[str, float]]] = field(default_factory=dict)
    environments: dict[str, int] = field(default_factory=dict)
    search: Search = field(init=False)
    space_index: int = 0
    dequeued: int = 0
    _queue: deque[Genome] = field(default_factory=deque)
    _polled: float = -math.inf
    _rest: Iterator[Genome] | None = None
    _began: float = 0.0
    _interrupts: int = 0

    #: Proposals in a row that repeat earlier ones before what is left is listed, and the size up to which it is;
    #: seconds between looks for hand-picked programs.
    REPEATS, LISTED, POLL_S = 1000, 1_000_000, 0.5

    @property
    def space(self) -> Space:
        """The space that is searched now."""
        return self.spaces[self.space_index]

    def restore(self) -> None:
        """Go on from what the store holds."""
        state, self.revision = self.store.state(self.name)
        newest = len(self.spaces) - 1
        # The state is of the space it was written in; choices added since then are brought in afterwards.
        self.space_index = newest if state is None else state.get("space", newest)
        self.search = self.begin(self.space)
        if state is None:
            if self.earlier:
                self.search.tell([record.result for record in self.earlier])
                self.revision = self.store.commit(self.name, self.earlier, self._state(), self.revision)
            return
        self.next_number, self.reused, self.dequeued = state["next"], state["reused"], state.get("dequeued", 0)
        self.search.restore(state["search"], self._results)
        if newest > self.space_index:
            self._move_to(newest)
        for record in (
            self.store.trials(self.name) if len(self.objectives) > 1 else filter(None, [self.store.best(self.name)])
        ):
            self._improve(record.result)
        for digest, number in self.store.digests(self.name):
            self.seen[digest] = min(number, self.seen.get(digest, number))
        pending = self.store.tickets(self.name)
        for record in self.store.trials(self.name, state["waiting"]):  # finished, but not told when the process ended
            self.waiting[record.number] = record
            digest = bytes.fromhex(record.digest)
            if self.seen.get(digest) == record.number:
                del self.seen[digest]
            pending.append(Ticket(record.number, record.genome, digest, record.seed, space=record.space))
        for ticket in sorted(pending, key=lambda ticket: ticket.number):
            genome = self.adapt(ticket.genome, ticket.space, self.space_index)
            self.pending[ticket.number] = replace(
                ticket, genome=genome, digest=self._digest(genome), space=self.space_index
            )
        if self.prune is not None or self.pruning is not None:
            for record in self.store.trials(self.name):
                for step, metrics in record.steps:
                    self.report(record.number, step, dict(metrics))

    def go(self, engine: Engine) -> None:
        """Run until something stops it; everything finished is committed when this returns or raises."""
        self._began = time.monotonic()
        for ticket in self.pending.values():
            if ticket.number not in self.waiting:
                engine.submit(ticket)
        self._fill(engine)
        withdrawn: set[int] = set()
        with _interruptible(self):
            while self.pending.keys() - self.waiting.keys() - withdrawn:
                self._finish(engine.wait(0.5), engine)
                if self.stopped not in ("", "trials", "exhausted"):
                    withdrawn.update(engine.withdraw())  # they stay proposed, for the next run
                self._show(None)
        if not self.stopped:
            self.stopped = "interrupted" if self._interrupts else "exhausted"

    def report(self, number: int, step: int, metrics: dict[str, float]) -> bool:
        """Take in metrics of a running trial; return whether it shall end."""
        if self.pruning is not None:
            scores = tuple(metrics[o.name] * o.sign for o in self.objectives)
            return bool(self.pruning.stop(number, step, scores))
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
            self._commit([], tickets)
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
            if budget.target is not None and self.best.score >= budget.target * self.objectives[0].sign:
                self.stopped = "target"
            elif budget.plateau is not None and told - self.improved > budget.plateau:
                self.stopped = "plateau"
        return bool(self.stopped)

    def _propose(self) -> Ticket | None:
        """Return a program never evaluated before, or None if none came up. Repeats are answered from memory."""
        in_flight = {ticket.digest for ticket in self.pending.values()}
        for _ in range(self.REPEATS):
            candidate = self._candidate()
            if candidate is None:
                if not self.pending:
                    self.stopped = "exhausted"
                return None
            digest = self._digest(candidate.genome)
            if digest in in_flight:
                continue
            number = None if candidate.again else self.seen.get(digest)
            if number is None:
                return self._ticket(candidate, digest)
            [known] = self._results([number])
            self.search.tell([replace(known, genome=candidate.genome)])
            self.reused += 1
        return self._unseen(in_flight)

    def _ticket(self, candidate: Candidate, digest: bytes) -> Ticket:
        number, self.next_number = self.next_number, self.next_number + 1
        return Ticket(
            number, candidate.genome, digest, trial_seed(self.seed, number), candidate.parents, candidate.origin,
            self.space_index, candidate.fingerprint,
        )  # fmt: skip

    def _candidate(self) -> Candidate | None:
        if self.next_number == 0 and self.start is not None and not self.pending:
            return Candidate(self.start, origin="start")
        self._look_for_hand_picked()
        if self._queue:
            self.dequeued += 1
            return Candidate(self._queue.popleft(), origin="hand-picked")
        asked = self.search.ask(1)
        return asked[0] if asked else None

    def _look_for_hand_picked(self) -> None:
        now = time.monotonic()
        if now - self._polled >= self.POLL_S:
            self._polled = now
            for _, space, genome in self.store.enqueued(self.name, self.dequeued + len(self._queue)):
                self._queue.append(self.adapt(genome, space, self.space_index))

    def _unseen(self, in_flight: set[bytes]) -> Ticket | None:
        """Return a program that the search keeps missing, from a list of the space, if that is small enough."""
        if self.define_by_run or self.space.size > self.LISTED:
            if not self.pending:
                self.stopped = "exhausted"
            return None
        if self._rest is None:
            self._rest = self.space.genomes()
        for genome in self._rest:
            digest = self._digest(genome)
            if digest not in self.seen and digest not in in_flight:
                return self._ticket(Candidate(genome, origin="listed"), digest)
        if not self.pending:
            self.stopped = "exhausted"
        return None

    def _digest(self, genome: Genome) -> bytes:
        return digest_bytes(self.space.decode(genome))

    def _results(self, numbers: Iterable[int]) -> list[Result]:
        wanted = list(numbers)
        found = {n: self.uncommitted[n] for n in wanted if n in self.uncommitted}
        missing = [n for n in wanted if n not in found]
        if missing:
            found.update({t.number: self._adapted(t).result for t in self.store.trials(self.name, missing)})
        return [found[n] for n in wanted if n in found]

    # -- finishing ----------------------------------------------------------------------------------------------

    def _finish(self, outcomes: Sequence[Outcome], engine: Engine) -> None:
        """Record what ended and propose what comes next, in one commit."""
        records: list[TrialRecord] = []
        fresh: list[Ticket] = []
        for outcome in outcomes:
            if outcome.met:
                self._grow(outcome, engine)
            record = self._record(self.pending[outcome.number], outcome)
            records.append(record)
            self.waiting[record.number] = record
            self._show(record)
            fresh.extend(self._tell_ready(engine.workers))
        fresh.extend(self._proposals(engine.workers))
        if records or fresh:
            self._commit(records, fresh)
        for ticket in fresh:
            engine.submit(ticket)

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
        self._improve(result)
        self.search.tell([result])

    def _improve(self, result: Result) -> None:
        if result.score is None:
            return
        if self.best is None or result.rank > self.best.rank:
            self.best = result
            if not result.scores:
                self.improved = result.number
        if joins(self.front, result):
            self.improved = result.number

    def _show(self, record: TrialRecord | None) -> None:
        equivalent = getattr(self.search, "reused", 0)
        self.progress.update(record, self.reused + equivalent, equivalent, len(self.front))

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
        costs = self.costs(program) if self.limits else {}
        scores: tuple[float, ...] = ()
        if outcome.pruned:
            values = outcome.steps[-1][1] if outcome.steps else {}
        elif error is None:
            try:
                values = with_rewards(self.objectives, values, costs)
                scores = tuple(values[o.name] * o.sign for o in self.objectives)
            except Exception as raised:
                error = f"{type(raised).__name__}: {raised}"
        violation = total_violation(self.limits, {**values, **costs}) if self.limits and error is None else 0.0
        fingerprint = None if ticket.fingerprint is None else ticket.fingerprint.hex()
        return TrialRecord(
            number=ticket.number, state="failed" if error else "pruned" if outcome.pruned else "finished",
            genome=genome, digest=digest.hex(), seed=ticket.seed, values=values, costs=costs,
            score=scores[0] if scores else None, scores=scores if len(scores) > 1 else (), violation=violation,
            fingerprint=fingerprint, artifacts=tuple(outcome.artifacts), energy=outcome.energy, attempts=outcome.attempts,
            parents=ticket.parents, origin=ticket.origin,
            steps=tuple(outcome.steps), started=outcome.started, seconds=outcome.seconds, worker=outcome.worker,
            environment=self._environment(outcome), space=self.space_index, error=error,
        )  # fmt: skip

    def _environment(self, outcome: Outcome) -> int:
        """Return the environment of the outcome's worker, which states its facts only when they change."""
        if outcome.environment is not None:
            return outcome.environment
        if outcome.facts or outcome.worker not in self.environments:
            self.environments[outcome.worker] = self.store.environment({**outcome.facts, **self.facts})
        return self.environments[outcome.worker]

    def _commit(self, records: Sequence[TrialRecord], tickets: Sequence[Ticket]) -> None:
        self.revision = self.store.commit(self.name, records, self._state(), self.revision, tickets)
        self.uncommitted.clear()

    def _state(self) -> dict[str, Any]:
        return {
            "search": self.search.state(), "next": self.next_number, "reused": self.reused, "waiting": list(self.waiting),
            "equivalent": getattr(self.search, "reused", 0), "space": self.space_index, "dequeued": self.dequeued,
        }  # fmt: skip

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
        space = Space(FrozenDict({**known, **new}), self.space.feasible, self.space.violation)
        index = self.store.add_space(self.name, dumps(space.program))
        self.spaces.append(space)
        self._move_to(index)
        engine.add_space(space)

    def _move_to(self, index: int) -> None:
        """Go on in a larger space."""
        before, self.space_index = self.space_index, index
        self.search.grow(self.space, lambda genome: self.adapt(genome, before, index))
        self._queue = deque(self.adapt(genome, before, index) for genome in self._queue)
        self._rest = None

    def _adapted(self, record: TrialRecord) -> TrialRecord:
        """Return a trial with its genome in the present space."""
        if record.space == self.space_index:
            return record
        return replace(record, genome=self.adapt(record.genome, record.space, self.space_index))


def joins(front: Front, result: Result) -> bool:
    """Take in a result of several objectives; return whether it is on the front, where of equals the first stays."""
    is_new = result.violation < front.violation or result.scores not in front.points()
    return bool(result.scores) and is_new and front.add(result.number, result.scores, result.violation)


def with_rewards(
    objectives: Sequence[Objective], values: Mapping[str, float], costs: Mapping[str, float]
) -> dict[str, float]:
    """Return the metrics of a trial with its rewards.

    Raises: whatever a reward raises; ValueError if it is not finite.
    """
    metrics = dict(values)
    for objective in objectives:
        if objective.reward is not None:
            reward = float(objective.reward({**values, **costs}))
            if not math.isfinite(reward):
                raise ValueError(f"{objective.name} must be finite, got {reward} from {objective.reward!r}")
            metrics[objective.name] = reward
    return metrics


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
