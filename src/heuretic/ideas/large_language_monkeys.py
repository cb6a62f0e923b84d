"""Large language monkeys: with enough samples of a weak model one of them is right, and how many are needed can be forecast.

Brown et al. 2024, "Large Language Monkeys: Scaling Inference Compute with Repeated Sampling", arXiv:2407.21787. The strategy is
`heuretic.lm.strategies.RepeatedSampling`; coverage, its fit and the choice of k are in `heuretic.lm.coverage`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Arm, Reproduction, Verdict, compare
from heuretic.lm.coverage import coverage_at_k, fit_power_law
from heuretic.lm.question_sets import question_set
from heuretic.lm.sampling import Sampling
from heuretic.lm.strategies import ChainOfThought
from heuretic.lm.strategies.exemplars import ARITHMETIC

CLAIM = "the share of problems that some sample solves grows with the samples, as an exponentiated power law that forecasts it"
METRIC = "coverage"
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
    "small": Plan("multiarith", (1, 2, 3, 4, 5), 10, 100, 80),
    "full": Plan("gsm8k", (1, 2, 3, 4, 5), 25, 1000, 256),
}


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None,
    model: str | None = None,
) -> Reproduction:  # fmt: skip
    """Sample a chain of thought many times for arithmetic problems, and count those that have a right one.

    Samples are drawn with temperature 0.7 from the 40 most probable tokens, for MultiArith (full: GSM8K) with the eight published
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
    sampling = Sampling(temperature=0.7, top_k=40, max_tokens=plan.max_tokens, stop=("\n\n", "Q:"))
    strategy = ChainOfThought(exemplars=ARITHMETIC, sampling=sampling)
    lm = reasoning.chosen_model(model)
    counts: dict[int, list[int]] = {}
    others: dict[int, list[int]] = {}
    tokens: dict[int, tuple[float, float]] = {}
    for seed, questions in asked.items():
        given = reasoning.attempts(reasoning.seeded(strategy, seed), questions, lm, plan.samples)
        said_by = [[sample.answer for sample in samples] for samples, _ in given]
        counts[seed] = [_right(answers, q.target) for answers, q in zip(said_by, questions, strict=True)]
        others[seed] = [_right(answers, q.target) for answers, q in zip(said_by[1:] + said_by[:1], questions, strict=True)]
        used = sum((usage for _, usage in given), reasoning.Usage())
        tokens[seed] = (used.input_tokens / len(questions), used.output_tokens / len(questions))
        covered = sum(count > 0 for count in counts[seed])
        said(f"seed {seed}: {covered} of {len(questions)} problems covered by {plan.samples} samples")
    return _result(scale, plan, chosen, lm, found.checksum, strategy, counts, others, tokens, time.perf_counter() - began)


def _right(answers: Sequence[str | None], target: Any) -> int:
    return sum(answer == target for answer in answers)


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
