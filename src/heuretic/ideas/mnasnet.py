"""MnasNet: search block by block for accuracy at a latency that is measured, not computed.

Tan et al. 2019, "MnasNet: Platform-Aware Neural Architecture Search for Mobile", arXiv:1807.11626. The space is
`heuretic.train.factorized_space`, the meter `heuretic.nn.Latency`, the reward `heuretic.search.SoftExponent`, the network
that the paper found `heuretic.nn.mnasnet_a1`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import heuretic as hr
from heuretic.data import load
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Arm, Comparison, Reproduction, Verdict, compare, estimate
from heuretic.ideas.trainings import one_thread
from heuretic.nn import Block, MBConv, MultiplyAdds, interleaved, parameter_count
from heuretic.search import SoftExponent
from heuretic.train import factorized_space
from heuretic.train.fixed_training import accuracy, as_tensors, train_classifier

CLAIM = "Pareto-dominates MobileNetV2-style seed at equal measured latency on the search task"
#: MobileNetV2 for small grey images: its widening blocks, strides and growth of channels, fewer of each.
SEED_BLOCKS = (
    Block(MBConv(1), 8),
    Block(MBConv(6), 16, layers=2, stride=2),
    Block(MBConv(6), 24, layers=2),
    Block(MBConv(6), 40, stride=2),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything one scale runs.

    Attributes:
        data: Data set. search, final: (training images, epochs) of the trials and of the comparison.
        validation: Images that decide in the search, and as many others that decide on what is compared.
        trials: Of the search, the seed network's among them. population, tournament: Of the evolution.
        lrs: Learning rates tried, for each network alike. finalists: Networks of the search that are tuned.
        rounds: In each of which a network and the seed network are timed once.
    """

    data: str
    search: tuple[int, int]
    final: tuple[int, int]
    validation: int
    trials: int
    population: int
    tournament: int
    lrs: tuple[float, ...]
    finalists: int
    rounds: int
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """Images as float tensors of shape (images, 1, height, width), labels of shape (images,) in 0..9."""

    checksum: str
    train: tuple[Tensor, Tensor]
    search_validation: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan("digits", (200, 1), (200, 1), 100, 3, 2, 2, (0.1,), 1, 3, (1, 2)),
    "small": Plan("fashion-mnist", (4_000, 2), (8_000, 2), 3_000, 36, 8, 4, (0.1, 0.2, 0.4), 2, 40, (1, 2, 3, 4, 5)),
    "full": Plan(
        "fashion-mnist",
        (20_000, 3),
        (50_000, 10),
        5_000,
        500,
        50,
        10,
        (0.03, 0.1, 0.2, 0.4),
        5,
        100,
        tuple(range(1, 11)),
    ),
}
BATCH, TUNING_SEED, NO_WORSE, NO_SLOWER = 128, 1000, 0.005, 1.05
RULE = (
    "d is the paired difference in test accuracy, searched minus seed network, and r the ratio of their measured "
    "latencies, each with its 95% interval over the seeds. Reproduced if the searched network is more accurate and not "
    "slower (d wholly above 0 and r wholly below 1.05) or faster and not less accurate (r wholly below 1 and d wholly "
    "above -0.005). Not reproduced if it is less accurate or slower (d wholly below 0 or r wholly above 1.05); else not "
    "testable at this scale. Smoke runs are too short to test anything."
)


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None
) -> Reproduction:
    """Search the factorised space around a small MobileNetV2 for accuracy and latency, and compare with the seed.

    Regularised evolution, from the seed network on, maximises accuracy * (latency / T)^-0.07, where T is the latency
    of the seed network, on images kept from training. Each candidate is timed in turn with the seed network: one image,
    one thread, CPU time, so that a busy machine disturbs both alike. Of the trials not slower than T the most accurate
    are finalists. Finalists and seed network are then trained longer, equally, at each learning rate; a seed
    network gets as many runs as all finalists together (several seeds, of which the mean counts). What is best on
    other images kept from training is trained anew with fresh seeds, and measured on the test images. The verdict
    follows from `RULE`.

    Departures from the paper: evolution in place of reinforcement learning (`hr.search.Reinforce` would do); small
    images, networks and budgets; candidates are trained at the learning rate that is best for the seed network.

    Data: smoke takes scikit-learn's digits; the others Fashion-MNIST; both as `heuretic.data.load` finds them.

    Raises: FileNotFoundError if a data set is missing, ValueError for an unknown scale or fewer than 2 seeds.
    """
    plan = plan_of(PLANS, scale)
    chosen = tuple(plan.seeds if seeds is None else seeds)
    if len(set(chosen)) != len(chosen) or len(chosen) < 2 or not all(0 <= seed < TUNING_SEED for seed in chosen):
        raise ValueError(
            f"seeds must be at least 2, different, and from 0 to {TUNING_SEED - 1} (beyond are those for tuning), got {chosen}"
        )
    with one_thread():
        return _check(scale, plan, chosen, progress or (lambda line: None))


