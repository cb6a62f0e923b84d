"""Attacks against closed forms and hand-written loops; adversarial training and AdvProp on real images."""

import functools
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import heuretic as hr
from heuretic.data import load
from heuretic.ideas import advprop as advprop_idea
from heuretic.ideas import smooth_adversarial_training as sat
from heuretic.ideas.result import Comparison
from heuretic.ideas.trainings import plain_network
from heuretic.nn import AuxiliaryBatchNorm, auxiliary_statistics
from heuretic.train import (
    PGD,
    Constant,
    FreeReplays,
    Images,
    Loop,
    Optimization,
    Run,
    adversarial,
    advprop,
    fgsm,
    pgd,
    robust_accuracy,
    supervised,
)  # fmt: skip
from heuretic.train.attacks import still_statistics
from heuretic.train.classification import Classification

SGD = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9)
QUIET = functools.partial(Loop, progress=False)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(seed: int = 0, width: int = 4, channels: int = 1, patched: bool = False) -> nn.Module:
    torch.manual_seed(seed)
    program = plain_network(channels, width)
    return hr.build(hr.apply(program, "advprop") if patched else program)


def batch(rows: int = 6, channels: int = 1, side: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = generator(seed)
    return torch.rand(rows, channels, side, side, generator=draw), torch.randint(10, (rows,), generator=draw)


def linear(seed: int = 0) -> nn.Module:
    """Two classes; the gradient of the loss for x has the same signs everywhere for a class."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 2))


# Attacks


@given(
    epsilon=st.floats(0.001, 0.6), share=st.floats(0.05, 1.5), steps=st.integers(1, 6), targeted=st.booleans(),
    seed=st.integers(0, 50),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_a_linear_model_is_attacked_along_the_corner_of_the_box(epsilon, share, steps, targeted, seed) -> None:
    model = linear(seed)
    x, y = torch.rand(5, 3, 2, 2, generator=generator(seed)), torch.tensor([0, 1, 0, 1, 1])
    step = share * epsilon
    found = pgd(model, x, y, epsilon=epsilon, step_size=step, steps=steps, start="clean", targeted=targeted)
    # The loss of class y falls with the difference of the logits, whose gradient is w[y] - w[1 - y].
    w = model[1].weight.detach()
    ascent = torch.sign(w[1 - y] - w[y]).view(x.shape) * (-1 if targeted else 1)
    expected = (x + min(steps * step, epsilon) * ascent).clamp(0, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_enough_steps_reach_the_corner_from_a_random_start_too() -> None:
    model, x = linear(), torch.rand(4, 3, 2, 2, generator=generator(3))
    y = torch.tensor([0, 1, 1, 0])
    found = pgd(model, x, y, epsilon=0.1, step_size=0.05, steps=5, generator=generator(1))
    torch.testing.assert_close(found, fgsm(model, x, y, epsilon=0.1), rtol=0, atol=1e-6)


@given(
    epsilon=st.floats(0, 0.5), step=st.floats(0.001, 1), steps=st.integers(1, 3), start=st.sampled_from(["random", "clean"]),
    restarts=st.integers(1, 2), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_attacked_images_stay_in_the_box_and_in_the_range_of_pixels(
    epsilon, step, steps, start, restarts, seed
) -> None:
    images = Images((0.3, 0.5, 0.6), (0.2, 0.1, 0.4))
    raw = np.random.default_rng(seed).choice([0, 1, 100, 254, 255], (3, 8, 8, 3)).astype(np.uint8)
    x, y = images(raw), torch.tensor([1, 2, 3])
    attack = PGD(
        epsilon=epsilon, step_size=step, steps=steps, start=start, restarts=1 if start == "clean" else restarts
    )
    found = attack(network(seed, channels=3), x, y, low=images.low, high=images.high, generator=generator(seed))
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (images.mean, images.std))
    pixels = found * std + mean
    assert found.shape == x.shape
    assert found.dtype == x.dtype
    assert not found.requires_grad
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    assert (pixels - torch.from_numpy(raw / 255).permute(0, 3, 1, 2)).abs().max() <= epsilon + 1e-6


def test_normalised_images_are_attacked_as_the_pixels_they_are_made_of() -> None:
    """The same as an attack on pixels in [0, 1] through a layer that normalises."""

    class Normalise(nn.Module):
        def forward(self, x):
            return (x - mean) / std

    images = Images((0.3, 0.5, 0.6), (0.2, 0.1, 0.4))
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (images.mean, images.std))
    raw = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    y, model, attack = torch.arange(6), network(channels=3).eval(), PGD(epsilon=0.1, step_size=0.03, steps=4)
    ours = attack(model, images(raw), y, low=images.low, high=images.high, generator=generator())
    x = torch.from_numpy(raw / np.float32(255)).permute(0, 3, 1, 2)
    theirs = attack(nn.Sequential(Normalise(), model), x, y, generator=generator())
    # Where a gradient is almost 0, rounding may turn its sign.
    same = ((ours * std + mean) - theirs).abs() < 1e-5
    assert same.float().mean() > 0.99
    assert theirs.sub(x).abs().max() > 0.05


def test_pgd_is_what_a_loop_by_hand_does() -> None:
    model, (x, y) = network(1).eval(), batch()
    noise = (2 * torch.rand(x.shape, generator=generator(7)) - 1) * 0.08
    by_hand = (x + noise).clamp(0, 1)
    for _ in range(3):
        by_hand.requires_grad_()
        F.cross_entropy(model(by_hand), y).backward()
        step = by_hand.detach() + 0.03 * by_hand.grad.sign()
        by_hand = torch.min(torch.max(step, x - 0.08), x + 0.08).clamp(0, 1)
    found = pgd(model, x, y, epsilon=0.08, step_size=0.03, steps=3, generator=generator(7))
    torch.testing.assert_close(found, by_hand, rtol=0, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("patched", [True, False])
def test_an_attack_leaves_weights_gradients_statistics_and_modes_alone(training, patched) -> None:
    model, (x, y) = network(patched=patched).train(training), batch()
    model[0].weight.requires_grad_(False)
    model[3].weight.grad = torch.ones_like(model[3].weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    computed = []
    for weight in model.parameters():
        if weight.requires_grad:
            weight.register_hook(lambda gradient: computed.append(gradient))
    pgd(model, x, y, epsilon=0.1, step_size=0.05, steps=2, restarts=2, generator=generator())
    assert not computed
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [part.training for part in model.modules()] == [training] * len(list(model.modules()))
    assert not model[0].weight.requires_grad
    assert model[3].weight.requires_grad
    assert torch.equal(model[3].weight.grad, torch.ones_like(model[3].weight))
    assert model[0].weight.grad is None
    assert all(norm.track_running_stats for norm in model.modules() if isinstance(norm, nn.BatchNorm2d))


def test_still_statistics_change_nothing_that_is_computed() -> None:
    x = batch()[0]
    for training in (True, False):
        model, same = network().train(training), network().train(training)
        with still_statistics(model):
            assert torch.equal(model(x), same(x))


def test_an_attack_between_a_forward_and_its_backward_pass_is_harmless() -> None:
    (x, y), gradients = batch(), []
    for attacked in (False, True):
        model = network().train()
        loss = F.cross_entropy(model(x), y)
        if attacked:
            pgd(model, x, y, epsilon=0.1, step_size=0.05, steps=1, generator=generator())
        loss.backward()
        gradients.append(model[0].weight.grad)
    assert torch.equal(*gradients)


def test_a_target_is_approached_and_an_untargeted_attack_flees() -> None:
    model, (x, y) = network(2).train(), batch(32)
    attack = PGD(epsilon=0.2, step_size=0.05, steps=8)
    losses = [
        F.cross_entropy(model(images), y).item()
        for images in (
            attack(model, x, y, generator=generator(), targeted=True),
            x,
            attack(model, x, y, generator=generator()),
        )
    ]
    assert losses[0] < losses[1] - 0.05 < losses[2] - 0.1


def test_random_starts_depend_on_the_generator_alone() -> None:
    model, (x, y) = network().eval(), batch()
    attack = PGD(epsilon=0.2, step_size=0.01, steps=1)
    torch.manual_seed(5)
    first = attack(model, x, y, generator=generator(4))
    torch.manual_seed(6)
    state = torch.get_rng_state()
    assert torch.equal(first, attack(model, x, y, generator=generator(4)))
    assert not torch.equal(first, attack(model, x, y, generator=generator(5)))
    assert torch.equal(state, torch.get_rng_state())


def test_of_several_attempts_each_example_gets_the_one_that_fools_or_else_hurts_most() -> None:
    model, (x, y) = network(3).train(), batch(40, seed=5)
    with torch.no_grad():
        y = model(x).argmax(1)
    settings = {"epsilon": 0.12, "step_size": 0.02, "steps": 1}
    draw = generator(9)
    singles = [pgd(model, x, y, **settings, generator=draw) for _ in range(3)]
    best = pgd(model, x, y, **settings, restarts=3, generator=generator(9))
    with torch.no_grad():
        logits = torch.stack([model(single) for single in singles])
    losses = torch.stack([F.cross_entropy(each, y, reduction="none") for each in logits])
    rank = losses + 100 * (logits.argmax(2) != y)
    assert 0 < (logits.argmax(2) != y).float().mean() < 1  # some fooled, some not
    expected = torch.stack(singles)[rank.argmax(0), torch.arange(40)]
    assert torch.equal(best, expected)
    assert len(rank.argmax(0).unique()) == 3


def test_shares_of_classes_are_attacked_as_labels_are() -> None:
    model, (x, y) = network().eval(), batch()
    attack = PGD(epsilon=0.1, step_size=0.05, steps=2, restarts=2)
    shares = F.one_hot(y, 10).float()
    assert torch.equal(attack(model, x, y, generator=generator()), attack(model, x, shares, generator=generator()))


def test_no_epsilon_leaves_images_as_they_are() -> None:
    model, (x, y) = network(), batch()
    assert torch.equal(pgd(model, x, y, epsilon=0, step_size=1, steps=2, generator=generator()), x)
    assert torch.equal(fgsm(model, x, y, epsilon=0), x)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"epsilon": -1}, "epsilon must be at least 0"), ({"epsilon": math.nan}, "epsilon"), ({"step_size": 0}, "step_size=0"),
        ({"steps": 0}, "steps=0"), ({"restarts": 0}, "restarts=0"), ({"generator": None}, "generator must be given"),
        ({"start": "clean", "restarts": 2}, "restarts must be 1"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(changed: dict[str, Any], named: str) -> None:
    given = {"epsilon": 0.1, "step_size": 0.1, "steps": 1, "generator": generator()} | changed
    with pytest.raises(ValueError, match=named):
        pgd(network(), *batch(), **given)
    with pytest.raises((ValueError, TypeError), match="steps"):
        PGD(steps=0)


def test_robust_accuracy_counts_what_is_right_twice() -> None:
    """A model whose answer is known: class 1 where the pixel is above one half."""

    class Threshold(nn.Module):
        def forward(self, x):
            return torch.stack([torch.full(x.shape[:1], 0.5), x[:, 0, 0, 0]], 1)

    pixels = torch.tensor([0.2, 0.45, 0.55, 0.9]).view(4, 1, 1, 1)
    right, wrong = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1])
    model = Threshold().train()
    attack = PGD(epsilon=0.1, step_size=0.1, steps=2)
    assert robust_accuracy(model, [(pixels, right)], attack) == 0.5
    assert robust_accuracy(model, [(pixels[:3], wrong[:3]), (pixels[3:], wrong[3:])], attack) == 0.5
    assert robust_accuracy(model, [(pixels, 1 - right)], attack) == 0
    assert robust_accuracy(model, [(pixels, right)], PGD(epsilon=0.0)) == 1
    assert model.training
    with pytest.raises(ValueError, match="at least one row"):
        robust_accuracy(model, [], attack)


# Adversarial training


@functools.cache
def digits():
    return load("digits", validation=200)


def attack_of(**changed: Any) -> PGD:
    return PGD(**({"epsilon": 30 / 255, "step_size": 15 / 255, "steps": 2} | changed))


def optimization(**changed: Any) -> Optimization:
    return Optimization(**({"optimizer": SGD, "cpu": True} | changed))


def test_adversarial_training_makes_a_network_robust() -> None:
    """Digits have 16 levels of grey, of which an attack may change each pixel by 2."""
    loop, against = QUIET(steps=150), PGD(epsilon=30 / 255, step_size=7.5 / 255, steps=10)
    plain = supervised(network(1, 8), digits(), optimization=optimization(), loop=loop, batch=64, seed=1)
    robust = adversarial(
        network(1, 8), digits(), attack=attack_of(), optimization=optimization(), loop=loop, batch=64, seed=1
    )  # fmt: skip
    task = Classification(digits(), None, torch.device("cpu"))
    ends = {"low": task.inputs.low, "high": task.inputs.high, "seed": 1}
    before, after = (
        robust_accuracy(each.model, task.in_order(digits().validation), against, **ends) for each in (plain, robust)
    )
    assert plain.metrics["validation_accuracy"] > 0.9
    assert robust.metrics["validation_accuracy"] > 0.85
    assert after > before + 0.2
    assert robust.metrics["validation_robust_accuracy"] == after  # the attack measured with by default
    assert not robust.model.training


def test_a_step_of_adversarial_training_is_a_step_on_attacked_images() -> None:
    model, by_hand = network(2), network(2)
    optimizer = functools.partial(torch.optim.SGD, lr=0.1)
    loop = QUIET(steps=1)
    adversarial(
        model, digits(), attack=attack_of(start="clean"), optimization=optimization(optimizer=optimizer, schedule=Constant()),
        loop=loop, batch=32, seed=3,
    )  # fmt: skip
    task = Classification(digits(), None, torch.device("cpu"))
    x, y = task.batches(digits().train, 32, 3)(0)
    ends = {"low": task.inputs.low, "high": task.inputs.high}
    attacked = pgd(by_hand.train(), x, y, epsilon=30 / 255, step_size=15 / 255, steps=2, start="clean", **ends)
    F.cross_entropy(by_hand(attacked), y).backward()
    with torch.no_grad():
        for weight in by_hand.parameters():
            weight -= 0.1 * weight.grad
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, by_hand.state_dict()[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("changed", [{}, {"precision": "bf16"}, {"accumulate": 2}], ids=str)
def test_training_on_attacks_of_no_size_is_supervised_training(changed: dict[str, Any]) -> None:
    """Bit for bit: what the attack computes on its way leaves no trace, under mixed precision neither, which keeps casts."""
    given: dict[str, Any] = {"optimization": optimization(**changed), "loop": QUIET(steps=4), "batch": 16, "seed": 2}
    plain = supervised(network(2), digits(), **given)
    attacked = adversarial(network(2), digits(), attack=attack_of(epsilon=0.0), **given)
    assert_equal(plain.model.state_dict(), attacked.model.state_dict())
    assert plain.metrics["validation_accuracy"] == attacked.metrics["validation_robust_accuracy"]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_free_training_is_what_a_loop_by_hand_does(accumulate: int) -> None:
    """One perturbation through all batches; each batch comes twice; weights and perturbation share a backward pass."""

    # Group normalisation, because parts of a batch have batch statistics of their own.
    def model():
        torch.manual_seed(4)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten(), nn.Linear(144, 10))

    free, by_hand = model(), model()
    optimizer = functools.partial(torch.optim.SGD, lr=0.1)
    adversarial(
        free, digits(), attack=FreeReplays(epsilon=45 / 255, step_size=30 / 255, replays=2), loop=QUIET(steps=5), batch=32, seed=3,
        optimization=optimization(optimizer=optimizer, schedule=Constant(), accumulate=accumulate),
    )  # fmt: skip
    task = Classification(digits(), None, torch.device("cpu"))
    batches, unit = task.batches(digits().train, 32, 3), task.inputs.high - task.inputs.low
    delta = torch.zeros(32, 1, 8, 8)
    for number in (0, 0, 1, 1, 2):
        x, y = batches(number)
        delta.requires_grad_()
        attacked = torch.min(torch.max(x + delta * unit, task.inputs.low), task.inputs.high)
        gradients = torch.autograd.grad(F.cross_entropy(by_hand(attacked), y), [delta, *by_hand.parameters()])
        delta = (delta.detach() + 30 / 255 * gradients[0].sign()).clamp(-45 / 255, 45 / 255)
        with torch.no_grad():
            for weight, gradient in zip(by_hand.parameters(), gradients[1:], strict=True):
                weight -= 0.1 * gradient
    for name, value in free.state_dict().items():
        torch.testing.assert_close(value, by_hand.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_free_training_makes_a_network_robust_too() -> None:
    data, loop = digits(), QUIET(steps=150)
    attack = FreeReplays(epsilon=30 / 255, step_size=30 / 255, replays=4)
    free = adversarial(network(1, 8), data, attack=attack, optimization=optimization(), loop=loop, batch=64, seed=1)
    plain = adversarial(
        network(1, 8), data, attack=attack_of(epsilon=0.0), against=PGD(epsilon=30 / 255, step_size=7.5 / 255),
        optimization=optimization(), loop=loop, batch=64, seed=1,
    )  # fmt: skip
    assert free.metrics["validation_robust_accuracy"] > plain.metrics["validation_robust_accuracy"] + 0.1


def test_adversarial_training_measures_along_the_way_and_reports() -> None:
    reported = []
    trial = SimpleNamespace(report=lambda step, **metrics: reported.append((step, sorted(metrics))))
    adversarial(
        network(), digits(), attack=attack_of(steps=1), optimization=optimization(ema=0.9), loop=QUIET(steps=4, evaluate_every=2),
        batch=8, trial=trial,
    )  # fmt: skip
    assert reported == [(step, ["accuracy", "loss", "robust_accuracy"]) for step in (2, 4)]


def test_without_validation_rows_nothing_is_measured() -> None:
    trained = adversarial(
        network(), load("digits"), attack=attack_of(), optimization=optimization(), loop=QUIET(steps=1), batch=8
    )  # fmt: skip
    assert trained.metrics == {}


def test_inputs_without_a_range_are_refused() -> None:
    with pytest.raises(TypeError, match="inputs must be Images"):
        adversarial(network(), digits(), inputs=lambda *given: torch.zeros(1))  # type: ignore[arg-type]


# AdvProp


def norms(model: nn.Module) -> list[AuxiliaryBatchNorm]:
    return [part for part in model.modules() if isinstance(part, AuxiliaryBatchNorm)]


def test_main_statistics_see_clean_images_and_auxiliary_ones_attacked_images() -> None:
    """The first batch normalisation's statistics, recomputed from what should have reached it; no other step moves them."""
    model, attack = network(2, patched=True), attack_of(start="clean")
    frozen = functools.partial(torch.optim.SGD, lr=0.0)
    advprop(
        model, digits(), attack=attack, optimization=optimization(optimizer=frozen), loop=QUIET(steps=3), batch=32, seed=3
    )  # fmt: skip
    untouched = network(2, patched=True).train()
    task = Classification(digits(), None, torch.device("cpu"))
    main, auxiliary = torch.zeros(4), torch.zeros(4)
    for number in range(3):
        x, y = task.batches(digits().train, 32, 3)(number)
        with auxiliary_statistics(untouched):
            attacked = attack(untouched, x, y, low=task.inputs.low, high=task.inputs.high)
        assert not torch.equal(attacked, x)
        main = 0.9 * main + 0.1 * untouched[0](x).mean((0, 2, 3))
        auxiliary = 0.9 * auxiliary + 0.1 * untouched[0](attacked).mean((0, 2, 3))
    first = norms(model)[0]
    torch.testing.assert_close(first.running_mean, main, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(first.auxiliary.running_mean, auxiliary, rtol=1e-4, atol=1e-6)
    assert (main - auxiliary).abs().max() > 1e-3
    assert all(int(norm.num_batches_tracked) == int(norm.auxiliary.num_batches_tracked) == 3 for norm in norms(model))
    assert not any(norm.is_auxiliary for norm in norms(model))


def test_a_step_of_advprop_follows_the_sum_of_both_losses() -> None:
    model, by_hand = network(2, patched=True), network(2, patched=True).train()
    optimizer, attack = functools.partial(torch.optim.SGD, lr=0.1), attack_of(start="clean")
    advprop(
        model, digits(), attack=attack, optimization=optimization(optimizer=optimizer, schedule=Constant()), loop=QUIET(steps=1),
        batch=32, seed=3,
    )  # fmt: skip
    task = Classification(digits(), None, torch.device("cpu"))
    x, y = task.batches(digits().train, 32, 3)(0)
    with auxiliary_statistics(by_hand):
        attacked = attack(by_hand, x, y, low=task.inputs.low, high=task.inputs.high)
        F.cross_entropy(by_hand(attacked), y).backward()
    assert by_hand[1].weight.grad is None  # attacked images do not train the main ones
    F.cross_entropy(by_hand(x), y).backward()
    with torch.no_grad():
        for weight in by_hand.parameters():
            weight -= 0.1 * weight.grad
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, by_hand.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_advprop_needs_a_patched_model() -> None:
    with pytest.raises(ValueError, match=r'hr.apply\(model, "advprop"\)'):
        advprop(network(), digits())


def test_advprop_learns() -> None:
    trained = advprop(
        network(1, 8, patched=True), digits(), attack=attack_of(), optimization=optimization(), loop=QUIET(steps=100), batch=64
    )  # fmt: skip
    assert trained.metrics["validation_accuracy"] > 0.9


# Resuming


def trained_in(folder: Path, which: str, stop: Callable[[Run], None] = lambda run: None) -> dict[str, torch.Tensor]:
    """Return the weights of a short training that keeps checkpoints."""
    loop = QUIET(steps=12, folder=str(folder), checkpoint_every=3, callbacks=(stop,))
    attack = FreeReplays(epsilon=30 / 255, step_size=30 / 255, replays=4) if which == "free" else attack_of()
    recipe: Any = advprop if which == "advprop" else adversarial
    model = network(1, patched=which == "advprop")
    recipe(model, digits(), attack=attack, optimization=optimization(), loop=loop, batch=16, seed=5)
    return model.state_dict()


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("which", ["pgd", "free", "advprop"])
def test_an_interrupted_training_goes_on_to_the_same_bits(which: str, tmp_path: Path) -> None:
    def stop(run: Run) -> None:
        if run.done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained_in(tmp_path / "parts", which, stop)
    steps: list[int] = []
    assert_equal(
        trained_in(tmp_path / "parts", which, lambda run: steps.append(run.done)), trained_in(tmp_path / "whole", which)
    )
    assert steps[0] == 7  # after the checkpoint of step 6, in the middle of the replays of a batch


SCRIPT = """
import os, signal, sys, torch
from pathlib import Path
from test_adversarial import trained_in
torch.set_num_threads(1)
def kill(run):
    if run.done == 8:
        os.kill(os.getpid(), signal.SIGKILL)
trained_in(Path(sys.argv[1]), "free", kill)
"""


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "parts")], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "parts").glob("*.pt"))) == 2
    assert_equal(trained_in(tmp_path / "parts", "free"), trained_in(tmp_path / "whole", "free"))


