"""Symbolic calls: what may be called, how arguments are bound and read, and how calls are built."""

import functools
import operator
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import heuretic as hr
import strategies as own
from heuretic.symbolic import FrozenError, InvalidField, OpenChoiceError, PathError


def positional(a: int, b: int = 2, /, c: int = 3, *, d: int = 4) -> tuple[int, ...]:
    return a, b, c, d


def everything(a: Any, b: Any = 2, *rest: Any, c: Any = 3, **more: Any) -> tuple[Any, ...]:
    return a, b, rest, c, more


def only_names(first: int, /, **more: Any) -> tuple[Any, ...]:
    return first, more


def listed(sizes: Any = [1, 2]) -> Any:  # noqa: B006
    return sizes


def fails(message: str = "no") -> None:
    raise RuntimeError(message)


LOG: list[str] = []


def logged(name: str, *inner: Any, also: Any = None) -> str:
    LOG.append(name)
    return name


class Point:
    def __init__(self, x: int, y: int = 0) -> None:
        self.x, self.y = x, y


class Holder(hr.Symbolic):
    inside: Any = None
    size: int = 1


class Factory(hr.Symbolic):
    layer: Any

    def build(self) -> Any:
        return {"built": hr.build(self.layer)}


class TestBinding:
    def test_classes_and_functions(self) -> None:
        call: Any = hr.sym(Point)(1)
        assert (call.x, call.y) == (1, 0)
        assert vars(hr.build(call)) == {"x": 1, "y": 0}
        with pytest.raises(AttributeError, match="Did you mean 'x'"):
            _ = call.xx
        with pytest.raises(AttributeError, match="It has x, y"):
            _ = call.weight

    @pytest.mark.parametrize(
        ("given", "same"),
        [
            (hr.sym(positional)(1, 2, 3), hr.sym(positional)(1, 2, c=3)),
            (hr.sym(everything)(1, 5), hr.sym(everything)(b=5, a=1)),
            (hr.sym(everything)(1, c=2, b=3), hr.sym(everything)(1, 3, c=2)),
            (hr.sym(Point)(y=2, x=1), hr.sym(Point)(1, 2)),
        ],
    )
    def test_equal_however_given(self, given: Any, same: Any) -> None:
        assert given == same
        assert hash(given) == hash(same)
        assert hr.digest(given) == hr.digest(same)
        assert not hr.diff(given, same)

    def test_edited_equals_made(self) -> None:
        edited = hr.replace(hr.sym(everything)(1, c=9), {"b": 5})  # type: ignore
        assert edited == hr.sym(everything)(1, 5, c=9)
        assert hr.digest(edited) == hr.digest(hr.sym(everything)(1, 5, c=9))
        assert hr.replace(hr.sym(everything)(1), {"new": 5}) == hr.sym(everything)(1, new=5)

    @given(st.lists(st.integers(), min_size=1, max_size=5), st.dictionaries(st.sampled_from("cxyz"), st.integers()))
    def test_builds_what_a_plain_call_gives(self, args: list[int], kwargs: dict[str, int]) -> None:
        assert hr.build(hr.sym(everything)(*args, **kwargs)) == everything(*args, **kwargs)
        assert hr.build(hr.loads(hr.dumps(hr.sym(everything)(*args, **kwargs)), trust=[__name__])) == everything(
            *args, **kwargs
        )

    def test_a_default_before_a_position_is_kept(self) -> None:
        call = hr.replace(hr.sym(positional)(1), {"c": 9})
        assert hr.build(call) == (1, 2, 9, 4)
        text = hr.dumps(hr.sym(positional)(1, 7)).replace('"a": 1, ', "")
        with pytest.raises(TypeError, match="needs a"):
            hr.build(hr.loads(text, trust=[__name__]))

        def skipping(call: Any) -> Any:
            return hr.build(hr.replace(call, {"b": 8}))

        assert skipping(hr.sym(positional)(1)) == (1, 8, 3, 4)

    def test_rest(self) -> None:
        call: Any = hr.sym(everything)(1, 2, "x", "y", also=1)
        assert (len(call), call[0], call[-1], list(call), call.also, call.c, call.b) == (
            2,
            "x",
            "y",
            ["x", "y"],
            1,
            3,
            2,
        )
        assert hr.replace(call, {"[-1]": "z"})[1] == "z"
        assert hr.get(call, "[1]") == "y"
        for path in ("[2]", "[-3]"):
            with pytest.raises(PathError, match="2 positions"):
                hr.replace(call, {path: 1})
            with pytest.raises(PathError, match="2 positions"):
                hr.get(call, path)
        assert bool(hr.sym(everything)(1))

    def test_wrong_arguments(self) -> None:
        for make in (
            lambda: hr.sym(Point)(),
            lambda: hr.sym(Point)(1, z=2),
            lambda: hr.sym(Point)(1, 2, 3),
            lambda: hr.sym(Point)(1, x=2),
        ):  # type: ignore
            with pytest.raises(TypeError, match=r"test_calls:Point: .*signature is \(x"):
                make()
        with pytest.raises(InvalidField, match=r"test_calls:Point: x\[1\]: expected .*got a"):
            hr.sym(Point)([1, object()])  # type: ignore
        with pytest.raises(PathError, match="did you mean 'x'"):
            hr.replace(hr.sym(Point)(1), {"xx": 2})
        with pytest.raises(PathError, match="no '\\[0\\]'"):
            hr.replace(hr.sym(Point)(1), {"[0]": 2})

    def test_names_that_would_collide(self) -> None:
        assert hr.build(hr.sym(only_names)(1, x=2)) == (1, {"x": 2})
        for extra in ({"first": 2}, {"$type": "x"}):
            with pytest.raises(TypeError, match="is taken"):
                hr.sym(only_names)(1, **extra)
        with pytest.raises((InvalidField, PathError)):
            hr.replace(hr.sym(only_names)(1), {("$call",): 1})

    def test_builtins_without_signature(self) -> None:
        call = hr.sym(dict)([["a", 1]], b=2)
        assert hr.build(call) == {"a": 1, "b": 2}
        assert hr.build(hr.sym(range)(1, 4)) == range(1, 4)
        assert hr.build(hr.sym(operator.add)(2, 3)) == 5
        assert hr.build(hr.sym(OrderedDict)([["b", 1], ["a", 2]])) == OrderedDict(b=1, a=2)
        assert hr.loads(hr.dumps(call), trust=["builtins"]) == call

    def test_defaults_read_as_in_a_program(self) -> None:
        call = hr.sym(listed)()
        assert call.sizes == (1, 2)
        assert hr.get(call, "sizes[1]") == 2
        assert listed() == [1, 2]
        assert hr.build(call) == [1, 2]

    def test_is_frozen_and_not_callable(self) -> None:
        call = hr.sym(Point)(1)
        for attempt in (lambda: setattr(call, "x", 2), lambda: delattr(call, "x"), lambda: setattr(call, "new", 2)):
            with pytest.raises(FrozenError, match="immutable"):
                attempt()
        with pytest.raises(TypeError, match="cannot be called"):
            call()  # type: ignore
        with pytest.raises(InvalidField):
            hr.sym(call)  # type: ignore

    def test_argument_named_like_internals(self) -> None:
        call = hr.sym(everything)(1, target=2, values=3, keys=4, self=5)
        assert (call.target, call.values, call.keys, call.self) == (2, 3, 4, 5)  # type: ignore
        assert hr.build(call)[4] == {"target": 2, "values": 3, "keys": 4, "self": 5}


