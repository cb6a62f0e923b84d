"""What a study costs besides the evaluation: trials a second with a trivial objective of 20 parameters.

    python benchmarks/overhead.py [--quick] [--json OUT]     # beside Optuna, Nevergrad and PyGlove where installed
    python benchmarks/overhead.py --growth [--json OUT]      # cost per trial from 100 to 100,000 trials, and memory

Ten floats and ten categories of five; the whole loop is timed, creating the study included. Runners take turns,
`--repeats` times; medians of wall and CPU time are printed. Stores are files in a temporary folder. "full" survives a
power cut (SQLite synchronous=FULL, which is also Optuna's setting); "normal" survives any kill of the process, and can
lose the last moments at a power cut.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import heuretic as hr

FLOATS = [f"x{i}" for i in range(10)]
CATEGORIES = [f"c{i}" for i in range(10)]
NAMES = ["a", "b", "c", "d", "e"]
SPACE = {**{k: hr.number(-5.0, 5.0) for k in FLOATS}, **{k: hr.one_of(*NAMES) for k in CATEGORIES}}


def objective(p: Mapping[str, Any]) -> float:
    """A sphere over the floats plus a count of the wrong categories."""
    return sum(p[k] * p[k] for k in FLOATS) + sum(p[k] != "c" for k in CATEGORIES)


def heuretic_run(n: int, algorithm: Any, store: str | None = None) -> None:
    """Run one study of n trials."""
    study = hr.discover(SPACE, objective, minimize="value", trials=n, algorithm=algorithm, store=store, progress=False)
    assert study.counts == {"finished": n}


def optuna_run(n: int, sampler: str, storage: str | None = None) -> None:
    """Run one Optuna study of n trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def evaluate(trial: Any) -> float:
        p = {k: trial.suggest_float(k, -5, 5) for k in FLOATS}
        return objective({**p, **{k: trial.suggest_categorical(k, NAMES) for k in CATEGORIES}})

    chosen = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}[sampler](seed=0)
    study = optuna.create_study(sampler=chosen, storage=storage)
    study.optimize(evaluate, n_trials=n)
    assert len(study.trials) == n


def nevergrad_run(n: int, name: str) -> None:
    """Run one Nevergrad optimisation of n evaluations."""
    import nevergrad as ng

    parameters = ng.p.Dict(
        **{k: ng.p.Scalar(lower=-5, upper=5) for k in FLOATS}, **{k: ng.p.Choice(NAMES) for k in CATEGORIES}
    )
    parameters.random_state.seed(0)
    optimizer = ng.optimizers.registry[name](parametrization=parameters, budget=n)
    for _ in range(n):
        candidate = optimizer.ask()
        optimizer.tell(candidate, objective(candidate.value))


def pyglove_run(n: int) -> None:
    """Run one PyGlove regularised evolution of n evaluations."""
    import pyglove as pg

    space = pg.Dict(**{k: pg.floatv(-5.0, 5.0) for k in FLOATS}, **{k: pg.oneof(NAMES) for k in CATEGORIES})
    algorithm = pg.evolution.regularized_evolution(population_size=50, tournament_size=10, seed=0)
    for value, feedback in pg.sample(space, algorithm, n):
        feedback(-float(objective(value)))


def runners(folder: str) -> dict[str, tuple[int, Callable[[int], None]]]:
    """Return the contestants by name, with the number of trials each is timed over."""
    fresh = iter(range(10**6))

    def file(query: str = "") -> str:
        return f"sqlite:///{folder}/{next(fresh)}.db{query}"

    table: dict[str, tuple[int, Callable[[int], None]]] = {
        "heuretic random, memory": (3000, lambda n: heuretic_run(n, hr.RandomSearch())),
        "heuretic evolution, memory": (3000, lambda n: heuretic_run(n, hr.Evolution())),
        "heuretic random, sqlite full": (1000, lambda n: heuretic_run(n, hr.RandomSearch(), file())),
        "heuretic random, sqlite normal": (
            1000,
            lambda n: heuretic_run(n, hr.RandomSearch(), file("?synchronous=NORMAL")),
        ),
    }
    if importlib.util.find_spec("optuna"):
        table["optuna random, memory"] = (1000, lambda n: optuna_run(n, "random"))
        table["optuna tpe, memory"] = (300, lambda n: optuna_run(n, "tpe"))
        table["optuna random, sqlite full"] = (60, lambda n: optuna_run(n, "random", file()))
    if importlib.util.find_spec("nevergrad"):
        table["nevergrad OnePlusOne, memory"] = (300, lambda n: nevergrad_run(n, "OnePlusOne"))
    if importlib.util.find_spec("pyglove"):
        table["pyglove evolution, memory"] = (300, pyglove_run)
    return table


