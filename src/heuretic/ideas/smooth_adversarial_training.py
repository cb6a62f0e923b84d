"""Smooth adversarial training: replace ReLU by a smooth activation.

Xie et al. 2020, "Smooth Adversarial Training", arXiv:2006.14536. This is the paper's change to the model; adversarial
training itself (PGD) is not part of it yet.
"""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

import heuretic as hr
from heuretic.ideas.idea import Idea, Paper
from heuretic.nn import ParametricSoftplus, SmoothReLU, Swish, parametric_softplus, smooth_relu
from heuretic.nn.functional_calls import RELU, warn_of

#: Per activation, the module class and the function.
SMOOTH: dict[str, tuple[Any, Any]] = {
    "silu": (nn.SiLU, F.silu),
    "gelu": (nn.GELU, F.gelu),
    "softplus": (ParametricSoftplus, parametric_softplus),
    "elu": (nn.ELU, F.elu),
    "smooth_relu": (SmoothReLU, smooth_relu),
    "swish": (Swish, F.silu),
}
#: Those whose sharpness can be trained.
TRAINABLE = ("softplus", "smooth_relu", "swish")


class SmoothActivations(hr.Patch):
    """Replace every ReLU and ReLU6 by a smooth activation.

    Softplus is the paper's parametric one with alpha = 10; ELU has alpha = 1, as in the paper; swish begins as SiLU.
    ReLU that a `forward` method calls as a function is out of reach, except in torch's transformer layers, which store
    it: a warning names the places, and `heuretic.nn:ExposeActivations` makes modules of them.

    Raises: ValueError if `trained` is asked of an activation without a sharpness to train.
    """

    name: ClassVar[str] = "smooth-adversarial-training"
    activation: Literal["silu", "gelu", "softplus", "elu", "smooth_relu", "swish"] = hr.field(
        default="silu", doc="what stands in for ReLU"
    )
    trained: bool = hr.field(
        default=False,
        doc="train the sharpness of softplus, smooth_relu or swish, one a layer; each adds a weight, `log_alpha`, so that "
        "checkpoints of the model before lack it",
    )

    def __post_init__(self) -> None:
        if self.trained and self.activation not in TRAINABLE:
            raise ValueError(f"activation must be one of {', '.join(TRAINABLE)} to be trained, got {self.activation!r}")

    def survey(self, program: Any) -> None:
        warn_of(program, RELU, self.name)

    @hr.rule
    def module(self, node: nn.ReLU | nn.ReLU6) -> Any:
        return hr.sym(SMOOTH[self.activation][0])(**({"trained": True} if self.trained else {}))

    @hr.rule
    def layer(self, node: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer | nn.Transformer) -> Any:
        if getattr(node, "activation", None) not in ("relu", F.relu, torch.relu):
            return node
        return hr.replace(node, activation=self.module(nn.ReLU()) if self.trained else SMOOTH[self.activation][1])


IDEA = Idea(
    slug="smooth-adversarial-training",
    title="Smooth adversarial training: smooth activations for ReLU",
    paper=Paper(
        authors="Xie, Tan, Gong, Yuille, Le", year=2020, title="Smooth Adversarial Training", arxiv="2006.14536"
    ),
    claim="higher robust accuracy at equal clean accuracy",
    usage='import heuretic as hr\nmodel = hr.apply(model, "smooth-adversarial-training?activation=silu")',
    patch=SmoothActivations,
)
