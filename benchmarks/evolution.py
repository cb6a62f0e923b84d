"""Regularised evolution in memory: candidates a second of heuretic, plain Python and PyGlove.

    python benchmarks/evolution.py [--quick] [--json OUT]

Each candidate is asked for, materialised, given a trivial score, and told. Population 100, tournaments of 10, first on
a flat mapping of 30 choices, then on the tree of 200 nodes with 30 choices.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import process_time
from typing import Any

from contestants import CHOICES, VALUES, contestants

import heuretic as hr
from heuretic.search import Result, Space

POPULATION, TOURNAMENT, GOAL = 100, 10, 2_000
Score = Callable[[Any], float]


def run_heuretic(program: Any, score: Score, count: int) -> None:
    """Evolve through ask, decode and tell."""
    space = Space(program)
    search = hr.Evolution(population=POPULATION, tournament=TOURNAMENT).start(space, seed=1)
    for number in range(count):
        [candidate] = search.ask()
        search.tell([Result(number, candidate.genome, score(space.decode(candidate.genome)))])


def run_plain(materialise: Callable[[list[int]], Any], score: Score, count: int) -> None:
    """Evolve lists of numbers, as one would write it by hand."""
    rng = Random(1)
    population: deque[tuple[list[int], float]] = deque(maxlen=POPULATION)
    for _ in range(count):
        if len(population) < POPULATION:
            genome = [rng.randrange(len(VALUES)) for _ in range(CHOICES)]
        else:
            genome = max(rng.sample(list(population), TOURNAMENT), key=lambda member: member[1])[0][:]
            genome[rng.randrange(CHOICES)] = rng.randrange(len(VALUES))
        population.append((genome, score(materialise(genome))))


def run_pyglove(program: Any, score: Score, count: int) -> None:
    """Evolve through PyGlove's own sampling loop."""
    import pyglove as pg

    algorithm = pg.evolution.regularized_evolution(population_size=POPULATION, tournament_size=TOURNAMENT, seed=1)
    for example, feedback in pg.sample(program, algorithm, num_examples=count):
        feedback(score(example))


def per_second(run: Callable[..., None], *arguments: Any, count: int) -> float:
    """Return candidates per CPU second."""
    start = process_time()
    run(*arguments, count)
    return count / (process_time() - start)


def total(mapping: Any) -> float:
    """Score a mapping."""
    return float(sum(mapping.values()))


def width(tree: Any) -> float:
    """Score a tree by one of its leaves."""
    return float(tree.width)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer candidates and rounds")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures here")
    arguments = parser.parse_args()
    rounds, share = (3, 0.1) if arguments.quick else (5, 1.0)
    rivals = {rival.name: rival for rival in contestants()}
    names = [f"x{i}" for i in range(CHOICES)]
    runs: dict[str, dict[str, tuple[Any, ...]]] = {
        "flat mapping, 30 choices": {
            "heuretic": (run_heuretic, {name: hr.one_of(*VALUES) for name in names}, total, 20_000),
            "plain": (run_plain, lambda genome: dict(zip(names, genome, strict=True)), total, 20_000),
        },
        "tree of 200 nodes, 30 choices": {
            "heuretic": (run_heuretic, rivals["heuretic"].open_tree, width, 10_000),
            "plain": (run_plain, rivals["plain"].decode, width, 1_000),
        },
    }
    if "pyglove" in rivals:
        import pyglove as pg

        flat = pg.Dict({name: pg.oneof(list(VALUES)) for name in names})
        runs["flat mapping, 30 choices"]["pyglove"] = (run_pyglove, flat, total, 200)
        runs["tree of 200 nodes, 30 choices"]["pyglove"] = (run_pyglove, rivals["pyglove"].open_tree, width, 60)
    rows: list[dict[str, Any]] = []
    print(f"{'candidates per CPU second, median':36}{'heuretic':>12}{'plain':>12}{'pyglove':>12}")
    for text, entries in runs.items():
        measured: dict[str, list[float]] = {name: [] for name in entries}
        for _ in range(rounds):
            for name, (run, program, score, count) in entries.items():
                measured[name].append(per_second(run, program, score, count=max(POPULATION // 2, int(count * share))))
        rates = {name: statistics.median(values) for name, values in measured.items()}
        verdict = "PASS" if rates["heuretic"] >= GOAL else "miss"
        shown = "".join(
            f"{rates[name]:12,.0f}" if name in rates else f"{'-':>12}" for name in ("heuretic", "plain", "pyglove")
        )
        print(f"{text:36}{shown}  {verdict} >= {GOAL:,}", flush=True)
        rows.append(
            {
                "task": text,
                **{f"{name}_per_s": rate for name, rate in rates.items()},
                "goal": GOAL,
                "met": verdict == "PASS",
            }
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
