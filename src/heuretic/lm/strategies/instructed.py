"""One instruction, placed around or within the question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from inspect_ai.model import ChatMessageUser, ContentText

from heuretic.lm.answer import Answer, Sample, Step
from heuretic.lm.model import LanguageModel
from heuretic.lm.questions import Question
from heuretic.lm.sampling import Sampling
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

    `parse` is called with the text and the question and returns the canonical answer or None; None takes the whole text.

    Reference: Yang et al. 2023, "Large Language Models as Optimizers", arXiv:2309.03409, section 5.1.
    """

    instruction: str = field(default="Let's solve the problem.", doc="the text that is searched")
    position: Position = field(default="Q_begin", doc="before_Q, Q_begin, Q_end or A_begin")
    labels: bool = field(default=False, doc='whether the prompt has "Q:" and "A:"')
    parse: Any = field(
        default=None, doc="finds the canonical answer in a text; None: the whole text, without spaces around it"
    )
    sampling: Sampling = field(default=Sampling(max_tokens=1024))

    def prompt(self, question: Question) -> str:
        """Return the text of the prompt."""
        options = "".join(f"\n({chr(65 + k)}) {choice}" for k, choice in enumerate(question.choices))
        return placed(self.instruction, self.position, question.text + options, self.labels)

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        """Return the answer found in one sample."""
        if isinstance(question, str):
            question = Question(question)
        [sample], trace = await self.attempts(question, model, 1)
        return Answer(sample.answer, sample.outcome, float(sample.answer is not None), (sample,), tuple(trace))

    async def attempts(
        self, question: Question, model: LanguageModel, n: int, first: int = 0
    ) -> tuple[list[Sample], list[Step]]:
        """Return samples number `first` to `first + n - 1`, and the one exchange that they come from."""
        text = self.prompt(question)
        messages = [ChatMessageUser(content=[*question.parts, ContentText(text=text)])] if question.parts else text
        replies = await model.sample(messages, n, self.sampling, first=first)
        samples: list[Sample] = []
        for reply in replies:
            answer = None
            if reply.outcome in ("answered", "truncated") and reply.text.strip():
                parse: Callable[[str, Question], str | None] | None = self.parse
                if parse is not None:
                    answer = parse(reply.text, question)
                elif reply.outcome == "answered":
                    answer = reply.text.strip()
            outcome = reply.outcome
            if outcome in ("answered", "truncated"):
                outcome = "answered" if answer is not None else "unparsed" if outcome == "answered" else "truncated"
            samples.append(Sample(answer, outcome, reply.text))
        return samples, [Step("answer", text, tuple(replies))]
