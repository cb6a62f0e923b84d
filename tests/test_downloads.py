"""Files of data sets over HTTP, from a real server on the loopback: whole and as published, or not there at all."""

import gzip
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heuretic.data.dataset import Parts, Split
from heuretic.data.download import download
from heuretic.data.files import File, find, sha256
from heuretic.data.packed import Texts
from heuretic.data.records import Records
from heuretic.data.unpacked import Source, unpacked

CONTENT = np.arange(60_000, dtype="<u4").tobytes()
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()
ZIPPED = gzip.compress(b"one line\n" * 1000, mtime=0)


class Handler(BaseHTTPRequestHandler):
    """Answers by path, and counts what was asked for."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path == "/lines.gz":
            self.send_header("Content-Encoding", "x-gzip")  # as Apache says of .gz files
            self.send_header("Content-Length", str(len(ZIPPED)))
            self.end_headers()
            self.wfile.write(ZIPPED)
            return
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        match self.path:
            case "/good":
                self.wfile.write(CONTENT)
            case "/changed":
                self.wfile.write(CONTENT[:-1] + b"!")
            case "/broken":
                self.wfile.write(CONTENT[: len(CONTENT) // 2])
            case "/slow":
                self.wfile.write(CONTENT[: len(CONTENT) // 2])
                self.wfile.flush()
                server.waiting.set()
                server.done.wait(60)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.waiting, self.done = threading.Event(), threading.Event()

    def file(self, *paths: str, sha256: str = CHECKSUM, place: str = "numbers/numbers.bin") -> File:
        return File(place, tuple(f"http://127.0.0.1:{self.server_port}{path}" for path in paths), sha256)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.done.set()
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no folder of one's own, and downloads allowed."""
    monkeypatch.setenv("HEURETIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HEURETIC_DATA", raising=False)
    monkeypatch.delenv("HEURETIC_OFFLINE", raising=False)
    return tmp_path / "cache"


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_good_file_is_downloaded_once(server: Server, cache: Path) -> None:
    number, found = find("numbers", [[File("numbers/numbers.txt")], [server.file("/good")]])
    assert (number, found.checksum, found.paths) == (1, CHECKSUM, (cache / "files/numbers/numbers.bin",))
    assert found.paths[0].read_bytes() == CONTENT
    assert os.stat(found.paths[0]).st_mode & 0o077 == 0o044, "others who share the cache can read it"
    assert find("numbers", [[server.file("/good")]]) == (0, found)
    assert server.asked == ["/good"]


def test_several_files_have_the_checksum_of_what_sha256sum_prints(server: Server, tmp_path: Path) -> None:
    both = [server.file("/good", place="a/1"), server.file("/lines.gz", sha256=sha256_of(ZIPPED), place="a/2.gz")]
    printed = f"{CHECKSUM}  a/1\n{sha256_of(ZIPPED)}  a/2.gz\n"
    _, found = find("pair", [both])
    assert found.checksum == sha256_of(printed.encode())
    assert found.paths[1].read_bytes() == ZIPPED, "what a server calls an encoding is kept as it is"


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_another_file_is_refused_and_not_kept(server: Server, cache: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"/changed must have sha256 {CHECKSUM}, got another file, which was not kept"
    ):
        find("numbers", [[server.file("/changed")]])
    assert files(cache) == []


def test_a_server_that_breaks_off_leaves_nothing(server: Server, cache: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"must name a folder with numbers/numbers.bin, for numbers, got ''.* cannot be downloaded: .*/broken.* broke off",
    ):
        find("numbers", [[server.file("/broken")]])
    assert files(cache) == []


def test_the_next_address_is_tried(server: Server) -> None:
    gone = server.file("/missing", "/broken", "/changed", "/good")
    assert find("numbers", [[gone]])[1].checksum == CHECKSUM
    assert server.asked == ["/missing", "/broken", "/changed", "/good"]


def test_nobody_answers(server: Server) -> None:
    closed = File("numbers/numbers.bin", ("http://127.0.0.1:9/numbers.bin",), CHECKSUM)
    with pytest.raises(FileNotFoundError, match=r"cannot be downloaded: http://127.0.0.1:9/numbers.bin did not answer"):
        find("numbers", [[closed]])


