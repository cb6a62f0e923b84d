"""PyTorch blocks: plain `torch.nn` code, usable without the rest, and the adapter by which patches edit built modules."""

from heuretic.nn.activations import (
    ParametricSoftplus,
    SmoothReLU,
    SquaredReLU,
    parametric_softplus,
    smooth_relu,
    squared_relu,
)

__all__ = ["ParametricSoftplus", "SmoothReLU", "SquaredReLU", "parametric_softplus", "smooth_relu", "squared_relu"]
