"""Questions with what is known about them, and the files they come in."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspect_ai.model import Content


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


def read_questions(file: str | Path) -> list[Question]:
    """Return the questions of a file, one in each record of JSON lines (.jsonl) or CSV (.csv).

    Records have `question` (or `input`), and may have `answer` (or `target`), `choices` (a list) and `id`; all else is kept
    in `about`.

    Raises: FileNotFoundError if there is no such file; ValueError for a record that cannot be read, with its line.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"questions must be in a file, got {path}, which is not there")
    with path.open(encoding="utf-8", newline="") as lines:
        if path.suffix == ".csv":
            table = csv.DictReader(lines, strict=True)
            try:
                records = [(table.line_num, dict(row)) for row in table]
            except csv.Error as error:
                raise ValueError(f"{path} line {table.line_num}: {error}") from error
        else:
            records = [(k, _json(line, path, k)) for k, line in enumerate(lines, 1) if line.strip()]
    questions = [_question(record, f"{path} line {k}", k) for k, record in records]
    if not questions:
        raise ValueError(f"{path} must have at least one question, got none")
    return questions


def _json(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{path} line {number} must be JSON, got {line[:60]!r}: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path} line {number} must be an object, got {line[:60]!r}")
    return record


def _question(record: dict[str, Any], where: str, number: int) -> Question:
    rest = dict(record)
    text = rest.pop("question", None) or rest.pop("input", None)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where} must have a text as `question`, got {sorted(record)}")
    target = rest.pop("answer", None)
    if target is None:
        target = rest.pop("target", None)
    choices = rest.pop("choices", None) or ()
    if isinstance(choices, str):
        choices = json.loads(choices)
    return Question(
        text,
        tuple(map(str, target)) if isinstance(target, list) else None if target is None else str(target),
        tuple(map(str, choices)),
        str(rest.pop("id", number)),
        about=rest,
    )
