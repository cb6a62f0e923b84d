"""Gemini: one model for texts, images, sounds and films that are interleaved in one message.

Gemini Team 2023, "Gemini: A Family of Highly Capable Multimodal Models", arXiv:2312.11805. The package has its interface: a
message of `inspect_ai.model.ContentText`, `ContentImage`, `ContentAudio` and `ContentVideo` parts goes to the hosted models by
`hr.lm.model("google/...")`, and to any server that speaks OpenAI's protocol by `hr.lm.model("openai-api/...")`.
"""

import asyncio
import base64
import hashlib
import io
import json
import math
import struct
import threading
import time
import wave
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from inspect_ai.model import (
    ChatMessageUser,
    Content,
    ContentAudio,
    ContentImage,
    ContentText,
    ContentVideo,
    GenerateConfig,
)

from heuretic.ideas.idea import SCALES, Idea, Paper, Scale
from heuretic.ideas.result import Arm, Reproduction, compare
from heuretic.lm import LanguageModel, Sampling, model

CLAIM = "questions about interleaved texts, images, sounds and films are answered by one model"
METRIC = "parts_as_sent"
HOSTED, LOCAL = "hosted (Gemini API)", "local (OpenAI-compatible server)"
RULE = (
    "The same interleaved messages are sent to a loopback server that speaks the Gemini API and to one that speaks OpenAI's. Not "
    "reproduced if one of them gets other parts, other bytes or another order. Whether the answers are right needs a multimodal model: "
    "without one, not testable at this scale."
)
COUNTS: Mapping[Scale, int] = {"smoke": 1, "small": 20, "full": 200}

ONCE = GenerateConfig(max_retries=0)

Part = tuple[str, str]
"""The kind of a part, and its text or the sha256 of its bytes."""


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None
) -> Reproduction:
    """Send interleaved messages through both wire formats to a loopback server, and compare what arrives with what was sent.

    OpenAI's format has no films, so the local server is sent the messages without them.

    Raises: ValueError for an unknown scale; ModelError without the package google-genai.
    """
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {', '.join(SCALES)}, got {scale!r}")
    began, chosen, said = time.perf_counter(), tuple(seeds or (1, 2)), progress or (lambda line: None)
    shares: dict[str, list[float]] = {HOSTED: [], LOCAL: []}
    sent = hashlib.sha256()
    with loopback() as (address, arrived):
        routes = {
            HOSTED: lambda: model(
                "google/gemini-loopback", cache=None, defaults=ONCE, base_url=address, api_key="none"
            ),
            LOCAL: lambda: model(
                "openai-api/loopback/any", cache=None, defaults=ONCE, base_url=f"{address}/v1", api_key="none"
            ),
        }
        for seed in chosen:
            for name, route in routes.items():
                messages = [message(1000 * seed + k, films=name == HOSTED) for k in range(COUNTS[scale])]
                expected = [[described(part) for part in parts] for parts in messages]
                sent.update(json.dumps(expected).encode())
                got = asyncio.run(_deliver(route(), messages, arrived))
                same = sum(a == b for e, g in zip(expected, got, strict=True) for a, b in zip(e, g, strict=False))
                total = sum(max(len(e), len(g)) for e, g in zip(expected, got, strict=True))
                shares[name].append(same / total)
                said(f"{name}, seed {seed}: {same} of {total} parts as sent")
    arms = {
        name: Arm({"messages_per_seed": COUNTS[scale], "films": name == HOSTED}, {METRIC: tuple(values)})
        for name, values in shares.items()
    }
    whole = all(share == 1 for values in shares.values() for share in values)
    reason = (
        f"{COUNTS[scale] * len(chosen)} messages of texts, images and sounds "
        f"{'arrived part for part as they were sent' if whole else 'did not all arrive as they were sent'} at the hosted service's wire "
        "format, with films, and at a local server's. Whether answers are right was not measured: no multimodal model is at hand."
    )
    return Reproduction(
        idea="gemini", claim=CLAIM, scale=scale, seeds=chosen, data={"messages": sent.hexdigest()}, arms=arms,
        comparisons=(compare(arms, METRIC, HOSTED, LOCAL),), rule=RULE,
        verdict="not testable at this scale" if whole else "not reproduced", reason=reason, seconds=time.perf_counter() - began,
    )  # fmt: skip


async def _deliver(
    asked: LanguageModel, messages: Sequence[Sequence[Content]], arrived: list[list[Part]]
) -> list[list[Part]]:
    """Send messages one after another, and return what arrived of each."""
    got = []
    for parts in messages:
        arrived.clear()
        [reply] = await asked.sample([ChatMessageUser(content=list(parts))], 1, Sampling(max_tokens=8))
        got.append(arrived[-1] if arrived and reply.text == "seen" else [])
    return got


def message(seed: int, *, films: bool = True) -> tuple[Content, ...]:
    """Return a message whose texts, images, sounds and, on request, films depend on the seed and alternate."""
    parts: list[Content] = [
        ContentText(text=f"Question {seed}: first look at this."),
        ContentImage(image=_uri("image/png", _png(seed))),
        ContentText(text="Then listen,"),
        ContentAudio(audio=_uri("audio/wav", _tone(seed)), format="wav"),
        ContentText(text="and look again."),
        ContentImage(image=_uri("image/png", _png(seed + 1))),
    ]
    if films:  # only its bytes matter here
        film = hashlib.sha256(str(seed).encode()).digest() * 40
        parts += [ContentText(text="Now a film."), ContentVideo(video=_uri("video/mp4", film), format="mp4")]
    if seed % 2:  # media first
        parts = parts[1:] + parts[:1]
    return (*parts, ContentText(text="What is all of this?"))


