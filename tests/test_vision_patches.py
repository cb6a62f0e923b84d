"""Patches on image models: ours, a plain torch ResNet, and models of transformers; as programs and as built modules."""

from __future__ import annotations

import copy
import functools
import importlib.util
import itertools
import operator
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heuretic as hr
from heuretic.ideas.advprop import AdvProp
from heuretic.ideas.condconv import CondConv
from heuretic.nn import (
    AuxiliaryBatchNorm,
    CompoundScaling,
    CondConv2d,
    DropPaths,
    ExposeActivations,
    StochasticDepth,
    StochasticDepths,
    Swish,
    auxiliary_statistics,
    functional_calls,
    parameter_count,
    path_ends,
)
from heuretic.symbolic import InvalidField, Patched, PatchError, PatchWarning
from test_vision_models import settled, small_mobile_net, small_resnet
from vision_models import IMAGES, Block, FunctionalBlock, PlainResNet, hf_resnet, hf_vit, output

TRANSFORMERS = importlib.util.find_spec("transformers") is not None
MODELS: dict[str, Any] = {
    "mobile net": lambda: hr.build(small_mobile_net()),
    "resnet": lambda: hr.build(small_resnet()),
    "plain resnet": PlainResNet,
    **({"transformers resnet": hf_resnet, "transformers vit": hf_vit} if TRANSFORMERS else {}),
}
#: Patches that leave the function that a model computes as it is, in evaluation mode.
NEUTRAL = ("condconv?experts=3", "advprop", "stochastic-depth?rate=0.5")


pytestmark = pytest.mark.usefixtures("fixed_weights")


def applicable(model: str, patch: str) -> bool:
    return not (model == "transformers vit" and patch == "advprop")


@pytest.mark.parametrize("patch", NEUTRAL)
@pytest.mark.parametrize("name", MODELS)
def test_neutral_patches_keep_the_output(name: str, patch: str) -> None:
    model = settled(MODELS[name]())
    if not applicable(name, patch):
        with pytest.raises(PatchError, match=r"changed nothing .* it looks for BatchNorm"):
            hr.apply(model, patch)
        return
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    changes: list[Any] = []
    new = hr.apply(model, patch, changes=changes)
    assert changes
    torch.testing.assert_close(output(new), output(model), rtol=1e-4, atol=1e-6)
    assert {key: t for key, t in model.state_dict().items() if not torch.equal(t, before[key])} == {}
    assert hr.diff(model, new)
    assert not hr.diff(model, copy.deepcopy(model))


@pytest.mark.parametrize("name", MODELS)
def test_patches_are_undone_by_going_back_to_the_program(name: str) -> None:
    model = MODELS[name]()
    new = hr.apply(model, "condconv", "stochastic-depth")
    if name in ("mobile net", "resnet"):
        assert hr.program_of(new) == Patched(hr.program_of(model), (CondConv(), StochasticDepths()))
        assert hr.program_of(new).program == hr.program_of(model)
        assert not hr.diff(hr.build(hr.program_of(new)), new)
        assert not hr.diff(hr.build(hr.program_of(new).program), model)
    else:
        with pytest.raises(ValueError, match="to know its program"):
            hr.program_of(new)


@pytest.mark.parametrize(
    "program",
    [small_mobile_net(), small_resnet(), hr.sym(PlainResNet)(), hr.sym(hf_resnet)()],
    ids=lambda p: p.__head__().rpartition(":")[2],
)
@pytest.mark.parametrize(
    "patch",
    [
        *NEUTRAL,
        "smooth-adversarial-training?activation=gelu",
        "primer",
        "efficientnet?width=1.5&depth=1.5",
        "efficientnet?width=1&depth=2",
    ],
)
def test_patching_a_program_and_what_it_builds_comes_to_the_same(program: Any, patch: str) -> None:
    if patch.startswith("smooth") and program == small_mobile_net():
        program = hr.replace(program, activation=hr.sym(nn.ReLU)())
    changed = hr.apply(program, patch)
    assert changed != program
    assert hr.loads(hr.dumps(changed), trust=("torch.nn", "vision_models")) == changed
    assert not hr.diff(hr.build(changed), hr.apply(hr.build(program), patch))


