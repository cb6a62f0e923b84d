"""What a model costs, computed without running it: parameters and multiply-adds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.backends.mha
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from heuretic.symbolic import Symbolic, build

_FILLING = frozenset({"fill_", "zero_", "normal_", "uniform_", "trunc_normal_", "kaiming_uniform_"})


def parameter_count(model: Any) -> int:
    """Return the number of parameters of a module, or of the module that a complete program describes.

    A program is built on torch's meta device: no weights are made.
    Raises: TypeError if what is built is no module.
    """
    return sum(parameter.numel() for parameter in without_weights(model).parameters())


class MultiplyAdds(Symbolic):
    """The multiply-adds of one forward pass: `hr.Limit(MultiplyAdds((1, 3, 224, 224)), at_most=300e6)`.

    Convolutions, matrix products and attention count, as torch's counter of floating-point operations knows them (two
    operations are one multiply-add); additions, activations and normalisations do not. A program is built and run on
    torch's meta device: no weights are made and nothing is computed.

    Args:
        shape: Of the input, float32; the batch included. name: In records.
    """

    shape: tuple[int, ...]
    name: str = "multiply_adds"

    def __call__(self, model: Any) -> float:
        """Return the count for a module or complete program. Raises: TypeError if what is built is no module."""
        module = without_weights(model)
        weight = next(module.parameters(), None)
        with evaluating(module), torch.inference_mode(), counted_operations() as counter:
            module(torch.zeros(self.shape, device="meta" if weight is None else weight.device))
        return counter.get_total_flops() / 2


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Run modules and all their parts in eval mode; afterwards each is in the mode it was in."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for part, _ in modes:
            part.training = False
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def counted_operations() -> Iterator[FlopCounterMode]:
    """Count floating-point operations, those of attention too where torch's counter would miss them.

    It does not know the kernel that fuses attention on a CPU, and it cannot look into the fused kernel of a whole
    `nn.TransformerEncoderLayer`, which is not used meanwhile.
    """
    fused = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
    mapping = {} if fused is None else {fused: _attention_operations}
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _attention_operations(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    batch, heads, places, width = query
    return 2 * batch * heads * places * key[-2] * (width + value[-1])


class _NoFilling(TorchFunctionMode):
    """Leaves out what fills tensors with values: on the meta device there are none, but asking for them is slow."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        filled = args[0] if args else given.get("tensor")
        if getattr(func, "__name__", "") in _FILLING and isinstance(filled, torch.Tensor) and filled.is_meta:
            return filled
        return func(*args, **given)


def without_weights(model: Any) -> nn.Module:
    """Return a module as it is, and a complete program of one built on the meta device.

    Raises: TypeError if what is built is no module; OpenChoiceError if choices are open.
    """
    module = model if isinstance(model, nn.Module) else built_without_weights(model)
    if not isinstance(module, nn.Module):
        raise TypeError(f"model must be a torch module or a program of one, got {type(module).__name__}")
    return module


def built_without_weights(program: Any) -> Any:
    """Return what a complete program builds on the meta device, module or not."""
    with torch.device("meta"), _NoFilling():
        return build(program)
