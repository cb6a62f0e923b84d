"""One update of a model: forward, backward, clipping, the optimizer, and a moving average of the weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, DistributedType
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._pytree import tree_flatten, tree_unflatten

from heuretic.train.schedules import Cosine, Schedule

_PLAIN = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
#: Returns the loss of a batch, or the loss and other measures by name.
Loss = Callable[[nn.Module, Any], "Tensor | tuple[Tensor, Mapping[str, Tensor | float]]"]
MakeOptimizer = Callable[..., torch.optim.Optimizer]
Precision = Literal["no", "bf16", "fp16"]


def _adamw() -> MakeOptimizer:
    return functools.partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.01)


@dataclass(frozen=True, slots=True)
class Optimization:
    """How weights are updated; the same for every recipe.

    Args:
        optimizer: Makes the optimizer from groups of parameters, such as `functools.partial(torch.optim.AdamW, lr=1e-3)`.
        schedule: Factor of the learning rate by step.
        clip: Largest norm of the gradient of all weights; None for any.
        accumulate: Parts that a batch is computed in, one after the other, to save memory. The gradient is the mean of theirs.
        ema: Decay of the moving average of weights and buffers, in [0, 1); None for none. It begins at 0.1 and rises to it,
            min(ema, (1 + n) / (10 + n)) in step n, as in TensorFlow, so that short runs have an average worth something.
        precision: "bf16" and "fp16" compute in mixed precision, the second with scaled losses.
        decay_all: Also decay biases and the weights of normalisations, which have fewer than two axes.
        cpu: Stay on the CPU where there is a GPU too. Otherwise accelerate chooses the device.
        compile: Compile the model by `torch.compile`.
    Raises: ValueError if a value is out of range.
    """

    optimizer: MakeOptimizer = field(default_factory=_adamw)
    schedule: Schedule = field(default_factory=Cosine)
    clip: float | None = None
    accumulate: int = 1
    ema: float | None = None
    precision: Precision = "no"
    decay_all: bool = False
    cpu: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be above 0 or None, got {self.clip}. Try clip=1.0")
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, got {self.accumulate}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(f"ema must be in [0, 1) or None, got {self.ema}. Try ema=0.999")
        if self.precision not in ("no", "bf16", "fp16"):
            raise ValueError(f"precision must be 'no', 'bf16' or 'fp16', got {self.precision!r}")

    def start(self, model: nn.Module, steps: int, loss: Loss | None = None) -> Training:
        """Return `model` ready to be updated, on its device. Its weights are changed in place.

        Args:
            steps: Updates planned, for the schedule. loss: What calls of the result minimise.
        """
        return Training(self, model, steps, loss)


class Training:
    """A model, its optimizer and its moving average. An update for `Loop.run`, called with a batch and the step's number.

    Attributes:
        model: The model under training, as given (on several devices, the copy of this process).
        averaged: The model to measure: the moving average if there is one, else `model`.
        device: Where the model is, and where batches must be.
    """

    def __init__(self, settings: Optimization, model: nn.Module, steps: int, loss: Loss | None) -> None:
        self.settings, self.steps, self.loss = settings, steps, loss
        self._accelerator = _accelerator(settings)
        optimizer = settings.optimizer(_groups(model, settings.decay_all))
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", float(group["lr"]))
        if settings.compile:
            model.compile()
        self.network, self.optimizer = self._accelerator.prepare(model, optimizer)
        # Accelerate's wrapping looks for packages in every step, for a tenth of a millisecond.
        self._plain = self._accelerator.scaler is None and self._accelerator.distributed_type in _PLAIN
        if self._plain:
            self.optimizer = optimizer
        # Losses are computed under `autocast`; accelerate would also make the model's own `forward` do so, for ever.
        self.model: nn.Module = self._accelerator.unwrap_model(
            self.network, keep_fp32_wrapper=False, keep_torch_compile=True
        )
        self.device: torch.device = self._accelerator.device
        self._average = None
        if settings.ema is not None:
            self._average = AveragedModel(self.model, multi_avg_fn=_warm_average(settings.ema), use_buffers=True)
            self._average.requires_grad_(False)

    @property
    def averaged(self) -> nn.Module:
        return self.model if self._average is None else self._average.module

    def __call__(self, batch: Any, step: int) -> dict[str, Tensor | float]:
        """Update once by the gradient of the loss and return its measures, "loss" among them."""
        if self.loss is None:
            raise ValueError(
                "Training must be started with a loss to be called. Try optimization.start(model, steps, loss)"
            )
        if self.settings.accumulate == 1:
            with self.autocast():
                measures = _measures(self.loss(self.network, batch))
            self.backward(measures["loss"])
        else:
            measures = self._accumulated(batch)
        self.finish(step, measures)
        return measures

    def _accumulated(self, batch: Any) -> dict[str, Any]:
        parts = list(_parts(batch, self.settings.accumulate))
        total: dict[str, Any] = {}
        for number, (part, share) in enumerate(parts):
            last = number == len(parts) - 1
            with nullcontext() if last else self._accelerator.no_sync(self.network):
                with self.autocast():
                    measures = _measures(self.loss(self.network, part))  # type: ignore[misc]
                self.backward(measures["loss"] * share)
            for name, value in measures.items():
                value = value.detach() if isinstance(value, Tensor) else value
                total[name] = total.get(name, 0.0) + share * value
        return total

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute in the chosen precision inside the block."""
        return nullcontext() if self.settings.precision == "no" else self._accelerator.autocast()

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of `loss` to what the weights have."""
        if self._plain:
            loss.backward()
        else:
            self._accelerator.backward(loss)

    def finish(self, step: int, measures: dict[str, Any] | None = None) -> None:
        """Clip, step the optimizer at the rate of `step`, forget the gradient and move the average.

        Args:
            measures: Where the norm of the gradient is noted, if it is clipped.
        """
        if self.settings.clip is not None:
            norm = self._accelerator.clip_grad_norm_(self.network.parameters(), self.settings.clip)
            if measures is not None and norm is not None:
                measures["gradient_norm"] = norm.detach()
        factor = self.settings.schedule(step, self.steps)
        for group in self.optimizer.param_groups:
            rate = group["initial_lr"] * factor
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update_parameters(self.model)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next update depends on."""
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self._average is not None:
            state["average"] = self._average.state_dict()
        if self._accelerator.scaler is not None:
            state["scaler"] = self._accelerator.scaler.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])


