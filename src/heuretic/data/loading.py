"""One function for all data sets that are known here."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from heuretic.data import vision
from heuretic.data.dataset import DataSet, with_validation
from heuretic.data.records import Corrupt

SETS: Mapping[str, Callable[[Corrupt], DataSet[Any, Any]]] = {
    "cifar10": vision.cifar10,
    "digits": vision.digits,
    "fashion-mnist": vision.fashion_mnist,
}
"""Every data set by name."""


def load(
    name: str, *, validation: int = 0, labels: int | None = None, seed: int = 0, corrupt: Corrupt = "raise"
) -> DataSet[Any, Any]:
    """Return a data set, from `$HEURETIC_DATA`, from the cache or from where it is published."""
    if name not in SETS:
        near = difflib.get_close_matches(name.lower().replace("_", "-"), SETS, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else "Its files can be read with numpy, too"
        raise ValueError(f"name must be one of {', '.join(sorted(SETS))}, got {name!r}. {hint}")
    if corrupt not in ("raise", "skip"):
        raise ValueError(f'corrupt must be "raise" or "skip", got {corrupt!r}')
    data = SETS[name](corrupt)
    if validation:
        data = with_validation(data, validation, seed)
    return data if labels is None else data.with_labels(labels, seed)
