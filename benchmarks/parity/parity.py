"""Our networks of images beside those of timm and torchvision: with the same weights, do the same things come out?

python benchmarks/parity/parity.py [--write FOLDER] [--only WORD]

Weights and batch statistics are drawn anew for each name, so that anyone who knows the names can draw them again:
`--write` keeps what came out of theirs, and the tests draw the same weights for ours without timm and torchvision.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import heuretic as hr
from heuretic.nn import CondConv2d, key_maps

CLASSES = 100
#: Of outputs, relative to the largest. With another number of threads, sums in another order make 1.2e-4 in the deepest networks.
TOLERANCE = 5e-4
#: What residual paths end with; it is small in trained networks too.
_LAST_OF_PATH = re.compile(r"blocks\..+\.path\..*project\.norm\.weight|layer.*\.bn3\.weight")


@dataclass(frozen=True)
class Pair:
    """A model of theirs and the same of ours."""

    source: key_maps.Source
    theirs: str
    ours: str

    @property
    def norm_eps(self) -> float:
        """Of batch normalisation, as theirs has it."""
        return key_maps.norm_eps(self.theirs, self.source)

    @property
    def images(self) -> str:
        """Which images both are given: "odd" ones too where sides that do not divide make a difference."""
        return "odd" if self.theirs.startswith("tf_") and "_b" in self.theirs else "even"


def _pairs() -> list[Pair]:
    pairs = [Pair("timm", "mobilenetv2_100", "mobilenet_v2"), Pair("torchvision", "mobilenet_v2", "mobilenet_v2")]
    pairs += [Pair("timm", "semnasnet_100", "mnasnet_a1")]
    for name in (f"efficientnet_b{number}" for number in range(8)):
        pairs += [Pair("timm", name, name), Pair("timm", f"tf_{name}", name), Pair("torchvision", name, name)]
    for prefix in ("", "tf_"):
        pairs += [Pair("timm", f"{prefix}efficientnet_cc_b0_8e", "condconv_efficientnet_b0")]
    for size in "sml":
        name = f"efficientnet_v2_{size}"
        pairs += [Pair("timm", f"{prefix}efficientnetv2_{size}", name) for prefix in ("", "tf_")]
        pairs += [Pair("torchvision", name, name)]
    for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
        pairs += [Pair("timm", name, name), Pair("torchvision", name, name)]
    return pairs


PAIRS = _pairs()
#: Compared in training too.
TRAINED = [
    Pair("timm", "efficientnet_b0", "efficientnet_b0"),
    Pair("torchvision", "efficientnet_b0", "efficientnet_b0"),
    Pair("timm", "efficientnetv2_s", "efficientnet_v2_s"),
    Pair("torchvision", "efficientnet_v2_s", "efficientnet_v2_s"),
]


def numbers(name: str) -> np.random.Generator:
    """Return the sequence of random numbers that belongs to a name, the same everywhere."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")))


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return the weight or statistic of a name of ours.

    Such that signals neither die out nor grow without end, so that every weight changes what comes out by more than the
    tolerance: rolling the values of any one does by 7e-4 at least.
    """
    if name.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.long)
    values = torch.from_numpy(numbers(name).random(shape, dtype=np.float32))
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return values.add_(0.5).mul_(0.2 if _LAST_OF_PATH.fullmatch(name) else 1.0)
    inputs = math.prod(shape[-3:]) if len(shape) >= 4 else shape[-1]
    if len(shape) == 5:
        inputs *= shape[0] / 4  # kernels of experts are added up, each times about a half
    bound = math.sqrt(7 / inputs) if name.endswith("weight") else 0.3
    return values.sub_(0.5).mul_(2 * bound)


def ours(pair: Pair, weights: nn.Module | None = None) -> nn.Module:
    """Return our model, in eval mode, with the weights that belong to its names, or with those of another model of ours."""
    program = getattr(hr.nn, pair.ours).program(classes=CLASSES)
    if key_maps.padding(pair.theirs, pair.source) == "same":
        program = hr.replace(program, padding="same")
    with torch.device("meta"):
        model = hr.build(program)
    model.load_state_dict(_drawn_for(model) if weights is None else weights.state_dict(), assign=True)
    return normalised(model, pair.norm_eps).eval()


def _drawn_for(model: nn.Module) -> dict[str, Tensor]:
    state = {name: drawn(name, tuple(like.shape)) for name, like in model.state_dict().items()}
    for name, part in model.named_modules():
        if isinstance(part, CondConv2d):  # whose kernels are rows
            shape = (part.experts, part.out_channels, part.in_channels // part.groups, *part.kernel_size)
            state[f"{name}.weight"] = drawn(f"{name}.weight", shape).flatten(1)
    return state


def normalised(model: nn.Module, eps: float) -> nn.Module:
    """Return the model itself, with that eps in all its batch normalisations."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps
    return model


