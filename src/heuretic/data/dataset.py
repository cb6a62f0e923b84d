"""Data sets: inputs with labels, in parts to train on, to choose by and to test on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from heuretic.data.split import all_but, balanced, shuffled

Inputs = TypeVar("Inputs", bound=Sequence[Any] | NDArray[Any])
Labels = TypeVar("Labels", bound=Sequence[Any] | NDArray[Any] | None)

UNLABELLED = -1
"""The label of a row whose label is not to be used, as in scikit-learn's semi-supervised estimators."""


@dataclass(frozen=True, slots=True, eq=False)
class Split(Generic[Inputs, Labels]):
    """Rows of a data set. `split[rows]` has the rows of an array of numbers or a slice; an array in it is copied then.

    Attributes:
        inputs: Images as uint8 of shape (rows, height, width, channels); texts as a sequence of str; sounds as a sequence of
            float32 arrays of shape (samples,).
        labels: Classes from 0 on as int64 of shape (rows,), -1 where unlabelled; for translation the sentences in the other
            language; None for running text.
    """

    inputs: Inputs
    labels: Labels

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, rows: NDArray[np.int64] | Sequence[int] | slice) -> Split[Inputs, Labels]:
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            if rows.ndim != 1 or not (np.issubdtype(rows.dtype, np.integer) or rows.dtype == bool or not rows.size):
                raise TypeError(
                    f"rows must be a slice or row numbers of shape (rows,), got shape {rows.shape}. Try [row]"
                )
            rows = rows if rows.size else rows.astype(np.int64)
        labels: Any = self.labels
        return Split(cast(Any, self.inputs)[rows], cast(Any, None if labels is None else labels[rows]))

    def __repr__(self) -> str:
        return f"Split({len(self):,} rows)"


@dataclass(frozen=True, slots=True, eq=False)
class DataSet(Generic[Inputs, Labels]):
    """A data set in parts.

    Attributes:
        name: What `load` knows it as. train, test: Rows to train on, and rows that decide nothing before the end. In the order
            of the source, which may be by class, so shuffle them.
        validation: Rows to choose by, or None. unlabelled: Rows to train on whose labels are held back, or None.
        classes: Names of the classes 0, 1, ...; empty where labels are not classes.
        checksum: sha256 of the source's files in hexadecimal digits; of several files, that of the lines which the program
            sha256sum would print for them. skipped: Corrupt records left out.
    """

    name: str
    train: Split[Inputs, Labels]
    test: Split[Inputs, Labels]
    validation: Split[Inputs, Labels] | None
    unlabelled: Split[Inputs, Labels] | None
    classes: tuple[str, ...]
    checksum: str
    skipped: int = 0

    def with_labels(self, count: int, seed: int = 0) -> DataSet[Inputs, Labels]:
        """Return a copy with `count` labelled rows in `train`, as many of each class, and all its others in `unlabelled`.

        The labels of `unlabelled` are -1. Of the same seed, a larger `count` adds to the rows of a smaller one where each
        class gets the same number. Depends on the checksum, on how `train` was made, on `count` and `seed` only.
        Raises: ValueError if `count` is less than one a class or more than there are, or if labels are no classes.
        """
        labels = self.train.labels
        if not self.classes or not isinstance(labels, np.ndarray):
            raise ValueError(
                f"labels must be classes to be balanced, got none in {self.name}. Try taking a slice of train"
            )
        if self.unlabelled is not None:
            raise ValueError(
                f"{self.name} must be fully labelled, got {len(self.unlabelled)} unlabelled rows. Load it anew"
            )
        if not len(self.classes) <= count <= len(labels):
            raise ValueError(
                f"labels must be from {len(self.classes)}, one a class, to {len(labels)}, the rows of {self.name}, got {count}"
            )
        chosen = balanced(labels, count, seed)
        others = self.train[all_but(chosen, len(labels))]
        hidden: Any = np.full(len(others), UNLABELLED, np.int64)
        return replace(self, train=self.train[chosen], unlabelled=Split(others.inputs, hidden))


def with_validation(data: DataSet[Inputs, Labels], count: int, seed: int) -> DataSet[Inputs, Labels]:
    """Return a copy with `count` rows of `train` moved to `validation`, in place of what is there.

    As many rows of each class; of pairs any, by the seed; of running text the last, since its rows belong together.
    """
    total = len(data.train)
    if not 0 < count < total:
        raise ValueError(f"validation must be from 0 to {total - 1}, which leaves a row to train on, got {count}")
    if data.train.labels is None:
        return replace(data, train=data.train[: total - count], validation=data.train[total - count :])
    if data.classes:
        chosen = balanced(cast(Any, data.train.labels), count, seed)
    else:
        chosen = np.sort(shuffled(total, seed)[:count])
    return replace(data, train=data.train[all_but(chosen, total)], validation=data.train[chosen])


Parts = Mapping[str, Split[Any, Any]]
"""Splits by name: "train" and "test", where the source has one also "validation"."""
