"""Compound scaling: widths and depths of a whole network grown together."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from heuretic.nn.conditional_convolution import CondConv2d, Routing
from heuretic.nn.mobile_net import Block, MobileNet
from heuretic.nn.resnet import ResNet, Stage
from heuretic.nn.rounding import rounded_up, scaled_channels
from heuretic.symbolic import Call, Open, Patch, PatchError, Path, build, field, find, program_of, replace, rule, walk

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

    def survey(self, program: Any) -> Any:
        return _Resizing(self, program) if isinstance(program, nn.Module) else None

    @rule
    def table(self, node: Block | Stage, path: Path) -> Any:
        changes = self._changes(node, path) if isinstance(node, Call) else {}
        return replace(node, changes) if changes else node

    @rule
    def module(self, node: nn.Module, path: Path, resizing: Any) -> Any:
        if isinstance(node, Call):
            changes = self._changes(node, path)
            return replace(node, changes) if changes else node
        return resizing.part(node, path) if path else resizing.whole(node)

    def of(self, program: Any) -> Any:
        """Return the program of one of our models, scaled."""
        changes = {
            (*path, name): value
            for path, node in find(program, tuple(_TABLES))
            for name, value in self._changes(node, path).items()
        }
        return replace(program, changes)

    def _changes(self, node: Any, path: Path) -> dict[str, int]:
        changes: dict[str, int] = {}
        for name, scale in _TABLES.get(node.__target__, {}).items():
            value = getattr(node, name)
            if isinstance(value, Open):
                raise PatchError(f"efficientnet must be given decided widths and depths, got {value} at {path}.{name}")
            new = self.channels(value) if scale == "width" else self.layers(value)
            if new != value:
                changes[name] = new
        return changes


#: What is wider and what is deeper in the programs of our models.
_TABLES: Mapping[Any, Mapping[str, str]] = {
    Block: {"filters": "width", "layers": "depth"},
    Stage: {"width": "width", "blocks": "depth"},
    MobileNet: {"stem": "width", "head": "width"},
    ResNet: {"stem": "width"},
}


@dataclass(frozen=True, slots=True)
class _Layer:
    """A module with weights whose width can be changed."""

    path: Path
    module: Any
    ins: str
    outs: str


class _Resizing:
    """What is to be done with each module of a built model."""

    def __init__(self, scaling: CompoundScaling, model: nn.Module) -> None:
        self.scaling = scaling
        self.known = _program(model)
        if self.known is not None:
            return
        layers = list(_layers(model))
        if not layers:
            raise PatchError(f"efficientnet must be given a model with convolutions, got {type(model).__name__}")
        self.stages = frozenset(_stages(model))
        self.first, self.last = layers[0].path, layers[-1].path
        self.before: dict[Path, int] = {}
        channels = 0
        for layer in layers:
            self.before[layer.path] = channels
            channels = getattr(layer.module, layer.outs)

    def whole(self, model: nn.Module) -> nn.Module:
        """Return the root, scaled: from its program where that is known, else put together from its parts."""
        if self.known is None:
            return self.part(model, Path(()))
        scaled = self.scaling.of(self.known)
        return model if scaled == self.known else build(scaled)

    def part(self, module: nn.Module, path: Path) -> nn.Module:
        """Return a part, scaled."""
        if self.known is not None:
            return module
        if isinstance(module, nn.Sequential | nn.ModuleList):
            return self._deepened(module) if path in self.stages else module
        changes = self._changes(module, path)
        return replace(module, changes) if changes else module

    def _changes(self, module: Any, path: Path) -> dict[str, Any]:
        wider = self.scaling.channels
        if self.scaling.width**self.scaling.phi == 1:
            return {}
        names = _names(module)
        if names is not None:
            if path not in self.before:
                return {}
            ins, outs = (getattr(module, name) for name in names)
            new_in = ins if path == self.first else self._width_in(ins, path)
            new_out = outs if path == self.last else wider(outs)
            groups = getattr(module, "groups", 1)
            new_groups = new_in if groups == ins > 1 else groups
            if new_in % new_groups or new_out % new_groups:
                raise PatchError(
                    f"efficientnet cannot widen {path}: {groups} groups do not divide {new_in} and {new_out}"
                )
            changes = {names[0]: new_in, names[1]: new_out}
            return (
                changes | ({"groups": new_groups} if new_groups != groups else {})
                if (new_in, new_out) != (ins, outs)
                else {}
            )
        if isinstance(module, _BatchNorm | nn.modules.instancenorm._InstanceNorm):
            return (
                {"num_features": wider(module.num_features)}
                if wider(module.num_features) != module.num_features
                else {}
            )
        if isinstance(module, nn.GroupNorm):
            if wider(module.num_channels) % module.num_groups:
                raise PatchError(f"efficientnet cannot widen {path}: {module.num_groups} groups do not divide it")
            return {"num_channels": wider(module.num_channels)}
        if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
            return {"normalized_shape": (wider(module.normalized_shape[0]),)}
        if module._parameters and not all(p is None or p.numel() == 1 for p in module._parameters.values()):
            raise PatchError(
                f"efficientnet cannot widen {type(module).__name__} at {path or 'the root'}, whose weights it does not know. "
                f"Try width=1, or scale the model's configuration"
            )
        return {}

    def _width_in(self, ins: int, path: Path) -> int:
        """Return the scaled width of an input; one that is a flattened map is widened as the map is."""
        before = self.before[path]
        if before and ins % before == 0:
            return self.scaling.channels(before) * (ins // before)
        return self.scaling.channels(ins)

    def _deepened(self, stage: nn.Sequential | nn.ModuleList) -> nn.Module:
        blocks = list(stage)
        more = self.scaling.layers(len(blocks)) - len(blocks)
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


def _program(model: nn.Module) -> Any:
    """Return the model's program if it shows its widths and depths, else None."""
    try:
        program = program_of(model)
    except ValueError:
        return None
    return program if find(program, (Block, Stage)) else None


