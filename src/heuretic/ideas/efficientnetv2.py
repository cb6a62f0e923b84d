"""EfficientNetV2: fused inverted bottlenecks in the early stages, and progressive learning.

Tan & Le 2021, "EfficientNetV2: Smaller Models and Faster Training", arXiv:2104.00298. The networks are
`heuretic.nn.efficientnet_v2_s` and so on; progressive learning is `heuretic.train.progressive`.
"""

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import heuretic as hr
from heuretic.data import FlipCrop, load
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Arm, Comparison, Reproduction, Verdict, compare, estimate
from heuretic.ideas.trainings import checked_seeds, one_thread, tuned
from heuretic.nn import Block, FusedMBConv, MBConv, MobileNet, MultiplyAdds
from heuretic.train import Classification, Cosine, Images, Loop, Optimization, Run, progressive, run
from heuretic.train.recipes.progressive import staged

CLAIM = "faster to equal accuracy"
#: Test accuracy that progressive learning may lose at the end, and still count as equal.
MARGIN = 0.01
FIXED, PROGRESSIVE, SIZES_ONLY = "fixed size", "progressive", "progressive size only"
TIMES = ("cpu_seconds_to_equal_accuracy", "multiply_adds_to_equal_accuracy")
STAGES, BATCH = 4, 128
RULE = (
    "Equal accuracy is, for each seed, the lower of the two arms' final validation accuracies; each arm reaches it at the first "
    "evaluation that is not lower. Progressive learning must be faster twice: in CPU seconds of training and in multiply-adds "
    "until then. d is the paired difference, progressive minus fixed size, with its 95% interval over the seeds. Reproduced if "
    "both d lie wholly below 0 and the interval of the difference in final test accuracy lies wholly above -0.01. Not reproduced "
    "if one d lies wholly above 0 or that interval wholly below -0.01; else not testable at this scale. Smoke runs are too short."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything one scale runs.

    Attributes:
        data: Data set. validation: Rows to choose by, kept from training. sizes: Of images, first and last.
        steps, evaluations: Of each training. width: Channels of the first block. lrs, magnitudes: Tried in each arm;
            of RandAugment, one operation, in the first stage and in the last, or None.
        dropout: In the first stage and in the last. ablation: Whether there is the third arm.
    """

    data: str
    validation: int
    sizes: tuple[int, int]
    steps: int
    evaluations: int
    width: int
    lrs: tuple[float, ...]
    magnitudes: tuple[tuple[float, float] | None, ...]
    dropout: tuple[float, float]
    ablation: bool
    seeds: tuple[int, ...]


PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan("digits", 200, (4, 8), 8, 4, 8, (0.1,), (None, (5, 10)), (0.0, 0.1), True, (1, 2)),
    "small": Plan("fashion-mnist", 2_000, (16, 28), 500, 25, 16, (0.1, 0.3), (None, (5, 10)), (0.0, 0.1), False, (1, 2, 3, 4, 5)),
    "full": Plan(
        "cifar10", 5_000, (16, 32), 4_000, 40, 32, (0.1, 0.2, 0.4), (None, (5, 10), (5, 15)), (0.1, 0.3), True, (1, 2, 3, 4, 5)
    ),
}  # fmt: skip


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None
) -> Reproduction:
    """Train a small network of (fused) inverted bottlenecks with images of one size, and with progressive learning.

    A third arm, the paper's ablation (left out in small runs), lets images grow but has the last stage's regularisation (RandAugment, dropout)
    throughout. All arms have the same steps, and the same learning rates and last magnitudes to choose from on validation
    rows; then they take turns, seed by seed, so that whatever else the machine does meets all of them. CPU seconds are those
    of the process during training; multiply-adds are forward passes of all training images, whatever the backward pass
    multiplies them by. The verdict follows from `RULE`.

    Data: scikit-learn's digits for smoke, Fashion-MNIST for small, CIFAR-10 for full, as `heuretic.data.load` finds them.
    Raises: FileNotFoundError if a data set is missing, ValueError for an unknown scale or unfit seeds.
    """
    plan = plan_of(PLANS, scale)
    chosen = checked_seeds(seeds, plan.seeds)
    with one_thread():
        return _check(scale, plan, chosen, progress or (lambda line: None))


def _check(scale: Scale, plan: Plan, seeds: tuple[int, ...], said: Callable[[str], None]) -> Reproduction:
    began = time.perf_counter()
    data = load(plan.data, validation=plan.validation)
    channels = data.train.inputs.shape[-1]
    found = {}
    for name in (FIXED, PROGRESSIVE, *([SIZES_ONLY] if plan.ablation else [])):
        found[name] = tuned(_program(plan, name, channels), said=lambda line, name=name: said(f"{name}: {line}"))
    test = Classification(data, Images.of(data.train).sized(plan.sizes[1]), torch.device("cpu"))
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in found}
    for seed in seeds:
        trained = {name: run(each.program, seed=seed) for name, each in found.items()}
        target = min(trained[name].metrics["validation_accuracy"] for name in (FIXED, PROGRESSIVE))
        for name, each in trained.items():
            row = costs(each.runs[0], target, _multiply_adds(plan, name, channels))
            row |= {"equal_accuracy": target, "validation_accuracy": each.metrics["validation_accuracy"]}
            rows[name].append(row | {"test_accuracy": test.measure(each.model, data.test)["accuracy"]})
            shown = ", ".join(f"{metric} {value:.4g}" for metric, value in rows[name][-1].items())
            said(f"{name}, seed {seed}: {shown}")
    arms = {
        name: Arm(each.settings, {metric: tuple(row[metric] for row in rows[name]) for metric in rows[name][0]})
        for name, each in found.items()
    }
    comparisons = (
        *(compare(arms, metric, PROGRESSIVE, FIXED, less_is_better=True) for metric in TIMES),
        *(compare(arms, "test_accuracy", PROGRESSIVE, control) for control in arms if control != PROGRESSIVE),
    )
    verdict, reason = judge(scale, arms, comparisons)
    return Reproduction(
        idea="efficientnetv2", claim=CLAIM, scale=scale, seeds=seeds, data={plan.data: data.checksum}, arms=arms,
        comparisons=comparisons, rule=RULE, verdict=verdict, reason=reason, seconds=time.perf_counter() - began,
    )  # fmt: skip


def costs(training: Run, target: float, multiply_adds: Sequence[float]) -> dict[str, float]:
    """Return what a training cost in all, and until its first evaluation with at least the target accuracy.

    One that never reached it is counted in full.

    Args:
        multiply_adds: Of a forward pass of all images of a step, in each of the stages.
    """
    first = next((i for i, (_, each) in enumerate(training.evaluations) if each["accuracy"] >= target), -1)

    def until(step: int) -> float:
        return sum(multiply_adds[done * len(multiply_adds) // training.steps] for done in range(step))

    return {
        "cpu_seconds_to_equal_accuracy": training.cpu_seconds[first],
        "multiply_adds_to_equal_accuracy": until(training.evaluations[first][0]),
        "steps_to_equal_accuracy": training.evaluations[first][0],
        "cpu_seconds": training.cpu_seconds[-1],
        "multiply_adds": until(training.steps),
    }


def judge(scale: Scale, arms: Mapping[str, Arm], comparisons: Sequence[Comparison]) -> tuple[Verdict, str]:
    """Return the verdict by `RULE`, and the sentence that says what it follows from."""
    times = [next(c for c in comparisons if c.metric == metric and c.control == FIXED).estimate for metric in TIMES]
    final = next(c for c in comparisons if c.metric == "test_accuracy" and c.control == FIXED).estimate
    ends = [(d.mean if d.low is None else d.low, d.mean if d.high is None else d.high) for d in (*times, final)]
    faster, worse = all(high < 0 for _, high in ends[:2]), ends[2][1] < -MARGIN or any(low > 0 for low, _ in ends[:2])
    verdict: Verdict = "not testable at this scale"
    if scale != "smoke" and (worse or (faster and ends[2][0] > -MARGIN)):
        verdict = "not reproduced" if worse else "reproduced"
    ratios = [
        estimate(arms[PROGRESSIVE].measurements[metric]).mean / estimate(arms[FIXED].measurements[metric]).mean
        for metric in TIMES
    ]
    return verdict, (
        f"To equal validation accuracy progressive learning took {ratios[0]:.2f} times the CPU seconds of fixed size (difference "
        f"{times[0]}) and {ratios[1]:.2f} times the multiply-adds (difference {times[1]}); its test accuracy at the end differs by "
        f"{final}."
    )


def _program(plan: Plan, arm: str, channels: int) -> Any:
    """Return the training of an arm, with its learning rate and magnitudes left open."""
    constant = arm != PROGRESSIVE
    magnitudes = [each if each is None or not constant else (each[1], each[1]) for each in plan.magnitudes]
    optimizer = hr.sym(functools.partial)(
        torch.optim.SGD, lr=hr.one_of(*plan.lrs), momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    return hr.sym(progressive)(
        model=_network(plan, channels),
        data=hr.sym(load)(plan.data, validation=plan.validation),
        optimization=hr.sym(Optimization)(optimizer=optimizer, schedule=hr.sym(Cosine)(), cpu=True),
        loop=hr.sym(Loop)(steps=plan.steps, evaluate_every=plan.steps // plan.evaluations, progress=False),
        batch=BATCH,
        stages=STAGES,
        sizes=_sizes(plan, arm),
        magnitudes=hr.one_of(*magnitudes),
        ops=1,
        dropout=(plan.dropout[1], plan.dropout[1]) if constant else plan.dropout,
        augment=(FlipCrop(pad=plan.sizes[1] // 8, flip=plan.data != "digits"),),
    )


def _network(plan: Plan, channels: int) -> Any:
    """Return the program of a small network of the kinds of blocks that EfficientNetV2 has, in its order."""
    width = plan.width
    blocks = (
        hr.sym(Block)(hr.sym(FusedMBConv)(2), width),
        hr.sym(Block)(hr.sym(FusedMBConv)(4), 3 * width // 2, stride=2),
        hr.sym(Block)(hr.sym(MBConv)(4), 2 * width, se_ratio=0.25),
    )
    return hr.sym(MobileNet)(
        blocks, classes=10, in_channels=channels, stem=width, stem_stride=1 if plan.sizes[1] < 16 else 2, head=4 * width,
        activation=hr.sym(nn.SiLU)(), dropout=plan.dropout[1],
    )  # fmt: skip


def _sizes(plan: Plan, arm: str) -> tuple[int, int]:
    return (plan.sizes[1], plan.sizes[1]) if arm == FIXED else plan.sizes


def _multiply_adds(plan: Plan, arm: str, channels: int) -> list[float]:
    """Return the multiply-adds of a forward pass of a batch in each stage."""
    network = _network(plan, channels)
    sides = [math.floor(staged(_sizes(plan, arm), stage, STAGES) + 0.5) for stage in range(STAGES)]
    return [BATCH * MultiplyAdds((1, channels, side, side))(network) for side in sides]


IDEA = Idea(
    slug="efficientnetv2",
    title="EfficientNetV2: fused inverted bottlenecks and progressive learning",
    paper=Paper(
        authors="Tan, Le", year=2021, title="EfficientNetV2: Smaller Models and Faster Training", arxiv="2104.00298"
    ),
    claim=CLAIM,
    usage=(
        "import heuretic as hr\nmodel = hr.nn.efficientnet_v2_s(classes=10)\n"
        "trained = hr.train.progressive(model, data, sizes=(128, 300), magnitudes=(5, 15), dropout=(0.1, 0.3))"
    ),
    provides=(
        "heuretic.nn:efficientnet_v2_s", "heuretic.nn:efficientnet_v2_m", "heuretic.nn:efficientnet_v2_l",
        "heuretic.nn:FusedMBConv", "heuretic.train:progressive",
    ),
    reproduce=reproduce,
)  # fmt: skip
