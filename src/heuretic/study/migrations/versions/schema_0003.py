"""Studies shared by processes: candidates on their way leave the state of the run for a table of their own."""

import json
from hashlib import blake2b

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add columns, tables and the index of ranks; then move what was pending, and count trials."""
    for column in (
        sa.Column("artifacts", sa.Text, nullable=False, server_default="[]"),
        sa.Column("energy", sa.Text, nullable=False, server_default="{}"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="1"),
    ):
        op.add_column("trials", column)
    op.add_column("runs", sa.Column("writer", sa.Text, nullable=False, server_default=""))
    for name in ("finished", "failed", "pruned"):
        op.add_column("runs", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    scored = sa.text("score IS NOT NULL")
    op.create_index(
        "trials_by_rank", "trials", ["study_id", "violation", sa.text("score DESC"), "number"],
        sqlite_where=scored, postgresql_where=scored,
    )  # fmt: skip
    tickets = op.create_table(
        "tickets",
        _study_id(),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("genome", sa.Text, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("parents", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("space", sa.Integer, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary),
        sa.Column("status", sa.Text, nullable=False, server_default="open"),
        sa.Column("worker", sa.Text, nullable=False, server_default=""),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("due", sa.Double, nullable=False, server_default="0"),
        sa.Column("stop", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("outcome", sa.Text),
    )
    op.create_index("tickets_by_status", "tickets", ["study_id", "status", "number"])
    op.create_table(
        "reports",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("study_id", sa.Integer, sa.ForeignKey("studies.id"), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("taken", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.create_index("reports_by_trial", "reports", ["study_id", "number"])
    op.create_table(
        "sharing",
        _study_id(),
        sa.Column("leader", sa.Text, nullable=False, server_default=""),
        sa.Column("until", sa.Double, nullable=False, server_default="0"),
        sa.Column("terms", sa.Text, nullable=False, server_default="{}"),
        sa.Column("stopped", sa.Text, nullable=False, server_default=""),
    )
    op.create_table(
        "workers",
        _study_id(),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("slots", sa.Integer, nullable=False),
        sa.Column("until", sa.Double, nullable=False),
    )
    op.create_table("code", sa.Column("digest", sa.Text, primary_key=True), sa.Column("files", sa.Text, nullable=False))
    _move_pending(op.get_bind(), tickets)
    _count(op.get_bind())
    op.execute("INSERT INTO sharing (study_id) SELECT id FROM studies")
    op.execute("UPDATE heuretic_schema SET version = 3")


def _study_id() -> sa.Column[int]:
    return sa.Column("study_id", sa.Integer, sa.ForeignKey("studies.id"), primary_key=True)


def _move_pending(connection: sa.Connection, tickets: sa.Table) -> None:
    """Make tickets of the candidates listed in each run's state, and keep there only which results were not told yet."""
    found = connection.execute(
        sa.text("SELECT id, seed, state FROM runs JOIN studies ON id = study_id WHERE state IS NOT NULL")
    )
    for study, seed, text in found.all():
        state = json.loads(text)
        pending = {int(number): rest for number, *rest in state.pop("pending", [])}
        recorded = sa.text("SELECT number FROM trials WHERE study_id = :study AND number = :number")
        waiting = [n for n in pending if connection.execute(recorded, {"study": study, "number": n}).first()]
        for number, (genome, parents, origin, space, *fingerprint) in pending.items():
            if number not in waiting:
                drawn = int.from_bytes(blake2b(b"%d:%d" % (seed, number), digest_size=4).digest(), "little") >> 1
                connection.execute(
                    tickets.insert().values(
                        study_id=study, number=number, genome=json.dumps(genome), seed=drawn, parents=json.dumps(parents),
                        origin=origin, space=space,
                        fingerprint=bytes.fromhex(fingerprint[0]) if fingerprint and fingerprint[0] else None,
                    )
                )  # fmt: skip
        state["waiting"] = waiting
        connection.execute(
            sa.text("UPDATE runs SET state = :state WHERE study_id = :study"),
            {"state": json.dumps(state), "study": study},
        )


def _count(connection: sa.Connection) -> None:
    for name in ("finished", "failed", "pruned"):
        connection.execute(
            sa.text(
                f"UPDATE runs SET {name} = (SELECT count(*) FROM trials WHERE trials.study_id = runs.study_id "
                f"AND trials.number >= 0 AND trials.state = '{name}')"
            )
        )
