"""Stochastic depth in EfficientNet, by hand."""

from torch import nn

from heuretic.nn import StochasticDepth


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    parts = [b.projection for b in model.efficientnet.encoder.blocks if b.projection.apply_dropout]
    for i, part in enumerate(parts, 1):
        part.dropout = nn.Sequential(part.dropout, StochasticDepth(0.2 * i / len(parts)))
