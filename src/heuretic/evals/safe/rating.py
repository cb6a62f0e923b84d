"""Rating one fact: queries one after the other, each knowing what the ones before it found, then a verdict."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from heuretic.evals.judging import unjudged, verdict
from heuretic.evals.safe.f1_at_k import FactCounts
from heuretic.evals.safe.prompts import QUERY, VERDICT, bracketed, decided, filled, first_fenced, paid, sided, used
from heuretic.lm import LanguageModel, Sampling, Usage
from heuretic.lm.answer import Step
from heuretic.lm.retrieval import Evidence, Search
from heuretic.symbolic import Symbolic, field

Label = Literal["supported", "not supported", "irrelevant", "unjudged"]
_FAILED = ("nothing could be looked up", "judge failed")
NOTHING_FOUND = "No good Google Search result was found"
_ORDER = ("answer", "knowledge", "organic", "document")
_FINAL = re.compile(
    r"(?:final answer|final verdict|verdict|answer)\W{0,6}(?:is\W{0,4})?((?:not\s+)?supported)\W*$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Lookup:
    """One query and what it found."""

    query: str
    evidence: tuple[Evidence, ...]

    @property
    def text(self) -> str:
        """The evidence as the judge is shown it: answer box, knowledge graph and results one after the other, without related questions."""
        ordered = [each for kind in _ORDER for each in self.evidence if each.kind == kind]
        return " ".join(shown for each in ordered if (shown := _shown(each))) or NOTHING_FOUND


@dataclass(frozen=True, slots=True)
class FactRating:
    """What became of one fact.

    Attributes:
        fact, sentence: As it was split off, and from where. revised: As it was judged.
        label: "unjudged" if the judge never said, or nothing could be looked up. lookups: The evidence it was judged on.
        steps: All exchanges about it. reason: Why it is unjudged.
    """

    fact: str
    sentence: str
    revised: str
    label: Label
    lookups: tuple[Lookup, ...] = ()
    steps: tuple[Step, ...] = ()
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether it is unjudged because a service did not answer."""
        return self.reason.startswith(_FAILED)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """All evidence, in the order it was found."""
        return tuple(each for lookup in self.lookups for each in lookup.evidence)

    def record(self) -> dict[str, Any]:
        """Return the rating as values that JSON has, without exchanges."""
        lookups = [
            {"query": each.query, "evidence": [_record(found) for found in each.evidence]} for each in self.lookups
        ]
        return {
            "fact": self.fact, "sentence": self.sentence, "revised": self.revised, "label": self.label, "lookups": lookups,
            **({"reason": self.reason} if self.reason else {}),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rated:
    """An answer with all its facts rated.

    Attributes:
        facts: In the order they stand in the answer. dropped: Facts that SAFE as published would have left out silently.
        splitting: Exchanges that split the answer. unsplit: Sentences that could not be split into facts.
    """

    facts: tuple[FactRating, ...]
    dropped: tuple[FactRating, ...] = ()
    splitting: tuple[Step, ...] = ()
    unsplit: tuple[str, ...] = ()

    @property
    def counts(self) -> FactCounts:
        """How many facts have which label."""
        found = Counter(each.label for each in self.facts)
        return FactCounts(found["supported"], found["not supported"], found["irrelevant"], found["unjudged"])

    @property
    def lost(self) -> int:
        """How many facts were dropped because a service did not answer, which the published code takes for a judge's doubt."""
        return sum(each.failed for each in self.dropped)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why facts were not judged, each reason once."""
        return tuple(dict.fromkeys(each.reason for each in (*self.facts, *self.dropped) if each.reason))

    @property
    def steps(self) -> tuple[Step, ...]:
        """All exchanges."""
        return (*self.splitting, *(step for each in (*self.facts, *self.dropped) for step in each.steps))

    @property
    def usage(self) -> Usage:
        """Tokens and calls of all exchanges."""
        return used(self.steps)

    @property
    def cost(self) -> float | None:
        """US dollars of all exchanges, None if the price of one is not known."""
        return paid(self.steps)


class Rating(Symbolic):
    """Look for evidence, then ask whether it supports the fact.

    As published, `queries` queries are made whatever they find; only a query that the judge never puts into a fenced block ends them.
    """

    query: str = field(default=QUERY, doc="asks for a query; [KNOWLEDGE] and [STATEMENT] are replaced")
    verdict: str = field(default=VERDICT, doc="asks for the verdict; [KNOWLEDGE] and [STATEMENT] are replaced")
    queries: int = field(default=5, ge=1, doc="queries for a fact (max_steps)")
    results: int = field(default=3, ge=1, doc="results asked for with each query (num_searches)")

    async def __call__(
        self, fact: str, search: Search, model: LanguageModel, sampling: Sampling, tries: int, official: bool = False
    ) -> tuple[Label, tuple[Lookup, ...], tuple[Step, ...], str]:
        """Return a fact's label, the evidence for it, all exchanges, and why it is unjudged if it is."""
        lookups: list[Lookup] = []
        steps: list[Step] = []
        for _ in range(self.queries):
            prompt = filled(self.query, {"STATEMENT": fact, "KNOWLEDGE": knowledge(lookups) or "N/A"})
            query, asked = await verdict("query", model, prompt, first_fenced, sampling, tries)
            steps += asked
            if query is None:
                break
            try:
                lookups.append(Lookup(query, tuple(await search(query, self.results))))
            except ConnectionError as error:
                return "unjudged", tuple(lookups), tuple(steps), f"nothing could be looked up: {error}"
        # The published code says N/A to those who ask for queries only.
        shown = knowledge(lookups) or ("" if official else "N/A")
        prompt = filled(self.verdict, {"STATEMENT": fact, "KNOWLEDGE": shown})

        def read(text: str) -> Label | None:
            return read_verdict(text, official=official)

        label, asked = await verdict("verdict", model, prompt, read, sampling, tries)
        reason = "" if label else unjudged(asked)
        return label or "unjudged", tuple(lookups), (*steps, *asked), reason


def knowledge(lookups: Sequence[Lookup]) -> str:
    """Return what lookups found, one in each line."""
    return "\n".join(each.text for each in lookups)


def read_verdict(text: str, *, official: bool = False) -> Label | None:
    """Return the verdict that a judge gives, None if it gives none.

    The last brackets that say Supported or Not Supported count, see `decided`, so that a citation such as [1] is none; without a verdict
    in brackets, a last line that ends with "final answer: ...", or says nothing else. With `official`, the first
    brackets must say exactly one of the two, once all but letters, digits and white space is taken out.
    """
    if official:
        first = next(iter(bracketed(text)), "")
        said = re.sub(r"[^\w\s]", "", first).strip()
        return {"Supported": "supported", "Not Supported": "not supported"}.get(said)  # pyright: ignore
    supported = decided(text, "supported")
    if supported is None:
        last = text.strip().rpartition("\n")[2]
        final = _FINAL.search(last)
        supported = sided(final[1] if final else last, "supported")
    return None if supported is None else "supported" if supported else "not supported"


def _shown(evidence: Evidence) -> str:
    """Return a piece of evidence as SAFE shows it; a document says what it is about, a result of a page is its text alone."""
    if evidence.kind != "document":
        return evidence.line or evidence.text
    text = evidence.text.replace("\n", " ")
    return f"{evidence.title}: {text}" if evidence.title and text else text


def _record(evidence: Evidence) -> dict[str, str]:
    named = {key: getattr(evidence, key) for key in ("kind", "title", "url", "date", "highlight", "line", "text")}
    return {key: value for key, value in named.items() if value}
