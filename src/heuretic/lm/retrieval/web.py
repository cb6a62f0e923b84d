"""Hosted search: Serper (Google), Brave and Tavily over HTTP.

Keys are read from the environment when a search is made, and are in no value, digest, message or record. ValueError means that a
key or an address is missing or refused, ConnectionError that there is no answer to one query, see `Search`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from heuretic.lm.retrieval.dates import normalised
from heuretic.lm.retrieval.evidence import Evidence, Kind
from heuretic.symbolic import Symbolic, field

_TRIES = 5
_TIMEOUT_S = 30.0
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_WAIT_S = 0.5
_NEVER = frozenset({401, 402, 403, 404, 405, 432, 433})
"""Statuses that concern the key, the account (432 and 433 are Tavily's limits of a plan) or the address, and not the query."""
_ACCOUNT = re.compile(r"not enough credits|subscription_token_invalid", re.IGNORECASE)
"""What Serper (status 400) and Brave (422) say of an account."""


class Serper(Symbolic):
    """Google by serper.dev: organic results, answer box, knowledge graph and related questions. Key: $SERPER_API_KEY."""

    country: str = field(default="us", doc="whose results (gl)")
    language: str = field(default="en", doc="of the results (hl)")
    today: str = field(default="", doc="YYYY-MM-DD from which 'days ago' count; empty for the day of the search")
    base_url: str = field(default="https://google.serper.dev", doc="where the service is")

    def check(self) -> None:
        """Raises: ValueError without a key."""
        _key("SERPER_API_KEY")

    async def __call__(self, query: str, k: int) -> list[Evidence]:
        """Return what the page has beside organic results, then at most `k` of these."""
        body = {"q": query, "num": k, "gl": self.country, "hl": self.language}
        headers = {"X-API-KEY": _key("SERPER_API_KEY")}
        found = await _ask("POST", f"{self.base_url}/search", headers, body=body)
        return _read(found, self.base_url, lambda: _serper(found, k, _day(self.today)))


class Brave(Symbolic):
    """Brave's own index. Key: $BRAVE_API_KEY."""

    country: str = field(default="us", doc="whose results")
    today: str = field(default="", doc="YYYY-MM-DD from which 'days ago' count; empty for the day of the search")
    base_url: str = field(default="https://api.search.brave.com/res/v1", doc="where the service is")

    def check(self) -> None:
        """Raises: ValueError without a key."""
        _key("BRAVE_API_KEY")

    async def __call__(self, query: str, k: int) -> list[Evidence]:
        """Return at most `k` results."""
        headers = {"X-Subscription-Token": _key("BRAVE_API_KEY"), "Accept": "application/json"}
        sought = {"q": query, "count": str(min(k, 20)), "country": self.country, "text_decorations": "false"}
        found = await _ask("GET", f"{self.base_url}/web/search", headers, sought=sought)
        return _read(found, self.base_url, lambda: _brave(found, k, _day(self.today)))


class Tavily(Symbolic):
    """Tavily, whose results are passages for language models. Key: $TAVILY_API_KEY."""

    depth: str = field(default="basic", choices=("basic", "advanced"), doc="how thoroughly it searches")
    answer: bool = field(default=False, doc="ask for an answer too, which comes first")
    today: str = field(default="", doc="YYYY-MM-DD from which 'days ago' count; empty for the day of the search")
    base_url: str = field(default="https://api.tavily.com", doc="where the service is")

    def check(self) -> None:
        """Raises: ValueError without a key."""
        _key("TAVILY_API_KEY")

    async def __call__(self, query: str, k: int) -> list[Evidence]:
        """Return at most `k` results."""
        headers = {"Authorization": f"Bearer {_key('TAVILY_API_KEY')}"}
        body = {"query": query, "max_results": min(k, 20), "search_depth": self.depth, "include_answer": self.answer}
        found = await _ask("POST", f"{self.base_url}/search", headers, body=body)
        return _read(found, self.base_url, lambda: _tavily(found, k, _day(self.today)))


def _serper(found: Mapping[str, Any], k: int, today: date) -> list[Evidence]:
    evidence: list[Evidence] = []
    if box := found.get("answerBox"):
        answer, snippet, marked = (_words(box.get(name)) for name in ("answer", "snippet", "snippetHighlighted"))
        line = " ".join(part for part in (answer, snippet.replace("\n", " "), marked) if part)
        evidence.append(_piece(box, snippet or answer, today, "answer", answer or marked, line))
    if graph := found.get("knowledgeGraph"):
        title = graph.get("title")
        kind = [f"{title}: {graph['type']}."] if graph.get("type") else []
        described = [str(graph["description"])] if graph.get("description") else []
        text = " ".join([*kind, *described, *_attributes(graph, f"{title} ")])
        url = str(graph.get("descriptionLink") or graph.get("website") or "")
        evidence.append(Evidence(text, str(title or ""), url, kind="knowledge"))
    for each in found.get("peopleAlsoAsk") or []:
        asked = {**each, "title": each.get("question") or each.get("title")}
        evidence.append(_piece(asked, str(each.get("snippet") or ""), today, "related"))
    organic = [
        _piece(each, " ".join([*filter(None, [_words(each.get("snippet"))]), *_attributes(each)]), today, "organic")
        for each in (found.get("organic") or [])[:k]
    ]
    return [*evidence, *organic]


def _words(said: Any) -> str:
    """Return a text, or several as one."""
    return " ".join(map(str, said)) if isinstance(said, list) else str(said or "")


def _attributes(each: Mapping[str, Any], of: str = "") -> list[str]:
    return [f"{of}{name}: {value}." for name, value in (each.get("attributes") or {}).items()]


def _piece(
    each: Mapping[str, Any], text: str, today: date, kind: Kind, highlight: str = "", line: str = ""
) -> Evidence:
    when = normalised(str(each.get("date") or ""), today)
    return Evidence(text, str(each.get("title") or ""), str(each.get("link") or ""), when, highlight, kind, line)


def _brave(found: Mapping[str, Any], k: int, today: date) -> list[Evidence]:
    results = (found.get("web") or {}).get("results") or []
    return [
        Evidence(
            " ".join([str(each.get("description") or ""), *map(str, each.get("extra_snippets") or ())]).strip(), str(each.get("title") or ""),
            str(each.get("url") or ""), normalised(str(each.get("page_age") or each.get("age") or ""), today), kind="organic",
        )
        for each in results[:k]
    ]  # fmt: skip


def _tavily(found: Mapping[str, Any], k: int, today: date) -> list[Evidence]:
    answer = (
        [Evidence(str(found["answer"]), highlight=str(found["answer"]), kind="answer")] if found.get("answer") else []
    )
    return answer + [
        Evidence(
            str(each.get("content") or ""), str(each.get("title") or ""), str(each.get("url") or ""),
            normalised(str(each.get("published_date") or ""), today), kind="organic",
        )
        for each in (found.get("results") or [])[:k]
    ]  # fmt: skip


def _key(name: str) -> str:
    key = os.environ.get(name, "")
    if not key:
        raise ValueError(
            f"{name} must be set in the environment, got nothing. Try BM25 or Embeddings, which need no key"
        )
    return key


def _day(today: str) -> date:
    return date.fromisoformat(today) if today else datetime.now(UTC).date()


def _read(found: Any, url: str, read: Callable[[], list[Evidence]]) -> list[Evidence]:
    if not isinstance(found, Mapping):
        raise ConnectionError(f"{url} must answer with an object, got {type(found).__name__}")
    try:
        return read()
    except (AttributeError, TypeError, KeyError, IndexError) as error:
        raise ConnectionError(
            f"{url} must answer in its published form, got something else ({type(error).__name__}: {error})"
        ) from error


async def _ask(
    method: str, url: str, headers: Mapping[str, str], body: Any = None, sought: Mapping[str, str] | None = None
) -> Any:
    """Return the JSON of an answer, after retries with growing pauses."""
    import httpx

    why = ""
    async with httpx.AsyncClient(timeout=_TIMEOUT_S) as client:
        for number in range(_TRIES):
            if number:
                await asyncio.sleep(_WAIT_S * 2 ** (number - 1))
            try:
                answer = await client.request(method, url, headers=dict(headers), json=body, params=sought)
            except httpx.HTTPError as error:
                why = type(error).__name__
                continue
            if answer.status_code in _AGAIN:
                why = f"status {answer.status_code}"
                continue
            said = f"got status {answer.status_code}: {answer.text[:200]!r}"
            if answer.status_code in _NEVER or (answer.status_code >= 400 and _ACCOUNT.search(answer.text)):
                raise ValueError(f"{url} must be a search that accepts the key of the environment, {said}")
            if answer.status_code >= 400:
                raise ConnectionError(f"{url} must accept the query, {said}")
            try:
                return json.loads(answer.text)
            except ValueError as error:
                raise ConnectionError(f"{url} must answer with JSON, got {answer.text[:80]!r}") from error
    raise ConnectionError(f"{url} did not answer in {_TRIES} tries: {why}")
