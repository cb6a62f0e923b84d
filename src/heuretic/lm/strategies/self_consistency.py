"""Sample several reasoning paths and vote."""

from __future__ import annotations

from heuretic.lm.answer import Answer, Sample, Step
from heuretic.lm.model import LanguageModel
from heuretic.lm.questions import Question
from heuretic.lm.strategies.chain_of_thought import ChainOfThought
from heuretic.lm.strategies.prompting import Attempting, drawing, independent
from heuretic.lm.voting import Plurality, Vote, elect
from heuretic.symbolic import Symbolic, field


class SelfConsistency(Symbolic):
    """Make several attempts with a strategy, each drawn at random, and take the answer that most of them agree on.

    Wang et al. 2023, arXiv:2203.11171, with the settings of the paper's largest model: 40 paths, temperature 0.7, top-k 40. Attempts
    without an answer do not vote; of equally frequent answers the first seen wins.
    """

    of: Attempting = field(default=ChainOfThought(), doc="the strategy; its temperature is replaced by the one here")
    samples: int = field(default=40, ge=1, doc="attempts, m in the paper")
    vote: Vote = field(default=Plurality(), doc="what an attempt weighs")
    temperature: float = field(default=0.7, ge=0, doc="divisor of the logits")
    top_k: int | None = field(default=40, doc="most probable tokens to draw from")
    top_p: float | None = field(default=None, doc="probability that they have together")

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        """Return the answer with the most votes; `share` is its part of them, `samples` are the attempts."""
        return await self._voted(Question(question) if isinstance(question, str) else question, model, 0)

    async def attempts(
        self, question: Question, model: LanguageModel, n: int, first: int = 0
    ) -> tuple[list[Sample], list[Step]]:
        """Return the results of independent votes."""
        return await independent(self._voted(question, model, k) for k in range(first, first + n))

    async def _voted(self, question: Question, model: LanguageModel, number: int) -> Answer:
        drawn = drawing(self.of, self.temperature, self.top_k, self.top_p)
        samples, trace = await drawn.attempts(question, model, self.samples, number * self.samples)
        return elect(samples, self.vote, trace)
