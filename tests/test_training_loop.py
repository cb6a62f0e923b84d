"""The training loop: exact resuming, stopping, measuring; schedules, batches and updates against plain torch code."""

import functools
import itertools
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import heuretic as hr
from heuretic.train import Constant, Cosine, Decay, Diverged, Images, Loop, Optimization, Order, Trained, cross_entropy
from heuretic.train.loop import digest_of

pytestmark = pytest.mark.usefixtures("fixed_weights")
DATA = hr.data.load("digits", validation=300)
SGD = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(512, 10)
    )  # fmt: skip


def train(loop: Loop, model: nn.Module | None = None, **given: Any) -> Trained:
    settings = {"optimization": Optimization(SGD, ema=0.99, clip=1.0), "batch": 32, "seed": 3} | given
    return hr.train.supervised(model or network(), DATA, loop=loop, **settings)


def assert_equal(ours: nn.Module, theirs: nn.Module) -> None:
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_supervised_learns_and_reports_validation() -> None:
    trained = train(Loop(steps=150, evaluate_every=50))
    assert trained.metrics["validation_accuracy"] > 0.9
    [run] = trained.runs
    assert [step for step, _ in run.evaluations] == [50, 100, 150]
    assert run.evaluations[-1][1]["accuracy"] == trained.metrics["validation_accuracy"]
    assert run.reason == "all steps done"
    assert not trained.model.training


class Killed(Exception):
    pass


def killing(at: int) -> Any:
    def callback(run: Any) -> None:
        if run.done == at:
            raise Killed

    return callback


@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("again", [31, 40, 59])
def test_a_run_that_died_goes_on_with_the_same_bits(tmp_path: Path, again: int, prefetch: bool) -> None:
    settings = {"steps": 60, "evaluate_every": 20, "checkpoint_every": 10}
    whole = train(Loop(**settings))
    with pytest.raises(Killed):
        train(Loop(**settings, folder=str(tmp_path), callbacks=(killing(again),)))
    resumed = train(Loop(**settings, folder=str(tmp_path), prefetch=prefetch))
    assert_equal(whole.model, resumed.model)
    assert whole.runs[0].evaluations == resumed.runs[0].evaluations


