"""Optimizers that torch lacks, as `torch.optim.Optimizer`s."""

from heuretic.train.optimizers.lion import Lion

__all__ = ["Lion"]
