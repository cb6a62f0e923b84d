"""Where the bytes of artifacts lie: a local folder, or a target of fsspec."""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar, cast

T = TypeVar("T")
#: The folder of files that are being written.
INCOMING = "incoming"
#: Content that was saved longer ago than this is made young when it is saved again.
_RENEW_S = 3600.0


class ArtifactError(ValueError):
    """Stored content is missing or not what its digest says; or a name, digest or place is refused."""


class Place(Protocol):
    """Where bytes lie under keys such as "ab/cd..."."""

    url: str

    def create(self, key: str) -> contextlib.AbstractContextManager[Any]:
        """Open a new file whose `write` takes all it is given; whole and lasting once the context has ended."""
        ...

    def move(self, key: str, to: str) -> None:
        """Move a file; what is at `to` already is the same content."""
        ...

    def renew(self, key: str, size: int) -> bool:
        """Whether a file of this size is there; if so, it counts as saved now."""
        ...

    def open(self, key: str) -> tuple[BinaryIO, int]:
        """Open a file to read and return it with its size. Raises: FileNotFoundError."""
        ...

    def files(self) -> Iterator[tuple[str, int]]:
        """Yield all keys and sizes."""
        ...

    def expire(self, key: str, before: float, dry_run: bool) -> bool:
        """Remove a file if it was saved before a time (Unix, in seconds); return whether it was."""
        ...

    def remove(self, key: str) -> None:
        """Remove a file."""
        ...


class _LocalFile:
    """A file whose `write` takes all it is given."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, chunk: bytes) -> None:
        write_all(self._file, chunk)


class Folder:
    """A local folder. Files are flushed to the disk before they are moved, so that they survive a power cut."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.url = str(self.path)

    @contextlib.contextmanager
    def create(self, key: str) -> Iterator[_LocalFile]:
        (self.path / key).parent.mkdir(parents=True, exist_ok=True)
        with open(self.path / key, "xb", buffering=0) as file:
            yield _LocalFile(file)
            os.fsync(file.fileno())

    def move(self, key: str, to: str) -> None:
        target = self.path / to
        target.parent.mkdir(exist_ok=True)
        try:
            os.replace(self.path / key, target)
        except PermissionError:  # on Windows, where somebody reads the same content just now
            if not target.exists():
                raise
        if os.name == "posix":
            for folder in (target.parent, self.path):
                handle = os.open(folder, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)

    def renew(self, key: str, size: int) -> bool:
        # In a place of several users, a file that is not ours to touch is written anew.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            os.utime(self.path / key)
            return (self.path / key).stat().st_size == size
        return False

    def open(self, key: str) -> tuple[BinaryIO, int]:
        file = (self.path / key).open("rb", buffering=0)
        return cast(BinaryIO, file), os.fstat(file.fileno()).st_size

    def files(self) -> Iterator[tuple[str, int]]:
        with contextlib.suppress(FileNotFoundError):
            for folder in sorted(os.scandir(self.path), key=lambda entry: entry.name):
                if not folder.is_dir(follow_symlinks=False):
                    continue
                with os.scandir(folder) as entries:
                    for entry in entries:
                        with contextlib.suppress(FileNotFoundError):  # moved or removed by somebody else
                            if entry.is_file(follow_symlinks=False):
                                yield f"{folder.name}/{entry.name}", entry.stat().st_size

    def expire(self, key: str, before: float, dry_run: bool) -> bool:
        path = self.path / key
        try:
            if path.stat().st_mtime >= before:
                return False
            if not dry_run:
                # Moved aside first: content that is saved again just now has been renewed, and is put back.
                aside = self.path / INCOMING / uuid.uuid4().hex
                aside.parent.mkdir(exist_ok=True)
                path.rename(aside)
                if aside.stat().st_mtime >= before:
                    os.replace(aside, path)
                    return False
                aside.unlink()
        except FileNotFoundError:  # removed by another collection
            return False
        return True

    def remove(self, key: str) -> None:
        (self.path / key).unlink(missing_ok=True)


