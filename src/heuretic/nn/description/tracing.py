"""Following one run of a network: which module makes which tensor, from which others, and what autograd keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from heuretic.nn.description.shapes import Shapes, shapes


@dataclass(slots=True)
class Record:
    """What is counted at one place."""

    calls: int = 0
    order: int = -1
    output: Shapes = None
    operations: int = 0
    activation_bytes: int = 0
    is_residual: bool = False


@dataclass(slots=True)
class _Call:
    """A call that is not over: of which module, where, since when, given what."""

    module: nn.Module
    path: str
    since: int
    given: Shapes
    inputs: set[int]
    #: Tensors that parts returned which were called with the inputs themselves.
    branches: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Made:
    """A tensor's memory that came to be during the run; `sources` are those it was computed from."""

    memory: StorageWeakRef  # while there is a weak reference, no other memory gets the same key
    path: str
    time: int
    sources: set[int] = field(default_factory=set)
    kept_bytes: int = 0


class Trace(TorchDispatchMode):
    """Follows one run: which module is running, which tensors it makes, and from which others."""

    def __init__(self, places: Mapping[nn.Module, Sequence[str]], counter: FlopCounterMode) -> None:
        super().__init__()
        self.places, self.counter = places, counter
        self.records = {path: Record() for paths in places.values() for path in paths}
        self.running: list[_Call] = []
        self.made: dict[int, _Made] = {}
        self.time = self.ended = self.counted = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Follow calls of the modules."""
        handles = [
            handle
            for module in self.places
            if not isinstance(module, torch.jit.ScriptModule)  # takes no hooks; what it does is its caller's
            for handle in (
                module.register_forward_pre_hook(self._begin, prepend=True, with_kwargs=True),
                module.register_forward_hook(self._end),
            )
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def keep(self, tensor: Tensor) -> Tensor:
        """Note that autograd keeps a tensor, and with it the whole memory it is a view of."""
        made = self.made.get(_key(tensor))
        if made is not None:
            made.kept_bytes = tensor.untyped_storage().nbytes()
        return tensor

    def finish(self, module: nn.Module) -> Mapping[str, Record]:
        """Return what was counted at each place."""
        weights = _keys([*module.parameters(), *module.buffers()])  # lazy modules made theirs in the run
        for key, made in self.made.items():
            if key not in weights:
                self.records[made.path].activation_bytes += made.kept_bytes
        return self.records

    def where(self) -> str:
        """Return what is running."""
        if not self.running:
            return "before any module ran"
        call = self.running[-1]
        return f"while running {call.path or 'the model itself'} ({type(call.module).__name__}), given {call.given}"

    def _begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._credit()
        path = self._place(module)
        given = [shapes(value) for value in (*args, *kwargs.values())]
        shown = [each for each in given if each]
        self.running.append(
            _Call(module, path, self.time, shown[0] if len(shown) == 1 else shown, _keys((args, kwargs)))
        )
        self.records[path].calls += 1

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        self._credit()
        while self.running:  # a call that raised, and was caught, has not ended
            call = self.running.pop()
            if call.module is module:
                break
        else:
            return
        record = self.records[call.path]
        if record.order < 0:
            record.order, record.output = self.ended, shapes(output)
            self.ended += 1
        if self.running and call.inputs & self.running[-1].inputs:
            self.running[-1].branches |= _keys(output) - self.running[-1].inputs

    def _credit(self) -> None:
        """Give what was counted since the last time to the module that was running."""
        total = self.counter.get_total_flops()
        if self.running:
            self.records[self.running[-1].path].operations += total - self.counted
        self.counted = total

    def _place(self, module: nn.Module) -> str:
        """Return which place of a module is called: the one that is nearest to the module that is running."""
        paths = self.places[module]
        if len(paths) == 1 or not self.running:
            return paths[0]
        here = self.running[-1].path.split(".")

        def shared(path: str) -> int:
            return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(path.split("."), here, strict=False)))

        return max(paths, key=shared)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.running:
            self._note(func, _keys((args, kwargs)), result)
            if getattr(func, "overloadpacket", None) in (torch.ops.aten.add, torch.ops.aten.add_):
                self._note_sum(args)
        return result

    def _note(self, func: Any, sources: set[int], result: Any) -> None:
        self.time += 1
        if "batch_norm" in str(func) and isinstance(result, tuple):
            result = result[0]  # the others are statistics, which only some devices make in eval mode
        for tensor in _tensors(result):
            key = _key(tensor)
            if key and key not in self.made and key not in sources:
                memory = StorageWeakRef(tensor.untyped_storage())
                self.made[key] = _Made(memory, self.running[-1].path, self.time)
            if key in self.made:
                self.made[key].sources |= sources

    def _note_sum(self, args: Sequence[Any]) -> None:
        """Find the innermost running module in which a way leads around what computed one of two summands."""
        first, second = args[:2]
        if not (isinstance(first, Tensor) and isinstance(second, Tensor) and first.shape == second.shape):
            return
        pairs = (_key(first), _key(second)), (_key(second), _key(first))
        for call in reversed(self.running):
            if any(self._goes_around(around, through, call) for around, through in pairs):
                self.records[call.path].is_residual = bool(call.module._modules)  # else it is a function such as GELU
                return

    def _goes_around(self, around: int, through: int, call: _Call) -> bool:
        """Whether within a call `through` was computed from `around`, or from what a part made `around` of."""
        if around in call.branches:
            return through not in call.inputs and any(self._leads(key, through, call.since) for key in call.inputs)
        made = self.made.get(around)
        is_here = around in call.inputs or (made is not None and made.time > call.since)
        return is_here and self._leads(around, through, call.since)

    def _leads(self, start: int, end: int, since: int) -> bool:
        """Whether `end` was computed from `start`, by steps after a time."""
        seen, ahead = {end}, [end]
        while ahead:
            made = self.made.get(ahead.pop())
            if made is None or made.time <= since:
                continue
            sources = made.sources - {start} if start in seen else made.sources
            if start in sources:
                return True
            ahead.extend(sources - seen)
            seen |= sources
        return False


class FusedAttention(TorchFunctionMode):
    """On the meta device, takes attention for fused, as it is on real devices: no matrix of weights is kept."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is F.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), args, strict=False))
            fused = _fused_attention(**named, **given)
            if fused is not None:
                return fused
        return func(*args, **given)


def _fused_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor | None:  # fmt: skip
    operation = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
    is_plain = query.dim() == 4 and key.shape == value.shape == (*query.shape[:2], key.shape[-2], query.shape[-1])
    if operation is None or not query.is_meta or not is_plain or (attn_mask is not None and attn_mask.requires_grad):
        return None
    mask = attn_mask if attn_mask is None or attn_mask.is_floating_point() else attn_mask.to(query.dtype)
    return operation(query, key, value, 0.0, is_causal, attn_mask=mask, scale=scale)[0]


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _keys(value: Any) -> set[int]:
    return {_key(tensor) for tensor in _tensors(value)} - {0}


def _key(tensor: Tensor) -> int:
    """Return what tells the memory of a tensor apart, 0 for a kind of tensor that has none of its own."""
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return 0
