"""Find a small network, an optimiser and a learning rate for handwritten digits.

    python examples/digits.py                              # the whole story, with the test at the end
    heuretic discover examples/digits.py --workers 2       # the search alone, resumable
    heuretic patch examples/digits.py:program --with smooth-adversarial-training --diff

Data: the 1,797 8x8 digits that scikit-learn carries (UCI "Optical Recognition of Handwritten Digits"), split once into
1,077 training, 360 validation and 360 test images. The search sees training and validation images only.
"""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import nn

import heuretic as hr
from heuretic.train.optimizers import Lion


class Cnn(hr.Symbolic):
    """Two convolutions, pooling, and a linear head, for 8x8 grey images."""

    widths: tuple[int, int]
    kernel: int = hr.field(default=3, choices=(1, 3, 5))
    activation: nn.Module = hr.sym(nn.ReLU)()
    norm: Literal["none", "batch", "group"] = "none"

    def build(self) -> nn.Module:
        layers: list[nn.Module] = []
        for channels, width in zip((1, *self.widths), self.widths, strict=False):
            norm = {"none": nn.Identity(), "batch": nn.BatchNorm2d(width), "group": nn.GroupNorm(4, width)}[self.norm]
            layers += [nn.Conv2d(channels, width, self.kernel, padding="same"), norm, hr.build(self.activation)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * self.widths[-1], 10))


class Experiment(hr.Symbolic):
    """What is searched: a model and how it is trained."""

    model: Cnn
    optimizer: Callable[..., torch.optim.Optimizer]
    lr: float = hr.field(gt=0)
    epochs: int = 10
    batch: int = 64


program = Experiment(
    model=Cnn(
        widths=(hr.one_of(16, 8, 32), hr.one_of(32, 16, 64)),
        kernel=hr.one_of(3, 1, 5),
        activation=hr.one_of(hr.sym(nn.ReLU)(), hr.sym(nn.GELU)(), hr.sym(nn.SiLU)(), hr.sym(nn.Tanh)()),
        norm=hr.one_of("none", "batch", "group"),
    ),
    optimizer=hr.one_of(
        hr.sym(functools.partial)(torch.optim.SGD, momentum=0.9),
        hr.sym(functools.partial)(torch.optim.AdamW, weight_decay=0.01),
        hr.sym(functools.partial)(Lion, weight_decay=0.1),
    ),
    lr=hr.number(1e-4, 1e-1, log=True),
)

# What one would write without a search: the search starts from it, and the winner is compared with it at the end.
start = hr.replace(
    program,
    {
        "model": Cnn(widths=(16, 32), norm="batch"),
        "optimizer": hr.sym(functools.partial)(torch.optim.AdamW, weight_decay=0.01),
        "lr": 1e-3,
    },
)

Images = tuple[torch.Tensor, torch.Tensor]


@functools.lru_cache(maxsize=1)
def data() -> dict[str, Images]:
    """Return the parts "train", "validation" and "test": images (n, 1, 8, 8) in [0, 1] and labels (n,)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits: Any = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
    labels = torch.tensor(digits.target)
    rest, test = train_test_split(range(len(labels)), test_size=360, random_state=0, stratify=labels)
    train, validation = train_test_split(rest, test_size=360, random_state=0, stratify=labels[rest])
    parts = {"train": train, "validation": validation, "test": test}
    return {name: (images[indices], labels[indices]) for name, indices in parts.items()}


def train(experiment: Experiment, seed: int) -> Iterator[nn.Module]:
    """Yield the model after each epoch of training. Equal experiment and seed give equal weights."""
    images, labels = data()["train"]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = hr.build(experiment.model)
    shuffle = torch.Generator().manual_seed(seed)
    optimizer = hr.build(experiment.optimizer)(model.parameters(), lr=experiment.lr)
    for _ in range(experiment.epochs):
        model.train()
        for batch in torch.randperm(len(labels), generator=shuffle).split(experiment.batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        yield model


@torch.no_grad()
def measure(model: nn.Module, part: str) -> dict[str, float]:
    """Return the cross-entropy in nats and the share of right answers on a part of the data."""
    images, labels = data()[part]
    logits = model.eval()(images)
    return {
        "loss": nn.functional.cross_entropy(logits, labels).item(),
        "accuracy": (logits.argmax(1) == labels).float().mean().item(),
    }


def parameters(experiment: Experiment) -> int:
    """Return the number of weights."""
    return sum(p.numel() for p in hr.build(experiment.model).parameters())


def evaluate(experiment: Experiment, trial: hr.Trial) -> dict[str, float]:
    """Train, and return the measures on validation images. The loss decides: it tells apart what accuracy cannot."""
    measures: dict[str, float] = {}
    for epoch, model in enumerate(train(experiment, trial.seed)):
        measures = measure(model, "validation")
        trial.report(epoch, **measures)
    return measures


settings: dict[str, Any] = {
    "algorithm": hr.Evolution(population=12, tournament=4),
    "trials": 40,
    "start": start,
    "minimize": "loss",
    "limits": [hr.Limit(parameters, at_most=20_000)],
}


def test_accuracies(experiment: Experiment, seeds: range) -> list[float]:
    """Return the accuracy on test images, once per seed."""
    return [measure(list(train(experiment, seed))[-1], "test")["accuracy"] for seed in seeds]


def main() -> None:
    """Search, print a leaderboard, touch the test images once, and write the report."""
    from heuretic.cli.study import print_leaderboard

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--trials", type=int, default=settings["trials"])
    options.add_argument("--store", default=None, help="such as sqlite:///digits.db; default: memory")
    options.add_argument("--report", default="demo-report.html")
    given = options.parse_args()
    study = hr.discover(
        program, evaluate, **{**settings, "trials": given.trials}, store=given.store, name="digits",
        engine="processes", workers=given.workers, progress=True,
    )  # fmt: skip
    print_leaderboard(study, 8)
    best = study.best
    assert best is not None
    print("\nThe winner against the starting program:")
    print(study.diff())
    print("\nTest images, touched now for the first time (5 new seeds each):")
    for name, experiment in (("start", study.start), ("winner", best.program)):
        scores = test_accuracies(experiment, range(1000, 1005))
        print(
            f"  {name:7s} {statistics.mean(scores):.4f} +- {statistics.stdev(scores):.4f}  ({parameters(experiment):,} weights)"
        )
    print(f"\nReport: {study.report(given.report)}")


if __name__ == "__main__":
    main()
