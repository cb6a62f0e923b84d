"""Studies from Optuna and into Optuna, MLflow, TensorBoard, pandas and polars: real databases and files of each."""

from __future__ import annotations

import json
import math
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import heuretic as hr
from heuretic.cli.main import app
from heuretic.study import Memory, StoreError, Study, TrialRecord, open_study
from heuretic.study.export import columns, export, rows
from heuretic.study.interop.mlflow import to_mlflow
from heuretic.study.interop.optuna import from_optuna, to_optuna
from heuretic.study.interop.tensorboard import to_tensorboard

optuna = pytest.importorskip("optuna")
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(verbosity)


def tuned(trial: Any) -> float:
    """What is tuned with Optuna: a model with parameters that depend on its kind, and a range that was widened."""
    kind = trial.suggest_categorical("kind", ["svm", "forest", None])
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    share = trial.suggest_float("share", 0.0, 1.0, step=0.1)
    layers = trial.suggest_int("layers", 1, 4 if trial.number < 8 else 9)
    score = rate * 10 + share + layers / 10
    if kind == "svm":
        score += trial.suggest_float("svm.c", 0.1, 10)
    elif kind == "forest":
        score += trial.suggest_int("depth", 2, 8, step=2)
    trial.set_user_attr("loss", 2 * score)
    if trial.number == 5:
        raise ValueError("out of memory")
    for epoch in range(3):
        trial.report(score * (epoch + 1) / 3, epoch)
        if trial.number in (3, 9) and epoch == 1:
            raise optuna.TrialPruned
    return score


def optimised(storage: Any = None, trials: int = 14) -> Any:
    study = optuna.create_study(
        study_name="tuning", storage=storage, direction="maximize", sampler=optuna.samplers.RandomSampler(seed=3)
    )
    study.optimize(tuned, n_trials=trials, catch=(ValueError,))
    return study


