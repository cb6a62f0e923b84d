"""BIG-Bench Hard: 27 tasks with three published exemplars each, answered with and without their chains of thought.

Suzgun et al. 2022, "Challenging BIG-Bench Tasks and Whether Chain-of-Thought Can Solve Them", arXiv:2210.09261. `official` extracts
answers as lm-evaluation-harness does (tasks/bbh/cot_fewshot), with which most published numbers were made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

from heuretic.evals.evaluation import Evaluation, Questions, Score, said
from heuretic.evals.results import Estimate, Results
from heuretic.lm import Answer, LanguageModel, Question, Sample, Sampling, Step
from heuretic.lm.bbh_exemplars import bbh_prompt
from heuretic.lm.parsing import AfterCue, Parse, without_markup
from heuretic.lm.question_sets import BBH_TASKS, question_set
from heuretic.lm.strategies import Attempting, ChainOfThought, Direct, Exemplar
from heuretic.lm.strategies.prompting import one_attempt
from heuretic.symbolic import Symbolic, field

HUMANS: Mapping[str, float] = {"average human rater": 0.677, "best human rater": 0.944}
"""Accuracy over all tasks, as the paper has it."""

LEAD = "Let's think step by step."
STOP = ("\n\n", "\nQ:")
INVALID = "[invalid]"

_STOPS = re.compile(r"</s>|Q|\n\n")
_PUBLISHED = re.compile(r"(?<=the answer is )(.*)(?=.)")
_OPTION = re.compile(r"\(([a-z])\)|([a-z])(?=$|[).:,]|\s*$)")
_WORDS = frozenset({"yes", "no", "true", "false", "valid", "invalid", "plausible", "implausible"})
_MERGED = re.compile(r"^(logical_deduction|tracking_shuffled_objects)_(?:three|five|seven)_objects$")


def published_extract(text: str) -> str:
    """Return what follows the first "the answer is " of a line, as lm-evaluation-harness finds it, "[invalid]" if nothing does.

    The text ends at the first "</s>", capital Q or empty line. The last character of the line is eaten, whatever it is: an answer
    without a full stop loses its last letter.
    """
    found = _PUBLISHED.search(_STOPS.split(text, maxsplit=1)[0])
    return found[1].strip() if found else INVALID


def matches(answer: str, target: str) -> bool:
    """Return whether an answer is the target, however it is written.

    An option may come with its text or without brackets, yes and no with an explanation; letter case, spaces, commas and a last full
    stop do not matter elsewhere.
    """
    plain, wanted = _plain(answer), _plain(target)
    if re.fullmatch(r"\([a-z]\)", wanted):
        found = _OPTION.match(plain)
        return found is not None and wanted[1] == (found[1] or found[2])
    if wanted in _WORDS:
        return re.match(r"\w*", plain)[0] == wanted  # pyright: ignore[reportOptionalSubscript]  (it matches anything)
    return re.sub(r"[\s,]", "", plain) == re.sub(r"[\s,]", "", wanted)


def _plain(text: str) -> str:
    return " ".join(without_markup(text).casefold().split()).strip("\"'").removesuffix(".")


@lru_cache(maxsize=256)
def strategies(task: str, max_tokens: int) -> dict[str, Any]:
    """Return both ways to ask the questions of a task: "chain of thought" and "answer only"."""
    prompt = bbh_prompt(task)
    pairs = prompt.exemplars
    reasoned = tuple(Exemplar(each.question, f"{LEAD} {each.rationale} So", each.answer) for each in pairs)
    plain = tuple(Exemplar(each.question, "", each.answer) for each in pairs)
    return {
        "answer only": Direct(
            preface=prompt.description, exemplars=plain, parse=AfterCue(cue="", whole_without_cue=True),
            sampling=Sampling(max_tokens=24, stop=STOP),
        ),
        "chain of thought": ChainOfThought(
            preface=prompt.description, exemplars=reasoned, opening="", parse=AfterCue(cue="the answer is"),
            sampling=Sampling(max_tokens=max_tokens, stop=STOP),
        ),
    }  # fmt: skip


class TaskExemplars(Symbolic):
    """Ask a question of BIG-Bench Hard after the three exemplars of its task, which `about["task"]` names."""

    reasoning: bool = field(default=True, doc="show and ask for chains of thought, else answers only")
    max_tokens: int = field(default=1024, ge=1, doc="most tokens of a chain of thought")

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        """Return the answer of one attempt."""
        return await one_attempt(self, question, model)

    async def attempts(
        self, question: Question, model: LanguageModel, n: int, first: int = 0
    ) -> tuple[list[Sample], list[Step]]:
        """Return attempts from samples of one prompt. Raises: ValueError if the question names no task."""
        kind = "chain of thought" if self.reasoning else "answer only"
        how = strategies(str(question.about.get("task", "")), self.max_tokens)[kind]
        return await how.attempts(question, model, n, first)


class BBH(Evaluation):
    """BIG-Bench Hard: 6,511 questions of 27 tasks (23 in the paper, which counts variants as one), with or without reasoning."""

    name: ClassVar[str] = "bbh"
    by: ClassVar[tuple[str, ...]] = ("task",)
    references: ClassVar[Mapping[str, float]] = HUMANS

    reasoning: bool = field(default=True, doc="three exemplars with chains of thought, else with answers only")
    official: bool = field(default=False, doc="extract answers of chains of thought as lm-evaluation-harness does")
    task: str = field(default="", doc="only this task")
    max_tokens: int = field(default=1024, ge=1, doc="most tokens of a chain of thought")

    def __post_init__(self) -> None:
        if self.task and self.task not in BBH_TASKS:
            raise ValueError(f"task must be one of {', '.join(BBH_TASKS)}, got {self.task!r}")

    def load(self) -> Questions:
        found = question_set(f"bbh/{self.task}" if self.task else "bbh")
        return Questions(lambda: found.questions, len(found.questions), {"bbh": found.checksum})

    def strategy(self) -> Attempting:
        """Return the task's three published exemplars, greedily."""
        return TaskExemplars(reasoning=self.reasoning, max_tokens=self.max_tokens)

    def parse(self) -> Parse:
        return AfterCue(cue="the answer is")

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        assert isinstance(question.target, str)
        if self.official:
            text = said(answer)
            found = published_extract(text) if self.reasoning else _STOPS.split(text, maxsplit=1)[0].strip()
            return Score(float(found == question.target))
        return Score(float(answer.answer is not None and matches(answer.answer, question.target)))

    def summary(self, results: Results) -> Mapping[str, Estimate]:
        """Return the mean over the 27 tasks (macro average), over the paper's 23, and over questions (micro average)."""
        merged = [_MERGED.sub(r"\1", task) for task in results.about["task"]]
        as_in_paper = Results(results.ids, results.values, results.outcomes, {"task": merged})
        return {
            "macro average of 27 tasks": results.mean_of_groups("task"),
            "macro average of 23 tasks": as_in_paper.mean_of_groups("task"),
            "micro average": results.mean(),
        }

    def chance(self, question: Question) -> float | None:
        """Return 1 over the number of options or of possible answers, 0 where answers are open."""
        target = str(question.target)
        if re.fullmatch(r"\([A-Z]\)", target):
            return 1 / max(1, len(set(re.findall(r"^\(([A-Z])\)", question.text, re.MULTILINE))))
        return 0.5 if target.casefold() in _WORDS else 0.0
