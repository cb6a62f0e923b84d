"""What `discover` takes besides one objective: several, rewards, earlier studies, hand-picked programs, more choices."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import heuretic as hr
import objectives
from heuretic.search import Result
from heuretic.study import Memory, Objective, StoreError
from objectives import SPACE, Point

ASSETS = Path(__file__).parent / "assets"


def both(point: Point) -> dict[str, float]:
    """Two objectives that contradict each other, and a cost."""
    return {"gain": point.n / 50 + point.x, "price": float(point.n), "weight": 2.0 * point.n}


def product(metrics: Mapping[str, float]) -> float:
    """A reward of two metrics."""
    return metrics["gain"] * metrics["price"]


def dominated(a: Any, b: Any) -> bool:
    """Whether a is no better anywhere and worse somewhere (gain up, price down)."""
    mine, other = (a["gain"], -a["price"]), (b["gain"], -b["price"])
    return all(m <= o for m, o in zip(mine, other, strict=True)) and mine != other


class TestSeveralObjectives:
    @pytest.mark.parametrize("store", [None, "sqlite"])
    def test_the_front_is_what_nothing_dominates(self, store: str | None, tmp_path: Path) -> None:
        url = store and f"sqlite:///{tmp_path}/s.db"
        study = hr.discover(SPACE, both, maximize="gain", minimize="price", trials=60, seed=1, store=url)
        assert [(o.name, o.direction) for o in study.objectives] == [("gain", "maximize"), ("price", "minimize")]
        values = [t.values for t in study.trials]
        expected = {
            i
            for i, its in enumerate(values)
            if not any(dominated(its, v) for v in values)
            and not any(
                (its["gain"], its["price"]) == (v["gain"], v["price"]) for v in values[:i]
            )  # the first of equals
        }
        assert {winner.number for winner in study.front} == expected
        assert len(expected) > 1
        assert [w.scores for w in study.front] == sorted((w.scores for w in study.front), reverse=True)
        assert all(w.program == study.decode(w) and w.score == w.scores[0] for w in study.front)
        assert study.best == study.front[0]
        assert "on the front" in repr(study)
        if url:
            read = hr.open_study(url)
            assert read.objectives == study.objectives
            assert [w.number for w in read.front] == [w.number for w in study.front]

    def test_goes_on_as_if_never_stopped(self, tmp_path: Path) -> None:
        given: dict[str, Any] = {"maximize": "gain", "minimize": ["price"], "seed": 4}
        whole = hr.discover(SPACE, both, trials=50, **given)
        for trials in (13, 30, 50):
            parts = hr.discover(SPACE, both, trials=trials, store=f"sqlite:///{tmp_path}/s.db", **given)
        assert [t.genome for t in parts.trials] == [t.genome for t in whole.trials]

    def test_an_algorithm_for_one_objective_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"several objectives \(gain, price\), got HillClimbing. Try hr.NSGA2"):
            hr.discover(SPACE, both, maximize=["gain", "price"], algorithm=hr.HillClimbing())

    def test_a_number_is_not_enough(self) -> None:
        study = hr.discover(SPACE, objectives.score, maximize=["a", "b"], trials=3, max_failures=3, progress=False)
        assert study.counts == {"failed": 3}
        assert "evaluate must return a mapping with 'a', 'b', got float" in (study.trials[0].error or "")

    def test_every_objective_must_be_finite(self) -> None:
        study = hr.discover(
            SPACE,
            lambda p: {"a": 1.0, "b": float("nan")},
            maximize=["a", "b"],
            trials=2,
            max_failures=2,
            progress=False,
        )
        assert "b must be finite, got nan" in (study.trials[0].error or "")

    def test_plateau_counts_trials_since_the_front_changed(self) -> None:
        constant = hr.discover(SPACE, lambda p: {"a": 1.0, "b": 1.0}, maximize=["a", "b"], trials=None, plateau=20)
        assert constant.stopped == "plateau"


class TestRewards:
    def test_a_reward_is_recorded_and_decides(self) -> None:
        study = hr.discover(SPACE, both, maximize=product, trials=40, seed=2, algorithm=hr.Evolution(population=10))
        assert study.objective == "product"
        assert study.objectives[0].reward is not None
        for trial in study.trials:
            assert trial.values["product"] == pytest.approx(trial.values["gain"] * trial.values["price"])
        assert study.best is not None
        assert study.best.score == max(t.values["product"] for t in study.trials)

    def test_a_reward_sees_computed_costs(self) -> None:
        reward = lambda metrics: metrics["gain"] - metrics["size"] / 1000
        study = hr.discover(SPACE, both, maximize=reward, trials=5, limits=[hr.Limit(objectives.size, at_most=300)])
        assert all(t.values["<lambda>"] == t.values["gain"] - t.costs["size"] / 1000 for t in study.trials)

    def test_a_reward_that_fails_fails_the_trial(self) -> None:
        study = hr.discover(SPACE, objectives.score, maximize=product, trials=2, max_failures=2, progress=False)
        assert study.counts == {"failed": 2}
        assert "KeyError: 'gain'" in (study.trials[0].error or "")

    def test_a_study_of_another_reward_is_another_study(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/s.db"
        hr.discover(SPACE, both, maximize=product, trials=2, store=url)
        with pytest.raises(StoreError, match="another objective"):
            hr.discover(SPACE, both, maximize="gain", trials=2, store=url)


class TestEarlierStudies:
    def test_what_is_in_the_space_is_told_and_cannot_win(self) -> None:
        first = hr.discover(SPACE, objectives.score, trials=40, seed=1, name="first")
        narrow = Point(hr.number(-1.0, 1.0), hr.number(1, 50), hr.one_of("gelu", "relu"))
        inside = [t for t in first.trials if first.decode(t).act != "silu"]
        told: list[Result] = []
        study = hr.discover(narrow, objectives.score, algorithm=Eavesdropper(told), warm_start=first, trials=3)
        inside.sort(key=lambda t: t.score or 0.0)  # the best last
        assert [r.score for r in told[: len(inside)]] == [t.score for t in inside]
        assert [r.number for r in told[: len(inside)]] == [-1 - i for i in range(len(inside))]
        assert [study.space().decode(r.genome) for r in told[: len(inside)]] == [first.decode(t) for t in inside]
        assert len(study.trials) == sum(study.counts.values()) == 3
        assert study.best is not None
        assert study.best.number >= 0

    def test_evolution_starts_from_them_and_goes_on_after_a_stop(self, tmp_path: Path) -> None:
        first = hr.discover(
            SPACE, objectives.score, trials=60, seed=1, name="first", algorithm=hr.Evolution(population=20)
        )
        given: dict[str, Any] = {
            "algorithm": hr.Evolution(population=5, tournament=5), "warm_start": [first], "seed": 2,
        }  # fmt: skip
        whole = hr.discover(SPACE, objectives.score, trials=30, **given)
        for trials in (1, 2, 9, 30):
            parts = hr.discover(SPACE, objectives.score, trials=trials, store=f"sqlite:///{tmp_path}/s.db", **given)
        assert [t.genome for t in parts.trials] == [t.genome for t in whole.trials]
        assert any(parent < 0 for t in whole.trials for parent in t.parents)

    def test_what_was_told_survives_a_kill_right_after_the_first_commit(self) -> None:
        first = hr.discover(SPACE, objectives.score, trials=20, seed=1, name="first", algorithm=hr.RandomSearch())
        given: dict[str, Any] = {"algorithm": hr.Evolution(population=5, tournament=5), "warm_start": first, "seed": 2}
        store = DiesAtItsSecondCommit()
        with pytest.raises(ConnectionError):
            hr.discover(SPACE, objectives.score, trials=8, store=store, progress=False, **given)
        resumed = hr.discover(SPACE, objectives.score, trials=8, store=store, **given)
        whole = hr.discover(SPACE, objectives.score, trials=8, **given)
        assert [t.genome for t in resumed.trials] == [t.genome for t in whole.trials]

    def test_scores_are_by_the_objectives_of_the_new_study(self) -> None:
        first = hr.discover(SPACE, both, maximize="gain", trials=10, name="first")
        told: list[Result] = []
        hr.discover(SPACE, both, minimize="price", algorithm=Eavesdropper(told), warm_start=first, trials=1)
        assert [r.score for r in told[:10]] == sorted(-t.values["price"] for t in first.trials)
        with pytest.raises(
            ValueError, match="must be a study that measured 'depth', got 'first' with gain, price, weight"
        ):
            hr.discover(SPACE, both, minimize="depth", warm_start=first, trials=1)


class DiesAtItsSecondCommit(Memory):
    """A store whose process is gone for one moment, after the first commit."""

    commits = 0

    def commit(self, name: str, trials: Any, state: Any, revision: int, tickets: Any = ()) -> int:
        self.commits += 1
        if self.commits == 2:
            raise ConnectionError
        return super().commit(name, trials, state, revision, tickets)


class Eavesdropper:
    """Random search that notes what it is told."""

    def __init__(self, told: list[Result]) -> None:
        self.told = told

    def start(self, space: hr.Space, seed: int = 0) -> Any:
        run = hr.RandomSearch().start(space, seed)
        run.tell = self.told.extend  # type: ignore[method-assign]
        return run


class TestHandPicked:
    PICKED = (Point(0.25, 7, "gelu"), Point(-0.5, 9, "silu"))

    def test_they_come_after_the_start_and_only_once(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/s.db"
        study = hr.discover(SPACE, objectives.score, trials=2, enqueue=self.PICKED, store=url, seed=1)
        assert [t.origin for t in study.trials] == ["start", "hand-picked"]
        study = hr.discover(SPACE, objectives.score, trials=6, enqueue=self.PICKED, store=url, seed=1)
        assert [study.decode(t) for t in study.trials[1:3]] == list(self.PICKED)
        assert [t.origin for t in study.trials].count("hand-picked") == 2

    def test_a_stored_study_takes_more(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/s.db"
        study = hr.discover(SPACE, objectives.score, trials=4, store=url, seed=1)
        study.enqueue(*self.PICKED)
        study = hr.discover(SPACE, objectives.score, trials=8, store=url, seed=1)
        assert [study.decode(t) for t in study.trials[4:6]] == list(self.PICKED)
        again = hr.discover(SPACE, objectives.score, trials=10, store=url, seed=1)
        assert again.reused == study.reused

    def test_a_study_that_is_only_read_takes_programs_that_name_functions(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/s.db"
        program = (hr.number(0, 9), hr.one_of(objectives.score, objectives.size))
        evaluate = lambda p: float(p[0])
        hr.discover(program, evaluate, trials=2, store=url, name="named")
        hr.open_study(url).enqueue((7, objectives.size))
        study = hr.discover(program, evaluate, trials=3, store=url, name="named")
        assert study.decode(study.trials[2]) == (7, objectives.size)

    def test_a_program_outside_the_space_is_refused(self) -> None:
        with pytest.raises(ValueError, match="act must be one_of"):
            hr.discover(SPACE, objectives.score, trials=2, enqueue=[Point(0.1, 3, "tanh")])
        limits = [hr.Limit(objectives.size, at_most=300)]
        with pytest.raises(hr.search.InfeasibleError, match="enqueue must hold programs within the limits"):
            hr.discover(SPACE, objectives.score, trials=2, enqueue=[Point(0.1, 50, "relu")], limits=limits)

    def test_choices_met_while_running_cannot_be_picked(self) -> None:
        first = hr.discover(SPACE, objectives.score, trials=2)
        given: dict[str, Any]
        for given in ({"enqueue": [{"act": "relu"}]}, {"warm_start": first}, {"extend": True}):
            with pytest.raises(ValueError, match="must be left out if choices are met while running"):
                hr.discover(objectives.met_while_running, trials=2, **given)


class TestMoreChoices:
    SMALL = Point(hr.number(-1.0, 1.0), hr.number(1, 50), "relu")
    LARGE = Point(hr.number(-1.0, 1.0), hr.number(1, 50), hr.one_of("relu", "gelu"))
    LARGER = Point(hr.number(-1.0, 1.0), hr.number(1, 50), hr.one_of("tanh", "relu", "gelu"))

    @pytest.mark.parametrize(
        "algorithm", [hr.Evolution(population=5, tournament=3), hr.HillClimbing(), hr.RandomSearch()]
    )
    def test_a_live_study_goes_on_in_a_larger_space(self, algorithm: Any, tmp_path: Path) -> None:
        given: dict[str, Any] = {"algorithm": algorithm, "store": f"sqlite:///{tmp_path}/s.db", "seed": 3}
        small = hr.discover(self.SMALL, objectives.score, trials=12, **given).trials
        with pytest.raises(StoreError, match="extend=True if this program only adds"):
            hr.discover(self.LARGE, objectives.score, trials=20, **given)
        hr.discover(self.LARGE, objectives.score, trials=24, extend=True, **given)
        study = hr.discover(self.LARGER, objectives.score, trials=60, extend=True, **given)
        trials = study.trials
        assert [t.genome for t in trials[:12]] == [t.genome for t in small]
        assert {t.space for t in trials} == {0, 1, 2}
        programs = [study.decode(t) for t in trials]
        assert {p.act for p in programs[:12]} == {"relu"}
        assert {p.act for p in programs[24:]} == {"tanh", "relu", "gelu"}
        assert all(objectives.score(p) == t.score for p, t in zip(programs, trials, strict=True))
        assert hr.discover(self.LARGER, objectives.score, trials=61, **given).counts == {"finished": 61}
        assert hr.open_study(given["store"]).best is not None

    def test_a_choice_that_lost_trials_is_named(self, tmp_path: Path) -> None:
        given: dict[str, Any] = {"store": f"sqlite:///{tmp_path}/s.db", "algorithm": hr.RandomSearch()}
        hr.discover(self.LARGER, objectives.score, trials=20, **given)
        with pytest.raises(StoreError, match=r"trial \d+ would be lost, as its .*act must be one_of"):
            hr.discover(self.LARGE, objectives.score, trials=30, extend=True, **given)
        assert len(hr.open_study(given["store"]).trials) == 20


class TestTheEnd:
    def test_a_small_space_is_searched_to_the_last_program(self, capsys: pytest.CaptureFixture[str]) -> None:
        grid = (hr.number(0, 19), hr.number(0, 19), hr.permutation([1, 2]))
        study = hr.discover(grid, lambda p: p[0] - p[1], algorithm=hr.HillClimbing(), trials=2000)
        assert study.stopped == "exhausted"
        assert study.counts == {"finished": 800}
        assert len({t.digest for t in study.trials}) == 800
        assert "Stopped after 800 of 2000 trials: the space has 800 program(s)" in capsys.readouterr().err

    def test_one_program(self, capsys: pytest.CaptureFixture[str]) -> None:
        study = hr.discover(Point(0.5, 3), objectives.score, trials=10)
        assert study.counts == {"finished": 1}
        assert "the space has 1 program(s), and all were evaluated" in capsys.readouterr().err

    def test_limits_that_nothing_keeps_name_the_closest_program(self) -> None:
        limits = [hr.Limit(objectives.size, at_most=9)]
        with pytest.raises(
            hr.search.InfeasibleError, match="no program within the limits found in 100 draws"
        ) as caught:
            hr.discover(SPACE, objectives.score, trials=5, limits=limits)
        [note] = caught.value.__notes__
        assert "size is 10, and must be at most 9; with x=" in note
        assert "n=1, act=" in note

    def test_a_search_that_proposes_nothing_ends_the_study(self, capsys: pytest.CaptureFixture[str]) -> None:
        study = hr.discover(SPACE, objectives.score, algorithm=Few(), trials=50)
        assert study.stopped == "exhausted"
        assert len(study.trials) == 4  # the start and three
        assert "Stopped after 4 of 50 trials: 'score' proposed nothing new any more" in capsys.readouterr().err


class Few:
    """Random search that proposes three programs and no more."""

    def start(self, space: hr.Space, seed: int = 0) -> Any:
        run = hr.RandomSearch().start(space, seed)
        ask = run.ask
        run.ask = lambda n=1: ask(1) if run.asked < 3 else []  # type: ignore[method-assign]
        return run


@pytest.mark.parametrize("workers", [None, 3])
def test_a_store_of_the_first_version_is_brought_up_to_date(workers: int | None, tmp_path: Path) -> None:
    shutil.copy(ASSETS / "store_version_1.db", tmp_path / "s.db")
    url = f"sqlite:///{tmp_path}/s.db"
    read = hr.open_study(url, "evolved")
    assert read.counts == {"finished": 8}
    assert read.best is not None
    assert read.best.number == 3
    engine: dict[str, Any] = {"engine": "processes", "workers": workers} if workers else {}
    study = hr.discover(
        SPACE, objectives.noisy, algorithm=hr.Evolution(population=4, tournament=2), trials=20, seed=3, store=url,
        name="evolved", limits=[hr.Limit("latency", at_most=90)], **engine,
    )  # fmt: skip
    assert study.counts == {"finished": 20}
    assert study.trials[:8] == read.trials[:8]
    whole = hr.discover(
        SPACE, objectives.noisy, algorithm=hr.Evolution(population=4, tournament=2), trials=20, seed=3,
        limits=[hr.Limit("latency", at_most=90)],
    )  # fmt: skip
    if not workers:
        assert [t.genome for t in study.trials] == [t.genome for t in whole.trials]
    met = hr.discover(objectives.met_while_running, trials=12, seed=1, store=url, name="met")
    assert met.counts == {"finished": 12}
    with sqlite3.connect(tmp_path / "s.db") as connection:
        assert connection.execute("select version from heuretic_schema").fetchone() == (3,)


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    shutil.copy(ASSETS / "store_version_1.db", tmp_path / "s.db")
    with sqlite3.connect(tmp_path / "s.db") as connection:
        connection.execute("update heuretic_schema set version = 99")
    with pytest.raises(StoreError, match="has schema 99; this version of heuretic reads schema 3"):
        hr.open_study(f"sqlite:///{tmp_path}/s.db", "evolved")


def test_the_sign_of_an_objective() -> None:
    assert (Objective("loss", "minimize").sign, Objective("gain").sign) == (-1, 1)
