"""Digests: 16 bytes that are equal exactly when two programs are.

Each node's digest covers its name, its keys, its leaves and the digests of its children (a Merkle tree), and is
kept on the node, so after a replace only the path from the root to the change is computed again.
"""

from __future__ import annotations

from enum import Enum
from hashlib import blake2b
from typing import Any

from heuretic.symbolic.names import name_of
from heuretic.symbolic.values import SCALARS, FrozenDict, Node


def digest(tree: Any) -> str:
    """Return the digest of a program (or leaf, or container) as 32 hexadecimal digits.

    It does not depend on the process, the platform or the Python version.
    """
    return digest_bytes(tree).hex()


def digest_bytes(tree: Any) -> bytes:
    """Return the digest as 16 bytes."""
    if not isinstance(tree, Node):
        return blake2b(ascii(_canonical(tree)).encode(), digest_size=16).digest()
    try:
        return tree.__digest__
    except AttributeError:
        pass
    parts: list[Any] = [tree.__head__()]
    for key, value in tree.__items__():
        parts.append(key)
        parts.append(value if value.__class__ in SCALARS else _canonical(value))
    result = blake2b(ascii(parts).encode(), digest_size=16).digest()
    object.__setattr__(tree, "__digest__", result)
    return result


def _canonical(value: Any) -> Any:
    """Map a value to plain objects whose `ascii` differs whenever value or type does."""
    if value.__class__ in SCALARS:
        return value
    if isinstance(value, Node):
        return digest_bytes(value)
    if value.__class__ is tuple:
        return tuple([_canonical(item) for item in value])
    if isinstance(value, FrozenDict):
        return [(key, _canonical(item)) for key, item in value.items()]
    return {name_of(type(value)): value.name} if isinstance(value, Enum) else {name_of(value)}
