"""How likely a model finds given texts after a prompt: the measure of multiple-choice benchmarks, without generating anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from heuretic.lm.model import LanguageModel, ModelError
from heuretic.lm.replies import Reply, Usage


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
    replies = await scored(model, prompt, continuations)
    for reply in replies:
        if reply.outcome != "answered":
            raise ValueError(f"continuations must have a likelihood, got none of {reply.text[:60]!r}: {reply.error}")
    return [likelihood(reply) for reply in replies]


def likelihood(reply: Reply) -> Likelihood:
    """Return the likelihood that a reply of `scored` holds. Raises: ValueError if it holds none."""
    if reply.logprob is None or not reply.text:
        raise ValueError(f"reply must have a log-probability of a text, got {reply.outcome!r}: {reply.error}")
    return Likelihood(reply.logprob, reply.scored, len(reply.text))


def gives_likelihoods(model: LanguageModel) -> bool:
    """Return whether a model gives the log-probabilities of texts that it did not generate: local weights do."""
    return hasattr(model.inspect.api, "likelihoods_of")


async def scored(model: LanguageModel, prompt: str, continuations: Sequence[str]) -> list[Reply]:
    """Return each continuation as a reply with its log-probability, for the trace of a strategy.

    All tokens are input tokens, since none is generated. The first computed reply counts the call. Where a text does not fit
    in the model's context, all that were computed with it have the outcome "overflow".

    Raises: As `likelihoods`, but not for an overflow.
    """
    if not gives_likelihoods(model):
        raise ModelError(
            f"{model.name} must give log-probabilities of prompts, and its service does not. Try local weights such as "
            "heuretic/smollm2-135m, or a strategy with a fallback that generates, which is another measure"
        )
    if not all(continuations):
        raise ValueError(f"continuations must not be empty, got {list(continuations)}")
    keys = {text: model.digest({"prompt": prompt, "continuation": text}) for text in continuations}
    found: dict[str, Reply] = {}
    if model.cache is not None:
        known = {text: model.cache.get(key, [0]) for text, key in keys.items()}
        found = {text: replies[0] for text, replies in known.items() if 0 in replies}
    missing = [text for text in keys if text not in found]
    if missing:
        for text, reply in zip(missing, await _computed(model, prompt, missing), strict=True):
            found[text] = reply
            if model.cache is not None:
                model.cache.put(keys[text], {0: reply})
    return [found[text] for text in continuations]


async def _computed(model: LanguageModel, prompt: str, texts: list[str]) -> list[Reply]:
    from heuretic.lm.local.provider import PromptTooLong  # imports torch

    api: object = model.inspect.api
    reserved = Usage()
    if model.budget:
        most = sum(len((prompt + text).encode()) + 16 for text in texts)  # no token is shorter than a byte
        reserved = Usage(most, 0, 0, 1)
        model.budget.reserve(reserved, model.price)
    used = Usage()
    try:
        given = await api.likelihoods_of(prompt, texts)  # pyright: ignore[reportAttributeAccessIssue]
        replies = []
        for k, (text, part) in enumerate(zip(texts, given, strict=True)):
            usage = Usage(part.processed, part.spared, 0, int(k == 0))
            used += usage
            cost = model.price and model.price.of(usage)
            replies.append(Reply(text, "answered", usage, cost, logprob=part.logprob, scored=part.tokens))
            if not math.isfinite(part.logprob):
                raise ModelError(
                    f"{model.name} must give finite log-probabilities, got {part.logprob} for {text[:60]!r}"
                )
        return replies
    except PromptTooLong as error:
        return [Reply("", "overflow", error=str(error)) for _ in texts]
    finally:
        if model.budget:
            model.budget.settle(reserved, used, model.price)
