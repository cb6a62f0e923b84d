"""Stores of older versions open, go on where they stopped, and have the tables of new ones."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import heuretic as hr
import objectives
from heuretic.study.sql_store import SqlStore
from heuretic.study.tables import SCHEMA, metadata
from objectives import SPACE

ASSETS = Path(__file__).parent / "assets"


@pytest.fixture(params=range(1, SCHEMA))
def old(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store written by the version of this package that had the schema of this number."""
    shutil.copy(ASSETS / f"store_version_{request.param}.db", tmp_path / "s.db")
    return f"sqlite:///{tmp_path}/s.db"


def test_an_upgraded_store_has_the_tables_of_a_new_one(old: str, tmp_path: Path) -> None:
    SqlStore(old).names()
    with sa.create_engine(old).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert connection.execute(sa.text("SELECT version FROM heuretic_schema")).all() == [(SCHEMA,)]
        upgraded = _columns(connection)
    fresh = f"sqlite:///{tmp_path}/fresh.db"
    SqlStore(fresh).names()
    with sa.create_engine(fresh).connect() as connection:
        assert upgraded == _columns(connection)


def _columns(connection: sa.Connection) -> dict[str, set[tuple[Any, ...]]]:
    look = sa.inspect(connection)
    return {
        table: {(c["name"], str(c["type"]), c["nullable"], c["primary_key"]) for c in look.get_columns(table)}
        | {("index", index["name"], *index["column_names"]) for index in look.get_indexes(table)}
        for table in look.get_table_names()
    }


def test_counts_and_best_are_those_of_before(old: str) -> None:
    path = old.removeprefix("sqlite:///")
    with sqlite3.connect(path) as connection:
        states = connection.execute(
            "SELECT name, state, count(*) FROM trials JOIN studies ON id = study_id WHERE number >= 0 GROUP BY 1, 2"
        ).fetchall()
    for name in {row[0] for row in states}:
        study = hr.open_study(old, name)
        assert study.counts == {state: count for title, state, count in states if title == name}
        best = max((t for t in study.trials if t.score is not None), key=lambda t: (t.result.rank, -t.number))
        assert study.best is not None
        assert study.best.number == best.number


def test_a_run_killed_under_the_second_version_goes_on_as_if_never_killed(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TRACE", str(tmp_path))
    monkeypatch.setenv("SLEEP", "0")
    shutil.copy(ASSETS / "store_version_2.db", tmp_path / "s.db")
    with sqlite3.connect(tmp_path / "s.db") as connection:
        state = connection.execute(
            "SELECT state FROM runs JOIN studies ON id = study_id WHERE name = 'killed'"
        ).fetchone()
    assert [pending[0] for pending in json.loads(state[0])["pending"]] == [
        2,
        3,
        4,
    ]  # 3 and 4 finished, but were not told
    url = f"sqlite:///{tmp_path}/s.db"
    before = hr.open_study(url, "killed").trials
    given: dict[str, Any] = {
        "algorithm": hr.Evolution(population=4, tournament=2), "trials": 20, "seed": 3, "name": "killed",
        "engine": "processes", "workers": 3, "deterministic": True,
    }  # fmt: skip
    study = hr.discover(SPACE, objectives.late, store=url, **given)
    assert study.counts == {"finished": 20}
    assert [t for t in study.trials if t.number in (0, 1, 3, 4)] == before
    whole = hr.discover(SPACE, objectives.late, **given)
    assert [(t.number, t.genome, t.seed) for t in study.trials] == [(t.number, t.genome, t.seed) for t in whole.trials]


def test_hand_picked_programs_of_the_second_version_wait_still(tmp_path: Path) -> None:
    shutil.copy(ASSETS / "store_version_2.db", tmp_path / "s.db")
    study = hr.open_study(f"sqlite:///{tmp_path}/s.db", "front")
    assert len(study.store.enqueued("front")) == 1
    assert len(study.front) >= 1


def test_two_processes_upgrade_once(old: str) -> None:
    errors: list[BaseException] = []

    def open_it() -> None:
        try:
            SqlStore(old).names()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert SqlStore(old).counts("evolved") == {"finished": 8}


def test_an_empty_database_is_made_by_one_of_several_at_once(postgres_url: str) -> None:
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda: found.append(SqlStore(postgres_url).names())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[]] * 4


def test_an_upgrade_that_fails_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    shutil.copy(ASSETS / "store_version_2.db", tmp_path / "s.db")
    with sqlite3.connect(tmp_path / "s.db") as connection:
        connection.execute("UPDATE runs SET state = '{' WHERE study_id = 2")  # the last step of the upgrade reads it
    before = _dump(tmp_path / "s.db")
    with pytest.raises(ValueError):
        SqlStore(f"sqlite:///{tmp_path}/s.db").names()
    assert _dump(tmp_path / "s.db") == before


def _dump(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        return list(connection.iterdump())
