"""Facts of biographies that people labelled: supported by Wikipedia, not supported, or irrelevant.

Min et al. 2023, arXiv:2305.14251 (FActScore): three models wrote about the same persons; MIT licence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heuretic.data.files import File, find, sha256
from heuretic.data.records import Corrupt, Records
from heuretic.data.tables import json_rows
from heuretic.evals.safe.rating import Label

_PUBLISHED = (
    "https://raw.githubusercontent.com/google-deepmind/long-form-factuality/9d27158d198ced0a9d8271a80147cae580614601"
    "/third_party/factscore/labeled_data"
)
_CHECKSUMS = {
    "ChatGPT": "b58fe7113acc28dee8d3e6ee7e426bfdedaa293bba270f0977f568b9319e92d4",
    "InstructGPT": "4ec1fa538a9f99606130c76db63d4af7f203ca460954a3edd7c4d0e385cd2d58",
    "PerplexityAI": "81ada151f2de8b7c205e3c15491e54b92d89bfb37b05366dca8b7a0486f109ff",
}
WRITERS: tuple[str, ...] = tuple(_CHECKSUMS)
HUMAN: Mapping[str, Label] = {"S": "supported", "NS": "not supported", "IR": "irrelevant"}


@dataclass(frozen=True, slots=True)
class Context:
    """What a rater may know of a fact beside the fact and its topic.

    Attributes:
        sentence, response: Where the fact is from. question: What the response answers. writer: Who wrote it.
        others: What others wrote about the same topic, by writer; empty texts are left out.
    """

    sentence: str = ""
    response: str = ""
    question: str = ""
    writer: str = ""
    others: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HumanFact:
    """One fact with the label that people gave it; `topic` is the person that the biography is about."""

    fact: str
    topic: str
    label: Label
    context: Context


@dataclass(frozen=True, slots=True)
class HumanLabels:
    """All labelled facts.

    Attributes:
        facts: In the order of the files. checksum: sha256 of the files together. unlabelled: Biographies without labels, by writer: the
            model said that it knew nothing, or people left it out. notes: Records that were left out.
    """

    facts: tuple[HumanFact, ...]
    checksum: str
    unlabelled: Mapping[str, int]
    notes: tuple[str, ...] = ()

    @property
    def topics(self) -> tuple[str, ...]:
        """All persons with a labelled fact, in the order of the files."""
        return tuple(dict.fromkeys(each.topic for each in self.facts))


def human_labels(folder: str | Path | None = None, *, corrupt: Corrupt = "raise") -> HumanLabels:
    """Return the labelled facts of the three models.

    Args:
        folder: With `ChatGPT.jsonl.gz`, `InstructGPT.jsonl.gz` and `PerplexityAI.jsonl.gz`; by default
            `$HEURETIC_DATA/factscore_labels`, else the published files of 183 persons, downloaded. corrupt: Raise for a record that cannot be read, or "skip" it.
    Raises: FileNotFoundError if a file is not there; ValueError for a file or record that cannot be read, a person who occurs twice in a
        file, or if there is no labelled fact.
    """
    found = {writer: _found(folder, writer) for writer in WRITERS}
    records = Records(corrupt)
    read = {writer: {row["topic"]: row for row in _records(path, records)} for writer, (path, _) in found.items()}
    facts: list[HumanFact] = []
    unlabelled = dict.fromkeys(WRITERS, 0)
    for writer, rows in read.items():
        for topic, row in rows.items():
            others = {
                other: read[other][topic]["output"]
                for other in WRITERS
                if other != writer and topic in read[other] and read[other][topic]["output"].strip()
            }
            labelled = list(_labelled(row, writer, others))
            unlabelled[writer] += not labelled
            facts += labelled
    if not facts:
        raise ValueError(f"human labels must have at least one fact, got none at {found[WRITERS[0]][0].parent}")
    digest = hashlib.sha256("".join(f"{each}\n" for _, each in found.values()).encode()).hexdigest()
    notes = tuple(f"{name}, row {row}: {reason}" for name, row, reason in records.bad)
    return HumanLabels(tuple(facts), digest, unlabelled, notes)


def _found(folder: str | Path | None, writer: str) -> tuple[Path, str]:
    if folder is None:
        own, published = f"factscore_labels/{writer}.jsonl.gz", f"factscore_labels/{writer}.jsonl"
        address = (f"{_PUBLISHED}/{writer}.jsonl",)
        _, files = find("human labels", [[File(own)], [File(published, address, _CHECKSUMS[writer])]])
        return files.paths[0], files.checksum
    path = Path(folder) / f"{writer}.jsonl.gz"
    if not path.is_file():
        raise FileNotFoundError(f"folder must have {path.name}, got {folder}, where it is not")
    return path, sha256(path)


def _labelled(row: Mapping[str, Any], writer: str, others: Mapping[str, str]) -> Iterator[HumanFact]:
    for part in row["annotations"] or ():
        context = Context(part["text"], row["output"], row.get("input") or "", writer, others)
        for fact in part.get("human-atomic-facts") or ():
            yield HumanFact(fact["text"].strip(), row["topic"], HUMAN[fact["label"]], context)


def _records(path: Path, records: Records) -> Iterator[dict[str, Any]]:
    seen: dict[str, int] = {}
    for row, record in json_rows(path, records):
        wrong = _wrong(record)
        if wrong:
            records.refuse(path, row, *wrong)
        elif record["topic"] in seen:
            records.refuse(
                path, row, "topic must be new", f"{record['topic']!r}, which row {seen[record['topic']]} has too"
            )
        else:
            seen[record["topic"]] = row
            yield record


def _wrong(record: Mapping[str, Any]) -> tuple[str, object] | None:
    """Return the rule that a record breaks and what it has instead, None if it breaks none."""
    texts = [record.get(name) for name in ("topic", "output")]
    if not all(isinstance(text, str) for text in texts) or not str(texts[0]).strip():
        return "record must have texts as topic and output", sorted(record)
    if "annotations" not in record or not isinstance(record["annotations"], list | None):
        return "annotations must be a list or null", repr(record.get("annotations", "nothing"))[:60]
    for part in record["annotations"] or ():
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            return "each annotation must have a text", repr(part)[:60]
        facts = part.get("human-atomic-facts")
        if not isinstance(facts, list | None):
            return "human-atomic-facts must be a list or null", repr(facts)[:60]
        for fact in facts or ():
            if not isinstance(fact, dict) or not isinstance(fact.get("text"), str) or fact.get("label") not in HUMAN:
                return f"each fact must have a text and one of the labels {', '.join(HUMAN)}", repr(fact)[:80]
    return None
