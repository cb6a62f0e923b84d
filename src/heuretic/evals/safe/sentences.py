"""Sentences of a text, put together again where a splitter breaks names and short remarks apart.

Min et al. 2023, arXiv:2305.14251, whose code splits with NLTK's punkt. Departure: a few rules stand in for punkt, which needs a
trained file: a sentence ends at `.`, `!` or `?` before white space and a capital letter, digit or opening quote, unless the stop
belongs to an initial or to one of the common abbreviations.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s+[\"'“‘(\[]*[A-ZÀ-ÖØ-Þ0-9])")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“‘\[])(?:[A-Z]|(?:[A-Za-z]\.)+[A-Za-z]|Mr|Mrs|Ms|Messrs|Dr|Prof|Rev|Hon|Gen|Col|Maj|Capt|Lt|Sgt|Cpl|Adm|Cmdr|Gov|Sen|Rep|"
    r"Pres|St|Ste|Mt|Ft|Sr|Jr|vs|etc|cf|ca|approx|est|al|Inc|Ltd|Co|Corp|Bros|Dept|Univ|Assn|Ave|Blvd|Rd|No|Nos|Vol|vol|pp|p|ed|eds|Op|op|"
    r"Fig|fig|Eq|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec|b|d|c|r|fl)$"
)
_MAY_END = re.compile(r"(?:Inc|Ltd|Co|Corp|etc|al|Jr|Sr|U\.S|U\.K|a\.m|p\.m|D\.C|Ph\.D|M\.D|B\.A|M\.A|B\.C|A\.D)$")
"""Abbreviations that often stand last in a sentence: what comes after them decides."""
_STARTERS = frozenset(
    [
        "A",
        "After",
        "Although",
        "As",
        "At",
        "Before",
        "Both",
        "But",
        "By",
        "Currently",
        "During",
        "For",
        "From",
        "He",
        "Her",
        "His",
        "However",
        "If",
        "In",
        "It",
        "Its",
        "Later",
        "Many",
        "Most",
        "On",
        "Other",
        "She",
        "Since",
        "Some",
        "That",
        "The",
        "Their",
        "There",
        "These",
        "They",
        "This",
        "Those",
        "Though",
        "Throughout",
        "Today",
        "When",
        "While",
        "With",
    ]
)
_INITIALS = re.compile(r"[A-Z]\. ?[A-Z]\.")


def sentences_of(text: str) -> list[list[str]]:
    """Return the sentences of each paragraph (line that is not empty), with `merged` applied."""
    paragraphs = [line.strip() for line in text.split("\n") if line.strip()]
    return [merged(split_sentences(line), _INITIALS.findall(line)) for line in paragraphs]


def split_sentences(paragraph: str) -> list[str]:
    """Return the sentences of one paragraph as they stand there, without the white space between them."""
    found, start = [], 0
    for end in _END.finditer(paragraph):
        before, after = paragraph[start : end.start()], paragraph[end.end() :].lstrip()
        if end[0].startswith(".") and not _ends(before, end[0], after):
            continue
        found.append(paragraph[start : end.end()].strip())
        start = end.end()
    found.append(paragraph[start:].strip())
    return [sentence for sentence in found if sentence]


def _ends(before: str, stop: str, after: str) -> bool:
    """Return whether a full stop between two texts ends a sentence."""
    if len(stop.rstrip("\"'”’)]")) > 1 or not _ABBREVIATION.search(before):
        return True
    word = re.match(r"[\"'“‘(\[]*(\w+)", after)
    return bool(_MAY_END.search(before) and word and word[1] in _STARTERS)


def merged(sentences: Sequence[str], initials: Sequence[str] = ()) -> list[str]:
    """Return sentences of which those are one again that a splitter should not have parted.

    These are: two halves of initials of the paragraph ("J. R."), a sentence of one word and the one before it (the first and
    the one after it), a sentence that begins with a small letter and the one before it.
    """
    kept = list(sentences)
    for pair in initials:
        if any(pair in sentence for sentence in kept):
            continue
        first, second = (letter.strip() for letter in pair.split(".")[:2])
        for k in range(len(kept) - 1):
            if kept[k].endswith(f"{first}.") and kept[k + 1].startswith(f"{second}."):
                kept[k : k + 2] = [f"{kept[k]} {kept[k + 1]}"]
                break
    result: list[str] = []
    wants_next = False
    for sentence in kept:
        short = len(sentence.split()) <= 1
        if result and (short or wants_next or (sentence[0].isalpha() and not sentence[0].isupper())):
            result[-1] += f" {sentence}"
            wants_next = wants_next and short
        else:
            wants_next = short
            result.append(sentence)
    return result
