"""What networks of images have in common: the maps they make at each stride, and the images they can take."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Level(NamedTuple):
    """A feature map that a network can give out.

    Attributes:
        stride: Of its places over those of the image. channels: Of the map. after: Number of the stage it comes from,
            0 for the stem.
    """

    stride: int
    channels: int
    after: int


def check_images(model: nn.Module, x: Tensor, in_channels: int, stride: int) -> None:
    """Raise ValueError if `model` cannot take the images `x`: another rank, other channels, a side below `stride`."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return  # a graph is for one kind of input, which was checked before
    name = type(model).__name__
    if x.dim() != 4:
        raise ValueError(f"{name} must be given (batch, channels, height, width), got shape {tuple(x.shape)}")
    if x.shape[1] != in_channels:
        raise ValueError(
            f"{name}.stem must be given {in_channels} channel(s), got {x.shape[1]} in shape {tuple(x.shape)}. "
            f"Try in_channels={x.shape[1]}"
        )
    if min(x.shape[2:]) < stride:
        raise ValueError(
            f"{name} must be given images of at least {stride} x {stride}, as many places as its stride, got "
            f"shape {tuple(x.shape)}. Try larger images or smaller strides"
        )
