"""Chain of thought on BIG-Bench Hard: few-shot exemplars with reasoning against the same exemplars with answers only.

Suzgun et al. 2022, "Challenging BIG-Bench Tasks and Whether Chain-of-Thought Can Solve Them", arXiv:2210.09261. The evaluation is
`heuretic.evals.bbh`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from heuretic.evals.bbh import HUMANS, strategies
from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Reproduction
from heuretic.lm.question_sets import BBH_TASKS, question_set

CLAIM = "with exemplars that reason, more answers are right on BIG-Bench Hard than with exemplars that only answer"
TREATMENT, CONTROL = "chain of thought", "answer only"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check asks: `each` questions of every task for each seed, with at most `max_tokens` tokens of reasoning."""

    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    each: int
    max_tokens: int


PLANS: dict[Scale, Plan] = {
    "smoke": Plan(("sports_understanding",), (1, 2), 1, 16),
    "small": Plan(BBH_TASKS, (1, 2), 2, 80),
    "full": Plan(BBH_TASKS, (1, 2), 70, 1024),
}


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None,
    model: str | None = None,
) -> Reproduction:  # fmt: skip
    """Answer questions of every task with the three published exemplars, with and without their reasoning, greedily.

    An answer is what follows "the answer is", and is right if it is the target exactly, letter case, brackets and a last full stop
    aside. The mean over tasks, of equally many questions, is the paper's (macro) average. The verdict follows from
    `heuretic.ideas.reasoning.RULE`.

    Args:
        model: Its name, see `heuretic.ideas.reasoning`.
    Raises: FileNotFoundError if the questions are missing; ModelError if the model cannot be used; ValueError for an unknown
        scale or fewer than 2 seeds.
    """
    plan = plan_of(PLANS, scale)
    chosen = reasoning.checked_seeds(seeds, plan.seeds)
    slices = []
    for task in plan.tasks:
        found = question_set(f"bbh/{task}", repeated="drop")
        slices.append(reasoning.Slice(found.name, found.questions, found.checksum, strategies(task, plan.max_tokens)))
    result = reasoning.check(
        "cot-bbh", CLAIM, TREATMENT, CONTROL, slices, plan.each, reasoning.chosen_model(model), scale=scale, seeds=chosen,
        progress=progress,
    )  # fmt: skip
    known = {name.replace(" ", "_"): value for name, value in HUMANS.items()}
    treated = result.arms[TREATMENT]
    arms = {**result.arms, TREATMENT: replace(treated, settings={**treated.settings, **known})}
    humans = f" Human raters: {HUMANS['average human rater']} on average, by the paper."
    return replace(result, arms=arms, reason=result.reason + humans)


IDEA = Idea(
    slug="cot-bbh",
    title="Chain of thought on BIG-Bench Hard",
    paper=Paper(
        authors="Suzgun, Scales, Schärli, Gehrmann, Tay, Chung, Chowdhery, Le, Chi, Zhou, Wei",
        year=2022,
        title="Challenging BIG-Bench Tasks and Whether Chain-of-Thought Can Solve Them",
        arxiv="2210.09261",
    ),
    claim=CLAIM,
    usage=(
        'import heuretic as hr\nrun = hr.evals.evaluate("bbh?reasoning=true", "heuretic/smollm2-135m", limit=27)\n'
        "print(run.summary, run.evaluation.references)"
    ),
    provides=("heuretic.evals.bbh:BBH", "heuretic.lm.bbh_exemplars:bbh_prompt"),
    reproduce=reproduce,
)
