"""What an evaluation is: questions, a way to answer them, a score for each answer, and numbers over all scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from heuretic.evals.results import Estimate, Results
from heuretic.lm import Answer, LanguageModel, Question
from heuretic.lm.answer import Step
from heuretic.lm.parsing import FinalNumber, Parse
from heuretic.lm.retrieval.evidence import Search
from heuretic.lm.strategies import Attempting, Direct
from heuretic.symbolic import Symbolic, find, replace


@dataclass(frozen=True, slots=True)
class Questions:
    """Questions that can be gone through as often as wanted, without all being in memory.

    Attributes:
        source: Begins anew. count: How many there are, if that is known.
        checksums: sha256 in hexadecimal digits by file, or of what was generated. notes: What was left out or is doubtful.
    """

    source: Callable[[], Iterable[Question]]
    count: int | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Question]:
        return iter(self.source())


@dataclass(frozen=True, slots=True)
class Score:
    """What one answer is worth.

    Attributes:
        value: The number that is averaged, in [0, 1]; None where nobody could tell, which is counted and never taken for 0.
        metrics: Other numbers about the same answer by name, in [0, 1] unless the name says otherwise. What needs no judge has
            a name of its own here.
        details: Values that JSON has, kept in the log: facts with their evidence, what the judge said.
        steps: Exchanges with the judge. reason: Why the value is what it is, or why there is none.
    """

    value: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        if self.value is not None and not 0 <= self.value <= 1:
            raise ValueError(f"score must be in [0, 1], got {self.value}. Try a metric for other numbers")


class Evaluation(Symbolic):
    """The common part of evaluations; each is a subclass whose fields are its settings.

    Attributes:
        name: What `heuretic eval` and inspect-ai call it. by: Keys of `Question.about` by which results are broken down.
        within: The key of `Question.about` that questions with something in common share (a topic, a passage), for intervals;
            empty if questions are independent.
        judged: Whether scores need a judge, by default. generated: Whether questions are made as they are asked for, which takes a while.
        references: Published values to show beside the results, by name, in the unit of the headline.
        unit: The score that is 1 in the headline, 0.01 where it is in percent.
    """

    name: ClassVar[str] = ""
    by: ClassVar[tuple[str, ...]] = ()
    within: ClassVar[str] = ""
    judged: ClassVar[bool] = False
    generated: ClassVar[bool] = False
    references: ClassVar[Mapping[str, float]] = {}
    unit: ClassVar[float] = 1.0

    @property
    def needs_judge(self) -> bool:
        """Whether scores need a judge with these settings."""
        return self.judged

    @property
    def title(self) -> str:
        """What results are called."""
        return self.name

    def check(self) -> None:
        """Find out, before anything is paid for, whether scores can be had. Raises: ValueError if something is missing for them."""

    def load(self) -> Questions:
        """Return the questions. Raises: FileNotFoundError, ValueError as `heuretic.data` does."""
        raise NotImplementedError

    def missing(self, question: Question) -> str:
        """Return why a question cannot be asked, such as an image that is gone, which leaves it without score; empty if it can."""
        return ""

    def strategy(self) -> Attempting:
        """Return how the benchmark itself asks."""
        return Direct()

    def parse(self) -> Parse | None:
        """Return what finds answers in replies, for strategies that were chosen by name; None to leave them as they are."""
        return None

    def fitted(self, strategy: Attempting) -> Attempting:
        """Return a strategy that looks for answers as this evaluation expects them; other parsers than the default stay."""
        parse = self.parse()
        return (
            strategy if parse is None else replace(strategy, {path: parse for path, _ in find(strategy, FinalNumber)})
        )

    def searching(self, search: Search) -> Evaluation:
        """Return the evaluation with who looks evidence up. Raises: ValueError if it looks nothing up."""
        raise ValueError(f"search must be for an evaluation that looks things up, got {self.title}. Try longfact")

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        """Return what an answer is worth. Called for every answer but those whose outcome is "error", which get no value."""
        raise NotImplementedError

    def summary(self, results: Results) -> Mapping[str, Estimate]:
        """Return the numbers over all scores, the headline first."""
        return {"score": results.mean()}

    def picture(self, results: Results) -> tuple[str, str] | None:
        """Return a picture of the scores as text and as SVG, None if there is none worth having."""
        return None

    def chance(self, question: Question) -> float | None:
        """Return the expected score of a random choice, None where there is nothing to choose from."""
        return 1 / len(question.choices) if question.choices else None

    def guess(self, question: Question) -> str | None:
        """Return the target as a constant answer could say it; the commonest of these is the constant baseline."""
        target = question.target
        return target[0] if isinstance(target, tuple) else target


def said(answer: Answer) -> str:
    """Return the text of the attempt that was elected, or of the first one; reasoning is not part of it."""
    for sample in answer.samples:
        if answer.answer is None or sample.answer == answer.answer:
            return sample.text
    return ""
