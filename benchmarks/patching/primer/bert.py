"""Squared ReLU in BERT, by hand."""

from torch import nn

from heuretic.nn import SquaredReLU


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    for layer in model.bert.encoder.layer:
        layer.intermediate.intermediate_act_fn = SquaredReLU()
