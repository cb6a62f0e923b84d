"""Inverse scaling: on some tasks larger models do worse, which may turn again with more size, or with one demonstration.

McKenzie et al. 2023, "Inverse Scaling: When Bigger Isn't Better", arXiv:2306.09479; Wei et al. 2022, "Inverse scaling can become
U-shaped", arXiv:2211.02011. The evaluation is `heuretic.evals.inverse_scaling`, the trend `heuretic.evals.scaling_trend`. The
questions here are generated in the style of the prize; its own are asked with `InverseScaling(task="prize")`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heuretic.evals.inverse_scaling import InverseScaling
from heuretic.evals.results import Estimate, Results
from heuretic.evals.running import Run, evaluate
from heuretic.evals.scaling_trend import SIZES_FOR_TURN, Trend, trends_of
from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Arm, Comparison, Reproduction, Verdict, compare

CLAIM = "on some tasks larger models do worse, and one demonstration takes some of that back"
METRIC = "accuracy"
SIZES: Mapping[str, float] = {"heuretic/smollm2-135m": 134.5e6, "heuretic/gemma3-270m": 268.1e6}
"""The local models, by parameters. They differ in family, data and training too, so they are not a scale."""
RULE = (
    f"Not testable at this scale with fewer than {SIZES_FOR_TURN} sizes of one family. Else, with the trend of each task over sizes by the "
    "rule of heuretic.evals.scaling_trend: reproduced if some task is inverse or U-shaped without demonstration, and on those tasks "
    "accuracy with one demonstration minus without, averaged over sizes and tasks and paired by question, lies wholly above 0 by "
    "bootstrap over the questions; not reproduced if every task is positive or flat; else not testable at this scale. Smoke runs "
    "are too short."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check asks: `each` questions of every task for each seed."""

    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    each: int


_SHORT = ("memo-trap", "modus-tollens", "pattern-matching-suppression", "quote-repetition", "redefine-math", "sig-figs")
PLANS: dict[Scale, Plan] = {
    "smoke": Plan(("memo-trap",), (1, 2), 3),
    "small": Plan(_SHORT, (1, 2), 30),
    "full": Plan((*_SHORT, "hindsight-neglect", "repetitive-algebra"), (1, 2), 200),
}


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None,
    models: Mapping[str, float] | None = None, family: bool = False,
) -> Reproduction:  # fmt: skip
    """Score the classes of tasks in the style of the prize by likelihood, without and with one demonstration, for each model.

    Each seed has questions and demonstrations of its own, the same for all models. The verdict follows from `RULE`.

    Args:
        models: Sizes by name; they must give likelihoods. Default: the two local models.
        family: Whether the models differ in size only.
    Raises: ModelError if a model cannot be used; ValueError for an unknown scale, fewer than 2 seeds or models.
    """
    plan, began, said = plan_of(PLANS, scale), time.perf_counter(), progress or (lambda line: None)
    chosen = reasoning.checked_seeds(seeds, plan.seeds)
    sizes = dict(SIZES if models is None else models)
    data: dict[str, str] = {}
    found: dict[tuple[str, int], Results] = {}
    runs: dict[tuple[str, int], list[tuple[int, Run]]] = {}
    for name in sorted(sizes, key=lambda name: sizes[name]):
        lm = reasoning.chosen_model(name)
        data |= reasoning.checksum_of(lm)
        for shots in (0, 1):
            each = [
                (seed, evaluate(InverseScaling(task=f"ours-{task}", count=plan.each + 1, seed=seed, shots=shots), lm))
                for seed in chosen
                for task in plan.tasks
            ]
            runs[name, shots] = each
            found[name, shots] = _together(each)
            data |= {f"{task} {seed}": digest for seed, run in each for task, digest in run.checksums.items()}
            said(f"{name}, {_shots(shots)}: {found[name, shots].mean_of_groups('task')}")
    paired = _paired(found)
    trends = {shots: trends_of({n: paired[n, shots] for n in sizes}, sizes, "task") for shots in (0, 1)}
    arms = {
        f"{name}, {_shots(shots)}": _arm(results, runs[name, shots], chosen, trends[shots], sizes[name])
        for (name, shots), results in paired.items()
    }
    verdict, reason = judge(scale, trends[0], paired, sizes, family)
    return Reproduction(
        idea="inverse-scaling", claim=CLAIM, scale=scale, seeds=chosen, data=data, arms=arms, comparisons=_comparisons(arms, sizes),
        rule=f"{RULE} The rule of trends: {trends[0][''].rule}", verdict=verdict, reason=reason,
        seconds=time.perf_counter() - began,
    )  # fmt: skip


def judge(
    scale: Scale,
    trends: Mapping[str, Trend],
    paired: Mapping[tuple[str, int], Results],
    sizes: Mapping[str, float],
    family: bool,
) -> tuple[Verdict, str]:
    """Return the verdict by `RULE` and the sentence that says why.

    Args:
        trends: Without demonstration, by task, and over all under "". paired: Results of the same questions, by model and
            demonstrations.
    """
    only = next(iter(paired.values())).about["task"][0]
    tasks = {task: trend.shape for task, trend in trends.items() if task} or {only: trends[""].shape}
    worse = [task for task, shape in tasks.items() if shape in ("inverse", "U-shaped")]
    told = ", ".join(f"{task} {shape}" for task, shape in tasks.items())
    means = ", ".join(f"{p.name} {p.score}" for p in trends[""].points)
    reason = f"Accuracy without demonstration {means}, over {trends[''].items} questions; trends by task: {told}."
    if scale == "smoke" or len(sizes) < SIZES_FOR_TURN or not family:
        what = "of one family" if family else "that are not of one family"
        return "not testable at this scale", f"{reason} There are {len(sizes)} sizes {what}."
    if not worse:
        settled = all(shape in ("positive", "flat") for shape in tasks.values())
        return ("not reproduced" if settled else "not testable at this scale"), reason
    gain = mitigation(paired, worse)
    reason = f"{reason} One demonstration changes accuracy on {', '.join(worse)} by {gain}."
    assert gain.low is not None
    return ("reproduced" if gain.low > 0 else "not testable at this scale"), reason


