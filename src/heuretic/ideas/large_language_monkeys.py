"""Large language monkeys: with enough samples of a weak model one of them is right, and how many are needed can be forecast.

Brown et al. 2024, "Large Language Monkeys: Scaling Inference Compute with Repeated Sampling", arXiv:2407.21787. The strategy is
`heuretic.lm.strategies.RepeatedSampling`; coverage, its fit and the choice of k are in `heuretic.lm.coverage`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Arm, Reproduction, Verdict, compare
from heuretic.lm import Sampling, Usage
from heuretic.lm.coverage import coverage_at_k, fit_ks, fit_power_law, forecast
from heuretic.lm.question_sets import question_set
from heuretic.lm.strategies import ChainOfThought
from heuretic.lm.strategies.exemplars import ARITHMETIC

CLAIM = "the share of problems that some sample solves grows with the samples, as an exponentiated power law that forecasts it"
METRIC = "coverage"
OTHERS = "samples of another problem"
KS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
FORECAST_FROM = 5
"""The forecast is fitted to one sample in so many."""

Counts = Mapping[int, Sequence[int]]
RULE = (
    "Coverage is the share of problems with at least one right sample among k, its unbiased estimate from all samples; intervals are "
    "95% by bootstrap over the problems. As a control, each problem is given the samples of another: what they cover is covered by "
    "chance. The forecast is the fit of coverage = exp(a k^b) to a fifth of the samples, at all of them. Not testable at this scale if "
    "coverage by all samples minus the control's does not lie wholly above 0; else reproduced if coverage by all samples minus that "
    "by one lies wholly above 0 and the forecast lies within the interval of coverage by all samples, else not reproduced. Smoke "
    "runs are too short."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check asks: `each` problems for each seed, so many samples of at most `max_tokens` tokens for each."""

    questions: str
    seeds: tuple[int, ...]
    each: int
    samples: int
    max_tokens: int


