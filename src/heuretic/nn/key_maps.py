"""Weights made elsewhere: state dicts of timm and torchvision under the names that the same models have here.

MobileNetV2, MnasNet-A1, EfficientNet, EfficientNetV2 and CondConv-EfficientNet; residual networks have the same names
everywhere. A state dict does not say how its model normalised and padded, but what comes out depends on it:
`norm_eps` and `padding` say what to build the model with, as in
`hr.replace(efficientnet_b0.program(), norm_eps=norm_eps("efficientnet_b0", "timm"))`. `hr.nn.load` does so.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from heuretic.nn.convolution import Padding

Source = Literal["heuretic", "timm", "torchvision"]
#: By numbers of block and layer: the modules with weights, by their names within the layer.
_Layers = Mapping[tuple[int, int], Mapping[str, str]]

_LAYER = re.compile(r"blocks\.(\d+)\.(\d+)\.(?:path\.)?(?:layers\.)?(.+)")

#: What timm calls the modules of a layer, by the convolutions that the layer has.
_TIMM_LAYERS: Mapping[tuple[str, ...], Mapping[str, str]] = {
    ("expand", "depthwise", "project"): {
        "expand.conv": "conv_pw", "expand.norm": "bn1",
        "depthwise.conv": "conv_dw", "depthwise.norm": "bn2",
        "project.conv": "conv_pwl", "project.norm": "bn3",
    },
    ("depthwise", "project"): {
        "depthwise.conv": "conv_dw", "depthwise.norm": "bn1",
        "project.conv": "conv_pw", "project.norm": "bn2",
    },
    ("expand", "project"): {
        "expand.conv": "conv_exp", "expand.norm": "bn1",
        "project.conv": "conv_pwl", "project.norm": "bn2",
    },
    ("expand",): {"expand.conv": "conv", "expand.norm": "bn1"},
}  # fmt: skip
_TIMM_ALL_LAYERS = {
    "excite.reduce": "se.conv_reduce", "excite.expand": "se.conv_expand", "routing.linear": "routing_fn",
}  # fmt: skip


def source_of(state: Mapping[str, Tensor], own: Collection[str] = ()) -> Source:
    """Return whose names a state dict has; "heuretic" for residual networks, whose names are the same everywhere.

    Args:
        own: Names of the model that the weights are for; if half of them are there, they are "heuretic", whatever it is.
    Raises: ValueError if they are none of these.
    """
    if own and 2 * sum(name in state for name in own) >= len(own):
        return "heuretic"
    if "conv_stem.weight" in state:
        return "timm"
    if "features.0.0.weight" in state:
        return "torchvision"
    if "stem.conv.weight" in state or {"conv1.weight", "layer1.0.conv1.weight"} <= state.keys():
        return "heuretic"
    raise ValueError(
        f"state must have the names of heuretic, timm or torchvision, got {_some(state)}. Try the state dict "
        "itself, without a prefix such as 'module.'"
    )


def names(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, str]:
    """Return, for each key in the state dict of `model`, what it is called in `state`, whether it is there or not.

    Raises: ValueError if the names in `state` are unknown, or belong to another family of models.
    """
    keys = model.state_dict().keys()
    source = source_of(state, keys)
    if source == "heuretic":
        return {key: key for key in keys}
    layers: dict[tuple[int, int], dict[str, str]] = {}
    for key in keys:
        module = key.rpartition(".")[0]
        if found := _LAYER.fullmatch(module):
            layers.setdefault((int(found[1]), int(found[2])), {})[found[3]] = module
    try:
        if source == "timm":
            modules = _timm(layers)
        elif any(key.startswith("features.1.conv.") for key in state):
            modules = _torchvision_mobilenet(layers)
        else:
            modules = _torchvision(layers)
        return {key: f"{modules[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}" for key in keys}
    except KeyError as error:
        raise ValueError(
            f"state must be of the same family as the model, got names of {source}, which has none for {error.args[0]} of "
            f"{type(model).__name__}. Try the model that the weights were made for"
        ) from None


def translated(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return `state` as a state dict of `model`, whole: what `model.load_state_dict` takes.

    Tensors are those of `state`, not copies. Counts of batches, which old weights lack, are zero then.

    Raises: ValueError naming a key if one is missing, left over, or of another shape.
    """
    wanted, called = model.state_dict(), names(state, model)
    name, known = type(model).__name__, set(called.values())
    missing = [called[key] for key in wanted if called[key] not in state and not _is_count(key)]
    if missing:
        raise ValueError(
            f"state must have all weights of this {name}, got none for {_some(missing)}. Try the model that the weights "
            "were made for"
        )
    surplus = [key for key in state if key not in known]
    if surplus:
        raise ValueError(
            f"state must have nothing but the weights of this {name}, got also {_some(surplus)}. Try the model that the "
            "weights were made for"
        )
    return {
        key: _shaped(state[called[key]], called[key], key, like)
        if called[key] in state
        else torch.zeros((), dtype=like.dtype)
        for key, like in wanted.items()
    }


