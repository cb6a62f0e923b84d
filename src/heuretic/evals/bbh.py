"""BIG-Bench Hard: 27 tasks with three published exemplars each, answered with and without their chains of thought.

Suzgun et al. 2022, "Challenging BIG-Bench Tasks and Whether Chain-of-Thought Can Solve Them", arXiv:2210.09261. `official` extracts
answers as lm-evaluation-harness does (tasks/bbh/cot_fewshot), with which most published numbers were made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace as replaced
from functools import lru_cache
from typing import Any, ClassVar

from heuretic.evals.evaluation import Evaluation, Questions, Score, said
from heuretic.evals.results import Estimate, Results
from heuretic.evals.short_answers import canonical, same_answer, short_answer
from heuretic.lm import Answer, LanguageModel, Question, Sample, Sampling, Step
from heuretic.lm.bbh_exemplars import bbh_prompt
from heuretic.lm.parsing import AfterCue, Parse
from heuretic.lm.question_sets import BBH_TASKS, question_set
from heuretic.lm.strategies import Attempting, ChainOfThought, Direct, Exemplar
from heuretic.lm.strategies.prompting import one_attempt
from heuretic.symbolic import Symbolic, field, replace

HUMANS: Mapping[str, float] = {"average human rater": 0.677, "best human rater": 0.944}
"""Accuracy over all tasks, as the paper has it."""

LEAD = "Let's think step by step."
STOP = ("\n\n", "\nQ:")
CUE = "the answer is"
INVALID = "[invalid]"

_STOPS = re.compile(r"</s>|Q|\n\n")
_PUBLISHED = re.compile(r"(?<=the answer is )(.*)(?=.)")
_WORDS = frozenset({"yes", "no", "true", "false", "valid", "invalid", "plausible", "implausible"})
_OPPOSITES = {"valid": "invalid", "plausible": "implausible", "true": "false", "false": "true"}
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

    An option may come with its text or without brackets, yes and no with an explanation; letter case, quotes, commas between words, a
    last full stop, and how a number is written do not matter elsewhere.
    """
    found, wanted = short_answer(answer) or "", canonical(target)
    if same_answer(found, target):
        return True
    if wanted in _WORDS:
        first = re.match(r"(not )?(\w+)\b(?!\s*/|\s+(?:or|and)\b)", found)
        return first is not None and (_OPPOSITES.get(first[2]) if first[1] else first[2]) == wanted
    if not re.search(r"\w", wanted):  # brackets, which may stand without spaces
        return "".join(canonical(answer).split()) == "".join(wanted.split())
    words = re.split(r"[\s,]+", wanted)
    return len(words) > 1 and re.split(r"[\s,]+", found) == words


class ShortAnswer(Symbolic):
    """The parser of answers, see `heuretic.evals.short_answers`. What is after "the answer is", else the first line."""

    cue: str = field(default=CUE, doc="what exemplars put before their answers")

    def __call__(self, text: str, question: Question) -> str | None:
        return short_answer(text)


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
            preface=prompt.description, exemplars=reasoned, opening="", parse=AfterCue(cue=CUE),
            sampling=Sampling(max_tokens=max_tokens, stop=STOP),
        ),
    }  # fmt: skip


@lru_cache(maxsize=256)
def _asking(task: str, reasoning: bool, max_tokens: int) -> Direct | ChainOfThought:
    """Return how a task is asked: as `strategies` does, but with the answer begun as the paper has it, and room for paragraphs."""
    how = strategies(task, max_tokens)["chain of thought" if reasoning else "answer only"]
    changes: dict[Any, Any] = {
        ("parse",): ShortAnswer(cue=CUE if reasoning else ""), ("sampling", "stop"): ("\n\nQ:", "\nQ:"),
    }  # fmt: skip
    if not reasoning:  # some answers are long lists, and some models think before they answer
        return replace(how, {**changes, ("sampling", "max_tokens"): max_tokens})
    begun = tuple(Exemplar(e.question, e.rationale.removeprefix(f"{LEAD} "), e.answer) for e in how.exemplars)
    return replace(how, {**changes, ("opening",): LEAD, ("exemplars",): begun})


class TaskExemplars(Symbolic):
    """Ask a question of BIG-Bench Hard after the three exemplars of its task, which `about["task"]` names."""

    reasoning: bool = field(default=True, doc="show and ask for chains of thought, else answers only")
    max_tokens: int = field(default=1024, ge=1, doc="most tokens of a reply")

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        """Return the answer of one attempt."""
        return await one_attempt(self, question, model)

    async def attempts(
        self, question: Question, model: LanguageModel, n: int, first: int = 0
    ) -> tuple[list[Sample], list[Step]]:
        """Return attempts from samples of one prompt. Raises: ValueError if the question names no task."""
        how = _asking(str(question.about.get("task", "")), self.reasoning, self.max_tokens)
        return await how.attempts(question, model, n, first)


class BBH(Evaluation):
    """BIG-Bench Hard: 6,511 questions of 27 tasks (23 in the paper, which counts variants as one), with or without reasoning."""

    name: ClassVar[str] = "bbh"
    by: ClassVar[tuple[str, ...]] = ("task",)
    references: ClassVar[Mapping[str, float]] = HUMANS

    reasoning: bool = field(default=True, doc="three exemplars with chains of thought, else with answers only")
    official: bool = field(default=False, doc="extract answers of chains of thought as lm-evaluation-harness does")
    task: str = field(default="", doc="only this task")
    max_tokens: int = field(default=1024, ge=1, doc="most tokens of a reply")

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
        return ShortAnswer()

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        """Return whether the answer is right, and as a metric whether it is by the harness's rules, from the whole reply."""
        target, text = str(question.target), said(answer)
        found = (
            published_extract(text) if self.reasoning else _STOPS.split(text, maxsplit=1)[0].strip().removesuffix(".")
        )
        published = float(found == target)
        tolerant = float(answer.answer is not None and matches(answer.answer, target))
        return Score(
            published if self.official else tolerant,
            {"published rules": published},
            {"answer": answer.answer, "target": target},
        )

    def summary(self, results: Results) -> Mapping[str, Estimate]:
        """Return the mean over the paper's 23 tasks (macro average), over all 27, and over questions (micro average).

        Also by the harness's rules, where they are not the headline's.
        """
        merged = [_MERGED.sub(r"\1", task) for task in results.about["task"]]
        as_in_paper = replaced(results, about={"task": merged})
        found: dict[str, Estimate] = {}
        for metric, suffix in (("", ""), ("published rules", ", by the published rules")):
            if not metric or (metric in results.metrics and not self.official):
                found[f"macro average of 23 tasks{suffix}"] = as_in_paper.mean_of_groups("task", metric=metric)
                found[f"macro average of 27 tasks{suffix}"] = results.mean_of_groups("task", metric=metric)
                found[f"micro average{suffix}"] = results.mean(metric)
        return found

    def chance(self, question: Question) -> float | None:
        """Return 1 over the number of options or of possible answers, 0 where answers are open."""
        target = str(question.target)
        if re.fullmatch(r"\([A-Z]\)", target):
            return 1 / max(1, len(set(re.findall(r"^\(([A-Z])\)", question.text, re.MULTILINE))))
        return 0.5 if target.casefold() in _WORDS else 0.0
