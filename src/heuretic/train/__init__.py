"""Training: one loop, optimizers, recipes on top of the loop, and spaces of networks to train."""

from heuretic.train.attacks import PGD, fgsm, pgd, robust_accuracy
from heuretic.train.batches import Batches, Images, Inputs, Order, Texts, Views, together
from heuretic.train.classification import Classification, cross_entropy, measured, predictions
from heuretic.train.factorized_space import factorized_space
from heuretic.train.loop import Diverged, Loop, Run
from heuretic.train.optimization import Optimization, Training
from heuretic.train.optimizers import Lion
from heuretic.train.recipes import (
    FreeReplays,
    adversarial,
    advprop,
    meta_pseudo_labels,
    noisy_student,
    progressive,
    supervised,
    uda,
)
from heuretic.train.schedules import Constant, Cosine, Decay
from heuretic.train.training_program import Trained, evaluate, run

__all__ = [
    "Batches", "Classification", "Constant", "Cosine", "Decay", "Diverged", "FreeReplays", "Images", "Inputs",
    "Lion", "Loop", "Optimization", "Order", "PGD", "Run", "Texts", "Trained", "Training", "Views", "adversarial",
    "advprop", "cross_entropy", "evaluate", "factorized_space", "fgsm", "measured", "meta_pseudo_labels",
    "noisy_student", "pgd", "predictions", "progressive", "robust_accuracy", "run", "supervised", "together", "uda",
]  # fmt: skip
