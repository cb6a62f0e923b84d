"""Squared ReLU in Llama, by hand."""

from torch import nn

from heuretic.nn import SquaredReLU


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    for layer in model.model.layers:
        layer.mlp.act_fn = SquaredReLU()