def _layers(model: nn.Module) -> Iterator[_Layer]:
    for path, module in walk(model):
        names = _names(module)
        if names is not None and not _inside_routing(model, path):
            yield _Layer(path, module, *names)


def _inside_routing(model: nn.Module, path: Path) -> bool:
    return any(isinstance(part, Routing) for part in _above(model, path))


def _above(model: nn.Module, path: Path) -> Iterator[nn.Module]:
    part: Any = model
    for key in path:
        part = part[key] if isinstance(key, int) else getattr(part, key)
        yield part


def _names(module: Any) -> tuple[str, str] | None:
    return next((names for cls, names in _WIDTHS.items() if isinstance(module, cls)), None)


def _stages(part: nn.Module, path: Path = Path(())) -> Iterator[Path]:
    """Yield the paths of stages, outermost first; what lies inside a block of one is no stage."""
    if isinstance(part, nn.Sequential | nn.ModuleList) and _repeats(list(part)):
        yield path
        return
    positions = isinstance(part, nn.Sequential | nn.ModuleList)
    for name, child in part.named_children():
        yield from _stages(child, Path((*path, int(name) if positions and name.isdecimal() else name)))


def _repeats(blocks: list[nn.Module]) -> bool:
    """Whether one more block fits behind the last: the last two are of one class, of several parts, and give out alike."""
    if len(blocks) < 2 or not blocks[-1]._modules or type(blocks[-1]) is not type(blocks[-2]):
        return False
    before, last = ({name: tuple(t.shape) for name, t in block.named_parameters()} for block in blocks[-2:])
    widths = [(before[name], shape) for name, shape in last.items() if name in before and len(shape) == 1]
    return bool(widths) and widths[-1][0] == widths[-1][1]
