"""Auxiliary batch normalisation in this library's mobile network, by hand."""

from torch import nn

from heuretic.nn import AuxiliaryBatchNorm


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    for name, norm in [*model.named_modules()]:
        if isinstance(norm, nn.BatchNorm2d):
            new = AuxiliaryBatchNorm(norm.num_features, norm.eps, norm.momentum)
            new.load_state_dict(norm.state_dict())
            model.set_submodule(name, new)
