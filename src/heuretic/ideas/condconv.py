"""CondConv: convolutions whose kernels are mixed for each example from several experts.

Yang et al. 2019, "CondConv: Conditionally Parameterized Convolutions for Efficient Inference", arXiv:1904.04971. The layer
is `heuretic.nn.CondConv2d`, the paper's network `heuretic.nn.condconv_efficientnet_b0`.
"""

import hashlib
import math
from typing import Any, ClassVar

import torch
from torch import nn

import heuretic as hr
from heuretic.ideas.idea import Idea, Paper
from heuretic.nn import CondConv2d
from heuretic.symbolic import PatchError, Path


class CondConv(hr.Patch):
    """Give the last convolutions of a network several kernels each, mixed for each example.

    In a built model the outputs are as before, up to rounding: the experts begin as the kernel that was there plus small
    deviations that add up to zero, and routing gives all of them the same weight, 1 / experts. (With equal experts all
    would be trained alike for ever.) Weights of those layers get another shape, so a checkpoint of the model before fits
    no more: load it first, then apply the patch. Convolutions inside squeeze-and-excitation are left as they are.
    """

    name: ClassVar[str] = "condconv"
    experts: int = hr.field(default=8, ge=2, doc="kernels of a convolution")
    share: float = hr.field(default=0.5, gt=0, le=1, doc="share of the convolutions that get experts: the last ones")
    deviation: float = hr.field(default=0.1, ge=0, doc="of the first experts, over the kernel's standard deviation")
    seed: int = hr.field(default=0, ge=0, doc="of the deviations")

    def survey(self, program: Any) -> frozenset[Path]:
        skipped = [path for path, _ in hr.find(program, _is_excitation)]
        found = [
            path for path, _ in hr.find(program, nn.Conv2d) if not any(path[: len(outer)] == outer for outer in skipped)
        ]
        return frozenset(found[len(found) - math.ceil(self.share * len(found)) :])

    @hr.rule
    def convolution(self, node: nn.Conv2d, path: Path, chosen: frozenset[Path]) -> Any:
        if path not in chosen:
            return node
        if isinstance(node, nn.Module) and not _is_plain(node):
            raise PatchError(
                f"condconv must be given convolutions that compute as nn.Conv2d, got {type(node).__module__}."
                f"{type(node).__name__} at {path}. Try a smaller share, or a patch of your own for it"
            )
        padding = _places(node) if isinstance(node, nn.Conv2d) else node.padding
        if node.padding_mode != "zeros" or isinstance(padding, str):
            raise PatchError(
                f"condconv must be given zero padding by a number of places, got padding={node.padding!r}, "
                f"padding_mode={node.padding_mode!r} at {path}"
            )
        names = ("in_channels", "out_channels", "kernel_size", "stride", "dilation", "groups")
        given: dict[str, Any] = {name: getattr(node, name) for name in names} | {"padding": padding}
        if not isinstance(node, nn.Module):
            return hr.sym(CondConv2d)(**given, bias=node.bias, experts=self.experts)
        new = CondConv2d(**given, bias=node.bias is not None, experts=self.experts)
        self._start(new, node, path)
        return new

    @torch.no_grad()
    def _start(self, new: CondConv2d, old: nn.Conv2d, path: Path) -> None:
        """Give the experts and their routing such values that `new` computes what `old` did."""
        assert new.routing is not None
        new.to(torch.promote_types(old.weight.dtype, torch.float32))  # half precision is too coarse for what follows
        new.routing.linear.weight.zero_()
        new.routing.linear.bias.fill_(-math.log(self.experts - 1))  # whose sigmoid is 1 / experts
        if old.weight.is_meta:
            new.to("meta")
            return
        digest = hashlib.blake2b(f"{self.seed}:{path}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
        kernel = old.weight.to(new.weight).flatten()
        deviations = torch.randn(new.weight.shape, generator=generator).to(kernel)
        deviations -= deviations.mean(0)
        new.weight.copy_(kernel + self.deviation * kernel.std(correction=0) * deviations)


def _is_plain(conv: nn.Module) -> bool:
    """Whether this computes what `nn.Conv2d` does; derived classes may pad otherwise or standardise their weights."""
    methods = ("forward", "_conv_forward")
    return all(getattr(type(conv), name) is getattr(nn.Conv2d, name) for name in methods)


def _places(conv: nn.Conv2d) -> str | tuple[int, ...]:
    """Return the padding as numbers of places, or its name if it is not the same on both sides."""
    if conv.padding == "valid":
        return (0, 0)
    around = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    if conv.padding == "same" and not any(places % 2 for places in around):
        return (around[0] // 2, around[1] // 2)
    return conv.padding


def _is_excitation(part: Any) -> bool:
    """Whether this is squeeze-and-excitation, by the names it has here, in torchvision, timm and transformers."""
    target = part.__target__ if isinstance(part, hr.symbolic.Call) else type(part)
    name = getattr(target, "__name__", "")
    return "squeeze" in name.lower() or name.endswith(("SELayer", "SEModule", "SEBlock"))


IDEA = Idea(
    slug="condconv",
    title="CondConv: kernels mixed for each example",
    paper=Paper(
        authors="Yang, Bender, Le, Ngiam",
        year=2019,
        title="CondConv: Conditionally Parameterized Convolutions for Efficient Inference",
        arxiv="1904.04971",
    ),
    claim="higher accuracy than the network with plain convolutions, at few more multiply-adds",
    usage=(
        'import heuretic as hr\nmodel = hr.apply(model, "condconv?experts=4")\n'
        "model = hr.nn.condconv_efficientnet_b0(classes=10)"
    ),
    patch=CondConv,
    provides=("heuretic.nn:CondConv2d", "heuretic.nn:condconv_efficientnet_b0"),
)
