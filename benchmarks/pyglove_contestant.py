"""PyGlove's part in `contestants`; kept apart because PyGlove need not be installed."""

from __future__ import annotations

import pickle
import random
from typing import Any, Literal

import pyglove as pg
from contestants import CHOICES, DEEP, SIX_FIELDS, VALUES, make_tree


class Flat(pg.Object):
    name: str
    width: int
    rate: float
    active: bool
    kind: Literal["conv", "dense", "pool"]
    note: str | None = None


class Node(pg.Object):
    name: str
    width: int
    rate: float = 0.1
    active: bool = True
    kind: Literal["conv", "dense", "pool"] = "dense"
    children: list[Node] = []


class Leaf(Node):
    pass


class PyGlove:
    name = "pyglove"

    def __init__(self) -> None:
        self.tree, self.equal, self.edited = self.build(), self.build(), self.build()
        self.other = self.equal.clone(deep=True).rebind({DEEP: 10**6})
        self.flat, self.counter = Flat(**SIX_FIELDS), 0
        self.text = self.tree.to_json_str()
        paths = [str(path) for path in pg.query(self.tree, ".*width")][:CHOICES]
        self.open_tree = self.tree.clone(deep=True)
        self.open_tree.rebind({path: pg.oneof(list(VALUES)) for path in paths})
        self.spec, self.template = pg.dna_spec(self.open_tree), pg.template(self.open_tree)
        self.rng, self.mutator = random.Random(0), pg.evolution.mutators.Uniform()
        self.dna = pg.random_dna(self.spec, random_generator=self.rng)
        self.program = self.template.decode(self.dna)

    def construct(self) -> Any:
        return Flat(**SIX_FIELDS)

    def read(self) -> Any:
        return self.flat.width

    def build(self) -> Any:
        return make_tree(Node, Leaf)

    def clone(self) -> Any:
        return self.tree.clone(deep=True)

    def replace_deep(self) -> Any:
        self.counter += 1
        return self.edited.rebind({DEEP: self.counter})

    def get_deep(self) -> Any:
        return self.tree.sym_get(DEEP)

    def equality(self) -> Any:
        return pg.eq(self.tree, self.equal)

    def digest(self) -> Any:
        return pg.hash(self.tree)

    def difference(self) -> Any:
        return pg.diff(self.tree, self.other)

    def query(self) -> Any:
        return pg.query(self.tree, where=lambda value: isinstance(value, Leaf))

    def dump(self) -> Any:
        return self.tree.to_json_str()

    def load(self) -> Any:
        return pg.from_json_str(self.text)

    def round_trip(self) -> Any:
        return pg.from_json_str(self.tree.to_json_str())

    def pickling(self) -> Any:
        return pickle.loads(pickle.dumps(self.tree))

    def show(self) -> Any:
        return str(self.tree)

    def make_space(self) -> Any:
        return pg.dna_spec(self.open_tree)

    def sample(self) -> Any:
        return self.template.decode(pg.random_dna(self.spec, random_generator=self.rng))

    def mutate(self) -> Any:
        return self.mutator.mutate(self.dna)

    def encode(self) -> Any:
        return self.template.encode(self.program)
