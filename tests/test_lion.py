"""The Lion optimizer against the paper's formula, lion-pytorch, and its own promises."""

import copy
import functools
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lion_pytorch import Lion as OtherLion
from lion_pytorch.foreach import Lion as OtherForeachLion
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import heuretic as hr
from heuretic.data import c_library
from heuretic.symbolic import PatchError
from heuretic.train import Lion
from heuretic.train.optimizers import lion_kernel
from heuretic.train.optimizers.blockwise import quantized, restored
from heuretic.train.optimizers.lion_update import tiles, update_together

SHAPES = ((3, 4), (5,), (2, 3, 2), ())
COMPILER = not lion_kernel.unavailable()
#: Ways through a step. Without a C compiler there is no kernel to test.
PATHS = [
    pytest.param({"foreach": False}, id="each"),
    pytest.param({"foreach": True}, id="foreach"),
    pytest.param({"fused": True}, id="fused", marks=pytest.mark.skipif(not COMPILER, reason="no C compiler")),
]
PRECISIONS = [
    (torch.float32, None),
    (torch.float32, torch.bfloat16),
    (torch.float32, torch.int8),
    (torch.bfloat16, None),
    (torch.bfloat16, torch.float32),
    (torch.bfloat16, torch.int8),
    (torch.float64, None),
    (torch.float64, torch.float32),
    (torch.float16, None),
]
#: The most by which rounding to nearest changes a number, over its size.
UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
ASSETS = Path(__file__).parent / "assets"


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


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("maximize", [True, False])
def test_each_step_follows_the_formula_of_the_paper(path: dict, maximize: bool) -> None:
    lr, (beta1, beta2), decay = 0.03, (0.9, 0.99), 0.2
    ours = make_parameters(0)
    expected = [p.detach().numpy().copy() for p in ours]
    momenta = [np.zeros_like(p) for p in expected]
    optimizer = Lion(ours, lr=lr, betas=(beta1, beta2), weight_decay=decay, maximize=maximize, **path)
    for step in range(200):
        set_gradients(ours, step)
        optimizer.step()
        for i, p in enumerate(ours):
            assert p.grad is not None
            g = -p.grad.numpy() if maximize else p.grad.numpy()
            u = np.sign(beta1 * momenta[i] + (1 - beta1) * g)
            expected[i] = expected[i] * (1 - lr * decay) - lr * u
            momenta[i] = beta2 * momenta[i] + (1 - beta2) * g
            np.testing.assert_allclose(p.detach().numpy(), expected[i], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize(("dtype", "state_dtype"), PRECISIONS)
def test_each_step_is_off_by_one_rounding(
    path: dict, maximize: bool, decay: float, dtype: torch.dtype, state_dtype: torch.dtype | None
) -> None:
    """Against the formula in float64, begun anew at each step from what the optimizer holds."""
    lr, (beta1, beta2), way = 0.02, (0.8, 0.95), -1.0 if maximize else 1.0
    (p,) = parameters = [nn.Parameter(torch.randn(700, generator=torch.Generator().manual_seed(0)).to(dtype))]
    optimizer = Lion(
        parameters, lr=lr, betas=(beta1, beta2), weight_decay=decay, maximize=maximize, state_dtype=state_dtype, **path
    )
    for step in range(60):
        weight, momentum = p.detach().double().clone(), momentum_of(optimizer, p)
        set_gradients(parameters, step)
        assert p.grad is not None
        optimizer.step()
        direction = beta1 * momentum + (1 - beta1) * p.grad.double()
        expected = weight - lr * (way * direction.sign() + decay * weight)
        clear = direction.abs() > 1e-6  # float32 has a sign of its own for what is nearer to 0
        error = (p.detach().double() - expected).abs()[clear]
        assert (error <= UNIT[dtype] * expected.abs()[clear] + 1e-6).all()
        kept, exact = momentum_of(optimizer, p), beta2 * momentum + (1 - beta2) * p.grad.double()
        assert optimizer.state[p]["exp_avg"].dtype is (state_dtype or dtype)
        if state_dtype is torch.int8:
            largest = torch.cat([block.abs().amax().expand(len(block)) for block in exact.split(256)])
            bound = (exact.abs() * largest).sqrt() / 127 + largest / (4 * 127**2)
        else:
            bound = UNIT[state_dtype or dtype] * exact.abs()
        assert ((kept - exact).abs() <= bound * (1 + 1e-5) + 1e-7).all()


def momentum_of(optimizer: Lion, p: nn.Parameter) -> torch.Tensor:
    """Return the momentum of a parameter, by what the format of 8-bit momentum is documented to be."""
    state = optimizer.state[p]
    if not state:
        return torch.zeros(p.shape, dtype=torch.float64)
    codes = state["exp_avg"].double().clone()
    if "exp_avg_scale" not in state:
        return codes
    return codes * codes.abs() * state["exp_avg_scale"].double().repeat_interleave(256)[: p.numel()].view(p.shape)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("other", [OtherLion, OtherForeachLion])
def test_agrees_with_lion_pytorch_on_a_trained_network(path: dict, other: type) -> None:
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [
        Lion(models[0].parameters(), lr=1e-2, weight_decay=0.1, **path),
        other(models[1].parameters(), lr=1e-2, weight_decay=0.1),
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


@pytest.mark.skipif(not COMPILER, reason="no C compiler")
@pytest.mark.parametrize(("dtype", "state_dtype"), PRECISIONS)
def test_all_paths_are_equal_bit_for_bit(
    dtype: torch.dtype, state_dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lion_kernel, "_PER_THREAD", 5_000)
    shapes = ((300, 301), (7,), (), (0, 3), (6, 5, 40, 41), (4, 3, 9, 9), (1000,), (70, 1200))
    results = []
    for path in ({"foreach": False}, {"foreach": True}, {"fused": True}, {}):
        generator = torch.Generator().manual_seed(0)
        parameters = [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]
        parameters[4].data = parameters[4].to(memory_format=torch.channels_last)
        parameters[7].data = parameters[7].data[:, ::3]  # a view that is not dense
        optimizer = Lion(parameters, lr=0.02, weight_decay=0.3, state_dtype=state_dtype, **path)
        with torch_threads(3):
            for step in range(4):
                set_gradients(parameters, step)
                parameters[5].grad = parameters[5].grad.contiguous(memory_format=torch.channels_last)
                optimizer.step()
        results.append([*parameters, *(value for p in parameters for value in optimizer.state[p].values())])
    for first, *others in zip(*results, strict=True):
        assert first.dtype in (dtype, state_dtype, torch.float32)
        for other in others:
            if state_dtype is torch.int8:  # torch's square root is not always the nearest, by which a code may differ
                assert ((first.double() - other.double()).abs() > 1e-6 * first.abs()).sum() <= 1
            else:
                assert torch.equal(first, other)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("dtype", "state_dtype"), PRECISIONS)
def test_resuming_from_a_state_dict_is_bitwise(
    path: dict, dtype: torch.dtype, state_dtype: torch.dtype | None, tmp_path: Path
) -> None:
    straight = make_parameters(2, dtype)
    run(Lion(straight, lr=0.02, weight_decay=0.1, state_dtype=state_dtype, **path), straight, range(12))

    first = make_parameters(2, dtype)
    optimizer = Lion(first, lr=0.02, weight_decay=0.1, state_dtype=state_dtype, **path)
    run(optimizer, first, range(5))
    torch.save({"p": [p.detach() for p in first], "o": optimizer.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    second = [nn.Parameter(p) for p in saved["p"]]
    resumed = Lion(second, lr=9.9)
    resumed.load_state_dict(saved["o"])
    run(resumed, second, range(5, 12))
    assert resumed.param_groups[0]["lr"] == 0.02
    assert all(torch.equal(a, b) for a, b in zip(straight, second, strict=True))
    assert {state["exp_avg"].dtype for state in resumed.state.values()} == {state_dtype or dtype}


def test_checkpoints_of_the_earlier_form_are_read() -> None:
    saved = torch.load(ASSETS / "lion_version_1.pt", weights_only=True)
    parameters = [nn.Parameter(p) for p in saved["parameters"]]
    optimizer = Lion([{"params": parameters[:1]}, {"params": parameters[1:]}], lr=9.9, state_dtype=torch.int8)
    optimizer.load_state_dict(saved["optimizer"])
    for step in range(5, 8):
        for i, p in enumerate(parameters):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(100 * step + i))
        optimizer.step()
    for ours, earlier in zip(parameters, saved["parameters_3_steps_later"], strict=True):
        torch.testing.assert_close(ours.detach(), earlier, rtol=1e-6, atol=1e-6)
    assert [(g["lr"], g["foreach"], g["fused"], g["state_dtype"]) for g in optimizer.param_groups] == [
        (0.02, None, None, None),
        (0.05, False, None, None),
    ]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@pytest.mark.parametrize("state_dtype", [None, torch.bfloat16, torch.int8])
def test_copies_go_on_alike_and_apart(copied, state_dtype: torch.dtype | None) -> None:
    parameters = make_parameters(2, torch.float32)
    optimizer = Lion(parameters, lr=0.02, state_dtype=state_dtype)
    run(optimizer, parameters, range(3))
    others, other = copied((parameters, optimizer))
    run(other, others, range(3, 6))
    assert not any(torch.equal(a, b) for a, b in zip(parameters, others, strict=True))
    run(optimizer, parameters, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(parameters, others, strict=True))


def test_state_of_another_shape_is_refused_before_memory_is_touched() -> None:
    small, large = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(300))
    for path in ({"foreach": True}, {"fused": True} if COMPILER else {}):
        optimizer = Lion([small], lr=0.1, **path)
        run(optimizer, [small], range(1))
        wrong = Lion([large], lr=0.1)
        wrong.load_state_dict(optimizer.state_dict())
        set_gradients([large], 0)
        with pytest.raises(RuntimeError, match="size"):
            wrong.step()
        assert not large.any()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(1, 40), min_size=0, max_size=3), min_size=1, max_size=4))
