"""Judges: models that score answers. Their prompts are values, and what they say off format is asked for again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from inspect_ai.model import ChatMessage

from heuretic.lm import LanguageModel, Sampling
from heuretic.lm.answer import Step
from heuretic.lm.strategies.prompting import exchange, laid_out

T = TypeVar("T")


def needed(judge: LanguageModel | None, evaluation: str) -> LanguageModel:
    """Return the judge. Raises: ValueError if there is none."""
    if judge is None:
        raise ValueError(f"{evaluation} must have a judge, got none. Try judge='openai/gpt-4o-mini', or --judge")
    return judge


async def verdict(
    name: str,
    judge: LanguageModel,
    messages: str | Sequence[ChatMessage],
    read: Callable[[str], T | None],
    sampling: Sampling,
    tries: int = 3,
) -> tuple[T | None, tuple[Step, ...]]:
    """Ask a judge until `read` finds a verdict in what it says, at most `tries` times.

    Each try is a sample of its own, kept in the cache with its number; prompts are part of the cache's keys, so a changed
    prompt is always asked anew.

    Returns: The verdict, None if no reply had one; and all exchanges.
    """
    asked = laid_out([], messages) if isinstance(messages, str) else messages
    steps: list[Step] = []
    for number in range(tries):
        step = await exchange(name, asked, judge, 1, number, sampling)
        steps.append(step)
        reply = step.replies[0]
        found = read(reply.text) if reply.outcome in ("answered", "truncated") else None
        if found is not None:
            return found, tuple(steps)
    return None, tuple(steps)


def unjudged(steps: Sequence[Step]) -> str:
    """Return why a judge gave no verdict, by its last reply: it failed, declined, was cut off, said nothing, or was off format."""
    reply = steps[-1].replies[-1]
    if reply.outcome == "error":
        return f"judge failed: {reply.error or 'no reply'}"
    if reply.outcome in ("refused", "overflow", "empty"):
        return f"judge {reply.outcome}: {reply.text[:80]!r}"
    return f"judge off format: no verdict in {len(steps)} replies, the last one {reply.outcome}: {reply.text[-80:]!r}"