def test_a_patch_on_a_program_that_would_change_nothing_when_built_is_refused_at_once() -> None:
    with pytest.raises(PatchError, match="smooth-adversarial-training changed nothing"):
        hr.apply(small_mobile_net(), "smooth-adversarial-training")
    assert hr.apply(small_mobile_net(), "smooth-adversarial-training", allow_empty=True) == small_mobile_net()


class Measured(nn.Module):
    """Can only be built with weights: it looks at their values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"width must be even, got {width}")
        self.norm = nn.BatchNorm2d(width)
        self.mean = self.norm.weight.mean().item()


def test_a_patch_on_a_program_that_cannot_be_built_says_so() -> None:
    with pytest.raises(PatchError, match=r"advprop changed nothing .*: ValueError: width must be even, got 3"):
        hr.apply(hr.sym(Measured)(3), "advprop")
    program = hr.sym(Measured)(4)
    with pytest.raises(PatchError, match=r"advprop changed nothing in the nodes of Measured, .*RuntimeError") as caught:
        hr.apply(program, "advprop")
    assert "try hr.symbolic.Patched(program, (patch,))" in str(caught.value)
    assert isinstance(hr.build(Patched(program, (AdvProp(),))).norm, AuxiliaryBatchNorm)
    assert hr.apply(program, "advprop", allow_empty=True) == program
    with pytest.raises(PatchError, match=r"advprop changed nothing in partial .* it looks for"):  # it makes no module
        hr.apply(hr.sym(functools.partial)(len), "advprop")


class SmallBiasesDropped(hr.Patch):
    """Looks at values of weights, of which a draft of a model has none."""

    limit: float = 1.0

    @hr.rule
    def linear(self, node: nn.Linear) -> Any:
        is_small = isinstance(node, nn.Module) and node.bias.abs().max().item() < self.limit
        return hr.replace(node, bias=None) if is_small else node


def test_rules_that_need_weights_wait_for_them_and_mistakes_in_rules_do_not() -> None:
    program = hr.sym(nn.Sequential)(hr.sym(nn.Linear)(4, 4))
    patched = hr.apply(program, SmallBiasesDropped())
    assert patched == Patched(program, (SmallBiasesDropped(),))
    assert hr.build(patched)[0].bias is None

    class Mistaken(hr.Patch):
        @hr.rule
        def linear(self, node: nn.Linear) -> Any:
            return node if not isinstance(node, nn.Module) else hr.replace(node, width=3)

    with pytest.raises(AttributeError, match="Linear has no attribute 'width'"):
        hr.apply(program, Mistaken())


def test_patches_of_programs_can_be_searched_over() -> None:
    program = hr.replace(
        hr.apply(small_resnet(), CondConv(experts=hr.one_of(2, 3))), {"program.stages[0].width": hr.one_of(8, 16)}
    )
    study = hr.discover(program, lambda program: -parameter_count(program), trials=4, algorithm=hr.RandomSearch())
    best = study.best.program
    assert best == Patched(small_resnet(), (CondConv(experts=2),))
    assert any(isinstance(part, CondConv2d) for part in hr.build(best).modules())


def test_the_diff_of_a_patched_program_says_what_was_applied() -> None:
    program, changes = small_resnet(), []
    patched = hr.apply(program, "condconv?experts=4", "advprop", changes=changes)
    assert list(map(str, changes)) == ["+ patches[0]: CondConv(experts=4)", "+ patches[1]: AdvProp()"]
    assert str(hr.diff(program, hr.apply(program, "condconv"))) == (
        "~ (root): ResNet(stages=..., block=Bottleneck, classes=5, stem=8) -> "
        "Patched(program=ResNet(...), patches=(CondConv(),))"
    )
    assert str(hr.diff(hr.apply(program, "condconv?experts=4"), patched)) == "+ patches[1]: AdvProp()"


def test_what_a_program_is_patched_with_cannot_be_an_address() -> None:
    with pytest.raises(InvalidField, match=r"patches\[0\]: expected Patch, got 'some_package:Patch'"):
        Patched(small_resnet(), ("some_package:Patch",))  # type: ignore[arg-type]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_patches_compose_in_any_order(order: tuple[int, ...]) -> None:
    patches = (
        "condconv?experts=2",
        "advprop",
        "stochastic-depth",
        "smooth-adversarial-training?activation=swish&trained=true",
    )
    model = settled(PlainResNet())
    first = hr.apply(model, *patches)
    other = hr.apply(model, *(patches[i] for i in order))
    assert not hr.diff(first, other)
    torch.testing.assert_close(output(first), output(other))
    with auxiliary_statistics(other.train()):
        other(IMAGES).sum().backward()


def test_scaling_composes_with_the_others() -> None:
    patches = ("condconv?experts=2", "advprop", "stochastic-depth", "efficientnet?width=2&depth=1.5")
    for model in (PlainResNet(), hr.build(small_resnet())):
        shapes = {
            tuple(sorted((name, tuple(t.shape)) for name, t in hr.apply(model, *(patches[i] for i in order)).state_dict().items() if "routing" not in name))
            for order in ((0, 1, 2, 3), (1, 0, 3, 2), (1, 2, 3, 0), (3, 1, 2, 0))
        }  # fmt: skip
        assert len(shapes) == 1


# -- condconv -----------------------------------------------------------------------------------------------------


def test_condconv_takes_the_last_convolutions_and_no_squeeze_and_excitation() -> None:
    model = hr.build(small_mobile_net(**{"blocks[3].operation.experts": 0}))
    plain = [path for path, _ in hr.find(model, nn.Conv2d) if "excite" not in path]
    new = hr.apply(model, "condconv?experts=2&share=0.25")
    changed = [path for path, _ in hr.find(new, CondConv2d)]
    assert changed == plain[-len(changed) :]
    assert len(changed) == -(-len(plain) // 4)
    assert not any("excite" in path for path, _ in hr.find(hr.apply(model, "condconv?share=1"), CondConv2d))


def test_condconv_begins_with_experts_that_can_part() -> None:
    model = settled(PlainResNet())
    new = hr.apply(model, CondConv(experts=3, share=1.0, deviation=0.2))
    layer = new.layer2[1].conv2
    mean, deviations = layer.weight.mean(0), layer.weight - layer.weight.mean(0)
    torch.testing.assert_close(mean.view(32, 32, 3, 3), model.layer2[1].conv2.weight)
    assert deviations.std().item() == pytest.approx(
        0.2 * model.layer2[1].conv2.weight.std().item() * (2 / 3) ** 0.5, rel=0.05
    )
    weights = layer.routing(torch.randn(4, 32, 5, 5))
    torch.testing.assert_close(weights, torch.full((4, 3), 1 / 3))
    F.cross_entropy(new(IMAGES), torch.tensor([1, 2])).backward()
    assert layer.routing.linear.weight.grad.abs().max() > 0
    assert torch.equal(
        hr.apply(model, CondConv(seed=1)).layer2[1].conv2.weight,
        hr.apply(model, CondConv(seed=1)).layer2[1].conv2.weight,
    )
    assert not torch.equal(
        hr.apply(model, CondConv(seed=1)).layer2[1].conv2.weight, hr.apply(model, CondConv()).layer2[1].conv2.weight
    )


def test_condconv_keeps_bias_stride_dilation_and_groups_and_refuses_other_padding() -> None:
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=2, dilation=2, groups=2)
    new = hr.apply(nn.Sequential(conv), "condconv?experts=2")
    x = torch.randn(3, 4, 9, 9)
    torch.testing.assert_close(new(x), conv(x), rtol=1e-4, atol=1e-5)
    assert new[0].bias is not conv.bias
    assert hr.apply(hr.sym(nn.Sequential)(hr.sym(nn.Conv2d)(4, 8, 3)), "condconv?experts=2") == hr.sym(nn.Sequential)(
        hr.sym(CondConv2d)(4, 8, 3, 1, 0, 1, 1, bias=True, experts=2)
    )
    for size, padding in ((2, {"padding": "same"}), (3, {"padding": 1, "padding_mode": "circular"})):
        with pytest.raises(PatchError, match=r"zero padding by a number of places, got .* at \[0\]"):
            hr.apply(nn.Sequential(nn.Conv2d(2, 2, size, **padding)), "condconv")


def test_a_checkpoint_of_before_does_not_fit_condconv_and_the_error_names_the_weight() -> None:
    model = PlainResNet()
    with pytest.raises(RuntimeError, match=r"size mismatch for layer2\.1\.conv2\.weight"):
        hr.apply(model, "condconv").load_state_dict(model.state_dict(), strict=False)


# -- advprop --------------------------------------------------------------------------------------------------------


def test_auxiliary_batch_norm_keeps_two_sets_of_statistics() -> None:
    model = hr.apply(settled(PlainResNet()), "advprop").train()
    norm: Any = model.stem[1]
    main, auxiliary = norm.running_mean.clone(), norm.auxiliary.running_mean.clone()
    assert torch.equal(main, auxiliary)
    with auxiliary_statistics(model):
        model(IMAGES + 3).sum().backward()
    assert torch.equal(norm.running_mean, main)
    assert not torch.equal(norm.auxiliary.running_mean, auxiliary)
    assert norm.weight.grad is None
    assert norm.auxiliary.weight.grad is not None
    assert not norm.is_auxiliary
    model(IMAGES)
    assert not torch.equal(norm.running_mean, main)


def test_auxiliary_statistics_are_left_again_after_an_error_and_need_a_patched_model() -> None:
    model = hr.apply(PlainResNet(), "advprop")
    with auxiliary_statistics(model):
        assert model.stem[1].is_auxiliary
    assert not model.stem[1].is_auxiliary
    with pytest.raises(ValueError, match="must be given"), auxiliary_statistics(model):
        hr.build(small_resnet())(IMAGES[0])
    assert not model.stem[1].is_auxiliary
    with (
        pytest.raises(ValueError, match="must have auxiliary batch normalisation"),
        auxiliary_statistics(PlainResNet()),
    ):
        pass


def test_checkpoints_of_before_fit_auxiliary_batch_norm() -> None:
    before = settled(PlainResNet())
    new = hr.apply(PlainResNet(), "advprop")
    new.load_state_dict(before.state_dict())
    torch.testing.assert_close(output(new.eval()), output(before))
    with auxiliary_statistics(new):
        torch.testing.assert_close(output(new), output(before))
    with torch.no_grad():
        new.stem[1].auxiliary.bias.fill_(1.0)
    again = hr.apply(PlainResNet(), "advprop")
    again.load_state_dict(new.state_dict())
    assert again.stem[1].auxiliary.bias.eq(1).all()


def test_auxiliary_batch_norm_is_of_any_rank_in_programs_too() -> None:
    assert hr.apply(hr.sym(nn.Sequential)(hr.sym(nn.BatchNorm1d)(4)), AdvProp())[0].num_features == 4
    for x in (torch.randn(5, 4), torch.randn(5, 4, 3), torch.randn(5, 4, 3, 2, 2)):
        plain = nn.BatchNorm3d(4) if x.dim() == 5 else nn.BatchNorm1d(4)
        torch.testing.assert_close(AuxiliaryBatchNorm(4)(x), plain(x))
    with pytest.raises(ValueError, match="at least 2 axes"):
        AuxiliaryBatchNorm(4)(torch.zeros(4))


class BatchNormAct2d(nn.BatchNorm2d):
    """As timm's: normalises, drops and activates."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


class OtherNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(2 * x)


class OtherConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


def test_what_derived_classes_do_besides_is_kept_or_refused() -> None:
    model = settled(nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormAct2d(4)))
    new = hr.apply(model, "advprop")
    assert torch.equal(new(IMAGES), model(IMAGES))
    smooth = hr.apply(new, "smooth-adversarial-training")
    with auxiliary_statistics(smooth):
        torch.testing.assert_close(smooth(IMAGES), F.silu(nn.BatchNorm2d.forward(model[1], model[0](IMAGES))))
    with pytest.raises(PatchError, match=r"computes as torch's, got test_vision_patches\.OtherNorm at \[1\]"):
        hr.apply(nn.Sequential(nn.ReLU(), OtherNorm(4)), "advprop")
    with pytest.raises(PatchError, match=r"compute as nn\.Conv2d, got test_vision_patches\.OtherConv at \[1\]"):
        hr.apply(nn.Sequential(nn.ReLU(), OtherConv(3, 4, 3)), "condconv")


# -- stochastic depth -------------------------------------------------------------------------------------------------


class Scaled(nn.Module):
    """A residual layer whose path is scaled at its end, outside of a module."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(4, 4), nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.linear(x)


class Two(nn.Module):
    """A residual layer whose path returns two things."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.attention(x, x, x)
        return operator.add(x, y)


