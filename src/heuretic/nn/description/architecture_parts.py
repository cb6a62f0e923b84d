"""What of an architecture is drawn: its layers in the order of their calls, in blocks, in columns of like blocks."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from heuretic.nn.description.module_costs import ModuleCosts
from heuretic.nn.description.shapes import Shapes, named_shapes

#: Colours by kind of layer; all stand out from white and from near black.
COLOURS = {
    "convolution": "#4d8df0",
    "depthwise convolution": "#14a098",
    "linear": "#8b6fe0",
    "attention": "#e8590c",
    "embedding": "#d6569a",
    "recurrent": "#a86f3c",
    "pooling": "#3fa45b",
    "normalisation": "#9aa4b5",
    "activation": "#efb32b",
    "other": "#6b7688",
}
_NAMES = {
    "attention": ("attention",),
    "embedding": ("embedding",),
    "recurrent": ("lstm", "gru", "rnn"),
    "pooling": ("pool",),
    "normalisation": ("norm",),
    "convolution": ("conv",),
    "linear": ("linear", "dense"),
    "activation": (
        "relu", "gelu", "silu", "swish", "mish", "sigmoid", "softmax", "tanh", "elu", "celu", "softplus", "activation", "shrink",
    ),
}  # fmt: skip
#: What does nothing to see when the network is used.
_UNSEEN = ("identity", "flatten", "drop", "stochasticdepth")
#: Networks without ways around are drawn down to the layers if these are no more; others down to their blocks.
_MOST_BLOCKS = 60
#: Blocks of more layers are drawn as one slab, and do not count as blocks where a way leads around them.
_MOST_LAYERS = 60
_MOST_COLUMNS = 12


def kind_of(part: ModuleCosts) -> str:
    """Return the kind of a layer, one of `COLOURS`, by the name of its class."""
    name = part.kind.lower()
    if part.kind == "Conv1D":  # that of GPT-2 in transformers
        return "linear"
    for kind, words in _NAMES.items():
        if any(word in name for word in words):
            return "depthwise convolution" if kind == "convolution" and _is_depthwise(part) else kind
    return "other"


def _is_depthwise(part: ModuleCosts) -> bool:
    channels = part.settings.split(",")[0].strip()
    return channels != "1" and f"groups={channels}" in part.settings.replace(" ", "").split(",")


@dataclass(frozen=True, slots=True)
class Slab:
    """One layer: its kind, the channels of what it returns, and the places along a side of it."""

    part: ModuleCosts
    kind: str
    channels: int
    places: float


@dataclass(frozen=True, slots=True)
class Block:
    """A part that is drawn in one piece.

    Attributes:
        is_repeated: Whether it is one of several such blocks in a row. count: How many that are alike it stands for.
    """

    part: ModuleCosts
    slabs: tuple[Slab, ...]
    is_repeated: bool
    count: int = 1

    @property
    def home(self) -> str:
        """The path of its parent."""
        return self.part.path.rpartition(".")[0]


@dataclass(slots=True)
class Column:
    """Blocks that have one label and one set of bars."""

    blocks: list[Block] = field(default_factory=list)
    name: str = ""

    @property
    def is_repeated(self) -> bool:
        """Whether these are repeated blocks."""
        return bool(self.blocks) and self.blocks[0].is_repeated

    @property
    def is_weighty(self) -> bool:
        """Whether something is multiplied in it."""
        return any(_is_weighty(block) for block in self.blocks)


def columns_of(root: ModuleCosts, inputs: Shapes) -> list[Column]:
    """Return what to draw of a network, from left to right.

    Layers stand in a column of their own up to the next one that multiplies, if that does not make too many columns; else
    up to a change of resolution. Repeated blocks stand together while their outputs have one shape.
    """
    is_image = any(len(shape) > 3 for _, shape in named_shapes(inputs))
    blocks: list[Block] = []
    for part, is_repeated in _parts(root):
        slabs = tuple(_slabs(part, is_image))
        if slabs:
            blocks.append(Block(part, slabs, is_repeated))
    columns = _grouped(blocks, by_layer=True)
    if len(columns) > _MOST_COLUMNS:
        columns = _grouped(blocks, by_layer=False)
    homes = Counter(column.blocks[0].home for column in columns if column.is_repeated)
    for column in columns:
        column.name = _name(column, homes)
    return columns


def folded(columns: Sequence[Column]) -> list[Column]:
    """Return the columns with each run of three or more blocks that are alike as one block."""
    result: list[Column] = []
    for column in columns:
        blocks: list[Block] = []
        for _, group in groupby(column.blocks, key=_likeness):
            run = list(group)
            blocks.extend([replace(run[0], count=len(run))] if len(run) > 2 else run)
        result.append(Column(blocks, column.name))
    return result


def _name(column: Column, homes: Mapping[str, int]) -> str:
    """Return the path of what stands in a column: all of a parent, a range of its parts, or that which multiplies most."""
    first, last = column.blocks[0], column.blocks[-1]
    if column.is_repeated and homes[first.home] == 1 and (first is not last or first.part.name.isdecimal()):
        return first.home
    if first.home == last.home and first is not last:
        return f"{first.part.path}–{last.part.name}"
    return max((block.part for block in column.blocks), key=lambda part: part.multiply_adds).path


def _likeness(block: Block) -> tuple[object, ...]:
    part = block.part
    kinds = tuple((slab.kind, slab.channels) for slab in block.slabs)
    return part.kind, part.is_residual, part.parameters, part.multiply_adds, str(part.output), kinds


def _grouped(blocks: Sequence[Block], *, by_layer: bool) -> list[Column]:
    columns: list[Column] = []
    for block in blocks:
        last = columns[-1] if columns else Column()
        if not last.blocks or last.is_repeated != block.is_repeated:
            is_new = True
        elif block.is_repeated:
            before = last.blocks[-1]
            is_new = (before.home, before.part.output) != (block.home, block.part.output)
        elif by_layer:
            is_new = last.is_weighty and _is_weighty(block)
        else:
            is_new = last.is_weighty and _is_weighty(block) and last.blocks[0].slabs[0].places != block.slabs[0].places
        if is_new:
            columns.append(Column())
        columns[-1].blocks.append(block)
    return columns


def _is_weighty(block: Block) -> bool:
    return block.part.multiply_adds > 0 or any(slab.kind == "embedding" for slab in block.slabs)


def _parts(root: ModuleCosts) -> Iterator[tuple[ModuleCosts, bool]]:
    """Yield the parts to draw in one piece, and whether each is a repeated block."""
    if any(part.is_residual for part in root.walk() if part is not root):
        yield from _blocks_below(root, False)
        return
    parts = _called(root) or [root]
    while True:
        opened = [each for part in parts for each in (not part.own_multiply_adds and _called(part)) or [part]]
        if len(opened) > _MOST_BLOCKS or len(opened) == len(parts):
            break
        parts = opened
    yield from ((part, False) for part in parts)


def _blocks_below(part: ModuleCosts, is_repeated: bool) -> Iterator[tuple[ModuleCosts, bool]]:
    """Look for blocks where there are ways around something further down, and in what is called alike beside it."""
    siblings = _called(part)
    opened = {each.kind for each in siblings if _is_opened(each)}
    is_repeated = is_repeated or any(each.is_residual for each in siblings)
    for each in siblings:
        if _is_opened(each):
            yield from _blocks_below(each, False)
        elif each.kind in opened and each.name.isdecimal() and _called(each) and not each.is_residual:
            yield from _blocks_below(each, True)
        else:
            yield each, is_repeated


def _is_opened(part: ModuleCosts) -> bool:
    if part.is_residual and len(_layers(part)) <= _MOST_LAYERS:
        return False
    return any(each.is_residual for each in part.walk() if each is not part)


def _called(part: ModuleCosts) -> list[ModuleCosts]:
    """Return the submodules that were called, or anything in them, in this order."""
    return sorted((each for each in part.parts if _order(each) >= 0), key=_order)


def _order(part: ModuleCosts) -> int:
    return min((each.order for each in part.walk() if each.order >= 0), default=-1)


def _layers(part: ModuleCosts) -> list[ModuleCosts]:
    """Return the layers in the order in which they ended: modules that call no other, and those that multiply themselves."""
    found = [p for p in part.walk() if p.calls and (p.own_multiply_adds or not any(each.calls for each in p.parts))]
    return sorted(found, key=lambda p: p.order)


def _slabs(part: ModuleCosts, is_image: bool) -> Iterator[Slab]:
    layers = [each for each in _layers(part) if _is_seen(each)]
    kinds = [kind_of(each) for each in layers]
    if len(layers) > _MOST_LAYERS:
        work = {kind: sum(p.multiply_adds for p, k in zip(layers, kinds, strict=True) if k == kind) for kind in kinds}
        layers, kinds = [part], [max(work, key=lambda kind: work[kind])]
    before: Slab | None = None
    for layer, kind in zip(layers, kinds, strict=True):
        if before is not None and before.part.output == layer.output:
            before = Slab(layer, kind, before.channels, before.places)
        else:
            before = Slab(layer, kind, *extent(layer.output, kind, layer.settings, is_image))
        yield before


def _is_seen(layer: ModuleCosts) -> bool:
    """Whether a layer is worth a slab: not if it hands on its input, or holds what is only added, such as positions."""
    if any(word in layer.kind.lower() for word in _UNSEEN):
        return False
    return kind_of(layer) != "other" or not layer.parameters or layer.multiply_adds > 0


def extent(output: Shapes, kind: str = "other", settings: str = "", is_image: bool = False) -> tuple[int, float]:
    """Return the channels and the places along a side of a tensor; which axis is which depends on the kind of layer.

    Args:
        is_image: Whether a row of places is what became of an image.
    """
    shape = max((shape for _, shape in named_shapes(output)), key=len, default=())
    if len(shape) < 3:
        return (shape[-1] if shape else 1), 1.0
    features = re.match(r"\(?(\d+)", settings)
    number = int(features[1]) if features else 0
    if kind == "normalisation" and number in (shape[1], shape[-1]) and shape[1] != shape[-1]:
        is_last = number == shape[-1]
    else:
        is_last = kind in ("linear", "attention", "embedding", "recurrent") or (
            len(shape) == 3 and "convolution" not in kind and kind != "pooling"
        )
    channels, along = (shape[-1], shape[1:-1]) if is_last else (shape[1], shape[2:])
    places = math.prod(along) ** (1 / len(along))
    return channels, math.sqrt(places) if is_image and len(along) == 1 else places
