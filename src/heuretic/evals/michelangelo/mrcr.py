"""Multi-round co-reference: give back one of several like pieces of writing from a long conversation."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from random import Random
from typing import ClassVar, Literal

from heuretic.evals.evaluation import Score
from heuretic.evals.michelangelo.long_context import LongContext, fitted
from heuretic.evals.michelangelo.writings import FORMATS, TOPICS, writing
from heuretic.lm import Answer, LanguageModel, Question, Sampling
from heuretic.lm.parsing import Parse
from heuretic.lm.strategies import Attempting, Direct
from heuretic.symbolic import Symbolic, field

Similar = Literal["order", "format", "topic"]
SIMILAR: tuple[Similar, ...] = ("order", "format", "topic")
LONGEST = 20_000
"""Characters of an output that are compared; of longer ones the rest counts as wrong."""
_OPENING = "Here are some examples of conversations succeeded by a follow-up question answered correctly:"
_MARKED = string.ascii_letters + string.digits


def similarity(output: str, gold: str) -> float:
    """Return `difflib.SequenceMatcher(None, output, gold).ratio()`, in [0, 1].

    With the heuristic for frequent characters, as published: in a `gold` of 200 characters or more, those that make up over a
    hundredth of it are not looked for, so the order of the two texts matters. Of an output that is longer than 20,000
    characters, the part beyond cannot match anything; a needle has some 2,000.
    """
    if len(output) <= LONGEST:
        return SequenceMatcher(None, output, gold).ratio()
    matches = sum(block.size for block in SequenceMatcher(None, output[:LONGEST], gold).get_matching_blocks())
    return 2.0 * matches / (len(output) + len(gold))


def after_mark(output: str, mark: str) -> str | None:
    """Return the text after the mark, without spaces around; None if the mark is not there.

    If it is there several times, the last one counts, as in the authors' later code (MRCR v2): a model may speak of it first.
    """
    return output[output.rfind(mark) + len(mark) :].strip() if mark and mark in output else None


def mrcr_score(output: str, gold: str, mark: str) -> float:
    """Return the published score: similarity of the text after the mark to the right one; 0 without the mark.

    arXiv:2409.12640, section 2.2. Spaces around both texts do not count, as in the authors' later code, which
    however gives difflib the right text first.
    """
    said = after_mark(output, mark)
    return 0.0 if said is None else similarity(said, gold.strip())


def openai_mrcr_score(output: str, gold: str, mark: str) -> float:
    """Return the score of OpenAI's variant: 0 unless the output begins with the mark; else similarity without it.

    The data set's own code (openai/mrcr), which takes away the mark from the right text too, and leaves spaces as they are.
    """
    if not output.startswith(mark):
        return 0.0
    return similarity(output.removeprefix(mark), gold.removeprefix(mark))


class AfterMark(Symbolic):
    """The part of a reply that is compared: what comes after the question's mark. A reply without the mark has no answer."""

    first: bool = field(default=False, doc="whether the reply must begin with the mark, as in OpenAI's variant")

    def __call__(self, text: str, question: Question) -> str | None:
        mark = str(question.about["mark"])
        if self.first:
            return text.removeprefix(mark) if text.startswith(mark) else None
        return after_mark(text, mark)


@dataclass(frozen=True, slots=True)
class Key:
    """What a piece of writing was asked for by."""

    form: str
    topic: str

    def __str__(self) -> str:
        return f"{self.form} about {self.topic}"

    @property
    def request(self) -> str:
        return f"Write {'an' if self.form[0] in 'aeiou' else 'a'} {self}."


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd, 4th, ..."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