def test_the_ends_of_residual_paths_are_found() -> None:
    found = {name: [str(end.path) for end in path_ends(MODELS[name]())] for name in MODELS}
    assert found["mobile net"] == ["blocks[0][0].drop", "blocks[2][0].drop", "blocks[2][1].drop", "blocks[3][1].drop"]
    assert found["resnet"] == ["layer1[0].drop", "layer1[1].drop", "layer2[0].drop", "layer2[1].drop"]
    assert found["plain resnet"] == ["layer1[0].bn2", "layer1[1].bn2", "layer2[0].bn2", "layer2[1].bn2"]
    if TRANSFORMERS:
        assert found["transformers vit"] == ["vit.layers[0].dropout", "vit.layers[1].dropout"]
        assert len(found["transformers resnet"]) == 4
    assert [str(end.path) for end in path_ends(nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2), 2))] == [
        "layers[0].dropout1", "layers[0].dropout2", "layers[1].dropout1", "layers[1].dropout2",
    ]  # fmt: skip
    assert path_ends(Scaled()) == []
    assert [(str(end.path), end.index) for end in path_ends(Two())] == [("attention", 0)]


@pytest.mark.parametrize("name", MODELS)
def test_stochastic_depth_drops_whole_paths_in_training_only(name: str) -> None:
    model = settled(MODELS[name]())
    new = hr.apply(model, "stochastic-depth?rate=0.9999999")
    assert list(new.state_dict()) == list(model.state_dict())
    ends = path_ends(model)
    rates = [_rate(hr.get(new, end.path)) for end in ends]
    assert rates == pytest.approx([0.9999999 * (i + 1) / len(ends) for i in range(len(ends))])
    torch.testing.assert_close(output(new), output(model))
    last = hr.get(new, ends[-1].path)
    seen: list[Tensor] = []
    last.register_forward_hook(lambda module, args, out: seen.append(out.clone()))
    last.train()
    output(new)
    assert not seen[-1].any()


