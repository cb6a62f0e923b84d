"""Progressive learning: images grow during the training, and regularisation with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from heuretic.data import MixUp, RandAugment
from heuretic.nn import StochasticDepth
from heuretic.nn.residual_paths import DropPaths
from heuretic.train.batches import Batches, Images
from heuretic.train.classification import Classification, cross_entropy
from heuretic.train.loop import Loop, Measures, Meter, Reporter
from heuretic.train.optimization import Optimization
from heuretic.train.training_program import Trained

if TYPE_CHECKING:
    from heuretic.data import DataSet

#: What something is in the first stage and in the last.
Range = tuple[float, float]
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def progressive(
    model: nn.Module, data: DataSet, *, optimization: Optimization = Optimization(), loop: Loop = Loop(), batch: int = 128,
    stages: int = 4, sizes: tuple[int, int] | None = None, magnitudes: Range | None = (5.0, 15.0), ops: int = 2,
    mixup: Range | None = None, dropout: Range | None = None, stochastic_depth: Range | None = None,
    augment: Sequence[Callable[..., Any]] = (), label_smoothing: float = 0.0, inputs: Images | None = None, seed: int = 0,
    trial: Reporter | None = None, meter: Meter | None = None,
) -> Trained:  # fmt: skip
    """Minimise the cross-entropy on `data.train`, at first with small images and weak regularisation, then with more of both.

    The steps are split into stages of equal length (they differ by one step where they must). What is given as a range has
    one value in each stage, see `staged`. Validation images have the last size always; `data.test` is left alone.

    Args:
        model: Takes images of all these sizes and gives logits of shape (batch, classes); changed in place. Its dropout and
            stochastic depth stay as the last stage had them.
        stages: From 1, which has the last values throughout, to the number of steps.
        sizes: Side of the square images, in pixels. Default: from half of the longer side in the data to all of it.
        magnitudes, ops: Of RandAugment, which changes the resized images; None for none.
        mixup: Alpha of MixUp; 0, and None, is none.
        dropout: Rate of every `nn.Dropout` and the like in the model; None leaves them alone.
        stochastic_depth: Rate of the residual path that is dropped most; the others keep their share of it. None leaves it alone.
        augment: Changes the images as they are in the data, before they are resized: `FlipCrop`, say.
        inputs: Mean and deviation of the images. label_smoothing, seed, trial, meter: As for `supervised`.
    Returns: The model, with "validation_loss" in nats and "validation_accuracy", if there are validation rows.
    Raises: ValueError if a number is out of range, or if there is nothing in the model that has the rate.
    Reference: Tan & Le 2021, "EfficientNetV2", arXiv:2104.00298, section 4, algorithm 1. Its ranges for S to L, table 6: sizes
    128 to 300 or 380, magnitudes 5 to 15, 20 or 25, mixup 0 to 0, 0.2 or 0.5, dropout 0.1 to 0.3, 0.4 or 0.5.
    """
    images = Images.of(data.train) if inputs is None else inputs
    side = max(data.train.inputs.shape[1:3])
    first, last = (math.ceil(side / 2), side) if sizes is None else sizes
    if min(first, last) < 1:
        raise ValueError(f"sizes must be at least 1 pixel, got {(first, last)}")
    if not 1 <= stages <= loop.steps:
        raise ValueError(f"stages must be from 1 to the number of steps, {loop.steps}, got {stages}. Try 4")
    training = optimization.start(model.train(), loop.steps, cross_entropy(label_smoothing))
    task = Classification(data, images.sized(last), training.device)
    models = {id(each): each for each in (training.model, training.averaged)}.values()
    rates = [
        *([] if dropout is None else [_Rates(_dropouts(each), "p", dropout) for each in models]),
        *([] if stochastic_depth is None else [_Rates(_paths(each), "rate", stochastic_depth) for each in models]),
    ]

    def batches_of(stage: int) -> Batches:
        size = math.floor(staged((first, last), stage, stages) + 0.5)
        changes = [*augment, Resized(size)]
        if magnitudes is not None:
            changes.append(RandAugment(ops=ops, magnitude=staged(magnitudes, stage, stages)))
        alpha = 0.0 if mixup is None else staged(mixup, stage, stages)
        return Batches(
            data.train, batch, images.sized(size), training.device, seed=seed, augment=changes,
            mix=MixUp(alpha) if alpha else None, classes=len(data.classes),
        )  # fmt: skip

    of_stage = [batches_of(stage) for stage in range(stages)]

    def stage_of(step: int) -> int:
        return step * stages // loop.steps

    def set_rates(stage: int) -> None:
        for each in rates:
            each.set(stage, stages)

    def update(batch: Any, step: int) -> Measures:
        set_rates(stage_of(step))
        return training(batch, step)

    run = loop.run(
        update, lambda step: of_stage[stage_of(step)](step), seed=seed, state={"training": training},
        evaluate=task.validation(training), trial=trial, meter=meter,
    )  # fmt: skip
    set_rates(stage_of(run.done - 1))  # where all steps were done before, none has set them
    return task.trained(training, run)


def staged(ends: Range, stage: int, stages: int) -> float:
    """Return the value in a stage, from 0: first + (last - first) * stage / (stages - 1), or the last if there is one stage."""
    first, last = ends
    return last if stages == 1 else first + (last - first) * stage / (stages - 1)


class Resized:
    """Resizes uint8 images of shape (batch, channels, height, width) to squares; bilinear, smoothed where they shrink."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, images: Tensor, generator: Generator | None = None) -> Tensor:
        side, shape = self.size, images.shape[-2:]
        if shape == (side, side):
            return images
        shrinks = side < min(shape)
        # As floats, because not every device can do it with whole numbers, and rounding differs where one can.
        resized = F.interpolate(images.float(), (side, side), mode="bilinear", antialias=shrinks)
        return resized.round().to(torch.uint8)


class _Rates:
    """The rates at which parts of a model drop something; each keeps its share of the highest."""

    def __init__(self, parts: Sequence[tuple[Any, float]], attribute: str, ends: Range) -> None:
        if not all(0 <= rate < 1 for rate in ends):
            raise ValueError(f"rates must be in [0, 1), got {ends}. Try (0.1, 0.3)")
        self.parts, self.attribute, self.ends = parts, attribute, ends

    def set(self, stage: int, stages: int) -> None:
        for part, share in self.parts:
            setattr(part, self.attribute, share * staged(self.ends, stage, stages))


def _dropouts(model: nn.Module) -> list[tuple[Any, float]]:
    found = [part for part in model.modules() if isinstance(part, _DROPOUTS)]
    if not found:
        raise ValueError(
            "dropout must be None for a model without nn.Dropout, got a range. Try dropout=0.1 in the model"
        )
    return [(part, 1.0) for part in found]


def _paths(model: nn.Module) -> list[tuple[Any, float]]:
    found: list[Any] = [part for part in model.modules() if isinstance(part, StochasticDepth)]
    found += [hook for part in model.modules() for hook in part._forward_hooks.values() if isinstance(hook, DropPaths)]
    highest = max((part.rate for part in found), default=0.0)
    if not highest:
        raise ValueError(
            "stochastic_depth must be None for a model that drops no paths, got a range. Try a model with "
            'stochastic_depth=0.2, or hr.apply(model, "stochastic-depth?rate=0.2")'
        )
    return [(part, part.rate / highest) for part in found]
