"""Stochastic depth in BERT, by hand."""

from torch import nn

from heuretic.nn import StochasticDepth


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    parts = [part for layer in model.bert.encoder.layer for part in (layer.attention.output, layer.output)]
    for i, part in enumerate(parts, 1):
        part.dropout = nn.Sequential(part.dropout, StochasticDepth(0.2 * i / len(parts)))
