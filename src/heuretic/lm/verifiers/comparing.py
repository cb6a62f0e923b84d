"""Verifiers that compare an answer with the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from heuretic.lm.answer import Sample
from heuretic.lm.parsing import Choice, FinalNumber, Parse, Whole, canonical, canonical_number
from heuretic.lm.questions import Question
from heuretic.symbolic import Symbolic, field


def targets(question: Question) -> tuple[str, ...]:
    """Return the right answers. Raises: ValueError if the question has none."""
    if question.target is None:
        raise ValueError(
            f"question must have a target to compare with, got none for {question.id or question.text[:60]!r}"
        )
    return question.target if isinstance(question.target, tuple) else (question.target,)


def judged(samples: Sequence[Sample], right: Callable[[str], bool]) -> list[float | None]:
    """Return 1 for right answers and 0 for others, each different one judged once; an attempt without an answer is wrong."""
    found: dict[str, float] = {}
    for sample in samples:
        if sample.answer is not None and sample.answer not in found:
            found[sample.answer] = float(right(sample.answer))
    return [0.0 if s.answer is None else found[s.answer] for s in samples]


class Exact(Symbolic):
    """Right if the answer equals a target in canonical form."""

    parse: Parse = field(
        default=Whole(), doc="brings targets into the form that the strategy's parser gives to answers"
    )

    async def __call__(self, question: Question, samples: Sequence[Sample]) -> list[float | None]:
        wanted = {canonical(t, self.parse, question) for t in targets(question)}
        return judged(samples, lambda answer: answer in wanted or canonical(answer, self.parse, question) in wanted)


class Numeric(Symbolic):
    """Right if the answer is a number as near to a target as allowed; by default only equal."""

    absolute: float = field(default=0.0, ge=0, doc="largest difference")
    relative: float = field(default=0.0, ge=0, doc="largest difference, as a share of the target")

    async def __call__(self, question: Question, samples: Sequence[Sample]) -> list[float | None]:
        wanted = [number for t in targets(question) if (number := _number(t, question)) is not None]
        if not wanted:
            raise ValueError(
                f"target must be a number, got {question.target!r} for {question.id or question.text[:60]!r}"
            )

        def right(answer: str) -> bool:
            number = _number(answer, question)
            return number is not None and any(
                abs(number - t) <= max(Fraction(self.absolute), Fraction(self.relative) * abs(t)) for t in wanted
            )

        return judged(samples, right)


def _number(text: str, question: Question) -> Fraction | None:
    found = canonical_number(text) or FinalNumber()(text, question)
    return None if found is None else Fraction(found)


class MultipleChoice(Symbolic):
    """Right if the answer is the letter of a target, which is a letter itself, in brackets or not, or the text of an option."""

    async def __call__(self, question: Question, samples: Sequence[Sample]) -> list[float | None]:
        parse = Choice()
        wanted = {
            chr(65 + question.choices.index(t)) if t in question.choices else canonical(t, parse, question)
            for t in targets(question)
        }
        return judged(samples, lambda answer: canonical(answer, parse, question) in wanted)


class Pattern(Symbolic):
    """Right if a regular expression is found in the text of the attempt: in the answer, or in the whole reply.

    Matching ends after a time, since patterns can take for ever; there is no judgement then. Raises: ValueError for a pattern
    that is none.
    """

    pattern: str = field(default="", doc="the expression; empty for the targets as expressions")
    whole_reply: bool = field(default=False, doc="whether to look at the whole reply instead of the answer")
    ignore_case: bool = field(default=True, doc="whether letter case does not matter")
    timeout_s: float = field(default=1.0, gt=0, doc="seconds for each text")

    def __post_init__(self) -> None:
        import regex

        try:
            regex.compile(self.pattern)
        except regex.error as error:
            raise ValueError(f"pattern must be a regular expression, got {self.pattern!r}: {error}") from error

    async def __call__(self, question: Question, samples: Sequence[Sample]) -> list[float | None]:
        import regex

        flags = regex.IGNORECASE if self.ignore_case else 0
        patterns = [self.pattern] if self.pattern else list(targets(question))
        scores: list[float | None] = []
        for sample in samples:
            text = sample.text if self.whole_reply else sample.answer
            try:
                found = text is not None and any(regex.search(p, text, flags, timeout=self.timeout_s) for p in patterns)
                scores.append(float(found))
            except TimeoutError:
                scores.append(None)
        return scores
