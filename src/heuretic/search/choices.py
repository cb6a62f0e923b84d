"""Choices: leaves that leave a program open. A program with choices in it is a space of programs.

To type checkers a choice is what it chooses (`one_of(16, 32)` is an int), so it can stand wherever its values can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn, TypeVar, cast, overload

from heuretic.symbolic import InvalidField, Open, OpenChoiceError, Symbolic
from heuretic.symbolic.values import freeze, same

T = TypeVar("T")


class Choice(Symbolic, Open):
    """Base of all open choices. Using one as if it were a value raises OpenChoiceError instead of going unnoticed."""

    def _open(self, *_: Any) -> NoReturn:
        raise OpenChoiceError(
            f"this is still open: {' '.join(repr(self).split())[:80]}. "
            f"Choose first: hr.discover(program, ...) or hr.replace(program, {{path: value}})"
        )

    __bool__ = __int__ = __float__ = __index__ = __iter__ = __len__ = __contains__ = __call__ = _open  # type: ignore[assignment]
    __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __abs__ = _open  # type: ignore[assignment]
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _open  # type: ignore[assignment]
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = _open  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._open()


class OneOf(Choice):
    """Exactly one of the candidates. Made by `one_of`."""

    __label__: ClassVar[str] = "one_of"
    __spread__: ClassVar[str] = "candidates"
    candidates: tuple[Any, ...]

    def __post_init__(self) -> None:
        _check_distinct("one_of", self.candidates)

    def admit(self, check: Callable[[Any], Any], wanted: type | None = None) -> OneOf:
        return OneOf(tuple(_admit(c, i, check, wanted) for i, c in enumerate(self.candidates)))


class Number(Choice):
    """A number from an interval. Made by `number`."""

    __label__: ClassVar[str] = "number"
    lo: int | float
    hi: int | float
    log: bool = False
    step: int | float | None = None

    @property
    def whole(self) -> bool:
        """Whether the values are ints: both ends are, and so is the step if there is one."""
        return all(isinstance(v, int) for v in (self.lo, self.hi, self.step) if v is not None)

    def __post_init__(self) -> None:
        if not self.lo < self.hi or abs(self.lo) == float("inf") or abs(self.hi) == float("inf"):
            raise ValueError(f"number must have finite lo < hi, got lo={self.lo!r}, hi={self.hi!r}")
        if self.log and self.lo <= 0:
            raise ValueError(f"number with log=True must have lo > 0, got lo={self.lo!r}")
        if self.step is not None and (self.step <= 0 or self.log):
            raise ValueError(f"step must be > 0 and without log=True, got step={self.step!r}, log={self.log}")

    def admit(self, check: Callable[[Any], Any], wanted: type | None = None) -> Number:
        if wanted is float and self.whole and self.step is None:
            raise InvalidField(
                f"number({float(self.lo)}, {float(self.hi)}) (a number between ints takes whole values only; "
                f"if that is meant, give step=1)",
                self,
            )
        check(self.lo if not self.whole or wanted is int or wanted is None else float(self.lo))
        check(self.hi if not self.whole or wanted is int or wanted is None else float(self.hi))
        if wanted is float and self.whole:
            return Number(float(self.lo), float(self.hi), step=float(self.step or 1))
        return self


class SomeOf(Choice):
    """Some of the candidates, each at most once. Made by `some_of`."""

    __label__: ClassVar[str] = "some_of"
    candidates: tuple[Any, ...]
    at_least: int
    at_most: int
    ordered: bool = False

    def __post_init__(self) -> None:
        _check_distinct("some_of", self.candidates)
        if not 0 <= self.at_least <= self.at_most <= len(self.candidates) or self.at_most == 0:
            raise ValueError(
                f"some_of must pick between 0 and {len(self.candidates)} candidates, got {self.at_least} to {self.at_most}"
            )

    def admit(self, check: Callable[[Any], Any], wanted: type | None = None) -> SomeOf:
        for count in {self.at_least, self.at_most}:
            check(self.candidates[:count])
        checked = tuple(check((c, *_others(self.candidates, i, self.at_most - 1)))[0] for i, c in enumerate(self.candidates))
        return SomeOf(checked, self.at_least, self.at_most, self.ordered)


class Permutation(Choice):
    """All the items, in some order. Made by `permutation`."""

    __label__: ClassVar[str] = "permutation"
    __spread__: ClassVar[str] = "items"
    items: tuple[Any, ...]

    def __post_init__(self) -> None:
        _check_distinct("permutation", self.items)

    def admit(self, check: Callable[[Any], Any], wanted: type | None = None) -> Permutation:
        return Permutation(check(self.items))


class Repeat(Choice):
    """Independent copies of an item. Made by `repeat`."""

    __label__: ClassVar[str] = "repeat"
    item: Any
    at_least: int
    at_most: int

    def __post_init__(self) -> None:
        if not 0 <= self.at_least <= self.at_most or self.at_most == 0:
            raise ValueError(f"repeat must have 0 <= at_least <= at_most and at_most > 0, got {self.at_least}, {self.at_most}")

    def admit(self, check: Callable[[Any], Any], wanted: type | None = None) -> Repeat:
        check((self.item,) * self.at_least)
        return Repeat(check((self.item,) * self.at_most)[0], self.at_least, self.at_most)


def one_of(*candidates: T) -> T:
    """Leave open which of the candidates stands here. Candidates may themselves hold choices.

    Raises: ValueError if there is none or one stands twice.
    """
    return cast(T, OneOf(_frozen(candidates)))


@overload
def number(lo: int, hi: int, *, log: bool = False, step: int | None = None) -> int: ...
@overload
def number(lo: float, hi: float, *, log: bool = False, step: float | None = None) -> float: ...
def number(lo: float, hi: float, *, log: bool = False, step: float | None = None) -> float:
    """Leave a number between `lo` and `hi` open, both included.

    Two ints give whole numbers, otherwise floats. `log` spreads them evenly over orders of magnitude; `step` allows
    only `lo`, `lo + step`, ...

    Raises: ValueError unless lo < hi, both finite; lo > 0 with `log`; step > 0 and not with `log`.
    """
    if isinstance(lo, int) and isinstance(hi, int) and isinstance(step, int | None):
        return cast(float, Number(lo, hi, log, step))
    return cast(float, Number(float(lo), float(hi), log, None if step is None else float(step)))


def some_of(candidates: Sequence[T], at_least: int, at_most: int | None = None, *, ordered: bool = False) -> tuple[T, ...]:
    """Leave open which candidates stand here: from `at_least` to `at_most` (default: as many), none of them twice.

    Unless `ordered`, they keep the order in which they are listed.
    """
    return cast(tuple[T, ...], SomeOf(_frozen(candidates), at_least, at_least if at_most is None else at_most, ordered))


def permutation(items: Sequence[T]) -> tuple[T, ...]:
    """Leave the order of the items open."""
    return cast(tuple[T, ...], Permutation(_frozen(items)))


def repeat(item: T, at_least: int, at_most: int | None = None) -> tuple[T, ...]:
    """Leave open how many copies of `item` stand here; choices inside are made for each copy on its own."""
    return cast(tuple[T, ...], Repeat(item, at_least, at_least if at_most is None else at_most))


def _frozen(items: Sequence[Any]) -> tuple[Any, ...]:
    return cast(tuple[Any, ...], freeze(tuple(items)))


def _others(items: tuple[Any, ...], index: int, count: int) -> tuple[Any, ...]:
    return (items[:index] + items[index + 1 :])[:count]


def _check_distinct(name: str, items: tuple[Any, ...]) -> None:
    if not items:
        raise ValueError(f"{name} must have at least one candidate, got none")
    for i, item in enumerate(items):
        for j in range(i):
            if same(item, items[j]):
                raise ValueError(f"{name} must have different candidates, got {item!r} at positions {j} and {i}"[:200])


def _admit(candidate: Any, index: int, check: Callable[[Any], Any], wanted: type | None) -> Any:
    try:
        return candidate.admit(check, wanted) if isinstance(candidate, Open) else check(candidate)
    except InvalidField as error:
        raise error.under("candidates", index) from None
