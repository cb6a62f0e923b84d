"""Scoring a strategy on labelled questions, so that a study can search over everything the strategy leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heuretic.lm.answer import Answer, Strategy
from heuretic.lm.answering import answers
from heuretic.lm.model import LanguageModel, model
from heuretic.lm.questions import Question, read_questions
from heuretic.lm.strategies.prompting import parser_of, winner
from heuretic.lm.verifier import Verifier
from heuretic.lm.verifiers.comparing import Exact
from heuretic.lm.waiting import wait


@dataclass
class Accuracy:
    """The `evaluate` of `hr.discover` for strategies: the share of questions that a strategy answers right.

    Args:
        questions: Questions with targets, or the file that has them.
        model: Its name, or the model itself. A name can be sent to worker processes.
        verify: Judges final answers; a score of at least 0.5 is right. Default: equal to a target in the form in which the
            strategy's parser reads both.
        limit: Only so many questions, from the first on. concurrency: Most questions under way at once.
    Raises: ValueError if a question has no target.
    """

    questions: Sequence[Question] | str | Path
    model: LanguageModel | str
    verify: Verifier | None = None
    limit: int | None = None
    concurrency: int = 64
    _asked: list[Question] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        found = read_questions(self.questions) if isinstance(self.questions, str | Path) else list(self.questions)
        self._asked = found[: self.limit]
        for question in self._asked:
            if question.target is None:
                raise ValueError(f"questions must have targets, got none for {question.id or question.text[:60]!r}")

    def __call__(self, strategy: Strategy) -> dict[str, float]:
        """Return accuracy, and the means over questions of tokens, dollars (if a price is known) and answers not found."""
        if isinstance(self.model, str):
            self.model = model(self.model)
        given = wait(self._answers(strategy, self.model))
        right = wait(scores(strategy, self._asked, given, self.verify))
        number = len(given)
        told = {
            "accuracy": sum(right) / number,
            "input_tokens": sum(a.usage.input_tokens for a in given) / number,
            "output_tokens": sum(a.usage.output_tokens for a in given) / number,
            "without_answer": sum(a.answer is None for a in given) / number,
        }
        costs = [a.cost for a in given]
        if all(cost is not None for cost in costs):
            told["dollars"] = sum(cost or 0.0 for cost in costs) / number
        return told

    async def _answers(self, strategy: Strategy, asked: LanguageModel) -> list[Answer]:
        found: dict[int, Answer] = {}
        async for number, answer in answers(strategy, self._asked, asked, concurrency=self.concurrency):
            found[number] = answer
        return [found[k] for k in range(len(self._asked))]


async def scores(
    strategy: Strategy, questions: Sequence[Question], given: Sequence[Answer], verify: Verifier | None = None
) -> list[bool]:
    """Return for each question whether its final answer is right; see `Accuracy`."""
    judge = verify or Exact(parse=parser_of(strategy))
    told = []
    for question, answer in zip(questions, given, strict=True):
        [score] = await judge(question, [winner(answer)])
        told.append(score is not None and score >= 0.5)
    return told
