"""HaloQuest: do models that see tell that a question's premise is false, or that the image does not say?

Wang et al. 2024, "HaloQuest: A Visual Hallucination Dataset for Advancing Multimodal Reasoning", arXiv:2407.15680. The evaluation is
`heuretic.evals.haloquest.HaloQuest`.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heuretic.evals.haloquest import KINDS, HaloQuest
from heuretic.evals.results import Estimate, Results
from heuretic.evals.running import evaluate
from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Arm, Comparison, Reproduction, Verdict, compare
from heuretic.lm import Answer, LanguageModel, Question, Sample

CLAIM = "models that see answer questions with a false premise, or without enough context, right less often than those that are hard to see"
METRIC = "accuracy"
FALSE, HARD, LACKING = KINDS
RULE = (
    "d is the mean of the accuracies on false premises and on insufficient context, minus that on visual challenges, with its 95% "
    "interval by bootstrap within the categories. Reproduced if d lies wholly below 0, not reproduced if it lies wholly above, else not "
    "testable at this scale. Smoke runs are too short, and without a multimodal model ($HEURETIC_LM) nothing is testable: then the "
    "scoring alone is run, on the right answers and on one constant answer."
)
RIGHT, CONSTANT = "right answers", "always: It cannot be determined from the image."


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check asks: so many drawn pictures of each category for each seed; 0 for the published evaluation set."""

    seeds: tuple[int, ...]
    each: int


PLANS: dict[Scale, Plan] = {"smoke": Plan((1, 2), 3), "small": Plan((1, 2), 60), "full": Plan((1, 2), 0)}


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None,
    model: str | None = None, judge: str | None = None,
) -> Reproduction:  # fmt: skip
    """Ask a multimodal model the questions of the three categories, and compare them.

    At full scale these are those of the published evaluation set, with its images and a judge; else they are about pictures drawn
    here, scored by the rule without one, and far easier.

    Args:
        model: Its name; default: `$HEURETIC_LM`. judge: Of the answers at full scale; default: the model itself.
    Raises: FileNotFoundError if the questions are missing; ModelError if a model cannot be used; ValueError for an unknown scale or
        fewer than 2 seeds.
    """
    plan = plan_of(PLANS, scale)
    chosen, said = reasoning.checked_seeds(seeds, plan.seeds), progress or (lambda line: None)
    began, name = time.perf_counter(), model or os.environ.get("HEURETIC_LM", "")
    if not name:
        said("no multimodal model is named: the scoring alone is run")
        return _without_model(scale, plan, chosen, began)
    lm = reasoning.chosen_model(name)
    found, data, errors = _asked(plan, chosen, lm, reasoning.chosen_model(judge or name), said)
    return _result(scale, chosen, found, data | reasoning.checksum_of(lm), errors, lm.name, began)


def _asked(
    plan: Plan, seeds: Sequence[int], lm: LanguageModel, judge: LanguageModel, said: Callable[[str], None]
) -> tuple[dict[int, Results], dict[str, str], int]:
    """Return the scores of every seed, the checksums of the questions, and how many of them have no score."""
    data: dict[str, str] = {}
    found: dict[int, Results] = {}
    if plan.each:
        for seed in seeds:
            run = evaluate(_drawn(plan, seed), lm)
            found[seed] = run.results
            data |= {f"{key}, seed {seed}": value for key, value in run.checksums.items()}
            said(f"seed {seed}: {run.score} on {run.questions} questions, without score: {dict(run.unscored)}")
    else:
        run = evaluate(HaloQuest(), lm, judge=judge)
        data |= run.checksums
        said(f"{run.score} on {run.questions} questions, without score: {dict(run.unscored)}")
        place = np.arange(len(run.results)) % len(seeds)
        found = {seed: run.results.where(place == k) for k, seed in enumerate(seeds)}
    return found, data, sum(int(np.isnan(each.values).sum()) for each in found.values())


def _drawn(plan: Plan, seed: int) -> HaloQuest:
    return HaloQuest(drawn=len(KINDS) * (plan.each or 60), seed=seed, scoring="match")


