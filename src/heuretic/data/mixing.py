"""Mixtures of two images each, whose labels are mixed in the same shares.

Written here: kornia's `RandomMixUpV2` and `RandomCutMixV2` draw from torch's global generator, return pairs of labels with
weights in place of mixed labels, and take 3 and 20 times as long on a CPU.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor

from heuretic.symbolic import Symbolic, field


class MixUp(Symbolic):
    """Return weighted means of images and of their labels, each with those of another image of the batch.

    Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", arXiv:1710.09412. As in the authors' code one weight is drawn
    for a batch, from Beta(alpha, alpha), and the partners are a permutation of it.

    Calls take images of any number type, shape (images, ...), and labels as shares, float, shape (images, classes); they return
    images as floats, in the same range of values, and labels.
    """

    alpha: float = field(default=0.2, gt=0, doc="of the Beta distribution: the larger, the more even the weights")

    def __call__(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        weight, partners = _draw(self.alpha, images, labels, generator)
        images = images if images.is_floating_point() else images.float()
        return torch.lerp(images[partners], images, weight), torch.lerp(labels[partners], labels, weight)


class CutMix(Symbolic):
    """Paste into each image the same rectangle of another image of the batch, and mix their labels by the areas.

    Yun et al. 2019, "CutMix", arXiv:1905.04899. As in the authors' code one rectangle is drawn for a batch: its share of the area
    from Beta(alpha, alpha), its centre anywhere. What lies outside of the image is cut off, and counts for no label.

    Calls take images of any number type, shape (images, channels, height, width), and labels as shares, float, shape (images,
    classes); they return both in the same types.
    """

    alpha: float = field(default=1.0, gt=0, doc="of the Beta distribution; 1: all shares are equally likely")

    def __call__(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        weight, partners = _draw(self.alpha, images, labels, generator)
        height, width = images.shape[-2:]
        top, bottom = _span(height, (1 - weight) ** 0.5, generator)
        left, right = _span(width, (1 - weight) ** 0.5, generator)
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = images[partners, ..., top:bottom, left:right]
        kept = 1 - (bottom - top) * (right - left) / (height * width)
        return mixed, torch.lerp(labels[partners], labels, kept)


def _draw(alpha: float, images: Tensor, labels: Tensor, generator: Generator) -> tuple[float, Tensor]:
    """Return the weight of the images, and the partner of each, on their device."""
    if len(labels) != len(images) or labels.dim() != 2 or not labels.is_floating_point():
        raise ValueError(
            f"labels must be floats of shape ({len(images)}, classes), got {labels.dtype} of shape {tuple(labels.shape)}. "
            "Try torch.nn.functional.one_hot(labels, classes).float()"
        )
    seed = int(torch.randint(2**62, (), generator=generator))  # torch's Beta distribution takes no generator
    partners = torch.randperm(len(images), generator=generator)
    return float(np.random.default_rng(seed).beta(alpha, alpha)), partners.to(images.device)


def _span(size: int, share: float, generator: Generator) -> tuple[int, int]:
    """Return where a part of a side begins and ends."""
    centre, half = int(torch.randint(size, (), generator=generator)), int(size * share) // 2
    return max(0, centre - half), min(size, centre + half)
