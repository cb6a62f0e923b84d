"""Least-to-most: split a question into easier ones, and answer them in turn, each with the answers before it.

Zhou et al. 2022, "Least-to-Most Prompting Enables Complex Reasoning in Large Language Models", arXiv:2205.10625. The strategy is
`heuretic.lm.strategies.LeastToMost`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import heuretic as hr
from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Reproduction
from heuretic.lm import Answer, LanguageModel, Question, Sampling
from heuretic.lm.parsing import AfterCue
from heuretic.lm.question_sets import question_set
from heuretic.lm.strategies import ChainOfThought, Decompose, Decomposition, Direct, Exemplar, LeastToMost, Solve
from heuretic.lm.strategies.exemplars import LAST_LETTER, LAST_LETTER_LISTS, LAST_LETTER_PARTS

CLAIM = "on questions longer than the exemplars, more answers are right least-to-most than by chain of thought"
TREATMENT, CONTROL, DIRECT = "least-to-most", "greedy chain of thought", "greedy direct"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check asks: `each` questions of every set for each seed."""

    questions: tuple[str, ...]
    seeds: tuple[int, ...]
    each: int


SCAN = (
    Exemplar("look right after look twice", '"look right after look twice" means "look twice" and then "look right".', "I_LOOK I_LOOK I_TURN_RIGHT I_LOOK"),
    Exemplar("jump left and walk", '"jump left and walk" means "jump left" and then "walk".', "I_TURN_LEFT I_JUMP I_WALK"),
    Exemplar("run opposite left thrice", '"run opposite left" is "turn left" twice and then "run", three times.', "I_TURN_LEFT I_TURN_LEFT I_RUN " * 2 + "I_TURN_LEFT I_TURN_LEFT I_RUN"),
    Exemplar("walk around right", '"walk around right" is "turn right" and then "walk", four times.', "I_TURN_RIGHT I_WALK " * 3 + "I_TURN_RIGHT I_WALK"),
)  # fmt: skip
"""Ours: commands that show every kind of word, with how they are read."""

SCAN_PARTS = (
    Decomposition("look right after look twice", ("look twice", "look right")),
    Decomposition(
        "jump opposite right twice and walk left", ("jump opposite right", "jump opposite right twice", "walk left")
    ),
)
STOP = ("\n\n", "\nQ:")

PLANS: dict[Scale, Plan] = {
    "smoke": Plan(("last-letter/2",), (1, 2), 1),
    "small": Plan(("last-letter/2", "last-letter/4", "scan/length"), (1, 2), 8),
    "full": Plan(("last-letter/4", "last-letter/8", "scan/length"), (1, 2, 3, 4, 5), 100),
}


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None,
    model: str | None = None,
) -> Reproduction:  # fmt: skip
    """Answer questions of every set directly, by chain of thought and least-to-most, greedily.

    Exemplars for last letters are the published ones, with two words, for SCAN our own.

    The verdict follows from `heuretic.ideas.reasoning.RULE`.

    Args:
        model: Its name, see `heuretic.ideas.reasoning`.
    Raises: FileNotFoundError if the questions are missing; ModelError if the model cannot be used; ValueError for an unknown
        scale or fewer than 2 seeds.
    """
    plan = plan_of(PLANS, scale)
    chosen = reasoning.checked_seeds(seeds, plan.seeds)
    slices = []
    for name in plan.questions:
        found = question_set(name, repeated="drop")
        slices.append(reasoning.Slice(found.name, found.questions, found.checksum, strategies(name)))
    return reasoning.check(
        "least-to-most", CLAIM, TREATMENT, CONTROL, slices, plan.each, reasoning.chosen_model(model), scale=scale, seeds=chosen,
        pairs=((TREATMENT, DIRECT), (CONTROL, DIRECT)), progress=progress,
    )  # fmt: skip


def strategies(name: str) -> dict[str, Any]:
    """Return the arms for a set of questions: greedy, with exemplars in the form that each is published with."""
    if name.startswith("scan/"):
        shown, parts, solved, lists = SCAN, SCAN_PARTS, SCAN, False
    else:
        shown, parts, solved, lists = LAST_LETTER, LAST_LETTER_PARTS, LAST_LETTER_LISTS, True
    most = 96 if name.startswith("scan/") else 24 * int(name.rpartition("/")[2]) + 40
    greedy, short = Sampling(max_tokens=most, stop=STOP), Sampling(max_tokens=48, stop=STOP)
    decompose = Decompose(exemplars=parts, sampling=greedy)
    solve = Solve(exemplars=solved, context=False, parse=AfterCue(), sampling=greedy)
    least_to_most: Any = LeastToMost(decompose=decompose, solve=solve)
    return {
        DIRECT: Direct(exemplars=shown, parse=AfterCue(), sampling=greedy if name.startswith("scan/") else short),
        CONTROL: ChainOfThought(exemplars=shown, parse=AfterCue(), sampling=greedy),
        TREATMENT: WordLists(least_to_most) if lists else least_to_most,
    }


class WordLists(hr.Symbolic):
    """Ask least-to-most for the last letters of a list of words, which stands in quotes in the question."""

    of: LeastToMost

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        """Return the answer to the list alone, with commas, as the paper's exemplars have it."""
        asked = Question(question) if isinstance(question, str) else question
        words = asked.text.split('"')[1].split()
        return await self.of(replace(asked, text=", ".join(words)), model)


IDEA = Idea(
    slug="least-to-most",
    title="Least-to-most: easier questions first",
    paper=Paper(
        authors="Zhou, Schärli, Hou, Wei, Scales, Wang, Schuurmans, Cui, Bousquet, Le, Chi",
        year=2022,
        title="Least-to-Most Prompting Enables Complex Reasoning in Large Language Models",
        arxiv="2205.10625",
    ),
    claim=CLAIM,
    usage=(
        "import heuretic as hr\nfrom heuretic.lm.strategies import LeastToMost\n"
        'answer = await LeastToMost()(question, hr.lm.model("heuretic/smollm2-135m"))'
    ),
    provides=("heuretic.lm.strategies:LeastToMost",),
    reproduce=reproduce,
)
