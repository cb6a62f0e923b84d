"""Random changes of images that keep what they show: RandAugment, and flips and crops.

Each is a value that maps uint8 images, shape (images, channels, height, width), and a generator on the CPU to new images; every
random decision is drawn from the generator. Several in turn are a tuple.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from heuretic.data.operations import MORE_OPERATIONS, OPERATIONS, argument, operate, operate_pil
from heuretic.symbolic import Symbolic, field

if TYPE_CHECKING:
    from PIL.Image import Image

#: Bytes of an image from which a CPU is faster if it works on one image at a time.
_LARGE = 2**15
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
        for ((operation, value),) in self._draw(1, generator):
            image = operate_pil(operation, image, value)
        return image

    def _draw(self, images: int, generator: Generator) -> list[list[Change]]:
        which = torch.randint(len(self.operations), (self.ops, images), generator=generator).tolist()
        signs = torch.randint(2, (self.ops, images), generator=generator).tolist()
        return [
            [self._change(self.operations[k], 1 - 2 * sign) for k, sign in zip(layer, negative, strict=True)]
            for layer, negative in zip(which, signs, strict=True)
        ]

    def _change(self, operation: str, sign: int) -> Change:
        return operation, argument(operation, self.magnitude, sign, self.translation)


class FlipCrop(Symbolic):
    """Mirror half of the images left to right, and cut each out of its place, shifted by up to `pad` pixels each way.

    Pixels from outside of the image are 0, as He et al. 2016, arXiv:1512.03385, pad CIFAR-10 images.
    """

    pad: int = field(default=4, ge=0, doc="pixels by which an image moves at most")
    flip: bool = field(default=True, doc="whether half of the images are mirrored")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        images = checked(images)
        n, _, height, width = images.shape
        mirrored = torch.randint(2, (n,), generator=generator).tolist()
        shifts = torch.randint(2 * self.pad + 1, (2, n), generator=generator).tolist()
        padded = torch.nn.functional.pad(images, (self.pad,) * 4)
        cut = torch.empty_like(images)
        source, target = (_array(part) for part in (padded, cut))
        for i, (flip, top, left) in enumerate(zip(mirrored, *shifts, strict=True)):
            part = source[i, :, top : top + height, left : left + width]
            if self.flip and flip:
                part = part.flip(-1) if isinstance(part, Tensor) else part[..., ::-1]
            target[i] = part
        return cut


def known(operations: Sequence[str]) -> None:
    """Raise ValueError unless these are names of operations."""
    for name in operations:
        if name not in OPERATIONS + MORE_OPERATIONS:
            raise ValueError(f"operations must be among {', '.join(OPERATIONS + MORE_OPERATIONS)}, got {name!r}")
    if not operations:
        raise ValueError("operations must be at least one, got none")


def checked(images: Tensor) -> Tensor:
    """Return the images, contiguous. Raises: ValueError unless they are uint8 with 1 or 3 channels."""
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            "images must be uint8 of shape (images, channels, height, width) with 1 or 3 channels, "
            f"got {images.dtype} of shape {tuple(images.shape)}. Try images.permute(0, 3, 1, 2) if channels are last"
        )
    return images.contiguous()


def change(images: Tensor, layers: Sequence[Sequence[Change]]) -> Tensor:
    """Return the images after the changes of each layer in turn, of which it has one for each image."""
    images = checked(images)
    if images.device.type == "cpu" and images[:1].numel() > _LARGE:  # one by one, so that an image stays in the cache
        changed = torch.empty_like(images)
        for i in sorted(range(len(images)), key=lambda i: [layer[i] for layer in layers]):
            image = images[i : i + 1]
            for layer in layers:
                image = operate(layer[i][0], image, layer[i][1])
            changed[i] = image[0]
        return changed
    changed = images.clone()
    for layer in layers:
        groups: dict[Change, list[int]] = {}
        for i, decision in enumerate(layer):
            groups.setdefault(decision, []).append(i)
        for (operation, value), members in groups.items():
            if operation != "identity":
                rows = torch.tensor(members, device=images.device)
                changed.index_copy_(0, rows, operate(operation, changed.index_select(0, rows), value))
    return changed


def _array(images: Tensor) -> Any:
    """Return images on a CPU as an array: indexing it takes a fifth of the time."""
    return images.numpy() if images.device.type == "cpu" else images
