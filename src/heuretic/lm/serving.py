"""A language model as a server of the OpenAI protocol: chat completions, completions and the list of models.

FastAPI and uvicorn serve; inspect-ai reads the messages and writes the choices, with OpenAI's own types.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from inspect_ai.model import (
    ChatMessage,
    ChatMessageUser,
    GenerateConfig,
    ModelOutput,
    ModelUsage,
    StopReason,
    messages_from_openai,
)
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from heuretic.lm.model import LanguageModel

FINISHES: dict[StopReason, str] = {"max_tokens": "length", "model_length": "length", "content_filter": "content_filter"}


class Settings(BaseModel):
    """What requests of both kinds may set; all else is refused rather than ignored."""

    model_config = ConfigDict(extra="forbid")
    model: str
    n: int = Field(1, ge=1, le=128)
    seed: int | None = None
    stop: str | list[str] | None = None
    temperature: float | None = Field(None, ge=0)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    user: str | None = None


class ChatRequest(Settings):
    """A request for chat completions."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)


class TextRequest(Settings):
    """A request for completions of a prompt. The prompt becomes the message of a user, in the model's own template."""

    prompt: str
    logprobs: int | None = Field(None, ge=0, le=20)


def serve_app(
    model: LanguageModel, name: str | None = None, hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
) -> FastAPI:
    """Return the application that serves a model.

    A streamed reply is sent as one piece once it is whole: what a client sees is right, but not early.

    Args:
        model: Its cache and budget are not used. name: As clients call it; default: the model's own.
        hosts: Names of this server that requests may use, so that pages in a browser cannot reach it under others.
    """
    name = name or model.name
    app = FastAPI(title="heuretic", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    began = int(time.time())

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        detail: Any = error.detail
        return JSONResponse(
            {"error": detail if isinstance(detail, Mapping) else _error(str(detail))}, error.status_code
        )

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse({"error": _error(f"{where}: {first['msg']}", param=where)}, 400)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": name, "object": "model", "created": began, "owned_by": "heuretic"}]}

    @app.post("/v1/chat/completions")
    async def chat(request: ChatRequest) -> Any:
        try:
            messages = await messages_from_openai(request.messages)  # pyright: ignore[reportArgumentType]
        except Exception as error:  # whatever stumbles over it, the messages are the client's
            raise HTTPException(400, _error(f"messages cannot be read: {error}", param="messages")) from error
        settings = _settings(request, request.max_completion_tokens or request.max_tokens)
        if request.logprobs:
            settings = settings.merge(GenerateConfig(logprobs=True, top_logprobs=request.top_logprobs))
        output = await _generate(model, name, request, messages, settings)
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": name}
        choices = [
            {
                "index": k,
                "finish_reason": FINISHES.get(choice.stop_reason, "stop"),
                "message": {"role": "assistant", "content": choice.message.text, "refusal": None},
                "logprobs": choice.logprobs and choice.logprobs.model_dump(),
            }
            for k, choice in enumerate(output.choices)
        ]
        if not request.stream:
            return {**head, "object": "chat.completion", "choices": choices, "usage": _usage(output)}
        pieces: list[dict[str, Any]] = []
        for choice in choices:
            first = {
                "index": choice["index"],
                "delta": choice["message"],
                "logprobs": choice["logprobs"],
                "finish_reason": None,
            }
            last = {"index": choice["index"], "delta": {}, "logprobs": None, "finish_reason": choice["finish_reason"]}
            pieces += [{"choices": [first]}, {"choices": [last]}]
        return _stream({**head, "object": "chat.completion.chunk"}, pieces, request, output)

    @app.post("/v1/completions")
    async def complete(request: TextRequest) -> Any:
        settings = _settings(request, request.max_tokens or 16)  # 16 as in OpenAI's protocol
        if request.logprobs is not None:
            settings = settings.merge(GenerateConfig(logprobs=True, top_logprobs=request.logprobs or None))
        output = await _generate(model, name, request, [ChatMessageUser(content=request.prompt)], settings)
        head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": name,
            "object": "text_completion",
        }
        choices = []
        for k, choice in enumerate(output.choices):
            tokens = choice.logprobs.content if choice.logprobs else []
            logprobs = {
                "tokens": [t.token for t in tokens],
                "token_logprobs": [t.logprob for t in tokens],
                "top_logprobs": [{other.token: other.logprob for other in t.top_logprobs or []} for t in tokens],
                "text_offset": None,
            }
            finish = FINISHES.get(choice.stop_reason, "stop")
            choices.append(
                {
                    "index": k,
                    "finish_reason": finish,
                    "text": choice.message.text,
                    "logprobs": logprobs if tokens else None,
                }
            )
        if not request.stream:
            return {**head, "choices": choices, "usage": _usage(output)}
        return _stream(head, [{"choices": [choice]} for choice in choices], request, output)

    return app


