"""Batches as functions of the step: in shuffled order, augmented, on the model's device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from numpy.typing import NDArray
from torch import Tensor

from heuretic.train.seeds import derived_seed, generator

if TYPE_CHECKING:
    from heuretic.data import Split
    from heuretic.data.vocabulary import Vocabulary

#: Changes uint8 images of shape (batch, channels, height, width) by what it draws from the generator.
Augmentation = Callable[[Tensor, torch.Generator], Tensor]
#: Changes images and class shares of shape (batch, classes), as MixUp does.
Mixing = Callable[[Tensor, Tensor, torch.Generator], "tuple[Tensor, Tensor]"]


class Order:
    """Rows of a set in an order that is new in each epoch; batches follow each other without a gap between epochs.

    Where several processes train one model, each gets its share of every batch.

    Args:
        rows: Rows of the set. size: Rows of a batch, may be more than there are.
    """

    def __init__(self, rows: int, size: int, seed: int) -> None:
        if rows < 1 or size < 1:
            raise ValueError(f"a batch and the set it is from must have at least one row, got {size} of {rows}")
        self.rows, self.size, self.seed = rows, size, seed
        self._known: dict[int, NDArray[np.intp]] = {}

    def __call__(self, step: int) -> NDArray[np.intp]:
        """Return the rows of the batch of a step, from 0."""
        state = PartialState()
        size, begin = self.size, step * self.size
        first = begin + size * state.process_index // state.num_processes
        last = begin + size * (state.process_index + 1) // state.num_processes
        found = []
        while first < last:
            epoch, start = divmod(first, self.rows)
            end = min(self.rows, start + last - first)
            found.append(self._epoch(epoch)[start:end])
            first += end - start
        return np.concatenate(found)

    def _epoch(self, epoch: int) -> NDArray[np.intp]:
        if epoch not in self._known:
            for old in [known for known in self._known if known < epoch - 1]:
                del self._known[old]
            self._known[epoch] = np.random.default_rng(derived_seed(self.seed, "epoch", epoch)).permutation(self.rows)
        return self._known[epoch]


class Inputs(Protocol):
    """Makes what a model is given of the inputs of some rows: `Images`, `Texts`, or a function of yours."""

    def __call__(
        self, raw: Any, augment: Sequence[Callable[..., Any]], draw: torch.Generator | None, device: torch.device
    ) -> Tensor: ...


class Images:
    """Images as a model is given them: augmented, normalised by mean and deviation, and resized.

    Args:
        mean, std: Of each channel, of pixels in [0, 1]. size: Resize to (size, size); None leaves images as they are.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], size: int | None = None) -> None:
        self.mean, self.std, self.size = tuple(mean), tuple(std), size
        # (x / 255 - mean) / std as one product and one sum.
        self.scale = (1 / (255 * torch.tensor(self.std))).view(-1, 1, 1)
        self.shift = (-torch.tensor(self.mean) / torch.tensor(self.std)).view(-1, 1, 1)

    @property
    def low(self) -> Tensor:
        """What a pixel of 0 becomes, shape (channels, 1, 1)."""
        return self.shift

    @property
    def high(self) -> Tensor:
        """What a pixel of 255 becomes, shape (channels, 1, 1)."""
        return 255 * self.scale + self.shift

    @classmethod
    def of(cls, split: Split, size: int | None = None, at_most: int = 10_000) -> Images:
        """Return what normalises by the first images of a training set, at most so many."""
        pixels = np.asarray(split.inputs[:at_most])
        if pixels.ndim != 4 or pixels.dtype != np.uint8:
            raise TypeError(
                f"inputs must be uint8 images of shape (n, height, width, channels), got {pixels.dtype} of shape "
                f"{pixels.shape}. Try inputs=Texts(vocabulary), or a function of yours"
            )
        mean, std = pixels.mean((0, 1, 2)) / 255, np.maximum(pixels.std((0, 1, 2)) / 255, 1e-6)
        return cls(mean.tolist(), std.tolist(), size)

    def sized(self, size: int | None) -> Images:
        """Return the same with another size."""
        return Images(self.mean, self.std, size)

    def __call__(
        self, raw: Any, augment: Sequence[Callable[..., Any]] = (), draw: torch.Generator | None = None,
        device: torch.device | str = "cpu",
    ) -> Tensor:  # fmt: skip
        """Return images of shape (n, height, width, channels) as floats of shape (n, channels, height, width), channels last.

        Augmentations see uint8 of the latter shape on the device.
        """
        array = np.require(raw, requirements=["C", "W"])  # torch warns of memory that must not be written
        pixels = torch.from_numpy(array).to(device, non_blocking=True).permute(0, 3, 1, 2)
        for each in augment:
            pixels = each(pixels, draw)
        x = torch.addcmul(self.shift.to(device), pixels.float(), self.scale.to(device))
        if self.size is not None and tuple(x.shape[-2:]) != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=self.size < min(x.shape[-2:]))
        return x


