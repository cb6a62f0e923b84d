"""Hosted models through their official clients, from a server on the loopback that speaks their wire formats."""

import asyncio
import base64
import gc
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, GenerateConfig

from heuretic.lm import LanguageModel, ModelError, Reply, Sampling, model
from heuretic.lm.parts import audio, document, image, user, video
from services import KEY, Answer, Asked, Sent, Service, anthropic, gemini, openai

OPENAI, COMPATIBLE, ANTHROPIC, GOOGLE = (
    "openai/gpt-4o", "openai-api/loopback/some-model", "anthropic/claude-3-5-haiku-latest", "google/gemini-2.5-flash",
)  # fmt: skip
ALL = [OPENAI, COMPATIBLE, ANTHROPIC, GOOGLE]
SAID = {OPENAI: openai, COMPATIBLE: openai, ANTHROPIC: anthropic, GOOGLE: gemini}
ONCE = GenerateConfig(max_retries=0)
Serve = Callable[[Answer], Service]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Serve]:
    """Start servers; keys are in the environment, and what clients keep goes to an empty folder."""
    for name in ("OPENAI", "LOOPBACK", "ANTHROPIC", "GOOGLE"):
        monkeypatch.setenv(f"{name}_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "inspect"))
    started: list[Service] = []

    def start(answer: Answer) -> Service:
        started.append(Service(answer))
        return started[-1]

    yield start
    for service in started:
        service.stop()
    gc.collect()  # connections of loops that ended are closed here, not in a later test


def hosted(name: str, service: Service, **arguments: Any) -> LanguageModel:
    base = service.url + ("/v1" if name in (OPENAI, COMPATIBLE) else "")
    return model(name, **{"base_url": base, "cache": None, "defaults": ONCE, **arguments})


def ask(
    asked: LanguageModel, prompt: Any = "What is the capital of France?", n: int = 1, **sampling: Any
) -> list[Reply]:
    return asyncio.run(asked.sample(prompt, n, Sampling(**sampling)))


def answers(serve: Serve, name: str, sent: Sent | Callable[[int], Sent], **arguments: Any) -> tuple[Reply, Service]:
    service = serve(lambda asked, k: sent(k) if callable(sent) else sent)
    return ask(hosted(name, service, **arguments))[0], service


# --- What arrives


@pytest.mark.parametrize("name", ALL)
def test_a_reply_with_its_tokens(serve: Serve, name: str) -> None:
    reply, service = answers(serve, name, SAID[name]("Paris."))
    assert (reply.text, reply.outcome, reply.usage.input_tokens, reply.usage.output_tokens) == (
        "Paris.",
        "answered",
        7,
        3,
    )
    (asked,) = service.asked
    assert [name for name, value in asked.headers.items() if KEY in value], "the key is in a header"
    assert KEY not in asked.path + str(asked.body)


def test_openai_settings(serve: Serve) -> None:
    for name in (OPENAI, COMPATIBLE):
        service = serve(lambda asked, k: openai())
        messages = [
            ChatMessageSystem(content="Be brief."),
            ChatMessageUser(content="A?"),
            ChatMessageAssistant(content="B."),
            ChatMessageUser(content="C?"),
        ]
        sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=11, stop=("\n\n", "Q:"), seed=5, logprobs=True)
        asyncio.run(hosted(name, service).sample(messages, 1, sampling))
        (asked,) = service.asked
        assert asked.path == "/v1/chat/completions"
        assert [(m["role"], m["content"]) for m in asked.body["messages"]] == [
            ("system", "Be brief."),
            ("user", "A?"),
            ("assistant", "B."),
            ("user", "C?"),
        ]
        wanted = {
            "temperature": 0.7,
            "top_p": 0.9,
            "stop": ["\n\n", "Q:"],
            "seed": sampling.seed_of(0),
            "logprobs": True,
        }
        assert {key: asked.body.get(key) for key in wanted} == wanted
        assert 11 in (asked.body.get("max_tokens"), asked.body.get("max_completion_tokens"))