class TestTargets:
    def test_what_cannot_be_found_again_is_refused(self) -> None:
        def local() -> None: ...

        for target in (lambda: 1, local):
            with pytest.raises(InvalidField, match=r"no lambda.*got function"):
                hr.sym(target)
        for target in (functools.partial(positional, 1), Point(1).__init__, Point(1), 3, "builtins:int"):
            with pytest.raises(InvalidField, match="importable"):
                hr.sym(target)  # type: ignore

    def test_partial_as_target(self) -> None:
        built = hr.build(hr.sym(functools.partial)(positional, 1, d=5))
        assert built(c=9) == (1, 2, 9, 5)

    def test_a_function_that_was_replaced_is_refused(self) -> None:
        old = fails
        globals()["fails"] = positional
        try:
            with pytest.raises(InvalidField, match="importable"):
                hr.sym(functools.wraps(old)(lambda: None))
        finally:
            globals()["fails"] = old


class TestBuild:
    def test_order_is_arguments_first_as_written(self) -> None:
        LOG.clear()
        a, b, c = hr.sym(logged)("a"), hr.sym(logged)("b"), hr.sym(logged)("c")
        assert hr.build(hr.sym(logged)("outer", a, hr.sym(logged)("inner", b), also=c)) == "outer"
        assert LOG == ["a", "b", "inner", "c", "outer"]

    def test_containers(self) -> None:
        built = hr.build(({"a": [hr.sym(Point)(1)]}, 3))
        assert type(built[0]) is dict
        assert built[0]["a"][0].x == 1  # type: ignore
        assert hr.build([hr.sym(operator.add)(1, 2)]) == (3,)

    def test_errors_carry_the_place(self) -> None:
        with pytest.raises(RuntimeError, match="boom") as caught:
            hr.build(hr.sym(logged)("x", hr.sym(logged)("y", also=[hr.sym(fails)("boom")])))
        assert caught.value.__notes__ == ["while building [0].also[0]"]
        with pytest.raises(RuntimeError) as caught:
            hr.build(hr.sym(fails)())
        assert caught.value.__notes__ == ["while building the root"]

    def test_a_note_of_the_callee_does_not_hide_the_place(self) -> None:
        with pytest.raises(ValueError, match="bad") as caught:
            hr.build([hr.sym(noting)()])
        assert caught.value.__notes__ == ["look here", "while building [0]"]

    def test_open_choices_are_refused(self) -> None:
        program = hr.sym(Point)(hr.one_of(1, 2), hr.number(0, 5))
        with pytest.raises(OpenChoiceError, match=r"2 choice\(s\) still open \(x: one_of\(1, 2\); y: number") as caught:
            hr.build(program)
        assert len(str(caught.value)) < 500
        with pytest.raises(OpenChoiceError, match="the root"):
            hr.build(hr.one_of(1, 2))
        with pytest.raises(OpenChoiceError, match=r"\[0\]"):
            hr.build([hr.one_of(1, 2)])

    def test_nodes(self) -> None:
        assert hr.build(Holder(3)) == Holder(3)
        assert hr.build(Factory(hr.sym(operator.add)(1, 2))) == {"built": 3}
        with pytest.raises(TypeError, match=r"Holder has no build\(\) but holds a symbolic call at inside\[0\]"):
            hr.build(Holder([hr.sym(Point)(1)]))

    @given(own.trees)
    def test_building_twice_gives_equal_things_and_changes_nothing(self, tree: Any) -> None:
        digest = hr.digest(tree)
        call = hr.sym(own.join)(hr.dumps(tree))
        assert hr.build(call) == hr.build(call)
        assert hr.digest(tree) == digest


def noting() -> None:
    error = ValueError("bad")
    error.add_note("look here")
    raise error
