"""The tickets of a shared study: what its leader and its workers tell each other, through the database alone.

A worker claims tickets (`FOR UPDATE SKIP LOCKED`), says from time to time that it is alive, and reports outcomes; the
first report of a trial counts, so that reporting twice is reporting once. The leader, of which there is one at a time,
takes the outcomes, and gives the tickets of silent workers to others. All times are by the database's clock: nobody's
own clock matters.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from heuretic.study.conditions import Retry
from heuretic.study.records import Artifact
from heuretic.study.sql_store import SqlStore, as_ticket, clean
from heuretic.study.tables import code, reports, sharing, tickets, workers
from heuretic.study.trial import Outcome, Ticket
from heuretic.symbolic import FrozenDict, dumps, loads

#: (number, step, metrics) of a trial that is running.
Step = tuple[int, int, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a shared study stands. `leader`: who leads it, "" if nobody does now. `terms`: what workers must know; empty if it
    was never shared. `stopped`: why its last leader ended it, "" while it goes on."""

    leader: str
    terms: Mapping[str, Any]
    stopped: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A ticket and the number of times that it has been begun, this time included."""

    ticket: Ticket
    attempts: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker gets for what it told: new tickets, which of its trials shall end, and why the study is over, if it is."""

    claims: Sequence[Claim]
    stop: Collection[int]
    over: str


