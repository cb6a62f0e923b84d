"""Training a classifier of images for a fixed number of epochs, and its accuracy."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn


def as_tensors(images: NDArray[Any], labels: NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Return grey images in [0, 1] of shape (images, height, width), and labels, as tensors; images around 0, one channel."""
    return torch.from_numpy((images[:, None] - 0.3) / 0.35).float(), torch.from_numpy(labels.astype(np.int64))


def train_classifier(
    network: nn.Module, images: Tensor, labels: Tensor, *, epochs: int, lr: float, seed: int, batch: int = 128,
    weight_decay: float = 1e-4,
) -> None:  # fmt: skip
    """Train in place by SGD with Nesterov momentum 0.9, the learning rate rising for a tenth of the steps, then a cosine.

    Args:
        images: Shape (images, channels, height, width). labels: Classes, shape (images,).
        lr: The highest learning rate. seed: Of the order of the images. batch: Images a step; a remainder is left out.
    The network ends in evaluation mode.
    """
    network.train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # the quicker layout for training on a CPU
    images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    count = len(images)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, functools.partial(_share_of_lr, steps=epochs * (count // batch))
    )
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for chosen in torch.randperm(count, generator=order).split(batch)[: count // batch]:
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(network(images[chosen]), labels[chosen]).backward()
            optimizer.step()
            schedule.step()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    network.eval()


def _share_of_lr(step: int, *, steps: int) -> float:
    warm = max(1, steps // 10)
    return (step + 1) / warm if step < warm else (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images whose class the network, put into evaluation mode, finds."""
    network.eval()
    with torch.inference_mode():
        hits = [(network(x).argmax(1) == y).sum() for x, y in zip(images.split(500), labels.split(500), strict=True)]
    return float(torch.stack(hits).sum()) / len(labels)