def mitigation(paired: Mapping[tuple[str, int], Results], tasks: Sequence[str]) -> Estimate:
    """Return accuracy with one demonstration minus without, averaged over sizes and over tasks."""
    names = sorted({name for name, _ in paired})
    gained = np.mean([paired[name, 1].values - paired[name, 0].values for name in names], axis=0)
    first = next(iter(paired.values()))
    labels = first.about["task"]
    kept = [task in tasks for task in labels]
    return Results(first.ids, gained, first.outcomes, {"task": labels}).where(kept).mean_of_groups("task")


def _together(runs: Sequence[tuple[int, Run]]) -> Results:
    """Return the results of all runs, whose questions are named by seed."""
    named = [[f"{seed} {each}" for each in run.results.ids] for seed, run in runs]
    every = [run.results for _, run in runs]
    metrics = {name: np.concatenate([each.metrics[name] for each in every]) for name in ("loss", "acc_norm")}
    return Results(
        [name for each in named for name in each], np.concatenate([each.values for each in every]),
        [outcome for each in every for outcome in each.outcomes],
        {
            "task": [task for each in every for task in each.about["task"]],
            "seed": [str(seed) for seed, run in runs for _ in run.results.ids],
        },
        metrics, [c for each in every for c in each.clusters or each.ids],
    )  # fmt: skip


def _paired(found: Mapping[tuple[str, int], Results]) -> dict[tuple[str, int], Results]:
    """Return the results of the questions that every arm was asked: the one that is a demonstration is left out."""
    common = set.intersection(*(set(each.ids) for each in found.values()))
    return {key: each.where([k in common for k in each.ids]) for key, each in found.items()}


def _arm(
    results: Results, runs: Sequence[tuple[int, Run]], seeds: Sequence[int], trends: Mapping[str, Trend], size: float
) -> Arm:
    parts = results.groups("task")
    settings = {
        "size": size,
        "questions": len(results),
        "chance": 0.5,
        "tasks": {
            task: {
                "accuracy_bootstrap_95": _ends(part.mean()), "acc_norm": part.mean("acc_norm").value,
                "loss_nats": part.mean("loss").value,
                "trend_over_sizes": trends.get(task, trends[""]).shape,
            }
            for task, part in parts.items()
        },
        "accuracy_bootstrap_95": _ends(results.mean_of_groups("task")),
    }  # fmt: skip
    by_seed = {seed: results.where([each == str(seed) for each in results.about["seed"]]) for seed in seeds}
    tokens = dict.fromkeys(seeds, 0)
    for seed, run in runs:
        tokens[seed] += run.spent.usage.input_tokens
    measurements = {
        METRIC: tuple(each.mean_of_groups("task").value for each in by_seed.values()),
        "loss_nats": tuple(each.mean_of_groups("task", metric="loss").value for each in by_seed.values()),
        "input_tokens_per_question": tuple(tokens[seed] / len(by_seed[seed]) for seed in seeds),
    }
    return Arm(settings, measurements)


def _comparisons(arms: Mapping[str, Arm], sizes: Mapping[str, float]) -> tuple[Comparison, ...]:
    names = sorted(sizes, key=lambda name: sizes[name])
    pairs = [(f"{names[-1]}, {_shots(0)}", f"{names[0]}, {_shots(0)}")]
    pairs += [(f"{name}, {_shots(1)}", f"{name}, {_shots(0)}") for name in names]
    return tuple(compare(arms, METRIC, treatment, control) for treatment, control in pairs)


def _ends(estimate: Estimate) -> list[float | None]:
    return [estimate.value, estimate.low, estimate.high]


def _shots(shots: int) -> str:
    return "one demonstration" if shots else "no demonstration"


IDEA = Idea(
    slug="inverse-scaling",
    title="Inverse scaling: tasks on which larger models do worse, and whether the trend turns",
    paper=Paper(
        authors="Wei, Kim, Tay, Le", year=2022, title="Inverse scaling can become U-shaped", arxiv="2211.02011"
    ),
    claim=CLAIM,
    usage=(
        "import heuretic as hr\n"
        "from heuretic.evals.inverse_scaling import InverseScaling\n"
        "from heuretic.evals.scaling_trend import sweep\n"
        'models = {"heuretic/smollm2-135m": 134.5e6, "heuretic/gemma3-270m": 268.1e6}\n'
        'print(sweep(InverseScaling(task="ours-memo-trap"), models).text())'
    ),
    provides=(
        "heuretic.evals.inverse_scaling:InverseScaling",
        "heuretic.evals.scaling_trend:trend",
        "heuretic.evals.scaling_trend:sweep",
        "heuretic.lm.likelihood:likelihoods",
        "heuretic.lm.strategies.likeliest:Likeliest",
    ),
    reproduce=reproduce,
)