class Texts:
    """Texts as a model is given them: augmented, and as numbers of their words, shape (n, words).

    Args:
        vocabulary: Gives the numbers. length: Words that are taken of a text; None for as many as the longest of a batch has.
    """

    def __init__(self, vocabulary: Vocabulary, length: int | None = None) -> None:
        self.vocabulary, self.length = vocabulary, length

    def __call__(
        self, raw: Any, augment: Sequence[Callable[..., Any]] = (), draw: torch.Generator | None = None,
        device: torch.device | str = "cpu",
    ) -> Tensor:  # fmt: skip
        """Return the numbers of the words of texts, behind the end of a text those of padding. Augmentations see lists of str."""
        texts = list(raw)
        for each in augment:
            texts = each(texts, draw)
        return torch.from_numpy(self.vocabulary.encode(texts, self.length)).to(device, non_blocking=True)


class Batches:
    """Batches of inputs and labels on a device: `batches(step)`.

    Args:
        split: What to take them from. size: Rows of a batch. inputs: Makes what the model is given.
        augment: Applied one after the other. seed: Of the order and of what augmentations draw.
        mix: Applied to inputs and labels as shares of `classes`, of shape (batch, classes), which the batch then has as labels.
    """

    def __init__(
        self, split: Split, size: int, inputs: Inputs, device: torch.device, *, seed: int,
        augment: Sequence[Callable[..., Any]] = (), mix: Mixing | None = None, classes: int = 0,
    ) -> None:  # fmt: skip
        self.split, self.inputs, self.device, self.augment = split, inputs, device, tuple(augment)
        self.mix, self.classes, self.seed, self.order = mix, classes, seed, Order(len(split), size, seed)

    def rows(self, step: int) -> Split:
        """Return the rows of the batch of a step, as they are in the set."""
        return self.split[self.order(step)]

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        rows = self.rows(step)
        draw = generator(self.seed, "augment", step, PartialState().process_index)
        x = self.inputs(rows.inputs, self.augment, draw, self.device)
        y = torch.tensor(rows.labels, device=self.device)
        return (x, y) if self.mix is None else self.mix(x, F.one_hot(y, self.classes).float(), draw)


class Views:
    """Several forms of the same rows, without labels: `views(step)` has one batch of inputs for each form.

    Args:
        split: What to take them from. size: Rows of a batch. inputs: Makes what the model is given.
        forms: Augmentations of each form, such as `((flip,), (flip, RandAugment()))`. seed: Of the order and of what they draw.
    """

    def __init__(
        self, split: Split, size: int, inputs: Inputs, device: torch.device, *, seed: int,
        forms: Sequence[Sequence[Callable[..., Any]]],
    ) -> None:  # fmt: skip
        self.split, self.inputs, self.device, self.seed = split, inputs, device, seed
        self.forms, self.order = tuple(map(tuple, forms)), Order(len(split), size, seed)

    def __call__(self, step: int) -> tuple[Tensor, ...]:
        raw, process = self.split[self.order(step)].inputs, PartialState().process_index
        return tuple(
            self.inputs(raw, form, generator(self.seed, "augment", step, process, number), self.device)
            for number, form in enumerate(self.forms)
        )


def together(*sources: Callable[[int], Any]) -> Callable[[int], tuple[Any, ...]]:
    """Return a function of the step that gives a batch of each source, such as labelled and unlabelled ones."""
    return lambda step: tuple(source(step) for source in sources)
