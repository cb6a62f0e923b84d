"""BIG-Bench Extra Hard: 23 tasks of reasoning that general models are far from solving.

Kazemi et al. 2025, "BIG-Bench Extra Hard", arXiv:2502.19187. The evaluation is `heuretic.evals.bbeh`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from heuretic.evals import Results
from heuretic.evals.bbeh import BBEH, TASKS, adjusted_harmonic_mean, matches
from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Arm, Reproduction, Verdict, compare
from heuretic.lm import Answer, Question

CLAIM = "general models are far from solving BIG-Bench Extra Hard: the adjusted harmonic mean of their accuracies is below 50%"
MODEL, CONSTANT, CHANCE = "the model", "always the commonest answer", "random choice"
HARMONIC = "adjusted_harmonic_mean_percent"
FAR = 50.0
RULE = (
    "h is the model's adjusted harmonic mean over tasks in percent, with its 95% interval by bootstrap within tasks. Not testable at this "
    "scale if the model's accuracy does not lie wholly above that of always giving the commonest right answer of each task, since a model "
    f"that cannot do the tasks at all says nothing about how hard they are; else reproduced if h lies wholly below {FAR:g}, not reproduced if "
    "wholly above; else not testable at this scale. Smoke runs are too short."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check asks: `each` questions of every task for each seed, with at most `max_tokens` tokens of a reply."""

    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    each: int
    max_tokens: int


SHORT = (
    "causal_understanding", "disambiguation_qa", "linguini", "movie_recommendation", "multistep_arithmetic", "nycc", "sarc_triples", "sportqa",
    "time_arithmetic", "word_sorting",
)  # fmt: skip
"""Tasks whose questions have at most 2,000 characters on average, which small models on a processor can read in time."""

PLANS: dict[Scale, Plan] = {
    "smoke": Plan(("causal_understanding",), (1, 2), 1, 8),
    "small": Plan(SHORT, (1, 2), 2, 32),
    "full": Plan(TASKS, (1, 2), 50, 4096),
}


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None,
    model: str | None = None,
) -> Reproduction:  # fmt: skip
    """Answer questions of every task (small: of those in `SHORT`) as the paper asks them, and compare with constant answers and with chance.

    Answers are matched in the tolerant way. The verdict follows from `RULE`.

    Args:
        model: Its name, see `heuretic.ideas.reasoning`.
    Raises: FileNotFoundError if the questions are missing; ModelError if the model cannot be used; ValueError for an unknown
        scale or fewer than 2 seeds.
    """
    began, plan = time.perf_counter(), plan_of(PLANS, scale)
    chosen, lm = reasoning.checked_seeds(seeds, plan.seeds), reasoning.chosen_model(model)
    evaluation = BBEH(repeated="drop", max_tokens=plan.max_tokens)
    loaded = evaluation.load()
    by_task: dict[str, list[Question]] = {task: [] for task in plan.tasks}
    for question in loaded:
        if question.about["task"] in by_task:
            by_task[question.about["task"]].append(question)
    parts = [reasoning.blocks(found, chosen, plan.each) for found in by_task.values()]
    asked = {seed: [question for part in parts for question in part[seed]] for seed in chosen}
    said = progress or (lambda line: None)
    found = reasoning.ask({MODEL: evaluation.strategy()}, asked, lm, judge=_right, said=said)[MODEL]
    flat = [question for seed in chosen for question in asked[seed]]
    results = Results(
        [question.id for question in flat],
        found.flat,
        ["answered"] * len(flat),
        {"task": [q.about["task"] for q in flat]},
    )
    h, floor = (
        evaluation.summary(results)["adjusted harmonic mean, %"],
        fmean(map(reasoning.commonest_share, by_task.values())),
    )
    arms = _arms(evaluation, found, asked, by_task, plan)
    interval = {f"{HARMONIC}_bootstrap_95": [h.low, h.high]}
    arms[MODEL] = Arm({**arms[MODEL].settings, **interval}, arms[MODEL].measurements)
    accuracy = reasoning.bootstrap(found.flat)
    return Reproduction(
        idea="bbeh", claim=CLAIM, scale=scale, seeds=chosen, data=dict(loaded.checksums) | reasoning.checksum_of(lm), arms=arms,
        comparisons=tuple(compare(arms, reasoning.METRIC, MODEL, other) for other in (CONSTANT, CHANCE)), rule=RULE,
        verdict=_verdict(scale, accuracy.low or 0.0, floor, h.low or 0.0, h.high or 101.0),
        reason=(
            f"Accuracy {accuracy} on {len(flat)} questions; always giving the commonest right answer of each task has {floor:.3f}. "
            f"Adjusted harmonic mean {h}%; published: 9.8% for the best general and 44.8% for the best reasoning model, 2.4% by chance."
        ),
        seconds=time.perf_counter() - began,
    )  # fmt: skip


def _right(question: Question, answer: Answer) -> bool:
    return answer.answer is not None and matches(answer.answer, str(question.target))


def _arms(
    evaluation: BBEH, found: reasoning.Answered, asked: Mapping[int, Sequence[Question]], by_task: Mapping[str, Sequence[Question]],
    plan: Plan,
) -> dict[str, Arm]:  # fmt: skip
    commonest = {task: _commonest(questions) for task, questions in by_task.items()}

    def measured(values: Mapping[int, Sequence[float]]) -> dict[str, tuple[float, ...]]:
        tables = [np.reshape(np.asarray(each, float), (len(plan.tasks), plan.each)) for each in values.values()]
        return {
            reasoning.METRIC: tuple(float(table.mean()) for table in tables),
            HARMONIC: tuple(float(adjusted_harmonic_mean(100 * table.mean(axis=1))) for table in tables),
        }

    said = {s: [float(q.target == commonest[q.about["task"]]) for q in questions] for s, questions in asked.items()}
    chance = {s: [evaluation.chance(q) or 0.0 for q in questions] for s, questions in asked.items()}
    own = found.arm()
    return {
        MODEL: Arm(dict(own.settings), {**own.measurements, **measured(found.correct)}),
        CONSTANT: Arm({"chosen_from": "all questions of the task"}, measured(said)),
        CHANCE: Arm({"open_answers": "counted as never right"}, measured(chance)),
    }


def _commonest(questions: Sequence[Question]) -> str:
    targets = [str(question.target) for question in questions]
    return max(sorted(set(targets)), key=targets.count)


def _verdict(scale: Scale, accuracy_low: float, floor: float, low: float, high: float) -> Verdict:
    if scale == "smoke" or accuracy_low <= floor:
        return "not testable at this scale"
    if high < FAR:
        return "reproduced"
    return "not reproduced" if low > FAR else "not testable at this scale"


IDEA = Idea(
    slug="bbeh",
    title="BIG-Bench Extra Hard",
    paper=Paper(
        authors="Kazemi, Fatemi, Bansal, Palowitch, Anastasiou, Mehta, Jain, Aglietti, Jindal, Chen, Dikkala, Tyen, Liu, Shalit, Chiappa, "
        "Olszewska, Tay, Tran, Le, Firat",
        year=2025,
        title="BIG-Bench Extra Hard",
        arxiv="2502.19187",
    ),
    claim=CLAIM,
    usage=(
        'import heuretic as hr\nrun = hr.evals.evaluate("bbeh?mini=true", "openai/gpt-4o-mini")\n'
        "print(run.summary, run.evaluation.references)"
    ),
    provides=("heuretic.evals.bbeh:BBEH", "heuretic.evals.bbeh:matches", "heuretic.evals.bbeh:adjusted_harmonic_mean"),
    reproduce=reproduce,
)
