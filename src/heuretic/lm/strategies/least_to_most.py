"""Break a question into easier ones and solve these in turn."""

from __future__ import annotations

import asyncio
import re

from heuretic.lm.answer import Answer, Sample, Step
from heuretic.lm.model import LanguageModel
from heuretic.lm.parsing import FinalNumber, Parse
from heuretic.lm.questions import Question
from heuretic.lm.sampling import Sampling
from heuretic.lm.strategies.prompting import Exemplar, asked, attempt, cue_of, exchange, laid_out, one_attempt, stopping
from heuretic.symbolic import Symbolic, field

_QUOTED = re.compile(r'"([^"\n]+)"|“([^”\n]+)”')
_LISTED = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s+(.+)$", re.MULTILINE)


class Decomposition(Symbolic):
    """A question with the easier questions that lead to it, to be shown as an example of how to break questions down."""

    question: str = field(doc="what is asked")
    parts: tuple[str, ...] = field(doc="the easier questions, in the order they are to be solved in")


class Decompose(Symbolic):
    """The first stage: get a list of sub-questions, in quotes or as a list of lines."""

    exemplars: tuple[Decomposition, ...] = field(default=(), doc="shown before the question")
    lead: str = field(default="To solve this, we first need to solve:", doc="begins each list")
    instruction: str = field(
        default="Which easier questions must be answered first, in which order? List them, one a line, with numbers.",
        doc="follows a question without exemplars",
    )
    most: int = field(default=10, ge=1, doc="sub-questions to keep, from the first on")
    sampling: Sampling = field(default=Sampling(max_tokens=256), doc="how replies are drawn")


class Solve(Symbolic):
    """The second stage: answer one sub-question after those before it."""

    exemplars: tuple[Exemplar, ...] = field(
        default=(), doc="solved questions, shown first; not those of the first stage"
    )
    context: bool = field(default=True, doc="whether the original question is repeated before its sub-questions")
    ending: str = field(
        default='End with "The answer is" and the answer.', doc="follows a sub-question without exemplars"
    )
    parse: Parse = field(default=FinalNumber(), doc="finds the answer in the last reply")
    sampling: Sampling = field(default=Sampling(max_tokens=256), doc="how replies are drawn")


class LeastToMost(Symbolic):
    """Break the question into easier ones, then answer them in turn, each with all earlier answers in the prompt.

    Zhou et al. 2023, arXiv:2205.10625. The original question comes last; it is added where the list does not end with it. Only
    the last reply is parsed, and nothing is voted on before it.
    """

    decompose: Decompose = field(default=Decompose(), doc="first stage")
    solve: Solve = field(default=Solve(), doc="second stage")

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        """Return the answer to the original question."""
        return await one_attempt(self, question, model)

    async def attempts(
        self, question: Question, model: LanguageModel, n: int, first: int = 0
    ) -> tuple[list[Sample], list[Step]]:
        """Return attempts from independent chains; greedy lists of sub-questions are asked for once."""
        shared = await self._list(question, model, n, first)
        chains = await asyncio.gather(
            *(self._chain(question, model, reply.text if reply.outcome in ("answered", "truncated") else "", first + k)
              for k, reply in enumerate(shared.replies))
        )  # fmt: skip
        return [sample for sample, _ in chains], [shared, *(step for _, steps in chains for step in steps)]

    async def _list(self, question: Question, model: LanguageModel, n: int, first: int) -> Step:
        stage = self.decompose
        pairs = [
            (d.question, f"{stage.lead} {', '.join(f'{chr(34)}{p}{chr(34)}' for p in d.parts)}.")
            for d in stage.exemplars
        ]
        opening = stage.lead if pairs else stage.instruction
        messages = laid_out(pairs, asked(question), opening, parts=question.parts)
        return await exchange("decompose", messages, model, n, first, stopping(stage.sampling, bool(pairs), False))

    async def _chain(
        self, question: Question, model: LanguageModel, listed: str, number: int
    ) -> tuple[Sample, list[Step]]:
        stage = self.solve
        original = asked(question)
        todo = sub_questions(listed, original, self.decompose.most)
        solved: list[tuple[str, str]] = []
        steps: list[Step] = []
        for place, part in enumerate(todo, 1):
            last = place == len(todo)
            shown = [(e.question, e.answered(cue_of(stage.parse))) for e in stage.exemplars]
            text = original if last else part
            if stage.context and not last:
                text = f"{original}\n\nFirst: {part}"
            opening = "" if shown or solved else stage.ending
            messages = laid_out([*shown, *solved], text, opening, parts=question.parts)
            sampling = stopping(stage.sampling, bool(shown or solved), False)
            step = await exchange(f"sub-question {place} of {len(todo)}", messages, model, 1, number, sampling)
            steps.append(step)
            [reply] = step.replies
            if last or reply.outcome not in ("answered", "truncated"):
                return attempt(reply, stage.parse, question), steps
            solved.append((part, reply.text.strip()))
        raise AssertionError("the original question is always last")


def sub_questions(text: str, original: str, most: int) -> list[str]:
    """Return the sub-questions of a list in quotes or lines, at most `most`, and then the original question."""
    quoted = [a or b for a, b in _QUOTED.findall(text)]
    parts = quoted or _LISTED.findall(text)
    kept: list[str] = []
    for part in (" ".join(p.split()) for p in parts):
        if (
            part
            and part not in kept
            and _plain(part) != _plain(original)
            and not (part.endswith("?") and _plain(original).endswith(_plain(part)))  # the question of a word problem
        ):
            kept.append(part)
    return [*kept[:most], original]


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
