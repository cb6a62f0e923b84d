"""Stochastic depth in this library's mobile network, by hand."""

from torch import nn

from heuretic.nn import StochasticDepth


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    for i, layer in enumerate([model.blocks[0][0], model.blocks[1][1], model.blocks[2][1]], 1):
        layer.drop = StochasticDepth(0.2 * i / 3)
