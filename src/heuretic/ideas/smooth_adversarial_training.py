"""Smooth adversarial training: replace ReLU by a smooth activation.

Xie et al. 2020, "Smooth Adversarial Training", arXiv:2006.14536. The patch is the paper's change to the model;
`heuretic.train.adversarial` trains it.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

import heuretic as hr
from heuretic.data import load
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Comparison, Reproduction, Verdict, compare
from heuretic.ideas.trainings import checked_seeds, one_thread, plain_network, reason_of, tuned_arms
from heuretic.nn import ParametricSoftplus, SmoothReLU, Swish, parametric_softplus, smooth_relu
from heuretic.nn.functional_calls import RELU, warn_of
from heuretic.train import (
    PGD,
    Classification,
    Cosine,
    Images,
    Loop,
    Optimization,
    Trained,
    adversarial,
    measured,
    robust_accuracy,
)

Activation = Literal["silu", "gelu", "softplus", "elu", "smooth_relu", "swish"]
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


CLAIM = "higher robust accuracy at equal clean accuracy"
#: By how much clean accuracy may fall and still count as equal.
MARGIN = 0.005
RULE = (
    "r is the paired difference in robust test accuracy (right under ten steps of projected gradient descent), silu minus relu, "
    f"c the same in clean test accuracy, each with its 95% interval over the seeds. Reproduced if r lies wholly above 0 and c "
    f"wholly above -{MARGIN}. Not reproduced if r lies wholly below 0 or c wholly below -{MARGIN}; else not testable at this "
    "scale. Smoke runs are too short."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything one scale runs.

    Attributes:
        training, validation, test: Images; those of the test are the first. activations: Smooth ones, each an arm.
        epsilon, attack_steps: Of the attack in training, whose steps are 1.5 / attack_steps of epsilon.
        lrs: Learning rates tried in each arm.
    """

    data: str
    training: int
    validation: int
    test: int
    width: int
    steps: int
    batch: int
    epsilon: float
    attack_steps: int
    activations: tuple[Activation, ...]
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]


PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan("digits", 300, 100, 100, 4, 20, 32, 15 / 255, 2, ("silu",), (0.1, 0.2), (1, 2)),
    "small": Plan("fashion-mnist", 10_000, 1_000, 5_000, 12, 700, 128, 16 / 255, 3, ("silu",), (0.4, 0.8, 1.6, 3.2), (1, 2, 3, 4, 5)),
    "full": Plan(
        "cifar10", 8_000, 1_000, 2_000, 64, 6_000, 128, 8 / 255, 10, ("silu", "gelu", "softplus", "smooth_relu", "elu"),
        (0.05, 0.1, 0.2, 0.4), (1, 2, 3, 4, 5),
    ),
}  # fmt: skip


class SmoothActivations(hr.Patch):
    """Replace every ReLU and ReLU6 by a smooth activation.

    Softplus is the paper's parametric one with alpha = 10; ELU has alpha = 1, as in the paper; swish begins as SiLU.
    ReLU that a `forward` method calls as a function is out of reach, except in torch's transformer layers, which store
    it: a warning names the places, and `heuretic.nn:ExposeActivations` makes modules of them.

    Raises: ValueError if `trained` is asked of an activation without a sharpness to train.
    """

    name: ClassVar[str] = "smooth-adversarial-training"
    activation: Activation = hr.field(default="silu", doc="what stands in for ReLU")
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


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None
) -> Reproduction:
    """Train a small convolutional network on attacked images, with ReLU and with what the patch makes of it.

    All arms get the same images, attack, steps and learning rates to choose from, by robust accuracy on images kept from
    training; the seeds fix weights, batches and random starts in all. The verdict follows from `RULE`; at full scale, other
    smooth activations than SiLU are compared beside it.

    Data: smoke takes scikit-learn's digits, small Fashion-MNIST, full CIFAR-10, as `heuretic.data.load` finds them.
    Raises: ValueError for an unknown scale, or seeds that `checked_seeds` refuses.
    """
    plan, began = plan_of(PLANS, scale), time.perf_counter()
    chosen = checked_seeds(seeds, plan.seeds)
    data = load(plan.data, validation=plan.validation, labels=plan.training)
    images = Images.of(data.train)
    task = Classification(data, images, torch.device("cpu"))  # where the programs train

    def measures(trained: Trained) -> dict[str, float]:
        test = list(task.in_order(data.test[: plan.test]))
        attack = PGD(epsilon=plan.epsilon, step_size=plan.epsilon / 4, steps=10)
        return {
            "test_accuracy": measured(trained.model, test)["accuracy"],
            "robust_test_accuracy": robust_accuracy(trained.model, test, attack, low=images.low, high=images.high),
        }

    network = plain_network(data.train.inputs.shape[-1], plan.width)
    networks = {"relu": network}
    for activation in plan.activations:
        networks[activation] = hr.apply(network, SmoothActivations(activation=activation))
    with one_thread():
        arms = tuned_arms(
            {name: _program(plan, network) for name, network in networks.items()}, measures, seeds=chosen,
            by="validation_robust_accuracy", said=progress or (lambda line: None),
        )  # fmt: skip
    comparisons = tuple(
        compare(arms, metric, activation, "relu")
        for activation in plan.activations
        for metric in ("robust_test_accuracy", "test_accuracy")
    )
    return Reproduction(
        idea="smooth-adversarial-training", claim=CLAIM, scale=scale, seeds=chosen, data={data.name: data.checksum}, arms=arms,
        comparisons=comparisons, rule=RULE, verdict=judge(scale, comparisons[0], comparisons[1]),
        reason=" ".join(reason_of(arms, each) for each in comparisons[:2]), seconds=time.perf_counter() - began,
    )  # fmt: skip


def judge(scale: Scale, robust: Comparison, clean: Comparison) -> Verdict:
    """Return the verdict by `RULE`."""
    r, c = robust.estimate, clean.estimate
    if scale == "smoke" or r.low is None or r.high is None or c.low is None or c.high is None:
        return "not testable at this scale"
    if r.low > 0 and c.low > -MARGIN:
        return "reproduced"
    return "not reproduced" if r.high < 0 or c.high < -MARGIN else "not testable at this scale"


def _program(plan: Plan, network: Any) -> Any:
    """Return the adversarial training of a network, with its learning rate left open."""
    optimizer = hr.sym(functools.partial)(
        torch.optim.SGD, lr=hr.one_of(*plan.lrs), momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    return hr.sym(adversarial)(
        model=network,
        data=hr.sym(load)(plan.data, validation=plan.validation, labels=plan.training),
        attack=PGD(epsilon=plan.epsilon, step_size=1.5 * plan.epsilon / plan.attack_steps, steps=plan.attack_steps),
        optimization=hr.sym(Optimization)(optimizer=optimizer, schedule=hr.sym(Cosine)(), cpu=True),
        loop=hr.sym(Loop)(steps=plan.steps, progress=False),
        batch=plan.batch,
    )


IDEA = Idea(
    slug="smooth-adversarial-training",
    title="Smooth adversarial training: smooth activations for ReLU",
    paper=Paper(
        authors="Xie, Tan, Gong, Yuille, Le", year=2020, title="Smooth Adversarial Training", arxiv="2006.14536"
    ),
    claim=CLAIM,
    usage=(
        'import heuretic as hr\nmodel = hr.apply(model, "smooth-adversarial-training?activation=silu")\n'
        "# then hr.train.adversarial(model, data)"
    ),
    patch=SmoothActivations,
    reproduce=reproduce,
    provides=("heuretic.train:adversarial", "heuretic.train:PGD"),
)
