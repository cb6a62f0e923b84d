"""How likely a model finds given texts after a prompt: the measure of multiple-choice benchmarks, without generating anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heuretic.lm.model import LanguageModel
from heuretic.lm.replies import Reply


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely a text is after a prompt.

    Attributes:
        sum_logprob: Sum of the log-probabilities of its tokens in nats. tokens: How many they are.
        characters: Length of the text.
    """

    sum_logprob: float
    tokens: int
    characters: int

    @property
    def per_token(self) -> float:
        """Mean log-probability of a token in nats."""
        return self.sum_logprob / max(1, self.tokens)

    @property
    def per_character(self) -> float:
        """Log-probability for each character in nats."""
        return self.sum_logprob / self.characters


async def likelihoods(model: LanguageModel, prompt: str, continuations: Sequence[str]) -> list[Likelihood]:
    """Return how likely a model finds each continuation of a prompt.

    The prompt is text as it is, without a chat template; a continuation carries its own leading space. What is known of a
    continuation is in the model's cache; the others are computed together, and share what the prompt takes.

    Raises: ModelError if the model gives no log-probabilities of prompts; ValueError if a continuation is empty or a text
        does not fit in the model's context; BudgetSpent before a call that could go over the budget.
    """
    replies = await model.score(prompt, continuations)
    for reply in replies:
        if reply.outcome != "answered":
            raise ValueError(f"continuations must have a likelihood, got none of {reply.text[:60]!r}: {reply.error}")
    return [likelihood(reply) for reply in replies]


def likelihood(reply: Reply) -> Likelihood:
    """Return the likelihood that a reply of `LanguageModel.score` holds. Raises: ValueError if it holds none."""
    if reply.logprob is None or not reply.text:
        raise ValueError(f"reply must have a log-probability of a text, got {reply.outcome!r}: {reply.error}")
    return Likelihood(reply.logprob, reply.scored, len(reply.text))
