"""The arithmetic of Lion in torch operations, for lists of tensors of one device and the same dtypes.

All that use it round alike: they do the same operations in the same order, in float64 for weights in float64 and in
float32 for all others, and round to narrower weights and momenta once, when these are written. To go up the gradient,
step and decay change their signs, which does the same as turning the gradient around and costs no copy.
"""

# pyright: reportPrivateImportUsage=false
# torch names its calls for lists of tensors so, and documents them
from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import Parameter

from heuretic.train.optimizers.blockwise import BLOCK, quantized, restored

#: Weights in a tile: on a CPU as many as stay in its cache from one operation to the next; on other devices so many that
#: starting the operations takes no time to speak of, and few enough for temporary copies that are small beside a large network.
CPU_TILE, DEVICE_TILE = 1 << 15, 1 << 25

#: (parameter, gradient, momentum, scales of its blocks if it is kept in 8 bits), shapes alike but for the scales.
Entry = tuple[Tensor, Tensor, Tensor, Tensor | None]


def update_together(
    entries: list[Entry], *, step: float | Tensor, decay: float, weight1: float, weight2: float
) -> None:
    """Do a step of Lion in place, by a few calls for all tensors.

    Args:
        step: -lr, or lr to go up the gradient. decay: Weight decay, its negative to go up the gradient.
        weight1, weight2: 1 - beta1 and 1 - beta2.
    """
    params, gradients, kept, scales = (list(column) for column in zip(*entries, strict=True))
    real = torch.float64 if params[0].dtype is torch.float64 else torch.float32
    weights, grads = _widened(params, real), _widened(gradients, real)
    in_codes = scales[0] is not None
    momenta = list(map(restored, kept, scales)) if in_codes else _widened(kept, real)
    directions = torch._foreach_lerp(momenta, grads, weight1)
    torch._foreach_sign_(directions)
    torch._foreach_lerp_(momenta, grads, weight2)
    if decay:
        torch._foreach_add_(directions, weights, alpha=decay)
    if isinstance(step, Tensor):
        torch._foreach_mul_(directions, step)
        torch._foreach_add_(weights, directions)
    else:
        torch._foreach_add_(weights, directions, alpha=step)
    if weights is not params:
        torch._foreach_copy_(params, weights)
    if in_codes:
        for codes, own_scales, momentum in zip(kept, scales, momenta, strict=True):
            for part, new in zip((codes, own_scales), quantized(momentum), strict=True):
                part.copy_(new)
    elif momenta is not kept:
        torch._foreach_copy_(kept, momenta)


def _widened(tensors: list[Tensor], real: torch.dtype) -> list[Tensor]:
    return tensors if tensors[0].dtype is real else [each.to(real) for each in tensors]


def tiles(entries: list[Entry], size: int) -> Iterator[list[Entry]]:
    """Return the same entries in lists of at most `size` weights each, larger ones cut where their layout allows it.

    Done tile by tile, an update reads numbers from memory once instead of once for each operation.
    """
    tile: list[Entry] = []
    room = size
    for entry in entries:
        count = entry[0].numel()
        if count > room and tile:
            yield tile
            tile, room = [], size
        if count > size:
            yield from ([piece] for piece in _pieces(entry, size))
        else:
            tile.append(entry)
            room -= count
    if tile:
        yield tile


def _pieces(entry: Entry, size: int) -> Iterator[Entry]:
    p, g, m, scales = entry
    if not is_plain(p):
        yield entry
        return
    if not (p.is_contiguous() and m.is_contiguous()):
        if scales is not None or not are_channels_last(p, m):
            yield entry
            return
        p, g, m = (each.permute(0, 2, 3, 1) for each in (p, g, m))
    parts = (each.view(-1).split(size) for each in (p, g.contiguous(), m))
    cuts = [None] * -(-p.numel() // size) if scales is None else scales.split(size // BLOCK)
    yield from zip(*parts, cuts, strict=True)


def are_channels_last(*tensors: Tensor) -> bool:
    """Return whether these are images or kernels whose channels lie next to one another in memory, all of them."""
    return all(each.dim() == 4 and each.is_contiguous(memory_format=torch.channels_last) for each in tensors)


def is_plain(tensor: Tensor) -> bool:
    """Return whether this is a tensor or parameter of torch's own, not of a class that may keep its numbers elsewhere."""
    return type(tensor) is Parameter or type(tensor) is Tensor
