"""Operations on images, as in AutoAugment and RandAugment: on batches of tensors, and on images of Pillow, with equal pixels.

Cubuk et al. 2019, "AutoAugment", arXiv:1805.09501, and 2020, "RandAugment", arXiv:1909.13719; what a level means is as in the
authors' code (tensorflow/tpu, models/official/efficientnet/autoaugment.py). Pixels are Pillow's: `ImageOps`, `ImageEnhance` and
`Image.transform` with the nearest pixel. The authors' TensorFlow code differs from Pillow here and there, most of all in
contrast, where it blends with the number of pixels over 256 instead of their mean.

Departure: an image moves by a share of its side; in the authors' code by 100 pixels (AutoAugment: 250) whatever the side.

On a CPU most operations are a table of 256 entries or an index of pixels, and numpy and `bytearray.translate` apply these several
times faster than torch does (measured: 0.35 and 0.4 ns a byte, where torch's gather takes 1.8), so there they do it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

#: The operations of the RandAugment paper.
OPERATIONS = (
    "identity", "autocontrast", "equalize", "rotate", "solarize", "color", "posterize", "contrast", "brightness", "sharpness",
    "shear-x", "shear-y", "translate-x", "translate-y",
)  # fmt: skip
#: Others, which policies use.
MORE_OPERATIONS = ("invert", "solarize-add")
#: Operations whose direction is drawn: half of the time their argument is negative.
SIGNED = frozenset({"rotate", "shear-x", "shear-y", "translate-x", "translate-y"})
#: The value of pixels from outside of the image.
FILL = 128


def argument(operation: str, level: float, sign: int = 1, translation: float = 0.3) -> float:
    """Return what an operation does at a level, of which 10 is the usual maximum.

    Degrees to rotate counterclockwise, bits that posterizing keeps, the value from which solarizing inverts, what solarize-add
    adds, the factor of color, contrast, brightness and sharpness (1 changes nothing), the shear, the share of the side to move
    by. As in the authors' code, posterizing and solarizing change an image less at a higher level. 0 for the others.
    """
    share = level / 10
    match operation:
        case "rotate":
            return sign * share * 30
        case "posterize":
            return min(int(share * 4), 8)
        case "solarize":
            return min(int(share * 256), 256)
        case "solarize-add":
            return int(share * 110)
        case "color" | "contrast" | "brightness" | "sharpness":
            return share * 1.8 + 0.1
        case "shear-x" | "shear-y":
            return sign * share * 0.3
        case "translate-x" | "translate-y":
            return sign * share * translation
        case _:
            return 0


def operate(operation: str, images: Tensor, value: float) -> Tensor:
    """Return the images after an operation with this argument.

    Args:
        images: uint8, shape (images, channels, height, width), with 1 or 3 channels. value: See `argument`.
    Raises: KeyError for an unknown operation.
    """
    images = images.contiguous()
    if operation in SIGNED:
        return _warp(images, _affine(operation, value, images.shape[-2], images.shape[-1]))
    return _COLOUR[operation](images, value)


def operate_pil(operation: str, image: Image, value: float) -> Image:
    """Return an image in mode L or RGB after an operation with this argument, by Pillow."""
    from PIL import Image, ImageEnhance, ImageOps

    if operation in SIGNED:
        if value == 0:
            return image
        affine = _affine(operation, value, image.height, image.width)
        fill = FILL if image.mode == "L" else (FILL,) * 3
        return image.transform(image.size, Image.Transform.AFFINE, affine, Image.Resampling.NEAREST, fillcolor=fill)
    match operation:
        case "identity":
            return image
        case "posterize":
            return ImageOps.posterize(image, int(value)) if value else image.point([0] * 256 * len(image.getbands()))
        case "solarize":
            return ImageOps.solarize(image, int(value))
        case "solarize-add":
            return image.point(_solarize_add_table(value).tolist() * len(image.getbands()))
        case "color" | "contrast" | "brightness" | "sharpness":
            return getattr(ImageEnhance, operation.capitalize())(image).enhance(value)
        case _:
            return getattr(ImageOps, operation)(image)


# -- tables of 256 values ---------------------------------------------------------------------------------------------


def _look_up(images: Tensor, tables: Tensor) -> Tensor:
    """Return the entries of tables at the values of pixels.

    Args:
        images: uint8, shape (images, channels, height, width).
        tables: uint8, shape (256,), (images, 1, 256) or (images, channels, 256).
    """
    if images.device.type != "cpu":
        rows = tables.expand(*images.shape[:2], 256)
        return rows.gather(2, images.flatten(2).long()).view_as(images)
    if tables.dim() == 1:
        table = tables.numpy().tobytes()
        return torch.frombuffer(bytearray(images.numpy().data).translate(table), dtype=torch.uint8).view_as(images)
    planes = images.view(tables.shape[0] * tables.shape[1], -1).numpy()
    flat = tables.view(-1, 256).numpy()
    changed = b"".join([plane.tobytes().translate(table.tobytes()) for plane, table in zip(planes, flat, strict=True)])
    return torch.frombuffer(bytearray(changed), dtype=torch.uint8).view_as(images)


def _by_one_table(table: Callable[[float], NDArray[Any]], images: Tensor, value: float) -> Tensor:
    return _look_up(images, torch.from_numpy(table(value).astype(np.uint8)).to(images.device))


_VALUES = np.arange(256)


def _solarize_table(threshold: float) -> NDArray[Any]:
    return np.where(threshold <= _VALUES, 255 - _VALUES, _VALUES)


def _solarize_add_table(addition: float) -> NDArray[Any]:
    return np.where(_VALUES < 128, np.clip(_VALUES + int(addition), 0, 255), _VALUES)


def _brightness_table(factor: float) -> NDArray[Any]:
    return np.clip(_VALUES.astype(np.float32) * np.float32(factor), 0, 255)


def _autocontrast(images: Tensor, value: float) -> Tensor:
    """Stretch each channel from its least and greatest value to 0 and 255."""
    planes = images.flatten(2)
    if images.device.type == "cpu":
        low, high = (torch.from_numpy(ends) for ends in (planes.numpy().min(2), planes.numpy().max(2)))
    else:
        low, high = planes.aminmax(dim=2)
    low, high = low.double()[..., None], high.double()[..., None]
    scale = torch.full_like(low, 255) / (high - low)  # 255 / tensor would be 255 times the reciprocal, rounded twice
    levels = torch.arange(256, dtype=torch.float64, device=images.device)
    stretched = (levels * scale + -low * scale).clamp(0, 255)
    return _look_up(images, torch.where(high > low, stretched, levels).to(torch.uint8))


def _equalize(images: Tensor, value: float) -> Tensor:
    """Make the histogram of each channel as even as a table can."""
    n, channels = images.shape[:2]
    pixels = images.view(n * channels, -1)
    rows = torch.arange(n * channels, device=images.device)[:, None] * 256
    counts = torch.bincount((pixels + rows).flatten(), minlength=n * channels * 256).view(n, channels, 256)
    levels = torch.arange(256, device=images.device)
    last = (levels * (counts > 0)).amax(2, keepdim=True)
    step = (pixels.shape[1] - counts.gather(2, last)) // 255  # 0 also where all pixels are alike
    before = counts.cumsum(2) - counts
    even = ((step // 2 + before) // step.clamp(min=1)).clamp(max=255)
    return _look_up(images, torch.where(step > 0, even, levels).to(torch.uint8))


def _contrast(images: Tensor, factor: float) -> Tensor:
    """Blend with the mean grey value."""
    grey = _grey(images.float()) if images.shape[1] == 3 else images
    mean = (grey.sum((1, 2, 3), dtype=torch.float64) / grey[0].numel() + 0.5).floor().float()[:, None, None]
    levels = torch.arange(256, dtype=torch.float32, device=images.device)
    return _look_up(images, _blend(mean, levels, factor))


# -- pixels that depend on others -------------------------------------------------------------------------------------


def _blend(start: Tensor, end: Tensor, factor: float) -> Tensor:
    """Return uint8 values between two, or beyond the second where the factor is above 1; float32, cut off, as Pillow does."""
    return (start + (end - start) * factor).clamp(0, 255).to(torch.uint8)


def _grey(colours: Tensor) -> Tensor:
    """Return the grey values of float32 images, shape (images, 1, height, width). All sums are whole numbers below 2 ** 24: exact."""
    red, green, blue = colours.split(1, dim=1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 32768) / 65536).floor()


def _color(images: Tensor, factor: float) -> Tensor:
    """Blend with the grey image."""
    if images.shape[1] == 1:
        return images
    colours = images.float()
    return _blend(_grey(colours), colours, factor)


def _sharpness(images: Tensor, factor: float) -> Tensor:
    """Blend with the smoothed image, but for its border."""
    height, width = images.shape[-2:]
    if min(height, width) < 3:
        return images
    pixels = images.to(torch.int16)
    rows = pixels[..., :-2] + pixels[..., 1:-1] + pixels[..., 2:]
    inner = pixels[..., 1:-1, 1:-1]
    sums = rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :] + 4 * inner
    smooth = (sums.float() / 13 + 0.5).floor()  # the next tie is 1 / 26 away, far more than float32's error
    sharp = images.clone()
    sharp[..., 1:-1, 1:-1] = _blend(smooth, inner.float(), factor)
    return sharp


_COLOUR: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda images, value: images,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "contrast": _contrast,
    "color": _color,
    "sharpness": _sharpness,
    "brightness": partial(_by_one_table, _brightness_table),
    "solarize": partial(_by_one_table, _solarize_table),
    "solarize-add": partial(_by_one_table, _solarize_add_table),
    "posterize": lambda images, bits: images & (256 - 2 ** (8 - int(bits))),
    "invert": lambda images, value: 255 - images,
}


# -- where pixels come from -------------------------------------------------------------------------------------------


def _affine(operation: str, value: float, height: int, width: int) -> tuple[float, ...]:
    """Return a, b, c, d, e, f: the pixel at (x, y) comes from (a x + b y + c, d x + e y + f), centres of pixels being at 0.5."""
    match operation:
        case "shear-x":
            return (1, value, 0, 0, 1, 0)
        case "shear-y":
            return (1, 0, 0, value, 1, 0)
        case "translate-x":
            return (1, 0, round(value * width), 0, 1, 0)
        case "translate-y":
            return (1, 0, 0, 0, 1, round(value * height))
        case _:
            cos, sin = round(math.cos(math.radians(value)), 15), round(math.sin(math.radians(value)), 15)
            x, y = width / 2, height / 2  # the centre stays where it is
            return (cos, -sin, -cos * x + sin * y + x, sin, cos, -sin * x - cos * y + y)


def _warp(images: Tensor, affine: tuple[float, ...]) -> Tensor:
    height, width = images.shape[-2:]
    index, inside, fill = _sources(affine, height, width, images.device)
    planes = images.view(-1, height * width)
    if images.device.type == "cpu":
        warped = np.take(planes.numpy(), index.numpy(), axis=1, mode="clip")
        warped &= inside.numpy()
        warped |= fill.numpy()
        return torch.from_numpy(warped).view_as(images)
    return (planes[:, index] & inside | fill).view_as(images)


@lru_cache(maxsize=64)
def _sources(affine: tuple[float, ...], height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each pixel where it comes from, 255 if that is inside of the image and 0 if not, and the fill if it is not.

    Places are whole multiples of 2 ** -16, rounded just as Pillow does, so that no tie falls otherwise.
    """
    a, b, c, d, e, f = affine
    across, along = np.arange(width)[None, :], np.arange(height)[:, None]
    x = (_fixed(c + a * 0.5 + b * 0.5) + across * _fixed(a) + along * _fixed(b)) >> 16
    y = (_fixed(f + d * 0.5 + e * 0.5) + across * _fixed(d) + along * _fixed(e)) >> 16
    within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    parts = (
        np.where(within, y * width + x, 0),
        np.where(within, 255, 0).astype(np.uint8),
        np.where(within, 0, FILL).astype(np.uint8),
    )
    index, inside, fill = (torch.from_numpy(part.ravel()).to(device) for part in parts)
    return index, inside, fill


def _fixed(value: float) -> int:
    return math.floor(value * 65536 + 0.5)
