"""SAFE: a model with evidence at hand labels facts as people do, for a fraction of the cost.

Wei et al. 2024, "Long-form factuality in large language models", arXiv:2403.18802: SAFE agrees with crowd workers on 72% of about
16,000 facts of FActScore's biographies, is right on 76% of 100 disagreements, and costs 20 times less. The method is
`heuretic.evals.safe.SAFE`, the evaluation `heuretic.evals.safe.LongFact`.

Scaled down: without a search engine and a strong model, SAFE itself cannot be measured here. What is measured is whether a rater that costs
nothing, with what other models wrote about the same person as its only evidence, agrees with the same human labels; and what the
local model makes of the same facts. The claim about SAFE is reported beside it, not reproduced by it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heuretic.evals.results import Estimate
from heuretic.evals.safe.agreement import (
    Agreement,
    Judged,
    Rater,
    agreement,
    at_crossed_thresholds,
    auc,
    crossed,
    difference,
    rate,
)
from heuretic.evals.safe.consistency import fit
from heuretic.evals.safe.human_labels import HumanFact, human_labels
from heuretic.evals.safe.raters import (
    Asked,
    FactPrompt,
    Likelihood,
    always_supported,
    at_base_rate,
    base_rate,
    by_length,
)
from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Arm, Reproduction, Verdict, compare
from heuretic.lm import Sampling

CLAIM = "a rater with evidence labels facts of long answers as people do, at a fraction of their cost"
CHEAP, BLIND, BASE = "consistency", "consistency, blind to the writer", "random at the base rate"
METRIC = "balanced_accuracy"
REFERENCE = {"SAFE, raw agreement": 0.72, "SAFE, US dollars a response": 0.19, "people, US dollars a response": 4.0}
RULE = (
    "Each seed parts the persons into two random halves; raters are fitted, and thresholds chosen, on one half and measured on the other, both "
    "ways. Facts that people call irrelevant count in raw agreement only, where the cheap rater, which never says so, is wrong on them. "
    "Reproduced if the cheap rater's raw agreement over all facts lies wholly above or includes 0.72, the paper's, and its balanced "
    "accuracy and kappa lie wholly above those of a random rater at the base rate, with the first seed's halves and intervals over persons; "
    "not reproduced if balanced accuracy or kappa do not lie wholly above; else, since SAFE itself needs a search engine and a stronger "
    "model, not testable at this scale. Smoke runs are too short."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check measures: all facts of `persons` persons for raters that cost nothing, `facts` of them for the local model."""

    persons: int
    facts: int
    seeds: tuple[int, ...]
    characters: int


PLANS: dict[Scale, Plan] = {
    "smoke": Plan(12, 0, (1, 2), 0),
    "small": Plan(110, 80, (1, 2, 3), 600),
    "full": Plan(110, 9393, (1, 2, 3, 4, 5), 1500),
}


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None,
    model: str | None = None,
) -> Reproduction:  # fmt: skip
    """Rate facts that people labelled with a cheap rater, a local model and baselines, and measure agreement.

    Args:
        model: Its name, see `heuretic.ideas.reasoning`.
    Raises: FileNotFoundError if the labels are missing; ModelError if the model cannot be used; ValueError for an unknown scale or
        fewer than 2 seeds.
    """
    plan, began, said = plan_of(PLANS, scale), time.perf_counter(), progress or (lambda line: None)
    chosen = reasoning.checked_seeds(seeds, plan.seeds)
    labels = human_labels()
    kept = set(sorted(labels.topics)[: plan.persons])
    facts = [each for each in labels.facts if each.topic in kept]
    found: dict[str, list[Judged]] = {
        CHEAP: [_cross_fitted(facts, seed, blind=False) for seed in chosen],
        BLIND: [_cross_fitted(facts, seed, blind=True) for seed in chosen],
    }
    rated = asyncio.run(_rated(baselines(facts, chosen), facts))
    found |= {name: _at_thresholds(judged, facts, chosen) for name, judged in rated.items()}
    arms = {name: _arm(facts, judged, said, name) for name, judged in found.items()}
    data = {"factscore_labels": labels.checksum}
    if plan.facts:
        arms |= _model_arms(plan, facts, chosen, model, found, data, said)
    ours, base = found[CHEAP][0], found[BASE][0]
    gap = difference(facts, ours.labels, base.labels)
    held = agreement(facts, ours.labels)
    verdict = _verdict(scale, held, gap)
    gaps = {name: [each.value, each.low, each.high] for name, each in gap.items()}
    arms[CHEAP] = Arm({**arms[CHEAP].settings, "difference_95_to_random": gaps}, arms[CHEAP].measurements)
    return Reproduction(
        idea="safe", claim=CLAIM, scale=scale, seeds=chosen, data=data, arms=arms,
        comparisons=(compare(arms, METRIC, CHEAP, BASE), compare(arms, METRIC, CHEAP, BLIND)), rule=RULE, verdict=verdict,
        reason=_reason(held, arms, len(kept)), seconds=time.perf_counter() - began,
    )  # fmt: skip


