"""Trials a second of engines that run evaluations in other processes, and how well a second worker is used.

    python benchmarks/engines.py [--quick] [--only WORD] [--json OUT]

Two tasks, 20 parameters each (see overhead.py), random search, two trials at a time:

- "overhead": a trivial evaluation, so that what is timed is proposing, sending, recording.
- "efficiency": evaluations that sleep 100 ms; trials a second of two workers over twice those of one, in percent.

The clock runs from the moment when the first evaluation begins to the end of the whole run, so that starting workers
does not count and ending them does. Ratios are to Ray Tune without its log files and to Optuna
on PostgreSQL, each trial of which survives a crash of the server, as ours do. Contestants take turns, `--repeats` times; medians are printed. A contestant that is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overhead import CATEGORIES, FLOATS, NAMES, SPACE, objective

import heuretic as hr

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from postgres import Server, program_path

#: (trials, workers, seconds that an evaluation sleeps) -> when the first evaluation began, as Unix time. Runs one study
#: or the like to its end.
RunTrials = Callable[[int, int, float], float]
SLEEP_S = 0.1
FRESH = itertools.count()


@dataclass(frozen=True)
class Contestant:
    """One way to run trials.

    Attributes:
        run: Runs a number of trials. trials: How many the overhead is timed over. needs: The package it is part of.
        workers: The numbers of workers it is timed with.
    """

    run: RunTrials
    trials: int
    needs: str = "heuretic"
    workers: tuple[int, ...] = (1, 2)


def sleepy(program: Mapping[str, Any]) -> float:
    """The trivial objective after 100 ms."""
    time.sleep(SLEEP_S)
    return objective(program)


def heuretic_run(engine: str, store: str | None = None) -> RunTrials:
    """Return a contestant that runs studies on one of our engines. `store` may hold "{}" for a fresh name."""

    def run(trials: int, workers: int, sleep_s: float) -> float:
        number = next(FRESH)
        study = hr.discover(
            SPACE, sleepy if sleep_s else objective, minimize="value", trials=trials, algorithm=hr.RandomSearch(),
            engine=engine, workers=workers, store=store and store.format(number), name=f"run {number}", progress=False,
        )  # fmt: skip
        assert study.counts == {"finished": trials}
        began = min(trial.started for trial in study.trials)
        study.store.close()
        return began

    return run


def ray_tune_bare(trials: int, workers: int, sleep_s: float) -> float:
    """Run trials with Ray Tune without its log files of every trial (CSV, JSON, TensorBoard)."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    try:
        return ray_tune_run(trials, workers, sleep_s)
    finally:
        del os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"]


