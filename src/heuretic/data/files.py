"""Where the files of data sets are: `$HEURETIC_DATA`, then the cache, then the place that published them.

The cache is the folder that `$HEURETIC_CACHE` names, otherwise the user's folder for caches. It holds

- `files/`, what was downloaded, each file checked against the sha256 that is written in this package before it gets its name;
- `checksums/`, the sha256 of files together with their size and times, so that a file that has not changed since is not
  read again to be sure;
- `unpacked/`, arrays (see `heuretic.data.unpacked`).

All of it can be deleted at any time. With `HEURETIC_OFFLINE=1` nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class File:
    """A file of a data set.

    Attributes:
        place: Its path in `$HEURETIC_DATA` and in the cache's `files`, with "/". urls: Where it is published, tried in order;
            none if nobody publishes it in this form. sha256: In hexadecimal digits; needed for a download.
    """

    place: str
    urls: tuple[str, ...] = ()
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """Files that are all there, in the order asked for, and the checksum of them together."""

    paths: tuple[Path, ...]
    checksum: str


def find(name: str, sources: Sequence[Sequence[File]]) -> tuple[int, Found]:
    """Return the first of several forms of a data set that is there, and which it is; download one if none is.

    Args:
        name: Of the data set, for messages. sources: The files of each form, best first.
    Raises: FileNotFoundError if none is there and none can be had, saying which file to put where; ValueError if what was
        downloaded is not what was published.
    """
    own, cache = os.environ.get("HEURETIC_DATA", ""), cache_folder()
    if own:
        for number, files in enumerate(sources):
            if found := _in(Path(own), files):
                return number, found
    if cache is not None:
        for number, files in enumerate(sources):
            found = _in(cache / "files", files)
            if found and found.checksum == _together(files, [file.sha256 for file in files]):  # else damaged since
                return number, found
    for number, files in enumerate(sources):
        if all(file.urls for file in files):
            return number, _downloaded(files, _missing(name, sources[0]))
    raise FileNotFoundError(_missing(name, sources[0]))


def data_file(place: str, hint: str = "") -> tuple[Path, str]:
    """Return the path of `$HEURETIC_DATA/place`, and the sha256 of the file in hexadecimal digits. Nothing is downloaded.

    Raises: FileNotFoundError if it is not there, with `hint` saying how to do without, or where to get it.
    """
    folder = os.environ.get("HEURETIC_DATA", "")
    path = Path(folder) / place
    if not folder or not path.is_file():
        raise FileNotFoundError(f"HEURETIC_DATA must name a folder with {place}, got {folder!r}. {hint}".strip())
    return path, sha256(path)


def _in(folder: Path, files: Sequence[File]) -> Found | None:
    paths = tuple(folder / file.place for file in files)
    if not all(path.is_file() for path in paths):
        return None
    return Found(paths, _together(files, [sha256(path) for path in paths]))


def _missing(name: str, files: Sequence[File]) -> str:
    folder = os.environ.get("HEURETIC_DATA", "")
    places = " and ".join(file.place for file in files[:3]) + f" and {len(files) - 3} more" * (len(files) > 3)
    return f"HEURETIC_DATA must name a folder with {places}, for {name}, got {folder!r}"


def _downloaded(files: Sequence[File], missing: str) -> Found:
    cache = cache_folder()
    if os.environ.get("HEURETIC_OFFLINE", "") not in ("", "0"):
        raise FileNotFoundError(f"{missing}. Try HEURETIC_OFFLINE=0, which lets it be downloaded")
    if cache is None:
        raise FileNotFoundError(f"{missing}. Try pip install 'heuretic[data]', with which it is downloaded")
    from heuretic.data.download import download

    try:
        paths = tuple(download(file, cache / "files") for file in files)
    except (OSError, ImportError) as error:
        raise FileNotFoundError(f"{missing}, and it cannot be downloaded: {error}") from error
    return Found(paths, _together(files, [file.sha256 for file in files]))


def _together(files: Sequence[File], checksums: Sequence[str]) -> str:
    if len(files) == 1:
        return checksums[0]
    lines = [f"{checksum}  {file.place}\n" for checksum, file in zip(checksums, files, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def cache_folder() -> Path | None:
    """Return the folder of the cache, which need not exist, or None if neither `$HEURETIC_CACHE` nor platformdirs names one."""
    if folder := os.environ.get("HEURETIC_CACHE", ""):
        return Path(folder)
    try:
        from platformdirs import user_cache_path
    except ImportError:
        return None
    return user_cache_path("heuretic", appauthor=False)


def sweep(left: Iterable[Path]) -> None:
    """Remove those files and folders, which killed processes may have left, that are older than a day."""
    for path in left:
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > DAY_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal digits, read anew only if its size or times changed since the last call."""
    known = _note(path)
    before = _fingerprint(path)
    if known is not None:
        try:
            noted = json.loads(known.read_text())
            if noted["file"] == before:
                return str(noted["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no note, or not a whole one
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    if _fingerprint(path) == before:
        _remember(path, checksum)
    return checksum


def _remember(path: Path, checksum: str) -> None:
    # A file changed twice within the clock's grain would keep its times. One that is seconds old is therefore not noted.
    known, fingerprint = _note(path), _fingerprint(path)
    if known is None or time.time_ns() - max(fingerprint[1:]) < 2e9:
        return
    try:
        known.parent.mkdir(parents=True, exist_ok=True)
        new = known.with_suffix(f".{secrets.token_hex(8)}")
        new.write_text(json.dumps({"path": str(path), "file": fingerprint, "sha256": checksum}))
        os.replace(new, known)
    except OSError:
        pass  # a read-only or full cache: the file is read again next time


def _fingerprint(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _note(path: Path) -> Path | None:
    cache = cache_folder()
    return cache and cache / "checksums" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.json"
