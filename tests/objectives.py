"""Programs and evaluations for the tests of studies; a module of its own because worker processes import it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import heuretic as hr


class Point(hr.Symbolic):
    """A place in a small mixed space."""

    x: float
    n: int = 1
    act: str = "relu"


SPACE = Point(hr.number(-1.0, 1.0), hr.number(1, 50), hr.one_of("relu", "gelu", "silu"))
#: 20 parameters, as in the benchmarks.
WIDE = {
    **{f"x{i}": hr.number(-5.0, 5.0) for i in range(10)},
    **{f"c{i}": hr.one_of("a", "b", "c", "d", "e") for i in range(10)},
}


def score(point: Point) -> float:
    """Higher is better; best is x=0.5, n=50, gelu."""
    return point.n / 50 - abs(point.x - 0.5) + (point.act == "gelu")


def noisy(point: Point, trial: hr.Trial) -> dict[str, float]:
    """Depends on the trial's seed, so it shows whether seeds are the same again."""
    trial.report(0, loss=trial.seed % 1000)
    trial.report(1, loss=trial.seed % 997)
    return {"value": score(point) + trial.seed / 2**31, "latency": point.n * 2.0}


def size(point: Point) -> float:
    """A computed cost."""
    return point.n * 10.0


def failing(point: Point) -> float:
    """Raises for a third of the space."""
    if point.act == "silu":
        raise RuntimeError("no silu here")
    return score(point)


def counted(point: Point) -> float:
    """Leave a trace of each evaluation in the folder $TRACE, and take a moment."""
    folder = Path(os.environ["TRACE"])
    with open(folder / f"{os.getpid()}.txt", "a") as file:
        file.write(hr.digest(point) + "\n")
    time.sleep(float(os.environ.get("SLEEP", "0")))
    return score(point)


def late(point: Point, trial: hr.Trial) -> float:
    """Leave a trace, but in trial 2 only after $SLEEP seconds."""
    if trial.index == 2:
        time.sleep(float(os.environ["SLEEP"]))
    with open(Path(os.environ["TRACE"]) / f"{os.getpid()}.txt", "a") as file:
        file.write(hr.digest(point) + "\n")
    return score(point)


def killing(point: Point) -> float:
    """Kill the process that evaluates a point with silu, as running out of memory would."""
    if point.act == "silu":
        os.kill(os.getpid(), signal.SIGKILL)
    return score(point)


def slow(point: Point, trial: hr.Trial) -> float:
    """Report many steps slowly."""
    for step in range(100):
        trial.report(step, value=score(point))
        time.sleep(0.01)
    return score(point)


def met_while_running(trial: hr.Trial) -> float:
    """Choices are met as the function runs, some only under others."""
    act = trial.one_of("act", "relu", "gelu")
    lr = trial.number("lr", 1e-4, 1e-1, log=True)
    depth = trial.number("depth", 1, 5) if act == "gelu" else 0
    return depth + (act == "gelu") - lr


def saving(point: Point, trial: hr.Trial) -> float:
    """Save two files: one of its own, one that all trials have in common."""
    trial.save("own/point.txt", f"trial {trial.index}: {point.n}".encode())
    trial.save("common.bin", bytes(1000))
    return score(point)


def hanging_once(point: Point, trial: hr.Trial) -> float:
    """Never end in trial 2."""
    while trial.index == 2:
        time.sleep(1)
    return score(point)


def meeting(point: Point) -> float:
    """Return only when three processes have come here."""
    folder = Path(os.environ["TRACE"])
    (folder / f"{os.getpid()}.txt").touch()
    while len(list(folder.glob("[0-9]*.txt"))) < 3:
        time.sleep(0.01)
    return score(point)
