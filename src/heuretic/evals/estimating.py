"""What a run would take, without asking a model anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from heuretic.evals.evaluation import Evaluation
from heuretic.evals.running import chosen
from heuretic.lm import LanguageModel, Price, Reply, Sampling, Usage
from heuretic.lm.strategies import Attempting
from heuretic.lm.waiting import wait

CHARACTERS_PER_TOKEN = 4
LOOKED_AT = 20
"""Questions that are gone through; the others are taken to be like them."""
_REPLY = "- The answer is (A).\n[Foo] [Supported] 1"
"""Begins every reply: most parsers find something in it."""
_SENTENCE = "\nThis sentence of about thirty tokens stands for one more thing that a model would say, and that a judge would look up."
"""Fills it up, since what a judge has to do may grow with the length of what it judges."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """About what a run takes of one model, with every reply as long as allowed and every judge understood at once.

    Attributes: dollars: None if no price is known.
    """

    questions: int
    calls: int
    input_tokens: int
    output_tokens: int
    dollars: float | None


def estimate(
    evaluation: Evaluation,
    strategy: Attempting,
    limit: int | None,
    price: Price | None,
    judge_price: Price | None = None,
) -> tuple[Estimated, Estimated]:
    """Return what a run would take of the model and of the judge; prompt tokens are guessed from characters."""
    questions = evaluation.load()
    total = limit if questions.count is None else min(limit or questions.count, questions.count)
    if total is None:
        raise ValueError(f"limit must be given for {evaluation.title}, which has no end, got none. Try --limit 100")
    asked, judge, looked = _Counting(), _Counting(), 0

    async def go_through() -> int:
        seen = 0
        for question in chosen(evaluation, questions, min(total, LOOKED_AT)):
            answer = await strategy(question, cast(LanguageModel, asked))
            await evaluation.score(question, answer, cast(LanguageModel, judge))
            seen += 1
        return seen

    looked = wait(go_through())
    return _scaled(asked, total, looked, price), _scaled(judge, total, looked, judge_price)


class _Counting:
    """Passes for a model, and counts what is asked."""

    name = "nobody"
    price = None
    gives_likelihoods = True

    def __init__(self) -> None:
        self.calls = self.input_tokens = self.output_tokens = 0

    async def sample(
        self, prompt: str | Sequence[Any], n: int = 1, sampling: Sampling | None = None, *, first: int = 0
    ) -> list[Reply]:
        texts = [prompt] if isinstance(prompt, str) else [message.text for message in prompt]
        self.calls += 1
        self.input_tokens += sum(len(text) // CHARACTERS_PER_TOKEN + 1 for text in texts)
        self.output_tokens += (sampling or Sampling()).max_tokens * n
        room = (sampling or Sampling()).max_tokens * CHARACTERS_PER_TOKEN - len(_REPLY)
        return [Reply(_REPLY + _SENTENCE * max(0, room // len(_SENTENCE))) for _ in range(n)]

    async def score(self, prompt: str, continuations: Sequence[str]) -> list[Reply]:
        self.calls += 1
        self.input_tokens += sum(len(prompt + text) // CHARACTERS_PER_TOKEN + 1 for text in continuations)
        return [Reply(text, logprob=-1.0, scored=1) for text in continuations]


def _scaled(counted: _Counting, total: int, looked: int, price: Price | None) -> Estimated:
    calls, given, made = (
        round(each * total / max(looked, 1)) for each in (counted.calls, counted.input_tokens, counted.output_tokens)
    )
    return Estimated(total, calls, given, made, price.of(Usage(given, 0, made, calls)) if price else None)
