"""What convolutional networks are made of: normalised convolutions, squeeze-and-excitation, residual paths."""

import copy
import math
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heuretic.nn.conditional_convolution import CondConv2d
from heuretic.nn.stochastic_depth import StochasticDepth

Padding = Literal["symmetric", "same"]


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` with the initialisation that residual and mobile networks were published with, drawn at once.

    Weights are normal with variance 2 / (out_channels / groups * places of the kernel), biases zero.
    Reference: He et al. 2015, arXiv:1502.01852, section 2.2, backward case.
    """

    def reset_parameters(self) -> None:
        fan_out = self.out_channels // self.groups * math.prod(self.kernel_size)
        with torch.no_grad():
            self.weight.normal_(0, math.sqrt(2 / fan_out))
            if self.bias is not None:
                self.bias.zero_()


class Classifier(nn.Linear):
    """`nn.Linear` with the initialisation of the published code of MnasNet and EfficientNet, drawn at once.

    Weights are uniform within 1 / sqrt(classes), biases zero.
    """

    def reset_parameters(self) -> None:
        bound = self.out_features**-0.5
        with torch.no_grad():
            self.weight.uniform_(-bound, bound)
            if self.bias is not None:
                self.bias.zero_()


class SamePadding(nn.Module):
    """Pad images with zeros so that a convolution with `stride` makes ceil(side / stride) places of a side.

    Of an odd number of places one more is put below and on the right: TensorFlow's "SAME". Without stride it is symmetric.
    """

    def __init__(self, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        places = [max((-(-side // self.stride) - 1) * self.stride + self.kernel_size - side, 0) for side in x.shape[2:]]
        return F.pad(x, (places[1] // 2, places[1] - places[1] // 2, places[0] // 2, places[0] - places[0] // 2))

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


class ConvNorm(nn.Module):
    """A convolution, batch normalisation and, unless it is linear, an activation; images may be padded before."""

    def __init__(
        self, conv: Conv2d | CondConv2d, norm: nn.Module, act: nn.Module | None, pad: nn.Module | None = None
    ) -> None:
        super().__init__()
        if pad is not None:
            self.pad = pad
        self.conv, self.norm = conv, norm
        if act is not None:
            self.act = act

    def forward(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the activated output. `weights`: Of the experts, shape (batch, experts), for a routed `CondConv2d`."""
        if "pad" in self._modules:
            x = self.pad(x)
        x = self.norm(self.conv(x) if weights is None else self.conv(x, weights))
        return self.act(x) if "act" in self._modules else x


class SqueezeExcitation(nn.Module):
    """Scale each channel by a number in (0, 1) computed from the means of all channels.

    Args:
        channels: Of input and output, shape (batch, channels, height, width). hidden: Width of the layer between.
        activation: Of the layer between. Default: ReLU.
    Reference: Hu et al. 2018, "Squeeze-and-Excitation Networks", arXiv:1709.01507, section 3.
    """

    def __init__(self, channels: int, hidden: int, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.reduce = Conv2d(channels, hidden, 1)
        self.act = nn.ReLU(inplace=True) if activation is None else activation
        self.expand = Conv2d(hidden, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True)))))


class Residual(nn.Module):
    """Add to what `path` makes of its input what `around` makes of it, in the same shape; by default the input itself.

    Args:
        drop_rate: Share of examples whose path is dropped in training, see `StochasticDepth`.
    """

    def __init__(self, path: nn.Module, around: nn.Module | None = None, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.path = path
        self.around = nn.Identity() if around is None else around
        self.drop = StochasticDepth(drop_rate) if drop_rate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.path(x)) + self.around(x)


def copied(activation: nn.Module) -> nn.Module:
    """Return what `copy.deepcopy` does, but sooner where nothing in a module needs to be copied deeply.

    A network has a hundred activations, and copying them deeply takes longer than making them.
    """
    made: dict[str, object] = {}
    for name, value in vars(activation).items():
        if isinstance(value, bool | int | float | str | None):
            made[name] = value
        elif isinstance(value, dict | set) and not value:
            made[name] = type(value)()
        else:
            return copy.deepcopy(activation)
    module = type(activation).__new__(type(activation))
    vars(module).update(made)
    return module


@dataclass(frozen=True)
class Parts:
    """What the layers of a network have in common.

    Args:
        activation: Each place gets a copy of its own. norm_eps, norm_momentum: Of each `nn.BatchNorm2d`.
        padding: Of convolutions with a stride: "symmetric", or "same" as TensorFlow's, see `SamePadding`.
    Raises: ValueError for another padding.
    """

    activation: nn.Module = field(default_factory=lambda: nn.ReLU(inplace=True))
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    padding: Padding = "symmetric"

    def __post_init__(self) -> None:
        if self.padding not in ("symmetric", "same"):
            raise ValueError(f"padding must be 'symmetric' or 'same', got {self.padding!r}")

    def act(self) -> nn.Module:
        """Return a new activation."""
        return copied(self.activation)

    def conv(
        self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, *, groups: int = 1,
        linear: bool = False, experts: int = 0,
    ) -> ConvNorm:  # fmt: skip
        """Return a normalised convolution that keeps the size of images but for the stride.

        Args:
            linear: Leave the activation out. experts: Of a `CondConv2d` that is given its weights; 0 for a plain kernel.
        """
        is_same = self.padding == "same" and stride > 1
        padding = 0 if is_same else kernel_size // 2
        conv = (
            CondConv2d(
                in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False, experts=experts,
                routing=False,
            )
            if experts
            else Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        )  # fmt: skip
        norm = nn.BatchNorm2d(out_channels, self.norm_eps, self.norm_momentum)
        pad = SamePadding(kernel_size, stride) if is_same else None
        return ConvNorm(conv, norm, None if linear else self.act(), pad)

    def excitation(self, channels: int, in_channels: int, ratio: float) -> nn.Module:
        """Return a squeeze-and-excitation whose hidden width is that share of `in_channels`."""
        return SqueezeExcitation(channels, max(1, int(in_channels * ratio)), self.act())
