"""Progressive learning: stages by hand, images of that size in that stage, and the same bits after a kill."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import heuretic as hr
from heuretic.data import DataSet, MixUp, RandAugment, load
from heuretic.ideas.efficientnetv2 import CLAIM, FIXED, PROGRESSIVE, RULE, TIMES, costs, judge, reproduce
from heuretic.ideas.result import Arm, compare, read
from heuretic.nn import StochasticDepth
from heuretic.nn.convolution import Residual
from heuretic.nn.residual_paths import DropPaths
from heuretic.train import Constant, Loop, Optimization, Order, Run, Trained, progressive
from heuretic.train.recipes.progressive import Resized, staged


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data() -> DataSet[Any, Any]:
    return load("digits", validation=200)


class Seen(nn.Module):
    """A small classifier that notes, in training, the size of its images and the rates of what it drops."""

    def __init__(self, depth_rates: tuple[float, float] = (0.1, 0.2)) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, 2, 1)
        self.layers = nn.Sequential(*(Residual(nn.Conv2d(4, 4, 3, 1, 1), None, rate) for rate in depth_rates))
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Linear(4, 10)
        self.seen: list[tuple[int, float, tuple[float, ...]]] = []
        self.measured: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.append((x.shape[-1], round(self.dropout.p, 6), rates(self)))
        else:
            self.measured.append(x.shape[-1])
        return self.last(self.dropout(self.layers(self.first(x)).mean((2, 3))))


def rates(model: nn.Module) -> tuple[float, ...]:
    return tuple(round(part.rate, 6) for part in model.modules() if isinstance(part, StochasticDepth))


def trained(data: DataSet[Any, Any], steps: int = 8, *, ema: float | None = None, **given: Any) -> Trained:
    """Train a model made with seed 0, a fresh one each time."""
    loop = given.pop("loop", Loop(steps=steps, progress=False))
    optimization = Optimization(functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9), ema=ema, cpu=True)
    return progressive(
        given.pop("model", None) or made(), data, optimization=optimization, loop=loop, batch=16, **given
    )


def made(**given: Any) -> Seen:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Seen(**given)


def test_values_of_stages_are_the_papers() -> None:
    # EfficientNetV2-S: 128 to 300 in 4 stages; S_i = S_0 + (S_e - S_0) i / (M - 1).
    assert [staged((128, 300), i, 4) for i in range(4)] == pytest.approx([128, 185 + 1 / 3, 242 + 2 / 3, 300])
    assert [staged((5, 15), i, 4) for i in range(4)] == pytest.approx([5, 8 + 1 / 3, 11 + 2 / 3, 15])
    assert [staged((0.1, 0.3), i, 3) for i in range(3)] == pytest.approx([0.1, 0.2, 0.3])
    assert staged((128, 300), 0, 1) == 300


def test_each_stage_has_its_images_and_its_rates(data: DataSet[Any, Any]) -> None:
    model = made()
    trained(data, model=model, stages=4, sizes=(4, 8), dropout=(0.1, 0.4), stochastic_depth=(0.0, 0.3))
    # Sizes 4, 5.33, 6.67, 8 round to 4, 5, 7, 8; the rate of the first path stays half of the second's.
    assert model.seen == [
        (4, 0.1, (0.0, 0.0)), (4, 0.1, (0.0, 0.0)), (5, 0.2, (0.05, 0.1)), (5, 0.2, (0.05, 0.1)),
        (7, 0.3, (0.1, 0.2)), (7, 0.3, (0.1, 0.2)), (8, 0.4, (0.15, 0.3)), (8, 0.4, (0.15, 0.3)),
    ]  # fmt: skip
    assert set(model.measured) == {8}
    assert (model.dropout.p, rates(model)) == (pytest.approx(0.4), (0.15, 0.3))


def test_stages_split_the_steps_equally_and_default_to_half_the_size(data: DataSet[Any, Any]) -> None:
    model = made()
    trained(data, steps=10, model=model, stages=4)
    assert [size for size, *_ in model.seen] == [4, 4, 4, 5, 5, 7, 7, 7, 8, 8]
    assert model.dropout.p == 0.5
    assert rates(model) == (0.1, 0.2)


def test_rates_of_the_average_end_like_the_models(data: DataSet[Any, Any]) -> None:
    result = trained(data, ema=0.9, dropout=(0.1, 0.4))
    assert result.model.get_submodule("dropout").p == pytest.approx(0.4)  # type: ignore[union-attr]


def test_magnitudes_grow_and_come_after_resizing(data: DataSet[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[float, int, int]] = []
    change = RandAugment.__call__

    def noted(self: RandAugment, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        calls.append((round(self.magnitude, 6), self.ops, images.shape[-1]))
        return change(self, images, generator)

    monkeypatch.setattr(RandAugment, "__call__", noted)
    trained(data, steps=3, stages=3, sizes=(4, 8), magnitudes=(5, 15), ops=1)
    assert calls == [(5, 1, 4), (10, 1, 6), (15, 1, 8)]
    calls.clear()
    trained(data, steps=3, stages=3, magnitudes=None)
    assert calls == []


def test_mixup_grows_from_none(data: DataSet[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    alphas: list[float] = []
    mix = MixUp.__call__

    def noted(self: MixUp, *given: Any) -> Any:
        alphas.append(round(self.alpha, 6))
        return mix(self, *given)

    monkeypatch.setattr(MixUp, "__call__", noted)
    trained(data, steps=6, stages=3, mixup=(0.0, 0.4))
    assert alphas == [0.2, 0.2, 0.4, 0.4]


def test_hooks_that_drop_paths_follow_too(data: DataSet[Any, Any]) -> None:
    patched = hr.apply(made(depth_rates=(0.0, 0.0)), "stochastic-depth?rate=0.2")
    trained(data, model=patched, stochastic_depth=(0.1, 0.4))
    hooks = [hook for part in patched.modules() for hook in part._forward_hooks.values() if isinstance(hook, DropPaths)]
    assert [*rates(patched), *(hook.rate for hook in hooks)] == pytest.approx([0.2, 0.4])


def test_one_stage_at_full_size_is_supervised_training(data: DataSet[Any, Any]) -> None:
    optimization = Optimization(functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9), cpu=True)
    plain = hr.train.supervised(made(), data, optimization=optimization, loop=Loop(steps=5, progress=False), batch=16)
    staged_run = trained(data, steps=5, stages=1, magnitudes=None)
    assert staged_run.metrics == plain.metrics


def test_the_same_weights_go_through_all_stages_as_in_a_loop_by_hand(data: DataSet[Any, Any]) -> None:
    def model() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))

    sgd = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9)
    ours = progressive(
        model(), data, optimization=Optimization(sgd, Constant(), cpu=True), loop=Loop(steps=6, progress=False), batch=16,
        stages=3, sizes=(4, 8), magnitudes=None, seed=5,
    ).model  # fmt: skip
    theirs, order = model(), Order(len(data.train), 16, seed=5)
    optimizer = sgd(theirs.parameters())
    pixels = torch.from_numpy(np.asarray(data.train.inputs)).permute(0, 3, 1, 2).float()
    mean, std = pixels.mean() / 255, pixels.std(correction=0) / 255
    for step, size in enumerate((4, 4, 6, 6, 8, 8)):
        rows = torch.from_numpy(order(step))
        x = F.interpolate(pixels[rows], size=size, mode="bilinear", antialias=True).round()
        loss = F.cross_entropy(theirs((x / 255 - mean) / std), torch.from_numpy(data.train.labels)[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for mine, hand in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, hand, rtol=1e-4, atol=1e-5)


def test_resizing_is_the_mean_of_pixels_where_it_halves() -> None:
    images = torch.tensor([[[[0, 100], [200, 100]]]], dtype=torch.uint8)
    assert Resized(1)(images).tolist() == [[[[100]]]]
    assert Resized(2)(images) is images
    assert Resized(4)(images).shape == (1, 1, 4, 4)
    assert Resized(4)(images).dtype == torch.uint8


class Killed(Exception):
    pass


def killed_after(steps: int) -> Any:
    def callback(run: Run) -> None:
        if run.done == steps:
            raise Killed

    return callback


@pytest.mark.parametrize("kill", [3, 4, 5])
def test_resuming_is_exact_before_at_and_after_a_boundary(data: DataSet[Any, Any], tmp_path: Path, kill: int) -> None:
    given: dict[str, Any] = {"sizes": (4, 8), "stages": 2, "dropout": (0.1, 0.4), "stochastic_depth": (0.1, 0.3)}
    whole = trained(data, loop=Loop(steps=8, evaluate_every=2, progress=False), **given)
    loop = functools.partial(
        Loop, steps=8, evaluate_every=2, checkpoint_every=1, folder=str(tmp_path), progress=False, prefetch=True
    )
    with pytest.raises(Killed):
        trained(data, loop=loop(callbacks=(killed_after(kill),)), **given)
    resumed = trained(data, loop=loop(), **given)
    assert resumed.metrics == whole.metrics
    assert [each[1] for each in resumed.runs[0].evaluations] == [each[1] for each in whole.runs[0].evaluations]
    for ours, theirs in zip(resumed.model.state_dict().values(), whole.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    # Nothing is left to do for a third, whose model still ends with the last rates.
    again = trained(data, loop=loop(), **given)
    assert again.metrics == whole.metrics
    assert rates(again.model) == (0.15, 0.3)


def test_cpu_seconds_leave_out_evaluating(data: DataSet[Any, Any]) -> None:
    spent: list[float] = []

    class Slow(Seen):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not self.training:
                began = time.process_time()
                while time.process_time() - began < 0.5:
                    pass
                spent.append(time.process_time() - began)
            return super().forward(x)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Slow()
    began = time.process_time()
    run = trained(data, model=model, loop=Loop(steps=4, evaluate_every=2, progress=False)).runs[0]
    passed = time.process_time() - began
    assert len(run.cpu_seconds) == len(run.evaluations) == 2
    assert 0 < run.cpu_seconds[0] < run.cpu_seconds[1] <= passed - sum(spent)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stages": 9}, "stages must be from 1 to the number of steps, 8, got 9"),
        ({"stages": 0}, "stages must be from 1"),
        ({"sizes": (0, 8)}, "sizes must be at least 1 pixel"),
        ({"dropout": (0.1, 1.0)}, "rates must be in"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "dropout": (0.1, 0.2)}, "dropout must be None for"),
        ({"model": Seen(depth_rates=(0.0, 0.0)), "stochastic_depth": (0.1, 0.2)}, "stochastic_depth must be None for"),
    ],
)
def test_mistakes_are_named(data: DataSet[Any, Any], given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trained(data, **given)


def test_a_training_program_may_leave_stages_open() -> None:
    program = hr.sym(progressive)(
        model=hr.sym(Seen)(), data=hr.sym(load)("digits", validation=200),
        optimization=hr.sym(Optimization)(cpu=True), loop=hr.sym(Loop)(steps=4, progress=False),
        sizes=(hr.one_of(4, 6), 8), stages=hr.one_of(2, 4), magnitudes=None,
    )  # fmt: skip
    study = hr.discover(program, hr.train.evaluate, trials=4, maximize="validation_accuracy", progress=False)
    assert [trial.state for trial in study.trials] == ["finished"] * 4


def test_costs_are_counted_to_the_first_evaluation_that_is_good_enough() -> None:
    accuracies, seconds = [0.1, 0.5, 0.4, 0.6], [1.0, 2.0, 3.0, 4.0]
    run = Run(8, 8, evaluations=[(2 * i + 2, {"accuracy": a}) for i, a in enumerate(accuracies)], cpu_seconds=seconds)
    found = costs(run, 0.5, [10.0, 20.0, 30.0, 40.0])
    # Two stages of two steps each are done by then: 2 * 10 + 2 * 20.
    assert found == {
        "cpu_seconds_to_equal_accuracy": 2.0, "multiply_adds_to_equal_accuracy": 60.0, "steps_to_equal_accuracy": 4,
        "cpu_seconds": 4.0, "multiply_adds": 200.0,
    }  # fmt: skip
    assert costs(run, 0.7, [10.0])["cpu_seconds_to_equal_accuracy"] == 4.0


def _arms(seconds: tuple[float, ...], adds: tuple[float, ...], test: tuple[float, ...]) -> dict[str, Arm]:
    fixed = {TIMES[0]: (10.0, 10.0, 10.0), TIMES[1]: (9.0, 9.0, 9.0), "test_accuracy": (0.5, 0.5, 0.5)}
    ours = {TIMES[0]: seconds, TIMES[1]: adds, "test_accuracy": test}
    return {FIXED: Arm({}, fixed), PROGRESSIVE: Arm({}, ours)}


@pytest.mark.parametrize(
    ("seconds", "adds", "test", "verdict"),
    [
        ((5.0, 5.1, 5.2), (4.0, 4.0, 4.0), (0.5, 0.501, 0.499), "reproduced"),
        ((5.0, 5.1, 5.2), (4.0, 4.0, 4.0), (0.48, 0.481, 0.479), "not reproduced"),
        ((11.0, 11.1, 11.2), (4.0, 4.0, 4.0), (0.5, 0.501, 0.499), "not reproduced"),
        ((5.0, 15.0, 9.0), (4.0, 4.0, 4.0), (0.5, 0.501, 0.499), "not testable at this scale"),
        ((5.0, 5.1, 5.2), (4.0, 4.0, 4.0), (0.52, 0.5, 0.47), "not testable at this scale"),
    ],
)
def test_the_verdict_follows_the_rule(
    seconds: tuple[float, ...], adds: tuple[float, ...], test: tuple[float, ...], verdict: str
) -> None:
    arms = _arms(seconds, adds, test)
    comparisons = [compare(arms, metric, PROGRESSIVE, FIXED) for metric in (*TIMES, "test_accuracy")]
    assert judge("small", arms, comparisons)[0] == verdict
    assert judge("smoke", arms, comparisons)[0] == "not testable at this scale"


def test_the_committed_verdict_follows_from_its_numbers() -> None:
    result = read(Path(__file__).parents[1] / "results" / "efficientnetv2" / "small.json")
    assert judge(result.scale, result.arms, result.comparisons) == (result.verdict, result.reason)
    assert (result.claim, result.rule) == (CLAIM, RULE)


def test_the_check_of_the_claim_repeats_bit_for_bit() -> None:
    first, second = (reproduce("smoke") for _ in range(2))
    for name, arm in first.arms.items():
        theirs = second.arms[name]
        assert arm.settings == theirs.settings
        for metric, values in arm.measurements.items():
            if "cpu_seconds" not in metric:
                assert values == theirs.measurements[metric]
    assert first.verdict == "not testable at this scale"
    adds = {name: arm.measurements["multiply_adds"] for name, arm in first.arms.items()}
    assert adds[PROGRESSIVE] < adds[FIXED]
