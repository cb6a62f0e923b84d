"""What `heuretic.train.Loop` adds to a step, beside the same training written out: `python benchmarks/training.py [--quick] [--json OUT]`.

Both make the same batches (the same functions of the step), the same forward and backward pass, the same optimizer and rate. The
bare loop looks at no loss, shows no progress, keeps nothing: what the other takes longer is the price of all that.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from time import process_time

import torch
import torch.nn.functional as F
from torch import nn

from heuretic.study.environment import environment_facts
from heuretic.train import Constant, Loop, Optimization, cross_entropy

ADAMW = functools.partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.01, foreach=True)


def convolutional(width: int) -> nn.Module:
    """Return a network of four convolutions for images of 28 x 28."""
    layers: list[nn.Module] = []
    for before, after, stride in (
        (1, width, 2),
        (width, 2 * width, 1),
        (2 * width, 2 * width, 2),
        (2 * width, 4 * width, 1),
    ):
        layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10))


def perceptron() -> nn.Module:
    """Return a network whose step takes little more than calling it."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))


MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "convolutions, 16 channels, batch 128": (lambda: convolutional(16), 128),
    "convolutions, 32 channels, batch 128": (lambda: convolutional(32), 128),
    "perceptron, batch 32": (perceptron, 32),
}


def compare(make: Callable[[], nn.Module], batch: int, rounds: int, steps: int) -> dict[str, float]:
    """Return microseconds of CPU time a step, bare and with the loop, as medians of rounds taken in turn."""
    draw = torch.Generator().manual_seed(0)
    stored = [
        (torch.randn(batch, 1, 28, 28, generator=draw), torch.randint(10, (batch,), generator=draw)) for _ in range(8)
    ]

    def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        return stored[step % 8]

    bare_model, bare_again, ours = make(), make(), make()

    def bare(model: nn.Module) -> Callable[[], None]:
        weights = list(model.parameters())
        groups = [
            {"params": [p for p in weights if p.dim() > 1]},
            {"params": [p for p in weights if p.dim() < 2], "weight_decay": 0.0},
        ]
        optimizer = ADAMW(groups)

        def train() -> None:
            for step in range(steps):
                x, y = batches(step)
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

        return train

    training = Optimization(ADAMW, schedule=Constant()).start(ours, steps, cross_entropy())
    loop = Loop(steps=steps, progress=False)
    runs = {
        "bare": bare(bare_model), "loop": lambda: loop.run(training, batches, seed=0, state={}), "bare again": bare(bare_again),
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = process_time()
            run()
            if number:  # the first round warms up
                times[name].append((process_time() - start) / steps * 1e6)
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> None:
    """Print a table, and write it."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    torch.set_num_threads(1)
    rounds, steps = (3, 20) if given.quick else (11, 30)
    results = {}
    print(f"{'':40s} {'bare us':>9s} {'loop us':>9s} {'loop/bare':>9s} {'again/bare':>10s}")
    for name, (make, batch) in MODELS.items():
        t = results[name] = compare(make, batch, rounds, steps)
        print(
            f"{name:40s} {t['bare']:9.0f} {t['loop']:9.0f} {t['loop'] / t['bare']:9.3f} {t['bare again'] / t['bare']:10.3f}"
        )
    if given.json:
        given.json.write_text(json.dumps({"facts": environment_facts(), "us_per_step": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
