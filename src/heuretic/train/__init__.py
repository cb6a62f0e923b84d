"""Training: optimizers, as plain torch code."""

from heuretic.train.optimizers import Lion

__all__ = ["Lion"]
