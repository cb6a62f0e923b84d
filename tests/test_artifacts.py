"""Files of trials: stored once, whole or not at all, checked when read, kept while a trial refers to them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import heuretic as hr
from heuretic.cli.main import main
from heuretic.study import Artifact, ArtifactError, Artifacts
from heuretic.study.artifacts import artifacts_url, checked_name
from objectives import SPACE, saving

DAY = 24 * 3600.0
Command = Callable[..., str]


@pytest.fixture(params=["folder", "file", "local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    """A place for files: a folder, or a target of fsspec."""
    urls = {
        "folder": str(tmp_path / "files"), "file": f"file://{tmp_path}/files",
        "local": f"local://{tmp_path}/[*]/files",  # through fsspec
        "memory": f"memory://{uuid4().hex}/files",
    }  # fmt: skip
    return Artifacts(urls[request.param])


class Pipe(io.RawIOBase):
    """A stream that can be read once, such as a download."""

    def __init__(self, size: int, fails_at: int | None = None) -> None:
        self.left, self.fails_at = size, fails_at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if self.fails_at is not None and self.left <= self.fails_at:
            raise ConnectionResetError("the other side is gone")
        count = min(len(buffer), self.left)
        buffer[:count] = b"x" * count
        self.left -= count
        return count


def on_disk(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def files(place: Artifacts) -> list[str]:
    """All keys in a place, unfinished files included."""
    return sorted(key for key, _ in place._place.files())


def overwrite(place: Artifacts, artifact: Artifact, content: bytes) -> None:
    """Damage stored content behind its back."""
    with place._place.create(f"{artifact.digest[:2]}/{artifact.digest[2:]}.new") as file:
        file.write(content)
    place._place.move(
        f"{artifact.digest[:2]}/{artifact.digest[2:]}.new", f"{artifact.digest[:2]}/{artifact.digest[2:]}"
    )


# -- storing and reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"abc", bytes(range(256)) * 9000])
def test_bytes_paths_and_streams_come_back(place: Artifacts, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "source").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    expected = Artifact("a", digest, len(content))
    assert place.put("a", content) == expected
    assert place.put("a", tmp_path / "source") == expected
    assert place.put("a", str(tmp_path / "source")) == expected
    assert place.put("a", io.BytesIO(content)) == expected
    with open(tmp_path / "source", "rb") as file:
        assert place.put("a", file) == expected
    assert place.read(expected) == content == place.read(digest)
    assert files(place) == [f"{digest[:2]}/{digest[2:]}"]
    assert place.digests() == {digest: len(content)}
    assert place.copy_to(expected, tmp_path / "new/copy").read_bytes() == content
    assert on_disk(tmp_path / "new") == ["copy"]


def test_a_stream_that_cannot_be_read_twice_is_stored_once(place: Artifacts) -> None:
    first = place.put("x", io.BufferedReader(Pipe(3_000_001)))
    assert place.put("x", io.BufferedReader(Pipe(3_000_001))) == first == place.put("x", b"x" * 3_000_001)
    assert len(files(place)) == 1


def test_content_that_is_here_is_not_written_again(tmp_path: Path) -> None:
    place = Artifacts(tmp_path / "files")
    saved = place.put("a", b"abc")
    path = tmp_path / "files" / saved.digest[:2] / saved.digest[2:]
    before = path.stat().st_ino
    place.put("b", io.BytesIO(b"abc"))
    assert path.stat().st_ino == before


def test_a_stream_is_read_from_where_it_stands_and_not_at_its_end(place: Artifacts) -> None:
    stream = io.BytesIO(b"headbody")
    stream.seek(4)
    assert place.read(place.put("a", stream)) == b"body"
    with pytest.raises(ValueError, match=r"'a' must not stand at its end.*\.seek\(0\)"):
        place.put("a", stream)
    with pytest.raises(TypeError, match="binary mode"):
        place.put("a", io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="bytes, a path or an open binary file, got int"):
        place.put("a", 3)  # type: ignore[arg-type]


def test_a_file_that_changes_while_it_is_saved_is_stored_as_what_was_read(place: Artifacts) -> None:
    class Growing(io.BytesIO):
        def seek(self, offset: int, whence: int = 0, /) -> int:
            self.getbuffer()[0:3] = b"new"
            return super().seek(offset, whence)

    saved = place.put("log", Growing(b"old log"))
    assert place.read(saved) == b"new log"
    assert saved.digest == hashlib.sha256(b"new log").hexdigest()


def test_a_source_that_fails_leaves_nothing(place: Artifacts, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot save 'x'.*the other side is gone"):
        place.put("x", io.BufferedReader(Pipe(5_000_000, fails_at=1_000_000)))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        place.put("x", tmp_path / "nowhere")
    assert files(place) == []


def test_streams_can_be_sought_and_read_in_any_pieces(place: Artifacts) -> None:
    content = os.urandom(3_000_000)
    saved = place.put("a", content)
    with place.open(saved) as file:
        assert file.seekable()
        assert file.read(10) == content[:10]
        assert file.tell() == 10
        file.seek(-5, os.SEEK_END)
        assert file.read() == content[-5:]
        file.seek(2_000_000)
        assert file.read(7) == content[2_000_000:2_000_007]
    with place.open(saved) as file:
        assert b"".join(iter(lambda: file.read(99_991), b"")) == content


# -- damage -------------------------------------------------------------------------------------------------------


def test_damage_is_found_by_whoever_reads_to_the_end(place: Artifacts, tmp_path: Path) -> None:
    content = os.urandom(2_500_000)
    saved = place.put("model.pt", content)
    good = place.put("good", b"good")
    overwrite(place, saved, content[:-1] + bytes([content[-1] ^ 1]))
    damaged = rf"digest {saved.digest}, got [0-9a-f]+ in {re.escape(place.url)}: it is damaged"
    for read in (place.read, lambda a: place.copy_to(a, tmp_path / "copy"), lambda a: place.open(a).read(len(content))):
        with pytest.raises(ArtifactError, match=damaged):
            read(saved)
    assert not (tmp_path / "copy").exists()
    with place.open(saved) as file:
        assert file.read(5) == content[:5]
        with pytest.raises(ArtifactError, match=damaged):
            file.seek(0, os.SEEK_END)
        with pytest.raises(ArtifactError, match=damaged):
            file.read()
    assert list(place.verify()) == [saved.digest]
    assert place.verify([good]) == {}


def test_lost_pieces_and_files_are_found_and_saving_again_mends_them(place: Artifacts) -> None:
    saved = place.put("a", b"whole content")
    overwrite(place, saved, b"whole")
    with pytest.raises(ArtifactError, match=r"'a' \(.*\) must have 13 bytes, got 5"):
        place.open(saved)
    with pytest.raises(ArtifactError, match="it is damaged"):
        place.read(saved.digest)
    place.put("a", b"whole content")
    assert place.read(saved) == b"whole content"
    absent = "0" * 64
    with pytest.raises(ArtifactError, match=re.escape(f"{absent} is missing in {place.url}")):
        place.open(absent)
    assert list(place.verify([saved, absent])) == [absent]


def test_torch_loads_from_an_open_artifact(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    place, buffer = Artifacts(tmp_path), io.BytesIO()
    torch.save({"weight": torch.arange(1000)}, buffer)
    buffer.seek(0)
    saved = place.put("model.pt", buffer)
    with place.open(saved) as file:
        assert torch.load(file, weights_only=True)["weight"].sum() == 499500


# -- names, digests and places that are refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", ".", "a\0b", "C:\\x", "c:x", "a\\..\\b", "a\nb", "\x1b[2J", "\ud800", None]
)  # fmt: skip
def test_names_that_could_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    place = Artifacts(tmp_path / "files")
    digest = place.put("fine", b"x").digest
    with pytest.raises(ArtifactError, match="name must"):
        checked_name(name)
    with pytest.raises(ArtifactError, match="name must"):
        place.put(name, b"y")
    with pytest.raises(ArtifactError, match="name must"):  # from a stranger's database
        place.extract(Artifact(name, digest, 1), tmp_path / "out")
    assert len(files(place)) == 1
    assert not (tmp_path / "out").exists()


def test_a_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    place = Artifacts(tmp_path / "files")
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/link").symlink_to(tmp_path / "elsewhere")
    saved = place.put("link/x", b"x")
    with pytest.raises(ArtifactError, match="leads out"):
        place.extract(saved, tmp_path / "out")
    assert on_disk(tmp_path / "elsewhere") == []
    assert place.extract(place.put("plots/ü 1.png", b"p"), tmp_path / "out").read_bytes() == b"p"


@pytest.mark.parametrize("digest", ["", "ab", "../" * 21 + "x", "g" * 64, "A" * 64, "0" * 63 + "\n", "0" * 65])
def test_digests_that_are_none_are_refused(place: Artifacts, digest: str) -> None:
    for use in (place.open, place.read, lambda d: place.collect([d]), lambda d: place.verify([d])):
        with pytest.raises(ArtifactError, match="64 hexadecimal digits"):
            use(digest)


@pytest.mark.parametrize(
    "url", ["s3://key:s3cret@bucket/x", "ftp://:s3cret@host/", "simplecache::ftp://me:s3cret@host/x"]
)
def test_passwords_are_refused_and_not_repeated(url: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"without a password.*environment") as caught:
        Artifacts(url)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ArtifactError, match="without a password"):
        hr.discover(SPACE, saving, trials=1, store=f"sqlite:///{tmp_path}/s.db", artifacts=url)
    assert hr.study.open_store(f"sqlite:///{tmp_path}/s.db").names() == []


def test_places_that_cannot_be_reached_say_why() -> None:
    with pytest.raises(ArtifactError, match="a folder or a URL that fsspec knows"):
        Artifacts("nonsense://x")
    with pytest.raises(ArtifactError, match="got ''"):
        Artifacts("")


def test_folders_need_no_fsspec_and_targets_say_what_they_need(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["fsspec"] = None  # as if it were not installed
from heuretic.study import Artifacts
for place in (Artifacts({str(tmp_path)!r}), Artifacts("file://{tmp_path}")):
    print(place.read(place.put("a", b"content")))
try:
    Artifacts("memory://x")
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("content") == 2
    assert "pip install 'heuretic[artifacts]'" in done.stdout


# -- processes: together, killed, out of space ----------------------------------------------------------------------


def put_all(url: str, seed: int) -> list[str]:
    place = Artifacts(url)
    order = [(i * 7 + seed) % 10 for i in range(10)]
    return [place.put(str(i), bytes([i]) * 300_000).digest for i in order]


@pytest.mark.parametrize("scheme", ["", "local://"])
def test_processes_put_the_same_content_at_the_same_moment(tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}{tmp_path}"
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(put_all, [url] * 8, range(8)))
    assert {frozenset(digests) for digests in results} == {frozenset(Artifacts(url).digests())}
    assert len(on_disk(tmp_path)) == 10
    assert Artifacts(url).verify() == {}


@pytest.mark.parametrize("scheme", ["", "local://"])
def test_a_process_killed_while_writing_leaves_no_half_file(tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}{tmp_path}/files"
    code = f"""
