"""A server on the loopback that speaks the wire formats of OpenAI, Anthropic and Gemini, badly where it is told to."""

import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-a-key-that-nobody-may-see"


@dataclass
class Asked:
    """One request as it arrived, with headers by names in small letters. `body` is the parsed JSON, or the bytes of another content type."""

    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class Sent:
    """One response: a body is sent as JSON, bytes as they are; None hangs up."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait: bool = False
    hang_up: bool = False


Answer = Callable[[Asked, int], Sent]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server: Any = self.server
        length = int(self.headers.get("Content-Length", 0))
        data = self.rfile.read(length)
        if len(data) < length:  # who asked was killed before the whole request was sent: nothing was asked
            self.close_connection = True
            return
        body: Any = data
        if "json" in self.headers.get("Content-Type", "") and data[:1] == b"{":
            body = json.loads(data)
        asked = Asked(self.path.partition("?")[0], {k.lower(): v for k, v in self.headers.items()}, body)
        with server.lock:
            server.asked.append(asked)
            number = len(server.asked) - 1
        sent = server.answer(asked, number)
        if sent.wait:
            server.done.wait(60)
        if sent.hang_up:
            self.close_connection = True
            return
        body = sent.body if isinstance(sent.body, bytes) else json.dumps(sent.body).encode()
        self.send_response(sent.status)
        for name, value in ({"Content-Type": "application/json"} | sent.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        pass


class Service(ThreadingHTTPServer):
    """Answers with `answer(request, number of the request)`."""

    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.asked: list[Asked] = []
        self.lock, self.done = threading.Lock(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # some of those who ask are killed, and hang up
            super().handle_error(request, client_address)

    def stop(self) -> None:
        self.done.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


def openai(
    text: str | None = "Paris.", finish: str = "stop", n: int = 1, usage: tuple[int, int] = (7, 3), **message: Any
) -> Sent:
    """A chat completion; more fields of its message by name."""
    choices = [
        {
            "index": k,
            "finish_reason": finish,
            "logprobs": None,
            "message": {"role": "assistant", "content": text, "refusal": None, **message},
        }
        for k in range(n)
    ]
    total = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return Sent(
        {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": total}
    )


def anthropic(
    text: str | None = "Paris.", stop: str = "end_turn", usage: tuple[int, int] = (7, 3), **more: Any
) -> Sent:
    """A message; `content` replaces its blocks."""
    content = [] if text is None else [{"type": "text", "text": text}]
    total = {"input_tokens": usage[0], "output_tokens": usage[1]}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": content, "stop_reason": stop}
    return Sent(message | {"stop_sequence": None, "usage": total} | more)


def gemini(text: str | None = "Paris.", finish: str = "STOP", usage: tuple[int, int] = (7, 3), **more: Any) -> Sent:
    """A response to generateContent; `candidates` or other fields replace those."""
    parts = [] if text is None else [{"text": text}]
    candidates = [{"index": 0, "finishReason": finish, "content": {"role": "model", "parts": parts}}]
    total = {"promptTokenCount": usage[0], "candidatesTokenCount": usage[1], "totalTokenCount": sum(usage)}
    return Sent({"candidates": candidates, "usageMetadata": total, "modelVersion": "m"} | more)
