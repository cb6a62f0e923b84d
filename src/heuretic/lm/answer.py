"""What a strategy returns, and what a strategy is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from heuretic.lm.model import LanguageModel
from heuretic.lm.questions import Question
from heuretic.lm.replies import Outcome, Reply, Usage


@dataclass(frozen=True, slots=True)
class Sample:
    """One attempt at a question: the answer found in a reply, in its canonical form, or None with the outcome saying why.

    Attributes:
        logprob_per_token: Mean log-probability of the reply's tokens in nats, if it was asked for.
    """

    answer: str | None
    outcome: Outcome
    text: str
    logprob_per_token: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One exchange with the model, for reading afterwards: what it was for, what was asked, and every reply."""

    name: str
    prompt: str
    replies: tuple[Reply, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A strategy's answer to a question.

    Attributes:
        answer: The final answer in its canonical form; None unless `outcome` is "answered".
        share: Votes of the final answer over all samples that voted, in [0, 1]; 1 for a single answer, 0 for none.
        samples: All attempts, in order. trace: All exchanges with the model, in order.
        usage: All tokens and calls. cost: US dollars, None if the price of a call is not known.
    """

    answer: str | None
    outcome: Outcome
    share: float
    samples: tuple[Sample, ...]
    trace: tuple[Step, ...]

    @property
    def usage(self) -> Usage:
        """Tokens and calls of all exchanges."""
        return sum((reply.usage for step in self.trace for reply in step.replies), Usage())

    @property
    def cost(self) -> float | None:
        """US dollars of all exchanges."""
        costs = [reply.cost for step in self.trace for reply in step.replies if reply.outcome != "error"]
        return None if any(cost is None for cost in costs) else sum(cost for cost in costs if cost is not None)


@runtime_checkable
class Strategy(Protocol):
    """A way to get an answer out of a model. Ours are `Symbolic`, and nest: a strategy may be a field of another."""

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        """Return the answer to one question. Many may be under way at once."""
        ...
