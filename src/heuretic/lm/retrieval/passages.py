"""Passages of the user's own files, and where they are kept with what was computed for them.

Files are text (.txt, .md, .rst), JSON lines (.jsonl) or tables (.csv, with a header). Records have their text under one of `TEXT`, and may
have a title, an address and a date under one of `TITLE`, `URL` and `DATE`; what is computed once is kept in the cache, in
`retrieval/`, under the digest of the files' checksums and of all settings that decide it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from heuretic.data.files import cache_folder, sha256, sweep
from heuretic.data.records import Corrupt, Records, unreadable
from heuretic.data.tables import csv_rows, json_rows
from heuretic.lm.retrieval.evidence import Evidence

TEXT = ("text", "content", "body", "passage", "snippet", "description", "answer")
TITLE = ("title", "headline", "heading", "name", "question")
URL = ("url", "link", "address")
DATE = ("date", "published", "published_date", "published_at", "timestamp", "updated")
SUFFIXES = (".txt", ".md", ".rst", ".jsonl", ".csv")
FORMAT = 1
_HEADING = re.compile(r"#{1,6}\s+(.*?)\s*#*\s*$")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")

T = TypeVar("T")


def files_of(paths: Sequence[str]) -> tuple[Path, ...]:
    """Return the files that paths name, those of folders in alphabetical order.

    Raises: FileNotFoundError if a path is not there; ValueError for a file of another kind, or a folder without any.
    """
    found: dict[Path, None] = {}
    for name in paths:
        path = Path(name).expanduser()
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)
            if not inside:
                raise ValueError(f"paths must have files of {', '.join(SUFFIXES)}, got none in {path}")
            found |= dict.fromkeys(inside)
        elif not path.is_file():
            raise FileNotFoundError(f"paths must be files or folders, got {path}, which is not there")
        elif path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"paths must be of {', '.join(SUFFIXES)}, got {path}")
        else:
            found[path] = None
    return tuple(found)


def passages(paths: Iterable[Path], words: int, corrupt: Corrupt = "raise") -> Iterator[Evidence]:
    """Yield the passages of files, each of at most `words` words, in order.

    Raises: ValueError for a file or record that cannot be read, naming both; `corrupt="skip"` leaves such records out.
    """
    records = Records(corrupt)
    for path in paths:
        match path.suffix.lower():
            case ".jsonl":
                found = _of_records(path, json_rows(path, records), records)
            case ".csv":
                found = _of_records(path, csv_rows(path, records, ()), records)
            case ".md":
                found = _of_markdown(path)
            case _:
                found = iter([Evidence(_read(path), title=path.stem)])
        for whole in found:
            yield from split(whole, words)


def split(whole: Evidence, words: int) -> Iterator[Evidence]:
    """Yield a piece of evidence in parts of at most `words` words: paragraphs together where they fit, else sentences."""
    if len(whole.text.split()) <= words:
        if whole.text.strip():
            yield _with(whole, whole.text.strip())
        return
    held: list[str] = []
    count = 0
    for piece, paragraph in _pieces(whole.text, words):
        size = len(piece.split())
        if held and count + size > words:
            yield _with(whole, "".join(held).strip())
            held, count = [], 0
        held += ["\n\n" if paragraph else " ", piece]
        count += size
    if held:
        yield _with(whole, "".join(held).strip())


def _pieces(text: str, words: int) -> Iterator[tuple[str, bool]]:
    """Yield paragraphs, or sentences of them, or parts of those, of at most `words` words; and whether a paragraph begins."""
    for paragraph in re.split(r"\n\s*\n", text):
        begins = True
        if len(paragraph.split()) <= words:
            if paragraph.strip():
                yield paragraph.strip(), True
            continue
        for sentence in _SENTENCE.split(paragraph):
            said = sentence.split()
            for start in range(0, len(said), words):
                yield " ".join(said[start : start + words]), begins
                begins = False


def _with(whole: Evidence, text: str) -> Evidence:
    return Evidence(text, whole.title, whole.url, whole.date, whole.highlight, whole.kind)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise unreadable(path, "text in UTF-8", error) from error


def _of_markdown(path: Path) -> Iterator[Evidence]:
    """Yield the parts below each heading; their title is the headings above them."""
    headings: list[tuple[int, str]] = []
    held: list[str] = []
    fenced = False
    for line in [*_read(path).splitlines(), None]:
        if line is not None and line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        heading = None if line is None or fenced else _HEADING.match(line)
        if line is not None and heading is None:
            held.append(line)
            continue
        if any(part.strip() for part in held):
            yield Evidence("\n".join(held), title=": ".join(name for _, name in headings) or path.stem)
        held = []
        if line is not None and heading is not None:
            level = len(line) - len(line.lstrip("#"))
            headings = [*(h for h in headings if h[0] < level), (level, heading[1])]


def _of_records(path: Path, rows: Iterable[tuple[int, Mapping[str, Any]]], records: Records) -> Iterator[Evidence]:
    for row, record in rows:
        named = {str(key).strip().lower(): value for key, value in record.items() if isinstance(key, str)}
        text = _first(named, TEXT)
        if not text:
            records.refuse(path, row, f"record must have a text under one of {', '.join(TEXT)}", sorted(named))
            continue
        yield Evidence(text, _first(named, TITLE), _first(named, URL), _first(named, DATE))


def _first(record: Mapping[str, Any], names: Sequence[str]) -> str:
    for name in names:
        value = record.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    return ""


def as_pieces(evidence: Iterable[Evidence]) -> tuple[dict[str, str], ...]:
    """Return evidence as mappings, as fields of searches hold it."""
    return tuple({name: value for name, value in asdict(piece).items() if value} for piece in evidence)


def check_sources(kind: str, paths: Sequence[str], pieces: Sequence[Mapping[str, str]]) -> None:
    """Raise ValueError if a search has nothing to search, or pieces that are no evidence."""
    if not paths and not pieces:
        raise ValueError(
            f"paths must name at least one file, got none. Try {kind}(paths=('notes',)), or {kind}.of(evidence)"
        )
    pieces_of(pieces)


def pieces_of(pieces: Sequence[Mapping[str, str]]) -> tuple[Evidence, ...]:
    """Return evidence that is written as mappings. Raises: ValueError for a name that evidence has not, or without a text."""
    for number, piece in enumerate(pieces):
        if set(piece) - set(Evidence.__dataclass_fields__) or not piece.get("text", "").strip():
            raise ValueError(
                f"pieces must have a text, and may have {', '.join(list(Evidence.__dataclass_fields__)[1:])}, got {dict(piece)} at {number}"
            )
    return tuple(Evidence(**piece) for piece in pieces)  # pyright: ignore[reportArgumentType]


class Kept:
    """Passages on disk, read one by one; the texts are not in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._starts: NDArray[np.int64] = np.load(folder / "starts.npy", mmap_mode="r", allow_pickle=False)
        self._path = folder / "passages.jsonl"
        if self._path.stat().st_size != int(self._starts[-1]):
            raise ValueError(f"passages must have {int(self._starts[-1])} bytes, got others at {self._path}")

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> Evidence:
        with self._path.open("rb") as file:
            file.seek(int(self._starts[number]))
            return Evidence(**json.loads(file.read(int(self._starts[number + 1] - self._starts[number]))))


