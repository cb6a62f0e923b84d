"""What storing files under their digest costs, beside a plain copy and a plain hash of the same file.

    python benchmarks/artifacts.py [--mib 500] [--repeats 5] [--folder DIR] [--json OUT]

The best of all repeats is printed, as MiB/s of wall and of CPU time: other processes, and memory that a virtual machine
must fetch first, only ever add to it. "plain" is `shutil.copy` and `hashlib.sha256`, once with fsync, as artifacts are
flushed to the disk. All files are read from the page cache. A ratio of 1 means as fast as plain.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from heuretic.study import Artifacts

CHUNK = 1 << 20


def sha256(path: Path) -> str:
    """Hash a file in pieces."""
    hashed = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            hashed.update(chunk)
    return hashed.hexdigest()


def plain_put(source: Path, target: Path, flush: bool) -> None:
    """Copy and hash without further ado."""
    shutil.copy(source, target)
    if flush:
        with open(target, "r+b") as file:
            os.fsync(file.fileno())
    sha256(source)


def drain(stream: io.BufferedIOBase | io.BufferedReader) -> None:
    """Read to the end."""
    while stream.read(CHUNK):
        pass


def measure(source: Path, folder: Path, repeats: int) -> dict[str, tuple[float, float]]:
    """Return wall and CPU seconds, the best of all repeats, by what was done."""
    target, files = folder / "target", Artifacts(folder / "files")
    warm = files.put("warm", b"up")
    digest = sha256(source)
    assert warm.digest != digest

    def new() -> None:
        files.put("x", source)

    def stream() -> None:
        with open(source, "rb") as file:
            unseekable = io.BufferedReader(_Once(file))
            files.put("x", unseekable)  # type: ignore[arg-type]

    def read() -> None:
        with files.open(digest) as file:
            drain(file)  # type: ignore[arg-type]

    actions: dict[str, Callable[[], object]] = {
        "plain copy + hash": lambda: plain_put(source, target, False),
        "plain copy + fsync + hash": lambda: plain_put(source, target, True),
        "put, new, file": new,
        "put, there already": new,
        "put, new, stream": stream,
        "open and read": read,
        "plain hash": lambda: sha256(source),
        "copy_to": lambda: files.copy_to(digest, target),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    for name, action in actions.items():
        for _ in range(repeats):
            if name.startswith("put, new"):
                files.collect([], older_than_s=0)
            if name in ("copy_to", "plain copy + hash", "plain copy + fsync + hash"):
                target.unlink(missing_ok=True)
            os.sync()  # what others have written must not be waited for in this turn
            start, cpu = time.perf_counter(), time.process_time()
            action()
            seconds[name].append((time.perf_counter() - start, time.process_time() - cpu))
    return {name: (min(wall for wall, _ in taken), min(cpu for _, cpu in taken)) for name, taken in seconds.items()}


class _Once(io.RawIOBase):
    """A file that cannot be read twice, as a download."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        return self._file.readinto(buffer)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="Where to write. Default: the folder for temporary files.")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        source = Path(folder) / "source"
        with open(source, "wb") as file:
            for _ in range(arguments.mib):
                file.write(os.urandom(CHUNK))
        seconds = measure(source, Path(folder), arguments.repeats)
    compared = {
        "put, new, file": "plain copy + fsync + hash", "put, new, stream": "plain copy + fsync + hash",
        "put, there already": "plain hash", "open and read": "plain hash", "copy_to": "plain copy + hash",
    }  # fmt: skip
    rates = {name: [arguments.mib / taken for taken in both] for name, both in seconds.items()}
    print(f"{'MiB/s by':28s} {'wall':>7s} {'CPU':>7s}")
    for name, (wall, cpu) in rates.items():
        other = compared.get(name)
        shown = f"   {wall / rates[other][0]:.2f} and {cpu / rates[other][1]:.2f} of {other}" if other else ""
        print(f"{name:28s} {wall:7.0f} {cpu:7.0f}{shown}")
    if arguments.json:
        facts = {"mib": arguments.mib, "repeats": arguments.repeats, "mib_per_s_wall_and_cpu": rates}
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
