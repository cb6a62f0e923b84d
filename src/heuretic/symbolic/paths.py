"""Paths such as `blocks[2].filters`: how a place in a tree is written and read."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TypeAlias

from heuretic.symbolic.errors import Key, PathError

_SEGMENT = re.compile(r'\.?([^\W\d]\w*)|\[(-?\d+)\]|\[("(?:[^"\\]|\\.)*")\]')


_PLAIN = re.compile(r"[^\W\d]\w*")


class Path(tuple[Key, ...]):
    """Keys from the root to a place: field, parameter and mapping names as `str`, positions as `int`."""

    __slots__ = ()

    def __str__(self) -> str:
        text = ""
        for key in self:
            if isinstance(key, int):
                text += f"[{key}]"
            elif _PLAIN.fullmatch(key):
                text += f".{key}" if text else key
            else:
                text += f"[{json.dumps(key)}]"
        return text

    def __repr__(self) -> str:
        return f"Path({str(self)!r})"


PathLike: TypeAlias = str | tuple[Key, ...]


@lru_cache(maxsize=65536)
def _parse(text: str) -> Path:
    keys: list[Key] = []
    at = 0
    while at < len(text):
        match = _SEGMENT.match(text, at)
        if not match or (text[at] == ".") != bool(keys and match[1]):
            raise PathError(
                f"path must look like 'blocks[2].filters', got {text[:80]!r} (unreadable at character {at})"
            )
        name, index, quoted = match.groups()
        try:
            keys.append(name if name is not None else int(index) if index is not None else json.loads(quoted))
        except ValueError as error:
            raise PathError(f"path {text[:80]!r} is unreadable at character {at}: {error}") from None
        at = match.end()
    return Path(keys)


def as_path(path: PathLike) -> tuple[Key, ...]:
    """Return `path` as a tuple of keys.

    Raises: PathError if it cannot be read.
    """
    return _parse(path) if isinstance(path, str) else path