def test_a_killed_process_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    """A process that is killed by the operating system, at whatever moment, and started again until it is done."""
    code = (
        "import sys, torch; sys.path.insert(0, sys.argv[2]); torch.set_num_threads(1)\n"
        "from test_training_loop import *\n"
        "slow = lambda run: __import__('time').sleep(0.01)\n"
        "train(Loop(steps=60, checkpoint_every=3, folder=sys.argv[1], callbacks=(slow,)))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "killed"), str(Path(__file__).parent)]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while process.poll() is None and not list((tmp_path / "killed").glob("step-*.pt")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed_at = hr.train.loop.SavedStates(tmp_path / "killed", 3).newest()
    assert killed_at is not None
    assert 0 < killed_at["run"]["done"] < 60
    resumed = train(Loop(steps=60, folder=str(tmp_path / "killed")))
    assert_equal(train(Loop(steps=60)).model, resumed.model)


def test_a_damaged_checkpoint_is_passed_over_and_parts_are_not_read(tmp_path: Path) -> None:
    whole = train(Loop(steps=40, checkpoint_every=10, folder=str(tmp_path)))
    newest, before = sorted(tmp_path.glob("step-*.pt"), reverse=True)
    newest.write_bytes(newest.read_bytes()[:1000])
    (tmp_path / "step-000000050.123.part").write_bytes(b"half")
    with pytest.warns(UserWarning, match="cannot be read"):
        resumed = train(Loop(steps=40, folder=str(tmp_path)))
    assert_equal(whole.model, resumed.model)
    assert before.name == "step-000000030.pt"


def test_a_checkpoint_runs_nothing(tmp_path: Path) -> None:
    class Boom:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "boom"),)

    folder = tmp_path / "run"
    folder.mkdir()
    torch.save({"format": 1, "seed": 3, "state": Boom()}, folder / "step-000000010.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(Loop(steps=2, folder=str(folder)))
    assert not (tmp_path / "boom").exists()


def test_a_folder_of_another_seed_is_refused(tmp_path: Path) -> None:
    train(Loop(steps=2, folder=str(tmp_path)))
    with pytest.raises(ValueError, match=r"seed 4, got 3 at .*step-000000002.pt"):
        train(Loop(steps=4, folder=str(tmp_path)), seed=4)


def test_the_loop_is_what_one_would_write_by_hand() -> None:
    ours = network()
    optimization = Optimization(SGD, schedule=Cosine(warmup=0.2), clip=0.5, decay_all=True)
    training = optimization.start(ours, 20, cross_entropy(0.1))
    draw = torch.Generator().manual_seed(0)
    batches = [(torch.randn(16, 1, 8, 8, generator=draw), torch.randint(10, (16,), generator=draw)) for _ in range(20)]
    ours[4].p = theirs_dropout = 0.0
    Loop(steps=20).run(training, batches, seed=0)

    theirs = network()
    theirs[4].p = theirs_dropout
    optimizer = SGD(theirs.parameters())
    for step, (x, y) in enumerate(batches):
        F.cross_entropy(theirs(x), y, label_smoothing=0.1).backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        factor = (step + 1) / 5 if step < 4 else (1 + math.cos(math.pi * (step - 4) / 16)) / 2
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * factor
        optimizer.step()
        optimizer.zero_grad()
    assert_equal(ours, theirs)


def test_accumulated_gradients_are_those_of_the_whole_batch() -> None:
    def weights(accumulate: int) -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
        nn.init.zeros_(model[1].weight)
        nn.init.zeros_(model[1].bias)
        draw = torch.Generator().manual_seed(1)
        batch = torch.randn(10, 1, 8, 8, generator=draw, dtype=torch.float64), torch.arange(10)
        training = Optimization(SGD, accumulate=accumulate, clip=1e-2).start(
            model, 3, lambda m, b: F.cross_entropy(m(b[0]), b[1])
        )
        run = Loop(steps=3).run(training, lambda step: batch, seed=0)
        assert run.measures["loss"].dtype == torch.float64  # type: ignore[union-attr]
        return model

    whole, parts = weights(1), weights(3)  # 10 rows make parts of 4, 3 and 3
    torch.testing.assert_close(whole[1].weight, parts[1].weight, rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match="at least accumulate=11 rows, got 10"):
        weights(11)


def test_the_moving_average_is_the_formula_and_has_buffers() -> None:
    model = nn.Linear(1, 1, bias=False).double()
    model.register_buffer("seen", torch.zeros((), dtype=torch.float64))
    seen: list[float] = []
    training = Optimization(functools.partial(torch.optim.SGD, lr=0.1), Constant(), ema=0.5).start(
        model, 20, lambda m, b: m(b).sum()
    )
    expected = 0.0
    for step in range(20):
        training(torch.ones(1, 1, dtype=torch.float64), step)
        value = float(model.weight.detach())
        decay = min(0.5, (1 + step) / (10 + step))
        expected = value if step == 0 else decay * expected + (1 - decay) * value
        assert float(training.averaged.weight) == pytest.approx(expected, rel=1e-12)
        seen.append(expected)
    assert len(set(seen)) == 20
    assert "seen" in training.averaged.state_dict()


def test_divergence_says_where_and_names_the_last_good_checkpoint(tmp_path: Path) -> None:
    model = network()
    folder = str(tmp_path)

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x = torch.full((4, 1, 8, 8), float(step))
        return (x * math.inf if step == 7 else x), torch.arange(4)

    training = Optimization(SGD).start(model, 10, cross_entropy())
    with pytest.raises(Diverged, match="step 7") as caught:
        Loop(steps=10, checkpoint_every=3, folder=folder).run(training, batches, seed=0)
    assert caught.value.step == 7
    assert caught.value.digest == digest_of(batches(7)) != digest_of(batches(6))
    assert caught.value.checkpoint == tmp_path / "step-000000006.pt"
    assert all(
        torch.isfinite(value).all()
        for value in torch.load(caught.value.checkpoint)["state"]["training"]["model"].values()
    )


def test_weights_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    """The loss of a step is that of the weights before it, so it can be finite where the weights after it are not."""
    model = nn.Linear(1, 1, bias=False)
    training = Optimization(functools.partial(torch.optim.SGD, lr=1.0), Constant()).start(
        model, 5, lambda m, b: m(b).sum()
    )
    x = [1.0, 1.0, math.inf, 1.0, 1.0]  # the third gradient is infinite, its loss is not

    class Hidden(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, out: Tensor, gradient: float) -> Tensor:
            ctx.gradient = gradient
            return out.clone()

        @staticmethod
        def backward(ctx: Any, *given: Tensor) -> Any:
            return given[0] * ctx.gradient, None

    training.loss = lambda m, step: Hidden.apply(m(torch.ones(1, 1)), x[step]).sum()
    with pytest.raises(Diverged) as caught:
        Loop(steps=5, checkpoint_every=1, folder=str(tmp_path)).run(training, lambda step: step, seed=0)
    assert caught.value.step == 3
    assert caught.value.checkpoint == tmp_path / "step-000000002.pt"


def test_a_run_stops_early_and_stays_stopped(tmp_path: Path) -> None:
    scores = iter([0.1, 0.5, 0.4, 0.5, 0.3, 0.9])
    loop = Loop(steps=60, evaluate_every=10, patience=2, watched="accuracy", folder=str(tmp_path))
    training = Optimization(SGD).start(network(), 60, cross_entropy())
    batch = torch.zeros(2, 1, 8, 8), torch.arange(2)
    run = loop.run(training, lambda step: batch, seed=0, evaluate=lambda: {"accuracy": next(scores)})
    assert (run.done, run.best) == (40, 20)
    assert "accuracy was not better than at step 20 for 2 evaluations" in run.reason
    again = loop.run(training, lambda step: batch, seed=0, evaluate=lambda: {"accuracy": next(scores)})
    assert (again.done, again.reason) == (40, run.reason)


def test_measures_go_into_the_trial_which_can_be_repeated() -> None:
    program = hr.sym(hr.train.supervised)(
        hr.sym(nn.Sequential)(hr.sym(nn.Flatten)(), hr.sym(nn.Linear)(64, 10)),
        hr.sym(hr.data.load)("digits", validation=300),
        optimization=hr.sym(Optimization)(hr.sym(functools.partial)(torch.optim.SGD, lr=hr.one_of(1e-9, 0.1))),
        loop=hr.sym(Loop)(steps=40, evaluate_every=10),
        batch=32,
    )
    study = hr.discover(program, hr.train.evaluate, maximize="validation_accuracy", trials=2, seed=1, progress=False)
    assert study.best is not None
    assert hr.get(study.best.program, "optimization.optimizer.lr") == 0.1
    for trial in study.trials:
        assert [step for step, _ in trial.steps] == [10, 20, 30, 40]
    again = hr.train.run(study.best.program, seed=study.best.seed)
    assert again.metrics == study.best.values


def test_a_pruned_trial_ends_its_training() -> None:
    class Trial:
        def report(self, step: int, **metrics: float) -> None:
            assert metrics["accuracy"] >= 0
            if step == 20:
                raise hr.study.trial.Pruned("pruned")

    done: list[int] = []
    with pytest.raises(hr.study.trial.Pruned):
        train(Loop(steps=40, evaluate_every=10, callbacks=(lambda run: done.append(run.done),)), trial=Trial())
    assert done[-1] == 19


def test_run_wants_a_call_of_a_recipe() -> None:
    with pytest.raises(TypeError, match=r"symbolic call of a recipe, got int"):
        hr.train.run(3)


def test_a_data_loader_is_gone_through_again_and_resumed_exactly(tmp_path: Path) -> None:
    x = torch.arange(70, dtype=torch.float32).view(-1, 1)
    loader = DataLoader(TensorDataset(x, torch.arange(70) % 3), batch_size=16, shuffle=True)
    seen: list[list[float]] = []

    def loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
        seen.append(batch[0].flatten().tolist())
        return F.cross_entropy(model(batch[0] / 70), batch[1])

    def run(folder: str | None, stop: int | None = None) -> tuple[nn.Module, list[list[float]]]:
        torch.manual_seed(5)
        model = nn.Linear(1, 3)
        training = Optimization(SGD).start(model, 12, loss)
        seen.clear()
        callbacks = (killing(stop),) if stop else ()
        Loop(steps=12, checkpoint_every=1, folder=folder, callbacks=callbacks).run(training, loader, seed=2)
        return model, list(seen)

    whole, order = run(None)
    assert [len(batch) for batch in order] == [16, 16, 16, 16, 6] * 2 + [16, 16]
    assert sorted(itertools.chain(*order[:5])) == list(range(70)) == sorted(itertools.chain(*order[5:10]))
    assert order[:5] != order[5:10]
    with pytest.raises(Killed):
        run(str(tmp_path), stop=8)  # whose checkpoint holds seven steps, in the second epoch
    resumed, rest = run(str(tmp_path))
    assert rest == order[7:]
    assert_equal(whole, resumed)


def test_batches_that_end_are_refused() -> None:
    training = Optimization(SGD).start(nn.Linear(1, 3), 5, lambda m, x: m(x).sum())
    with pytest.raises(ValueError, match="generator"):
        Loop(steps=5).run(training, (torch.ones(1, 1) for _ in range(3)), seed=0)


def test_random_numbers_outside_are_left_alone() -> None:
    model = network()
    torch.manual_seed(11)
    expected = torch.rand(4)
    torch.manual_seed(11)
    train(Loop(steps=3), model)
    assert torch.equal(torch.rand(4), expected)


def test_deterministic_mode_is_left_behind() -> None:
    seen: list[bool] = []
    train(
        Loop(
            steps=1,
            deterministic=True,
            callbacks=(lambda run: seen.append(torch.are_deterministic_algorithms_enabled()),),
        )
    )
    assert seen == [True]
    assert not torch.are_deterministic_algorithms_enabled()


def test_bf16_computes_in_bf16_and_keeps_weights_in_float32() -> None:
    kinds: list[torch.dtype] = []

    class Look(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            kinds.append(x.dtype)
            return x

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), Look())
    train(Loop(steps=2), model, optimization=Optimization(SGD, precision="bf16"))
    assert kinds[0] == torch.bfloat16
    assert model[1].weight.dtype == torch.float32
    kinds.clear()
    train(Loop(steps=1), model, optimization=Optimization(SGD))  # another precision in the same process
    assert kinds[0] == torch.float32


