"""Kinds of convolutional layers for small devices: plain, depthwise-separable, and inverted bottlenecks.

Each kind is described by a small value with a method `path`, which makes the layer's modules; `Residual` adds
the way around them.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor, nn

from heuretic.nn.conditional_convolution import Routing
from heuretic.nn.convolution import ConvNorm, Parts, Residual

Skip = Literal["identity", "pool", "none"]


class Operation(Protocol):
    """A kind of layer."""

    def path(
        self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int, se_ratio: float, parts: Parts
    ) -> nn.Module:
        """Return the modules of one layer, from `in_channels` to `out_channels`.

        Args:
            se_ratio: Hidden width of the squeeze-and-excitation over `in_channels`; 0 for none.
        """
        ...


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution, normalised and activated."""

    def path(
        self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int, se_ratio: float, parts: Parts
    ) -> nn.Module:
        conv = parts.conv(in_channels, out_channels, kernel_size, stride)
        return _in_order(conv=conv, excite=_excited(parts, out_channels, in_channels, se_ratio))


@dataclass(frozen=True, slots=True)
class SeparableConv:
    """A convolution of each channel on its own, then a linear 1 x 1 convolution."""

    def path(
        self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int, se_ratio: float, parts: Parts
    ) -> nn.Module:
        return MBConv(1).path(
            in_channels, out_channels, kernel_size=kernel_size, stride=stride, se_ratio=se_ratio, parts=parts
        )


@dataclass(frozen=True, slots=True)
class MBConv:
    """The mobile inverted bottleneck: widen, convolve each channel on its own, narrow again without activation.

    Args:
        expansion: How many times `in_channels` the middle is wide, >= 1.
        experts: Kernels of each convolution, mixed for each example by one routing function of the layer's input; 0 for
            plain kernels.
    Raises: ValueError if one is out of range.
    References: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv:1801.04381, table 1;
    experts: Yang et al. 2019, arXiv:1904.04971, section 4.
    """

    expansion: int = 6
    experts: int = 0

    def __post_init__(self) -> None:
        if self.expansion < 1:
            raise ValueError(f"expansion must be >= 1, got {self.expansion!r}. Try 6")
        if self.experts < 0:
            raise ValueError(f"experts must be >= 0, got {self.experts!r}. Try 8")

    def path(
        self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int, se_ratio: float, parts: Parts
    ) -> nn.Module:
        middle = in_channels * self.expansion
        layers = _in_order(
            expand=parts.conv(in_channels, middle, experts=self.experts) if self.expansion > 1 else None,
            depthwise=parts.conv(middle, middle, kernel_size, stride, groups=middle, experts=self.experts),
            excite=_excited(parts, middle, in_channels, se_ratio),
            project=parts.conv(middle, out_channels, linear=True, experts=self.experts),
        )
        return Routed(Routing(in_channels, self.experts), layers) if self.experts else layers


@dataclass(frozen=True, slots=True)
class FusedMBConv:
    """The inverted bottleneck with its first two convolutions in one: widen by a full convolution, then narrow.

    Args:
        expansion: How many times `in_channels` the middle is wide, >= 1; with 1 there is one convolution only, activated.
    Raises: ValueError if it is below 1.
    Reference: Tan & Le 2021, "EfficientNetV2", arXiv:2104.00298, figure 2. Departure, that of the authors' code: no
    linear convolution at expansion 1.
    """

    expansion: int = 4

    def __post_init__(self) -> None:
        if self.expansion < 1:
            raise ValueError(f"expansion must be >= 1, got {self.expansion!r}. Try 4")

    def path(
        self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int, se_ratio: float, parts: Parts
    ) -> nn.Module:
        middle = in_channels * self.expansion
        narrow = self.expansion > 1
        return _in_order(
            expand=parts.conv(in_channels, middle if narrow else out_channels, kernel_size, stride),
            excite=_excited(parts, middle if narrow else out_channels, in_channels, se_ratio),
            project=parts.conv(middle, out_channels, linear=True) if narrow else None,
        )


class Routed(nn.Module):
    """Weigh experts once, and give the weights to every convolution of `layers` in turn."""

    def __init__(self, routing: Routing, layers: nn.Sequential) -> None:
        super().__init__()
        self.routing, self.layers = routing, layers

    def forward(self, x: Tensor) -> Tensor:
        weights = self.routing(x)
        for layer in self.layers:
            x = layer(x, weights) if isinstance(layer, ConvNorm) else layer(x)
        return x


def mobile_layer(
    operation: Operation, in_channels: int, out_channels: int, *, kernel_size: int = 3, stride: int = 1,
    se_ratio: float = 0.0, skip: Skip = "identity", drop_rate: float = 0.0, parts: Parts | None = None,
) -> nn.Module:  # fmt: skip
    """Return one layer from `in_channels` to `out_channels`, images shrunk by `stride`.

    Args:
        skip: The way around the layer: "identity" (where the stride is 1), "pool" (average pooling, 3 x 3, with the
            layer's stride) or "none". Where the numbers of channels differ there is none.
        drop_rate: Stochastic depth of the layer, if there is a way around it. parts: Activation and normalisation.
    Raises: ValueError for another `skip`, an even kernel size, or an se_ratio not in [0, 1].
    """
    if skip not in ("identity", "pool", "none"):
        raise ValueError(f"skip must be 'identity', 'pool' or 'none', got {skip!r}")
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, got {kernel_size}. Try {kernel_size + 1}")
    if not 0 <= se_ratio <= 1:
        raise ValueError(f"se_ratio must be in [0, 1], got {se_ratio}. Try 0.25")
    path = operation.path(
        in_channels, out_channels, kernel_size=kernel_size, stride=stride, se_ratio=se_ratio, parts=parts or Parts()
    )
    if in_channels != out_channels or skip == "none" or (skip == "identity" and stride != 1):
        return path
    around = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False) if skip == "pool" else nn.Identity()
    return Residual(path, around, drop_rate)


def _in_order(**layers: nn.Module | None) -> nn.Sequential:
    return nn.Sequential(OrderedDict({name: layer for name, layer in layers.items() if layer is not None}))


def _excited(parts: Parts, channels: int, in_channels: int, se_ratio: float) -> nn.Module | None:
    return parts.excitation(channels, in_channels, se_ratio) if se_ratio else None
