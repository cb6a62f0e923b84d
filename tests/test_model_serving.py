"""The server of the OpenAI protocol: asked by OpenAI's own client and by inspect-ai, over real sockets."""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    GenerateConfig,
    Logprob,
    Logprobs,
    ModelOutput,
    ModelUsage,
)
from openai import APIConnectionError, BadRequestError, InternalServerError, NotFoundError, OpenAI

from heuretic.lm import Sampling, model
from heuretic.lm.serving import serve_app
from scripted import scripted

ASKED: list[tuple[str, GenerateConfig]] = []


def reply(prompt: str, config: GenerateConfig) -> ModelOutput:
    ASKED.append((prompt, config))
    if "fail" in prompt:
        raise RuntimeError("the model broke")
    if "long" in prompt:
        said = "the prompt has 9,000 tokens, the context 2,048"
        none = ModelUsage(input_tokens=9000, output_tokens=0, total_tokens=9000)
        return ModelOutput.from_content("m", "", stop_reason="model_length", error=said).model_copy(
            update={"usage": none}
        )
    tokens = [Logprob(token=t, logprob=-0.5, bytes=None, top_logprobs=None) for t in ("Par", "is")]
    stop = "max_tokens" if config.max_tokens == 1 else "stop"
    message = ChatMessageAssistant(content=f"Paris {config.seed}")
    choice = ChatCompletionChoice(
        message=message, stop_reason=stop, logprobs=Logprobs(content=tokens) if config.logprobs else None
    )
    return ModelOutput(model="m", choices=[choice], usage=ModelUsage(input_tokens=7, output_tokens=2, total_tokens=9))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(serve_app(scripted(reply), "small"), host="127.0.0.1", port=port, log_level="error")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def client(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAI]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    ASKED.clear()
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def chat(client: OpenAI, text: str = "Capital?", **settings: Any) -> Any:
    return client.chat.completions.create(model="small", messages=[{"role": "user", "content": text}], **settings)


def test_models(client: OpenAI) -> None:
    assert [m.id for m in client.models.list()] == ["small"]


def test_chat_with_every_setting(client: OpenAI) -> None:
    done = chat(
        client, temperature=0.7, top_p=0.9, max_tokens=11, stop=["Q:"], seed=5, n=3, logprobs=True, top_logprobs=2
    )
    assert [c.message.content for c in done.choices] == ["Paris 5", "Paris 6", "Paris 7"]
    assert [c.index for c in done.choices] == [0, 1, 2]
    assert {c.finish_reason for c in done.choices} == {"stop"}
    assert [t.logprob for t in done.choices[0].logprobs.content] == [-0.5, -0.5]
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (21, 6, 27)
    config = ASKED[0][1]
    assert (config.temperature, config.top_p, config.max_tokens, config.stop_seqs) == (0.7, 0.9, 11, ["Q:"])
    assert (config.logprobs, config.top_logprobs) == (True, 2)
    assert chat(client, max_completion_tokens=1).choices[0].finish_reason == "length"


def test_roles_and_parts_of_messages(client: OpenAI) -> None:
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "A?"},
        {"role": "assistant", "content": "B."},
        {"role": "user", "content": [{"type": "text", "text": "C?"}]},
    ]
    client.chat.completions.create(model="small", messages=messages)
    assert ASKED[0][0] == "Be brief.\n\nA?\n\nB.\n\nC?"


