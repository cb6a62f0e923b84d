"""Compound scaling: widths and depths of a whole network grown together."""

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, cast

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from heuretic.nn.conditional_convolution import CondConv2d, Routing
from heuretic.nn.mobile_net import Block, MobileNet
from heuretic.nn.module_tree import ADAPTER
from heuretic.nn.resnet import ResNet, Stage
from heuretic.nn.rounding import rounded_up, scaled_channels
from heuretic.symbolic import Open, Patch, PatchError, Path, build, field, find, program_of, replace, rule, walk

#: Modules with weights whose widths can be changed, and the arguments that are widths in and out.
_WIDTHS: Mapping[type[nn.Module], tuple[str, str]] = {
    _ConvNd: ("in_channels", "out_channels"),
    CondConv2d: ("in_channels", "out_channels"),
    nn.Linear: ("in_features", "out_features"),
}


class CompoundScaling(Patch):
    """Grow a network: `width` ** phi times the channels, `depth` ** phi times the layers of each stage.

    Larger images belong to it: `size(224)` says how large. Works on programs of our models and on built models, also of
    others: every convolution, linear layer and normalisation is widened, but for what the first takes in and the last
    gives out; every stage, an `nn.Sequential` or `nn.ModuleList` of blocks that ends in two of one class and width, gets more
    of the last. Weights are kept where their shapes are (with width 1: all but those of the added blocks); the rest is
    initialised anew. A checkpoint of the model before therefore does not fit.

    Reference: Tan & Le 2019, "EfficientNet", arXiv:1905.11946, section 3.3, where depth, width and resolution are called
    alpha, beta, gamma. Rounding: that of the authors' code.
    """

    name: ClassVar[str] = "efficientnet"
    phi: float = field(default=1.0, gt=0, doc="exponent of all three")
    depth: float = field(default=1.2, gt=0, doc="layers over those before, at phi 1")
    width: float = field(default=1.1, gt=0, doc="channels over those before, at phi 1")
    resolution: float = field(default=1.15, gt=0, doc="side of images over that before, at phi 1")
    divisor: int = field(default=8, ge=1, doc="channels are rounded to multiples of it")

    def size(self, side: int) -> int:
        """Return the side of images that belongs to the scaled network, given that for the network before."""
        return round(side * self.resolution**self.phi)

    def channels(self, before: int) -> int:
        """Return the channels of the scaled network, given those before."""
        factor = self.width**self.phi
        return before if factor == 1 else scaled_channels(before, factor, self.divisor)

    def layers(self, before: int) -> int:
        """Return the layers of a stage of the scaled network, given those before."""
        return rounded_up(before * self.depth**self.phi)

    def survey(self, program: Any) -> Mapping[Path, Callable[[Any], Any]]:
        """Return by path how those modules of a built model that change are made anew."""
        if not isinstance(program, nn.Module):
            return {}
        known = _program(program)
        if known is None:
            widened = {path: partial(replace, **changes) for path, changes in self._widened(program).items()}
            return widened | dict.fromkeys(_stages(program), self._deepened)
        scaled = self.of(known)
        return {} if scaled == known else {Path(()): lambda _: build(scaled)}

    @rule
    def part(self, node: Block | Stage | nn.Module, path: Path, edits: Mapping[Path, Callable[[Any], Any]]) -> Any:
        if isinstance(node, nn.Module):
            return edits[path](node) if path in edits else node
        return replace(node, self._of_table(node, path))

    def of(self, program: Any) -> Any:
        """Return the program of one of our models, scaled."""
        changes = {
            (*path, name): value
            for path, node in find(program, tuple(_TABLES))
            for name, value in self._of_table(node, path).items()
        }
        return replace(program, changes)

    def _of_table(self, node: Any, path: Path) -> dict[str, int]:
        wanted: dict[str, int] = {}
        for name, scale in _TABLES.get(node.__target__, {}).items():
            value = getattr(node, name)
            if isinstance(value, Open):
                raise PatchError(f"efficientnet must be given decided widths and depths, got {value} at {path}.{name}")
            wanted[name] = self.channels(value) if scale == "width" else self.layers(value)
        return _unlike(node, wanted)

    def _widened(self, model: nn.Module) -> dict[Path, dict[str, Any]]:
        """Return the widths that change in a model of somebody else, by the paths of their modules."""
        routings = [path for path, _ in find(model, Routing)]
        modules = {path: part for path, part in walk(model) if not any(path[: len(r)] == r for r in routings)}
        layers = [path for path, part in modules.items() if _names(part)]
        if not layers:
            raise PatchError(f"efficientnet must be given a model with convolutions, got {type(model).__name__}")
        if self.width**self.phi == 1:
            return {}
        wanted: dict[Path, dict[str, Any]] = {}
        before = 0
        for path, part in modules.items():
            names = _names(part)
            if names is None:
                wanted[path] = self._of_norm(part, path)
                continue
            ins, outs = (getattr(part, name) for name in names)
            new_in = ins if path == layers[0] else self._width_in(ins, before)
            new_out = outs if path == layers[-1] else self.channels(outs)
            wanted[path] = {names[0]: new_in, names[1]: new_out}
            groups = getattr(part, "groups", 1)
            if groups == ins > 1:
                wanted[path]["groups"] = groups = new_in
            _check_groups(path, groups, new_in, new_out)
            before = outs
        changes = {path: _unlike(modules[path], each) for path, each in wanted.items()}
        return {path: each for path, each in changes.items() if each}

    def _of_norm(self, module: Any, path: Path) -> dict[str, Any]:
        if isinstance(module, _BatchNorm | nn.modules.instancenorm._InstanceNorm):
            return {"num_features": self.channels(module.num_features)}
        if isinstance(module, nn.GroupNorm):
            _check_groups(path, module.num_groups, self.channels(module.num_channels))
            return {"num_channels": self.channels(module.num_channels)}
        if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
            return {"normalized_shape": (self.channels(module.normalized_shape[0]),)}
        if any(p is not None and p.numel() != 1 for p in module._parameters.values()):
            raise PatchError(
                f"efficientnet cannot widen {type(module).__name__} at {path or 'the root'}, whose weights it does not know. "
                f"Try width=1, or scale the model's configuration"
            )
        return {}

    def _width_in(self, ins: int, before: int) -> int:
        """Return the scaled width of an input, given the channels before; a flattened map is widened as the map is."""
        if before and ins % before == 0:
            return self.channels(before) * (ins // before)
        return self.channels(ins)

    def _deepened(self, stage: nn.Sequential | nn.ModuleList) -> nn.Module:
        blocks = list(stage)
        more = self.layers(len(blocks)) - len(blocks)
        if more == 0:
            return stage
        new = replace(cast(Any, stage))
        for _ in range(-more):
            del new[-1]
        for _ in range(more):
            block = copy.deepcopy(blocks[-1])
            for part in block.modules():
                reset = getattr(part, "reset_parameters", None)
                if callable(reset):
                    reset()
            new.append(block)
        return new


#: What is wider and what is deeper in the programs of our models.
_TABLES: Mapping[Any, Mapping[str, str]] = {
    Block: {"filters": "width", "layers": "depth"},
    Stage: {"width": "width", "blocks": "depth"},
    MobileNet: {"stem": "width", "head": "width"},
    ResNet: {"stem": "width"},
}


def _program(model: nn.Module) -> Any:
    """Return the model's program if it shows its widths and depths, else None."""
    try:
        program = program_of(model)
    except ValueError:
        return None
    return program if find(program, (Block, Stage)) else None


def _names(module: Any) -> tuple[str, str] | None:
    return next((names for cls, names in _WIDTHS.items() if isinstance(module, cls)), None)


def _unlike(node: Any, wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in wanted.items() if getattr(node, name) != value}


def _check_groups(path: Path, groups: int, *widths: int) -> None:
    if any(width % groups for width in widths):
        shown = " and ".join(map(str, widths))
        raise PatchError(f"efficientnet cannot widen {path}: {groups} groups do not divide {shown}")


def _stages(part: nn.Module, path: Path = Path(())) -> Iterator[Path]:
    """Yield the paths of stages, outermost first; what lies inside a block of one is no stage."""
    if isinstance(part, nn.Sequential | nn.ModuleList) and _repeats(list(part)):
        yield path
        return
    for key, child in ADAPTER.children(part):
        yield from _stages(child, Path((*path, key)))


def _repeats(blocks: list[nn.Module]) -> bool:
    """Whether one more block fits behind the last: the last two are of one class, of several parts, and give out alike."""
    if len(blocks) < 2 or not blocks[-1]._modules or type(blocks[-1]) is not type(blocks[-2]):
        return False
    before, last = ({name: tuple(t.shape) for name, t in block.named_parameters()} for block in blocks[-2:])
    widths = [(before[name], shape) for name, shape in last.items() if name in before and len(shape) == 1]
    return bool(widths) and widths[-1][0] == widths[-1][1]
