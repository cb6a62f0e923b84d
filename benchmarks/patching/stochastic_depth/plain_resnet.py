"""Stochastic depth in a plain residual network, by hand."""

from torch import nn

from heuretic.nn.stochastic_depth import drop_paths


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    parts = [block.bn2 for block in [*model.layer1, *model.layer2]]
    for i, part in enumerate(parts, 1):
        part.register_forward_hook(lambda m, _, y, rate=0.2 * i / len(parts): drop_paths(y, rate) if m.training else y)
