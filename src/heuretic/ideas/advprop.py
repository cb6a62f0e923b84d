"""AdvProp: adversarial examples with batch statistics of their own.

Xie et al. 2019, "Adversarial Examples Improve Image Recognition", arXiv:1911.09665. The patch is the paper's change to the
model, `heuretic.nn.AuxiliaryBatchNorm`; `heuretic.train.advprop` trains it.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import heuretic as hr
from heuretic.data import CORRUPTIONS, FlipCrop, Split, corrupted, load
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Comparison, Reproduction, Verdict, compare
from heuretic.ideas.trainings import checked_seeds, one_thread, plain_network, reason_of, tuned_arms
from heuretic.nn import AuxiliaryBatchNorm
from heuretic.symbolic import PatchError, Path
from heuretic.train import PGD, Classification, Cosine, Loop, Optimization, Trained, advprop, supervised

CLAIM = "training on adversarial examples with auxiliary batch normalisation improves accuracy on clean and corrupted images"
VANILLA, ADVPROP, LONGER = "vanilla", "advprop", "vanilla with the compute of advprop"
METRICS = ("test_accuracy", "corrupted_test_accuracy")
RULE = (
    "d are the four paired differences, each with its 95% interval over the seeds, in accuracy on clean and on corrupted test "
    "images, advprop minus vanilla training of as many updates, and minus vanilla training of as much compute. Reproduced if all "
    "four lie wholly above 0, not reproduced if any lies wholly below 0, else not testable at this scale. Smoke runs are too short."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything one scale runs.

    Attributes:
        training, validation, test: Images; those of the test are the first. severities: Of each corruption, 1 to 5.
        attack_steps: Passes of an attack, each a step of epsilon / (attack_steps - 1), as the paper's epsilon + 1 steps of 1.
        epsilons: Tried with AdvProp; the others try as many weight `decays`, of which AdvProp has the first.
        lrs: Learning rates tried in each arm.
    """

    data: str
    training: int
    validation: int
    test: int
    severities: tuple[int, ...]
    width: int
    steps: int
    batch: int
    attack_steps: int
    epsilons: tuple[float, ...]
    decays: tuple[float, ...]
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]


PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan("digits", 300, 100, 50, (3,), 4, 12, 32, 2, (15 / 255, 30 / 255), (5e-4, 5e-3), (0.1,), (1, 2)),
    "small": Plan(
        "fashion-mnist", 4_000, 2_000, 1_500, (1, 3, 5), 12, 800, 64, 3, (2 / 255, 8 / 255), (5e-4, 5e-3), (0.1, 0.3),
        (1, 2, 3, 4, 5),
    ),
    "full": Plan(
        "cifar10", 9_000, 1_000, 2_000, (1, 2, 3, 4, 5), 64, 8_000, 128, 5, (1 / 255, 2 / 255, 4 / 255), (5e-4, 2e-3, 5e-3),
        (0.05, 0.1, 0.2), (1, 2, 3, 4, 5),
    ),
}  # fmt: skip


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


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None
) -> Reproduction:
    """Train a small convolutional network by AdvProp and without, and test it on clean and corrupted images.

    An update of AdvProp takes as many forward and backward passes as the attack has steps, and two; so a third arm trains
    without it for that many times the steps. Arms have equally many candidates, chosen by accuracy on clean images kept from
    training; the seeds fix weights and batches in all. Corrupted accuracy is the mean over 14 corruptions and the plan's
    severities. The verdict follows from `RULE`.

    Data: smoke takes scikit-learn's digits, small Fashion-MNIST, full CIFAR-10, as `heuretic.data.load` finds them.
    Raises: ValueError for an unknown scale, or seeds that `checked_seeds` refuses.
    """
    plan, said, began = plan_of(PLANS, scale), progress or (lambda line: None), time.perf_counter()
    chosen = checked_seeds(seeds, plan.seeds)
    data = load(plan.data, validation=plan.validation, labels=plan.training)
    task = Classification(data, None, torch.device("cpu"))  # where the programs train
    first = data.test[: plan.test]
    bad = [
        Split(corrupted(np.asarray(first.inputs), name, severity), first.labels)
        for name, severity in product(CORRUPTIONS, plan.severities)
    ]
    said(f"{len(bad)} corrupted test sets of {len(first)} images made")

    def measures(trained: Trained) -> dict[str, float]:
        def right(split: Split[Any, Any]) -> float:
            return task.measure(trained.model, split)["accuracy"]

        return {"test_accuracy": right(data.test), "corrupted_test_accuracy": fmean(map(right, bad))}

    with one_thread():
        programs = {arm: _program(plan, arm, data.train.inputs.shape[-1]) for arm in (VANILLA, ADVPROP, LONGER)}
        arms = tuned_arms(programs, measures, seeds=chosen, said=said)
    comparisons = tuple(compare(arms, metric, ADVPROP, control) for control in (VANILLA, LONGER) for metric in METRICS)
    return Reproduction(
        idea="advprop", claim=CLAIM, scale=scale, seeds=chosen, data={data.name: data.checksum}, arms=arms,
        comparisons=comparisons, rule=RULE, verdict=judge(scale, comparisons),
        reason=" ".join(reason_of(arms, each) for each in comparisons), seconds=time.perf_counter() - began,
    )  # fmt: skip


