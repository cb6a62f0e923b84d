"""Sample many attempts and let a verifier choose."""

from __future__ import annotations

from heuretic.lm.answer import Answer, Sample, Step
from heuretic.lm.model import LanguageModel
from heuretic.lm.questions import Question
from heuretic.lm.strategies.chain_of_thought import ChainOfThought
from heuretic.lm.strategies.prompting import Attempting, drawing, independent
from heuretic.lm.verifier import Verifier
from heuretic.lm.voting import commonest
from heuretic.symbolic import Symbolic, field


class RepeatedSampling(Symbolic):
    """Make `k` attempts with a strategy and take the one that the verifier scores highest, of equal ones the first.

    Brown et al. 2024, "Large Language Monkeys", arXiv:2407.21787. See `heuretic.lm.coverage` for how many problems are solved by
    at least one of k attempts. A verifier that compares with the question's target tells how good selection could be; it is no
    way to answer new questions.
    """

    verify: Verifier = field(doc="scores the attempts")
    of: Attempting = field(default=ChainOfThought(), doc="the strategy; its temperature is replaced by the one here")
    k: int = field(default=100, ge=1, doc="attempts")
    temperature: float = field(default=0.6, ge=0, doc="divisor of the logits; the paper's value for mathematics")
    top_k: int | None = field(default=None, doc="most probable tokens to draw from")
    top_p: float | None = field(default=0.95, doc="probability that they have together")

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        """Return the chosen attempt's answer; `share` is the part of the attempts that agree with it."""
        return await self._chosen(Question(question) if isinstance(question, str) else question, model, 0)

    async def attempts(
        self, question: Question, model: LanguageModel, n: int, first: int = 0
    ) -> tuple[list[Sample], list[Step]]:
        """Return the choices of independent runs."""
        return await independent(self._chosen(question, model, k) for k in range(first, first + n))

    async def _chosen(self, question: Question, model: LanguageModel, number: int) -> Answer:
        drawn = drawing(self.of, self.temperature, self.top_k, self.top_p)
        samples, trace = await drawn.attempts(question, model, self.k, number * self.k)
        scores = await self.verify(question, samples)
        ranked = [
            (score, -place) for place, (score, s) in enumerate(zip(scores, samples, strict=True)) if score is not None and s.answer is not None
        ]  # fmt: skip
        if not ranked:
            return Answer(None, commonest([s.outcome for s in samples]), 0.0, tuple(samples), tuple(trace))
        best = samples[-max(ranked)[1]]
        share = sum(s.answer == best.answer for s in samples) / len(samples)
        return Answer(best.answer, "answered", share, tuple(samples), tuple(trace))
