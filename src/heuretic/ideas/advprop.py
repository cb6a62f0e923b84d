"""AdvProp: adversarial examples with batch statistics of their own.

Xie et al. 2019, "Adversarial Examples Improve Image Recognition", arXiv:1911.09665. This is the paper's change to the
model, `heuretic.nn.AuxiliaryBatchNorm`; the training on adversarial examples is not part of it yet.
"""

from typing import Any, ClassVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import heuretic as hr
from heuretic.ideas.idea import Idea, Paper
from heuretic.nn import AuxiliaryBatchNorm
from heuretic.symbolic import PatchError, Path


class AdvProp(hr.Patch):
    """Give every batch normalisation auxiliary statistics and weights, which begin as copies of the main ones.

    Outputs are as before; inside `with hr.nn.auxiliary_statistics(model):` the auxiliary ones are used. Checkpoints of
    the model before the patch fit the model after it; the other way round only with `strict=False`.
    """

    name: ClassVar[str] = "advprop"

    @hr.rule
    def norm(self, node: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d, path: Path) -> Any:
        names = ("num_features", "eps", "momentum", "affine", "track_running_stats")
        given = {name: getattr(node, name) for name in names}
        if not isinstance(node, nn.Module):
            return hr.sym(AuxiliaryBatchNorm)(**given)
        new = AuxiliaryBatchNorm(**given, after=_after(node, path))
        state = node.state_dict()
        if not any(tensor.is_meta for tensor in state.values()):  # which have no values
            new.auxiliary.load_state_dict(state)
        return new


def _after(norm: nn.Module, path: Path) -> nn.Module | None:
    """Return what a batch normalisation does behind normalising; timm's has an activation in it."""
    if type(norm).forward is _BatchNorm.forward:
        return None
    if type(norm).__name__ == "BatchNormAct2d":
        return nn.Sequential(norm.get_submodule("drop"), norm.get_submodule("act"))
    raise PatchError(
        f"advprop must be given batch normalisation that computes as torch's, got {type(norm).__module__}."
        f"{type(norm).__name__} at {path or 'the root'}. Try a patch of your own for it"
    )


IDEA = Idea(
    slug="advprop",
    title="AdvProp: auxiliary batch normalisation",
    paper=Paper(
        authors="Xie, Tan, Gong, Wang, Yuille, Le",
        year=2019,
        title="Adversarial Examples Improve Image Recognition",
        arxiv="1911.09665",
    ),
    claim="training on adversarial examples with auxiliary batch normalisation improves accuracy on clean and corrupted images",
    usage=(
        'import heuretic as hr\nmodel = hr.apply(model, "advprop")\n'
        "with hr.nn.auxiliary_statistics(model):\n    loss = criterion(model(adversarial_images), labels)"
    ),
    patch=AdvProp,
    provides=("heuretic.nn:AuxiliaryBatchNorm", "heuretic.nn:auxiliary_statistics"),
)
