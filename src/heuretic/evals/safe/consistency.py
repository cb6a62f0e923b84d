"""A cheap rater of facts: whether what others wrote about the same topic says so too. It needs no model and no network.

The idea is that of SelfCheckGPT (Manakul et al. 2023, arXiv:2303.08896), with independent writers in the place of samples: what is true
is said again, what is made up is not. A logistic regression over a few numbers for each fact, fitted to facts that
people labelled, gives the probability that it is supported, as if both labels were equally common: 0.5 divides them. This design
is ours.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from heuretic.evals.safe.human_labels import WRITERS, Context, HumanFact
from heuretic.evals.safe.sentences import sentences_of

Values = NDArray[np.float64]
_COMMON = 400
"""Words whose frequency is kept; all others are as rare as a word that is nowhere."""
_RIDGE = 200.0
"""Weight of the squared coefficients of standardised features, against the sum of losses."""
_TOKEN = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?|[^\W\d_]+(?:['’][^\W\d_]+)?")
_CITATION = re.compile(r"\[\d+\]")
_DECLINES = re.compile(
    r"i['’]?m sorry|sorry, but|no information|not mentioned|(?:could not|couldn['’]t|cannot|can['’]t|unable to) find|please provide"
    r"|don['’]t have|provided search result",
    re.IGNORECASE,
)
_FUNCTION_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "in",
        "on",
        "at",
        "to",
        "for",
        "and",
        "or",
        "with",
        "by",
        "from",
        "as",
        "is",
        "was",
        "were",
        "are",
        "be",
        "been",
        "being",
        "he",
        "she",
        "his",
        "her",
        "him",
        "it",
        "its",
        "they",
        "their",
        "them",
        "that",
        "this",
        "which",
        "who",
        "whom",
        "has",
        "have",
        "had",
        "not",
        "also",
        "into",
        "after",
        "before",
        "during",
        "since",
        "until",
        "about",
        "over",
        "under",
        "than",
        "then",
        "there",
        "these",
        "those",
        "such",
        "some",
        "several",
        "many",
        "other",
        "one",
        "two",
        "first",
    ]
)
CUES = {
    "is_a": r"\b(is|was) an? ",
    "place": r"\b(is|was|are|were) in\b|located in",
    "birth_or_death": r"\b(born|died)\b",
    "vague": r"known|famous|various|numerous|several|many|notable|successful|popular|career",
    "award": r"award|won|nominat|prize|medal|honou?r",
    "study": r"graduat|degree|universit|college|school|educat|studi",
}
"""What facts are about: some kinds are right more often than others."""
_CUES = tuple(re.compile(pattern, re.IGNORECASE) for pattern in CUES.values())
FEATURES = (
    "texts", "covered_most", "covered_mean", "pairs_most", "pairs_mean", "sentence_most", "numbers_most", "names_most", "other_number",
    "has_number", "has_name", "rarity_mean", "rarity_sum", "words", "context_covered", "response_covered", "response_covered_least",
    "others_agree", "response_words", "sentence_cites", "response_cites", "response_declines", "others_cite", "others_decline", "sentence_words", "position", "words_in_sentence", "share_of_sentence", "about_topic",
    "and", *CUES,
)  # fmt: skip
"""What is known of a fact, see `features`."""


@dataclass(frozen=True, slots=True)
class Consistency:
    """The rater: an async callable that returns the probability that a fact is supported.

    Attributes:
        coefficients, intercept: Of the logistic regression. means, scales: By which features are standardised.
        common: Weights of common words, `rare` of all others: the logarithm of how rare they are.
        writers: Writers whose reliability is among the features; none for a rater that is blind to who wrote an answer.
    """

    coefficients: tuple[float, ...]
    intercept: float
    means: tuple[float, ...]
    scales: tuple[float, ...]
    common: Mapping[str, float]
    rare: float
    writers: tuple[str, ...] = ()

    async def __call__(self, fact: str, topic: str, context: Context) -> float:
        """Return the probability that a fact is supported."""
        return float(self.probabilities(self.features(fact, topic, context)[None])[0])

    def features(self, fact: str, topic: str, context: Context) -> Values:
        """Return what is known of a fact, shape (features,)."""
        writer = [float(context.writer == each) for each in self.writers]
        return np.array([*features(fact, topic, context, self.weight), *writer])

    def weight(self, word: str) -> float:
        """Return how much a word says."""
        return self.common.get(word, self.rare)

    def probabilities(self, rows: Values) -> Values:
        """Return the probabilities for rows of features, shape (facts, features)."""
        z = (rows - np.array(self.means)) / np.array(self.scales) @ np.array(self.coefficients) + self.intercept
        return 1 / (1 + np.exp(-z))

    def dumps(self) -> str:
        """Return the rater as JSON, in six digits."""
        held = {name: getattr(self, name) for name in self.__slots__}
        rounded = {name: [round(x, 6) for x in held[name]] for name in ("coefficients", "means", "scales")}
        return json.dumps(held | rounded | {"common": dict(self.common)}, ensure_ascii=False) + "\n"


def loads(text: str) -> Consistency:
    """Return the rater that `Consistency.dumps` wrote.

    Raises: ValueError if something is missing, or is of the wrong length.
    """
    held = json.loads(text)
    missing = [name for name in Consistency.__slots__ if name not in held]
    if missing:
        raise ValueError(f"rater must have {', '.join(Consistency.__slots__)}, got none of {', '.join(missing)}")
    width = len(FEATURES) + len(held["writers"])
    if {len(held[name]) for name in ("coefficients", "means", "scales")} != {width}:
        raise ValueError(f"rater must have {width} coefficients, means and scales, got {len(held['coefficients'])}")
    lists = {name: tuple(held[name]) for name in ("coefficients", "means", "scales", "writers")}
    return Consistency(**(held | lists))


@lru_cache(maxsize=2)
def fitted(*, blind: bool = False) -> Consistency:
    """Return the rater fitted to the labels of 110 persons of FActScore; `blind` to who wrote the answer, or not."""
    name = "consistency_blind.json" if blind else "consistency.json"
    return loads(files("heuretic.evals.safe").joinpath(name).read_text(encoding="utf-8"))


def fit(facts: Sequence[HumanFact], *, blind: bool = False) -> Consistency:
    """Return a rater fitted to labelled facts; irrelevant ones are left out, and both labels weigh the same.

    Raises: ValueError if there are not facts of both labels.
    """
    known = [each for each in facts if each.label in ("supported", "not supported")]
    right = np.array([each.label == "supported" for each in known], float)
    if not 0 < right.sum() < len(right):
        raise ValueError(f"facts must be supported and not supported, got {int(right.sum())} of {len(right)} supported")
    common, rare = _weights(known)
    writers = () if blind else WRITERS
    width = len(FEATURES) + len(writers)
    blank = Consistency((0.0,) * width, 0.0, (0.0,) * width, (1.0,) * width, common, rare, writers)
    rows = np.stack([blank.features(each.fact, each.topic, each.context) for each in known])
    means, scales = rows.mean(axis=0), rows.std(axis=0)
    scales[scales < 1e-9] = 1.0
    shares = np.where(right == 1, 0.5 / right.mean(), 0.5 / (1 - right.mean()))
    coefficients, intercept = _logistic((rows - means) / scales, right, shares, _RIDGE)
    return Consistency(
        tuple(coefficients.tolist()), intercept, tuple(means.tolist()), tuple(scales.tolist()), common, rare, writers
    )


def features(fact: str, topic: str, context: Context, weight: Callable[[str], float]) -> list[float]:
    """Return `FEATURES` of a fact.

    Words of the topic's name and function words say nothing and are left out; all others count by `weight`. "covered": the share
    of the fact's words that a text has; "pairs": of its pairs of neighbouring words; "sentence": of its words in the text's best
    sentence; each the most or the mean over the other texts. "other_number": another text has a sentence with half of
    the fact's words, but with another number.
    """
    silent = _silent(topic)
    texts = tuple(text for text in context.others.values() if not declines(text))
    words = _content(fact, silent) or _words(fact) or ("?",)
    shares = [_covered(words, _words_of(text), weight) for text in texts] or [0.0]
    rarity = [weight(w) for w in words]
    return [
        len(texts) / 2, max(shares), fmean(shares), *_pairs_found(fact, texts),
        max((_covered(words, said, weight) for text in texts for said in _sentences_of(text)), default=0.0),
        *_details(fact, words, silent, texts),
        fmean(rarity), sum(rarity) / 10, math.log(1 + len(words)),
        _shares(topic, context.sentence, texts, weight)[0], *_shares(topic, context.response, texts, weight),
        _agreeing(topic, texts, weight), math.log(1 + len(_content(context.response, silent))),
        *_habits(context), *_form(fact, topic, context),
    ]  # fmt: skip


@lru_cache(maxsize=2_000)
def _silent(topic: str) -> frozenset[str]:
    return _FUNCTION_WORDS | _words_of(re.sub(r"\(.*?\)", " ", topic))


@lru_cache(maxsize=20_000)
def _content(text: str, silent: frozenset[str]) -> tuple[str, ...]:
    return tuple(w for w in dict.fromkeys(_words(text)) if w not in silent)


def _covered(some: Sequence[str], by: frozenset[str], weight: Callable[[str], float]) -> float:
    """Return the share of words, by weight, that are among others."""
    total = there = 0.0
    for word in some:
        each = max(0.1, weight(word))
        total += each
        if word in by:
            there += each
    return there / total if total else 0.0


@lru_cache(maxsize=5_000)
def _shares(topic: str, text: str, texts: tuple[str, ...], weight: Callable[[str], float]) -> tuple[float, float]:
    """Return the most and the least of a text that one of others says too."""
    found = [_covered(_content(text, _silent(topic)), _words_of(other), weight) for other in texts] or [0.0]
    return max(found), min(found)


@lru_cache(maxsize=2_000)
def _agreeing(topic: str, texts: tuple[str, ...], weight: Callable[[str], float]) -> float:
    """Return the mean share of a text that another one says too."""
    found = [_covered(_content(a, _silent(topic)), _words_of(b), weight) for a in texts for b in texts if a is not b]
    return fmean(found or [0.0])


def _pairs_found(fact: str, texts: Sequence[str]) -> tuple[float, float]:
    """Return the share of the fact's pairs of words that other texts have: the most, and the mean."""
    pairs = {pair for pair in itertools.pairwise(_words(fact)) if not set(pair) <= _FUNCTION_WORDS}
    found = [len(pairs & _pairs_of(text)) / max(1, len(pairs)) for text in texts] or [0.0]
    return max(found), fmean(found)