def imported(study: Any, **given: Any) -> Study:
    """Import, with warnings as errors: what a test expects to be left out it says."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return from_optuna(study, **given)


def equal(a: Any, b: Any) -> bool:
    """Whether two parameters are equal, numbers on a grid but for rounding."""
    return type(a) is type(b) and (a == pytest.approx(b, rel=1e-12) if isinstance(a, float) else a == b)


def same_trials(before: Any, after: Any) -> None:
    """Assert that the trials of two Optuna studies are equal."""
    assert len(after) == len(before)
    for a, b in zip(before, after, strict=True):
        assert b.params.keys() == a.params.keys()
        assert all(equal(a.params[name], b.params[name]) for name in a.params), (a.params, b.params)
        assert (b.state, b.values, b.intermediate_values) == (a.state, a.values, a.intermediate_values)
        assert (b.datetime_start, b.datetime_complete) == (a.datetime_start, a.datetime_complete)
        assert b.constraints == a.constraints
        assert {name: b.user_attrs[name] for name in a.user_attrs} == a.user_attrs


class TestFromOptuna:
    def test_a_database_is_read_whole_and_only_read(self, tmp_path: Path) -> None:
        file = tmp_path / "optuna.db"
        theirs = optimised(f"sqlite:///{file}")
        theirs.ask()
        content = file.read_bytes()
        with pytest.warns(UserWarning, match="left out of study 'tuning': 1 running$"):
            from_optuna(f"sqlite:///{file}", store=f"sqlite:///{tmp_path}/ours.db")
        assert file.read_bytes() == content
        study = open_study(f"sqlite:///{tmp_path}/ours.db", "tuning")
        assert study.counts == {"finished": 11, "pruned": 2, "failed": 1}
        finished = [trial for trial in theirs.trials if trial.state.is_finished()]
        for ours, trial in zip(study.trials, finished, strict=True):
            assert ours.number == trial.number
            assert ours.state == STATES[trial.state.name]
            chosen = {path.strip('["]'): value for path, value in study.space(ours.space).chosen(ours.genome).items()}
            assert chosen.keys() == trial.params.keys()
            assert all(equal(chosen[name], value) for name, value in trial.params.items())
            program = study.decode(ours)
            assert program.keys() == {"kind", "rate", "share", "layers", "svm.c", "depth"}
            assert ours.values["loss"] == trial.user_attrs["loss"]
            assert dict(ours.steps) == {step: {"value": v} for step, v in trial.intermediate_values.items()}
            assert ours.started == trial.datetime_start.timestamp()
            assert ours.seconds == trial.duration.total_seconds()
        assert study.best is not None
        assert (study.best.number, study.best.values["value"]) == (theirs.best_trial.number, theirs.best_value)
        assert study.trials[3].values["value"] == theirs.trials[3].value
        assert "keeps no reason" in str(study.trials[5].error)
        [facts] = study.environments.values()
        assert facts == {"source": "Optuna study 'tuning'", "left out": "1 running"}
        layers, share = study.space().program["layers"], study.space().program["share"]
        assert (layers.lo, layers.hi, share.step) == (1, 9, 0.1)
        assert "tuning" in study.report(tmp_path / "report.html").read_text()

    def test_it_goes_on_with_the_program_or_with_a_function_of_a_trial(self) -> None:
        theirs, asked = optimised(), []

        def evaluate(program: Any) -> float:
            asked.append(program)
            extra = {"svm": program["svm.c"], "forest": program["depth"]}.get(program["kind"], 0)
            return program["rate"] * 10 + program["share"] + program["layers"] / 10 + extra

        def by_run(trial: Any) -> float:
            kind = trial.one_of("kind", "svm", "forest", None)
            score = trial.number("rate", 1e-4, 1e-1, log=True) * 10 + trial.number("share", 0.0, 1.0, step=0.1)
            score += trial.number("layers", 1, 9) / 10
            if kind == "svm":
                score += trial.number("svm.c", 0.1, 10.0)
            elif kind == "forest":
                score += trial.number("depth", 2, 8, step=2)
            return score + trial.number("bias", 0.0, 0.1)  # met for the first time

        store = Memory()
        study = imported(theirs, store=store, algorithm=hr.Evolution(population=8, tournament=3))
        known = [study.decode(trial) for trial in study.trials]
        on = hr.discover(study.space().program, evaluate, trials=22, store=store, name="tuning", progress=False)
        assert [trial.number for trial in on.trials] == list(range(22))
        assert len(asked) == 8
        assert not [program for program in asked if program in known]
        assert any(parent < 14 for trial in on.trials[14:] for parent in trial.parents)
        assert {trial.state for trial in on.trials[14:]} == {"finished"}

        store = Memory()
        imported(theirs, store=store, algorithm=hr.Evolution(population=8, tournament=3))
        for trials in (18, 22):
            on = hr.discover(by_run, trials=trials, store=store, name="tuning", progress=False)
        assert on.counts == {"finished": 19, "pruned": 2, "failed": 1}
        assert on.trials[-1].values["value"] < 0.2 + on.trials[-1].genome[-1] + 12
        assert "bias" in on.space().program

    def test_it_warms_another_study_and_is_extended(self) -> None:
        study = imported(optimised(), store=Memory())
        program = study.space().program

        def evaluate(program: Any) -> float:
            return program["share"]

        warmed = hr.discover(program, evaluate, trials=3, warm_start=study, progress=False)
        told = list(warmed.store.trials(warmed.name, range(-50, 0)))
        assert sorted(t.values["value"] for t in told) == sorted(
            t.values["value"] for t in study.trials if t.state == "finished"
        )
        wider = hr.symbolic.FrozenDict({**program, "kind": hr.one_of("svm", "forest", None, "boosting")})
        with pytest.raises(StoreError, match="another program"):
            hr.discover(wider, evaluate, trials=16, store=study.store, name="tuning", progress=False)
        longer = hr.discover(wider, evaluate, trials=16, store=study.store, name="tuning", extend=True, progress=False)
        assert longer.counts["finished"] == 13

    def test_several_objectives_have_the_same_front(self, tmp_path: Path) -> None:
        def two(trial: Any) -> tuple[float, float]:
            x, n = trial.suggest_float("x", 0, 1), trial.suggest_int("n", 1, 64, log=True)
            return n * x, x - n / 100

        theirs = optuna.create_study(directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(seed=1))
        theirs.optimize(two, n_trials=25)
        study = imported(theirs, metrics=("cost", "gain"))
        assert [(o.name, o.direction) for o in study.objectives] == [("gain", "maximize"), ("cost", "minimize")]
        front = {(winner.values["cost"], winner.values["gain"]) for winner in study.front}
        assert front == {tuple(trial.values) for trial in theirs.best_trials}
        assert len(front) > 2
        back = to_optuna(study, f"sqlite:///{tmp_path}/back.db")
        assert back.metric_names == ["gain", "cost"]
        assert {tuple(reversed(t.values)) for t in back.best_trials} == front
        on = hr.discover(
            study.space().program, lambda p: {"cost": p["n"] * p["x"], "gain": p["x"] - p["n"] / 100}, trials=30,
            maximize="gain", minimize="cost", store=study.store, name=study.name, progress=False,
        )  # fmt: skip
        assert on.counts == {"finished": 30}
        with pytest.raises(ValueError, match="metrics must be 2 different names"):
            from_optuna(theirs, metrics="cost")

    def test_constraints_are_limits_and_come_back(self) -> None:
        def bounded(trial: Any) -> float:
            x = trial.suggest_float("x", -4, 4)
            if trial.number != 2:  # to Optuna, one that says nothing keeps its constraints
                trial.set_constraint("big", x - 1)
                trial.set_constraint("small", -2 - x)
            return x

        theirs = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=2))
        theirs.optimize(bounded, n_trials=12)
        study = imported(theirs)
        assert [limit.name for limit in study.limits] == ["constraint.big", "constraint.small"]
        assert study.best is not None
        assert study.best.number == theirs.best_trial.number
        broken = {trial.number for trial in study.trials if trial.violation > 0}
        assert broken == {t.number for t in theirs.trials if any(v > 0 for v in t.constraints.values())}
        assert broken
        same_trials(theirs.trials, to_optuna(study, optuna.storages.InMemoryStorage()).trials)

    def test_what_has_no_place_is_said(self, tmp_path: Path) -> None:
        class Layer:
            pass

        layer = Layer()

        def odd(trial: Any) -> float:
            trial.suggest_categorical("shape", [(1, 2), Layer, math.nan, 1, True])
            trial.suggest_categorical("layer", [layer, {"a": 1}])
            trial.suggest_int("fixed", 3, 3)
            trial.set_user_attr("note", "good")
            trial.set_user_attr("value", 2)
            return math.inf if trial.number == 1 else trial.number

        theirs = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs.optimize(odd, n_trials=6)
        theirs.set_user_attr("owner", "me")
        theirs.enqueue_trial({"fixed": 3})
        with pytest.warns(UserWarning, match="left out of study 'odd'") as said:
            study = from_optuna(theirs, as_name="odd")
        text = str(said[0].message)
        for part in (
            "1 waiting",
            "'layer', now texts: Layer 0",
            "'shape', now texts: <class",
            "nan",
            "attribute 'note'",
        ):
            assert part in text
        assert study.environments[1]["user attributes"] == '{"owner": "me"}'
        assert study.trials[1].state == "failed"
        assert "must be finite, got inf" in str(study.trials[1].error)
        assert study.trials[2].values == {"value": 2.0, "user.value": 2.0}
        kinds = {type(study.decode(trial)["shape"]) for trial in study.trials}
        assert kinds <= {tuple, str, int, bool}
        assert {study.decode(trial)["fixed"] for trial in study.trials} == {3}
        assert study.best is not None
        assert study.best.number == 0
        export(study, tmp_path / "odd.csv", "csv")

    def test_ranges_that_have_no_common_grid_lose_it_and_keep_their_values(self) -> None:
        theirs = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for low, step in ((0.0, 0.25), (0.1, 0.25), (0.0, 0.25)):
            trial = theirs.ask()
            theirs.tell(trial, trial.suggest_float("x", low, 1.1, step=step) + trial.suggest_int("n", 2, 12, step=5))
        theirs.enqueue_trial({"x": 7.0, "n": 2})  # out of range: Optuna warns, and takes it
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = theirs.ask()
            theirs.tell(trial, trial.suggest_float("x", 0, 1, step=0.25) + trial.suggest_int("n", 2, 12, step=5))
        study = imported(theirs)
        for ours, trial in zip(study.trials, theirs.trials, strict=True):
            assert dict(study.decode(ours)) == trial.params
        x, n = study.space().program["x"], study.space().program["n"]
        assert (x.lo, x.hi, x.step, n.step) == (0.0, 7.0, None, 5)

    def test_what_cannot_be_opened_is_said_and_nothing_is_written(self, tmp_path: Path) -> None:
        store = Memory()
        with pytest.raises(StoreError, match=r"no file .*missing\.db"):
            from_optuna(f"sqlite:///{tmp_path}/missing.db", store=store)
        assert not (tmp_path / "missing.db").exists()
        hr.discover(hr.number(0, 9), lambda n: n, trials=2, store=f"sqlite:///{tmp_path}/ours.db", progress=False)
        with pytest.raises(StoreError, match="as a storage of Optuna"):
            from_optuna(f"sqlite:///{tmp_path}/ours.db", store=store)
        storage = optuna.storages.InMemoryStorage()
        for name in ("a", "b"):
            optuna.create_study(study_name=name, storage=storage)
        with pytest.raises(StoreError, match="holds 2 studies: a, b"):
            from_optuna(storage, store=store)
        with pytest.raises(StoreError, match="no study 'c' in InMemoryStorage; it has a, b"):
            from_optuna(storage, "c", store=store)
        with pytest.raises(TypeError, match="must be a URL or a storage of Optuna, got int"):
            from_optuna(5, store=store)  # type: ignore[arg-type]
        assert store.names() == []
        assert from_optuna(storage, "b", store=store).counts == {}
        with pytest.raises(StoreError, match="'b' exists already"):
            from_optuna(storage, "b", store=store)
        assert from_optuna(storage, "b", store=store, as_name="c").name == "c"

    def test_an_import_that_was_killed_is_done_again(self) -> None:
        class Fragile(Memory):
            broken = True

            def commit(self, *given: Any, **more: Any) -> int:
                if self.broken:
                    raise KeyboardInterrupt
                return super().commit(*given, **more)

        theirs, store = optimised(), Fragile()
        with pytest.raises(KeyboardInterrupt):
            from_optuna(theirs, store=store)
        assert store.counts("tuning") == {}
        store.broken = False
        assert from_optuna(theirs, store=store).counts == {"finished": 11, "pruned": 2, "failed": 1}
        assert len(store.spaces("tuning")) == 5

    def test_a_server_is_read(self, postgres_url: str) -> None:
        theirs = optimised(postgres_url.replace("postgresql://", "postgresql+psycopg://"), trials=3)
        study = imported(postgres_url)
        assert [trial.values["loss"] for trial in study.trials] == [t.user_attrs["loss"] for t in theirs.trials]


class Block(hr.Symbolic):
    size: int
    gate: bool = False


class Net(hr.Symbolic):
    width: int
    rate: float
    share: float
    act: str
    flag: bool | int | float
    block: Block | None
    order: tuple[str, ...]
    some: tuple[str, ...]
    copies: tuple[int, ...]


NET = Net(
    hr.number(8, 256, log=True), hr.number(1e-4, 1e-1, log=True), hr.number(0.1, 1.0, step=0.3), hr.one_of("relu", "gelu"),
    hr.one_of(1, 1.0, True), hr.one_of(Block(hr.number(1, 9, step=2)), None, Block(0, True)), hr.permutation(("a", "b", "c")),
    hr.some_of(("p", "q", "r"), 0, 2), hr.repeat(hr.number(1, 5), 1, 3),
)  # fmt: skip


def lines(net: Net) -> float:
    return float(net.width)


def trained(net: Net, trial: hr.Trial) -> dict[str, float]:
    for epoch in range(3):
        trial.report(epoch, accuracy=net.rate * (epoch + 1), loss=1 / (epoch + 1))
    if trial.index == 4:
        raise MemoryError("too large")
    if trial.index == 6:
        raise hr.study.Pruned
    trial.save("weights.bin", b"x" * (trial.index + 1))
    return {"accuracy": net.rate + net.share / 100, "loss": 0.5, "seed": float(trial.index)}


def net_study(store: Any = None, trials: int = 9) -> Study:
    return hr.discover(
        NET, trained, maximize="accuracy", trials=trials, store=store, name="nets/one", progress=False, seed=5,
        algorithm=hr.RandomSearch(), limits=[hr.Limit(lines, at_most=300), hr.Limit("loss", at_most=0.75)],
    )  # fmt: skip


@pytest.fixture
def nets(tmp_path: Path) -> Study:
    return net_study(f"sqlite:///{tmp_path}/nets.db")


class TestToOptuna:
    def test_optuna_s_own_study_comes_back_as_it_was(self, tmp_path: Path) -> None:
        theirs = optimised()
        study = imported(theirs, store=f"sqlite:///{tmp_path}/ours.db")
        back = to_optuna(study, f"sqlite:///{tmp_path}/back.db")
        same_trials(theirs.trials, back.trials)
        assert back.direction == theirs.direction
        assert back.best_trial.number == theirs.best_trial.number

    def test_choices_become_parameters_and_optuna_works_with_them(self, nets: Study) -> None:
        theirs = to_optuna(nets, optuna.storages.InMemoryStorage())
        for ours, trial in zip(nets.trials, theirs.trials, strict=True):
            net = nets.decode(ours)
            params = trial.params
            assert (params["width"], params["rate"], params["act"]) == (net.width, net.rate, net.act)
            assert params["share"] == net.share
            assert params["flag"] == repr(net.flag)
            assert params["copies"] == len(net.copies)
            assert [params[f"copies.item[{i}]"] for i in range(len(net.copies))] == list(net.copies)
            assert ("block.candidates[0].size" in params) == (net.block is not None and not net.block.gate)
            assert trial.user_attrs["choice.order"] == " ".join(net.order)
            assert trial.user_attrs["choice.some"] == " ".join(net.some)
            assert trial.user_attrs["cost.lines"] == net.width
            assert trial.user_attrs["digest"] == ours.digest
            assert {v: k for k, v in STATES.items()}[ours.state] == trial.state.name
            if ours.state == "finished":
                assert trial.value == ours.values["accuracy"]
                assert trial.constraints == {"loss": -0.25}
                assert trial.user_attrs["value.seed"] == ours.number
            assert trial.intermediate_values == {step: metrics["accuracy"] for step, metrics in ours.steps}
        assert "MemoryError" in theirs.trials[4].user_attrs["error"]
        assert theirs.best_trial.number == nets.best.number  # type: ignore[union-attr]
        importances = optuna.importance.get_param_importances(theirs, params=["width", "rate", "act"])
        assert set(importances) == {"width", "rate", "act"}
        for draw in (optuna.visualization.plot_optimization_history, optuna.visualization.plot_intermediate_values):
            assert draw(theirs).data
        assert optuna.visualization.plot_slice(theirs, params=["width", "act"]).data
        assert len(theirs.trials_dataframe()) == 9

    def test_a_plain_space_comes_back_as_it_was(self) -> None:
        program = {"width": hr.number(8, 64), "rate": hr.number(1e-4, 1.0, log=True), "act": hr.one_of("relu", None, 2)}

        def evaluate(program: Any, trial: hr.Trial) -> dict[str, float]:
            trial.report(1, accuracy=0.5, loss=2.0)
            if trial.index == 2:
                raise ValueError("bad")
            return {"accuracy": program["width"] * program["rate"], "seed": 4.0}

        ours = hr.discover(program, evaluate, maximize="accuracy", trials=10, progress=False, name="plain")
        theirs = to_optuna(ours, optuna.storages.InMemoryStorage())
        back = imported(theirs, as_name="back")
        assert back.space().program == ours.space().program
        kept = ("number", "state", "digest", "seed", "values", "score", "parents", "origin", "steps", "worker", "error")
        for a, b in zip(ours.trials, back.trials, strict=True):
            assert [getattr(b, name) for name in kept] == [getattr(a, name) for name in kept]
            assert b.started == pytest.approx(a.started, abs=1e-6)
            assert back.decode(b) == ours.decode(a)
        assert back.best is not None
        assert back.best.program == ours.best.program  # type: ignore[union-attr]

    def test_new_trials_are_added_and_other_studies_left_alone(self, tmp_path: Path) -> None:
        store, url = f"sqlite:///{tmp_path}/ours.db", f"sqlite:///{tmp_path}/optuna.db"
        program = {"n": hr.one_of(*range(9))}

        def discover(program: Any, trials: int, **more: Any) -> Study:
            return hr.discover(
                program, lambda p: p["n"], trials=trials, store=store, name="digits", progress=False, **more
            )

        to_optuna(discover(program, 3), url)
        discover(program, 5)
        wider = {"n": hr.one_of(*range(12))}
        theirs = to_optuna(discover(program, 5), url)
        assert [trial.user_attrs["number"] for trial in theirs.trials] == [0, 1, 2, 3, 4]
        other = hr.discover(wider, lambda p: p["n"], trials=2, name="digits", progress=False)
        with pytest.raises(StoreError, match="has another study 'digits'"):
            to_optuna(other, url)
        grown = to_optuna(discover(wider, 8, extend=True), url, "grown")
        assert len(grown.trials) == 8  # though Optuna takes one set of candidates for a name only
        assert {len(t.distributions["n"].choices) for t in grown.trials} == {12}


class TestFrames:
    def test_columns_have_types_and_equal_the_rows(self, nets: Study) -> None:
        pandas = pytest.importorskip("pandas")
        polars = pytest.importorskip("polars")
        few, table = nets.frame(), nets.frame("polars")
        assert list(few.columns) == table.columns == list(columns(nets))
        assert few.shape == table.shape == (9, len(table.columns))
        types = {name: str(kind) for name, kind in few.dtypes.items()}
        assert types["number"] == types["choice.width"] == types["attempts"] == types["choice.copies"] == "int64"
        assert types["choice.block.candidates[0].size"] == "Int64"
        assert types["choice.rate"] == types["value.accuracy"] == types["cost.lines"] == "float64"
        assert types["state"] == types["choice.act"] == types["choice.block"] == "category"
        assert types["error"] == types["fingerprint"] == types["digest"] == "string"
        assert str(few["started"].dt.tz) == "UTC"
        schema = dict(table.schema)
        assert schema["choice.block.candidates[0].size"] == polars.Int64
        assert schema["started"] == polars.Datetime("us", "UTC")
        assert schema["fingerprint"] == polars.String
        assert (schema["state"], schema["value.loss"]) == (polars.Categorical, polars.Float64)
        for place, (row, record) in enumerate(zip(rows(nets), nets.trials, strict=True)):
            for name in few.columns:
                wanted = row.get(name)
                if name == "started":
                    assert few[name][place].timestamp() == pytest.approx(wanted, abs=1e-6)
                    assert table[name][place].timestamp() == pytest.approx(wanted, abs=1e-6)
                elif wanted is None and not (name.startswith("choice.") and name in row):
                    assert pandas.isna(few[name][place])
                    assert table[name][place] is None
                else:
                    wanted = str(wanted) if types[name] == "category" else wanted
                    assert few[name][place] == table[name][place] == wanted
            assert few["artifacts"][place] == len(record.artifacts) == (record.state == "finished")
        assert set(few["choice.block"]) == {
            "None",
            "Block(size=number(lo=1, hi=9, step=2))",
            "Block(size=0, gate=True)",
        }
        with pytest.raises(ValueError, match="kind must be 'pandas' or 'polars', got 'arrow'"):
            nets.frame("arrow")  # type: ignore[arg-type]

    def test_files_hold_the_same_columns(self, nets: Study, tmp_path: Path) -> None:
        polars = pytest.importorskip("polars")
        parquet = polars.read_parquet(export(nets, tmp_path / "nets.parquet", "parquet"))
        assert parquet.drop("started").equals(
            nets.frame("polars").drop("started").with_columns(polars.col(polars.Categorical).cast(polars.String))
        )
        csv = polars.read_csv(export(nets, tmp_path / "nets.csv", "csv"), infer_schema_length=None)
        assert csv.columns == parquet.columns
        assert csv["value.accuracy"].to_list() == parquet["value.accuracy"].to_list()
        trials = json.loads(export(nets, tmp_path / "nets.json", "json").read_text())["trials"]
        assert trials[0]["steps"][2] == [2, {"accuracy": trials[0]["choice.rate"] * 3, "loss": 1 / 3}]

    def test_an_empty_study_is_an_empty_frame(self) -> None:
        pytest.importorskip("pandas")
        assert len(from_optuna(optuna.create_study()).frame()) == 0

    def test_ints_beyond_tables_and_energy(self, tmp_path: Path) -> None:
        pytest.importorskip("pandas")
        study = hr.discover({"n": hr.number(0, 2**80)}, lambda p: 1.0, trials=3, progress=False)
        known = study.trials[0]
        fields = {name: getattr(known, name) for name in TrialRecord.__dataclass_fields__}
        fields |= {"number": 3, "energy": {"cpu_kwh": 0.25, "co2e_kg": 0.1}, "attempts": 2}
        state, revision = study.store.state(study.name)
        study.store.commit(study.name, [TrialRecord(**fields)], state or {}, revision)
        frame = study.frame()
        assert frame["choice.n"].dtype == "float64"
        assert frame["energy.cpu_kwh"].dropna().to_list() == [0.25]
        assert frame["attempts"].to_list() == [1, 1, 1, 2]
        assert export(study, tmp_path / "n.parquet", "parquet").exists()


class TestToMlflow:
    def test_trials_are_runs_below_the_study_s_and_are_written_once(
        self, nets: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mlflow = pytest.importorskip("mlflow")
        monkeypatch.chdir(tmp_path)  # MLflow keeps files in ./mlruns
        url = f"sqlite:///{tmp_path}/mlflow.db"
        parent = to_mlflow(nets, url, progress=False)
        client = mlflow.MlflowClient(tracking_uri=url)
        experiment = client.get_experiment_by_name("nets/one").experiment_id

        def runs() -> dict[int, Any]:
            found = client.search_runs([experiment], "tags.`heuretic.number` != ''")
            return {int(run.data.tags["heuretic.number"]): run for run in found}

        first = runs()
        assert sorted(first) == list(range(9))
        for ours, row in zip(nets.trials, rows(nets), strict=True):
            run = first[ours.number]
            assert run.data.tags["mlflow.parentRunId"] == parent
            assert run.info.status == {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}[ours.state]
            assert (run.data.tags["heuretic.digest"], run.data.tags["heuretic.state"]) == (ours.digest, ours.state)
            assert run.data.tags["environment.python"]
            assert run.data.params["rate"] == str(row["choice.rate"])
            assert run.data.params["act"] == row["choice.act"]
            assert run.data.metrics["cost.lines"] == ours.costs["lines"]
            history = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "accuracy")]
            final = [(3, ours.values["accuracy"])] if "accuracy" in ours.values else []
            assert history == [(step, metrics["accuracy"]) for step, metrics in ours.steps] + final
        place = tmp_path / "files"
        place.mkdir()
        client.download_artifacts(first[2].info.run_id, "weights.bin", str(place))
        assert (place / "weights.bin").read_bytes() == b"xxx"
        assert client.get_run(parent).data.tags["heuretic.best"] == str(nets.best.number)  # type: ignore[union-attr]
        assert client.get_run(parent).info.status == "FINISHED"

        client.update_run(first[7].info.run_id, status="RUNNING")  # as if the process had been killed in it
        longer = net_study(nets.store, trials=10)
        assert to_mlflow(longer, url, progress=False) == parent
        second = runs()
        assert sorted(second) == list(range(10))
        assert {n for n in first if first[n].info.run_id != second[n].info.run_id} == {7}
        with pytest.raises(StoreError, match="MLflow at nonsense:"):
            to_mlflow(nets, "nonsense://x")


class TestToTensorBoard:
    def test_trials_are_runs_with_hyperparameters_and_are_written_once(self, nets: Study, tmp_path: Path) -> None:
        accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        metadata: Any = pytest.importorskip("tensorboard.plugins.hparams.metadata")
        place = to_tensorboard(nets, tmp_path / "runs", progress=False)
        assert place == tmp_path / "runs" / "nets" / "one"

        def read(folder: Path) -> Any:
            read = accumulator.EventAccumulator(str(folder))
            read.Reload()
            return read

        for ours, row in zip(nets.trials, rows(nets), strict=True):
            events = read(place / f"trial-{ours.number:06d}")
            scalars = [(event.step, event.value) for event in events.Scalars("accuracy")]
            assert scalars == [(step, pytest.approx(metrics["accuracy"])) for step, metrics in ours.steps]
            if ours.state == "finished":
                assert events.Scalars("final/accuracy")[0].value == pytest.approx(ours.values["accuracy"])
                assert events.Scalars("final/accuracy")[0].wall_time == ours.started + ours.seconds
            assert events.Scalars("cost/lines")[0].value == ours.costs["lines"]
            content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
            chosen = metadata.parse_session_start_info_plugin_data(content).hparams
            assert chosen["rate"].number_value == row["choice.rate"]
            assert chosen["act"].string_value == row["choice.act"]
            assert set(chosen) == {name.removeprefix("choice.") for name in row if name.startswith("choice.")}
            content = events.summary_metadata["_hparams_/session_end_info"].plugin_data.content
            assert metadata.parse_session_end_info_plugin_data(content).status == 1 + (ours.state == "failed")
        content = read(place).summary_metadata["_hparams_/experiment"].plugin_data.content
        experiment = metadata.parse_experiment_plugin_data(content)
        assert {info.name.tag for info in experiment.metric_infos} >= {"final/accuracy", "cost/lines"}
        [width] = [info for info in experiment.hparam_infos if info.name == "width"]
        assert (width.domain_interval.min_value, width.domain_interval.max_value) == (8, 256)
        before = {file: file.stat().st_mtime_ns for file in place.rglob("trial-*/*")}
        to_tensorboard(net_study(nets.store, trials=10), tmp_path / "runs", progress=False)
        after = {file: file.stat().st_mtime_ns for file in place.rglob("trial-*/*")}
        assert {file.parent.name for file in after.keys() - before.keys()} == {"trial-000009"}
        assert before.items() <= after.items()
        assert len(list(place.glob("*tfevents*"))) == 1

    def test_neither_tensorflow_nor_torch_is_needed(self, nets: Study, tmp_path: Path) -> None:
        import subprocess
        import sys

        pytest.importorskip("tensorboard")
        code = (
            "import sys; sys.modules['torch'] = sys.modules['tensorflow'] = None\n"
            "from heuretic.study import open_study\nfrom heuretic.study.interop.tensorboard import to_tensorboard\n"
            f"to_tensorboard(open_study({nets.store.url!r}), {str(tmp_path / 'tb')!r})"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
        assert len(list((tmp_path / "tb").rglob("trial-*/*"))) == 9


def test_the_command_line_imports_and_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    theirs = optimised("sqlite:///theirs.db", trials=4)
    theirs.ask()

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["study", *arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    said = run("import", "sqlite:///theirs.db", "--from", "optuna", "--as", "ours")
    assert "1 running" in said
    assert "ours: 3 finished, 1 pruned in sqlite:///heuretic.db" in " ".join(said.split())
    assert run("export", "--format", "optuna", "--out", "sqlite:///back.db").strip() == "sqlite:///back.db"
    same_trials(theirs.trials[:4], optuna.load_study(study_name="ours", storage="sqlite:///back.db").trials)
    assert run("export", "--format", "tensorboard").strip() == "runs/ours"
    assert len(list((tmp_path / "runs").rglob("trial-*/*"))) == 4
    assert run("export", "--format", "csv").strip() == "ours.csv"
    with pytest.raises(StoreError, match=r"no file nothing\.db"):
        CliRunner().invoke(app, ["study", "import", "sqlite:///nothing.db"], catch_exceptions=False)
    with pytest.raises(StoreError, match="'ours' exists already"):
        CliRunner().invoke(app, ["study", "import", "sqlite:///theirs.db", "--as", "ours"], catch_exceptions=False)


def test_random_programs_survive_the_way_through_optuna() -> None:
    """Whatever a genome says of a plain space is said by its parameters, and read back from them."""
    from heuretic.study.interop.optuna_parameters import Distributions

    program = {
        "a": hr.number(-5, 7, step=3), "b": hr.number(0.1, 0.7, step=0.2), "c": hr.number(1, 1000, log=True),
        "d": hr.one_of(None, 1.5, "x", True), "e": hr.number(-1.0, 1.0), "f": hr.one_of(3),
    }  # fmt: skip
    space, parameters, rng = hr.Space(program), Distributions([program]), random.Random(1)
    theirs = optuna.create_study()
    programs = [space.decode(space.sample(rng)) for _ in range(60)]
    for each in programs:
        params, distributions, _ = parameters.of(0, space.encode(each))
        theirs.add_trial(optuna.create_trial(params=params, distributions=distributions, value=1.0))
    study = imported(theirs)
    assert [study.decode(trial) for trial in study.trials] == programs
