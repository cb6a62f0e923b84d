"""Conditionally parameterised convolution: each example is convolved with a mixture of kernels of its own.

Yang et al. 2019, "CondConv: Conditionally Parameterized Convolutions for Efficient Inference", arXiv:1904.04971.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: How many values of mixed kernels the caches of a CPU hold, and how many multiply-adds take longer than to begin a
#: convolution. benchmarks/vision.py has the measurements behind this.
_CACHED, _LONG = 2**22, 2**21


class Routing(nn.Module):
    """Weigh the experts for each example: the sigmoid of a linear function of the means of its channels.

    Args:
        in_channels: Of the input, shape (batch, in_channels, height, width). experts: Width of the output, shape
            (batch, experts), each in (0, 1); they need not add up to one.
    Reference: section 3, equation 2.
    """

    def __init__(self, in_channels: int, experts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, experts)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3))).sigmoid()


class CondConv2d(nn.Module):
    """A convolution whose kernel is, for each example, the sum of the experts' kernels weighed by a routing function.

    The kernels are mixed first and applied once, so an example costs one convolution and experts * weights
    multiply-adds for the mixture. 1 x 1 kernels are applied by a batched matrix product, larger ones as one
    convolution with a group for each example. Where there will be no backward pass, on a CPU, kernels are mixed for no
    more examples at once than its caches hold, and large images in the format channels_last are convolved one by one: as
    groups they would have to be copied out of it.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: As of `nn.Conv2d`; padding is a
            number of places. The bias is not mixed.
        experts: Number of kernels, >= 1.
        routing: Whether the layer weighs the experts itself. If not, each call is given the weights: layers of one block
            can share them, as in CondConv-EfficientNet.
    Attributes: weight: The kernels, shape (experts, out_channels * in_channels / groups * places of the kernel).
    Raises: ValueError if experts < 1, or channels are no multiples of groups.
    Reference: section 3. Initialisation of each expert: that of `heuretic.nn.Conv2d`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int], stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0, dilation: int | tuple[int, int] = 1, groups: int = 1, bias: bool = True,
        experts: int = 8, routing: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        if experts < 1:
            raise ValueError(f"experts must be >= 1, got {experts}. Try 8")
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"in_channels and out_channels must be multiples of groups, got {in_channels}, {out_channels} and {groups}"
            )
        self.in_channels, self.out_channels, self.groups, self.experts = in_channels, out_channels, groups, experts
        self.kernel_size, self.stride, self.padding, self.dilation = (
            _pair(value) for value in (kernel_size, stride, padding, dilation)
        )
        # flat, because `.to(memory_format=torch.channels_last)` refuses weights of five axes
        self.weight = nn.Parameter(
            torch.empty(experts, out_channels * (in_channels // groups) * math.prod(self.kernel_size))
        )
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.routing = Routing(in_channels, experts) if routing else None
        nn.init.normal_(self.weight, std=math.sqrt(2 / (out_channels // groups * math.prod(self.kernel_size))))

    def forward(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        """Convolve `x`, shape (batch, in_channels, height, width).

        Args:
            weights: Of the experts for each example, shape (batch, experts), if the layer has no routing of its own.
        Raises: ValueError if neither or both are there.
        """
        if (weights is None) == (self.routing is None):
            raise ValueError(f"CondConv2d must have routing of its own or be given weights, got {weights is not None}")
        weights = self.routing(x) if self.routing is not None else weights
        assert weights is not None
        count = self._at_once(x)
        if count >= x.shape[0]:
            y = self._convolved(x, weights)
        else:
            y = torch.cat([self._convolved(*part) for part in zip(x.split(count), weights.split(count), strict=True)])
        return y if self.bias is None else y + self.bias.view(-1, 1, 1)

    def _at_once(self, x: Tensor) -> int:
        """Return for how many examples to mix kernels at once."""
        batch, cached = x.shape[0], max(1, _CACHED // self.weight.shape[1])
        return math.ceil(batch / math.ceil(batch / cached)) if batch > cached and _only_forward_on_cpu(x) else batch

    def _convolved(self, x: Tensor, weights: Tensor) -> Tensor:
        kernels = (weights.to(self.weight.dtype) @ self.weight).to(x.dtype)
        kernels = kernels.view(-1, self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        if self.kernel_size == (1, 1) and self.groups == 1 and self.padding == (0, 0):
            return _pointwise(x[:, :, :: self.stride[0], :: self.stride[1]], kernels.flatten(2))
        if x.shape[0] == 1:
            return self._plain(x, kernels[0])
        if _is_channels_last(x) and self._is_better_alone(x) and _only_forward_on_cpu(x):
            return torch.cat([self._plain(*part) for part in zip(x.split(1), kernels, strict=True)])
        return self._grouped(x, kernels)

    def _is_better_alone(self, x: Tensor) -> bool:
        """Whether to begin a convolution for each example takes less time than to copy all out of channels_last."""
        places, values = x.shape[2] * x.shape[3], self.weight.shape[1]
        return places * self.in_channels > values and places * values > _LONG

    def _plain(self, x: Tensor, kernel: Tensor) -> Tensor:
        return F.conv2d(x, kernel, None, self.stride, self.padding, self.dilation, self.groups)

    def _grouped(self, x: Tensor, kernels: Tensor) -> Tensor:
        batch = x.shape[0]
        y = F.conv2d(
            x.reshape(1, batch * x.shape[1], *x.shape[2:]), kernels.flatten(0, 1), None, self.stride, self.padding,
            self.dilation, batch * self.groups,
        )  # fmt: skip
        return y.view(batch, self.out_channels, *y.shape[2:])

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}", f"kernel_size={self.kernel_size}", f"stride={self.stride}"]
        if self.padding != (0, 0):
            parts.append(f"padding={self.padding}")
        if self.dilation != (1, 1):
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        return ", ".join([*parts, f"experts={self.experts}"])


def _pointwise(x: Tensor, kernels: Tensor) -> Tensor:
    """Apply to each example a matrix of its own, shape (batch, out, in), in the memory format of `x`."""
    batch, _, height, width = x.shape
    if _is_channels_last(x):
        y = torch.bmm(x.permute(0, 2, 3, 1).reshape(batch, height * width, -1), kernels.transpose(1, 2))
        return y.view(batch, height, width, -1).permute(0, 3, 1, 2)
    return torch.bmm(kernels, x.reshape(batch, -1, height * width)).view(batch, -1, height, width)


def _only_forward_on_cpu(x: Tensor) -> bool:
    """Whether this is a CPU that computes now (a compiler that records chooses for itself), without a way back."""
    return x.is_cpu and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
