"""Recipes: ways to train a classifier, each a plain function on top of `heuretic.train.Loop`."""

from heuretic.train.recipes.progressive import progressive
from heuretic.train.recipes.supervised import supervised

__all__ = [
    "progressive",
    "supervised",
]
from heuretic.train.recipes.adversarial import FreeReplays, adversarial
from heuretic.train.recipes.advprop import advprop

__all__ = ["FreeReplays", "adversarial", "advprop", "supervised"]
