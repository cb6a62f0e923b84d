"""Evidence for a query, and who looks it up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

Kind = Literal["document", "organic", "answer", "knowledge", "related", "question"]
"""What a piece of evidence is: a document of the user's own, or a part of a page of results: an organic result, the answer box, the
knowledge graph, a related question (the title) with its answer, a question of a forum with its answer."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One piece of evidence.

    Attributes:
        text: What it says. title, url: Where. date: When it was published, as YYYY-MM-DD; empty if that is not known.
        highlight: The words of it that answer the query, where the search says so. kind: See `Kind`.
        line: All of it in one line, where that is more than the text, as of an answer box with an answer, a text and marked words.
    """

    text: str
    title: str = ""
    url: str = ""
    date: str = ""
    highlight: str = ""
    kind: Kind = "document"
    line: str = ""

    def __str__(self) -> str:
        head = ", ".join(part for part in (self.title, self.date, self.url) if part)
        return f"{head}\n{self.text}" if head else self.text


@runtime_checkable
class Search(Protocol):
    """Looks up evidence. Ours are `Symbolic`, and so can be fields of strategies and evaluations."""

    async def __call__(self, query: str, k: int) -> Sequence[Evidence]:
        """Return at most `k` pieces of evidence (organic results, and what a page of results has beside them), the best first.

        Raises: ConnectionError if there is no answer to this query: the service did not answer after all retries, refused the
            query, or answered with something else. Those who ask count it and go on with the next query. ValueError for what
            would fail every query, such as a key that is missing or refused, or a file that cannot be read: it ends the run.
        """
        ...


def check(search: Search) -> None:
    """Find out, before anything is paid for, whether a search has what it needs.

    Raises: ValueError if it says so in a method `check` of its own, as hosted ones do that have no key.
    """
    checked = getattr(search, "check", None)
    if checked is not None:
        checked()
