"""TabNAS: a REINFORCE controller that rejects what is infeasible, in place of a penalty in the reward.

Yang et al. 2022, "TabNAS: Rejection Sampling for Neural Architecture Search on Tabular Datasets", arXiv:2204.07615.
The mechanism is `heuretic.search.Rejection` around `heuretic.search.Reinforce`; the rewards it is compared with are
`heuretic.search.AbsoluteReward` and `SoftExponent`.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from statistics import fmean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import heuretic as hr
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Arm, Comparison, Reproduction, Verdict, compare
from heuretic.ideas.trainings import one_thread
from heuretic.nn.mlp import MLP, mlp
from heuretic.search import AbsoluteReward, Algorithm, Genome, RandomSearch, Reinforce, Rejection, Result, SoftExponent

CLAIM = "on a real tabular data set finds the small-bottleneck optimum that reward shaping misses"
Widths = tuple[int, ...]
Reward = Callable[[Mapping[str, float]], float]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything one scale runs.

    Attributes:
        tables: Names of data sets. widths: Candidates for each of `layers` hidden layers. references: Width of the
            network of equal layers whose number of parameters is the limit, one task for each.
        trainings: Networks trained for each architecture, over which its quality is averaged. epochs: Of each.
        evaluations: Architectures that a controller may look up. lrs, strengths: Settings tried for every arm: learning
            rates, and one other setting of as many values (draws for rejection, the weight of the cost in rewards).
        tuning, seeds: Seeds of the runs by which settings are chosen, and of those that are reported.
    """

    tables: tuple[str, ...]
    widths: tuple[int, ...]
    layers: int
    references: tuple[int, ...]
    trainings: int
    epochs: int
    evaluations: int
    lrs: tuple[float, ...]
    samples: tuple[int, ...]
    strengths: tuple[float, ...]
    tuning: tuple[int, ...]
    seeds: tuple[int, ...]


PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan(("breast-cancer",), (4, 16, 64), 2, (16,), 2, 2, 40, (0.1,), (8,), (-0.1,), (1001,), (1, 2)),
    "small": Plan(
        ("digits", "breast-cancer"), (4, 8, 16, 32, 64, 128), 3, (16, 32), 8, 10, 1000,
        (0.05, 0.1, 0.2), (4, 16, 32, 64), (-0.03, -0.1, -0.3, -1.0), (1001, 1002, 1003, 1004), tuple(range(1, 21)),
    ),
    "full": Plan(
        ("digits", "breast-cancer"), (4, 8, 16, 24, 32, 48, 64, 96, 128), 3, (16, 32, 48), 32, 20, 5000,
        (0.02, 0.05, 0.1, 0.2), (4, 16, 64, 256), (-0.03, -0.1, -0.3, -1.0), tuple(range(1001, 1011)),
        tuple(range(1, 51)),
    ),
}  # fmt: skip
RULE = (
    "A task is a table and a limit on parameters. Each seed of an arm solves a task if the most probable feasible "
    "architecture of its final policy is the true constrained optimum; its share is that of tasks solved. Not testable "
    "if no optimum has a bottleneck: a hidden layer at most half as wide as the one before it. Reproduced if rejection's "
    "mean share is at least one half and the paired differences of shares, rejection minus absolute reward and "
    "rejection minus soft exponent, have 95% intervals above 0; else not reproduced. Smoke runs test nothing."
)
BATCH, LEARNING_RATE = 64, 0.01


@dataclass(frozen=True, slots=True)
class Table:
    """A table split in two: features of mean 0 and deviation 1 in training, float32, and classes from 0."""

    checksum: str
    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]

    @property
    def shape(self) -> tuple[int, int]:
        """Columns and classes."""
        return self.train[0].shape[1], int(self.train[1].max()) + 1


@dataclass(frozen=True, slots=True)
class Task:
    """All architectures of a table with their quality and number of parameters, and the most parameters allowed."""

    name: str
    quality: Mapping[Widths, float]
    parameters: Mapping[Widths, int]
    at_most: int
    space: hr.Space

    def is_feasible(self, widths: Widths) -> bool:
        return self.parameters[widths] <= self.at_most

    @property
    def optimum(self) -> Widths:
        return max(filter(self.is_feasible, self.quality), key=lambda widths: self.quality[widths])

    def widths(self, genome: Genome) -> Widths:
        program: Any = self.space.decode(genome)
        return program.widths


