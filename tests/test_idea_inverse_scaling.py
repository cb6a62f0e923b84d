"""The check of inverse scaling: with models of random weights, and its verdicts on known curves."""

from pathlib import Path

import numpy as np
import pytest

from heuretic.evals.results import Results
from heuretic.evals.scaling_trend import trends_of
from heuretic.ideas import inverse_scaling, reasoning
from heuretic.ideas.inverse_scaling import judge, mitigation
from heuretic.ideas.result import read
from test_likelihood import local
from test_local_models import make_folder

SIZES = {f"m{k}": 10.0**k for k in range(5)}


def results(chances: dict[str, float], seed: int, each: int = 300) -> Results:
    rng = np.random.default_rng(seed)
    tasks = [task for task in chances for _ in range(each)]
    values = np.concatenate([(rng.random(each) < p).astype(float) for p in chances.values()])
    return Results([str(k) for k in range(len(values))], values, ["answered"] * len(values), {"task": tasks})


def arms(zero: dict[str, list[float]], gain: float) -> dict[tuple[str, int], Results]:
    return {
        (name, shots): results({task: curve[k] + shots * gain for task, curve in zero.items()}, 10 * k + shots)
        for k, name in enumerate(SIZES)
        for shots in (0, 1)
    }


INVERSE, POSITIVE = [0.8, 0.7, 0.6, 0.5, 0.4], [0.3, 0.4, 0.5, 0.6, 0.7]


@pytest.mark.parametrize(
    ("zero", "gain", "family", "verdict"),
    [
        ({"x": INVERSE, "y": POSITIVE}, 0.15, True, "reproduced"),
        ({"x": INVERSE, "y": POSITIVE}, 0.0, True, "not testable at this scale"),
        ({"x": INVERSE, "y": POSITIVE}, 0.15, False, "not testable at this scale"),
        ({"x": POSITIVE, "y": POSITIVE}, 0.15, True, "not reproduced"),
        ({"x": [0.8, 0.5, 0.3, 0.5, 0.8]}, 0.15, True, "reproduced"),
    ],
)
def test_verdicts_follow_from_the_rule(zero: dict[str, list[float]], gain: float, family: bool, verdict: str) -> None:
    paired = arms(zero, gain)
    trends = trends_of({name: paired[name, 0] for name in SIZES}, SIZES, "task")
    assert judge("small", trends, paired, SIZES, family)[0] == verdict
    assert judge("smoke", trends, paired, SIZES, family)[0] == "not testable at this scale"


def test_two_sizes_are_never_enough() -> None:
    sizes = {"m0": 1.0, "m1": 10.0}
    paired = {key: each for key, each in arms({"x": [0.9, 0.2, 0.2, 0.2, 0.2]}, 0.3).items() if key[0] in sizes}
    trends = trends_of({name: paired[name, 0] for name in sizes}, sizes, "task")
    verdict, reason = judge("full", trends, paired, sizes, True)
    assert verdict == "not testable at this scale"
    assert "x inverse" in reason
    assert "2 sizes" in reason


def test_mitigation_is_the_mean_gain_over_sizes() -> None:
    paired = arms({"x": INVERSE, "y": POSITIVE}, 0.15)
    assert mitigation(paired, ["x"]).value == pytest.approx(0.15, abs=0.04)
    assert mitigation(arms({"x": INVERSE}, 0.0), ["x"]).value == pytest.approx(0.0, abs=0.04)


def test_smoke_check_runs_and_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {kind: make_folder(tmp_path / kind, kind, context=256) for kind in ("llama", "gpt2")}
    monkeypatch.setattr(reasoning, "chosen_model", lambda name: local(Path(name)))
    sizes = {str(folder): 10.0**k for k, folder in enumerate(folders.values())}
    first = inverse_scaling.reproduce("smoke", models=sizes)
    assert first.verdict == "not testable at this scale"
    assert len(first.arms) == 4
    assert len(first.comparisons) == 3
    again = inverse_scaling.reproduce("smoke", models=sizes)
    assert again.arms == first.arms
    assert read(first.write(tmp_path)).record() == first.record()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="scale must be one of"):
        inverse_scaling.reproduce("big")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seeds must be at least 2"):
        inverse_scaling.reproduce("smoke", seeds=(1,))
