"""Lion: sign of an interpolated momentum, one state buffer per parameter.

Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", arXiv:2302.06675, program 1 and algorithm 2.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from heuretic.train.optimizers import lion_kernel
from heuretic.train.optimizers.blockwise import block_count
from heuretic.train.optimizers.lion_update import CPU_TILE, DEVICE_TILE, Entry, tiles, update_together

STATE_DTYPES = (None, torch.float32, torch.bfloat16, torch.int8)
#: Weights from which on the kernel takes a millisecond less than foreach, so that compiling it soon pays; and how many
#: weights take as long as the calls for one more tensor.
_LARGE, _CALLS = 1 << 20, 1 << 12


class Lion(Optimizer):
    """Update parameter p with gradient g and momentum m (zero at first) by

        u = sign(beta1 * m + (1 - beta1) * g)
        p = p - lr * (u + weight_decay * p)
        m = beta2 * m + (1 - beta2) * g

    The paper advises a learning rate 3 to 10 times smaller than AdamW's and a weight decay larger by as much.

    All ways to do it round alike, whatever `foreach` and `fused` say: they compute in float64 for parameters in float64, else
    in float32, and round parameters and momentum to their own precision once a step. Only codes of 8-bit momentum may
    differ by one, where a number lies half-way between two: torch's square roots are not always the nearest.

    `torch.compile(optimizer.step)` works; with `lr` as a tensor, schedules do not make it compile again.

    Args:
        params: Parameters or groups; a group may set any of the other arguments for itself.
        lr: Learning rate, >= 0: how far each weight moves in a step, in its own unit. A number, or a tensor of one.
        betas: (beta1, beta2), each in [0, 1).
        weight_decay: >= 0, decoupled, relative to lr.
        maximize: Go up the gradient instead of down.
        state_dtype: Of the momentum: None for the parameter's; torch.float32; torch.bfloat16, 2 bytes a weight, as in the
            paper; torch.int8, 1 byte a weight and 4 for every 256, see `heuretic.train.optimizers.blockwise`.
        foreach: True to update many tensors by one call and large ones in pieces that stay in the processor's
            cache; False for one tensor after the other, each as a whole.
        fused: True to read and write each number once: on a CPU by a kernel in C, for which the system needs a C
            compiler, and which leaves float16 and unusual layouts to foreach; on other devices by `torch.compile`.
            With both None, groups of a million weights or hundreds of tensors on a CPU are fused where there is a
            compiler, and all others foreach.
    Raises: ValueError if an argument is out of range, TypeError for complex parameters, RuntimeError if `fused` is True and
        parameters are on a CPU, but the kernel cannot be compiled.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]],
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        state_dtype: torch.dtype | None = None,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize, "state_dtype": state_dtype,
            "foreach": foreach, "fused": fused,
        }  # fmt: skip
        _check(defaults)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; what it does not set is as the optimizer was made with.

        Raises: as the constructor does. The optimizer is unchanged then.
        """
        _check({**self.defaults, **param_group})
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            _check_parameters(group)
        except (TypeError, RuntimeError):
            self.param_groups.pop()
            raise

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            if "fused" not in group:  # as saved when foreach=True was the default, not somebody's choice
                group.update(fused=None, foreach=None if group["foreach"] else False, state_dtype=None)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state: its settings, and its momentum in the precision that they name.

        Raises: ValueError if the groups are of other sizes.
        """
        super().load_state_dict(state_dict)  # gives all state the parameter's dtype
        saved, numbers = state_dict["state"], chain.from_iterable(g["params"] for g in state_dict["param_groups"])
        for number, (group, p) in zip(numbers, ((g, p) for g in self.param_groups for p in g["params"]), strict=True):
            if number in saved and group["state_dtype"] is not None:
                self.state[p] = {name: value.to(p.device) for name, value in saved[number].items()}

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient; the others keep value and state.

        Args:
            closure: Evaluates the model again and returns the loss, which is then returned.
        Raises: RuntimeError if a gradient is sparse; no parameter is changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group, pairs in [(group, _with_gradients(group["params"])) for group in self.param_groups]:
            alike: defaultdict[Any, list[Entry]] = defaultdict(list)
            for p, grad in pairs:
                state = self.state[p] or self._begun(p, group["state_dtype"])
                momentum = state["exp_avg"]
                entry = p, grad, momentum, state.get("exp_avg_scale")
                alike[p.device, p.dtype, grad.dtype, momentum.dtype].append(entry)
            for (device, *_), entries in alike.items():
                _update(entries, device, group)
        return loss

    def _begun(self, p: Tensor, dtype: torch.dtype | None) -> dict[str, Tensor]:
        state = self.state[p]
        if dtype is torch.int8:
            state["exp_avg"] = torch.zeros_like(p, dtype=dtype, memory_format=torch.contiguous_format)
            state["exp_avg_scale"] = torch.zeros(block_count(p.numel()), device=p.device)
        else:
            state["exp_avg"] = torch.zeros_like(p, dtype=dtype, memory_format=torch.preserve_format)
        return state


