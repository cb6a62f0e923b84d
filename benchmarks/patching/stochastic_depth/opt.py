"""Stochastic depth in OPT, by hand. Its feed-forward part has one axis for examples and places together."""

from torch import nn

from heuretic.nn.stochastic_depth import drop_paths


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    for i, layer in enumerate(model.model.decoder.layers):
        layer.register_forward_pre_hook(lambda layer, args: setattr(layer, "shape", args[0].shape))
        for j, part in enumerate([layer.self_attn.out_proj, layer.fc2], 2 * i + 1):
            part.register_forward_hook(
                lambda m, _, y, layer=layer, rate=0.2 * j / 4: (
                    drop_paths(y.view(layer.shape), rate).view_as(y) if m.training else y
                )
            )
