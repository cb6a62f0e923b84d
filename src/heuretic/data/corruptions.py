"""Corrupted images, to measure how much a network's accuracy suffers from them.

Hendrycks & Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", arXiv:1903.12261:
14 of their 15 kinds, with their constants, written with numpy, scipy and Pillow (the package `imagecorruptions` 1.1.2 imports
with none of today's numpy, scipy and setuptools). Frost is left out: it pastes photographs.

Departures: motion blur, of which they let ImageMagick do the work, is written after its code, and elastic transforms
interpolate exactly where OpenCV does so in steps of 1/32 pixel. Random numbers are others, so images are alike in distribution, not
equal to the published sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[Any]
#: Whose constants: CIFAR-10-C's (images of 32 x 32) or ImageNet-C's (224 x 224).
Constants = Literal["cifar", "imagenet"]


def corrupted(
    images: NDArray[np.uint8], corruption: str, severity: int = 3, seed: int = 0, constants: Constants | None = None
) -> NDArray[np.uint8]:
    """Return corrupted images.

    What is random about the k-th image depends on the seed and k alone.

    Args:
        images: Shape (images, height, width, channels), with 1 or 3 channels. corruption: One of `CORRUPTIONS`.
        severity: 1 to 5. constants: By default CIFAR-10-C's for sides up to 64, and ImageNet-C's for longer ones.

    Raises: ValueError for an unknown corruption, severity, or images of another shape or type.
    """
    if corruption not in _CONSTANTS:
        raise ValueError(f"corruption must be one of {', '.join(CORRUPTIONS)}, got {corruption!r}")
    if severity not in range(1, 6):
        raise ValueError(f"severity must be 1 to 5, got {severity!r}")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(
            f"images must be uint8 of shape (images, height, width, 1 or 3), got {images.dtype} of shape {images.shape}"
        )
    function, cifar, imagenet = _CONSTANTS[corruption]
    small = max(images.shape[1:3]) <= 64 if constants is None else constants == "cifar"
    constant = (cifar if small else imagenet)[severity - 1]
    result = np.empty_like(images)
    for k, image in enumerate(images):
        changed = function(image / 255, constant, np.random.default_rng([seed, k]))
        result[k] = (changed.clip(0, 1) * 255).astype(np.uint8)  # cut off, as the authors do
    return result


def mean_corruption_error(
    errors: Mapping[str, Sequence[float]], baseline: Mapping[str, Sequence[float]] | None = None
) -> float:
    """Return the mean over corruptions of the error over all severities, divided by the baseline's.

    Args:
        errors: By corruption, error rates at each severity. baseline: Those of the network that defines 1: in the paper AlexNet,
            for ImageNet. By default errors are not divided.

    Raises: ValueError if the two are not of the same corruptions.
    """
    if not errors or (baseline is not None and set(baseline) != set(errors)):
        raise ValueError(
            f"errors must be of the baseline's corruptions, got {sorted(errors)} and {sorted(baseline or ())}"
        )
    means = {name: float(np.mean(rates)) for name, rates in errors.items()}
    if baseline is not None:
        means = {name: mean / float(np.mean(baseline[name])) for name, mean in means.items()}
    return sum(means.values()) / len(means)


# -- noise ------------------------------------------------------------------------------------------------------------
# All functions take and return one image, values 0 to 1, shape (height, width, channels).


def _gaussian_noise(image: Array, deviation: float, rng: Generator) -> Array:
    return image + rng.normal(scale=deviation, size=image.shape)


def _shot_noise(image: Array, photons: float, rng: Generator) -> Array:
    return rng.poisson(image * photons) / photons


def _impulse_noise(image: Array, share: float, rng: Generator) -> Array:
    hit, white = rng.random(image.shape) < share, rng.random(image.shape) < 0.5
    return np.where(hit, white, image)


# -- blur -------------------------------------------------------------------------------------------------------------


def _gaussian(image: Array, deviation: float) -> Array:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(image, (deviation, deviation, 0), mode="nearest")


def _defocus_blur(image: Array, constant: tuple[float, float], rng: Generator) -> Array:
    """Blur with a disk."""
    from scipy.ndimage import correlate, correlate1d

    radius, smoothing = constant
    reach, taps = (8, 1) if radius <= 8 else (int(radius), 2)
    places = np.arange(-reach, reach + 1)
    disk = (places[:, None] ** 2 + places**2 <= radius**2).astype(float)
    disk /= disk.sum()
    weights = np.exp(-(np.arange(-taps, taps + 1) ** 2) / (2 * smoothing**2))
    for axis in (0, 1):
        disk = correlate1d(disk, weights / weights.sum(), axis=axis, mode="mirror")
    rim = reach - min(reach, int(radius) + taps)  # only zeros are further out
    disk = disk[rim : len(disk) - rim, rim : len(disk) - rim]
    return correlate(image, disk[..., None], mode="mirror")


def _glass_blur(image: Array, constant: tuple[float, int, int], rng: Generator) -> Array:
    """Blur, move pixels about, and blur again. As in the authors' code, what is meant to swap pixels copies one to the other."""
    deviation, reach, rounds = constant
    blurred = (_gaussian(image, deviation) * 255).astype(np.uint8) / 255
    height, width = image.shape[:2]
    origin = np.arange(height * width).tolist()
    rows, columns = range(height - reach, reach, -1), range(width - reach, reach, -1)
    for _ in range(rounds):
        moves = rng.integers(-reach, reach, (len(rows), len(columns), 2)).tolist()
        for y, line in zip(rows, moves, strict=True):
            for x, (dx, dy) in zip(columns, line, strict=True):
                origin[y * width + x] = origin[(y + dy) * width + x + dx]
    return _gaussian(blurred.reshape(height * width, -1)[origin].reshape(image.shape), deviation)