def test_anthropic_and_gemini_settings(serve: Serve) -> None:
    messages = [ChatMessageSystem(content="Be brief."), ChatMessageUser(content="A?")]
    service = serve(lambda asked, k: anthropic())
    asyncio.run(hosted(ANTHROPIC, service).sample(messages, 1, Sampling(max_tokens=11, stop=("Q:",))))
    (asked,) = service.asked
    assert (asked.path, asked.body["max_tokens"], asked.body["stop_sequences"]) == ("/v1/messages", 11, ["Q:"])
    assert "Be brief." in json.dumps(asked.body["system"])
    assert "A?" in json.dumps(asked.body["messages"])

    service = serve(lambda asked, k: gemini())
    asyncio.run(
        hosted(GOOGLE, service).sample(
            messages, 1, Sampling(temperature=0.5, top_k=7, max_tokens=11, stop=("Q:",), seed=3)
        )
    )
    (asked,) = service.asked
    assert asked.path.endswith("/models/gemini-2.5-flash:generateContent")
    settings = asked.body["generationConfig"]
    wanted = {"temperature": 0.5, "topK": 7, "maxOutputTokens": 11, "stopSequences": ["Q:"]}
    assert {key: settings.get(key) for key in wanted} == wanted
    assert "Be brief." in json.dumps(asked.body["systemInstruction"])


def test_samples_of_one_prompt(serve: Serve) -> None:
    """One call brings several where the service can, and counts the prompt once; elsewhere each has a call."""

    def several(asked: Asked, k: int) -> Sent:
        n = asked.body.get("n") or asked.body.get("generationConfig", {}).get("candidateCount") or 1
        return openai(n=n, usage=(7, 3 * n)) if "messages" in asked.body else gemini()

    service = serve(several)
    replies = ask(hosted(COMPATIBLE, service), n=4, temperature=1)
    assert [asked.body.get("n") for asked in service.asked] == [4]
    assert (sum(r.usage.input_tokens for r in replies), sum(r.usage.output_tokens for r in replies)) == (7, 12)
    assert sum(r.usage.calls for r in replies) == 1

    service = serve(lambda asked, k: anthropic())
    replies = ask(hosted(ANTHROPIC, service), n=3)
    assert (len(service.asked), sum(r.usage.input_tokens for r in replies)) == (3, 21)


def test_a_service_that_brings_fewer_samples_is_asked_again(serve: Serve) -> None:
    service = serve(lambda asked, k: openai(f"{k}"))
    assert [r.text for r in ask(hosted(COMPATIBLE, service), n=3, temperature=1)] == ["0", "1", "2"]


# --- Images, sounds and films between texts

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SOUND, FILM, PAPER = b"RIFF$\0\0\0WAVEfmt ", b"\0\0\0\x18ftypmp42", b"%PDF-1.4 a paper"


@pytest.fixture
def media(tmp_path: Path) -> Path:
    for name, data in {"a.png": PIXEL, "b.wav": SOUND, "c.mp4": FILM, "d.pdf": PAPER}.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_parts_arrive_in_order_at_openai(serve: Serve, media: Path) -> None:
    service = serve(lambda asked, k: openai())
    ask(
        hosted(OPENAI, service),
        [user("Look:", image(media / "a.png", "high"), "Listen:", audio(media / "b.wav"), "Well?")],
    )
    first, picture, second, sound, third = service.asked[0].body["messages"][0]["content"]
    assert (first["text"], second["text"], third["text"]) == ("Look:", "Listen:", "Well?")
    assert picture["image_url"]["detail"] == "high"
    assert base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,")) == PIXEL
    assert sound["input_audio"]["format"] == "wav"
    assert base64.b64decode(sound["input_audio"]["data"]) == SOUND


def test_parts_arrive_in_order_at_anthropic(serve: Serve, media: Path) -> None:
    service = serve(lambda asked, k: anthropic())
    ask(
        hosted(ANTHROPIC, service), [user("Look:", image(media / "a.png"), "Read:", document(media / "d.pdf"), "Well?")]
    )
    first, picture, second, paper, third = service.asked[0].body["messages"][0]["content"]
    assert (first["text"], second["text"], third["text"]) == ("Look:", "Read:", "Well?")
    assert picture["source"]["media_type"] == "image/png"
    assert base64.b64decode(picture["source"]["data"]) == PIXEL
    assert base64.b64decode(paper["source"]["data"]) == PAPER


