"""Choices: they cannot be mistaken for values, and their values fit where they stand."""

import math
import operator
from typing import Any, Literal

import numpy as np
import pytest

import heuretic as hr
import strategies as own
from heuretic.symbolic import InvalidField, OpenChoiceError
from heuretic.symbolic.values import same

EVERY: list[Any] = [hr.one_of(1, 2), hr.number(0, 5), hr.some_of([1, 2], 1), hr.permutation([1, 2]), hr.repeat(1, 1, 2)]


class Conv(hr.Symbolic):
    filters: int = 1
    rate: float = 0.1
    maybe: float | None = None
    mode: Literal["a", "b", 1, 3] = "a"
    few: int = hr.field(default=1, choices=(1, 2, 5))
    share: float = hr.field(default=0.5, choices=(0.0, 0.5, 1.0))
    sizes: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    pair: tuple[int, str] = (1, "a")
    free: Any = None


@pytest.mark.parametrize("choice", EVERY, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize(
    "use",
    [
        bool, int, float, complex, len, list, iter, next, abs, round, math.sqrt, math.floor, math.ceil, math.trunc, reversed, range, operator.neg, operator.pos,
        operator.invert, lambda c: c < 1, lambda c: c <= 1, lambda c: c > 1, lambda c: c >= 1, lambda c: c + 1, lambda c: 1 + c, lambda c: 2**c, lambda c: c @ c,
        lambda c: c - 1, lambda c: 1 - c, lambda c: c * 2, lambda c: 2 * c, lambda c: 1 / c, lambda c: c / 2, lambda c: c // 2, lambda c: 5 // c, lambda c: c % 2,
        lambda c: 7 % c, lambda c: c**2, lambda c: c & 1, lambda c: 1 | c, lambda c: c ^ 1, lambda c: c << 1, lambda c: 1 >> c, lambda c: divmod(c, 2), lambda c: c[0],
        lambda c: 1 in c, lambda c: c(), lambda c: c.filters, lambda c: [1, 2][c], lambda c: max(c, 1), lambda c: sorted([c, 1]), lambda c: 1 if c else 2,
    ],
)  # fmt: skip
def test_using_an_open_choice_is_an_error(choice: Any, use: Any) -> None:
    with pytest.raises(OpenChoiceError, match=r"this is still open: .*Choose first"):
        use(choice)


@pytest.mark.parametrize("choice", EVERY, ids=lambda c: type(c).__name__)
def test_choices_are_values_themselves(choice: Any) -> None:
    assert choice == eval(repr(choice), vars(hr.search))
    assert hash(choice) == hash(eval(repr(choice), vars(hr.search)))
    assert choice != 1
    assert not hasattr(choice, "anything")


class TestFitting:
    @pytest.mark.parametrize(
        ("field", "choice", "message"),
        [
            ("filters", hr.one_of(1, "a"), r"filters\.candidates\[1\]: expected int, got 'a'"), ("filters", hr.number(0.0, 1.0), "filters: expected int, got 0.0"),
            ("filters", hr.one_of(1, hr.one_of(2, hr.one_of(True, 3))), r"filters\.candidates\[1\]\.candidates\[1\]\.candidates\[0\]: expected int, got True"),
            ("rate", hr.number(1, 5), r"rate: expected number\(1\.0, 5\.0\)"), ("maybe", hr.number(1, 5), r"maybe: expected number\(1\.0, 5\.0\)"),
            ("mode", hr.one_of("a", "z"), r"mode\.candidates\[1\]"), ("mode", hr.number(1, 3), "mode: expected one of"), ("few", hr.number(1, 5), "few: expected one of"),
            ("share", hr.number(0.0, 1.0), "share: expected one of"), ("share", hr.number(0.0, 1.0, step=0.25), "share: expected one of"),
            ("sizes", hr.some_of([1, "a"], 1), r"sizes\.candidates\[1\]: expected int"), ("sizes", hr.permutation([1, "a"]), r"sizes\.items\[1\]: expected int"),
            ("sizes", hr.repeat("a", 1), r"sizes\.item: expected int"), ("sizes", hr.one_of(1, 2), r"sizes\.candidates\[0\]: expected a list or tuple"),
            ("sizes", hr.repeat(hr.number(0.0, 1.0), 1, 3), "expected int"), ("filters", hr.repeat(1, 1), "filters"), ("pair", hr.permutation([1, "a"]), "pair"),
            ("pair", hr.repeat(1, 2), "pair"), ("pair", hr.some_of([1, 2], 1, 2), "pair"), ("rates", hr.repeat(hr.number(1, 4), 1), "rates.*number"),
        ],
    )  # fmt: skip
    def test_values_are_checked_when_the_choice_is_placed(self, field: str, choice: Any, message: str) -> None:
        for attempt in (
            lambda: Conv(**{field: choice}),
            lambda: hr.replace(Conv(), {field: choice}),
            lambda: hr.replace([Conv()], {f"[0].{field}": choice}),
        ):
            with pytest.raises(InvalidField, match=message):
                attempt()

    @pytest.mark.parametrize(
        ("field", "choice"),
        [
            ("rate", hr.one_of(1, 2)), ("rate", hr.number(1, 5, step=1)), ("maybe", hr.number(1, 5, step=2)), ("maybe", hr.one_of(None, 1, hr.number(2, 3, step=1))),
            ("rates", [hr.number(1, 5, step=1), 2]), ("rates", hr.repeat(hr.one_of(1, 2), 0, 2)), ("rates", hr.some_of([1, 2], 0, 2)), ("rates", hr.permutation([1, 2])),
            ("few", hr.number(1, 2)), ("share", hr.number(0.0, 1.0, step=0.5)), ("sizes", hr.one_of((), (1,), hr.repeat(hr.number(1, 3), 1, 2))),
        ],
    )  # fmt: skip
    def test_values_are_stored_as_the_field_stores_them(self, field: str, choice: Any) -> None:
        space = hr.Space(Conv(**{field: choice}))
        for genome in [space.default(), *space.neighbours(space.default())]:
            program = space.decode(genome)
            made_anew = Conv(**{field: getattr(program, field)})
            assert same(program, made_anew)
            assert hr.digest(program) == hr.digest(made_anew)
            assert space.encode(made_anew) == genome

    def test_any_takes_any(self) -> None:
        for choice in EVERY:
            assert Conv(free=[choice]).free == (choice,)


class TestConstruction:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: hr.one_of(), lambda: hr.one_of(1, 1), lambda: hr.one_of([1], (1,)), lambda: hr.one_of(hr.one_of(1, 2), hr.one_of(1, 2)), lambda: hr.permutation([]),
            lambda: hr.permutation([1, 1]), lambda: hr.some_of([], 0), lambda: hr.some_of([1, 1], 1), lambda: hr.some_of([1, 2], 3), lambda: hr.some_of([1, 2], 2, 1),
            lambda: hr.some_of([1, 2], -1, 1), lambda: hr.some_of([1, 2], 0), lambda: hr.repeat(1, 0), lambda: hr.repeat(1, 3, 2), lambda: hr.repeat(1, -1, 2),
            lambda: hr.number(1, 1), lambda: hr.number(2, 1), lambda: hr.number(0, math.inf), lambda: hr.number(-math.inf, 0), lambda: hr.number(math.nan, 1),
            lambda: hr.number(0, 10**400), lambda: hr.number(-1.7e308, 1.7e308), lambda: hr.number(0, 5, log=True), lambda: hr.number(-1.0, 5.0, log=True),
            lambda: hr.number(1, 5, step=0), lambda: hr.number(1, 5, step=-1), lambda: hr.number(1, 5, log=True, step=1), lambda: hr.number(0.0, 1.0, step=math.nan),
            lambda: hr.number(0.0, 1.0, step=5e-324), lambda: hr.number(True, 5), lambda: hr.number("a", "b"), lambda: hr.one_of(object()), lambda: hr.one_of(lambda: 1),  # type: ignore
        ],
    )  # fmt: skip
    def test_refused(self, make: Any) -> None:
        with pytest.raises((ValueError, TypeError)) as caught:
            make()
        assert len(str(caught.value)) < 500

    def test_numbers_that_look_alike_are_different_candidates(self) -> None:
        assert hr.Space(hr.one_of(1, 1.0, True)).size == 3

    def test_kinds_of_number(self) -> None:
        kinds = [
            hr.number(1, 5),
            hr.number(1, 5.0),
            hr.number(1, 5, step=0.5),
            hr.number(np.int64(1), np.int64(5)),
            hr.number(1, 5, step=2),
        ]
        assert [c.whole for c in kinds] == [True, False, False, True, True]  # type: ignore

    def test_labels_of_own_classes(self) -> None:
        assert repr(hr.one_of(own.Leaf(2), "a")) == "one_of(Leaf(width=2), 'a')"
