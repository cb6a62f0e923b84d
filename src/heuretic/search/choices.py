"""Choices: leaves that leave a program open. A program with choices in it is a space of programs.

To type checkers a choice is what it chooses (`one_of(16, 32)` is an int), so it can stand wherever its values can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, ClassVar, NoReturn, TypeVar, cast, overload

from heuretic.search.decisions import Interval
from heuretic.symbolic import InvalidField, Open, OpenChoiceError, Symbolic
from heuretic.symbolic.errors import Key, brief
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
    __getitem__ = __reversed__ = __complex__ = __round__ = __trunc__ = __floor__ = __ceil__ = _open  # type: ignore[assignment]
    __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __pos__ = __abs__ = __invert__ = _open  # type: ignore[assignment]
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = (
        _open
    )
    __divmod__ = __rdivmod__ = __matmul__ = __rmatmul__ = __enter__ = __exit__ = __next__ = _open
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

    def example(self) -> Any:
        return self.candidates[0]

    def __with__(self, changes: Mapping[Key, Any]) -> OneOf:
        # A patch may make two candidates alike (ReLU and GELU both into GELU): then one of them remains.
        given = freeze(changes.get("candidates"))
        if changes.keys() != {"candidates"} or not isinstance(given, tuple):
            return cast(OneOf, super().__with__(changes))
        candidates: list[Any] = []
        for candidate in given:
            if not any(same(candidate, kept) for kept in candidates):
                candidates.append(candidate)
        return OneOf(tuple(candidates))


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
        if not self.lo < self.hi or max(abs(self.lo), abs(self.hi)) > 1e300:
            raise ValueError(
                f"number must have lo < hi, both within 1e300, got lo={brief(self.lo)}, hi={brief(self.hi)}"
            )
        if self.log and self.lo <= 0:
            raise ValueError(f"number with log=True must have lo > 0, got lo={self.lo!r}")
        if self.step is not None and (self.step <= 0 or self.log):
            raise ValueError(f"step must be > 0 and without log=True, got step={self.step!r}, log={self.log}")
        if self.step is not None and not self.whole and (self.hi - self.lo) / self.step > 2**50:
            raise ValueError(f"step must not divide the interval into more than 2**50 parts, got step={self.step!r}")

    def admit(self, check: Callable[[Any], Any], wanted: type | None = None) -> Number:
        if self.whole and (wanted is float or check(self.lo).__class__ is float):  # a field that makes floats of ints
            if self.step is None:
                raise InvalidField(
                    f"number({float(self.lo)}, {float(self.hi)}) (a number between ints takes whole values only; "
                    f"if that is meant, give step=1)",
                    self,
                )
            return Number(float(self.lo), float(self.hi), step=float(self.step)).admit(check, wanted)
        for value in self._sample():
            check(value)
        return self

    def example(self) -> Any:
        return self.lo

    def _sample(self) -> list[int | float]:
        """Return values to check: both ends, and enough between them to notice a field that takes a few values only."""
        decision = Interval(self.lo, self.hi, self.log, self.step, self.whole)
        if decision.size() <= 16:
            return list(decision.values())
        return [self.lo, *decision.default(), *decision.sample(Random(0)), decision.last()]


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
        checked = tuple(_in_any_place(c, i, "candidates", self.at_most, check) for i, c in enumerate(self.candidates))
        check(checked[: self.at_least])
        return SomeOf(checked, self.at_least, self.at_most, self.ordered)

    def example(self) -> Any:
        return self.candidates[: self.at_most]


class Permutation(Choice):
    """All the items, in some order. Made by `permutation`."""

    __label__: ClassVar[str] = "permutation"
    items: tuple[Any, ...]

    def __post_init__(self) -> None:
        _check_distinct("permutation", self.items)

    def admit(self, check: Callable[[Any], Any], wanted: type | None = None) -> Permutation:
        count = len(self.items)
        return Permutation(tuple(_in_any_place(item, i, "items", count, check) for i, item in enumerate(self.items)))

    def example(self) -> Any:
        return self.items


class Repeat(Choice):
    """Independent copies of an item. Made by `repeat`."""

    __label__: ClassVar[str] = "repeat"
    item: Any
    at_least: int
    at_most: int

    def __post_init__(self) -> None:
        if not 0 <= self.at_least <= self.at_most or self.at_most == 0:
            raise ValueError(
                f"repeat must have 0 <= at_least <= at_most and at_most > 0, got {self.at_least}, {self.at_most}"
            )

    def admit(self, check: Callable[[Any], Any], wanted: type | None = None) -> Repeat:
        item = _in_any_place(self.item, None, "item", self.at_most, check)
        check((item,) * self.at_least)
        return Repeat(item, self.at_least, self.at_most)

    def example(self) -> Any:
        return (self.item,) * self.at_most


class Text(Choice):
    """Any text. Made by `text`."""

    __label__: ClassVar[str] = "text"
    __spread__: ClassVar[str] = "initial"
    initial: tuple[str, ...]
    longest: int = 500

    def __post_init__(self) -> None:
        _check_distinct("text", self.initial)
        for given in self.initial:
            if not isinstance(given, str) or len(given) > self.longest or _is_broken(given):
                raise ValueError(
                    f"text must start from whole texts of at most longest={self.longest} characters, got {brief(given)}"
                )
        if self.longest < 1:
            raise ValueError(f"longest must be >= 1, got {self.longest}")

    def admit(self, check: Callable[[Any], Any], wanted: type | None = None) -> Text:
        for given in self.initial:
            check(given)
        return self

    def example(self) -> Any:
        return self.initial[0]


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
    lo, hi, step = freeze(lo), freeze(hi), freeze(step)
    if isinstance(lo, int) and isinstance(hi, int) and isinstance(step, int | None):
        return cast(float, Number(lo, hi, log, step))
    if isinstance(lo, bool) or isinstance(hi, bool) or isinstance(step, bool):
        raise InvalidField("numbers", next(v for v in (lo, hi, step) if isinstance(v, bool)))
    return cast(float, Number(float(lo), float(hi), log, None if step is None else float(step)))


def some_of(
    candidates: Sequence[T], at_least: int, at_most: int | None = None, *, ordered: bool = False
) -> tuple[T, ...]:
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


def text(*initial: str, longest: int = 500) -> str:
    """Leave a text open: any text of at most `longest` characters, starting from the given ones.

    Only an algorithm that writes texts, such as `hr.lm.OPRO`, proposes others than the initial ones; to all the rest this is a
    choice among those.

    Raises: ValueError if there is no initial text, one stands twice, or one is too long.
    """
    return cast(str, Text(tuple(initial), longest))


def _is_broken(given: str) -> bool:
    """Whether there is half a character in it, which no file could hold."""
    return any("\ud800" <= c <= "\udfff" for c in given)


def _frozen(items: Sequence[Any]) -> tuple[Any, ...]:
    return cast(tuple[Any, ...], freeze(tuple(items)))


def _in_any_place(item: Any, index: int | None, name: str, count: int, check: Callable[[Any], Any]) -> Any:
    """Return `item` as the field takes it in each of `count` places of a tuple."""
    try:
        taken = check((item,) * count)
    except InvalidField as error:  # its path starts with the place in the tuple, if it is about an item
        if not error.path:
            raise
        raise InvalidField(error.expected, error.got, error.path[1:]).under(
            *(k for k in (name, index) if k is not None)
        ) from None
    for other in taken[1:]:
        if not same(taken[0], other):
            raise InvalidField("a field that takes the same values in every place", item).under(name)
    return taken[0]


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