def norm_eps(architecture: str, source: Source = "heuretic") -> float:
    """Return the eps of batch normalisation that weights were trained with.

    Args:
        architecture: Its name where the weights are from: "efficientnet_b5", "tf_efficientnet_b0.ns_jft_in1k".
    """
    name = architecture.partition(".")[0]
    if source == "timm":
        large = name.startswith("tf_")
    elif source == "torchvision":
        large = name.startswith("efficientnet_v2") or name in ("efficientnet_b5", "efficientnet_b6", "efficientnet_b7")
    else:
        large = "efficientnet" in name
    return 1e-3 if large else 1e-5


def padding(architecture: str, source: Source = "heuretic") -> Padding:
    """Return the padding of strided layers that weights were trained with: timm's `tf_*` with that of TensorFlow.

    Args:
        architecture: Its name where the weights are from.
    """
    return "same" if source == "timm" and architecture.startswith("tf_") else "symmetric"


def _timm(layers: _Layers) -> dict[str, str]:
    found = {
        "stem.conv": "conv_stem", "stem.norm": "bn1", "head.conv": "conv_head", "head.norm": "bn2",
        "classifier": "classifier",
    }  # fmt: skip
    for (block, layer), modules in layers.items():
        called = {**_TIMM_LAYERS.get(_parts(modules, "expand", "depthwise", "project"), {}), **_TIMM_ALL_LAYERS}
        for name, module in modules.items():
            found[module] = f"blocks.{block}.{layer}.{called[name]}"
    return found


def _torchvision(layers: _Layers) -> dict[str, str]:
    found = _torchvision_ends(head=len({block for block, _ in layers}) + 1)
    for (block, layer), modules in layers.items():
        called = {}
        for index, part in enumerate(_parts(modules, "expand", "depthwise", "excite", "project")):
            if part == "excite":
                called |= {"excite.reduce": f"{index}.fc1", "excite.expand": f"{index}.fc2"}
            else:
                called |= {f"{part}.conv": f"{index}.0", f"{part}.norm": f"{index}.1"}
        for name, module in modules.items():
            found[module] = f"features.{block + 1}.{layer}.block.{called[name]}"
    return found


def _torchvision_mobilenet(layers: _Layers) -> dict[str, str]:
    """MobileNetV2 numbers its layers through, and does not wrap convolutions without activation."""
    found = _torchvision_ends(head=len(layers) + 1)
    for number, place in enumerate(sorted(layers), 1):
        called = {}
        for index, part in enumerate(_parts(layers[place], "expand", "depthwise", "project")):
            conv, norm = (f"{index}", f"{index + 1}") if part == "project" else (f"{index}.0", f"{index}.1")
            called |= {f"{part}.conv": conv, f"{part}.norm": norm}
        for name, module in layers[place].items():
            found[module] = f"features.{number}.conv.{called[name]}"
    return found


def _torchvision_ends(head: int) -> dict[str, str]:
    return {
        "stem.conv": "features.0.0", "stem.norm": "features.0.1", "head.conv": f"features.{head}.0",
        "head.norm": f"features.{head}.1", "classifier": "classifier.1",
    }  # fmt: skip


def _parts(modules: Iterable[str], *known: str) -> tuple[str, ...]:
    """Return which of the known parts a layer has, in that order."""
    present = {name.partition(".")[0] for name in modules}
    return tuple(part for part in known if part in present)


def _shaped(tensor: Tensor, called: str, key: str, like: Tensor) -> Tensor:
    if tensor.shape == like.shape:
        return tensor
    hint = "Try the model that the weights were made for"
    if key.startswith(("classifier.", "fc.")):
        hint = f"Try a model with classes={len(tensor)}, and another classifier afterwards"
    elif key in ("stem.conv.weight", "conv1.weight") and len(tensor) == len(like):
        hint = f"Try a model with in_channels={tensor.shape[1]}"
    raise ValueError(f"{called} must have shape {tuple(like.shape)}, got {tuple(tensor.shape)}, for {key}. {hint}")


def _is_count(key: str) -> bool:
    return key.endswith(".num_batches_tracked")


def _some(keys: Iterable[str]) -> str:
    """Return the first keys, and how many more there are."""
    first, *others = [*keys] or ["none"]
    return first if not others else f"{first} and {len(others)} more"
