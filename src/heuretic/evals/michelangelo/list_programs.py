"""Programs that change a list, every step of which matters for what is asked of the list in the end; and steps that do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import Literal

Kind = Literal["print", "sum", "min", "max", "len"]
KINDS: tuple[Kind, ...] = ("print", "sum", "min", "max", "len")
INITIAL: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
MOST = 4000
"""Numbers are drawn evenly from -4000 to 4000."""
FILLERS = ("print", "reverse", "cancel")
NOTHING = 'print("Do nothing.")'
_NAMES = ("append", "insert", "pop", "remove", "sort", "reverse")
_LENGTH_NAMES = ("append", "insert", "pop", "remove")
_FEWEST = 2
_PROPOSALS = 80
_RESTARTS = 2_000


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of a method of the list."""

    name: str
    arguments: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"a.{self.name}({', '.join(map(str, self.arguments))})"


def changed(items: list[int], operation: Operation) -> list[int] | None:
    """Return the list after an operation, as Python has it; None where Python raises. The list itself stays."""
    new, given = items.copy(), operation.arguments
    try:
        getattr(new, operation.name)(*given)
    except (IndexError, ValueError):
        return None
    return new


@dataclass(frozen=True, slots=True)
class View:
    """What is asked of the list: a slice printed, its sum, least or greatest number; or the length of the whole list."""

    kind: Kind
    begin: int = 0
    end: int = 0

    def __str__(self) -> str:
        return "len(a)" if self.kind == "len" else f"{self.kind}(a[{self.begin}:{self.end}])"

    def of(self, items: list[int]) -> str | None:
        """Return what Python shows; None where it raises."""
        if self.kind == "len":
            return str(len(items))
        part = items[self.begin : self.end]
        if self.kind == "print":
            return str(part)
        if self.kind == "sum":
            return str(sum(part))
        return str(min(part) if self.kind == "min" else max(part)) if part else None


@dataclass(frozen=True, slots=True)
class Program:
    """Operations on `INITIAL`, and what is asked afterwards."""

    operations: tuple[Operation, ...]
    view: View
    answer: str


def relevant(program: Program) -> bool:
    """Return whether each operation matters: without it the program still runs, and gives another answer."""
    count = len(program.operations)
    for left_out in range(count):
        items: list[int] | None = list(INITIAL)
        for place, operation in enumerate(program.operations):
            if place != left_out and items is not None:
                items = changed(items, operation)
        if items is None or program.view.of(items) in (None, program.answer):
            return False
    return True


def program(complexity: int, kind: Kind, rng: Random) -> Program:
    """Return a random program of so many operations, all of them `relevant`.

    Beside the list, the lists without each one of the operations are kept, and only such operations are added after which
    some view tells all of these from the list. A number is drawn before it is decided what happens with it.

    Raises: ValueError if complexity < 1, or is so great that no program was found.
    """
    if complexity < 1:
        raise ValueError(f"complexity must be >= 1, got {complexity}")
    for _ in range(_RESTARTS):
        found = _grown(complexity, kind, rng)
        if found is not None:
            return found
    raise ValueError(f"complexity must be possible, got {complexity} for {kind}. Try 20 or fewer")


def _grown(complexity: int, kind: Kind, rng: Random) -> Program | None:
    items, without, operations = list(INITIAL), list[list[int]](), list[Operation]()
    view: View | None = None
    while len(operations) < complexity:
        value = rng.randint(-MOST, MOST)
        for _ in range(_PROPOSALS):
            operation = _proposed(items, value, kind, rng)
            added = _added(items, without, operation)
            if added is None:
                continue
            if view is None or view.end > len(added[0]) or not _tells(view, *added):
                telling = _some_view(kind, *added, rng)
            else:
                telling = view
            if telling is not None:
                (items, without), view = added, telling
                operations.append(operation)
                break
        else:
            return None
    views = [v for v in _views(kind, len(items)) if _tells(v, items, without)]
    chosen = rng.choice(views)
    answer = chosen.of(items)
    assert answer is not None
    return Program(tuple(operations), chosen, answer)


def _added(
    items: list[int], without: list[list[int]], operation: Operation
) -> tuple[list[int], list[list[int]]] | None:
    """Return the list, and the lists without one operation each, after another operation; None if any of them cannot be."""
    new = changed(items, operation)
    if new is None or len(new) < _FEWEST:
        return None
    others = [changed(each, operation) for each in without]
    kept = [each for each in others if each is not None]
    return (new, [*kept, items]) if len(kept) == len(others) else None


def _tells(view: View, items: list[int], without: Sequence[list[int]]) -> bool:
    answer = view.of(items)
    return answer is not None and all(view.of(other) not in (None, answer) for other in without)


def _some_view(kind: Kind, items: list[int], without: Sequence[list[int]], rng: Random) -> View | None:
    views = _views(kind, len(items))
    rng.shuffle(views)
    return next((view for view in views if _tells(view, items, without)), None)


def _views(kind: Kind, size: int) -> list[View]:
    if kind == "len":
        return [View("len")]
    return [View(kind, begin, end) for begin, end in combinations(range(size + 1), 2)]


def _proposed(items: list[int], value: int, kind: Kind, rng: Random) -> Operation:
    name = rng.choice(_LENGTH_NAMES if kind == "len" else _NAMES)
    if name == "append":
        return Operation(name, (value,))
    if name == "insert":
        return Operation(name, (rng.randrange(len(items) + 1), value))
    if name == "pop":
        return Operation(name, (rng.randrange(len(items)),))
    return Operation(name, (rng.choice(items),)) if name == "remove" else Operation(name)


def filler(items: Sequence[int], rng: Random) -> Iterator[list[str]]:
    """Yield runs of statements without end, each of which leaves the list as it is, in equal parts of the three kinds.

    Parts are equal in characters: the kind that has had fewest is likelier to come next. A run takes constant time; the list
    is not touched.
    """
    used = [0.0] * len(FILLERS)
    while True:
        weighed = [held + 120 * rng.random() for held in used]
        kind = weighed.index(min(weighed))
        if kind == 0:
            run = [NOTHING] * rng.randint(1, 4)
        elif kind == 1:
            run = ["a.reverse()"] * (2 * rng.randint(1, 3))
        else:
            run = _cancelling(items, rng)
        used[kind] += sum(map(len, run)) + len(run)
        least = min(used)
        used = [held - least for held in used]
        yield run


def _cancelling(items: Sequence[int], rng: Random) -> list[str]:
    """Return operations that undo each other within a few lines."""
    size, value = len(items), rng.randint(-MOST, MOST)
    place, end = rng.randrange(size + 1), rng.randrange(size)
    form = rng.randrange(6)
    if form == 0:
        return [f"a.append({value})", f"a.pop({size})"]
    if form == 1:
        return [f"a.insert({place}, {value})", f"a.pop({place})"]
    if form == 2:
        return [f"a.pop({end})", f"a.insert({end}, {items[end]})"]
    if form == 3 and value not in items:
        return [f"a.insert({place}, {value})", f"a.remove({value})"]
    if form == 4:
        return [f"a.insert({place}, {value})", "a.reverse()", f"a.pop({size - place})", "a.reverse()"]
    second = rng.randint(-MOST, MOST)
    return [f"a.append({value})", f"a.append({second})", f"a.pop({size + 1})", f"a.pop({size})"]
