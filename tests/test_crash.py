"""Processes that are really killed: nothing finished is lost, nothing counted or paid for twice, the rest identical."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import heuretic as hr
from heuretic.study import StoreError

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import heuretic as hr
from objectives import SPACE, counted, late
if __name__ == "__main__":
    hr.discover(SPACE, {evaluate}, trials={trials}, seed=3, store={url!r}, name="crash", progress={progress},
                algorithm=hr.Evolution(population=6, tournament=2), **{given!r})
    print("done")
"""


def start(
    folder: Path, trials: int, given: dict[str, Any], sleep_s: float, progress: bool = False, evaluate: str = "counted"
) -> subprocess.Popen[str]:
    script = folder / "crash_script.py"
    url = f"sqlite:///{folder}/s.db?synchronous=NORMAL"
    script.write_text(
        SCRIPT.format(
            tests=str(Path(__file__).parent), trials=trials, url=url, given=given, progress=progress, evaluate=evaluate
        )
    )
    environment = {**os.environ, "TRACE": str(folder), "SLEEP": str(sleep_s)}
    return subprocess.Popen(
        [sys.executable, str(script)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def evaluated(folder: Path) -> Counter[str]:
    lines = [line for file in folder.glob("[0-9]*.txt") for line in file.read_text().splitlines()]
    return Counter(lines)


def trials_of(folder: Path) -> list[Any]:
    study = hr.open_study(f"sqlite:///{folder}/s.db")
    return [(t.number, t.genome, t.seed, t.score, t.parents, t.origin, t.digest) for t in study.trials]


@pytest.mark.parametrize(
    ("given", "kills"),
    [
        ({}, 6),
        ({"engine": "processes", "workers": 2, "deterministic": True}, 3),
        ({"engine": "processes", "workers": 2}, 3),
    ],
    ids=["inline", "processes, deterministic", "processes"],
)
def test_killed_at_random_moments_it_ends_as_if_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], kills: int
) -> None:
    trials = 60
    rng = random.Random(1)
    workers = given.get("workers", 1)
    for _ in range(kills):
        process = start(tmp_path, trials, given, sleep_s=0.02)
        time.sleep(rng.uniform(0.4, 1.6))
        process.send_signal(signal.SIGKILL)  # the driver alone: workers must notice and end by themselves
        process.communicate()
    finished_before: dict[int, Any] = {}
    with suppress(StoreError):  # on a busy machine it may never have come as far as making the store
        finished_before = {t[0]: t for t in trials_of(tmp_path)}
    process = start(tmp_path, trials, given, sleep_s=0.0)
    out, err = process.communicate(timeout=120)
    assert out.strip() == "done", err
    after = trials_of(tmp_path)
    assert [t[0] for t in after] == list(range(trials))
    assert {n: t for n, t in enumerate(after) if n in finished_before} == finished_before
    assert len({t[6] for t in after}) == trials
    repeated = {digest: count for digest, count in evaluated(tmp_path).items() if count > 1}
    assert sum(count - 1 for count in repeated.values()) <= kills * workers  # only what was running when killed
    if workers == 1 or given.get("deterministic"):
        monkeypatch.setenv("TRACE", str(tmp_path))
        other = tmp_path / "undisturbed"
        other.mkdir()
        process = start(other, trials, given, sleep_s=0.0)
        out, err = process.communicate(timeout=120)
        assert out.strip() == "done", err
        assert trials_of(other) == after


def test_no_worker_outlives_a_killed_driver(tmp_path: Path) -> None:
    process = start(tmp_path, 1000, {"engine": "processes", "workers": 2}, sleep_s=0.2)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("[0-9]*.txt"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(file.stem) for file in tmp_path.glob("[0-9]*.txt")]
    assert len(workers) == 2
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while any(map(_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_alive, workers))


@pytest.mark.parametrize("given", [{}, {"engine": "processes", "workers": 2}], ids=["inline", "processes"])
def test_ctrl_c_finishes_what_runs_and_leaves_no_mess(tmp_path: Path, given: dict[str, Any]) -> None:
    process = start(tmp_path, 10_000, given, sleep_s=0.1, progress=True)
    deadline = time.monotonic() + 60
    while sum(evaluated(tmp_path).values()) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the driver and to its workers
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "Interrupted: finishing" in err
    assert "Traceback" not in err
    assert out.strip() == "done"
    done = trials_of(tmp_path)
    assert [t[0] for t in done] == list(range(len(done)))
    assert len(done) == sum(evaluated(tmp_path).values())  # everything that was begun is there


def test_two_interrupts_stop_at_once(tmp_path: Path) -> None:
    process = start(tmp_path, 10_000, {}, sleep_s=30)
    deadline = time.monotonic() + 60
    while not evaluated(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    began = time.monotonic()
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 15
    assert "Traceback" not in err


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("first", [True, False], ids=["deterministic first", "asynchronous first"])
def test_a_killed_run_goes_on_in_the_other_mode(tmp_path: Path, first: bool) -> None:
    """Trial 2 is still running when the process is killed, later ones have finished: either mode must take that over."""
    given = {"engine": "processes", "workers": 2}
    process = start(tmp_path, 100_000, {**given, "deterministic": first}, sleep_s=60, evaluate="late")
    deadline = time.monotonic() + 60
    numbers: list[int] = []
    while 3 not in numbers and time.monotonic() < deadline:
        time.sleep(0.2)
        with suppress(StoreError):  # the study is not there yet
            numbers = [t[0] for t in trials_of(tmp_path)]
    process.kill()
    process.communicate()
    assert 3 in numbers
    assert 2 not in numbers
    trials = len(trials_of(tmp_path)) + 30
    process = start(tmp_path, trials, {**given, "deterministic": not first}, sleep_s=0, evaluate="late")
    out, err = process.communicate(timeout=120)
    assert out.strip() == "done", err
    assert [t[0] for t in trials_of(tmp_path)] == list(range(trials))
    assert max(evaluated(tmp_path).values()) <= 2  # what the killed workers had finished but not yet sent
