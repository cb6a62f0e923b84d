"""Adversarial examples: images changed by at most epsilon in every pixel so that a classifier is wrong about them.

Lengths are shares of the range of a pixel, so epsilon = 8 / 255 means 8 of the 255 steps between black and white, whatever a
model's inputs are normalised to: `low` and `high` say what black and white became, for each channel if need be, as
`Images.low` and `Images.high` do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from heuretic.nn.costs import evaluating
from heuretic.symbolic import Symbolic, field
from heuretic.train.seeds import generator as seeded_generator

Start = Literal["random", "clean"]


def pgd(
    model: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, step_size: float, steps: int, start: Start = "random",
    restarts: int = 1, targeted: bool = False, low: Tensor | float = 0.0, high: Tensor | float = 1.0,
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Return inputs near `x` on which the cross-entropy of `model` is high: projected gradient descent under the maximum norm.

    Each step goes by `step_size` along the sign of the gradient and back into the box around `x` and into the range of pixels.
    Weights get no gradient. The model stays in the mode it is in; what its batch normalisation has learnt of the data is left
    as it is even in training mode, where batches are normalised by their own statistics.

    Args:
        x: What the model is given, shape (batch, channels, ...). y: Classes, shape (batch,), or shares of them, (batch, classes).
        epsilon, step_size: Of (high - low); see above.
        start: "random" is uniform in the box, "clean" is `x`.
        restarts: Attempts, of which each example gets the one that fools the model, or else has the highest loss.
        targeted: `y` are classes to be mistaken for: the loss is lowered.
        low, high: The range of inputs, numbers or of shape (channels, 1, 1).
        generator: On the CPU; what random starts are drawn from.
    Returns: Inputs of the shape and dtype of `x`, detached.
    Raises: ValueError for numbers out of range, a random start without generator, or restarts from the same point.
    Reference: Madry et al. 2017, "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv:1706.06083, section 2.1.
    """
    if not (epsilon >= 0 and step_size > 0 and steps >= 1 and restarts >= 1):
        raise ValueError(
            f"epsilon must be at least 0, step_size above 0, steps and restarts at least 1, got epsilon={epsilon}, "
            f"step_size={step_size}, steps={steps}, restarts={restarts}. Try epsilon=8 / 255, step_size=2 / 255, steps=10"
        )
    if start == "random" and generator is None:
        raise ValueError("generator must be given for a random start, got None. Try torch.Generator().manual_seed(0)")
    if start == "clean" and restarts > 1:
        raise ValueError(f'restarts must be 1 from start="clean", got {restarts}. Try start="random"')
    if isinstance(model, DistributedDataParallel):
        model = model.module  # else each step of the attack would exchange statistics with the other devices
    x = x.detach()
    low, high = (torch.as_tensor(end, dtype=x.dtype, device=x.device) for end in (low, high))
    unit = high - low
    lowest, highest = torch.maximum(x - epsilon * unit, low), torch.minimum(x + epsilon * unit, high)
    stride = (-step_size if targeted else step_size) * unit
    found, best = x, None
    with still_statistics(model):
        for _ in range(restarts):
            attacked = x.clone()  # and changed in place, which keeps the layout in memory, so convolutions stay as fast
            if start == "random":
                # Drawn on the CPU, so that it is the same on all devices.
                noise = (2 * torch.rand(x.shape, generator=generator) - 1).to(x)
                attacked.add_(epsilon * unit * noise).clamp_(lowest, highest)
            for _ in range(steps):
                attacked.add_(stride * _gradient(model, attacked, y).sign()).clamp_(lowest, highest)
            if restarts == 1:
                return attacked
            fooled, gain = _success(model, attacked, y, targeted)
            if best is None:
                found, best = attacked, (fooled, gain)
            else:
                better = (fooled & ~best[0]) | ((fooled == best[0]) & (gain > best[1]))
                found[better] = attacked[better]
                best = torch.where(better, fooled, best[0]), torch.where(better, gain, best[1])
    return found


