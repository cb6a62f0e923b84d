"""Where the residual paths of a model end, and stochastic depth put there, in models that know nothing of it."""

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heuretic.nn.functional_calls import sketched
from heuretic.nn.module_tree import ADAPTER
from heuretic.nn.stochastic_depth import StochasticDepth, drop_paths
from heuretic.symbolic import Patch, Path, field, replace, rule, walk

_ADDITIONS = frozenset({operator.add, operator.iadd, torch.add, "add", "add_"})
#: How the names of classes end that do nothing or drop paths already, in torch, torchvision, timm and transformers.
_EXCHANGEABLE = ("Identity", "StochasticDepth", "DropPath")


@dataclass(frozen=True, slots=True)
class PathEnd:
    """The module whose output is added to what goes around a residual path.

    Attributes:
        path: Of the module. index: Which of its outputs, if it returns several.
    """

    path: Path
    index: int | None = None


def path_ends(model: nn.Module) -> list[PathEnd]:
    """Return where the residual paths of a model end, in the order of its tree.

    Each module that has submodules is followed through its own `forward` by `torch.fx`. An addition ends a residual path
    if one of its terms comes out of a submodule, and on the other's way from the inputs there are fewer weights. In modules
    that cannot be followed, the submodules that their authors call `drop_path` are taken. Passed over are modules that
    add in a view in which examples and places are one axis (OPT), since there no example can be dropped.
    """
    return list(dict.fromkeys(_all_ends(model)))


def _all_ends(model: nn.Module) -> Iterator[PathEnd]:
    for path, module in walk(model):
        if isinstance(module, nn.TransformerEncoderLayer):
            yield from (PathEnd(Path((*path, name))) for name in ("dropout1", "dropout2"))
        elif isinstance(module, nn.TransformerDecoderLayer):
            yield from (PathEnd(Path((*path, name))) for name in ("dropout1", "dropout2", "dropout3"))
        elif module._modules and not type(module).__module__.startswith("torch.nn."):
            graph = sketched(module)
            named = ((str(key), None) for key, _ in ADAPTER.children(module) if str(key).startswith("drop_path"))
            for target, index in named if graph is None else _ends_in(graph, module):
                yield PathEnd(_under(path, module, target), index)


def _ends_in(graph: torch.fx.Graph, module: nn.Module) -> Iterator[tuple[str, int | None]]:
    for node in () if any(map(_merges_axes, graph.nodes)) else graph.nodes:
        terms = node.args[:2]
        if node.target in _ADDITIONS and len(terms) == 2 and all(isinstance(term, torch.fx.Node) for term in terms):
            first, second = map(_above, terms)
            for term, path, around in ((terms[0], first, second), (terms[1], second, first)):
                last, index = _module_call(term)
                if (
                    last is not None
                    and any(each.op == "placeholder" for each in around)
                    and _weight(path - around, module) > _weight(around - path, module)
                ):
                    yield str(last.target), index
                    break


def _weight(nodes: set[torch.fx.Node], module: nn.Module) -> tuple[int, int]:
    """Return how much is done on a way: parameters, and submodules called."""
    called = [module.get_submodule(str(node.target)) for node in nodes if node.op == "call_module"]
    return sum(p.numel() for part in called for p in part.parameters()), len(called)


def _merges_axes(node: torch.fx.Node) -> bool:
    """Whether examples and places become one axis here."""
    return node.op == "call_method" and node.target in ("reshape", "view") and node.args[1:2] == (-1,)


def _module_call(node: Any) -> tuple[torch.fx.Node | None, int | None]:
    """Return the call of a submodule that makes this value, and which of its outputs the value is.

    Dropout between is no matter: it may as well come after.
    """
    index = None
    while node.target is F.dropout:
        node = node.args[0]
    if node.target is operator.getitem and isinstance(node.args[1], int):
        node, index = node.args[0], node.args[1]
    return (node if node.op == "call_module" else None), index


def _above(node: torch.fx.Node) -> set[torch.fx.Node]:
    """Return a node with all that it is computed from."""
    found, left = set(), [node]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left.extend(one.all_input_nodes)
    return found


def _under(path: Path, module: nn.Module, target: str) -> Path:
    """Return the path of a submodule by the dotted name that torch knows it by."""
    for name in target.split("."):
        key, module = next(child for child in ADAPTER.children(module) if str(child[0]) == name)
        path = Path((*path, key))
    return path


class DropPaths:
    """A forward hook that drops the output of a module, or one of its outputs, for a share of the examples in training.

    Args:
        rate: See `StochasticDepth`. index: Of the output, if there are several.
    """

    def __init__(self, rate: float, index: int | None = None) -> None:
        self.rate, self.index = rate, index

    def __call__(self, module: nn.Module, _: Any, output: Any) -> Any:
        if not module.training or self.rate == 0:
            return output
        if self.index is None or isinstance(output, Tensor):
            return drop_paths(output, self.rate)
        if isinstance(output, Mapping):  # such as outputs of transformers, whose entries have positions, too
            name = [*output][self.index]
            return type(output)(**{**output, name: drop_paths(output[name], self.rate)})
        outputs = list(output)
        outputs[self.index] = drop_paths(outputs[self.index], self.rate)
        return tuple(outputs)

    def __repr__(self) -> str:
        return f"DropPaths(rate={self.rate:.4g})"


class StochasticDepths(Patch):
    """Drop residual paths in training: those of the last layer at `rate`, those before at lower rates, in proportion to their place.

    Finds the paths by `path_ends`, in models that know nothing of it: ours, plain torch, torchvision, timm, transformers.
    Names of weights stay, and in evaluation the outputs are as before. A path's last module is replaced by
    `StochasticDepth` if it does nothing or drops paths already; else it gets a forward hook, `DropPaths`. Our own models
    have an argument `stochastic_depth` for the same.

    Reference: Huang et al. 2016, "Deep Networks with Stochastic Depth", arXiv:1603.09382, equation 4.
    """

    name: ClassVar[str] = "stochastic-depth"
    rate: float = field(default=0.2, ge=0, lt=1, doc="share of examples for which the last path is dropped")

    def survey(self, program: Any) -> Mapping[Path, tuple[float, int | None]]:
        if not isinstance(program, nn.Module):
            return {}
        ends = path_ends(program)
        return {end.path: (self.rate * (i + 1) / len(ends), end.index) for i, end in enumerate(ends)}

    @rule
    def module(self, node: nn.Module, path: Path, ends: Mapping[Path, tuple[float, int | None]]) -> Any:
        if path not in ends or not isinstance(node, nn.Module):
            return node
        rate, index = ends[path]
        if type(node).__name__.endswith(_EXCHANGEABLE) and not [*node.parameters()]:
            return StochasticDepth(rate)
        new = replace(node)
        for handle in [key for key, hook in new._forward_hooks.items() if isinstance(hook, DropPaths)]:
            del new._forward_hooks[handle]
        new.register_forward_hook(DropPaths(rate, index))
        return new
