"""Recipes: ways to train a classifier, each a plain function on top of `heuretic.train.Loop`."""

from heuretic.train.recipes.adversarial import FreeReplays, adversarial
from heuretic.train.recipes.advprop import advprop
from heuretic.train.recipes.supervised import supervised

__all__ = ["FreeReplays", "adversarial", "advprop", "supervised"]
