"""FreshPrompt: answer from what a search finds, the most recent evidence next to the question.

Vu et al. 2023, "FreshLLMs: Refreshing Large Language Models with Search Engine Augmentation", arXiv:2310.03214. The strategy is
`heuretic.lm.strategies.fresh_prompt`, the benchmark `heuretic.evals.freshqa`.
"""

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Reproduction
from heuretic.lm import Answer, Question, Sampling
from heuretic.lm.parsing import Whole
from heuretic.lm.retrieval.bm25 import BM25
from heuretic.lm.retrieval.evidence import Evidence
from heuretic.lm.strategies import Direct
from heuretic.lm.strategies.fresh_prompt import DEMONSTRATIONS, Counts, FreshPrompt

CLAIM = "with evidence from a search in the prompt, more questions about facts that change are answered right than by the model alone"
TREATMENT, CONTROL = "FreshPrompt", "the question alone"
TODAY = "2024-06-30"
_OFFICES = ("harbour master", "head librarian", "fire chief", "town architect", "museum director", "ferry captain")
_TOWNS = (
    "Brenmoor",
    "Kestel",
    "Larnhaven",
    "Ostrick",
    "Pellworth",
    "Quenby",
    "Sorrel Bay",
    "Tavish",
    "Ulverdale",
    "Wexcombe",
)
_FIRST = ("Ada", "Bruno", "Carla", "Dario", "Edith", "Felix", "Greta", "Hugo", "Iris", "Jonas", "Klara", "Leon")
_LAST = ("Abend", "Birk", "Castell", "Dorn", "Ehlers", "Falk", "Grau", "Hollm", "Immer", "Jessen", "Kolb", "Lorch")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check asks: `each` questions for each seed, in at most `max_tokens` tokens."""

    seeds: tuple[int, ...]
    each: int
    max_tokens: int


PLANS: dict[Scale, Plan] = {
    "smoke": Plan((1, 2), 1, 12),
    "small": Plan((1, 2), 12, 48),
    "full": Plan((1, 2), 30, 48),
}  # fmt: skip


def invented() -> tuple[list[Question], list[Evidence]]:
    """Return questions about who holds an office in a town that does not exist, and two dated reports for each, one outdated."""
    draw = random.Random(0)
    names = [f"{first} {last}" for first in _FIRST for last in _LAST]
    draw.shuffle(names)
    asked, reports = [], []
    for number, (office, town) in enumerate((office, town) for office in _OFFICES for town in _TOWNS):
        before, now = names[2 * number], names[2 * number + 1]
        asked.append(Question(f"Who is the {office} of {town}?", now, id=f"{town}/{office}"))
        for name, day in ((now, f"2024-05-{draw.randint(1, 28):02d}"), (before, f"2019-03-{draw.randint(1, 28):02d}")):
            text = f"{name} was sworn in as {office} of {town}."
            reports.append(
                Evidence(text, f"{town} has a new {office}", f"https://news.{town.split()[0].lower()}.example", day)
            )
    return asked, reports


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None,
    model: str | None = None,
) -> Reproduction:  # fmt: skip
    """Ask who holds invented offices, with and without dated reports found by BM25, with as many tokens to answer.

    The claim is about the web and what changes there, which cannot be looked up here: whatever the numbers are, the verdict is that
    it is not testable. They show whether a model takes the most recent of two reports that it cannot know.

    Args:
        model: Its name, see `heuretic.ideas.reasoning`.
    Raises: ModelError if the model cannot be used; ValueError for an unknown scale or fewer than 2 seeds.
    """
    plan = plan_of(PLANS, scale)
    chosen = reasoning.checked_seeds(seeds, plan.seeds)
    asked, reports = invented()
    text = json.dumps([[q.text for q in asked], [asdict(report) for report in reports]])
    sampling = Sampling(max_tokens=plan.max_tokens)
    arms = {
        CONTROL: Direct(instruction="", parse=Whole(), sampling=sampling),
        TREATMENT: FreshPrompt(
            search=BM25.of(reports), today=TODAY, counts=Counts(organic=4, shown=4), demonstrations=DEMONSTRATIONS[:2],
            sampling=sampling,
        ),
    }  # fmt: skip
    part = reasoning.Slice(
        "invented offices", asked, hashlib.sha256(text.encode()).hexdigest(), arms, judge=names_target
    )
    found = reasoning.check(
        "freshllms", CLAIM, TREATMENT, CONTROL, [part], plan.each, reasoning.chosen_model(model), scale=scale, seeds=chosen,
        progress=progress,
    )  # fmt: skip
    return replace(
        found,
        rule="Not testable at this scale, whatever the numbers: the claim is about a live search, and the reports here are invented.",
        verdict="not testable at this scale",
        reason=f"No live search and no FreshQA here; on invented reports: {found.reason}",
    )


def names_target(question: Question, answer: Answer) -> bool:
    """Return whether what was said names the target, also where it was cut off afterwards."""
    return any(str(question.target).casefold() in sample.text.casefold() for sample in answer.samples)


IDEA = Idea(
    slug="freshllms",
    title="FreshPrompt: evidence from a search, the most recent last",
    paper=Paper(
        authors="Vu, Iyyer, Wang, Constant, Wei, Wei, Tar, Sung, Zhou, Le, Luong",
        year=2023,
        title="FreshLLMs: Refreshing Large Language Models with Search Engine Augmentation",
        arxiv="2310.03214",
    ),
    claim=CLAIM,
    usage=(
        "import heuretic as hr\nfrom heuretic.lm.retrieval import Serper\nfrom heuretic.lm.strategies.fresh_prompt import FreshPrompt\n"
        'strategy = FreshPrompt(search=Serper(), today="2025-11-24")\n'
        'answer = await strategy("Who is the latest winner?", hr.lm.model("heuretic/smollm2-135m"))'
    ),
    provides=("heuretic.lm.strategies.fresh_prompt:FreshPrompt", "heuretic.evals.freshqa:FreshQA"),
    reproduce=reproduce,
)
