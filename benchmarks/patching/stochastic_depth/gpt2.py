"""Stochastic depth in GPT-2, by hand."""

from torch import nn

from heuretic.nn import StochasticDepth


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    for i, block in enumerate(model.transformer.h):
        block.attn.resid_dropout = nn.Sequential(block.attn.resid_dropout, StochasticDepth(0.2 * (2 * i + 1) / 4))
        block.mlp.dropout = nn.Sequential(block.mlp.dropout, StochasticDepth(0.2 * (2 * i + 2) / 4))