def test_biases_and_norms_do_not_decay_by_default() -> None:
    training = Optimization(functools.partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.5)).start(network(), 5)
    assert [(group["weight_decay"], len(group["params"])) for group in training.optimizer.param_groups] == [
        (0.5, 2),
        (0.0, 4),
    ]
    with pytest.raises(ValueError, match="must have weights to train"):
        Optimization().start(network().requires_grad_(False), 5)


def test_energy_is_measured_by_a_meter() -> None:
    meter = hr.study.energy.Meter(hr.Energy(intensity_g=100, cpu_w=10, ram_w=1))
    trained = train(Loop(steps=30), meter=meter)
    assert trained.runs[0].consumed["cpu_kwh"] > 0


@given(rows=st.integers(1, 40), size=st.integers(1, 60), seed=st.integers(0, 2**31))
def test_every_epoch_has_every_row_once(rows: int, size: int, seed: int) -> None:
    order = Order(rows, size, seed)
    epochs = 3
    taken = np.concatenate([order(step) for step in range(math.ceil(epochs * rows / size))])[: epochs * rows]
    for epoch in taken.reshape(epochs, rows):
        assert sorted(epoch) == list(range(rows))
    assert np.array_equal(order(0), Order(rows, size, seed)(0))


@given(steps=st.integers(1, 300), warmup=st.floats(0, 0.9), floor=st.floats(0, 1))
def test_schedules_rise_and_fall_within_bounds(steps: int, warmup: float, floor: float) -> None:
    for schedule in (Cosine(warmup, floor), Constant(warmup), Decay(0.5, 4, warmup)):
        factors = [schedule(step, steps) for step in range(steps)]
        top = factors.index(max(factors))
        assert all(0 <= factor <= 1 for factor in factors)
        assert factors[:top] == sorted(factors[:top])
        assert factors[top:] == sorted(factors[top:], reverse=True)


