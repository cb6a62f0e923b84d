"""Operations on one tree of 200 nodes: heuretic beside plain Python and PyGlove, each against its goal.

python benchmarks/trees.py [--quick] [--json OUT] [--only WORD]
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from contestants import contestants
from timing import Task, interleaved, process_task

from heuretic import __version__

Times = dict[str, float]


@dataclass(frozen=True)
class Goal:
    """What a row must reach. `met` says whether it does, or None if that cannot be told without PyGlove."""

    text: str
    met: Callable[[Times], bool | None]


def at_most(factor: float) -> Goal:
    """At most `factor` times plain Python."""
    return Goal(f"<= {factor:g}x plain", lambda t: t["heuretic"] <= factor * t["plain"])


def below_ms(limit: float) -> Goal:
    """Under `limit` milliseconds."""
    return Goal(f"< {limit:g} ms", lambda t: t["heuretic"] < limit * 1e3)


def _far_faster(times: Times) -> bool | None:
    if "pyglove" not in times:
        return None
    if times["pyglove"] >= 100 * times["heuretic"]:
        return True
    return times["pyglove"] < 100 * times["plain"] and times["heuretic"] <= 3 * times["plain"]


#: 100 times faster than PyGlove; where plain Python is not that fast itself, within three times of plain Python.
FAR_FASTER = Goal("100x pyglove, or <= 3x plain", _far_faster)

OPERATIONS: list[tuple[str, str, Goal | None]] = [
    ("construct", "construct, 6 checked fields", at_most(5)),
    ("read", "read an attribute", None),
    ("build", "build the tree", None),
    ("clone", "deep copy", None),
    ("replace_deep", "replace a leaf at depth 6", FAR_FASTER),
    ("get_deep", "get by path, depth 6", None),
    ("equality", "equality of trees built apart", FAR_FASTER),
    ("digest", "digest (plain, PyGlove: hash)", FAR_FASTER),
    ("difference", "diff, one leaf differs", None),
    ("query", "find by type", FAR_FASTER),
    ("dump", "to JSON", None),
    ("load", "from JSON", None),
    ("round_trip", "JSON round trip (plain: pickle)", FAR_FASTER),
    ("pickling", "pickle round trip", None),
    ("show", "repr", None),
    ("make_space", "compile the space, 30 choices", None),
    ("sample", "sample and materialise", FAR_FASTER),
    ("mutate", "mutate a genome", FAR_FASTER),
    ("encode", "genome of a program", None),
]
IMPORTS: list[tuple[str, dict[str, str], Goal | None]] = [
    ("python, import the package", {"heuretic": "import heuretic", "plain": "pass", "pyglove": "import pyglove"}, below_ms(150)),
    ("python, import two rooms", {"heuretic": "import heuretic.symbolic, heuretic.search", "plain": "import json, dataclasses"}, None),
]  # fmt: skip


def task_of(contestant: Any, operation: str) -> Task | None:
    """Return the operation as a task, or None if the contestant has no such thing."""
    run = getattr(contestant, operation, None)
    return Task(run, getattr(contestant, f"fresh_{operation}", None)) if run else None


def show(text: str, times: Times, goal: Goal | None) -> dict[str, Any]:
    """Print one row and return it for the JSON file."""
    ours, plain, pyglove = (times.get(name) for name in ("heuretic", "plain", "pyglove"))
    assert ours is not None
    met = goal.met(times) if goal else None
    verdict = "" if goal is None else "?" if met is None else "PASS" if met else "miss"
    print(
        f"{text:32}{ours:12.2f}{_number(plain):>12}{_number(pyglove):>13}"
        f"{_ratio(ours, plain):>9}{_ratio(pyglove, ours):>10}  {verdict:5}{goal.text if goal else ''}",
        flush=True,
    )
    return {
        "operation": text,
        **{f"{name}_us": us for name, us in times.items()},
        "goal": goal and goal.text,
        "met": met,
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _ratio(above: float | None, under: float | None) -> str:
    if above is None or under is None:
        return "-"
    ratio = above / under
    return f"{ratio:.0f}x" if ratio >= 100 else f"{ratio:.2g}x" if ratio < 10 else f"{ratio:.1f}x"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures here")
    parser.add_argument("--only", default="", help="only operations whose name contains this")
    arguments = parser.parse_args()
    rounds, slice_seconds = (5, 0.02) if arguments.quick else (11, 0.1)
    rivals = contestants()
    installed = {"python": platform.python_version(), "heuretic": __version__}
    try:
        installed["pyglove"] = version("pyglove")
    except PackageNotFoundError:
        pass
    print(" ".join(f"{name} {number}" for name, number in installed.items()))
    print(
        f"{'microseconds of CPU, median':32}{'heuretic':>12}{'plain':>12}{'pyglove':>13}{'/plain':>9}{'pyglove/':>10}"
    )
    rows: list[dict[str, Any]] = []
    for operation, text, goal in OPERATIONS:
        if arguments.only in operation:
            tasks = {r.name: task for r in rivals if (task := task_of(r, operation))}
            rows.append(show(text, interleaved(tasks, rounds, slice_seconds), goal))
    for text, codes, goal in IMPORTS:
        if arguments.only in text:
            tasks = {name: process_task(code) for name, code in codes.items() if name != "pyglove" or name in installed}
            rows.append(show(text, interleaved(tasks, rounds, slice_seconds), goal))
    if arguments.json:
        arguments.json.write_text(json.dumps({"versions": installed, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