def _rate(part: nn.Module) -> float:
    if isinstance(part, StochasticDepth):
        return part.rate
    [hook] = [hook for hook in part._forward_hooks.values() if isinstance(hook, DropPaths)]
    return hook.rate


def test_a_path_that_returns_two_things_is_dropped_in_the_one_that_counts() -> None:
    model = hr.apply(nn.Sequential(Two()), "stochastic-depth?rate=0.9999999").train()
    x = torch.randn(3, 5, 4)
    assert torch.equal(model(x), x)


@pytest.mark.skipif(not TRANSFORMERS, reason="transformers is not installed")
def test_a_path_that_returns_an_output_of_transformers_is_dropped_in_the_entry_that_counts() -> None:
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    class Pooled(nn.Module):
        def forward(self, x: Tensor) -> BaseModelOutputWithPooling:
            return BaseModelOutputWithPooling(last_hidden_state=2 * x, pooler_output=x.mean(1))

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Pooled()

        def forward(self, x: Tensor) -> Tensor:
            return x + self.inner(x)[0]

    x = torch.randn(3, 5, 4)
    model = hr.apply(Residual(), "stochastic-depth?rate=0.9999999").train()
    assert torch.equal(model(x), x)
    found = model.inner(x)
    assert isinstance(found, BaseModelOutputWithPooling)
    assert not found.last_hidden_state.any()
    assert torch.equal(found.pooler_output, x.mean(1))
    assert torch.equal(model.eval()(x), 3 * x)


