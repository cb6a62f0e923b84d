"""Picking the next tokens of many sequences from their logits, each by its own settings and its own stream of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_SURELY = 1024
"""Of so many most probable tokens it is tried first whether they make up `top_p`: sorting a whole vocabulary is slow."""

_ROWS = 16
"""So many are picked at once: whole vocabularies take memory."""


@dataclass(frozen=True, slots=True)
class Draw:
    """How the tokens of one sequence are picked; temperature 0 takes the most probable."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None


def stream(seed: int) -> np.random.Generator:
    """Return the numbers that decide a sequence: one for each token, whatever else is computed beside it."""
    return np.random.Generator(np.random.Philox(key=seed))


def pick(logits: Tensor, draws: Sequence[Draw], numbers: Sequence[float]) -> Tensor:
    """Return the token ids [rows] picked from logits [rows, vocabulary] with one number in [0, 1) for each row.

    The tokens that remain are ranked by probability, and the first whose cumulated probability exceeds the number is taken;
    without top_k and top_p they are not ranked but in the order of their ids.
    """
    best = logits.argmax(-1)
    groups: dict[Draw, list[int]] = {}
    for row, draw in enumerate(draws):
        if draw.temperature > 0:
            groups.setdefault(draw, []).append(row)
    for draw, rows in groups.items():
        for first in range(0, len(rows), _ROWS):
            some = rows[first : first + _ROWS]
            u = torch.tensor([numbers[r] for r in some], dtype=torch.float64)[:, None]
            best[some] = _picked(logits[some] / draw.temperature, draw, u)
    return best


def _picked(scaled: Tensor, draw: Draw, u: Tensor) -> Tensor:
    vocabulary = scaled.shape[1]
    if draw.top_k is None and (draw.top_p is None or draw.top_p >= 1):
        return _first_above(scaled.softmax(-1), u)
    if draw.top_k is not None:
        values, ids = scaled.topk(min(draw.top_k, vocabulary), -1)
        probabilities = values.softmax(-1)
    else:
        assert draw.top_p is not None
        values, ids = scaled.topk(min(_SURELY, vocabulary), -1)
        probabilities = (values - scaled.logsumexp(-1, keepdim=True)).exp()
        if bool((probabilities.sum(-1) < draw.top_p).any()):
            values, ids = scaled.sort(-1, descending=True)
            probabilities = values.softmax(-1)
    if draw.top_p is not None and draw.top_p < 1:
        before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities.masked_fill(before >= draw.top_p, 0.0)
    return ids.gather(-1, _first_above(probabilities, u)[:, None])[:, 0]


def _first_above(probabilities: Tensor, u: Tensor) -> Tensor:
    total = probabilities.cumsum(-1, dtype=torch.float64)
    place = torch.searchsorted(total, u * total[:, -1:], right=True)[:, 0]
    # A number at the very top may, by rounding, find nothing above it: then the last token of probability > 0.
    last = probabilities.shape[1] - 1 - (probabilities.flip(-1) > 0).to(torch.uint8).argmax(-1)
    return torch.minimum(place, last)
