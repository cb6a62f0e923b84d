"""Rationale-augmented ensembles: let answers vote that come from many rationales, in the input or the output.

Wang et al. 2022, "Rationale-Augmented Ensembles in Language Models", arXiv:2207.00747. The strategy is
`heuretic.lm.strategies.RationaleEnsemble`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Reproduction
from heuretic.lm import Sampling
from heuretic.lm.question_sets import question_set
from heuretic.lm.strategies import ChainOfThought, RationaleEnsemble
from heuretic.lm.strategies.exemplars import ARITHMETIC
from heuretic.lm.strategies.rationale_ensemble import Kind

CLAIM = "ensembles over sampled rationales are right more often than one greedy rationale, whichever way the rationales vary"
TREATMENT, CONTROL = "input-rationale ensemble", "greedy chain of thought"
KINDS: tuple[Kind, ...] = ("input-rationale", "prompt-order", "self-consistency")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check asks: `each` questions for each seed, with ensembles of so many members of at most `max_tokens` tokens."""

    questions: str
    seeds: tuple[int, ...]
    each: int
    members: int
    max_tokens: int


PLANS: dict[Scale, Plan] = {
    "smoke": Plan("multiarith", (1, 2), 1, 2, 16),
    "small": Plan("multiarith", (1, 2, 3, 4, 5), 3, 5, 72),
    "full": Plan("gsm8k", (1, 2, 3, 4, 5), 100, 40, 256),
}


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None,
    model: str | None = None,
) -> Reproduction:  # fmt: skip
    """Answer arithmetic problems by one greedy chain of thought, and by the three kinds of ensembles with sampled output.

    The verdict, on the ensemble over rationales in the input, follows from `heuretic.ideas.reasoning.RULE`.

    Args:
        model: Its name, see `heuretic.ideas.reasoning`.
    Raises: FileNotFoundError if the questions are missing; ModelError if the model cannot be used; ValueError for an unknown
        scale or fewer than 2 seeds.
    """
    plan = plan_of(PLANS, scale)
    chosen = reasoning.checked_seeds(seeds, plan.seeds)
    thinking = ChainOfThought(
        exemplars=ARITHMETIC, sampling=Sampling(max_tokens=plan.max_tokens, stop=("\n\n", "\nQ:"))
    )
    ensembles = {f"{kind} ensemble": RationaleEnsemble(of=thinking, kind=kind, members=plan.members) for kind in KINDS}
    found = question_set(plan.questions, repeated="drop")
    arms = {CONTROL: thinking, **ensembles}
    return reasoning.check(
        "rationale-ensembles", CLAIM, TREATMENT, CONTROL,
        [reasoning.Slice(found.name, found.questions, found.checksum, arms)], plan.each, reasoning.chosen_model(model), scale=scale,
        seeds=chosen, pairs=[(name, CONTROL) for name in ensembles if name != TREATMENT], progress=progress,
    )  # fmt: skip


IDEA = Idea(
    slug="rationale-ensembles",
    title="Rationale-augmented ensembles",
    paper=Paper(
        authors="Wang, Wei, Schuurmans, Le, Chi, Zhou",
        year=2022,
        title="Rationale-Augmented Ensembles in Language Models",
        arxiv="2207.00747",
    ),
    claim=CLAIM,
    usage=(
        "import heuretic as hr\nfrom heuretic.lm.strategies import ChainOfThought, RationaleEnsemble\n"
        "from heuretic.lm.strategies.exemplars import ARITHMETIC\n"
        'strategy = RationaleEnsemble(of=ChainOfThought(exemplars=ARITHMETIC), kind="prompt-order", members=10)\n'
        'answer = await strategy(question, hr.lm.model("heuretic/smollm2-135m"))'
    ),
    provides=("heuretic.lm.strategies:RationaleEnsemble",),
    reproduce=reproduce,
)
