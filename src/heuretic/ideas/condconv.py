"""CondConv: convolutions whose kernels are mixed for each example from several experts.

Yang et al. 2019, "CondConv: Conditionally Parameterized Convolutions for Efficient Inference", arXiv:1904.04971. The layer
is `heuretic.nn.CondConv2d`, the paper's network `heuretic.nn.condconv_efficientnet_b0`.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

import heuretic as hr
from heuretic.data import load
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Arm, Comparison, Reproduction, Verdict, compare, estimate
from heuretic.ideas.trainings import one_thread
from heuretic.nn import Block, CondConv2d, MBConv, MobileNet, MultiplyAdds, parameter_count
from heuretic.symbolic import PatchError, Path
from heuretic.train.fixed_training import accuracy, as_tensors, train_classifier

CLAIM = "higher accuracy than the network with plain convolutions, at few more multiply-adds"
#: The largest ratio of multiply-adds that counts as few more; the paper's best network has 413 / 391 = 1.06.
EXPERTS, MOST, TUNING_SEED = 4, 1.1, 1000
RULE = (
    "d is the paired difference in test accuracy, with experts minus without, with its 95% interval over the seeds. "
    "Reproduced if d lies wholly above 0 and the network with experts takes at most 1.1 times the multiply-adds. Not "
    "reproduced if d lies wholly below 0 or it takes more; else not testable at this scale. Smoke runs are too short."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything one scale runs.

    Attributes:
        data: Data set. training, validation: Images to train on, and as many kept from it to choose by.
        width: Channels of the first block. lrs: Learning rates tried in each arm.
    """

    data: str
    training: int
    validation: int
    epochs: int
    width: int
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]


PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan("digits", 300, 200, 1, 4, (0.1,), (1, 2)),
    "small": Plan("fashion-mnist", 6_000, 3_000, 3, 8, (0.1, 0.2, 0.4), (1, 2, 3, 4, 5)),
    "full": Plan("fashion-mnist", 50_000, 10_000, 30, 16, (0.05, 0.1, 0.2, 0.4), tuple(range(1, 11))),
}


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


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None
) -> Reproduction:
    """Train a small inverted-bottleneck network with plain convolutions, and with experts in its last two blocks.

    As in the paper's EfficientNet, the layers of a block share their routing, and experts begin with weights of their own.
    Both arms get the same images, steps and learning rates to choose from; each learning rate is tried once, and the best
    on images kept from training is used with fresh seeds, which fix the weights and the order of the images in both arms.
    The verdict follows from `RULE`.

    Data: smoke takes scikit-learn's digits; the others Fashion-MNIST; both as `heuretic.data.load` finds them.
    Raises: FileNotFoundError if a data set is missing, ValueError for an unknown scale or fewer than 2 seeds.
    """
    plan = plan_of(PLANS, scale)
    chosen = tuple(plan.seeds if seeds is None else seeds)
    if len(set(chosen)) < max(2, len(chosen)):
        raise ValueError(f"seeds must be at least 2 and different, got {chosen}")
    with one_thread():
        return _check(scale, plan, chosen, progress or (lambda line: None))


def _check(scale: Scale, plan: Plan, seeds: tuple[int, ...], said: Callable[[str], None]) -> Reproduction:
    began = time.perf_counter()
    checksum, train, validation, test = _images(scale, plan)
    shape = (1, *train[0].shape[1:])
    arms: dict[str, Arm] = {}
    for name, experts in (("plain", 0), ("condconv", EXPERTS)):
        program = _program(experts, plan.width)

        def trained(seed: int, lr: float, program: Any = program) -> nn.Module:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network: nn.Module = hr.build(program)
                train_classifier(network, *train, epochs=plan.epochs, lr=lr, seed=seed)
            return network

        tried = {lr: accuracy(trained(TUNING_SEED, lr), *validation) for lr in plan.lrs}
        best = max(plan.lrs, key=lambda lr: tried[lr])
        said(f"{name}: validation accuracy {', '.join(f'{a:.4f} at lr {lr:g}' for lr, a in tried.items())}")
        accuracies = tuple(accuracy(trained(seed, best), *test) for seed in seeds)
        said(f"{name}: test accuracy {', '.join(f'{a:.4f}' for a in accuracies)}")
        settings = {
            "lr": best, "validation_accuracy": {f"lr {lr:g}": a for lr, a in tried.items()}, "experts": experts,
            "training_images": len(train[0]), "epochs": plan.epochs, "parameters": parameter_count(program),
        }  # fmt: skip
        arms[name] = Arm(
            settings, {"test_accuracy": accuracies, "multiply_adds": (MultiplyAdds(shape)(program),) * len(seeds)}
        )
    comparison = compare(arms, "test_accuracy", "condconv", "plain")
    verdict, reason = judge(scale, arms, comparison)
    return Reproduction(
        idea="condconv", claim=CLAIM, scale=scale, seeds=seeds, data={plan.data: checksum}, arms=arms,
        comparisons=(comparison,), rule=RULE, verdict=verdict, reason=reason, seconds=time.perf_counter() - began,
    )  # fmt: skip


