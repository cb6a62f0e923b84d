"""What each module of a network costs in one forward pass, and where ways around others lead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.parameter import is_lazy

from heuretic.nn.costs import counted_operations, evaluating
from heuretic.nn.description.shapes import Shapes
from heuretic.nn.description.tracing import FusedAttention, Record, Trace


@dataclass(frozen=True, slots=True)
class ModuleCosts:
    """A module at one of its places in the tree, and the costs of it and all below it.

    Attributes:
        path: Names from the root, joined by dots; "" for the root. kind: Name of the class. settings: Its `extra_repr`.
        output: Shapes of what the first call at this place returned; None without a call.
        parameters: Numbers in it and below it, those that are there twice once. trainable: Those with gradients.
        multiply_adds: Of all calls at this place and below it.
        activation_bytes: What autograd keeps of the tensors made there, see `heuretic.nn.description.describe`.
        calls: How often it was called at this place; a container such as `nn.ModuleList` is not.
        order: Of the ends of the first calls among all modules; -1 without a call.
        first_path: Where the same module stood before, if this is another place of it; "" otherwise.
        is_residual: Whether a way leads around a part of it: it adds a tensor to what was computed from that tensor.
        parts: Its submodules, as they are registered.
    """

    path: str
    kind: str
    settings: str
    output: Shapes
    parameters: int
    trainable: int
    multiply_adds: int
    activation_bytes: int
    calls: int
    order: int
    first_path: str
    is_residual: bool
    parts: tuple[ModuleCosts, ...] = ()

    @property
    def name(self) -> str:
        """The last name of the path."""
        return self.path.rpartition(".")[2]

    @property
    def own_multiply_adds(self) -> int:
        """The multiply-adds that are done in its own code."""
        return self.multiply_adds - sum(part.multiply_adds for part in self.parts)

    def walk(self) -> Iterator[ModuleCosts]:
        """Yield this module and all below it, parents first."""
        yield self
        for part in self.parts:
            yield from part.walk()


def module_costs(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ModuleCosts:
    """Run `module(*args, **kwargs)` once in eval mode, as for training otherwise, and return what each part cost.

    Raises: Whatever the module raises, with a note that says at which of its parts.
    """
    places: dict[nn.Module, list[str]] = {}
    for path, part in _places(module):
        places.setdefault(part, []).append(path)
    with fork_random(module), evaluating(module), torch.enable_grad(), counted_operations() as counter:
        trace = Trace(places, counter)
        with trace.watching(), trace, FusedAttention(), saved_tensors_hooks(trace.keep, lambda kept: kept):
            try:
                module(*args, **kwargs)
            except Exception as error:
                error.add_note(trace.where())
                raise
    return _tree(module, "", trace.finish(module), places)


def fork_random(module: nn.Module) -> AbstractContextManager[None]:
    """Leave the random state of the CPU and of the module's GPUs as it was."""
    return torch.random.fork_rng(devices=sorted({p.device.index or 0 for p in module.parameters() if p.is_cuda}))


def _places(module: nn.Module, path: str = "", above: tuple[nn.Module, ...] = ()) -> Iterator[tuple[str, nn.Module]]:
    yield path, module
    for name, part in _parts(module, above):
        yield from _places(part, f"{path}.{name}" if path else name, (*above, module))


def _parts(module: nn.Module, above: tuple[nn.Module, ...] = ()) -> list[tuple[str, nn.Module]]:
    """Return the submodules by name, without those that the module is a part of itself."""
    parts = module._modules.items()
    return [(name, part) for name, part in parts if part is not None and part is not module and part not in above]


def _tree(
    module: nn.Module, path: str, records: Mapping[str, Record], places: Mapping[nn.Module, Sequence[str]],
    above: tuple[nn.Module, ...] = (),
) -> ModuleCosts:  # fmt: skip
    parts = tuple(
        _tree(part, f"{path}.{name}" if path else name, records, places, (*above, module))
        for name, part in _parts(module, above)
    )
    record, own = records[path], [p for p in module.parameters() if not is_lazy(p)]
    first = places[module][0]
    return ModuleCosts(
        path, type(module).__name__, " ".join(module.extra_repr().split()), record.output,
        parameters=sum(p.numel() for p in own), trainable=sum(p.numel() for p in own if p.requires_grad),
        multiply_adds=record.operations // 2 + sum(part.multiply_adds for part in parts),
        activation_bytes=record.activation_bytes + sum(part.activation_bytes for part in parts),
        calls=record.calls, order=record.order, first_path="" if first == path else first,
        is_residual=record.is_residual, parts=parts,
    )  # fmt: skip