# The checks of the claims


@pytest.mark.parametrize("idea", [sat, advprop_idea], ids=["smooth-adversarial-training", "advprop"])
def test_smoke_runs_give_the_same_numbers_twice(idea) -> None:
    first, second = (idea.reproduce("smoke") for _ in range(2))
    assert first.arms == second.arms
    assert first.comparisons == second.comparisons
    assert first.verdict == "not testable at this scale"
    for arm in first.arms.values():
        for values in arm.measurements.values():
            assert all(0 <= value <= 1 for value in values)


def test_smooth_adversarial_training_is_judged_by_its_rule() -> None:
    def verdict(robust, clean):
        return sat.judge("small", *(Comparison("m", "silu", "relu", each) for each in (robust, clean)))

    better, same, worse, unclear = (0.02, 0.021, 0.022), (0.001, -0.001, 0.0), (-0.02, -0.021, -0.022), (0.3, -0.3, 0.0)
    assert verdict(better, same) == "reproduced" == verdict(better, better)
    assert verdict(worse, same) == "not reproduced" == verdict(better, worse)
    assert verdict(better, unclear) == "not testable at this scale" == verdict(unclear, same)


def test_advprop_is_judged_by_its_rule() -> None:
    def verdict(*differences):
        return advprop_idea.judge("small", [Comparison("m", "advprop", "vanilla", each) for each in differences])

    better, worse, unclear = (0.02, 0.021, 0.022), (-0.02, -0.021, -0.022), (0.3, -0.3, 0.0)
    assert verdict(better, better, better, better) == "reproduced"
    assert verdict(better, better, better, worse) == "not reproduced" == verdict(unclear, worse, unclear, better)
    assert verdict(better, better, better, unclear) == "not testable at this scale"


def test_the_longer_arm_of_advprop_has_as_many_passes() -> None:
    plan = advprop_idea.PLANS["small"]
    steps = {
        arm: hr.get(advprop_idea._program(plan, arm, 1), "loop.steps")
        for arm in (advprop_idea.VANILLA, advprop_idea.ADVPROP, advprop_idea.LONGER)
    }
    passes = plan.steps * (2 + plan.attack_steps)
    assert steps == {"vanilla": plan.steps, "advprop": plan.steps, advprop_idea.LONGER: passes}
