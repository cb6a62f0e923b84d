"""Activations that a `forward` method calls as functions: found by reading it, and turned into modules by `torch.fx`."""

import ast
import inspect
import textwrap
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import FunctionType
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from heuretic.symbolic import Patch, PatchWarning, Path, rule, walk

#: Functions of one tensor, and the module that does the same.
MODULES: Mapping[Callable[..., Any], Callable[[], nn.Module]] = {
    F.relu: nn.ReLU, torch.relu: nn.ReLU, torch.relu_: nn.ReLU, F.relu6: nn.ReLU6, F.gelu: nn.GELU, F.silu: nn.SiLU,
    F.elu: nn.ELU, F.mish: nn.Mish, F.hardswish: nn.Hardswish, F.leaky_relu: nn.LeakyReLU, F.softplus: nn.Softplus,
}  # fmt: skip
#: Names of what these functions take by position behind the tensor; the others take `inplace`.
_SETTINGS: Mapping[Callable[..., Any], tuple[str, ...]] = {
    F.elu: ("alpha",), F.leaky_relu: ("negative_slope",), F.softplus: ("beta", "threshold"),
}  # fmt: skip
RELU = (F.relu, torch.relu, torch.relu_, F.relu6)
_METHODS = {"relu": F.relu, "relu_": F.relu}


@dataclass(frozen=True, slots=True)
class FunctionalCall:
    """An activation called in a `forward` method.

    Attributes:
        path: Of the module whose method it is. name: As it is written there. line: In `file`.
    """

    path: Path
    function: Callable[..., Any]
    name: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.path or 'the root'} calls {self.name} at {self.file.rpartition('/')[2]}:{self.line}"


def functional_calls(
    model: nn.Module, functions: Collection[Callable[..., Any]] = tuple(MODULES)
) -> list[FunctionalCall]:
    """Return the calls of `functions` in the `forward` methods of a model's modules, in the order of its tree.

    Found in the source, so calls in other methods and helper functions are not seen; torch's own modules are left out.
    """
    found: list[FunctionalCall] = []
    for path, module in walk(model):
        is_activation = not module._modules and not module._parameters  # such as those of transformers
        if not is_activation and not type(module).__module__.startswith("torch."):
            for function, name, line in _calls_in(getattr(type(module), "forward", None)):
                if function in functions:
                    file = inspect.getsourcefile(type(module).forward) or type(module).__module__
                    found.append(FunctionalCall(path, function, name, file, line))
    return found


def warn_of(model: Any, functions: Collection[Callable[..., Any]], patch: str) -> None:
    """Warn of activations in `model` that are called as functions, where no patch of modules can reach them."""
    calls = functional_calls(model, functions) if isinstance(model, nn.Module) else []
    if calls:
        shown = "; ".join(map(str, calls[:5])) + (f"; and {len(calls) - 5} more" if len(calls) > 5 else "")
        warnings.warn(
            f"{patch} cannot reach activations that are called as functions: {shown}. "
            f"Try hr.apply(model, 'heuretic.nn:ExposeActivations', ...) first, which makes modules of them",
            PatchWarning,
            stacklevel=5,
        )


class ExposeActivations(Patch):
    """Make modules of the activations that `forward` methods call as functions, so that other patches reach them.

    Each module with such calls is traced by `torch.fx`, with its submodules as they are: names of weights stay, and the
    output is the same. Left as they are, with a warning that names the place: modules whose `forward` fx cannot follow
    (control flow that depends on tensors), and those that read `self.training`, which a trace would fix.
    """

    name: ClassVar[str] = "expose-activations"

    def survey(self, program: Any) -> Any:
        return {call.path for call in functional_calls(program)} if isinstance(program, nn.Module) else set()

    @rule
    def module(self, node: nn.Module, path: Path, calling: set[Path]) -> Any:
        return _exposed(node, path) if path in calling and isinstance(node, nn.Module) else node


