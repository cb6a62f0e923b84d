"""Activation functions that torch lacks: squared ReLU and the smooth stand-ins for ReLU.

References: So et al. 2021, arXiv:2109.08668 (squared ReLU); Xie et al. 2020, arXiv:2006.14536, section 4 (parametric
softplus, SmoothReLU).
"""

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
    Departure: in the paper alpha is learnt; here it is fixed.
    """
    positive = torch.relu(x)
    return positive - torch.log1p(alpha * positive) / alpha


class SquaredReLU(nn.Module):
    """`squared_relu` as a module, for input of any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return squared_relu(x)


class ParametricSoftplus(nn.Module):
    """`parametric_softplus` as a module, for input of any shape.

    Args:
        alpha: Sharpness, > 0, without unit. It is not trained.
    Raises: ValueError if alpha <= 0.
    """

    def __init__(self, alpha: float = 10.0) -> None:
        super().__init__()
        self.alpha = _positive(alpha)

    def forward(self, x: Tensor) -> Tensor:
        return parametric_softplus(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class SmoothReLU(nn.Module):
    """`smooth_relu` as a module, for input of any shape.

    Args:
        alpha: Sharpness, > 0, without unit. It is not trained.
    Raises: ValueError if alpha <= 0.
    """

    def __init__(self, alpha: float = 10.0) -> None:
        super().__init__()
        self.alpha = _positive(alpha)

    def forward(self, x: Tensor) -> Tensor:
        return smooth_relu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


def _positive(alpha: float) -> float:
    if not alpha > 0:
        raise ValueError(
            f"alpha must be > 0, got {alpha!r}. Try alpha=10.0, the paper's choice for parametric softplus"
        )
    return float(alpha)
