"""Image classifiers for small devices as tables of blocks: MobileNetV2, MnasNet-A1, and whatever a search makes."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor, nn

from heuretic.nn.architecture import architecture
from heuretic.nn.convolution import Classifier, Padding, Parts
from heuretic.nn.images import Level, check_images
from heuretic.nn.inverted_residual import MBConv, Operation, SeparableConv, Skip, mobile_layer
from heuretic.nn.recomputation import recomputed
from heuretic.symbolic import sym


@dataclass(frozen=True, slots=True)
class Block:
    """A run of layers that are alike, except that the first takes in the channels before it and has the stride.

    Args:
        operation: Kind of layer. filters: Channels out. layers: How many, >= 1.
        se_ratio: Hidden width of the squeeze-and-excitation over the channels in; 0 for none.
        skip: The way around each layer, see `mobile_layer`.
    Raises: ValueError if a number is below 1.
    """

    operation: Operation
    filters: int
    layers: int = 1
    stride: int = 1
    kernel_size: int = 3
    se_ratio: float = 0.0
    skip: Skip = "identity"

    def __post_init__(self) -> None:
        for name in ("filters", "layers", "stride", "kernel_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")


class MobileNet(nn.Module):
    """A stem convolution (3 x 3), blocks, a 1 x 1 convolution, the mean over all places, and a linear classifier.

    Args:
        blocks: In order. classes: Width of the output, logits of shape (batch, classes).
        in_channels: Of the images, shape (batch, in_channels, height, width), no side shorter than `stride`.
        stem, head: Channels of the first and the last convolution. stem_stride: Of the first.
        activation: Of every layer, each of which gets a copy of its own. Default: ReLU.
        dropout: Share of features dropped before the classifier.
        stochastic_depth: Share of examples for which the last residual layer is dropped in training; it grows from 0 in
            the first layer, in proportion to the number of layers before.
        norm_eps, norm_momentum: Of batch normalisation. padding: Of layers with a stride, see `Parts`.
    Attributes: stride: Of the last block, over the images.
    Raises: ValueError if there are no blocks or a number is out of range.
    """

    def __init__(
        self, blocks: Sequence[Block], *, classes: int = 1000, in_channels: int = 3, stem: int = 32,
        stem_stride: int = 2, head: int = 1280, activation: nn.Module | None = None, dropout: float = 0.0,
        stochastic_depth: float = 0.0, norm_eps: float = 1e-5, norm_momentum: float = 0.1,
        padding: Padding = "symmetric",
    ) -> None:  # fmt: skip
        super().__init__()
        if not blocks:
            raise ValueError("blocks must be at least one, got none")
        for name, number in (("classes", classes), ("in_channels", in_channels), ("stem", stem), ("head", head)):
            if number < 1:
                raise ValueError(f"{name} must be >= 1, got {number}")
        parts = Parts(nn.ReLU(inplace=True) if activation is None else activation, norm_eps, norm_momentum, padding)
        self.stem = parts.conv(in_channels, stem, 3, stem_stride)
        total, done = sum(block.layers for block in blocks), 0
        channels, made = stem, []
        levels: list[Level] = [Level(stem_stride, stem, 0)] if stem_stride > 1 else []
        self.stride = stem_stride
        for number, block in enumerate(blocks, 1):
            layers = []
            for index in range(block.layers):
                layers.append(
                    mobile_layer(
                        block.operation, channels, block.filters, kernel_size=block.kernel_size,
                        stride=block.stride if index == 0 else 1, se_ratio=block.se_ratio, skip=block.skip,
                        drop_rate=stochastic_depth * done / total, parts=parts,
                    )
                )  # fmt: skip
                channels, done = block.filters, done + 1
            made.append(nn.Sequential(*layers))
            self.stride *= block.stride
            if levels and levels[-1].stride == self.stride:
                levels.pop()
            levels.append(Level(self.stride, channels, number))
        self.levels = tuple(levels)
        self.blocks = nn.Sequential(*made)
        self.head = parts.conv(channels, head)
        self.dropout = nn.Dropout(dropout)
        self.classifier = Classifier(head, classes)
        self.checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, self.stem.conv.in_channels, self.stride)
        x = self.stem(x)
        for block in self.blocks:
            x = self._block(block, x)
        return self.classifier(self.dropout(self.head(x).mean((2, 3))))

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the last feature map at each stride, finest first, as `levels` describes them; the head is left out."""
        check_images(self, x, self.stem.conv.in_channels, self.stride)
        x = self.stem(x)
        maps, wanted = [], {level.after for level in self.levels}
        for number, block in enumerate((None, *self.blocks)):
            x = x if block is None else self._block(block, x)
            if number in wanted:
                maps.append(x)
        return maps

    def _block(self, block: nn.Module, x: Tensor) -> Tensor:
        return recomputed(block, x) if self.checkpointing and self.training else block(x)


#: Sandler et al. 2018, arXiv:1801.04381, table 2.
MOBILENET_V2 = (
    Block(MBConv(1), 16),
    Block(MBConv(6), 24, layers=2, stride=2),
    Block(MBConv(6), 32, layers=3, stride=2),
    Block(MBConv(6), 64, layers=4, stride=2),
    Block(MBConv(6), 96, layers=3),
    Block(MBConv(6), 160, layers=3, stride=2),
    Block(MBConv(6), 320),
)

#: Tan et al. 2019, arXiv:1807.11626, figure 7.
MNASNET_A1 = (
    Block(SeparableConv(), 16, skip="none"),
    Block(MBConv(6), 24, layers=2, stride=2),
    Block(MBConv(3), 40, layers=3, stride=2, kernel_size=5, se_ratio=0.25),
    Block(MBConv(6), 80, layers=4, stride=2),
    Block(MBConv(6), 112, layers=2, se_ratio=0.25),
    Block(MBConv(6), 160, layers=3, stride=2, kernel_size=5, se_ratio=0.25),
    Block(MBConv(6), 320),
)


def described(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Return a table of blocks as programs, in which everything can be replaced and left open."""
    return tuple(_described(block) for block in blocks)


def _described(value: Any) -> Any:
    given = {f.name: getattr(value, f.name) for f in fields(value)}
    return sym(type(value))(**{
        name: _described(part) if is_dataclass(part) else part
        for name, part in given.items()
        if name == "operation" or part != type(value).__dataclass_fields__[name].default
    })  # fmt: skip


@architecture
def mobilenet_v2(classes: int = 1000, *, in_channels: int = 3, dropout: float = 0.2) -> MobileNet:
    """Return MobileNetV2 with random weights, 3.5 million of them for 1000 classes. Input of any size from 32 x 32.

    Reference: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv:1801.04381, table 2.
    """
    return sym(MobileNet)(
        described(MOBILENET_V2), classes=classes, in_channels=in_channels, activation=sym(nn.ReLU6)(inplace=True),
        dropout=dropout,
    )  # fmt: skip


@architecture
def mnasnet_a1(classes: int = 1000, *, in_channels: int = 3, dropout: float = 0.2) -> MobileNet:
    """Return MnasNet-A1 with random weights, 3.9 million of them for 1000 classes. Input of any size from 32 x 32.

    Reference: Tan et al. 2019, "MnasNet: Platform-Aware Neural Architecture Search for Mobile", arXiv:1807.11626,
    figure 7.
    """
    return sym(MobileNet)(
        described(MNASNET_A1), classes=classes, in_channels=in_channels, activation=sym(nn.ReLU)(inplace=True),
        dropout=dropout,
    )  # fmt: skip
