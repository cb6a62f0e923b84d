"""Adversarial training: minimising the loss on images that are changed so that it is high."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from heuretic.symbolic import Symbolic, field
from heuretic.train.attacks import PGD, robust_accuracy
from heuretic.train.batches import Images
from heuretic.train.classification import Classification, cross_entropy
from heuretic.train.loop import Loop, Measures, Meter, Reporter
from heuretic.train.optimization import Loss, Optimization, Training
from heuretic.train.training_program import Trained

if TYPE_CHECKING:
    from heuretic.data import DataSet


class FreeReplays(Symbolic):
    """An attack that costs nothing besides training: one perturbation lives on from batch to batch, and each backward pass gives
    the gradient for both it and the weights. To make up for that, every batch is trained on several times in a row.

    Reference: Shafahi et al. 2019, "Adversarial Training for Free!", arXiv:1904.12843, algorithm 1.
    """

    epsilon: float = field(default=8 / 255, ge=0, doc="farthest that a pixel is changed, as a share of its range")
    step_size: float = field(default=8 / 255, gt=0, doc="of the perturbation in every update; the paper's is epsilon")
    replays: int = field(default=8, ge=1, doc="updates in a row with the same batch; the paper's m")


def adversarial(
    model: nn.Module, data: DataSet, *, attack: PGD | FreeReplays = PGD(), against: PGD | None = None,
    optimization: Optimization = Optimization(), loop: Loop = Loop(), batch: int = 128, augment: Sequence[Callable[..., Any]] = (),
    label_smoothing: float = 0.0, inputs: Images | None = None, seed: int = 0, trial: Reporter | None = None,
    meter: Meter | None = None,
) -> Trained:  # fmt: skip
    """Minimise the cross-entropy on attacked images of `data.train`; measure on `data.validation`, as it is and under attack.

    Images are attacked at the size that the model sees, in training mode, and the loss is that of the attacked ones alone.
    `loop.steps` are updates, replays among them: with `PGD(steps=k)` one takes k + 1 forward and backward passes, of which the k
    compute no gradient of weights, with `FreeReplays` one.

    Args:
        model: Gives logits of shape (batch, classes); changed in place.
        attack: In training. against: In measuring. Default: ten steps of a quarter of the same epsilon.
        batch, augment, label_smoothing, inputs, seed, trial, meter: As of `supervised`. Attacks do not know of the smoothing.
    Returns: The model, with "validation_loss" in nats, "validation_accuracy" and "validation_robust_accuracy".
    Raises: TypeError if inputs are not images, whose range is known.
    References: Madry et al. 2017, arXiv:1706.06083 (`PGD`); Shafahi et al. 2019, arXiv:1904.12843 (`FreeReplays`).
    """
    plain = cross_entropy(label_smoothing)
    images = images_of(data, inputs)
    if against is None:
        against = PGD(epsilon=attack.epsilon, step_size=attack.epsilon / 4 or 1.0, steps=10)
    loss = _attacked(attack, plain, images) if isinstance(attack, PGD) else _perturbed(plain, images)
    training = optimization.start(model.train(), loop.steps, loss)
    task = Classification(data, images, training.device)
    batches = task.batches(data.train, batch, seed, augment)
    evaluate = with_robustness(task, training, against, images, seed)
    if isinstance(attack, PGD):
        run = loop.run(training, batches, seed=seed, evaluate=evaluate, trial=trial, meter=meter)
    else:
        replays, lasting = attack.replays, _Lasting(training, attack)
        run = loop.run(
            lasting, lambda step: batches(step // replays), seed=seed, state={"training": training, "perturbation": lasting},
            evaluate=evaluate, trial=trial, meter=meter,
        )  # fmt: skip
    return task.trained(training, run)


def images_of(data: DataSet, inputs: Images | None) -> Images:
    """Return what makes inputs whose range is known.

    Raises: TypeError if `inputs` does something else.
    """
    if inputs is not None and not isinstance(inputs, Images):
        raise TypeError(f"inputs must be Images to be attacked, got {type(inputs).__name__}. Try hr.train.Images")
    return Images.of(data.train) if inputs is None else inputs


def with_robustness(
    task: Classification, training: Training, against: PGD, images: Images, seed: int
) -> Callable[[], Mapping[str, float]] | None:
    """Return what measures the model on the validation rows, as they are and attacked; None if there are none."""
    split, plain = task.data.validation, task.validation(training)
    if split is None or plain is None:
        return None

    def measured() -> dict[str, float]:
        robust = robust_accuracy(
            training.averaged, task.in_order(split), against, low=images.low, high=images.high, seed=seed
        )
        return {**plain(), "robust_accuracy": robust}

    return measured


def _attacked(attack: PGD, plain: Loss, images: Images) -> Loss:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Any:
        x, y = batch
        # The loop seeds torch's own generator anew in each step.
        draw = torch.default_generator
        return plain(model, (attack(model, x, y, low=images.low, high=images.high, generator=draw), y))

    return loss


def _perturbed(plain: Loss, images: Images) -> Loss:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Any:
        x, y, perturbation = batch
        low, high = images.low.to(x), images.high.to(x)
        return plain(model, ((x + (high - low) * perturbation).clamp(low, high), y))

    return loss


class _Lasting:
    """An update of the weights and, by the same backward pass, of the perturbation of the next batch.

    Attributes:
        perturbation: Shape of a batch of inputs, within epsilon of 0, in shares of the range of pixels. Of several processes
            each has its own, and checkpoints hold the first one's.
    """

    def __init__(self, training: Training, attack: FreeReplays) -> None:
        self.training, self.attack = training, attack
        self.perturbation: Tensor | None = None

    def __call__(self, batch: tuple[Tensor, Tensor], step: int) -> Measures:
        x, y = batch
        last = torch.zeros_like(x) if self.perturbation is None else self.perturbation.to(x)
        last.requires_grad_()
        measures = self.training((x, y, last), step)
        assert last.grad is not None
        # Where scaled losses overflow, the optimizer skips its step, and the perturbation must not become NaN for good.
        ascent = torch.nan_to_num(last.grad).sign()
        bound = self.attack.epsilon
        self.perturbation = (last.detach() + self.attack.step_size * ascent).clamp(-bound, bound)
        return measures

    def state_dict(self) -> dict[str, Any]:
        return {"perturbation": self.perturbation}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.perturbation = state["perturbation"]