def _check(scale: Scale, plan: Plan, seeds: tuple[int, ...], progress: Callable[[str], None]) -> Reproduction:
    began = time.perf_counter()
    task = _TASKS[plan.data](plan)
    space = factorized_space(
        SEED_BLOCKS, divisor=4, classes=10, in_channels=1, stem=8, head=96
    )  # the paper's choices for each block
    seed_network = hr.Space(space).decode(hr.Space(space).default())
    lr, tried = _tune(seed_network, plan, plan.search, task, 1)
    progress(f"learning rate of the trials: {lr:g} (validation accuracy of the seed network {tried})")
    finalists, target = _search(space, seed_network, plan, task, lr, progress)
    arms: dict[str, tuple[Any, float, dict[str, Any]]] = {}
    lr, tried = _tune(seed_network, plan, plan.final, task, len(finalists))
    arms["seed network"] = seed_network, lr, {"validation_accuracy": tried}
    progress(f"seed network: {tried}")
    best = -1.0
    for program in finalists:
        lr, tried = _tune(program, plan, plan.final, task, 1)
        progress(f"a finalist: {tried}")
        if max(tried.values()) > best:
            best = max(tried.values())
            arms["searched network"] = program, lr, {"validation_accuracy": tried}
    measured = _compare({name: (program, lr) for name, (program, lr, _) in arms.items()}, plan, task, seeds, progress)
    result = {
        name: Arm(
            settings={
                **settings,
                "lr": lr,
                "parameters": parameter_count(program),
                "multiply_adds": MultiplyAdds((1, *task.train[0].shape[1:]))(program),
                "blocks": [" ".join(repr(block).split()) for block in program.blocks],
                "target_latency_ms": target,
                "trials": plan.trials,
                "training_images": plan.final[0],
                "epochs": plan.final[1],
            },
            measurements=measured[name],
        )
        for name, (program, lr, settings) in arms.items()
    }
    comparisons = tuple(
        compare(result, metric, "searched network", "seed network") for metric in ("test_accuracy", "latency_ms")
    )
    verdict, reason = judge(scale, result, comparisons[0])
    return Reproduction(
        idea="mnasnet", claim=CLAIM, scale=scale, seeds=seeds, data={plan.data: task.checksum}, arms=result,
        comparisons=comparisons, rule=RULE, verdict=verdict, reason=reason, seconds=time.perf_counter() - began,
    )  # fmt: skip


def judge(scale: Scale, arms: Mapping[str, Arm], accuracy: Comparison) -> tuple[Verdict, str]:
    """Return the verdict by `RULE`, and the sentence that says why."""
    d, r = accuracy.estimate, estimate(arms["searched network"].measurements["latency_over_seed"])
    d_low, d_high = (d.mean if end is None else end for end in (d.low, d.high))
    r_low, r_high = (r.mean if end is None else end for end in (r.low, r.high))
    better = (d_low > 0 and r_high < NO_SLOWER) or (r_high < 1 and d_low > -NO_WORSE)
    worse = d_high < 0 or r_low > NO_SLOWER
    verdict: Verdict = "reproduced" if better else "not reproduced" if worse else "not testable at this scale"
    means = [estimate(arms[name].measurements["test_accuracy"]).mean for name in ("searched network", "seed network")]
    reason = f"Test accuracy {means[0]:.4f} against {means[1]:.4f} of the seed network, difference {d}, at {r} of its latency."
    return ("not testable at this scale" if scale == "smoke" else verdict), reason


def _search(
    space: Any, seed_network: Any, plan: Plan, task: Task, lr: float, progress: Callable[[str], None]
) -> tuple[list[Any], float]:
    """Return the most accurate programs that are not slower than the seed network, and its latency in ms."""
    reference = _network(seed_network, TUNING_SEED)
    example = task.train[0][:1]
    turns = interleaved({"seed": reference}, example, rounds=plan.rounds, clock="cpu")
    target = turns.timings["seed"].median_ms
    reward = SoftExponent("accuracy", "latency_ms", target=target)
    done: list[tuple[float, float, Any]] = []

    def evaluate(program: Any) -> dict[str, float]:
        began = time.perf_counter()
        network = _network(program, TUNING_SEED)
        turns = interleaved({"seed": reference, "it": network}, example, rounds=plan.rounds, clock="cpu")
        ratio = turns.ratio("it", "seed")[0]
        _train(network, task, plan.search, lr, TUNING_SEED)
        metrics = {"accuracy": accuracy(network, *task.search_validation), "latency_ms": ratio * target}
        done.append((metrics["accuracy"], ratio, program))
        progress(
            f"trial {len(done)} of {plan.trials}: accuracy {metrics['accuracy']:.4f} at {ratio:.3f} of the seed "
            f"network's latency, reward {reward(metrics):.4f} ({time.perf_counter() - began:.0f} s)"
        )
        return {**metrics, "reward": reward(metrics)}

    hr.discover(
        space, evaluate, algorithm=hr.Evolution(population=plan.population, tournament=plan.tournament),
        trials=plan.trials, maximize="reward", start=seed_network, progress=False,
    )  # fmt: skip
    within = sorted((trial for trial in done if trial[1] <= 1), key=lambda trial: -trial[0])
    return [program for _, _, program in within[: plan.finalists]] or [seed_network], target