def _details(fact: str, words: Sequence[str], silent: frozenset[str], texts: Sequence[str]) -> list[float]:
    """Return what other texts say about the fact's numbers and names."""
    numbers = {w for w in words if w[0].isdigit()}
    names = {w for token in _TOKEN.findall(fact)[1:] if token[0].isupper() and (w := _stem(token)) not in silent}
    most = [
        max((len(some & _words_of(text)) for text in texts), default=0) / max(1, len(some)) for some in (numbers, names)
    ]
    other = any(_other_number(words, numbers, text) for text in texts)
    return [*most, float(other), float(bool(numbers)), float(bool(names))]


def _habits(context: Context) -> list[float]:
    """Return who gives sources, and who says that they know nothing."""
    others = list(context.others.values())
    return [
        _has(_CITATION, context.sentence), _has(_CITATION, context.response), _has(_DECLINES, context.response),
        sum(_has(_CITATION, text) for text in others) / 2, sum(declines(text) for text in others) / 2,
    ]  # fmt: skip


@lru_cache(maxsize=10_000)
def _has(pattern: re.Pattern[str], text: str) -> float:
    return float(bool(pattern.search(text)))


def _form(fact: str, topic: str, context: Context) -> list[float]:
    """Return where in its answer a fact stands, how much of its sentence it says, and what kind of fact it is."""
    said, whole = _words_of(fact), _words_of(context.sentence)
    shared = len(said & whole)
    begins = re.match(r"[^\W_]+", fact.casefold())
    subjects = {"he", "she", "his", "her", "they", *topic.partition(" (")[0].casefold().split()}
    return [
        math.log(1 + len(_words(context.sentence))), (context.response.find(context.sentence[:30]) + 1) / (len(context.response) + 1),
        shared / max(1, len(said)), shared / max(1, len(whole)), float(bool(begins and begins[0] in subjects)),
        float(" and " in fact.casefold()), *(float(bool(cue.search(fact))) for cue in _CUES),
    ]  # fmt: skip


