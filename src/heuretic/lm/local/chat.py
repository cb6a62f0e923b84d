"""Messages written out as the prompt of a model, by the template that comes with its weights.

The template is a program by strangers: it runs in jinja2's sandbox for immutable values, which keeps it from attributes that
would lead out of it, and cannot change what it is given. Weights without a template (base models) get the texts of the
messages, with an empty line between them, and nothing else.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Sequence
from typing import Any

from inspect_ai.model import ChatMessage
from jinja2 import Template
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment


def written_out(messages: Sequence[ChatMessage], template: str | None, names: dict[str, str | None]) -> str:
    """Return the prompt for the next message of the assistant.

    A conversation that ends with a message of the assistant is to be continued there.

    Args: template: In Jinja. names: Special tokens it may use, such as bos_token.
    Raises: ValueError for messages with pictures or sounds, and for what the template refuses.
    """
    for message in messages:
        if not isinstance(message.content, str):
            other = sorted({part.type for part in message.content} - {"text", "reasoning"})
            if other:
                raise ValueError(
                    f"messages must be text for this model, got {', '.join(other)}. Try a multimodal model"
                )
    if template is None:
        return "\n\n".join(message.text for message in messages)
    said: list[dict[str, Any]] = [{"role": message.role, "content": message.text} for message in messages]
    begun = said[-1]["content"] if said and said[-1]["role"] == "assistant" else None
    if begun is not None:
        said = said[:-1]
    try:
        text = _compiled(template).render(
            messages=said, add_generation_prompt=True, tools=None, **{k: v or "" for k, v in names.items()}
        )
    except TemplateError as error:
        raise ValueError(f"the chat template cannot be followed: {error}") from error
    return text + (begun or "")


@functools.lru_cache(maxsize=16)
def _compiled(template: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    environment.globals["raise_exception"] = _refuse
    return environment.from_string(template)


def _refuse(reason: str) -> None:
    raise ValueError(f"the chat template refuses these messages: {reason}")
