"""The catalogue: ideas that installed packages publish through the entry-point group `heuretic.ideas`.

An entry's name is the idea's slug and its value an object with (at least) `slug`, `title` and, where the idea can
be applied to programs, `patch`, a `Patch` class. Nothing is imported until an idea is asked for by name.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from heuretic.symbolic.errors import PatchError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@lru_cache(maxsize=1)
def entries() -> dict[str, EntryPoint]:
    """Return the entry points of all published ideas by slug, sorted.

    Raises: PatchError if two packages publish one slug, naming both.
    """
    from importlib.metadata import entry_points  # slow to import, and seldom needed

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group="heuretic.ideas"):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise PatchError(f"two packages publish the idea {point.name!r}: {other.value} and {point.value}")
    return dict(sorted(found.items()))


def published(slug: str) -> Any:
    """Import and return the idea called `slug`.

    Raises: PatchError if no installed package publishes it, or it cannot be imported.
    """
    point = entries().get(slug)
    if point is None:
        close = get_close_matches(slug, list(entries()), 1)
        hint = f"Did you mean {close[0]!r}?" if close else "Try: heuretic ideas"
        raise PatchError(f"no idea is called {slug!r}. {hint}")
    try:
        return point.load()
    except ImportError as error:
        raise PatchError(
            f"{slug} needs a package that is missing: {error}. Try: pip install 'heuretic[torch]'"
        ) from error
