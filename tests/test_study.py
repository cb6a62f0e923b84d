"""`discover` and `Study`, in one process and in several."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import heuretic as hr
from heuretic.study import StoreError, Study, TrialRecord, open_store
from objectives import SPACE, WIDE, Point, failing, meeting, met_while_running, noisy, score, size, slow


def genomes(study: Study) -> list[Any]:
    return [(t.number, t.genome, t.seed, t.score, t.parents, t.origin) for t in study.trials]


def test_finds_the_optimum_of_an_easy_space_and_beats_random() -> None:
    evolved = hr.discover(SPACE, score, trials=300, algorithm=hr.Evolution(population=20, tournament=5), progress=False)
    random = hr.discover(SPACE, score, trials=300, algorithm=hr.RandomSearch(), progress=False)
    assert evolved.best is not None
    assert random.best is not None
    assert evolved.best.values["value"] > max(1.97, random.best.values["value"])
    assert evolved.best.program.act == "gelu"


@pytest.mark.parametrize(
    "algorithm", [hr.RandomSearch(), hr.Evolution(population=8, tournament=3), hr.HillClimbing(patience=5)]
)
def test_same_seed_same_trials_and_another_seed_others(algorithm: Any) -> None:
    runs = [hr.discover(SPACE, noisy, trials=40, algorithm=algorithm, seed=s, progress=False) for s in (5, 5, 6)]
    assert genomes(runs[0]) == genomes(runs[1])
    assert genomes(runs[0]) != genomes(runs[2])


def test_the_record_of_a_trial_is_complete() -> None:
    study = hr.discover(
        SPACE,
        noisy,
        trials=30,
        limits=[hr.Limit(size, at_most=300)],
        algorithm=hr.Evolution(population=5, tournament=2),
        progress=False,
    )
    for trial in study.trials:
        program = study.decode(trial)
        assert trial.digest == hr.digest(program)
        assert trial.costs == {"size": program.n * 10.0}
        assert trial.costs["size"] <= 300
        assert [step for step, _ in trial.steps] == [0, 1]
        assert trial.values["latency"] == program.n * 2.0
        assert trial.seconds > 0
        assert trial.started > 1e9
        facts = study.environments[trial.environment]
        assert facts["heuretic"] == hr.__version__
    children = [t for t in study.trials if t.origin == "mutation"]
    assert children
    assert all(p < t.number for t in children for p in t.parents)


def test_no_program_is_evaluated_twice() -> None:
    space = {"a": hr.one_of(1, 2, 3), "b": hr.one_of(1, 2, 3)}
    calls: list[str] = []

    def evaluate(program: Mapping[str, int]) -> float:
        calls.append(hr.digest(program))
        return program["a"] * program["b"]

    study = hr.discover(space, evaluate, trials=500, algorithm=hr.Evolution(population=4, tournament=2), progress=False)
    assert len(calls) == len(set(calls)) == 9
    assert study.stopped == "exhausted"
    assert study.reused > 0


def test_a_failing_evaluation_is_recorded_and_does_not_end_the_study() -> None:
    study = hr.discover(SPACE, failing, trials=60, algorithm=hr.RandomSearch(), progress=False)
    assert study.counts["failed"] + study.counts["finished"] == 60
    failed = [t for t in study.trials if t.state == "failed"]
    assert all("no silu here" in (t.error or "") and "failing" in (t.error or "") for t in failed)
    assert study.best is not None
    assert study.best.program.act != "silu"


def test_stops_after_failures_in_a_row_with_a_clear_word(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: Any) -> float:
        raise KeyError("lost")

    study = hr.discover(SPACE, broken, trials=100, max_failures=7)
    assert study.stopped == "failures"
    assert study.counts == {"failed": 7}
    assert "7 trials failed in a row. The last: KeyError: 'lost'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "got None"),
        ("high", "must be a number"),
        (float("nan"), "finite"),
        (float("inf"), "finite"),
        ({"loss": 1}, "must return 'value'"),
        ({"value": [1]}, "must be a number"),
    ],
)
def test_useless_returns_are_failures_that_say_why(returned: Any, message: str) -> None:
    study = hr.discover(SPACE, lambda _: returned, trials=1, progress=False)
    assert message in (study.trials[0].error or "")


def test_numpy_and_torch_scalars_are_numbers() -> None:
    torch = pytest.importorskip("torch")
    study = hr.discover(SPACE, lambda p: torch.tensor(p.x), trials=3, progress=False)
    assert study.counts == {"finished": 3}


def test_minimize_and_named_metrics() -> None:
    study = hr.discover(SPACE, lambda p: {"loss": p.x**2, "other": 1}, minimize="loss", trials=80, progress=False)
    assert study.best is not None
    assert study.best.values["loss"] == min(t.values["loss"] for t in study.trials)
    assert study.direction == "minimize"


def test_measured_limits_rank_below_and_are_recorded() -> None:
    study = hr.discover(SPACE, noisy, trials=120, limits=[hr.Limit("latency", at_most=30)], progress=False)
    assert study.best is not None
    assert study.best.values["latency"] <= 30
    assert study.best.violation == 0
    broken = [t for t in study.trials if t.values["latency"] > 30]
    assert broken
    assert all(t.violation == pytest.approx(t.values["latency"] / 30 - 1) for t in broken)


def test_impossible_limits_say_so() -> None:
    with pytest.raises(hr.search.InfeasibleError, match="no program within the limits"):
        hr.discover(SPACE, score, limits=[hr.Limit(size, at_most=1)], progress=False)

    with pytest.raises(hr.search.InfeasibleError) as caught:
        hr.discover(SPACE, score, limits=[hr.Limit(broken_cost, at_most=1)], progress=False)
    assert any("cannot count" in note for note in caught.value.__notes__)


def broken_cost(_: Point) -> float:
    raise ValueError("cannot count")


def test_start_is_evaluated_first_and_must_belong() -> None:
    study = hr.discover(SPACE, score, start=Point(0.25, 7, "silu"), trials=5, progress=False)
    assert study.decode(study.trials[0]) == Point(0.25, 7, "silu") == study.start
    assert study.trials[0].origin == "start"
    with pytest.raises(ValueError, match="not in this space: n must be"):
        hr.discover(SPACE, score, start=Point(0.25, 99), progress=False)


def test_stops_by_target_plateau_and_time() -> None:
    target = hr.discover(SPACE, score, trials=None, target=1.5, progress=False)
    assert target.stopped == "target"
    assert target.best is not None
    assert target.best.values["value"] >= 1.5
    plateau = hr.discover(SPACE, score, trials=None, plateau=30, algorithm=hr.RandomSearch(), progress=False)
    assert plateau.stopped == "plateau"
    timed = hr.discover(SPACE, score, trials=None, time_s=0.3, progress=False)
    assert timed.stopped == "time"
    with pytest.raises(ValueError, match="another way to stop"):
        hr.discover(SPACE, score, trials=None)


def test_pruning_ends_a_trial_early_and_sees_the_others() -> None:
    seen: list[int] = []

    def prune(trial: int, step: int, metrics: Mapping[str, float], others: Mapping[int, Any]) -> bool:
        seen.append(len(others))
        return step == 1 and metrics["loss"] > 500

    study = hr.discover(SPACE, noisy, trials=30, prune=prune, progress=False)
    pruned = [t for t in study.trials if t.state == "pruned"]
    assert pruned
    assert all(t.score is None and t.values["loss"] > 500 and t.error is None for t in pruned)
    assert all(t.values.get("loss", 0) == 0 or t.state == "pruned" for t in pruned)
    assert max(seen) == 30


def test_pruning_reaches_worker_processes() -> None:
    study = hr.discover(SPACE, slow, trials=6, engine="processes", workers=2, prune=prune_at_three, progress=False)
    assert study.counts == {"pruned": 6}
    assert all(len(t.steps) == 4 for t in study.trials)


def prune_at_three(trial: int, step: int, metrics: Mapping[str, float], others: Mapping[int, Any]) -> bool:
    return step == 3


def test_choices_met_while_running_become_the_space() -> None:
    study = hr.discover(met_while_running, trials=80, progress=False)
    assert study.best is not None
    assert study.best.program["act"] == "gelu"
    assert study.best.program["depth"] == 5
    assert len(study.space()) == 3
    again = hr.discover(met_while_running, trials=80, progress=False)
    assert genomes(study) == genomes(again)


def test_choices_met_in_processes_and_resumed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    hr.discover(
        met_while_running, trials=10, store=url, engine="processes", workers=2, deterministic=True, progress=False
    )
    study = hr.discover(
        met_while_running, trials=40, store=url, engine="processes", workers=2, deterministic=True, progress=False
    )
    assert [t.number for t in study.trials] == list(range(40))
    assert study.best is not None
    assert study.best.program["depth"] >= 4


def test_one_name_cannot_mean_two_choices() -> None:
    def confused(trial: hr.Trial) -> float:
        return trial.number("x", 0.0, 1.0) if trial.index == 0 else trial.number("x", 0.0, 2.0)

    study = hr.discover(confused, trials=3, progress=False)
    assert "was first met as" in (study.trials[1].error or "")


def test_all_workers_evaluate_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACE", str(tmp_path))
    study = hr.discover(SPACE, meeting, trials=6, engine="processes", workers=3, progress=False)
    assert study.counts == {"finished": 6}
    assert {t.worker for t in study.trials} == {"worker-0", "worker-1", "worker-2"}


def test_processes_give_the_same_trials_as_inline_when_deterministic() -> None:
    runs = [
        hr.discover(SPACE, noisy, trials=60, engine="processes", workers=3, deterministic=True, seed=2,
                    algorithm=hr.Evolution(population=6, tournament=2), progress=False)
        for _ in range(2)
    ]  # fmt: skip
    assert genomes(runs[0]) == genomes(runs[1])
    alone = hr.discover(
        SPACE,
        noisy,
        trials=60,
        engine="processes",
        workers=1,
        seed=2,
        algorithm=hr.Evolution(population=6, tournament=2),
        progress=False,
    )
    inline = hr.discover(
        SPACE, noisy, trials=60, seed=2, algorithm=hr.Evolution(population=6, tournament=2), progress=False
    )
    assert genomes(alone) == genomes(inline)


def test_a_study_goes_on_where_it_stopped(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    whole = hr.discover(SPACE, noisy, trials=60, seed=4, name="whole", progress=False)
    for trials in (1, 17, 40, 60):
        parts = hr.discover(SPACE, noisy, trials=trials, seed=4, store=url, name="parts", progress=False)
        assert len(parts.trials) == trials
    assert genomes(parts) == genomes(whole)
    assert parts.reused == whole.reused


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"seed": 9}, "seed"),
        ({"algorithm": hr.RandomSearch()}, "algorithm"),
        ({"minimize": "value"}, "direction"),
        ({"limits": [hr.Limit(size, at_most=400)]}, "limits"),
    ],
)
def test_another_study_under_the_same_name_is_refused(tmp_path: Path, changed: dict[str, Any], what: str) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    hr.discover(SPACE, score, trials=3, store=url, name="one", progress=False)
    with pytest.raises(StoreError, match=f"another {what}"):
        hr.discover(SPACE, score, trials=3, store=url, name="one", progress=False, **changed)
    with pytest.raises(StoreError, match="another program"):
        hr.discover(hr.replace(SPACE, n=3), score, trials=3, store=url, name="one", progress=False)


def test_two_runs_cannot_advance_one_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"

    def meddling(point: Point, trial: hr.Trial) -> float:
        if trial.index == 3:
            hr.discover(SPACE, score_with_two, trials=10, store=url, name="one", progress=False)
        return score(point)

    with pytest.raises(hr.study.Conflict):
        hr.discover(SPACE, meddling, trials=10, store=url, name="one", progress=False)
    study = hr.open_study(url)
    assert [t.number for t in study.trials] == list(range(10))


def score_with_two(point: Point, trial: hr.Trial) -> float:
    return score(point)


def test_a_stored_study_is_read_without_importing_what_it_names(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    study = hr.discover(SPACE, score, trials=12, store=url, limits=[hr.Limit(size, at_most=400)], progress=False)
    assert study.best is not None
    code = (
        "import sys, heuretic as hr\n"
        f"study = hr.open_study('sqlite:///{tmp_path}/s.db')\n"
        "print(study.best.number, study.best.program.act, len(study.diff()), study.limits[0].name, study.algorithm)\n"
        "assert 'objectives' not in sys.modules and 'torch' not in sys.modules\n"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed.startswith(f"{study.best.number} {study.best.program.act} {len(study.diff())} ")
    assert "size Auto(" in printed
    trusted = hr.open_study(url, trust=["objectives"])
    assert trusted.best is not None
    assert trusted.best.program == study.best.program


def test_opening_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no file"):
        hr.open_study(f"sqlite:///{tmp_path}/nothing.db")
    url = f"sqlite:///{tmp_path}/s.db"
    for name in ("a", "b"):
        hr.discover(SPACE, score, trials=2, store=url, name=name, progress=False)
    with pytest.raises(StoreError, match="a, b"):
        hr.open_study(url)
    with pytest.raises(StoreError, match="no study 'c'"):
        hr.open_study(url, "c")
    assert open_store(url).names() == ["a", "b"]


def test_progress_lines_are_plain_when_not_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hr.discover(SPACE, score, trials=20, progress=True)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("trials 20/20  best value ")
    assert "\x1b" not in last
    hr.discover(SPACE, score, trials=20)  # over before two seconds: silent
    assert capsys.readouterr().err == ""


def test_memory_stays_small_and_cost_per_trial_flat() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import heuretic as hr\n"
        "from objectives import WIDE\n"
        "study = hr.discover(WIDE, lambda p: p['x0'], trials=20_000, algorithm=hr.Evolution(), progress=False)\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(len(study.trials), int(peak.split()[1]) // 1024)\n"
    )
    count, megabytes = subprocess.check_output(
        [sys.executable, "-c", code], text=True, cwd=Path(__file__).parent.parent
    ).split()
    assert int(count) == 20_000
    assert int(megabytes) < 120  # 300 MB at 100,000
    assert len(hr.Space(WIDE)) == 20


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"trials": 0}, "trials"),
        ({"limits": [hr.Limit(size, at_most=9), hr.Limit(size, at_least=1)]}, "different costs"),
        (
            {"maximize": "a", "minimize": "b", "algorithm": hr.Evolution()},
            "several objectives \\(a, b\\), got Evolution",
        ),
        ({"maximize": ["a", "a"]}, "different names"),
        ({"maximize": [3]}, "name of a metric"),
        ({"engine": "cloud"}, "engine"),
        ({"engine": "processes", "workers": 0}, "workers"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_arguments_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        hr.discover(SPACE, score, **{"trials": 2, "progress": False, **given})


def test_records_are_immutable() -> None:
    with pytest.raises(AttributeError):
        TrialRecord(0, "finished", (), "0" * 32, 1).number = 3  # type: ignore[misc]
