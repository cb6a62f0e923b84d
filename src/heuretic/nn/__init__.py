"""PyTorch blocks and models: plain `torch.nn` code, usable without the rest, what they cost, and the adapter for patches."""

from heuretic.nn.activations import (
    ParametricSoftplus,
    SmoothReLU,
    SquaredReLU,
    parametric_softplus,
    smooth_relu,
    squared_relu,
)
from heuretic.nn.architecture import Architecture, architecture
from heuretic.nn.conditional_convolution import CondConv2d, Routing
from heuretic.nn.convolution import Conv2d, ConvNorm, Parts, Residual, SqueezeExcitation
from heuretic.nn.costs import MultiplyAdds, parameter_count
from heuretic.nn.describe import Description, describe
from heuretic.nn.efficientnet import (
    condconv_efficientnet_b0,
    efficientnet_b0,
    efficientnet_b1,
    efficientnet_b2,
    efficientnet_b3,
    efficientnet_b4,
    efficientnet_b5,
    efficientnet_b6,
    efficientnet_b7,
    efficientnet_v2_l,
    efficientnet_v2_m,
    efficientnet_v2_s,
)
from heuretic.nn.images import Level
from heuretic.nn.inverted_residual import Conv, FusedMBConv, MBConv, SeparableConv, mobile_layer
from heuretic.nn.latency import Latency, Timing, Turns, interleaved, measure
from heuretic.nn.mobile_net import MNASNET_A1, MOBILENET_V2, Block, MobileNet, mnasnet_a1, mobilenet_v2
from heuretic.nn.resnet import (
    BasicBlock,
    Bottleneck,
    ResNet,
    Stage,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
)
from heuretic.nn.stochastic_depth import StochasticDepth

__all__ = [
    "MNASNET_A1", "MOBILENET_V2", "Architecture", "BasicBlock", "Block", "Bottleneck", "CondConv2d", "Conv", "Conv2d",
    "ConvNorm", "Description", "FusedMBConv", "Latency", "Level", "MBConv", "MobileNet", "MultiplyAdds",
    "ParametricSoftplus", "Parts", "ResNet", "Residual", "Routing", "SeparableConv", "SmoothReLU", "SquaredReLU",
    "SqueezeExcitation", "Stage", "StochasticDepth", "Timing", "Turns", "architecture", "condconv_efficientnet_b0",
    "describe", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4",
    "efficientnet_b5", "efficientnet_b6", "efficientnet_b7", "efficientnet_v2_l", "efficientnet_v2_m",
    "efficientnet_v2_s", "interleaved", "measure", "mnasnet_a1", "mobile_layer", "mobilenet_v2", "parameter_count",
    "parametric_softplus", "resnet101", "resnet152", "resnet18", "resnet34", "resnet50", "smooth_relu", "squared_relu",
]  # fmt: skip
