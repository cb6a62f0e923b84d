"""How programs look: multi-line `repr`, and collapsible HTML for notebooks and reports."""

from __future__ import annotations

from enum import Enum
from html import escape
from typing import Any

from heuretic.symbolic.calls import Call
from heuretic.symbolic.checks import MISSING
from heuretic.symbolic.errors import Key
from heuretic.symbolic.names import Name, name_of
from heuretic.symbolic.values import FrozenDict, Node

WIDTH = 88


def text(value: Any, indent: int = 0, room: int = WIDTH) -> str:
    """Return `value` on one line if it fits in `room`, else one child a line. Fields at their default are left out."""
    if not isinstance(value, Node | tuple | FrozenDict):
        return leaf(value)
    opening, closing = _brackets(value)
    parts = [(f"{label}", child) for label, child in labelled(value)]
    one_line = _flat(value, room)
    if one_line is not None:
        return one_line
    inner = indent + 2
    lines = [f"{' ' * inner}{label}{text(child, inner, WIDTH - inner - len(label))}," for label, child in parts]
    return "\n".join([opening, *lines, " " * indent + closing])


def _flat(value: Any, room: int) -> str | None:
    """Return the text on one line, or None as soon as it is clear that it does not fit."""
    if not isinstance(value, Node | tuple | FrozenDict):
        shown = leaf(value)
        return shown if len(shown) <= room else None
    opening, closing = _brackets(value)
    left = room - len(opening) - len(closing)
    shown_parts: list[str] = []
    for label, child in labelled(value):
        shown = _flat(child, left - len(label))
        if shown is None or left < 0:
            return None
        shown_parts.append(label + shown)
        left -= len(label) + len(shown) + 2
    if left < -2:
        return None
    if value.__class__ is tuple and len(value) == 1:
        shown_parts[0] += ","
    return opening + ", ".join(shown_parts) + closing


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
        specs = type(value).__fields__  # type: ignore[attr-defined]
        shown: list[tuple[str, Any]] = []
        for key, child in value.__items__():
            if key == getattr(type(value), "__spread__", None):
                shown.extend(("", item) for item in child)
            elif not _is_default(specs[key], child):
                shown.append((f"{key}=", child))
        return shown
    if isinstance(value, FrozenDict):
        return [(f"{key!r}: ", child) for key, child in value.items()]
    return [("", child) for child in value]


def _is_default(spec: Any, value: Any) -> bool:
    default = spec.default
    if default is MISSING:
        default = spec.default_factory() if spec.default_factory is not None else MISSING
    if isinstance(default, list):
        default = tuple(default)
    return default.__class__ is value.__class__ and bool(default == value)


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
    inner = "".join(_html(child_label or _position(value, i), child, depth - 1) for i, (child_label, child) in enumerate(parts))
    is_open = " open" if depth > 0 else ""
    hint = f" <i>{escape(str(name_of_node(value)))}</i>" if isinstance(value, Node) else ""
    return f"<details{is_open}><summary>{shown_label}<b>{escape(name)}</b>{hint}</summary>{inner}</details>"


def name_of_node(node: Node) -> str:
    """Return the importable name behind a node."""
    return node.__head__()


def _position(value: Any, index: int) -> Key:
    return f"[{index}] " if not isinstance(value, FrozenDict) else ""
