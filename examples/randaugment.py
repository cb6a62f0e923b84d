"""Find how many operations of RandAugment, and how strong, suit a data set: the whole grid, each setting trained once.

    heuretic discover examples/randaugment.py          # scikit-learn's digits, less than a minute
    heuretic study show randaugment                    # the settings, best first
    HEURETIC_DATASET=cifar10 HEURETIC_STEPS=2000 heuretic discover examples/randaugment.py --name cifar10 --workers 2

`HEURETIC_DATASET` is any set of images that `hr.data.load` knows. Settings are compared on images kept from training; test
images are left alone. Cubuk et al. 2020, "RandAugment", arXiv:1909.13719, choose theirs in this way.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import torch
from torch import nn

import heuretic as hr

DATASET = os.environ.get("HEURETIC_DATASET", "digits")
STEPS = int(os.environ.get("HEURETIC_STEPS", "150"))


def dataset(name: str) -> Any:
    """Return a data set with a fifth of the images to train on kept to choose by."""
    return hr.data.load(name, validation=len(hr.data.load(name).train) // 5)


def network(name: str, width: int = 16) -> nn.Module:
    """Return a classifier for a data set: three convolutions, the mean over all places, and a linear layer."""
    data = hr.data.load(name)
    layers: list[nn.Module] = []
    channels = data.train.inputs.shape[-1]
    for filters, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
        layers += [nn.Conv2d(channels, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
        channels = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, len(data.classes)))


program = hr.sym(hr.train.supervised)(
    model=hr.sym(network)(DATASET),
    data=hr.sym(dataset)(DATASET),
    optimization=hr.sym(hr.train.Optimization)(
        optimizer=hr.sym(functools.partial)(torch.optim.AdamW, lr=0.01, weight_decay=0.05), cpu=True
    ),
    loop=hr.sym(hr.train.Loop)(steps=STEPS, evaluate_every=max(1, STEPS // 5)),
    augment=(
        # A mirrored digit is another sign, a mirrored ship a ship.
        hr.data.FlipCrop(pad=1, flip=False) if DATASET == "digits" else hr.data.FlipCrop(),
        hr.data.RandAugment(ops=hr.one_of(1, 2, 3), magnitude=hr.one_of(5.0, 9.0, 13.0)),
    ),
)
evaluate = hr.train.evaluate
settings: dict[str, Any] = {"algorithm": hr.RandomSearch(), "trials": 9, "maximize": "validation_accuracy"}
