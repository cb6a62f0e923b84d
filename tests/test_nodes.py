"""Symbolic classes: how they are made, what their fields take, and that their objects are values."""

import copy
import gc
import math
import pickle
import weakref
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY
from enum import Enum, IntEnum
from typing import Any, ClassVar, Generic, Literal, Optional, TypeVar, Union

import numpy as np
import pytest
from hypothesis import given

import heuretic as hr
import late_types
import strategies as own
from heuretic.symbolic import FrozenDict, FrozenError, InvalidField, OpenChoiceError, fields
from heuretic.symbolic.values import freeze, same

T = TypeVar("T")
U = TypeVar("U")


class Conv(hr.Symbolic):
    filters: int
    kernel: int = 3
    rate: float = 1


class Wide(Conv):
    kernel: int = hr.field(default=7, ge=3)
    extra: str = "x"


class Box(hr.Symbolic, Generic[T]):
    content: T


class IntBox(Box[int]):
    pass


class Crate(Box[list[U]], Generic[U]):
    spare: Optional[U] = None  # noqa: UP045


class StrCrate(Crate[str]):
    pass


class Number(IntEnum):
    ONE = 1


class Anything(hr.Symbolic):
    value: Any = None


def one(annotation: Any, default: Any = ..., **rules: Any) -> Any:
    """Return a class with one field `x`."""
    spec = hr.field(**rules) if default is ... else hr.field(default=default, **rules)
    return type(hr.Symbolic)(
        "One", (hr.Symbolic,), {"__annotations__": {"x": annotation}, "x": spec, "__module__": __name__}
    )


