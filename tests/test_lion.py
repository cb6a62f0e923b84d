"""The Lion optimizer against the paper's formula, lion-pytorch, and its own promises."""

import copy

import numpy as np
import pytest
import torch
from lion_pytorch import Lion as OtherLion
from torch import nn

from heuretic.train import Lion

SHAPES = ((3, 4), (5,), (2, 3, 2), ())


def make_parameters(seed: int, dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in SHAPES]


def set_gradients(parameters: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(1000 + step)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)


def run(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        set_gradients(parameters, step)
        optimizer.step()


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("maximize", [True, False])
def test_each_step_follows_the_formula_of_the_paper(foreach: bool, maximize: bool) -> None:
    lr, (beta1, beta2), decay = 0.03, (0.9, 0.99), 0.2
    ours = make_parameters(0)
    expected = [p.detach().numpy().copy() for p in ours]
    momenta = [np.zeros_like(p) for p in expected]
    optimizer = Lion(ours, lr=lr, betas=(beta1, beta2), weight_decay=decay, maximize=maximize, foreach=foreach)
    for step in range(20):
        set_gradients(ours, step)
        optimizer.step()
        for i, p in enumerate(ours):
            assert p.grad is not None
            g = -p.grad.numpy() if maximize else p.grad.numpy()
            u = np.sign(beta1 * momenta[i] + (1 - beta1) * g)
            expected[i] = expected[i] * (1 - lr * decay) - lr * u
            momenta[i] = beta2 * momenta[i] + (1 - beta2) * g
            np.testing.assert_allclose(p.detach().numpy(), expected[i], rtol=1e-12, atol=1e-14)


def test_agrees_with_lion_pytorch_on_a_trained_network() -> None:
    models = [nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [
        Lion(models[0].parameters(), lr=1e-2, weight_decay=0.1),
        OtherLion(models[1].parameters(), lr=1e-2, weight_decay=0.1),
    ]
    x = torch.randn(32, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = [p.detach().clone() for p in models[0].parameters()]
    for _ in range(30):
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            (model(x) - x[:, :3]).square().mean().backward()
            optimizer.step()
    for ours, theirs, start in zip(models[0].parameters(), models[1].parameters(), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
        assert (ours - start).abs().max() > 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_foreach_path_equals_the_single_path_bit_for_bit(dtype: torch.dtype) -> None:
    results = []
    for foreach in (True, False):
        parameters = make_parameters(1, dtype)
        run(Lion(parameters, lr=0.02, weight_decay=0.3, foreach=foreach), parameters, range(10))
        results.append(parameters)
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
        assert one.dtype is dtype


def test_resuming_from_a_state_dict_is_bitwise(tmp_path) -> None:
    straight = make_parameters(2, torch.float32)
    run(Lion(straight, lr=0.02, weight_decay=0.1), straight, range(12))

    first = make_parameters(2, torch.float32)
    optimizer = Lion(first, lr=0.02, weight_decay=0.1)
    run(optimizer, first, range(5))
    torch.save({"p": [p.detach() for p in first], "o": optimizer.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    second = [nn.Parameter(p) for p in saved["p"]]
    resumed = Lion(second, lr=9.9)
    resumed.load_state_dict(saved["o"])
    run(resumed, second, range(5, 12))
    assert resumed.param_groups[0]["lr"] == 0.02
    assert all(torch.equal(a, b) for a, b in zip(straight, second, strict=True))


def test_state_is_half_of_adamw_and_one_buffer_per_parameter() -> None:
    sizes = {}
    for cls in (Lion, torch.optim.AdamW):
        parameters = make_parameters(3, torch.float32)
        optimizer = cls(parameters, lr=1e-3)
        run(optimizer, parameters, range(1))
        buffers = [v for state in optimizer.state.values() for k, v in state.items() if k != "step"]
        sizes[cls] = sum(v.numel() * v.element_size() for v in buffers)
        if cls is Lion:
            assert [list(state) for state in optimizer.state.values()] == [["exp_avg"]] * len(SHAPES)
    assert sizes[Lion] * 2 == sizes[torch.optim.AdamW]


def test_zero_learning_rate_moves_nothing_but_the_momentum() -> None:
    parameters = make_parameters(4)
    before = copy.deepcopy(parameters)
    optimizer = Lion(parameters, lr=0.0, weight_decay=0.5)
    run(optimizer, parameters, range(3))
    assert all(torch.equal(a, b) for a, b in zip(parameters, before, strict=True))
    assert all(state["exp_avg"].abs().max() > 0 for state in optimizer.state.values())


def test_parameters_without_gradient_are_left_alone() -> None:
    parameters = make_parameters(5)
    before = copy.deepcopy(parameters)
    optimizer = Lion(parameters, lr=0.1, weight_decay=0.5)
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(parameters, before, strict=True))
    parameters[1].grad = torch.ones_like(parameters[1])
    optimizer.step()
    changed = [not torch.equal(a, b) for a, b in zip(parameters, before, strict=True)]
    assert changed == [False, True, False, False]
    assert len(optimizer.state) == 1


def test_groups_keep_their_own_settings() -> None:
    parameters = make_parameters(6)
    before = copy.deepcopy(parameters)
    optimizer = Lion([{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.5, "weight_decay": 0.0}], lr=0.25)
    set_gradients(parameters, 0)
    optimizer.step()
    steps = [(a - b).abs().max().item() for a, b in zip(parameters, before, strict=True)]
    assert steps == pytest.approx([0.25, 0.25, 0.5, 0.5])


def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = Lion([weight], lr=0.5)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 4.0
    assert weight.item() == 1.5


def test_the_gradient_itself_is_not_written_to() -> None:
    for foreach in (True, False):
        parameters = make_parameters(7)
        set_gradients(parameters, 0)
        before = [p.grad.clone() for p in parameters if p.grad is not None]
        Lion(parameters, lr=0.1, maximize=True, foreach=foreach).step()
        assert all(torch.equal(p.grad, g) for p, g in zip(parameters, before, strict=True))


def test_sparse_gradients_are_refused_before_anything_changes() -> None:
    dense, table = nn.Parameter(torch.ones(2)), nn.Embedding(4, 2, sparse=True)
    optimizer = Lion([dense, table.weight], lr=0.1)
    (table(torch.tensor([1])).sum() + dense.sum()).backward()
    with pytest.raises(RuntimeError, match=r"gradients must be dense, got torch.sparse_coo .*sparse=False"):
        optimizer.step()
    assert torch.equal(dense, torch.ones(2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, r"lr must be >= 0 and finite, got -1.0"),
        ({"lr": float("nan")}, r"lr must be >= 0 and finite, got nan"),
        ({"betas": (0.9, 1.0)}, r"betas must be two numbers in \[0, 1\), got \(0.9, 1.0\)"),
        ({"betas": (0.9,)}, r"betas must be two numbers"),
        ({"weight_decay": -0.1}, r"weight_decay must be >= 0 and finite, got -0.1"),
    ],
)
def test_settings_are_checked_for_the_optimizer_and_for_each_group(settings: dict, message: str) -> None:
    parameters = make_parameters(8)
    with pytest.raises(ValueError, match=message):
        Lion(parameters, **settings)
    optimizer = Lion(parameters[:2])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": parameters[2:], **settings})
    assert len(optimizer.param_groups) == 1


def test_complex_parameters_are_refused() -> None:
    with pytest.raises(TypeError, match=r"must be real, got torch.complex64"):
        Lion([nn.Parameter(torch.zeros(2, dtype=torch.complex64))])
