"""The factorised hierarchical search space of MnasNet, around any table of blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from torch import nn

from heuretic.nn.inverted_residual import Conv, MBConv, Operation, SeparableConv, Skip
from heuretic.nn.mobile_net import MOBILENET_V2, Block, MobileNet
from heuretic.nn.rounding import scaled_channels
from heuretic.search import one_of
from heuretic.symbolic import sym

T = TypeVar("T")


def factorized_space(
    seed: Sequence[Block] = MOBILENET_V2,
    *,
    operations: Sequence[Operation] = (Conv(), SeparableConv(), MBConv(3), MBConv(6)),
    kernel_sizes: Sequence[int] = (3, 5),
    se_ratios: Sequence[float] = (0.0, 0.25),
    skips: Sequence[Skip] = ("identity", "pool", "none"),
    widths: Sequence[float] = (0.75, 1.0, 1.25),
    depths: Sequence[int] = (-1, 0, 1),
    divisor: int = 8,
    classes: int = 1000,
    in_channels: int = 3,
    stem: int = 32,
    stem_stride: int = 2,
    head: int = 1280,
    activation: nn.Module | None = None,
    dropout: float = 0.0,
) -> MobileNet:
    """Return a program of a `MobileNet` that leaves open, for each block, everything but its stride.

    The layers of one block share the block's choices, and each block has choices of its own: that is the
    factorisation. In each choice the seed's own value comes first, so the starting program of a search is the seed.

    Args:
        seed: The blocks to start from. operations, kernel_sizes, se_ratios, skips: Candidates for each block, besides
            the seed's own.
        widths: Filters over those of the seed, rounded to multiples of `divisor`, as MobileNets are.
        depths: Layers more than in the seed; a block keeps at least one.
        classes, in_channels, stem, stem_stride, head, activation, dropout: Of the network, see `MobileNet`.

    Reference: Tan et al. 2019, "MnasNet: Platform-Aware Neural Architecture Search for Mobile", arXiv:1807.11626,
    section 4.1. Departures: the paper does not say how a pooled way around is joined, here see `mobile_layer`; and the
    seed's stride of each block is kept, as in the paper's figures.
    """
    blocks = tuple(
        sym(Block)(
            operation=_choice([block.operation, *operations], _described),
            filters=_choice([block.filters, *(scaled_channels(block.filters, width, divisor) for width in widths)]),
            layers=_choice([block.layers, *(max(1, block.layers + more) for more in depths)]),
            stride=block.stride,
            kernel_size=_choice([block.kernel_size, *kernel_sizes]),
            se_ratio=_choice([block.se_ratio, *se_ratios]),
            skip=_choice([block.skip, *skips]),
        )
        for block in seed
    )
    return sym(MobileNet)(
        blocks, classes=classes, in_channels=in_channels, stem=stem, stem_stride=stem_stride, head=head,
        activation=activation, dropout=dropout,
    )  # fmt: skip


def _choice(candidates: Iterable[T], describe: Callable[[T], T] = lambda value: value) -> T:
    """Return a choice among the different candidates, or the one there is."""
    different = [describe(candidate) for candidate in dict.fromkeys(candidates)]
    return different[0] if len(different) == 1 else one_of(*different)


def _described(operation: Any) -> Any:
    """Return the symbolic call that makes an operation, which is a dataclass."""
    return sym(type(operation))(**{field.name: getattr(operation, field.name) for field in fields(operation)})
