"""Lion: an optimizer found by program search that keeps half of AdamW's state.

Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", arXiv:2302.06675. The optimizer is
`heuretic.train.Lion`; the search that found it is not part of the package yet.
"""

import functools
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

import heuretic as hr
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Arm, Comparison, Reproduction, Verdict, compare
from heuretic.ideas.trainings import one_thread
from heuretic.search.choices import Number, OneOf
from heuretic.symbolic import PatchError
from heuretic.symbolic.errors import brief
from heuretic.train import Lion
from heuretic.train.small_tasks import TASKS, Pairs, Task, measure, state_bytes, train_network

CLAIM = "half of AdamW's state, equal or better loss on real tasks at lr/3..10 and decay*3..10"


class UseLion(hr.Patch):
    """Put Lion in the place of AdamW or Adam in a program, converting settings as the paper advises.

    The learning rate is divided and the weight decay multiplied by `factor`, also where they are open choices; betas
    become Lion's (0.9, 0.99); maximize, foreach and fused stay; settings without a counterpart (eps, amsgrad, capturable)
    are dropped. Works on symbolic calls of the optimizer and of `functools.partial(AdamW, ...)`. Schedules stay as they
    are: those that multiply the learning rate do the same to Lion's, but rates that they name (OneCycleLR's max_lr,
    CosineAnnealingLR's eta_min) are for the one who wrote them to divide. Raises PatchError for Adam with weight decay,
    which is a penalty on the loss that Lion does not have, and for differentiable steps.
    """

    name: ClassVar[str] = "lion"
    factor: float = hr.field(default=10.0, ge=3.0, le=10.0, doc="divides lr and multiplies weight_decay")

    @hr.rule
    def optimizer(self, node: torch.optim.AdamW | torch.optim.Adam) -> Any:
        call: Any = node
        return hr.sym(Lion)(call.params, **self._converted(call.__target__, dict(call.__items__())))

    @hr.rule
    def partial(self, node: functools.partial[Any]) -> Any:
        call: Any = node
        target, given = call[0], dict(call.__items__())
        if target not in (torch.optim.AdamW, torch.optim.Adam) or len(call) != 1:
            return node
        return hr.sym(functools.partial)(Lion, **self._converted(target, given))

    def _converted(self, target: type, given: Mapping[Any, Any]) -> dict[str, Any]:
        defaults = {name: p.default for name, p in inspect.signature(target).parameters.items()}
        decay = given.get("weight_decay", defaults["weight_decay"])
        if target is torch.optim.Adam and decay != 0 and not given.get("decoupled_weight_decay", False):
            raise PatchError(f"weight_decay of Adam must be 0 to become Lion, got {brief(decay)}. Try AdamW")
        if given.get("differentiable", False):
            raise PatchError("differentiable must be False to become Lion, whose sign has no derivative. Try AdamW")
        return {
            "lr": _scaled(given.get("lr", defaults["lr"]), lambda lr: lr / self.factor),
            "weight_decay": _scaled(decay, lambda decay: decay * self.factor),
            **{name: given[name] for name in ("maximize", "foreach", "fused") if name in given},
        }


