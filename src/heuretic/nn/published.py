"""Sizes of the architectures as their papers and other libraries print them, to be compared with ours."""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Published:
    """What a source prints of one architecture, for 1000 classes.

    Attributes:
        name: Of ours. source: Where it is printed. side: Of the images that the multiply-adds are for.
        parameters, multiply_adds: As printed, in millions and billions; "" where the source has none.
        differs: Which of the two is not that of the layers the source describes. why: What is known of the reason.
    """

    name: str
    source: str
    side: int
    parameters: str
    multiply_adds: str
    differs: tuple[str, ...] = ()
    why: str = ""

    def agreement(self, parameters: int, multiply_adds: float) -> dict[str, bool]:
        """Return which of the printed numbers are those given, to the digits shown, rounded or cut."""
        numbers = {
            "parameters": (self.parameters, parameters / 1e6),
            "multiply_adds": (self.multiply_adds, multiply_adds / 1e9),
        }
        return {name: _agree(printed, value) for name, (printed, value) in numbers.items() if printed}


def _agree(printed: str, value: float) -> bool:
    unit = 10.0 ** int(Decimal(printed).as_tuple().exponent)
    return -0.5 * unit <= value - float(printed) < unit


_B, _V2 = "Tan & Le 2019, table 2", "Tan & Le 2021, table 7"
_COUNT = "the paper does not say how it counts; torchvision's count of the same layers is ours"
_RESNET = "the paper's bottleneck has its stride in the first 1 x 1 convolution"
_BOTH = ("parameters", "multiply_adds")

PUBLISHED = (
    Published("efficientnet_b0", _B, 224, "5.3", "0.39"),
    Published("efficientnet_b1", _B, 240, "7.8", "0.70", ("multiply_adds",), _COUNT),
    Published("efficientnet_b2", _B, 260, "9.2", "1.0", ("parameters",), _COUNT),
    Published("efficientnet_b3", _B, 300, "12", "1.8"),
    Published("efficientnet_b4", _B, 380, "19", "4.2", ("multiply_adds",), _COUNT),
    Published("efficientnet_b5", _B, 456, "30", "9.9", ("multiply_adds",), _COUNT),
    Published("efficientnet_b6", _B, 528, "43", "19"),
    Published("efficientnet_b7", _B, 600, "66", "37"),
    Published("efficientnet_v2_s", _V2, 384, "22", "8.8", _BOTH, _COUNT),
    Published("efficientnet_v2_m", _V2, 480, "54", "24"),
    Published("efficientnet_v2_l", _V2, 480, "120", "53", _BOTH, _COUNT),
    Published(
        "condconv_efficientnet_b0", "Yang et al. 2019, table 1", 224, "", "0.413", ("multiply_adds",),
        "the paper does not say how it counts the mixing of kernels",
    ),
    Published("mnasnet_a1", "Tan et al. 2019, table 1", 224, "3.9", "0.312"),
    Published(
        "mobilenet_v2", "Sandler et al. 2018, table 4", 224, "3.4", "0.300", ("parameters",),
        "torchvision's count of the same layers is ours",
    ),
    Published("resnet18", "He et al. 2015, table 1", 224, "", "1.8"),
    Published("resnet34", "He et al. 2015, table 1", 224, "", "3.6"),
    Published("resnet50", "He et al. 2015, table 1", 224, "", "3.8", ("multiply_adds",), _RESNET),
    Published("resnet101", "He et al. 2015, table 1", 224, "", "7.6", ("multiply_adds",), _RESNET),
    Published("resnet152", "He et al. 2015, table 1", 224, "", "11.3", ("multiply_adds",), _RESNET),
    Published("efficientnet_b0", "torchvision", 224, "5.288548", "0.386"),
    Published("efficientnet_b1", "torchvision", 240, "7.794184", "0.687"),
    Published("efficientnet_b2", "torchvision", 288, "9.109994", "1.088"),
    Published("efficientnet_b3", "torchvision", 300, "12.233232", "1.827"),
    Published("efficientnet_b4", "torchvision", 380, "19.341616", "4.394"),
    Published("efficientnet_b5", "torchvision", 456, "30.389784", "10.266"),
    Published("efficientnet_b6", "torchvision", 528, "43.040704", "19.068"),
    Published("efficientnet_b7", "torchvision", 600, "66.347960", "37.746"),
    Published("efficientnet_v2_s", "torchvision", 384, "21.458488", "8.366"),
    Published("efficientnet_v2_m", "torchvision", 480, "54.139356", "24.582"),
    Published("efficientnet_v2_l", "torchvision", 480, "118.515272", "56.080"),
    Published("condconv_efficientnet_b0", "timm", 224, "24.013284", ""),
    Published("mnasnet_a1", "timm", 224, "3.887038", ""),
    Published("mobilenet_v2", "torchvision", 224, "3.504872", "0.301"),
    Published("resnet18", "torchvision", 224, "11.689512", "1.814"),
    Published("resnet34", "torchvision", 224, "21.797672", "3.664"),
    Published("resnet50", "torchvision", 224, "25.557032", "4.089"),
    Published("resnet101", "torchvision", 224, "44.549160", "7.801"),
    Published("resnet152", "torchvision", 224, "60.192808", "11.514"),
)  # fmt: skip
