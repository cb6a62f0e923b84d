"""Step-back: ask what principle a question is about first, and reason from the answer.

Zheng et al. 2023, "Take a Step Back: Evoking Reasoning via Abstraction in Large Language Models", arXiv:2310.06117. The strategy is
`heuretic.lm.strategies.StepBack`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Reproduction
from heuretic.lm import Sampling
from heuretic.lm.question_sets import question_set
from heuretic.lm.strategies import ChainOfThought, Direct, StepBack

CLAIM = "asking for the principles first, more questions of physics and chemistry are answered right than by chain of thought"
TREATMENT, CONTROL, DIRECT = "step-back", "greedy chain of thought", "greedy direct"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check asks: `each` questions of every subject of MMLU for each seed, in at most `max_tokens` tokens a step."""

    subjects: tuple[str, ...]
    seeds: tuple[int, ...]
    each: int
    max_tokens: int


PLANS: dict[Scale, Plan] = {
    "smoke": Plan(("high_school_physics",), (1, 2), 1, 12),
    "small": Plan(("high_school_physics", "high_school_chemistry"), (1, 2), 15, 96),
    "full": Plan(("high_school_physics", "high_school_chemistry"), (1, 2), 70, 512),
}
