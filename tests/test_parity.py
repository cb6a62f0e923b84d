"""Networks of images against timm and torchvision: with the same weights, the same comes out; and weights get new names.

The references in `assets/reference` were written by benchmarks/parity/parity.py, which draws the same weights for ours and
for theirs.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from heuretic.nn import (
    Block,
    Conv,
    FusedMBConv,
    MBConv,
    MobileNet,
    SeparableConv,
    Stage,
    condconv_efficientnet_b0,
    key_maps,
)
from heuretic.nn.resnet import ResNet

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "tests/assets/reference"
sys.path.insert(0, str(ROOT / "benchmarks/parity"))
import parity  # noqa: E402

#: One of each kind of layer that timm and torchvision have.
LAYERS = (
    Block(SeparableConv(), 4, skip="none"),
    Block(MBConv(2), 8, layers=2, stride=2, se_ratio=0.25),
    Block(FusedMBConv(2), 8),
    Block(FusedMBConv(1), 8),
)
STATISTICS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def tiny(blocks: tuple[Block, ...] = LAYERS, classes: int = 3, in_channels: int = 3) -> MobileNet:
    return MobileNet(blocks, classes=classes, in_channels=in_channels, stem=4, head=8)


def of(convolutions: Mapping[str, str], biased: tuple[str, ...] = ()) -> set[str]:
    """Return the keys of convolutions, each with its normalisation, and of layers that have weight and bias."""
    norms = {f"{norm}.{leaf}" for norm in convolutions.values() for leaf in STATISTICS}
    weights = {f"{conv}.weight" for conv in convolutions}
    return norms | weights | {f"{layer}.{leaf}" for layer in biased for leaf in ("weight", "bias")}


TIMM = of(
    {
        "conv_stem": "bn1",
        "blocks.0.0.conv_dw": "blocks.0.0.bn1",
        "blocks.0.0.conv_pw": "blocks.0.0.bn2",
        "blocks.1.0.conv_pw": "blocks.1.0.bn1",
        "blocks.1.0.conv_dw": "blocks.1.0.bn2",
        "blocks.1.0.conv_pwl": "blocks.1.0.bn3",
        "blocks.1.1.conv_pw": "blocks.1.1.bn1",
        "blocks.1.1.conv_dw": "blocks.1.1.bn2",
        "blocks.1.1.conv_pwl": "blocks.1.1.bn3",
        "blocks.2.0.conv_exp": "blocks.2.0.bn1",
        "blocks.2.0.conv_pwl": "blocks.2.0.bn2",
        "blocks.3.0.conv": "blocks.3.0.bn1",
        "conv_head": "bn2",
    },
    (
        "blocks.1.0.se.conv_reduce",
        "blocks.1.0.se.conv_expand",
        "blocks.1.1.se.conv_reduce",
        "blocks.1.1.se.conv_expand",
        "classifier",
    ),
)
TORCHVISION = of(
    {
        "features.0.0": "features.0.1",
        "features.1.0.block.0.0": "features.1.0.block.0.1",
        "features.1.0.block.1.0": "features.1.0.block.1.1",
        "features.2.0.block.0.0": "features.2.0.block.0.1",
        "features.2.0.block.1.0": "features.2.0.block.1.1",
        "features.2.0.block.3.0": "features.2.0.block.3.1",
        "features.2.1.block.0.0": "features.2.1.block.0.1",
        "features.2.1.block.1.0": "features.2.1.block.1.1",
        "features.2.1.block.3.0": "features.2.1.block.3.1",
        "features.3.0.block.0.0": "features.3.0.block.0.1",
        "features.3.0.block.1.0": "features.3.0.block.1.1",
        "features.4.0.block.0.0": "features.4.0.block.0.1",
        "features.5.0": "features.5.1",
    },
    (
        "features.2.0.block.2.fc1",
        "features.2.0.block.2.fc2",
        "features.2.1.block.2.fc1",
        "features.2.1.block.2.fc2",
        "classifier.1",
    ),
)
#: Of a MobileNetV2 with one layer that widens and one that does not.
TORCHVISION_MOBILENET = of(
    {
        "features.0.0": "features.0.1",
        "features.1.conv.0.0": "features.1.conv.0.1",
        "features.1.conv.1": "features.1.conv.2",
        "features.2.conv.0.0": "features.2.conv.0.1",
        "features.2.conv.1.0": "features.2.conv.1.1",
        "features.2.conv.2": "features.2.conv.3",
        "features.3.0": "features.3.1",
    },
    ("classifier.1",),
)
MOBILENET = (Block(MBConv(1), 4), Block(MBConv(2), 8, stride=2))


def renamed(model: nn.Module, keys: set[str]) -> dict[str, Tensor]:
    """Return the weights of a model under the names in `keys`, which decide whose names they are."""
    called = key_maps.names(dict.fromkeys(keys, torch.empty(0)), model)
    return {called[key]: tensor for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("source", "blocks", "keys"),
    [
        ("timm", LAYERS, TIMM),
        ("torchvision", LAYERS, TORCHVISION),
        ("torchvision", MOBILENET, TORCHVISION_MOBILENET),
    ],
)
def test_weights_get_their_names_here(source: str, blocks: tuple[Block, ...], keys: set[str]) -> None:
    model, other = tiny(blocks), tiny(blocks)
    state = renamed(model, keys)
    assert state.keys() == keys
    assert key_maps.source_of(state) == source
    other.load_state_dict(key_maps.translated(state, other))
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(other.eval()(images), model.eval()(images))


def test_experts_of_timm_are_rows_as_ours() -> None:
    model = tiny((Block(MBConv(2, experts=3), 4, kernel_size=5),))
    state = renamed(model, TIMM)
    assert state["blocks.0.0.conv_dw.weight"].shape == (3, 8 * 5 * 5)
    assert state["blocks.0.0.routing_fn.weight"].shape == (3, 4)
    found = key_maps.translated(state, model)
    assert all(torch.equal(found[key], value) for key, value in model.state_dict().items())


def test_names_of_our_own_and_of_residual_networks_stay() -> None:
    for model in (tiny(), ResNet((Stage(1, 4),), stem=4)):
        state = model.state_dict()
        assert key_maps.source_of(state) == "heuretic"
        assert key_maps.names(state, model) == {key: key for key in state}
        found = key_maps.translated(state, model)
        assert all(torch.equal(found[key], value) for key, value in state.items())


def test_counts_that_old_weights_lack_are_zero() -> None:
    model = ResNet((Stage(1, 4),), stem=4)
    model(torch.randn(2, 3, 8, 8))
    old = {key: value for key, value in model.state_dict().items() if "num_batches" not in key}
    found = key_maps.translated(old, model)
    assert found.keys() == model.state_dict().keys()
    assert found["bn1.num_batches_tracked"] == 0
    assert model.bn1.num_batches_tracked == 1


def test_what_does_not_fit_is_named() -> None:
    state = renamed(tiny(), TIMM)
    with pytest.raises(ValueError, match=r"names of heuretic, timm or torchvision, got module\.bn1\.weight\. Try"):
        key_maps.source_of({"module.bn1.weight": torch.empty(0)})
    with pytest.raises(ValueError, match="got none"):
        key_maps.source_of({})
    with pytest.raises(ValueError, match=r"got none for blocks\.1\.1\.bn3\.bias\. Try"):
        key_maps.translated({k: v for k, v in state.items() if k != "blocks.1.1.bn3.bias"}, tiny())
    with pytest.raises(ValueError, match=r"got also blocks\.4\.0\.conv\.weight and 1 more"):
        key_maps.translated(state | dict.fromkeys(("blocks.4.0.conv.weight", "bn3.bias"), torch.empty(0)), tiny())
    with pytest.raises(
        ValueError, match=r"conv_pwl\.weight must have shape \(8, 8, 1, 1\), got \(8, 9, 1, 1\), for blocks"
    ):
        key_maps.translated(state | {"blocks.1.0.conv_pwl.weight": torch.empty(8, 9, 1, 1)}, tiny())


def test_other_classes_and_channels_are_told_how_to_build() -> None:
    state = renamed(tiny(), TORCHVISION)
    with pytest.raises(
        ValueError, match=r"classifier\.1\.weight must have shape \(10, 8\), got \(3, 8\).*with classes=3"
    ):
        key_maps.translated(state, tiny(classes=10))
    with pytest.raises(ValueError, match=r"features\.0\.0\.weight must have shape \(4, 1, 3, 3\).*with in_channels=3"):
        key_maps.translated(state, tiny(in_channels=1))


@pytest.mark.parametrize("keys", [TIMM, TORCHVISION, TORCHVISION_MOBILENET])
def test_other_families_are_refused(keys: set[str]) -> None:
    state = dict.fromkeys(keys, torch.empty(0))
    for model, module in ((ResNet((Stage(1, 4),), stem=4), "conv1"), (tiny((Block(Conv(), 4),)), r"conv\.conv")):
        with pytest.raises(ValueError, match=f"has none for {module} of {type(model).__name__}"):
            key_maps.translated(state, model)


def test_torchvision_has_no_experts() -> None:
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match=r"names of torchvision, which has none for routing\.linear"),
    ):
        key_maps.names(dict.fromkeys(TORCHVISION, torch.empty(0)), condconv_efficientnet_b0())


def test_eps_and_padding_of_each_source() -> None:
    assert key_maps.norm_eps("efficientnet_b5") == key_maps.norm_eps("condconv_efficientnet_b0") == 1e-3
    assert key_maps.norm_eps("resnet50") == key_maps.norm_eps("mobilenet_v2") == 1e-5
    assert key_maps.norm_eps("efficientnet_b5", "timm") == key_maps.norm_eps("mobilenetv2_100", "timm") == 1e-5
    assert key_maps.norm_eps("tf_efficientnet_b5.ns_jft_in1k", "timm") == 1e-3
    assert key_maps.norm_eps("efficientnet_b4", "torchvision") == key_maps.norm_eps("resnet50", "torchvision") == 1e-5
    assert key_maps.norm_eps("efficientnet_b5", "torchvision") == 1e-3
    assert key_maps.norm_eps("efficientnet_v2_s", "torchvision") == 1e-3
    assert key_maps.padding("tf_efficientnet_b0.ns_jft_in1k", "timm") == "same"
    assert key_maps.padding("efficientnet_b0", "timm") == key_maps.padding("tf_efficientnet_b0") == "symmetric"


@pytest.mark.parametrize("ours", sorted({pair.ours for pair in parity.PAIRS}))
def test_what_came_out_of_theirs_comes_out_of_ours(ours: str) -> None:
    pairs = [pair for pair in parity.PAIRS if pair.ours == ours]
    images, weights = load_file(REFERENCE / "images.safetensors"), parity.ours(pairs[0])
    for pair in pairs:
        with torch.inference_mode():
            found = parity.ours(pair, weights)(parity.seen(images[pair.images]))
        with safe_open(REFERENCE / f"{pair.source}.safetensors", "pt") as file:
            assert parity.difference(found, file.get_tensor(pair.theirs)) < parity.TOLERANCE, pair


def test_references_know_their_makers() -> None:
    for source in ("timm", "torchvision"):
        with safe_open(REFERENCE / f"{source}.safetensors", "pt") as file:
            assert {"timm", "torchvision", "torch", "numpy"} <= file.metadata().keys()
            assert set(file.keys()) == {pair.theirs for pair in parity.PAIRS if pair.source == source}


@pytest.mark.timeout(1800)  # all sizes, up to a hundred million weights
@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_ours_beside_theirs(source: str) -> None:
    pytest.importorskip(source)
    for pair in parity.PAIRS:
        assert pair.source != source or parity.compared(pair)[0] < parity.TOLERANCE, pair


@pytest.mark.timeout(1800)  # all sizes, up to a hundred million weights
@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_ours_beside_theirs_in_training(source: str) -> None:
    pytest.importorskip(source)
    for pair in parity.TRAINED:
        assert pair.source != source or parity.compared_in_training(pair) < parity.TOLERANCE, pair
