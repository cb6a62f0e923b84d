"""PyTorch blocks and models: plain `torch.nn` code, usable without the rest, what they cost, and the adapter for patches."""

from heuretic.nn.activations import (
    ParametricSoftplus,
    SmoothReLU,
    SquaredReLU,
    Swish,
    parametric_softplus,
    smooth_relu,
    squared_relu,
)
from heuretic.nn.architecture import Architecture, architecture
from heuretic.nn.batch_norm import AuxiliaryBatchNorm, auxiliary_statistics
from heuretic.nn.causal_transformer import CausalAttention, CausalBlock, CausalTransformer
from heuretic.nn.checkpoints import load, program_in, save
from heuretic.nn.conditional_convolution import CondConv2d, Routing
from heuretic.nn.convolution import Conv2d, ConvNorm, Parts, Residual, SamePadding, SqueezeExcitation
from heuretic.nn.costs import MultiplyAdds, parameter_count
from heuretic.nn.description.describe import Description, describe
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
from heuretic.nn.functional_calls import ExposeActivations, FunctionalCall, functional_calls
from heuretic.nn.images import Level
from heuretic.nn.inverted_residual import Conv, FusedMBConv, MBConv, SeparableConv, mobile_layer
from heuretic.nn.latency import Latency, Timing, Turns, interleaved, measure
from heuretic.nn.mobile_net import MNASNET_A1, MOBILENET_V2, Block, MobileNet, mnasnet_a1, mobilenet_v2
from heuretic.nn.residual_paths import DropPaths, StochasticDepths, path_ends
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
from heuretic.nn.scaling import CompoundScaling
from heuretic.nn.stochastic_depth import StochasticDepth
from heuretic.nn.text_classifier import TextClassifier, WordConvolutions, WordTransformer

__all__ = [
    "Architecture", "AuxiliaryBatchNorm", "BasicBlock", "Block", "Bottleneck",
    "CausalAttention", "CausalBlock", "CausalTransformer", "CompoundScaling", "CondConv2d",
    "Conv", "Conv2d", "ConvNorm", "Description", "DropPaths", "ExposeActivations", "FunctionalCall", "FusedMBConv",
    "Latency", "Level", "MBConv", "MNASNET_A1", "MOBILENET_V2", "MobileNet", "MultiplyAdds", "ParametricSoftplus",
    "Parts", "ResNet", "Residual", "Routing", "SamePadding", "SeparableConv", "SmoothReLU", "SquaredReLU", "SqueezeExcitation",
    "Stage", "StochasticDepth", "StochasticDepths", "Swish", "TextClassifier", "Timing", "Turns", "WordConvolutions", "WordTransformer", "architecture",
    "auxiliary_statistics", "condconv_efficientnet_b0", "describe", "efficientnet_b0", "efficientnet_b1",
    "efficientnet_b2", "efficientnet_b3", "efficientnet_b4", "efficientnet_b5", "efficientnet_b6", "efficientnet_b7",
    "efficientnet_v2_l", "efficientnet_v2_m", "efficientnet_v2_s", "functional_calls", "interleaved", "load",
    "measure", "mnasnet_a1", "mobile_layer", "mobilenet_v2", "parameter_count", "parametric_softplus", "path_ends",
    "program_in", "resnet101", "resnet152", "resnet18", "resnet34", "resnet50", "save", "smooth_relu", "squared_relu",
]  # fmt: skip
