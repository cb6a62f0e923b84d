"""How programs look: multi-line `repr`, and collapsible HTML for notebooks and reports."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from html import escape
from typing import Any

from heuretic.symbolic.calls import Call
from heuretic.symbolic.checks import MISSING, Field
from heuretic.symbolic.names import Name, name_of
from heuretic.symbolic.values import FrozenDict, Node, freeze, same

WIDTH = 88


def text(value: Any) -> str:
    """Return `value` on one line if it fits, else one child a line. Fields at their default are left out."""
    return _text(value, 0, WIDTH, {})


def _text(value: Any, indent: int, room: int, seen: dict[int, str | None]) -> str:
    one_line = _flat(value, seen)
    if one_line is not None and len(one_line) <= room:
        return one_line
    if not isinstance(value, Node | tuple | FrozenDict):
        return leaf(value)
    opening, closing = _brackets(value)
    inner = indent + 2
    lines = [
        f"{' ' * inner}{label}{_text(child, inner, WIDTH - inner - len(label), seen)},"
        for label, child in labelled(value)
    ]
    return "\n".join([opening, *lines, " " * indent + closing])


def _flat(value: Any, seen: dict[int, str | None]) -> str | None:
    """Return the text on one line, or None if that is longer than any line. `seen` keeps the answers by id."""
    if not isinstance(value, Node | tuple | FrozenDict):
        return leaf(value)
    if id(value) not in seen:
        seen[id(value)] = _joined(value, seen)
    return seen[id(value)]


def _joined(value: Any, seen: dict[int, str | None]) -> str | None:
    opening, closing = _brackets(value)
    left = WIDTH - len(opening) - len(closing) + 2
    parts: list[str] = []
    for label, child in labelled(value):
        shown = _flat(child, seen)
        if shown is None:
            return None
        left -= len(label) + len(shown) + 2
        if left < 0:
            return None
        parts.append(label + shown)
    comma = "," if value.__class__ is tuple and len(value) == 1 else ""
    return f"{opening}{', '.join(parts)}{comma}{closing}" if left >= 0 else None


def leaf(value: Any) -> str:
    """Return a leaf as a person would write it: functions and classes by their short name."""
    if isinstance(value, Name):
        return str(value).partition(":")[2]
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return value.__qualname__
    return repr(value)


def title(node: Any) -> str:
    """Return the short name of a node: its class, or what it calls."""
    if isinstance(node, Call):
        target = node.__target__
        return leaf(target) if isinstance(target, Name) else getattr(target, "__qualname__", None) or name_of(target)
    return getattr(type(node), "__label__", None) or type(node).__name__


def labelled(value: Any) -> list[tuple[str, Any]]:
    """Return the children to show, each with its label such as `width=`."""
    if isinstance(value, Call):
        return [("" if isinstance(key, int) else f"{key}=", child) for key, child in value.__items__()]
    if isinstance(value, Node):
        specs: Mapping[Any, Field] = getattr(type(value), "__fields__", {})
        spread = getattr(type(value), "__spread__", None)
        shown: list[tuple[str, Any]] = []
        for key, child in value.__items__():
            if key == spread:
                shown.extend(("", item) for item in child)
            elif not is_default(specs[key], child):
                shown.append((f"{key}=", child))
        return shown
    if isinstance(value, FrozenDict):
        return [(f"{key!r}: ", child) for key, child in value.items()]
    return [("", child) for child in value]


def is_default(spec: Field, value: Any) -> bool:
    """Whether a field holds what it would hold had it been left out."""
    default = spec.default_factory() if spec.default_factory is not None else spec.default
    if default is value:
        return True
    if default is MISSING:
        return False
    if value.__class__ is float and default.__class__ is int:
        default = float(default)
    return same(freeze(default), value)


def _brackets(value: Any) -> tuple[str, str]:
    if isinstance(value, Node):
        return f"{title(value)}(", ")"
    return ("{", "}") if isinstance(value, FrozenDict) else ("(", ")")


_STYLE = (
    "<style>.hr-tree{font:13px/1.5 ui-monospace,Menlo,Consolas,monospace}.hr-tree details{margin-left:1.2em}"
    ".hr-tree div{margin-left:2.3em}.hr-tree summary{cursor:pointer}.hr-tree b{font-weight:600}"
    ".hr-tree i{font-style:normal;color:#777}.hr-tree u{text-decoration:none;color:#0a6}</style>"
)


def html(tree: Any, open_depth: int = 3) -> str:
    """Return the tree as HTML whose nodes fold; needs no script and no network. All text is escaped."""
    return f'{_STYLE}<div class="hr-tree">{_html("", tree, open_depth)}</div>'


def _html(label: str, value: Any, depth: int) -> str:
    shown_label = f"<i>{escape(label)}</i>"
    if not isinstance(value, Node | tuple | FrozenDict):
        return f"<div>{shown_label}<u>{escape(leaf(value))}</u></div>"
    parts = labelled(value)
    name = title(value) if isinstance(value, Node) else f"{len(value)} items"
    if not parts:
        return f"<div>{shown_label}<b>{escape(name)}</b></div>"
    inner = "".join(
        _html(child_label or _position(value, i), child, depth - 1) for i, (child_label, child) in enumerate(parts)
    )
    is_open = " open" if depth > 0 else ""
    hint = f" <i>{escape(str(name_of_node(value)))}</i>" if isinstance(value, Node) else ""
    return f"<details{is_open}><summary>{shown_label}<b>{escape(name)}</b>{hint}</summary>{inner}</details>"


def name_of_node(node: Node) -> str:
    """Return the importable name behind a node."""
    return node.__head__()


def _position(value: Any, index: int) -> str:
    return f"[{index}] " if not isinstance(value, FrozenDict) else ""
