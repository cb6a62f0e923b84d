"""RandAugment: images a second on one core, beside torchvision, albumentations and kornia.

OMP_NUM_THREADS=1 python benchmarks/augmentation.py [--quick] [--json OUT]

Everyone applies 2 operations at magnitude 9 to each of 128 images, drawn anew for each, from uint8 to uint8 in the format the
library takes: batches of tensors (ours), tensors one by one (torchvision), Pillow images, arrays with channels last
(albumentations), float32 batches (kornia). Converting between formats is not timed. The images are smooth and noisy in turns.
What is not installed is left out. Albumentations composes its nearest counterparts of the same 14 operations.
"""

from __future__ import annotations

import argparse
import json
import platform
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timing import installed
from torch import Tensor

import heuretic.nn as hn
from heuretic import __version__
from heuretic.data import RandAugment

BATCH = 128
#: Rivals that count for the goal: kornia is listed, but takes other images.
GOAL, GOAL_RIVALS = 1.5, ("torchvision", "albumentations")


def images_of(side: int) -> Tensor:
    """Return uint8 images with a smooth and a noisy part each, shape (BATCH, 3, side, side)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(BATCH, 3, side // 8, side // 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    noise = torch.randn(BATCH, 3, side, side, generator=generator) * torch.linspace(0, 0.2, BATCH).view(-1, 1, 1, 1)
    return ((smooth + noise) * 255).clamp(0, 255).to(torch.uint8)


def contestants(images: Tensor) -> dict[str, Callable[[], Any]]:
    """Return by name what augments all the images once."""
    arrays = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
    pictures = [Image.fromarray(array) for array in arrays]
    augment, generator = RandAugment(), torch.Generator().manual_seed(0)
    found: dict[str, Callable[[], Any]] = {
        "heuretic": lambda: augment(images, generator),
        "heuretic, Pillow": lambda: [augment.pil(picture, generator) for picture in pictures],
    }
    try:
        from torchvision.transforms import RandAugment as Old
        from torchvision.transforms import v2
    except ImportError:
        pass
    else:
        old, new = Old(2, 9), v2.RandAugment(2, 9)
        found["torchvision v1, tensors"] = lambda: [old(image) for image in images]
        found["torchvision v1, Pillow"] = lambda: [old(picture) for picture in pictures]
        found["torchvision v2, tensors"] = lambda: [new(image) for image in images]
        found["torchvision v2, Pillow"] = lambda: [new(picture) for picture in pictures]
    try:
        composed = albumentations_composition(images.shape[-1])
    except ImportError:
        pass
    else:
        found["albumentations"] = lambda: [composed(image=array)["image"] for array in arrays]
    try:
        from kornia.augmentation.auto import RandAugment as Kornia
    except ImportError:
        pass
    else:
        floats, kornia = images.float() / 255, Kornia(n=2, m=9)
        found["kornia"] = lambda: kornia(floats)
    return found


def albumentations_composition(side: int) -> Any:
    """Return two of the 14 operations, at the same strength where there is such a setting."""
    warnings.filterwarnings("ignore")
    import albumentations as A
    import cv2

    cv2.setNumThreads(1)
    warp: dict[str, Any] = {"interpolation": cv2.INTER_NEAREST, "border_mode": cv2.BORDER_CONSTANT, "fill": 128, "p": 1}
    same, moved = (1.0, 1.0), round(0.27 * side)
    jitter = {"brightness": same, "contrast": same, "saturation": same, "hue": (0.0, 0.0), "p": 1}
    stronger = (1.72, 1.72)
    operations = [
        A.NoOp(p=1), A.AutoContrast(p=1), A.Equalize(p=1), A.Solarize(threshold_range=(0.9, 0.9), p=1), A.Posterize(num_bits=3, p=1),
        A.ColorJitter(**jitter | {"saturation": stronger}), A.ColorJitter(**jitter | {"contrast": stronger}),
        A.ColorJitter(**jitter | {"brightness": stronger}), A.Sharpen(alpha=(0.72, 0.72), p=1), A.Rotate(limit=(-27, 27), **warp),
        A.Affine(shear={"x": (-15.1, 15.1), "y": (0, 0)}, **warp), A.Affine(shear={"x": (0, 0), "y": (-15.1, 15.1)}, **warp),
        A.Affine(translate_px={"x": (-moved, moved), "y": (0, 0)}, **warp),
        A.Affine(translate_px={"x": (0, 0), "y": (-moved, moved)}, **warp),
    ]  # fmt: skip
    return A.Compose([A.SomeOf(operations, n=2, replace=True, p=1)], seed=0)


def measure(side: int, rounds: int) -> dict[str, Any]:
    """Measure all contestants in turn, and print images a second and how many times as long as ours they take."""
    functions = contestants(images_of(side))
    turns = hn.interleaved(functions, threads=1, warmup=1, rounds=rounds, clock="cpu")
    speed = {name: BATCH / timing.median_ms * 1e3 for name, timing in turns.timings.items()}
    ratios = {name: turns.ratio(name, "heuretic") for name in functions if name != "heuretic"}
    print(f"{side} x {side} x 3, batches of {BATCH}, one core: images/s, and times ours with 95% interval")
    for name, value in speed.items():
        ratio = "{:7.2f}x [{:.2f}, {:.2f}]".format(*ratios[name]) if name in ratios else ""
        print(f"  {name:26}{value:10.0f}{ratio}", flush=True)
    rivals = {name: ratio[0] for name, ratio in ratios.items() if name.startswith(GOAL_RIVALS)}
    if rivals:
        best = min(rivals, key=lambda name: rivals[name])
        print(f"  goal {GOAL}x the best, {best}: {'met' if rivals[best] >= GOAL else 'missed'}")
    return {
        "side": side, "batch": BATCH, "images_per_s": {name: round(value, 1) for name, value in speed.items()},
        "times_ours": {name: [round(value, 3) for value in ratio] for name, ratio in ratios.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    packages = ("torch", "numpy", "pillow", "torchvision", "albumentations", "opencv-python-headless", "kornia")
    versions: Mapping[str, str | None] = {
        "python": platform.python_version(), "heuretic": __version__, **{name: installed(name) for name in packages}
    }  # fmt: skip
    print(" ".join(f"{name} {number}" for name, number in versions.items()))
    rows = [measure(32, 4 if arguments.quick else 12), measure(224, 3 if arguments.quick else 10)]
    if arguments.json:
        arguments.json.write_text(json.dumps({"versions": versions, "clock": "cpu", "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
