"""Ask for the answer alone."""

from __future__ import annotations

from heuretic.lm.answer import Answer, Sample, Step
from heuretic.lm.model import LanguageModel
from heuretic.lm.parsing import FinalNumber, Parse
from heuretic.lm.questions import Question
from heuretic.lm.sampling import Sampling
from heuretic.lm.strategies.prompting import Exemplar, asked, attempt, cue_of, exchange, laid_out, one_attempt, stopping
from heuretic.symbolic import Symbolic, field


class Direct(Symbolic):
    """Ask once, for the answer alone: the standard prompting that reasoning is compared with.

    Brown et al. 2020, arXiv:2005.14165. Exemplars are shown without their rationales.
    """

    preface: str = field(default="", doc="comes before everything")
    exemplars: tuple[Exemplar, ...] = field(default=(), doc="shown before the question, in this order")
    instruction: str = field(
        default='Reply with "The answer is" and the answer only.', doc="follows a question without exemplars"
    )
    opening: str = field(default="", doc="begins the answer where there are exemplars")
    turns: bool = field(default=False, doc="show exemplars as messages of user and model, not in one text")
    parse: Parse = field(default=FinalNumber(), doc="finds the answer in a text")
    sampling: Sampling = field(default=Sampling(max_tokens=32), doc="how replies are drawn")

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        """Return the answer of one attempt."""
        return await one_attempt(self, question, model)

    async def attempts(
        self, question: Question, model: LanguageModel, n: int, first: int = 0
    ) -> tuple[list[Sample], list[Step]]:
        """Return attempts from samples of one prompt."""
        pairs = [(e.question, e.answered(cue_of(self.parse), reasoning=False)) for e in self.exemplars]
        opening = self.opening if pairs else self.instruction
        messages = laid_out(
            pairs, asked(question), opening, preface=self.preface, turns=self.turns, parts=question.parts
        )
        sampling = stopping(self.sampling, bool(pairs), self.turns)
        step = await exchange("direct", messages, model, n, first, sampling)
        return [attempt(reply, self.parse, question) for reply in step.replies], [step]
