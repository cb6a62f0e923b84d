"""A language model as strategies see it: samples of a prompt, with outcomes, tokens, cost, a cache on disk and a budget."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspect_ai._util.error import PrerequisiteError
from inspect_ai.log._samples import sample_active
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageUser,
    Content,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    Model,
    ModelOutput,
    get_model,
    get_model_info,
)
from inspect_ai.model import ModelUsage as InspectUsage
from inspect_ai.model._model import ModelEventSink, use_model_event_sink
from pydantic import ValidationError
from tenacity import RetryError

from heuretic.data.files import cache_folder
from heuretic.lm.budget import Budget, Price
from heuretic.lm.cache import ReplyCache
from heuretic.lm.replies import Outcome, Reply, Usage
from heuretic.lm.sampling import Sampling
from heuretic.lm.thinking import said_and_thought

Messages = str | Sequence[ChatMessage]
_SEVERAL = {"openai_compatible", "google", "grok", "vllm", "together", "sglang", "llama_cpp_python"}
"""inspect-ai's modules of providers that take `num_choices`."""
_DELIVERY = {
    "max_retries",
    "timeout",
    "attempt_timeout",
    "max_connections",
    "stream_idle_timeout",
    "extra_headers",
    "cache",
}
"""Settings that do not change what a model says."""
_RETRIES = 5
_ATTEMPT_S = 300
_ALL_ATTEMPTS_S = 600
"""A service has this long for one attempt; none begins after so long. Both, and the retries, are settings in `defaults`."""
_OVERFLOW = re.compile(
    r"context.length|context.window|context.size|maximum context|prompt is too long|input is too long|too many (input )?tokens"
    r"|token count .{0,40}exceeds|maximum number of tokens",
    re.IGNORECASE,
)
"""How services say that a prompt does not fit."""
_NOTHING = "(no content)"
"""What inspect-ai says where Gemini says nothing."""
_READERS = {
    "aiohttp",
    "anthropic",
    "google",
    "httpcore",
    "httpcore2",
    "httpx",
    "httpx2",
    "inspect_ai",
    "json",
    "openai",
    "pydantic",
}
"""Packages that read what services send, and stumble over what is not as it should be."""
_UNREADABLE = (TypeError, AttributeError, AssertionError, LookupError, json.JSONDecodeError, ValidationError)