class TestMaking:
    def test_positions_names_and_defaults(self) -> None:
        assert Conv(8) == Conv(filters=8, kernel=3, rate=1.0)
        assert Conv(8, 5).kernel == 5
        assert type(Conv(8).rate) is float
        with pytest.raises(TypeError, match="filters"):
            Conv()  # type: ignore
        with pytest.raises(TypeError, match="colour"):
            Conv(1, colour=2)  # type: ignore

    def test_default_factory_runs_each_time(self) -> None:
        made: list[int] = []
        cls = one(tuple[int, ...], default_factory=lambda: made.append(1) or [len(made)])
        assert (cls().x, cls().x, cls(x=[9]).x) == ((1,), (2,), (9,))

    def test_mutable_default_is_refused(self) -> None:
        with pytest.raises(TypeError, match="default_factory"):
            one(list[int], default=[1])
        with pytest.raises(TypeError, match="both"):
            hr.field(default=1, default_factory=int)

    def test_wrong_default_is_reported(self) -> None:
        with pytest.raises(InvalidField, match="default of One: x: expected int"):
            one(int, default="a")(x=1)

    def test_inheritance(self) -> None:
        assert list(fields(Wide)) == ["filters", "kernel", "rate", "extra"]
        assert Wide(1).kernel == 7
        assert Conv(1).kernel == 3
        with pytest.raises(InvalidField, match="number >= 3"):
            Wide(1, kernel=2)
        assert Conv(1, kernel=2).kernel == 2
        assert Wide(1, 3, 1.0) != Conv(1)

    def test_inherited_field_can_only_be_hidden_by_a_field(self) -> None:
        with pytest.raises(TypeError, match=r"Broken\.kernel.*annotate"):

            class Broken(Conv):
                kernel = 5  # type: ignore

        with pytest.raises(TypeError, match=r"Broken2\.kernel"):

            class Broken2(Conv):
                @property
                def kernel(self) -> int: ...  # type: ignore

    def test_required_after_default(self) -> None:
        with pytest.raises(TypeError, match="no default but follows rate"):

            class Broken(Conv):
                last: int

    def test_keyword_only(self) -> None:
        class A(hr.Symbolic):
            a: int = 1
            _: KW_ONLY
            b: int

        class B(hr.Symbolic, kw_only=True):
            a: int = 1
            b: int

        class C(hr.Symbolic):
            a: int = hr.field(kw_only=True)
            b: int = 2

        assert A(b=2).b == B(b=2).b == C(2, a=1).b == 2
        assert A.__match_args__ == ("a",)  # type: ignore
        for cls, args in ((A, (1, 2)), (B, (1,)), (C, (1, 2))):
            with pytest.raises(TypeError):
                cls(*args)

    def test_other_members(self) -> None:
        class Base(hr.Symbolic):
            limit: ClassVar[int] = 4
            size: int

            @property
            def double(self) -> int:
                return self.size * 2

            def plus(self, more: int) -> int:
                return self.size + more

            @classmethod
            def of(cls, size: int) -> Any:
                return cls(size)

            @staticmethod
            def three() -> int:
                return 3

        class Derived(Base):
            def plus(self, more: int) -> int:
                return super().plus(more) + 100

        node = Derived.of(2)
        assert (node.double, node.plus(1), node.three(), node.limit, list(fields(node))) == (4, 103, 3, 4, ["size"])

    def test_field_names_do_not_clash_with_generated_code(self) -> None:
        class Names(hr.Symbolic):
            self_: int
            a: int = 1
            check_a: int = 2
            set_a: int = 3
            default_a: int = 4
            MISSING: int = 5
            named: int = 6
            post_init: int = 7
            error: int = 8
            InvalidField: int = 9
            cls: int = 10
            values: tuple[int, ...] = hr.field(default_factory=lambda: (1,))
            mode: Literal["x"] = "x"
            options_mode: int = 3

            def __post_init__(self) -> None:
                assert self.a

        node = Names(0, a=True + 1, named=3)
        assert hr.replace(node, a=5, default_a=6) == Names(0, 5, default_a=6, named=3)
        assert pickle.loads(pickle.dumps(Anything(1))) == Anything(1)
        with pytest.raises(InvalidField, match="Names: check_a"):
            Names(0, check_a="x")  # type: ignore

    def test_a_field_can_be_called_self(self) -> None:
        cls = type(hr.Symbolic)("S", (hr.Symbolic,), {"__annotations__": {"self": int}, "__module__": __name__})
        assert cls(self=3).self == 3  # type: ignore

    def test_one_field_object_for_two_fields(self) -> None:
        positive = hr.field(gt=0)

        class Pair(hr.Symbolic):
            left: int = positive
            right: float = positive

        assert [f.annotation for f in fields(Pair).values()] == [int, float]
        with pytest.raises(InvalidField, match="left: expected a number > 0"):
            Pair(0, 1)

    def test_definitions_that_are_refused(self) -> None:
        with pytest.raises(TypeError, match="must not define __init__"):

            class Init(hr.Symbolic):
                def __init__(self) -> None: ...

        with pytest.raises(TypeError, match="type annotation"):

            class Untyped(hr.Symbolic):
                x = hr.field(default=1)

        with pytest.raises(TypeError, match="underscores"):
            type(hr.Symbolic)("Dunder", (hr.Symbolic,), {"__annotations__": {"__x": int}})
        with pytest.raises(TypeError, match="annotation must be a type"):
            one(3)(1)


class TestForwardReferences:
    def test_future_annotations(self) -> None:
        tree = late_types.Expression((late_types.Operand(1), late_types.Expression(name="x")))
        assert tree.operands[0].value == 1  # type: ignore
        with pytest.raises(InvalidField, match=r"operands\[0\]"):
            late_types.Expression((1,))  # type: ignore

    def test_subclass_in_another_module_does_not_need_the_name(self) -> None:
        class Sum(late_types.Expression):
            pass

        assert Sum((late_types.Operand(2),)).operands[0] == late_types.Operand(2)

    def test_classes_in_a_function_refer_to_each_other(self) -> None:
        ping, pong = late_types.local_pair()
        assert ping(pong(ping())).other.other == ping()
        with pytest.raises(InvalidField, match=r"more\[0\]: expected Ping"):
            pong(more=[pong()])
        again, _ = late_types.local_pair()
        with pytest.raises(InvalidField):
            again(pong())  # of the same name, but another class

    def test_self_reference_as_string(self) -> None:
        class Chain(hr.Symbolic):
            next: "Chain | None" = None
            all: "tuple[Chain, ...]" = ()
            either: Optional["Chain"] = None

        assert Chain(Chain(), (Chain(),), Chain()).either == Chain()
        with pytest.raises(InvalidField, match="next"):
            Chain(3)  # type: ignore

    def test_unknown_name(self) -> None:
        class Lost(hr.Symbolic):
            x: "Nowhere"  # type: ignore # noqa: F821

        with pytest.raises(TypeError, match=r"Lost\.x: cannot find the type 'Nowhere'"):
            Lost(1)


