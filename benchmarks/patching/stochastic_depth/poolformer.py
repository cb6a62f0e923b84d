"""Stochastic depth in PoolFormer, by hand."""

from torch import nn

from heuretic.nn import StochasticDepth


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    layers = [layer for block in model.poolformer.encoder.block for layer in block]
    for i, layer in enumerate(layers, 1):
        layer.drop_path = StochasticDepth(0.2 * i / len(layers))