class _Shallow(torch.fx.Tracer):
    """Follows one module's own `forward` and records its submodules as calls."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


class _Sketching(_Shallow):
    """Follows a `forward` as it runs when no optional arguments but those named are given, and no condition on tensors holds.

    Such conditions are mostly about what goes wrong: half precision that overflows, shapes that do not fit.
    """

    def __init__(self, *named: str) -> None:
        super().__init__()
        self.named = named

    def to_bool(self, obj: torch.fx.Proxy) -> bool:
        return False

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        arguments: list[Any] = [self.root]
        for name, parameter in list(inspect.signature(root_fn).parameters.items())[1:]:
            if parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
                given = parameter.default is inspect.Parameter.empty or name in self.named
                arguments.append(self.create_proxy("placeholder", name, (), {}) if given else parameter.default)
        return root_fn, arguments


def sketched(module: nn.Module) -> torch.fx.Graph | None:
    """Return the graph of a module's own `forward`, to look at and not to run: optional arguments and the mode are fixed.

    What a decoder of `transformers` does with the encoder's output is in it. None where `torch.fx` cannot follow it.
    """
    for named in (("encoder_hidden_states",), ()):
        try:
            return _Sketching(*named).trace(module)
        except Exception:  # also the module's own, such as that it has no cross-attention
            continue
    return None


def traced(module: nn.Module) -> torch.fx.Graph:
    """Return the graph of a module's own `forward`, in which its submodules are single calls.

    Raises: ValueError saying why if that is not possible.
    """
    if _reads_training(type(module).forward):
        raise ValueError("its forward reads self.training, which a trace would fix")
    try:
        return _Shallow().trace(module)
    except Exception as error:
        raise ValueError(f"torch.fx cannot follow its forward: {str(error).partition(chr(10))[0][:120]}") from error


def _exposed(module: nn.Module, path: Path) -> nn.Module:
    try:
        graph = traced(module)
    except ValueError as error:
        warnings.warn(
            f"expose-activations left {path or 'the root'} ({type(module).__name__}) as it is: {error}",
            PatchWarning,
            stacklevel=2,
        )
        return module
    result = torch.fx.GraphModule(module, graph, type(module).__name__)
    for kind in ("_modules", "_parameters", "_buffers"):  # what forward does not use is part of the state all the same
        own, kept = getattr(module, kind), getattr(result, kind)
        kept.update({name: part for name, part in own.items() if name not in kept})
    result.__dict__.update({
        name: value for name, value in module.__dict__.items() if not name.startswith("_") and name not in result.__dict__
    })  # fmt: skip
    for node in list(graph.nodes):
        function = node.target if node.op == "call_function" else _METHODS.get(str(node.target))
        if node.op not in ("call_function", "call_method") or function not in MODULES:
            continue
        settings = {name: value for name, value in node.kwargs.items() if name != "inplace"}
        act = MODULES[function](**settings, **_positional(function, node.args[1:]))  # type: ignore[call-arg]
        name = _free(result, type(act).__name__.lower())
        result.add_module(name, act)
        with graph.inserting_after(node):
            new = graph.call_module(name, node.args[:1])
        node.replace_all_uses_with(new)
        graph.erase_node(node)
    result.recompile()
    return result


def _positional(function: Callable[..., Any], given: tuple[Any, ...]) -> dict[str, Any]:
    """Return by name the settings that a call gives by position behind the tensor; built-in functions have no signature."""
    names = _SETTINGS.get(function, ("inplace",))
    return {name: value for name, value in zip(names, given, strict=False) if name != "inplace"}


def _free(module: nn.Module, name: str) -> str:
    number, free = 1, f"{name}_1"
    while hasattr(module, free):
        number += 1
        free = f"{name}_{number}"
    return free


@lru_cache(maxsize=1024)
def _source(forward: Any) -> tuple[ast.AST, int] | None:
    """Return the syntax tree of a method and the line before its first, or None if there is no source."""
    try:
        lines, first = inspect.getsourcelines(forward)
        return ast.parse(textwrap.dedent("".join(lines))), first - 1
    except (OSError, TypeError, SyntaxError):
        return None


@lru_cache(maxsize=1024)
def _calls_in(forward: Any) -> tuple[tuple[Callable[..., Any], str, int], ...]:
    source = _source(forward)
    if source is None:
        return ()
    tree, before = source
    names = inspect.unwrap(forward).__globals__ if isinstance(inspect.unwrap(forward), FunctionType) else {}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = _value(node.func, names)
            if function is None and isinstance(node.func, ast.Attribute) and not node.args:
                function = _METHODS.get(node.func.attr) if not _is_module_call(node.func) else None
            if isinstance(function, Callable) and _hashable_in(function, MODULES):
                found.append((function, ast.unparse(node.func), before + node.lineno))
    return tuple(found)


def _is_module_call(function: ast.Attribute) -> bool:
    """Whether this is `self.relu`, a submodule, and not the method of a tensor."""
    return isinstance(function.value, ast.Name) and function.value.id == "self"


def _value(expression: ast.expr, names: Mapping[str, Any]) -> Any:
    """Return the object that `F.relu` or `torch.nn.functional.relu` names, or None."""
    if isinstance(expression, ast.Name):
        return names.get(expression.id)
    if isinstance(expression, ast.Attribute):
        owner = _value(expression.value, names)
        return None if owner is None else getattr(owner, expression.attr, None)
    return None


def _hashable_in(value: Any, table: Mapping[Any, Any]) -> bool:
    try:
        return value in table
    except TypeError:
        return False


@lru_cache(maxsize=1024)
def _reads_training(forward: Any) -> bool:
    source = _source(forward)
    return source is not None and any(
        isinstance(node, ast.Attribute) and node.attr == "training" for node in ast.walk(source[0])
    )
