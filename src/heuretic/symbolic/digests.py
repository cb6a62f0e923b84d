"""Digests: 16 bytes that are equal exactly when two programs are.

Each node's digest covers its name, its keys, its leaves and the digests of its children (a Merkle tree), and is
kept on the node, so after a replace only the path from the root to the change is computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from hashlib import blake2b
from typing import Any

from heuretic.symbolic.errors import Key
from heuretic.symbolic.names import module_name, name_of
from heuretic.symbolic.values import SCALARS, FrozenDict, Node, freeze


def digest(tree: Any) -> str:
    """Return the digest of a program (or leaf, or container) as 32 hexadecimal digits.

    It does not depend on the process, the platform or the Python version.
    """
    return digest_bytes(tree if isinstance(tree, Node) else freeze(tree)).hex()


def digest_bytes(tree: Any) -> bytes:
    """Return the digest as 16 bytes."""
    if isinstance(tree, Node):
        return tree.__digest__ or tree.__compute_digest__()
    return _hash(ascii(_plain(tree)))


def digest_of_parts(name: str, parts: Iterable[tuple[Key, Any]]) -> bytes:
    """Return the digest of a node of the given name, keys and values."""
    parts = list(parts)
    return _hash(_start(name, [key for key, _ in parts]) + "".join([f"{_plain(value)!a}," for _, value in parts]))


def compile_digest(name: str, fields: tuple[str, ...]) -> Callable[[Any], bytes]:
    """Generate what `digest_of_parts` does for nodes whose keys are known beforehand; it also keeps the result."""
    start = _start(name, fields).replace("{", "{{").replace("}", "}}")
    values = "".join(f"{{(v if (v := node.{field}).__class__ in SCALARS else plain(v))!a}}," for field in fields)
    scope: dict[str, Any] = {"SCALARS": SCALARS, "plain": _plain, "blake2b": blake2b, "keep": keep}
    exec(
        f"def compute(node):\n"
        f"    result = blake2b(f{start + values!r}.encode(), digest_size=16).digest()  # as _hash\n"
        f"    keep(node, result)\n"
        f"    return result\n",
        scope,
    )
    return scope["compute"]


#: Keeps a digest on its node. Nodes are frozen; this is the quickest way around it.
keep: Callable[[Node, bytes], None] = Node.__dict__["__digest__"].__set__


def _start(name: str, keys: Iterable[Key]) -> str:
    return ascii((name, *keys))


def _hash(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


def _plain(value: Any) -> Any:
    """Map a value to plain objects whose `ascii` differs whenever value or type does."""
    kind = value.__class__
    if kind in SCALARS:
        return value
    if kind is tuple:
        return tuple([_plain(item) for item in value]) if value else value
    if isinstance(value, Node):
        return value.__digest__ or value.__compute_digest__()
    if isinstance(value, FrozenDict):
        return [(key, _plain(item)) for key, item in value.items()]
    return (
        {f"{module_name(kind.__module__)}:{kind.__qualname__}": value.name}
        if isinstance(value, Enum)
        else {name_of(value)}
    )
