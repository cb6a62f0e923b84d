"""Timing for machines that are shared: CPU time, medians, and rivals measured in turn."""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from time import process_time
from typing import Any


@dataclass(frozen=True)
class Task:
    """One operation. `prepare` makes what one call works on; it runs before the clock starts, once for each call."""

    run: Callable[..., Any]
    prepare: Callable[[], Any] | None = None

    def seconds(self, calls: int) -> float:
        """Return the CPU seconds that one call takes, averaged over `calls`."""
        if self.prepare is None:
            run = self.run
            start = process_time()
            for _ in range(calls):
                run()
            return (process_time() - start) / calls
        inputs = [self.prepare() for _ in range(calls)]
        run = self.run
        start = process_time()
        for given in inputs:
            run(given)
        return (process_time() - start) / calls


def interleaved(tasks: Mapping[str, Task], rounds: int, slice_seconds: float) -> dict[str, float]:
    """Return microseconds per call of each task: the median of `rounds`, in each of which every task has its turn.

    A turn repeats its task for about `slice_seconds`; slower tasks are called once. Taking turns makes whatever else
    the machine does fall on all of them alike, so that ratios hold even where absolute times are disturbed.
    """
    calls: dict[str, int] = {}
    for name, task in tasks.items():
        task.seconds(1)  # warm-up: code is compiled and caches are filled
        once = max(min(task.seconds(3), task.seconds(3)), 1e-8) if task.seconds(1) < slice_seconds else slice_seconds
        calls[name] = max(1, min(int(slice_seconds / once), 200_000))
    gc.collect()
    gc.freeze()  # what the fixtures hold is not scanned again and again on behalf of the task that runs
    measured: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            measured[name].append(task.seconds(calls[name]))
    gc.unfreeze()
    return {name: statistics.median(times) * 1e6 for name, times in measured.items()}


def process_task(code: str) -> Task:
    """Return the task of running `code` in a new interpreter; its time is that of the whole process.

    Modules are compiled once, by the warm-up, as those of installed packages are.
    """
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    settings.setdefault("PYTHONPYCACHEPREFIX", str(Path(tempfile.gettempdir()) / "heuretic-benchmarks"))

    def run() -> None:
        subprocess.run([sys.executable, "-c", code], check=True, env=settings)

    class Process(Task):
        def seconds(self, calls: int) -> float:
            before = getrusage(RUSAGE_CHILDREN)
            self.run()
            after = getrusage(RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return Process(run)


def installed(package: str) -> str | None:
    """Return the version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
