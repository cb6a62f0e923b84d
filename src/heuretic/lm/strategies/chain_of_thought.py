"""Ask for the reasoning first."""

from __future__ import annotations

from heuretic.lm.answer import Answer, Sample, Step
from heuretic.lm.model import LanguageModel
from heuretic.lm.parsing import FinalNumber, Parse
from heuretic.lm.questions import Question
from heuretic.lm.sampling import Sampling
from heuretic.lm.strategies.prompting import Exemplar, asked, attempt, cue_of, exchange, laid_out, one_attempt, stopping
from heuretic.symbolic import Symbolic, field


class ChainOfThought(Symbolic):
    """Ask once, for reasoning that ends with the answer: after exemplars that reason, or without any, by a cue.

    Wei et al. 2022, arXiv:2201.11903 (exemplars); Kojima et al. 2022, arXiv:2205.11916 (the cue). Departure: without exemplars
    the answer is asked for in the same call, by `ending`, instead of in a second one.
    """

    preface: str = field(default="", doc="comes before everything")
    exemplars: tuple[Exemplar, ...] = field(default=(), doc="shown before the question, with their rationales")
    cue: str = field(default="Let's think step by step.", doc="asks for reasoning where there are no exemplars")
    ending: str = field(default='End with "The answer is" and the answer.', doc="follows the cue")
    opening: str = field(default="", doc="begins every answer where there are exemplars")
    turns: bool = field(default=False, doc="show exemplars as messages of user and model, not in one text")
    parse: Parse = field(default=FinalNumber(), doc="finds the answer in a text")
    sampling: Sampling = field(default=Sampling(max_tokens=512), doc="how replies are drawn")

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        """Return the answer of one attempt."""
        return await one_attempt(self, question, model)

    async def attempts(
        self, question: Question, model: LanguageModel, n: int, first: int = 0
    ) -> tuple[list[Sample], list[Step]]:
        """Return attempts from samples of one prompt."""
        lead = f"{self.opening} " if self.opening else ""
        pairs = [(e.question, lead + e.answered(cue_of(self.parse))) for e in self.exemplars]
        opening = self.opening if pairs else f"{self.cue} {self.ending}".strip()
        messages = laid_out(
            pairs, asked(question), opening, preface=self.preface, turns=self.turns, parts=question.parts
        )
        sampling = stopping(self.sampling, bool(pairs), self.turns)
        step = await exchange("chain of thought", messages, model, n, first, sampling)
        return [attempt(reply, self.parse, question) for reply in step.replies], [step]
