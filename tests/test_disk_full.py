"""A database whose disk is full: a clear error, nothing lost, and on it goes when there is room."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import heuretic as hr
import objectives
from heuretic.study import StoreError
from heuretic.study.store import open_store
from objectives import SPACE
from postgres import Server


@pytest.fixture
def small_disk(server: Server) -> Iterator[Path]:
    """A file system of 16 MiB, which the user of the database may enter."""
    place = server.folder / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("file systems may not be mounted here")
    if os.getuid() == 0:
        os.chown(place, pwd.getpwnam("postgres").pw_uid, -1)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
    place.rmdir()


def fill(place: Path) -> Path:
    """Take all room that is left with one file."""
    file = place / "filler"
    with open(file, "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            return file


def test_sqlite(small_disk: Path) -> None:
    url = f"sqlite:///{small_disk}/s.db"
    given = {"store": url, "name": "s", "seed": 1, "progress": False}
    hr.discover(SPACE, objectives.noisy, trials=10, **given)
    filler = fill(small_disk)
    before = hr.open_study(url).trials
    with pytest.raises(StoreError, match=r"The disk is full, or its quota is\. Nothing that was stored is lost"):
        hr.discover(SPACE, objectives.noisy, trials=2000, **given)
    kept = hr.open_study(url).trials
    assert kept[:10] == before
    filler.unlink()
    study = hr.discover(SPACE, objectives.noisy, trials=len(kept) + 20, **given)
    assert study.trials[: len(kept)] == kept
    whole = hr.discover(SPACE, objectives.noisy, trials=len(kept) + 20, seed=1, name="s", progress=False)
    assert [t.genome for t in study.trials] == [t.genome for t in whole.trials]


def test_postgresql(small_disk: Path, server: Server) -> None:
    server.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    server.execute("CREATE DATABASE small TEMPLATE template0 TABLESPACE small")
    url = server.url("small")
    try:
        given = {"store": url, "name": "s", "seed": 1, "progress": False}
        hr.discover(SPACE, objectives.noisy, trials=10, **given)
        filler = fill(small_disk)
        with pytest.raises(StoreError, match=r"The disk is full, or its quota is\. Nothing that was stored is lost"):
            hr.discover(SPACE, objectives.noisy, trials=5000, **given)
        kept = hr.open_study(url).trials
        filler.unlink()
        study = hr.discover(SPACE, objectives.noisy, trials=len(kept) + 20, **given)
        assert study.trials[: len(kept)] == kept
        assert study.counts == {"finished": len(kept) + 20}
        study.store.close()
        open_store(url).close()
    finally:
        server.execute("DROP DATABASE small WITH (FORCE)")
        server.execute("DROP TABLESPACE small")
