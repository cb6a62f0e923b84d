"""Engine `processes` with evaluations that hang, grow, die and worse: each costs its own trial, and nothing stays behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import heuretic as hr
import misbehaving
from heuretic.search import Space
from heuretic.study import EngineError, TrialRecord
from heuretic.study.conditions import Conditions, Retry
from heuretic.study.engines import Inline
from heuretic.study.engines.processes import Processes
from heuretic.study.trial import Evaluator, Outcome, Ticket
from misbehaving import traced
from objectives import SPACE, killing, score

SOON = Retry(attempts=3, first_s=0.05)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRACE", str(tmp_path))
    return tmp_path


def study_of(*what: str, **given: Any) -> hr.Study:
    """Evaluate programs that name functions of `misbehaving`, in this order."""
    programs = [{"what": each} for each in what]
    return hr.discover(
        {"what": hr.one_of(*what)},
        misbehaving.dispatch,
        **{
            "trials": len(what), "enqueue": programs, "engine": "processes", "workers": 2, "progress": False,
            "algorithm": hr.RandomSearch(), "retry": SOON, **given,
        },
    )  # fmt: skip


def by_name(study: hr.Study) -> dict[str, TrialRecord]:
    return {study.decode(trial)["what"]: trial for trial in study.trials}


def wait_until(is_so: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.05)
    return is_so()


def alive(pid: int | str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def no_child_is_left() -> bool:
    return not any(map(alive, traced("children")))


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@linux
def test_what_takes_too_long_is_ended_with_all_it_started_and_the_study_goes_on(folder: Path) -> None:
    url = f"sqlite:///{folder}/s.db"
    study = study_of("hang", "hang_deaf", "end_politely", "fine", timeout_s=1.5, store=url, name="s")
    trials = by_name(study)
    assert {name: trial.state for name, trial in trials.items()} == {
        "hang": "failed", "hang_deaf": "failed", "end_politely": "failed", "fine": "finished"
    }  # fmt: skip
    for name in ("hang", "hang_deaf", "end_politely"):
        last = (trials[name].error or "").splitlines()[-1]
        assert last == "TimedOut: the evaluation took more than 1.5 s (timeout_s)"
        assert trials[name].attempts == 1
        assert trials[name].seconds >= 1.5
        assert trials[name].started > study.record.created
    assert re.search(r'misbehaving.py", line \d+ in hang\n.* in dispatch\nTimedOut', trials["hang"].error or "")
    assert "trial.py" not in (trials["hang"].error or "")
    assert trials["hang"].steps == ((0, {"value": 1.5}),)
    assert len(traced("children")) == 3
    assert wait_until(no_child_is_left)
    assert traced("cleaned up") == [""]
    again = hr.open_study(url, name="s")
    assert {t.number: t.state for t in again.trials} == {t.number: t.state for t in study.trials}
    assert len({t.environment for t in again.trials}) == 1


def test_the_clock_of_an_evaluation_starts_with_it_and_not_with_its_worker() -> None:
    study = hr.discover(
        SPACE, misbehaving.SlowToLoad(), trials=4, engine="processes", workers=2, timeout_s=1.5, progress=False
    )
    assert study.counts == {"finished": 4}


@linux
@pytest.mark.parametrize("what", ["grow", "grow_in_children"])
def test_what_takes_too_much_memory_is_ended(what: str) -> None:
    trials = by_name(study_of(what, "fine", memory_mb=300))
    assert trials["fine"].state == "finished"
    assert trials[what].error == "OutOfMemory: the evaluation used more than 300 MB (memory_mb)"
    assert trials[what].attempts == 1
    if what == "grow":
        assert 100 < trials[what].steps[-1][1]["mb"] < 2000
    assert wait_until(no_child_is_left)


@linux
def test_memory_that_processes_share_is_counted_once() -> None:
    assert by_name(study_of("share", memory_mb=300))["share"].values == {"value": 120.0}


@linux
def test_a_worker_that_leaks_is_replaced_between_evaluations() -> None:
    study = hr.discover(
        {"what": "leak", "x": hr.number(0.0, 1.0)}, misbehaving.dispatch, trials=8, engine="processes", workers=1,
        memory_mb=280, progress=False, algorithm=hr.RandomSearch(),
    )  # fmt: skip
    kept = [t.values.get("value", 0.0) for t in study.trials]
    assert sum(study.counts.values()) == 8
    assert study.counts.get("finished", 0) >= 4
    assert max(kept) < 5
    assert len({t.worker for t in study.trials}) > 1
    assert all((t.error or "OutOfMemory").startswith("OutOfMemory") for t in study.trials)


def test_a_limit_below_what_a_worker_holds_is_refused() -> None:
    with pytest.raises(EngineError, match="memory_mb must leave room to evaluate, got 3: a worker holds"):
        hr.discover(SPACE, score, trials=2, engine="processes", workers=1, memory_mb=3, progress=False)


def test_a_trial_whose_process_dies_is_tried_again() -> None:
    study = study_of("die_twice", "die", "fine", retry=Retry(attempts=4, first_s=0.05, cap_s=0.1))
    trials = by_name(study)
    assert trials["die_twice"].state == "finished"
    assert trials["die_twice"].attempts == 3
    assert trials["die"].error == "ProcessDied: the evaluation ended its process 4 times (last: exit code 7)"
    assert trials["die"].attempts == 4
    assert trials["die"].steps == ((0, {"value": 2.5}),)
    assert trials["fine"].attempts == 1
    assert len(traced("died")) == 4


def test_of_two_workers_one_that_is_killed_costs_only_its_trial() -> None:
    study = hr.discover(
        SPACE, killing, trials=12, engine="processes", workers=2, algorithm=hr.RandomSearch(), retry=1, progress=False
    )
    died = [t for t in study.trials if t.state == "failed"]
    assert sum(study.counts.values()) == 12
    assert {study.decode(t).act for t in died} == {"silu"}
    assert all("killed by SIGKILL" in (t.error or "") for t in died)


@linux
def test_a_crash_in_native_code_tells_where_it_was() -> None:
    [trial] = study_of("crash", retry=2).trials
    assert re.search(r'misbehaving.py", line \d+ in crash\n', trial.error or "")
    assert (trial.error or "").endswith(
        "ProcessDied: the evaluation ended its process 2 times (last: killed by SIGSEGV)"
    )


def test_attempts_wait_longer_each_time_and_hold_nobody_up() -> None:
    study = study_of("die", "fine", workers=1, retry=Retry(attempts=3, first_s=0.6))
    times = [float(line) for line in traced("died")]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[0] >= 0.6
    assert pauses[1] >= 1.2
    assert by_name(study)["fine"].state == "finished"


def test_one_attempt_is_no_second_one() -> None:
    [trial] = study_of("die", retry=1).trials
    assert trial.error == "ProcessDied: the evaluation ended its process 1 time (last: exit code 7)"
    assert len(traced("died")) == 1


@linux
def test_whatever_an_evaluation_does_to_its_process_costs_its_own_trial_at_most(folder: Path) -> None:
    """One worker, so that what comes later runs where the mischief was done."""
    mischief = (
        "print_much", "close_output", "change_directory", "leave", "cancel", "raise_unpicklable", "raise_deep",
        "return_closure", "fork", "start_processes", "die_leaving_a_fork",
    )  # fmt: skip
    study = study_of(*mischief, "fine", workers=1, store=f"sqlite:///{folder}/s.db", retry=Retry(2, first_s=0.0))
    trials = by_name(study)
    values = {name: trial.values["value"] for name, trial in trials.items() if trial.state == "finished"}
    assert values == {
        "print_much": 1.0, "close_output": 1.0, "change_directory": 1.0, "fork": 1.0, "start_processes": 3.0, "fine": 1.0
    }  # fmt: skip
    errors = {name: trial.error or "" for name, trial in trials.items()}
    assert "SystemExit: enough" in errors["leave"]
    assert "CancelledError" in errors["cancel"]
    assert "Unpicklable" in errors["raise_unpicklable"]
    assert "must be a number, got function" in errors["return_closure"]
    assert errors["raise_deep"]
    assert len(errors["raise_deep"]) <= 8000
    assert "2 times (last: exit code 1)" in errors["die_leaving_a_fork"]
    assert all(t.attempts == 1 for name, t in trials.items() if name != "die_leaving_a_fork")
    assert traced("directories") == [os.getcwd()]
    assert wait_until(no_child_is_left)
    assert not any(map(alive, traced("forks")))


def test_a_script_without_main_guard_gets_advice(folder: Path) -> None:
    script = folder / "unguarded.py"
    script.write_text(
        "import heuretic as hr\n"
        "def evaluate(p): return p['x']\n"
        "hr.discover({'x': hr.number(0.0, 1.0)}, evaluate, trials=3, engine='processes', workers=1, progress=False)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "__main__" in done.stderr


def test_a_choice_that_cannot_be_sent_fails_its_trial_with_advice() -> None:
    study = hr.discover(misbehaving.meet_what_is_local, trials=1, engine="processes", workers=1, progress=False)
    [trial] = study.trials
    assert "PicklingError" in (trial.error or "") or "AttributeError" in (trial.error or "")
    assert "Try engine='inline'" in (trial.error or "")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"engine": "processes", "timeout_s": 0}, "timeout_s must be > 0"),
        ({"engine": "processes", "memory_mb": -1}, "memory_mb must be > 0"),
        ({"engine": "processes", "retry": 0}, "attempts must be >= 1"),
        ({"engine": "inline", "timeout_s": 1.0}, "engine='processes'"),
        ({"engine": "inline", "memory_mb": 100.0}, "engine='processes'"),
    ],
)
def test_wrong_conditions_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hr.discover(SPACE, score, trials=2, progress=False, **given)


def test_what_cannot_be_sent_to_workers_is_refused_before_any_is_started() -> None:
    evaluator = Evaluator(lambda p: 1.0, [Space(SPACE)], False, ("value",))
    with pytest.raises(EngineError, match="engine='inline'"):
        Processes(evaluator, lambda *_: False, 1)


def tickets(evaluator: Evaluator, count: int) -> list[Ticket]:
    [space] = evaluator.spaces
    return [Ticket(i, space.encode(space.decode(genome)), b"", i) for i, genome in zip(range(count), space.genomes())]  # noqa: B905


def test_tickets_that_are_not_begun_can_be_withdrawn() -> None:
    names = ("die", *(f"fine_{i}" for i in range(5)))
    evaluator = Evaluator(
        misbehaving.dispatch, [Space({"what": hr.one_of("die", "fine"), "i": hr.one_of(0, 1, 2)})], False, ("value",)
    )
    engine = Processes(evaluator, lambda *_: False, 1, Conditions(Retry(attempts=3, first_s=60.0)))
    try:
        given = tickets(evaluator, len(names))
        dying = [t.number for t in given if evaluator.spaces[0].decode(t.genome)["what"] == "die"]
        for ticket in given:
            engine.submit(ticket)
        outcomes: list[Outcome] = []
        assert wait_until(lambda: bool(outcomes.extend(engine.wait(0.5)) or len(outcomes) == 3))  # type: ignore[func-returns-value]
        assert wait_until(lambda: len(traced("died")) == 3)
        assert engine.wait(0.5) == []
        assert engine.withdraw() == dying  # each died once, and waits a minute for its next attempt
        assert engine.withdraw() == []
        engine.submit(given[-1])
        engine.submit(given[-2])
        assert set(engine.withdraw()) <= {given[-1].number, given[-2].number}
    finally:
        engine.close()
    inline = Inline(evaluator, lambda *_: False)
    inline.submit(given[0])
    assert inline.withdraw() == [0]


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import heuretic as hr
import misbehaving
if __name__ == "__main__":
    hr.discover({{"what": "hang_deaf"}}, misbehaving.dispatch, engine="processes", workers=1, progress=False)
"""


@linux
def test_not_even_a_worker_stuck_in_native_code_outlives_a_killed_driver(folder: Path) -> None:
    script = folder / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    driver = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE)
    assert wait_until(lambda: bool(traced("deaf")), 60)
    left = [*traced("deaf"), *traced("children")]
    assert all(map(alive, left))
    driver.kill()
    driver.communicate()
    assert wait_until(lambda: not any(map(alive, left)), 10)
