"""Recordings: the Free Spoken Digit Dataset."""

from __future__ import annotations

import io
import re
import tarfile
import wave
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heuretic.data.dataset import DataSet, Parts, Split
from heuretic.data.files import File
from heuretic.data.packed import Waveforms
from heuretic.data.records import Corrupt, Records, unreadable
from heuretic.data.unpacked import Source, unpacked

SAMPLE_RATE = 8000
DIGITS = tuple(str(digit) for digit in range(10))


def fsdd(corrupt: Corrupt) -> DataSet[Waveforms, NDArray[np.int64]]:
    """Return the Free Spoken Digit Dataset (Jackson 2016): English digits at 8,000 Hz, 50 recordings of each by each speaker.

    The first five of the 50 are the test, as the data set's README says. The arrays in `fsdd/fsdd.npz` have six speakers, the
    release that is downloaded otherwise (1.0.9) has five.
    """
    release = File(
        "fsdd/free-spoken-digit-dataset-1.0.9.tar.gz",
        ("https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.9.tar.gz",),
        "8bc44cde129d505cbbb6b365c09f80c663f2aa77578afc634e6141a2f87100c0",
    )
    sources = [Source((File("fsdd/fsdd.npz"),), _read_npz), Source((release,), _read_release)]
    return unpacked("fsdd", sources, DIGITS, corrupt)


def _read_npz(paths: Sequence[Path], records: Records) -> Parts:
    (path,) = paths
    names = ("samples", "offsets", "digit", "is_test", "sample_rate")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            samples, offsets, digit, is_test, rate = (arrays[name] for name in names)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise unreadable(path, f"a whole .npz with {', '.join(names)}", error) from error
    if samples.dtype != np.int16 or not len(offsets) == len(digit) + 1 == len(is_test) + 1 or int(rate) != SAMPLE_RATE:
        raise ValueError(
            f"samples must be int16 at {SAMPLE_RATE} Hz with an offset more than digits, got {samples.dtype} at {int(rate)} Hz, "
            f"{len(offsets)} offsets and {len(digit)} digits at {path}. Try getting it anew"
        )
    labels, starts, ends = digit.astype(np.int64), offsets[:-1].astype(np.int64), offsets[1:].astype(np.int64)
    kept = np.ones(len(labels), bool)
    for row in np.flatnonzero((labels < 0) | (labels >= len(DIGITS))):
        kept[row] = False
        records.refuse(path, int(row), "label must be from 0 to 9", digit[row])
    for row in np.flatnonzero(kept & ((starts < 0) | (starts >= ends) | (ends > len(samples)))):
        kept[row] = False
        records.refuse(
            path, int(row), f"recording must have samples among the {len(samples)}", f"{starts[row]} to {ends[row]}"
        )
    parts = {"train": np.flatnonzero(kept & ~is_test), "test": np.flatnonzero(kept & is_test)}
    return {
        part: Split(Waveforms(samples, starts[rows], ends[rows], SAMPLE_RATE), labels[rows])
        for part, rows in parts.items()
    }


def _read_release(paths: Sequence[Path], records: Records) -> Parts:
    (path,) = paths
    parts: dict[str, list[tuple[NDArray[np.int16], int]]] = {"train": [], "test": []}
    try:
        with tarfile.open(path) as archive:
            members = sorted(
                (m for m in archive if re.search(r"/recordings/\d+_\w+_\d+\.wav$", m.name)), key=lambda m: m.name
            )
            for row, member in enumerate(members):
                file = archive.extractfile(member)
                digit, _, index = Path(member.name).stem.split("_")
                try:
                    samples = _samples(file.read() if file else b"")
                except (wave.Error, EOFError, ValueError) as error:
                    records.refuse(f"{path}:{member.name}", row, "recording must be 16-bit mono at 8,000 Hz", error)
                    continue
                if int(digit) >= len(DIGITS):
                    records.refuse(f"{path}:{member.name}", row, "label must be from 0 to 9", digit)
                    continue
                parts["test" if int(index) < 5 else "train"].append((samples, int(digit)))
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise unreadable(path, "a whole release of the data set", error) from error
    return {part: _packed(recordings) for part, recordings in parts.items()}


def _packed(recordings: Sequence[tuple[NDArray[np.int16], int]]) -> Split[Waveforms, NDArray[np.int64]]:
    ends = np.cumsum([0, *(len(samples) for samples, _ in recordings)], dtype=np.int64)
    samples = np.concatenate([np.zeros(0, np.int16), *(samples for samples, _ in recordings)])
    return Split(
        Waveforms(samples, ends[:-1], ends[1:], SAMPLE_RATE), np.array([digit for _, digit in recordings], np.int64)
    )


def _samples(data: bytes) -> NDArray[np.int16]:
    with wave.open(io.BytesIO(data)) as recording:
        form = (recording.getnchannels(), recording.getsampwidth(), recording.getframerate())
        samples = np.frombuffer(recording.readframes(recording.getnframes()), "<i2")
        if form != (1, 2, SAMPLE_RATE) or not 0 < len(samples) == recording.getnframes():
            raise ValueError(f"{form[0]} channels, {form[1]} bytes, {form[2]} Hz, {len(samples)} samples")
    return samples.astype(np.int16)