def judge(scale: Scale, arms: Mapping[str, Arm], accuracy: Comparison) -> tuple[Verdict, str]:
    """Return the verdict by `RULE`, and the sentence that says why."""
    d = accuracy.estimate
    low, high = (d.mean if end is None else end for end in (d.low, d.high))
    ratio = arms["condconv"].measurements["multiply_adds"][0] / arms["plain"].measurements["multiply_adds"][0]
    means = [estimate(arms[name].measurements["test_accuracy"]).mean for name in ("condconv", "plain")]
    reason = f"Test accuracy {means[0]:.4f} with experts against {means[1]:.4f}, difference {d}, at {ratio:.3f} of the multiply-adds."
    verdict: Verdict = "not testable at this scale"
    if scale != "smoke" and low > 0 and ratio <= MOST:
        verdict = "reproduced"
    elif scale != "smoke" and (high < 0 or ratio > MOST):
        verdict = "not reproduced"
    return verdict, reason


def _program(experts: int, width: int) -> Any:
    blocks = (
        hr.sym(Block)(hr.sym(MBConv)(1), width),
        hr.sym(Block)(hr.sym(MBConv)(4), 2 * width, layers=2, stride=2, se_ratio=0.25),
        hr.sym(Block)(hr.sym(MBConv)(4, experts=experts), 3 * width, layers=2, se_ratio=0.25),
        hr.sym(Block)(hr.sym(MBConv)(4, experts=experts), 5 * width, layers=2, stride=2, se_ratio=0.25),
    )
    return hr.sym(MobileNet)(
        blocks, classes=10, in_channels=1, stem=width, stem_stride=1, head=16 * width, activation=hr.sym(nn.SiLU)()
    )


def _images(scale: Scale, plan: Plan) -> tuple[str, *tuple[tuple[Tensor, Tensor], ...]]:
    """Return the checksum and the images and labels to train on, to choose by, and to test on."""
    order = np.random.default_rng(0)
    data = load(plan.data)
    if plan.data == "digits":  # few, so the test is drawn from all
        pixels = np.concatenate([data.train.inputs, data.test.inputs])[..., 0] / 240
        labels, test = np.concatenate([data.train.labels, data.test.labels]), None
    else:
        pixels, labels = data.train.inputs[..., 0] / 255, data.train.labels
        test = as_tensors(data.test.inputs[..., 0] / 255, data.test.labels)
    shuffled = order.permutation(len(labels))
    parts = np.split(shuffled, [plan.training, plan.training + plan.validation])
    train, validation, rest = (as_tensors(pixels[part], labels[part]) for part in parts)
    return data.checksum, train, validation, rest if test is None else test


IDEA = Idea(
    slug="condconv",
    title="CondConv: kernels mixed for each example",
    paper=Paper(
        authors="Yang, Bender, Le, Ngiam",
        year=2019,
        title="CondConv: Conditionally Parameterized Convolutions for Efficient Inference",
        arxiv="1904.04971",
    ),
    claim=CLAIM,
    usage=(
        'import heuretic as hr\nmodel = hr.apply(model, "condconv?experts=4")\n'
        "model = hr.nn.condconv_efficientnet_b0(classes=10)"
    ),
    patch=CondConv,
    reproduce=reproduce,
    provides=("heuretic.nn:CondConv2d", "heuretic.nn:condconv_efficientnet_b0"),
)