class TestGenerics:
    def test_bound_by_subclass(self) -> None:
        assert Box("a").content == "a"
        assert IntBox(3).content == 3
        with pytest.raises(InvalidField, match="content: expected int, got 'a'"):
            IntBox("a")  # type: ignore

    def test_bound_through_two_generations(self) -> None:
        assert StrCrate(["a"], "b").content == ("a",)
        with pytest.raises(InvalidField, match=r"content\[0\]: expected str"):
            StrCrate([1])  # type: ignore
        with pytest.raises(InvalidField, match="spare"):
            StrCrate(["a"], 1)  # type: ignore

    def test_parameterised_field(self) -> None:
        holder = one(Box[int])
        assert holder(IntBox(1)).x.content == 1
        with pytest.raises(InvalidField, match=r"x\.content: expected int"):
            holder(Box("a"))
        with pytest.raises(InvalidField):
            hr.replace(holder(Box(1)), {"x.content": "a"})
        assert type(one(Box[float])(Box(1)).x.content) is float
        assert one(list[Box[int]])([Box(1)]).x == (Box(1),)

    def test_type_variables_with_constraints(self) -> None:
        number = TypeVar("number", int, float)

        class Numeric(hr.Symbolic, Generic[number]):
            x: number

        assert Numeric(1).x == 1
        with pytest.raises(InvalidField):
            Numeric("a")  # type: ignore

    def test_pickle_and_alias_call(self) -> None:
        for box in (Box(1), IntBox(1), Box[int](2), Crate([1])):
            assert pickle.loads(pickle.dumps(box)) == box
            assert copy.deepcopy(box) is box


GOOD: list[tuple[Any, Any, Any]] = [
    (int, 3, 3), (int, np.int64(3), 3), (int, np.array(3), 3), (float, 3, 3.0), (float, np.float32(0.5), 0.5), (float, math.inf, math.inf),
    (float, -0.0, 0.0), (bool, True, True), (bool, np.True_, True), (str, np.str_("a"), "a"), (None, None, None),
    (int | None, None, None), (Optional[int], 3, 3),  # noqa: UP045
    (int | float, 1, 1), (float | int, 1, 1), (Union[int, str], "a", "a"),  # noqa: UP007

    (float | None, 1, 1.0), (Literal[1, "a", None], 1, 1), (list[int], [1, 2], (1, 2)), (tuple[int, ...], [1], (1,)),
    (tuple[int, str], [1, "a"], (1, "a")), (Sequence[float], [1], (1.0,)), (dict[str, int], {"a": 1}, {"a": 1}),
    (dict[str, list[int]], {"a": [1]}, {"a": (1,)}), (own.Colour, own.Colour.RED, own.Colour.RED), (type[int], bool, bool),
    (type, int, int), (Callable[[int], int], own.join, own.join), (Callable, len, len), (Any, [1, {"a": [2]}], (1, {"a": (2,)})),
    (Any, np.float64(2), 2.0), (tuple, [1], (1,)), (dict, {"a": 1}, {"a": 1}), (Conv, Conv(1), Conv(1)), (list[Conv | int], [Conv(1), 2], (Conv(1), 2)),
    (Any, own.Colour.RED, own.Colour.RED), (Any, Number.ONE, Number.ONE), (own.Made, hr.sym(own.Made)(1), hr.sym(own.Made)(1)),
]  # fmt: skip

