"""Operations on images, as in AutoAugment and RandAugment: on batches of tensors, and on images of Pillow, with equal pixels.

Cubuk et al. 2019, "AutoAugment", arXiv:1805.09501, and 2020, "RandAugment", arXiv:1909.13719; what a level means is as in the
authors' code (tensorflow/tpu, models/official/efficientnet/autoaugment.py). Pixels are Pillow's: `ImageOps`, `ImageEnhance` and
`Image.transform` with the nearest pixel. The authors' TensorFlow code differs from Pillow here and there, most of all in
contrast, where it blends with the number of pixels over 256 instead of their mean.

Departure: an image moves by a share of its side; in the authors' code by 100 pixels (AutoAugment: 250) whatever the side.

On a CPU most operations are a table of 256 entries, which `bytearray.translate` applies in 0.35 ns a byte where torch's indexing
takes 1.5. Those that would take many passes are in C (`operations.c`) where there is a compiler, and else, as on other devices, in torch,
with the same pixels.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heuretic.data.c_library import compiled, unavailable

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
    Raises: KeyError for an unknown operation, ValueError for other images.
    """
    images = checked(images)
    if operation.startswith("translate"):
        return _translate(images, *_affine(operation, value, images.shape[-2], images.shape[-1])[2::3])
    if operation in SIGNED:
        return _warp(images, _affine(operation, value, images.shape[-2], images.shape[-1]))
    return _COLOUR[operation](images, value)


def checked(images: Tensor) -> Tensor:
    """Return the images, contiguous. Raises: ValueError unless they are uint8 with 1 or 3 channels."""
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            "images must be uint8 of shape (images, channels, height, width) with 1 or 3 channels, "
            f"got {images.dtype} of shape {tuple(images.shape)}. Try images.permute(0, 3, 1, 2) if channels are last"
        )
    return images.contiguous()


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
            return image.point(list(_solarize_add_table(value)) * len(image.getbands()))
        case "color" | "contrast" | "brightness" | "sharpness":
            return getattr(ImageEnhance, operation.capitalize())(image).enhance(value)
        case _:
            return getattr(ImageOps, operation)(image)


def on_cpu(images: Tensor) -> bool:
    """Whether these can be worked on as numpy arrays, in the same memory."""
    return images.device.type == "cpu"


_SOURCE = Path(__file__).with_name("operations.c")


def in_c(images: Tensor) -> bool:
    """Whether `operations.c` can work on these."""
    return on_cpu(images) and not unavailable(_SOURCE)


def _call(function: str, *arguments: Tensor | int | ctypes.c_float | ctypes.c_uint8) -> None:
    """Call a function of `operations.c` with the addresses of tensors, which must be contiguous, and numbers."""
    given = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else a for a in arguments]
    getattr(compiled(_SOURCE), function)(*(ctypes.c_int64(a) if isinstance(a, int) else a for a in given))


# -- tables of 256 values, made on the CPU ------------------------------------------------------------------------------


def _look_up(images: Tensor, tables: Sequence[bytes]) -> Tensor:
    """Return the entries of tables at the values of pixels.

    Args:
        images: uint8, shape (images, channels, height, width).
        tables: One for all images, one for each, or one for each of their channels, in order.
    """
    parts = images.view(len(tables), -1)
    if on_cpu(images):
        found = [bytearray(part.numpy().data).translate(table) for part, table in zip(parts, tables, strict=True)]
        joined = found[0] if len(found) == 1 else bytearray().join(found)
        return torch.frombuffer(joined, dtype=torch.uint8).view_as(images)
    rows = torch.frombuffer(bytearray().join(tables), dtype=torch.uint8).view(-1, 256).to(images.device)
    return rows.gather(1, parts.long()).view_as(images)


_VALUES = np.arange(256)


def _table(values: NDArray[Any]) -> bytes:
    return values.clip(0, 255).astype(np.uint8).tobytes()


def _solarize_add_table(addition: float) -> bytes:
    return _table(np.where(_VALUES < 128, _VALUES + int(addition), _VALUES))


