"""Downloads that are either whole and as published, or not there at all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from heuretic.data.files import File, sweep

CHUNK_BYTES = 1 << 16
TIMEOUT_S = 30


def download(file: File, folder: Path) -> Path:
    """Download a file to `folder` / `file.place` and return its path; do nothing if it is there.

    It is written under another name beside, and renamed once it is whole and its sha256 is right. What a killed process left
    half-written is removed by the first download a day later.

    Raises: OSError if no address could be read to the end; ValueError if what came is not the file with this sha256.
    """
    try:
        import pooch
        import requests
        import urllib3
    except ImportError as error:
        raise ImportError("downloads need pooch. Try: pip install 'heuretic[data]'") from error
    path = folder / file.place
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent.glob("tmp*"))  # the names that pooch gives
    reader: Any = _read
    failures: list[OSError | ValueError] = []
    for url in file.urls:
        try:
            pooch.retrieve(url, f"sha256:{file.sha256}", path.name, path.parent, downloader=reader)
            path.chmod(0o644)  # caches may be shared, and pooch's temporary files are for their owner alone
            return path
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            failures.append(OSError(f"{url} did not answer or broke off: {error}"))
        except ValueError as error:  # by pooch, which has removed the file
            failures.append(
                ValueError(f"{url} must have sha256 {file.sha256}, got another file, which was not kept: {error}")
            )
    raise next((failure for failure in failures if isinstance(failure, ValueError)), failures[-1])


def _read(url: str, target: str, pooch: object) -> None:
    """Write what is at `url` to `target`, byte for byte, with a bar on the terminal."""
    import requests
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(file=sys.stderr)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    # Some servers call a .gz file an encoding, which requests would undo.
    answer = requests.get(url, stream=True, timeout=TIMEOUT_S, headers={"Accept-Encoding": "identity"})
    with answer, open(target, "wb") as file, bar:
        answer.raise_for_status()
        task = bar.add_task(url.rpartition("/")[2], total=int(answer.headers.get("Content-Length", 0)) or None)
        for chunk in answer.raw.stream(CHUNK_BYTES, decode_content=False):  # raises if fewer bytes come than announced
            file.write(chunk)
            bar.advance(task, len(chunk))
