"""Tuning training programs alike in every arm, RandAugment's check of its claim, and its grid on the command line."""

from __future__ import annotations

import functools
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import heuretic as hr
from heuretic.data import load
from heuretic.ideas.randaugment import (
    CLAIM,
    FLIP_CROP,
    NONE,
    PLANS,
    PUBLISHED,
    RAND_AUGMENT,
    RULE,
    SEARCHED,
    judge,
    open_policy,
    programs,
    reproduce,
)  # fmt: skip
from heuretic.ideas.result import Comparison, read
from heuretic.ideas.trainings import TUNING_SEED, tuned, tuned_arms
from heuretic.search import Space
from heuretic.train import Loop, Optimization, Trained, run, supervised

EXAMPLE = Path(__file__).parents[1] / "examples" / "randaugment.py"


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def program(lr: float, smoothing: float = 0.0) -> Any:
    return hr.sym(supervised)(
        model=hr.sym(linear)(), data=hr.sym(load)("digits", validation=300),
        optimization=hr.sym(Optimization)(optimizer=hr.sym(functools.partial)(torch.optim.SGD, lr=lr), cpu=True),
        loop=hr.sym(Loop)(steps=3, progress=False), batch=16, label_smoothing=smoothing,
    )  # fmt: skip


def metrics(trained: Trained) -> Mapping[str, float]:
    return trained.metrics


def test_the_best_of_all_candidates_is_chosen() -> None:
    rates = (1e-6, 0.05, 1e-5)
    alone = {lr: run(program(lr), seed=TUNING_SEED).metrics for lr in rates}
    for by, best in (("validation_accuracy", max), ("validation_loss", min)):
        found = tuned(program(hr.one_of(*rates)), by=by)
        assert [*found.settings[f"tried_{by}"].values()] == [alone[lr][by] for lr in rates]
        chosen = found.program.optimization.optimizer.lr
        assert alone[chosen][by] == best(each[by] for each in alone.values())
        assert found.settings["chosen"] == f"optimization.optimizer.lr {chosen}"


def test_trainings_that_diverge_are_passed_over() -> None:
    found = tuned(program(hr.one_of(1e38, 0.01)))
    assert found.program.optimization.optimizer.lr == 0.01
    assert len(found.settings["tried_validation_accuracy"]) == 1
    with pytest.raises(ValueError, match="got none of 2 whose loss stayed finite"):
        tuned(program(hr.one_of(1e37, 1e38)))


def test_a_searched_arm_gets_as_many_trainings_as_the_others() -> None:
    arms = tuned_arms(
        {"listed": program(hr.one_of(0.01, 0.02, 0.03)), "searched": program(hr.number(1e-4, 0.1, log=True))},
        metrics, seeds=(1, 2), searched={"searched": hr.RandomSearch()},
    )  # fmt: skip
    for arm in arms.values():
        tried = arm.settings["tried_validation_accuracy"]
        assert len(set(tried.values())) == len(tried) == 3
        assert tried[arm.settings["chosen"]] == max(tried.values())
        assert len(arm.measurements["validation_accuracy"]) == 2


def test_arms_must_be_tuned_alike() -> None:
    with pytest.raises(ValueError, match="arms must have equally many candidates, got"):
        tuned_arms({"a": program(hr.one_of(0.1, 0.2)), "b": program(hr.one_of(0.1, 0.2, 0.3))}, metrics, seeds=(1, 2))


def test_a_program_without_choices_is_not_tuned() -> None:
    arms = tuned_arms({"only": program(0.01)}, metrics, seeds=(1, 2))
    assert arms["only"].settings["chosen"] == "as it is"
    assert arms["only"].measurements["validation_loss"][0] == run(program(0.01), seed=1).metrics["validation_loss"]


@pytest.mark.parametrize("scale", ["smoke", "small", "full"])
def test_all_arms_of_randaugment_have_as_many_trainings(scale: Any) -> None:
    plan = PLANS[scale]
    found = programs(plan, channels=1, side=8)
    assert set(found) == {NONE, FLIP_CROP, RAND_AUGMENT, SEARCHED, PUBLISHED}
    sizes = {name: int(Space(each).size) for name, each in found.items()}
    # 14 operations, 11 probabilities and 10 levels for each step; two steps a pair.
    assert sizes.pop(SEARCHED) == (14 * 11 * 10) ** (2 * plan.pairs)
    assert set(sizes.values()) == {len(plan.ops) * len(plan.magnitudes)}


def test_a_policy_drawn_from_the_space_changes_images() -> None:
    space = Space(open_policy(2))
    policy = hr.build(space.decode(space.sample(random.Random(3))))
    pixels = torch.from_numpy(hr.data.load("digits", validation=50, labels=100).train.inputs).permute(0, 3, 1, 2)
    assert pixels.max() == 240
    changed = policy(pixels, torch.Generator().manual_seed(0))
    assert changed.shape == pixels.shape
    assert 0 < (changed != pixels).flatten(1).any(1).float().mean() <= 1


def _comparisons(*differences: tuple[float, ...]) -> list[Comparison]:
    controls = (NONE, FLIP_CROP, SEARCHED, PUBLISHED)
    return [Comparison("test_accuracy", RAND_AUGMENT, name, d) for name, d in zip(controls, differences, strict=True)]


def test_the_verdict_follows_the_rule() -> None:
    better, equal, worse, unsure = (0.025, 0.026), (0.0001, -0.0001), (-0.021, -0.02), (0.04, -0.03)
    assert judge("small", _comparisons(better, equal, better, equal))[0] == "reproduced"
    assert judge("small", _comparisons(better, better, better, worse))[0] == "not reproduced"
    assert judge("small", _comparisons(better, unsure, better, better))[0] == "not testable at this scale"
    assert judge("smoke", _comparisons(better, better, better, better))[0] == "not testable at this scale"


def test_the_committed_verdict_follows_from_its_numbers() -> None:
    result = read(Path(__file__).parents[1] / "results" / "randaugment" / "small.json")
    assert judge(result.scale, result.comparisons) == (result.verdict, result.reason)
    assert (result.claim, result.rule) == (CLAIM, RULE)
    tried = {len(arm.settings["tried_validation_accuracy"]) for arm in result.arms.values()}
    assert tried == {6}


def test_the_check_of_randaugment_repeats_bit_for_bit() -> None:
    first, second = (reproduce("smoke") for _ in range(2))
    assert first.arms == second.arms
    assert first.comparisons == second.comparisons
    with pytest.raises(ValueError, match="seeds must be at least 2"):
        reproduce("smoke", seeds=(1,))


def test_the_grid_is_one_command(tmp_path: Path) -> None:
    command = [
        str(Path(sys.executable).parent / "heuretic"), "discover", str(EXAMPLE), "--trials", "2", "--json",
        "--store", f"sqlite:///{tmp_path / 'grid.db'}",
    ]  # fmt: skip
    environment = {**os.environ, "HEURETIC_STEPS": "5", "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"] == {"finished": 2}
    study = hr.open_study(f"sqlite:///{tmp_path / 'grid.db'}")
    chosen = [study.space(trial.space).chosen(trial.genome) for trial in study.trials]
    assert [set(each) for each in chosen] == [{"augment[1].ops", "augment[1].magnitude"}] * 2
    assert chosen[0] != chosen[1]
    assert study.best is not None
    assert study.best.values["validation_accuracy"] > 0
