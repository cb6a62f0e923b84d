"""Bringing the tables of an older store up to date, by Alembic. New stores are made from `tables` at once.

A step is a file in `versions/`; its revision is the number of the schema that it leads to, and it ends by writing that
number into the table `heuretic_schema`, where every version of this package looks for it (so there is no table of
Alembic's own). A test compares what the steps lead to with `tables`.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory


def upgrade(connection: sa.Connection, version: int) -> None:
    """Bring tables of schema `version` up to date, in the transaction that the connection is in."""
    newest_first = ScriptDirectory(str(Path(__file__).parent)).walk_revisions()
    steps = [step for step in newest_first if int(step.revision) > version]
    with Operations.context(MigrationContext.configure(connection)):
        for step in reversed(steps):
            step.module.upgrade()
