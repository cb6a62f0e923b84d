"""Random changes of images that keep what they show: RandAugment, AutoAugment and other policies, flips and crops, cutout.

Each is a value that maps uint8 images, shape (images, channels, height, width), and a generator on the CPU to new images; every
random decision is drawn from the generator. Several in turn are a tuple.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from heuretic.data import operations
from heuretic.data.operations import MORE_OPERATIONS, OPERATIONS, argument, checked, operate, operate_pil
from heuretic.data.published_policies import CIFAR10, IMAGENET, SVHN
from heuretic.symbolic import Symbolic, field

if TYPE_CHECKING:
    from PIL.Image import Image

#: Bytes of an image from which a CPU is faster if it works on one image at a time: all that is in between stays in its cache.
_LARGE = 2**14
#: A decision: an operation and its argument.
Change = tuple[str, float]


class RandAugment(Symbolic):
    """Apply to each image some operations, each drawn from all with equal chances, at one common level.

    Cubuk et al. 2020, "RandAugment: Practical automated data augmentation with a reduced search space", arXiv:1909.13719; see
    `heuretic.data.operations` for what a magnitude does. The operations are the paper's 14. The authors' code has 16: no
    identity, but invert, solarize-add and cutout.

    Raises: ValueError for an unknown operation.
    """

    ops: int = field(default=2, ge=0, doc="operations applied to an image in turn; the same may come again")
    magnitude: float = field(default=9.0, ge=0, le=30, doc="level of all operations; 10 is the usual maximum")
    operations: tuple[str, ...] = field(default=OPERATIONS, doc="names of the operations to draw from")
    translation: float = field(default=0.3, gt=0, le=1, doc="share of the side that level 10 moves an image by")

    def __post_init__(self) -> None:
        known(self.operations)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        return change(images, self._draw(len(images), generator))

    def pil(self, image: Image, generator: Generator) -> Image:
        """Return a Pillow image in mode L or RGB changed as a batch of one with this generator would be."""
        return change_pil(image, self._draw(1, generator))

    def _draw(self, images: int, generator: Generator) -> list[list[Change]]:
        which = torch.randint(len(self.operations), (self.ops, images), generator=generator).tolist()
        signs = torch.randint(2, (self.ops, images), generator=generator).tolist()
        return [
            [self._change(self.operations[k], 1 - 2 * sign) for k, sign in zip(layer, negative, strict=True)]
            for layer, negative in zip(which, signs, strict=True)
        ]

    def _change(self, operation: str, sign: int) -> Change:
        return operation, argument(operation, self.magnitude, sign, self.translation)


class Step(Symbolic):
    """An operation of a policy, applied with a probability, at a level."""

    operation: str = field(doc="its name")
    probability: float = field(default=1.0, ge=0, le=1, doc="share of the images it is applied to")
    level: float = field(
        default=0.0, ge=0, le=30, doc="see `heuretic.data.operations.argument`; 10 is the usual maximum"
    )

    def __post_init__(self) -> None:
        known((self.operation,))


class Policy(Symbolic):
    """Apply to each image the steps of one of several sub-policies in turn, each drawn with equal chances.

    Any part can be left open, to be searched for as in AutoAugment:

        step = Step(hr.one_of(*OPERATIONS), hr.one_of(0.2, 0.4, 0.6, 0.8), hr.one_of(*range(10)))
    """

    sub_policies: tuple[tuple[Step, ...], ...] = field(doc="the steps of each")
    translation: float = field(default=0.3, gt=0, le=1, doc="share of the side that level 10 moves an image by")

    def __post_init__(self) -> None:
        if not self.sub_policies:
            raise ValueError("sub_policies must be at least one, got none")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        return change(images, self._draw(len(images), generator))

    def pil(self, image: Image, generator: Generator) -> Image:
        """Return a Pillow image in mode L or RGB changed as a batch of one with this generator would be."""
        return change_pil(image, self._draw(1, generator))

    def _draw(self, images: int, generator: Generator) -> list[list[Change]]:
        longest = max(len(steps) for steps in self.sub_policies)
        which = torch.randint(len(self.sub_policies), (images,), generator=generator).tolist()
        chances = torch.rand(longest, images, generator=generator).tolist()
        signs = torch.randint(2, (longest, images), generator=generator).tolist()
        return [
            [self._change(which[i], k, chances[k][i], 1 - 2 * signs[k][i]) for i in range(images)]
            for k in range(longest)
        ]

    def _change(self, chosen: int, position: int, chance: float, sign: int) -> Change:
        steps = self.sub_policies[chosen]
        if position >= len(steps) or chance >= steps[position].probability:
            return "identity", 0
        step = steps[position]
        return step.operation, argument(step.operation, step.level, sign, self.translation)


class AutoAugment(Symbolic):
    """The policy that Cubuk et al. 2019, arXiv:1805.09501, found for a data set: 25 sub-policies of two steps each.

    In the paper CIFAR-10's images are flipped and cropped before, and get a `Cutout` after. Levels mean what the paper's table of
    operations says: 10 stands for 0.3 of shear, 30 degrees, a threshold of 256, 8 bits. Images move by at most 150 of 331 pixels
    (ImageNet), or, as in the authors' code, 10 of 32.

    Raises: ValueError for an unknown policy.
    """

    policy: str = field(default="cifar10", doc="cifar10, svhn or imagenet")

    def __post_init__(self) -> None:
        if self.policy not in _PUBLISHED:
            raise ValueError(f"policy must be one of {', '.join(_PUBLISHED)}, got {self.policy!r}")

    def as_policy(self) -> Policy:
        """Return it with all its steps."""
        pairs, translation = _PUBLISHED[self.policy]
        return Policy(tuple(tuple(Step(*step) for step in pair) for pair in pairs), translation)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        return _policy(self)(images, generator)

    def pil(self, image: Image, generator: Generator) -> Image:
        """Return a Pillow image in mode L or RGB changed as a batch of one with this generator would be."""
        return _policy(self).pil(image, generator)


_PUBLISHED = {"cifar10": (CIFAR10, 10 / 32), "svhn": (SVHN, 10 / 32), "imagenet": (IMAGENET, 150 / 331)}


@lru_cache(maxsize=len(_PUBLISHED))
def _policy(published: AutoAugment) -> Policy:
    return published.as_policy()


class Cutout(Symbolic):
    """Blank a square of each image. Its centre is anywhere in the image, so parts of it may lie outside.

    DeVries & Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout", arXiv:1708.04552. There the
    square gets the mean of the data, as images are normalised before; here `fill`.
    """

    size: int = field(default=16, ge=1, doc="side of the square in pixels")
    fill: int = field(default=0, ge=0, le=255, doc="value of its pixels")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        blanked = checked(images).clone()
        n, _, height, width = images.shape
        tops = (torch.randint(height, (n,), generator=generator) - self.size // 2).tolist()
        lefts = (torch.randint(width, (n,), generator=generator) - self.size // 2).tolist()
        target: Any = (
            blanked.numpy() if operations.on_cpu(images) else blanked
        )  # indexing arrays takes a fifth of the time
        for i, (top, left) in enumerate(zip(tops, lefts, strict=True)):
            target[i, :, max(0, top) : top + self.size, max(0, left) : left + self.size] = self.fill
        return blanked


class FlipCrop(Symbolic):
    """Mirror half of the images left to right, and cut each out of its place, shifted by up to `pad` pixels each way.

    Pixels from outside of the image are 0, as He et al. 2016, arXiv:1512.03385, pad CIFAR-10 images.
    """

    pad: int = field(default=4, ge=0, doc="pixels by which an image moves at most")
    flip: bool = field(default=True, doc="whether half of the images are mirrored")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        images = checked(images)
        n, _, height, width = images.shape
        mirrored = torch.randint(2, (n,), generator=generator) * int(self.flip)
        shifts = torch.randint(2 * self.pad + 1, (2, n), generator=generator)
        padded = torch.nn.functional.pad(images, (self.pad,) * 4)
        if not operations.on_cpu(images):
            rows = (shifts[0, :, None] + torch.arange(height))[:, None, :, None]
            along = torch.arange(width).expand(n, width)
            columns = shifts[1, :, None] + torch.where(mirrored[:, None] > 0, along.flip(1), along)
            each, channels = torch.arange(n)[:, None, None, None], torch.arange(images.shape[1])[:, None, None]
            places = (each, channels, rows, columns[:, None, None])
            return padded[tuple(part.to(images.device) for part in places)]
        cut = torch.empty_like(images)
        source, target = padded.numpy(), cut.numpy()
        for i, (flip, top, left) in enumerate(zip(mirrored.tolist(), *shifts.tolist(), strict=True)):
            part = source[i, :, top : top + height, left : left + width]
            target[i] = part[..., ::-1] if flip else part
        return cut


def known(operations: Sequence[str]) -> None:
    """Raise ValueError unless these are names of operations."""
    for name in operations:
        if name not in OPERATIONS + MORE_OPERATIONS:
            raise ValueError(f"operations must be among {', '.join(OPERATIONS + MORE_OPERATIONS)}, got {name!r}")
    if not operations:
        raise ValueError("operations must be at least one, got none")


def change(images: Tensor, layers: Sequence[Sequence[Change]]) -> Tensor:
    """Return the images after the changes of each layer in turn, of which it has one for each image."""
    source = checked(images)
    if not layers:
        return source.clone()
    changed = torch.empty_like(source)
    together = not operations.on_cpu(source) or source[:1].numel() < _LARGE
    for layer in layers:
        groups: dict[Change, list[int]] = {}
        for i, decision in enumerate(layer):
            groups.setdefault(decision, []).append(i)
        for (operation, value), members in groups.items():
            if operation == "identity" and source is changed:
                continue
            if together:
                rows = torch.tensor(members, device=source.device)
                changed.index_copy_(0, rows, operate(operation, source.index_select(0, rows), value))
            else:
                for i in members:
                    changed[i] = operate(operation, source[i : i + 1], value)[0]
        source = changed
    return changed


def change_pil(image: Image, layers: Sequence[Sequence[Change]]) -> Image:
    """Return a Pillow image after the changes of each layer in turn, of which it has one."""
    for ((operation, value),) in layers:
        image = operate_pil(operation, image, value)
    return image
