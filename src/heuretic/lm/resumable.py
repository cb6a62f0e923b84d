"""Large files over HTTP: what came before a break is kept, and only the rest is asked for."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

CHUNK_BYTES = 1 << 14
"""What has come of a chunk when a server falls silent is lost, so that chunks are small."""
TIMEOUT_S = 30.0
"""Longest wait for a connection, or for the next bytes of one."""
TRIES = 5
"""Tries in a row that bring nothing new before a download is given up."""
PAUSE_S = 0.5

Progress = Callable[[str, int, int], None]
"""Called with what is being fetched, the bytes that are there, and how many there will be (0 if unknown)."""


class TransferError(OSError):
    """A file could not be fetched, or is not the one that was asked for."""


def fetch(
    url: str, part: Path, sha256: str, size: int = 0, progress: Progress | None = None, timeout_s: float = TIMEOUT_S
) -> None:
    """Fetch what is at `url` into `part`, going on from the bytes that `part` already has.

    Args:
        url: http or https. part: Left as it is by a break, an exception or a signal, so that a later call goes on from it;
            removed if it is whole and not the right file.
        sha256: In hexadecimal digits. size: In bytes; 0 if unknown.
        timeout_s: Longest silence of the server.
    Raises: TransferError if the server refuses, is silent or breaks off again and again, or sends another file.
    """
    import requests
    import urllib3

    broken = (requests.RequestException, urllib3.exceptions.HTTPError)
    name = url.rpartition("/")[2].partition("?")[0]
    part.parent.mkdir(parents=True, exist_ok=True)
    kept = (
        part.stat().st_size if part.exists() else 0
    )  # bytes of an earlier call, whose server may have had another file
    resumable, left = True, TRIES
    while True:
        have = part.stat().st_size if part.exists() else 0
        if size and have > size:
            part.unlink()
            continue
        whole, failure = have == size > 0, ""
        if not whole:
            try:
                whole, resumable = _read(url, part, have if resumable else 0, size, name, progress, timeout_s)
                failure = "it began at another byte than it was asked for"
            except broken as error:
                status = getattr(getattr(error, "response", None), "status_code", None)
                if status is not None and 400 <= status < 500 and status not in (408, 425, 429):
                    raise TransferError(f"{url} cannot be had: the server answered {status}") from error
                failure = f"it did not answer or broke off: {' '.join(str(error).split())[:300]}"
        if whole:
            got = _sha256(part)
            if got == sha256:
                return
            part.unlink()
            if not kept:
                raise TransferError(f"{url} must have sha256 {sha256}, got {got}, which was not kept")
            kept = 0
            continue
        now = part.stat().st_size if part.exists() else 0
        left = TRIES if now > have else left - 1
        if left == 0:
            raise TransferError(
                f"{url} could not be read to the end in {TRIES} tries ({now:,} bytes are kept): {failure}. Try again, which "
                "goes on from there"
            )
        if now <= have:
            time.sleep(PAUSE_S)


def _read(
    url: str, part: Path, have: int, size: int, name: str, progress: Progress | None, timeout_s: float
) -> tuple[bool, bool]:
    """Append to `part` what is at `url` from byte `have` on. Return whether it is whole now, and whether `url` can be resumed."""
    import requests

    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, stream=True, timeout=timeout_s, headers=headers) as answer:
        begins, total = _content_range(answer.headers.get("Content-Range", ""))
        if answer.status_code == 416:  # nothing is left from that byte on
            return total == have, False
        answer.raise_for_status()
        if answer.status_code != 206 or not have:
            have, total = 0, int(answer.headers.get("Content-Length", 0))
        elif begins != have:
            return False, False
        if size and total and total != size:
            raise TransferError(f"{url} must have {size:,} bytes, got {total:,}")
        most = size or total
        with part.open("ab" if have else "wb", buffering=0) as file:
            for chunk in answer.raw.stream(CHUNK_BYTES, decode_content=False):  # raises if fewer come than announced
                file.write(chunk)
                have += len(chunk)
                if most and have > most:
                    break
                if progress:
                    progress(name, have, most)
    if most and have > most:
        part.unlink()
        raise TransferError(f"{url} must have {most:,} bytes, got more")
    return have == most if most else True, True


def _content_range(text: str) -> tuple[int | None, int]:
    """Return the first byte and the size of all in a header such as "bytes 100-199/200" or "bytes */200"."""
    where, _, total = text.removeprefix("bytes ").partition("/")
    begins = None
    with contextlib.suppress(ValueError):
        begins = int(where.partition("-")[0])
    return begins, int(total) if total.isdigit() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