def test_state_is_half_of_adamw(shapes: list[list[int]]) -> None:
    """4 bytes a weight; 2 as bfloat16; 1, and 4 for every 256 begun, as int8."""
    weights = [int(np.prod(shape)) for shape in shapes]

    def state_bytes(cls, **given) -> int:
        parameters = [nn.Parameter(torch.ones(shape)) for shape in shapes]
        optimizer = cls(parameters, lr=1e-3, **given)
        run(optimizer, parameters, range(1))
        kept = chain.from_iterable(state.items() for state in optimizer.state.values())
        return sum(value.numel() * value.element_size() for key, value in kept if key != "step")

    assert state_bytes(torch.optim.AdamW) == 8 * sum(weights)
    assert state_bytes(Lion) == 4 * sum(weights)
    assert state_bytes(Lion, state_dtype=torch.bfloat16) == 2 * sum(weights)
    assert state_bytes(Lion, state_dtype=torch.int8) == sum(weights) + 4 * sum(-(-n // 256) for n in weights)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 700), st.floats(-30, 30), st.floats(0, 12))
def test_numbers_in_8_bits_are_as_near_as_documented(seed: int, count: int, size: float, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, generator=generator) * 10 ** (
        size + spread * torch.rand(count, generator=generator) - spread
    )
    codes, scales = quantized(x)
    assert codes.dtype is torch.int8
    assert codes.shape == x.shape
    assert scales.shape == (-(-count // 256),)
    back = restored(codes, scales)
    for values, found in zip(x.double().split(256), back.double().split(256), strict=True):
        largest = values.abs().amax()
        bound = (values.abs() * largest).sqrt() / 127 + largest / (4 * 127**2)
        assert ((found - values).abs() <= bound * (1 + 1e-5) + 1e-34).all()
    again = quantized(back)
    assert torch.equal(again[0], codes), "what is kept once is kept for ever"
    torch.testing.assert_close(again[1], scales, rtol=1e-6, atol=0)


def test_8_bits_keep_zeros_and_show_what_is_not_finite() -> None:
    for codes, scales in (quantized(torch.zeros(300)), (torch.zeros(300, dtype=torch.int8), torch.zeros(2))):
        assert torch.equal(restored(codes, scales), torch.zeros(300))
    for bad in (float("nan"), float("inf"), -float("inf")):
        x = torch.ones(600)
        x[300] = bad
        finite = restored(*quantized(x)).isfinite()
        assert finite[:256].all()
        assert finite[512:].all()
        assert not finite[256:512].all()


@given(st.lists(st.integers(0, 70), min_size=1, max_size=8), st.booleans())
def test_tiles_hold_every_weight_once_and_no_more_than_they_may(sizes: list[int], in_codes: bool) -> None:
    tensors = [torch.zeros(256 * n + n % 3) for n in sizes]
    scales = [torch.zeros(-(-t.numel() // 256)) if in_codes else None for t in tensors]
    for tile in tiles([(t, t, t, s) for t, s in zip(tensors, scales, strict=True)], 4096):
        assert sum(p.numel() for p, *_ in tile) <= 4096
        for p, _, _, own in tile:
            p.add_(1)
            if own is not None:
                assert len(own) == -(-p.numel() // 256)
                own.add_(1)
    assert all((t == 1).all() for t in tensors)
    assert all((s == 1).all() for s in scales if s is not None)


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
        ({"lr": torch.ones(2)}, r"lr must be one number, got a tensor of shape \(2,\)"),
        ({"state_dtype": torch.int16}, r"state_dtype must be one of None, torch.float32, .*got torch.int16"),
        ({"foreach": True, "fused": True}, r"foreach and fused must not both be True"),
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


# -- with the rest of torch -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "state_dtype"), [("eager", None), ("aot_eager", torch.bfloat16), ("aot_eager", torch.int8)]
)
def test_a_step_can_be_compiled(backend: str, state_dtype: torch.dtype | None) -> None:
    torch._dynamo.reset()
    plain, compiled = make_parameters(9, torch.float32), make_parameters(9, torch.float32)
    rates = torch.tensor(0.02), torch.tensor(0.02)
    optimizers = [
        Lion(params, lr=lr, weight_decay=0.3, state_dtype=state_dtype)
        for params, lr in zip((plain, compiled), rates, strict=True)
    ]
    counter = CompileCounterWithBackend(backend)
    steps = optimizers[0].step, torch.compile(optimizers[1].step, backend=counter, fullgraph=True)
    schedules = [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9) for optimizer in optimizers]
    for number in range(6):
        for params, step, schedule in zip((plain, compiled), steps, schedules, strict=True):
            set_gradients(params, number)
            with warnings.catch_warnings():  # torch takes a compiled step for none
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
                step()
                schedule.step()
    assert rates[1].item() == pytest.approx(0.02 * 0.9**6)
    assert counter.frame_count == 2, "once to begin the state and once for all steps"
    for one, other in zip(plain, compiled, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_step_by_a_tensor_is_the_step_by_its_number() -> None:
    """As it is done where the learning rate is on a device, and by what is compiled for devices."""
    generator = torch.Generator().manual_seed(0)
    results = []
    for step in (-0.02, torch.tensor(-0.02)):
        generator.manual_seed(0)
        p, g, m = (torch.randn(50, generator=generator) for _ in range(3))
        update_together([(p, g, m, None)], step=step, decay=0.1, weight1=0.1, weight2=0.01)
        results.append((p, m))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_schedules_set_the_learning_rate(path: dict, as_tensor: bool) -> None:
    (p,) = parameters = [nn.Parameter(torch.zeros(4))]
    optimizer = Lion(parameters, lr=torch.tensor(0.5) if as_tensor else 0.5, **path)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    places = []
    for _ in range(3):
        p.grad = torch.ones(4)
        optimizer.step()
        schedule.step()
        places.append(p[0].item())
    assert places == [-0.5, -0.75, -0.875]
    assert isinstance(optimizer.param_groups[0]["lr"], torch.Tensor if as_tensor else float)


@pytest.mark.parametrize("path", PATHS)
def test_a_gradient_scaler_leaves_out_steps_that_overflowed(path: dict) -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer, scaler = Lion([weight], lr=0.25, **path), torch.amp.GradScaler("cpu", init_scale=4.0)
    for factor, expected in ((1.0, 0.75), (float("inf"), 0.75), (1.0, 0.5)):
        optimizer.zero_grad()
        scaler.scale((weight * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(weight, torch.full((3,), expected))
    assert scaler.get_scale() == 2.0
    assert optimizer.state[weight]["exp_avg"].isfinite().all()


@pytest.mark.parametrize("path", PATHS)
def test_one_group_may_mix_dtypes(path: dict) -> None:
    dtypes = (torch.float32, torch.bfloat16, torch.float64, torch.float16)
    parameters = [nn.Parameter(torch.full((5,), 2.0, dtype=dtype)) for dtype in dtypes]
    optimizer = Lion(parameters, lr=0.5, weight_decay=0.25, **path)
    for p in parameters:
        p.grad = torch.tensor([1.0, -1.0, 0.0, 3.0, -2.0], dtype=p.dtype)
    optimizer.step()
    for p in parameters:
        assert p.tolist() == [1.25, 2.25, 1.75, 1.25, 2.25]
        assert optimizer.state[p]["exp_avg"].dtype is p.dtype


class Marked(torch.Tensor):
    """A tensor of a class of its own, which keeps account of the operations on it."""

    seen: ClassVar[set[str]] = set()

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.seen.add(func.__name__)
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize("path", PATHS)
def test_tensors_of_other_classes_are_updated_by_operations_on_the_whole(path: dict) -> None:
    weight = nn.Parameter(torch.ones(70_000).as_subclass(Marked))
    weight.grad = torch.ones(70_000).as_subclass(Marked)
    Marked.seen.clear()
    Lion([weight], lr=0.25, **path).step()
    assert "data_ptr" not in Marked.seen
    assert not Marked.seen & {"view", "split"}
    assert torch.equal(weight.as_subclass(torch.Tensor), torch.full((70_000,), 0.75))


@pytest.mark.parametrize("path", PATHS)
def test_a_graph_from_before_the_step_is_not_used_after_it(path: dict) -> None:
    weight = nn.Parameter(torch.ones(3))
    loss = weight.square().sum()
    weight.grad = torch.ones(3)
    Lion([weight], lr=0.5, **path).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_without_a_compiler_fused_is_refused_and_the_rest_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_large() -> nn.Parameter:
        weight = nn.Parameter(torch.ones(1 << 20))
        optimizer = Lion([weight], lr=0.5)
        weight.grad = torch.linspace(-1, 1, 1 << 20)
        optimizer.step()
        return weight

    expected = run_large()
    monkeypatch.setenv("CC", "false")
    caches = (c_library.unavailable, c_library.compiled, lion_kernel._compiled)
    for cache in caches:
        cache.cache_clear()
    try:
        with pytest.raises(RuntimeError, match=r"fused must have a C compiler .*got: false failed: .*Try fused=None"):
            Lion([nn.Parameter(torch.ones(2))], fused=True)
        assert torch.equal(run_large(), expected)
    finally:
        for cache in caches:
            cache.cache_clear()


# -- the patch --------------------------------------------------------------------------------------------------


def test_the_patch_keeps_the_path_that_was_asked_for() -> None:
    for path in ({"foreach": False}, {"foreach": True}, {"fused": True}, {"fused": None}):
        program = hr.sym(functools.partial)(torch.optim.AdamW, lr=1e-2, capturable=False, **path)
        assert dict(hr.apply(program, "lion").__items__()) == {
            0: Lion, "lr": pytest.approx(1e-3), "weight_decay": pytest.approx(0.1), **path,
        }  # fmt: skip
    with pytest.raises(PatchError, match=r"differentiable must be False to become Lion.* Try AdamW"):
        hr.apply(hr.sym(functools.partial)(torch.optim.AdamW, differentiable=True), "lion")


def test_the_patch_leaves_schedules_as_they_are() -> None:
    optimizer = hr.sym(torch.optim.AdamW)(hr.sym(make_parameters)(0), lr=0.1)
    program = hr.sym(torch.optim.lr_scheduler.StepLR)(optimizer, step_size=2, gamma=0.5)
    patched = hr.apply(program, "lion")
    assert patched.step_size == 2
    assert patched.gamma == 0.5
    schedule = hr.build(patched)
    assert type(schedule.optimizer) is Lion
    rates = []
    for _ in range(4):
        rates.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.01, 0.01, 0.005, 0.005])