def ray_tune_run(trials: int, workers: int, sleep_s: float) -> float:
    """Run trials with Ray Tune's own random search; its actors are used again for the next trial."""
    from ray import tune

    def trainable(config: dict[str, Any]) -> None:
        began = time.time()
        time.sleep(sleep_s)
        tune.report({"value": objective(config), "began": began})

    space = {**{k: tune.uniform(-5.0, 5.0) for k in FLOATS}, **{k: tune.choice(NAMES) for k in CATEGORIES}}
    with tempfile.TemporaryDirectory() as folder:
        found = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space=space,
            tune_config=tune.TuneConfig(
                num_samples=trials, max_concurrent_trials=workers, metric="value", mode="min", reuse_actors=True
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
    assert len(found) == trials
    assert not found.errors
    return min(result.metrics["began"] for result in found if result.metrics)


def optuna_run(url: str) -> RunTrials:
    """Return Optuna on a database of its own: its way to share a study is to run the same function in several processes."""

    def run(trials: int, workers: int, sleep_s: float) -> float:
        import optuna

        name = f"s{time.time_ns()}"
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(storage=url, study_name=name)
        context = multiprocessing.get_context("spawn")
        share = (url, name, trials // workers, sleep_s)
        processes = [context.Process(target=optuna_worker, args=share) for _ in range(workers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        done = study.trials
        assert len(done) == trials
        return min(trial.datetime_start.timestamp() for trial in done if trial.datetime_start)

    return run


def optuna_worker(url: str, name: str, trials: int, sleep_s: float) -> None:
    """Run a share of the trials of an Optuna study; in a process of its own."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed = time.time_ns() % 2**31  # two processes with one seed would draw the same
    study = optuna.load_study(study_name=name, storage=url, sampler=optuna.samplers.RandomSampler(seed=seed))

    def evaluate(trial: Any) -> float:
        p = {k: trial.suggest_float(k, -5, 5) for k in FLOATS}
        p |= {k: trial.suggest_categorical(k, NAMES) for k in CATEGORIES}
        time.sleep(sleep_s)
        return objective(p)

    study.optimize(evaluate, n_trials=trials)


def postgresql(server: Any, name: str) -> str:
    """Return the URL of a new database."""
    server.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    return server.url(name)


def table(folder: str, server: Any) -> dict[str, Contestant]:
    """Return the contestants by name; those on PostgreSQL if there is a server."""
    sqlite = f"sqlite:///{folder}/{{}}.db"
    shared: dict[str, Contestant] = {}
    if server is not None:
        ours = (
            postgresql(server, "ours") + "?application_name={}"
        )  # no other name is needed: each run makes its own study
        theirs = postgresql(server, "theirs").replace("postgresql:", "postgresql+psycopg:")
        shared = {
            "heuretic processes, postgresql": Contestant(heuretic_run("processes", ours), 2000, "psycopg"),
            "heuretic workers, postgresql": Contestant(heuretic_run("workers", ours), 2000, "psycopg"),
            "optuna, postgresql": Contestant(optuna_run(theirs), 60, "optuna"),
        }
    return {
        "heuretic inline, sqlite": Contestant(heuretic_run("inline", sqlite), 2000, workers=(1,)),
        "heuretic inline, sqlite normal": Contestant(
            heuretic_run("inline", f"{sqlite}?synchronous=NORMAL"), 2000, workers=(1,)
        ),
        "heuretic processes": Contestant(heuretic_run("processes"), 5000),
        "heuretic processes, sqlite": Contestant(heuretic_run("processes", sqlite), 2000),
        "heuretic workers, sqlite": Contestant(heuretic_run("workers", sqlite), 2000),
        "heuretic workers, sqlite normal": Contestant(heuretic_run("workers", f"{sqlite}?synchronous=NORMAL"), 2000),
        **shared,
        "heuretic ray": Contestant(heuretic_run("ray"), 2000, "ray"),
        "heuretic ray, sqlite normal": Contestant(
            heuretic_run("ray", f"sqlite:///{folder}/{{}}.db?synchronous=NORMAL"), 2000, "ray"
        ),
        "ray tune": Contestant(ray_tune_run, 100, "ray.tune"),
        "ray tune, no logs": Contestant(ray_tune_bare, 100, "ray.tune"),
    }


def seconds(run: RunTrials, trials: int, workers: int, sleep_s: float = 0.0) -> float:
    """Return the wall-clock seconds that some trials take, from the begin of the first."""
    began = run(trials, workers, sleep_s)
    return time.time() - began


def per_second(contestants: Mapping[str, Contestant], repeats: int, quick: bool) -> list[dict[str, Any]]:
    """Time the overhead of all contestants in turn and print it."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, each in contestants.items():
            n = max(20, each.trials // 5) if quick else each.trials
            taken[name].append(seconds(each.run, n, max(each.workers)) / n)
            print(f"  {name:34s}{1 / taken[name][-1]:10.1f} trials/s", flush=True)
    bases = {
        peer: statistics.median(taken[name]) if name in taken else None
        for peer, name in (("Ray Tune", "ray tune, no logs"), ("Optuna", "optuna, postgresql"))
    }
    print(
        f"{'overhead, two workers':34s}{'trials/s':>10s}{'ms/trial':>10s}" + "".join(f"{'x ' + p:>12s}" for p in bases)
    )
    rows: list[dict[str, Any]] = []
    for name, times in taken.items():
        wall = statistics.median(times)
        ratios = [base / wall if base else None for base in bases.values()]
        named = dict(zip(("times_ray_tune", "times_optuna_postgresql"), ratios, strict=True))
        rows.append({"task": "overhead", "contestant": name, "trials_per_s": 1 / wall, **named})
        shown = "".join(f"{f'{ratio:.1f}' if ratio else '-':>12s}" for ratio in ratios)
        print(f"{name:34s}{1 / wall:10.1f}{wall * 1e3:10.2f}{shown}", flush=True)
    return rows


def efficiency(contestants: Mapping[str, Contestant], repeats: int, quick: bool) -> list[dict[str, Any]]:
    """Time two workers beside one on evaluations that sleep, and print how much of the second one is used."""
    contestants = {name: each for name, each in contestants.items() if len(each.workers) > 1}
    n = 40 if quick else 100
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, each in contestants.items():
            found[name].append((seconds(each.run, n // 2, 1, SLEEP_S), seconds(each.run, n, 2, SLEEP_S)))
    print(f"{'efficiency, 100 ms a trial':34s}{'1 worker/s':>12s}{'2 workers/s':>12s}{'percent':>10s}")
    rows: list[dict[str, Any]] = []
    for name, times in found.items():
        one = statistics.median(n // 2 / alone for alone, _ in times)
        two = statistics.median(n / both for _, both in times)
        percent = statistics.median(100 * alone / both for alone, both in times)
        rows.append({"task": "efficiency", "contestant": name, "one_per_s": one, "two_per_s": two, "percent": percent})
        print(f"{name:34s}{one:12.2f}{two:12.2f}{percent:10.1f}", flush=True)
    return rows


def is_there(needs: str) -> bool:
    """Whether a package can be imported."""
    try:
        return importlib.util.find_spec(needs) is not None
    except ImportError:
        return False


def main() -> None:
    """Parse arguments, run, print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--quick", action="store_true")
    options.add_argument("--only", default="", help="Contestants whose name holds this word.")
    options.add_argument("--task", choices=("overhead", "efficiency"))
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        server = None
        if program_path("initdb") is not None:
            server = Server()
            stack.callback(server.close)
        contestants = {n: c for n, c in table(folder, server).items() if given.only in n and is_there(c.needs)}
        if any(each.needs.startswith("ray") for each in contestants.values()):
            import ray

            # One cluster for all, with a CPU for each of two workers; Ray Tune runs its loop in the driver, as we do.
            os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
            ray.init(
                address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
            )
        rows = per_second(contestants, given.repeats, given.quick) if given.task != "efficiency" else []
        if given.task != "overhead":
            rows += efficiency(contestants, given.repeats, given.quick)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
