"""Which rows go where: as many of each class as can be, by a seed, alike on every machine.

The order of rows is that of the words of the counter-based generator Philox with the seed as its key. Numpy promises these
words never to change, which it does not for the methods of its `Generator`; they are whole numbers, so no rounding of a
machine enters either.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def shuffled(count: int, seed: int) -> NDArray[np.int64]:
    """Return 0 to `count` - 1 in an order that depends on `seed`, >= 0, and on nothing else."""
    if seed < 0:
        raise ValueError(f"seed must be >= 0, got {seed}")
    words = np.random.Philox(key=seed).random_raw(count)
    return np.argsort(np.asarray(words), kind="stable").astype(np.int64)


def balanced(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Return the numbers of `count` rows in ascending order, the same number of each class.

    What does not divide evenly, or what a small class lacks, is made up by the larger classes. Of the same seed, the rows of
    a smaller `count` are among those of a larger one if both give every class its share in full.

    Args:
        labels: Classes of the rows, shape (rows,). count: From 0 to the number of rows.
    """
    order = shuffled(len(labels), seed)
    classes, sizes = np.unique(labels, return_counts=True)
    chosen: list[NDArray[np.int64]] = []
    left = count
    for index, place in enumerate(np.argsort(sizes, kind="stable")):  # small classes first, which may have too few
        share = min(int(sizes[place]), left // (len(classes) - index))
        chosen.append(order[labels[order] == classes[place]][:share])
        left -= share
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def all_but(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the numbers from 0 to `count` - 1 that are not in `rows`, in ascending order."""
    kept = np.ones(count, bool)
    kept[rows] = False
    return np.flatnonzero(kept)
