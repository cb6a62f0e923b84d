# pyright: strict
"""A user's code, which strict type checking accepts and which runs. Read by `test_typing`."""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Generic, Literal, TypeVar, assert_type

import heuretic as hr
from heuretic.symbolic import Path

T = TypeVar("T")


class Colour(Enum):
    RED = 1


class Conv(hr.Symbolic):
    """Every kind of field."""

    filters: int
    kernel: int = 3
    rate: float = hr.field(default=0.1, gt=0)
    names: tuple[str, ...] = hr.field(default_factory=tuple)
    table: dict[str, int] = hr.field(default_factory=dict)
    mode: Literal["a", "b"] = "a"
    colour: Colour = Colour.RED
    maybe: int | None = None
    limit: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if self.filters < 0:
            raise ValueError("filters")

    @property
    def area(self) -> int:
        return self.kernel**2


class Wide(Conv, kw_only=True):
    width: int = 7


class Box(hr.Symbolic, Generic[T]):
    content: T


class Net(hr.Symbolic):
    layers: tuple[Conv | Net, ...] = ()
    activation: type[object] = str

    def build(self) -> list[str]:
        return [str(layer) for layer in self.layers]


class Plain:
    def __init__(self, size: int, *, scale: float = 1.0) -> None:
        self.size, self.scale = size, scale


def scaled(value: int, by: float = 2.0) -> float:
    return value * by


class Wider(hr.Patch):
    """A patch with parameters and rules."""

    by: int = hr.field(default=2, ge=1)

    @hr.rule
    def conv(self, node: Conv) -> Conv:
        return hr.replace(node, kernel=node.kernel + self.by)

    @hr.rule
    def net(self, node: Net, path: Path) -> Net:
        return node


conv = Conv(8, rate=0.5, names=("a",), table={"a": 1})
assert_type(conv.filters, int)
assert_type(Wide(1, width=3).area, int)
assert_type(Box(3).content, int)
assert_type(hr.replace(conv, {"kernel": 5}), Conv)
assert_type(hr.replace(conv, kernel=5), Conv)

net = Net((conv, Net((Conv(hr.one_of(8, 16), hr.number(1, 7, step=2)),))))
several = Net(hr.repeat(Conv(hr.number(1, 9), rate=hr.number(1e-3, 1.0, log=True), mode=hr.one_of("a", "b")), 1, 3))
orders = (hr.permutation([1, 2, 3]), hr.some_of(["x", "y"], 0, 2))
assert_type(orders, tuple[tuple[int, ...], tuple[str, ...]])

plain = hr.sym(Plain)(3, scale=hr.one_of(0.5, 1.0))
assert_type(plain, Plain)
number = hr.sym(scaled)(plain.size, by=3.0)
assert_type(number, float)
made = hr.build(hr.sym(Plain)(3))
assert_type(made, Plain)

patched = hr.apply(several, Wider(by=4) | Wider())
assert_type(patched, Net)
changes = [str(change) for change in hr.diff(several, patched)]
space = hr.Space(several)
best = space.decode(space.default())
digest: str = hr.digest(patched)
text: str = hr.dumps(patched)
places: list[tuple[Path, object]] = list(hr.walk(patched))
limit = hr.Limit("latency_ms", at_most=5)
algorithm = hr.Evolution(population=20, tournament=5)