def described(part: Content) -> Part:
    """Return the kind of a part, and its text or the sha256 of its bytes."""
    if isinstance(part, ContentText):
        return "text", part.text
    for kind in ("image", "audio", "video"):
        uri = getattr(part, kind, None)
        if part.type == kind and isinstance(uri, str):
            return kind, _digest(base64.b64decode(uri.partition(",")[2]))
    raise TypeError(f"part must be a text, image, sound or film, got {part.type}")


@contextmanager
def loopback() -> Iterator[tuple[str, list[list[Part]]]]:
    """Serve both protocols on loopback; yields the address, and a list that the parts of every message are appended to."""
    arrived: list[list[Part]] = []

    handler = type("Handler", (_Handler,), {})  # its own, since two may serve at a time
    handler.arrived, handler.files = arrived, {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.address = f"http://127.0.0.1:{server.server_port}"
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield handler.address, arrived
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers "seen" in either protocol. Gemini's sounds and films come as files, ahead of the message that names them."""

    address: str
    arrived: list[list[Part]]
    files: dict[str, tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.startswith("/upload/"):
            name, _, session = self.path.partition("?session=")
            if not session:
                kind = self.headers.get("X-Goog-Upload-Header-Content-Type", "")
                self.files[name := f"f{len(self.files)}"] = (kind, b"")
                self._reply({}, {"X-Goog-Upload-URL": f"{self.address}/upload/?session={name}"})
            else:
                kind, held = self.files[session]
                self.files[session] = (kind, held + body)
                self._reply({"file": self._file(session)}, {"X-Goog-Upload-Status": "final"})
        elif self.path.endswith("/chat/completions"):
            content = json.loads(body)["messages"][-1]["content"]
            self.arrived.append([_openai_part(part) for part in content])
            said = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "seen"}}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            self._reply(
                {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [said], "usage": usage}
            )
        elif ":generateContent" in self.path:
            parts = json.loads(body)["contents"][-1]["parts"]
            self.arrived.append([self._gemini_part(part) for part in parts])
            said = {"content": {"role": "model", "parts": [{"text": "seen"}]}, "finishReason": "STOP", "index": 0}
            usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
            self._reply({"candidates": [said], "usageMetadata": usage, "modelVersion": "m"})
        else:
            self.send_error(404)

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if name in self.files:
            self._reply(self._file(name))
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def _gemini_part(self, part: Mapping[str, Any]) -> Part:
        if "text" in part:
            return "text", part["text"]
        if held := part.get("inlineData"):
            kind = held.get("mimeType") or held["mime_type"]  # the client spells the fields inside parts either way
            return kind.partition("/")[0], _digest(base64.b64decode(held["data"], altchars=b"-_"))
        named = part["fileData"]
        kind, data = self.files[(named.get("fileUri") or named["file_uri"]).rpartition("/")[2]]
        return kind.partition("/")[0], _digest(data)

    def _file(self, name: str) -> dict[str, Any]:
        kind, held = self.files[name]
        uri = f"{self.address}/v1beta/files/{name}"
        return {"name": f"files/{name}", "mimeType": kind, "sizeBytes": str(len(held)), "uri": uri, "state": "ACTIVE"}

    def _reply(self, body: Mapping[str, Any], headers: Mapping[str, str] = {}) -> None:
        text = json.dumps(body).encode()
        self.send_response(200)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)


def _openai_part(part: Mapping[str, Any]) -> Part:
    if part["type"] == "text":
        return "text", part["text"]
    if part["type"] == "image_url":
        return "image", _digest(base64.b64decode(part["image_url"]["url"].partition(",")[2]))
    return "audio", _digest(base64.b64decode(part["input_audio"]["data"].rpartition(",")[2]))


def _png(seed: int) -> bytes:
    """Return an 8 x 8 image in one colour as PNG."""
    row = b"\0" + bytes((seed * 37 % 256, seed * 91 % 256, seed * 53 % 256)) * 8
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * 8)),
        (b"IEND", b""),
    )
    packed = (
        struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)) for tag, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _tone(seed: int) -> bytes:
    """Return a twentieth of a second of a tone as WAV: 8 kHz, 16 bits."""
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        tone = (int(8000 * math.sin(2 * math.pi * (200 + seed % 800) * t / 8000)) for t in range(400))
        file.writeframesraw(b"".join(struct.pack("<h", value) for value in tone))
    return held.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


IDEA = Idea(
    slug="gemini",
    title="Gemini: interleaved texts, images, sounds and films",
    paper=Paper(
        authors="Gemini Team",
        year=2023,
        title="Gemini: A Family of Highly Capable Multimodal Models",
        arxiv="2312.11805",
    ),
    claim=CLAIM,
    usage=(
        "import heuretic as hr\n"
        "from inspect_ai.model import ChatMessageUser, ContentAudio, ContentImage, ContentText\n"
        'parts = [ContentText(text="What is said about"), ContentImage(image="cat.png"), ContentAudio(audio="talk.wav", format="wav")]\n'
        'replies = await hr.lm.model("google/gemini-2.5-flash").sample([ChatMessageUser(content=parts)])'
    ),
    provides=("heuretic.lm:model",),
    reproduce=reproduce,
)
