"""Arrays of data sets, unpacked once into the cache and memory-mapped from then on.

Each data set is one folder of .npy files, named for the checksum of what it was made from, so it never has to be brought up
to date. It is filled under another name and renamed when whole and on disk: a process that dies half-way, or two that
unpack at once, leave a whole folder or none. Where the cache cannot be written, arrays stay in memory, with a warning.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from heuretic.data.dataset import DataSet, Parts, Split
from heuretic.data.files import File, cache_folder, find, sweep
from heuretic.data.packed import Texts, Waveforms
from heuretic.data.records import Corrupt, Records

FORMAT = 2
"""Part of the folders' names: to be raised when a reader changes what it makes of the same files."""

Reader = Callable[[Sequence[Path], Records], Parts]


@dataclass(frozen=True, slots=True)
class Source:
    """One form in which a data set is published: its files, and what makes splits of them.

    `read(paths, records)` returns "train", "test" and, where there is one, "validation", and tells `records` what it
    cannot use.
    """

    files: tuple[File, ...]
    read: Reader


def unpacked(name: str, sources: Sequence[Source], classes: tuple[str, ...], corrupt: Corrupt) -> DataSet[Any, Any]:
    """Return a data set from whichever of its forms is there, memory-mapped where the cache can be written.

    Raises: FileNotFoundError if its files are not to be had; ValueError if they cannot be read.
    """
    number, found = find(name, [source.files for source in sources])
    records = Records(corrupt)
    cache = cache_folder()
    folder = cache and cache / "unpacked" / f"{name}-{found.checksum[:16]}-{FORMAT}"
    parts = folder and _open(folder, records)
    if parts is None:
        parts = _read(sources[number], found.paths, records)
        parts = _keep(name, folder, parts, records)
    records.check(found.paths)
    return DataSet(
        name=name, train=parts["train"], test=parts["test"], validation=parts.get("validation"), unlabelled=None,
        classes=classes, checksum=found.checksum, skipped=len(records.bad),
    )  # fmt: skip


def _read(source: Source, paths: Sequence[Path], records: Records) -> Parts:
    parts = source.read(paths, records)
    for part, split in parts.items():
        if not len(split):
            left = f", {len(records.bad)} corrupt ones left out" if records.bad else ""
            raise ValueError(f"{part} must have records, got none{left} at {paths[0].parent}")
    return parts


def _keep(name: str, folder: Path | None, parts: Parts, records: Records) -> Parts:
    if folder is None:
        warnings.warn(
            f"{name} stays in memory and is unpacked at every load. Try pip install 'heuretic[data]' or HEURETIC_CACHE=FOLDER",
            stacklevel=2,
        )
        return parts
    try:
        _write(folder, parts, records)
    except OSError as error:
        warnings.warn(
            f"{name} stays in memory and is unpacked at every load: the cache cannot be written ({error}). "
            "Try HEURETIC_CACHE=FOLDER",
            stacklevel=2,
        )
        return parts
    mapped = _open(folder, Records(records.corrupt))
    return parts if mapped is None else mapped


def _write(folder: Path, parts: Parts, records: Records) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent.glob("partial-*"))
    new = folder.parent / f"partial-{secrets.token_hex(8)}"
    new.mkdir()
    try:
        shapes: dict[str, Any] = {}
        for part, split in parts.items():
            shapes[part] = {}
            for column in ("inputs", "labels"):
                kind, arrays = _arrays(getattr(split, column))
                shapes[part][column] = kind
                for suffix, array in arrays.items():
                    with (new / f"{part}-{column}{suffix}.npy").open("wb") as file:
                        np.save(file, array)
                        _to_disk(file)
        with (new / "splits.json").open("w") as file:
            json.dump({"splits": shapes, "bad": records.bad}, file)
            _to_disk(file)
        if folder.exists() and _open(folder, Records("skip")) is None:
            shutil.rmtree(folder, ignore_errors=True)  # damaged
        try:
            os.rename(new, folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was quicker, and what it made is the same
                raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _to_disk(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _open(folder: Path, records: Records) -> Parts | None:
    """Return the splits in a folder, memory-mapped, or None if it is not there or damaged."""
    try:
        shapes = json.loads((folder / "splits.json").read_text())
        parts = {
            part: Split(*(_column(folder / f"{part}-{column}", kind) for column, kind in columns.items()))
            for part, columns in shapes["splits"].items()
        }
        records.bad.extend((str(name), int(row), str(reason)) for name, row, reason in shapes["bad"])
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    return parts


def _arrays(column: Any) -> tuple[Any, Mapping[str, NDArray[Any]]]:
    match column:
        case None:
            return None, {}
        case Texts():
            return "texts", {"-bytes": column.bytes, "-starts": column.starts, "-ends": column.ends}
        case Waveforms():
            return column.sample_rate, {"-samples": column.samples, "-starts": column.starts, "-ends": column.ends}
        case _:
            return "array", {"": cast(NDArray[Any], column)}


def _column(path: Path, kind: Any) -> Any:
    def mapped(suffix: str) -> NDArray[Any]:
        return np.load(path.with_name(path.name + suffix + ".npy"), mmap_mode="r", allow_pickle=False)

    match kind:
        case None:
            return None
        case "array":
            return mapped("")
        case "texts":
            return Texts(mapped("-bytes"), mapped("-starts"), mapped("-ends"))
        case _:
            return Waveforms(mapped("-samples"), mapped("-starts"), mapped("-ends"), int(kind))