def _tune(
    program: Any, plan: Plan, training: tuple[int, int], task: Task, seeds: int
) -> tuple[float, dict[str, float]]:
    """Return the learning rate of the highest mean validation accuracy over `seeds` seeds, and all these means."""
    held_out = task.search_validation if training == plan.search else task.validation
    means: dict[str, float] = {}
    for lr in plan.lrs:
        found = []
        for seed in range(TUNING_SEED, TUNING_SEED + seeds):
            network = _network(program, seed)
            _train(network, task, training, lr, seed)
            found.append(accuracy(network, *held_out))
        means[f"lr {lr:g}"] = sum(found) / len(found)
    best = max(plan.lrs, key=lambda lr: means[f"lr {lr:g}"])
    return best, means


def _compare(
    arms: Mapping[str, tuple[Any, float]], plan: Plan, task: Task, seeds: Sequence[int], progress: Callable[[str], None]
) -> dict[str, dict[str, tuple[float, ...]]]:  # fmt: skip
    """Train the arms with each seed, and return their measurements by metric."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in arms}
    for seed in seeds:
        networks = {name: _network(program, seed) for name, (program, _) in arms.items()}
        for name, network in networks.items():
            _train(network, task, plan.final, arms[name][1], seed)
            found[name].setdefault("test_accuracy", []).append(accuracy(network, *task.test))
        turns = interleaved(networks, task.test[0][:1], rounds=5 * plan.rounds, seed=seed, clock="cpu")
        for name in arms:
            found[name].setdefault("latency_ms", []).append(turns.timings[name].median_ms)
            found[name].setdefault("latency_over_seed", []).append(turns.ratio(name, "seed network")[0])
        progress(
            f"seed {seed}: "
            + ", ".join(
                f"{n} {m['test_accuracy'][-1]:.4f} at {m['latency_over_seed'][-1]:.3f}" for n, m in found.items()
            )
        )
    return {name: {metric: tuple(values) for metric, values in by_metric.items()} for name, by_metric in found.items()}


def _network(program: Any, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = hr.build(program)
    return network


def _train(network: nn.Module, task: Task, training: tuple[int, int], lr: float, seed: int) -> None:
    count, epochs = training
    images, labels = (part[:count] for part in task.train)
    train_classifier(network, images, labels, epochs=epochs, lr=lr, seed=seed, batch=BATCH)


def _digits(plan: Plan) -> Task:
    data = load("digits")  # few, so the test is drawn from all
    pixels = np.concatenate([data.train.inputs, data.test.inputs])[..., 0]
    labels = np.concatenate([data.train.labels, data.test.labels])
    order = np.random.default_rng(0).permutation(len(labels))
    ends = (0, plan.final[0], plan.final[0] + plan.validation, plan.final[0] + 2 * plan.validation, len(labels))
    parts = [as_tensors(pixels[p] / 240, labels[p]) for p in (order[a:b] for a, b in pairwise(ends))]
    return Task(data.checksum, parts[0], parts[1], parts[2], parts[3])


def _fashion_mnist(plan: Plan) -> Task:
    data = load("fashion-mnist")
    pixels, labels = data.train.inputs[..., 0], data.train.labels
    ends = np.cumsum([0, max(plan.search[0], plan.final[0]), plan.validation, plan.validation])
    order = np.random.default_rng(0).permutation(len(labels))
    parts = [as_tensors(pixels[p] / 255, labels[p]) for p in (order[a:b] for a, b in pairwise(ends))]
    test = as_tensors(data.test.inputs[..., 0] / 255, data.test.labels)
    return Task(data.checksum, parts[0], parts[1], parts[2], test)


_TASKS: Mapping[str, Callable[[Plan], Task]] = {"digits": _digits, "fashion-mnist": _fashion_mnist}

IDEA = Idea(
    slug="mnasnet",
    title="MnasNet: accuracy at a measured latency, block by block",
    paper=Paper(
        authors="Tan, Chen, Pang, Vasudevan, Sandler, Howard, Le",
        year=2019,
        title="MnasNet: Platform-Aware Neural Architecture Search for Mobile",
        arxiv="1807.11626",
    ),
    claim=CLAIM,
    usage=(
        'import heuretic as hr\nreward = hr.search.SoftExponent("accuracy", "latency_ms", target=5.0)\n'
        "study = hr.discover(hr.train.factorized_space(classes=10), evaluate, maximize=reward)"
    ),
    provides=(
        "heuretic.train:factorized_space", "heuretic.nn:Latency", "heuretic.nn:interleaved", "heuretic.nn:mnasnet_a1",
        "heuretic.nn:mobilenet_v2", "heuretic.search:SoftExponent",
    ),
    reproduce=reproduce,
)  # fmt: skip
