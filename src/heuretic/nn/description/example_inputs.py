"""An input that a model can be run with, found in the model where it is not given."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from heuretic.symbolic.errors import brief

#: What a model is run with: the shape of one tensor, a tensor, several of them in order, or several by name.
Input = Tensor | Sequence[int] | Sequence[Tensor] | Mapping[str, Any]

_DEFAULT = (1, 3, 224, 224)
_TOKENS = 128


def example_shape(module: nn.Module) -> tuple[int, ...]:
    """Return a shape that `module` can probably take, with a batch of one.

    That is what the configuration of a model from transformers or timm says; else it follows from the first layer:
    channels of a convolution with 224 places a side, features of an `nn.Linear`, tokens of an `nn.Embedding`; else it is
    an image of 3 x 224 x 224.
    """
    config = getattr(module, "config", None)
    if _takes_tokens(module):
        longest = getattr(config, "max_position_embeddings", None)
        return 1, min(_TOKENS, longest) if isinstance(longest, int) and longest > 0 else _TOKENS
    channels, size = getattr(config, "num_channels", None), getattr(config, "image_size", None)
    if isinstance(channels, int) and size:
        return 1, channels, *((size, size) if isinstance(size, int) else size)
    published = getattr(module, "pretrained_cfg", None)
    if isinstance(published, Mapping) and published.get("input_size"):
        return 1, *published["input_size"]
    first = _first_layer(module)
    if isinstance(first, nn.Linear) and first.in_features:
        return 1, first.in_features
    for kind, places in ((nn.Conv1d, (224,)), (nn.Conv2d, (224, 224)), (nn.Conv3d, (16, 224, 224))):
        if isinstance(first, kind) and first.in_channels:  # a lazy one has none yet
            return 1, first.in_channels, *places
    return _DEFAULT


def made_input(module: nn.Module, given: Input | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments for a call of `module`: tensors on its device, zeros where only a shape is given.

    Zeros have the floating dtype of the module's weights; they are int64 if the module takes tokens.
    Raises: TypeError if `given` is no shape, tensor, sequence or mapping of tensors.
    """
    weight = next((p for p in module.parameters() if p.is_floating_point()), None)
    device = torch.device("cpu") if weight is None else weight.device
    given = example_shape(module) if given is None else given
    if isinstance(given, Tensor):
        return (given.to(device),), {}
    if isinstance(given, Mapping):
        return (), {name: _moved(value, device) for name, value in given.items()}
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise TypeError(f"input must be a shape, a tensor, or tensors in a tuple or mapping, got {brief(given)}")
    if all(isinstance(size, int) for size in given):
        floating = torch.float32 if weight is None else weight.dtype
        dtype = torch.int64 if _takes_tokens(module) else floating
        return (torch.zeros([int(size) for size in given], dtype=dtype, device=device),), {}  # type: ignore[arg-type]
    if any(isinstance(value, int) for value in given):
        raise TypeError("input must be a shape or tensors, got both in one")
    return tuple(_moved(value, device) for value in given), {}


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def _takes_tokens(module: nn.Module) -> bool:
    if getattr(module, "config", None) is not None and hasattr(module, "main_input_name"):  # a model of transformers
        return module.main_input_name == "input_ids"
    return isinstance(_first_layer(module), nn.Embedding)


def _first_layer(module: nn.Module) -> nn.Module | None:
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.Embedding)
    return next((part for part in module.modules() if isinstance(part, kinds)), None)
