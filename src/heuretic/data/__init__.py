"""Data sets as numpy arrays: those that packages bring, and those in the folder that `$HEURETIC_DATA` names."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heuretic.data.images import Images, digits, fashion_mnist
from heuretic.data.local import data_file

if TYPE_CHECKING:
    from heuretic.data.augment import FlipCrop, RandAugment

#: By name: the module it is in. These need torch, and are imported when first used.
_LATER = {
    "FlipCrop": "augment",
    "RandAugment": "augment",
}

__all__ = ["FlipCrop", "Images", "RandAugment", "data_file", "digits", "fashion_mnist"]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'heuretic.data' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"heuretic.data.{_LATER[name]}"), name)
    return value
