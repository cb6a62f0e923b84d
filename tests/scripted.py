"""A language model with given replies: inspect-ai's own scripted provider, with tokens counted in words."""

from collections.abc import Callable, Sequence
from typing import Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelOutput,
    ModelUsage,
    get_model,
)

from heuretic.lm import LanguageModel

Script = Callable[[str, GenerateConfig], str | ModelOutput]


def scripted(script: Script | Sequence[str], asked: list[str] | None = None, **arguments: Any) -> LanguageModel:
    """Return a model that replies with `script(prompt text, settings)`, or with the given texts in turn.

    The texts of all prompts are appended to `asked`. `arguments` go to `LanguageModel`.
    """
    texts = None if callable(script) else iter(script)

    def reply(messages: list[ChatMessage], tools: Any, choice: Any, config: GenerateConfig) -> ModelOutput:
        prompt = "\n\n".join(m.text for m in messages)
        if asked is not None:
            asked.append(prompt)
        said = script(prompt, config) if callable(script) else next(texts)  # pyright: ignore
        if isinstance(said, ModelOutput):
            return said
        words = len(said.split())
        return ModelOutput(
            model="scripted",
            choices=[ChatCompletionChoice(message=ChatMessageAssistant(content=said), stop_reason="stop")],
            usage=ModelUsage(
                input_tokens=len(prompt.split()), output_tokens=words, total_tokens=len(prompt.split()) + words
            ),
        )

    return LanguageModel(get_model("mockllm/model", custom_outputs=reply, memoize=False), **arguments)
