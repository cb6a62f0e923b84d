"""The study of the fault benchmark: a trace of every evaluation, and a value that can be computed again from the trial."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import heuretic as hr

SPACE = {
    **{f"x{i}": hr.number(-5.0, 5.0) for i in range(4)},
    **{f"c{i}": hr.one_of("a", "b", "c", "d", "e") for i in range(4)},
}


def value(p: Mapping[str, Any]) -> float:
    """A sphere over the floats plus a count of the wrong categories, negated."""
    return -sum(p[f"x{i}"] ** 2 for i in range(4)) - sum(p[f"c{i}"] != "c" for i in range(4))


def evaluate(p: Mapping[str, Any], trial: hr.Trial) -> float:
    """Leave a line in this process's file in $TRACE, take $TRIAL_MS, return the value."""
    with open(Path(os.environ["TRACE"]) / f"{os.getpid()}.txt", "a") as file:
        file.write(f"{trial.index}\n")
    time.sleep(float(os.environ.get("TRIAL_MS", "0")) / 1000)
    return value(p)
