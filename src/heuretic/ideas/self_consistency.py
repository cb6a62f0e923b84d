"""Self-consistency: sample many reasoning paths, and take the answer that most of them reach.

Wang et al. 2022, "Self-Consistency Improves Chain of Thought Reasoning in Language Models", arXiv:2203.11171. The strategy is
`heuretic.lm.strategies.SelfConsistency`; the patch puts it around every chain of thought of a program.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import heuretic as hr
from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Reproduction
from heuretic.lm import Sampling
from heuretic.lm.strategies import ChainOfThought, SelfConsistency

CLAIM = "the plurality of sampled reasoning paths is right more often than the greedy one"
TREATMENT, CONTROL = "self-consistency", "greedy chain of thought"
RULE = reasoning.RULE.format(treatment=TREATMENT, control=CONTROL, margin=reasoning.MARGIN)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check asks: `each` questions for each seed, so many samples of at most `max_tokens` tokens for each."""

    slices: tuple[str, ...]
    seeds: tuple[int, ...]
    each: int
    samples: int
    max_tokens: int


PLANS: dict[Scale, Plan] = {
    "smoke": Plan(("multiarith",), (1, 2), 2, 3, 24),
    "small": Plan(("multiarith",), (1, 2, 3, 4, 5), 12, 40, 96),
    "full": Plan(("multiarith", "gsm8k"), (1, 2, 3, 4, 5), 100, 40, 256),
}


class Vote(hr.Patch):
    """Sample every chain of thought several times, and let the answers vote."""

    name: ClassVar[str] = "self-consistency"
    samples: int = hr.field(default=40, ge=1, doc="reasoning paths")
    temperature: float = hr.field(default=0.7, ge=0, doc="divisor of the logits")
    top_k: int = hr.field(default=40, ge=1, doc="keep so many of the most probable tokens")

    @hr.rule
    def strategy(self, node: ChainOfThought) -> Any:
        sampling = hr.replace(node.sampling, temperature=self.temperature, top_k=self.top_k)
        return SelfConsistency(of=node, samples=self.samples, sampling=sampling)


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None
) -> Reproduction:
    raise NotImplementedError
