"""Mobile networks against published tables, the factorised space, what models cost, and the rule of the check."""

import math
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import heuretic as hr
from heuretic.ideas import mnasnet
from heuretic.ideas.result import Arm, compare
from heuretic.nn import (
    MOBILENET_V2,
    Block,
    Conv,
    MBConv,
    MobileNet,
    MultiplyAdds,
    Residual,
    SeparableConv,
    SqueezeExcitation,
    mnasnet_a1,
    mobile_layer,
    mobilenet_v2,
    parameter_count,
)
from heuretic.train import factorized_space

MNASNET_B1 = (
    Block(SeparableConv(), 16, skip="none"),
    Block(MBConv(3), 24, layers=3, stride=2),
    Block(MBConv(3), 40, layers=3, stride=2, kernel_size=5),
    Block(MBConv(6), 80, layers=3, stride=2, kernel_size=5),
    Block(MBConv(6), 96, layers=2),
    Block(MBConv(6), 192, layers=4, stride=2, kernel_size=5),
    Block(MBConv(6), 320),
)
TINY = (Block(MBConv(2), 8), Block(MBConv(2), 12, layers=2, stride=2))
SPACE = hr.Space(factorized_space(TINY, divisor=4, classes=5, in_channels=1, stem=4, head=16))


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        (mobilenet_v2, 3_504_872),  # torchvision's mobilenet_v2
        (mnasnet_a1, 3_887_038),  # timm's semnasnet_100
        (lambda: MobileNet(MNASNET_B1), 4_383_312),  # torchvision's mnasnet1_0
    ],
)
def test_networks_have_as_many_parameters_as_those_of_others(make: Any, parameters: int) -> None:
    with torch.device("meta"):
        assert parameter_count(make()) == parameters


def test_published_multiply_adds() -> None:
    images = MultiplyAdds((1, 3, 224, 224))
    assert images(hr.sym(mobilenet_v2)()) == pytest.approx(300e6, rel=0.01)  # Sandler et al., table 4
    assert images(hr.sym(mnasnet_a1)()) == pytest.approx(312e6, rel=0.01)  # Tan et al., table 1


def test_costs_by_hand() -> None:
    program = hr.sym(nn.Sequential)(
        hr.sym(nn.Conv2d)(4, 6, 3, padding=1, groups=2), hr.sym(nn.Flatten)(), hr.sym(nn.Linear)(6 * 25, 10)
    )
    state = torch.get_rng_state()
    assert parameter_count(program) == 6 * 2 * 9 + 6 + 1500 + 10
    assert MultiplyAdds((2, 4, 5, 5))(program) == 2 * (6 * 25 * 2 * 9 + 1500)
    assert torch.equal(torch.get_rng_state(), state)
    built = hr.build(program)
    assert MultiplyAdds((2, 4, 5, 5))(built) == 2 * (6 * 25 * 2 * 9 + 1500)
    assert built.training
    with pytest.raises(TypeError, match="model must be a torch module"):
        parameter_count((1, 2))


def test_attention_counts_in_fused_layers_too_and_parts_stay_in_their_modes() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 2)
    encoder.layers[0].eval()
    modes = [part.training for part in encoder.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()
    layer = 4 * 17 * 64**2 + 2 * 17**2 * 64 + 2 * 17 * 64 * 128
    assert MultiplyAdds((3, 17, 64))(encoder) == 3 * 2 * layer
    assert [part.training for part in encoder.modules()] == modes
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_squeeze_and_excitation_follows_its_formula() -> None:
    torch.manual_seed(0)
    layer, x = SqueezeExcitation(6, 2), torch.randn(3, 6, 4, 5)
    assert layer.reduce.bias is not None
    assert layer.expand.bias is not None
    means = x.mean((2, 3))
    hidden = torch.relu(means @ layer.reduce.weight[:, :, 0, 0].T + layer.reduce.bias)
    scale = torch.sigmoid(hidden @ layer.expand.weight[:, :, 0, 0].T + layer.expand.bias)
    torch.testing.assert_close(layer(x), x * scale[:, :, None, None])


def test_the_way_around_a_layer() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 6, 6)
    pooled = [nn.functional.avg_pool2d(x, 3, stride, 1, count_include_pad=False) for stride in (1, 2)]
    cases: list[tuple[Any, int, torch.Tensor]] = [("identity", 1, x), ("pool", 1, pooled[0]), ("pool", 2, pooled[1])]
    for skip, stride, around in cases:
        layer = mobile_layer(MBConv(2), 8, 8, stride=stride, skip=skip).eval()
        assert isinstance(layer, Residual)
        torch.testing.assert_close(layer(x), layer.path(x) + around)
    options: dict[str, Any]
    for out, options in ((8, {"skip": "none"}), (8, {"stride": 2}), (12, {}), (12, {"skip": "pool"})):
        assert not isinstance(mobile_layer(MBConv(2), 8, out, **options), Residual)


