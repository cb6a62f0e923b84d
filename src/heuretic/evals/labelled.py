"""Questions with right answers: published sets of them, or a file of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from heuretic.data.files import sha256
from heuretic.evals.evaluation import Evaluation, Questions, Score
from heuretic.lm import Answer, LanguageModel, Question, Sampling, question_set, read_questions
from heuretic.lm.parsing import AfterCue, Choice, FinalNumber, Parse
from heuretic.lm.strategies import Attempting, ChainOfThought
from heuretic.lm.strategies.prompting import winner
from heuretic.lm.verifiers.comparing import Exact
from heuretic.symbolic import field

_BY = {"mmlu": "subject", "bbh": "task"}


def is_question_file(name: str) -> bool:
    """Return whether a name is that of a file that `read_questions` reads."""
    return name.removesuffix(".gz").endswith((".jsonl", ".csv"))


class Labelled(Evaluation):
    """The share of questions that are answered right: the answer equals a target in the form in which the parser reads both.

    Zero-shot chain of thought by default.
    """

    name: ClassVar[str] = "questions"
    by: ClassVar[tuple[str, ...]] = ("category",)

    set: str = field(default="gsm8k", doc="a name that `hr.lm.questions` knows, or a file (.jsonl, .csv, also .gz)")
    part: Literal["train", "test"] = field(default="test", doc="of a published set")
    answers: Literal["auto", "number", "choice", "text"] = field(
        default="auto", doc="what answers are; auto: choices where questions have some, else numbers if all targets are"
    )
    max_tokens: int = field(default=512, ge=1, doc="most tokens of a reply")

    @property
    def title(self) -> str:
        return Path(self.set).name.partition(".")[0] if self._is_file else self.set

    @property
    def _is_file(self) -> bool:
        return is_question_file(self.set)

    def load(self) -> Questions:
        """Return the questions, with what they are about as their `category`."""
        if self._is_file:
            found = tuple(read_questions(self.set))
            checksums = {Path(self.set).name: sha256(Path(self.set))}
        else:
            known = question_set(self.set, self.part)
            found, checksums = known.questions, {known.name: known.checksum}
        for question in found:
            if question.target is None:
                raise ValueError(f"questions must have targets, got none for {question.id!r} at {self.set}")
        key = _BY.get(self.set.partition("/")[0], "category")
        return Questions(lambda: (_with_category(question, key) for question in found), len(found), checksums)

    def parse(self) -> Parse:
        """Return what reads answers and targets."""
        kind = self.answers if self.answers != "auto" else self._kind()
        return {"number": FinalNumber(), "choice": Choice(), "text": AfterCue()}[kind]

    def strategy(self) -> Attempting:
        return self.fitted(ChainOfThought(sampling=Sampling(max_tokens=self.max_tokens)))

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        [right] = await Exact(parse=self.parse())(question, [winner(answer)])
        return Score(right)

    def _kind(self) -> str:
        family = self.set.partition("/")[0]
        if family in ("gsm8k", "multiarith"):
            return "number"
        if family in ("aqua", "mmlu"):
            return "choice"
        if not self._is_file:
            return "text"
        found = read_questions(self.set)
        if all(question.choices for question in found):
            return "choice"
        targets = [t for q in found for t in ([q.target] if isinstance(q.target, str) else q.target or ())]
        return "number" if targets and all(FinalNumber()(t, found[0]) for t in targets) else "text"


def _with_category(question: Question, key: str) -> Question:
    category = str(question.about.get(key, "all"))
    about = {**question.about, "category": category}
    return Question(question.text, question.target, question.choices, question.id, question.parts, about)
