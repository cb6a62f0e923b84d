"""Stochastic depth in T5, by hand."""

from torch import nn

from heuretic.nn import StochasticDepth


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    parts = [part for block in [*model.encoder.block, *model.decoder.block] for part in block.layer]
    for i, part in enumerate(parts, 1):
        part.dropout = nn.Sequential(part.dropout, StochasticDepth(0.2 * i / len(parts)))
