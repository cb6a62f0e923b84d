"""Step-back: ask what principle a question is about first, and reason from the answer.

Zheng et al. 2023, "Take a Step Back: Evoking Reasoning via Abstraction in Large Language Models", arXiv:2310.06117. The strategy is
`heuretic.lm.strategies.StepBack`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import heuretic as hr
from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Reproduction
from heuretic.lm import Sampling
from heuretic.lm.parsing import Choice
from heuretic.lm.question_sets import question_set
from heuretic.lm.strategies import PRINCIPLES, ChainOfThought, Direct, StepBack

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
    "small": Plan(("high_school_physics", "high_school_chemistry"), (1, 2), 12, 80),
    "full": Plan(("high_school_physics", "high_school_chemistry"), (1, 2), 70, 512),
}


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None,
    model: str | None = None,
) -> Reproduction:  # fmt: skip
    """Answer multiple-choice questions directly, by chain of thought, and after stating the principles, greedily without exemplars.

    The verdict follows from `heuretic.ideas.reasoning.RULE`.

    Args:
        model: Its name, see `heuretic.ideas.reasoning`.
    Raises: FileNotFoundError if the questions are missing; ModelError if the model cannot be used; ValueError for an unknown
        scale or fewer than 2 seeds.
    """
    plan = plan_of(PLANS, scale)
    chosen = reasoning.checked_seeds(seeds, plan.seeds)
    slices = []
    for name in plan.subjects:
        found = question_set(f"mmlu/{name}", repeated="drop")
        slices.append(reasoning.Slice(found.name, found.questions, found.checksum, strategies(plan.max_tokens)))
    return reasoning.check(
        "step-back", CLAIM, TREATMENT, CONTROL, slices, plan.each, reasoning.chosen_model(model), scale=scale, seeds=chosen,
        pairs=((TREATMENT, DIRECT), (CONTROL, DIRECT)), progress=progress,
    )  # fmt: skip


def strategies(max_tokens: int) -> dict[str, Any]:
    """Return the arms."""
    sampling = Sampling(max_tokens=max_tokens)
    return {
        DIRECT: Direct(parse=Choice(), sampling=Sampling(max_tokens=min(max_tokens, 24))),
        CONTROL: ChainOfThought(parse=Choice(), sampling=sampling),
        TREATMENT: StepBack(abstract=hr.replace(PRINCIPLES, sampling=sampling), parse=Choice(), sampling=sampling),
    }


IDEA = Idea(
    slug="step-back",
    title="Step-back: principles before the answer",
    paper=Paper(
        authors="Zheng, Mishra, Chen, Cheng, Chi, Le, Zhou",
        year=2023,
        title="Take a Step Back: Evoking Reasoning via Abstraction in Large Language Models",
        arxiv="2310.06117",
    ),
    claim=CLAIM,
    usage=(
        "import heuretic as hr\nfrom heuretic.lm.parsing import Choice\nfrom heuretic.lm.strategies import PRINCIPLES, StepBack\n"
        "strategy = StepBack(abstract=PRINCIPLES, parse=Choice())\n"
        'answer = await strategy(question, hr.lm.model("heuretic/smollm2-135m"))'
    ),
    provides=("heuretic.lm.strategies:StepBack",),
    reproduce=reproduce,
)
