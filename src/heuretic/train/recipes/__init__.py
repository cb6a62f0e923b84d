"""Recipes: ways to train a classifier, each a plain function on top of `heuretic.train.Loop`."""

from heuretic.train.recipes.adversarial import FreeReplays, adversarial
from heuretic.train.recipes.advprop import advprop
from heuretic.train.recipes.meta_pseudo_labels import meta_pseudo_labels
from heuretic.train.recipes.noisy_student import noisy_student
from heuretic.train.recipes.progressive import progressive
from heuretic.train.recipes.supervised import supervised
from heuretic.train.recipes.uda import uda

__all__ = [
    "FreeReplays", "adversarial", "advprop", "meta_pseudo_labels", "noisy_student", "progressive", "supervised",
    "uda",
]  # fmt: skip
