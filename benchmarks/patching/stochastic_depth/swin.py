"""Stochastic depth in Swin, by hand, in the paths for which `transformers` has a place."""

from torch import nn

from heuretic.nn import StochasticDepth


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    layers = [layer for stage in model.swin.encoder.layers for layer in stage.blocks]
    for i, layer in enumerate(layers, 1):
        layer.drop_path = StochasticDepth(0.2 * i / len(layers))