BAD: list[tuple[Any, Any, str]] = [
    (int, True, "expected int, got True"), (float, False, "expected float, got False"), (int, 1.0, "expected int, got 1.0 (float)"),
    (int, np.True_, "expected int"), (float, np.True_, "expected float"), (int, np.array([3]), "expected int, got a ndarray"),
    (float, math.nan, "NaN"), (Any, math.nan, "NaN"), (float, np.float64("nan"), "NaN"), (float, 10**400, "fits a float"), (bool, 1, "expected bool"),
    (int, Number.ONE, "expected int"), (str, 1, "expected str"), (int | None, "a", "expected int or None, got 'a' (str)"), (int | float, True, "int or float"),
    (Literal[1, "a"], True, "one of 1, 'a'"), (Literal["a"], [], "one of 'a'"), (list[int], "ab", "a list or tuple"),
    (list[int], [1, "b"], "x[1]: expected int, got 'b'"), (tuple[int, str], (1,), "a tuple of 2"), (dict[str, int], {1: 1}, "expected str"),
    (dict[str, int], {"a b": "c"}, 'x["a b"]: expected int'), (dict[str, list[int]], {"a": [1, "q"]}, "x.a[1]: expected int"),
    (own.Colour, "red", "expected Colour, got 'red'"), (type[int], str, "derived from int"), (Callable[[], int], 3, "a function, class"),
    (Callable, lambda: 1, "no lambda"), (Any, lambda: 1, "no lambda"), (Any, object(), "a program"), (Any, {1, 2}, "a program"),
    (Any, {1: 2}, "mapping keys"), (Any, b"x", "a program"), (Conv, Wide, "expected Conv, got class Wide"), (own.Made, hr.sym(own.Leaf), "expected"),
    (list[Conv], [Conv(1), 3], "x[1]: expected Conv, got 3"), (Any, 1j, "a program"), (Conv, own.Leaf(), "expected Conv, got a Leaf"),
]  # fmt: skip


class TestFieldTypes:
    @pytest.mark.parametrize(("annotation", "given", "stored"), GOOD)
    def test_takes(self, annotation: Any, given: Any, stored: Any) -> None:
        cls = one(annotation)
        for value in (cls(given).x, hr.replace(cls(given), x=given).x):
            assert value == stored
            assert same(value, freeze(stored))
            assert math.copysign(1, value) == 1 if isinstance(value, float) else True

    @pytest.mark.parametrize(("annotation", "given", "message"), BAD)
    def test_refuses(self, annotation: Any, given: Any, message: str) -> None:
        cls = one(annotation)
        with pytest.raises(InvalidField) as caught:
            cls(given)
        assert str(caught.value).startswith("One: x")
        assert message in str(caught.value)
        assert len(str(caught.value)) < 700
        assert str(pickle.loads(pickle.dumps(caught.value))).startswith("One: x")

    @pytest.mark.parametrize(
        ("annotation", "rules", "good", "bad"),
        [
            (int, {"ge": 1}, [1, 5], [0]), (float, {"gt": 0}, [0.1], [0, -1]), (int, {"le": 3, "ge": 2}, [2, 3], [1, 4]),
            (float, {"lt": 1}, [0], [1, 2]), (str, {"regex": "[a-z]+"}, ["ab"], ["", "a1", "ab\n"]),
            (int | None, {"ge": 1}, [None, 1], [0]), (Any, {"choices": (1, "a")}, [1, "a"], [True, 1.0, "b"]),
            (float, {"choices": (1, 2)}, [1, 2.0], [3]), (int | str, {"ge": 1}, [1], [0, "a"]),
            (int | str, {"regex": "a"}, ["a"], [1]), (list[int], {"ge": 1}, [], [[1]]),
        ],
    )  # fmt: skip
    def test_constraints(self, annotation: Any, rules: Any, good: list[Any], bad: list[Any]) -> None:
        cls = one(annotation, **rules)
        for value in good:
            if value is not None:
                assert cls(value).x == value
        for value in bad:
            with pytest.raises(InvalidField):
                cls(value)
            if good:
                with pytest.raises(InvalidField):
                    hr.replace(cls(good[-1]), x=value)

    def test_choice_with_a_constraint_is_bounded(self) -> None:
        cls = one(int, ge=1, le=9)
        assert cls(hr.number(1, 9))
        for outside in (hr.number(0, 9), hr.number(1, 10), hr.one_of(1, 10)):
            with pytest.raises(InvalidField):
                cls(outside)

    def test_cycles_and_deep_nesting_are_refused(self) -> None:
        ring: list[Any] = []
        ring.append(ring)
        with pytest.raises(InvalidField) as caught:
            Anything(ring)
        assert len(str(caught.value)) < 700

    def test_messages_stay_short(self) -> None:
        big = Anything([Conv(i) for i in range(1000)])
        huge = one(Literal[tuple(f"option{i}" for i in range(1000))])
        for cls, value in (
            (one(int), big),
            (one(int), "x" * 10**6),
            (huge, "y"),
            (one(str), 10**5000),
            (one(dict[str, int]), {"k" * 10**5: "v"}),
        ):
            with pytest.raises(InvalidField) as caught:
                cls(value)
            assert len(str(caught.value)) < 900
            assert len(repr(caught.value)) < 50_000

    def test_path_is_that_of_the_whole_tree(self) -> None:
        tree = Anything([Conv(1), {"a": Conv(2)}])
        with pytest.raises(InvalidField, match=r"^value\[1\]\.a\.filters: expected int, got 'wide' \(str\)$"):
            hr.replace(tree, {"value[1].a.filters": "wide"})


