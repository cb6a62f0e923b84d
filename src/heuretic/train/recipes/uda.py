"""Unsupervised data augmentation: learn labels, and to predict alike for a row and its augmented form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from heuretic.train.batches import Inputs, together
from heuretic.train.classification import Classification, unlabelled_rows
from heuretic.train.consistency import (
    Annealing,
    annealed_cross_entropy,
    annealing_threshold,
    check_positive,
    check_shares,
    disagreement,
    in_one_pass,
    sharpened,
)
from heuretic.train.loop import Loop, Meter, Reporter
from heuretic.train.optimization import Loss, Optimization
from heuretic.train.seeds import derived_seed
from heuretic.train.training_program import Trained

if TYPE_CHECKING:
    from heuretic.data import DataSet


def uda(
    model: nn.Module, data: DataSet, *, strong: Sequence[Callable[..., Any]], optimization: Optimization = Optimization(),
    loop: Loop = Loop(), batch: int = 64, ratio: float = 5, augment: Sequence[Callable[..., Any]] = (),
    annealing: Annealing | None = None, temperature: float = 0.4, confidence: float = 0.8, weight: float = 1.0,
    inputs: Inputs | None = None, seed: int = 0, trial: Reporter | None = None, meter: Meter | None = None,
) -> Trained:  # fmt: skip
    """Minimise the cross-entropy on `data.train` plus what predictions for rows of `data.unlabelled` differ under augmentation.

    The loss is, with p of the weights as they are and p' of a copy that gets no gradient,

        mean over labelled (x, y) with p(y | x) <= threshold of -ln p(y | x)
        + weight * mean over unlabelled x of [max p'(. | x) > confidence] * KL(p'(. | x) sharpened || p(. | strong(x))).

    The threshold rises from 1 / classes to 1 (`annealing`), so that no label is fitted long before the others. All rows of a
    step go through the model in one pass.

    Args:
        model: Gives logits of shape (batch, classes); changed in place.
        strong: The augmentation whose result is to be predicted like what it is given: `(FlipCrop(), RandAugment())`, or for
            texts `(WordReplacement().fit(data.unlabelled.inputs),)`.
        batch: Labelled rows of a step. ratio: Unlabelled rows for each of them.
        augment: Of labelled rows, and of the unlabelled rows that the others are to agree with.
        annealing: How the threshold rises: "linear", "log", "exp"; None uses all labels from the beginning.
        temperature: Of the softmax that makes targets, > 0; below 1 it sharpens.
        confidence: Probability that a prediction must exceed to be a target, in [0, 1].
        weight: Of the unlabelled part of the loss.
        inputs: Makes what the model is given. Default: images, normalised.
        seed: Of everything random but the weights that `model` has. trial, meter: See `Loop.run`.
    Returns: The model, with "validation_loss" in nats and "validation_accuracy", if there are validation rows.
    Raises: ValueError if there are no unlabelled rows, or a number is out of range.

    Reference: Xie et al. 2020, "Unsupervised Data Augmentation for Consistency Training", arXiv:1904.12848; temperature and
    confidence of its section 3, ratio of its code (`unsup_ratio=5` for one GPU). Departures: labelled rows are not among the
    unlabelled ones too; its code's small weight on the entropy of predictions, which the paper has not, is left out.
    """
    check_positive(temperature=temperature, ratio=ratio)
    check_shares(confidence=confidence)
    rows = unlabelled_rows(data)
    if annealing is not None:
        annealing_threshold(annealing, 0.0, len(data.classes))
    training = optimization.start(model.train(), loop.steps, uda_loss(temperature, confidence, weight))
    task = Classification(data, inputs, training.device)

    def threshold(step: int) -> float:
        return 1.0 if annealing is None else annealing_threshold(annealing, step / loop.steps, len(data.classes))

    batches = together(
        task.batches(data.train, batch, seed, augment),
        task.views(rows, max(1, round(ratio * batch)), derived_seed(seed, "unlabelled"), augment, strong),
        threshold,
    )
    run = loop.run(training, batches, seed=seed, evaluate=task.validation(training), trial=trial, meter=meter)
    return task.trained(training, run)


def uda_loss(temperature: float, confidence: float, weight: float) -> Loss:
    """Return the loss of a batch ((inputs, labels), (unlabelled inputs, their augmented form), threshold); see `uda`."""

    def loss(model: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor | float]]:
        (x, y), (plain, changed), threshold = batch
        labelled, seen, predicted = in_one_pass(model, x, plain, changed)
        supervised, learned = annealed_cross_entropy(labelled, y, threshold)
        confident = (seen.detach().softmax(1).amax(1) > confidence).float()
        agreement = disagreement(sharpened(seen, temperature), predicted, confident)
        return supervised + weight * agreement, {
            "supervised": supervised.detach(), "disagreement": agreement.detach(), "confident": confident.mean(),
            "learned": learned,
        }  # fmt: skip

    return loss
