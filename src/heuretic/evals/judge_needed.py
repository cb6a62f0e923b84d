"""Whether an evaluation needs a judge, where its settings decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast


class _Decided:
    def __init__(self, by: Callable[[Any], bool], default: bool) -> None:
        self._by, self._default = by, default

    def __get__(self, evaluation: Any, kind: type) -> bool:
        return self._default if evaluation is None else self._by(evaluation)


def decided(by: Callable[[Any], bool], *, default: bool) -> bool:
    """Return what `judged` of an evaluation may be: asked of the class it is `default`, of a value what `by` says of it."""
    return cast(bool, _Decided(by, default))
