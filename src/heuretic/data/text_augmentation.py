"""Other wordings of texts: words replaced by others that say little, and translations there and back.

Xie et al. 2020, "Unsupervised Data Augmentation for Consistency Training", arXiv:1904.12848; both follow their code
(google-research/uda, text/augmentation and back_translate).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from heuretic.data.vocabulary import is_symbol, pieces, words
from heuretic.symbolic import Symbolic, field

if TYPE_CHECKING:
    import torch


def _numpy_generator(generator: np.random.Generator | torch.Generator) -> np.random.Generator:
    """Return a numpy generator: this one, or one whose seed is drawn from a generator of torch."""
    if isinstance(generator, np.random.Generator):
        return generator
    import torch  # the caller has it

    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator, device=generator.device)))


class WordReplacement(Symbolic):
    """Replace words that say little by other words that say little, as their tf-idf has it; the description.

    `fit` counts the words of a corpus, and returns what replaces words in texts. In a corpus of N texts, of which df(w)
    have the word w, idf(w) = ln(N / df(w)) nats, and the word at place i of a text of n words scores

        c(i) = idf(w_i) * (times w_i is in the text) / n.

    It is replaced with the probability min(1, probability * n * z(i) / sum(z)) where z(i) = max(c) - c(i): never if its
    score is the highest. So `probability` is the expected share of words replaced, where none of them is cut off at 1.
    The new word is drawn from all words of the corpus, with a probability proportional to max(S) - S(w), where S(w) is the
    sum over all texts of w's score in them; it may be the word that was there. If all scores of a text are equal, none of
    its words is replaced; if all S are equal, new words are drawn uniformly.

    In a large corpus max(S) belongs to a very frequent word and most S are near 0, so that new words are drawn almost
    uniformly from all words, most of them rare.

    Reference: Xie et al. 2020, arXiv:1904.12848, in the form of their code (`TfIdfWordRep` in text/augmentation/
    word_level_augment.py). Departures: texts go in and out instead of lists of words, so
    what stands between words stays (a space is put where two words would grow together); a word that is not in the corpus
    counts as one that is in one text of it, where theirs raises; words are compared in lower case and new words
    are in lower case, unless `lowercase` is False; accents stay.
    """

    probability: float = field(default=0.7, ge=0, le=1, doc="expected share of words replaced")
    lowercase: bool = field(default=True, doc="whether words that differ in case only are one word")

    def fit(self, texts: Iterable[str]) -> FittedWordReplacement:
        """Count the words of the corpus `texts`, best those without labels.

        Raises: ValueError if there is no word in them.
        """
        rows = [self._words(text) for text in texts]
        numbers: dict[str, int] = {}
        ids = np.fromiter((numbers.setdefault(w, len(numbers)) for row in rows for w in row), np.int64)
        if not len(ids):
            raise ValueError("texts must have words, got none. Try the texts that are to be augmented")
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        number_of_text = np.repeat(np.arange(len(rows)), lengths)
        text_and_word, counts = np.unique(number_of_text * len(numbers) + ids, return_counts=True)
        of_text, word = np.divmod(text_and_word, len(numbers))
        idf = np.log(len(rows) / np.bincount(word, minlength=len(numbers)))
        total = np.zeros(len(numbers))
        np.add.at(total, word, counts / lengths[of_text] * idf[word])
        return FittedWordReplacement(self, len(rows), numbers, idf, total)

    def _words(self, text: str) -> list[str]:
        return words(text.lower() if self.lowercase else text)


class FittedWordReplacement:
    """Replaces words in texts by the counts of a corpus; made by `WordReplacement.fit`.

    Attributes:
        replacement: The description. documents: Texts of the corpus. vocabulary: Its words, in order of appearance.
        idf: ln(documents / documents with the word), in nats, shape (words,). tf_idf: Sums of scores over the corpus, in
        nats, shape (words,). chances: Of each word to be the one put in, shape (words,), sum 1.
    """

    def __init__(
        self,
        replacement: WordReplacement,
        documents: int,
        numbers: dict[str, int],
        idf: NDArray[np.float64],
        tf_idf: NDArray[np.float64],
    ) -> None:
        self.replacement, self.documents, self.idf, self.tf_idf = replacement, documents, idf, tf_idf
        self.vocabulary = tuple(numbers)
        self._numbers = numbers
        weights = tf_idf.max() - tf_idf
        if not weights.any():
            weights = np.ones_like(weights)
        self.chances = weights / weights.sum()
        self._cumulative = np.cumsum(self.chances)
        self._cumulative /= self._cumulative[-1]

    def probabilities(self, texts: Sequence[str]) -> list[NDArray[np.float64]]:
        """Return for each text the probabilities of its words to be replaced, one array of shape (words,) a text."""
        rows = [words(text) for text in texts]
        ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
        return np.split(self._probabilities(rows), ends[:-1]) if rows else []

    def __call__(self, texts: Sequence[str], generator: np.random.Generator | torch.Generator) -> list[str]:
        """Return the texts with words replaced: a function of all of the texts and the state of the generator."""
        random = _numpy_generator(generator)
        split = [pieces(text) for text in texts]
        probabilities = self._probabilities([parts[1::2] for parts in split])
        replaced = random.random(len(probabilities)) < probabilities
        new = np.searchsorted(self._cumulative, random.random(int(replaced.sum())), side="right").tolist()
        where, at = np.flatnonzero(replaced).tolist(), 0
        result, start = [], 0
        for text, parts in zip(texts, split, strict=True):
            end, first = start + len(parts) // 2, at
            while at < len(where) and where[at] < end:
                parts[2 * (where[at] - start) + 1] = self.vocabulary[new[at]]
                at += 1
            for place in where[first:at]:
                _keep_apart(parts, 2 * (place - start) + 1)
            result.append("".join(parts) if at > first else text)
            start = end
        return result

    def _probabilities(self, rows: Sequence[Sequence[str]]) -> NDArray[np.float64]:
        """Return the probabilities of all words to be replaced, those of all texts in one array."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        total = int(lengths.sum())
        # Words that the corpus lacks get numbers too, behind its own, so that each is counted by itself.
        numbers, unseen = self._numbers, dict[str, int]()
        lower, known = self.replacement.lowercase, len(self.vocabulary)
        ids = np.empty(total, np.int64)
        for place, word in enumerate(word for row in rows for word in row):
            word = word.lower() if lower else word
            number = numbers.get(word)
            ids[place] = unseen.setdefault(word, known + len(unseen)) if number is None else number
        idf = np.append(self.idf, np.full(len(unseen), math.log(self.documents)))
        filled = lengths[lengths > 0]
        of_text = np.repeat(np.arange(len(filled)), filled)
        _, inverse, counts = np.unique(of_text * len(idf) + ids, return_inverse=True, return_counts=True)
        scores = counts[inverse] / filled[of_text] * idf[ids]
        if not total:
            return scores
        starts = np.cumsum(filled) - filled
        z = np.maximum.reduceat(scores, starts)[of_text] - scores
        mean = np.add.reduceat(z, starts) / filled
        share = np.divide(z, mean[of_text], out=np.zeros_like(z), where=mean[of_text] > 0)
        return np.minimum(1.0, self.replacement.probability * share)


