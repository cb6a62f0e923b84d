"""Words of texts, and numbers for them.

Plain Python instead of the package `tokenizers`: word replacement needs to put words back into a text, and both have to
mean the same by a word. `tokenizers` would bring a client for a model hub with it, and on one thread takes four times as
long to make arrays of numbers.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: What stands alone as one word: punctuation and symbols, as in BERT's basic tokenizer. A list of ranges and not "all but
#: letters", since in many scripts marks that are no letters belong inside words. The underscore counts as a letter.
_SYMBOLS = (
    "!-/:-@\\[-\\^`{-~\u00a1-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u00d7\u00f7"
    "\u2010-\u2027\u202a-\u202e\u2030-\u205e\u2060-\u206f\u2190-\u2bff\u2e00-\u2e7f\u3001-\u3004\u3008-\u303f\ufe30-\ufe6f\uff01-\uff0f\uff1a-\uff20\U0001f000-\U0001faff"
)
_WORDS = re.compile(f"([^\\s{_SYMBOLS}]+|[{_SYMBOLS}])")
_SYMBOL = re.compile(f"[{_SYMBOLS}]")


def pieces(text: str) -> list[str]:
    """Split a text into what stands between words (even positions, may be empty) and words (odd); joined they are `text`.

    A word is a run of letters, digits, underscores and marks, or one punctuation character or symbol.
    """
    return _WORDS.split(text)


def words(text: str) -> list[str]:
    """Return the words of a text in order, as they stand there: "It's 5 o'clock." has It ' s 5 o ' clock . as words."""
    return _WORDS.findall(text)


def is_symbol(word: str) -> bool:
    """Whether this word is a punctuation character or symbol, which needs no space to be told from its neighbours."""
    return _SYMBOL.match(word) is not None


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model knows, each with a number: 0 is padding, 1 any other word, then the words by falling count.

    Words are in lower case, and texts are taken in lower case.

    Attributes:
        words: Known words; the one at position i has number i + 2. size: How many numbers there are.
    Raises: ValueError if a word is there twice.
    """

    words: tuple[str, ...]
    _numbers: dict[str, int] = field(init=False, repr=False, compare=False)

    PADDING = 0
    UNKNOWN = 1

    def __post_init__(self) -> None:
        numbers = {word: number for number, word in enumerate(self.words, 2)}
        if len(numbers) < len(self.words):
            word, count = Counter(self.words).most_common(1)[0]
            raise ValueError(f"words must differ, got {word!r} {count} times. Try Vocabulary.build(texts)")
        object.__setattr__(self, "_numbers", numbers)

    @property
    def size(self) -> int:
        return len(self.words) + 2

    @classmethod
    def build(cls, texts: Iterable[str], size: int = 10_000) -> Vocabulary:
        """Return the `size` - 2 most frequent words of the texts, those of one count in the order of their characters.

        Raises: ValueError if `size` is less than 3, or there is no word in the texts.
        """
        if size < 3:
            raise ValueError(f"size must be >= 3, for padding, unknown words and one word, got size={size!r}")
        counts = Counter(word for text in texts for word in words(text.lower()))
        if not counts:
            raise ValueError("texts must have words, got none. Try texts that are not empty")
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return cls(tuple(word for word, _ in ranked[: size - 2]))

    def encode(self, texts: Sequence[str], length: int | None = None) -> NDArray[np.int64]:
        """Return the numbers of the first `length` words of each text, shape (texts, length), padded at the end.

        Args:
            length: Columns; None takes as many as the longest of these texts has words, and at least one.
        Raises: ValueError if `length` is less than 1.
        """
        if length is not None and length < 1:
            raise ValueError(f"length must be >= 1, got length={length!r}. Try None, for that of the longest text")
        rows = [words(text.lower())[:length] for text in texts]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        columns = length or max(1, int(lengths.max(initial=0)))
        numbers = np.full((len(rows), columns), self.PADDING, np.int64)
        known = self._numbers
        flat = (known.get(word, self.UNKNOWN) for row in rows for word in row)
        numbers[np.arange(columns) < lengths[:, None]] = np.fromiter(flat, np.int64, int(lengths.sum()))
        return numbers

    def save(self, path: str | PathLike[str]) -> None:
        """Write it to a JSON file."""
        text = json.dumps({"format": "heuretic vocabulary 1", "words": self.words}, ensure_ascii=False, indent=0)
        Path(path).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Vocabulary:
        """Return the vocabulary that `save` wrote.

        Raises: ValueError if the file holds something else.
        """
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
            known = found["words"] if found["format"] == "heuretic vocabulary 1" else None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"the file must be one that Vocabulary.save wrote, got {error!r} at {path}") from error
        if not isinstance(known, list) or not all(isinstance(word, str) for word in known):
            raise ValueError(
                f"the file must be of format 'heuretic vocabulary 1', got {found.get('format')!r} at {path}"
            )
        return cls(tuple(known))


__all__ = ["Vocabulary", "is_symbol", "pieces", "words"]