class MRCR(LongContext):
    """Reproduce a piece of writing from a conversation with others that are like it, after a random mark.

    Vodrahalli et al. 2024, arXiv:2409.12640, section 2.2 and appendix A.2. A conversation has two needles whose keys are alike, in
    equal parts: the same format and topic, told apart by their order; the same format; the same topic. All other requests have other
    formats and topics. Needles stand at random places, one in each equal part of the conversation.

    With `openai`, as in OpenAI's data set (openai/mrcr): 2, 4 or 8 needles of one key, told apart by their order, other requests may
    share format or topic, and the reply must begin with the mark.

    Departures: pieces are not written by a language model but made by `writing`, of patterns and word lists, so that nothing is
    downloaded and nothing was seen in training; the conversation is one message, not many, in OpenAI's variant too. A reply that
    was cut off scores 0, unless `official`.
    """

    name: ClassVar[str] = "mrcr"
    by: ClassVar[tuple[str, ...]] = ("length", "similar")
    references: ClassVar[Mapping[str, float]] = {
        "random piece (paper)": 0.04,
        "random piece of the format or topic (paper)": 0.09,
    }

    lengths: tuple[int, ...] = field(
        default=(2048, 4096, 8192, 16384, 32768), doc="tokens of a whole prompt, demonstrations included"
    )
    openai: bool = field(default=False, doc="OpenAI's variant")
    needles: Literal[2, 4, 8] = field(
        default=2, doc="like pieces in a conversation; more than 2 in OpenAI's variant only"
    )
    similar: tuple[Similar, ...] = field(
        default=SIMILAR, doc="how needles are alike, in equal shares; OpenAI's variant has order only"
    )
    longest: int = field(
        default=512, ge=16, le=512, doc="most tokens of a piece; a piece is at most an eighth of a prompt"
    )
    official: bool = field(default=False, doc="whether to score replies that were cut off, as published")
    max_tokens: int = field(default=1024, ge=1, doc="most tokens of a reply")

    def __post_init__(self) -> None:
        LongContext.__post_init__(self)
        if self.needles > 2 and not self.openai:
            raise ValueError(f"needles must be 2 in the paper's task, got {self.needles}. Try openai=True")
        if not self.similar:
            raise ValueError("similar must be at least one of order, format, topic, got none")

    def problem(self, number: int, tokens: int) -> Question:
        rng = self.of_problem(number)
        share = min(self.lengths) // (8 if self.needles == 2 else 4 * self.needles)
        most = int(min(self.longest, share) / self.tokens_per_character)
        keys, asked, similar = self._keys(number, rng)
        needles = [writing(key.form, key.topic, self._size(most, rng), rng) for key in keys]
        if self.count is not None:
            needles = [_cut(needle, self.longest, self.count) for needle in needles]
        mark = "".join(rng.choices(_MARKED, k=10))
        places = [(k + rng.random()) / len(keys) for k in range(len(keys))]
        shown = "".join(self._demonstration(k + 1, most // 2, rng) for k in range(self.shots))
        head = f"{_OPENING}\n{shown}======== EXAMPLE {self.shots + 1} ========\n" if shown else ""
        gold = needles[asked]
        name = f"{ordinal(asked + 1)} {keys[asked]}" if len(set(keys)) == 1 else str(keys[asked])
        tail = self._ask(mark, name)
        turns = [_turn(key, needle) for key, needle in zip(keys, needles, strict=True)]
        said = len(head) + len(tail) + sum(map(len, turns))
        avoided = () if self.openai else keys

        def build(characters: int) -> str:
            room = characters - said
            if room < 0:
                raise ValueError(
                    f"length must be at least {int(said * self.tokens_per_character) + 1} tokens for problem {number}, got {tokens}. "
                    "Try fewer shots, or a lesser longest"
                )
            others = self._others(room, most, keys[asked], avoided, self.of_filler(number, tokens))
            return head + "".join(_woven(others, turns, places)) + tail

        text = fitted(build, tokens, self.tokens_per_character, self.count)
        about = {
            "complexity": str(len(keys)), "similar": similar, "mark": mark, "key": name,
            "random_piece": round(similarity(needles[asked - 1], gold), 4),
        }  # fmt: skip
        return Question(text, mark + gold if self.openai else gold, about=about)

    def _size(self, most: int, rng: Random) -> int:
        return int(most * (0.4 + 0.6 * rng.random()))

    def _keys(self, number: int, rng: Random) -> tuple[list[Key], int, str]:
        """Return the keys of the needles in order, which one is asked for, and how they are alike."""
        [form, other_form], [topic, other_topic] = rng.sample(FORMATS, 2), rng.sample(TOPICS, 2)
        asked = rng.randrange(self.needles)
        similar = "order" if self.openai else self.similar[number % len(self.similar)]
        if similar == "order":
            return [Key(form, topic)] * self.needles, asked, similar
        other = Key(form, other_topic) if similar == "format" else Key(other_form, topic)
        keys = [Key(form, topic), other]
        return (keys if asked == 0 else keys[::-1]), asked, similar

    def _ask(self, mark: str, name: str) -> str:
        if self.openai:
            return f"User: Prepend {mark} to the {name.replace(' ', ' (1 indexed) ', 1)}. Do not include any other text in your response.\nModel:"
        return f"User: Add the sentence {mark} to the {name}.\nModel:"

    def _demonstration(self, number: int, most: int, rng: Random) -> str:
        [form, other], [topic, another] = rng.sample(FORMATS, 2), rng.sample(TOPICS, 2)
        keys = [Key(form, topic), Key(form, topic) if number % 2 else Key(other, another)]
        pieces = [writing(key.form, key.topic, self._size(most, rng), rng) for key in keys]
        mark, asked = "".join(rng.choices(_MARKED, k=10)), rng.randrange(2)
        one_key = keys[0] == keys[1]
        if self.openai and not one_key:
            keys[1] = keys[0]
            pieces[1] = writing(form, topic, self._size(most, rng), rng)
            one_key = True
        name = f"{ordinal(asked + 1)} {keys[asked]}" if one_key else str(keys[asked])
        turns = "".join(map(_turn, keys, pieces))
        gap = "" if self.openai else " "
        return f"======== EXAMPLE {number} ========\n{turns}{self._ask(mark, name)} {mark}{gap}{pieces[asked]}\n"

    def _others(self, room: int, most: int, key: Key, avoided: Sequence[Key], rng: Random) -> list[str]:
        """Return the other turns, together at most so many characters."""
        formats = [form for form in FORMATS if form not in {each.form for each in avoided}]
        topics = [topic for topic in TOPICS if topic not in {each.topic for each in avoided}]
        turns: list[str] = []
        while True:
            other = Key(rng.choice(formats), rng.choice(topics))
            if other == key:
                continue
            fixed = len(_turn(other, ""))
            size = min(self._size(most, rng), room - fixed)
            if size < most // 8 or size < 20:
                return turns
            turns.append(_turn(other, writing(other.form, other.topic, size, rng)))
            room -= len(turns[-1])

    def parse(self) -> Parse:
        """Return what takes the mark away from a reply."""
        return AfterMark(first=self.openai)

    def strategy(self) -> Attempting:
        """Ask with the prompt of the paper, as it is."""
        return Direct(
            instruction="",
            parse=self.parse(),
            sampling=Sampling(max_tokens=self.max_tokens, stop=("\n======== EXAMPLE",)),
        )

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        mark, gold = str(question.about["mark"]), str(question.target)
        said = answer.answer
        if said is None and self.official and answer.samples:
            said = self.parse()(answer.samples[0].text, question)
        if said is None:
            return Score(0.0, {"mark": 0.0, "exact": 0.0}, reason=answer.outcome)
        gold = gold.removeprefix(mark) if self.openai else gold.strip()
        return Score(similarity(said, gold), {"mark": 1.0, "exact": float(said == gold)})

    def guess(self, question: Question) -> str | None:
        return None


def _turn(key: Key, piece: str) -> str:
    return f"User: {key.request}\nModel: {piece}\n"


def _woven(others: Sequence[str], needles: Sequence[str], places: Sequence[float]) -> list[str]:
    """Return all turns, with each needle after its share of the others."""
    turns, last = list[str](), 0
    for place, needle in zip(places, needles, strict=True):
        upto = int(place * (len(others) + 1))
        turns += [*others[last:upto], needle]
        last = upto
    return turns + list(others[last:])


def _cut(text: str, tokens: int, count: object) -> str:
    """Return a text without last words, so that it has at most so many tokens."""
    while callable(count) and (counted := int(count(text))) > tokens:  # pyright: ignore[reportArgumentType]
        text = text[: min(len(text) - 1, len(text) * tokens // counted)].rpartition(" ")[0]
    return text
