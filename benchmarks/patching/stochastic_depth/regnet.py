"""Stochastic depth in RegNet, by hand."""

from torch import nn

from heuretic.nn import StochasticDepth


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    layers = [layer.layer for stage in model.regnet.encoder.stages for layer in stage.layers]
    for i, layer in enumerate(layers, 1):
        layer.append(StochasticDepth(0.2 * i / len(layers)))
