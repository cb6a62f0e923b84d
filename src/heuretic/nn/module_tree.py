"""How patches read and edit built `torch.nn.Module`s: the adapter published for them."""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from heuretic.nn.costs import built_without_weights
from heuretic.symbolic import Call, PatchError, build
from heuretic.symbolic.errors import Key, brief
from heuretic.symbolic.names import Name
from heuretic.symbolic.values import Node

_HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip
#: Where a module keeps its program; no name that a module could have.
_PROGRAM = "heuretic:program"
_NAMED_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


class ModuleTree:
    """`heuretic.symbolic.Adapter` for modules: submodules are the children, their names (or positions) the keys."""

    def copy(self, root: nn.Module) -> nn.Module:
        """Return a deep copy, with its own weights; weights tied in `root` are tied in the copy."""
        return copy.deepcopy(root)

    def children(self, node: nn.Module) -> Iterator[tuple[Key, nn.Module]]:
        """Yield (key, submodule) of the direct submodules, one that has two names twice.

        Keys are positions in `nn.Sequential` and `nn.ModuleList`, names elsewhere.
        """
        positions = isinstance(node, nn.Sequential | nn.ModuleList)
        for name, child in node._modules.items():
            if child is not None:
                yield (int(name) if positions and name.isdecimal() else name), child

    def fit(self, old: nn.Module, new: Any) -> nn.Module:
        """Return `new`, built if it is a program, with what it can keep of `old`.

        Every parameter and buffer of `new` that has the name and shape of one of `old` becomes that very tensor, so
        weights tied to others stay tied. The rest moves to the device and floating dtype of `old`. Training mode,
        and forward and backward hooks where `new` has none, are those of `old`.

        Raises: PatchError if `new` is no module.
        """
        module: Any = build(new) if isinstance(new, Node) else new
        if not isinstance(module, nn.Module):
            raise PatchError(
                f"a rule must return a module, or a program that builds one, for {type(old).__name__}, got {brief(module)}"
            )
        _keep_tensors(old, module)
        _move_like(old, module)
        modes = {part: part.training for part in old.modules() if part is not old}
        module.train(old.training)
        for part in module.modules():  # parts of the old one stay as they are: some may be frozen
            part.training = modes.get(part, part.training)
        for name in _HOOKS:
            hooks = getattr(module, name)
            if not hooks and getattr(old, name) is not hooks:
                hooks.update(getattr(old, name))
                if name == "_backward_hooks":
                    module._is_full_backward_hook = old._is_full_backward_hook
        return module

    def assign(self, parent: nn.Module, key: Key, child: nn.Module) -> None:
        """Set the submodule of `parent` called `key`, in place.

        Where the former one had no weights, those of `child` move to the device and floating dtype of `parent`.
        """
        former = parent._modules.get(str(key))
        if former is not None and not _tensors(former):
            _move_like(parent, child)
        _set(parent, str(key), child)

    def replace(self, node: nn.Module, changes: Mapping[str, Any]) -> nn.Module:
        """Return a copy of `node` with attributes changed; parameters and submodules not named are shared.

        A module with weights of its own (`nn.Conv2d`) is made anew if a changed attribute is an argument of its
        class (`kernel_size`), because weights may depend on it: weights whose shape still fits are shared, the rest
        are initialised by the class.

        Raises: AttributeError if `node` has no such attribute, PatchError if it would have to be made anew but does
        not store the arguments of its class.
        """
        for name in changes:
            if not hasattr(node, name):
                raise AttributeError(
                    f"{type(node).__name__} has no attribute {name!r}. Try one of: {_attributes(node)}"
                )
        made_of = inspect.signature(type(node).__init__).parameters
        if node._parameters and any(n in made_of and not isinstance(v, Tensor | None) for n, v in changes.items()):
            return self.fit(node, _remade(node, changes))
        result = copy.copy(node)
        result.__dict__.pop(_PROGRAM, None)
        for name, value in node.__dict__.items():
            if name.startswith("_") and isinstance(
                value, dict | set | list
            ):  # what torch keeps of weights, parts and hooks
                result.__dict__[name] = value.copy()
        for name, value in changes.items():
            _set(result, name, build(value) if isinstance(value, Node) else value)
        return result

    def finish(self, root: nn.Module) -> None:
        """Switch off nested tensors in each `nn.TransformerEncoder` that has a layer without fused fast path.

        Only the fused path understands nested tensors, and it knows no activation but ReLU and GELU.
        """
        for module in root.modules():
            if isinstance(module, nn.TransformerEncoder) and getattr(module, "use_nested_tensor", False):
                module.use_nested_tensor = all(getattr(layer, "activation_relu_or_gelu", 0) for layer in module.layers)

    def remember(self, root: nn.Module, program: Any) -> None:
        """Keep the program in the module's `__dict__`, where copies and pickles take it along."""
        if program is None:
            root.__dict__.pop(_PROGRAM, None)
        else:
            root.__dict__[_PROGRAM] = program

    def program(self, root: nn.Module) -> Any:
        """Return the program that `remember` kept, or None."""
        return root.__dict__.get(_PROGRAM)

    def outline(self, root: nn.Module) -> Call:
        """Return the module as a call of its class by name, with its settings as text, shapes of its tensors, and parts."""
        name = Name(f"{type(root).__module__}:{type(root).__qualname__}", "class")
        own = {
            tensor_name: "x".join(map(str, tensor.shape)) or "scalar"
            for kind in (root._parameters, root._buffers)
            for tensor_name, tensor in kind.items()
            if tensor is not None
        }
        settings = {"settings": root.extra_repr()} if root.extra_repr() else {}
        # those that are shown by their address would differ in every copy and be taken for edits
        hooks = [repr(hook) for hook in root._forward_hooks.values() if " at 0x" not in repr(hook)]
        settings |= {"hooks": ", ".join(hooks)} if hooks else {}
        parts: dict[Key, Any] = {key: self.outline(child) for key, child in self.children(root)}
        everything = {**settings, **own, **parts}
        return Call(name, tuple(everything), tuple(everything.values()))

    def draft(self, program: Any) -> nn.Module | None:
        """Build on torch's meta device; None if that makes no module. Raises: whatever building it there does."""
        made = built_without_weights(program)
        return made if isinstance(made, nn.Module) else None


