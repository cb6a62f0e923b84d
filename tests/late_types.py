"""Classes whose annotations are strings that name what is defined later, for `test_nodes`."""

from __future__ import annotations

from typing import Any

import heuretic as hr


class Expression(hr.Symbolic):
    """Refers to a class below, which a subclass in another module cannot see."""

    operands: tuple[Operand | Expression, ...] = ()
    name: str = ""


class Operand(hr.Symbolic):
    value: int
    inside: Expression | None = None


def local_pair() -> tuple[Any, Any]:
    """Return two classes that refer to each other and live in a function."""

    class Ping(hr.Symbolic):
        other: Pong | None = None

    class Pong(hr.Symbolic):
        other: Ping | None = None
        more: tuple[Ping, ...] = ()

    return Ping, Pong
