"""Replies on disk: one SQLite file, one row for each sample of each request."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from heuretic.lm.replies import Reply, Usage


class ReplyCache:
    """Keeps replies by (request digest, sample index). Safe to share between threads and processes.

    A reply is on disk when `put` returns, and survives a process that is killed. Replies that failed are not kept, so they
    are asked for again.

    Args: path: The file, made if it is not there; None keeps replies in memory only.
    Raises: ValueError if the file is not such a cache.
    """

    def __init__(self, path: str | Path | None) -> None:
        self.path = None if path is None else Path(path)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            self.path or ":memory:", timeout=60, check_same_thread=False, isolation_level=None
        )
        try:
            self._write_ahead()
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS replies (request BLOB, sample INTEGER, reply TEXT NOT NULL, "
                "PRIMARY KEY (request, sample)) WITHOUT ROWID"
            )
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise _damaged(self.path, error) from error

    def _write_ahead(self) -> None:
        """Switch to a write-ahead log; SQLite does not wait for its turn at this, so it is tried until it works."""
        for _ in range(600):
            try:
                self._connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                time.sleep(0.1)

    def get(self, request: bytes, samples: Iterable[int]) -> dict[int, Reply]:
        """Return those of the samples that are kept and can be read, by index. Raises: ValueError if the file is damaged."""
        wanted = list(samples)
        if not wanted:
            return {}
        with self._lock:
            try:
                rows = self._connection.execute(
                    "SELECT sample, reply FROM replies WHERE request = ? AND sample BETWEEN ? AND ?",
                    (request, min(wanted), max(wanted)),
                ).fetchall()
            except sqlite3.OperationalError:  # locked for too long, or the disk
                raise
            except sqlite3.DatabaseError as error:
                raise _damaged(self.path, error) from error
        chosen = set(wanted)
        found = {sample: _decode(text) for sample, text in rows if sample in chosen}
        return {sample: reply for sample, reply in found.items() if reply is not None}

    def put(self, request: bytes, replies: Mapping[int, Reply]) -> None:
        """Keep replies by index, all or none; those with outcome "error" are left out."""
        rows = [(request, k, _encode(r)) for k, r in replies.items() if r.outcome != "error"]
        if not rows:
            return
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", rows)

    def __len__(self) -> int:
        with self._lock:
            return self._connection.execute("SELECT count(*) FROM replies").fetchone()[0]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


def _encode(reply: Reply) -> str:
    return json.dumps(asdict(replace(reply, cached=False)), ensure_ascii=False, separators=(",", ":"))


def _decode(text: str) -> Reply | None:
    try:
        values = json.loads(text)
        return Reply(**{**values, "usage": Usage(**values["usage"]), "cached": True})
    except (ValueError, TypeError, LookupError):
        return None


def _damaged(path: Path | None, error: Exception) -> ValueError:
    return ValueError(f"cache must be a file of replies, got {path}: {error}. Name another file, or remove it")
