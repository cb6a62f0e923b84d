"""A language model as strategies see it: samples of a prompt, with outcomes, tokens, cost, a cache on disk and a budget."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inspect_ai._util.error import PrerequisiteError
from inspect_ai.model import (
    ChatMessage,
    ChatMessageUser,
    ContentReasoning,
    GenerateConfig,
    Model,
    ModelOutput,
    get_model,
    get_model_info,
)
from inspect_ai.model import ModelUsage as InspectUsage
from tenacity import RetryError

from heuretic.data.files import cache_folder
from heuretic.lm.budget import Budget, Price
from heuretic.lm.cache import ReplyCache
from heuretic.lm.replies import Outcome, Reply, Usage
from heuretic.lm.sampling import Sampling

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
_THINKING = re.compile(r"<(think|thinking|reasoning)>(.*?)(</\1>|\Z)", re.DOTALL)


class ModelError(Exception):
    """A model cannot be used at all: no key, a wrong key, an unknown name, broken weights."""


class LanguageModel:
    """One of inspect-ai's models, asked for samples of prompts.

    Args:
        model: The model. cache: Replies are looked up there first, and kept there.
        price: For counting money. budget: Calls that could go over it raise BudgetSpent.
        defaults: Settings of inspect-ai that `Sampling` does not know, such as `max_retries` or `reasoning_effort`.
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
        self._several = getattr(model.api, "several_choices", False)
        self._turns: dict[bytes, asyncio.Lock] = {}

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
            async with self._turns.setdefault(request, asyncio.Lock()):
                found = self.cache.get(request, wanted)
                missing = [k for k in wanted if k not in found]
                if missing:
                    found |= await self._ask(messages, missing, sampling, keep=request)
            self._turns.pop(request, None)
        return [found[k] for k in wanted]

    def request(self, messages: Sequence[ChatMessage], sampling: Sampling) -> bytes:
        """Return the digest of all that decides the replies: model, weights, messages and settings, the seed included."""
        asked = {
            **self._identity,
            "messages": [_said(m) for m in messages],
            "sampling": {name: getattr(sampling, name) for name in type(sampling).__fields__},
            "defaults": self.defaults.model_dump(exclude_none=True, exclude=_DELIVERY),
        }
        text = json.dumps(asked, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).digest()

    async def _ask(
        self, messages: list[ChatMessage], samples: list[int], sampling: Sampling, keep: bytes | None = None
    ) -> dict[int, Reply]:
        """Return new replies for samples by index: in one call for each unbroken run of them, or in a call each."""
        together = type(self.inspect.api).__module__.rpartition(".")[2] in _SEVERAL or self._several
        calls = _runs(samples) if together else [[k] for k in samples]
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
            output = await self.inspect.generate(messages, config=self._config(sampling, samples))
            replies = _replies(output, self.price, len(samples))
        except (TypeError, AttributeError, NameError):  # a mistake in the program, not a failure of the service
            raise
        except Exception as error:
            error = _cause(error)
            if _unusable(error):
                raise ModelError(f"{self.name} cannot be used: {_line(error)}") from error
            replies = [Reply("", "error", Usage(calls=1), error=_line(error))] + [
                Reply("", "error", error=_line(error)) for _ in samples[1:]
            ]
        finally:
            if self.budget:
                for reply in replies:
                    used += reply.usage
                self.budget.settle(reserved, used, self.price)
        found = dict(zip(samples, replies, strict=False))
        if keep is not None and self.cache is not None:
            self.cache.put(keep, found)
        return found

    def _config(self, sampling: Sampling, samples: list[int]) -> GenerateConfig:
        return self.defaults.merge(
            GenerateConfig(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                max_tokens=sampling.max_tokens,
                stop_seqs=list(sampling.stop) or None,
                seed=sampling.seed_of(samples[0]),
                num_choices=len(samples) if len(samples) > 1 else None,
                logprobs=sampling.logprobs or None,
                max_retries=self.defaults.max_retries if self.defaults.max_retries is not None else 5,
            )
        )

    async def _most_input_tokens(self, messages: list[ChatMessage]) -> int:
        """Return at least the number of tokens of a prompt: exactly where the model counts, else its bytes."""
        if self.budget is None:
            return 0
        count = getattr(self.inspect.api, "count_prompt_tokens", None)
        if count is not None:
            return await count(messages)
        media = sum(part.type != "text" for m in messages if not isinstance(m.content, str) for part in m.content)
        return sum(len(m.text.encode()) + 16 for m in messages) + 4096 * media


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
    try:
        found = get_model(name, **arguments)
    except Exception as error:
        raise ModelError(f"model {name!r} cannot be used: {_line(error)}") from error
    if cache == "":
        folder = cache_folder()
        cache = None if folder is None else folder / "replies.db"
    if isinstance(cache, str | Path):
        cache = ReplyCache(cache)
    return LanguageModel(found, cache=cache, price=price or _known_price(found), budget=budget, defaults=defaults)


def _known_price(found: Model) -> Price | None:
    if getattr(found.api, "free", False):
        return Price(0.0, 0.0)
    info = get_model_info(found)
    if info is None or info.cost is None:
        return None
    return Price(info.cost.input, info.cost.output, info.cost.input_cache_read)


def _replies(output: ModelOutput, price: Price | None, n: int) -> list[Reply]:
    usage = output.usage or InspectUsage()
    choices = output.choices[:n]
    counts = (output.metadata or {}).get("output_tokens") or _shares(usage.output_tokens, len(choices))
    fresh = usage.input_tokens + (usage.input_tokens_cache_write or 0)
    replies = []
    for k, (choice, tokens) in enumerate(zip(choices, counts, strict=True)):
        text, reasoning, open_ended = _parts(choice.message)
        used = Usage(fresh, usage.input_tokens_cache_read or 0, tokens, 1) if k == 0 else Usage(0, 0, tokens, 0)
        cut = choice.stop_reason == "max_tokens" or (choice.stop_reason == "model_length" and bool(text or reasoning))
        outcome: Outcome
        if choice.stop_reason == "content_filter":
            outcome = "refused"
        elif cut:
            outcome = "truncated"
        elif choice.stop_reason == "model_length":
            outcome = "overflow"
        elif not text.strip():
            outcome = "truncated" if open_ended else "empty"
        else:
            outcome = "answered"
        logprob = math.fsum(t.logprob for t in choice.logprobs.content) if choice.logprobs else None
        error = output.error if outcome in ("overflow", "refused") else None
        replies.append(Reply(text, outcome, used, price and price.of(used), reasoning, logprob, error))
    return replies


def _parts(message: ChatMessage) -> tuple[str, str, bool]:
    """Return what was said, what was thought, and whether the thinking was never closed."""
    thought = []
    if not isinstance(message.content, str):
        thought = [p.reasoning for p in message.content if isinstance(p, ContentReasoning)]
    text = message.text
    found = list(_THINKING.finditer(text))
    thought += [m[2] for m in found]
    return _THINKING.sub("", text).strip("\n") if found else text, "\n".join(thought), any(not m[3] for m in found)


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


def _cause(error: Exception) -> Exception:
    """Return the last failure of a call that was tried several times."""
    if isinstance(error, RetryError):
        return _cause(error.last_attempt.exception() or error)  # pyright: ignore[reportArgumentType]
    return error


def _unusable(error: Exception) -> bool:
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    return isinstance(error, PrerequisiteError) or status in (401, 403, 404)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__