def test_stochastic_depth_applied_twice_has_the_second_rate() -> None:
    for model in (PlainResNet(), hr.build(small_resnet())):
        twice = hr.apply(model, "stochastic-depth?rate=0.5", "stochastic-depth?rate=0.1")
        assert not hr.diff(twice, hr.apply(model, "stochastic-depth?rate=0.1"))


def test_stochastic_depth_finds_nothing_in_a_model_without_residual_paths() -> None:
    with pytest.raises(PatchError, match="stochastic-depth changed nothing in Sequential"):
        hr.apply(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), "stochastic-depth")


# -- compound scaling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["b1", "b2", "b3", "b4", "b5", "b6", "b7"])
def test_scaling_b0_gives_the_published_networks(name: str) -> None:
    from heuretic.nn.efficientnet import SCALES

    width, depth, _, dropout = SCALES[name]
    scaled = hr.apply(hr.nn.efficientnet_b0.program(), CompoundScaling(width=width, depth=depth))
    assert hr.replace(scaled, dropout=dropout) == getattr(hr.nn, f"efficientnet_{name}").program()


def test_scaling_follows_the_exponent() -> None:
    scaling = CompoundScaling(phi=2.0)
    assert scaling.size(224) == round(224 * 1.15**2)
    assert scaling.channels(32) == 40  # 32 * 1.21 = 38.7
    assert scaling.layers(3) == 5  # 3 * 1.44 = 4.3
    assert CompoundScaling(width=1.0).channels(10) == 10


def test_scaling_a_model_that_nobody_here_wrote_widens_and_deepens_it() -> None:
    model = hr.apply(PlainResNet(classes=7), "efficientnet?width=1.5&depth=1.5")
    assert [len(stage) for stage in (model.layer1, model.layer2)] == [3, 3]
    assert model.stem[0].in_channels == 3
    assert model.stem[0].out_channels == model.layer1[2].conv2.out_channels == 24
    assert model.layer2[0].downsample[0].out_channels == model.fc.in_features == 48
    assert model.fc.out_features == 7
    assert not hr.diff(model, hr.apply(PlainResNetOf(24, 48), "efficientnet?width=1&depth=1.5"))
    assert output(model.train()).shape == (2, 7)
    weights = [stage[-1].conv2.weight for stage in (model.layer1, model.layer2)]
    assert not torch.equal(weights[0], model.layer1[-2].conv2.weight)


def PlainResNetOf(narrow: int, wide: int) -> PlainResNet:
    model = PlainResNet(classes=7)
    model.stem = nn.Sequential(nn.Conv2d(3, narrow, 3, 1, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU(inplace=True))
    model.layer1 = nn.Sequential(Block(narrow, narrow), Block(narrow, narrow))
    model.layer2 = nn.Sequential(Block(narrow, wide, 2), Block(wide, wide))
    model.fc = nn.Linear(wide, 7)
    return model


def test_deepening_alone_keeps_the_weights_there_are() -> None:
    for model in (PlainResNet(), hr.build(small_resnet())):
        deeper = hr.apply(model, "efficientnet?width=1&depth=1.5")
        state = deeper.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
        assert len(state) > len(model.state_dict())


def test_widths_behind_a_flattened_map_and_in_groups_follow() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.InstanceNorm2d(8, affine=True),
        nn.PReLU(), nn.Flatten(), nn.Linear(8 * 16, 24), nn.LayerNorm(24), nn.Linear(24, 5),
    )  # fmt: skip
    wider = hr.apply(model, "efficientnet?width=2&depth=1")
    assert (wider[2].groups, wider[6].in_features, wider[6].out_features, wider[8].out_features) == (16, 256, 48, 5)
    assert wider(torch.zeros(2, 3, 4, 4)).shape == (2, 5)
    narrower = hr.apply(wider, CompoundScaling(width=0.5, depth=1.0))
    assert not hr.diff(narrower, model)


