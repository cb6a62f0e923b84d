"""`diff`: what changed between two programs, place by place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, overload

from heuretic.symbolic.adapters import adapter_for
from heuretic.symbolic.digests import digest_bytes
from heuretic.symbolic.display import labelled, text, title
from heuretic.symbolic.errors import Key
from heuretic.symbolic.paths import Path
from heuretic.symbolic.values import FrozenDict, Node, children, rooted, same


class Absent:
    """Stands for "nothing there" on one side of a change."""

    def __repr__(self) -> str:
        return "(absent)"


ABSENT = Absent()


@dataclass(frozen=True, slots=True)
class Change:
    """One place where two programs differ. `path` is the place in the first program, or in the second if absent there."""

    path: Path
    before: Any
    after: Any

    def __str__(self) -> str:
        place = str(self.path) or "(root)"
        if self.before is ABSENT:
            return f"+ {place}: {_one_line(self.after)}"
        if self.after is ABSENT:
            return f"- {place}: {_one_line(self.before)}"
        return f"~ {place}: {_one_line(self.before)} -> {_one_line(self.after)}"


class Diff(Sequence[Change]):
    """The changes between two programs; prints one line each, and in colour in notebooks and through rich."""

    def __init__(self, changes: list[Change]) -> None:
        self._changes = changes

    @overload
    def __getitem__(self, index: int) -> Change: ...
    @overload
    def __getitem__(self, index: slice) -> list[Change]: ...
    def __getitem__(self, index: int | slice) -> Change | list[Change]:
        return self._changes[index]

    def __len__(self) -> int:
        return len(self._changes)

    def __iter__(self) -> Iterator[Change]:
        return iter(self._changes)

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "(no difference)"

    __repr__ = __str__

    def __rich__(self) -> Any:
        from rich.text import Text

        colours = {"+": "green", "-": "red", "~": "yellow"}
        return Text("\n").join([Text(line, colours[line[0]]) for line in map(str, self)] or [Text("(no difference)")])

    def _repr_html_(self) -> str:
        from html import escape

        colours = {"+": "#0a7d32", "-": "#b3261e", "~": "#8a6100"}
        lines = [f'<span style="color:{colours[line[0]]}">{escape(line)}</span>' for line in map(str, self)]
        return f"<pre>{'<br>'.join(lines) or '(no difference)'}</pre>"


def diff(before: Any, after: Any) -> Diff:
    """Return the changes that turn one program into the other. Subtrees with equal digests are not entered.

    Built objects of any framework with an adapter (such as `torch.nn.Module`) are compared by the classes, settings and
    shapes of their parts, not by weights.
    """
    changes: list[Change] = []
    _compare((), _seen(before), _seen(after), changes)
    return Diff(changes)


def _seen(tree: Any) -> Any:
    adapter = None if isinstance(tree, Node | tuple | list | dict) else adapter_for(tree)
    return rooted(tree) if adapter is None else adapter.outline(tree)


def _compare(path: tuple[Key, ...], a: Any, b: Any, out: list[Change]) -> None:
    if a is b:
        return
    if isinstance(a, Node) and isinstance(b, Node):
        if digest_bytes(a) == digest_bytes(b):
            return
        if type(a) is type(b) and a.__head__() == b.__head__():
            return _compare_keyed(path, a, b, out)
    elif a.__class__ is tuple and b.__class__ is tuple:
        return _compare_sequences(path, list(enumerate(a)), list(enumerate(b)), out)  # type: ignore
    elif isinstance(a, FrozenDict) and isinstance(b, FrozenDict):
        return _compare_keyed(path, a, b, out)
    if not same(a, b):
        out.append(Change(Path(path), a, b))


def _compare_keyed(path: tuple[Key, ...], a: Any, b: Any, out: list[Change]) -> None:
    left, right = dict(children(a)), dict(children(b))
    if [k for k in left if k in right] != [k for k in right if k in left]:  # order counts in a mapping
        out.append(Change(Path(path), a, b))
        return
    names = dict.fromkeys([*(k for k in left if isinstance(k, str)), *(k for k in right if isinstance(k, str))])
    for name in names:
        if name not in left:
            out.append(Change(Path((*path, name)), ABSENT, right[name]))
        elif name not in right:
            out.append(Change(Path((*path, name)), left[name], ABSENT))
        else:
            _compare((*path, name), left[name], right[name], out)
    _compare_sequences(
        path,
        [(k, v) for k, v in left.items() if isinstance(k, int)],
        [(k, v) for k, v in right.items() if isinstance(k, int)],
        out,
    )


def _compare_sequences(
    path: tuple[Key, ...], a: list[tuple[Key, Any]], b: list[tuple[Key, Any]], out: list[Change]
) -> None:
    if len(a) == len(b):
        for (key, left), (_, right) in zip(a, b, strict=True):
            _compare((*path, key), left, right, out)
        return
    matcher = SequenceMatcher(None, [digest_bytes(v) for _, v in a], [digest_bytes(v) for _, v in b], autojunk=False)
    for kind, a0, a1, b0, b1 in matcher.get_opcodes():
        if kind == "equal":
            continue
        paired = min(a1 - a0, b1 - b0)
        for i in range(paired):
            _compare((*path, a[a0 + i][0]), a[a0 + i][1], b[b0 + i][1], out)
        out.extend(Change(Path((*path, key)), value, ABSENT) for key, value in a[a0 + paired : a1])
        out.extend(Change(Path((*path, key)), ABSENT, value) for key, value in b[b0 + paired : b1])


def _one_line(value: Any, limit: int = 100) -> str:
    shown = " ".join(repr(value).split()) if value is ABSENT else " ".join(text(value).split())
    if isinstance(value, Node) and len(shown) > limit:
        brief = f"{title(value)}({', '.join(label + _short(child) for label, child in labelled(value))})"
        return brief if len(brief) <= limit else f"{title(value)}(...)"
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def _short(value: Any, limit: int = 40) -> str:
    shown = " ".join(text(value).split())
    if len(shown) <= limit:
        return shown
    return f"{title(value)}(...)" if isinstance(value, Node) else "..."