@dataclass(frozen=True, slots=True)
class Contestant:
    """One setting of an arm: the controller, what it is rewarded with, and whether it sees infeasible architectures."""

    algorithm: Algorithm
    reward: Reward | None = None


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None
) -> Reproduction:
    """Search the widths of multi-layer perceptrons with rejection and with shaped rewards, where the optimum is known.

    Every architecture of the space is trained several times on a real table; its quality is the mean likelihood,
    exp(-cross-entropy), of the validation labels. Controllers then look qualities up, so the true best architecture
    within the limit is known. All arms are the same controller (independent decisions, no entropy bonus) with the
    same number of look-ups, and each may try as many settings on each task, chosen by seeds of their own: by tasks
    solved, then by quality. Arms: rejection; rejection without the correction of the gradient; the absolute reward;
    the soft exponent; the exponent for costs beyond the limit only; and random search among feasible architectures,
    which answers with the best it looked up. Shaped rewards pay for infeasible architectures with look-ups, but answer
    with their most probable *feasible* one. The verdict follows from `RULE`.

    Data: tables that come with scikit-learn. Raises: ValueError for an unknown scale or fewer than 2 seeds.
    """
    plan = plan_of(PLANS, scale)
    chosen = tuple(plan.seeds if seeds is None else seeds)
    if len(set(chosen)) != len(chosen) or len(chosen) < 2 or set(chosen) & set(plan.tuning):
        raise ValueError(
            f"seeds must be at least 2, different, and none of {plan.tuning} (used for tuning), got {chosen}"
        )
    began, said = time.perf_counter(), progress or (lambda line: None)
    with one_thread():
        tables = {name: _TABLES[name]() for name in plan.tables}
        tasks = [task for name, table in tables.items() for task in _tasks(name, table, plan, said)]
    arms: dict[str, Arm] = {}
    for task in tasks:
        for label, contestants in _contestants(task, plan).items():
            arms[f"{label} on {task.name}"] = arm = _measure(task, contestants, plan, chosen)
            said(f"{label} on {task.name}: solved by {fmean(arm.measurements['solved']):.0%} of seeds")
    for label in _contestants(tasks[0], plan):
        arms[label] = _pooled([arms[f"{label} on {task.name}"] for task in tasks])
    comparisons = tuple(
        compare(arms, metric, "rejection", other)
        for metric in ("solved", "quality_gap")
        for other in ("absolute reward", "soft exponent", "hard exponent", "no correction", "random")
    )
    verdict, reason = judge(scale, arms, comparisons)
    return Reproduction(
        idea="tabnas", claim=CLAIM, scale=scale, seeds=chosen, data={n: t.checksum for n, t in tables.items()},
        arms=arms, comparisons=comparisons, rule=RULE, verdict=verdict, reason=reason,
        seconds=time.perf_counter() - began,
    )  # fmt: skip


def judge(scale: Scale, arms: Mapping[str, Arm], comparisons: Sequence[Comparison]) -> tuple[Verdict, str]:
    """Return the verdict by `RULE`, and the sentence that says why."""
    share = fmean(arms["rejection"].measurements["solved"])
    optima = {name: arm.settings["optimum"] for name, arm in arms.items() if "optimum" in arm.settings}
    tasks = {name.partition(" on ")[2]: tuple(optimum) for name, optimum in optima.items()}
    narrow = sum(has_bottleneck(optimum) for optimum in tasks.values())
    found = {c.control: c.estimate for c in comparisons if c.metric == "solved"}
    shown = ", ".join(f"{fmean(arms[name].measurements['solved']):.0%} by {name}" for name in found)
    differences = "; ".join(f"minus {name} {found[name]}" for name in ("absolute reward", "soft exponent"))
    reason = (
        f"Of {len(tasks)} tasks, {narrow} with a bottleneck in the optimum, {share:.0%} were solved by rejection, {shown}; "
        f"paired differences with 95% intervals: rejection {differences}."
    )
    if scale == "smoke" or not narrow:
        return "not testable at this scale", reason
    above = all((found[name].low or 0.0) > 0 for name in ("absolute reward", "soft exponent"))
    return ("reproduced" if above and share >= 0.5 else "not reproduced"), reason


def has_bottleneck(widths: Sequence[int]) -> bool:
    """Whether a layer is at most half as wide as the one before it."""
    return any(2 * after <= before for before, after in pairwise(widths))