def _accelerator(settings: Optimization) -> Accelerator:
    # Accelerate keeps precision and device per process; two trainings in one process may want different ones.
    state = AcceleratorState._shared_state
    if state and (state["_mixed_precision"], state["_cpu"]) != (settings.precision, settings.cpu):
        AcceleratorState._reset_state(reset_partial_state=state["_cpu"] != settings.cpu)
    return Accelerator(mixed_precision=settings.precision, cpu=settings.cpu, step_scheduler_with_optimizer=False)


def _groups(model: nn.Module, decay_all: bool) -> list[dict[str, Any]]:
    """Return the weights that are trained, those of fewer than two axes in a group without decay."""
    weights = [p for p in model.parameters() if p.requires_grad]
    if not weights:
        raise ValueError("model must have weights to train, got none that require a gradient")
    if decay_all:
        return [{"params": weights}]
    groups = [
        {"params": [p for p in weights if p.dim() > 1]},
        {"params": [p for p in weights if p.dim() < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _measures(returned: Any) -> dict[str, Any]:
    if isinstance(returned, Tensor):
        return {"loss": returned}
    loss, others = returned
    return {"loss": loss, **others}


def _parts(batch: Any, count: int) -> Iterator[tuple[Any, float]]:
    """Split every tensor of a batch along its first axis; yield the parts with their share of the rows of the first tensor."""
    leaves, form = tree_flatten(batch)
    rows = next((len(leaf) for leaf in leaves if isinstance(leaf, Tensor)), 0)
    if rows < count:
        raise ValueError(f"a batch must have at least accumulate={count} rows, got {rows}. Try a smaller accumulate")
    split = [leaf.tensor_split(count) if isinstance(leaf, Tensor) else [leaf] * count for leaf in leaves]
    for part in zip(*split, strict=True):
        first = next(leaf for leaf in part if isinstance(leaf, Tensor))
        yield tree_unflatten(list(part), form), len(first) / rows


def _warm_average(decay: float) -> Callable[[Any, Any, Any], None]:
    def average(averaged: Any, current: Any, count: Any) -> None:
        n = float(count)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, count)

    return average
