"""Reading and editing trees: `walk`, `find`, `get`, `replace`, `build`, `program_of`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Protocol, TypeVar, cast, overload

from heuretic.symbolic.adapters import Adapter, adapter_for
from heuretic.symbolic.calls import Call, make, parameter_names
from heuretic.symbolic.errors import InvalidField, Key, OpenChoiceError, PathError, brief, shortened
from heuretic.symbolic.names import Name
from heuretic.symbolic.nodes import Symbolic
from heuretic.symbolic.paths import Path, PathLike, as_path
from heuretic.symbolic.values import SCALARS, FrozenDict, Node, Open, children, freeze, inner, rooted

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Selector = type | tuple[type, ...] | Callable[[Any], bool]


def walk(tree: Any) -> Iterator[tuple[Path, Any]]:
    """Yield (path, value) for the tree and everything in it, parents before children, leaves included.

    Of a built object of a framework with an adapter, such as a `torch.nn.Module`, the parts are walked that patches see.
    """
    adapter = None if isinstance(tree, Node | tuple | list | dict) else adapter_for(tree)
    if adapter is not None:
        yield from _walk_parts(tree, (), adapter, set())
        return
    stack: list[tuple[tuple[Key, ...], Any]] = [((), rooted(tree))]
    while stack:
        path, value = stack.pop()
        yield Path(path), value
        if value.__class__ not in SCALARS:
            stack.extend([((*path, key), child) for key, child in children(value)][::-1])


def _walk_parts(part: Any, at: tuple[Key, ...], adapter: Adapter, seen: set[int]) -> Iterator[tuple[Path, Any]]:
    if id(part) in seen:  # it stands in two places, and is one part
        return
    seen.add(id(part))
    yield Path(at), part
    for key, child in adapter.children(part):
        yield from _walk_parts(child, (*at, key), adapter, seen)


def find(tree: Any, selector: Selector) -> list[tuple[Path, Any]]:
    """Return (path, value) for everything that `selector` picks, in the order of `walk`.

    Args:
        selector: A class (or tuple of classes), which picks objects of it and symbolic calls that make one, or a
            function of the value that returns whether to pick it.
    """
    if not isinstance(selector, type | tuple):
        return [(path, value) for path, value in walk(tree) if selector(value)]
    classes = selector if isinstance(selector, tuple) else (selector,)
    built = not isinstance(tree, Node | tuple | list | dict) and adapter_for(tree) is not None
    if built or any(issubclass(simple, classes) for simple in (*SCALARS, tuple)):
        return [(path, value) for path, value in walk(tree) if isinstance(value, classes) or is_call_of(value, classes)]
    found: list[tuple[Path, Any]] = []
    stack: list[tuple[tuple[Key, ...], Any]] = [((), rooted(tree))]
    while stack:
        path, value = stack.pop()
        if isinstance(value, classes) or (value.__class__ is Call and is_call_of(value, classes)):
            found.append((Path(path), value))
        below = value.__inner__() if isinstance(value, Node) else inner(value)
        if len(below) > 1:
            below.reverse()
        for key, child in below:
            if child.__class__ is tuple:  # its items at once, instead of one more round
                for i in range(len(child) - 1, -1, -1):
                    if child[i].__class__ not in SCALARS:
                        stack.append((path + (key, i), child[i]))  # noqa: RUF005 - half as fast otherwise
            else:
                stack.append((path + (key,), child))  # noqa: RUF005
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
    tree = rooted(tree)
    for depth, key in enumerate(keys := as_path(path)):
        tree = _child(tree, key, keys[:depth])
    return tree


def _child(value: Any, key: Key, at: tuple[Key, ...]) -> Any:
    adapter = None if isinstance(value, Node | tuple | FrozenDict) else adapter_for(value)
    if adapter is not None:
        parts = dict(adapter.children(value))
        if key in parts:
            return parts[key]
    if isinstance(key, str):
        if isinstance(value, FrozenDict):
            if key in value:
                return value[key]
        elif isinstance(value, Call) or (isinstance(value, Symbolic) and key in type(value).__fields__):
            try:
                return getattr(value, key)
            except AttributeError:
                pass
    elif isinstance(value, Call | tuple):
        try:
            return value[key]
        except IndexError:
            pass
    raise _no_such(value, key, at)


def _no_such(value: Any, key: Key, at: tuple[Key, ...]) -> PathError:
    adapter = None if isinstance(value, Node | tuple | FrozenDict) else adapter_for(value)
    known: list[Key] = [k for k, _ in (children(value) if adapter is None else adapter.children(value))]
    if isinstance(value, Call):
        known += [name for name in parameter_names(value) if name not in known]
    close = get_close_matches(str(key), [str(k) for k in known], 1)
    if isinstance(key, int):
        hint = f"it has {sum(isinstance(k, int) for k in known)} positions"
    else:
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(map(str, known[:12])) or 'no parts'}"
    place = f"at {shortened(str(Path(at)), 200)!r} " if at else ""
    wanted = shortened(str(Path((key,))), 80)
    return PathError(f"no {wanted!r} {place}in {brief(value)}; {shortened(hint, 300)}")


def replace(tree: T, changes: Mapping[str, Any] | Mapping[tuple[Key, ...], Any] | None = None, /, **fields: Any) -> T:
    """Return a tree in which the given places hold the given values; all that is not touched is shared.

    `hr.replace(tree, {"blocks[2].filters": 64, "lr": 0.1})` or, for fields of the root, `hr.replace(conv, filters=64)`.
    Either all changes are made or none. On an object that is no program, such as a built `torch.nn.Module`,
    named attributes are set on a shallow copy.

    Raises: PathError if a place does not exist, InvalidField if a value does not fit there, ValueError if one place
    lies inside another that is replaced too.
    """
    everything: dict[Any, Any] = {**(changes or {}), **fields}
    if len(everything) < len(changes or ()) + len(fields):
        raise ValueError("one place is replaced twice, in changes and by keyword")
    if not isinstance(tree, Node | tuple | FrozenDict):
        if isinstance(tree, list | dict):
            return replace(freeze(tree), everything)
        adapter = adapter_for(tree)
        if adapter is None:
            raise TypeError(f"replace needs a program, got {brief(tree)}")
        return cast(T, adapter.replace(tree, everything))
    if not everything:
        return tree
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


def _replace_one(root: Any, keys: tuple[Any, ...], new: Any) -> Any:
    """Rebuild the nodes from the root to one place; the common case of `replace`, kept short because it is hot."""
    parents: list[Any] = []
    value = root
    try:
        for key in keys:
            parents.append(value)
            value = value[key] if key.__class__ is int or value.__class__ is FrozenDict else getattr(value, key)
    except (TypeError, LookupError, AttributeError):
        return _replace_many(root, _nested(keys, new), ())
    fits = False  # whether `new` was checked by its own class and kept that class, so that it fits where it stands
    while parents:
        parent = parents.pop()
        key = keys[len(parents)]
        kind: Any = parent.__class__
        if kind is tuple and key.__class__ is int:
            items = [*parent]
            items[key] = new
            new = (*items,)
        elif fits and kind is not FrozenDict and key in kind.__stable__:  # type: ignore
            new = kind.__setters__[key](parent, new)  # type: ignore
        else:
            new = _with(parent, {key: new}, keys[: len(parents)])
            fits = isinstance(parent, Node) and not isinstance(parent, Open)
    return new if keys and fits else freeze(new)


def _nested(keys: tuple[Any, ...], new: Any) -> _Branch:
    for key in reversed(keys):
        new = _Branch({key: new})
    return new


def _replace_many(value: Any, changes: Mapping[Key, Any], at: tuple[Key, ...]) -> Any:
    length = len(value) if isinstance(value, tuple | Call) else 0
    if length and len({k % length if isinstance(k, int) else k for k in changes}) < len(changes):
        raise ValueError(f"one place at {str(Path(at)) or 'the root'} is replaced twice, counted from either end")
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
                changes = {
                    k % len(value) if isinstance(k, int) and -len(value) <= k < 0 else k: v for k, v in changes.items()
                }
                for key in changes:
                    if isinstance(key, int) and not 0 <= key < len(value):
                        raise _no_such(value, key, at)
            return value.__with__(changes)
        except InvalidField as error:
            if not error.path and ("a field of" in error.expected or "parameter" in error.expected):
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
        for key in changes:
            if key not in value:
                raise _no_such(value, key, at)
        return FrozenDict({**value, **{str(k): freeze(v) for k, v in changes.items()}})
    raise _no_such(value, next(iter(changes)), at)


def open_choices(tree: Any) -> list[tuple[Path, Any]]:
    """Return (path, choice) for every choice that is still open; empty if the program is complete."""
    return [(path, value) for path, value in walk(tree) if isinstance(value, Open)]


class Builds(Protocol[T_co]):
    """A node that says what is built of it."""

    def build(self) -> T_co: ...


@overload
def build(program: Builds[T_co]) -> T_co: ...
@overload
def build(program: T) -> T: ...
def build(program: Any) -> Any:
    """Make the object that a program describes: symbolic calls are called, arguments first, in order.

    A `Symbolic` object with a method `build()` is replaced by what that returns; one without is its own value.
    A node that stands in two places is built twice: programs have no identity, only value. What is built knows its
    program (`hr.program_of`) if its framework has an adapter, as `torch.nn.Module` has.

    Raises: OpenChoiceError if choices are open. Whatever the callables raise, with the path added as a note.
    """
    program = rooted(program)
    still = open_choices(program)
    if still:
        shown = "; ".join(f"{path or 'the root'}: {brief_choice(choice)}" for path, choice in still[:3])
        raise OpenChoiceError(
            f"{len(still)} choice(s) still open ({shown}{'; ...' if len(still) > 3 else ''}). "
            f"Try hr.discover(program, ...), or choose: hr.replace(program, {{path: value}})"
        )
    made = _build(program, ())
    if isinstance(program, Node) and made is not program:
        adapter = adapter_for(made)
        if adapter is not None:
            adapter.remember(made, program)
    return made


def program_of(built: Any) -> Any:
    """Return the program that an object was built from by `hr.build`, with the patches that were applied to it since.

    Edits by hand are not in it.
    Raises: ValueError if the object does not know its program.
    """
    adapter = adapter_for(built)
    program = None if adapter is None else adapter.program(built)
    if program is None:
        raise ValueError(
            f"object must be made by hr.build to know its program, got {brief(built)}. "
            f"Try hr.sym({type(built).__name__})(...), then hr.build"
        )
    return program


def completed(program: Any) -> Any:
    """Return the program with an example in place of each open choice."""
    while still := open_choices(program):
        path, choice = still[0]
        program = replace(program, {tuple(path): choice.example()}) if path else choice.example()
    return program


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
        if not any(str(note).startswith("while building ") for note in getattr(error, "__notes__", ())):
            error.add_note(f"while building {str(Path(at)) or 'the root'}")
        raise
