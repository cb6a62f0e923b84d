"""Files that trials save, stored once under the digest of their content, in a folder or any target of fsspec.

Content lies at `aa/bb...`, its SHA-256 in hexadecimal digits. It is written to `incoming/` and moved from there, so a
killed process leaves nothing half written under a digest, and processes that write the same content do not disturb one
another. What no trial refers to is removed by `Artifacts.collect`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, cast

from heuretic.study.artifact_places import INCOMING, ArtifactError, place_at, write_all
from heuretic.study.records import Artifact

CHUNK = 1 << 20
_DIGEST, _CONTENT = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{2}/[0-9a-f]{62}")


@dataclass(frozen=True, slots=True)
class Removed:
    """What a collection removed, or would remove.

    Attributes:
        digests: Of the content. size: Of it all, in bytes. leftovers: Number of unfinished files of killed processes.
    """

    digests: tuple[str, ...]
    size: int
    leftovers: int


class Artifacts:
    """A place for files: a local folder (a path or file://), or any target of fsspec such as s3://bucket/folder.

    Raises: ArtifactError if the URL holds a password or its protocol is not known; ImportError if a package is missing
        that reaches it.
    """

    def __init__(self, url: str | Path) -> None:
        self._place = place_at(str(url))
        #: The URL; of a local folder its absolute path.
        self.url = self._place.url

    def put(self, name: str, content: bytes | str | Path | BinaryIO) -> Artifact:
        """Store content and return what it is known by. Content that is here already is not written again.

        Args:
            name: What the trial calls it, such as "model.pt" or "plots/loss.png".
            content: Bytes, the path of a file, or an open binary file, which is read from where it stands to its end.
                Files are read in pieces of 1 MiB; those that can be read twice are hashed before anything is written.

        Raises: ArtifactError if the name is refused; TypeError or ValueError if the content is no binary file or stands
            at its end; OSError if it cannot be read, or the place cannot be written (nothing is left behind then).
        """
        checked_name(name)
        if isinstance(content, str | Path):
            with open(content, "rb", buffering=0) as file:
                return self._put_file(name, cast(BinaryIO, file))
        if isinstance(content, bytes | bytearray | memoryview):
            return self._put_file(name, io.BytesIO(content))
        if not hasattr(content, "read"):
            raise TypeError(f"content must be bytes, a path or an open binary file, got {type(content).__name__}")
        return self._put_file(name, content)

    def _put_file(self, name: str, file: BinaryIO) -> Artifact:
        seekable = getattr(file, "seekable", None)
        if seekable is None or not seekable():
            return self._write(name, _chunks(file))
        start, hashed, size = file.tell(), hashlib.sha256(), 0
        for chunk in _chunks(file):
            hashed.update(chunk)
            size += len(chunk)
        if start and not size:
            raise ValueError(f"content of {name!r} must not stand at its end, as nothing is left to read. Try .seek(0)")
        digest = hashed.hexdigest()
        with self._saving(name):
            if self._place.renew(_key(digest), size):
                return Artifact(name, digest, size)
        file.seek(start)
        return self._write(name, _chunks(file))

    def _write(self, name: str, chunks: Iterable[bytes]) -> Artifact:
        """Write chunks while hashing them: a file that changed since it was hashed first is stored as what was read."""
        hashed, size, temporary = hashlib.sha256(), 0, f"{INCOMING}/{uuid.uuid4().hex}"
        with self._saving(name):
            try:
                with self._place.create(temporary) as file:
                    for chunk in chunks:
                        hashed.update(chunk)
                        file.write(chunk)
                        size += len(chunk)
                digest = hashed.hexdigest()
                if not self._place.renew(_key(digest), size):
                    self._place.move(temporary, _key(digest))
            finally:
                with contextlib.suppress(OSError):
                    self._place.remove(temporary)
        return Artifact(name, digest, size)

    @contextlib.contextmanager
    def _saving(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(
                error.errno or errno.EIO, f"cannot save {name!r} in {self.url}: {reason}. Nothing was left there; "
                f"free space or mend its permissions, or name another place with artifacts=..."
            ) from error  # fmt: skip

    def open(self, artifact: Artifact | str) -> BinaryIO:
        """Open stored content, named by its artifact or digest, as a binary stream that is checked as it is read.

        Reading up to the end raises before the last bytes are handed out if the content is not what the digest says.
        Seeking, as `torch.load` does, first reads and checks what is left.

        Raises: ArtifactError if the content is missing or has another size; while reading, if it differs.
        """
        digest = _digest(artifact)
        try:
            file, size = self._place.open(_key(digest))
        except FileNotFoundError:
            raise ArtifactError(
                f"{_shown(artifact)} is missing in {self.url}. Is this the place where the study kept its files?"
            ) from None
        if isinstance(artifact, Artifact) and artifact.size != size:
            file.close()
            raise ArtifactError(
                f"{_shown(artifact)} must have {artifact.size} bytes, got {size} in {self.url}: it is damaged"
            )
        return cast(BinaryIO, io.BufferedReader(_Checked(file, size, digest, self.url), CHUNK))

    def read(self, artifact: Artifact | str) -> bytes:
        """Return stored content. Raises: ArtifactError if it is missing or damaged."""
        with self.open(artifact) as file:
            return file.read()

    def copy_to(
        self, artifact: Artifact | str, path: str | Path, progress: Callable[[int], object] = lambda size: None
    ) -> Path:
        """Copy stored content to a file, which appears whole and checked or not at all; an older one is replaced.

        Args:
            progress: Called with the number of bytes of each piece.

        Raises: ArtifactError if the content is missing or damaged; OSError if the file cannot be written.
        """
        target = Path(path)
        with self.open(artifact) as source:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{uuid.uuid4().hex}.part")
            try:
                with open(temporary, "wb", buffering=0) as file:
                    for chunk in _chunks(source):
                        write_all(file, chunk)
                        progress(len(chunk))
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
        return target

    def extract(
        self, artifact: Artifact, folder: str | Path, progress: Callable[[int], object] = lambda size: None
    ) -> Path:
        """Copy stored content to its name below a folder.

        Raises: ArtifactError if the name would lead out of the folder, also through a link in it; else as `copy_to`.
        """
        root = Path(folder).resolve()
        target = root / checked_name(artifact.name)
        if not target.parent.resolve().is_relative_to(root):
            raise ArtifactError(f"name {artifact.name!r} must stay in {root}, but a link there leads out of it")
        return self.copy_to(artifact, target, progress)

    def digests(self) -> dict[str, int]:
        """Return the digests of all content here, with sizes in bytes."""
        return {key.replace("/", ""): size for key, size in self._place.files() if _CONTENT.fullmatch(key)}

    def verify(
        self, artifacts: Iterable[Artifact | str] | None = None, progress: Callable[[int], object] = lambda size: None
    ) -> dict[str, ArtifactError]:
        """Read content (default: all) and return what is wrong, by digest; nothing if all is well.

        Args:
            progress: Called with the number of bytes of each piece.
        """
        found: dict[str, ArtifactError] = {}
        for artifact in self.digests() if artifacts is None else artifacts:
            try:
                with self.open(artifact) as file:
                    for chunk in _chunks(file):
                        progress(len(chunk))
            except ArtifactError as error:
                found[_digest(artifact)] = error
        return found

    def collect(
        self, referenced: Iterable[Artifact | str], older_than_s: float = 24 * 3600.0, dry_run: bool = False
    ) -> Removed:
        """Remove content that no trial refers to, and what killed processes left unfinished; return what was removed.

        Args:
            referenced: All that trials refer to, of all studies of all stores that keep files here.
            older_than_s: Spare what was saved in the last so many seconds. Files are saved before their trial is
                committed, so this must be longer than an evaluation takes.
            dry_run: Only say what would be removed.

        Raises: ArtifactError if a reference is no digest; ValueError if older_than_s is negative.
        """
        if not older_than_s >= 0:
            raise ValueError(f"older_than_s must be >= 0, got {older_than_s}")
        kept = {_digest(each) for each in referenced}
        before = time.time() - older_than_s
        digests: list[str] = []
        total = leftovers = 0
        for key, size in list(self._place.files()):
            content = _CONTENT.fullmatch(key) is not None
            leftover = key.startswith(f"{INCOMING}/")
            if not (content or leftover) or (content and key.replace("/", "") in kept):
                continue
            if not self._place.expire(key, before, dry_run):
                continue
            total += size
            leftovers += leftover
            if content:
                digests.append(key.replace("/", ""))
        return Removed(tuple(sorted(digests)), total, leftovers)


def artifacts_url(given: str | Path | None, store_url: str) -> str | None:
    """Return where the trials of a store save files: as given, else $HEURETIC_ARTIFACTS, else beside an SQLite file.

    Files of `study.db` are in the folder `study.db-artifacts`: a folder for each store, so that no store can remove
    files of another. None if there is no such place.

    Raises: ArtifactError or ImportError if the place cannot be used.
    """
    wanted = str(given) if given is not None else os.environ.get("HEURETIC_ARTIFACTS")
    if wanted is not None:
        return Artifacts(wanted).url
    file = store_url.removeprefix("sqlite:///").partition("?")[0]
    if not store_url.startswith("sqlite:///") or file in ("", ":memory:"):
        return None
    return f"{Path(file).resolve()}-artifacts"


def checked_name(name: str) -> str:
    """Return the name of an artifact: parts of printable characters with "/" between them.

    Raises: ArtifactError if it is absolute or could lead out of a folder into which it is copied.
    """
    parts = name.split("/") if isinstance(name, str) else []
    if not parts or any(part in ("", ".", "..") for part in parts):
        raise ArtifactError(f"name must be a relative path without empty parts, '.' and '..', got {name!r}")
    if "\\" in name or not name.isprintable() or PureWindowsPath(name).drive or PurePosixPath(name).is_absolute():
        raise ArtifactError(f"name must have printable characters only, no backslash and no drive, got {name!r}")
    return name


def _digest(artifact: Artifact | str) -> str:
    digest = artifact.digest if isinstance(artifact, Artifact) else artifact
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ArtifactError(f"digest must be 64 hexadecimal digits in lower case, got {digest!r}")
    return digest


def _key(digest: str) -> str:
    return f"{digest[:2]}/{digest[2:]}"


def _shown(artifact: Artifact | str) -> str:
    return f"{artifact.name!r} ({artifact.digest})" if isinstance(artifact, Artifact) else artifact


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        if not isinstance(chunk, bytes):
            raise TypeError(f"content must be opened in binary mode, got a file that gives {type(chunk).__name__}")
        yield chunk


class _Checked(io.RawIOBase):
    """A stream that hashes what is read from it, and raises at the end if the digest is another one."""

    def __init__(self, file: BinaryIO, size: int, digest: str, url: str) -> None:
        self._file, self._size, self._digest, self._url = file, size, digest, url
        self._hashed, self._position, self._good = hashlib.sha256(), 0, False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell() if self._good else self._position

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        count = cast(Any, self._file).readinto(view)
        if not self._good and len(view):
            self._hashed.update(view[:count])
            self._position += count
            if not count or self._position >= self._size:
                self._check()
        return count

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if not self._good and (offset, whence) != (0, 1):
            piece = bytearray(CHUNK)
            while not self._good:
                self.readinto(piece)
        return self.tell() if (offset, whence) == (0, 1) else self._file.seek(offset, whence)

    def _check(self) -> None:
        got = self._hashed.hexdigest()
        if got != self._digest:
            raise ArtifactError(f"content must have digest {self._digest}, got {got} in {self._url}: it is damaged")
        self._good = True

    def close(self) -> None:
        self._file.close()
        super().close()