class Target:
    """A target of fsspec. Where there is no renaming, fsspec copies on the server and removes the old name."""

    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise ImportError(f"artifacts at {url} need fsspec: pip install 'heuretic[artifacts]'") from None
        try:
            # Without its cache of listings, which would not show what other processes do.
            self._fs, root = url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise ImportError(f"artifacts at {url} need another package of fsspec: {error}") from error
        except ValueError as error:
            raise ArtifactError(
                f"artifacts must be a folder or a URL that fsspec knows, got {url!r}: {error}"
            ) from None
        self.url, self._root = url, root.rstrip("/")

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def create(self, key: str) -> contextlib.AbstractContextManager[Any]:
        path = self._path(key)
        return self._within_folder(path, lambda: self._fs.open(path, "wb"))

    def _within_folder(self, path: str, action: Callable[[], T]) -> T:
        """Make the folder of a path where one is missed: asked to beforehand, object stores would make buckets."""
        try:
            return action()
        except FileNotFoundError:
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            return action()

    def move(self, key: str, to: str) -> None:
        path, target = self._path(key), self._path(to)
        try:
            self._within_folder(target, lambda: self._rename(path, target))
        except OSError:  # some refuse to rename onto a file: another process was faster with the same content
            if not self._fs.exists(target):
                raise

    def _rename(self, path: str, to: str) -> None:
        from fsspec import AbstractFileSystem

        if type(self._fs).mv is AbstractFileSystem.mv:  # copies too, but takes paths for patterns
            self._fs.cp_file(path, to)
            self._fs.rm_file(path)
        else:
            self._fs.mv(path, to)

    def renew(self, key: str, size: int) -> bool:
        path = self._path(key)
        try:
            if self._fs.info(path)["size"] != size:
                return False
            if self._age(path) > _RENEW_S:
                # There is no touching in most targets: a copy, made there, is young.
                young = self._path(f"{INCOMING}/{uuid.uuid4().hex}")
                self._within_folder(young, lambda: self._fs.cp_file(path, young))
                self._rename(young, path)
        except FileNotFoundError:
            return False
        return True

    def _age(self, path: str) -> float:
        """Return the seconds since a file was written; 0 where that is not known, so that nothing is removed there."""
        try:
            return time.time() - self._fs.modified(path).timestamp()
        except NotImplementedError:
            return 0.0

    def open(self, key: str) -> tuple[BinaryIO, int]:
        path = self._path(key)
        return self._fs.open(path, "rb"), self._fs.info(path)["size"]

    def files(self) -> Iterator[tuple[str, int]]:
        try:
            found: Any = self._fs.find(self._root, detail=True)
        except FileNotFoundError:
            return
        for path, info in found.items():
            yield path.removeprefix(f"{self._root}/"), info["size"]

    def expire(self, key: str, before: float, dry_run: bool) -> bool:
        try:
            if self._age(self._path(key)) <= time.time() - before:
                return False
            if not dry_run:
                self._fs.rm_file(self._path(key))
        except FileNotFoundError:
            return False
        return True

    def remove(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(key))


def place_at(url: str) -> Place:
    """Return the place at a folder or URL. Raises: ArtifactError or ImportError if it cannot be used."""
    if not url:
        raise ArtifactError("artifacts must be a folder or a URL, got ''")
    if re.search(r"://[^/]*:[^/]*@", url):
        shown = re.sub(r"://[^/]*@", "://...@", url)
        raise ArtifactError(
            f"artifacts must be a URL without a password, got {shown}: secrets are never stored. "
            f"Give credentials in the environment, as the target's fsspec package reads them (AWS_SECRET_ACCESS_KEY, "
            f"GOOGLE_APPLICATION_CREDENTIALS, FSSPEC_FTP_PASSWORD, ...)"
        )
    if url.startswith("file://"):
        return Folder(Path(url.removeprefix("file://")))
    return Target(url) if "://" in url else Folder(Path(url))


def write_all(file: Any, chunk: bytes) -> None:
    """Write to an unbuffered file, which may take a part of a chunk only: at a full disk, just before it says so."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]