def serve(model: LanguageModel, host: str = "127.0.0.1", port: int = 8000, name: str | None = None) -> None:
    """Serve a model until the process is told to end. There is no authentication: keep to the loopback."""
    import uvicorn

    hosts = ("127.0.0.1", "localhost", "[::1]") if host in ("127.0.0.1", "localhost", "::1") else ("*",)
    uvicorn.run(serve_app(model, name, hosts), host=host, port=port, log_level="warning")


def _settings(request: Settings, max_tokens: int | None) -> GenerateConfig:
    return GenerateConfig(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        seed=request.seed,
        max_tokens=max_tokens,
        stop_seqs=[request.stop] if isinstance(request.stop, str) else request.stop,
    )


async def _generate(
    model: LanguageModel, name: str, request: Settings, messages: list[ChatMessage], settings: GenerateConfig
) -> ModelOutput:
    """Return n choices: of one call where the model allows, else of n calls with consecutive seeds."""
    if request.model != name:
        raise HTTPException(404, _error(f"the model must be {name}, got {request.model}", code="model_not_found"))
    settings = model.defaults.merge(settings)
    try:
        if request.n == 1 or model.several:
            wanted = GenerateConfig(num_choices=request.n if request.n > 1 else None)
            output = await model.inspect.generate(messages, config=settings.merge(wanted))
        else:
            seeds = [None if settings.seed is None else settings.seed + k for k in range(request.n)]
            calls = [
                model.inspect.generate(messages, config=settings.merge(GenerateConfig(seed=seed))) for seed in seeds
            ]
            output = _together(await asyncio.gather(*calls))
    except Exception as error:  # the client must hear of it, in its protocol
        raise HTTPException(500, _error(model.line(error), kind="server_error")) from error
    first = output.choices[0] if output.choices else None
    if first is None or (first.stop_reason == "model_length" and not (output.usage and output.usage.output_tokens)):
        said = output.error or (first.message.text if first else "") or "the model returned nothing"
        raise HTTPException(400, _error(model.line(said), code="context_length_exceeded" if first else None))
    return output


def _together(outputs: list[ModelOutput]) -> ModelOutput:
    """Return one output of several samples of a prompt, which is counted once for each call."""
    total = ModelUsage()
    for output in outputs:
        total += output.usage or ModelUsage()
    choices = [choice for output in outputs for choice in output.choices]
    return ModelOutput(model=outputs[0].model, choices=choices, usage=total, error=outputs[0].error)


def _usage(output: ModelOutput) -> dict[str, int]:
    usage = output.usage or ModelUsage()
    prompt = usage.input_tokens + (usage.input_tokens_cache_read or 0) + (usage.input_tokens_cache_write or 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output_tokens,
        "total_tokens": prompt + usage.output_tokens,
    }


def _error(
    message: str, *, code: str | None = None, param: str | None = None, kind: Literal["invalid_request_error", "server_error"] = "invalid_request_error"
) -> dict[str, Any]:  # fmt: skip
    return {"message": message, "type": kind, "param": param, "code": code}


def _stream(
    head: dict[str, Any], pieces: list[dict[str, Any]], request: Settings, output: ModelOutput
) -> StreamingResponse:
    def events() -> Iterator[str]:
        for piece in pieces:
            yield f"data: {json.dumps({**head, **piece})}\n\n"
        if (request.stream_options or {}).get("include_usage"):
            yield f"data: {json.dumps({**head, 'choices': [], 'usage': _usage(output)})}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")