@dataclass(slots=True)
class _Turn:
    """Those who ask for the same at once, one after the other."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    askers: int = 0


class _Unrecorded(ModelEventSink):
    """Lets records of calls go.

    inspect-ai appends each to the transcript of the context it runs in. Outside its evaluations nobody reads or ends that
    one: it would hold every prompt and reply until the process ends.
    """

    def on_pending(self, event: Any) -> None:
        pass

    def on_complete(self, event: Any) -> None:
        pass


_UNRECORDED = _Unrecorded()


class ModelError(Exception):
    """A model cannot be used at all: no key, a wrong key, an unknown name, broken weights."""


class LanguageModel:
    """One of inspect-ai's models, asked for samples of prompts.

    Args:
        model: The model. cache: Replies are looked up there first, and kept there.
        price: For counting money. budget: Calls that could go over it raise BudgetSpent.
        defaults: Settings of inspect-ai that `Sampling` does not know, such as `max_retries` or `reasoning_effort`.
    Attributes: several: Whether one call can bring several samples.
    """

    def __init__(
        self,
        model: Model,
        *,
        cache: ReplyCache | None = None,
        price: Price | None = None,
        budget: Budget | None = None,
        defaults: GenerateConfig | None = None,
    ) -> None:
        self.inspect = model
        self.cache = cache
        self.price = price
        self.budget = budget
        self.defaults = defaults or GenerateConfig()
        self._identity = {"model": str(model), "weights": getattr(model.api, "digest", None), "url": model.api.base_url}
        module = type(model.api).__module__.rpartition(".")[2]
        self.several: bool = module in _SEVERAL or getattr(model.api, "several_choices", False)
        self._turns: dict[bytes, _Turn] = {}

    def __repr__(self) -> str:
        return f"LanguageModel({self.name!r})"

    @property
    def name(self) -> str:
        """The name with its provider, such as heuretic/smollm2-135m."""
        return str(self.inspect)

    async def sample(
        self, prompt: Messages, n: int = 1, sampling: Sampling | None = None, *, first: int = 0
    ) -> list[Reply]:
        """Return samples `first` to `first + n - 1` of the model's reply to a prompt.

        Samples that the cache has are not asked for. The others are asked for together where the model can, so that the
        prompt is processed once. The same sample of the same prompt under way elsewhere is waited for.

        Returns: One reply for each sample, in order. Refusals, cut-off texts and failures of the service are outcomes of
            replies, not exceptions.
        Raises: ModelError if the model cannot be used; BudgetSpent before a call that could go over the budget;
            ValueError if n < 1.
        """
        if n < 1:
            raise ValueError(f"n must be >= 1, got {n}")
        sampling = sampling or Sampling()
        messages: list[ChatMessage] = [ChatMessageUser(content=prompt)] if isinstance(prompt, str) else list(prompt)
        request = self.request(messages, sampling)
        wanted = range(first, first + n)
        if self.cache is None:
            found = await self._ask(messages, list(wanted), sampling)
        else:
            turn = self._turns.setdefault(request, _Turn())
            turn.askers += 1
            try:
                async with turn.lock:
                    found = self.cache.get(request, wanted)
                    missing = [k for k in wanted if k not in found]
                    if missing:
                        found |= await self._ask(messages, missing, sampling, keep=request)
            finally:
                turn.askers -= 1
                if not turn.askers:
                    del self._turns[request]
        return [found[k] for k in wanted]

    def request(self, messages: Sequence[ChatMessage], sampling: Sampling) -> bytes:
        """Return the digest of all that decides the replies: model, weights, messages and settings, the seed included."""
        return self.digest(
            {
                "messages": [_said(m) for m in messages],
                "sampling": {name: getattr(sampling, name) for name in type(sampling).__fields__},
                "defaults": self.defaults.model_dump(exclude_none=True, exclude=_DELIVERY),
            }
        )

    def digest(self, asked: Mapping[str, Any]) -> bytes:
        """Return the digest of anything that is asked of this model and these weights: a key of the cache."""
        text = json.dumps({**self._identity, **asked}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).digest()

    @property
    def gives_likelihoods(self) -> bool:
        """Whether the model gives the log-probabilities of texts that it did not generate: local weights do."""
        return hasattr(self.inspect.api, "likelihoods_of")

    async def score(self, prompt: str, continuations: Sequence[str]) -> list[Reply]:
        """Return each continuation of a prompt as a reply with its log-probability, see `heuretic.lm.likelihood`.

        The prompt is text as it is, without a chat template; a continuation carries its own leading space. What the cache has
        is not computed; the others are computed together, and share what the prompt takes. All tokens are input tokens, since
        none is generated; the first computed reply counts the call. Where a text does not fit in the model's context, all
        that were to be computed with it have the outcome "overflow".

        Raises: ModelError if the model gives no such log-probabilities; ValueError for an empty continuation; BudgetSpent
            before a call that could go over the budget.
        """
        if not self.gives_likelihoods:
            raise ModelError(
                f"{self.name} must give log-probabilities of prompts, and its service does not. Try local weights such as "
                "heuretic/smollm2-135m, or a fallback that generates, which is another measure: 'inverse-scaling?generate=true'"
            )
        if not all(continuations):
            raise ValueError(f"continuations must not be empty, got {list(continuations)}")
        keys = {text: self.digest({"prompt": prompt, "continuation": text}) for text in continuations}
        found: dict[str, Reply] = {}
        if self.cache is not None:
            known = {text: self.cache.get(key, [0]) for text, key in keys.items()}
            found = {text: replies[0] for text, replies in known.items() if 0 in replies}
        missing = [text for text in keys if text not in found]
        if missing:
            for text, reply in zip(missing, await self._score(prompt, missing), strict=True):
                found[text] = reply
                if self.cache is not None:
                    self.cache.put(keys[text], {0: reply})
        return [found[text] for text in continuations]

    async def _score(self, prompt: str, texts: list[str]) -> list[Reply]:
        from heuretic.lm.local.provider import PromptTooLong

        api: Any = self.inspect.api
        reserved = used = Usage()
        if self.budget:  # no token is shorter than a byte
            reserved = Usage(sum(len((prompt + text).encode()) + 16 for text in texts), 0, 0, 1)
            self.budget.reserve(reserved, self.price)
        replies = []
        try:
            for k, (text, part) in enumerate(zip(texts, await api.likelihoods_of(prompt, texts), strict=True)):
                if not math.isfinite(part.logprob):
                    raise ModelError(f"{self.name} must give finite log-probabilities, got {part.logprob} for {text!r}")
                usage = Usage(part.processed, part.spared, 0, int(k == 0))
                used += usage
                cost = self.price and self.price.of(usage)
                replies.append(Reply(text, "answered", usage, cost, logprob=part.logprob, scored=part.tokens))
        except PromptTooLong as error:
            return [Reply("", "overflow", error=str(error)) for _ in texts]
        finally:
            if self.budget:
                self.budget.settle(reserved, used, self.price)
        return replies

    async def _ask(
        self, messages: list[ChatMessage], samples: list[int], sampling: Sampling, keep: bytes | None = None
    ) -> dict[int, Reply]:
        """Return new replies for samples by index: in one call for each unbroken run of them, or in a call each."""
        calls = _runs(samples) if self.several else [[k] for k in samples]
        found: dict[int, Reply] = {}
        for done in await asyncio.gather(*(self._call(messages, call, sampling, keep) for call in calls)):
            found |= done
        missing = [k for k in samples if k not in found]  # a service may return fewer than it was asked for
        for done in await asyncio.gather(*(self._call(messages, [k], sampling, keep) for k in missing)):
            found |= done
        return found

    async def _call(
        self, messages: list[ChatMessage], samples: list[int], sampling: Sampling, keep: bytes | None
    ) -> dict[int, Reply]:
        reserved = Usage(await self._most_input_tokens(messages), 0, sampling.max_tokens * len(samples), 1)
        if self.budget:
            self.budget.reserve(reserved, self.price)
        used, replies = Usage(), []
        try:
            with use_model_event_sink(_UNRECORDED if sample_active() is None else None):
                output = await self.inspect.generate(messages, config=self._config(sampling, samples))
            replies = _replies(output, self.price, len(samples), self.line)
        except Exception as error:
            if _mistaken(error):
                raise
            cause = _cause(error)
            line = self.line(cause)
            if _unusable(cause):
                # The chain of causes is left out where it would show a key.
                raise ModelError(f"{self.name} cannot be used: {line}") from _shown(cause, line)
            outcome: Outcome = "overflow" if _status(cause) == 400 and _OVERFLOW.search(line) else "error"
            replies = [Reply("", outcome, Usage(calls=1), error=line)]
            replies += [Reply("", outcome, error=line) for _ in samples[1:]]
        finally:
            if self.budget:
                for reply in replies:
                    used += reply.usage
                self.budget.settle(reserved, used, self.price)
        found = dict(zip(samples, replies, strict=False))
        if keep is not None and self.cache is not None:
            self.cache.put(keep, found)
        return found

    def line(self, error: BaseException | str) -> str:
        """Return what went wrong as one line in which no key is shown."""
        return _line(_cause(error) if isinstance(error, BaseException) else error, self.inspect.api.api_key or "")

    def _config(self, sampling: Sampling, samples: list[int]) -> GenerateConfig:
        # Work that waits in a queue on this machine is not late.
        local = getattr(self.inspect.api, "free", False)
        bounds = GenerateConfig(
            max_retries=_RETRIES,
            timeout=None if local else _ALL_ATTEMPTS_S,
            attempt_timeout=None if local else _ATTEMPT_S,
        )
        return bounds.merge(self.defaults).merge(
            GenerateConfig(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                max_tokens=sampling.max_tokens,
                stop_seqs=list(sampling.stop) or None,
                seed=sampling.seed_of(samples[0]),
                num_choices=len(samples) if len(samples) > 1 else None,
                logprobs=sampling.logprobs or None,
            )
        )

    async def _most_input_tokens(self, messages: list[ChatMessage]) -> int:
        """Return at least the number of tokens of a prompt: exactly where the model counts, else its bytes."""
        if self.budget is None:
            return 0
        count = getattr(self.inspect.api, "count_prompt_tokens", None)
        if count is not None:
            return await count(messages)
        media = [part for m in messages if not isinstance(m.content, str) for part in m.content if part.type != "text"]
        return sum(len(m.text.encode()) + 16 for m in messages) + sum(4096 + _media_bytes(part) // 16 for part in media)


def model(
    name: str,
    *,
    cache: str | Path | ReplyCache | None = "",
    price: Price | None = None,
    budget: Budget | None = None,
    defaults: GenerateConfig | None = None,
    **arguments: Any,
) -> LanguageModel:
    """Return a language model by name, ready to be asked.

    Args:
        name: PROVIDER/MODEL as inspect-ai knows it (openai/..., anthropic/..., google/..., vllm/..., openai-api/...), or
            local weights: heuretic/smollm2-135m, heuretic/FILE.gguf, heuretic/FOLDER of Hugging Face.
        cache: File of replies; by default `replies.db` in the user's folder for caches (`$HEURETIC_CACHE`); None for none.
        price: Default: what inspect-ai knows of the model; local weights cost nothing.
        budget, defaults: See `LanguageModel`.
        arguments: For the provider, such as `base_url`.
    Raises: ModelError if there is no such model, or no key for it, or its weights cannot be read.
    """
    if name.startswith("heuretic/"):
        import heuretic.lm.local.provider  # noqa: F401  (registers it, also where the package is not installed)

        # inspect-ai lets 20 requests through at first, and 100 at most; here they wait in the engine, which batches them.
        arguments.setdefault("config", GenerateConfig(adaptive_connections=False))
    try:
        found = get_model(name, **arguments)
    except Exception as error:
        line = _line(error, str(arguments.get("api_key") or ""))
        raise ModelError(f"model {name!r} cannot be used: {line}") from _shown(error, line)
    if cache == "":
        folder = cache_folder()
        cache = None if folder is None else folder / "replies.db"
    if isinstance(cache, str | Path):
        cache = ReplyCache(cache)
    return LanguageModel(found, cache=cache, price=price or known_price(found), budget=budget, defaults=defaults)


def known_price(found: Model) -> Price | None:
    """Return what a model costs: nothing for local weights, else what inspect-ai knows, None if it knows nothing."""
    if getattr(found.api, "free", False):
        return Price(0.0, 0.0)
    info = get_model_info(found)
    if info is None or info.cost is None:
        return None
    return Price(info.cost.input, info.cost.output, info.cost.input_cache_read)


def _replies(output: ModelOutput, price: Price | None, n: int, line: Callable[[str], str]) -> list[Reply]:
    usage = output.usage or InspectUsage()
    choices = output.choices[:n]
    fresh = usage.input_tokens + (usage.input_tokens_cache_write or 0)
    if not choices:
        used = Usage(fresh, usage.input_tokens_cache_read or 0, usage.output_tokens, 1)
        error = line(output.error or "the service returned no completion")
        return [Reply("", "error", used, price and price.of(used), error=error)]
    counts = (output.metadata or {}).get("output_tokens") or _shares(usage.output_tokens, len(choices))
    replies = []
    for k, (choice, tokens) in enumerate(zip(choices, counts, strict=True)):
        text, reasoning, open_ended = _parts(choice.message)
        used = Usage(fresh, usage.input_tokens_cache_read or 0, tokens, 1) if k == 0 else Usage(0, 0, tokens, 0)
        outcome, error = _outcome(choice, output, text, reasoning, open_ended)
        if outcome in ("overflow", "error") or error == text:
            text = ""  # inspect-ai puts a service's message where the text would be
        logprob = math.fsum(t.logprob for t in choice.logprobs.content) if choice.logprobs else None
        error = None if error is None else line(error)
        replies.append(Reply(text, outcome, used, price and price.of(used), reasoning, logprob, error))
    return replies


def _outcome(
    choice: ChatCompletionChoice, output: ModelOutput, text: str, reasoning: str, open_ended: bool
) -> tuple[Outcome, str | None]:
    """Return what became of a choice, and why if it is no answer."""
    generated = output.usage is not None and output.usage.output_tokens > 0
    details = choice.stop_details.explanation if choice.stop_details else None
    content = choice.message.content
    declined = not isinstance(content, str) and any(isinstance(p, ContentText) and p.refusal for p in content)
    if choice.stop_reason == "content_filter" or declined:
        said = None if generated else text or None
        return "refused", output.error or details or said or "the model or a filter of its service declined"
    if choice.stop_reason == "model_length" and not generated:
        return "overflow", text or output.error or "the prompt does not fit in the model's context"
    if choice.stop_reason in ("max_tokens", "model_length"):
        return "truncated", None
    if text == _NOTHING and not generated:
        return "error", "the service returned no completion"
    if not text.strip():
        return ("truncated" if open_ended else "empty"), None
    return "answered", None


def _parts(message: ChatMessage) -> tuple[str, str, bool]:
    """Return what was said, what was thought, and whether the thinking was never closed."""
    thought = []
    if not isinstance(message.content, str):
        thought = [
            (p.summary or "") if p.redacted else p.reasoning for p in message.content if isinstance(p, ContentReasoning)
        ]
    said, tagged, open_ended = said_and_thought(message.text)
    return said, "\n".join(each for each in thought + tagged if each), open_ended


def _media_bytes(part: Content) -> int:
    """Return the bytes of a picture, sound or film: of its file, or of its text in base 64; 0 for an address."""
    held = str(getattr(part, part.type, ""))
    if held.startswith("data:"):
        return len(held) * 3 // 4
    try:
        return Path(held).stat().st_size
    except (OSError, ValueError):
        return 0


def _said(message: ChatMessage) -> dict[str, Any]:
    return message.model_dump(mode="json", include={"role", "content"}, exclude_none=True)


def _runs(samples: list[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for k in samples:
        if runs and runs[-1][-1] == k - 1:
            runs[-1].append(k)
        else:
            runs.append([k])
    return runs


def _shares(total: int, parts: int) -> list[int]:
    return [total // parts + (k < total % parts) for k in range(parts)] if parts else []


def _cause(error: BaseException) -> BaseException:
    """Return the failure of the service behind those that inspect-ai and its retries make of it."""
    if isinstance(error, RetryError):
        return _cause(error.last_attempt.exception() or error)
    if hasattr(error, "provider_message") and error.__cause__ is not None:
        return error.__cause__
    return error


def _mistaken(error: BaseException) -> bool:
    """Return whether an error is a mistake in the program, and not in what a service sent."""
    if not isinstance(error, TypeError | AttributeError | NameError):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    return where.partition(".")[0] not in _READERS


def _status(error: BaseException) -> int | None:
    for name in ("status_code", "code"):
        found = getattr(error, name, None)
        if isinstance(found, int):
            return found
    return None


def _unusable(error: BaseException) -> bool:
    """Return whether no call can succeed: the key, the name or the account is not right."""
    text = str(error)
    spent = getattr(error, "code", None) == "insufficient_quota" or "credit balance is too low" in text
    bad_key = _status(error) == 400 and ("API_KEY_INVALID" in text or "API key not valid" in text)  # Gemini's answer
    return isinstance(error, PrerequisiteError | ModelError) or _status(error) in (401, 403, 404) or spent or bad_key


def _line(error: BaseException | str, key: str = "") -> str:
    """Return a message as one line, without markup and without keys."""
    text = " ".join(str(error).split())[:2000] or type(error).__name__
    if isinstance(error, _UNREADABLE):
        text = f"what the service sent cannot be read ({type(error).__name__}: {text})"
    text = re.sub(r"\[/?[a-z ]+\]|\x1b\[[0-9;]*m", "", text)
    for secret in {key, *(value for name, value in os.environ.items() if name.endswith(("_API_KEY", "_TOKEN")))}:
        if len(secret) >= 6:
            text = text.replace(secret, "***")
    return text[:500]


def _shown(error: BaseException, line: str) -> BaseException | None:
    return None if "***" in line else error
