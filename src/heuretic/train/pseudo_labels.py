"""Rows labelled by a model: which of them to learn from, and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heuretic.train.seeds import derived_seed

if TYPE_CHECKING:
    from heuretic.data import Split


def balanced_rows(
    probabilities: NDArray[np.floating], confidence: float, per_class: int, seed: int
) -> NDArray[np.int64]:
    """Return the numbers of the rows to learn from, `per_class` of each class that is predicted at all, in ascending order.

    A row counts for its most probable class. Those of a probability below `confidence` are left out. Of what remains, a class
    with more than `per_class` keeps the most confident; one with fewer has all of them as many times as fits, and some that
    the seed chooses once more.

    Args:
        probabilities: Of the classes, shape (rows, classes).
    Raises: ValueError if no row is confident enough, or `per_class` is below 1.
    """
    if per_class < 1:
        raise ValueError(f"per_class must be at least 1, got {per_class}")
    predicted, highest = probabilities.argmax(1), probabilities.max(1)
    draw = np.random.default_rng(derived_seed(seed, "balance"))
    chosen: list[NDArray[np.int64]] = []
    for label in range(probabilities.shape[1]):
        rows = np.flatnonzero((predicted == label) & (highest >= confidence))
        if len(rows):
            rows = rows[np.argsort(-highest[rows], kind="stable")][:per_class]
            times, rest = divmod(per_class, len(rows))
            chosen += [np.repeat(rows, times), draw.choice(rows, rest, replace=False)]
    if not chosen:
        raise ValueError(
            f"some row must be predicted with at least confidence={confidence}, got {highest.max(initial=0):.3f} at most. "
            f"Try a lower confidence"
        )
    return np.sort(np.concatenate(chosen))


class Relabelled:
    """Rows of a part of a data set, some maybe more than once, with labels of their own; stands in for a `Split`.

    Inputs are read when rows are asked for.

    Args:
        split: Where inputs are from. rows: Their numbers there, shape (n,).
        labels: Classes of shape (n,), or shares of classes, shape (n, classes).
    """

    def __init__(self, split: Split, rows: NDArray[np.int64], labels: NDArray[Any]) -> None:
        self.split, self.rows, self.labels = split, rows, labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: NDArray[np.int64]) -> Split:
        return type(self.split)(self.split[self.rows[rows]].inputs, self.labels[rows])
