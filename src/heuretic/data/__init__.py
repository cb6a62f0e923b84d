"""Data sets as numpy arrays and sequences: from a folder of yours, a cache, or where they are published."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heuretic.data.dataset import DataSet, Split
from heuretic.data.files import data_file
from heuretic.data.loading import load
from heuretic.data.packed import Texts, Waveforms

if TYPE_CHECKING:
    from heuretic.data.augment import AutoAugment, Cutout, FlipCrop, Policy, RandAugment, Step
    from heuretic.data.corruptions import CORRUPTIONS, corrupted, mean_corruption_error
    from heuretic.data.mixing import CutMix, MixUp
    from heuretic.data.text_augmentation import BackTranslation, FittedWordReplacement, WordReplacement, translator
    from heuretic.data.vocabulary import Vocabulary

#: By name: the module it is in. Most need torch; they are imported when first used.
_LATER = {
    "AutoAugment": "augment",
    "BackTranslation": "text_augmentation",
    "CORRUPTIONS": "corruptions",
    "CutMix": "mixing",
    "Cutout": "augment",
    "FittedWordReplacement": "text_augmentation",
    "FlipCrop": "augment",
    "MixUp": "mixing",
    "Policy": "augment",
    "RandAugment": "augment",
    "Step": "augment",
    "Vocabulary": "vocabulary",
    "WordReplacement": "text_augmentation",
    "corrupted": "corruptions",
    "mean_corruption_error": "corruptions",
    "translator": "text_augmentation",
}

__all__ = [
    "CORRUPTIONS", "AutoAugment", "BackTranslation", "CutMix", "Cutout", "DataSet", "FittedWordReplacement", "FlipCrop", "MixUp", "Policy", "RandAugment", "Split", "Step", "Texts", "Vocabulary", "Waveforms", "WordReplacement", "corrupted", "data_file", "load", "mean_corruption_error", "translator",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'heuretic.data' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"heuretic.data.{_LATER[name]}"), name)
    return value
