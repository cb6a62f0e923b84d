"""Functional hashing: pay once for candidates that compute the same, however they are written.

Gillard et al. 2023, "Unified Functional Hashing in Automatic Machine Learning", arXiv:2302.05433. The mechanism is
`heuretic.search.Equivalence` with the probes `OutputProbe` (any program) and `heuretic.nn.probes.ModuleProbe` (networks).
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import heuretic as hr
from heuretic.data import data_file
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Arm, Comparison, Reproduction, Verdict, compare
from heuretic.nn.probes import ModuleProbe
from heuretic.search import Algorithm, Equivalence, OutputProbe, ProgramProbe, RandomInputs, Result, Space

CLAIM = "fewer real evaluations for the same best score, on AutoML-Zero-style regression search and on NAS"
ARMS = ("plain", "exact", "functional")
RULE = (
    "Reproduced if on both tasks functional hashing takes fewer evaluations than plain evolution, and fewer than "
    "evolution that remembers exact repeats, to the best score that both sides of the comparison reach within the "
    "budget (the 95% interval of the mean log2 ratio over paired seeds lies below 0 in all four comparisons), and in "
    "none of them its best score at the full budget is lower (no 95% interval of the mean difference lies below 0). "
    "The paper compares with plain evolution only; exact repeats are what any cache saves. Smoke runs are too short, "
    "and leave out the second task."
)
Evaluate = Callable[[Any], float]


# -- regression with straight-line programs ----------------------------------------------------------------------------

#: Scalar memory, features that can be read, instructions of a program.
REGISTERS, FEATURES, LENGTH = 4, 10, 8
_BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum,
}  # fmt: skip
_UNARY: Mapping[str, Callable[[Any], Any]] = {"absolute": np.abs, "tanh": np.tanh, "square": np.square, "copy": np.copy}
OPERATIONS = (*_BINARY, *_UNARY)


def execute(program: Any, x: Any) -> Any:
    """Run a straight-line program and return its last value of register 0.

    Args:
        program: Instructions (operation, address, address, register): what is read is register 0 to 3, feature 0 to 9
            at address 4 to 13, or the constant 1 at address 14; operations of one operand ignore the second address.
        x: Features, shape (rows, 10).
    Returns: float64, shape (rows,). Registers begin at 0; overflow gives infinities and NaN.
    """
    memory = [np.zeros(len(x))] * REGISTERS
    columns = [*x.T, np.ones(len(x))]
    with np.errstate(all="ignore"):
        for operation, a, b, register in program:
            first = memory[a] if a < REGISTERS else columns[a - REGISTERS]
            if operation in _UNARY:
                memory[register] = _UNARY[operation](first)
            else:
                second = memory[b] if b < REGISTERS else columns[b - REGISTERS]
                memory[register] = _BINARY[operation](first, second)
    return memory[0]


def straight_line_space() -> Space:
    """Return the programs of `execute`: 8 instructions, about 1.9e31 ways to write them."""
    address = tuple(range(REGISTERS + FEATURES + 1))
    instruction = (hr.one_of(*OPERATIONS), hr.one_of(*address), hr.one_of(*address), hr.one_of(*range(REGISTERS)))
    return Space((instruction,) * LENGTH)


def straight_line_probe() -> OutputProbe:
    """Return the fingerprint of such programs: their output for ten random rows."""
    return OutputProbe(run=execute, inputs=RandomInputs(count=1, shape=(10, FEATURES)))


def straight_line_task() -> tuple[Evaluate, str]:
    """Return the score of a program on scikit-learn's diabetes data, and the data's sha256.

    The program's output is fitted to the target by least squares (slope and offset) on two thirds of the patients; the
    score is R2 on the others, -1 if it is lower or the output is not finite.
    """
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    x, y = np.asarray(x) / np.std(x, axis=0), np.asarray(y, float)
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(y))
    train, held_out = order[: 2 * len(y) // 3], order[2 * len(y) // 3 :]

    def evaluate(program: Any) -> float:
        z = execute(program, x)
        if not np.isfinite(z).all():
            return -1.0
        centred = z[train] - z[train].mean()
        spread = centred @ centred
        slope = centred @ y[train] / spread if spread > 1e-12 * len(train) else 0.0
        predicted = y[train].mean() + slope * (z[held_out] - z[train].mean())
        residual, total = y[held_out] - predicted, y[held_out] - y[held_out].mean()
        return max(-1.0, float(1 - residual @ residual / (total @ total)))

    return evaluate, hashlib.sha256(np.ascontiguousarray(x).tobytes() + y.tobytes()).hexdigest()


# -- cells of graph networks -------------------------------------------------------------------------------------------

CELL_OPERATIONS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
_NODES, _WIDTH = 8, 6


class CellLayer(nn.Module):
    """A stand-in for one kind of graph layer: mix the nodes as the kind does, then the channels by weights, then tanh.

    Every kind has its own fixed mixing matrix, so different kinds compute different things. x: (nodes, width).
    """

    mixing: Tensor

    def __init__(self, kind: str) -> None:
        super().__init__()
        drawn = np.random.Generator(np.random.PCG64(CELL_OPERATIONS.index(kind))).standard_normal((_NODES, _NODES))
        self.register_buffer("mixing", torch.from_numpy(drawn / math.sqrt(_NODES)), persistent=False)
        self.weight = nn.Parameter(torch.empty(_WIDTH, _WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, (nodes, width)."""
        return torch.tanh(self.mixing @ x @ self.weight)


