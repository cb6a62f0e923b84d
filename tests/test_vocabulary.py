"""Words and their numbers."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heuretic.data.vocabulary import Vocabulary, is_symbol, pieces, words

TEXTS = st.lists(st.text(max_size=40), max_size=6)


def test_words() -> None:
    assert words("It's 5 o'clock.") == ["It", "'", "s", "5", "o", "'", "clock", "."]
    assert words("naïve cafe\u0301, snake_case!?") == ["naïve", "cafe\u0301", ",", "snake_case", "!", "?"]
    assert words("हिन्दी में «x» 3×4 😀ok") == ["हिन्दी", "में", "«", "x", "»", "3", "×", "4", "😀", "ok"]
    assert words(" \t\n\u00a0\u3000\u2029") == words("") == []


@given(st.text())
def test_pieces_make_up_the_text(text: str) -> None:
    parts = pieces(text)
    assert "".join(parts) == text
    assert parts[1::2] == words(text)
    assert all(not part.strip() for part in parts[::2])  # only white space is left out
    assert all(words(word) == [word] for word in parts[1::2])
    assert not any(character.isspace() for word in parts[1::2] for character in word)
    assert all(len(word) == 1 for word in parts[1::2] if is_symbol(word))
    assert len(words(text.lower())) == len(words(text))


def test_build_takes_the_most_frequent_words() -> None:
    texts = ["b a b", "B c; A", "d"]  # b 3 times, a twice, the rest once
    assert Vocabulary.build(texts).words == ("b", "a", ";", "c", "d")
    small = Vocabulary.build(texts, size=4)
    assert (small.words, small.size) == (("b", "a"), 4)
    assert small.encode(["A b x", "", "b"]).tolist() == [[3, 2, 1], [0, 0, 0], [2, 0, 0]]
    assert small.encode(["A b x", "b"], length=2).tolist() == [[3, 2], [2, 0]]
    assert small.encode(["b"], length=3).tolist() == [[2, 0, 0]]
    assert small.encode(["", ""]).tolist() == [[0], [0]]
    assert (small.encode([]).shape, small.encode([]).dtype) == ((0, 1), np.int64)


@given(TEXTS, st.integers(1, 12))
def test_encoding_equals_a_loop(texts: list[str], length: int) -> None:
    vocabulary = Vocabulary.build(["a, b", "the cat and the dog 7", *texts], size=9)
    found = vocabulary.encode(texts, length)
    assert (found.shape, found.dtype) == ((len(texts), length), np.int64)
    for text, row in zip(texts, found.tolist(), strict=True):
        known = [vocabulary.words.index(w) + 2 if w in vocabulary.words else 1 for w in words(text.lower())[:length]]
        assert row == known + [0] * (length - len(known))


def test_encoding_equals_that_of_tokenizers() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    path = Path(os.environ.get("HEURETIC_DATA", "")) / "mmlu_test" / "mmlu_test.jsonl.gz"
    if not path.is_file():
        pytest.skip("HEURETIC_DATA has no mmlu_test")
    with gzip.open(path, "rt") as lines:
        texts = [json.loads(line)["question"] for line, _ in zip(lines, range(3000), strict=False)]
    texts = [text for text in texts if text.isascii()]
    vocabulary = Vocabulary.build(texts, 2000)
    numbers = {"[PAD]": 0, "[UNK]": 1} | {word: i for i, word in enumerate(vocabulary.words, 2)}
    rust = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token="[UNK]"))
    rust.normalizer = tokenizers.normalizers.Lowercase()
    # BERT's splitting, except that "_" belongs to words.
    rust.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.WhitespaceSplit(),
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"[^\w\s]"), "isolated"),
        ]
    )
    rust.enable_padding(length=40)
    rust.enable_truncation(40)
    expected = np.array([encoding.ids for encoding in rust.encode_batch_fast(texts)])
    assert (vocabulary.encode(texts, 40) == expected).all()


def test_saved_and_loaded(tmp_path: Path) -> None:
    vocabulary = Vocabulary.build(['naïve 東京 "quoted" \\ and plain plain'])
    vocabulary.save(tmp_path / "words.json")
    assert Vocabulary.load(tmp_path / "words.json") == vocabulary
    assert Vocabulary.load(str(tmp_path / "words.json")).encode(["Plain"]).tolist() == [[3]]
    assert "東京" in (tmp_path / "words.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": "other", "words": []}', '{"format": "heuretic vocabulary 1", "words": [1]}']
)
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match=r"(?s)the file must be .*, got .* at .*x\.json"):
        Vocabulary.load(tmp_path / "x.json")


def test_refusals() -> None:
    with pytest.raises(ValueError, match="size must be >= 3"):
        Vocabulary.build(["a"], size=2)
    with pytest.raises(ValueError, match="texts must have words, got none"):
        Vocabulary.build([" "])
    with pytest.raises(ValueError, match="words must differ, got 'a' 2 times"):
        Vocabulary(("b", "a", "a"))
    with pytest.raises(ValueError, match="length must be >= 1, got length=0"):
        Vocabulary(("a",)).encode(["a"], length=0)
