"""Downloads that are either whole and as published, or not there at all."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

from heuretic.data.files import File

DAY_S = 86_400.0


def download(file: File, folder: Path) -> Path:
    """Download a file to `folder` / `file.place` and return its path.

    It is written under another name beside, and renamed once it is whole and its sha256 is right. What a killed process left
    half-written is removed by the first download a day later.
    Raises: OSError if no address could be read to the end; ValueError if what came is not the file with this sha256.
    """
    try:
        import pooch
        import requests
    except ImportError as error:
        raise ImportError("downloads need pooch. Try: pip install 'heuretic[data]'") from error
    path = folder / file.place
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    failures = []
    for url in file.urls:
        try:
            with _Progress(path.name) as progress:
                downloader: Any = pooch.HTTPDownloader(progressbar=progress, timeout=30)  # type: ignore[arg-type]
                pooch.retrieve(url, f"sha256:{file.sha256}", path.name, path.parent, downloader=downloader)
            return path
        except requests.RequestException as error:
            failures.append(OSError(f"{url} broke off or did not answer: {error}"))
        except ValueError as error:
            if "hash" not in str(error):
                raise
            failures.append(
                ValueError(f"{url} must have sha256 {file.sha256}, got another file, which was not kept: {error}")
            )
    raise next((failure for failure in failures if isinstance(failure, ValueError)), failures[-1])


def _sweep(folder: Path) -> None:
    for left in folder.glob("tmp*"):  # the names that pooch gives
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > DAY_S:
                os.remove(left)


class _Progress:
    """A bar on the terminal, by the methods that pooch calls."""

    total: int = 0

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        console = Console(file=sys.stderr)
        columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), DownloadColumn()]
        columns += [TransferSpeedColumn(), TimeRemainingColumn()]
        self.bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.task = self.bar.add_task(name, total=None)

    def __enter__(self) -> _Progress:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def update(self, size: int) -> None:
        self.bar.update(self.task, total=self.total or None, advance=size)

    def reset(self) -> None:
        self.bar.update(self.task, completed=0)

    def close(self) -> None:
        pass  # done by __exit__, which is called after failures too
