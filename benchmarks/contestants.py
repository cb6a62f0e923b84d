"""The same tree, the same choices and the same operations three times: heuretic, PyGlove, and plain Python.

The tree has 200 nodes in the shape of a binary heap; its first 30 nodes (parents before children) leave `width` open
to one of 8 values where a search space is wanted. Each contestant has one method per operation, under one name.
"""

from __future__ import annotations

import copy
import json
import pickle
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import heuretic as hr
from heuretic.search import Space
from heuretic.symbolic import digest

NODES, CHOICES, VALUES = 200, 30, tuple(range(8))
KINDS = ("conv", "dense", "pool")
DEEP = ".".join(["children[0]"] * 6) + ".width"
SIX_FIELDS = {"name": "a", "width": 3, "rate": 0.5, "active": True, "kind": "conv", "note": "x"}


def make_tree(node: Callable[..., Any], leaf: Callable[..., Any], container: Callable[..., Any] = list) -> Any:
    """Build the tree from the given constructors."""

    def build(i: int) -> Any:
        inside = container([build(child) for child in (2 * i + 1, 2 * i + 2) if child < NODES])
        make = node if inside else leaf
        return make(name=f"n{i}", width=i, rate=i / 10, active=bool(i % 2), kind=KINDS[i % 3], children=inside)

    return build(0)


# -- heuretic ---------------------------------------------------------------------------------------------------


class Flat(hr.Symbolic):
    name: str
    width: int
    rate: float
    active: bool
    kind: Literal["conv", "dense", "pool"]
    note: str | None = None


class Node(hr.Symbolic):
    name: str
    width: int
    rate: float = 0.1
    active: bool = True
    kind: Literal["conv", "dense", "pool"] = "dense"
    children: tuple[Node, ...] = ()


class Leaf(Node):
    pass


class Heuretic:
    name = "heuretic"

    def __init__(self) -> None:
        self.tree, self.equal = self.build(), self.build()
        self.other = hr.replace(self.equal, {DEEP: 10**6})
        self.flat, self.counter = Flat(**SIX_FIELDS), 0
        self.text = hr.dumps(self.tree)
        self.open_tree = self.make_open()
        self.space = Space(self.open_tree)
        self.rng = random.Random(0)
        self.genome = self.space.sample(self.rng)
        self.program = self.space.decode(self.genome)
        assert hr.loads(self.text, trust=(__name__,)) == self.tree == self.equal

    def make_open(self) -> Any:
        paths = [f"{path}.width" if path else "width" for path, _ in hr.find(self.tree, Node)[:CHOICES]]
        return hr.replace(self.tree, {path: hr.one_of(*VALUES) for path in paths})

    def construct(self) -> Any:
        return Flat(**SIX_FIELDS)

    def read(self) -> Any:
        return self.flat.width

    def build(self) -> Any:
        return make_tree(Node, Leaf)

    def clone(self) -> Any:
        return copy.deepcopy(self.tree)

    def replace_deep(self) -> Any:
        self.counter += 1
        return hr.replace(self.tree, {DEEP: self.counter})

    def get_deep(self) -> Any:
        return hr.get(self.tree, DEEP)

    def equality(self) -> Any:
        return self.tree == self.equal

    def digest(self, fresh: Any) -> Any:
        return digest(fresh)

    fresh_digest = build

    def difference(self) -> Any:
        return hr.diff(self.tree, self.other)

    def query(self) -> Any:
        return hr.find(self.tree, Leaf)

    def dump(self) -> Any:
        return hr.dumps(self.tree)

    def load(self) -> Any:
        return hr.loads(self.text, trust=(__name__,))

    def round_trip(self) -> Any:
        return hr.loads(hr.dumps(self.tree), trust=(__name__,))

    def pickling(self) -> Any:
        return pickle.loads(pickle.dumps(self.tree))

    def show(self) -> Any:
        return repr(self.tree)

    def make_space(self) -> Any:
        return Space(self.open_tree)

    def sample(self) -> Any:
        return self.space.decode(self.space.sample(self.rng))

    def mutate(self) -> Any:
        return self.space.mutate(self.genome, self.rng)

    def encode(self) -> Any:
        return self.space.encode(self.program)


# -- plain Python -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlainFlat:
    name: str
    width: int
    rate: float
    active: bool
    kind: str
    note: str | None = None


@dataclass
class PlainNode:
    name: str
    width: int
    rate: float = 0.1
    active: bool = True
    kind: str = "dense"
    children: list[PlainNode] = field(default_factory=list)


@dataclass
class PlainLeaf(PlainNode):
    pass


def below(node: PlainNode) -> Iterator[PlainNode]:
    """Yield the nodes of a plain tree, parents first."""
    yield node
    for child in node.children:
        yield from below(child)


def plain_hash(node: PlainNode) -> int:
    """Return a hash of a plain tree."""
    inside = tuple(plain_hash(child) for child in node.children)
    return hash((type(node), node.name, node.width, node.rate, node.active, node.kind, inside))


def plain_load(values: dict[str, Any]) -> PlainNode:
    """Rebuild a plain tree from what `asdict` made of it."""
    values["children"] = [plain_load(child) for child in values["children"]]
    return (PlainNode if values["children"] else PlainLeaf)(**values)


class Plain:
    """What one would write by hand for one kind of tree: mutable, unchecked, and no more than the task asks for."""

    name = "plain"

    def __init__(self) -> None:
        self.tree, self.equal, self.edited = self.build(), self.build(), self.build()
        self.flat, self.counter = PlainFlat(**SIX_FIELDS), 0
        self.text = json.dumps(asdict(self.tree))
        self.rng = random.Random(0)
        self.genome = [0] * CHOICES

    def construct(self) -> Any:
        return PlainFlat(**SIX_FIELDS)

    def read(self) -> Any:
        return self.flat.width

    def build(self) -> Any:
        return make_tree(PlainNode, PlainLeaf)

    def clone(self) -> Any:
        return copy.deepcopy(self.tree)

    def replace_deep(self) -> Any:
        self.counter += 1
        node = self.edited
        for _ in range(6):
            node = node.children[0]
        node.width = self.counter

    def equality(self) -> Any:
        return self.tree == self.equal

    def digest(self, fresh: Any) -> Any:
        return plain_hash(fresh)

    fresh_digest = build

    def query(self) -> Any:
        return [node for node in below(self.tree) if isinstance(node, PlainLeaf)]

    def dump(self) -> Any:
        return json.dumps(asdict(self.tree))

    def load(self) -> Any:
        return plain_load(json.loads(self.text))

    def round_trip(self) -> Any:
        return pickle.loads(pickle.dumps(self.tree))

    def pickling(self) -> Any:
        return pickle.loads(pickle.dumps(self.tree))

    def show(self) -> Any:
        return repr(self.tree)

    def decode(self, genome: list[int]) -> PlainNode:
        tree = copy.deepcopy(self.tree)
        for node, value in zip(below(tree), genome, strict=False):
            node.width = VALUES[value]
        return tree

    def sample(self) -> Any:
        return self.decode([self.rng.choice(VALUES) for _ in range(CHOICES)])

    def mutate(self) -> Any:
        genome = self.genome[:]
        genome[self.rng.randrange(CHOICES)] = self.rng.choice(VALUES)
        return genome


def contestants() -> list[Any]:
    """Return heuretic, plain Python and, if it is installed, PyGlove."""
    found: list[Any] = [Heuretic(), Plain()]
    try:
        from pyglove_contestant import PyGlove
    except ImportError:
        return found
    return [*found, PyGlove()]
