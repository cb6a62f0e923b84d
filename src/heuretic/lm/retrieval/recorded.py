"""Lookups on record, so that a run that looks things up can be repeated exactly."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from heuretic.lm.retrieval.evidence import Evidence, Search, check
from heuretic.symbolic import Symbolic, digest, field

_Key = tuple[str, str, int]


class Recorded(Symbolic):
    """A search whose results are kept in a file of JSON lines with the day on which they were looked up.

    What is on record is never looked up again. With mode "replay" nothing else is: a lookup that is not on record is an error.
    Many may use one file at once.

    Raises: LookupError in replay for what is not on record; ValueError for a file that is no such record.
    """

    search: Search = field(doc="who looks things up, and is told apart from others by its settings")
    file: str = field(doc="the record, made if it is not there")
    mode: Literal["record", "replay"] = field(default="record", doc="whether to look up what is not on record")

    def check(self) -> None:
        """Raises: ValueError if the search that is recorded lacks a key."""
        if self.mode == "record":
            check(self.search)

    async def __call__(self, query: str, k: int) -> list[Evidence]:
        """Return what is on record, else what the search finds."""
        record = _opened(os.path.abspath(self.file))
        key = (digest(self.search), query, k)
        known = record.known.get(key)
        if known is not None:
            return list(known)
        if self.mode == "replay":
            raise LookupError(
                f"lookup must be on record to be replayed, got {query[:80]!r} (k={k}) not in {self.file}. Try mode='record'"
            )
        lock = record.locks.setdefault(key, asyncio.Lock())
        async with lock:
            known = record.known.get(key)
            if known is None:
                known = record.keep(key, await self.search(query, k))
        return list(known)


class _Record:
    """One file, with all that is in it by search, query and number of results."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[_Key, tuple[Evidence, ...]] = {}
        self.locks: dict[_Key, asyncio.Lock] = {}
        if path.is_file():
            self._read()

    def _read(self) -> None:
        lines = self.path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                found = tuple(Evidence(**each) for each in row["evidence"])
                self.known.setdefault((row["search"], row["query"], row["k"]), found)
            except (ValueError, TypeError, KeyError) as error:
                if number == len(lines):  # half-written when its process was killed
                    return
                raise ValueError(
                    f"record must be lookups in JSON lines, got {line[:60]!r} at {self.path}, line {number}"
                ) from error

    def keep(self, key: _Key, found: Sequence[Evidence]) -> tuple[Evidence, ...]:
        """Add a lookup to the file and to what is known."""
        row = {
            "search": key[0], "query": key[1], "k": key[2], "looked_up": datetime.now(UTC).date().isoformat(),
            "evidence": [asdict(each) for each in found],
        }  # fmt: skip
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _drop_half_a_line(self.path)
        with self.path.open("ab", buffering=0) as file:  # one write of a whole line, which the system appends at once
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self.known[key] = tuple(found)
        return self.known[key]


def _drop_half_a_line(path: Path) -> None:
    """Cut off what a killed process left of a line, so that the next one begins on a line of its own."""
    if not path.is_file() or not path.stat().st_size:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


_held: dict[str, _Record] = {}


def _opened(path: str) -> _Record:
    known = _held.get(path)
    if known is None or (not known.path.is_file() and known.known):
        known = _held[path] = _Record(Path(path))
    return known
