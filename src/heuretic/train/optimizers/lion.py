"""Lion: sign of an interpolated momentum, one state buffer per parameter.

Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", arXiv:2302.06675, program 1 and algorithm 2.
"""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer


class Lion(Optimizer):
    """Update parameter p with gradient g and momentum m (zero at first) by

        u = sign(beta1 * m + (1 - beta1) * g)
        p = p * (1 - lr * weight_decay) - lr * u
        m = beta2 * m + (1 - beta2) * g

    The paper advises a learning rate 3 to 10 times smaller than AdamW's and a weight decay larger by as much.

    Args:
        params: Parameters or groups; a group may set any of the other arguments for itself.
        lr: Learning rate, >= 0: how far each weight moves in a step, in its own unit.
        betas: (beta1, beta2), each in [0, 1).
        weight_decay: >= 0, decoupled, relative to lr.
        maximize: Go up the gradient instead of down.
        foreach: Update a group's tensors by a few calls for all of them (faster for many small tensors, and takes one
            temporary copy of the group), instead of one tensor after the other (one temporary copy of a tensor).
    Raises: ValueError if an argument is out of range, TypeError for complex parameters.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool = True,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize, "foreach": foreach}
        _check(defaults)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; what it does not set is as the optimizer was made with.

        Raises: as the constructor does. The optimizer is unchanged then.
        """
        _check({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            if parameter.is_complex():
                self.param_groups.pop()
                raise TypeError(f"parameters must be real, got {parameter.dtype}. Try torch.view_as_real on it")

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
        ready = [(group, [p for p in group["params"] if p.grad is not None]) for group in self.param_groups]
        for _, params in ready:
            _check_dense(params)
        for group, params in ready:
            if not params:
                continue
            for p in params:
                if not self.state[p]:
                    self.state[p]["exp_avg"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            update = _update_all if group["foreach"] else _update_each
            beta1, beta2 = group["betas"]
            update(
                params,
                [p.grad for p in params if p.grad is not None],
                [self.state[p]["exp_avg"] for p in params],
                step=group["lr"] if group["maximize"] else -group["lr"],
                shrink=-group["lr"] * group["weight_decay"],
                weight1=1.0 - beta1,
                weight2=1.0 - beta2,
            )
        return loss


# Both paths round alike: the same operations in the same order. To maximise, the step is turned around rather than
# the gradient, which the sign makes the same and which costs no copy. Decay is an addition because the scalar of a
# foreach multiplication is rounded to bfloat16 first.


def _update_all(
    params: list[Tensor], grads: list[Tensor], exp_avgs: list[Tensor], *,
    step: float, shrink: float, weight1: float, weight2: float,
) -> None:  # fmt: skip
    directions = torch._foreach_lerp(exp_avgs, grads, weight1)  # pyright: ignore[reportPrivateImportUsage]
    torch._foreach_sign_(directions)  # pyright: ignore[reportPrivateImportUsage]
    torch._foreach_lerp_(exp_avgs, grads, weight2)  # pyright: ignore[reportPrivateImportUsage]
    if shrink:
        torch._foreach_add_(params, params, alpha=shrink)  # pyright: ignore[reportPrivateImportUsage]
    torch._foreach_add_(params, directions, alpha=step)  # pyright: ignore[reportPrivateImportUsage]


def _update_each(
    params: list[Tensor], grads: list[Tensor], exp_avgs: list[Tensor], *,
    step: float, shrink: float, weight1: float, weight2: float,
) -> None:  # fmt: skip
    for p, grad, exp_avg in zip(params, grads, exp_avgs, strict=True):
        direction = torch.lerp(exp_avg, grad, weight1).sign_()
        exp_avg.lerp_(grad, weight2)
        if shrink:
            p.add_(p, alpha=shrink)
        p.add_(direction, alpha=step)


def _check(group: dict[str, Any]) -> None:
    lr, betas, weight_decay = group["lr"], group["betas"], group["weight_decay"]
    if not 0 <= lr < float("inf"):
        raise ValueError(f"lr must be >= 0 and finite, got {lr!r}. Try lr=1e-4")
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas must be two numbers in [0, 1), got {betas!r}. Try betas=(0.9, 0.99)")
    if not 0 <= weight_decay < float("inf"):
        raise ValueError(f"weight_decay must be >= 0 and finite, got {weight_decay!r}. Try weight_decay=0.1")


def _check_dense(params: list[Tensor]) -> None:
    for p in params:
        if p.grad is not None and p.grad.layout is not torch.strided:
            raise RuntimeError(
                f"gradients must be dense, got {p.grad.layout} for a parameter of shape {tuple(p.shape)}. "
                f"Try nn.Embedding(..., sparse=False)"
            )