def baselines(facts: Sequence[HumanFact], seeds: Sequence[int]) -> dict[str, list[Rater]]:
    """Return what needs no look at the evidence: one rater for each seed, or one for all."""
    rate_of = base_rate([each.label for each in facts])
    return {
        "always supported": [always_supported],
        BASE: [at_base_rate(rate_of, seed) for seed in seeds],
        "length of the fact": [by_length],
    }


async def _rated(raters: Mapping[str, Sequence[Rater]], facts: Sequence[HumanFact]) -> dict[str, list[Judged]]:
    return {name: [await rate(each, facts) for each in some] for name, some in raters.items()}


def _at_thresholds(judged: Sequence[Judged], facts: Sequence[HumanFact], seeds: Sequence[int]) -> list[Judged]:
    """Return one for each seed, with thresholds for what gave probabilities."""
    each = judged if len(judged) == len(seeds) else [judged[0]] * len(seeds)
    return [
        one if np.isnan(one.scores).all() else at_crossed_thresholds(one, facts, seed=seed)
        for one, seed in zip(each, seeds, strict=True)
    ]


def _cross_fitted(facts: Sequence[HumanFact], seed: int, *, blind: bool) -> Judged:
    """Return what the cheap rater, fitted to one half of the persons, says about the other half, for both halves."""
    halves = crossed(facts, seed=seed)
    scores, began = np.full(len(facts), np.nan), time.perf_counter()
    for here, there in (halves, halves[::-1]):
        rater = fit([facts[k] for k in there], blind=blind)
        rows = np.stack([rater.features(facts[k].fact, facts[k].topic, facts[k].context) for k in here])
        scores[here] = rater.probabilities(rows)
    judged = Judged(("unjudged",) * len(facts), scores, seconds=time.perf_counter() - began)
    return judged.at(0.5)


def _model_arms(
    plan: Plan, facts: Sequence[HumanFact], seeds: Sequence[int], name: str | None, found: Mapping[str, Sequence[Judged]],
    data: dict[str, str], said: Callable[[str], None],
) -> dict[str, Arm]:  # fmt: skip
    """Return arms of the model on some facts, and of the cheap rater on the same ones."""
    lm = reasoning.chosen_model(name)
    data |= reasoning.checksum_of(lm)
    drawn = sorted(np.random.default_rng(0).permutation(len(facts))[: plan.facts].tolist())
    some = [facts[k] for k in drawn]
    arms = {}
    cheap = [Judged(tuple(j.labels[k] for k in drawn), j.scores[drawn]) for j in found[CHEAP]]
    arms[f"{CHEAP}, {len(some)} facts"] = _arm(some, cheap, said, f"{CHEAP}, {len(some)} facts")
    raters: dict[str, Rater] = {}
    for shown, evidence in (("without evidence", False), ("with evidence", True)):
        prompt = FactPrompt(evidence=evidence, characters=plan.characters)
        if lm.gives_likelihoods:
            raters[f"{lm.name} {shown}, likelihood"] = Likelihood(lm, prompt)
        # Local weights, which are small here, say the word first and would go on and on.
        brief = {"sampling": Sampling(max_tokens=16)} if lm.gives_likelihoods else {}
        raters[f"{lm.name} {shown}, asked"] = Asked(lm, prompt, **brief)
    for called, rater in raters.items():
        judged = asyncio.run(rate(rater, some))
        arms[called] = _arm(some, _at_thresholds([judged], some, seeds), said, called)
    return arms