def _scaled(value: Any, scale: Callable[[float], float]) -> Any:
    """Return a number, or an open choice of numbers, with `scale` applied."""
    if isinstance(value, OneOf):
        return hr.one_of(*(_scaled(candidate, scale) for candidate in value.candidates))
    if isinstance(value, Number):
        step = None if value.step is None else scale(value.step)
        return hr.number(scale(float(value.lo)), scale(float(value.hi)), log=value.log, step=step)
    if isinstance(value, int | float):
        return scale(value)
    raise PatchError(f"lr and weight_decay must be numbers or choices of numbers, got {brief(value)}")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything one scale runs, the same for both arms.

    Attributes:
        examples: Per task, how many to train and to validate on (texts: pieces of 64 characters), and epochs.
        lrs, decays: AdamW's grid.
    """

    examples: Mapping[str, tuple[int, int, int]]
    lrs: tuple[float, ...]
    decays: tuple[float, ...]
    seeds: tuple[int, ...]


PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan({"digits": (900, 300, 3)}, (1e-3, 1e-2), (0.01,), (1, 2)),
    "small": Plan(
        {"digits": (900, 300, 30), "fashion-mnist": (10_000, 2_000, 6), "tiny-shakespeare": (10_000, 1_500, 2)},
        (1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
        (0.01, 0.1),
        (1, 2, 3, 4, 5),
    ),
    "full": Plan(
        {"digits": (900, 300, 60), "fashion-mnist": (54_000, 6_000, 20), "tiny-shakespeare": (14_000, 1_500, 10)},
        (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
        (0.003, 0.01, 0.03, 0.1),
        tuple(range(1, 11)),
    ),
}
#: Examples a step: images, and pieces of a text.
BATCHES = {"digits": 64, "fashion-mnist": 64, "tiny-shakespeare": 32}
TUNING_SEED, MARGIN = 0, 0.05
RULE = (
    "Per task, d is the paired difference in test loss, Lion minus AdamW, with its 95% interval, and the margin is 5% "
    "of AdamW's mean test loss. Not reproduced if on any task Lion's state is not half of AdamW's or d lies wholly "
    "above 0; else reproduced if on every task d lies wholly below the margin; else not testable at this scale. Smoke "
    "runs are too short to test anything."
)


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None
) -> Reproduction:
    """Compare Lion with AdamW, equally tuned: images by a small convolutional network, text by a small transformer.

    For each task and optimizer one study tries every setting of a grid, as many for both, and picks the one with the
    lowest validation loss. AdamW's grid is the plan's; Lion's is the same after the patch `lion`: learning rates 10
    times smaller, weight decays 10 times larger. The settings found are then trained anew with fresh seeds, which
    fix weights and order of examples alike for both, and measured on the test examples: mean cross-entropy in nats and
    accuracy (of text: the share of characters predicted). Optimizer state is the bytes of all state tensors as large as
    their parameter (AdamW's step counters, 4 bytes a tensor, are left out). The verdict follows from `RULE`.

    Data: scikit-learn's digits; from small on also Fashion-MNIST and Tiny Shakespeare, as `heuretic.data.load` finds them.

    Raises: FileNotFoundError if a data set is missing, ValueError for an unknown scale or fewer than 2 seeds.
    """
    plan = plan_of(PLANS, scale)
    chosen = tuple(plan.seeds if seeds is None else seeds)
    if len(set(chosen)) != len(chosen) or len(chosen) < 2 or TUNING_SEED in chosen:
        raise ValueError(
            f"seeds must be at least 2, different, and without {TUNING_SEED} (used for tuning), got {chosen}"
        )
    with one_thread():
        return _compare(scale, plan, chosen, progress or (lambda line: None))


def _compare(scale: Scale, plan: Plan, seeds: tuple[int, ...], progress: Callable[[str], None]) -> Reproduction:
    began = time.perf_counter()
    tasks = {name: TASKS[name](train, validation) for name, (train, validation, _) in plan.examples.items()}
    space = hr.sym(functools.partial)(torch.optim.AdamW, lr=hr.one_of(*plan.lrs), weight_decay=hr.one_of(*plan.decays))
    arms: dict[str, Arm] = {}
    for name, task in tasks.items():
        for label, program in {"AdamW": space, "Lion": hr.apply(space, UseLion())}.items():
            arms[f"{label} on {name}"] = _measure(
                program, task, plan.examples[name][2], BATCHES[name], len(plan.lrs) * len(plan.decays), seeds
            )
            progress(f"{label} on {name}: {dict(arms[f'{label} on {name}'].settings)}")
    comparisons = tuple(
        compare(arms, metric, f"Lion on {name}", f"AdamW on {name}", less_is_better=metric == "test_loss_nats")
        for name in tasks
        for metric in ("test_loss_nats", "test_accuracy")
    )
    verdict, reason = judge(scale, arms, comparisons)
    return Reproduction(
        idea="lion", claim=CLAIM, scale=scale, seeds=seeds, data={n: t.checksum for n, t in tasks.items()}, arms=arms,
        comparisons=comparisons, rule=RULE, verdict=verdict, reason=reason, seconds=time.perf_counter() - began,
    )  # fmt: skip


def judge(scale: Scale, arms: Mapping[str, Arm], comparisons: Sequence[Comparison]) -> tuple[Verdict, str]:
    """Return the verdict by `RULE`, and the sentence that says why."""
    worse, unsure, seen = False, False, []
    for each in comparisons:
        if each.metric != "test_loss_nats":
            continue
        lion, adamw = arms[each.treatment].measurements, arms[each.control].measurements
        ratio = lion["optimizer_state_bytes"][0] / adamw["optimizer_state_bytes"][0]
        mean = sum(adamw["test_loss_nats"]) / len(adamw["test_loss_nats"])
        shown = each.estimate
        low, high = (shown.mean if end is None else end for end in (shown.low, shown.high))
        finding = "worse" if low > 0 else "no worse" if high < MARGIN * mean else "undecided"
        worse = worse or ratio != 0.5 or finding == "worse"
        unsure = unsure or finding == "undecided"
        seen.append(f"{each.treatment} {finding}, {shown} nats from AdamW's {mean:.4g}, with {ratio:g} of its state")
    verdict: Verdict = "not reproduced" if worse else "not testable at this scale" if unsure else "reproduced"
    reason = f"Mean test loss with 95% interval of the paired difference: {'; '.join(seen)}."
    return ("not testable at this scale" if scale == "smoke" else verdict), reason


def _measure(program: Any, task: Task, epochs: int, batch: int, trials: int, seeds: Sequence[int]) -> Arm:
    def run(optimizer_of: Callable[..., torch.optim.Optimizer], held_out: Pairs, seed: int) -> dict[str, float]:
        network, optimizer = train_network(task, optimizer_of, epochs=epochs, batch=batch, seed=seed)
        return {**measure(network, held_out), "state_bytes": float(state_bytes(optimizer))}

    def evaluate(candidate: Any) -> dict[str, float]:
        return run(hr.build(candidate), task.validation, TUNING_SEED)

    study = hr.discover(program, evaluate, algorithm=hr.RandomSearch(), trials=trials, minimize="loss", progress=False)
    if study.best is None:
        raise RuntimeError(f"no setting of {trials} could be trained. Try smaller learning rates")
    best = study.best.program
    runs = [run(hr.build(best), task.test, seed) for seed in seeds]
    return Arm(
        settings={
            "lr": best.lr,
            "weight_decay": best.weight_decay,
            "validation_loss_nats": study.best.values["loss"],
            "settings_tried": len(study.trials),
            "settings_failed": sum(trial.state != "finished" for trial in study.trials),
            "training_examples": len(task.train[0]),
            "epochs": epochs,
            "batch_size": batch,
        },
        measurements={
            "test_loss_nats": tuple(run["loss"] for run in runs),
            "test_accuracy": tuple(run["accuracy"] for run in runs),
            "optimizer_state_bytes": tuple({run["state_bytes"] for run in runs}),
        },
    )


IDEA = Idea(
    slug="lion",
    title="Lion: sign of an interpolated momentum",
    paper=Paper(
        authors="Chen, Liang, Huang, Real, Wang, Liu, Pham, Dong, Luong, Hsieh, Lu, Le",
        year=2023,
        title="Symbolic Discovery of Optimization Algorithms",
        arxiv="2302.06675",
    ),
    claim=CLAIM,
    usage='import heuretic as hr\nprogram = hr.apply(program, "lion?factor=10")',
    patch=UseLion,
    provides=("heuretic.train:Lion",),
    reproduce=reproduce,
)
