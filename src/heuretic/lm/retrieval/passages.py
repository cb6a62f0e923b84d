"""The user's own files as passages of bounded length."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from heuretic.data.files import sha256
from heuretic.lm.retrieval.evidence import Evidence

TEXTS = (".txt", ".md", ".rst")
TABLES = (".jsonl", ".csv")
_TEXT_COLUMNS = ("text", "body", "content", "passage")


def files_of(paths: Sequence[str | Path]) -> tuple[Path, ...]:
    """Return the files among paths and, at any depth, in folders among them, in alphabetical order.

    Raises: FileNotFoundError for a path that is not there; ValueError if no file has a known ending.
    """
    found: dict[Path, None] = {}
    for given in map(Path, paths):
        if not given.exists():
            raise FileNotFoundError(f"path must be a file or a folder, got {given}, which is not there")
        inside = sorted(given.rglob("*")) if given.is_dir() else [given]
        found.update({path: None for path in inside if path.is_file() and path.suffix.lower() in TEXTS + TABLES})
    if not found:
        raise ValueError(
            f"paths must have files ending in {', '.join(TEXTS + TABLES)}, got none in {', '.join(map(str, paths))}"
        )
    return tuple(found)


def checksums_of(files: Sequence[Path]) -> tuple[str, ...]:
    """Return the sha256 of each file."""
    return tuple(sha256(path) for path in files)


def passages(files: Sequence[Path], words: int = 180) -> Iterator[Evidence]:
    """Yield passages of at most `words` words: whole paragraphs and sentences where they fit.

    Text files are titled by their first heading or their name. Tables have a column `text` (or body, content, passage), and may
    have `title`, `url` and `date`.

    Raises: ValueError for a record without text, with file and row.
    """
    for path in files:
        if path.suffix.lower() in TABLES:
            for row, record in enumerate(_records(path)):
                text = next((str(record[name]) for name in _TEXT_COLUMNS if record.get(name)), "")
                if not text.strip():
                    raise ValueError(
                        f"record must have one of {', '.join(_TEXT_COLUMNS)}, got {sorted(record)} at {path}, row {row}"
                    )
                title, url, date = (str(record.get(name) or "") for name in ("title", "url", "date"))
                for part in _parts(text, words):
                    yield Evidence(part, title, url, date)
        else:
            text = path.read_text(encoding="utf-8", errors="replace")
            heading = re.search(r"^#+\s+(.+)$", text, re.MULTILINE) if path.suffix == ".md" else None
            for part in _parts(text, words):
                yield Evidence(part, heading[1].strip() if heading else path.stem, str(path))


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix.lower() == ".csv":
            try:
                yield from csv.DictReader(file, strict=True)
            except csv.Error as error:
                raise ValueError(f"{path} must be CSV with balanced quotes, got: {error}") from error
            return
        for row, line in enumerate(file):
            if line.strip():
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise ValueError(f"record must be JSON, got {line[:60]!r} at {path}, row {row}: {error}") from error
                if not isinstance(record, dict):
                    raise ValueError(f"record must be an object, got {line[:60]!r} at {path}, row {row}")
                yield record


def _parts(text: str, words: int) -> Iterator[str]:
    held: list[str] = []
    length = 0
    for piece in _pieces(text, words):
        count = len(piece.split())
        if held and length + count > words:
            yield "\n".join(held)
            held, length = [], 0
        held.append(piece)
        length += count
    if held:
        yield "\n".join(held)


def _pieces(text: str, words: int) -> Iterator[str]:
    """Yield paragraphs; of those that are too long, sentences; of those, runs of words."""
    for paragraph in re.split(r"\n\s*\n", text):
        paragraph = " ".join(paragraph.split())
        if not paragraph:
            continue
        if len(paragraph.split()) <= words:
            yield paragraph
            continue
        for sentence in re.split(r"(?<=[.!?])\s+", paragraph):
            run = sentence.split()
            for first in range(0, len(run), words):
                yield " ".join(run[first : first + words])
