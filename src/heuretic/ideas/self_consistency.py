"""Self-consistency: sample many reasoning paths, and take the answer that most of them reach.

Wang et al. 2022, "Self-Consistency Improves Chain of Thought Reasoning in Language Models", arXiv:2203.11171. The strategy is
`heuretic.lm.strategies.SelfConsistency`; the patch puts it around every chain of thought of a program.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import heuretic as hr
from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Reproduction
from heuretic.lm import Sampling
from heuretic.lm.question_sets import question_set
from heuretic.lm.strategies import ChainOfThought, Direct, SelfConsistency
from heuretic.lm.strategies.exemplars import ARITHMETIC

CLAIM = "the plurality of sampled reasoning paths is right more often than the greedy one"
TREATMENT, CONTROL, DIRECT = "self-consistency", "greedy chain of thought", "greedy direct"
STOP = ("\n\n", "\nQ:")
"""An answer in the form of the exemplars has ended there."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check asks: `each` questions of a set for each seed, with so many samples of at most `max_tokens` tokens."""

    questions: tuple[str, ...]
    seeds: tuple[int, ...]
    each: int
    samples: int
    max_tokens: int


PLANS: dict[Scale, Plan] = {
    "smoke": Plan(("multiarith",), (1, 2), 2, 3, 16),
    "small": Plan(("multiarith",), (1, 2, 3, 4, 5), 6, 40, 72),
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
        return SelfConsistency(of=node, samples=self.samples, temperature=self.temperature, top_k=self.top_k)


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None,
    model: str | None = None,
) -> Reproduction:  # fmt: skip
    """Answer arithmetic problems directly, by one greedy chain of thought, and by the vote of sampled ones.

    Eight published exemplars, temperature 0.7 and the 40 most probable tokens, as in the paper. The verdict follows from
    `heuretic.ideas.reasoning.RULE`.

    Args:
        model: Its name, see `heuretic.ideas.reasoning`.
    Raises: FileNotFoundError if the questions are missing; ModelError if the model cannot be used; ValueError for an unknown
        scale or fewer than 2 seeds.
    """
    plan = plan_of(PLANS, scale)
    chosen = reasoning.checked_seeds(seeds, plan.seeds)
    thinking = ChainOfThought(exemplars=ARITHMETIC, sampling=Sampling(max_tokens=plan.max_tokens, stop=STOP))
    arms = {
        DIRECT: Direct(exemplars=ARITHMETIC, sampling=Sampling(max_tokens=16, stop=STOP)),
        CONTROL: thinking,
        TREATMENT: hr.apply(thinking, Vote(samples=plan.samples)),
    }
    found = [question_set(name, repeated="drop") for name in plan.questions]
    slices = [reasoning.Slice(each.name, each.questions, each.checksum, arms) for each in found]
    return reasoning.check(
        "self-consistency", CLAIM, TREATMENT, CONTROL, slices, plan.each, reasoning.chosen_model(model), scale=scale, seeds=chosen,
        pairs=((TREATMENT, DIRECT), (CONTROL, DIRECT)), progress=progress,
    )  # fmt: skip


IDEA = Idea(
    slug="self-consistency",
    title="Self-consistency: a vote of sampled reasoning paths",
    paper=Paper(
        authors="Wang, Wei, Schuurmans, Le, Chi, Narang, Chowdhery, Zhou",
        year=2022,
        title="Self-Consistency Improves Chain of Thought Reasoning in Language Models",
        arxiv="2203.11171",
    ),
    claim=CLAIM,
    usage=(
        "import heuretic as hr\nfrom heuretic.lm.strategies import ChainOfThought\n"
        'program = hr.apply(ChainOfThought(), "self-consistency?samples=20")'
    ),
    patch=Vote,
    provides=("heuretic.lm.strategies:SelfConsistency",),
    reproduce=reproduce,
)