def test_schedules_by_hand() -> None:
    assert [round(Cosine(0.5)(step, 4), 6) for step in range(4)] == [round(1 / 3, 6), round(2 / 3, 6), 1.0, 0.5]
    assert [Decay(0.5, 2)(step, 4) for step in range(5)] == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert [Constant(0.4)(step, 5) for step in range(5)] == [1 / 3, 2 / 3, 1.0, 1.0, 1.0]
    for wrong in ({"warmup": 1.0}, {"floor": 2.0}):
        with pytest.raises(ValueError, match="must be"):
            Cosine(**wrong)


def test_images_are_normalised_resized_and_augmented_in_their_place() -> None:
    images = Images.of(DATA.train)
    x = images(DATA.train.inputs[:1000], (), None, "cpu")
    assert x.shape == (1000, 1, 8, 8)
    assert abs(float(x.mean())) < 0.05
    assert float(x.std()) == pytest.approx(1, abs=0.05)
    seen: list[Tensor] = []

    def look(pixels: Tensor, draw: torch.Generator) -> Tensor:
        seen.append(pixels)
        return pixels

    assert images.sized(16)(DATA.train.inputs[:2], (look,), torch.Generator(), "cpu").shape == (2, 1, 16, 16)
    assert (seen[0].dtype, seen[0].shape) == (torch.uint8, (2, 1, 8, 8))
    with pytest.raises(TypeError, match="Try inputs="):
        Images.of(type(DATA.train)(np.zeros((3, 2)), np.zeros(3, np.int64)))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Optimization(clip=0.0), "clip must be above 0"),
        (lambda: Optimization(accumulate=0), "accumulate must be at least 1"),
        (lambda: Optimization(ema=1.0), "ema must be in"),
        (lambda: Optimization(precision="half"), "precision must be"),  # type: ignore[arg-type]
        (lambda: Loop(steps=0), "steps must be at least 1"),
        (lambda: Loop(patience=0), "patience must be at least 1"),
        (lambda: cross_entropy(1.0), "label_smoothing must be in"),
    ],
)
def test_settings_out_of_range_are_refused(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def test_progress_is_plain_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    train(Loop(steps=3, progress=True))
    assert "step 1/3  loss " in capsys.readouterr().err
    train(Loop(steps=3, progress=False))
    assert not capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(run: Any) -> None:
        if run.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Loop(steps=8, checkpoint_every=2, folder=str(tmp_path), callbacks=(interrupt,)))
    expected = f"interrupted after 5 of 8 steps; run it again to go on from {tmp_path}/step-000000004.pt"
    assert expected in capsys.readouterr().err.replace("\n", "")


