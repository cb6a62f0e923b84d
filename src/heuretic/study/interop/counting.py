"""One line in a terminal while many trials are read or written."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def counted(items: Iterable[T], what: str, total: int, progress: bool | None) -> Iterator[T]:
    """Yield the items, showing how many have passed.

    Args:
        progress: False for silence, True to show always, None to show in a terminal.
    """
    if progress is False or (progress is None and not sys.stderr.isatty()):
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, what, total=total, console=Console(stderr=True), transient=True)
