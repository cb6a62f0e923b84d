"""Search of the user's own files by words."""

from __future__ import annotations

import asyncio
import re
import threading
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af_]+")
"""Scripts without spaces count by character."""
_lock = threading.Lock()


class BM25(Symbolic):
    """Finds the passages of files that share the rarest words with a query.

    Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", as Lucene scores it, computed by bm25s
    (Lù 2024, arXiv:2407.03618). Words are compared in small letters, without stemming; passages that share no word with the query are
    never found, and of equal scores the first passage comes first. The index is made once for each content of the files, and
    read from the cache by memory map; texts stay on disk.
    """

    paths: tuple[str, ...] = field(default=(), doc="files or folders of .txt, .md, .rst, .jsonl and .csv")
    pieces: tuple[Mapping[str, str], ...] = field(default=(), doc="evidence in memory beside the files, see `BM25.of`")
    words: int = field(default=180, ge=1, doc="most words of a passage")
    k1: float = field(default=1.5, ge=0, doc="how slowly repetitions of a word stop counting")
    b: float = field(default=0.75, ge=0, le=1, doc="how much long passages are held back")
    corrupt: Corrupt = field(default="raise", doc="what to do with records that cannot be read")

    @classmethod
    def of(cls, evidence: Sequence[Evidence], **settings: Any) -> BM25:
        """Return a search of evidence that is in memory."""
        return cls(pieces=as_pieces(evidence), **settings)

    def __post_init__(self) -> None:
        check_sources("BM25", self.paths, self.pieces)

    async def __call__(self, query: str, k: int) -> Sequence[Evidence]:
        """Return at most `k` passages. Raises: what reading the files raises; ImportError without bm25s."""
        return await asyncio.to_thread(self.find, query, k)

    def find(self, query: str, k: int) -> list[Evidence]:
        """Return the same, in plain code."""
        return [piece for piece, _ in self.index().scored(query, k)]

    def index(self) -> BM25Index:
        """Return the index, made if the files changed."""
        paths = files_of(self.paths)
        with _lock:  # of those who ask at once for an index that is not made yet, one makes it
            return _opened(self, fingerprint(paths))


def words_of(text: str) -> list[str]:
    """Return the words of a text as they are compared."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


class BM25Index:
    """Passages in memory or on disk, to be searched by words; what `BM25` is made of.

    Args: found: The passages. ranker: Their index, made if it is not given. k1, b: As those of `BM25`.
    """

    def __init__(
        self, found: Kept | Sequence[Evidence], *, k1: float = 1.5, b: float = 0.75, ranker: Any = None
    ) -> None:
        self.passages = found
        self._ranker: Any
        if ranker is None:
            ranker = _ranked((found[place] for place in range(len(found))), k1, b)
        self._ranker = ranker

    async def __call__(self, query: str, k: int) -> list[Evidence]:
        """Return at most `k` passages that share a word with the query, the best first."""
        return [piece for piece, _ in self.scored(query, k)]

    def scored(self, query: str, k: int) -> list[tuple[Evidence, float]]:
        """Return the same with their scores, in plain code."""
        scores = self.scores(query)
        return [(self.passages[place], float(scores[place])) for place in best(scores, k, above=0.0)]

    def scores(self, query: str) -> NDArray[np.float32]:
        """Return the score of every passage, shape (passages,), in their order."""
        words = [] if self._ranker is None else [w for w in words_of(query) if w in self._ranker.vocab_dict]
        if not words:
            return np.zeros(len(self.passages), np.float32)
        return np.asarray(self._ranker.get_scores(words), np.float32)  # pyright: ignore[reportOptionalMemberAccess]


@lru_cache(maxsize=8)
def _opened(search: BM25, files: tuple[tuple[str, int, int, int], ...]) -> BM25Index:
    """Return the index for files in the state that `files` tells."""
    bm25s = _library()
    inside = (part for whole in pieces_of(search.pieces) for part in split(whole, search.words))
    if not files:
        return BM25Index(list(inside), k1=search.k1, b=search.b)
    paths = [Path(name) for name, *_ in files]
    settings = {
        "bm25s": version("bm25s"), "words": search.words, "k1": search.k1, "b": search.b, "corrupt": search.corrupt,
        "pieces": [dict(piece) for piece in search.pieces],
    }  # fmt: skip

    def make(folder: Path) -> None:
        everything = write_passages(folder, chain(passages(paths, search.words, search.corrupt), inside))
        ranker = _ranked(everything, search.k1, search.b)
        if ranker is None:
            raise ValueError(f"passages must have words, got none in {', '.join(search.paths)}")
        ranker.save(folder, show_progress=False)

    def read(folder: Path) -> BM25Index:
        kept = Kept(folder)
        ranker = bm25s.BM25.load(folder, mmap=True, show_progress=False)
        if ranker.scores["num_docs"] != len(kept):
            raise ValueError(f"index must be of {len(kept)} passages, got {ranker.scores['num_docs']}")
        return BM25Index(kept, ranker=ranker)

    return kept_in_cache("bm25", key_of(paths, settings), make, read)


def _ranked(found: Iterable[Evidence], k1: float, b: float) -> Any:
    """Return the index of passages, None if there is no word in them. Words are numbers, 4 bytes each, while it is made."""
    vocabulary: dict[str, int] = {}
    numbers = [
        np.array([vocabulary.setdefault(word, len(vocabulary)) for word in words_of(f"{p.title}\n{p.text}")], np.int32)
        for p in found
    ]
    if not vocabulary:
        return None
    ranker = _library().BM25(method="lucene", k1=k1, b=b, backend="numpy", csc_backend="numpy")
    ranker.index((numbers, vocabulary), create_empty_token=False, show_progress=False)
    return ranker


def _library() -> Any:
    try:
        import bm25s
    except ImportError as error:
        raise ImportError("BM25 must have bm25s. Try pip install bm25s") from error
    return bm25s