def _result(
    scale: Scale, seeds: tuple[int, ...], found: Mapping[int, Results], data: Mapping[str, str], lost: int, name: str, began: float
) -> Reproduction:  # fmt: skip
    means = {kind: [float(_of(each, kind).mean().value) for each in found.values()] for kind in KINDS}
    known = all(np.isfinite(values).all() for values in means.values())
    arms: dict[str, Arm] = {}
    comparisons: tuple[Comparison, ...] = ()
    d, verdict = Estimate(float("nan")), "not testable at this scale"
    if known:
        arms = {kind: Arm({"model": name, "without_score": lost}, {METRIC: tuple(means[kind])}) for kind in KINDS}
        comparisons = tuple(compare(arms, METRIC, kind, HARD) for kind in (FALSE, LACKING))
        d = difference(list(found.values()))
        verdict = judged(scale, d)
    reason = (
        f"d is {d} with {name}." if known else f"No answer of {name} has a score in some category; does it take images?"
    )
    return Reproduction(
        idea="haloquest", claim=CLAIM, scale=scale, seeds=seeds, data=data, arms=arms, comparisons=comparisons, rule=RULE,
        verdict=verdict, reason=reason, seconds=time.perf_counter() - began,
    )  # fmt: skip


def _of(results: Results, kind: str) -> Results:
    return results.where(np.asarray(results.about["category"], object) == kind)


def difference(parts: Sequence[Results]) -> Estimate:
    """Return d over all seeds. Categories are in alphabetical order: false premises, insufficient context, visual challenge."""
    together = Results(
        [name for part in parts for name in part.ids], np.concatenate([part.values for part in parts]),
        [outcome for part in parts for outcome in part.outcomes],
        {"category": [kind for part in parts for kind in part.about["category"]]},
    )  # fmt: skip
    return together.mean_of_groups("category", lambda means: means[..., :2].mean(axis=-1) - means[..., 2])


def judged(scale: Scale, d: Estimate) -> Verdict:
    """Return the verdict by `RULE`."""
    if scale == "smoke" or d.low is None or d.high is None or d.low <= 0 <= d.high:
        return "not testable at this scale"
    return "reproduced" if d.high < 0 else "not reproduced"


def _without_model(scale: Scale, plan: Plan, seeds: tuple[int, ...], began: float) -> Reproduction:
    """Score the right answers and a constant one, which tells what the rule without a judge takes for right."""
    values: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in KINDS} for name in (RIGHT, CONSTANT)}
    data: dict[str, str] = {}
    for seed in seeds:
        evaluation = _drawn(plan, seed)
        loaded = evaluation.load()
        questions = list(loaded)
        data |= {f"{key}, seed {seed}": value for key, value in loaded.checksums.items()}
        said: dict[str, Callable[[Question], str]] = {
            RIGHT: lambda question: (question.target or ("",))[0], CONSTANT: lambda question: CONSTANT.partition(": ")[2],
        }  # fmt: skip
        for name, answer in said.items():
            scores = asyncio.run(_scored(evaluation, questions, answer))
            for kind in KINDS:
                of = [s for s, q in zip(scores, questions, strict=True) if q.about["category"] == kind]
                values[name][kind].append(float(np.mean(of)))
    arms = {
        f"{name}, {kind}": Arm({"answers": name}, {METRIC: tuple(found)})
        for name, kinds in values.items()
        for kind, found in kinds.items()
    }
    reason = (
        "No model that takes images runs here. The rule without a judge gives the right answers "
        f"{np.mean([v for kinds in values[RIGHT].values() for v in kinds]):.3f}, and the constant answer "
        + ", ".join(f"{np.mean(found):.3f} ({kind})" for kind, found in values[CONSTANT].items())
        + ". Name a multimodal model in $HEURETIC_LM."
    )
    return Reproduction(
        idea="haloquest", claim=CLAIM, scale=scale, seeds=seeds, data=data, arms=arms, comparisons=(), rule=RULE,
        verdict="not testable at this scale", reason=reason, seconds=time.perf_counter() - began,
    )  # fmt: skip


async def _scored(
    evaluation: HaloQuest, questions: Sequence[Question], answer: Callable[[Question], str]
) -> list[float]:
    found = []
    for question in questions:
        text: Any = answer(question)
        score = await evaluation.score(question, Answer(text, "answered", 1.0, (Sample(text, "answered", text),), ()))
        found.append(float("nan") if score.value is None else score.value)
    return found


IDEA = Idea(
    slug="haloquest",
    title="HaloQuest: questions about images that hold a false premise, or lack context",
    paper=Paper(
        authors="Wang, Bingham, Yu, Le, Luong, Ghiasi",
        year=2024,
        title="HaloQuest: A Visual Hallucination Dataset for Advancing Multimodal Reasoning",
        arxiv="2407.15680",
    ),
    claim=CLAIM,
    usage=(
        "from heuretic.evals.haloquest import HaloQuest\nfrom heuretic.evals.running import evaluate\n"
        'run = evaluate(HaloQuest(), "openai/gpt-4o-mini", judge="openai/gpt-4o")\n'
        "run.summary, run.groups"
    ),
    provides=("heuretic.evals.haloquest:HaloQuest", "heuretic.evals.haloquest_judge:AutoEval"),
    reproduce=reproduce,
)