def _update(entries: list[Entry], device: torch.device, group: dict[str, Any]) -> None:
    lr, decay, (beta1, beta2) = group["lr"], group["weight_decay"], group["betas"]
    compiling = torch.compiler.is_compiling()
    if isinstance(lr, Tensor) and lr.device.type == "cpu" and not compiling:
        lr = lr.item()
    elif isinstance(lr, Tensor):
        lr = lr.reshape(())
    step, decay = (lr, -decay) if group["maximize"] else (-lr, decay)
    settings = {"step": step, "decay": decay, "weight1": 1.0 - beta1, "weight2": 1.0 - beta2}
    if compiling:
        update_together(entries, **settings)
    elif group["fused"] and device.type != "cpu":
        dtype = torch.float64 if entries[0][0].dtype is torch.float64 else torch.float32
        # as a tensor, so that a schedule does not make it compile again
        _update_compiled()(entries, **{**settings, "step": torch.as_tensor(step, dtype=dtype, device=device)})
    elif group["foreach"] is False and not group["fused"]:
        for entry in entries:
            update_together([entry], **settings)
    else:
        if device.type == "cpu" and _by_kernel(group, entries):
            fitting, entries = lion_kernel.sorted_out(entries)
            lion_kernel.update_by_kernel(fitting, **settings)
        for tile in tiles(entries, CPU_TILE if device.type == "cpu" else DEVICE_TILE):
            update_together(tile, **settings)


def _by_kernel(group: dict[str, Any], entries: list[Entry]) -> bool:
    if group["fused"] is not None or group["foreach"] is not None:
        return bool(group["fused"])
    work = sum(p.numel() for p, _, _, _ in entries) + len(entries) * _CALLS
    return work >= _LARGE and not lion_kernel.unavailable()


@functools.cache
def _update_compiled() -> Callable[..., None]:
    return torch.compile(update_together)


def _check(group: dict[str, Any]) -> None:
    lr, betas, weight_decay = group["lr"], group["betas"], group["weight_decay"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"lr must be one number, got a tensor of shape {tuple(lr.shape)}. Try a group for each")
    if not 0 <= lr < float("inf"):
        raise ValueError(f"lr must be >= 0 and finite, got {lr!r}. Try lr=1e-4")
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas must be two numbers in [0, 1), got {betas!r}. Try betas=(0.9, 0.99)")
    if not 0 <= weight_decay < float("inf"):
        raise ValueError(f"weight_decay must be >= 0 and finite, got {weight_decay!r}. Try weight_decay=0.1")
    if group["state_dtype"] not in STATE_DTYPES:
        raise ValueError(
            f"state_dtype must be one of {', '.join(map(str, STATE_DTYPES))}, got {group['state_dtype']!r}. Try None"
        )
    if group["foreach"] and group["fused"]:
        raise ValueError("foreach and fused must not both be True. Try fused=True alone")


def _check_parameters(group: dict[str, Any]) -> None:
    for p in group["params"]:
        if p.is_complex():
            raise TypeError(f"parameters must be real, got {p.dtype}. Try torch.view_as_real on it")
    if group["fused"] and any(p.device.type == "cpu" for p in group["params"]) and lion_kernel.unavailable():
        raise RuntimeError(
            f"fused must have a C compiler for parameters on a CPU, got: {lion_kernel.unavailable()}. Try fused=None"
        )


def _with_gradients(params: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    pairs = []
    for p in params:
        grad = p.grad
        if grad is None:
            continue
        if grad.layout is not torch.strided:
            raise RuntimeError(
                f"gradients must be dense, got {grad.layout} for a parameter of shape {tuple(p.shape)}. "
                f"Try nn.Embedding(..., sparse=False)"
            )
        pairs.append((p, grad))
    return pairs
