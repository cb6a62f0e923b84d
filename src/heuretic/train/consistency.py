"""Parts of losses that semi-supervised recipes share: targets from predictions, agreement with them, annealed supervision."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Annealing = Literal["linear", "log", "exp"]
#: So that the exponential schedule begins at exp(-5) = 0.7% of the way, and the logarithmic one ends at 99.3% of it.
_STEEPNESS = 5.0


def annealing_threshold(schedule: Annealing, progress: float, classes: int) -> float:
    """Return the probability from 1 / classes to 1 beyond which a labelled row is known well enough to be left out.

    Args:
        schedule: "exp" releases most labels at the end, for few labels and models that overfit soon; "log" at the beginning.
        progress: Share of the steps that are done, in [0, 1].
    Raises: ValueError for another schedule.
    Reference: training signal annealing, Xie et al. 2020, arXiv:1904.12848, section 2.4.
    """
    if schedule == "linear":
        share = progress
    elif schedule == "log":
        share = 1 - math.exp(-progress * _STEEPNESS)
    elif schedule == "exp":
        share = math.exp((progress - 1) * _STEEPNESS)
    else:
        raise ValueError(f"annealing must be one of {', '.join(get_args(Annealing))}, or None, got {schedule!r}")
    return share * (1 - 1 / classes) + 1 / classes


def annealed_cross_entropy(logits: Tensor, labels: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy over rows whose label has at most probability `threshold`, and the share of these rows.

    Args:
        logits: Shape (batch, classes). labels: Shape (batch,).
    Returns: Nats, 0 where there are no such rows; and a number in [0, 1], without gradient.
    """
    losses = F.cross_entropy(logits, labels, reduction="none")
    with torch.no_grad():
        learned = logits.softmax(1).gather(1, labels[:, None])[:, 0] <= threshold
    return (losses * learned).sum() / learned.sum().clamp(min=1), learned.float().mean()


def sharpened(logits: Tensor, temperature: float) -> Tensor:
    """Return softmax(logits / temperature), without gradient: what other predictions are to agree with."""
    return (logits.detach() / temperature).softmax(1)


def disagreement(target: Tensor, logits: Tensor, counted: Tensor) -> Tensor:
    """Return the divergence KL(target || softmax(logits)) in nats, summed over the rows that count, over the rows there are.

    Args:
        target: Probabilities of shape (batch, classes), without gradient. logits: The same shape. counted: Shape (batch,).
    """
    divergences = F.kl_div(logits.log_softmax(1), target, reduction="none").sum(1)
    return (divergences * counted).mean()


def in_one_pass(model: Callable[[Tensor], Tensor] | nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Return the logits for each of several batches, from one pass over all of them, so that they share batch statistics.

    Batches of different shapes, such as texts padded to different lengths, are passed one after the other.
    """
    if len({x.shape[1:] for x in inputs}) > 1:
        return tuple(model(x).float() for x in inputs)
    return model(torch.cat(inputs)).float().split([len(x) for x in inputs])


def check_shares(**values: float) -> None:
    """Raise ValueError if a named value is not in [0, 1]."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value}")


def check_positive(**values: float) -> None:
    """Raise ValueError if a named value is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")