def judge(scale: Scale, comparisons: Sequence[Comparison]) -> Verdict:
    """Return the verdict by `RULE`."""
    estimates = [comparison.estimate for comparison in comparisons]
    if scale == "smoke" or any(d.low is None or d.high is None for d in estimates):
        return "not testable at this scale"
    if all(d.low is not None and d.low > 0 for d in estimates):
        return "reproduced"
    worse = any(d.high is not None and d.high < 0 for d in estimates)
    return "not reproduced" if worse else "not testable at this scale"


def _program(plan: Plan, arm: str, channels: int) -> Any:
    """Return the training of an arm, with its learning rate and its other knob left open."""
    mine = arm == ADVPROP
    optimizer = hr.sym(functools.partial)(
        torch.optim.SGD, lr=hr.one_of(*plan.lrs), momentum=0.9, nesterov=True,
        weight_decay=plan.decays[0] if mine else hr.one_of(*plan.decays),
    )  # fmt: skip
    network, k = plain_network(channels, plan.width), plan.attack_steps
    shared: dict[str, Any] = {
        "data": hr.sym(load)(plan.data, validation=plan.validation, labels=plan.training),
        "optimization": hr.sym(Optimization)(optimizer=optimizer, schedule=hr.sym(Cosine)(), cpu=True),
        "loop": hr.sym(Loop)(steps=plan.steps * (k + 2 if arm == LONGER else 1), progress=False),
        "batch": plan.batch,
        "augment": (FlipCrop(),) if plan.data == "cifar10" else (),
    }
    if not mine:
        return hr.sym(supervised)(model=network, **shared)
    attacks = [PGD(epsilon=epsilon, step_size=epsilon / (k - 1), steps=k) for epsilon in plan.epsilons]
    return hr.sym(advprop)(model=hr.apply(network, AdvProp()), attack=hr.one_of(*attacks), **shared)


IDEA = Idea(
    slug="advprop",
    title="AdvProp: auxiliary batch normalisation",
    paper=Paper(
        authors="Xie, Tan, Gong, Wang, Yuille, Le",
        year=2019,
        title="Adversarial Examples Improve Image Recognition",
        arxiv="1911.09665",
    ),
    claim=CLAIM,
    usage=(
        'import heuretic as hr\nmodel = hr.apply(model, "advprop")\n'
        "with hr.nn.auxiliary_statistics(model):\n    loss = criterion(model(adversarial_images), labels)\n"
        "# or hr.train.advprop(model, data)"
    ),
    patch=AdvProp,
    reproduce=reproduce,
    provides=("heuretic.nn:AuxiliaryBatchNorm", "heuretic.nn:auxiliary_statistics", "heuretic.train:advprop"),
)
