"""AdvProp: adversarial examples as additional examples, with batch statistics of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from heuretic.nn import auxiliary_statistics
from heuretic.train.attacks import PGD
from heuretic.train.batches import Images
from heuretic.train.classification import Classification, cross_entropy
from heuretic.train.loop import Loop, Meter, Reporter
from heuretic.train.optimization import Optimization
from heuretic.train.recipes.adversarial import images_of
from heuretic.train.training_program import Trained

if TYPE_CHECKING:
    from heuretic.data import DataSet


def advprop(
    model: nn.Module, data: DataSet, *, attack: PGD = PGD(epsilon=4 / 255, step_size=1 / 255, steps=5),
    optimization: Optimization = Optimization(), loop: Loop = Loop(), batch: int = 128, augment: Sequence[Callable[..., Any]] = (),
    label_smoothing: float = 0.0, inputs: Images | None = None, seed: int = 0, trial: Reporter | None = None,
    meter: Meter | None = None,
) -> Trained:  # fmt: skip
    """Minimise the sum of the cross-entropies on images and on attacked ones, and measure on `data.validation` as it is.

    Attacked images are normalised by the auxiliary batch normalisations, while they are made too; clean ones and whoever uses
    the model afterwards use the main ones. With k steps of attack an update takes k + 2 forward and backward passes, of which
    the k compute no gradient of weights.

    Args:
        model: Has auxiliary batch normalisations, from `hr.apply(model, "advprop")`; changed in place.
        attack: Default: the paper's strongest, epsilon + 1 steps of 1 / 255.
        batch, augment, label_smoothing, inputs, seed, trial, meter: As of `supervised`. Attacks do not know of the smoothing.
    Returns: The model, with "validation_loss" in nats and "validation_accuracy".
    Raises: ValueError if the model has no auxiliary statistics; TypeError if inputs are not images, whose range is known.
    Reference: Xie et al. 2019, "Adversarial Examples Improve Image Recognition", arXiv:1911.09665, algorithm 1.
    """
    with auxiliary_statistics(model):
        pass  # says so now, not in the first step, if there are none
    images = images_of(data, inputs)
    plain: Callable[..., Tensor] = cross_entropy(label_smoothing)  # type: ignore[assignment]

    def loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor | float]]:
        x, y = batch
        with auxiliary_statistics(network):
            # The loop seeds torch's own generator anew in each step.
            attacked = attack(network, x, y, low=images.low, high=images.high, generator=torch.default_generator)
            other = plain(network, (attacked, y))
        clean = plain(network, (x, y))
        return clean + other, {"clean_loss": clean.detach(), "attacked_loss": other.detach()}

    training = optimization.start(model.train(), loop.steps, loss)
    task = Classification(data, images, training.device)
    run = loop.run(
        training, task.batches(data.train, batch, seed, augment), seed=seed, evaluate=task.validation(training), trial=trial,
        meter=meter,
    )  # fmt: skip
    return task.trained(training, run)
