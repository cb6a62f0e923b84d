"""Trials a second of engines that run evaluations in other processes, and how well a second worker is used.

    python benchmarks/engines.py [--quick] [--only WORD] [--json OUT]

Two tasks, 20 parameters each (see overhead.py), random search, two trials at a time:

- "overhead": a trivial evaluation, so that what is timed is proposing, sending, recording.
- "efficiency": evaluations that sleep 100 ms; trials a second of two workers over twice those of one, in percent.

The clock runs from the moment when the first evaluation begins to the end of the whole run, so that starting workers
does not count and ending them does. Contestants take turns, `--repeats` times; medians are printed. A contestant that is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overhead import CATEGORIES, FLOATS, NAMES, SPACE, objective

import heuretic as hr

#: (trials, workers, seconds that an evaluation sleeps) -> when the first evaluation began, as Unix time. Runs one study
#: or the like to its end.
RunTrials = Callable[[int, int, float], float]
SLEEP_S = 0.1


@dataclass(frozen=True)
class Contestant:
    """One way to run trials.

    Attributes:
        run: Runs a number of trials. trials: How many the overhead is timed over. needs: The package it is part of.
    """

    run: RunTrials
    trials: int
    needs: str = "heuretic"


def sleepy(program: Mapping[str, Any]) -> float:
    """The trivial objective after 100 ms."""
    time.sleep(SLEEP_S)
    return objective(program)


def heuretic_run(engine: str, store: str | None = None) -> RunTrials:
    """Return a contestant that runs a study on one of our engines. `store` may hold "{}" for a fresh name."""
    fresh = iter(range(10**6))

    def run(trials: int, workers: int, sleep_s: float) -> float:
        study = hr.discover(
            SPACE, sleepy if sleep_s else objective, minimize="value", trials=trials, algorithm=hr.RandomSearch(),
            engine=engine, workers=workers, store=store and store.format(next(fresh)), progress=False,
        )  # fmt: skip
        assert study.counts == {"finished": trials}
        return min(trial.started for trial in study.trials)

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


def table(folder: str) -> dict[str, Contestant]:
    """Return the contestants by name."""
    return {
        "heuretic processes": Contestant(heuretic_run("processes"), 5000),
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
            taken[name].append(seconds(each.run, n, 2) / n)
            print(f"  {name:34s}{1 / taken[name][-1]:10.1f} trials/s", flush=True)
    base = statistics.median(taken["ray tune"]) if "ray tune" in taken else None
    print(f"{'overhead, two workers':34s}{'trials/s':>10s}{'ms/trial':>10s}{'x Ray Tune':>12s}")
    rows: list[dict[str, Any]] = []
    for name, times in taken.items():
        wall = statistics.median(times)
        ratio = base / wall if base else None
        rows.append({"task": "overhead", "contestant": name, "trials_per_s": 1 / wall, "times_ray_tune": ratio})
        print(f"{name:34s}{1 / wall:10.1f}{wall * 1e3:10.2f}{f'{ratio:.1f}' if ratio else '-':>12s}", flush=True)
    return rows


def efficiency(contestants: Mapping[str, Contestant], repeats: int, quick: bool) -> list[dict[str, Any]]:
    """Time two workers beside one on evaluations that sleep, and print how much of the second one is used."""
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
    with tempfile.TemporaryDirectory() as folder:
        contestants = {n: c for n, c in table(folder).items() if given.only in n and is_there(c.needs)}
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
