"""Training a classifier on labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from heuretic.train.batches import Inputs, Mixing
from heuretic.train.classification import Classification, cross_entropy
from heuretic.train.loop import Loop, Meter, Reporter
from heuretic.train.optimization import Optimization
from heuretic.train.training_program import Trained

if TYPE_CHECKING:
    from heuretic.data import DataSet


def supervised(
    model: nn.Module, data: DataSet, *, optimization: Optimization = Optimization(), loop: Loop = Loop(), batch: int = 128,
    augment: Sequence[Callable[..., Any]] = (), mix: Mixing | None = None, label_smoothing: float = 0.0,
    inputs: Inputs | None = None, seed: int = 0, trial: Reporter | None = None, meter: Meter | None = None,
) -> Trained:  # fmt: skip
    """Minimise the cross-entropy on `data.train`, and measure on `data.validation`; `data.test` is left alone.

    Args:
        model: Gives logits of shape (batch, classes); changed in place.
        batch: Rows of a step. augment: Applied one after the other. mix: Such as `MixUp`.
        label_smoothing: Share of each label that is spread over all classes, in [0, 1).
        inputs: Makes what the model is given. Default: images, normalised.
        seed: Of everything random but the weights that `model` has.
        trial, meter: See `Loop.run`.
    Returns: The model, with "validation_loss" in nats and "validation_accuracy", if there are validation rows.
    """
    training = optimization.start(model.train(), loop.steps, cross_entropy(label_smoothing))
    task = Classification(data, inputs, training.device)
    run = loop.run(
        training, task.batches(data.train, batch, seed, augment, mix), seed=seed, evaluate=task.validation(training),
        trial=trial, meter=meter,
    )  # fmt: skip
    return task.trained(training, run)
