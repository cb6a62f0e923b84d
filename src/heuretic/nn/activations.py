"""Activation functions that torch lacks: squared ReLU and the smooth stand-ins for ReLU.

References: So et al. 2021, arXiv:2109.08668 (squared ReLU); Xie et al. 2020, arXiv:2006.14536, section 4 (parametric
softplus, SmoothReLU).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def squared_relu(x: Tensor) -> Tensor:
    """Return max(x, 0)**2 elementwise, in the shape and dtype of `x`."""
    return torch.relu(x).square()


def parametric_softplus(x: Tensor, alpha: float = 10.0) -> Tensor:
    """Return log(1 + exp(alpha * x)) / alpha elementwise, in the shape and dtype of `x`; for large alpha it is ReLU.

    Computed without overflow: where alpha * x > 20, the result is x, which is off by less than 1e-8 / alpha.
    """
    return F.softplus(x, beta=alpha)


def smooth_relu(x: Tensor, alpha: float = 10.0) -> Tensor:
    """Return x - log(alpha * x + 1) / alpha for x >= 0 and 0 below, in the shape and dtype of `x`.

    The slope is alpha * x / (alpha * x + 1): continuous, 0 at 0, and that of ReLU in the limit of large alpha.
    """
    positive = torch.relu(x)
    return positive - torch.log1p(alpha * positive) / alpha


class SquaredReLU(nn.Module):
    """`squared_relu` as a module, for input of any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return squared_relu(x)


class _Sharp(nn.Module):
    """An activation with a sharpness alpha > 0, fixed or trained."""

    def __init__(self, alpha: float, trained: bool) -> None:
        super().__init__()
        if not alpha > 0:
            raise ValueError(f"alpha must be > 0, got {alpha!r}. Try alpha={self.USUAL}")
        if trained:
            self.log_alpha = nn.Parameter(torch.tensor(math.log(alpha)))
        else:
            self.fixed_alpha = float(alpha)

    #: What the papers begin with.
    USUAL = 10.0

    @property
    def alpha(self) -> Tensor | float:
        """The sharpness: a number, or if it is trained a tensor of shape (), the exponential of `log_alpha`."""
        return self.log_alpha.exp() if "log_alpha" in self._parameters else self.fixed_alpha

    @property
    def trained(self) -> bool:
        """Whether the sharpness is a parameter."""
        return "log_alpha" in self._parameters

    def extra_repr(self) -> str:
        return "trained=True" if self.trained else f"alpha={self.fixed_alpha:.4g}"


class ParametricSoftplus(_Sharp):
    """`parametric_softplus` as a module, for input of any shape.

    Args:
        alpha: Sharpness, > 0, without unit. trained: Make its logarithm a parameter, `log_alpha`; so it stays above 0.
    Raises: ValueError if alpha <= 0.
    """

    def __init__(self, alpha: float = 10.0, trained: bool = False) -> None:
        super().__init__(alpha, trained)

    def forward(self, x: Tensor) -> Tensor:
        if self.trained:
            return F.softplus(x * self.alpha) / self.alpha
        return parametric_softplus(x, self.fixed_alpha)


class SmoothReLU(_Sharp):
    """`smooth_relu` as a module, for input of any shape.

    Args:
        alpha: Sharpness, > 0, without unit. trained: Make its logarithm a parameter, `log_alpha`, as the paper trains one
            sharpness a layer.
    Raises: ValueError if alpha <= 0.
    """

    def __init__(self, alpha: float = 10.0, trained: bool = False) -> None:
        super().__init__(alpha, trained)

    def forward(self, x: Tensor) -> Tensor:
        positive = torch.relu(x)
        return positive - torch.log1p(self.alpha * positive) / self.alpha


class Swish(_Sharp):
    """x * sigmoid(alpha * x) elementwise, for input of any shape; SiLU if alpha is 1.

    Args:
        alpha: Sharpness, > 0, without unit. trained: Make its logarithm a parameter, `log_alpha`.
    Raises: ValueError if alpha <= 0.
    Reference: Ramachandran et al. 2017, "Searching for Activation Functions", arXiv:1710.05941, section 4, where alpha is
    called beta.
    """

    USUAL = 1.0

    def __init__(self, alpha: float = 1.0, trained: bool = False) -> None:
        super().__init__(alpha, trained)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.alpha * x)
