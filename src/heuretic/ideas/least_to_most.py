"""Least-to-most: split a question into easier ones, and answer them in turn, each with the answers before it.

Zhou et al. 2022, "Least-to-Most Prompting Enables Complex Reasoning in Large Language Models", arXiv:2205.10625. The strategy is
`heuretic.lm.strategies.LeastToMost`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Reproduction
from heuretic.lm import Sampling
from heuretic.lm.question_sets import question_set
from heuretic.lm.strategies import ChainOfThought, Direct, LeastToMost

CLAIM = "on questions longer than the exemplars, more answers are right least-to-most than by chain of thought"
TREATMENT, CONTROL, DIRECT = "least-to-most", "greedy chain of thought", "greedy direct"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check asks: `each` questions of every set for each seed."""

    questions: tuple[str, ...]
    seeds: tuple[int, ...]
    each: int


PLANS: dict[Scale, Plan] = {
    "smoke": Plan(("last-letter/2",), (1, 2), 1),
    "small": Plan(("last-letter/2", "last-letter/4", "scan/length"), (1, 2), 20),
    "full": Plan(("last-letter/4", "last-letter/8", "scan/length"), (1, 2, 3, 4, 5), 100),
}
