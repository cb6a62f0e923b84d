"""Training a classifier of images that are in memory for a fixed number of epochs, as checks of networks do."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from heuretic.train.classification import cross_entropy, measured
from heuretic.train.loop import Loop
from heuretic.train.optimization import Optimization


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
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload] # the quicker layout for training on a CPU
    images = images.contiguous(memory_format=torch.channels_last)
    draw, a_epoch = torch.Generator().manual_seed(seed), len(images) // batch
    orders = [torch.randperm(len(images), generator=draw) for _ in range(epochs)]

    def batches(step: int) -> tuple[Tensor, Tensor]:
        first = step % a_epoch * batch
        chosen = orders[step // a_epoch][first : first + batch]
        return images[chosen], labels[chosen]

    sgd = functools.partial(torch.optim.SGD, lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    loop = Loop(steps=epochs * a_epoch, progress=False)
    training = Optimization(sgd, _share_of_lr, decay_all=True, cpu=True).start(network, loop.steps, cross_entropy())
    loop.run(training, batches, seed=seed)
    network.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]


def _share_of_lr(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    return (step + 1) / warm if step < warm else (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images whose class the network finds in evaluation mode, in which it is left."""
    return measured(network.eval(), zip(images.split(500), labels.split(500), strict=True))["accuracy"]
