"""Tables in files of others, CSV and JSON lines, gzipped or not, whose mistakes are told with file and row."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from heuretic.data.records import Records, unreadable


def csv_rows(
    path: Path, records: Records, columns: Sequence[str], *, new: str = "", mended: Mapping[str, str] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield row numbers, from 0, and rows of a CSV file with a header: those that have a text in every one of `columns`.

    Args:
        new: The column whose values must all differ. mended: Lines that are known to be wrong, without what ends them, and what
            they should be.
    Raises: ValueError if the file is no text, lacks a column, or (unless `records` leaves such rows out) for a row whose quotes are
        not balanced, with too many fields, an empty text in one of `columns`, or a repeated value.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            known = mended or {}
            lines = (known.get(bare, bare) + line[len(bare) :] for line in file for bare in [line.rstrip("\r\n")])
            table = csv.DictReader(lines, strict=True)
            header = [name.strip() for name in table.fieldnames or ()]
            table.fieldnames = header
            missing = [column for column in columns if column not in header]
            if missing:
                raise ValueError(
                    f"columns must include {', '.join(missing)}, got {', '.join(header)} at {path}. Try the published file"
                )
            yield from _good(path, records, table, columns, new)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, "CSV with balanced quotes", error) from error


def _good(
    path: Path, records: Records, table: csv.DictReader[str], columns: Sequence[str], new: str
) -> Iterator[tuple[int, dict[str, str]]]:
    seen: dict[str, int] = {}
    for row in count():
        try:
            found = next(table, None)
        except csv.Error as error:
            records.refuse(path, row, "row must be CSV with balanced quotes", f"{error}, up to line {table.line_num}")
            continue
        if found is None:
            return
        extra: object = found.pop(None, None)  # pyright: ignore[reportArgumentType, reportCallIssue]  (where DictReader puts it)
        empty = [column for column in columns if not (found.get(column) or "").strip()]
        if extra:
            records.refuse(path, row, f"row must have {len(table.fieldnames or ())} fields", f"{extra!r} beside them")
        elif empty:
            records.refuse(path, row, f"row must have {', '.join(columns)}", f"nothing in {', '.join(empty)}")
        elif new and found[new] in seen:
            records.refuse(path, row, f"{new} must be new", f"{found[new]!r}, which row {seen[found[new]]} has too")
        else:
            if new:
                seen[found[new]] = row
            yield row, {name: value or "" for name, value in found.items()}


def json_rows(path: Path, records: Records, columns: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield row numbers, from 0, and objects of a file of JSON lines that have `columns`; empty lines are no rows.

    Raises: ValueError if the file is no text, or (unless `records` leaves such rows out) for a row that is no such JSON object.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig") as file:
            for row, line in enumerate(str(line) for line in file if line.strip()):
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError) as error:
                    records.refuse(path, row, "record must be JSON", f"{line[:60].rstrip()!r} ({error})")
                    continue
                if isinstance(record, dict) and all(record.get(column) is not None for column in columns):
                    yield row, record
                    continue
                got = sorted(record) if isinstance(record, dict) else type(record).__name__
                rule = f"have {', '.join(columns)}" if columns else "be an object"
                records.refuse(path, row, f"record must {rule}", got)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise unreadable(path, f"JSON lines{', gzipped' * (opened is gzip.open)}", error) from error
