"""Strategies as solvers of inspect-ai, so that its tasks, scorers and logs work with them."""

from __future__ import annotations

from typing import Any, cast

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    ChatMessageUser,
    ContentText,
    Model,
    ModelOutput,
    ModelUsage,
    StopReason,
    get_model,
)
from inspect_ai.solver import Generate, Solver, TaskState
from inspect_ai.solver import solver as registered

from heuretic.lm.answer import Answer, Strategy
from heuretic.lm.cache import ReplyCache
from heuretic.lm.model import LanguageModel, known_price
from heuretic.lm.questions import Question
from heuretic.lm.replies import Outcome
from heuretic.symbolic import dumps, loads

_STOPS: dict[Outcome, StopReason] = {"truncated": "max_tokens", "refused": "content_filter", "overflow": "model_length"}


def solver(strategy: Strategy, cache: str | None = None) -> Solver:
    """Return a solver that answers each sample of a task with a strategy: `Task(dataset, solver=solver(strategy), ...)`.

    The completion is the final answer in its canonical form, empty if there is none; `state.metadata["answer"]` tells its
    outcome, its share of the votes, the answers of all samples, tokens, calls and cost. The log names the strategy as JSON, so
    inspect-ai can run the task again from it.

    Args:
        strategy: Any that `hr.dumps` can write. cache: File of replies.
    """
    return _strategy(dumps(cast(Any, strategy)), cache)


@registered(name="heuretic_strategy")
def _strategy(strategy: str, cache: str | None = None) -> Solver:
    program = cast(Strategy, loads(strategy))
    replies = None if cache is None else ReplyCache(cache)
    models: dict[int, tuple[Model, LanguageModel]] = {}

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        active = get_model()
        if id(active) not in models:  # kept beside the model, whose id then stays its own
            models[id(active)] = (active, LanguageModel(active, cache=replies, price=known_price(active)))
        answer = await program(question_of(state), models[id(active)][1])
        state.output = output_of(answer, state)
        state.messages.append(state.output.message)
        state.metadata["answer"] = {
            "outcome": answer.outcome,
            "share": answer.share,
            "samples": [s.answer for s in answer.samples],
            "input_tokens": answer.usage.input_tokens,
            "output_tokens": answer.usage.output_tokens,
            "calls": answer.usage.calls,
            "cost": answer.cost,
        }
        return state

    return solve


def question_of(state: TaskState) -> Question:
    """Return the question that a sample of a task asks, with its options, images, sounds and films."""
    parts = []
    for message in state.messages:
        if isinstance(message, ChatMessageUser) and not isinstance(message.content, str):
            parts += [part for part in message.content if not isinstance(part, ContentText)]
    target = tuple(state.target)
    return Question(
        state.input_text,
        target[0] if len(target) == 1 else target or None,
        tuple(choice.value for choice in state.choices),
        str(state.sample_id),
        tuple(parts),
        dict(state.metadata),
    )


def output_of(answer: Answer, state: TaskState) -> ModelOutput:
    """Return an answer as inspect-ai's output of a model."""
    usage = answer.usage
    message = ChatMessageAssistant(content=answer.answer or "", source="generate")
    errors = [reply.error for step in answer.trace for reply in step.replies if reply.error]
    return ModelOutput(
        model=str(state.model),
        choices=[ChatCompletionChoice(message=message, stop_reason=_STOPS.get(answer.outcome, "stop"))],
        usage=ModelUsage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            total_tokens=usage.tokens,
            input_tokens_cache_read=usage.cached_input_tokens,
        ),
        error=errors[-1] if answer.outcome == "error" and errors else None,
    )
