"""Studies in an SQL database, through SQLAlchemy Core: SQLite (WAL), or PostgreSQL through psycopg 3.

Durability on SQLite: `synchronous=FULL` by default, so each committed trial survives a power cut at the price of one
fsync a trial. `sqlite:///study.db?synchronous=NORMAL` skips that fsync: a killed process still loses nothing, a power
cut may lose the last moments (WAL never corrupts the file). On PostgreSQL the server's settings decide.

A connection that is lost is made again, and what was under way is done again: every write says what it replaces, so
that doing it twice is doing it once.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError

from heuretic.search import Genome
from heuretic.study.records import Artifact, StudyRecord, TrialRecord
from heuretic.study.store import Conflict, RunState, StoreError
from heuretic.study.tables import (
    SCHEMA,
    enqueued,
    environments,
    metadata,
    runs,
    schema,
    sharing,
    spaces,
    studies,
    tickets,
    trials,
)  # fmt: skip
from heuretic.study.trial import Ticket

T = TypeVar("T")
_POSTGRESQL = ("postgresql", "postgres")
#: Where the tables are in a PostgreSQL database. Not "heuretic": a user of that name would find them before other tables.
_SCHEMA_NAME = "heuretic_store"


class SqlStore:
    """Studies in the database at an SQLAlchemy URL. One connection, opened when first needed, for one thread at a time.

    Args:
        patience_s: How long to try to reach a database again that was reached before.
    """

    def __init__(self, url: str, patience_s: float = 300.0) -> None:
        shown = "sqlite:///study.db or postgresql://user@host/database"
        try:
            parsed = sa.make_url(url)
        except ArgumentError:
            raise StoreError(f"store must be a URL such as {shown}, got {_without_password(url)!r}") from None
        self.dialect = "postgresql" if parsed.get_backend_name() in _POSTGRESQL else parsed.get_backend_name()
        if self.dialect not in ("sqlite", "postgresql"):
            raise StoreError(f"store must be {shown}, got {parsed.render_as_string()}")
        self.url, self.patience_s = parsed.render_as_string(hide_password=True), patience_s
        #: The URL with everything in it, for other connections of this process; never shown or stored.
        self.secret_url = url
        self._engine = self._sqlite(parsed) if self.dialect == "sqlite" else self._postgresql(parsed)
        self._open: sa.Connection | None = None
        self._ids: dict[str, int] = {}
        self._was_open = False
        #: Called with lines for people, such as that the database is out of reach.
        self.note: Callable[[str], None] = lambda line: None
        #: When the connection was last made, by `time.monotonic`.
        self.connected = 0.0

    def _sqlite(self, url: sa.URL) -> sa.Engine:
        synchronous = str(url.query.get("synchronous", "FULL")).upper()
        if synchronous not in ("OFF", "NORMAL", "FULL", "EXTRA"):
            raise StoreError(f"synchronous must be OFF, NORMAL, FULL or EXTRA, got {synchronous!r} in {self.url!r}")
        engine = sa.create_engine(
            url.difference_update_query(["synchronous"]), poolclass=sa.pool.StaticPool,
            connect_args={"timeout": 60, "check_same_thread": False, "isolation_level": None},
        )  # fmt: skip

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _: object) -> None:
            for pragma in ("journal_mode=WAL", f"synchronous={synchronous}", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            # Taking the write lock at once: a transaction that reads first could not get it once another has written.
            connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")

        return engine

    def _postgresql(self, url: sa.URL) -> sa.Engine:
        try:
            # Tables in a schema of our own: names like "studies" are common, Optuna's tables have them too.
            options = f"{url.query.get('options', '')} -csearch_path={_SCHEMA_NAME}".strip()
            defaults = {"connect_timeout": "10", "application_name": "heuretic"}
            query = {**defaults, **url.query, "options": options}
            return sa.create_engine(url.set(drivername="postgresql+psycopg", query=query), poolclass=sa.pool.NullPool)
        except ImportError as error:
            raise StoreError("a PostgreSQL store needs psycopg. Try: pip install 'heuretic[postgres]'") from error

    # -- connecting, and connecting again ---------------------------------------------------------------------------

    @property
    def _connection(self) -> sa.Connection:
        if self._open is None:
            connection = self._engine.connect()
            try:
                with connection.execution_options(begin="IMMEDIATE").begin():
                    self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._open, self._was_open, self.connected = connection, True, time.monotonic()
        return self._open

    def _prepare(self, connection: sa.Connection) -> None:
        """Create the tables in an empty database, bring older tables up to date; refuse those of a newer version."""
        if self._was_open:
            return
        if (
            self.dialect == "postgresql"
        ):  # of several processes that find it empty or old, one works and the others wait
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7236846)")
        look = sa.inspect(connection)
        if not look.has_table("heuretic_schema"):
            foreign = sorted(set(look.get_table_names()) & set(metadata.tables))
            if foreign:
                raise StoreError(
                    f"{self.url} must be empty or a store of heuretic, got tables of another program ({', '.join(foreign)}). "
                    f"Give another place; a study of Optuna is read by heuretic study import"
                )
            if self.dialect == "postgresql":
                connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA_NAME}")
            metadata.create_all(connection)
            connection.execute(schema.insert().values(version=SCHEMA))
        version = connection.execute(sa.select(schema.c.version)).scalar()
        if version is None or not 1 <= version <= SCHEMA:
            raise StoreError(
                f"{self.url} has schema {version}; this version of heuretic reads schema {SCHEMA} and older ones. "
                f"Try a newer version of heuretic"
            )
        if version < SCHEMA:
            from heuretic.study.migrations import upgrade  # imports Alembic

            upgrade(connection, version)

    def transact(self, work: Callable[[sa.Connection], T], write: bool = True) -> T:
        """Return what `work` returns, done in one transaction; done again if the connection is lost on the way.

        Args:
            write: False for work of one statement, which changes nothing.

        Raises: StoreError if the database cannot be reached or written; nothing is written then.
        """
        gives_up, pause_s, told = 0.0, 0.05, False
        while True:
            try:
                connection = self._connection.execution_options(begin="IMMEDIATE" if write else "DEFERRED")
                if self.dialect == "postgresql":  # a single statement needs no transaction: two messages instead of six
                    connection.connection.dbapi_connection.autocommit = not write  # type: ignore[union-attr]
                with connection.begin():
                    result = work(connection)
                if told:
                    self.note(f"{self.url} is back.")
                return result
            except IntegrityError:
                raise
            except (DBAPIError, OSError) as error:
                again = self._can_try_again(error)
                self._drop()
                now = time.monotonic()
                gives_up = gives_up or now + self.patience_s
                if not again or now > gives_up:
                    raise self._explained(error, again) from error
                if not told and pause_s > 1:
                    self.note(f"{self.url} is out of reach ({_said(error)}); trying for {self.patience_s:.0f} s.")
                    told = True
                time.sleep(min(pause_s, max(0.0, gives_up - now)) * random.uniform(0.5, 1.0))
                pause_s = min(pause_s * 2, 5.0)

    def _can_try_again(self, error: Exception) -> bool:
        """Whether the trouble may pass: a connection lost, a server restarting, a lock held by others."""
        if not isinstance(error, DBAPIError):
            return self._was_open
        code = getattr(error.orig, "sqlstate", None)
        if self.dialect == "sqlite":
            return self._was_open and "locked" in str(error.orig)
        if code in ("40001", "40P01"):  # serialisation failure, deadlock
            return True
        if code == "53100":  # disk full
            return False
        lost = code is None and isinstance(error, OperationalError)  # what the client finds has no code
        return self._was_open and (error.connection_invalidated or lost or (code or "")[:2] in ("08", "57", "53"))

    def _explained(self, error: Exception, tried: bool) -> StoreError:
        said = _said(error)
        code = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
        if "disk is full" in said or "No space left" in said or code == "53100" or "disk I/O error" in said:
            advice = "The disk is full, or its quota is. Nothing that was stored is lost: make room and run again"
        elif not self._was_open and self.dialect == "postgresql":
            advice = (
                "Are host, port, user, password (URL, PGPASSWORD or ~/.pgpass) and database right, and does it run?"
            )
        elif tried:
            advice = f"Tried again for {self.patience_s:.0f} s. What is stored is safe: run again when it is back"
        else:
            advice = "Is it a heuretic store, and may it be written?"
        return StoreError(f"cannot {'use' if self._was_open else 'open'} {self.url}: {said}. {advice}")

    def _drop(self) -> None:
        if self._open is not None:
            try:
                self._open.invalidate()
                self._open.close()
            except DBAPIError:
                pass
            self._open = None
            self._engine.dispose()

    def _read(self, query: Any) -> Sequence[Any]:
        return self.transact(lambda connection: connection.execute(query).all(), write=False)

    def id(self, name: str) -> int:
        """Return the key of a study in the tables. Raises: StoreError if there is none of this name."""
        if name not in self._ids:
            found = self._read(sa.select(studies.c.id).where(studies.c.name == name))
            if not found:
                raise StoreError(f"no study {name!r} in {self.url}; it has {', '.join(self.names()) or 'none'}")
            self._ids[name] = found[0][0]
        return self._ids[name]

    # -- studies ------------------------------------------------------------------------------------------------------

    def create(self, study: StudyRecord) -> None:
        tries = 0

        def work(connection: sa.Connection) -> None:
            nonlocal tries
            tries += 1
            key = connection.execute(studies.insert().values(**asdict(study))).inserted_primary_key[0]  # type: ignore[index]
            connection.execute(spaces.insert().values(study_id=key, number=0, program=study.program))
            connection.execute(runs.insert().values(study_id=key, revision=0, state=None))
            connection.execute(sharing.insert().values(study_id=key))

        try:
            self.transact(work)
        except IntegrityError:
            if tries == 1 or self.study(study.name) != study:  # or else ours, written just before a connection was lost
                raise StoreError(f"study {study.name!r} exists already in {self.url}") from None

    def study(self, name: str) -> StudyRecord | None:
        found = self._read(sa.select(studies).where(studies.c.name == name))
        return StudyRecord(**{k: v for k, v in found[0]._mapping.items() if k != "id"}) if found else None

    def names(self) -> list[str]:
        return [row[0] for row in self._read(sa.select(studies.c.name).order_by(studies.c.id))]

    def add_space(self, name: str, program: str) -> int:
        key = self.id(name)

        def work(connection: sa.Connection) -> int:
            known = sa.select(spaces.c.number, spaces.c.program).where(spaces.c.study_id == key)
            number, last = connection.execute(known.order_by(spaces.c.number.desc()).limit(1)).one()
            if last == program:  # written just before the connection was lost
                return number
            connection.execute(spaces.insert().values(study_id=key, number=number + 1, program=program))
            return number + 1

        return self.transact(work)

    def spaces(self, name: str) -> list[str]:
        query = sa.select(spaces.c.program).where(spaces.c.study_id == self.id(name)).order_by(spaces.c.number)
        return [row[0] for row in self._read(query)]

    def environment(self, facts: Mapping[str, str]) -> int:
        text = json.dumps(dict(sorted(facts.items())))
        query = sa.select(environments.c.id).where(environments.c.facts == text)
        for _ in range(3):
            if found := self._read(query):
                return found[0][0]
            try:
                self.transact(lambda connection: connection.execute(environments.insert().values(facts=text)))
            except IntegrityError:
                pass  # another process was faster
        return self._read(query)[0][0]

    def environments(self) -> dict[int, dict[str, str]]:
        return {row[0]: json.loads(row[1]) for row in self._read(sa.select(environments))}

    # -- the run ------------------------------------------------------------------------------------------------------

    def commit(
        self, name: str, trials: Sequence[TrialRecord], state: RunState, revision: int, tickets: Sequence[Ticket] = ()
    ) -> int:
        key, writer = self.id(name), uuid.uuid4().hex
        rows = [_row(key, trial) for trial in trials]
        counted = dict.fromkeys(("finished", "failed", "pruned"), 0)
        for trial in trials:
            counted[trial.state] += trial.number >= 0
        step = {"key": key, "old": revision, "next": revision + 1, "text": json.dumps(state), "by": writer}
        step |= {f"more_{name}": count for name, count in counted.items()}

        def work(connection: sa.Connection) -> None:
            if connection.execute(_ADVANCE, step).rowcount != 1:
                now = sa.select(runs.c.revision, runs.c.writer).where(runs.c.study_id == key)
                if tuple(connection.execute(now).one()) == (revision + 1, writer):
                    return  # written just before the connection was lost
                raise Conflict(
                    f"study {name!r} was advanced by another process in the meantime. Let it finish, choose another "
                    f"name, or share the study with engine='workers'"
                )
            if rows:
                connection.execute(_INSERT, rows)
                connection.execute(_SETTLE, {"key": key, "numbers": [trial.number for trial in trials]})
            if tickets:
                connection.execute(_PROPOSE, [_ticket_row(key, ticket) for ticket in tickets])

        self.transact(work)
        return revision + 1

    def state(self, name: str) -> tuple[RunState | None, int]:
        query = sa.select(runs.c.state, runs.c.revision).where(runs.c.study_id == self.id(name))
        state, revision = self._read(query)[0]
        return json.loads(state) if state else None, revision

    def tickets(self, name: str) -> list[Ticket]:
        query = sa.select(tickets).where(tickets.c.study_id == self.id(name)).order_by(tickets.c.number)
        return [as_ticket(row) for row in self._read(query)]

    def enqueue(self, name: str, space: int, genome: Genome) -> None:
        key = self.id(name)

        def work(connection: sa.Connection) -> None:
            last = sa.select(sa.func.coalesce(sa.func.max(enqueued.c.number), 0)).where(enqueued.c.study_id == key)
            row = {"study_id": key, "number": last.scalar_subquery() + 1, "space": space, "genome": json.dumps(genome)}
            connection.execute(enqueued.insert().values(row))

        for attempt in range(20):  # two processes may have thought of the same number
            try:
                return self.transact(work)
            except IntegrityError:
                if attempt == 19:
                    raise

    def enqueued(self, name: str, after: int = 0) -> list[tuple[int, int, Genome]]:
        query = sa.select(enqueued).where(enqueued.c.study_id == self.id(name), enqueued.c.number > after)
        return [(row.number, row.space, tuple(json.loads(row.genome))) for row in self._read(query.order_by("number"))]

    # -- reading trials -----------------------------------------------------------------------------------------------

    def trials(self, name: str, numbers: Iterable[int] | None = None) -> Iterator[TrialRecord]:
        query = sa.select(trials).where(trials.c.study_id == self.id(name)).order_by(trials.c.number)
        if numbers is not None:
            wanted = sorted(set(numbers))
            for first in range(0, len(wanted), 500):  # databases bound the number of parameters
                for row in self._read(query.where(trials.c.number.in_(wanted[first : first + 500]))):
                    yield _record(row._mapping)
            return
        after = -1
        while True:  # in pages, so that a large study never stands in memory as rows and records at once
            page = self._read(query.where(trials.c.number > after).limit(2000))
            for row in page:
                yield _record(row._mapping)
            if len(page) < 2000:
                return
            after = page[-1].number

    def digests(self, name: str) -> Iterator[tuple[bytes, int]]:
        query = sa.select(trials.c.digest, trials.c.number).where(
            trials.c.study_id == self.id(name), trials.c.number >= 0
        )
        return ((row[0], row[1]) for row in self._read(query))

    def top(self, name: str, count: int) -> list[TrialRecord]:
        rank = (trials.c.violation, trials.c.score.desc(), trials.c.number)
        own = trials.c.number + 0 >= 0  # as a sum, so that SQLite does not take the index of numbers and then sort
        query = (
            sa.select(trials)
            .where(trials.c.study_id == self.id(name), trials.c.score.is_not(None), own)
            .order_by(*rank)
            .limit(count)
        )
        return [_record(row._mapping) for row in self._read(query)]

    def best(self, name: str) -> TrialRecord | None:
        return next(iter(self.top(name, 1)), None)

    def counts(self, name: str) -> dict[str, int]:
        query = sa.select(runs.c.finished, runs.c.failed, runs.c.pruned).where(runs.c.study_id == self.id(name))
        return {state: count for state, count in self._read(query)[0]._mapping.items() if count}

    def close(self) -> None:
        self._drop()
        self._engine.dispose()


def _said(error: Exception) -> str:
    return " ".join(str(getattr(error, "orig", error)).split())


def _without_password(url: str) -> str:
    """Return a URL that could not be read without what may be a password in it."""
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://***@{tail}" if at else url


_INSERT = trials.insert()
_SETTLE = tickets.delete().where(
    tickets.c.study_id == sa.bindparam("key"), tickets.c.number.in_(sa.bindparam("numbers", expanding=True))
)
_PROPOSE = tickets.insert()
_ADVANCE = (
    runs.update()
    .where(runs.c.study_id == sa.bindparam("key"), runs.c.revision == sa.bindparam("old"))
    .values(
        revision=sa.bindparam("next"), state=sa.bindparam("text"), writer=sa.bindparam("by"),
        **{name: runs.c[name] + sa.bindparam(f"more_{name}") for name in ("finished", "failed", "pruned")},
    )
)  # fmt: skip
_JSON = ("genome", "values", "costs", "parents", "steps", "scores", "energy")
_EMPTY = {
    "genome": "[]", "values": "{}", "costs": "{}", "parents": "[]", "steps": "[]", "scores": "[]", "energy": "{}",
}  # fmt: skip


def clean(text: str) -> str:
    """Return text that every database takes: without NUL, and without halves of surrogate pairs."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")