class Cell(nn.Module):
    """A cell of NAS-Bench-Graph: four layers, each fed by the input or an earlier layer; a classifier of all leaves.

    The classifier has a weight matrix for each leaf (a linear layer on their concatenation); the raw input is no leaf.
    """

    def __init__(self, links: Sequence[int], ops: Sequence[str]) -> None:
        super().__init__()
        self.links = tuple(links)
        self.layers = nn.ModuleList(nn.Identity() if op == "skip" else CellLayer(op) for op in ops)
        self.is_raw = [True]
        for link, op in zip(links, ops, strict=True):
            self.is_raw.append(op == "skip" and self.is_raw[link])
        self.leaves = [i for i in range(1, 5) if i not in self.links and not self.is_raw[i]]
        self.heads = nn.ModuleList(nn.Linear(_WIDTH, _WIDTH, bias=False) for _ in self.leaves)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores, (nodes, width), of node features of the same shape."""
        values = [x]
        for link, layer in zip(self.links, self.layers, strict=True):
            values.append(layer(values[link]))
        return torch.stack([head(values[leaf]) for head, leaf in zip(self.heads, self.leaves, strict=True)]).sum(0)


def make_cell(program: Any) -> Cell:
    """Return the network of a program (links, operations)."""
    return Cell(*program)


def is_cell(program: Any) -> bool:
    """Return whether a cell has a layer that is no skip."""
    return any(op != "skip" for op in program[1])


def cell_space() -> Space:
    """Return all ways to write a cell of NAS-Bench-Graph: 24 link patterns times 9**4 operations, less those of skips."""
    links = (0, hr.one_of(0, 1), hr.one_of(0, 1, 2), hr.one_of(0, 1, 2, 3))
    return Space((links, (hr.one_of(*CELL_OPERATIONS),) * 4), feasible=is_cell)


def cell_probe() -> ModuleProbe:
    """Return the fingerprint of such cells: the outputs of the network on random node features."""
    return ModuleProbe(inputs=(_NODES, _WIDTH), make=make_cell)


def canonical_cell(program: Any) -> Any:
    """Return what is equal exactly for isomorphic cells: the tree of layers, children sorted, skips taken out.

    A skip that ends a branch beside others marks that its input is a leaf as well; on the raw input it does nothing.
    These classes are those of the benchmark's own key, which `reproduce` checks on the whole table. No probe uses this.
    """
    links, ops = program
    children: list[list[int]] = [[i + 1 for i, link in enumerate(links) if link == node] for node in range(5)]

    def below(node: int) -> list[Any]:
        found: list[Any] = []
        for child in children[node]:
            if ops[child - 1] != "skip":
                inner = below(child)
                found.append((ops[child - 1], tuple(sorted(inner, key=repr)) if inner != ["skip"] else ()))
            else:
                found.extend(below(child) if children[child] else ["skip"])
        return found

    return tuple(sorted((branch for branch in below(0) if branch != "skip"), key=repr))


def cell_task(graph: str = "cora") -> tuple[Evaluate, str]:
    """Return the validation accuracy of a cell as measured by NAS-Bench-Graph, and the file's sha256.

    Raises: FileNotFoundError if `$HEURETIC_DATA/nas_bench_graph/nas_bench_graph_light.parquet` is missing, ValueError
    if its rows are not one for each class of isomorphic cells.
    """
    from pyarrow import parquet

    path, checksum = data_file("nas_bench_graph/nas_bench_graph_light.parquet", "Try --scale smoke, which needs none")
    columns = ["links", "ops", "valid_perf"]
    rows = parquet.read_table(path, columns=columns, filters=[("dataset", "==", graph)]).to_pylist()
    table = {
        canonical_cell(([int(link) for link in row["links"]], row["ops"].split("|"))): float(row["valid_perf"])
        for row in rows
    }
    if len(table) != len(rows) or not table:
        raise ValueError(
            f"{graph} must have one row for each class of cells, got {len(rows)} for {len(table)} at {path}. Try cora"
        )
    return (lambda program: table[canonical_cell(program)]), checksum


# -- comparison --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Course:
    """What a search did with its budget.

    Attributes:
        scores: Of the evaluations, in order. programs: Those evaluated, in the same order.
        reused: Candidates answered from memory. unhashed: Candidates that the probe could not run.
    """

    scores: tuple[float, ...]
    programs: tuple[Any, ...]
    reused: int
    unhashed: int

    @property
    def best(self) -> float:
        """The best score."""
        return max(self.scores)

    def evaluations_to(self, score: float) -> int:
        """Return how many evaluations it took to reach `score`. Raises: StopIteration if it was not reached."""
        return next(i for i, reached in enumerate(self.scores, 1) if reached >= score)


def search(algorithm: Algorithm, space: Space, evaluate: Evaluate, evaluations: int, seed: int) -> Course:
    """Run an algorithm until it has used its evaluations; repeats that it proposes are paid for like anything else."""
    run: Any = algorithm.start(space, seed)
    scores: list[float] = []
    programs: list[Any] = []
    while len(scores) < evaluations and (candidates := run.ask()):
        for candidate in candidates:
            program = space.decode(candidate.genome)
            scores.append(evaluate(program))
            programs.append(program)
            mark = candidate.fingerprint
            run.tell([Result(len(scores) - 1, candidate.genome, scores[-1], fingerprint=mark)])
    return Course(tuple(scores), tuple(programs), getattr(run, "reused", 0), getattr(run, "unhashed", 0))


@dataclass(frozen=True, slots=True)
class Task:
    """A space with its score and probe. `evaluations` is the budget of each run."""

    space: Space
    evaluate: Evaluate
    probe: Callable[[Any], Any]
    evaluations: int

    def arms(self) -> dict[str, Algorithm]:
        """Return the three searches: the same evolution, without memory, with exact memory, with functional memory."""
        evolution = hr.Evolution(population=100, tournament=25)
        exact, functional = Equivalence(evolution, ProgramProbe()), Equivalence(evolution, self.probe)
        return {"plain": evolution, "exact": exact, "functional": functional}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much one scale runs: evaluations of each search, by task, and seeds."""

    evaluations: Mapping[str, int]
    seeds: tuple[int, ...]


PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan({"regression": 100}, (1, 2)),
    "small": Plan({"regression": 500, "cells": 1000}, tuple(range(1, 11))),
    "full": Plan({"regression": 50_000, "cells": 2000}, tuple(range(1, 51))),
}


def task(name: str, evaluations: int) -> tuple[Task, str]:
    """Return a task by name, regression or cells, and the sha256 of its data."""
    if name == "regression":
        evaluate, checksum = straight_line_task()
        return Task(straight_line_space(), evaluate, straight_line_probe(), evaluations), checksum
    evaluate, checksum = cell_task()
    return Task(cell_space(), evaluate, cell_probe(), evaluations), checksum


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None
) -> Reproduction:
    """Search with and without memory for equivalent programs, at equal numbers of evaluations.

    Three arms, the same regularised evolution with the same seeds: plain (every candidate is evaluated), exact (repeats
    are answered from memory), functional (equivalent programs are). The tasks are regression by straight-line programs
    on scikit-learn's diabetes data, and from small on cells of NAS-Bench-Graph (Cora, measured validation accuracy)
    written in all 157,440 ways, in `$HEURETIC_DATA/nas_bench_graph`. The verdict follows from `RULE`.

    Raises: FileNotFoundError if data is missing, ValueError for an unknown scale or fewer than 2 seeds.
    """
    plan = plan_of(PLANS, scale)
    chosen = tuple(plan.seeds if seeds is None else seeds)
    if len(set(chosen)) != len(chosen) or len(chosen) < 2:
        raise ValueError(f"seeds must be at least 2, all different, got {chosen}. Try seeds=(1, 2)")
    began = time.perf_counter()
    data: dict[str, str] = {}
    measured: dict[str, dict[str, list[float]]] = {arm: {} for arm in ARMS}
    for name, evaluations in plan.evaluations.items():
        given, data[name] = task(name, evaluations)
        for seed in chosen:
            courses = {
                arm: search(algorithm, given.space, given.evaluate, evaluations, seed)
                for arm, algorithm in given.arms().items()
            }
            for arm, values in measure(courses).items():
                for metric, value in values.items():
                    measured[arm].setdefault(f"{name} {metric}", []).append(value)
            if progress is not None:
                shown = ", ".join(f"{arm} {c.best:.4f} ({c.reused} reused)" for arm, c in courses.items())
                progress(f"{name}, seed {seed}: {shown}")
    settings = {"evolution": "population=100, tournament=25", "evaluations": dict(plan.evaluations)}
    arms = {
        arm: Arm(settings, {metric: tuple(values) for metric, values in metrics.items()})
        for arm, metrics in measured.items()
    }
    comparisons = tuple(
        compare(arms, f"{name} {metric} against {control}", "functional", control)
        for name in plan.evaluations
        for control in ("plain", "exact")
        for metric in ("log2 evaluations to the same best", "best score")
    )
    verdict, reason = judge(scale, arms, comparisons)
    return Reproduction(
        idea="functional-hashing", claim=CLAIM, scale=scale, seeds=chosen, data=data, arms=arms,
        comparisons=comparisons, rule=RULE, verdict=verdict, reason=reason, seconds=time.perf_counter() - began,
    )  # fmt: skip