def test_parts_arrive_in_order_at_gemini(serve: Serve, media: Path) -> None:
    """Images are in the request; sounds and films are uploaded first, and named in it."""
    uploaded: dict[str, bytes] = {}

    def answer(asked: Asked, k: int) -> Sent:
        if asked.path.endswith(":generateContent"):
            return gemini()
        service_url = service.url
        if asked.headers.get("x-goog-upload-command", "") == "start":
            kind = asked.headers["x-goog-upload-header-content-type"]
            return Sent(
                {}, headers={"X-Goog-Upload-URL": f"{service_url}/store/{kind}", "X-Goog-Upload-Status": "active"}
            )
        kind = asked.path.removeprefix("/store/")
        uploaded[kind] = asked.body
        file = {
            "name": f"files/{kind.partition('/')[0]}",
            "uri": f"{service_url}/{kind}",
            "mimeType": kind,
            "state": "ACTIVE",
        }
        return Sent({"file": file}, headers={"X-Goog-Upload-Status": "final"})

    service = serve(answer)
    parts = user(
        "Look:", image(media / "a.png"), "Listen:", audio(media / "b.wav"), "Watch:", video(media / "c.mp4"), "Well?"
    )
    (reply,) = ask(hosted(GOOGLE, service), [parts])
    assert reply.outcome == "answered", reply.error
    arrived = service.asked[-1].body["contents"][0]["parts"]
    assert [part.get("text") for part in arrived] == ["Look:", None, "Listen:", None, "Watch:", None, "Well?"]
    assert "image/png" in arrived[1]["inlineData"].values()
    assert base64.urlsafe_b64decode(arrived[1]["inlineData"]["data"]) == PIXEL
    assert "audio/wav" in arrived[3]["fileData"].values()
    assert "video/mp4" in arrived[5]["fileData"].values()
    assert uploaded == {"audio/wav": SOUND, "video/mp4": FILM}


def test_another_image_is_another_request(serve: Serve, media: Path) -> None:
    service = serve(lambda asked, k: openai())
    cached = hosted(OPENAI, service, cache=media / "replies.db")
    for name, data in (("a.png", PIXEL), ("a.png", PIXEL), ("e.png", PIXEL + b"\0")):
        (media / name).write_bytes(data)
        ask(cached, [user("Look:", image(media / name))])
    assert len(service.asked) == 2


@pytest.mark.parametrize("name", [OPENAI, ANTHROPIC])
def test_a_film_for_a_service_that_takes_none(serve: Serve, media: Path, name: str) -> None:
    service = serve(lambda asked, k: SAID[name]())
    (reply,) = ask(hosted(name, service), [user("Watch:", video(media / "c.mp4"))])
    assert reply.outcome == "error"
    assert "ideo" in str(reply.error)
    assert service.asked == []


def test_files_that_are_no_parts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"an image must be in a file that ends in .png, .*got .*a\.txt"):
        image(tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError):
        audio(tmp_path / "none.mp3")


# --- What goes wrong


@pytest.mark.parametrize("name", ALL)
def test_no_key(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for variable in (
        "OPENAI_API_KEY",
        "LOOPBACK_API_KEY",
        "ANTHROPIC_API_KEY",
        "GOOGLE_API_KEY",
        "GEMINI_API_KEY",
        "AZUREAI_OPENAI_API_KEY",
    ):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ModelError, match=r"cannot be used: .*API_KEY") as caught:
        model(name, base_url="http://127.0.0.1:9")
    assert "[bold]" not in str(caught.value)


def failed(code_: int, **error: Any) -> Sent:
    return Sent({"type": "error", "error": {"message": f"it went wrong with {KEY}", "type": "x", **error}}, code_)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_an_unknown_model(serve: Serve, name: str, status: int) -> None:
    service = serve(lambda asked, k: failed(status))
    with pytest.raises(ModelError, match=rf"^{name} cannot be used: .*{status}.*it went wrong with \*\*\*") as caught:
        ask(hosted(name, service))
    assert len(service.asked) == 1, "it is not tried again"
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None, "a traceback would show the key"


def test_a_wrong_key_at_gemini_is_a_bad_request(serve: Serve) -> None:
    service = serve(
        lambda asked, k: failed(
            400, code=400, status="INVALID_ARGUMENT", message="API key not valid. Please pass a valid API key."
        )
    )
    with pytest.raises(ModelError, match="API key not valid"):
        ask(hosted(GOOGLE, service))


def test_unknown_providers_and_local_names() -> None:
    with pytest.raises(ModelError, match="nobody/knows"):
        model("nobody/knows")


def test_an_account_without_money(serve: Serve) -> None:
    service = serve(lambda asked, k: failed(429, type="insufficient_quota", code="insufficient_quota"))
    with pytest.raises(ModelError, match=r"cannot be used: .*429"):
        ask(hosted(OPENAI, service))


@pytest.mark.parametrize("name", [OPENAI, COMPATIBLE, ANTHROPIC])
def test_a_rate_limit_that_passes(serve: Serve, name: str) -> None:
    begun = time.monotonic()
    limited = Sent({"error": {"message": "slow down"}}, 429, {"Retry-After": "1"})
    reply, service = answers(serve, name, lambda k: SAID[name]() if k else limited)
    assert (reply.outcome, len(service.asked)) == ("answered", 2)
    assert time.monotonic() - begun >= 1, "it waited as long as it was told to"