class Queue:
    """The tickets of one study.

    Args:
        trust: Packages that choices met in a worker (define-by-run) may name.
    """

    def __init__(self, store: SqlStore, study: str, trust: Collection[str] = ()) -> None:
        self.store, self.study, self._trust = store, study, trust
        self._key = store.id(study)
        if store.dialect == "sqlite":
            now = (sa.func.julianday("now") - 2440587.5) * 86400.0
        else:
            now = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
        self._now: sa.ColumnElement[float] = now
        self._mine = tickets.c.study_id == self._key
        self._one = (self._mine, tickets.c.number == sa.bindparam("n"))
        self._tell = (
            tickets.update()
            .where(*self._one, tickets.c.status != "done")
            .values(status="done", outcome=sa.bindparam("told"), worker=sa.bindparam("by"))
        )
        picked = (
            sa.select(tickets.c.number)
            .where(self._mine, tickets.c.status == "open", tickets.c.due <= now)
            .order_by(tickets.c.number)
            .limit(sa.bindparam("most"))
            .with_for_update(skip_locked=True)
            .cte("picked")
        )
        self._claim = (
            tickets.update()
            .where(self._mine, tickets.c.number.in_(sa.select(picked.c.number)))
            .values(
                status="claimed", worker=sa.bindparam("by"), attempts=tickets.c.attempts + 1,
                due=now + sa.bindparam("silent", type_=sa.Double),
            )
            .returning(
                tickets.c.number, tickets.c.genome, tickets.c.seed, tickets.c.parents, tickets.c.origin, tickets.c.space,
                tickets.c.fingerprint, tickets.c.attempts,
            )
        )  # fmt: skip
        self._done = sa.select(tickets.c.number, tickets.c.outcome).where(self._mine, tickets.c.status == "done")
        self._standing = sa.select(
            sa.case((sharing.c.until > now, sharing.c.leader), else_="").label("leader"), sharing.c.stopped
        ).where(sharing.c.study_id == self._key)
        live = sa.select(sa.func.coalesce(sa.func.sum(workers.c.slots), 0)).where(
            workers.c.study_id == self._key, workers.c.until > now
        )
        self._slots = live

    # -- the leader -----------------------------------------------------------------------------------------------------

    def lead(self, who: str, silent_s: float, terms: Mapping[str, Any], instead_of: str = "") -> bool:
        """Become the leader, or stay it; return whether it worked. Only a leader that fell silent is replaced, or the one that the
        caller knows to be dead (`instead_of`)."""
        free = sa.or_(
            sharing.c.leader == who, sharing.c.leader == "", sharing.c.until < self._now, sharing.c.leader == instead_of
        )
        change = (
            sharing.update()
            .where(sharing.c.study_id == self._key, free)
            .values(leader=who, until=self._now + silent_s, terms=json.dumps(terms), stopped="")
        )
        return self.store.transact(lambda connection: connection.execute(change).rowcount == 1)

    def begin(self) -> None:
        """Offer again what an earlier leader withdrew, take all reports of running trials anew, and clear away what
        trials that are recorded and workers that are gone left behind."""
        running = sa.select(tickets.c.number).where(self._mine)
        ours, gone = reports.c.study_id == self._key, workers.c.until < self._now

        def work(connection: sa.Connection) -> None:
            connection.execute(tickets.update().where(self._mine, tickets.c.status == "held").values(status="open"))
            connection.execute(reports.delete().where(ours, reports.c.number.not_in(running)))
            connection.execute(reports.update().where(ours).values(taken=False))
            connection.execute(workers.delete().where(workers.c.study_id == self._key, gone))

        self.store.transact(work)

    def release(self, who: str, stopped: str) -> None:
        """Lead no longer; if `stopped` says why, the study is over for its workers too."""
        change = sharing.update().where(sharing.c.study_id == self._key, sharing.c.leader == who)
        self.store.transact(lambda connection: connection.execute(change.values(leader="", until=0, stopped=stopped)))

    def outcomes(self) -> list[Outcome]:
        """Return what was reported of tickets that are no trials yet."""
        found = self.store.transact(
            lambda connection: connection.execute(self._done.order_by(tickets.c.number).limit(500)).all(), write=False
        )
        return [_outcome(row.number, json.loads(row.outcome), self._trust) for row in found]

    def slots(self) -> int:
        """Return how many evaluations the workers that are alive can run at a time."""
        return int(self.store.transact(lambda connection: connection.execute(self._slots).scalar_one(), write=False))

    def alive_workers(self) -> dict[str, int]:
        """Return the workers that are alive, with the number of their slots."""
        query = sa.select(workers.c.id, workers.c.slots).where(
            workers.c.study_id == self._key, workers.c.until > self._now
        )
        found = self.store.transact(
            lambda connection: connection.execute(query.order_by(workers.c.id)).all(), write=False
        )
        return {row.id: row.slots for row in found}

    def counts(self) -> dict[str, int]:
        """Return the number of tickets by status: open, held (until the next run), claimed, done."""
        query = sa.select(tickets.c.status, sa.func.count()).where(self._mine).group_by(tickets.c.status)
        found = self.store.transact(lambda connection: connection.execute(query).all(), write=False)
        return {row.status: row[1] for row in found}

    def recover(self, retry: Retry) -> int:
        """Offer the tickets of silent workers again, after a pause; those begun too often become failures. Return how many."""
        silent = (self._mine, tickets.c.status == "claimed", tickets.c.due < self._now)
        query = sa.select(tickets.c.number, tickets.c.attempts, tickets.c.worker).where(*silent)
        found = self.store.transact(lambda connection: connection.execute(query).all(), write=False)
        if not found:
            return 0
        still = (*self._one, tickets.c.attempts == sa.bindparam("a"), *silent[1:])
        offer = tickets.update().where(*still)
        again = [
            {"n": row.number, "a": row.attempts, "pause": retry.delay_s(row.attempts)}
            for row in found
            if row.attempts < retry.attempts
        ]
        given_up = [
            {"n": row.number, "a": row.attempts, "told": _given_up(row, retry)}
            for row in found
            if row.attempts >= retry.attempts
        ]

        def work(connection: sa.Connection) -> None:
            if again:
                due = self._now + sa.bindparam("pause", type_=sa.Double)
                connection.execute(offer.values(status="open", worker="", due=due, stop=False), again)
            if given_up:
                connection.execute(offer.values(status="done", outcome=sa.bindparam("told")), given_up)

        self.store.transact(work)
        return len(found)

    def withdraw(self) -> list[int]:
        """Take back the tickets that no worker has claimed, until `begin`; return their numbers."""
        change = tickets.update().where(self._mine, tickets.c.status == "open").values(status="held")
        return list(
            self.store.transact(
                lambda connection: connection.execute(change.returning(tickets.c.number)).scalars().all()
            )
        )

    def steps(self) -> list[Step]:
        """Return what running trials reported since the last call, in order."""
        waiting = sa.select(reports.c.id).where(reports.c.study_id == self._key, sa.not_(reports.c.taken)).limit(1)
        change = reports.update().where(reports.c.study_id == self._key, sa.not_(reports.c.taken)).values(taken=True)
        if not self.store.transact(lambda connection: connection.execute(waiting).all(), write=False):
            return []
        found = self.store.transact(
            lambda connection: connection.execute(
                change.returning(reports.c.id, reports.c.number, reports.c.step, reports.c.metrics)
            ).all()
        )
        return [(row.number, row.step, json.loads(row.metrics)) for row in sorted(found, key=lambda row: row.id)]

    def stop(self, numbers: Collection[int]) -> None:
        """Have running trials end at their next report."""
        change = tickets.update().where(*self._one).values(stop=True)
        self.store.transact(lambda connection: connection.execute(change, [{"n": number} for number in numbers]))

    def forget_steps(self, numbers: Collection[int]) -> None:
        """Drop what trials that are over reported on the way."""
        change = reports.delete().where(reports.c.study_id == self._key, reports.c.number.in_(numbers))
        self.store.transact(lambda connection: connection.execute(change))

    # -- workers ----------------------------------------------------------------------------------------------------------

    def standing(self) -> Standing:
        """Return how the study stands."""
        query = self._standing.add_columns(sharing.c.terms)
        found = self.store.transact(lambda connection: connection.execute(query).all(), write=False)
        if not found:
            return Standing("", {}, "")
        return Standing(found[0].leader, json.loads(found[0].terms), found[0].stopped)

    def exchange(
        self, worker: str, silent_s: float, outcomes: Sequence[Outcome] = (), steps: Sequence[Step] = (), want: int = 0,
        running: Collection[int] = (),
    ) -> Answer:  # fmt: skip
        """Report outcomes and steps, claim up to `want` tickets and hear which of the `running` trials shall end."""
        told = [{"n": o.number, "told": _text(o), "by": worker} for o in outcomes]
        said = [
            {"study_id": self._key, "number": number, "step": step, "metrics": json.dumps(dict(metrics))}
            for number, step, metrics in steps
        ]

        def work(connection: sa.Connection) -> Answer:
            if told:
                connection.execute(self._tell, told)
            if said:
                connection.execute(reports.insert(), said)
            claims: list[Claim] = []
            if want > 0:
                rows = connection.execute(self._claim, {"most": want, "by": worker, "silent": silent_s}).all()
                claims = [Claim(as_ticket(row), row.attempts) for row in sorted(rows, key=lambda row: row.number)]
            stop: list[int] = []
            if running and said:
                query = sa.select(tickets.c.number).where(self._mine, tickets.c.worker == worker, tickets.c.stop)
                stop = list(connection.execute(query).scalars().all())
            if claims or want <= 0:
                return Answer(claims, stop, "")
            standing = connection.execute(self._standing).one()
            return Answer(claims, stop, "" if standing.leader else standing.stopped)

        return self.store.transact(work)

    def alive(self, worker: str, silent_s: float, slots: int, running: Collection[int]) -> None:
        """Say that a worker is alive, with so many slots, and still evaluates the tickets `running`."""
        insert = (postgresql if self.store.dialect == "postgresql" else sqlite).insert(workers)
        row = insert.values(study_id=self._key, id=worker, slots=slots, until=self._now + silent_s)
        here = row.on_conflict_do_update(
            index_elements=[workers.c.study_id, workers.c.id], set_={"slots": slots, "until": self._now + silent_s}
        )
        mine = (self._mine, tickets.c.worker == worker, tickets.c.status == "claimed", tickets.c.number.in_(running))

        def work(connection: sa.Connection) -> None:
            connection.execute(here)
            if running:
                connection.execute(tickets.update().where(*mine).values(due=self._now + silent_s))

        self.store.transact(work)

    def give_back(self, worker: str, numbers: Collection[int]) -> None:
        """Offer claimed tickets again, as if they had never been claimed."""
        mine = (self._mine, tickets.c.worker == worker, tickets.c.status == "claimed", tickets.c.number.in_(numbers))
        change = {"status": "open", "worker": "", "due": 0.0, "stop": False, "attempts": tickets.c.attempts - 1}
        self.store.transact(lambda connection: connection.execute(tickets.update().where(*mine).values(change)))

    def leave(self, worker: str, unfinished: Collection[int] = ()) -> None:
        """Give back what is unfinished, and be a worker of this study no longer."""
        if unfinished:
            self.give_back(worker, unfinished)
        gone = workers.delete().where(workers.c.study_id == self._key, workers.c.id == worker)
        self.store.transact(lambda connection: connection.execute(gone))

    # -- code -------------------------------------------------------------------------------------------------------------

    def keep_code(self, digest: str, files: Mapping[str, bytes]) -> None:
        """Keep the files that the evaluation consists of, for workers that are told to run them."""
        insert = (postgresql if self.store.dialect == "postgresql" else sqlite).insert(code)
        text = json.dumps({path: content.decode("latin-1") for path, content in files.items()})
        row = insert.values(digest=digest, files=text).on_conflict_do_nothing()
        self.store.transact(lambda connection: connection.execute(row))

    def kept_code(self, digest: str) -> dict[str, bytes]:
        """Return the files kept under a digest; none if there are none."""
        query = sa.select(code.c.files).where(code.c.digest == digest)
        found = self.store.transact(lambda connection: connection.execute(query).all(), write=False)
        return {path: text.encode("latin-1") for path, text in json.loads(found[0].files).items()} if found else {}


def _given_up(row: Any, retry: Retry) -> str:
    error = f"WorkerDied: {row.attempts} workers in turn fell silent in this trial (last: {row.worker})"
    return _text(Outcome(row.number, time.time(), error=error, worker=row.worker, attempts=row.attempts))


def _text(outcome: Outcome) -> str:
    content = {
        name: value for name, value in asdict(replace(outcome, met={})).items() if name not in ("number", "facts")
    }
    if outcome.error is not None:
        content["error"] = clean(outcome.error)
    content["met"] = dumps(FrozenDict(outcome.met)) if outcome.met else ""
    return json.dumps(content)


def _outcome(number: int, content: dict[str, Any], trust: Collection[str]) -> Outcome:
    met = loads(content["met"], resolve_names=bool(trust), trust=trust) if content["met"] else {}
    content["met"] = {name: (choice, value) for name, (choice, value) in dict(met).items()}
    content["steps"] = [(step, metrics) for step, metrics in content["steps"]]
    content["artifacts"] = [Artifact(**each) for each in content["artifacts"]]
    return Outcome(number, **content)
