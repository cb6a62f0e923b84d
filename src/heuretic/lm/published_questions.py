"""Where the files of question sets are published, and their records in one form, whichever file they come in."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from heuretic.data.files import File
from heuretic.data.records import Records, unreadable
from heuretic.data.tables import json_rows

_HOST = "https://raw.githubusercontent.com"
_OPRO = f"{_HOST}/google-deepmind/opro/e81b2f573ce4e15755c70c2535279d6fb940b4b7/data"
_SCAN = f"{_HOST}/brendenlake/SCAN/c4b756cbc010d75c912f16c42c8f15dc6b7e6c8f"
_ADDRESSES = {
    "aqua": f"{_HOST}/google-deepmind/AQuA/26b64ed1f22208c6742f47df547dfd65088ec30d",
    "bbh": f"{_HOST}/suzgunmirac/BIG-Bench-Hard/9ee07bd481feebf959a6b59d61ea57bdcf30964d/bbh",
    "gsm8k": f"{_HOST}/openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data",
    "mmlu_test": f"{_OPRO}/MMLU-data/test",
    "multiarith": f"{_OPRO}/MultiArith-data",
}
"""Folders of the files, by the folder that they are in here."""


@lru_cache(maxsize=1)
def _checksums() -> dict[str, str]:
    """Return the sha256 of the published files by place, in their published order."""
    lines = files("heuretic.lm").joinpath("published_questions.sha256").read_text("ascii").splitlines()
    return {place: checksum for checksum, place in (line.split() for line in lines)}


def published(family: str, part: str, which: str) -> list[File]:
    """Return the published files of a set, or of that part of it: one for each task of bbh and for each subject of mmlu.

    Raises: ValueError if there is no such subject.
    """
    folder = "mmlu_test" if family == "mmlu" else family
    name = {
        "aqua": f"{part}.json", "bbh": f"{which}.json", "gsm8k": f"{part}.jsonl", "mmlu": f"{which}_test.csv",
        "multiarith": "multiarith.json", "scan": f"{which}_{part}.txt",
    }[family]  # fmt: skip
    places = [place for place in _checksums() if place.startswith(f"{folder}/")]
    if which or family not in ("bbh", "mmlu"):
        found = [place for place in places if place == f"{folder}/{name}"]
        if not found:
            known = ", ".join(Path(place).stem.removesuffix("_test") for place in places)
            raise ValueError(f"{'subject' if family == 'mmlu' else 'part'} must be one of {known}, got {which!r}")
        places = found
    return [File(place, (_address(place),), _checksums()[place]) for place in places]


def _address(place: str) -> str:
    folder, _, name = place.partition("/")
    if folder == "scan":
        split, _, part = name.removesuffix(".txt").rpartition("_")
        return f"{_SCAN}/{'add_prim' if split == 'addprim_jump' else split}_split/tasks_{part}_{split}.txt"
    return f"{_ADDRESSES[folder]}/{'MultiArith.json' if folder == 'multiarith' else name}"


def records_of(path: Path, records: Records, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield row and record of a file: those with all columns, a text in the first and as task and subject, and an index that is new.

    JSON lines (gzipped or not) are what they are; a file of BIG-Bench Hard gives `input`, `target` and `task`; one of MMLU, which
    has no header, `question`, `choices`, `answer`, `subject` and `index`; MultiArith's `question`, `answer`, `equations` and `index`.

    Raises: ValueError for a file or a record that cannot be read; `records` may leave the latter out.
    """
    if path.suffix == ".csv":
        rows = _subject(path, records)
    elif path.parent.name == "bbh" and path.suffix == ".json":
        rows = ((row, {"task": path.stem, **record}) for row, record in examples(path, records))
    elif path.name == "multiarith.json":
        rows = _problems(path, records)
    else:
        rows = json_rows(path, records, columns)
    seen: dict[Any, int] = {}
    for row, record in rows:
        asked = record[columns[0]]
        if not isinstance(asked, str) or not asked.strip():
            records.refuse(path, row, f"{columns[0]} must be a text", repr(asked))
            continue
        index = record.get("index")
        strange = [name for name in ("task", "subject") if name in record and not isinstance(record[name], str)]
        if strange or isinstance(index, bool) or not isinstance(index, str | int | None):
            name = strange[0] if strange else "index"
            records.refuse(
                path, row, f"{name} must be a {'text' if strange else 'whole number or text'}", repr(record[name])
            )
            continue
        named = (record.get("subject"), index)
        if index is not None and named in seen:
            records.refuse(path, row, "index must be new", f"{index!r}, which row {seen[named]} has too")
            continue
        seen[named] = row
        yield row, record


def examples(path: Path, records: Records) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield row and record of a file of BIG-Bench's: a JSON object with `examples`, each with a text as `input` and a `target`.

    Raises: ValueError as `records_of` does.
    """
    for row, record in enumerate(_listed(path, "examples")):
        if isinstance(record, dict) and isinstance(record.get("input"), str) and record.get("target") is not None:
            yield row, record
        else:
            got = sorted(record) if isinstance(record, dict) else record
            records.refuse(path, row, "record must have input and target", got)


def _problems(path: Path, records: Records) -> Iterator[tuple[int, dict[str, Any]]]:
    for row, record in enumerate(_listed(path)):
        try:
            [answer] = record["lSolutions"]
            found = {"question": record["sQuestion"], "answer": answer, "equations": record["lEquations"]}
        except (KeyError, TypeError, ValueError):
            got = sorted(record) if isinstance(record, dict) else record
            records.refuse(path, row, "problem must have sQuestion, lEquations, and one of lSolutions", got)
            continue
        yield row, {**found, "index": record.get("iIndex", row)}


def _subject(path: Path, records: Records) -> Iterator[tuple[int, dict[str, Any]]]:
    subject = path.stem.removesuffix("_test")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row, cells in enumerate(csv.reader(file, strict=True)):
                if len(cells) < 4:
                    records.refuse(path, row, "row must have a question, its choices and a letter", cells)
                    continue
                question, *choices, answer = cells
                about = {"subject": subject, "index": row}
                yield row, {"question": question, "choices": choices, "answer": answer.strip(), **about}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, "CSV with balanced quotes", error) from error


def _listed(path: Path, key: str = "") -> list[Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
        found = found[key] if key else found
        if not isinstance(found, list):
            raise ValueError(f"{type(found).__name__} instead of a list")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise unreadable(path, f"JSON with {key or 'a list'}", error) from error
    return found


def lines(path: Path, rule: str) -> Iterator[str]:
    """Yield the lines of a file, gzipped or not, that are not empty. Raises: ValueError, with the rule, if it is no text."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            yield from (str(line).rstrip("\n") for line in file if line.strip())
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise unreadable(path, f"{rule}{', gzipped' * (opened is gzip.open)}", error) from error
