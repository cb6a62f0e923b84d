"""Studies shared by real processes through a real database: who joins, who dies, who takes over."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import heuretic as hr
import objectives
from heuretic.study import EngineError, Memory, StoreError
from heuretic.study.queue import Queue
from heuretic.study.sharing import join
from heuretic.study.sql_store import SqlStore
from heuretic.study.store import open_store
from objectives import SPACE
from postgres import Server

ROOT = Path(__file__).parents[1]
QUICK = hr.Retry(first_s=0.1, silent_s=2.0)
DRIVER = """
import os, sys
sys.path.insert(0, {tests!r})
import heuretic as hr
import objectives
from objectives import SPACE
if __name__ == "__main__":
    study = hr.discover(SPACE, objectives.{evaluate}, trials={trials}, seed=3, store=os.environ["URL"], name="shared",
                        algorithm=hr.Evolution(population=6, tournament=2), engine="workers", workers={workers},
                        retry=hr.Retry(first_s=0.1, silent_s=2.0))
    print(study.stopped)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("postgres_url") if request.param == "postgresql" else f"sqlite:///{tmp_path}/s.db"


def environment(folder: Path, url: str, sleep_s: float = 0.0) -> dict[str, str]:
    given = {"TRACE": str(folder), "SLEEP": str(sleep_s), "URL": url, "HEURETIC_STORE": url, "OMP_NUM_THREADS": "1"}
    return {**os.environ, **given}


@contextmanager
def driver(
    folder: Path, url: str, trials: int, workers: int, evaluate: str = "counted", sleep_s: float = 0.0
) -> Iterator[subprocess.Popen[str]]:
    script = folder / "driver_script.py"
    tests = str(Path(__file__).parent)
    script.write_text(DRIVER.format(tests=tests, trials=trials, workers=workers, evaluate=evaluate))
    with started([sys.executable, str(script)], environment(folder, url, sleep_s)) as process:
        yield process


