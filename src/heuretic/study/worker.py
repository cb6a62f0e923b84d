"""A worker: claims tickets of a shared study, has them evaluated by an engine, and reports what came out.

All it needs is the database. It may join and leave at any time; what it leaves unfinished is given to others.
"""

from __future__ import annotations

import math
import os
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from heuretic.search import Space
from heuretic.study.conditions import Retry
from heuretic.study.engines import Engine
from heuretic.study.environment import host
from heuretic.study.queue import Queue, Step
from heuretic.study.sql_store import SqlStore
from heuretic.study.store import StoreError
from heuretic.study.trial import Outcome, Ticket


class Worker:
    """Works for one study, in the thread that calls `run`.

    Args:
        store: A connection of its own. spaces: Loads the study's open program of an index.
        engine: Makes the engine, given the callback for reports.
        retry: The study's. prunes: Whether its leader wants to hear of steps. idle_s: How long to wait for a leader and for tickets before leaving.
        facts: Added to the facts about where trials ran, such as the digest of the code.
    """

    #: Seconds that an exchange with the database may take: so much work is fetched ahead for each slot, up to so many tickets.
    AHEAD_S, AHEAD = 0.02, 8
    #: Seconds between looks at an empty queue: at first, and at most; between reports of steps.
    SOON_S, LATE_S, STEPS_S = 0.005, 0.25, 0.1

    def __init__(
        self,
        store: SqlStore,
        study: str,
        engine: Callable[[Callable[[int, int, dict[str, float]], bool]], Engine],
        space: Callable[[int], Space],
        retry: Retry = Retry(),
        prunes: bool = False,
        idle_s: float = math.inf,
        facts: dict[str, str] | None = None,
    ) -> None:
        self.name = f"{host()[:6]}-{os.getpid()}-{uuid.uuid4().hex[:4]}"
        self.evaluated = 0
        self._store, self._queue, self._space, self._retry = store, Queue(store, study), space, retry
        self._idle_s, self._added, self._prunes = idle_s, facts or {}, prunes
        self._engine = engine(self._report)
        self._known_spaces = len(store.spaces(study))
        self._held: dict[int, tuple[Ticket, int]] = {}
        self._steps: list[Step] = []
        self._stop: set[int] = set()
        self._environments: dict[str, int] = {}
        self._mean_s: float | None = None

    def _report(self, number: int, step: int, metrics: dict[str, float]) -> bool:
        """Pass a report on with the next exchange; whether the trial shall end is what the leader said of earlier ones."""
        if self._prunes:
            self._steps.append((number, step, metrics))
        return number in self._stop

    def run(self, stopping: Callable[[], Literal["", "soon", "now"]] = lambda: "") -> str:
        """Work until the study is over, nothing came for `idle_s`, or `stopping` says so; return why.

        Told "soon", it finishes what is being evaluated; "now", it leaves that to others.
        """
        why, beat, last = "", -math.inf, time.monotonic()
        look_at = steps_at = told_at = 0.0
        pause_s = self.SOON_S
        done: list[Outcome] = []
        try:
            while True:
                asked = stopping()
                if asked == "now":
                    return "asked"
                if asked and not why:
                    why = "asked"
                    self._give_back(self._engine.withdraw())
                if why and not self._held and not done:
                    return why
                now = time.monotonic()
                if now - beat > self._retry.silent_s / 4:
                    beat = now
                    slots = 0 if why else self._engine.workers
                    self._queue.alive(self.name, self._retry.silent_s, slots, list(self._held))
                want = 0 if why else self._capacity() - len(self._held)
                busy = len(self._held) >= self._engine.workers  # then outcomes may wait for others
                if (
                    (done and not (busy and now < told_at + self.AHEAD_S))
                    or (not done and want > 0 and now >= look_at)
                    or (self._steps and now >= steps_at)
                ):
                    told_at = now
                    steps, self._steps, steps_at = self._steps, [], now + self.STEPS_S
                    answer = self._queue.exchange(self.name, self._retry.silent_s, done, steps, want, list(self._held))
                    self._stop.update(answer.stop)
                    for claim in answer.claims:
                        self._begin(claim.ticket, claim.attempts)
                    why = why or answer.over
                    pause_s = self.SOON_S if done or answer.claims else min(pause_s * 1.5, self.LATE_S)
                    look_at, done = now + pause_s * random.uniform(0.7, 1.0), []
                    if self._held:
                        last = now
                    elif now - last > self._idle_s:
                        why = why or "idle"
                waited = self.SOON_S if done else pause_s
                done.extend(self._finished(outcome) for outcome in self._engine.wait(waited))
        finally:
            self._leave()

    def _capacity(self) -> int:
        """How many tickets to hold: one for each slot, and a few ahead if trials are short."""
        mean_s = self._mean_s
        ahead = 0 if mean_s is None or mean_s > 1 else min(self.AHEAD, math.ceil(self.AHEAD_S / max(mean_s, 1e-6)))
        return self._engine.workers * (1 + ahead)

    def _begin(self, ticket: Ticket, attempts: int) -> None:
        while ticket.space >= self._known_spaces:
            self._engine.add_space(self._space(self._known_spaces))
            self._known_spaces += 1
        self._held[ticket.number] = (ticket, attempts)
        self._engine.submit(ticket)

    def _finished(self, outcome: Outcome) -> Outcome:
        _, attempts = self._held.pop(outcome.number)
        self._stop.discard(outcome.number)
        self.evaluated += 1
        mean_s = outcome.seconds if self._mean_s is None else self._mean_s
        self._mean_s = 0.9 * mean_s + 0.1 * outcome.seconds
        if outcome.facts or outcome.worker not in self._environments:
            self._environments[outcome.worker] = self._store.environment({**outcome.facts, **self._added})
        environment = self._environments[outcome.worker]
        return replace(
            outcome, environment=environment, worker=f"{self.name}/{outcome.worker}", facts={},
            attempts=outcome.attempts + attempts - 1,
        )  # fmt: skip

    def _give_back(self, numbers: list[int]) -> None:
        for number in numbers:
            self._held.pop(number, None)
        if numbers:
            self._queue.give_back(self.name, numbers)

    def _leave(self) -> None:
        held, self._held = list(self._held), {}
        self._engine.close()
        self._store.patience_s = min(self._store.patience_s, 5.0)
        try:
            self._queue.leave(self.name, held)
        except StoreError:
            pass  # out of reach: what was held is given to others after a while
        self._store.close()