def write_passages(folder: Path, found: Iterable[Evidence]) -> Iterator[Evidence]:
    """Yield passages on while they are written to a folder, for `Kept`."""
    starts = [0]
    with (folder / "passages.jsonl").open("wb") as file:
        for piece in found:
            starts.append(starts[-1] + file.write(json.dumps(asdict(piece), ensure_ascii=False).encode() + b"\n"))
            yield piece
    np.save(folder / "starts.npy", np.array(starts, np.int64))


def fingerprint(paths: Sequence[Path]) -> tuple[tuple[str, int, int, int], ...]:
    """Return what changes when a file does: its path, size and times."""
    found = []
    for path in paths:
        status = path.stat()
        found.append((str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(found)


def key_of(paths: Sequence[Path], settings: Mapping[str, Any]) -> str:
    """Return the digest of the contents of files, in their order with their names, and of settings."""
    said = {"format": FORMAT, "files": [(path.name, sha256(path)) for path in paths], **settings}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def kept_in_cache(kind: str, key: str, make: Callable[[Path], None], read: Callable[[Path], T]) -> T:
    """Return what `read` finds in the cache's folder `retrieval/kind-key`, made by `make` if it is not there or damaged.

    A folder gets its name when all of it is written, so a process that is killed leaves none behind that is half made; of two
    that make the same one, one is kept.

    Raises: ValueError if there is no folder for caches.
    """
    cache = cache_folder()
    if cache is None:
        raise ValueError(
            "HEURETIC_CACHE must name a folder for indexes, got none. Try pip install 'heuretic[lm]', or set it"
        )
    folder = cache / "retrieval" / f"{kind}-{key}"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, EOFError, IndexError):
        return read(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent.glob("partial-*"))
    new = folder.parent / f"partial-{secrets.token_hex(8)}"
    new.mkdir()
    try:
        make(new)
        for path in new.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        try:
            os.rename(new, folder)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)  # damaged, or another process was quicker and made the same
            with contextlib.suppress(OSError):
                os.rename(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return read(folder)


def best(scores: NDArray[Any], k: int, above: float = -np.inf) -> list[int]:
    """Return the places of the `k` greatest scores above a bound, the greatest first, of equal ones those first in order."""
    if k < 1:
        raise ValueError(f"k must be >= 1, got {k}")
    if k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        places = np.flatnonzero(scores >= max(least, above))
    else:
        places = np.arange(len(scores))
    places = places[scores[places] > above]
    return places[np.argsort(-scores[places], kind="stable")][:k].tolist()