def _streaks(image: Array, radius: int, deviation: float, degrees: float) -> Array:
    """Blur in one direction, as ImageMagick's MotionBlurImage."""
    width = 2 * radius + 1
    weights = np.exp(-(np.arange(width) ** 2) / (2 * deviation**2))
    weights /= weights.sum()
    angle = math.radians(degrees)
    rows, columns = np.arange(image.shape[0]), np.arange(image.shape[1])
    blurred = np.zeros_like(image)
    for i, weight in enumerate(weights):
        y = (rows + math.ceil(i * math.sin(angle) - 0.5)).clip(0, len(rows) - 1)
        x = (columns + math.ceil(i * math.cos(angle) - 0.5)).clip(0, len(columns) - 1)
        blurred += weight * image[y[:, None], x]
    return blurred


def _motion_blur(image: Array, constant: tuple[int, float], rng: Generator) -> Array:
    return _streaks(image, *constant, rng.uniform(-45, 45))


def _zoomed(image: Array, factor: float) -> Array:
    """Return the middle of an image, enlarged to its size."""
    from scipy.ndimage import zoom

    sizes = image.shape[:2]
    parts = [math.ceil(size / factor) for size in sizes]
    cut = [slice((size - part) // 2, (size - part) // 2 + part) for size, part in zip(sizes, parts, strict=True)]
    large: Any = zoom(image[cut[0], cut[1]], (factor, factor, 1), order=1)
    trims = [(got - size) // 2 for got, size in zip(large.shape, sizes, strict=False)]
    return large[trims[0] : trims[0] + sizes[0], trims[1] : trims[1] + sizes[1]]


def _zoom_blur(image: Array, constant: tuple[float, float], rng: Generator) -> Array:
    factors = np.arange(1, *constant)
    total = image.copy()
    for factor in factors:
        total += _zoomed(image, factor)
    total /= len(factors) + 1
    return total


# -- weather ----------------------------------------------------------------------------------------------------------


def _snow(image: Array, constant: tuple[float, float, float, float, int, float, float], rng: Generator) -> Array:
    mean, deviation, zoom, threshold, radius, length, kept = constant
    flakes = _zoomed(rng.normal(mean, deviation, (*image.shape[:2], 1)), zoom)
    flakes = (np.where(flakes < threshold, 0, flakes).clip(0, 1) * 255).astype(np.uint8)
    flakes = _streaks(flakes / 255, radius, length, rng.uniform(-135, -45))
    grey = image @ [0.299, 0.587, 0.114] if image.shape[2] == 3 else image[..., 0]
    whitened = kept * image + (1 - kept) * np.maximum(image, grey[..., None] * 1.5 + 0.5)
    return whitened + flakes + np.rot90(flakes, 2)


def _fog(image: Array, constant: tuple[float, float], rng: Generator) -> Array:
    amount, roughness = constant
    height, width = image.shape[:2]
    most = image.max()
    clouds = _plasma(2 ** (max(height, width) - 1).bit_length(), roughness, rng)[:height, :width, None]
    return (image + amount * clouds) * most / (most + amount)


def _plasma(size: int, roughness: float, rng: Generator) -> Array:
    """Return clouds by the diamond-square algorithm, values 0 to 1, shape (size, size). The size is a power of 2."""
    field = np.zeros((size, size))
    step, wobble = size, 100.0

    def around(total: Array) -> Array:
        return total / 4 + wobble * rng.uniform(-wobble, wobble, total.shape)

    while step >= 2:
        half = step // 2
        corners = field[::step, ::step]
        pairs = corners + np.roll(corners, -1, 0)
        field[half::step, half::step] = around(pairs + np.roll(pairs, -1, 1))
        centres = field[half::step, half::step]
        field[::step, half::step] = around(centres + np.roll(centres, 1, 0) + corners + np.roll(corners, -1, 1))
        field[half::step, ::step] = around(centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 0))
        step, wobble = half, wobble / roughness
    field -= field.min()
    return field / field.max()


def _brightness(image: Array, amount: float, rng: Generator) -> Array:
    """Raise the value of HSV, which scales all channels alike."""
    value = image.max(2, keepdims=True)
    raised = (value + amount).clip(0, 1)
    return np.where(value > 0, image / np.where(value > 0, value, 1) * raised, raised)


# -- digital ----------------------------------------------------------------------------------------------------------


def _contrast(image: Array, factor: float, rng: Generator) -> Array:
    means = image.mean((0, 1), keepdims=True)
    return (image - means) * factor + means


def _elastic_transform(image: Array, constant: tuple[float, float, float], rng: Generator) -> Array:
    """Map three points near the middle to places nearby, and shift all pixels smoothly. Constants are shares of the side."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    height, width, channels = image.shape
    strength, deviation, reach = (share * min(height, width) for share in constant)
    centre, square = np.array([width, height]) // 2, min(height, width) // 3  # of x and y
    corners = centre + square * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = corners + rng.uniform(-reach, reach, corners.shape)
    back = np.linalg.solve(np.c_[moved, np.ones(3)], corners)  # for each point of the result, where it comes from

    def sampled(source: Array, places: Array, mode: str) -> Array:
        return np.stack([map_coordinates(source[..., c], places, order=1, mode=mode) for c in range(channels)], 2)

    y, x = np.mgrid[:height, :width].astype(float)
    turned = sampled(image, (np.stack([x, y, np.ones_like(x)], 2) @ back).transpose(2, 0, 1)[::-1], "mirror")
    shifts = [
        gaussian_filter(rng.uniform(-1, 1, (height, width)), deviation, mode="reflect", truncate=3) * strength
        for _ in range(2)
    ]
    return sampled(turned, np.stack([y + shifts[1], x + shifts[0]]), "reflect")


def _by_pillow(image: Array, change: Callable[[Any], Any]) -> Array:
    from PIL import Image

    pixels = np.round(image * 255).astype(np.uint8)
    picture = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    return np.asarray(change(picture)).reshape(image.shape) / 255


def _pixelate(image: Array, share: float, rng: Generator) -> Array:
    def change(picture: Any) -> Any:
        small = (max(1, int(picture.width * share)), max(1, int(picture.height * share)))
        return picture.resize(small, 4).resize(picture.size, 4)  # 4: the mean over a box

    return _by_pillow(image, change)


def _jpeg_compression(image: Array, quality: int, rng: Generator) -> Array:
    def change(picture: Any) -> Any:
        from PIL import Image

        file = BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _by_pillow(image, change)


#: By name: the function, and the constants of CIFAR-10-C and of ImageNet-C for severities 1 to 5.
_CONSTANTS: dict[str, tuple[Callable[[Array, Any, Generator], Array], tuple[Any, ...], tuple[Any, ...]]] = {
    "gaussian_noise": (_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": (_shot_noise, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    "impulse_noise": (_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus_blur": (
        _defocus_blur,
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    "glass_blur": (
        _glass_blur,
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    "motion_blur": (
        _motion_blur,
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    "zoom_blur": (
        _zoom_blur,
        ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    "snow": (
        _snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "fog": (
        _fog,
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    "brightness": (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic_transform": (
        _elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        tuple(  # given for images of 224 as multiples of 244
            tuple(share * 244 / 224 for share in shares)
            for shares in ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
        ),
    ),
    "pixelate": (_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": (_jpeg_compression, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}  # fmt: skip
#: The names, in the order of the paper.
CORRUPTIONS = tuple(_CONSTANTS)
