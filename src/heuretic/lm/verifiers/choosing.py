"""Verifiers that need no target: the vote of the attempts, and a model that grades them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache

from heuretic.lm.answer import Sample
from heuretic.lm.model import LanguageModel, model
from heuretic.lm.questions import Question
from heuretic.lm.sampling import Sampling
from heuretic.lm.voting import Plurality, Vote, tally
from heuretic.symbolic import Symbolic, field

Grade = Callable[[Question, str], Awaitable[float | None]]


@lru_cache(maxsize=8)
def _named(name: str) -> LanguageModel:
    return model(name)


class Majority(Symbolic):
    """An attempt scores the share of the votes that its answer has."""

    vote: Vote = field(default=Plurality(), doc="what an attempt weighs")

    async def __call__(self, question: Question, samples: Sequence[Sample]) -> list[float | None]:
        shares = tally(samples, self.vote)
        return [None if s.answer is None else shares.get(s.answer, 0.0) for s in samples]


class RewardModel(Symbolic):
    """A language model grades each attempt from 0 to 10; the score is its grade over 10, None if it gives none.

    Instead of a model's name, `judge` may be an importable async function of question and text that returns a score in [0, 1] or
    None, such as one that asks a trained reward model.

    With `by_answer` an attempt scores the sum of the grades of all that say the same, over the sum of all: the reward-weighted
    vote; without, the best single attempt wins.
    """

    judge: str | Grade = field(doc="the name of the model that grades, or a function that does")
    prompt: str = field(
        default="Question:\n{question}\n\nProposed solution:\n{solution}\n\nIs the solution right? Grade it from 0 (surely wrong) to 10 "
        '(surely right). End with "Grade: " and the number.',
        doc="with {question} and {solution}",
    )
    by_answer: bool = field(default=False, doc="whether attempts with equal answers add up")
    sampling: Sampling = field(default=Sampling(max_tokens=256), doc="how grades are drawn")

    async def __call__(self, question: Question, samples: Sequence[Sample]) -> list[float | None]:
        texts = dict.fromkeys(s.text for s in samples if s.answer is not None)
        grades = dict(zip(texts, await asyncio.gather(*(self._grade(question, text) for text in texts)), strict=True))
        scores = [grades.get(s.text) if s.answer is not None else None for s in samples]
        if not self.by_answer:
            return scores
        totals: dict[str, float] = {}
        for sample, score in zip(samples, scores, strict=True):
            if sample.answer is not None:
                totals[sample.answer] = totals.get(sample.answer, 0.0) + (score or 0.0)
        everything = sum(totals.values())
        return [None if s.answer is None or not everything else totals[s.answer] / everything for s in samples]

    async def _grade(self, question: Question, text: str) -> float | None:
        if not isinstance(self.judge, str):
            return await self.judge(question, text)
        prompt = self.prompt.replace("{question}", question.text).replace("{solution}", text)
        [reply] = await _named(self.judge).sample(prompt, 1, self.sampling)
        found = re.findall(r"grade:\s*\**\s*(\d+(?:\.\d+)?)", reply.text, re.IGNORECASE)
        return min(float(found[-1]) / 10, 1.0) if found else None