def test_a_rate_limit_that_passes_at_gemini(serve: Serve) -> None:
    limited = Sent({"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}, 429)
    reply, service = answers(
        serve, GOOGLE, lambda k: gemini() if k else limited, defaults=GenerateConfig(max_retries=1)
    )
    assert (reply.outcome, len(service.asked)) == ("answered", 2)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("status", [429, 500])
def test_a_service_that_never_recovers(serve: Serve, name: str, status: int) -> None:
    """The number of tries is bounded: the client's own (at most 3) for each of ours."""
    reply, service = answers(
        serve, name, Sent({"error": {"message": f"slow down {KEY}"}}, status, {"Retry-After": "0"})
    )
    assert (reply.outcome, reply.text) == ("error", "")
    assert f"{status}" in str(reply.error)
    assert KEY not in str(reply.error)
    assert 1 <= len(service.asked) <= 3


@pytest.mark.parametrize("name", ALL)
def test_a_service_that_does_not_answer(serve: Serve, name: str) -> None:
    service = serve(lambda asked, k: Sent(wait=True, hang_up=True))
    begun = time.monotonic()
    (reply,) = ask(hosted(name, service, defaults=GenerateConfig(max_retries=0, attempt_timeout=1)))
    assert time.monotonic() - begun < 10
    assert reply.outcome == "error"
    assert "time" in str(reply.error).lower()


def test_time_is_bounded_by_default(serve: Serve) -> None:
    service = serve(lambda asked, k: openai())
    settings = hosted(OPENAI, service, defaults=None)._config(Sampling(), [0])
    assert (settings.max_retries, settings.timeout, settings.attempt_timeout) == (5, 600, 300)


@pytest.mark.parametrize("name", ALL)
def test_nobody_is_there(serve: Serve, name: str) -> None:
    service = serve(lambda asked, k: Sent())
    service.stop()
    (reply,) = ask(hosted(name, service))
    assert reply.outcome == "error"
    assert reply.error


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "body",
    [b"{not json", b"[1, 2]", b'{"choices": null, "content": null, "candidates": null}', b"<html>hello</html>", b""],
)
def test_answers_that_cannot_be_read(serve: Serve, name: str, body: bytes) -> None:
    reply, _ = answers(
        serve, name, Sent(body, headers={"Content-Type": "text/html" if body[:1] == b"<" else "application/json"})
    )
    assert (reply.outcome, reply.text) == ("error", "")
    assert reply.error


@pytest.mark.parametrize("name", ALL)
def test_a_service_that_hangs_up(serve: Serve, name: str) -> None:
    reply, _ = answers(serve, name, Sent(hang_up=True))
    assert reply.outcome == "error"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("text", ["", None, "  \n"])
def test_an_empty_completion(serve: Serve, name: str, text: str | None) -> None:
    reply, _ = answers(serve, name, SAID[name](text))
    assert (reply.outcome, reply.text.strip(), reply.usage.output_tokens) == ("empty", "", 3)


def test_no_completion_at_all_is_counted(serve: Serve) -> None:
    reply, _ = answers(serve, COMPATIBLE, Sent({**openai().body, "choices": []}))
    assert (reply.outcome, reply.usage.input_tokens, reply.usage.output_tokens) == ("error", 7, 3)


REFUSALS = {
    "OpenAI's field": (OPENAI, openai(None, refusal="I cannot help with that.")),
    "OpenAI's filter": (OPENAI, openai("", "content_filter")),
    "a filter half-way": (COMPATIBLE, openai("First, take", "content_filter")),
    "OpenAI's policy": (OPENAI, failed(400, message="Your prompt was flagged", type="invalid_request_error", code="content_policy_violation")),
    "Anthropic's stop": (ANTHROPIC, anthropic("I cannot", "refusal")),
    "Anthropic's stop without a word": (ANTHROPIC, anthropic(None, "refusal")),
    "Gemini's safety": (GOOGLE, gemini(None, "SAFETY")),
    "Gemini's safety without content": (GOOGLE, gemini(candidates=[{"index": 0, "finishReason": "SAFETY"}])),
    "a prompt that Gemini blocks": (GOOGLE, gemini(candidates=None, promptFeedback={"blockReason": "SAFETY"})),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(serve: Serve, case: str) -> None:
    name, sent = REFUSALS[case]
    reply, service = answers(serve, name, sent)
    assert reply.outcome == "refused"
    assert reply.error
    assert len(service.asked) == 1


OVERFLOWS = {
    "OpenAI": (OPENAI, failed(400, message="This model's maximum context length is 4096 tokens. However, you requested 5012 tokens", code="context_length_exceeded")),
    "vLLM": (COMPATIBLE, Sent({"object": "error", "message": "This model's maximum context length is 4096 tokens. However, you requested 5012 tokens", "type": "BadRequestError", "code": 400}, 400)),
    "Anthropic": (ANTHROPIC, failed(400, type="invalid_request_error", message="prompt is too long: 5012 tokens > 4096 maximum")),
    "Gemini": (GOOGLE, failed(400, code=400, status="INVALID_ARGUMENT", message="The input token count (5012) exceeds the maximum number of tokens allowed (4096).")),
}  # fmt: skip


@pytest.mark.parametrize("case", OVERFLOWS)
def test_a_prompt_that_does_not_fit(serve: Serve, case: str) -> None:
    name, sent = OVERFLOWS[case]
    reply, service = answers(serve, name, sent)
    assert (reply.outcome, reply.text) == ("overflow", "")
    assert "5012" in str(reply.error)
    assert "4096" in str(reply.error)
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        (OPENAI, openai("The capital", "length")),
        (ANTHROPIC, anthropic("The capital", "max_tokens")),
        (GOOGLE, gemini("The capital", "MAX_TOKENS")),
    ],
)
def test_a_text_that_is_cut_off(serve: Serve, name: str, sent: Sent) -> None:
    reply, _ = answers(serve, name, sent)
    assert (reply.outcome, reply.text) == ("truncated", "The capital")