def fgsm(
    model: nn.Module, x: Tensor, y: Tensor, *, epsilon: float, targeted: bool = False, low: Tensor | float = 0.0,
    high: Tensor | float = 1.0,
) -> Tensor:  # fmt: skip
    """Return what one step of `pgd` makes of `x`, as long as the box allows: the fast gradient sign method.

    Reference: Goodfellow et al. 2014, "Explaining and Harnessing Adversarial Examples", arXiv:1412.6572, section 4.
    """
    return pgd(
        model, x, y, epsilon=epsilon, step_size=epsilon or 1.0, steps=1, start="clean", targeted=targeted, low=low, high=high
    )  # fmt: skip


class PGD(Symbolic):
    """The settings of `pgd` as a value. Called with a model and a batch, it returns what `pgd` does.

    "Fast" adversarial training (Wong et al. 2020, "Fast is better than free", arXiv:2001.03994) is `steps=1` with a step of
    1.25 epsilon from a random start.
    """

    epsilon: float = field(default=8 / 255, ge=0, doc="farthest that a pixel is changed, as a share of its range")
    step_size: float = field(default=2 / 255, gt=0, doc="of one step, as a share of the range")
    steps: int = field(default=10, ge=1)
    start: Start = field(default="random", doc="where in the box steps begin")
    restarts: int = field(default=1, ge=1, doc="attempts, of which the best is taken")

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, low: Tensor | float = 0.0, high: Tensor | float = 1.0,
        generator: Generator | None = None, targeted: bool = False,
    ) -> Tensor:  # fmt: skip
        return pgd(
            model, x, y, epsilon=self.epsilon, step_size=self.step_size, steps=self.steps, start=self.start,
            restarts=self.restarts, targeted=targeted, low=low, high=high, generator=generator,
        )  # fmt: skip


def robust_accuracy(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], attack: PGD, *, low: Tensor | float = 0.0,
    high: Tensor | float = 1.0, seed: int = 0,
) -> float:  # fmt: skip
    """Return the share of examples that a model is right about both as they are and under attack, in evaluation mode.

    So it never exceeds the accuracy, and only examples that the model is right about cost an attack. It is an upper bound of
    what would stand a perfect attack: more steps and restarts can only be expected to lower it.

    Args:
        batches: Inputs and classes, such as `Classification.in_order(split)`. seed: Of random starts.
    Raises: ValueError if there is not one row.
    """
    hits, rows = 0, 0
    with evaluating(model):
        for number, (x, y) in enumerate(batches):
            rows += len(y)
            with torch.no_grad():
                right = model(x).argmax(1) == y
            x, y = x[right], y[right]
            if len(y):
                draw = seeded_generator(seed, "attack", number)
                attacked = attack(model, x, y, low=low, high=high, generator=draw)
                with torch.no_grad():
                    hits += int((model(attacked).argmax(1) == y).sum())
    if not rows:
        raise ValueError("a set to measure on must have at least one row, got none")
    return hits / rows


@contextmanager
def still_statistics(model: nn.Module) -> Iterator[None]:
    """Let no batch normalisation of `model` learn of what it sees inside the block. What it computes stays the same."""
    # In evaluation mode they learn nothing, and there this attribute has no effect.
    norms = [part for part in model.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def _gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of the loss for `x` alone."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        # The sum, because a mean over the batch would make gradients smaller, which half precision may lose.
        loss = F.cross_entropy(model(x).float(), y, reduction="sum")
        return torch.autograd.grad(loss, x)[0]


@torch.no_grad()
def _success(model: nn.Module, x: Tensor, y: Tensor, targeted: bool) -> tuple[Tensor, Tensor]:
    """Return which examples fool the model, and what the attack maximises, each of shape (batch,)."""
    logits = model(x).float()
    loss = F.cross_entropy(logits, y, reduction="none")
    hit = logits.argmax(1) == (y if y.dim() == 1 else y.argmax(1))
    return (hit, -loss) if targeted else (~hit, loss)


__all__ = ["PGD", "Start", "fgsm", "pgd", "robust_accuracy", "still_statistics"]