def _contestants(task: Task, plan: Plan) -> dict[str, list[Contestant]]:
    """Return the settings of every arm, as many for each but random search, which has none."""

    def controller(lr: float) -> Reinforce:
        return Reinforce(lr=lr, entropy=0.0)

    def shaped(reward: Callable[..., Reward]) -> list[Contestant]:
        return [Contestant(controller(lr), reward(strength)) for lr in plan.lrs for strength in plan.strengths]

    count = len(plan.lrs) * len(plan.samples)
    lows, highs = math.log(min(plan.lrs) / 2), math.log(max(plan.lrs) * 2)
    lrs = [math.exp(lows + (highs - lows) * (i + 0.5) / count) for i in range(count)]
    given = {"metric": "quality", "cost": "parameters", "target": float(task.at_most)}
    return {
        "rejection": [Contestant(Rejection(controller(lr), samples=n)) for lr in plan.lrs for n in plan.samples],
        "no correction": [Contestant(controller(lr)) for lr in lrs],
        "absolute reward": shaped(lambda strength: AbsoluteReward(**given, beta=strength)),
        "soft exponent": shaped(lambda strength: SoftExponent(**given, exponent=strength)),
        "hard exponent": shaped(lambda strength: SoftExponent(**given, below=0.0, above=strength)),
        "random": [Contestant(RandomSearch())],
    }


def _measure(task: Task, contestants: Sequence[Contestant], plan: Plan, seeds: Sequence[int]) -> Arm:
    """Choose the best setting of an arm by the tuning seeds, and run it with the others."""

    def worth(contestant: Contestant) -> tuple[float, float]:
        runs = [_run(task, contestant, plan.evaluations, seed) for seed in plan.tuning]
        return fmean(run["solved"] for run in runs), -fmean(run["quality_gap"] for run in runs)

    best = max(contestants, key=worth) if len(contestants) > 1 else contestants[0]
    runs = [_run(task, best, plan.evaluations, seed) for seed in seeds]
    settings = {
        "algorithm": _line(best.algorithm), "reward": _line(best.reward) if best.reward is not None else "quality",
        "settings_tried": len(contestants), "tuning_seeds": len(plan.tuning), "evaluations": plan.evaluations,
        "architectures": len(task.quality), "feasible": sum(map(task.is_feasible, task.quality)),
        "at_most_parameters": task.at_most, "optimum": list(task.optimum),
        "optimum_quality": task.quality[task.optimum],
    }  # fmt: skip
    return Arm(settings, {metric: tuple(run[metric] for run in runs) for metric in runs[0]})


def _line(value: Any) -> str:
    return " ".join(str(value).split())


def _pooled(arms: Sequence[Arm]) -> Arm:
    """Return the mean over tasks, for each seed."""
    measurements = {
        metric: tuple(fmean(values) for values in zip(*(arm.measurements[metric] for arm in arms), strict=True))
        for metric in arms[0].measurements
    }
    return Arm({"tasks": len(arms)}, measurements)


def _run(task: Task, contestant: Contestant, evaluations: int, seed: int) -> dict[str, float]:
    """Let a controller look up so many architectures; return how good its answer is.

    `solved` is 1 if the answer is the optimum; `quality_gap` is the optimum's quality less the answer's;
    `mode_is_feasible` is 1 if the most probable architecture of all keeps the limit (random search: always);
    `evaluations_to_optimum` is when the optimum was first looked up (all of them, if never), and `gap_of_best_found`
    its quality less that of the best feasible architecture looked up (its own quality, if there was none).
    """
    space = task.space if contestant.reward is not None else _within(task)
    search = contestant.algorithm.start(space, seed)
    optimum, best, first = task.optimum, 0.0, evaluations
    answer: Widths | None = None
    for number in range(evaluations):
        [candidate] = search.ask(1)
        widths = task.widths(candidate.genome)
        quality = task.quality[widths]
        if task.is_feasible(widths) and quality > best:
            best, answer = quality, widths
            first = number + 1 if widths == optimum else first
        seen = {"quality": quality, "parameters": float(task.parameters[widths])}
        score = quality if contestant.reward is None else contestant.reward(seen)
        search.tell([Result(number, candidate.genome, score)])
    is_feasible, policy = True, getattr(search, "policy", None)
    if policy is not None:
        genomes = {task.widths(genome): genome for genome in task.space.genomes()}
        answer = max(filter(task.is_feasible, genomes), key=lambda widths: policy.log_prob(genomes[widths]))
        is_feasible = task.is_feasible(task.widths(policy.mode()))
    return {
        "solved": float(answer == optimum),
        "quality_gap": task.quality[optimum] - (0.0 if answer is None else task.quality[answer]),
        "mode_is_feasible": float(is_feasible),
        "evaluations_to_optimum": float(first),
        "gap_of_best_found": task.quality[optimum] - best,
    }