def test_scaling_what_it_does_not_know_is_refused_with_the_place() -> None:
    if TRANSFORMERS:
        with pytest.raises(
            PatchError, match=r"cannot widen ViTEmbeddings at vit\.embeddings, whose weights it does not know"
        ):
            hr.apply(hf_vit(), "efficientnet?width=1.5")
        assert len(hr.apply(hf_vit(), "efficientnet?width=1&depth=2").vit.layers) == 4
    with pytest.raises(PatchError, match="must be given a model with convolutions, got ReLU"):
        hr.apply(nn.Sequential(nn.ReLU())[0], "efficientnet")
    with pytest.raises(PatchError, match=r"cannot widen \[1\]: 3 groups do not divide 16 and 16"):
        hr.apply(
            nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 1, groups=3), nn.Conv2d(12, 1, 1)),
            "efficientnet?width=1.4",
        )
    with pytest.raises(
        PatchError, match=r"must be given decided widths and depths, got one_of\(8, 16\) at stages\[0\]\.width"
    ):
        hr.apply(hr.replace(small_resnet(), {"stages[0].width": hr.one_of(8, 16)}), "efficientnet")


# -- activations ------------------------------------------------------------------------------------------------------


def test_activations_called_as_functions_are_found_and_named() -> None:
    calls = functional_calls(PlainResNet(FunctionalBlock))
    assert len(calls) == 8
    assert str(calls[0]).startswith("layer1[0] calls F.relu at vision_models.py:")
    source = Path(calls[0].file).read_text().splitlines()
    assert "F.relu(" in source[calls[0].line - 1]
    assert "torch.relu(" in source[calls[1].line - 1]
    assert functional_calls(PlainResNet()) == []
    assert functional_calls(PlainResNet(FunctionalBlock), [F.gelu]) == []


