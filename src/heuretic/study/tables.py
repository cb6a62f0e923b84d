"""The tables of a store, the same in every database. A change here needs a migration, see `migrations/`."""

from __future__ import annotations

import sqlalchemy as sa

#: Version of the tables: the newest migration's number. A store of a later version is refused.
SCHEMA = 3

metadata = sa.MetaData()


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _study_id() -> sa.Column[int]:
    return sa.Column("study_id", sa.Integer, sa.ForeignKey("studies.id"), primary_key=True)


#: Read before anything else, also by versions of this package that know nothing of Alembic.
schema = sa.Table("heuretic_schema", metadata, sa.Column("version", sa.Integer, primary_key=True))
studies = sa.Table(
    "studies", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, unique=True, nullable=False),
    *_text("program", "start", "algorithm", "limits", "evaluate", "objective", "direction"),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("objectives", sa.Text, nullable=False, server_default=""),
)  # fmt: skip
runs = sa.Table(  # apart from studies: this row is rewritten with every commit and must stay small
    "runs", metadata,
    _study_id(),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text),
    sa.Column("writer", sa.Text, nullable=False, server_default=""),  # who made this revision
    *(sa.Column(state, sa.BigInteger, nullable=False, server_default="0") for state in ("finished", "failed", "pruned")),
)  # fmt: skip
spaces = sa.Table(
    "spaces", metadata,
    _study_id(),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("program", sa.Text, nullable=False),
)  # fmt: skip
environments = sa.Table(
    "environments", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("facts", sa.Text, unique=True, nullable=False),
)  # fmt: skip
trials = sa.Table(
    "trials", metadata,
    _study_id(),
    sa.Column("number", sa.BigInteger, primary_key=True),
    *_text("state", "genome"),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    *_text("values", "costs"),
    sa.Column("score", sa.Double),
    sa.Column("violation", sa.Double, nullable=False),
    *_text("parents", "origin", "steps"),
    sa.Column("started", sa.Double, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("environment", sa.Integer, nullable=False),
    sa.Column("space", sa.Integer, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("scores", sa.Text, nullable=False, server_default="[]"),
    sa.Column("fingerprint", sa.LargeBinary),
    sa.Column("artifacts", sa.Text, nullable=False, server_default="[]"),
    sa.Column("energy", sa.Text, nullable=False, server_default="{}"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="1"),
    sqlite_with_rowid=False,
)  # fmt: skip
#: The leaderboard, in order; so that the best of a million trials is one look.
ranking = sa.Index(
    "trials_by_rank", trials.c.study_id, trials.c.violation, trials.c.score.desc(), trials.c.number,
    sqlite_where=trials.c.score.is_not(None), postgresql_where=trials.c.score.is_not(None),
)  # fmt: skip
enqueued = sa.Table(
    "enqueued", metadata,
    _study_id(),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("space", sa.Integer, nullable=False),
    sa.Column("genome", sa.Text, nullable=False),
)  # fmt: skip
#: Candidates that were proposed and are no trials yet. Rows leave when their trial is recorded, so the table stays as small
#: as the number of workers, whatever the size of the study.
tickets = sa.Table(
    "tickets", metadata,
    _study_id(),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("genome", sa.Text, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("parents", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("space", sa.Integer, nullable=False),
    sa.Column("fingerprint", sa.LargeBinary),
    sa.Column("status", sa.Text, nullable=False, server_default="open"),  # open, claimed or done
    sa.Column("worker", sa.Text, nullable=False, server_default=""),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due", sa.Double, nullable=False, server_default="0"),  # open: not before; claimed: given to others after
    sa.Column("stop", sa.Boolean, nullable=False, server_default=sa.false()),  # the study prunes it
    sa.Column("outcome", sa.Text),
    sa.Index("tickets_by_status", "study_id", "status", "number"),
)  # fmt: skip
#: What running trials reported on the way, if the study prunes.
reports = sa.Table(
    "reports", metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("study_id", sa.Integer, sa.ForeignKey("studies.id"), nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("metrics", sa.Text, nullable=False),
    sa.Column("taken", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index("reports_by_trial", "study_id", "number"),
)  # fmt: skip
#: A study that is shared by processes: who leads it, and what a worker must know to evaluate.
sharing = sa.Table(
    "sharing", metadata,
    _study_id(),
    sa.Column("leader", sa.Text, nullable=False, server_default=""),
    sa.Column("until", sa.Double, nullable=False, server_default="0"),
    sa.Column("terms", sa.Text, nullable=False, server_default="{}"),
    sa.Column("stopped", sa.Text, nullable=False, server_default=""),
)  # fmt: skip
workers = sa.Table(
    "workers", metadata,
    _study_id(),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("slots", sa.Integer, nullable=False),
    sa.Column("until", sa.Double, nullable=False),
)  # fmt: skip
#: Python files that a study's evaluation consists of, by digest, for workers that are told to run them.
code = sa.Table(
    "code", metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("files", sa.Text, nullable=False),
)  # fmt: skip
