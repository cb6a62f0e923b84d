"""Generated code against tests."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence

from heuretic.lm.answer import Sample
from heuretic.lm.questions import Question
from heuretic.lm.sandbox import Sandbox
from heuretic.symbolic import Symbolic, field

_FENCED = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)


def code_of(text: str) -> str:
    """Return the code in a reply: its fenced blocks, one after the other, or all of it if there are none."""
    return "\n".join(_FENCED.findall(text)) or text


class UnitTests(Symbolic):
    """Right if the code of the reply passes tests in the sandbox: those here, or those the question has in `about["tests"]`.

    With `runs` > 1, flaky tests count by the majority of that many runs (the paper of repeated sampling takes 11). Code that is
    the same is run once.
    """

    tests: str = field(
        default="", doc="Python that raises where the code is wrong; it runs after the code, in its scope"
    )
    sandbox: Sandbox = field(default=Sandbox(), doc="limits for each run")
    runs: int = field(default=1, ge=1, doc="runs of which the majority counts; odd")

    async def __call__(self, question: Question, samples: Sequence[Sample]) -> list[float | None]:
        tests = self.tests or str(question.about.get("tests", ""))
        if not tests.strip():
            raise ValueError(
                f"tests must be given here or in the question's about['tests'], got none for {question.id!r}"
            )
        codes = dict.fromkeys(code_of(s.text) for s in samples)
        turns = asyncio.Semaphore(os.cpu_count() or 1)

        async def passes(code: str) -> float:
            async with turns:
                ended = [(await self.sandbox.run(code, tests)).outcome == "passed" for _ in range(self.runs)]
            return float(2 * sum(ended) > self.runs)

        scores = dict(zip(codes, await asyncio.gather(*map(passes, codes)), strict=True))
        return [scores[code_of(s.text)] for s in samples]