@pytest.mark.parametrize("patch", ["smooth-adversarial-training", "primer"])
def test_a_patch_warns_of_activations_it_cannot_reach(patch: str) -> None:
    with pytest.warns(
        PatchWarning,
        match=rf"{patch} cannot reach .* layer1\[0\] calls F\.relu at .* Try hr\.apply\(model, 'heuretic\.nn:ExposeActivations'",
    ):
        hr.apply(PlainResNet(FunctionalBlock), patch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hr.apply(PlainResNet(), patch)


def test_functional_activations_become_modules_that_patches_reach() -> None:
    model = settled(PlainResNet(FunctionalBlock))
    exposed = hr.apply(model, "heuretic.nn:ExposeActivations")
    assert list(exposed.state_dict()) == list(model.state_dict())
    assert torch.equal(output(exposed), output(model))
    assert functional_calls(exposed) == []
    assert len(hr.find(exposed, nn.ReLU)) == 1 + 4 + 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smooth = hr.apply(model, ExposeActivations(), "smooth-adversarial-training?activation=gelu")
    plain = PlainResNet().eval()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(output(smooth), output(hr.apply(plain, "smooth-adversarial-training?activation=gelu")))
    smooth.train()(IMAGES).sum().backward()
    assert output(copy.deepcopy(smooth)).shape == (2, 10)


class Forks(nn.Module):
    """Has an activation behind a decision that depends on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.unused = nn.Linear(2, 2), nn.Linear(3, 3)
        self.scale = 2.0

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.linear(x)) if x.sum() > 0 else x


class Drops(Forks):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(F.gelu(x), 0.5, self.training)


class Many(Forks):
    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.linear(x), 0.2) * self.scale
        return F.elu(y, alpha=0.5) + F.gelu(y, approximate="tanh") + y.relu() + F.softplus(y, 2.0)


def test_what_fx_cannot_follow_is_left_and_named() -> None:
    for model, why in ((Forks(), "cannot follow its forward"), (Drops(), r"reads self\.training")):
        with (
            pytest.warns(PatchWarning, match=rf"left \[1\] \({type(model).__name__}\) as it is: .*{why}"),
            pytest.raises(PatchError),
        ):
            hr.apply(nn.Sequential(nn.ReLU(), model), ExposeActivations())


def test_settings_of_functions_and_unused_parts_are_kept() -> None:
    model, x = Many().eval(), torch.randn(5, 2)
    new = hr.apply(model, ExposeActivations())
    torch.testing.assert_close(new(x), model(x))
    assert list(new.state_dict()) == list(model.state_dict())
    assert new.scale == 2.0
    assert isinstance(new.leakyrelu_1, nn.LeakyReLU)
    assert new.leakyrelu_1.negative_slope == 0.2


def test_trained_sharpness_is_a_weight_of_each_layer() -> None:
    model = settled(PlainResNet())
    for name in ("softplus", "smooth_relu", "swish"):
        fixed = hr.apply(model, f"smooth-adversarial-training?activation={name}")
        trained = hr.apply(model, f"smooth-adversarial-training?activation={name}&trained=true")
        torch.testing.assert_close(output(trained), output(fixed), rtol=1e-4, atol=1e-5)
        trained.train()(IMAGES).square().sum().backward()
        assert trained.stem[2].log_alpha.grad.abs() > 0
        assert parameter_count(trained) == parameter_count(fixed) + 5
    with pytest.raises(PatchError, match="must be one of softplus, smooth_relu, swish to be trained, got 'silu'"):
        hr.apply(model, "smooth-adversarial-training?trained=true")
    x = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(Swish(2.0)(x), x * torch.sigmoid(2 * x))
    torch.testing.assert_close(Swish()(x), F.silu(x))


# -- reading built models ---------------------------------------------------------------------------------------------


def test_built_models_are_walked_found_and_read_by_path() -> None:
    model = PlainResNet()
    assert [str(path) for path, _ in hr.find(model, nn.Linear)] == ["fc"]
    assert hr.get(model, "layer2[0].downsample[1]") is model.layer2[0].downsample[1]
    assert dict(hr.walk(model))[hr.symbolic.Path(("layer1", 1, "bn1"))] is model.layer1[1].bn1
    with pytest.raises(LookupError, match=r"no 'layer3' in a PlainResNet.*did you mean 'layer"):
        hr.get(model, "layer3")


def test_the_diff_of_models_shows_classes_settings_and_shapes() -> None:
    a, b = PlainResNet(), PlainResNet(classes=3)
    b.layer1[0].relu = nn.GELU()
    assert str(hr.diff(a, b)).splitlines() == [
        "~ layer1[0].relu: ReLU(settings='inplace=True') -> GELU(settings=\"approximate='none'\")",
        "~ fc.settings: 'in_features=32, out_features=10, bias=True' -> 'in_features=32, out_features=3, bias=True'",
        "~ fc.weight: '10x32' -> '3x32'",
        "~ fc.bias: '10' -> '3'",
    ]


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm does not import here")
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "convnext_atto", "vit_tiny_patch16_224"])
def test_timm_models_are_patched(name: str) -> None:
    import timm

    model = settled(timm.create_model(name, num_classes=10))
    images = torch.randn(2, 3, 224, 224)
    for patch in ("condconv?experts=2", "stochastic-depth?rate=0.3"):
        new = hr.apply(model, patch)
        torch.testing.assert_close(output(new, images), output(model, images), rtol=1e-3, atol=1e-4)
    if any(isinstance(part, nn.BatchNorm2d) for part in model.modules()):
        new = hr.apply(model, "advprop", allow_empty=True)
        torch.testing.assert_close(output(new, images), output(model, images))