def _arm(facts: Sequence[HumanFact], judged: Sequence[Judged], said: Callable[[str], None], name: str) -> Arm:
    """Return agreement for each seed, and with intervals over persons for the first."""
    held = [agreement(facts, each.labels) for each in judged]
    first = held[0]
    said(f"{name}: {first}")
    right = np.array([each.label == "supported" for each in facts], float)
    binary = np.array([each.label != "irrelevant" for each in facts])
    settings: dict[str, Any] = {
        "facts": len(facts),
        "persons": len({each.topic for each in facts}),
        "unjudged": first.unjudged,
        "intervals_95_over_persons": {
            key: [value.value, value.low, value.high]
            for key in (METRIC, "kappa", "raw", "binary")
            if (value := getattr(first, key)) is not None
        },
        "by_writer": {
            writer: {METRIC: part.balanced_accuracy.value, "kappa": part.kappa.value}
            for writer, part in first.by_writer.items()
            if np.isfinite([part.balanced_accuracy.value, part.kappa.value]).all()
        },
        "table": {human: dict(row) for human, row in first.table.items()},
        "input_tokens_per_fact": judged[0].usage.input_tokens / len(facts),
        "output_tokens_per_fact": judged[0].usage.output_tokens / len(facts),
        "seconds_per_fact": round(judged[0].seconds / len(facts), 5),
        "us_dollars": judged[0].cost,
    }
    if not np.isnan(judged[0].scores).all():
        settings["auc"] = auc(judged[0].scores[binary], right[binary])
    return Arm(
        settings,
        {
            METRIC: tuple(each.balanced_accuracy.value for each in held),
            "kappa": tuple(each.kappa.value for each in held),
            "raw_agreement": tuple(each.raw.value for each in held),
            "binary_agreement": tuple(each.binary.value for each in held),
        },
    )


def _verdict(scale: Scale, held: Agreement, gap: Mapping[str, Estimate]) -> Verdict:
    if scale == "smoke":
        return "not testable at this scale"
    if any((each.low or 0.0) <= 0 for each in gap.values()):
        return "not reproduced"
    reached = (held.raw.high or 0.0) >= REFERENCE["SAFE, raw agreement"]
    return "reproduced" if reached else "not testable at this scale"


def _reason(held: Agreement, arms: Mapping[str, Arm], persons: int) -> str:
    best = arms[CHEAP]
    return (
        f"The cheap rater has balanced accuracy {held.balanced_accuracy} and kappa {held.kappa}, and agrees on {held.binary} of "
        f"supported and not supported facts, {held.raw} of all {held.facts} facts of {persons} persons (SAFE, with a search engine and "
        f"gpt-3.5-turbo: 0.72 of all), at {1e3 * best.settings['seconds_per_fact']:.2f} ms and no token a fact; this says nothing of SAFE itself, "
        "which needs a search engine and a stronger model."
    )


IDEA = Idea(
    slug="safe",
    title="SAFE: facts of long answers judged on looked-up evidence",
    paper=Paper(
        authors="Wei, Yang, Song, Lu, Hu, Huang, Tran, Peng, Liu, Huang, Du, Le",
        year=2024,
        title="Long-form factuality in large language models",
        arxiv="2403.18802",
    ),
    claim=CLAIM,
    usage=(
        "import heuretic as hr\nfrom heuretic.evals.safe import SAFE\n"
        "rated = await SAFE(search=search)(question, response, hr.lm.model('openai/gpt-4o-mini'))\nprint(rated.counts)"
    ),
    provides=(
        "heuretic.evals.safe:SAFE",
        "heuretic.evals.safe:LongFact",
        "heuretic.evals.safe:f1_at_k",
        "heuretic.evals.safe.agreement:agreement",
        "heuretic.evals.safe.consistency:fitted",
    ),
    reproduce=reproduce,
)
