"""Adapters: how patches reach objects that are no programs, such as built `torch.nn.Module`s.

The core imports no framework. A package says which class it can adapt in the entry-point group
`heuretic.adapters` (name: the class as `package.module.Class`, value: the adapter object); it is loaded only when
an object of that class is patched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from heuretic.symbolic.errors import Key

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class Adapter(Protocol):
    """What patches need to know of a foreign tree."""

    def copy(self, root: Any) -> Any:
        """Return an independent copy of the whole tree, weights included."""
        ...

    def children(self, node: Any) -> Iterator[tuple[Key, Any]]:
        """Yield (key, child) for the parts of `node` that patches may replace."""
        ...

    def fit(self, old: Any, new: Any) -> Any:
        """Return `new`, built if it is a program, with all state of `old` that fits it."""
        ...

    def assign(self, parent: Any, key: Key, child: Any) -> None:
        """Put `child` in the place `key` of `parent`, in place."""
        ...

    def replace(self, node: Any, changes: Mapping[str, Any]) -> Any:
        """Return a shallow copy of `node` with attributes changed; parts not named are shared."""
        ...

    def finish(self, root: Any) -> None:
        """Mend, in place, what parts of the tree derive from others; called once, when all patches are applied."""
        ...

    def remember(self, root: Any, program: Any) -> None:
        """Let `root` know the program it was built from; None makes it forget."""
        ...

    def program(self, root: Any) -> Any:
        """Return the program that `remember` was given, or None."""
        ...

    def outline(self, root: Any) -> Any:
        """Return the tree as nodes that can be compared and shown, without its weights."""
        ...

    def draft(self, program: Any) -> Any:
        """Return what a complete program builds, cheaply and without weights, or None if that is none of this framework's
        objects. May raise whatever building it does."""
        ...


@lru_cache(maxsize=1)
def _published() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # slow to import, and seldom needed

    return {point.name: point for point in entry_points(group="heuretic.adapters")}


@lru_cache(maxsize=1024)
def _adapter_for_class(cls: type) -> Adapter | None:
    for base in cls.__mro__:
        point = _published().get(f"{base.__module__}.{base.__qualname__}")
        if point:
            return point.load()
    return None


def adapter_for(value: Any) -> Adapter | None:
    """Return the adapter for an object of a foreign framework, or None if no package has one."""
    return _adapter_for_class(type(value))


def draft(program: Any) -> tuple[Any, Adapter] | None:
    """Return what a complete program builds, without weights, and its framework's adapter; None if no framework can tell.

    Raises: whatever building it does.
    """
    for point in _published().values():
        try:
            adapter = point.load()
        except ImportError:  # the framework is not installed
            continue
        made = adapter.draft(program)
        if made is not None:
            return made, adapter
    return None
