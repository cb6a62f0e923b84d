"""Engine `workers`: evaluations by whoever works for the study through its database, from this machine or from others."""

from __future__ import annotations

import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from heuretic.search import Space
from heuretic.study.conditions import Conditions
from heuretic.study.engines import Report
from heuretic.study.environment import host
from heuretic.study.queue import Queue
from heuretic.study.sql_store import SqlStore
from heuretic.study.store import Conflict, StoreError
from heuretic.study.trial import Outcome, Ticket


class Workers:
    """The leader's side of a shared study: proposes into the queue, takes the outcomes, looks after silent workers.

    There is one leader at a time. Another process that runs the same study stands by and takes over when the leader
    has been silent for `retry.silent_s`, or at once if it was a process of this machine that is no more.

    Args:
        local: Runs a worker in a thread of this process until told to stop (`threading.Event`); None for no such worker.
    """

    #: Seconds by which the queue is filled ahead, so that no worker waits for the leader; and by how many evaluations a slot at most.
    AHEAD_S, AHEAD = 0.1, 8
    #: Seconds between looks at the queue: after an outcome, and at most; between counts of the workers; between
    #: looks at what running trials report.
    SOON_S, LATE_S, COUNT_S, STEPS_S = 0.002, 0.1, 0.5, 0.1

    def __init__(
        self,
        store: SqlStore,
        study: str,
        report: Report,
        conditions: Conditions,
        terms: Mapping[str, Any],
        note: Callable[[str], None],
        local: Callable[[threading.Event], None] | None = None,
        trust: tuple[str, ...] = (),
    ) -> None:
        self.stopped = ""
        self._queue = Queue(store, study, trust)
        self._report, self._conditions, self._terms, self._note = report, conditions, terms, note
        self._who = f"{uuid.uuid4().hex[:12]}@{host()}:{os.getpid()}"
        self._silent_s = conditions.retry.silent_s
        self._slots = 0
        self._mean_s: float | None = None
        self._renewed = self._counted = -math.inf
        self._steps_at = 0.0
        self._over: list[int] = []
        self._pause_s = self.SOON_S
        self._alone_since: float | None = time.monotonic()
        self._stopping = threading.Event()
        self._trouble: list[BaseException] = []
        self._thread: threading.Thread | None = None
        if local is not None:
            self._thread = threading.Thread(target=self._work, args=(local,), name="heuretic-worker", daemon=True)
            self._thread.start()

    def _work(self, local: Callable[[threading.Event], None]) -> None:
        try:
            local(self._stopping)
        except BaseException as error:
            self._trouble.append(error)

    # -- leading ------------------------------------------------------------------------------------------------------------

    def lead(self) -> bool:
        """Wait until this process leads the study; return False if another leader has ended it in the meantime, for the
        reason that is then in `stopped`."""
        told = False
        while not self._renew():
            self._raise_trouble()
            if not told:
                self._note("Another process leads this study; this one stands by, and takes over if that one ends.")
                told = True
            time.sleep(min(0.5, self._silent_s / 4))
            standing = self._queue.standing()
            if standing.stopped and not standing.leader:
                self.stopped = standing.stopped
                return False
        self._queue.begin()
        return True

    def _renew(self) -> bool:
        self._renewed = time.monotonic()
        dead = self._dead_leader()
        return self._queue.lead(self._who, self._silent_s, self._terms, dead or self._who)

    def _dead_leader(self) -> str:
        """Return the leader if it was a process of this machine that is no more."""
        leader = self._queue.standing().leader
        where, _, pid = leader.partition("@")[2].partition(":")
        if not leader or leader == self._who or where != host():
            return ""
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return leader
        except OSError:
            pass
        return ""

    # -- the engine -----------------------------------------------------------------------------------------------------------

    @property
    def workers(self) -> int:
        """How many tickets there should be: one for each slot of the workers that are alive, and some ahead if trials are short."""
        now = time.monotonic()
        if now - self._counted >= self.COUNT_S:
            self._counted, self._slots = now, self._queue.slots()
            self._look_for_workers()
        mean_s = self._mean_s if self._mean_s is not None else self.AHEAD_S
        ahead = min(self.AHEAD, self.AHEAD_S / max(mean_s, 1e-6))
        return max(1, self._slots) + math.ceil(self._slots * ahead)

    def _look_for_workers(self) -> None:
        if self._slots:
            self._alone_since = None
            return
        now = time.monotonic()
        self._alone_since = self._alone_since or now
        if now - self._alone_since > 10:
            self._note(
                f"No worker is alive. Start some: heuretic worker {self._queue.store.url} --name {self._queue.study}"
            )
            self._alone_since = math.inf

    def submit(self, ticket: Ticket) -> None:
        """Nothing to do: the commit that proposed the ticket has put it where workers find it."""

    def wait(self, timeout_s: float) -> list[Outcome]:
        until = time.monotonic() + timeout_s
        if self._over:  # recorded by now
            self._queue.forget_steps(self._over)
            self._over = []
        while True:
            self._raise_trouble()
            now = time.monotonic()
            if now - self._renewed > self._silent_s / 4:
                self._look_after()
            if now >= self._steps_at:
                self._pass_on_steps()
            outcomes = self._queue.outcomes()
            if outcomes:
                self._pass_on_steps()  # the last ones came with the outcomes
                self._pause_s = self.SOON_S
                for outcome in outcomes:
                    self._mean_s = outcome.seconds + 0.9 * ((self._mean_s or outcome.seconds) - outcome.seconds)
                if self._terms["prunes"]:
                    self._over = [outcome.number for outcome in outcomes]
                return outcomes
            if now >= until:
                return []
            time.sleep(min(self._pause_s, max(0.0, until - now)))
            self._pause_s = min(self._pause_s * 1.5, self.LATE_S)

    def _look_after(self) -> None:
        """Stay the leader, and give the tickets of silent workers to others. Not right after the database was away: then
        everybody was silent."""
        if not self._renew():
            raise Conflict(f"study {self._queue.study!r} is led by another process now")
        if time.monotonic() - self._queue.store.connected > self._silent_s:
            self._queue.recover(self._conditions.retry)

    def _pass_on_steps(self) -> None:
        self._steps_at = time.monotonic() + self.STEPS_S
        if not self._terms["prunes"]:
            return
        ends = {number for number, step, metrics in self._queue.steps() if self._report(number, step, dict(metrics))}
        if ends:
            self._queue.stop(ends)

    def add_space(self, space: Space) -> None:
        """Nothing to do: workers find the space in the store."""

    def withdraw(self) -> list[int]:
        return self._queue.withdraw()

    def end(self, stopped: str) -> None:
        """Lead no longer, and tell the workers why."""
        self._queue.release(self._who, stopped)

    def close(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(30)
        store = self._queue.store
        patience_s, store.patience_s = store.patience_s, 2.0
        try:
            self._queue.release(self._who, "")
        except StoreError:
            pass  # out of reach: others wait until this leader counts as silent
        finally:
            store.patience_s = patience_s

    def _raise_trouble(self) -> None:
        if self._trouble:
            raise self._trouble[0]