def _within(task: Task) -> hr.Space:
    def feasible(program: Any) -> bool:
        return task.is_feasible(program.widths)

    return hr.Space(task.space.program, feasible)


# -- the tables, and every architecture trained on them ---------------------------------------------------------


def _tasks(name: str, table: Table, plan: Plan, progress: Callable[[str], None]) -> list[Task]:
    columns, classes = table.shape
    width = hr.one_of(*plan.widths)
    space = hr.Space(mlp((width,) * plan.layers, columns, classes))
    quality: dict[Widths, float] = {}
    parameters: dict[Widths, int] = {}
    for widths in product(plan.widths, repeat=plan.layers):
        quality[widths] = fmean(_likelihoods(table, widths, plan.trainings, plan.epochs))
        parameters[widths] = hr.nn.parameter_count(mlp(widths, columns, classes))
    progress(f"{name}: {len(quality)} architectures trained {plan.trainings} times")
    limits = [hr.nn.parameter_count(mlp((w,) * plan.layers, columns, classes)) for w in plan.references]
    return [Task(f"{name} up to {limit} parameters", quality, parameters, limit, space) for limit in limits]


def _likelihoods(table: Table, widths: Widths, trainings: int, epochs: int) -> list[float]:
    """Train networks that differ in their seeds, all at once; return exp(-cross-entropy) in validation of each."""
    columns, classes = table.shape
    features, labels = table.train
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        models = [MLP(columns, classes, widths) for _ in range(trainings)]
    layers = [[model.get_submodule(str(2 * i)) for model in models] for i in range(len(widths) + 1)]
    parts = [
        [(layer.get_parameter("weight").detach().T, layer.get_parameter("bias").detach()[None]) for layer in of]
        for of in layers
    ]
    weights = [torch.stack([weight for weight, _ in of]).requires_grad_() for of in parts]
    biases = [torch.stack([bias for _, bias in of]).requires_grad_() for of in parts]

    def logits(inputs: Tensor) -> Tensor:
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            inputs = torch.baddbmm(bias, inputs.relu() if i else inputs, weight)
        return inputs

    optimizer = torch.optim.Adam([*weights, *biases], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * math.ceil(len(features) / BATCH))
    order = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        orders = torch.stack([torch.randperm(len(features), generator=order) for _ in range(trainings)])
        for batch in orders.split(BATCH, dim=1):
            optimizer.zero_grad(set_to_none=True)
            found = logits(features[batch])
            (trainings * F.cross_entropy(found.flatten(0, 1), labels[batch].flatten())).backward()
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        features, labels = table.validation
        found = logits(features.expand(trainings, -1, -1))
        losses = [F.cross_entropy(each, labels).item() for each in found]
    return [math.exp(-loss) for loss in losses]


def _table(load: str, train: int) -> Table:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise FileNotFoundError("the tables come with scikit-learn. Try: pip install scikit-learn") from error
    features, labels = getattr(datasets, load)(return_X_y=True)
    features, labels = np.asarray(features, np.float64), np.asarray(labels, np.int64)
    checksum = hashlib.sha256(features.tobytes() + labels.tobytes()).hexdigest()
    order = np.random.default_rng(0).permutation(len(features))
    features, labels = features[order], labels[order]
    spread = features[:train].std(axis=0)
    features = (features - features[:train].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    x, y = torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels)
    return Table(checksum, (x[:train], y[:train]), (x[train:], y[train:]))


_TABLES: Mapping[str, Callable[[], Table]] = {
    "digits": partial(_table, "load_digits", 1000),
    "breast-cancer": partial(_table, "load_breast_cancer", 350),
}

IDEA = Idea(
    slug="tabnas",
    title="TabNAS: rejection sampling in place of a penalty",
    paper=Paper(
        authors="Yang, Bender, Liu, Kindermans, Udell, Lu, Le, Huang",
        year=2022,
        title="TabNAS: Rejection Sampling for Neural Architecture Search on Tabular Datasets",
        arxiv="2204.07615",
    ),
    claim=CLAIM,
    usage="import heuretic as hr\nstudy = hr.discover(program, evaluate, algorithm=hr.Rejection(hr.Reinforce()), "
    "limits=[hr.Limit(hr.nn.parameter_count, at_most=5_000)])",
    provides=(
        "heuretic.search:Rejection",
        "heuretic.search:Reinforce",
        "heuretic.search:AbsoluteReward",
        "heuretic.search:SoftExponent",
        "heuretic.nn.mlp:mlp",
    ),
    reproduce=reproduce,
)