def _keep_apart(parts: list[str], place: int) -> None:
    """Put spaces where the word at `place` would grow together with a neighbour."""
    for between, neighbour in ((place - 1, place - 2), (place + 1, place + 2)):
        alone = not 0 < neighbour < len(parts) or is_symbol(parts[neighbour]) or is_symbol(parts[place])
        if not alone and not parts[between]:
            parts[between] = " "


class Translator(Protocol):
    """Whatever translates texts: a sequence-to-sequence model, a language model with a prompt, a service, a dictionary."""

    def __call__(self, texts: Sequence[str], /, *, temperature: float, seed: int) -> Sequence[str]:
        """Return a translation of each text; `temperature` and `seed` are for those that draw words at random."""
        ...


def sentences(text: str) -> list[str]:
    """Split a text behind . ! ? … and 。！？ where white space follows (or, for the last three, need not), and at line ends.

    Departure from UDA's code, which has NLTK's trained splitter: this one also splits behind abbreviations.
    """
    found = re.split(r"(?<=[.!?…])\s+|(?<=[。！？])\s*|\s*\n\s*", text)
    return [sentence for sentence in found if sentence.strip()]


class BackTranslation:
    """Translate texts into another language and back, which words them anew. No text is translated twice.

    A text is split into sentences, since models are trained on those; its paraphrase is the translations there and back of
    them, joined by spaces. Where that is less than 10 characters long, or longer or shorter than the text by more than
    half, the text stays as it is, and so does a text of less than 10 characters.

    Args:
        there, back: Into the other language, and out of it; see `translator` for models of transformers.
        temperature: Of the softmax that words are drawn from; their README has 0.6 to 0.9: more gives more diverse and
            less faithful texts. copies: Paraphrases of each text; a call draws one of them for each text, so that
            a text seen in several epochs need not look the same. seed: Of the translations. split: Into sentences.
    Raises: ValueError if `temperature` < 0 or `copies` < 1; later, if a translator does not return one text for each.
    Reference: Xie et al. 2020, arXiv:1904.12848; limits on the length and splitting from their code
    (`replace_with_length_check`, `split_paragraphs.py`). Departures: only sentences are split, not long ones at commas.
    """

    def __init__(
        self,
        there: Translator,
        back: Translator,
        temperature: float = 0.9,
        *,
        copies: int = 1,
        seed: int = 0,
        split: Callable[[str], Sequence[str]] = sentences,
    ) -> None:
        if not temperature >= 0:
            raise ValueError(f"temperature must be >= 0, got temperature={temperature!r}. Try 0.9")
        if copies < 1:
            raise ValueError(f"copies must be >= 1, got copies={copies!r}. Try 1")
        self.there, self.back, self.split = there, back, split
        self.temperature, self.copies, self.seed = float(temperature), copies, seed
        self._paraphrases: dict[tuple[int, str], str] = {}

    def __call__(self, texts: Sequence[str], generator: np.random.Generator | torch.Generator) -> list[str]:
        """Return one of the paraphrases of each text, drawn from the generator; what is new is translated first."""
        drawn = _numpy_generator(generator).integers(self.copies, size=len(texts)).tolist()
        return [
            replace_if_similar(text, " ".join(paraphrases))
            for text, paraphrases in zip(texts, self._paraphrased(texts, drawn), strict=True)
        ]

    def _paraphrased(self, texts: Sequence[str], copies: Sequence[int]) -> list[list[str]]:
        """Return the paraphrases of each text's sentences."""
        keys = [[(copy, sentence) for sentence in self.split(text)] for text, copy in zip(texts, copies, strict=True)]
        new = {key: None for row in keys for key in row if key not in self._paraphrases}
        for copy in sorted({copy for copy, _ in new}):
            wanted = [sentence for its_copy, sentence in new if its_copy == copy]
            seed = _seed(self.seed, copy)
            abroad = _translated(self.there, wanted, self.temperature, seed)
            home = _translated(self.back, abroad, self.temperature, seed)
            self._paraphrases.update(zip(((copy, sentence) for sentence in wanted), home, strict=True))
        return [[self._paraphrases[key] for key in row] for row in keys]