def test_offline(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEURETIC_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"with numbers/numbers.bin, for numbers, .*Try HEURETIC_OFFLINE=0"):
        find("numbers", [[server.file("/good")]])
    assert server.asked == []


def test_a_file_that_nobody_publishes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEURETIC_DATA", str(cache))
    with pytest.raises(FileNotFoundError, match=f"must name a folder with a/1 and a/2, for pair, got '{cache}'"):
        find("pair", [[File("a/1"), File("a/2")]])


def test_ones_own_folder_comes_first(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download(server.file("/good"), tmp_path / "cache/files")
    (tmp_path / "own/numbers").mkdir(parents=True)
    (tmp_path / "own/numbers/numbers.bin").write_bytes(b"a sample")
    monkeypatch.setenv("HEURETIC_DATA", str(tmp_path / "own"))
    _, found = find("numbers", [[server.file("/good")]])
    assert (found.paths[0].read_bytes(), found.checksum) == (b"a sample", sha256_of(b"a sample"))


def test_a_file_damaged_in_the_cache_is_downloaded_anew(server: Server) -> None:
    _, found = find("numbers", [[server.file("/good")]])
    found.paths[0].write_bytes(CONTENT[:1000])
    assert find("numbers", [[server.file("/good")]]) == (0, found)
    assert found.paths[0].read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_killed_process_leaves_no_file_that_looks_whole(server: Server, cache: Path) -> None:
    file = server.file("/slow")
    code = f"from heuretic.data.files import File, find; find('numbers', [[{file!r}]])"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    assert server.waiting.wait(60), "half of it was sent"
    while not any(path.stat().st_size for path in (cache / "files").rglob("tmp*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    (left,) = (cache / "files/numbers").iterdir()
    assert left.name.startswith("tmp")
    assert find("numbers", [[server.file("/good")]])[1].paths[0].read_bytes() == CONTENT
    assert left.exists(), "it could belong to a process that is still at it"
    os.utime(left, (time.time() - 90_000, time.time() - 90_000))
    download(server.file("/good"), cache / "files")
    assert files(cache / "files") == ["numbers/numbers.bin"]


def test_two_processes_download_at_once(server: Server, cache: Path) -> None:
    code = f"from heuretic.data.files import File, find; print(find('n', [[{server.file('/good')!r}]])[1].checksum)"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == [CHECKSUM] * 2
    assert files(cache / "files") == ["numbers/numbers.bin"]


def test_from_the_server_to_a_data_set(server: Server, cache: Path) -> None:
    def read(paths: Sequence[Path], records: Records) -> Parts:
        lines = gzip.decompress(paths[0].read_bytes()).decode().splitlines()
        return {"train": Split(Texts.of(lines[:-1]), None), "test": Split(Texts.of(lines[-1:]), None)}

    source = Source((server.file("/lines.gz", sha256=sha256_of(ZIPPED), place="lines/lines.gz"),), read)
    for _ in range(2):
        data = unpacked("lines", [source], (), "raise")
        assert (len(data.train), data.test.inputs[0], data.checksum) == (999, "one line", sha256_of(ZIPPED))
        assert isinstance(data.train.inputs.bytes, np.memmap)
    assert server.asked == ["/lines.gz"]


def test_checksums_of_files_that_do_not_change_are_noted(cache: Path, tmp_path: Path) -> None:
    old = Path(os.__file__)  # times within the last seconds are not trusted
    assert sha256(old) == sha256_of(old.read_bytes())
    (note,) = (cache / "checksums").iterdir()
    note.write_text(note.read_text().replace(sha256_of(old.read_bytes()), "noted"))
    assert sha256(old) == "noted", "it was not read again"
    note.write_text("{")
    assert sha256(old) == sha256_of(old.read_bytes())

    new = tmp_path / "new"
    new.write_bytes(b"before")
    assert sha256(new) == sha256_of(b"before")
    times = (new.stat().st_atime_ns, new.stat().st_mtime_ns)
    new.write_bytes(b"behind")
    os.utime(new, ns=times)
    assert sha256(new) == sha256_of(b"behind"), "same size and time of change"
