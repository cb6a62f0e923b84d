"""What the three tasks share: how long a context is, how many questions there are, and what is summed up."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import ClassVar

from heuretic.evals.evaluation import Evaluation, Questions
from heuretic.evals.michelangelo.length_curve import (
    LengthPoint,
    as_text,
    drawing,
    length_curve,
    length_name,
    stack_weights,
    weighted_mean,
)
from heuretic.evals.results import Estimate, Results
from heuretic.lm import Question
from heuretic.symbolic import digest, field

VERSION = 1
"""Is raised when the same settings give other texts."""
_TRIES = 5
_EXACT = 0.99

Count = Callable[[str], int]


def fitted(build: Callable[[int], str], tokens: int, tokens_per_character: float, count: Count | None = None) -> str:
    """Return a text of at most so many tokens, and not many fewer.

    Args:
        build: Makes a text of at most so many characters. tokens_per_character: What a character is taken to be.
        count: Counts exactly; the text is then made again, at most four times, until it has 99% to 100% of the tokens.
    Raises: ValueError as `build` does if there are too few characters for what must be said.
    """
    characters = int(tokens / tokens_per_character)
    text, best = build(characters), ""
    if count is None:
        return text
    for _ in range(_TRIES - 1):
        counted = count(text)
        if counted <= tokens:
            best = max(best, text, key=len)
            if counted >= _EXACT * tokens:
                break
        characters = int(characters * tokens * (1 + _EXACT) / 2 / max(counted, 1))
        text = build(characters)
    if not best and count(text) > tokens:
        raise ValueError(f"context must fit {tokens:,} tokens, got {count(text):,}. Try a greater length")
    return best or text


class LongContext(Evaluation):
    """The common part of the three tasks.

    A problem is the same at every length: what is asked, what is relevant and where, relatively, it stands. Only the filler
    grows. So differences between lengths are paired by problem, and `within` says so for intervals.

    Questions are made one at a time when they are asked for, those of the first problem first, so that every beginning of
    them has all lengths alike.
    """

    by: ClassVar[tuple[str, ...]] = ("length", "complexity")
    within: ClassVar[str] = "problem"
    generated: ClassVar[bool] = True

    lengths: tuple[int, ...] = field(
        default=(1024, 4096, 8192, 16384, 32768), doc="tokens of a whole prompt, demonstrations included"
    )
    each: int = field(default=30, ge=1, doc="questions of every length, in every subset")
    seed: int = field(default=0, ge=0, doc="decides everything")
    shots: int = field(default=2, ge=0, le=8, doc="short demonstrations with their answers, before the question")
    subsets: tuple[int, ...] = field(
        default=(),
        doc="tops of stacked subsets, such as [32768, 131072, 1048576]: short lengths occur in each, and count less",
    )
    tokens_per_character: float = field(default=0.25, gt=0, doc="by which lengths are measured where nothing counts")
    count: Count | None = field(default=None, doc="counts the tokens of a text exactly, such as a model's tokenizer")

    def __post_init__(self) -> None:
        if not self.lengths or len(set(self.lengths)) < len(self.lengths) or min(self.lengths) < 1:
            raise ValueError(f"lengths must be different and >= 1, at least one, got {self.lengths}")
        stack_weights(self.lengths, self.subsets)

    def problem(self, number: int, tokens: int) -> Question:
        """Return a problem at a length; `about` need not say what all tasks say alike.

        Raises: ValueError if the length is too small for what must be said.
        """
        raise NotImplementedError

    def load(self) -> Questions:
        """Return the questions, made as they are asked for; the checksum is that of the settings and the generator's version."""
        settings = hashlib.sha256(f"{VERSION} {digest(self)}".encode()).hexdigest()
        measured = "by the function given" if self.count else f"as {self.tokens_per_character} tokens a character"
        repeated = [self._repetitions(tokens) for tokens in self.lengths]
        return Questions(
            self._questions, self.each * sum(repeated), {"settings": settings}, (f"lengths are measured {measured}",)
        )

    def _questions(self) -> Iterator[Question]:
        for number in range(self.each * max(map(self._repetitions, self.lengths))):
            for tokens in self.lengths:
                if number < self.each * self._repetitions(tokens):
                    yield self.question(number, tokens)

    def question(self, number: int, tokens: int) -> Question:
        """Return one question: the same one for the same settings, number and length, whatever else is asked for."""
        made = self.problem(number, tokens)
        counted = self.count(made.text) if self.count else round(len(made.text) * self.tokens_per_character)
        about = {
            "length": str(tokens), "tokens": counted, "characters": len(made.text), "problem": str(number),
            **made.about,
        }  # fmt: skip
        return Question(made.text, made.target, made.choices, f"{tokens}-{number}", about=about)

    def _repetitions(self, tokens: int) -> int:
        return sum(tokens <= top for top in self.subsets) or 1

    def of_problem(self, number: int) -> Random:
        """Return the random numbers of a problem, the same at every length."""
        return Random(f"{self.name} {self.seed} {number}")

    def of_filler(self, number: int, tokens: int) -> Random:
        """Return the random numbers of what fills a context."""
        return Random(f"{self.name} {self.seed} {number} {tokens}")

    def curve(self, results: Results) -> tuple[LengthPoint, ...]:
        """Return mean and cumulative average by length."""
        lengths = [int(each) for each in results.about["length"]]
        return length_curve(lengths, results.values, tops=self.subsets, clusters=results.clusters)

    def summary(self, results: Results) -> Mapping[str, Estimate]:
        """Return the mean over all, stacked subsets reweighted; then the mean and the cumulative average at each length."""
        lengths = [int(each) for each in results.about["length"]]
        weights = stack_weights(lengths, self.subsets)
        found = {"score": weighted_mean(results.values, weights, results.clusters)}
        points = self.curve(results)
        found |= {f"score at {length_name(point.tokens)}": point.mean for point in points}
        return found | {f"cumulative to {length_name(point.tokens)}": point.cumulative for point in points}

    def picture(self, results: Results) -> tuple[str, str] | None:
        """Return the score against the length of the context, with its cumulative average."""
        points = self.curve(results)
        if len(points) < 2:
            return None
        curves = {self.title: points}
        return as_text(curves), drawing(curves)
