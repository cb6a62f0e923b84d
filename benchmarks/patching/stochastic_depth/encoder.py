"""Stochastic depth in torch's transformer encoder, by hand."""

from torch import nn

from heuretic.nn import StochasticDepth


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    for i, layer in enumerate(model.layers):
        layer.dropout1 = nn.Sequential(layer.dropout1, StochasticDepth(0.2 * (2 * i + 1) / 4))
        layer.dropout2 = nn.Sequential(layer.dropout2, StochasticDepth(0.2 * (2 * i + 2) / 4))