def replace_if_similar(text: str, paraphrase: str) -> str:
    """Return `paraphrase` if both have at least 10 characters and its length is within 50% of the text's, else `text`."""
    if min(len(text), len(paraphrase)) < 10 or abs(len(paraphrase) - len(text)) > 0.5 * len(text):
        return text
    return paraphrase


def _translated(translate: Translator, texts: Sequence[str], temperature: float, seed: int) -> list[str]:
    unique = list(dict.fromkeys(texts))
    found = list(translate(unique, temperature=temperature, seed=seed))
    if len(found) != len(unique):
        raise ValueError(f"a translator must return one text for each, got {len(found)} for {len(unique)} texts")
    by_text = dict(zip(unique, found, strict=True))
    return [by_text[text] for text in texts]


def _seed(*parts: int | str) -> int:
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def translator(model: Any, tokenizer: Any, *, batch_size: int = 32, max_new_tokens: int = 128) -> Translator:
    """Return a translator by a sequence-to-sequence model of transformers, such as `MarianMTModel`.

        there = translator(MarianMTModel.from_pretrained(a), MarianTokenizer.from_pretrained(a))

    Tokens are drawn from softmax(logits / temperature); temperature 0 takes the likeliest. A translation is a function of
    the text and `seed`, whatever other texts are translated with it (up to rounding), and torch's own random state is
    neither read nor changed. The model is used on the device where it is, and put into evaluation mode meanwhile.

    Args:
        model, tokenizer: Of transformers, loaded. batch_size: Texts at once. max_new_tokens: Of a translation at most.
    """
    return _Seq2SeqTranslator(model, tokenizer, batch_size, max_new_tokens)