def measure(courses: Mapping[str, Course]) -> dict[str, dict[str, float]]:
    """Return, per arm, the measurements of one seed; comparisons are named for the arm that functional is against."""
    values: dict[str, dict[str, float]] = {
        arm: {
            "share of candidates answered from memory": course.reused / (course.reused + len(course.scores)),
            "best": course.best,
        }
        for arm, course in courses.items()
    }
    for control in ("plain", "exact"):
        target = min(courses["functional"].best, courses[control].best)
        for arm in ("functional", control):
            needed = courses[arm].evaluations_to(target)
            values[arm][f"evaluations to the same best against {control}"] = float(needed)
            values[arm][f"log2 evaluations to the same best against {control}"] = math.log2(needed)
            values[arm][f"best score against {control}"] = courses[arm].best
    return values


def judge(scale: Scale, arms: Mapping[str, Arm], comparisons: Sequence[Comparison]) -> tuple[Verdict, str]:
    """Return the verdict by `RULE`, and the sentence that says why."""
    fewer = [c for c in comparisons if "log2" in c.metric]
    best = [c for c in comparisons if "log2" not in c.metric]
    reason = "; ".join(
        f"{c.metric.partition(' ')[0]}: {2**c.estimate.mean:.2f} times the evaluations of {c.control} evolution "
        f"[{2 ** (c.estimate.low or 0):.2f}, {2 ** (c.estimate.high or 0):.2f}] to the same best score"
        for c in fewer
    )
    shares = {
        metric.partition(" ")[0]: sum(values) / len(values)
        for metric, values in arms["functional"].measurements.items()
        if "share" in metric
    }
    reason += "; " + ", ".join(f"{share:.0%} of candidates answered from memory ({n})" for n, share in shares.items())
    if scale == "smoke":
        return "not testable at this scale", reason
    saved = all(c.estimate.high is not None and c.estimate.high < 0 for c in fewer)
    kept = all(c.estimate.high is None or c.estimate.high >= 0 for c in best)
    return ("reproduced" if saved and kept else "not reproduced"), reason


IDEA = Idea(
    slug="functional-hashing",
    title="Functional hashing: pay once for candidates that compute the same",
    paper=Paper(
        authors="Gillard, Jonany, Miao, Munn, de Souza, Dungay, Liang, So, Le, Real",
        year=2023,
        title="Unified Functional Hashing in Automatic Machine Learning",
        arxiv="2302.05433",
    ),
    claim=CLAIM,
    usage="import heuretic as hr\nprobe = hr.search.OutputProbe()\n"
    "study = hr.discover(program, evaluate, algorithm=hr.Equivalence(hr.Evolution(), probe))",
    provides=(
        "heuretic.search:Equivalence",
        "heuretic.search:OutputProbe",
        "heuretic.search:RandomInputs",
        "heuretic.nn.probes:ModuleProbe",
    ),
    reproduce=reproduce,
)