def test_streams(client: OpenAI) -> None:
    chunks = list(chat(client, n=2, seed=1, stream=True, stream_options={"include_usage": True}))
    texts = [
        "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices if c.index == k) for k in range(2)
    ]
    assert texts == ["Paris 1", "Paris 2"]
    assert [c.finish_reason for chunk in chunks for c in chunk.choices] == [None, "stop"] * 2
    assert chunks[-1].usage.total_tokens == 18
    pieces = list(client.completions.create(model="small", prompt="Capital?", seed=1, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == "Paris 1"


def test_completions(client: OpenAI) -> None:
    done = client.completions.create(model="small", prompt="Capital?", seed=5, n=2, logprobs=1)
    assert [c.text for c in done.choices] == ["Paris 5", "Paris 6"]
    assert done.choices[0].logprobs is not None
    assert done.choices[0].logprobs.token_logprobs == [-0.5, -0.5]
    assert ASKED[0][1].max_tokens == 16


def test_errors_are_those_of_the_protocol(client: OpenAI, url: str) -> None:
    with pytest.raises(NotFoundError, match="the model must be small, got large"):
        client.chat.completions.create(model="large", messages=[{"role": "user", "content": "A?"}])
    with pytest.raises(BadRequestError, match="temperature: Input should be greater than or equal to 0"):
        chat(client, temperature=-1)
    with pytest.raises(BadRequestError, match="frequency_penalty: Extra inputs"):
        chat(client, frequency_penalty=1)
    with pytest.raises(BadRequestError, match="messages cannot be read"):
        client.chat.completions.create(model="small", messages=[{"role": "nobody", "content": "A?"}])  # pyright: ignore
    with pytest.raises(BadRequestError, match="the prompt has 9,000 tokens, the context 2,048") as caught:
        chat(client, "long")
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(InternalServerError, match="the model broke"):
        chat(client, "fail")
    assert (
        httpx.post(
            f"{url}/v1/chat/completions", content=b"{not json", headers={"Content-Type": "application/json"}
        ).status_code
        == 400
    )


def test_pages_under_another_name_are_refused(url: str) -> None:
    assert httpx.get(f"{url}/v1/models", headers={"Host": "127.0.0.1"}).status_code == 200
    assert httpx.get(f"{url}/v1/models", headers={"Host": "evil.example"}).status_code == 400


def test_inspect_ai_and_language_models_against_it(client: OpenAI, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_API_KEY", "none")
    asked = model("openai-api/local/small", base_url=f"{url}/v1", cache=None)
    sampling = Sampling(temperature=1, logprobs=True)
    replies = asyncio.run(asked.sample("Capital?", 3, sampling))
    assert [r.text for r in replies] == [f"Paris {sampling.seed_of(k)}" for k in range(3)]
    assert [r.logprob for r in replies] == [-1.0] * 3
    (long,) = asyncio.run(asked.sample("long"))
    assert (long.outcome, long.error) == ("overflow", "the prompt has 9,000 tokens, the context 2,048")


def test_the_command_serves_a_local_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real weights, a process of its own, OpenAI's client."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "heuretic", "models", "serve", "heuretic/smollm2-135m", "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
            for _ in range(1200):  # imports take long on a busy machine
                try:
                    (served,) = client.models.list()
                    break
                except APIConnectionError:
                    assert process.poll() is None, process.stderr and process.stderr.read()
                    time.sleep(0.2)
            assert served.id == "heuretic/smollm2-135m"
            settings: Any = {
                "model": served.id,
                "messages": [{"role": "user", "content": "What is the capital of France?"}],
            }
            done = client.chat.completions.create(**settings, temperature=0, max_tokens=12, logprobs=True)
            assert "Paris" in str(done.choices[0].message.content)
            chances = done.choices[0].logprobs
            assert chances is not None
            assert all(token.logprob <= 0 for token in chances.content or [])
            drawn = [
                client.chat.completions.create(**settings, temperature=1, max_tokens=8, n=3, seed=4) for _ in range(2)
            ]
            texts = [[choice.message.content for choice in each.choices] for each in drawn]
            assert texts[0] == texts[1]
            assert len(set(texts[0])) > 1
            with pytest.raises(BadRequestError, match=r"must have fewer than [0-9,]+ tokens, got"):
                client.chat.completions.create(model=served.id, messages=[{"role": "user", "content": "word " * 9000}])
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130, -signal.SIGINT)


def test_an_open_address_is_warned_of_and_mistakes_are_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "heuretic", "models", "serve", "nobody/knows", "--host", "0.0.0.0"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "warning: anyone who can reach 0.0.0.0 can use this model" in done.stderr
    assert "error: model 'nobody/knows' cannot be used" in done.stderr
    assert "Traceback" not in done.stderr
