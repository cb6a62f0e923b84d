"""Stochastic depth in BART, by hand."""

from torch import nn

from heuretic.nn.stochastic_depth import drop_paths


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    parts = [part for layer in model.model.encoder.layers for part in (layer.self_attn.out_proj, layer.fc2)]
    for layer in model.model.decoder.layers:
        parts += [layer.self_attn.out_proj, layer.encoder_attn.out_proj, layer.fc2]
    for i, part in enumerate(parts, 1):
        part.register_forward_hook(lambda m, _, y, rate=0.2 * i / len(parts): drop_paths(y, rate) if m.training else y)
