"""Image models: their published sizes, programs, feature maps, formats and the input they take."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import heuretic as hr
from heuretic.nn import (
    Block,
    Bottleneck,
    CondConv2d,
    Conv2d,
    FusedMBConv,
    MBConv,
    MobileNet,
    MultiplyAdds,
    ResNet,
    SamePadding,
    Stage,
    StochasticDepth,
    conditional_convolution,
    parameter_count,
)
from heuretic.nn.architecture import architectures
from heuretic.nn.published import PUBLISHED

ARCHITECTURES = list(architectures())


def small_mobile_net(**changes: Any) -> MobileNet:
    """Return the program of a network with all kinds of layers."""
    blocks = (
        hr.sym(Block)(hr.sym(FusedMBConv)(1), 8),
        hr.sym(Block)(hr.sym(FusedMBConv)(2), 16, stride=2),
        hr.sym(Block)(hr.sym(MBConv)(2), 16, layers=2, se_ratio=0.25),
        hr.sym(Block)(hr.sym(MBConv)(2, experts=2), 24, layers=2, stride=2, se_ratio=0.25),
    )
    program = hr.sym(MobileNet)(
        blocks, classes=5, stem=8, head=32, activation=hr.sym(nn.SiLU)(inplace=True), stochastic_depth=0.2
    )
    return hr.replace(program, changes) if changes else program


def small_resnet(block: type = Bottleneck) -> ResNet:
    return hr.sym(ResNet)((hr.sym(Stage)(2, 8, 1), hr.sym(Stage)(2, 16)), block=block, classes=5, stem=8)


def settled(model: nn.Module) -> nn.Module:
    """Return the model in evaluation mode, with batch statistics that differ from those of initialisation."""
    generator = torch.Generator().manual_seed(1)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


pytestmark = pytest.mark.usefixtures("fixed_weights")


IMAGES = torch.linspace(-3, 3, 2 * 3 * 32 * 48).sin().reshape(2, 3, 32, 48)


# -- sizes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda p: f"{p.name}-{p.source}")
def test_parameters_and_multiply_adds_are_the_published_ones(published: Any) -> None:
    program = getattr(hr.nn, published.name).program()
    count = MultiplyAdds((1, 3, published.side, published.side))(program)
    agreement = published.agreement(parameter_count(program), count)
    assert agreement == {name: name not in published.differs for name in agreement}
    assert bool(published.differs) == bool(published.why)


def test_every_architecture_has_published_sizes() -> None:
    assert {p.name for p in PUBLISHED} == set(ARCHITECTURES)


def test_a_condconv_layer_costs_one_convolution_and_the_mixing_of_kernels() -> None:
    layer = CondConv2d(6, 4, 3, padding=1, experts=5, bias=False)
    assert parameter_count(layer) == 5 * 4 * 6 * 9 + 6 * 5 + 5
    assert MultiplyAdds((1, 6, 7, 7))(layer) == 4 * 6 * 9 * 49 + 5 * 4 * 6 * 9 + 6 * 5


# -- programs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_knows_its_program_and_the_program_reads_back(name: str) -> None:
    program = getattr(hr.nn, name).program(7, in_channels=2)
    with torch.device("meta"):
        model = getattr(hr.nn, name)(7, in_channels=2)
    assert hr.program_of(model) == program
    assert hr.loads(hr.dumps(program), trust=("torch.nn",)) == program
    assert hr.digest(hr.program_of(copy.deepcopy(model))) == hr.digest(program)


def test_every_part_of_a_program_is_replaced_by_its_path() -> None:
    program = hr.nn.efficientnet_b0.program(10)
    wider = hr.replace(
        program,
        {
            "blocks[2].filters": 48, "blocks[3].layers": 1, "blocks[4].kernel_size": 3, "blocks[1].operation": hr.sym(FusedMBConv)(4),
            "activation": hr.sym(nn.ReLU)(),
        },
    )  # fmt: skip
    with torch.device("meta"):
        model = hr.build(wider)
    assert model.blocks[2][1].path.project.conv.out_channels == 48
    assert len(model.blocks[3]) == 1
    assert model.blocks[4][1].path.depthwise.conv.kernel_size == (3, 3)
    assert model.blocks[1][0].expand.conv.groups == 1
    assert isinstance(model.stem.act, nn.ReLU)


def test_models_are_searched_over_by_path() -> None:
    program = hr.replace(
        hr.nn.resnet18.program(10, small_images=True),
        {"stages[0].width": hr.one_of(8, 16), "stages[3].blocks": hr.number(1, 2), "activation": hr.one_of(hr.sym(nn.ReLU)(), hr.sym(nn.GELU)())},
    )  # fmt: skip
    study = hr.discover(program, lambda model: -parameter_count(model), trials=8, algorithm=hr.RandomSearch())
    assert study.best.program.stages[0].width == 8
    assert study.best.program.stages[3].blocks == 1


def test_building_many_variants_leaks_nothing() -> None:
    program = hr.sym(MobileNet)((hr.sym(Block)(hr.sym(MBConv)(2), 8, se_ratio=0.25),), classes=2, stem=8, head=8)

    def build(width: int) -> None:
        hr.apply(hr.build(hr.replace(program, {"blocks[0].filters": width})), "advprop")

    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(thing), nn.Module | torch.Tensor) for thing in gc.get_objects())

    build(8)
    before = alive()
    for number in range(1000):
        build(8 + number % 50)
    assert alive() == before


def test_models_are_copied_and_pickled_with_their_program() -> None:
    model = hr.build(small_resnet())
    again = pickle.loads(pickle.dumps(model))
    assert hr.program_of(again) == small_resnet()
    with pytest.raises(ValueError, match="object must be made by hr\\.build to know its program"):
        hr.program_of(nn.Linear(1, 1))


# -- feature maps and input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "program", [small_mobile_net(), small_resnet(), hr.nn.mnasnet_a1.program(3)], ids=lambda p: p.__head__()[-9:]
)
def test_feature_maps_of_every_stride_have_the_sizes_they_are_said_to_have(program: Any) -> None:
    model = settled(hr.build(program))
    maps = model.features(torch.zeros(1, 3, 64, 96))
    assert [level.stride for level in model.levels] == sorted({level.stride for level in model.levels})
    assert model.levels[-1].stride == model.stride
    for level, features in zip(model.levels, maps, strict=True):
        assert features.shape == (1, level.channels, 64 // level.stride, 96 // level.stride)


def test_the_last_feature_map_is_what_the_head_sees() -> None:
    model = settled(hr.build(small_mobile_net()))
    seen: list[Tensor] = []
    model.head.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    model(IMAGES)
    torch.testing.assert_close(model.features(IMAGES)[-1], seen[0])
    resnet = settled(hr.build(small_resnet()))
    torch.testing.assert_close(resnet.fc(resnet.features(IMAGES)[-1].mean((2, 3))), resnet(IMAGES))


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet18"])
@pytest.mark.parametrize(("channels", "classes", "size"), [(1, 1, (32, 32)), (4, 11, (33, 47)), (3, 1000, (64, 40))])
def test_any_number_of_channels_classes_and_places(name: str, channels: int, classes: int, size: Any) -> None:
    model = getattr(hr.nn, name)(classes, in_channels=channels).eval()
    assert model(torch.zeros(2, channels, *size)).shape == (2, classes)


@pytest.mark.parametrize("program", [small_mobile_net(), small_resnet()], ids=["mobile", "resnet"])
def test_input_that_does_not_fit_is_refused_with_a_reason(program: Any) -> None:
    model = hr.build(program)
    with pytest.raises(ValueError, match=r"stem must be given 3 channel\(s\), got 1 in shape .* Try in_channels=1"):
        model(torch.zeros(2, 1, 32, 32))
    with pytest.raises(ValueError, match=r"images of at least 8 x 8, .* got shape \(2, 3, 32, 7\)"):
        model.features(torch.zeros(2, 3, 32, 7))
    with pytest.raises(ValueError, match=r"must be given \(batch, channels, height, width\), got shape \(3, 32, 32\)"):
        model(torch.zeros(3, 32, 32))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hr.nn.efficientnet_b0(0), "classes must be >= 1, got 0"),
        (lambda: hr.nn.resnet18(in_channels=0), "in_channels must be >= 1, got 0"),
        (lambda: ResNet(()), "stages must be at least one"),
        (lambda: Stage(0, 8), "blocks must be >= 1, got 0"),
        (lambda: MBConv(6, experts=-1), "experts must be >= 0"),
        (lambda: FusedMBConv(0), "expansion must be >= 1"),
        (lambda: CondConv2d(4, 4, 1, experts=0), "experts must be >= 1"),
        (lambda: CondConv2d(4, 6, 1, groups=4), "must be multiples of groups, got 4, 6 and 4"),
        (lambda: StochasticDepth(1.0), r"rate must be in \[0, 1\), got 1.0"),
    ],
)
def test_settings_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_an_error_while_building_names_the_place() -> None:
    with pytest.raises(ValueError, match="expansion must be >= 1") as caught:
        hr.build(small_mobile_net(**{"blocks[2].operation.expansion": 0}))
    assert "while building blocks[2].operation" in caught.value.__notes__[0]


# -- layers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel_size", "groups", "stride", "padding"),
    [(1, 1, 1, 0), (1, 1, 2, 0), (3, 1, 2, 1), (3, 6, 1, 1), (1, 2, 1, 0), (1, 1, 1, 1), (3, 2, 1, 0)],
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_condconv_convolves_each_example_with_its_own_mixture(
    kernel_size: int, groups: int, stride: int, padding: int, memory_format: Any
) -> None:
    layer = CondConv2d(6, 4 if groups != 6 else 6, kernel_size, stride, padding, groups=groups, experts=3).double()
    assert layer.bias is not None
    nn.init.normal_(layer.bias)
    x = torch.randn(5, 6, 8, 7, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    assert layer.routing is not None
    weights = torch.sigmoid(x.mean((2, 3)) @ layer.routing.linear.weight.T + layer.routing.linear.bias)
    kernels = torch.einsum("be,ek->bk", weights, layer.weight)
    shape = (layer.out_channels, 6 // groups, kernel_size, kernel_size)
    expected = torch.cat([
        nn.functional.conv2d(one[None], kernel.reshape(shape), layer.bias, stride, padding, groups=groups)
        for one, kernel in zip(x, kernels, strict=True)
    ])  # fmt: skip
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(x[:1]), expected[:1])
    direction = torch.randn_like(expected)
    inputs = [x, *layer.parameters()]
    got = torch.autograd.grad((layer(x) * direction).sum(), inputs)
    wanted = torch.autograd.grad((expected * direction).sum(), inputs)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_condconv_computes_the_same_without_gradients_few_examples_at_once(
    groups: int, kernel_size: int, memory_format: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = CondConv2d(6, 6, kernel_size, groups=groups, experts=3).double()
    x = torch.randn(5, 6, 8, 7, dtype=torch.float64).to(memory_format=memory_format)
    expected = layer(x)
    monkeypatch.setattr(conditional_convolution, "_LONG", 0)
    for examples in (100, 2, 0.5):
        monkeypatch.setattr(conditional_convolution, "_CACHED", int(examples * layer.weight.shape[1]))
        with torch.inference_mode():
            found = layer(x)
        torch.testing.assert_close(found, expected)
        assert found.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride"), [(8, 3, 2), (9, 3, 2), (7, 5, 2), (4, 3, 3), (5, 3, 1), (6, 1, 2)]
)
def test_same_padding_divides_sides_rounding_up_and_pads_more_below(size: int, kernel_size: int, stride: int) -> None:
    x = torch.ones(1, 1, size, size + 1)
    padded = SamePadding(kernel_size, stride)(x)
    places = nn.functional.conv2d(padded, torch.ones(1, 1, kernel_size, kernel_size), stride=stride).shape[2:]
    assert places == (-(-size // stride), -(-(size + 1) // stride))
    above, below = (padded[0, 0, :, kernel_size].cumsum(0) == 0).sum().item(), padded.shape[2] - size
    assert below - above - above in (0, 1)


def test_same_padding_is_of_strided_layers_and_another_is_refused() -> None:
    model = hr.build(small_mobile_net(padding="same"))
    padded = [str(path) for path, _ in hr.find(model, SamePadding)]
    assert padded == ["stem.pad", "blocks[1][0].expand.pad", "blocks[3][0].layers.depthwise.pad"]
    assert model.eval()(torch.zeros(1, 3, 33, 47)).shape == (1, 5)
    with pytest.raises(ValueError, match="padding must be 'symmetric' or 'same', got 'valid'"):
        hr.build(small_mobile_net(padding="valid"))


def test_condconv_takes_weights_either_from_itself_or_from_the_caller() -> None:
    own, given = CondConv2d(2, 2, 1, experts=2), CondConv2d(2, 2, 1, experts=2, routing=False)
    x = torch.ones(1, 2, 3, 3)
    with pytest.raises(ValueError, match="must have routing of its own or be given weights"):
        own(x, torch.ones(1, 2))
    with pytest.raises(ValueError, match="must have routing of its own or be given weights"):
        given(x)


def test_stochastic_depth_drops_examples_and_keeps_the_mean() -> None:
    layer, x = StochasticDepth(0.25), torch.ones(4000, 2, 1, 1)
    y = layer(x)
    assert y.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert torch.equal(y[:, 0], y[:, 1])
    assert y.mean().item() == pytest.approx(1, abs=0.05)
    assert layer.eval()(x) is x


def test_stochastic_depth_grows_with_the_layer() -> None:
    model = hr.build(small_mobile_net())
    rates = [part.rate for part in model.modules() if isinstance(part, StochasticDepth)]
    assert rates == pytest.approx([0.2 * 2 / 6, 0.2 * 3 / 6, 0.2 * 5 / 6])  # the layers that have a way around


def test_convolutions_begin_with_variance_two_over_fan_out() -> None:
    conv = Conv2d(64, 128, 3, groups=2)
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.03)
    assert conv.bias is not None
    assert not conv.bias.any()


# -- formats, precision, graphs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [small_mobile_net(), small_resnet()], ids=["mobile", "resnet"])
def test_channels_last_and_lower_precision_come_close(program: Any) -> None:
    model = settled(hr.build(program))
    expected = model(IMAGES)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(IMAGES)
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float(), expected, rtol=0.1, atol=0.1)
    assert copy.deepcopy(model).bfloat16()(IMAGES.bfloat16()).dtype == torch.bfloat16
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    images = IMAGES.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last(images), expected, rtol=1e-4, atol=1e-5)
    if not hr.find(model, CondConv2d):  # those with larger kernels return to the usual format
        assert all(m.is_contiguous(memory_format=torch.channels_last) for m in last.features(images))


@pytest.mark.parametrize("program", [small_mobile_net(), small_resnet()], ids=["mobile", "resnet"])
def test_models_compile_to_one_graph_that_computes_the_same(program: Any) -> None:
    model = hr.build(hr.replace(program, stochastic_depth=0.0))
    other = copy.deepcopy(model)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for mode in (True, False):
        model.train(mode)
        other.train(mode)
        torch.testing.assert_close(compiled(IMAGES), model(IMAGES))
    compiled(IMAGES).square().sum().backward()
    model(IMAGES).square().sum().backward()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("program", [small_mobile_net(), small_resnet()], ids=["mobile", "resnet"])
def test_gradient_checkpointing_changes_nothing_but_what_is_kept(program: Any) -> None:
    plain = hr.build(program)
    recomputing = copy.deepcopy(plain)
    recomputing.checkpointing = True
    kept: dict[str, int] = {}
    for name, model in (("plain", plain), ("recomputing", recomputing)):
        sizes: list[int] = []
        torch.manual_seed(3)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: (s.append(t.numel()), t)[1], lambda t: t):
            loss = model(IMAGES).square().sum()
        kept[name] = sum(sizes)
        loss.backward()
    assert kept["recomputing"] < kept["plain"] / 2
    for (name, ours), theirs in zip(plain.named_parameters(), recomputing.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
    for (name, ours), theirs in zip(plain.named_buffers(), recomputing.buffers(), strict=True):
        assert torch.equal(ours, theirs), name  # batches are counted once


@pytest.mark.parametrize("name", ["mobile", "resnet"])
def test_onnx_graphs_compute_the_same_for_any_batch(name: str, tmp_path: Any) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    # kernels mixed for each example make groups of the batch, whose number an ONNX graph must know
    program = small_mobile_net(**{"blocks[3].operation.experts": 0}) if name == "mobile" else small_resnet()
    model = settled(hr.build(program))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (IMAGES,),
            tmp_path / "model.onnx",
            dynamic_shapes={"x": {0: torch.export.Dim("batch")}},
            verbose=False,
        )
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for images in (IMAGES, IMAGES[:1], IMAGES.repeat(3, 1, 1, 1)):
        [logits] = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), model(images).detach(), rtol=1e-4, atol=1e-5)


def test_onnx_graphs_of_condconv_are_for_one_batch_size(tmp_path: Any) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = settled(hr.build(small_mobile_net()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (IMAGES,), tmp_path / "model.onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    [logits] = session.run(None, {session.get_inputs()[0].name: IMAGES.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), model(IMAGES).detach(), rtol=1e-4, atol=1e-5)
