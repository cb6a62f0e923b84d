"""Chain of thought on BIG-Bench Hard: few-shot exemplars with reasoning against the same exemplars with answers only.

Suzgun et al. 2022, "Challenging BIG-Bench Tasks and Whether Chain-of-Thought Can Solve Them", arXiv:2210.09261. The questions are in
`heuretic.lm.question_sets`, the published exemplars in `heuretic.lm.bbh_exemplars`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Reproduction
from heuretic.lm import Sampling
from heuretic.lm.bbh_exemplars import bbh_prompt
from heuretic.lm.parsing import AfterCue
from heuretic.lm.question_sets import BBH_TASKS, question_set
from heuretic.lm.strategies import ChainOfThought, Direct, Exemplar

CLAIM = "with exemplars that reason, more answers are right on BIG-Bench Hard than with exemplars that only answer"
TREATMENT, CONTROL = "chain of thought", "answer only"
HUMANS = {"average_human_rater": 0.677, "best_human_rater": 0.944}
"""Accuracy over all tasks, as the paper has it."""

LEAD = "Let's think step by step."
STOP = ("\n\n", "\nQ:")


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
    arms = {
        **result.arms,
        TREATMENT: replace(result.arms[TREATMENT], settings={**result.arms[TREATMENT].settings, **HUMANS}),
    }
    humans = f" Human raters: {HUMANS['average_human_rater']} on average, by the paper."
    return replace(result, arms=arms, reason=result.reason + humans)


def strategies(task: str, max_tokens: int) -> dict[str, Any]:
    """Return both arms for a task."""
    prompt = bbh_prompt(task)
    pairs = prompt.exemplars
    reasoned = tuple(Exemplar(each.question, f"{LEAD} {each.rationale} So", each.answer) for each in pairs)
    plain = tuple(Exemplar(each.question, "", each.answer) for each in pairs)
    return {
        CONTROL: Direct(
            preface=prompt.description, exemplars=plain, parse=AfterCue(cue="", whole_without_cue=True),
            sampling=Sampling(max_tokens=24, stop=STOP),
        ),
        TREATMENT: ChainOfThought(
            preface=prompt.description, exemplars=reasoned, opening="", parse=AfterCue(cue="the answer is"),
            sampling=Sampling(max_tokens=max_tokens, stop=STOP),
        ),
    }  # fmt: skip


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
        "import heuretic as hr\nfrom heuretic.ideas.cot_bbh import strategies\n"
        'questions = hr.lm.questions("bbh/navigate")\n'
        'answers = hr.lm.answer_all(strategies("navigate", 512)["chain of thought"], questions, hr.lm.model("heuretic/smollm2-135m"))'
    ),
    provides=("heuretic.lm.question_sets:questions", "heuretic.lm.bbh_exemplars:bbh_prompt"),
    reproduce=reproduce,
)
