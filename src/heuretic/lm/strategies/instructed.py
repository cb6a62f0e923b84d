"""One instruction, placed around or within the question."""

from __future__ import annotations

from typing import Literal

from inspect_ai.model import ChatMessageUser, ContentText

from heuretic.lm.answer import Answer, Sample, Step
from heuretic.lm.model import LanguageModel
from heuretic.lm.parsing import FinalNumber, Parse
from heuretic.lm.questions import Question
from heuretic.lm.sampling import Sampling
from heuretic.lm.strategies.prompting import asked, attempt, exchange, one_attempt
from heuretic.symbolic import Symbolic, field

Position = Literal["before_Q", "Q_begin", "Q_end", "A_begin"]


def placed(instruction: str, position: Position, question: str, labels: bool) -> str:
    """Return the prompt that has an instruction in its place; with `labels` there are "Q:" and "A:".

    Without labels there is no answer to begin and nothing before the question, so `before_Q` is as `Q_begin`, and `A_begin`
    ends the prompt. Source: gen_prompt in the code of arXiv 2309.03409, which allows only Q_begin and Q_end without labels.
    """
    before = f"{instruction}\n" if instruction else ""
    after = f"\n{instruction}" if instruction else ""
    if not labels:
        return before + question if position in ("before_Q", "Q_begin") else question + after
    if position == "before_Q":
        return f"{before}Q: {question}\n\nA:"
    if position == "Q_begin":
        return f"Q: {before}{question}\n\nA:"
    if position == "Q_end":
        return f"Q: {question}{after}\n\nA:"
    return f"Q: {question}\n\nA:{' ' + instruction if instruction else ''}"


class Instructed(Symbolic):
    """Ask once, with an instruction in one of four places.

    Reference: Yang et al. 2023, "Large Language Models as Optimizers", arXiv:2309.03409, section 5.1.
    """

    instruction: str = field(default="Let's solve the problem.", doc="the text that is searched")
    position: Position = field(default="Q_begin", doc="before_Q, Q_begin, Q_end or A_begin")
    labels: bool = field(default=False, doc='whether the prompt has "Q:" and "A:"')
    parse: Parse = field(default=FinalNumber(), doc="finds the answer in a text")
    sampling: Sampling = field(default=Sampling(max_tokens=1024), doc="how replies are drawn")

    def prompt(self, question: Question) -> str:
        """Return the text of the prompt."""
        return placed(self.instruction, self.position, asked(question), self.labels)

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        """Return the answer of one attempt."""
        return await one_attempt(self, question, model)

    async def attempts(
        self, question: Question, model: LanguageModel, n: int, first: int = 0
    ) -> tuple[list[Sample], list[Step]]:
        """Return attempts from samples of one prompt."""
        text = self.prompt(question)
        message = ChatMessageUser(content=[*question.parts, ContentText(text=text)] if question.parts else text)
        step = await exchange("instructed", [message], model, n, first, self.sampling)
        return [attempt(reply, self.parse, question) for reply in step.replies], [step]