def test_a_digest_tells_batches_apart_whatever_is_in_them() -> None:
    batches = [
        torch.tensor(1.0),
        torch.tensor(2.0),
        torch.tensor([1.0]),
        torch.zeros(0),
        torch.tensor([1.0], dtype=torch.bfloat16),
    ]
    batches += [{"x": torch.ones(2, 3)}, {"x": torch.ones(3, 2)}, {"x": torch.ones(2, 3), "threshold": 0.5}]
    assert len({digest_of(batch) for batch in batches}) == len(batches)
    assert digest_of(torch.ones(4, 2).T) == digest_of(torch.ones(2, 4))


def test_a_data_loader_is_not_begun_during_a_step() -> None:
    """Beginning one seeds torch's generator anew, which a step under way draws from."""
    loader = DataLoader(TensorDataset(torch.arange(6.0).view(-1, 1), torch.arange(6) % 3), batch_size=2, shuffle=True)

    def drawn(prefetch: bool) -> list[float]:
        numbers: list[float] = []

        def update(batch: list[Tensor], step: int) -> dict[str, float]:
            time.sleep(0.01)
            numbers.append(float(torch.rand(())))
            return {"loss": float(batch[0].sum())}

        Loop(steps=9, prefetch=prefetch).run(update, loader, seed=1)
        return numbers

    assert drawn(True) == drawn(False)


def test_several_processes_train_one_model(tmp_path: Path) -> None:
    """Two processes, each with half of every batch, end with the weights of one."""
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, functools, torch, heuretic as hr\n"
        "from torch import nn\n"
        "torch.set_num_threads(1)\n"
        "data = hr.data.load('digits', validation=300)\n"
        "torch.manual_seed(0)\n"
        "model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()\n"
        "images = hr.train.Images.of(data.train)\n"
        "inputs = lambda raw, augment, draw, device: images(raw, augment, draw, device).double()\n"
        "optimization = hr.train.Optimization(functools.partial(torch.optim.SGD, lr=0.1), cpu=True, clip=1.0)\n"
        "hr.train.supervised(model, data, optimization=optimization, loop=hr.train.Loop(steps=8, folder=sys.argv[1]), batch=32,\n"
        "    inputs=inputs, seed=1)\n"
        "from accelerate import PartialState\n"
        "if PartialState().is_main_process: torch.save(model.state_dict(), sys.argv[1] + '.pt')\n"
        "if torch.distributed.is_initialized(): torch.distributed.destroy_process_group()\n"
    )
    alone, both = str(tmp_path / "alone"), str(tmp_path / "both")
    subprocess.run([sys.executable, str(script), alone], check=True, timeout=120)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]  # fmt: skip
    subprocess.run([*launch, str(script), both], check=True, timeout=200, env=environment)
    ours, theirs = torch.load(alone + ".pt"), torch.load(both + ".pt")
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-10, atol=1e-12)
