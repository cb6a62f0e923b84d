"""Primer: square the ReLU of a transformer's feed-forward layers.

So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", arXiv:2109.08668.
Of the paper's two changes this is the squared ReLU only; its depthwise convolutions after the query, key and value
projections are not part of the patch yet.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

import heuretic as hr
from heuretic.ideas.idea import Idea, Paper
from heuretic.nn import SquaredReLU, squared_relu
from heuretic.nn.functional_calls import warn_of

#: Parts of published models whose activation is no feed-forward layer's: poolers, prediction heads, attention, stems.
OUTSIDE = frozenset({
    "attention", "attn", "self_attn", "pooler", "predictions", "lm_head", "classifier", "feature_extractor",
})  # fmt: skip
ACTIVATIONS = tuple(
    f"transformers.activations:{name}"
    for name in (
        "AccurateGELUActivation", "ClippedGELUActivation", "FastGELUActivation", "GELUActivation", "GELUTanh",
        "MishActivation", "NewGELUActivation", "PytorchGELUTanh", "QuickGELUActivation", "SiLUActivation",
    )
)  # fmt: skip
FUNCTIONS = ("relu", "gelu", F.relu, F.gelu, F.silu, torch.relu)


class Primer(hr.Patch):
    """Replace the feed-forward activation (ReLU, GELU, SiLU) of a transformer by squared ReLU.

    In a program or model that is no transformer it replaces the hidden activations of the same classes. Left as they
    are: parts named in `OUTSIDE`, softmax, tanh, and functions that a `forward` method calls by itself (a warning names
    the places). In a gated
    layer (Llama) the gate's activation is replaced. The `config` of a `transformers` model is not edited: load the
    weights into a model made from the same config, then patch it again.
    """

    name: ClassVar[str] = "primer"

    def survey(self, program: Any) -> None:
        warn_of(program, (F.relu, torch.relu, F.gelu, F.silu), self.name)

    @hr.rule(on=ACTIVATIONS)
    def activation(self, node: nn.ReLU | nn.GELU | nn.SiLU, path: hr.symbolic.Path) -> Any:
        return node if OUTSIDE.intersection(path) else hr.sym(SquaredReLU)()

    @hr.rule
    def layer(self, node: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer | nn.Transformer) -> Any:
        return hr.replace(node, activation=squared_relu) if getattr(node, "activation", None) in FUNCTIONS else node


IDEA = Idea(
    slug="primer",
    title="Primer: squared ReLU in transformers",
    paper=Paper(
        authors="So, Mańke, Liu, Dai, Shazeer, Le",
        year=2021,
        title="Primer: Searching for Efficient Transformers for Language Modeling",
        arxiv="2109.08668",
    ),
    claim="less compute to equal loss than the vanilla transformer on real text",
    usage='import heuretic as hr\nmodel = hr.apply(model, "primer")',
    patch=Primer,
)
