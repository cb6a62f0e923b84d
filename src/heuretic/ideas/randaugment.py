"""RandAugment: random operations on images, with two numbers to choose in the place of a policy to search for.

Cubuk et al. 2020, "RandAugment: Practical automated data augmentation with a reduced search space", arXiv:1909.13719. The
augmentation is `heuretic.data.RandAugment`; its grid is searched by `heuretic discover examples/randaugment.py`.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import heuretic as hr
from heuretic.data import AutoAugment, FlipCrop, Policy, RandAugment, Step, load
from heuretic.data.operations import OPERATIONS
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Comparison, Reproduction, Verdict, compare
from heuretic.ideas.trainings import checked_seeds, one_thread, tuned_arms
from heuretic.train import Classification, Loop, Optimization, Trained, supervised

CLAIM = "equal to or better than no/flip-crop augmentation and than a searched policy at a fraction of the cost"
NONE, FLIP_CROP, RAND_AUGMENT = "none", "flip-crop", "randaugment"
SEARCHED, PUBLISHED = "searched policy", "published policy"
#: Test accuracy that RandAugment may lack and still count as equal.
MARGIN = 0.01
RULE = (
    "All arms are tuned by equally many trainings. d is the paired difference in test accuracy, randaugment minus another arm, "
    "with its 95% interval over the seeds. Reproduced if against each of the others (none, flip-crop, searched policy, published "
    "policy) d lies wholly above -0.01. Not reproduced if one d lies wholly below 0; else not testable at this scale. Smoke runs are too short."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything one scale runs.

    Attributes:
        data: Data set. training, validation: Rows to train on, and others to choose by. steps: Of each training.
        width: Channels of the first convolution. lrs, smoothings: Learning rates and label smoothings that are chosen from by
            all but RandAugment and the searched policy, which take the first of each. ops, magnitudes: RandAugment's grid.
        pairs: Of operations in the searched policy. cpu: Whether a GPU is left alone, so that numbers repeat bit for bit.
    """

    data: str
    training: int
    validation: int
    steps: int
    width: int
    lrs: tuple[float, ...]
    smoothings: tuple[float, ...]
    ops: tuple[int, ...]
    magnitudes: tuple[float, ...]
    pairs: int
    seeds: tuple[int, ...]
    cpu: bool = True


PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan("digits", 400, 300, 10, 8, (0.01, 0.003), (0.0,), (1,), (5, 9), 2, (1, 2)),
    "small": Plan("cifar10", 1_000, 2_000, 300, 12, (0.003, 0.001, 0.01), (0.0, 0.1), (1, 2), (5, 9, 13), 5, (1, 2, 3, 4, 5)),
    "full": Plan(
        "cifar10", 45_000, 5_000, 80_000, 64, (0.003, 0.001, 0.01, 0.03), (0.0, 0.05, 0.1), (1, 2, 3), (3, 5, 7, 9), 25,
        tuple(range(1, 6)), cpu=False,
    ),
}  # fmt: skip
BATCH = 64


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None
) -> Reproduction:
    """Train a small convolutional network with no augmentation, flips and crops, RandAugment, and two policies.

    Each arm is tuned by as many trainings, on validation rows: RandAugment by all of its grid; a policy of AutoAugment's form
    by evolution; the others, among them the policy that AutoAugment's authors found for CIFAR-10 in thousands of GPU hours, by
    learning rate and label smoothing, which the first two cannot choose. RandAugment and the policies come after flips and
    crops. What is chosen is trained anew with fresh seeds. The verdict follows from `RULE`.

    Data: scikit-learn's digits for smoke, else CIFAR-10, or the sample of it that is there.
    Raises: FileNotFoundError if a data set is missing, ValueError for an unknown scale or unfit seeds.
    """
    plan = plan_of(PLANS, scale)
    chosen = checked_seeds(seeds, plan.seeds)
    with one_thread():
        return _check(scale, plan, chosen, progress or (lambda line: None))


