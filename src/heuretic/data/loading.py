"""One function for all data sets that are known here."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from heuretic.data import speech, text, vision
from heuretic.data.dataset import DataSet, with_validation
from heuretic.data.packed import Texts, Waveforms
from heuretic.data.records import Corrupt

SETS: Mapping[str, Callable[[Corrupt], DataSet[Any, Any]]] = {
    "cifar10": vision.cifar10,
    "digits": vision.digits,
    "fashion-mnist": vision.fashion_mnist,
    "fsdd": speech.fsdd,
    "mmlu-groups": text.mmlu_groups,
    "mmlu-subjects": text.mmlu_subjects,
    "multi30k": text.multi30k,
    "tiny-shakespeare": text.tiny_shakespeare,
    "wikitext2": text.wikitext2,
}
"""Every data set by name. What is special about each is in the docstring of its function."""


@overload
def load(
    name: Literal["cifar10", "digits", "fashion-mnist"],
    *, validation: int = 0, labels: int | None = None, seed: int = 0, corrupt: Corrupt = "raise",
) -> DataSet[NDArray[np.uint8], NDArray[np.int64]]: ...  # fmt: skip
@overload
def load(
    name: Literal["fsdd"],
    *, validation: int = 0, labels: int | None = None, seed: int = 0, corrupt: Corrupt = "raise",
) -> DataSet[Waveforms, NDArray[np.int64]]: ...  # fmt: skip
@overload
def load(
    name: Literal["mmlu-groups", "mmlu-subjects"],
    *, validation: int = 0, labels: int | None = None, seed: int = 0, corrupt: Corrupt = "raise",
) -> DataSet[Texts, NDArray[np.int64]]: ...  # fmt: skip
@overload
def load(
    name: Literal["multi30k"],
    *, validation: int = 0, labels: int | None = None, seed: int = 0, corrupt: Corrupt = "raise",
) -> DataSet[Texts, Texts]: ...  # fmt: skip
@overload
def load(
    name: Literal["tiny-shakespeare", "wikitext2"],
    *, validation: int = 0, labels: int | None = None, seed: int = 0, corrupt: Corrupt = "raise",
) -> DataSet[Texts, None]: ...  # fmt: skip
@overload
def load(
    name: str,
    *, validation: int = 0, labels: int | None = None, seed: int = 0, corrupt: Corrupt = "raise",
) -> DataSet[Any, Any]: ...  # fmt: skip
def load(
    name: str, *, validation: int = 0, labels: int | None = None, seed: int = 0, corrupt: Corrupt = "raise"
) -> DataSet[Any, Any]:
    """Return a data set from `$HEURETIC_DATA`, else from the cache, else from where it is published.

    A sample that lies in `$HEURETIC_DATA` is used as it is. Downloads are checked against the sha256 known here and kept in
    `$HEURETIC_CACHE`, by default the user's folder for caches; `HEURETIC_OFFLINE=1` forbids them. Arrays are memory-mapped,
    and read-only, as long as they are whole; those of a part of the rows are copies in memory.

    What is returned depends on the files (`checksum`) and these arguments only, and is the same on every machine. The test
    rows are never among the others.

    Args:
        name: cifar10, digits or fashion-mnist (images); fsdd (sound); mmlu-groups or mmlu-subjects (texts with
            classes); multi30k (texts, as labels their translations); tiny-shakespeare or wikitext2 (running text).
        validation: Rows of `train` to choose by instead, as many of each class; of running text the last. 0 leaves what the
            source says, another number replaces it.
        labels: Rows of `train` that keep their labels, as many of each class; the others come as `unlabelled`, with labels -1.
        seed: Which rows those are, >= 0. The same seed gives larger numbers of labels the rows of smaller ones, and more.
        corrupt: "raise" for an error at the first record that cannot be read or is out of range, with its file and row, or
            "skip" to leave such records out and count them in `skipped`.
    Raises: ValueError for an unknown name, numbers of rows that are not there, and files that are not what they should be;
        FileNotFoundError if files are missing, with their names.
    """
    if name not in SETS:
        near = difflib.get_close_matches(name.lower().replace("_", "-"), SETS, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else "Other data need no loader: pass their arrays"
        raise ValueError(f"name must be one of {', '.join(sorted(SETS))}, got {name!r}. {hint}")
    if corrupt not in ("raise", "skip"):
        raise ValueError(f'corrupt must be "raise" or "skip", got {corrupt!r}')
    data = SETS[name](corrupt)
    if validation:
        data = with_validation(data, validation, seed)
    return data if labels is None else data.with_labels(labels, seed)
