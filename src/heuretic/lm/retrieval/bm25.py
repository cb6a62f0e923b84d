"""Local search by words: BM25 over the user's own files."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from heuretic.data.files import cache_folder
from heuretic.lm.retrieval.evidence import Evidence
from heuretic.lm.retrieval.passages import checksums_of, files_of, passages
from heuretic.symbolic import Symbolic, field

_TOKEN = r"(?u)\b\w+\b"
_FORMAT = 1


class BM25Index:
    """Passages to be searched by the words they share with a query; among equal scores the earlier passage comes first.

    Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", in Lucene's form, by bm25s.

    Args: k1: How much repeated words count. b: How much long passages are held back.
    """

    def __init__(self, found: Sequence[Evidence], *, k1: float = 1.5, b: float = 0.75) -> None:
        self._passages = found
        bm25s = _bm25s()
        self._index = bm25s.BM25(k1=k1, b=b, method="lucene", backend="numpy")
        self._empty = not len(found)
        if not self._empty:
            self._index.index([_words(f"{each.title} {each.text}") for each in found], show_progress=False)

    async def __call__(self, query: str, k: int) -> list[Evidence]:
        """Return at most `k` passages that share a word with the query, the best first."""
        return [passage for passage, _ in self.scored(query, k)]

    def scored(self, query: str, k: int) -> list[tuple[Evidence, float]]:
        """Return passages with their scores."""
        words = [] if self._empty else [word for word in dict.fromkeys(_words(query)) if word in self._index.vocab_dict]
        if not words or k < 1:
            return []
        scores = np.asarray(self._index.get_scores(words))
        best = np.argsort(-scores, kind="stable")[:k] if k >= len(scores) // 8 else _top(scores, k)
        return [(self._passages[int(place)], float(scores[place])) for place in best if scores[place] > 0]

    def save(self, folder: Path) -> None:
        """Write the index to a folder, all or nothing."""
        part = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.part")
        part.mkdir(parents=True)
        self._index.save(part, show_progress=False)
        with (part / "passages.jsonl").open("w", encoding="utf-8") as file:
            for each in self._passages:
                file.write(json.dumps(asdict(each), ensure_ascii=False) + "\n")
        try:
            os.rename(part, folder)
        except OSError:  # another process was first
            shutil.rmtree(part, ignore_errors=True)

    @classmethod
    def load(cls, folder: Path) -> BM25Index:
        """Return an index that was saved; postings stay on disk until they are needed."""
        index = cls(())
        index._index = _bm25s().BM25.load(folder, mmap=True)
        with (folder / "passages.jsonl").open(encoding="utf-8") as file:
            index._passages = [Evidence(**json.loads(line)) for line in file]
        index._empty = False
        return index


class BM25(Symbolic):
    """Search the user's own files by words. The index is made once for each content of the files, and kept in the cache.

    Raises: as `files_of` and `passages`, when it is first called.
    """

    paths: tuple[str, ...] = field(doc="files (.txt, .md, .rst, .jsonl, .csv) and folders of them")
    words: int = field(default=180, ge=1, doc="most words of a passage")
    k1: float = field(default=1.5, ge=0, doc="how much repeated words count")
    b: float = field(default=0.75, ge=0, le=1, doc="how much long passages are held back")

    async def __call__(self, query: str, k: int) -> list[Evidence]:
        """Return at most `k` passages that share a word with the query, the best first."""
        files = files_of(self.paths)
        return await _built(files, checksums_of(files), self.words, self.k1, self.b)(query, k)


@lru_cache(maxsize=8)
def _built(files: tuple[Path, ...], checksums: tuple[str, ...], words: int, k1: float, b: float) -> BM25Index:
    cache = cache_folder()
    key = json.dumps([_FORMAT, [str(file) for file in files], checksums, words, k1, b])
    folder = None if cache is None else cache / "retrieval" / sha256(key.encode()).hexdigest()[:32]
    if folder is not None and folder.is_dir():
        return BM25Index.load(folder)
    index = BM25Index(list(passages(files, words)), k1=k1, b=b)
    if folder is not None:
        index.save(folder)
    return index


def _top(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the places of the k highest scores, of equal ones the first, without sorting all."""
    least = np.partition(scores, -k)[-k]
    above = np.flatnonzero(scores > least)
    equal = np.flatnonzero(scores == least)[: k - len(above)]
    places = np.concatenate([above, equal])
    return places[np.lexsort((places, -scores[places]))]


def _words(text: str) -> list[str]:
    [found] = _bm25s().tokenize([text], token_pattern=_TOKEN, stopwords="en", return_ids=False, show_progress=False)
    return found


def _bm25s() -> Any:
    try:
        import bm25s
    except ImportError as error:
        raise ImportError("BM25 must have bm25s. Try pip install 'heuretic[lm]'") from error
    return bm25s
