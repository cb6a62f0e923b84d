"""What recipes for classifiers share: batches of a data set as a model is given them, and measuring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heuretic.nn.costs import evaluating
from heuretic.train.batches import Batches, Images, Inputs, Mixing, Views
from heuretic.train.loop import Run
from heuretic.train.optimization import Loss, Training
from heuretic.train.training_program import Trained

if TYPE_CHECKING:
    from heuretic.data import DataSet, Split


class Classification:
    """A data set with classes, its inputs made ready for models on one device.

    Args:
        inputs: Makes what models are given. Default: images, normalised by those to train on.
    """

    def __init__(self, data: DataSet, inputs: Inputs | None, device: torch.device) -> None:
        self.data, self.device = data, device
        self.inputs: Inputs = Images.of(data.train) if inputs is None else inputs

    def batches(
        self, split: Split, size: int, seed: int, augment: Sequence[Callable[..., Any]] = (), mix: Mixing | None = None
    ) -> Batches:
        """Return batches of a part of the data, in shuffled order."""
        return Batches(
            split, size, self.inputs, self.device, seed=seed, augment=augment, mix=mix, classes=len(self.data.classes)
        )

    def views(self, split: Split, size: int, seed: int, *forms: Sequence[Callable[..., Any]]) -> Views:
        """Return batches of several augmented forms of the same rows of a part of the data, in shuffled order."""
        return Views(split, size, self.inputs, self.device, seed=seed, forms=forms)

    def in_order(self, split: Split, size: int = 500) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all rows with their labels, in the order of the set, not augmented."""
        for first in range(0, len(split), size):
            rows = split[slice(first, first + size)]
            yield self.inputs(rows.inputs, (), None, self.device), torch.tensor(rows.labels, device=self.device)

    def measure(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Return the mean cross-entropy in nats ("loss") and the share of right answers ("accuracy") on a part of the data."""
        return measured(model, self.in_order(split))

    def validation(self, training: Training) -> Callable[[], Mapping[str, float]] | None:
        """Return what measures the model (its moving average, if there is one) on the validation rows, None without such."""
        split = self.data.validation
        return None if split is None else lambda: self.measure(training.averaged, split)

    def trained(self, training: Training, *runs: Run) -> Trained:
        """Return the outcome, with the last measures as "validation_..."."""
        metrics = runs[-1].evaluations[-1][1] if runs and runs[-1].evaluations else {}
        return Trained(training.averaged.eval(), {f"validation_{name}": value for name, value in metrics.items()}, runs)


def unlabelled_rows(data: DataSet) -> Split:
    """Return the rows without labels.

    Raises: ValueError if there are none.
    """
    if data.unlabelled is None or not len(data.unlabelled):
        raise ValueError(
            f"data must have unlabelled rows to learn from, got none in {data.name}. Try data.with_labels(250), which "
            f"holds back the labels of all rows but 250"
        )
    return data.unlabelled


def measured(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Return the mean cross-entropy in nats ("loss") and the share of right answers ("accuracy") on batches with labels.

    Raises: ValueError if there is not one row.
    """
    losses, hits, rows = [], [], 0
    with evaluating(model), torch.no_grad():
        for x, y in batches:
            logits = model(x).float()
            losses.append(F.cross_entropy(logits, y, reduction="sum").double())
            hits.append((logits.argmax(1) == y).sum())
            rows += len(y)
    if not rows:
        raise ValueError("a set to measure on must have at least one row, got none")
    return {"loss": float(torch.stack(losses).sum()) / rows, "accuracy": float(torch.stack(hits).sum()) / rows}


def predictions(model: nn.Module, batches: Iterable[tuple[Tensor, Any]]) -> Tensor:
    """Return the class probabilities of inputs, shape (rows, classes), on the CPU."""
    with evaluating(model), torch.no_grad():
        return torch.cat([model(x).float().softmax(1).cpu() for x, _ in batches])


def cross_entropy(label_smoothing: float = 0.0) -> Loss:
    """Return the loss of pairs of inputs and labels, or shares of classes.

    Raises: ValueError if the smoothing is not in [0, 1).
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}. Try 0.1")
    return lambda model, batch: F.cross_entropy(model(batch[0]).float(), batch[1], label_smoothing=label_smoothing)
