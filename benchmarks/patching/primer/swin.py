"""Squared ReLU in Swin, by hand."""

from torch import nn

from heuretic.nn import SquaredReLU


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    for stage in model.swin.encoder.layers:
        for layer in stage.blocks:
            layer.mlp.activation_fn = SquaredReLU()
