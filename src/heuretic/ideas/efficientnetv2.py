"""EfficientNetV2: fused inverted bottlenecks in the early stages, and progressive learning.

Tan & Le 2021, "EfficientNetV2: Smaller Models and Faster Training", arXiv:2104.00298. These are the models; progressive
learning is not part of it yet.
"""

from heuretic.ideas.idea import Idea, Paper

IDEA = Idea(
    slug="efficientnetv2",
    title="EfficientNetV2: fused inverted bottlenecks",
    paper=Paper(
        authors="Tan, Le", year=2021, title="EfficientNetV2: Smaller Models and Faster Training", arxiv="2104.00298"
    ),
    claim="faster to equal accuracy",
    usage="import heuretic as hr\nmodel = hr.nn.efficientnet_v2_s(classes=10)",
    provides=(
        "heuretic.nn:efficientnet_v2_s", "heuretic.nn:efficientnet_v2_m", "heuretic.nn:efficientnet_v2_l",
        "heuretic.nn:FusedMBConv",
    ),
)  # fmt: skip