@lru_cache(maxsize=5_000)
def declines(text: str) -> bool:
    """Return whether a text says that its writer knows nothing, or nothing at all."""
    return len(text) < 40 or bool(_DECLINES.search(text[:200]))


def _other_number(words: Sequence[str], numbers: set[str], text: str) -> bool:
    about = {w for w in words if not w[0].isdigit()}
    if not numbers or not about:
        return False
    near = [s for s in _sentences_of(text) if 2 * len(about & s) >= len(about) and any(w[0].isdigit() for w in s)]
    return bool(near) and not any(numbers & s for s in near)


def _logistic(rows: Values, right: Values, shares: Values, ridge: float) -> tuple[Values, float]:
    """Return coefficients and intercept of a weighted ridge logistic regression, by Newton's method."""
    design = np.column_stack([rows, np.ones(len(rows))])
    penalty = np.full(design.shape[1], ridge)
    penalty[-1] = 1e-6
    held = np.zeros(design.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ held))
        gradient = design.T @ (shares * (p - right)) + penalty * held
        hessian = (design * (shares * p * (1 - p))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        held -= step
        if np.abs(step).max() < 1e-9:
            break
    return held[:-1], float(held[-1])


def _weights(facts: Sequence[HumanFact]) -> tuple[dict[str, float], float]:
    """Return weights of the commonest words of all texts about the topics, by inverse document frequency, and that of all others."""
    texts = {text for each in facts for text in (each.context.response, *each.context.others.values())}
    having = Counter(word for text in texts for word in _words_of(text))
    rare = math.log((len(texts) + 1) / 1.5)
    ranked = sorted(having.items(), key=lambda item: (-item[1], item[0]))[:_COMMON]
    return {word: round(math.log((len(texts) + 1) / (count + 0.5)), 4) for word, count in ranked}, rare


def _stem(word: str) -> str:
    word = word.lower().replace("’", "'").removesuffix("'s")
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word.removesuffix(ending)
    return word


@lru_cache(maxsize=40_000)
def _words(text: str) -> tuple[str, ...]:
    """Return the words and numbers of a text in order, in small letters, without common endings and citations."""
    return tuple(map(_stem, _TOKEN.findall(_CITATION.sub("", text))))


@lru_cache(maxsize=2_000)
def _words_of(text: str) -> frozenset[str]:
    return frozenset(_words(text))


@lru_cache(maxsize=2_000)
def _pairs_of(text: str) -> frozenset[tuple[str, str]]:
    return frozenset(itertools.pairwise(_words(text)))


@lru_cache(maxsize=2_000)
def _sentences_of(text: str) -> tuple[frozenset[str], ...]:
    return tuple(_words_of(sentence) for paragraph in sentences_of(text) for sentence in paragraph)