def _set(module: nn.Module, name: str, value: Any) -> None:
    """Set an attribute, and with the activation of an encoder layer the flag that selects the fused kernel for it."""
    layer = isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer)
    if layer and name == "activation":
        value = _NAMED_ACTIVATIONS.get(value, value) if isinstance(value, str) else value
        if not isinstance(value, nn.Module):
            module._modules.pop(name, None)  # a plain function cannot stand among the submodules
    if isinstance(value, nn.Module):
        module.__dict__.pop(name, None)
    setattr(module, name, value)
    if name == "activation" and isinstance(module, nn.TransformerEncoderLayer):
        relu = value is F.relu or type(value) is nn.ReLU
        gelu = value is F.gelu or (type(value) is nn.GELU and value.approximate == "none")
        module.activation_relu_or_gelu = 1 if relu else 2 if gelu else 0


def _keep_tensors(old: nn.Module, new: nn.Module) -> None:
    for kind, listed in (("_parameters", nn.Module.named_parameters), ("_buffers", nn.Module.named_buffers)):
        former = dict(listed(old, remove_duplicate=False))
        kept = {
            id(tensor): former[name]
            for name, tensor in listed(new, remove_duplicate=False)
            if name in former and former[name].shape == tensor.shape
        }
        for module in new.modules():
            own: dict[str, Tensor | None] = getattr(module, kind)
            for name, tensor in own.items():
                if id(tensor) in kept:
                    setattr(module, name, kept[id(tensor)])  # not own[name] = ...: recurrent modules keep a second list


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _move_like(model: nn.Module, module: nn.Module) -> None:
    """Move the tensors of `module` that are not those of `model` to its device and, floating ones only, its dtype."""
    present = _tensors(model)
    if not present:
        return
    dtype = next((t.dtype for t in present if t.is_floating_point()), None)
    moved = {id(t): t for t in present}
    for part in module.modules():
        for own in (part._parameters, part._buffers):
            for name, tensor in own.items():
                if tensor is None:
                    continue
                if id(tensor) not in moved:
                    new = tensor.detach().to(present[0].device, dtype if tensor.is_floating_point() else None)
                    moved[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if own is part._parameters else new
                if moved[id(tensor)] is not tensor:
                    setattr(part, name, moved[id(tensor)])


def _remade(node: nn.Module, changes: Mapping[str, Any]) -> nn.Module:
    arguments: dict[str, Any] = dict(changes)
    for name in inspect.signature(type(node)).parameters:
        if name in changes or name in ("device", "dtype") or name.startswith("_"):
            continue
        if not hasattr(node, name):
            raise PatchError(
                f"{type(node).__name__} cannot be made anew with {', '.join(changes)} changed: it does not store {name}. "
                f"Try returning a program from the rule: hr.sym({type(node).__name__})(...)"
            )
        value = getattr(node, name)
        arguments[name] = value is not None if name in node._parameters else value
    return type(node)(**arguments)


def _attributes(node: nn.Module) -> str:
    names = [*node.__dict__, *node._parameters, *node._modules]
    return ", ".join(name for name in names if not name.startswith("_"))


ADAPTER = ModuleTree()
