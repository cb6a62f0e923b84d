"""Questions with what is known about them, and the files they come in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspect_ai.model import Content

from heuretic.data.records import Corrupt, Records
from heuretic.data.tables import csv_rows, json_rows


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        text: What is asked. target: The right answer, if it is known; several if any of them is right.
        choices: The options of a multiple-choice question, without letters.
        id: Names it among others. parts: Images, sounds and films that belong to it (`ContentImage`, ...).
        about: Anything else, such as its category.
    """

    text: str
    target: str | tuple[str, ...] | None = None
    choices: tuple[str, ...] = ()
    id: str = ""
    parts: tuple[Content, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)


def read_questions(file: str | Path, *, corrupt: Corrupt = "raise") -> list[Question]:
    """Return the questions of a file, one in each record of JSON lines (.jsonl) or CSV (.csv).

    Both may be gzipped (.gz). Records have `question` (or `input`), and may have `answer` (or `target`), `choices` (a list) and
    `id`; all else is kept in `about`.

    Args: corrupt: Raise for a record that cannot be read, or "skip" it.
    Raises: FileNotFoundError if there is no such file; ValueError for a record that cannot be read or has another's id.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"questions must be in a file, got {path}, which is not there")
    records = Records(corrupt)
    rows = csv_rows(path, records, ()) if ".csv" in path.suffixes else json_rows(path, records)
    found: dict[str, Question] = {}
    for row, record in rows:
        question = _question(path, records, row, record)
        if question is not None and question.id in found:
            records.refuse(path, row, "id must be new", repr(question.id))
        elif question is not None:
            found[question.id] = question
    if not found:
        raise ValueError(f"{path} must have at least one question, got none")
    return list(found.values())


def _question(path: Path, records: Records, row: int, record: dict[str, Any]) -> Question | None:
    rest = dict(record)
    text = rest.pop("question", None) or rest.pop("input", None)
    if not isinstance(text, str) or not text.strip():
        records.refuse(path, row, "record must have a text as question (or input)", sorted(record))
        return None
    target = rest.pop("answer", None)
    if target is None:
        target = rest.pop("target", None)
    choices = rest.pop("choices", None) or ()
    if isinstance(choices, str):
        try:
            choices = json.loads(choices)
        except ValueError:
            choices = None
    if not isinstance(choices, list | tuple):
        records.refuse(path, row, 'choices must be a list, such as ["a", "b"]', repr(record["choices"]))
        return None
    said = [str(each) for each in (target if isinstance(target, list) else [target]) if each not in (None, "")]
    right = tuple(said) if isinstance(target, list) and said else said[0] if said else None
    return Question(text, right, tuple(map(str, choices)), str(rest.pop("id", row + 1)), about=rest)
