"""How long a patch takes to apply, beside the edit by hand: CPU time for every pair of idea and model that has both.

    python benchmarks/patching/apply_time.py [--quick] [--only IDEA,IDEA] [--json OUT]

Either side works on a copy of the model, which `hr.apply` makes itself and the edit by hand is given; "copy" is what the
copy alone takes. Shown is the median over the models of an idea, in ms. The three take turns, see `timing.py`.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import heuretic as hr

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from models import MODELS  # noqa: E402
from timing import Task, interleaved  # noqa: E402

IDEAS = ("primer", "smooth-adversarial-training", "condconv", "advprop", "stochastic-depth")
SIDES = ("patch", "by hand", "copy")


def edit_of(path: Path) -> Callable[[Any], None]:
    """Return the function `edit` of a file."""
    names: dict[str, Any] = {}
    exec(compile(path.read_text("utf-8"), str(path), "exec"), names)
    return names["edit"]


def times(model: Any, idea: str, edit: Callable[[Any], None], rounds: int, slice_seconds: float) -> dict[str, float]:
    """Return milliseconds of each side."""
    sides: dict[str, Callable[[], Any]] = {
        "patch": lambda: hr.apply(model, idea),
        "by hand": lambda: edit(copy.deepcopy(model)),
        "copy": lambda: copy.deepcopy(model),
    }
    taken = interleaved({side: Task(run) for side, run in sides.items()}, rounds, slice_seconds)
    return {side: us / 1000 for side, us in taken.items()}


def main() -> None:
    """Parse arguments, run, print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--quick", action="store_true")
    options.add_argument("--only", default=",".join(IDEAS))
    options.add_argument("--json")
    given = options.parse_args()
    warnings.simplefilter("ignore", hr.symbolic.PatchWarning)
    torch.set_num_threads(1)
    rounds, slice_seconds = (3, 0.01) if given.quick else (7, 0.05)
    models = {name: make()[0] for name, make in MODELS.items()}
    found: dict[str, Any] = {}
    print(f"{'median ms over the models':30s}{'models':>8s}" + "".join(f"{side:>10s}" for side in SIDES))
    for idea in given.only.split(","):
        paths = {name: HERE / idea.replace("-", "_") / f"{name}.py" for name in models}
        rows: dict[str, dict[str, float]] = {}
        refused: list[str] = []
        for name, path in paths.items():
            if path.is_file():
                try:
                    rows[name] = times(models[name], idea, edit_of(path), rounds, slice_seconds)
                except hr.symbolic.PatchError:
                    refused.append(name)
        medians = {side: statistics.median(row[side] for row in rows.values()) for side in SIDES}
        found[idea] = {"median_ms": medians, "ms": rows, "refused": refused}
        print(f"{idea:30s}{len(rows):8d}" + "".join(f"{medians[side]:10.2f}" for side in SIDES), flush=True)
    if given.json:
        facts = {"torch": torch.__version__, "heuretic": hr.__version__, "threads": 1}
        Path(given.json).write_text(json.dumps({"versions": facts, "ideas": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
