"""EfficientNet B0 to B7, CondConv-EfficientNet-B0 and EfficientNetV2 S, M, L.

Tan & Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", arXiv:1905.11946; Yang et al.
2019, "CondConv", arXiv:1904.04971; Tan & Le 2021, "EfficientNetV2: Smaller Models and Faster Training", arXiv:2104.00298.
Departure: padding is symmetric, as in torchvision and timm's `efficientnet_*`; the published code pads strided layers more on
the lower right, which changes neither weights nor their number: `hr.replace(program, padding="same")`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from torch import nn

from heuretic.nn.architecture import architecture
from heuretic.nn.inverted_residual import FusedMBConv, MBConv
from heuretic.nn.mobile_net import Block, MobileNet, described
from heuretic.nn.rounding import rounded_up, scaled_channels
from heuretic.symbolic import sym

#: EfficientNet-B0, table 1.
EFFICIENTNET_B0 = (
    Block(MBConv(1), 16, se_ratio=0.25),
    Block(MBConv(6), 24, layers=2, stride=2, se_ratio=0.25),
    Block(MBConv(6), 40, layers=2, stride=2, kernel_size=5, se_ratio=0.25),
    Block(MBConv(6), 80, layers=3, stride=2, se_ratio=0.25),
    Block(MBConv(6), 112, layers=3, kernel_size=5, se_ratio=0.25),
    Block(MBConv(6), 192, layers=4, stride=2, kernel_size=5, se_ratio=0.25),
    Block(MBConv(6), 320, se_ratio=0.25),
)

#: Per EfficientNet: width and depth over those of B0, side of the published images, dropout.
SCALES: Mapping[str, tuple[float, float, int, float]] = {
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
    "b4": (1.4, 1.8, 380, 0.4),
    "b5": (1.6, 2.2, 456, 0.4),
    "b6": (1.8, 2.6, 528, 0.5),
    "b7": (2.0, 3.1, 600, 0.5),
}

#: EfficientNetV2-S, table 4 of its paper.
EFFICIENTNET_V2_S = (
    Block(FusedMBConv(1), 24, layers=2),
    Block(FusedMBConv(4), 48, layers=4, stride=2),
    Block(FusedMBConv(4), 64, layers=4, stride=2),
    Block(MBConv(4), 128, layers=6, stride=2, se_ratio=0.25),
    Block(MBConv(6), 160, layers=9, se_ratio=0.25),
    Block(MBConv(6), 256, layers=15, stride=2, se_ratio=0.25),
)

#: EfficientNetV2-M and L, from the authors' code.
EFFICIENTNET_V2_M = (
    Block(FusedMBConv(1), 24, layers=3),
    Block(FusedMBConv(4), 48, layers=5, stride=2),
    Block(FusedMBConv(4), 80, layers=5, stride=2),
    Block(MBConv(4), 160, layers=7, stride=2, se_ratio=0.25),
    Block(MBConv(6), 176, layers=14, se_ratio=0.25),
    Block(MBConv(6), 304, layers=18, stride=2, se_ratio=0.25),
    Block(MBConv(6), 512, layers=5, se_ratio=0.25),
)
EFFICIENTNET_V2_L = (
    Block(FusedMBConv(1), 32, layers=4),
    Block(FusedMBConv(4), 64, layers=7, stride=2),
    Block(FusedMBConv(4), 96, layers=7, stride=2),
    Block(MBConv(4), 192, layers=10, stride=2, se_ratio=0.25),
    Block(MBConv(6), 224, layers=19, se_ratio=0.25),
    Block(MBConv(6), 384, layers=25, stride=2, se_ratio=0.25),
    Block(MBConv(6), 640, layers=7, se_ratio=0.25),
)


def _efficientnet(
    blocks: Sequence[Block], classes: int, in_channels: int, stem: int, head: int, dropout: float,
    stochastic_depth: float,
) -> MobileNet:  # fmt: skip
    """Return the program of a network of `blocks` with the published activation and normalisation."""
    return sym(MobileNet)(
        described(blocks), classes=classes, in_channels=in_channels, stem=stem, head=head,
        activation=sym(nn.SiLU)(inplace=True), dropout=dropout, stochastic_depth=stochastic_depth, norm_eps=1e-3,
        norm_momentum=0.01,
    )  # fmt: skip


def _scaled(name: str, classes: int, in_channels: int, stochastic_depth: float) -> MobileNet:
    width, depth, _, dropout = SCALES[name]
    blocks = [
        replace(block, filters=scaled_channels(block.filters, width), layers=rounded_up(block.layers * depth))
        for block in EFFICIENTNET_B0
    ]
    stem, head = scaled_channels(32, width), scaled_channels(1280, width)
    return _efficientnet(blocks, classes, in_channels, stem, head, dropout, stochastic_depth)


@architecture
def efficientnet_b0(classes: int = 1000, *, in_channels: int = 3, stochastic_depth: float = 0.2) -> MobileNet:
    """Return EfficientNet-B0 with random weights: 5.3 million, 0.39 billion multiply-adds at 224 x 224."""
    return _scaled("b0", classes, in_channels, stochastic_depth)


@architecture
def efficientnet_b1(classes: int = 1000, *, in_channels: int = 3, stochastic_depth: float = 0.2) -> MobileNet:
    """Return EfficientNet-B1 with random weights: 7.8 million, 0.70 billion multiply-adds at 240 x 240."""
    return _scaled("b1", classes, in_channels, stochastic_depth)


@architecture
def efficientnet_b2(classes: int = 1000, *, in_channels: int = 3, stochastic_depth: float = 0.2) -> MobileNet:
    """Return EfficientNet-B2 with random weights: 9.1 million, 1.0 billion multiply-adds at 260 x 260."""
    return _scaled("b2", classes, in_channels, stochastic_depth)


@architecture
def efficientnet_b3(classes: int = 1000, *, in_channels: int = 3, stochastic_depth: float = 0.2) -> MobileNet:
    """Return EfficientNet-B3 with random weights: 12 million, 1.8 billion multiply-adds at 300 x 300."""
    return _scaled("b3", classes, in_channels, stochastic_depth)


@architecture
def efficientnet_b4(classes: int = 1000, *, in_channels: int = 3, stochastic_depth: float = 0.2) -> MobileNet:
    """Return EfficientNet-B4 with random weights: 19 million, 4.2 billion multiply-adds at 380 x 380."""
    return _scaled("b4", classes, in_channels, stochastic_depth)


@architecture
def efficientnet_b5(classes: int = 1000, *, in_channels: int = 3, stochastic_depth: float = 0.2) -> MobileNet:
    """Return EfficientNet-B5 with random weights: 30 million, 9.9 billion multiply-adds at 456 x 456."""
    return _scaled("b5", classes, in_channels, stochastic_depth)


@architecture
def efficientnet_b6(classes: int = 1000, *, in_channels: int = 3, stochastic_depth: float = 0.2) -> MobileNet:
    """Return EfficientNet-B6 with random weights: 43 million, 19 billion multiply-adds at 528 x 528."""
    return _scaled("b6", classes, in_channels, stochastic_depth)


@architecture
def efficientnet_b7(classes: int = 1000, *, in_channels: int = 3, stochastic_depth: float = 0.2) -> MobileNet:
    """Return EfficientNet-B7 with random weights: 66 million, 37 billion multiply-adds at 600 x 600."""
    return _scaled("b7", classes, in_channels, stochastic_depth)


@architecture
def condconv_efficientnet_b0(
    classes: int = 1000, *, in_channels: int = 3, stochastic_depth: float = 0.2, experts: Literal[4, 8, 16] | int = 8
) -> MobileNet:
    """Return CondConv-EfficientNet-B0 with random weights: 413 million multiply-adds at 224 x 224 with 8 experts.

    The convolutions of the last three blocks have `experts` kernels each, mixed by one routing function a layer.
    Reference: the authors' code. Departure: the classifier has one kernel (as there).
    """
    blocks = (
        *EFFICIENTNET_B0[:4],
        *(replace(block, operation=MBConv(6, experts=experts)) for block in EFFICIENTNET_B0[4:]),
    )
    return _efficientnet(blocks, classes, in_channels, 32, 1280, 0.25, stochastic_depth)


@architecture
def efficientnet_v2_s(classes: int = 1000, *, in_channels: int = 3, stochastic_depth: float = 0.2) -> MobileNet:
    """Return EfficientNetV2-S with random weights: 22 million, 8.4 billion multiply-adds at 384 x 384."""
    return _efficientnet(EFFICIENTNET_V2_S, classes, in_channels, 24, 1280, 0.2, stochastic_depth)


@architecture
def efficientnet_v2_m(classes: int = 1000, *, in_channels: int = 3, stochastic_depth: float = 0.2) -> MobileNet:
    """Return EfficientNetV2-M with random weights: 54 million, 24 billion multiply-adds at 480 x 480."""
    return _efficientnet(EFFICIENTNET_V2_M, classes, in_channels, 24, 1280, 0.3, stochastic_depth)


@architecture
def efficientnet_v2_l(classes: int = 1000, *, in_channels: int = 3, stochastic_depth: float = 0.2) -> MobileNet:
    """Return EfficientNetV2-L with random weights: 119 million, 56 billion multiply-adds at 480 x 480."""
    return _efficientnet(EFFICIENTNET_V2_L, classes, in_channels, 32, 1280, 0.4, stochastic_depth)
