"""Files that trials save, stored under the digest of their content."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from heuretic.study.records import Artifact


class Artifacts:
    """A place for files: a local folder, or any target of fsspec."""

    def __init__(self, url: str) -> None:
        self.url = url

    def put(self, name: str, content: bytes | str | Path | BinaryIO) -> Artifact:
        """Store content and return what it is known by."""
        raise NotImplementedError
