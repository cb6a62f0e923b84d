"""Reading and editing trees: `walk`, `find`, `get`, `replace`, `is_open`, `build`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, cast

from heuretic.symbolic.adapters import adapter_for
from heuretic.symbolic.calls import Call, make
from heuretic.symbolic.errors import InvalidField, Key, OpenChoiceError, PathError, brief
from heuretic.symbolic.names import Name
from heuretic.symbolic.nodes import Symbolic, run_post_init
from heuretic.symbolic.paths import Path, PathLike, as_path
from heuretic.symbolic.values import SCALARS, FrozenDict, Node, Open, children, freeze

T = TypeVar("T")
Selector = type | tuple[type, ...] | Callable[[Any], bool]


def walk(tree: Any) -> Iterator[tuple[Path, Any]]:
    """Yield (path, value) for the tree and everything in it, parents before children, leaves included."""
    stack: list[tuple[tuple[Key, ...], Any]] = [((), tree)]
    while stack:
        path, value = stack.pop()
        yield Path(path), value
        if value.__class__ not in SCALARS:
            stack.extend([((*path, key), child) for key, child in children(value)][::-1])


def find(tree: Any, selector: Selector) -> list[tuple[Path, Any]]:
    """Return (path, value) for everything that `selector` picks, in the order of `walk`.

    Args:
        selector: A class (or tuple of classes), which picks objects of it and symbolic calls that make one, or a
            function of the value that returns whether to pick it.
    """
    picks: Callable[[Any], bool]
    if isinstance(selector, type | tuple):
        classes = selector if isinstance(selector, tuple) else (selector,)
        skip = not any(issubclass(scalar, classes) for scalar in SCALARS)

        def picks(value: Any) -> bool:
            return isinstance(value, classes) or is_call_of(value, classes)
    else:
        picks, skip = selector, False
    found: list[tuple[Path, Any]] = []

    def visit(path: tuple[Key, ...], value: Any) -> None:
        if picks(value):
            found.append((Path(path), value))
        for key, child in children(value):
            if not (skip and child.__class__ in SCALARS):
                visit((*path, key), child)

    visit((), tree)
    return found


def is_call_of(value: Any, classes: tuple[type, ...]) -> bool:
    """Whether `value` is a symbolic call of one of `classes` or of a class derived from one."""
    if not isinstance(value, Call):
        return False
    target = value.__target__
    return isinstance(target, type) and not isinstance(target, Name) and issubclass(target, classes)


def get(tree: Any, path: PathLike) -> Any:
    """Return what stands at `path`, such as `"blocks[2].filters"`.

    Raises: PathError naming the first part that leads nowhere.
    """
    for depth, key in enumerate(keys := as_path(path)):
        tree = _child(tree, key, keys[:depth])
    return tree


def _child(value: Any, key: Key, at: tuple[Key, ...]) -> Any:
    if isinstance(key, str):
        if isinstance(value, FrozenDict):
            if key in value:
                return value[key]
        elif isinstance(value, Node):
            try:
                return getattr(value, key)
            except AttributeError:
                pass
    elif isinstance(value, Call):
        try:
            return value[key]
        except IndexError:
            pass
    elif isinstance(value, tuple):
        try:
            return value[key]
        except IndexError:
            pass
    raise _no_such(value, key, at)


def _no_such(value: Any, key: Key, at: tuple[Key, ...]) -> PathError:
    known = [k for k, _ in children(value)]
    close = get_close_matches(str(key), [str(k) for k in known], 1)
    if isinstance(key, int):
        hint = f"it has {sum(isinstance(k, int) for k in known)} positions"
    else:
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(map(str, known[:12])) or 'no parts'}"
    place = f"at {str(Path(at))!r} " if at else ""
    return PathError(f"no {str(Path((key,)))!r} {place}in {brief(value)}; {hint}")


def replace(tree: T, changes: Mapping[str, Any] | Mapping[tuple[Key, ...], Any] | None = None, /, **fields: Any) -> T:
    """Return a tree in which the given places hold the given values; all that is not touched is shared.

    `hr.replace(tree, {"blocks[2].filters": 64, "lr": 0.1})` or, for fields of the root, `hr.replace(conv, filters=64)`.
    Either all changes are made or none. On an object that is no program, such as a built `torch.nn.Module`,
    named attributes are set on a shallow copy.

    Raises: PathError if a place does not exist, InvalidField if a value does not fit there, ValueError if one place
    lies inside another that is replaced too.
    """
    everything: dict[Any, Any] = {**(changes or {}), **fields}
    if not isinstance(tree, Node | tuple | FrozenDict):
        if isinstance(tree, list | dict):
            return replace(freeze(tree), everything)
        adapter = adapter_for(tree)
        if adapter is None:
            raise TypeError(f"replace needs a program, got {brief(tree)}")
        return cast(T, adapter.replace(tree, everything))
    if len(everything) == 1:
        [(path, value)] = everything.items()
        keys = as_path(path)
        return cast(T, _replace_one(tree, keys, value))
    root: dict[Key, Any] = {}
    for path, value in everything.items():
        level, keys = root, as_path(path)
        for key in keys[:-1]:
            level = level.setdefault(key, _Branch())
            if not isinstance(level, _Branch):
                raise ValueError(f"{path} lies inside another place that is replaced too; replace one of the two")
        if keys[-1:] and keys[-1] in level:
            raise ValueError(f"{path} is replaced twice, or lies around another place that is replaced too")
        if not keys:
            raise ValueError("the root cannot be replaced together with other places")
        level[keys[-1]] = value
    return cast(T, _replace_many(tree, root, ()))


class _Branch(dict[Key, Any]):
    """Changes below one key."""


def _replace_one(root: Any, keys: tuple[Key, ...], new: Any) -> Any:
    """Rebuild the nodes from the root to one place; the common case of `replace`, kept short because it is hot."""
    parents: list[Any] = []
    value = root
    for depth, key in enumerate(keys):
        parents.append(value)
        try:
            value = value[key] if value.__class__ is tuple else getattr(value, key)  # type: ignore[arg-type]
        except (TypeError, IndexError, AttributeError):
            if depth + 1 < len(keys):
                value = _child(value, key, keys[:depth])
    unchecked = True
    for depth in range(len(keys) - 1, -1, -1):
        parent, key = parents[depth], keys[depth]
        if parent.__class__ is tuple and key.__class__ is int and -len(parent) <= key < len(parent):  # type: ignore[operator]
            items = list(parent)
            items[key] = new  # type: ignore[call-overload]
            new = tuple(items)
        elif unchecked or not isinstance(parent, Symbolic) or key not in parent.__stable__:  # type: ignore[attr-defined]
            new = _with(parent, {key: new}, keys[:depth])
            unchecked = False
        else:  # the child was checked and kept its class, so it still fits here
            cls = parent.__class__
            draft = cls.__draft__(parent)  # type: ignore[attr-defined]
            setattr(draft, key, new)  # type: ignore[arg-type]
            draft.__class__ = cls
            if cls.__has_post_init__:  # type: ignore[attr-defined]
                run_post_init(draft)
            new = draft
    return freeze(new) if unchecked else new


def _replace_many(value: Any, changes: Mapping[Key, Any], at: tuple[Key, ...]) -> Any:
    done = {
        key: _replace_many(_child(value, key, at), new, (*at, key)) if isinstance(new, _Branch) else new
        for key, new in changes.items()
    }
    return _with(value, done, at)


def _with(value: Any, changes: Mapping[Key, Any], at: tuple[Key, ...]) -> Any:
    """Return `value`, a node or container at path `at`, with some children replaced and checked."""
    if isinstance(value, Node):
        try:
            if isinstance(value, Call):
                changes = {k % len(value) if isinstance(k, int) and -len(value) <= k < 0 else k: v for k, v in changes.items()}
                for key in changes:
                    if isinstance(key, int) and not 0 <= key < len(value):
                        raise _no_such(value, key, at)
            return value.__with__(changes)
        except InvalidField as error:
            if "a field of" in error.expected or "no parameter" in error.expected:
                raise _no_such(value, error.got, at) from None
            raise error.under(*at) from None
    if value.__class__ is tuple:
        items = list(value)
        for key, new in changes.items():
            if not isinstance(key, int) or not -len(items) <= key < len(items):
                raise _no_such(value, key, at)
            items[key] = new
        return tuple(items)
    if isinstance(value, FrozenDict):
        return FrozenDict({**value, **{str(k): freeze(v) for k, v in changes.items()}})
    raise _no_such(value, next(iter(changes)), at)


def open_choices(tree: Any) -> list[tuple[Path, Any]]:
    """Return (path, choice) for every choice that is still open; empty if the program is complete."""
    return [(path, value) for path, value in walk(tree) if isinstance(value, Open)]


def build(program: T) -> T:
    """Make the object that a program describes: symbolic calls are called, arguments first, in order.

    A `Symbolic` object with a method `build()` is replaced by what that returns; one without is its own value.
    A node that stands in two places is built twice: programs have no identity, only value.

    Raises: OpenChoiceError if choices are open. Whatever the callables raise, with the path added as a note.
    """
    still = open_choices(program)
    if still:
        shown = "; ".join(f"{path or 'the root'}: {brief_choice(choice)}" for path, choice in still[:3])
        raise OpenChoiceError(
            f"{len(still)} choice(s) still open ({shown}{'; ...' if len(still) > 3 else ''}). "
            f"Try hr.discover(program, ...), or choose: hr.replace(program, {path: value})"
        )
    return cast(T, _build(program, ()))


def brief_choice(choice: Any, limit: int = 50) -> str:
    """Return a one-line text of an open choice for messages."""
    text = " ".join(repr(choice).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _build(value: Any, at: tuple[Key, ...]) -> Any:
    if isinstance(value, Call):
        if isinstance(value.__target__, Name):
            raise TypeError(f"{value.__target__} was loaded without resolving names; it can be read but not built")
        return _noting(at, make, value, {key: _build(child, (*at, key)) for key, child in value.__items__()})
    if isinstance(value, Node):
        method = getattr(value, "build", None)
        if callable(method):
            return _noting(at, method)
        inner = next((path for path, child in walk(value) if isinstance(child, Call)), None)
        if inner is not None:
            raise TypeError(
                f"{type(value).__name__} has no build() but holds a symbolic call at {inner}. "
                f"Define build(self), or build the part: hr.build(program.{inner})"
            )
        return value
    if value.__class__ is tuple:
        return tuple(_build(child, (*at, i)) for i, child in enumerate(value))
    if isinstance(value, FrozenDict):
        return {key: _build(child, (*at, key)) for key, child in value.items()}
    return value


def _noting(at: tuple[Key, ...], function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as error:
        if not getattr(error, "__notes__", None):
            error.add_note(f"while building {str(Path(at)) or 'the root'}")
        raise