def _check(scale: Scale, plan: Plan, seeds: tuple[int, ...], said: Callable[[str], None]) -> Reproduction:
    began = time.perf_counter()
    data = load(plan.data, validation=plan.validation, labels=plan.training)

    def measure(trained: Trained) -> dict[str, float]:
        task = Classification(data, None, next(trained.model.parameters()).device)
        return {**trained.metrics, "test_accuracy": task.measure(trained.model, data.test)["accuracy"]}

    trainings = len(plan.ops) * len(plan.magnitudes)
    search = hr.Evolution(population=max(2, trainings // 2), tournament=2)
    _, side, _, channels = data.train.inputs.shape
    arms = tuned_arms(programs(plan, channels, side), measure, seeds=seeds, searched={SEARCHED: search}, said=said)
    comparisons = tuple(
        compare(arms, "test_accuracy", RAND_AUGMENT, control) for control in (NONE, FLIP_CROP, SEARCHED, PUBLISHED)
    )
    verdict, reason = judge(scale, comparisons)
    return Reproduction(
        idea="randaugment", claim=CLAIM, scale=scale, seeds=seeds, data={plan.data: data.checksum}, arms=arms,
        comparisons=comparisons, rule=RULE, verdict=verdict, reason=reason, seconds=time.perf_counter() - began,
    )  # fmt: skip


def judge(scale: Scale, comparisons: Sequence[Comparison]) -> tuple[Verdict, str]:
    """Return the verdict by `RULE`, and the sentence that says what it follows from."""
    shown = [each.estimate for each in comparisons]
    verdict: Verdict = "not testable at this scale"
    if scale != "smoke":
        if any(d.high is not None and d.high < 0 for d in shown):
            verdict = "not reproduced"
        elif all(d.low is not None and d.low > -MARGIN for d in shown):
            verdict = "reproduced"
    differences = ", ".join(f"{d} from {each.control}" for each, d in zip(comparisons, shown, strict=True))
    return verdict, f"Test accuracy with RandAugment differs by {differences}."


def programs(plan: Plan, channels: int, side: int) -> dict[str, Any]:
    """Return the training of each arm for images of this kind; what it is tuned by is left open."""
    moved = FlipCrop(pad=max(1, side // 16), flip=plan.data != "digits")

    def program(augment: tuple[Any, ...], lr: float = plan.lrs[0], smoothing: float = plan.smoothings[0]) -> Any:
        optimizer = hr.sym(functools.partial)(torch.optim.AdamW, lr=lr, weight_decay=0.05)
        return hr.sym(supervised)(
            model=hr.sym(network)(channels, plan.width, side),
            data=hr.sym(load)(plan.data, validation=plan.validation, labels=plan.training),
            optimization=hr.sym(Optimization)(optimizer=optimizer, cpu=plan.cpu),
            loop=hr.sym(Loop)(steps=plan.steps, progress=False),
            batch=BATCH,
            augment=augment,
            label_smoothing=smoothing,
        )

    free = {"lr": hr.one_of(*plan.lrs), "smoothing": hr.one_of(*plan.smoothings)}
    grid = RandAugment(ops=hr.one_of(*plan.ops), magnitude=hr.one_of(*plan.magnitudes))
    return {
        NONE: program((), **free),
        FLIP_CROP: program((moved,), **free),
        RAND_AUGMENT: program((moved, grid)),
        SEARCHED: program((moved, open_policy(plan.pairs))),
        PUBLISHED: program((moved, AutoAugment("cifar10")), **free),
    }


def open_policy(pairs: int) -> Policy:
    """Return a policy with everything left open that AutoAugment searches: operation, probability and level of each step."""
    probabilities, levels = (tenth / 10 for tenth in range(11)), map(float, range(10))
    step = Step(hr.one_of(*OPERATIONS), hr.one_of(*probabilities), hr.one_of(*levels))
    return Policy(((step, step),) * pairs)


def network(channels: int, width: int, side: int, classes: int = 10) -> nn.Module:
    """Return three convolutions with normalisation, the first and the last with stride 2, means of 2 x 2, and a linear classifier.

    It has enough weights to learn a few thousand images by heart: else there would be no use for augmentation.
    """
    layers: list[nn.Module] = []
    for filters, stride in ((width, 2), (2 * width, 1), (4 * width, 2)):
        layers += [nn.Conv2d(channels, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]
        channels = filters
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(channels * (side // 8) ** 2, classes))


IDEA = Idea(
    slug="randaugment",
    title="RandAugment: random operations at one strength",
    paper=Paper(
        authors="Cubuk, Zoph, Shlens, Le",
        year=2020,
        title="RandAugment: Practical automated data augmentation with a reduced search space",
        arxiv="1909.13719",
    ),
    claim=CLAIM,
    usage=(
        "import heuretic as hr\n"
        "augment = (hr.data.FlipCrop(), hr.data.RandAugment(ops=hr.one_of(1, 2, 3), magnitude=hr.one_of(5, 9, 13)))\n"
        "program = hr.sym(hr.train.supervised)(model, data, augment=augment)\n"
        'study = hr.discover(program, hr.train.evaluate, maximize="validation_accuracy")'
    ),
    provides=("heuretic.data:RandAugment", "heuretic.data:FlipCrop"),
    reproduce=reproduce,
)
