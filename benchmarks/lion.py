"""Steps of Lion beside AdamW and lion-pytorch, and beside what the memory allows.

OMP_WAIT_POLICY=passive python benchmarks/lion.py [--quick] [--json OUT] [--only WORD] [--device cuda]

A step of Lion has to read a weight, its gradient and its momentum and to write the weight and the momentum: 20 bytes a
weight in float32, 28 for AdamW. Divided by the bandwidth that a copy, a triad or an addition in place reaches with tensors of as many
numbers, whichever is largest, measured in the same turns, that is the bound. (A copy also reads what it overwrites, which is not
counted; an addition in place has no such loss.)
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from timing import Task, installed, interleaved
from torch import nn

import heuretic.nn as hn
from heuretic import __version__
from heuretic.train import Lion

Shapes = list[tuple[int, ...]]
Step = Callable[[], Any]

#: The sizes that take turns.
CASES: dict[str, Callable[[], Shapes]] = {
    "one tensor of 10 million": lambda: [(10_000_000,)],
    "ResNet-18, 62 tensors": lambda: [tuple(p.shape) for p in hn.resnet18().parameters()],
    "1,000 tensors of 512": lambda: [(64, 8)] * 1000,
}
#: Bytes that have to be moved per number in float32.
LION_BYTES, ADAMW_BYTES = 20, 28
YARDSTICKS = {"copy": 8, "triad": 12, "addition in place": 12}


@dataclass(frozen=True)
class StepTask(Task):
    """A step of an optimizer: CPU time on one thread of a CPU, wall time otherwise, to the end of what was started."""

    clock: Callable[[], float] = process_time
    device: str = "cpu"

    def seconds(self, calls: int) -> float:
        start = self._now()
        for _ in range(calls):
            self.run()
        return (self._now() - start) / calls

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return self.clock()


def parameters(shapes: Shapes, device: str, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    """Return parameters with gradients, random but always the same."""
    generator = torch.Generator().manual_seed(0)
    found = [nn.Parameter(torch.randn(shape, generator=generator).to(device, dtype)) for shape in shapes]
    for p in found:
        p.grad = torch.randn(p.shape, generator=generator).to(device, dtype)
    return found


def contestants(shapes: Shapes, device: str, quick: bool) -> dict[str, Step]:
    """Return a step of each, by name."""
    import lion_pytorch
    import lion_pytorch.foreach

    make = lambda dtype=torch.float32: parameters(shapes, device, dtype)
    settings: dict[str, Any] = {"lr": 1e-4, "weight_decay": 0.1}
    steps: dict[str, Step] = {
        "Lion": Lion(make(), **settings).step,
        "Lion again": Lion(make(), **settings).step,
        "Lion, fused": Lion(make(), **settings, fused=True).step,
        "Lion, foreach": Lion(make(), **settings, foreach=True).step,
        "Lion, one by one": Lion(make(), **settings, foreach=False).step,
        "Lion, fused, bfloat16 state": Lion(make(), **settings, fused=True, state_dtype=torch.bfloat16).step,
        "Lion, fused, 8-bit state": Lion(make(), **settings, fused=True, state_dtype=torch.int8).step,
        "Lion, fused, bfloat16 weights": Lion(make(torch.bfloat16), **settings, fused=True).step,
        "AdamW, fused": torch.optim.AdamW(make(), **settings, fused=True).step,
        "AdamW, foreach": torch.optim.AdamW(make(), **settings, foreach=True).step,
        "lion-pytorch": lion_pytorch.Lion(make(), **settings).step,
        "lion-pytorch, foreach": lion_pytorch.foreach.Lion(make(), **settings).step,
    }
    if not quick and len(shapes) < 100:  # a thousand take minutes to compile
        steps["Lion, torch.compile"] = torch.compile(Lion(make(), **{**settings, "lr": torch.tensor(1e-4)}).step)
    if device == "cuda":
        from lion_pytorch.lion_pytorch import Lion as WithTriton

        steps["lion-pytorch, triton"] = WithTriton(make(), **settings, use_triton=True).step
    return steps


def yardsticks(weights: int, device: str) -> dict[str, Step]:
    """Return what moves as many numbers with nothing to compute."""
    a, b, c, d = (torch.zeros(weights, device=device) for _ in range(4))
    steps = lambda: a.copy_(b), lambda: torch.add(b, c, alpha=2.0, out=a), lambda: d.add_(b)
    return dict(zip(YARDSTICKS, steps, strict=True))


def measure(case: str, device: str, threads: int, rounds: int, quick: bool) -> dict[str, Any]:
    """Return one row: microseconds of each, the bandwidth, and the bounds that follow from it."""
    shapes = CASES[case]()
    weights = sum(prod(shape) for shape in shapes)
    torch.set_num_threads(threads)
    clock = process_time if device == "cpu" and threads == 1 else perf_counter
    steps = {**yardsticks(weights, device), **contestants(shapes, device, quick)}
    tasks = {name: StepTask(step, clock=clock, device=device) for name, step in steps.items()}
    found = interleaved(tasks, rounds, slice_seconds=0.05)
    bandwidths = {name: weights * moved / found[name] for name, moved in YARDSTICKS.items()}
    bandwidth = max(bandwidths.values())
    return {
        "case": case,
        "weights": weights,
        "device": device,
        "threads": threads,
        "clock": clock.__name__,
        "megabytes_per_second": {name: round(found) for name, found in bandwidths.items()},
        "bound_microseconds": {
            "Lion": round(weights * LION_BYTES / bandwidth, 1), "AdamW": round(weights * ADAMW_BYTES / bandwidth, 1)
        },
        "microseconds": {name: round(time, 1) for name, time in found.items()},
        "times_as_long_as_lion": {name: round(time / found["Lion"], 3) for name, time in found.items()},
    }  # fmt: skip


def show(row: dict[str, Any]) -> None:
    """Print a row as a table."""
    bound = row["bound_microseconds"]
    speeds = ", ".join(f"{name} {speed / 1000:.1f} GB/s" for name, speed in row["megabytes_per_second"].items())
    print(
        f"\n{row['case']}, {row['weights']:,} weights, {row['device']}, {row['threads']} thread(s), {row['clock']}: {speeds}; "
        f"bound of Lion {bound['Lion'] / 1000:.2f} ms, of AdamW {bound['AdamW'] / 1000:.2f}"
    )
    print(f"{'':32}{'ms':>10}{'of Lion':>10}{'of bound':>10}")
    for name, time in row["microseconds"].items():
        own = "" if name in YARDSTICKS else f"{time / bound['AdamW' if 'AdamW' in name else 'Lion']:10.2f}"
        print(f"{name:32}{time / 1000:10.3f}{row['times_as_long_as_lion'][name]:10.2f}{own}")


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and without torch.compile")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures here")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU that torch finds, got none")
    versions = {name: installed(name) for name in ("torch", "lion-pytorch", "triton")}
    versions = {"python": platform.python_version(), "heuretic": __version__, **versions}
    print(" ".join(f"{name} {number}" for name, number in versions.items()))
    rows = []
    for threads in (1, 2) if arguments.device == "cpu" else (1,):
        for case in CASES:
            if arguments.only in case:
                rows.append(measure(case, arguments.device, threads, 5 if arguments.quick else 11, arguments.quick))
                show(rows[-1])
    if arguments.json:
        arguments.json.write_text(json.dumps({"versions": versions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
