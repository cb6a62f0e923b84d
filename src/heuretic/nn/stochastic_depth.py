"""Stochastic depth: in training, drop the path of a residual layer for some examples."""

import torch
from torch import Tensor, nn


def drop_paths(x: Tensor, rate: float) -> Tensor:
    """Return `x` with a share of its examples (first axis) set to zero and the others divided by 1 - rate."""
    kept = torch.empty((x.shape[0], *([1] * (x.dim() - 1))), dtype=x.dtype, device=x.device).bernoulli_(1 - rate)
    return x * kept.div_(1 - rate)


class StochasticDepth(nn.Module):
    """Set its input to zero for a share of the examples, and scale the others up so that the mean stays; in training only.

    Put it at the end of a residual path, in front of the sum. Input of any shape whose first axis is the batch.

    Args:
        rate: Share of examples dropped, in [0, 1).
    Raises: ValueError if it is not in that range.
    Reference: Huang et al. 2016, "Deep Networks with Stochastic Depth", arXiv:1603.09382, section 3. Departures, both
    those of EfficientNet's code: each example is dropped on its own, and scaling is done in training.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1), got {rate!r}. Try 0.2")
        self.rate = float(rate)

    def forward(self, x: Tensor) -> Tensor:
        return drop_paths(x, self.rate) if self.training and self.rate else x

    def extra_repr(self) -> str:
        return f"rate={self.rate:.4g}"