PLANS: dict[Scale, Plan] = {
    "smoke": Plan("multiarith", (1, 2), 2, 5, 16),
    "small": Plan("multiarith", (1, 2, 3, 4, 5), 4, 100, 72),
    "full": Plan("gsm8k", (1, 2, 3, 4, 5), 25, 1000, 256),
}


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None,
    model: str | None = None,
) -> Reproduction:  # fmt: skip
    """Sample a chain of thought many times for arithmetic problems, and count those that have a right one.

    Samples are drawn as for self-consistency, with temperature 0.7 from the 40 most probable tokens (the paper has temperature 0.6
    and top-p 0.95), so that the cache serves both checks; for MultiArith (full: GSM8K) with the eight published
    exemplars. A sample is right if its number is. The verdict follows from `RULE`.

    Args:
        model: Its name, see `heuretic.ideas.reasoning`.
    Raises: FileNotFoundError if the questions are missing; ModelError if the model cannot be used; ValueError for an unknown
        scale or fewer than 2 seeds.
    """
    plan, began, said = plan_of(PLANS, scale), time.perf_counter(), progress or (lambda line: None)
    chosen = reasoning.checked_seeds(seeds, plan.seeds)
    found = question_set(plan.questions, repeated="drop")
    asked = reasoning.blocks(found.questions, chosen, plan.each)
    sampling = Sampling(temperature=0.7, top_k=40, max_tokens=plan.max_tokens, stop=("\n\n", "\nQ:"))
    strategy = ChainOfThought(exemplars=ARITHMETIC, sampling=sampling)
    lm = reasoning.chosen_model(model)
    right: dict[int, list[int]] = {}
    others: dict[int, list[int]] = {}
    early: dict[int, list[int]] = {}
    first = max(1, plan.samples // FORECAST_FROM)
    tokens: dict[int, tuple[float, float]] = {}
    for seed, questions in asked.items():
        given = reasoning.attempts(reasoning.seeded(strategy, seed), questions, lm, plan.samples)
        answers = [[sample.answer for sample in samples] for samples, _ in given]
        right[seed] = [each.count(str(q.target)) for each, q in zip(answers, questions, strict=True)]
        early[seed] = [each[:first].count(str(q.target)) for each, q in zip(answers, questions, strict=True)]
        others[seed] = [each.count(str(q.target)) for each, q in zip(answers[1:] + answers[:1], questions, strict=True)]
        used = sum((usage for _, usage in given), Usage())
        tokens[seed] = (used.input_tokens / len(questions), used.output_tokens / len(questions))
        covered = sum(count > 0 for count in right[seed])
        said(f"seed {seed}: {covered} of {len(questions)} problems covered by {plan.samples} samples")
    ks = [k for k in KS if k < plan.samples] + [plan.samples]
    arms = {
        _name(k): Arm(
            {"strategy": repr(strategy), "k": k, "coverage_bootstrap_95": _interval(_covered(right, plan.samples, k))},
            {
                METRIC: tuple(fmean(_covered({seed: counts}, plan.samples, k)) for seed, counts in right.items()),
                "input_tokens_per_question": tuple(tokens[seed][0] for seed in right),
                "output_tokens_per_question": tuple(tokens[seed][1] * k / plan.samples for seed in right),
            },
        )
        for k in ks
    }
    arms[OTHERS] = Arm(
        {"k": plan.samples, "coverage_bootstrap_95": _interval(_covered(others, plan.samples, plan.samples))},
        {METRIC: tuple(fmean(_covered({seed: counts}, plan.samples, plan.samples)) for seed, counts in others.items())},
    )
    most, one = _name(plan.samples), _name(1)
    expected = _told(early, first, plan.samples)
    told = {**_fit(right, plan.samples), "forecast_from_samples": first, "forecast": expected}
    arms[most] = Arm({**arms[most].settings, **told}, arms[most].measurements)
    verdict, reason = judge(scale, right, others, plan.samples, expected)
    return Reproduction(
        idea="large-language-monkeys", claim=CLAIM, scale=scale, seeds=chosen,
        data={found.name: found.checksum} | reasoning.checksum_of(lm), arms=arms,
        comparisons=(compare(arms, METRIC, most, one), compare(arms, METRIC, most, OTHERS)), rule=RULE, verdict=verdict,
        reason=reason, seconds=time.perf_counter() - began,
    )  # fmt: skip


def judge(scale: Scale, right: Counts, others: Counts, samples: int, expected: float | None) -> tuple[Verdict, str]:
    """Return the verdict by `RULE` and the sentence that says why.

    Args:
        right, others: By seed, how many of all samples are right for each problem: its own, and those of another problem.
        expected: Forecast of coverage by all samples, None where nothing could be fitted.
    """
    most, one, chance = (
        _covered(right, samples, samples),
        _covered(right, samples, 1),
        _covered(others, samples, samples),
    )
    measured, gain = reasoning.bootstrap(most), reasoning.bootstrap(np.subtract(most, one))
    beyond = reasoning.bootstrap(np.subtract(most, chance))
    assert measured.low is not None
    assert measured.high is not None
    told = "nothing to fit" if expected is None else f"{expected:.3f}"
    reason = (
        f"Coverage {reasoning.bootstrap(one)} by one sample and {measured} by {samples}, on {len(most)} problems; forecast from "
        f"{max(1, samples // FORECAST_FROM)} samples: {told}; the samples of another problem cover {reasoning.bootstrap(chance)}."
    )
    if scale == "smoke" or (beyond.low or 0.0) <= 0:
        return "not testable at this scale", reason
    held = expected is not None and measured.low <= expected <= measured.high
    return "reproduced" if held and (gain.low or 0.0) > 0 else "not reproduced", reason


def _covered(counts: Counts, samples: int, k: int) -> list[float]:
    """Return for each problem the probability that one of `k` of its samples is right."""
    return [coverage_at_k(count, samples, k) for each in counts.values() for count in each]


def _told(counts: Counts, samples: int, at: int) -> float | None:
    """Return the forecast of coverage by `at` samples, None where there is nothing to fit."""
    try:
        return forecast([(count, samples) for each in counts.values() for count in each], at).coverage
    except (ValueError, RuntimeError):  # no coverage inside (0, 1), or no fit that settles
        return None


def _fit(counts: Counts, samples: int) -> dict[str, Any]:
    """Return the curve fitted to all samples and its largest error, for settings; empty where there is nothing to fit."""
    ks = fit_ks(samples)
    curve = [fmean(_covered(counts, samples, k)) for k in ks]
    try:
        law = fit_power_law(ks, curve)
    except (ValueError, RuntimeError):
        return {}
    errors = [abs(law(k) - value) for k, value in zip(ks, curve, strict=True)]
    return {"fit_a": law.a, "fit_b": law.b, "fit_largest_error": max(errors)}


def _interval(values: Sequence[float]) -> list[float | None]:
    found = reasoning.bootstrap(values)
    return [found.low, found.high]


def _name(k: int) -> str:
    return f"{k} sample" + "s" * (k > 1)


IDEA = Idea(
    slug="large-language-monkeys",
    title="Repeated sampling: coverage, its fit and forecast",
    paper=Paper(
        authors="Brown, Juravsky, Ehrlich, Clark, Le, Ré, Mirhoseini",
        year=2024,
        title="Large Language Monkeys: Scaling Inference Compute with Repeated Sampling",
        arxiv="2407.21787",
    ),
    claim=CLAIM,
    usage=(
        "import heuretic as hr\n"
        "from heuretic.lm.strategies import ChainOfThought, RepeatedSampling\n"
        "from heuretic.lm.verifiers import Numeric\n"
        "strategy = RepeatedSampling(of=ChainOfThought(), k=100, verify=Numeric())\n"
        'answer = await strategy(question, hr.lm.model("heuretic/smollm2-135m"))'
    ),
    provides=("heuretic.lm.strategies:RepeatedSampling", "heuretic.lm.coverage:coverage_at_k"),
    reproduce=reproduce,
)
