"""What may stand in a tree: leaves, immutable containers, nodes, and placeholders for open choices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, ClassVar, NoReturn

from heuretic.symbolic.errors import FrozenError, InvalidField, Key
from heuretic.symbolic.names import Name, is_reference, name_of

SCALARS = frozenset((type(None), bool, int, float, str))
_EMPTY = ()
LEAF = "a scalar, string, None, enum, dtype, importable function or class, a program, or a list or mapping of these"


class FrozenDict(dict[str, Any]):
    """An immutable, hashable mapping from names to values. Order counts: `{a, b} != {b, a}`.

    Order counts because it can decide what is built (the layers of `nn.Sequential(OrderedDict(...))`).
    """

    __slots__ = ()

    def _frozen(self, *_: Any, **__: Any) -> NoReturn:
        raise FrozenError("a mapping inside a program cannot be edited in place. Try hr.replace(tree, {path: value})")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _frozen  # type: ignore

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and dict.__eq__(self, other) and list(self) == list(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDict, (dict(self),)

    def __copy__(self) -> FrozenDict:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenDict:
        return self


class Node:
    """What `Symbolic` objects and symbolic calls have in common. Not for subclassing by users."""

    __slots__ = ("__digest__", "__weakref__")
    #: Kept once it was asked for; None before.
    __digest__: bytes | None
    #: Fields in which a value may be exchanged for another of its class without a new check.
    __stable__: ClassVar[frozenset[str]] = frozenset()

    def __items__(self) -> Iterable[tuple[Key, Any]]:
        """Return the children, leaves included, in order."""
        raise NotImplementedError

    def __inner__(self) -> list[tuple[Key, Any]]:
        """Return the children without scalars and empty tuples, in order."""
        return [
            (key, child) for key, child in self.__items__() if child.__class__ not in SCALARS and child is not _EMPTY
        ]

    def __with__(self, changes: Mapping[Key, Any]) -> Node:
        """Return a node in which `changes` are made and checked; all else is shared."""
        raise NotImplementedError

    def __head__(self) -> str:
        """Return the importable name of the class or of the callable."""
        raise NotImplementedError

    def __compute_digest__(self) -> bytes:
        """Compute the digest, keep it in `__digest__`, and return it."""
        raise NotImplementedError

    def __hash__(self) -> int:
        from heuretic.symbolic.digests import digest_bytes

        return int.from_bytes(digest_bytes(self)[:8], "little")

    def __copy__(self) -> Node:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Node:
        return self

    def __str__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        from heuretic.symbolic.display import text

        return text(self)

    def _repr_html_(self) -> str:
        from heuretic.symbolic.display import html

        return html(self)


class Open:
    """A value that is not decided yet. `search.choices` has the kinds; the core only has to let them pass."""

    __slots__ = ()

    def admit(self, check: Callable[[Any], Any], wanted: type | None = None) -> Any:
        """Return this placeholder with every value it can take passed through `check`.

        `wanted` is the class of number that the field is annotated with, if any.

        Raises: InvalidField if one of the values does not fit.
        """
        raise NotImplementedError

    def example(self) -> Any:
        """Return a value it can take; choices inside that are still open."""
        raise NotImplementedError


def freeze(value: Any) -> Any:
    """Return `value` as an immutable leaf or container; nodes and placeholders pass as they are.

    Raises: InvalidField, with the path inside `value`, for anything that cannot be saved and compared.
    """
    kind = value.__class__
    if kind in SCALARS:
        if kind is float:
            return check_float(value)
        return value
    if isinstance(value, Node):
        return value
    if isinstance(value, Enum | Name):
        return value
    if isinstance(value, list | tuple):
        return tuple([_under(i, item) for i, item in enumerate(value)])
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InvalidField("mapping keys of type str", key)
        return FrozenDict({str.__str__(key): _under(key, item) for key, item in value.items()})
    if kind.__module__ == "numpy" and getattr(value, "ndim", 1) == 0 and hasattr(value, "item"):
        return freeze(value.item())
    if isinstance(value, str):  # a subclass: keep the plain value, which is what is compared and saved
        return str.__str__(value)
    for scalar in (int, float):
        if isinstance(value, scalar):
            return freeze(scalar(value))
    if is_reference(value):
        name_of(value)
        return value
    raise InvalidField(LEAF, value)


def rooted(tree: Any) -> Any:
    """Return the tree, frozen if its root is a plain list or dict."""
    return freeze(tree) if tree.__class__ in (list, dict) else tree


def check_float(value: float) -> float:
    """Return `value`, with -0.0 as 0.0 (they compare equal, so they must hash equal); NaN is refused."""
    if value != value:
        raise InvalidField("a number (NaN is not equal to itself, so programs with it cannot be compared)", value)
    return value + 0.0


def _under(key: Key, item: Any) -> Any:
    try:
        return freeze(item)
    except InvalidField as error:
        raise error.under(key) from None
    except RecursionError:
        raise InvalidField("a value without cycles and nested less than 200 deep", ...) from None


def same(a: Any, b: Any) -> bool:
    """Whether two frozen values are equal *and* of equal type: 1, 1.0 and True are three different values."""
    kind = a.__class__
    if kind is not b.__class__:
        return False
    if kind is tuple:
        return len(a) == len(b) and all(map(same, a, b))
    if kind is FrozenDict:
        return list(a) == list(b) and all(map(same, a.values(), b.values()))
    return bool(a == b)


def children(value: Any) -> Iterable[tuple[Key, Any]]:
    """Return (key, child) of a node or container, leaves included; nothing for a leaf."""
    if isinstance(value, Node):
        return value.__items__()
    if value.__class__ is tuple:
        return enumerate(value)
    return value.items() if isinstance(value, FrozenDict) else ()


def inner(value: Any) -> list[tuple[Key, Any]]:
    """Return those of the `children` that may themselves have some, or be nodes: all but scalars and empty tuples."""
    if isinstance(value, Node):
        return value.__inner__()
    return [(key, child) for key, child in children(value) if child.__class__ not in SCALARS and child is not _EMPTY]
