"""A picture of an architecture in SVG: layers from left to right as slabs, as high and as thick as what they return."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from heuretic.nn.description.architecture_parts import COLOURS, Block, Column, columns_of, extent, folded
from heuretic.nn.description.module_costs import ModuleCosts
from heuretic.nn.description.quantities import binary, decimal, percent
from heuretic.nn.description.shapes import Shapes, shape_text

WIDTH, MIN_WIDTH = 1210.0, 640.0
_MARGIN, _HEADER = 16.0, 62.0
_TALL, _LOW = 150.0, 9.0
#: How far the side of a slab leads to the right and up, as shares of its height.
_ASIDE, _UP = 0.2, 0.15
_SLAB_GAP, _BLOCK_GAP, _COLUMN_GAP, _NARROW = 1.6, 12.0, 14.0, 70.0
_LABELS, _BAR_ROOM, _BAR = 38.0, 50.0, 15.0
_THIN = {"normalisation": 2.0, "activation": 2.0, "pooling": 4.0, "other": 3.0}
_SHARES = (("parameters", 0.85), ("multiply-adds", 0.5), ("activations", 0.28))
_INPUT_COLOUR = "#b7c0cf"
#: What lies on another layer as a coat; seen from the side it has the colour of that layer.
_COATS = ("normalisation", "activation")


def picture(root: ModuleCosts, inputs: Shapes, title: str, latency: str = "") -> str:
    """Return the picture. Text takes the colour of the page around it, and is escaped."""
    columns = columns_of(root, inputs)
    rows, sizes = _fitted(columns, inputs)
    used = max(MIN_WIDTH, *(sizes.width(row, i == 0) for i, row in enumerate(rows))) + 2 * _MARGIN
    parts: list[str] = []
    y = _HEADER
    most = max((share for column in columns for share in _shares(column, root)), default=0) or 1
    for i, row in enumerate(rows):
        given = inputs if i == 0 else None
        above, tall = sizes.heights(row, given is not None)
        parts.extend(_row(row, sizes, y + above + tall / 2, tall, given, root, most))
        y += above + tall + _LABELS + _BAR_ROOM + 56
    legend, y = _legend(columns, y, used)
    totals = [
        f"{decimal(root.parameters)} parameters", f"{decimal(root.multiply_adds)} multiply-adds",
        f"{binary(root.activation_bytes)} activations", f"input {shape_text(inputs)}", *([latency] if latency else []),
    ]  # fmt: skip
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {used:.0f} {y:.0f}" width="{used:.0f}" height="{y:.0f}" '
        f'role="img" aria-label="{escape(title)}: {escape(", ".join(totals))}" style="max-width:100%;height:auto" '
        'font-family="system-ui,-apple-system,Segoe UI,Roboto,sans-serif" font-size="11" fill="currentColor">'
        f"{_text(_MARGIN, 26, title, size=19, weight=650)}{_text(_MARGIN, 46, '   ·   '.join(totals), size=13, opacity=0.75)}"
        f"{''.join(parts)}{legend}</svg>"
    )


@dataclass(frozen=True, slots=True)
class _Sizes:
    """How large tensors are drawn: logarithms of places and channels, relative to the largest."""

    scale: float
    places: float
    channels: int
    input_extent: tuple[int, float]

    def heights(self, columns: Sequence[Column], has_input: bool) -> tuple[float, float]:
        """Return the room above the fronts of the slabs of a row, and the height of the highest front."""
        blocks = [block for column in columns for block in column.blocks]
        slabs = [self.tall(slab.places, slab.channels) for block in blocks for slab in block.slabs]
        tall = max([*slabs, self.tall(self.input_extent[1], self.input_extent[0]) if has_input else 0])
        has_ways, has_counts = any(b.part.is_residual for b in blocks), any(b.count > 1 for b in blocks)
        return _UP * tall + 6 + 26 * has_ways + 16 * has_counts, tall

    def tall(self, places: float, channels: int) -> float:
        share = (
            math.log2(1 + places) / math.log2(1 + self.places)
            if self.places > 1
            else math.log2(1 + channels) / math.log2(1 + self.channels)
        )
        return _LOW + (_TALL - _LOW) * share

    def thick(self, kind: str, channels: int) -> float:
        return self.scale * _THIN.get(kind, 2.2 + math.log2(1 + channels))

    def block(self, block: Block) -> float:
        gaps = _SLAB_GAP * self.scale * (len(block.slabs) - 1)
        return gaps + sum(self.thick(slab.kind, slab.channels) for slab in block.slabs)

    def gap(self, before: Block, block: Block) -> float:
        """Single layers that follow each other stand close."""
        return self.scale * (3.0 if len(before.slabs) == len(block.slabs) == 1 else _BLOCK_GAP)

    def drawn(self, column: Column) -> float:
        gaps = sum(self.gap(a, b) for a, b in zip(column.blocks, column.blocks[1:], strict=False))
        return gaps + sum(map(self.block, column.blocks))

    def column(self, column: Column) -> float:
        words = max(map(len, _labels(column)))
        return max(self.drawn(column) + _ASIDE * _TALL / 2, _NARROW, min(6.2 * words, 92.0))

    def width(self, columns: Sequence[Column], has_input: bool = True) -> float:
        widths = [*([_NARROW] if has_input else []), *map(self.column, columns)]
        return sum(widths) + _COLUMN_GAP * (len(widths) - 1)


def _fitted(columns: Sequence[Column], inputs: Shapes) -> tuple[list[list[Column]], _Sizes]:
    """Return the columns in rows, and sizes with which these fit: in one row, if need be with like blocks as one."""
    slabs = [slab for column in columns for block in column.blocks for slab in block.slabs]
    given = extent(inputs, is_image=True)
    if slabs and slabs[0].kind == "embedding" and given[1] == 1:
        given = 1, float(given[0])  # tokens
    places, channels = max([given[1], *(s.places for s in slabs)]), max([1, given[0], *(s.channels for s in slabs)])
    less = folded(columns)
    for scale in (percents / 100 for percents in range(180, 55, -5)):
        sizes = _Sizes(scale, places, channels, given)
        if sizes.width(columns) <= WIDTH:
            return [list(columns)], sizes
    for most in range(1, len(less) + 1):
        for scale in (percents / 100 for percents in range(120, 45 if most == 1 else 75, -5)):
            sizes = _Sizes(scale, places, channels, given)
            rows = _rows(less, sizes, most)
            if len(rows) <= most:
                return rows, sizes
    return [[column] for column in less], _Sizes(0.5, places, channels, given)


def _rows(columns: Sequence[Column], sizes: _Sizes, count: int) -> list[list[Column]]:
    """Return the columns in rows of about one width; in more than `count` if they do not fit."""
    even = sizes.width(columns) / count
    rows: list[list[Column]] = []
    for full in (min(even * (1 + slack / 20), WIDTH) for slack in range(20 if count > 1 else 1)):
        rows = [[]]
        for column in columns:
            if rows[-1] and sizes.width([*rows[-1], column], len(rows) == 1) > full:
                rows.append([])
            rows[-1].append(column)
        if len(rows) <= count:
            break
    return rows


def _row(
    columns: Sequence[Column], sizes: _Sizes, middle: float, tall: float, inputs: Shapes, root: ModuleCosts, most: float
) -> Iterator[str]:
    below = middle + tall / 2 + 20
    x, has_input = _MARGIN, inputs is not None
    width = sizes.width(columns, has_input)
    yield f'<path d="M{x + (30 if has_input else 0):.1f} {middle:.1f}H{x + width:.1f}" stroke="currentColor" stroke-opacity=".35"/>'
    if has_input:
        channels, places = sizes.input_extent
        about = f"input {shape_text(inputs)}"
        yield _slab(x + 20, middle, 3, sizes.tall(places, channels), _INPUT_COLOUR, _INPUT_COLOUR, about)
        yield _label(x + _NARROW / 2, below, "input", shape_text(inputs, batch=False, most=1), "", _NARROW + 8)
        x += _NARROW + _COLUMN_GAP
    for column in columns:
        room = sizes.column(column)
        at = x + (room - sizes.drawn(column)) / 2
        before: Block | None = None
        under: tuple[float, str] = (0.0, "")
        for block in column.blocks:
            at += sizes.gap(before, block) if before else 0
            drawn, under = _block(block, sizes, at, middle, under)
            yield drawn
            at += sizes.block(block)
            before = block
        yield _label(x + room / 2, below, *_labels(column), room + _COLUMN_GAP - 6)
        yield _bars(column, x + room / 2, below + _LABELS, root, most)
        x += room + _COLUMN_GAP


def _block(
    block: Block, sizes: _Sizes, x: float, middle: float, under: tuple[float, str]
) -> tuple[str, tuple[float, str]]:
    """Return a block, and what the next layer may lie on as a coat: the places of the last layer and its colour.

    Args:
        under: The same of the layer before.
    """
    parts, at = [f"<g><title>{escape(_about(block.part))}</title>"], x
    for slab in block.slabs:
        thick, tall = sizes.thick(slab.kind, slab.channels), sizes.tall(slab.places, slab.channels)
        is_coat = slab.kind in _COATS and slab.places == under[0]
        under = slab.places, under[1] if is_coat else COLOURS[slab.kind]
        about = "" if slab.part is block.part else _about(slab.part)
        parts.append(_slab(at, middle, thick, tall, COLOURS[slab.kind], under[1], about))
        at += thick + _SLAB_GAP * sizes.scale
    start, end = ((x, block.slabs[0]), (at - _SLAB_GAP * sizes.scale, block.slabs[-1]))
    (x1, y1), (x2, y2) = (_top(place, middle, sizes.tall(slab.places, slab.channels)) for place, slab in (start, end))
    if block.part.is_residual:
        parts.append(_way_around(x1, y1, x2, y2))
    if block.count > 1:
        rise = 30 if block.part.is_residual else 6
        parts.append(_text((x1 + x2) / 2, min(y1, y2) - rise, f"× {block.count}", size=13, weight=650, anchor="middle"))
    return "".join([*parts, "</g>"]), under


def _top(x: float, middle: float, tall: float) -> tuple[float, float]:
    """Return the place just above the middle of the top of a slab."""
    return x + _ASIDE * tall / 2, middle - tall / 2 - _UP * tall - 3


def _slab(x: float, middle: float, thick: float, tall: float, colour: str, side: str, about: str) -> str:
    """Return a box seen from the right and above: its front, top and side."""
    aside, up, top = _ASIDE * tall, _UP * tall, middle - tall / 2
    title = f"<title>{escape(about)}</title>" if about else ""
    return (
        f"<g>{title}"
        f'<path d="M{x:.1f} {top:.1f}h{thick:.1f}v{tall:.1f}h{-thick:.1f}z" fill="{colour}"/>'
        f'<path d="M{x:.1f} {top:.1f}l{aside:.1f} {-up:.1f}h{thick:.1f}l{-aside:.1f} {up:.1f}z" fill="{_mixed(colour, 255, 0.4)}"/>'
        f'<path d="M{x + thick:.1f} {top:.1f}l{aside:.1f} {-up:.1f}v{tall:.1f}l{-aside:.1f} {up:.1f}z" fill="{_mixed(side, 0, 0.22)}"/>'
        "</g>"
    )


def _way_around(x: float, y: float, end_x: float, end_y: float) -> str:
    """Return an arc from the start of a block to the sum at its end."""
    high = min(y, end_y) - 28
    return (
        f'<g fill="none" stroke="currentColor" stroke-opacity=".65" stroke-width="1.3">'
        f'<path d="M{x:.1f} {y:.1f}C{x:.1f} {high:.1f} {end_x:.1f} {high:.1f} {end_x:.1f} {end_y - 4:.1f}"/>'
        f'<circle cx="{end_x:.1f}" cy="{end_y:.1f}" r="4"/><path d="M{end_x - 4:.1f} {end_y:.1f}h8m-4 -4v8"/></g>'
    )


def _bars(column: Column, middle: float, top: float, root: ModuleCosts, most: float) -> str:
    """Return the shares of a column in the costs of the whole, as bars on a line."""
    base, pitch = top + 12 + _BAR_ROOM, _BAR + 13
    parts = [
        f'<path d="M{middle - 1.5 * pitch:.1f} {base:.1f}h{3 * pitch:.1f}" stroke="currentColor" stroke-opacity=".3"/>'
    ]
    for i, ((name, opacity), share) in enumerate(zip(_SHARES, _shares(column, root), strict=True)):
        x, tall = middle + (i - 1) * pitch, max(1.0, _BAR_ROOM * share / most) if share else 0.0
        parts.append(
            f'<rect x="{x - _BAR / 2:.1f}" y="{base - tall:.1f}" width="{_BAR}" height="{tall:.1f}" rx="1.5" fill-opacity="{opacity}">'
            f"<title>{escape(percent(share, 1)) or 'none'} of all {name}</title></rect>"
            + _text(x, base - tall - 4, percent(share, 1), size=9.5, anchor="middle", opacity=0.8)
        )
    return "".join(parts)


def _shares(column: Column, root: ModuleCosts) -> tuple[float, float, float]:
    blocks = [(block.part, block.count) for block in column.blocks]
    return (
        sum(part.parameters * count for part, count in blocks) / max(1, root.parameters),
        sum(part.multiply_adds * count for part, count in blocks) / max(1, root.multiply_adds),
        sum(part.activation_bytes * count for part, count in blocks) / max(1, root.activation_bytes),
    )


def _labels(column: Column) -> tuple[str, str, str]:
    """Return name, classes and output of a column."""
    last, kinds = column.blocks[-1], {block.part.kind for block in column.blocks}
    output = shape_text(last.part.output or last.slabs[-1].part.output, batch=False, most=1)
    count = sum(block.count for block in column.blocks)
    if column.is_repeated and count > 1:
        return column.name, f"{count} × {kinds.pop()}" if len(kinds) == 1 else f"{count} blocks", output
    main = max(column.blocks, key=lambda block: block.part.multiply_adds)
    layer = max((slab.part for slab in main.slabs), key=lambda part: part.multiply_adds)
    return column.name, main.part.kind if main.part.calls else layer.kind, output


def _label(middle: float, y: float, name: str, kind: str, output: str, room: float) -> str:
    most = int(room / 6.5)
    short = name if len(name) <= most else "…" + name[1 - most :]
    return (
        _text(middle, y, short, weight=650, anchor="middle", about=name if short != name else "")
        + _text(middle, y + 15, kind if len(kind) <= most else kind[: most - 1] + "…", anchor="middle", opacity=0.75)
        + _text(
            middle, y + 30, output if len(output) <= most else output[: most - 1] + "…", anchor="middle", opacity=0.75
        )
    )


def _legend(columns: Sequence[Column], y: float, width: float) -> tuple[str, float]:
    """Return the legend and where it ends."""
    kinds = {slab.kind for column in columns for block in column.blocks for slab in block.slabs}
    items = [(kind, f'fill="{colour}"') for kind, colour in COLOURS.items() if kind in kinds]
    if any(block.part.is_residual for column in columns for block in column.blocks):
        items.append(("way around", ""))
    items += [(f"share of {name}", f'fill-opacity="{opacity}"') for name, opacity in _SHARES]
    parts, x = [], _MARGIN
    for name, look in items:
        room = 6.1 * len(name) + 32
        if x + room > width:
            x, y = _MARGIN, y + 20
        mark = (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="11" height="11" rx="2" {look}/>'
            if look
            else f'<path d="M{x:.1f} {y + 11:.1f}c0 -13 11 -13 11 0" fill="none" stroke="currentColor" stroke-opacity=".65" stroke-width="1.3"/>'
        )
        parts.append(mark + _text(x + 16, y + 9.5, name, opacity=0.85))
        x += room
    note = "Height: places along a side. Thickness: channels. Both logarithmic."
    return "".join(parts) + _text(_MARGIN, y + 30, note, opacity=0.6), y + 42


def _about(part: ModuleCosts) -> str:
    """Return what is said of a part under the pointer."""
    settings = f"({part.settings})" if part.settings else ""
    return "\n".join([
        f"{part.path}: {part.kind}{settings}" if part.path else part.kind, f"output {shape_text(part.output)}",
        f"{part.parameters:,} parameters, {part.multiply_adds:,} multiply-adds, {binary(part.activation_bytes)} activations",
    ])  # fmt: skip


def _mixed(colour: str, other: int, share: float) -> str:
    """Return a colour mixed with white (255) or black (0)."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + (other - part) * share):02x}" for part in parts)


def _text(
    x: float, y: float, text: str, *, size: float = 11, weight: int = 400, anchor: str = "", opacity: float = 1.0, about: str = ""
) -> str:  # fmt: skip
    look = f' font-size="{size:g}"' * (size != 11) + f' font-weight="{weight}"' * (weight != 400)
    look += f' text-anchor="{anchor}"' * bool(anchor) + f' fill-opacity="{opacity:g}"' * (opacity != 1)
    title = f"<title>{escape(about)}</title>" if about else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{look}>{escape(text)}{title}</text>' if text else ""