@pytest.mark.parametrize("operation", [Conv(), SeparableConv(), MBConv(1), MBConv(4)])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_every_operation_gives_the_shape_asked_for(operation: Any, kernel_size: int) -> None:
    for stride in (1, 2):
        layer = mobile_layer(operation, 8, 12, kernel_size=kernel_size, stride=stride, se_ratio=0.25)
        assert layer(torch.randn(2, 8, 9, 9)).shape == (2, 12, 9 // stride + (stride - 1), 9 // stride + (stride - 1))
        excited = [m for m in layer.modules() if isinstance(m, SqueezeExcitation)]
        assert [m.reduce.out_channels for m in excited] == [2]
        plain = mobile_layer(operation, 8, 12, kernel_size=kernel_size, stride=stride)
        assert not any(isinstance(m, SqueezeExcitation) for m in plain.modules())


def test_wrong_settings_are_refused() -> None:
    for wrong, message in (({"skip": "jump"}, "skip"), ({"kernel_size": 4}, "odd"), ({"se_ratio": 2.0}, "se_ratio")):
        with pytest.raises(ValueError, match=message):
            mobile_layer(Conv(), 4, 4, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expansion must be >= 1"):
        MBConv(0)
    with pytest.raises(ValueError, match="layers must be >= 1"):
        Block(Conv(), 4, layers=0)
    with pytest.raises(ValueError, match="at least one"):
        MobileNet(())


def test_the_space_starts_from_the_seed_and_leaves_open_what_the_paper_does() -> None:
    space = hr.Space(factorized_space())
    start = hr.build(space.decode(space.default()))
    reference = MobileNet(MOBILENET_V2)
    assert [p.shape for p in start.parameters()] == [p.shape for p in reference.parameters()]
    assert len(space) == 6 * len(MOBILENET_V2)
    free = 4 * 2 * 2 * 3  # operations, kernels, excitations, ways around; the first block's expansion 1 is one more
    filters, layers = (2, 2, 3, 3, 3, 3, 3), (2, 3, 3, 3, 3, 3, 2)  # 12 and 18 round to 16 and 24; a layer must remain
    assert space.size == 5 * free // 4 * free**6 * math.prod(filters) * math.prod(layers)


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_layers_of_a_block_are_alike_and_every_program_runs(seed: int) -> None:
    program = SPACE.decode(SPACE.sample(random.Random(seed)))
    assert SPACE.decode(SPACE.encode(program)) == program
    network = hr.build(program)
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 5)
    assert parameter_count(program) == sum(p.numel() for p in network.parameters())
    for block, built in zip(program.blocks, network.blocks, strict=True):
        assert len(built) == block.layers
        convolutions = [[m for m in layer.modules() if isinstance(m, nn.Conv2d)] for layer in built]
        assert all(layer[-1].out_channels == block.filters or block.se_ratio for layer in convolutions)
        assert {max(m.kernel_size[0] for m in layer) for layer in convolutions} == {block.kernel_size}
        assert {any(isinstance(m, SqueezeExcitation) for m in layer.modules()) for layer in built} == {
            block.se_ratio > 0
        }


def test_costs_limit_the_space() -> None:
    at_most = parameter_count(SPACE.decode(SPACE.default()))
    limits = [hr.Limit(parameter_count, at_most=at_most), hr.Limit(MultiplyAdds((1, 1, 8, 8)), at_most=2e5)]
    study = hr.discover(
        SPACE.program, parameter_count, limits=limits, trials=5, progress=False,
        algorithm=hr.Evolution(population=4, tournament=2),
    )  # fmt: skip
    assert [limit.name for limit in study.limits] == ["parameter_count", "multiply_adds"]
    assert all(t.costs["parameter_count"] <= at_most and t.costs["multiply_adds"] <= 2e5 for t in study.trials)
    assert study.best is not None


def judged(differences: tuple[float, ...], ratios: tuple[float, ...]) -> str:
    base = (0.8,) * len(differences)
    arms = {
        "seed network": Arm({}, {"test_accuracy": base}),
        "searched network": Arm(
            {},
            {
                "test_accuracy": tuple(b + d for b, d in zip(base, differences, strict=True)),
                "latency_over_seed": ratios,
            },
        ),
    }
    return mnasnet.judge("small", arms, compare(arms, "test_accuracy", "searched network", "seed network"))[0]


@pytest.mark.parametrize(
    ("differences", "ratios", "verdict"),
    [
        ((0.02, 0.021, 0.022), (1.0, 1.01, 0.99), "reproduced"),
        ((0.001, 0.0, -0.001), (0.8, 0.81, 0.82), "reproduced"),
        ((0.02, 0.021, 0.022), (1.2, 1.21, 1.22), "not reproduced"),
        ((-0.02, -0.021, -0.022), (0.5, 0.51, 0.52), "not reproduced"),
        ((0.1, -0.1, 0.0), (1.0, 1.01, 0.99), "not testable at this scale"),
    ],
)
def test_the_verdict_follows_the_rule(differences: tuple[float, ...], ratios: tuple[float, ...], verdict: str) -> None:
    assert judged(differences, ratios) == verdict


def test_smoke() -> None:
    lines: list[str] = []
    result = mnasnet.reproduce("smoke", progress=lines.append)
    assert result.verdict == "not testable at this scale"
    assert set(result.arms) == {"seed network", "searched network"}
    assert sum(line.startswith("trial ") for line in lines) == mnasnet.PLANS["smoke"].trials
    for arm in result.arms.values():
        assert {len(values) for values in arm.measurements.values()} == {2}
        assert arm.settings["parameters"] > 10_000
    with pytest.raises(ValueError, match="at least 2, different"):
        mnasnet.reproduce("smoke", seeds=(1, 1))
    with pytest.raises(ValueError, match="scale must be"):
        mnasnet.reproduce("huge")  # type: ignore[arg-type]
