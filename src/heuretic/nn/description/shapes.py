"""Shapes of what modules take and return: of a tensor, or of tensors in lists, mappings and dataclasses."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

#: Shapes as something returned them: a tuple for a tensor, a list or dict for several, None for what is no tensor.
Shapes = tuple[int, ...] | list[Any] | dict[str, Any] | None


def shapes(value: Any) -> Shapes:
    """Return the shapes of the tensors in what a module was given or returned."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, Mapping):
        return {str(key): shapes(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shapes(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: shapes(getattr(value, f.name)) for f in fields(value)}
    return None


def shape_text(shape: Shapes, *, batch: bool = True, most: int = 3) -> str:
    """Return shapes such as 1×3×224×224; of several, `most` at most, with the names they have.

    Args:
        batch: Whether to show the first axis, unless it is the only one.
    """
    texts = [
        (f"{name} " if name else "") + ("×".join(map(str, sizes if batch or len(sizes) < 2 else sizes[1:])) or "scalar")
        for name, sizes in named_shapes(shape)
    ]
    return ", ".join(texts[:most]) + (", …" if len(texts) > most else "")


def named_shapes(shape: Shapes, name: str = "") -> list[tuple[str, tuple[int, ...]]]:
    """Return the shapes of all tensors in order, each with its name if it has one."""
    if isinstance(shape, tuple):
        return [(name, shape)]
    if isinstance(shape, dict):
        return [each for key, value in shape.items() for each in named_shapes(value, key)]
    return [each for value in shape or () for each in named_shapes(value, name)]
