"""inspect-ai's provider `heuretic`: a GGUF file or a Hugging Face folder, run here."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import Literal

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    Logprob,
    Logprobs,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    TopLogprob,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from heuretic.lm.local.chat import written_out
from heuretic.lm.local.draws import Draw, stream
from heuretic.lm.local.engine import Choice, Engine, Request
from heuretic.lm.thinking import opening


class PromptTooLong(ValueError):
    """A text has more tokens than the context of the model."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The log-probability in nats of `tokens` given tokens; how many were `processed` for it, and `spared` by what is kept."""

    logprob: float
    tokens: int
    processed: int
    spared: int


@modelapi(name="heuretic")
def heuretic() -> type[ModelAPI]:
    """Return the provider's class."""
    return LocalModel


class LocalModel(ModelAPI):
    """Weights on this machine, computed in this process; requests made at the same time are computed together.

    A prompt is processed once for all choices of a request, and a beginning of at least 32 tokens that it has in common with
    one of the last prompts is not processed again: such tokens count as `input_tokens_cache_read`. Choice `j` of a request
    with seed `s` draws from stream `s + j`. inspect-ai on its own lets 20 to 100 requests through at a time; `heuretic.lm.model`
    lets all, and so does `adaptive_connections=False`.

    Args:
        model_name: A name that `heuretic models` knows, a GGUF file or a Hugging Face folder.
        threads: For computing; default: the processors this process may use.
        slots: Most sequences computed at once; the others wait. With 32, a thousand short questions to a model of 135M stay below 1 GB;
            64 are a sixth faster, and take 100 MB more.
        overflow: What to do with a prompt longer than the context: "error", or "drop-oldest" or "cut-middle" of its tokens.
        dtype: "bfloat16", or "float32" for the logits of transformers almost to the last bit, slower and twice as large.
        memory: Bytes for the keys and values of the sequences computed at once; fewer are, if it is short.
    Raises: ModelError if there are no such weights, or they are broken; ValueError for other arguments that cannot be.
    """

    several_choices = True
    free = True

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),
        *,
        threads: int | None = None,
        slots: int = 32,
        overflow: Literal["error", "drop-oldest", "cut-middle"] = "error",
        dtype: str = "bfloat16",
        memory: int = 512 * 2**20,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        if overflow not in ("error", "drop-oldest", "cut-middle"):
            raise ValueError(f"overflow must be error, drop-oldest or cut-middle, got {overflow!r}")
        for name, number in (("threads", 1 if threads is None else threads), ("slots", slots), ("memory", memory)):
            if number < 1:
                raise ValueError(f"{name} must be >= 1, got {number}")
        from heuretic.lm.local.decoder import Decoder  # torch and transformers take seconds to import
        from heuretic.lm.local.files import load

        loaded = load(model_name, dtype)
        self.digest = loaded.digest
        self.overflow = overflow
        self.tokenizer = loaded.tokenizer
        self.template = loaded.template
        self.context = loaded.context
        self.ends = loaded.ends
        decoder = Decoder(loaded.model, slots)
        self.engine = Engine(
            decoder, loaded.tokenizer, self.context, threads or _processors(), room=memory // decoder.token_bytes
        )

    def max_connections(self) -> int:
        """Requests wait in the engine, not before it."""
        return 10_000

    def max_tokens(self) -> int | None:
        """Most tokens of a reply where nothing else is said."""
        return 2048

    def close(self) -> None:
        """End the engine's thread."""
        self.engine.close()

    def prompt(self, messages: list[ChatMessage]) -> str:
        """Return the text that the model continues."""
        return written_out(messages, self.template, self.tokenizer.names)

    async def count_prompt_tokens(self, messages: list[ChatMessage]) -> int:
        """Return how many tokens a prompt of these messages has."""
        return len(self.tokenizer.encode(self.prompt(messages)))

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Return all choices of one reply."""
        started = time.monotonic()
        count = config.num_choices or 1
        most = config.max_tokens or 2048
        prompt = self._prompt_tokens(input, most)
        if len(prompt) >= self.context:
            return self._overflow(len(prompt))
        seed = config.seed if config.seed is not None else int.from_bytes(os.urandom(4), "big")
        begun = opening(self.prompt(input))
        draw = Draw(1.0 if config.temperature is None else config.temperature, config.top_k, config.top_p)
        request = await self._answered(
            Request(
                prompt, [Choice(j, draw, stream(seed + j)) for j in range(count)], most, tuple(config.stop_seqs or ()),
                self.ends, lambda error: None, begun, bool(config.logprobs), config.top_logprobs or 0,
            )
        )  # fmt: skip
        counts = [len(choice.tokens) for choice in request.choices]
        return ModelOutput(
            model=self.model_name,
            choices=[self._choice(choice, begun, bool(config.logprobs)) for choice in request.choices],
            usage=ModelUsage(
                input_tokens=request.processed,
                input_tokens_cache_read=request.spared,
                output_tokens=sum(counts),
                total_tokens=len(prompt) + sum(counts),
            ),
            time=time.monotonic() - started,
            metadata={"output_tokens": counts},
        )

    def _prompt_tokens(self, messages: list[ChatMessage], most: int) -> list[int]:
        """Return a prompt's tokens, made to leave room for `most` more (or half the context) if it is too long and may be."""
        tokens = self.tokenizer.encode(self.prompt(messages))
        if len(tokens) < self.context or self.overflow == "error":
            return tokens
        room = self.context - min(most, self.context // 2)
        if self.overflow == "drop-oldest":
            while len(tokens) > room:
                oldest = next((k for k, m in enumerate(messages[:-1]) if m.role != "system"), None)
                if oldest is None:
                    break
                messages = messages[:oldest] + messages[oldest + 1 :]
                tokens = self.tokenizer.encode(self.prompt(messages))
            return tokens
        return tokens if len(tokens) <= room else tokens[: room // 2] + tokens[len(tokens) - (room - room // 2) :]

    async def logprobs_of(self, prompt: str, continuations: list[str]) -> list[float]:
        """Return the log-probability in nats of each continuation of a prompt (text as it is, without a chat template)."""
        return [scored.logprob for scored in await self.likelihoods_of(prompt, continuations)]

    async def likelihoods_of(self, prompt: str, continuations: list[str]) -> list[Scored]:
        """Return the log-probability of each continuation of a prompt, and what it took; all are computed together.

        The prompt is text as it is, without a chat template. Where the tokens at its end are others once the continuation
        follows, the log-probability is that of the whole text minus that of the prompt, so that continuations stay
        comparable; it may then be above 0.

        Raises: PromptTooLong if a whole text has more tokens than the context.
        """
        begun = self.tokenizer.encode(prompt)
        anchor = self.tokenizer.encode("")

        async def one(continuation: str) -> Scored:
            start, whole = begun, self.tokenizer.encode(prompt + continuation)
            if (
                not prompt or start[0] != whole[0]
            ):  # the first token has no probability: one that separates texts precedes
                start = anchor if not prompt else [*anchor, *start]
                whole = whole if whole[:1] == anchor else [*anchor, *whole]
            shared = next((k for k, pair in enumerate(zip(start, whole, strict=False)) if pair[0] != pair[1]), None)
            shared = min(len(start), len(whole)) if shared is None else shared
            ours, theirs = await asyncio.gather(self._score(whole, shared), self._score(start, shared))
            return Scored(
                ours.logprob - theirs.logprob, len(whole) - shared, ours.processed + theirs.processed, ours.spared + theirs.spared
            )  # fmt: skip

        return list(await asyncio.gather(*(one(c) for c in continuations)))

    async def _score(self, tokens: list[int], known: int) -> Scored:
        """Return the log-probability of all tokens but the first `known`, of which there is at least one."""
        if len(tokens) > self.context:
            raise PromptTooLong(f"the prompt must have at most {self.context} tokens, got {len(tokens)}. Shorten it")
        if known == len(tokens):
            return Scored(0.0, 0, 0, 0)
        request = Request(tokens, [], 0, (), frozenset(), lambda error: None, scored=len(tokens) - known)
        done = await self._answered(request)
        return Scored(sum(done.scores), len(tokens) - known, done.processed, done.spared)

    async def _answered(self, request: Request) -> Request:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None] = loop.create_future()

        def settle(error: BaseException | None) -> None:
            if waiting.done():
                return
            if error is None:
                waiting.set_result(None)
            else:
                waiting.set_exception(error)

        def done(error: BaseException | None) -> None:
            try:
                loop.call_soon_threadsafe(settle, error)
            except RuntimeError:  # the loop has been closed: nobody waits
                pass

        request.done = done
        try:
            self.engine.submit(request)
            await waiting
        except asyncio.CancelledError:
            request.cancelled = True
            raise
        return request

    def _overflow(self, count: int) -> ModelOutput:
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=ChatMessageAssistant(content=""), stop_reason="model_length")],
            usage=ModelUsage(),
            error=f"the prompt must have fewer than {self.context} tokens, got {count}. Shorten it, or try overflow='cut-middle'",
            metadata={"output_tokens": [0]},
        )

    def _choice(self, choice: Choice, begun: str, chances: bool) -> ChatCompletionChoice:
        content = None
        if chances:
            content = [
                Logprob(
                    token=self.tokenizer.decode([c.token]),
                    logprob=c.logprob,
                    top_logprobs=[TopLogprob(token=self.tokenizer.decode([t]), logprob=p) for t, p in c.top] or None,
                )
                for c in choice.chances
            ]
        return ChatCompletionChoice(
            message=ChatMessageAssistant(content=begun + choice.text, model=self.model_name, source="generate"),
            stop_reason=choice.ended,  # pyright: ignore[reportArgumentType]
            logprobs=Logprobs(content=content) if content is not None else None,
        )


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1
