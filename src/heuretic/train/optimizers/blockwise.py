"""Floats in 8 bits: one code per number, and one scale per block of numbers.

A code c in -127..127 stands for c * |c| * scale, where the scale of a block is its largest magnitude / 127**2. The
squares make steps small where numbers are: a restored number differs from x by at most
sqrt(|x| * largest) / 127 + largest / (4 * 127**2), where equal steps would round all below largest / 254 to 0.
The largest counts as 2e-34 where it is less.

Blocks are those of Dettmers et al. 2021, "8-bit Optimizers via Block-wise Quantization", arXiv:2110.02861. Departure: their
codes are looked up in a table, whose steps grow in proportion to the numbers; a square takes less time than a look-up.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

#: Numbers that share a scale: consecutive ones in row-major order; the last block of a tensor may have fewer.
BLOCK = 256
_STEPS = 127.0 * 127.0


def block_count(numbers: int) -> int:
    """Return in how many blocks, and so scales, so many numbers are kept."""
    return -(-numbers // BLOCK)


def quantized(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codes, int8 in the shape of `values`, and the scales, float32 of shape (blocks,), of float32 numbers.

    A block with NaN or infinity in it is restored as numbers that are not all finite.
    """
    flat = values.reshape(-1)
    blocks = F.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scales = (blocks.abs().amax(1) / _STEPS).clamp(min=torch.finfo(torch.float32).tiny)
    codes = (blocks.abs() * scales.reciprocal()[:, None]).sqrt_().round_().copysign_(blocks)
    return codes.to(torch.int8).view(-1)[: len(flat)].view(values.shape), scales


def restored(codes: Tensor, scales: Tensor) -> Tensor:
    """Return the numbers, float32, that codes and their scales stand for."""
    flat = codes.reshape(-1).float()
    squares = F.pad(flat * flat.abs(), (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    return (squares * scales[:, None]).view(-1)[: len(flat)].view(codes.shape)
