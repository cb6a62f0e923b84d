"""Small tasks of supervised learning, which one core trains in seconds, to compare ideas about training on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heuretic.data import load
from heuretic.nn.causal_transformer import CausalTransformer
from heuretic.train.loop import Loop

#: Characters that the model of a text reads at once.
CONTEXT = 64
Pairs = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Task:
    """Inputs and what is to be predicted from them.

    Attributes:
        train, validation, test: Inputs and classes. Images: float32 of shape (images, 1, height, width) in [0, 1], classes
            int64 of shape (images,). Texts: int64 of shape (pieces, length), classes the same, one place later.
        network: Makes a network with random weights; its outputs are logits, classes last.
        checksum: sha256 of the data.
    """

    train: Pairs
    validation: Pairs
    test: Pairs
    network: Callable[[], nn.Module]
    checksum: str


def digits_task(train: int, validation: int) -> Task:
    """Return scikit-learn's digits, split at random but always the same way; what remains is the test.

    Raises: FileNotFoundError if scikit-learn is not installed.
    """
    data = load("digits")  # few, so the test is drawn from all
    pixels, labels = (
        np.concatenate(parts) for parts in zip(*((p.inputs, p.labels) for p in (data.train, data.test)), strict=True)
    )
    order = np.random.default_rng(0).permutation(len(labels))
    ends = (0, train, train + validation, len(labels))
    splits = (_images(pixels[part] / 240, labels[part]) for part in (order[a:b] for a, b in pairwise(ends)))
    return Task(*splits, network=lambda: _convolutions(8), checksum=data.checksum)


def fashion_mnist_task(train: int, validation: int) -> Task:
    """Return Fashion-MNIST with its own test images, and of the others so many at random but always the same.

    Raises: FileNotFoundError if it is not to be had.
    """
    data = load("fashion-mnist")
    order = np.random.default_rng(0).permutation(len(data.train))[: train + validation]
    rows = (data.train[order[:train]], data.train[order[train:]], data.test)
    splits = (_images(np.asarray(part.inputs) / 255, part.labels) for part in rows)
    return Task(*splits, network=lambda: _convolutions(28), checksum=data.checksum)


def shakespeare_task(train: int, validation: int) -> Task:
    """Return Tiny Shakespeare, character by character: predict each from at most 63 before it and their order.

    The last tenth of the text is the test, as is usual; the pieces for training and validation are the first and the last
    of the rest.

    Raises: FileNotFoundError if it is not to be had.
    """
    data = load("tiny-shakespeare")
    parts = ["".join(part.inputs).encode() for part in (data.train, data.test)]
    characters, tokens = np.unique(np.frombuffer(b"".join(parts), np.uint8), return_inverse=True)
    end = len(parts[0])
    before, after = _pieces(tokens[:end]), _pieces(tokens[end:])
    if train + validation > len(before[0]):
        raise ValueError(f"train + validation must be at most {len(before[0])}, got {train + validation}. Try fewer")
    return Task(
        train=(before[0][:train], before[1][:train]),
        validation=(before[0][-validation:], before[1][-validation:]),
        test=after,
        network=lambda: CausalTransformer(len(characters), width=64, depth=2, heads=4, context=CONTEXT),
        checksum=data.checksum,
    )


#: By name, what makes a task with so many examples to train and to validate on.
TASKS: Mapping[str, Callable[[int, int], Task]] = {
    "digits": digits_task, "fashion-mnist": fashion_mnist_task, "tiny-shakespeare": shakespeare_task
}  # fmt: skip


def train_network(
    task: Task, optimizer_of: Callable[..., torch.optim.Optimizer], *, epochs: int, batch: int, seed: int
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Train a network of the task from scratch, the learning rate going down to 0 by a cosine, and return it.

    Args:
        optimizer_of: Makes the optimizer of parameters. seed: Fixes weights and order of the examples.
    Raises: Diverged if the loss is not finite any more.
    """
    inputs, classes = task.train
    order = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = task.network()
    optimizer = optimizer_of(network.parameters())
    loop = Loop(steps=epochs * math.ceil(len(inputs) / batch), progress=False)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, loop.steps)
    chosen = [part for _ in range(epochs) for part in torch.randperm(len(inputs), generator=order).split(batch)]

    def update(rows: Tensor, step: int) -> dict[str, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        loss = _loss(network(inputs[rows]), classes[rows])
        loss.backward()
        optimizer.step()
        schedule.step()
        return {"loss": loss}

    loop.run(update, chosen.__getitem__, seed=seed)
    return network, optimizer


def measure(network: nn.Module, held_out: Pairs) -> dict[str, float]:
    """Return the mean cross-entropy in nats as "loss", and as "accuracy" the share of classes predicted."""
    with torch.inference_mode():
        logits = torch.cat([network(part) for part in held_out[0].split(500)])
        hits = (logits.argmax(-1) == held_out[1]).double().mean()
        return {"loss": _loss(logits, held_out[1]).item(), "accuracy": hits.item()}


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of all state tensors of the shape of their parameter."""
    return sum(
        value.numel() * value.element_size()
        for parameter, state in optimizer.state.items()
        for value in state.values()
        if isinstance(value, Tensor) and value.shape == parameter.shape
    )


def _loss(logits: Tensor, classes: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), classes.flatten())


def _convolutions(side: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * (side // 4) ** 2, 10),
    )  # fmt: skip


def _images(pixels: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> Pairs:
    return torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels.copy())


def _pieces(tokens: np.ndarray[Any, Any]) -> Pairs:
    count = (len(tokens) - 1) // CONTEXT
    text = torch.from_numpy(tokens[: count * CONTEXT + 1].astype(np.int64))
    return text[:-1].view(count, CONTEXT), text[1:].view(count, CONTEXT)