class _Seq2SeqTranslator:
    def __init__(self, model: Any, tokenizer: Any, batch_size: int, max_new_tokens: int) -> None:
        if batch_size < 1 or max_new_tokens < 1:
            raise ValueError(
                f"batch_size and max_new_tokens must be >= 1, got batch_size={batch_size!r}, "
                f"max_new_tokens={max_new_tokens!r}"
            )
        self.model, self.tokenizer = model, tokenizer
        self.batch_size, self.max_new_tokens = batch_size, max_new_tokens

    def __call__(self, texts: Sequence[str], /, *, temperature: float, seed: int) -> list[str]:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # texts of one length need little padding
        result = [""] * len(texts)
        training = self.model.training
        self.model.eval()
        try:
            for start in range(0, len(order), self.batch_size):
                chosen = order[start : start + self.batch_size]
                for i, text in zip(chosen, self._batch([texts[i] for i in chosen], temperature, seed), strict=True):
                    result[i] = text
        finally:
            self.model.train(training)
        return result

    def _batch(self, texts: list[str], temperature: float, seed: int) -> list[str]:
        tokens = self.tokenizer(texts, return_tensors="pt", padding=True, truncation=True).to(self.model.device)
        tokens.pop("token_type_ids", None)  # some tokenizers make them, encoder-decoder models do not take them
        noise = [_gumbel_noise(texts, temperature, seed)] if temperature else []
        output = self.model.generate(
            **tokens, do_sample=False, num_beams=1, max_new_tokens=self.max_new_tokens, logits_processor=noise
        )
        return [text.strip() for text in self.tokenizer.batch_decode(output, skip_special_tokens=True)]


def _gumbel_noise(texts: Sequence[str], temperature: float, seed: int) -> Callable[..., torch.Tensor]:
    """Return what makes the largest of a row's scores a draw from softmax(scores / temperature), each row by its own seed.

    The largest of scores / temperature plus independent Gumbel noise is such a draw. So the search for the likeliest
    token draws at random without the global generator that transformers' own sampling takes.
    """
    import torch

    generators = [torch.Generator().manual_seed(_seed(seed, text)) for text in texts]

    def add_noise(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        waits = torch.stack([torch.empty(scores.shape[1]).exponential_(generator=g) for g in generators])
        return scores.float() / temperature - waits.log().to(scores.device)

    return add_noise


__all__ = [
    "BackTranslation", "FittedWordReplacement", "Translator", "WordReplacement", "replace_if_similar", "sentences", "translator",
]  # fmt: skip
