"""Residual networks, the plain baseline: ResNet-18 to ResNet-152, and any table of stages.

He et al. 2015, "Deep Residual Learning for Image Recognition", arXiv:1512.03385. Parts are named as in torchvision and timm,
whose checkpoints fit as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from heuretic.nn.architecture import architecture
from heuretic.nn.convolution import Conv2d, copied
from heuretic.nn.images import Level, check_images
from heuretic.nn.recomputation import recomputed
from heuretic.nn.stochastic_depth import StochasticDepth
from heuretic.symbolic import sym


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks of one width; the first takes in the channels before it and has the stride.

    Args:
        blocks: How many, >= 1. width: Channels of the 3 x 3 convolutions.
    Raises: ValueError if a number is below 1.
    """

    blocks: int
    width: int
    stride: int = 2

    def __post_init__(self) -> None:
        for name in ("blocks", "width", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and the way around them; figure 5, left.

    Args:
        in_channels, width, stride: The output has `width` channels. drop_rate: Of stochastic depth.
    """

    expansion = 1

    def __init__(
        self, in_channels: int, width: int, stride: int = 1, activation: nn.Module | None = None, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        act = nn.ReLU(inplace=True) if activation is None else activation
        self.conv1, self.bn1 = Conv2d(in_channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.relu1 = copied(act)
        self.conv2, self.bn2 = Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.downsample = _shortcut(in_channels, width, stride)
        self.drop = StochasticDepth(drop_rate) if drop_rate else nn.Identity()
        self.relu2 = copied(act)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.drop(self.bn2(self.conv2(y)))
        return self.relu2(y + self.downsample(x))


class Bottleneck(nn.Module):
    """A 1 x 1, a 3 x 3 and a 1 x 1 convolution and the way around them; figure 5, right. The stride is the 3 x 3 one's.

    Args:
        in_channels, width, stride: The output has 4 * `width` channels. drop_rate: Of stochastic depth.
    """

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int = 1, activation: nn.Module | None = None, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        act = nn.ReLU(inplace=True) if activation is None else activation
        out_channels = self.expansion * width
        self.conv1, self.bn1 = Conv2d(in_channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.relu1 = copied(act)
        self.conv2, self.bn2 = Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.relu2 = copied(act)
        self.conv3, self.bn3 = Conv2d(width, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)
        self.drop = StochasticDepth(drop_rate) if drop_rate else nn.Identity()
        self.relu3 = copied(act)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.drop(self.bn3(self.conv3(y)))
        return self.relu3(y + self.downsample(x))


class ResNet(nn.Module):
    """A stem, stages of residual blocks, the mean over all places, and a linear classifier.

    Args:
        stages: In order. block: Of all stages. classes: Width of the output, logits of shape (batch, classes).
        in_channels: Of the images, shape (batch, in_channels, height, width), no side shorter than `stride`.
        stem: Channels of the first convolution. small_images: Begin with a 3 x 3 convolution without stride instead of a
            7 x 7 one of stride 2 and a pooling of stride 2, as section 4.2 does for CIFAR-10.
        activation: Each place gets a copy of its own. Default: ReLU.
        stochastic_depth: Share of examples for which the last block is dropped in training; it grows from 0 in the first.
    Attributes: stride: Of the last stage, over the images. levels: The maps that `features` returns.
    Raises: ValueError if there are no stages or a number is out of range.
    """

    def __init__(
        self, stages: Sequence[Stage], *, block: type[BasicBlock] | type[Bottleneck] = BasicBlock, classes: int = 1000,
        in_channels: int = 3, stem: int = 64, small_images: bool = False, activation: nn.Module | None = None,
        stochastic_depth: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if not stages:
            raise ValueError("stages must be at least one, got none")
        for name, number in (("classes", classes), ("in_channels", in_channels), ("stem", stem)):
            if number < 1:
                raise ValueError(f"{name} must be >= 1, got {number}")
        act = nn.ReLU(inplace=True) if activation is None else activation
        size, stride = (3, 1) if small_images else (7, 2)
        self.conv1 = Conv2d(in_channels, stem, size, stride, size // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = copied(act)
        self.maxpool = nn.Identity() if small_images else nn.MaxPool2d(3, 2, 1)
        self.stride = 1 if small_images else 4
        channels, total, done = stem, sum(stage.blocks for stage in stages), 0
        levels = [] if small_images else [Level(2, stem, 0)]
        for number, stage in enumerate(stages, 1):
            blocks: list[nn.Module] = []
            for index in range(stage.blocks):
                rate = stochastic_depth * done / total
                blocks.append(block(channels, stage.width, stage.stride if index == 0 else 1, act, rate))
                channels, done = block.expansion * stage.width, done + 1
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
            self.stride *= stage.stride
            if levels and levels[-1].stride == self.stride:
                levels.pop()
            levels.append(Level(self.stride, channels, number))
        self.stages, self.levels = len(stages), tuple(levels)
        self.fc = nn.Linear(channels, classes)
        self.checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, self.conv1.in_channels, self.stride)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for number in range(1, self.stages + 1):
            x = self._stage(number, x)
        return self.fc(x.mean((2, 3)))

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the last feature map at each stride, finest first, as `levels` describes them."""
        check_images(self, x, self.conv1.in_channels, self.stride)
        x = self.relu(self.bn1(self.conv1(x)))
        maps, wanted = [x], {level.after for level in self.levels}
        x = self.maxpool(x)
        for number in range(1, self.stages + 1):
            x = self._stage(number, x)
            maps.append(x)
        return [x for number, x in enumerate(maps) if number in wanted]

    def _stage(self, number: int, x: Tensor) -> Tensor:
        stage = getattr(self, f"layer{number}")
        return recomputed(stage, x) if self.checkpointing and self.training else stage(x)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


def _resnet(
    block: type[BasicBlock] | type[Bottleneck],
    blocks: Sequence[int],
    classes: int,
    in_channels: int,
    small_images: bool,
) -> ResNet:
    stages: Any = tuple(sym(Stage)(count, width=64 * 2**i, stride=1 if i == 0 else 2) for i, count in enumerate(blocks))
    return sym(ResNet)(
        stages, block=block, classes=classes, in_channels=in_channels, small_images=small_images,
        activation=sym(nn.ReLU)(inplace=True),
    )  # fmt: skip


@architecture
def resnet18(classes: int = 1000, *, in_channels: int = 3, small_images: bool = False) -> ResNet:
    """Return ResNet-18 with random weights: 11.7 million, 1.8 billion multiply-adds at 224 x 224."""
    return _resnet(BasicBlock, (2, 2, 2, 2), classes, in_channels, small_images)


@architecture
def resnet34(classes: int = 1000, *, in_channels: int = 3, small_images: bool = False) -> ResNet:
    """Return ResNet-34 with random weights: 21.8 million, 3.6 billion multiply-adds at 224 x 224."""
    return _resnet(BasicBlock, (3, 4, 6, 3), classes, in_channels, small_images)


@architecture
def resnet50(classes: int = 1000, *, in_channels: int = 3, small_images: bool = False) -> ResNet:
    """Return ResNet-50 with random weights: 25.6 million, 4.1 billion multiply-adds at 224 x 224."""
    return _resnet(Bottleneck, (3, 4, 6, 3), classes, in_channels, small_images)


@architecture
def resnet101(classes: int = 1000, *, in_channels: int = 3, small_images: bool = False) -> ResNet:
    """Return ResNet-101 with random weights: 44.5 million, 7.8 billion multiply-adds at 224 x 224."""
    return _resnet(Bottleneck, (3, 4, 23, 3), classes, in_channels, small_images)


@architecture
def resnet152(classes: int = 1000, *, in_channels: int = 3, small_images: bool = False) -> ResNet:
    """Return ResNet-152 with random weights: 60.2 million, 11.5 billion multiply-adds at 224 x 224."""
    return _resnet(Bottleneck, (3, 8, 36, 3), classes, in_channels, small_images)