import io, sys, time
from heuretic.study import Artifacts
class Slow(io.RawIOBase):
    sent = 0
    def readable(self): return True
    def readinto(self, buffer):
        if self.sent > 5_000_000:
            print("half", flush=True)
            time.sleep(60)
        self.sent += len(buffer)
        return len(buffer)
Artifacts({url!r}).put("x", Slow())
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    place = Artifacts(url)
    assert place.digests() == {}
    [left] = files(place)
    assert left.startswith("incoming/")
    assert place.collect([]).leftovers == 0  # it could belong to a process that is alive
    removed = place.collect([], older_than_s=0)
    assert removed.leftovers == 1
    assert removed.size >= 4 << 20
    assert removed.digests == ()
    assert files(place) == []


def test_memory_is_bounded_by_the_pieces(tmp_path: Path) -> None:
    code = f"""
import io, resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_artifacts import Pipe
from heuretic.study import Artifacts
place = Artifacts({str(tmp_path / "files")!r})
place.read(place.put("warm", b"up"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
saved = place.put("x", io.BufferedReader(Pipe(50_000_000)))
assert place.put("x", place.copy_to(saved, {str(tmp_path / "copy")!r})) == saved
with place.open(saved) as file:
    file.seek(0, 2)
assert place.verify() == {{}}
print(saved.size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    size, kib = map(int, done.stdout.split())
    assert size == 50_000_000
    assert kib < 16_000


FULL = """
import resource, signal, sys
sys.path.insert(0, {tests!r})
import heuretic as hr
from objectives import SPACE, score
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def evaluate(point, trial):
    if trial.index == 1:
        {limit}
        trial.save("big", bytes(30_000_000))
    trial.save("small", str(trial.index).encode())
    return score(point)
