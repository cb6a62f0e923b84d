"""The modules of a network as a table: as plain text, for a terminal, or as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from heuretic.nn.description.architecture_parts import COLOURS, kind_of
from heuretic.nn.description.module_costs import ModuleCosts
from heuretic.nn.description.quantities import binary, decimal, percent
from heuretic.nn.description.shapes import shape_text

if TYPE_CHECKING:
    from rich.table import Table

#: A table without a given depth is as deep as fits into so many rows.
MOST_ROWS = 40
COLUMNS = ("module", "class", "settings", "output", "parameters", "multiply-adds", "activations", "calls")
_FIRST_NUMBER, _AMOUNTS = 4, (4, 5, 6)
_Found = list[tuple[int, ModuleCosts, int]]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table.

    Attributes:
        level: In the tree. part: The module; of several that are alike, the sums. cells: Texts, empty where there is nothing.
        shares: Of the three amounts in those of the whole.
    """

    level: int
    part: ModuleCosts
    cells: tuple[str, ...]
    shares: tuple[float, ...]


def table_rows(root: ModuleCosts, name: str, depth: int | None) -> list[Row]:
    """Return the rows of modules down to `depth` levels below the root; None is what fits into 40 rows.

    Neighbours that look alike as far down as the table goes are one row, with the sums of all.
    """
    found = _found(root, 1 if depth is None else depth)
    if depth is None:
        for deeper in range(2, 2 + max(part.path.count(".") for part in root.walk())):
            more = _found(root, deeper)
            if len(more) > MOST_ROWS:
                break
            found = more
    return [_row(level, part, count, root, name) for level, part, count in found]


def plain_table(rows: Sequence[Row], settings: int = 36, output: int = 36) -> str:
    """Return the table as text. Settings and outputs are cut to so many characters."""
    cells = [COLUMNS, *(row.cells for row in rows)]
    cells = [(*row[:2], shortened(row[2], settings), shortened(row[3], output), *row[4:]) for row in cells]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if i >= _FIRST_NUMBER else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def rich_table(rows: Sequence[Row]) -> Table:
    """Return the table for a terminal, whose width it takes; layers have the colours of the picture."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(COLUMNS):
        width = 40 if name in ("settings", "output") else None
        table.add_column(name, justify=_side(i), no_wrap=True, overflow="ellipsis", max_width=width)
    for row in rows:
        has_parts = bool(row.part.parts)
        styles = ("bold" if has_parts else "", "" if has_parts else COLOURS[kind_of(row.part)], "dim", *[""] * 5)
        table.add_row(*(Text(cell, style=style) for cell, style in zip(row.cells, styles, strict=True)))
    return table


def html_table(rows: Sequence[Row]) -> str:
    """Return the table as HTML, with shares as bars behind the numbers. All text is escaped."""
    heading = "".join(
        f'<th style="text-align:{_side(i)};padding:2px 8px">{name}</th>' for i, name in enumerate(COLUMNS)
    )
    body = "".join(f"<tr>{''.join(_html_cell(i, text, row) for i, text in enumerate(row.cells))}</tr>" for row in rows)
    return (
        '<table style="border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;white-space:nowrap">'
        f"<thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>"
    )


def shortened(text: str, width: int) -> str:
    """Return at most `width` characters of a text."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _html_cell(column: int, text: str, row: Row) -> str:
    style, text, after = f"text-align:{_side(column)};padding:1px 8px", text.strip(), ""
    if column == 0:
        style += f" 1px {8 + 16 * row.level}px;font-weight:{600 if row.part.parts else 400}"
    elif column == 1:
        style += f";border-left:4px solid {'transparent' if row.part.parts else COLOURS[kind_of(row.part)]}"
    elif column in _AMOUNTS:
        filled = 100 * row.shares[column - _FIRST_NUMBER]
        style += f";background:linear-gradient(90deg,#4d8df040 {filled:.1f}%,transparent 0)"
        text, _, share = text.rpartition(" ")
        after = f'<span style="display:inline-block;width:3em">{escape(share)}</span>'
    short = shortened(text.strip(), 60)
    about = f' title="{escape(text)}"' if short != text.strip() else ""
    return f'<td style="{style}"{about}>{escape(short)}{after}</td>'


def _row(level: int, part: ModuleCosts, count: int, root: ModuleCosts, name: str) -> Row:
    again = f" = {part.first_path}" if part.first_path else ""
    is_container = not part.calls and any(each.calls for each in part.walk())
    pairs = list(zip(_amounts(part), _amounts(root), (decimal, decimal, binary), strict=True))
    return Row(
        level, part,
        (
            "  " * level + (part.name or name), part.kind + again + (f" x{count}" if count > 1 else ""), part.settings,
            shape_text(part.output),
            *(f"{text(amount)} {percent(amount, whole):>4}" if amount else "" for amount, whole, text in pairs),
            "" if is_container else str(part.calls),
        ),
        tuple(amount / (whole or 1) for amount, whole, _ in pairs),
    )  # fmt: skip


def _found(root: ModuleCosts, depth: int) -> _Found:
    found: _Found = [(0, root, 1)]

    def look_below(part: ModuleCosts, level: int) -> None:
        if level > depth:
            return
        for _, group in groupby(part.parts, lambda each: each.path if each.first_path else _looks(each, depth - level)):
            alike = list(group)
            merged = _merged(alike)
            found.append((level, merged, len(alike)))
            look_below(merged, level + 1)

    look_below(root, 1)
    return found


def _looks(part: ModuleCosts, depth: int) -> tuple[Any, ...]:
    """Return what a table shows of a module and, to a depth, of those below it; of others the class and the costs."""
    shown = part.settings if depth >= 0 else ""
    numbers = (*_amounts(part), part.trainable, part.calls, str(part.output), bool(part.first_path), part.is_residual)
    return part.kind, shown, numbers, *((each.name, _looks(each, depth - 1)) for each in part.parts)


def _merged(alike: Sequence[ModuleCosts]) -> ModuleCosts:
    """Return modules that look alike as one, with the sums of their costs."""
    if len(alike) == 1:
        return alike[0]
    first, last = alike[0], alike[-1]
    listed = ", ".join(dict.fromkeys(part.name for part in alike))  # those of merged parents have one name
    if first.name != last.name and (first.name.isdecimal() or len(listed) > 30):
        listed = f"{first.name}-{last.name}"
    above = first.path.rpartition(".")[0]
    return replace(
        first, path=f"{above}.{listed}" if above else listed,
        parameters=sum(p.parameters for p in alike), trainable=sum(p.trainable for p in alike),
        multiply_adds=sum(p.multiply_adds for p in alike), activation_bytes=sum(p.activation_bytes for p in alike),
        parts=tuple(_merged(each) for each in zip(*(part.parts for part in alike), strict=True)),
    )  # fmt: skip


def _amounts(part: ModuleCosts) -> tuple[int, int, int]:
    return part.parameters, part.multiply_adds, part.activation_bytes


def _side(column: int) -> Literal["left", "right"]:
    return "right" if column >= _FIRST_NUMBER else "left"