def _row(key: int, trial: TrialRecord) -> dict[str, Any]:
    row = {name: getattr(trial, name) for name in TrialRecord.__dataclass_fields__}
    for name in _JSON:
        content = row[name]
        row[name] = json.dumps(content) if content else _EMPTY[name]
    row["artifacts"] = json.dumps([asdict(each) for each in trial.artifacts]) if trial.artifacts else "[]"
    row["error"] = None if trial.error is None else clean(trial.error)
    row["study_id"], row["digest"] = key, bytes.fromhex(trial.digest)
    row["fingerprint"] = None if trial.fingerprint is None else bytes.fromhex(trial.fingerprint)
    return row


def _record(row: Mapping[str, Any]) -> TrialRecord:
    fields = {name: row[name] for name in TrialRecord.__dataclass_fields__}
    fields.update({name: json.loads(row[name]) for name in _JSON})
    fields["genome"], fields["parents"] = tuple(fields["genome"]), tuple(fields["parents"])
    fields["steps"] = tuple((step, metrics) for step, metrics in fields["steps"])
    fields["scores"] = tuple(fields["scores"])
    fields["artifacts"] = tuple(Artifact(**each) for each in json.loads(row["artifacts"]))
    fields["digest"] = row["digest"].hex()
    fields["fingerprint"] = None if row["fingerprint"] is None else row["fingerprint"].hex()
    return TrialRecord(**fields)


def _ticket_row(key: int, ticket: Ticket) -> dict[str, Any]:
    return {
        "study_id": key, "number": ticket.number, "genome": json.dumps(ticket.genome), "seed": ticket.seed,
        "parents": json.dumps(ticket.parents), "origin": ticket.origin, "space": ticket.space,
        "fingerprint": ticket.fingerprint,
    }  # fmt: skip


def as_ticket(row: Any) -> Ticket:
    """Return the ticket in a row of its table. Its digest is left out: whoever wants it decodes the genome."""
    return Ticket(
        row.number, tuple(json.loads(row.genome)), b"", row.seed, tuple(json.loads(row.parents)), row.origin, row.space,
        row.fingerprint,
    )  # fmt: skip
