"""EfficientNet: grow depth, width and image size of a network together.

Tan & Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", arXiv:1905.11946. The models are
`heuretic.nn.efficientnet_b0` to `efficientnet_b7`; the scaling, for any network, is `heuretic.nn.CompoundScaling`.
"""

from heuretic.ideas.idea import Idea, Paper
from heuretic.nn import CompoundScaling

IDEA = Idea(
    slug="efficientnet",
    title="EfficientNet: compound scaling",
    paper=Paper(
        authors="Tan, Le",
        year=2019,
        title="EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        arxiv="1905.11946",
    ),
    claim="published parameter counts and multiply-adds of B0 to B7",
    usage=(
        "import heuretic as hr\nmodel = hr.nn.efficientnet_b0(classes=10)\n"
        'larger = hr.apply(model, "efficientnet?width=1.2&depth=1.4")  # any other network, too'
    ),
    patch=CompoundScaling,
    provides=tuple(f"heuretic.nn:efficientnet_b{number}" for number in range(8)),
)
