"""Splitting an answer into atomic facts, each a sentence that says one thing.

Min et al. 2023, arXiv:2305.14251 (FActScore), as Wei et al. 2024, arXiv:2403.18802, use it in SAFE.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from heuretic.evals.judging import verdict
from heuretic.evals.safe.sentences import sentences_of
from heuretic.lm import LanguageModel, Sampling
from heuretic.lm.answer import Step
from heuretic.symbolic import Symbolic, field, replace

INSTRUCTIONS = """\
Instructions:
1. You are given a sentence. Your task is to break the sentence down into a list of atomic facts.
2. An atomic fact is a sentence containing a singular piece of information.
3. Each atomic fact in the outputted list should check a different piece of information.
4. Use the previous examples to learn how to do this.
5. You should only output the atomic facts as a list, with each item starting with "- ". Do not include other formatting.
6. Your task is to do this for the last sentence that is given.
"""
ASK = "Please breakdown the following sentence into independent facts: [SENTENCE]\n"
_OFFICIAL_TEMPERATURE = 0.1
_HANGING = ("born.", " appointed.", " characterized.", " described.", " known.", " member.", " advocate.", "served.", "elected.")  # fmt: skip
_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATE = re.compile(
    rf"\b(?:(?:{_MONTH}) \d{{1,2}}(?:,? \d{{4}})?|\d{{1,2}} (?:{_MONTH})(?:,? \d{{4}})?|(?:{_MONTH}),? \d{{4}}"
    rf"|(?!May\b)(?:{_MONTH}))\b"
)
_NUMBER = re.compile(r"\b\d+(?:,\d{3})*\b")
_BULLET = re.compile(r"^[ \t]*(?:[-*•–]|\d{1,3}[.)])[ \t]+(.*\S)[ \t\r]*$", re.MULTILINE)
_MARKS = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")


class Demonstration(Symbolic):
    """A sentence with its atomic facts, to be shown before the real one."""

    sentence: str = field(doc="the whole sentence")
    facts: tuple[str, ...] = field(doc="what it says, one thing at a time")


@lru_cache(maxsize=1)
def factscore_demonstrations() -> tuple[Demonstration, ...]:
    """Return the 21 of FActScore for biographies; MIT licence, Copyright (c) 2023 Sewon Min, whose text is in the file."""
    text = files("heuretic.evals.safe").joinpath("factscore_demonstrations.json").read_text(encoding="utf-8")
    return tuple(Demonstration(each["sentence"], tuple(each["facts"])) for each in json.loads(text)["demonstrations"])


@dataclass(frozen=True, slots=True)
class SentenceFacts:
    """A sentence of an answer with its facts, none if it was passed over or says nothing."""

    sentence: str
    facts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """What an answer was split into.

    Attributes:
        sentences: In order. steps: All exchanges. unsplit: Sentences of which nobody knows whether they have facts, because every
            reply failed, was empty or was cut off. A reply in words without a list means that there are none.
    """

    sentences: tuple[SentenceFacts, ...]
    steps: tuple[Step, ...] = ()
    unsplit: tuple[str, ...] = ()

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """Each fact with its sentence."""
        return tuple((fact, each.sentence) for each in self.sentences for fact in each.facts)


class FactSplitter(Symbolic):
    """Split into paragraphs and sentences, then ask a model for the facts of each sentence.

    The prompt shows the first `shown` demonstrations and the `nearest` most similar to the sentence by BM25, which may be one of the
    first again. Sentences that begin with "Sure" or "Please", or an answer's first with "Here are", have no facts.

    Departure: what is lost to the published post-processing without spaCy's entities is in `tidied`. With `official`, replies are cut at
    every "- " as published, also inside a line, a reply without list is not asked for again, and replies are drawn at
    temperature 0.1: the published code asks for 0, which it then takes for "not given".
    """

    demonstrations: tuple[Demonstration, ...] = field(
        default=factscore_demonstrations(), doc="sentences with their facts"
    )
    shown: int = field(default=7, ge=0, doc="so many of the first ones are in every prompt")
    nearest: int = field(default=1, ge=0, doc="so many of those most similar to the sentence follow")
    instructions: str = field(default=INSTRUCTIONS, doc="comes first")
    ask: str = field(default=ASK, doc="comes before each list; [SENTENCE] is replaced")
    sampling: Sampling = field(default=Sampling(max_tokens=512), doc="how lists are drawn")
    tries: int = field(default=3, ge=1, doc="asked so often at most until there is a list")
    official: bool = field(default=False, doc="read and draw as the published code does")

    async def __call__(self, response: str, model: LanguageModel) -> Split:
        """Return the facts of an answer; its sentences are asked about at the same time."""
        sentences = [sentence for paragraph in sentences_of(response) for sentence in paragraph]
        asked = dict.fromkeys(each for k, each in enumerate(sentences) if not passed_over(each, k == 0))
        found = dict(
            zip(asked, await asyncio.gather(*(self._facts(sentence, model) for sentence in asked)), strict=True)
        )
        result = tuple(
            SentenceFacts(each, () if passed_over(each, k == 0) else tidied(each, found[each][0] or ()))
            for k, each in enumerate(sentences)
        )
        steps = tuple(step for _, steps in found.values() for step in steps)
        return Split(result, steps, tuple(sentence for sentence, (facts, _) in found.items() if facts is None))

    async def _facts(self, sentence: str, model: LanguageModel) -> tuple[tuple[str, ...] | None, tuple[Step, ...]]:
        """Return the facts of a sentence as they were listed, none if replies in words have no list, None without any whole reply."""
        sampling = replace(self.sampling, temperature=_OFFICIAL_TEMPERATURE) if self.official else self.sampling

        def read(text: str) -> tuple[str, ...] | None:
            return listed(text, official=self.official) or None

        tries = 1 if self.official else self.tries
        found, steps = await verdict("facts", model, self.prompt(sentence), read, sampling, tries)
        told = any(
            reply.outcome in ("answered", "refused") and reply.text.strip() for step in steps for reply in step.replies
        )
        return (() if found is None and told else found), steps

    def prompt(self, sentence: str) -> str:
        """Return what the model is asked about a sentence."""
        near = nearest(sentence, [each.sentence for each in self.demonstrations], self.nearest)
        shown = [*self.demonstrations[: self.shown], *(self.demonstrations[k] for k in near)]
        lists = [
            self.ask.replace("[SENTENCE]", each.sentence) + "".join(f"- {fact}\n" for fact in each.facts) + "\n"
            for each in shown
        ]
        return self.instructions + "".join(lists) + self.ask.replace("[SENTENCE]", sentence)


def passed_over(sentence: str, first: bool) -> bool:
    """Return whether a sentence is about the answer itself, and so has no facts."""
    starts = ("Sure", "Please", "This sentence does not contain any facts", *(("Here are",) if first else ()))
    return sentence.startswith(starts)


def listed(text: str, *, official: bool = False) -> tuple[str, ...]:
    """Return the items of a list that a model wrote; the last one gets a final full stop.

    Items are lines that begin with "-", "*" or a number of at most three digits (a year begins a sentence), without bold type. With `official`, an item begins at any "- " (if there is none, at any
    "* ") and ends with its line.
    """
    if official:
        parts = text.split("- ")[1:] or text.split("* ")[1:]
        items = [part.partition("\n")[0].strip() for part in parts]
    else:
        items = [_MARKS.sub(r"\2", item).removeprefix("**") for item in _BULLET.findall(text)]
    items = [item for item in items if item]
    if items and not items[-1].endswith("."):
        items[-1] += "."
    return tuple(items)


def tidied(sentence: str, facts: Sequence[str]) -> tuple[str, ...]:
    """Return facts without those that say nothing, repeat another, or have a number or date that the sentence has not.

    A fact that ends where its object should come ("He was born.") goes if another one goes on. A number or date that only begins one of the
    sentence's becomes that one. If the facts kept do not have all numbers and dates of the sentence, all facts stay as they
    were. Departure: dates and numbers are found by patterns, where the published code takes spaCy's entities; a month alone
    counts as a date except May.
    """
    wanted = dates_and_numbers(sentence)
    covered: set[str] = set()
    kept: list[str] = []
    for k, fact in enumerate(facts):
        hanging = fact.endswith(_HANGING) and not fact.endswith("founding member.")
        if hanging and any(fact[:-1] in other for j, other in enumerate(facts) if j != k):
            continue
        found = dates_and_numbers(fact)
        covered |= found & wanted
        whole = {new: next((old for old in sorted(wanted) if old.startswith(new)), None) for new in found - wanted}
        if None in whole.values():
            continue
        for new, old in whole.items():
            fact = fact.replace(new, old or new)
            covered.add(old or new)
        if fact not in kept:
            kept.append(fact)
    return tuple(kept) if covered == wanted else tuple(facts)


def dates_and_numbers(text: str) -> set[str]:
    """Return the dates of a text, such as "October 31, 1930", and the numbers that are in none of them."""
    found = set(_DATE.findall(text))
    return found | {number for number in _NUMBER.findall(text) if not any(number in date for date in found)}


def nearest(query: str, documents: Sequence[str], count: int) -> list[int]:
    """Return the places of the documents most similar to a query by BM25, the best first, of equals the last first.

    Words are what spaces part, k1 is 1.5, b is 0.75, and a negative weight of a word is a quarter of the mean weight: rank_bm25's
    `BM25Okapi`, which FActScore uses (Robertson and Zaragoza 2009).
    """
    if not documents or count < 1:
        return []
    counts = [Counter(document.split(" ")) for document in documents]
    lengths = [sum(each.values()) for each in counts]
    mean = sum(lengths) / len(lengths)
    having = Counter(word for each in counts for word in each)
    weights = {word: math.log(len(documents) - n + 0.5) - math.log(n + 0.5) for word, n in having.items()}
    floor = 0.25 * sum(weights.values()) / len(weights)
    scores = [
        sum(
            (weight if (weight := weights[word]) >= 0 else floor)
            * each[word] * 2.5 / (each[word] + 1.5 * (0.25 + 0.75 * length / mean))
            for word in query.split(" ") if word in each
        )
        for each, length in zip(counts, lengths, strict=True)
    ]  # fmt: skip
    return sorted(range(len(documents)), key=lambda k: (scores[k], k), reverse=True)[:count]