@lru_cache(maxsize=1024)
def _contrast_table(mean: int, factor: float) -> bytes:
    """Blend with one value; in float32, as Pillow does."""
    start = np.float32(mean)
    return _table(start + (_VALUES.astype(np.float32) - start) * np.float32(factor))


@lru_cache(maxsize=4096)
def _autocontrast_table(low: int, high: int) -> bytes:
    """Stretch from the least and greatest value to 0 and 255."""
    if low == high:
        return _table(_VALUES)
    scale = 255 / (high - low)
    return _table(_VALUES * scale + -low * scale)


def _equalize_tables(counts: NDArray[Any]) -> list[bytes]:
    """Make histograms, shape (histograms, 256), as even as tables can."""
    last = 255 - (counts[:, ::-1] > 0).argmax(1)
    step = (counts.sum(1) - counts[np.arange(len(counts)), last])[:, None] // 255
    before = counts.cumsum(1) - counts
    even = np.where(step > 0, (step // 2 + before) // step.clip(1), _VALUES)
    tables = _table(even)
    return [tables[at : at + 256] for at in range(0, len(tables), 256)]


def _autocontrast(images: Tensor, value: float) -> Tensor:
    planes = images.flatten(2).flatten(0, 1)
    if on_cpu(images):  # numpy takes a tenth of the time
        low, high = planes.numpy().min(1).tolist(), planes.numpy().max(1).tolist()
    else:
        low, high = (ends.tolist() for ends in planes.aminmax(dim=1))
    return _look_up(images, [_autocontrast_table(*ends) for ends in zip(low, high, strict=True)])


def _equalize(images: Tensor, value: float) -> Tensor:
    planes = images.flatten(2).flatten(0, 1)
    if in_c(images):
        equal = torch.empty_like(images)
        _call("equalize", images, equal, *planes.shape)
        return equal
    rows = torch.arange(len(planes), device=images.device)[:, None] * 256
    counts = torch.bincount((planes + rows).flatten(), minlength=len(planes) * 256).view(-1, 256).cpu()
    return _look_up(images, _equalize_tables(counts.numpy()))


def _contrast(images: Tensor, factor: float) -> Tensor:
    count, channels, height, width = images.shape
    if in_c(images):
        total = torch.empty(count, dtype=torch.int64)
        _call("grey_sums", images, total, count, channels, height * width)
    else:
        grey = _grey(images.float())
        total = grey.sum(3).sum((1, 2), dtype=torch.float64)  # exact: a row's sum is a whole number below 2 ** 24
    means = [int(each / (height * width) + 0.5) for each in total.tolist()]
    return _look_up(images, [_contrast_table(mean, factor) for mean in means])


# -- arithmetic, where pixels depend on others or this is faster -------------------------------------------------------


def _blend(start: Tensor, end: Tensor, factor: float) -> Tensor:
    """Return uint8 values between two, or beyond the second where the factor is above 1. `end` is used up.

    In float32 and cut off, as Pillow does. By way of int16 it takes a third of the time.
    """
    return end.sub_(start).mul_(factor).add_(start).to(torch.int16).clamp_(0, 255).to(torch.uint8)


def _grey(colours: Tensor) -> Tensor:
    """Return the grey values of float32 images, shape (images, 1, height, width).

    Exact, as in whole numbers: all sums are multiples of 2 ** -16 below 2 ** 8.
    """
    if colours.shape[1] == 1:
        return colours
    red, green, blue = colours.split(1, dim=1)
    total = (red * (19595 / 2**16)).add_(green, alpha=38470 / 2**16).add_(blue, alpha=7471 / 2**16)
    return total.add_(0.5).floor_()


def _solarize(images: Tensor, threshold: float) -> Tensor:
    """Invert values from a threshold on; as exclusive or, in a quarter of the time of a table."""
    if on_cpu(images):
        pixels = images.numpy()
        return torch.from_numpy(pixels ^ -(pixels >= threshold).view(np.uint8))
    return torch.where(images >= float(threshold), 255 - images, images)  # 256 as a whole number would become 0


def _color(images: Tensor, factor: float) -> Tensor:
    """Blend with the grey image."""
    count, channels, height, width = images.shape
    if channels == 1:
        return images
    if in_c(images):
        blended = torch.empty_like(images)
        _call("color", images, blended, count, height * width, ctypes.c_float(factor))
        return blended
    colours = images.float()
    return _blend(_grey(colours), colours, factor)


def _sharpness(images: Tensor, factor: float) -> Tensor:
    """Blend with the smoothed image, but for its border: means of 3 x 3 with the middle 5 times, rounded."""
    height, width = images.shape[-2:]
    if min(height, width) < 3:
        return images
    sharp = torch.empty_like(images)
    if in_c(images):
        _call("sharpness", images, sharp, images.shape[0] * images.shape[1], height, width, ctypes.c_float(factor))
        return sharp
    # Sums run over the end of each row, into the next. Only the border, which stays as it is, gets something wrong.
    after = slice(width + 1, -width - 1)
    pixels = images.flatten().to(torch.int16)
    rows = pixels[:-2] + pixels[1:-1] + pixels[2:]
    sums = rows[: -2 * width] + rows[width:-width] + rows[2 * width :] + 4 * pixels[after]
    smooth = sums.float().add_(6.5).mul_(1 / 13).floor_()  # whole numbers are 1 / 26 away: rounding is safe
    sharp.view(-1)[after] = _blend(smooth, pixels[after].float(), factor)
    for border in ((..., 0, slice(None)), (..., -1, slice(None)), (..., 0), (..., -1)):
        sharp[border] = images[border]
    return sharp


_COLOUR: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda images, value: images,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "contrast": _contrast,
    "color": _color,
    "sharpness": _sharpness,
    "brightness": lambda images, factor: _look_up(images, [_contrast_table(0, factor)]),
    "solarize": _solarize,
    "solarize-add": lambda images, addition: _look_up(images, [_solarize_add_table(addition)]),
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


def _translate(images: Tensor, x: float, y: float) -> Tensor:
    """Return the images with pixels from x places to the right and y down: as `_warp`, in a tenth of the time."""
    moved = torch.full_like(images, FILL)
    sources, targets = [..., slice(None), slice(None)], [..., slice(None), slice(None)]
    for side, by in ((-2, y), (-1, x)):
        size = images.shape[side]
        places = max(-size, min(int(by), size))
        sources[side] = slice(max(0, places), size + min(0, places))
        targets[side] = slice(max(0, -places), size - max(0, places))
    moved[tuple(targets)] = images[tuple(sources)]
    return moved


def _warp(images: Tensor, affine: tuple[float, ...]) -> Tensor:
    height, width = images.shape[-2:]
    places = _sources(affine, height, width, images.device)
    planes = images.view(-1, height * width)
    if in_c(images):
        warped = torch.empty_like(images)
        _call("warp", images, warped, places, len(planes), planes.shape[1], ctypes.c_uint8(FILL))
        return warped
    return torch.where(places < 0, FILL, planes[:, places.clamp(min=0).long()]).view_as(images)


@lru_cache(maxsize=64)
def _sources(affine: tuple[float, ...], height: int, width: int, device: torch.device) -> Tensor:
    """Return for each pixel the number of the one it comes from, as int32, or -1 if that is outside of the image.

    Places are whole multiples of 2 ** -16, rounded just as Pillow does, so that no tie falls otherwise.
    """
    a, b, c, d, e, f = affine
    across, along = np.arange(width)[None, :], np.arange(height)[:, None]
    x = (_fixed(c + a * 0.5 + b * 0.5) + across * _fixed(a) + along * _fixed(b)) >> 16
    y = (_fixed(f + d * 0.5 + e * 0.5) + across * _fixed(d) + along * _fixed(e)) >> 16
    within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return torch.from_numpy(np.where(within, y * width + x, -1).astype(np.int32).ravel()).to(device)


def _fixed(value: float) -> int:
    return math.floor(value * 65536 + 0.5)
