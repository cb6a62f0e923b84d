"""Stochastic depth in ViT, by hand."""

from torch import nn

from heuretic.nn import StochasticDepth


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    for i, layer in enumerate(model.vit.layers, 1):
        layer.dropout = nn.Sequential(layer.dropout, StochasticDepth(0.2 * i / len(model.vit.layers)))
