"""Ask what lies behind a question, then answer it on those grounds."""

from __future__ import annotations

import asyncio
from typing import Literal

from heuretic.lm.answer import Answer, Sample, Step
from heuretic.lm.model import LanguageModel
from heuretic.lm.parsing import FinalNumber, Parse
from heuretic.lm.questions import Question
from heuretic.lm.replies import Reply
from heuretic.lm.retrieval.evidence import Search
from heuretic.lm.sampling import Sampling
from heuretic.lm.strategies.prompting import Exemplar, asked, attempt, exchange, laid_out, one_attempt, stopping
from heuretic.symbolic import Symbolic, field


class Abstract(Symbolic):
    """The first stage: from the question to a more general one, or to the principles behind it."""

    gives: Literal["question", "principles"] = field(default="question", doc="what the reply is")
    exemplars: tuple[Exemplar, ...] = field(default=(), doc="questions, with their step-back question as the answer")
    instruction: str = field(
        default=(
            "You are an expert at world knowledge. Your task is to step back and paraphrase a question to a more generic step-back "
            "question, which is easier to answer. Reply with that question only."
        ),
        doc="comes before the question",
    )
    sampling: Sampling = field(default=Sampling(max_tokens=128, stop=("\n\n",)), doc="how replies are drawn")


PRINCIPLES = Abstract(
    gives="principles",
    instruction=(
        "You are an expert. Extract the concepts and principles involved in solving this problem, and state each in one sentence."
    ),
    sampling=Sampling(max_tokens=256),
)
"""The first stage for physics, chemistry and mathematics: the model states the principles itself."""


class StepBack(Symbolic):
    """Get a step-back question, answer or look it up, and answer the original question on these grounds.

    Zheng et al. 2024, arXiv:2310.06117. With `retrieve`, evidence is looked up for the original and for the step-back question,
    and the model sees both; without it, the model answers its own step-back question. Where `abstract` gives principles, they
    are the grounds themselves. Greedy by default, as in the paper.
    """

    abstract: Abstract = field(default=Abstract(), doc="first stage")
    retrieve: Search | None = field(default=None, doc="looks up evidence")
    evidence: int = field(default=3, ge=1, doc="pieces of evidence for each of the two questions")
    instruction: str = field(
        default=(
            "You are an expert. Answer the question. Use the context below where it is relevant, and ignore it where it is not."
        ),
        doc="comes before context and question",
    )
    ending: str = field(
        default='Let\'s think step by step. End with "The answer is" and the answer.', doc="follows the question"
    )
    parse: Parse = field(default=FinalNumber(), doc="finds the answer in the last reply")
    sampling: Sampling = field(default=Sampling(max_tokens=512), doc="how answers are drawn")

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        """Return the answer of one attempt; its outcome is "error" where the search did not answer this question."""
        return await one_attempt(self, question, model)

    async def attempts(
        self, question: Question, model: LanguageModel, n: int, first: int = 0
    ) -> tuple[list[Sample], list[Step]]:
        """Return attempts from independent chains."""
        stage = self.abstract
        pairs = [(e.question, e.answer) for e in stage.exemplars]
        text = asked(question) if pairs else f"{stage.instruction}\n\n{asked(question)}"
        messages = laid_out(pairs, text, parts=question.parts)
        sampling = stopping(stage.sampling, bool(pairs), False)
        back = await exchange("step back", messages, model, n, first, sampling)
        chains = await asyncio.gather(
            *(self._chain(question, model, reply, first + k) for k, reply in enumerate(back.replies))
        )
        return [sample for sample, _ in chains], [back, *(step for _, steps in chains for step in steps)]

    async def _chain(
        self, question: Question, model: LanguageModel, back: Reply, number: int
    ) -> tuple[Sample, list[Step]]:
        said = back.text.strip() if back.outcome in ("answered", "truncated") else ""
        steps: list[Step] = []
        context = said
        if self.retrieve is not None:
            queries = [question.text, *([said] if said else [])]
            try:
                found = await asyncio.gather(*(self.retrieve(query, self.evidence) for query in queries))
            except ConnectionError as error:
                failed = Step("search", "\n".join(queries), (Reply("", "error", error=str(error)),))
                return Sample(None, "error", ""), [failed]
            pieces = dict.fromkeys(str(piece) for each in found for piece in each)
            context = "\n\n".join([*([said] if self.abstract.gives == "principles" else []), *pieces])
        elif said and self.abstract.gives == "question":
            grounds = await exchange("step-back answer", laid_out([], said), model, 1, number, self.sampling)
            steps.append(grounds)
            context = f"{said}\n{grounds.replies[0].text.strip()}"
        parts = [self.instruction, f"Context:\n{context}" if context else "", f"Question: {asked(question)}"]
        messages = laid_out([], "\n\n".join(p for p in parts if p), self.ending, parts=question.parts)
        final = await exchange("answer", messages, model, 1, number, self.sampling)
        return attempt(final.replies[0], self.parse, question), [*steps, final]