class Checked(hr.Symbolic):
    lo: int
    hi: int = 10
    norm: str = "pre"

    def __post_init__(self) -> None:
        if self.norm not in ("pre", "post"):
            raise ValueError(f"norm must be pre or post, got {self.norm!r}")
        if self.norm == "post" and self.hi == 3:
            raise ValueError("post needs another hi")
        if self.lo >= self.hi:
            raise ValueError(f"lo must be below hi, got {self.lo}, {self.hi}")


class TestPostInit:
    def test_runs_when_made_and_when_replaced(self) -> None:
        with pytest.raises(ValueError, match="lo must be below hi"):
            Checked(11)
        with pytest.raises(ValueError, match="lo must be below hi"):
            hr.replace(Checked(1), hi=0)
        with pytest.raises(ValueError, match="lo must be below hi"):
            hr.replace(Anything([Checked(1)]), {"value[0].hi": 0})
        assert hr.replace(Checked(1), {"lo": 20, "hi": 30}).lo == 20  # each alone would fail

    def test_waits_for_a_choice_that_it_reads(self) -> None:
        assert Checked(hr.number(1, 20))
        assert Checked(1, norm=hr.one_of("pre", "post"))  # compared only, which a choice does not refuse
        assert Checked(1, norm=hr.one_of("pre", "neither"))

    def test_does_not_wait_for_one_that_it_does_not_read(self) -> None:
        with pytest.raises(ValueError, match="norm must be"):
            Checked(hr.number(1, 20), norm="neither")

    def test_runs_when_decoded(self) -> None:
        space = hr.Space(Checked(hr.one_of(1, 20), norm=hr.one_of("pre", "neither")))
        assert [space.is_feasible(g) for g in ((0, 0), (1, 0), (0, 1))] == [True, False, False]
        with pytest.raises(ValueError, match="norm must be"):
            hr.replace(space.program, {"norm": "neither"})

    def test_derived_classes(self) -> None:
        class More(Checked):
            more: int = 0

            def __post_init__(self) -> None:
                super().__post_init__()
                if self.more < 0:
                    raise ValueError("more")

        for arguments in ({"lo": 11}, {"lo": 1, "more": -1}):
            with pytest.raises(ValueError, match=r"more|lo must"):
                More(**arguments)


