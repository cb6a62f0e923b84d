"""Mixed kernels in the last half of the convolutions in this library's mobile network, by hand."""

import torch
from torch import nn

from heuretic.nn import CondConv2d


def edit(model: nn.Module) -> None:
    """Edit `model` in place."""
    convs = [name for name, part in model.named_modules() if isinstance(part, nn.Conv2d) and "excite" not in name]
    for name in convs[len(convs) // 2 :]:
        c = model.get_submodule(name)
        new = CondConv2d(c.in_channels, c.out_channels, c.kernel_size, c.stride, c.padding, 1, c.groups, False)
        nn.init.zeros_(new.routing.linear.weight)
        nn.init.constant_(new.routing.linear.bias, torch.tensor(1 / 8).logit())
        deviations = 0.1 * c.weight.std() * torch.randn_like(new.weight)
        new.weight.data = c.weight.data.flatten() + deviations - deviations.mean(0)
        model.set_submodule(name, new)