def theirs(pair: Pair, weights: nn.Module) -> nn.Module:
    """Return their model with the weights of ours, in eval mode, nothing dropped in training."""
    with torch.device("meta"):
        model = _created(pair)
    called = key_maps.names(model.state_dict(), weights)
    shapes = {name: like.shape for name, like in model.state_dict().items()}
    state = {called[name]: value.clone().view(shapes[called[name]]) for name, value in weights.state_dict().items()}
    model.load_state_dict(state, assign=True)
    return model.eval()


def _created(pair: Pair) -> nn.Module:
    if pair.source == "timm":
        import timm

        return timm.create_model(pair.theirs, num_classes=CLASSES)
    from torchvision import models

    dropping = {"dropout": 0.0, "stochastic_depth_prob": 0.0} if pair.theirs.startswith("efficientnet") else {}
    return getattr(models, pair.theirs)(num_classes=CLASSES, **dropping)


def images(kind: str, count: int = 2) -> Tensor:
    """Return bytes of noise as images, higher than they are wide."""
    height, width = (67, 34) if kind == "odd" else (64, 32)
    return torch.from_numpy(numbers(f"images {kind}").integers(0, 256, (count, 3, height, width), dtype=np.uint8))


def seen(images: Tensor) -> Tensor:
    """Return bytes as networks see them: numbers from -1 to 1."""
    return images.float() / 127.5 - 1


def difference(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference, over the largest number there is."""
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


def compared(pair: Pair) -> tuple[float, Tensor]:
    """Return how far ours is from theirs, given their weights under our names, and what came out of theirs."""
    mine = ours(pair)
    trusted = theirs(pair, mine)
    mine.load_state_dict(key_maps.translated(trusted.state_dict(), mine))
    with torch.inference_mode():
        wanted = trusted(seen(images(pair.images)))
        return difference(mine(seen(images(pair.images))), wanted), wanted


def compared_in_training(pair: Pair) -> float:
    """Return the largest difference after one pass forward and back: of outputs, statistics and all gradients.

    In double precision: small batches have statistics so uncertain that roundings grow large behind them.
    """
    mine = ours(pair)
    trusted = theirs(pair, mine).double()
    mine.double()
    mine.load_state_dict(key_maps.translated(trusted.state_dict(), mine))
    x = seen(images(pair.images, count=4)).double()
    target = torch.from_numpy(numbers("target").standard_normal((4, CLASSES)))
    outputs, found = [], []
    for model in (mine, trusted):
        _ready_to_train(model)
        output = model(x)
        (output * target).sum().backward()
        outputs.append(output.detach())
        found.append({name: p.grad for name, p in model.named_parameters()} | dict(model.named_buffers()))
    translated = key_maps.translated(found[1], mine)
    worst = max(difference(found[0][name], wanted) for name, wanted in translated.items())
    return max(worst, difference(*outputs))


def _ready_to_train(model: nn.Module) -> None:
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
        if type(module).__name__ in ("Dropout", "StochasticDepth"):
            module.eval()


def main() -> int:
    """Compare, print the table, and return 1 if a difference is above the tolerance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep inputs and outputs here, for the tests")
    parser.add_argument("--only", default="", help="only models whose name of theirs contains this")
    arguments = parser.parse_args()
    installed = {name: version(name) for name in ("timm", "torchvision", "torch", "numpy")}
    print(" ".join(f"{name} {number}" for name, number in installed.items()))
    print(f"{'theirs':34}{'ours':26}{'eps':>6}{'images':>8}{'difference':>12}")
    differences: list[float] = []
    outputs: dict[str, dict[str, Tensor]] = {"timm": {}, "torchvision": {}}

    def show(pair: Pair, worst: float, note: str = "") -> None:
        differences.append(worst)
        verdict = "" if worst <= TOLERANCE else "  DIFFERS"
        named = f"{pair.source} {pair.theirs}"
        print(f"{named:34}{pair.ours:26}{pair.norm_eps:6g}{pair.images:>8}{worst:12.1e}{note}{verdict}", flush=True)

    for pair in PAIRS:
        if arguments.only in pair.theirs:
            worst, outputs[pair.source][pair.theirs] = compared(pair)
            show(pair, worst)
    for pair in TRAINED:
        if arguments.only in pair.theirs:
            show(pair, compared_in_training(pair), "  in training, gradients and statistics")
    if arguments.write:
        _write(arguments.write, outputs, installed)
    return 0 if all(worst <= TOLERANCE for worst in differences) else 1


def _write(folder: Path, outputs: Mapping[str, dict[str, Tensor]], installed: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({kind: images(kind) for kind in ("even", "odd")}, folder / "images.safetensors")
    for source, made in outputs.items():
        save_file(made, folder / f"{source}.safetensors", metadata=installed)


if __name__ == "__main__":
    sys.exit(main())