study = hr.discover(SPACE, evaluate, trials=3, store="sqlite:///{store}", artifacts={place!r}, progress=False)
print([trial.state for trial in study.trials])
print(study.trials[1].error)
assert study.open(2, "small").read() == b"2"
assert study.artifacts.verify() == {{}}
print(sorted(key.split("/")[0] for key, _ in study.artifacts._place.files() if key.startswith("incoming")))
"""


def run_full(tmp_path: Path, place: Path, limit: str) -> str:
    code = FULL.format(tests=str(Path(__file__).parent), store=tmp_path / "s.db", place=str(place), limit=limit)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_a_file_too_large_for_the_place_fails_its_trial_only(tmp_path: Path) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, resource.RLIM_INFINITY))"
    states, *error, left = run_full(tmp_path, tmp_path / "files", limit).splitlines()
    assert states == "['finished', 'failed', 'finished']"
    assert f"cannot save 'big' in {tmp_path}/files: File too large. Nothing was left there; free space" in "".join(
        error
    )
    assert left == "[]"


def test_a_full_disk_fails_its_trial_only(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        states, *error, left = run_full(tmp_path, disk / "files", "pass").splitlines()
        assert states == "['finished', 'failed', 'finished']"
        assert f"OSError: [Errno 28] cannot save 'big' in {disk}/files: No space left on device" in "".join(error)
        assert left == "[]"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# -- collection ---------------------------------------------------------------------------------------------------


def test_collection_spares_what_is_young_or_referred_to_and_what_is_not_ours(place: Artifacts) -> None:
    kept, gone = place.put("kept", b"kept"), place.put("gone", b"gone!")
    with place._place.create("README.txt/x") as file:
        file.write(b"not ours")
    assert place.collect([kept]).digests == ()
    with pytest.raises(ValueError, match="older_than_s must be >= 0"):
        place.collect([], older_than_s=-1)
    would = place.collect([kept], older_than_s=0, dry_run=True)
    assert (would.digests, would.size, would.leftovers) == ((gone.digest,), 5, 0)
    assert set(place.digests()) == {kept.digest, gone.digest}
    assert place.collect(iter([kept]), older_than_s=0) == would
    assert set(place.digests()) == {kept.digest}
    assert "README.txt/x" in files(place)
    assert place.collect([kept.digest], older_than_s=0).digests == ()


def test_content_that_is_saved_again_is_young_again(tmp_path: Path) -> None:
    long_ago = time.time() - 3 * DAY
    for url in (str(tmp_path / "a"), f"local://{tmp_path}/b"):
        place = Artifacts(url)
        saved = place.put("a", b"abc")
        path = Path(url.removeprefix("local://")) / saved.digest[:2] / saved.digest[2:]
        os.utime(path, (long_ago, long_ago))
        assert place.collect([], dry_run=True).digests == (saved.digest,)
        place.put("again", b"abc")  # its trial is not committed yet
        assert place.collect([]).digests == ()
        assert place.read(saved) == b"abc"
        os.utime(path, (long_ago, long_ago))
        assert place.collect([]).digests == (saved.digest,)


def test_an_empty_place_has_nothing(place: Artifacts) -> None:
    assert place.digests() == {}
    assert place.verify() == {}
    assert place.collect([], older_than_s=0).digests == ()


# -- studies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["inline", "processes"])
def test_files_of_a_study_are_there_when_it_is_opened_again(tmp_path: Path, engine: Any) -> None:
    store = f"sqlite:///{tmp_path}/study.db?synchronous=NORMAL"
    hr.discover(SPACE, saving, trials=6, store=store, engine=engine, workers=2, progress=False)
    study = hr.open_study(store)
    for trial in study.trials:
        assert trial.state == "finished", trial.error
        assert list(study.files(trial)) == ["own/point.txt", "common.bin"]
        with study.open(trial.number, "own/point.txt") as file:
            assert file.read().startswith(f"trial {trial.number}: ".encode())
        assert study.open(trial, "common.bin").read() == bytes(1000)
    assert study.artifacts.url == f"{tmp_path}/study.db-artifacts"
    assert len(study.artifacts.digests()) == 7
    with pytest.raises(ValueError, match=r"own/point.txt, common.bin; got 'x'"):
        study.open(0, "x")
    with pytest.raises(ValueError, match="one of 6 in 'saving', got 99"):
        study.files(99)


def test_where_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEURETIC_ARTIFACTS", raising=False)
    assert artifacts_url(None, "memory") is None
    assert artifacts_url(None, "postgresql://me@host/db") is None
    assert artifacts_url(None, "sqlite:///:memory:") is None
    assert artifacts_url(None, "sqlite:///a/s.db?synchronous=NORMAL") == f"{tmp_path}/a/s.db-artifacts"
    assert artifacts_url("given", "memory") == f"{tmp_path}/given"
    monkeypatch.setenv("HEURETIC_ARTIFACTS", f"file://{tmp_path}/there")
    assert artifacts_url(None, "sqlite:///s.db") == f"{tmp_path}/there"
    assert artifacts_url("memory://given", "sqlite:///s.db") == "memory://given"


def test_a_study_without_a_place_says_so(tmp_path: Path) -> None:
    study = hr.discover(SPACE, saving, trials=1, progress=False)
    assert "a study in memory has no place for files" in str(study.trials[0].error)
    with pytest.raises(ValueError, match=r"open_study\(\.\.\., artifacts=\.\.\.\) or HEURETIC_ARTIFACTS"):
        _ = study.artifacts
    study = hr.discover(SPACE, saving, trials=1, progress=False, artifacts=str(tmp_path / "files"))
    assert study.open(0, "common.bin").read() == bytes(1000)


def test_trials_learnt_from_do_not_refer_to_files_of_another_study(tmp_path: Path) -> None:
    first = hr.discover(SPACE, saving, trials=2, progress=False, artifacts=str(tmp_path / "files"))
    later = hr.discover(SPACE, saving, trials=1, progress=False, warm_start=first)
    assert first.files(0)
    assert [later.files(-1), later.files(-2)] == [{}, {}]


# -- the command line -----------------------------------------------------------------------------------------------


@pytest.fixture
def heuretic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run `heuretic artifacts` in this process, which is faster; return what it printed and check the exit code."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["heuretic", "artifacts", *arguments])
        with pytest.raises(SystemExit) as done:
            main()
        out, err = capfd.readouterr()
        assert (done.value.code or 0) == code, (out, err)
        return err if code and not out else out

    return run


def test_list_get_verify_and_gc_keep_the_files_of_all_studies(tmp_path: Path, heuretic: Command) -> None:
    store = f"sqlite:///{tmp_path}/heuretic.db"
    first = hr.discover(SPACE, saving, trials=2, store=store, name="first", progress=False)
    hr.discover(SPACE, saving, trials=3, store=store, name="group/second", seed=1, progress=False)
    listed = json.loads(heuretic("list", "--json"))
    assert len(listed) == 10
    assert len(json.loads(heuretic("list", "group/second", "--json"))) == 6
    assert "first/0/own/point.txt" in heuretic("list", "first/0")
    assert "has no trial 7" in heuretic("list", "first/7", code=1)
    assert "no study 'third'" in heuretic("get", "third", code=1)

    heuretic("get", "group/second", "--out", "all")
    assert on_disk(tmp_path / "all") == sorted(
        f"{n}/{name}" for n in range(3) for name in ("common.bin", "own/point.txt")
    )
    heuretic("get", "first/1/own/point.txt")
    assert (tmp_path / "own/point.txt").read_bytes() == first.open(1, "own/point.txt").read()
    assert "own/point.txt is there already" in heuretic("get", "first/1/own/point.txt", code=1)

    orphan = first.artifacts.put("orphan", b"nobody refers to this")
    assert "would remove 0 files" in heuretic("gc", "--dry-run")
    dry = heuretic("gc", "--older-than-h", "0", "--dry-run")
    assert orphan.digest in dry
    assert "would remove 1 files" in dry
    gone = json.loads(heuretic("gc", "--older-than-h", "0", "--json"))
    assert gone == {"digests": [orphan.digest], "bytes": 21, "leftovers": 0, "dry_run": False}
    assert json.loads(heuretic("verify", "--json")) == {"checked": 5, "wrong": {}}

    other = f"sqlite:///{tmp_path}/other.db"
    hr.discover(SPACE, saving, trials=1, store=other, progress=False)
    shared = str(tmp_path / "heuretic.db-artifacts")
    nothing = Artifacts(tmp_path / "elsewhere").put("x", b"x")
    wrong = heuretic("gc", "--store", other, "--artifacts", str(tmp_path / "elsewhere"), code=1)
    assert "are they the stores of this place" in wrong
    assert Artifacts(tmp_path / "elsewhere").read(nothing) == b"x"
    both = heuretic("gc", "--store", store, "--store", other, "--older-than-h", "0", code=1)
    assert "--artifacts must say which place" in both
    heuretic("gc", "--store", store, "--store", other, "--artifacts", shared, "--older-than-h", "0")

    common = hashlib.sha256(bytes(1000)).hexdigest()
    (Path(shared) / common[:2] / common[2:]).write_bytes(bytes(999) + b"1")
    found = heuretic("verify", code=1)
    assert "first/0/common.bin: content must have digest" in found
    assert "1 missing or damaged" in found
    assert "it is damaged" in heuretic("get", "first/0/common.bin", code=1)
    assert not (tmp_path / "common.bin").exists()