def compare(repeats: int, quick: bool) -> list[dict[str, Any]]:
    """Time all runners in turn and print the table; ratios are to the Optuna row of the same kind."""
    with tempfile.TemporaryDirectory() as folder:
        table = runners(folder)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in table}
        for _, run in table.values():
            run(20)  # imports and first-time costs
        for _ in range(repeats):
            for name, (count, run) in table.items():
                n = max(20, count // 5) if quick else count
                gc.collect()
                wall, cpu = time.perf_counter(), time.process_time()
                run(n)
                taken[name].append(((time.perf_counter() - wall) / n, (time.process_time() - cpu) / n))
    rows: list[dict[str, Any]] = []
    base = {kind: statistics.median(w for w, _ in taken[name]) for kind, name in
            (("memory", "optuna random, memory"), ("sqlite", "optuna random, sqlite full")) if name in taken}  # fmt: skip
    print(f"{'':34s}{'trials/s':>10s}{'ms wall':>10s}{'ms CPU':>10s}{'x Optuna':>10s}")
    for name, times in taken.items():
        wall, cpu = statistics.median(w for w, _ in times), statistics.median(c for _, c in times)
        reference = base.get("sqlite" if "sqlite" in name else "memory")
        ratio = reference / wall if reference else None
        rows.append(
            {
                "runner": name,
                "trials_per_s": 1 / wall,
                "wall_ms": wall * 1e3,
                "cpu_ms": cpu * 1e3,
                "times_optuna": ratio,
            }
        )
        print(
            f"{name:34s}{1 / wall:10.1f}{wall * 1e3:10.3f}{cpu * 1e3:10.3f}{f'{ratio:.1f}' if ratio else '-':>10s}",
            flush=True,
        )
    return rows


_GROWTH = """
import json, sys, time
sys.path.insert(0, {folder!r})
import heuretic as hr
from overhead import SPACE, objective
marks, last = [], [0, time.process_time()]
wanted = {{100, 1000, 10_000, 30_000, 100_000}}
def evaluate(p, trial):
    if trial.index in wanted:
        now = time.process_time()
        marks.append((trial.index, (now - last[1]) / (trial.index - last[0]) * 1e6))
        last[:] = [trial.index, now]
    return objective(p)
hr.discover(SPACE, evaluate, minimize="value", trials=100_001, algorithm=hr.Evolution(), progress=False, store={store!r})
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({{"us_cpu_per_trial_up_to": marks, "peak_mb": int(peak.split()[1]) // 1024}}))
"""


def growth() -> list[dict[str, Any]]:
    """Run 100,000 trials in a process of its own, per kind of store, and print the cost per trial on the way."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, store in (("memory", None), ("sqlite normal", f"sqlite:///{folder}/growth.db?synchronous=NORMAL")):
            code = _GROWTH.format(folder=__file__.rpartition("/")[0] or ".", store=store)
            row = json.loads(subprocess.check_output([sys.executable, "-c", code], text=True))
            rows.append({"store": name, **row})
            curve = "  ".join(f"{n:,}: {us:.0f}" for n, us in row["us_cpu_per_trial_up_to"])
            print(f"{name:14s} CPU us per trial up to trial  {curve}   peak {row['peak_mb']} MB", flush=True)
    return rows


def main() -> None:
    """Parse arguments, run, print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--quick", action="store_true")
    options.add_argument("--growth", action="store_true")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--json")
    given = options.parse_args()
    rows = growth() if given.growth else compare(given.repeats, given.quick)
    if given.json:
        with open(given.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