THOUGHTS: dict[str, tuple[str, Sent, tuple[str, str, str]]] = {
    "tags": (COMPATIBLE, openai("<think>so</think>\nParis."), ("answered", "Paris.", "so")),
    "tags never closed": (COMPATIBLE, openai("<think>so, is it"), ("truncated", "", "so, is it")),
    "tags cut off": (COMPATIBLE, openai("<think>so, is it", "length"), ("truncated", "", "so, is it")),
    "tags opened by the prompt": (COMPATIBLE, openai("so</think>\nParis."), ("answered", "Paris.", "so")),
    "a field": (COMPATIBLE, openai("Paris.", reasoning_content="so"), ("answered", "Paris.", "so")),
    "a field, cut off": (COMPATIBLE, openai("", "length", reasoning_content="so"), ("truncated", "", "so")),
    "Anthropic's blocks": (ANTHROPIC, anthropic(content=[{"type": "thinking", "thinking": "so", "signature": "s"}, {"type": "text", "text": "Paris."}]), ("answered", "Paris.", "so")),
    "Anthropic's block, cut off": (ANTHROPIC, anthropic(content=[{"type": "thinking", "thinking": "so", "signature": "s"}], stop_reason="max_tokens"), ("truncated", "", "so")),
    "Anthropic's block, unreadable": (ANTHROPIC, anthropic(content=[{"type": "redacted_thinking", "data": "XYZ"}, {"type": "text", "text": "Paris."}]), ("answered", "Paris.", "")),
    "Gemini's parts": (GOOGLE, gemini(candidates=[{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [{"text": "so", "thought": True}, {"text": "Paris."}]}}]), ("answered", "Paris.", "so")),
}  # fmt: skip


@pytest.mark.parametrize("case", THOUGHTS)
def test_thinking_is_no_answer(serve: Serve, case: str) -> None:
    name, sent, wanted = THOUGHTS[case]
    service = serve(lambda asked, k: Sent({"input_tokens": 2}) if asked.path.endswith("count_tokens") else sent)
    (reply,) = ask(hosted(name, service))
    assert (reply.outcome, reply.text, reply.reasoning) == wanted


def test_failures_are_asked_for_again_and_keys_are_kept_nowhere(serve: Serve, tmp_path: Path) -> None:
    def answer(asked: Asked, k: int) -> Sent:
        return failed(400) if k == 0 else failed(400, code="content_policy_violation") if k == 1 else openai()

    service = serve(answer)
    cached = hosted(COMPATIBLE, service, cache=tmp_path / "replies.db", api_key=KEY)
    outcomes = [ask(cached)[0] for _ in range(3)]
    assert [r.outcome for r in outcomes] == ["error", "refused", "refused"], "a refusal is kept, a failure is not"
    assert outcomes[2].cached
    assert KEY not in repr(cached) + repr(outcomes) + repr(cached.cache)
    with sqlite3.connect(tmp_path / "replies.db") as database:
        assert KEY not in repr(database.execute("SELECT * FROM replies").fetchall())


def test_one_model_in_several_event_loops(serve: Serve) -> None:
    for name in ALL:
        service = serve(lambda asked, k, name=name: SAID[name]())
        asked = hosted(name, service)
        assert [ask(asked)[0].outcome for _ in range(3)] == ["answered"] * 3
