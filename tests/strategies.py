"""All hypothesis strategies, and the classes and functions that the trees in the tests are made of."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

from hypothesis import strategies as st

import heuretic as hr


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(hr.Symbolic):
    width: int = 1
    rate: float = 0.5
    flag: bool = False
    name: str = ""
    mode: Literal["a", "b", 3] = "a"


class Tree(hr.Symbolic):
    children: tuple[Any, ...] = ()
    params: dict[str, Any] = hr.field(default_factory=dict)
    colour: Colour = Colour.RED
    maybe: int | None = None
    either: int | float | str | bool = 0
    fixed: tuple[int, str] = (1, "x")
    maker: type[Any] = int
    anything: Any = None


def join(first: Any = None, second: Any = (), *, scale: float = 1.0) -> list[Any]:
    """Return the arguments."""
    return [first, second, scale]


def stack(*layers: Any, gain: Any = 1) -> tuple[Any, ...]:
    """Return the layers."""
    return (*layers, gain)


class Made:
    """An ordinary class."""

    def __init__(self, size: Any, **extra: Any) -> None:
        self.size, self.extra = size, extra


ints = st.integers(-(2**70), 2**70)
floats = st.floats(allow_nan=False)
texts = st.text(st.characters(), max_size=12)  # with surrogates, which are legal in a str
keys = st.one_of(texts, st.sampled_from(["$type", "$call", "a b", "items", "0", "", "x.y", 'q"', "[1]", "ünï", "a·"]))
leaves = st.one_of(
    st.none(),
    st.booleans(),
    ints,
    floats,
    texts,
    st.sampled_from(list(Colour)),
    st.sampled_from([join, stack, Made, int]),
)


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        nodes(inner),
        calls(inner),
    )


def nodes(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects of Symbolic classes with every kind of field."""
    plain = st.builds(
        Leaf, width=ints, rate=floats, flag=st.booleans(), name=texts, mode=st.sampled_from(["a", "b", 3])
    )
    return plain | st.builds(
        Tree,
        children=st.lists(inner, max_size=3),
        params=st.dictionaries(keys, inner, max_size=2),
        colour=st.sampled_from(Colour),
        maybe=st.none() | ints,
        either=ints | floats | texts | st.booleans(),
        fixed=st.tuples(ints, texts),
        maker=st.sampled_from([int, str, Made]),
        anything=inner,
    )


def calls(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Symbolic calls of functions and classes, by position and by name."""
    names = st.sampled_from(["alpha", "beta", "x_1"])
    return st.one_of(
        st.builds(lambda a, b: hr.sym(join)(a, second=b), inner, inner),
        st.builds(lambda a: hr.sym(join)(first=a, scale=2), inner),
        st.builds(lambda a, g: hr.sym(stack)(*a, gain=g), st.lists(inner, max_size=3), inner),
        st.builds(lambda a, e: hr.sym(Made)(a, **e), inner, st.dictionaries(names, inner, max_size=2)),
    )


values = st.recursive(leaves, _grown, max_leaves=12)
trees = nodes(values) | calls(values)


@st.composite
def numbers(draw: st.DrawFn) -> Any:
    """Number choices: int and float, with log and with steps."""
    kind = draw(st.sampled_from(["int", "int_step", "int_log", "float", "float_log", "float_step"]))
    if kind.startswith("int"):
        lo = draw(st.integers(1, 5))
        hi = lo + draw(st.integers(1, 6))
        return hr.number(lo, hi, log=kind == "int_log", step=draw(st.integers(1, 3)) if kind == "int_step" else None)
    lo = draw(st.sampled_from([0.1, 0.3, 1.0, 1e-4]))
    span = draw(st.sampled_from([0.2, 0.7, 3.0]))
    step = draw(st.sampled_from([0.1, 0.05, 0.3])) if kind == "float_step" else None
    return hr.number(lo, lo + span, log=kind == "float_log", step=step)


@st.composite
def finite_numbers(draw: st.DrawFn) -> Any:
    """Number choices with few values."""
    if draw(st.booleans()):
        lo = draw(st.integers(-2, 2))
        return hr.number(lo, lo + draw(st.integers(1, 2)))
    return hr.number(0.0, draw(st.sampled_from([0.2, 0.3])), step=0.1)


def choices(number: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Choices of every kind, nested in each other and in containers, nodes and calls; no two candidates overlap."""

    def labelled(items: list[Any]) -> list[Any]:
        return [(i, item) for i, item in enumerate(items)]  # tells the candidates apart, whatever they hold

    def grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        several = st.lists(inner, min_size=1, max_size=3).map(labelled)
        return st.one_of(
            several.map(lambda items: hr.one_of(*items)),
            several.map(lambda items: hr.permutation(items)),
            st.tuples(several, st.integers(0, 1), st.booleans()).map(
                lambda t: hr.some_of(t[0], min(t[1], len(t[0])), len(t[0]), ordered=t[2])
            ),
            st.tuples(inner, st.integers(0, 1), st.integers(1, 2)).map(lambda t: hr.repeat(t[0], t[1], t[2])),
            inner.map(lambda item: Tree(anything=item)),
            inner.map(lambda item: hr.sym(join)(item)),
            inner.map(lambda item: {"key": item, "fixed": 1}),
            st.tuples(inner, inner),
        )

    return st.recursive(number | st.sampled_from([1, "s", None]), grow, max_leaves=5)


spaces = choices(numbers()).map(hr.Space)
finite_spaces = choices(finite_numbers()).map(hr.Space).filter(lambda space: space.size <= 300)
