"""SiLU for ReLU in a CNN, by hand."""

from torch import nn


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    model[1] = nn.SiLU()
    model[3] = nn.SiLU()
