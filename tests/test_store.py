"""The contract of stores, run for each kind."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from heuretic.study import Conflict, Memory, Store, StoreError, StudyRecord, TrialRecord, open_store

STUDY = StudyRecord("first", '{"heuretic": 1, "program": 1}', "", "{}", "[]", "m:f", "value", "maximize", 3, 12.5)


def trial(number: int, score: float | None = 1.0, **given: object) -> TrialRecord:
    record = TrialRecord(
        number, "finished", (1, 0.1, 3), f"{number:032x}", 7, {"value": score or 0.0, "loss": float("inf")}, {"size": 2.0},
        score, parents=(0,), steps=((0, {"loss": 0.5}),), started=1.5, seconds=2.5, environment=1,
    )  # fmt: skip
    return replace(record, **given)  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "sqlite", "sqlite-normal", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield Memory()
    elif request.param == "postgresql":
        opened = open_store(request.getfixturevalue("postgres_url"))
        yield opened
        opened.close()
    else:
        query = "?synchronous=NORMAL" if request.param == "sqlite-normal" else ""
        yield open_store(f"sqlite:///{tmp_path}/s.db{query}")


def test_what_is_written_is_read_back_exactly(store: Store) -> None:
    store.create(STUDY)
    assert store.study("first") == STUDY
    assert store.study("other") is None
    written = [
        trial(1),
        trial(0, None, state="failed", error="Traceback ...\nValueError: ünïcode"),
        trial(2, 0.1 + 0.2),
    ]
    revision = store.commit("first", written, {"asked": 3}, 0)
    assert list(store.trials("first")) == sorted(written, key=lambda t: t.number)
    assert list(store.trials("first", [2, 0, 99])) == [written[1], written[2]]
    assert store.state("first") == ({"asked": 3}, revision)
    assert set(store.digests("first")) == {(n.to_bytes(16, "big"), n) for n in range(3)}
    assert store.counts("first") == {"finished": 2, "failed": 1}


def test_best_prefers_kept_limits_then_score_then_the_first(store: Store) -> None:
    store.create(STUDY)
    assert store.best("first") is None
    trials = [trial(0, 9.0, violation=0.5), trial(1, 2.0), trial(2, 3.0), trial(3, 3.0), trial(4, None, state="failed")]
    store.commit("first", trials, {}, 0)
    best = store.best("first")
    assert best is not None
    assert best.number == 2


def test_names_are_unique_and_ordered(store: Store) -> None:
    store.create(STUDY)
    store.create(replace(STUDY, name="another"))
    with pytest.raises(StoreError, match="exists already"):
        store.create(STUDY)
    assert store.names() == ["first", "another"]


def test_spaces_only_grow(store: Store) -> None:
    store.create(STUDY)
    assert store.add_space("first", "bigger") == 1
    assert store.spaces("first") == [STUDY.program, "bigger"]


def test_environments_are_stored_once(store: Store) -> None:
    a = store.environment({"python": "3.11", "cores": "2"})
    b = store.environment({"python": "3.12", "cores": "2"})
    assert store.environment({"cores": "2", "python": "3.11"}) == a != b
    assert store.environments()[b] == {"python": "3.12", "cores": "2"}


def test_a_stale_run_cannot_write(store: Store) -> None:
    store.create(STUDY)
    store.commit("first", [trial(0)], {"by": "a"}, 0)
    with pytest.raises(Conflict):
        store.commit("first", [trial(1)], {"by": "b"}, 0)
    assert [t.number for t in store.trials("first")] == [0]
    assert store.state("first")[0] == {"by": "a"}


def test_a_commit_is_all_or_nothing(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/s.db")
    store.create(STUDY)
    store.commit("first", [trial(0)], {"n": 1}, 0)
    with pytest.raises(Exception, match="UNIQUE"):
        store.commit("first", [trial(1), trial(0)], {"n": 2}, 1)
    assert [t.number for t in store.trials("first")] == [0]
    assert store.state("first") == ({"n": 1}, 1)


def test_many_trials_are_read_in_pages(store: Store) -> None:
    store.create(STUDY)
    store.commit("first", [trial(n) for n in range(4500)], {}, 0)
    assert [t.number for t in store.trials("first")] == list(range(4500))


def test_the_file_is_a_plain_database_in_wal_mode(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/s.db")
    store.create(STUDY)
    store.commit("first", [trial(0)], {}, 0)
    store.close()
    with sqlite3.connect(tmp_path / "s.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        [(genome, score)] = database.execute("SELECT genome, score FROM trials").fetchall()
    assert json.loads(genome) == [1, 0.1, 3]
    assert score == 1.0


def test_another_process_sees_what_was_committed(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/s.db")
    store.create(STUDY)
    store.commit("first", [trial(0), trial(1)], {}, 0)
    code = f"from heuretic.study import open_store; print(open_store('sqlite:///{tmp_path}/s.db').counts('first'))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "{'finished': 2}"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "must be a URL"),
        ("mysql://x/y", "must be sqlite"),
        ("sqlite:///{tmp}/s.db?synchronous=SOMETIMES", "synchronous must be"),
        ("sqlite:///{tmp}/missing/s.db", "cannot open"),
        ("sqlite:///{tmp}/text.db", "cannot open"),
    ],
)
def test_unusable_stores_are_refused_clearly(tmp_path: Path, url: str, message: str) -> None:
    (tmp_path / "text.db").write_text("this is no database, but long enough to look like something else" * 20)
    with pytest.raises(StoreError, match=message):
        open_store(url.format(tmp=tmp_path)).names()


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/s.db")
    store.create(STUDY)
    store.close()
    with sqlite3.connect(tmp_path / "s.db") as database:
        database.execute("UPDATE heuretic_schema SET version = 99")
    with pytest.raises(StoreError, match="schema 99"):
        open_store(f"sqlite:///{tmp_path}/s.db").names()


def test_passwords_are_not_shown() -> None:
    url = "postgresql://user:secret@127.0.0.1:1/db"
    with pytest.raises(StoreError) as caught:
        open_store(url).names()
    assert "secret" not in str(caught.value) + open_store(url).url + repr(open_store(url))


def test_a_database_may_hold_other_things_too(postgres_url: str) -> None:
    optuna = pytest.importorskip("optuna")
    theirs = postgres_url.replace("postgresql:", "postgresql+psycopg:")
    optuna.create_study(storage=theirs, study_name="theirs")  # in tables of the same names
    store = open_store(postgres_url)
    store.create(STUDY)
    assert store.names() == ["first"]
    assert optuna.get_all_study_names(theirs) == ["theirs"]
    store.close()


def test_a_file_of_another_program_keeps_what_it_has(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    url = f"sqlite:///{tmp_path}/s.db"
    optuna.create_study(storage=url, study_name="theirs")
    with pytest.raises(
        StoreError, match=r"must be empty or a store of heuretic, got tables of another program \(studies, trials\)"
    ):
        open_store(url).names()
    assert optuna.get_all_study_names(url) == ["theirs"]
