"""Exceptions that a caller may want to tell apart; every message says what, where and how to mend."""

from __future__ import annotations

from typing import Any

Key = str | int


class InvalidField(ValueError, TypeError):
    """A value does not fit the field it was given to. `path` leads from the given tree to the value."""

    def __init__(self, expected: str, got: Any, path: tuple[Key, ...] = (), owner: str = "") -> None:
        self.expected, self.got, self.path, self.owner = expected, got, path, owner
        super().__init__(expected)

    def under(self, *keys: Key) -> InvalidField:
        """Return the same error as seen from further up the tree."""
        return type(self)(self.expected, self.got, (*keys, *self.path), self.owner)

    def __str__(self) -> str:
        from heuretic.symbolic.paths import Path

        owner = f"{self.owner}: " if self.owner else ""
        place = shortened(str(Path(self.path)), 200) or "value"
        return f"{owner}{place}: expected {shortened(self.expected, 400)}, got {brief(self.got)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.expected, brief(self.got), self.path, self.owner)


class FrozenError(AttributeError):
    """A program was edited in place; programs are values and are edited by `hr.replace`."""


class OpenChoiceError(TypeError, AttributeError):
    """A choice that is still open was used as if it were one of its values."""


class PathError(LookupError):
    """A path leads nowhere in the tree it was used on."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class LoadError(ValueError):
    """A saved program cannot be read: corrupt, untrusted, too deep, or of an unknown version."""


class PatchError(ValueError):
    """A patch or its address is wrong, or the patch changed nothing where it was applied."""


class PatchWarning(UserWarning):
    """A patch could not reach all that it is for; the message says where, and what may help."""


def shortened(text: str, limit: int) -> str:
    """Return `text`, without its middle if it is longer than `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-(limit // 2) :]}"


def brief(value: Any, limit: int = 60) -> str:
    """Return a short `repr` with the type: errors must never print a whole tree."""
    kind = type(value).__name__
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, int) and value.bit_length() > 4 * limit:
        return f"a number of {value.bit_length()} bits ({kind})"
    if isinstance(value, int | float | str):
        text = repr(value[: limit + 1] if isinstance(value, str) else value)
        return f"{text if len(text) <= limit else text[: limit - 3] + '...'} ({kind})"
    if isinstance(value, tuple | list | dict):
        return f"a {kind} of {len(value)}"
    if isinstance(value, type):
        return f"class {value.__name__}"
    if callable(value) and hasattr(value, "__name__"):
        return f"function {value.__name__}"
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"
