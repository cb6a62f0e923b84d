"""Data sets as numpy arrays and sequences: from a folder of yours, a cache, or where they are published."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heuretic.data.dataset import DataSet, Split
from heuretic.data.images import Images, digits, fashion_mnist
from heuretic.data.loading import load
from heuretic.data.local import data_file
from heuretic.data.packed import Texts, Waveforms

if TYPE_CHECKING:
    from heuretic.data.augment import FlipCrop, RandAugment

#: By name: the module it is in. These need torch, and are imported when first used.
_LATER = {
    "FlipCrop": "augment",
    "RandAugment": "augment",
}

__all__ = [
    "DataSet", "FlipCrop", "Images", "RandAugment", "Split", "Texts", "Waveforms", "data_file", "digits", "fashion_mnist", "load",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'heuretic.data' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"heuretic.data.{_LATER[name]}"), name)
    return value