@contextmanager
def worker(
    folder: Path, url: str, *given: str, sleep_s: float = 0.0, place: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    where = str(place or Path(__file__).parent)
    command = [sys.executable, "-m", "heuretic", "worker", "--json", "--folder", where, "--idle", "20", *given]
    with started(command, environment(folder, url, sleep_s)) as process:
        yield process


@contextmanager
def started(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True, cwd="/"
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def evaluated(folder: Path) -> int:
    return sum(len(file.read_text().splitlines()) for file in folder.glob("[0-9]*.txt"))


def until(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_shared_study_is_a_study_like_others(url: str) -> None:
    study = hr.discover(SPACE, objectives.noisy, trials=30, seed=3, store=url, engine="workers", workers=2, retry=QUICK)
    assert (study.stopped, study.counts) == ("trials", {"finished": 30})
    trials = study.trials
    assert [t.number for t in trials] == list(range(30))
    for trial in trials:
        assert trial.score == objectives.score(study.decode(trial)) + trial.seed / 2**31
        assert [step for step, _ in trial.steps] == [0, 1]
        assert trial.attempts == 1
        assert len(study.environments[trial.environment]["code"]) == 32
    assert len({t.worker for t in trials}) == 2
    more = hr.discover(SPACE, objectives.noisy, trials=35, seed=3, store=url, engine="workers", workers=1, retry=QUICK)
    assert more.trials[:30] == trials
    inline = hr.discover(SPACE, objectives.noisy, trials=40, seed=3, store=url)
    assert inline.counts == {"finished": 40}


def test_workers_join_with_nothing_but_the_database(url: str, tmp_path: Path) -> None:
    # Started before there is a study: they wait for it.
    with worker(tmp_path, url, sleep_s=0.03) as first, worker(tmp_path, url, "--workers", "2", sleep_s=0.03) as second:
        with driver(tmp_path, url, 40, 0) as driving:
            out, err = driving.communicate(timeout=120)
        assert out.strip() == "trials", err
        said = [json.loads(each.communicate(timeout=60)[0]) for each in (first, second)]
    assert {each["stopped"] for each in said} == {"trials"}
    assert sum(each["evaluated"] for each in said) == 40
    assert min(each["evaluated"] for each in said) > 0
    assert evaluated(tmp_path) == 40
    study = hr.open_study(url)
    assert study.counts == {"finished": 40}
    assert len({t.worker for t in study.trials}) == 3


def test_whoever_stands_by_takes_over_from_a_killed_leader(url: str, tmp_path: Path) -> None:
    with (
        driver(tmp_path, url, 300, 1, sleep_s=0.05) as first,
        worker(tmp_path, url, sleep_s=0.05) as working,
    ):
        until(lambda: evaluated(tmp_path) > 10)
        with driver(tmp_path, url, 300, 1, sleep_s=0.05) as second:
            assert second.stderr is not None
            assert "this one stands by" in second.stderr.readline()
            os.killpg(first.pid, signal.SIGKILL)  # with its worker
            out, err = second.communicate(timeout=120)
            assert out.strip() == "trials", err
            assert first.communicate()[0] == ""
        assert json.loads(working.communicate(timeout=60)[0])["stopped"] == "trials"
    study = hr.open_study(url)
    assert [t.number for t in study.trials] == list(range(300))
    assert len({t.digest for t in study.trials}) == 300
    assert evaluated(tmp_path) <= 300 + 4  # again only what the killed worker held


def test_killed_workers_and_a_server_that_crashes_lose_nothing(tmp_path: Path, server: Server) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks/faults"))
    import faults

    with server.database() as url:
        row = faults.run("postgresql", url, server, 3, 250, 0.67, 5.0, 2.0)
    assert (row["workers_killed"], row["driver_killed"], row["server_restarts"]) == (2, 1, 1)
    kept = {name: row[name] for name in ("lost", "counted_twice", "stuck", "wrong", "went_back", "workers_left")}
    assert kept == dict.fromkeys(kept, 0), row["driver_log"]


def test_pruning_reaches_workers_and_back(url: str) -> None:
    study = hr.discover(
        SPACE, objectives.slow, trials=12, store=url, engine="workers", workers=2, retry=QUICK,
        prune=lambda trial, step, metrics, history: step >= 5 and trial % 2 == 0,
    )  # fmt: skip
    pruned = [t for t in study.trials if t.state == "pruned"]
    assert {t.number for t in pruned} == {0, 2, 4, 6, 8, 10}
    assert all(6 <= len(t.steps) < 100 for t in pruned)
    assert study.counts["finished"] == 6


def test_the_study_hears_every_step_that_is_recorded(url: str) -> None:
    heard: set[tuple[int, int]] = set()

    def prune(trial: int, step: int, metrics: Any, history: Any) -> bool:
        heard.add((trial, step))
        return False

    study = hr.discover(
        SPACE, objectives.noisy, trials=20, store=url, engine="workers", workers=2, retry=QUICK, prune=prune
    )
    assert heard == {(t.number, step) for t in study.trials for step, _ in t.steps}
    assert len(heard) == 40


def test_whoever_stood_by_returns_the_study_when_it_is_over(url: str, tmp_path: Path) -> None:
    with driver(tmp_path, url, 30, 1, sleep_s=0.1) as first:
        until(lambda: evaluated(tmp_path) > 2)
        with driver(tmp_path, url, 30, 1, sleep_s=0.1) as second:
            assert first.communicate(timeout=60)[0].strip() == "trials"
            out, err = second.communicate(timeout=60)
    assert out.strip() == "trials", err
    assert evaluated(tmp_path) == 30
    assert hr.open_study(url).counts == {"finished": 30}


def test_choices_met_while_running_reach_all_workers(url: str) -> None:
    study = hr.discover(
        objectives.met_while_running, trials=20, seed=1, store=url, engine="workers", workers=2, retry=QUICK
    )
    assert study.counts == {"finished": 20}
    assert set(study.space().program) == {"act", "lr", "depth"}
    for trial in study.trials:
        program = study.decode(trial)
        depth = program["depth"] if program["act"] == "gelu" else 0
        assert trial.score == depth + (program["act"] == "gelu") - program["lr"]


def test_a_hanging_evaluation_is_ended_in_a_worker_too(url: str) -> None:
    study = hr.discover(
        SPACE, objectives.hanging_once, trials=6, store=url, engine="workers", workers=2, retry=QUICK, timeout_s=0.5
    )
    assert study.counts == {"finished": 5, "failed": 1}
    assert "TimedOut" in str(study.trials[2].error)


def test_ctrl_c_ends_a_shared_study_and_the_rest_waits(url: str, tmp_path: Path) -> None:
    with driver(tmp_path, url, 50, 2, sleep_s=0.1) as driving:
        until(lambda: evaluated(tmp_path) > 6)
        driving.send_signal(signal.SIGINT)
        out, err = driving.communicate(timeout=60)
    assert out.strip() == "interrupted", err
    done = sum(hr.open_study(url).counts.values())
    assert 6 <= done == evaluated(tmp_path) < 50
    with driver(tmp_path, url, 50, 2) as driving:
        assert driving.communicate(timeout=60)[0].strip() == "trials"
    assert evaluated(tmp_path) == 50


def test_a_worker_told_to_stop_finishes_or_gives_back(url: str, tmp_path: Path) -> None:
    with (
        driver(tmp_path, url, 9, 0, sleep_s=0.4) as driving,
        worker(tmp_path, url, sleep_s=0.4) as finishing,
        worker(tmp_path, url, sleep_s=0.4) as leaving,
        worker(tmp_path, url, sleep_s=0.4) as staying,
    ):
        until(lambda: len(list(tmp_path.glob("[0-9]*.txt"))) == 3)
        finishing.send_signal(signal.SIGINT)
        leaving.send_signal(signal.SIGTERM)
        out, _ = finishing.communicate(timeout=30)
        assert (finishing.returncode, json.loads(out)["stopped"]) == (130, "asked")
        leaving.communicate(timeout=30)
        assert leaving.returncode == 130
        assert driving.communicate(timeout=60)[0].strip() == "trials"
        staying.communicate(timeout=30)
    study = hr.open_study(url)
    assert study.counts == {"finished": 9}
    assert {t.attempts for t in study.trials} == {1}  # what is given back was never begun


class TestCode:
    @pytest.fixture
    def shared(self, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str], Path]]:
        """A study of a script that imports a module beside it, led by a driver without workers; and a copy of both files."""
        here, there = tmp_path / "here", tmp_path / "there"
        here.mkdir()
        (here / "strength.py").write_text("FACTOR = 2.0\n")
        (here / "task.py").write_text(
            "import os\nimport heuretic as hr\nfrom strength import FACTOR\nSPACE = {'x': hr.number(0.0, 1.0)}\n"
            "def evaluate(p):\n    return FACTOR * p['x']\n"
            "if __name__ == '__main__':\n    print(hr.discover(SPACE, evaluate, trials=8, store=os.environ['URL'], name='s', engine='workers',"
            " workers=0, progress=False, retry=hr.Retry(silent_s=2.0)).stopped)\n"
        )
        shutil.copytree(here, there)
        url = f"sqlite:///{tmp_path}/s.db"
        with started([sys.executable, str(here / "task.py")], environment(tmp_path, url)) as driving:
            until(lambda: _terms(url))
            yield url, driving, there

    def test_the_same_code_is_run(self, shared: tuple[str, subprocess.Popen[str], Path], tmp_path: Path) -> None:
        url, driving, there = shared
        with worker(tmp_path, url, place=there) as working:
            assert driving.communicate(timeout=60)[0].strip() == "trials"
            assert json.loads(working.communicate(timeout=60)[0])["evaluated"] == 8

    def test_other_code_is_refused_or_recorded(
        self, shared: tuple[str, subprocess.Popen[str], Path], tmp_path: Path
    ) -> None:
        url, driving, there = shared
        (there / "strength.py").write_text("FACTOR = 3.0\n")
        with worker(tmp_path, url, place=there) as working:
            _, err = working.communicate(timeout=60)
        assert working.returncode == 1
        assert "different: strength.py" in err
        assert "--code own" in err
        with worker(tmp_path, url, "--code", "own", place=there) as working:
            assert driving.communicate(timeout=60)[0].strip() == "trials"
            working.communicate(timeout=60)
        study = hr.open_study(url)
        assert all(t.score == 3.0 * study.decode(t)["x"] for t in study.trials)
        codes = {study.environments[t.environment]["code"] for t in study.trials}
        assert codes != {_terms(url)["code"]}

    def test_code_that_is_not_here_is_run_from_the_store_if_told_so(
        self, shared: tuple[str, subprocess.Popen[str], Path], tmp_path: Path
    ) -> None:
        url, driving, there = shared
        shutil.rmtree(there)
        there.mkdir()
        with worker(tmp_path, url, place=there) as working:
            _, err = working.communicate(timeout=60)
        assert working.returncode == 1
        assert "Try --folder, or --code kept to run the 2 file(s)" in err
        with worker(tmp_path, url, "--code", "kept", place=there) as working:
            assert driving.communicate(timeout=60)[0].strip() == "trials"
            working.communicate(timeout=60)
        study = hr.open_study(url)
        assert all(t.score == 2.0 * study.decode(t)["x"] for t in study.trials)
        assert {study.environments[t.environment]["code"] for t in study.trials} == {_terms(url)["code"]}


def _terms(url: str) -> Any:
    """Return what workers are told; nothing while there is no study."""
    if not Path(url.removeprefix("sqlite:///")).exists():
        return {}
    store = SqlStore(url)
    try:
        return {name: Queue(store, name).standing().terms for name in store.names()}.get("s", {})
    finally:
        store.close()


class TestBadInput:
    def test_a_store_in_memory_cannot_be_shared(self) -> None:
        with pytest.raises(StoreError, match="must have a store that other processes can open"):
            hr.discover(SPACE, objectives.score, store=Memory(), engine="workers")

    def test_an_evaluation_that_cannot_be_imported(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/s.db"
        with pytest.raises(EngineError, match="evaluate must be importable"):
            hr.discover(SPACE, lambda point: 1.0, store=url, name="s", engine="workers")
        assert open_store(url).counts("s") == {}

    def test_deterministic(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="deterministic must be False"):
            hr.discover(
                SPACE, objectives.score, store=f"sqlite:///{tmp_path}/s.db", engine="workers", deterministic=True
            )

    def test_a_study_that_is_not_shared(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/s.db"
        hr.discover(SPACE, objectives.score, trials=2, store=url, name="alone")
        with pytest.raises(StoreError, match=r"is not shared with workers. Try hr.discover"):
            join(SqlStore(url), "alone")
        with worker(tmp_path, url, "--name", "alone", "--idle", "0") as working:
            _, err = working.communicate(timeout=30)
        assert working.returncode == 1
        assert "has no study 'alone' that is shared with workers; it has alone" in err

    def test_a_wrong_password_on_the_command_line(self, tmp_path: Path, server: Server) -> None:
        with worker(tmp_path, server.url(password="hunter2")) as working:
            _, err = working.communicate(timeout=30)
        assert working.returncode == 1
        assert "password authentication failed" in err
        assert "hunter2" not in err


def test_who_works_for_a_study_can_be_seen(url: str, tmp_path: Path) -> None:
    def shown() -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "heuretic", "study", "show", "shared", "--json"],
            env=environment(tmp_path, url), capture_output=True, text=True, cwd=tmp_path,
        )  # fmt: skip
        return json.loads(done.stdout)["sharing"] if done.returncode == 0 else {}

    with driver(tmp_path, url, 5, 2, sleep_s=3.0) as driving:
        until(lambda: evaluated(tmp_path) >= 2)
        during = shown()
        driving.communicate(timeout=60)
    assert during["led"] == "led"
    assert list(during["workers"].values()) == [2]
    assert during["tickets"]["claimed"] >= 2
    assert shown() == {"led": "stopped: trials", "workers": {}, "tickets": {}}