class TestValues:
    def test_frozen(self) -> None:
        node = own.Tree(params={"a": 1}, children=[1])
        for attempt in (
            lambda: setattr(node, "maybe", 1), lambda: delattr(node, "maybe"), lambda: setattr(node, "new", 1),
            lambda: node.params.__setitem__("a", 2), lambda: node.params.clear(), lambda: node.params.update(a=1),
            lambda: node.params.pop("a"), lambda: node.params.setdefault("b", 1), lambda: node.params.__ior__({"b": 1}),
        ):  # fmt: skip
            with pytest.raises(FrozenError, match=r"replace|deleted"):
                attempt()
        with pytest.raises(TypeError):
            node.children[0] = 1  # type: ignore
        assert node.params == {"a": 1}
        assert not hasattr(node, "__dict__")
        assert not hasattr(Box(1), "__dict__")

    def test_changing_what_was_given_changes_nothing(self) -> None:
        given: dict[str, Any] = {"a": [1]}
        node = Anything(given)
        given["a"].append(2)
        given["b"] = 1
        assert node.value == {"a": (1,)}

    @given(own.trees)
    def test_copies_are_equal(self, tree: Any) -> None:
        assert copy.copy(tree) is tree
        assert copy.deepcopy([tree])[0] is tree
        twin = pickle.loads(pickle.dumps(tree))
        assert twin == tree
        assert hash(twin) == hash(tree)
        assert hr.digest(twin) == hr.digest(tree)

    @given(own.trees, own.trees)
    def test_equality_hash_and_digest_agree(self, a: Any, b: Any) -> None:
        assert (a == b) == (hr.digest(a) == hr.digest(b))
        assert a != b or hash(a) == hash(b)
        assert (Anything(a) == Anything(b)) == (a == b)

    @pytest.mark.parametrize("make", [
        Anything, lambda v: Anything([v]), lambda v: Anything({"k": [v]}), hr.sym(own.join), hr.sym(own.stack),
        one(tuple), one(int | float | bool), one(list[Any]), hr.one_of,
        lambda v: own.Tree(children=(v,)), one(Sequence), one(int | tuple),
    ])  # fmt: skip
    def test_numbers_of_different_type_differ(self, make: Any) -> None:
        try:
            made = [make(v) for v in (1, 1.0, True)]
        except InvalidField:
            made = [make([v]) for v in (1, 1.0, True)]
        assert len({hr.digest(m) for m in made}) == 3
        assert len(set(made)) == 3
        for i in range(3):
            assert all((made[i] == made[j]) == (i == j) for j in range(3))

    def test_order_of_a_mapping_counts(self) -> None:
        a, b = Anything({"x": 1, "y": 2}), Anything({"y": 2, "x": 1})
        assert a != b
        assert hr.digest(a) != hr.digest(b)

    def test_zero_has_one_sign(self) -> None:
        for make in (
            Anything,
            lambda v: Anything([v]),
            hr.sym(own.join),
            one(float),
            one(float | int),
            one(list[float]),
        ):
            try:
                a, b = make(0.0), make(-0.0)
            except InvalidField:
                a, b = make([0.0]), make([-0.0])
            assert a == b
            assert hr.digest(a) == hr.digest(b)
        assert hr.digest(-0.0) == hr.digest(0.0)

    def test_digest_is_stable(self) -> None:
        # A digest in a store must mean the same for ever: change these only together with the format.
        assert hr.digest(Conv(8)) == hr.digest(Conv(8, 3, 1.0)) != hr.digest(Conv(8, 4))
        assert hr.digest([1, {"a": 2}]) == hr.digest((1, FrozenDict(a=2)))
        assert len(hr.digest(None)) == 32

    def test_classes_of_equal_fields_differ(self) -> None:
        class Other(hr.Symbolic):
            value: Any = None

        assert Other(1) != Anything(1)
        assert hr.digest(Other(1)) != hr.digest(Anything(1))

    def test_weak_references(self) -> None:
        node = Conv(1)
        ref = weakref.ref(node)
        assert ref() is node
        del node
        gc.collect()
        assert ref() is None

    def test_replace_method_and_match(self) -> None:
        assert Conv(1).__replace__(filters=2) == Conv(2)
        match Conv(4, 5):
            case Conv(filters, kernel=5):
                assert filters == 4
            case _:
                pytest.fail("no match")

    def test_plain_mixin_keeps_its_dict(self) -> None:
        class Mixin:
            def hello(self) -> str:
                return "hello"

        class Mixed(Mixin, hr.Symbolic):
            x: int = 1

        assert Mixed(2).hello() == "hello"
        assert hr.replace(Mixed(2), x=3) == Mixed(3)

    def test_local_enum_has_a_digest(self) -> None:
        class Local(Enum):
            A = 1

        assert hr.digest(Anything(Local.A)) == hr.digest(Anything(Local.A))

    def test_guard_is_not_seen_from_outside(self) -> None:
        with pytest.raises(OpenChoiceError):
            bool(Checked(hr.number(1, 20)).lo)


def test_class_keywords_reach_init_subclass_once_per_class() -> None:
    heard: list[tuple[str, str]] = []

    class Plugin(hr.Symbolic):
        size: int = 1

        def __init_subclass__(cls, *, label: str, **rest: object) -> None:
            super().__init_subclass__(**rest)
            heard.append((cls.__name__, label))

    class Concrete(Plugin, label="first", kw_only=True):
        depth: int = 2

    assert heard == [("Concrete", "first")]
    assert hr.replace(Concrete(), depth=3) == Concrete(depth=3)
