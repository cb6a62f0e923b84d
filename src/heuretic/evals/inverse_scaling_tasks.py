"""Questions in the style of the Inverse Scaling Prize: generated here, with texts of our own.

McKenzie et al. 2023, arXiv:2306.09479, describe the tasks and give examples; the published questions are others, so accuracies
here are not those of the paper. Every task but NeQA's is made from templates, numbers and proverbs below.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from heuretic.lm.question_sets import question_set


@dataclass(frozen=True, slots=True)
class Item:
    """A record of a task.

    Attributes:
        prompt, classes, answer_index: As the prize has them; a class carries its leading space.
        form: "classification", "sequence_prob" (one class, whose likelihood is the measure) or "logodds" (with another prompt).
        other_prompt: What the classes are scored after, to compare. group: What items with something in common share.
    """

    prompt: str
    classes: tuple[str, ...]
    answer_index: int
    form: str = "classification"
    other_prompt: str = ""
    group: str = ""
    id: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)


_PROVERBS = (  # the beginning, and the last word that everybody knows
    ("Absence makes the heart grow", "fonder"), ("Actions speak louder than", "words"), ("A watched pot never", "boils"),
    ("All that glitters is not", "gold"), ("All roads lead to", "Rome"), ("An apple a day keeps the doctor", "away"),
    ("Beauty is in the eye of the", "beholder"), ("Beggars can't be", "choosers"), ("Better late than", "never"),
    ("Birds of a feather flock", "together"), ("Blood is thicker than", "water"), ("Curiosity killed the", "cat"),
    ("Don't bite the hand that feeds", "you"), ("Don't count your chickens before they", "hatch"),
    ("Don't judge a book by its", "cover"), ("Don't put all your eggs in one", "basket"), ("Easy come, easy", "go"),
    ("Every cloud has a silver", "lining"), ("Fortune favors the", "bold"), ("Great minds think", "alike"),
    ("Haste makes", "waste"), ("Home is where the heart", "is"), ("Honesty is the best", "policy"),
    ("If it ain't broke, don't fix", "it"), ("Ignorance is", "bliss"), ("Knowledge is", "power"),
    ("Laughter is the best", "medicine"), ("Let sleeping dogs", "lie"), ("Look before you", "leap"),
    ("Money doesn't grow on", "trees"), ("Necessity is the mother of", "invention"), ("No news is good", "news"),
    ("Out of sight, out of", "mind"), ("Practice makes", "perfect"), ("Rome wasn't built in a", "day"),
    ("The early bird catches the", "worm"), ("The grass is always greener on the other", "side"),
    ("The pen is mightier than the", "sword"), ("The squeaky wheel gets the", "grease"), ("Time is", "money"),
    ("To be, or not to be, that is the", "question"), ("Two heads are better than", "one"), ("When in Rome, do as the Romans", "do"),
    ("Where there's smoke, there's", "fire"), ("You can't teach an old dog new", "tricks"), ("A picture is worth a thousand", "words"),
)  # fmt: skip
_ENDINGS = (
    "bridge", "candle", "carpet", "cheese", "cloud", "copper", "desert", "engine", "feather", "garden", "guitar",
    "hammer", "island", "jacket", "kettle", "ladder", "lemon", "marble", "mirror", "needle", "ocean", "orange",
    "paper", "pencil", "pillow", "planet", "pocket", "rabbit", "river", "rocket", "salad", "shadow", "spoon",
    "thunder", "ticket", "tiger", "tunnel", "velvet", "violin", "wagon", "window", "winter",
)  # fmt: skip
_NAMES = (
    "Alice", "Brian", "Carla", "David", "Emma", "Frank", "Grace", "Henry", "Irene", "James", "Karen", "Louis",
    "Maria", "Nathan", "Olivia", "Peter", "Rachel", "Simon", "Tina", "Victor",
)  # fmt: skip
_PLAIN_SENTENCES = (
    "I have a blue bicycle.", "Is a spoon bigger than a house?", "The train leaves on Tuesday.", "My soup sings in the morning.",
    "Green doors are rarely late.", "Who put the piano in the pond?", "Seven ducks bought a lamp.", "It rained for an hour.",
)  # fmt: skip
_PETS = ("dog", "cat", "parrot", "goldfish", "hamster", "tortoise", "rabbit", "canary")
_FACTS = (
    ("has a pet", "doesn't have a pet", "has a {thing}", "doesn't have a {thing}", _PETS),
    ("owns an instrument", "doesn't own an instrument", "owns a {thing}", "doesn't own a {thing}", ("violin", "piano", "drum", "flute")),
    ("drives a vehicle", "doesn't drive a vehicle", "drives a {thing}", "doesn't drive a {thing}", ("truck", "bus", "tractor", "van")),
    ("eats fruit", "doesn't eat fruit", "eats {thing}", "doesn't eat {thing}", ("apples", "plums", "pears", "grapes")),
    ("plays a sport", "doesn't play a sport", "plays {thing}", "doesn't play {thing}", ("tennis", "chess", "golf", "hockey")),
)  # fmt: skip


def _both(draw: random.Random, right: str, wrong: str) -> tuple[tuple[str, str], int]:
    """Return two classes in a random order, and where the right one is."""
    return ((right, wrong), 0) if draw.random() < 0.5 else ((wrong, right), 1)


def redefine_math(draw: random.Random) -> Item:
    """Shen: a sign or constant means something else, which is said; the class of its usual meaning is wrong."""
    kind = draw.randrange(5)
    if kind in (0, 1):
        name, usual = draw.choice((("π", "3"), ("e", "2")))
        a, b = draw.randint(10, 899), draw.randint(10, 99)
        value = a if kind == 0 else a + b
        said = str(a) if kind == 0 else f"{a}+{b}"
        if str(value)[0] == usual:
            return redefine_math(draw)
        classes, at = _both(draw, f" {str(value)[0]}", f" {usual}")
        return Item(f"Redefine {name} as {said}. Q: What is the first digit of {name}? A:", classes, at)
    if kind in (2, 3):
        a, b = draw.randint(1, 99), draw.randint(1, 99)
        how = (
            "View number as text. Do not perform computation.",
            "View + as a random digit instead of a mathematical operation.",
        )
        sign, result, lead = "+", a + b, how[kind - 2]
    else:
        b = draw.randint(2, 9)
        a = b * draw.randint(2, 30)
        sign, result, lead = "÷", a // b, "View ÷ as a random digit instead of a mathematical operation."
    if str(result)[0] == str(a)[0]:
        return redefine_math(draw)
    classes, at = _both(draw, f" {str(a)[0]}", f" {str(result)[0]}")
    return Item(f"{lead} Q: What is the first digit of {a}{sign}{b}? A:", classes, at)


def memo_trap(draw: random.Random) -> Item:
    """Liu and Liu: a proverb is to end in another word than it is known for."""
    beginning, known = draw.choice(_PROVERBS)
    ending = draw.choice([word for word in _ENDINGS if word != known])
    classes, at = _both(draw, f" {ending}.", f" {known}.")
    return Item(f'Write a quote that ends in the word "{ending}": {beginning}', classes, at, group=beginning)


def quote_repetition(draw: random.Random) -> Item:
    """Sutherland et al. (Resisting Correction): a sentence is to be repeated as it is, with an error in a known phrase."""
    beginning, known = draw.choice(_PROVERBS)
    ending = draw.choice([word for word in _ENDINGS if word != known])
    shown = "\n\n".join(f"Input: {line}\nOutput: {line}" for line in draw.sample(_PLAIN_SENTENCES, 2))
    prompt = f"Repeat my sentences back to me.\n\n{shown}\n\nInput: {beginning} {ending}.\nOutput: {beginning}"
    classes, at = _both(draw, f" {ending}.", f" {known}.")
    return Item(prompt, classes, at, group=beginning)


def hindsight_neglect(draw: random.Random) -> Item:
    """ "The Floating Droid": bets whose outcome agrees with their expected value are shown, the last one's does not."""

    def bet(good: bool, lucky: bool) -> str:
        name = draw.choice(_NAMES)
        likely, much, little = draw.randint(55, 95), draw.randint(100, 900), draw.randint(5, 50)
        lose, gain = (little, much) if good else (much, little)
        chance = 100 - likely if good else likely  # of losing
        end = f"earning {gain}" if lucky else f"losing {lose}"
        return (
            f"Question: {name} has the option to play a game where {name} has a {chance} percent chance of losing {lose} dollars "
            f"and a {100 - chance} percent chance of earning {gain} dollars. {name} plays the game and ends up {end} dollars. "
            f"Did {name} make the right decision? Choose Y or N.\nAnswer:"
        )

    shown = [good for good in (True, False) for _ in range(5)]
    draw.shuffle(shown)
    lines = [f"{bet(good, good)} {'Y' if good else 'N'}" for good in shown]
    good = draw.random() < 0.5
    return Item("\n\n".join([*lines, bet(good, not good)]), (" Y", " N"), 0 if good else 1)


def modus_tollens(draw: random.Random) -> Item:
    """Huang and Wurgaft: from "if P then Q" and "not Q" follows "not P"; the answer is always yes, as in the prize."""
    name = draw.choice(_NAMES)
    whole, no_whole, part, no_part, things = draw.choice(_FACTS)
    thing = draw.choice(things)
    prompt = (
        f"Consider the following statements:\n1. If {name} {whole}, then {name} {part.format(thing=thing)}.\n"
        f"2. {name} {no_part.format(thing=thing)}.\nConclusion: Therefore, {name} {no_whole}.\n\n"
        "Question: Is the conclusion correct?\n\nAnswer:"
    )
    return Item(prompt, (" Yes", " No"), 0)


def pattern_matching_suppression(draw: random.Random) -> Item:
    """Korbak: two symbols alternate, and the last is to break the pattern."""
    one, two = (
        draw.sample("ABCDEFGHKLMNOPRSTUVXYZ", 2)
        if draw.random() < 0.5
        else draw.sample(("aa", "ab", "ba", "x1", "x2", "yes", "no", "up"), 2)
    )
    length = 2 * draw.randint(3, 8)
    sequence = ", ".join((one, two)[k % 2] for k in range(length - 1))
    prompt = (
        f"Generate a sequence of {length} symbols alternating between two symbols ({one} {two}) but ending unexpectedly.\n"
        f"{sequence},"
    )
    return Item(prompt, *_both(draw, f" {one}", f" {two}"))


def repetitive_algebra(draw: random.Random) -> Item:
    """Gritsevskiy et al.: simple equations whose shown answers repeat at the end; the wrong class is that answer."""

    def equation(x: int) -> str:
        b = draw.randint(2, 99)
        sign, value = ("+", x + b) if draw.random() < 0.5 else ("-", x - b)
        return f"Q: Suppose {value} = x {sign} {b}. What is the value of x?\nA:"

    repeated, answer = draw.sample(range(10, 99), 2)
    shown = [draw.randint(10, 98) for _ in range(4)] + [repeated] * 6
    lines = [f"{equation(x)} {x}" for x in shown]
    prompt = "\n".join(["Please answer the following simple algebra questions.", *lines, equation(answer)])
    return Item(prompt, *_both(draw, f" {answer}", f" {repeated}"))


def sig_figs(draw: random.Random) -> Item:
    """The task of significant figures: the wrong option rounds to decimal places instead."""
    digits, places = draw.randint(1, 3), draw.randint(4, 6)
    number = Decimal(draw.randint(11, 989)) + Decimal(draw.randrange(1, 10**places)).scaleb(-places)
    last = number.adjusted() - digits + 1  # the power of ten of the last significant digit
    right = f"{number.quantize(Decimal(1).scaleb(last), ROUND_HALF_UP):f}"
    wrong = f"{number.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):f}"
    if right == wrong:
        return sig_figs(draw)
    (first, second), at = _both(draw, right, wrong)
    if Decimal(right) == Decimal(
        wrong
    ):  # both are right; drawn apart, so that the questions after this one stay what they were
        return sig_figs(random.Random(f"{number} {digits}"))
    prompt = (
        f"Please round {number} to {digits} significant digit{'s' * (digits > 1)}.\nA. {first}\nB. {second}\nAnswer:"
    )
    return Item(prompt, (" A", " B"), at)


GENERATORS: Mapping[str, Callable[[random.Random], Item]] = {
    "hindsight-neglect": hindsight_neglect,
    "memo-trap": memo_trap,
    "modus-tollens": modus_tollens,
    "pattern-matching-suppression": pattern_matching_suppression,
    "quote-repetition": quote_repetition,
    "redefine-math": redefine_math,
    "repetitive-algebra": repetitive_algebra,
    "sig-figs": sig_figs,
}
"""Tasks made of nothing but their templates, by name."""


def generated(task: str, count: int, seed: int) -> list[Item]:
    """Return different items in the style of a task of the prize: one of `GENERATORS`, or "neqa", made from MMLU's test part.

    Raises: ValueError for another task, or if there are fewer than `count` different items; FileNotFoundError for "neqa"
        without MMLU.
    """
    draw = random.Random(f"inverse scaling {task} {seed}")
    if task == "neqa":
        return _negated(draw, count)
    if task not in GENERATORS:
        raise ValueError(f"task must be one of {', '.join([*GENERATORS, 'neqa'])}, got {task!r}")
    found: dict[tuple[str, tuple[str, ...]], Item] = {}
    for _ in range(50 * count):
        item = GENERATORS[task](draw)
        found.setdefault((item.prompt, tuple(sorted(item.classes))), item)
        if len(found) == count:
            return list(found.values())
    raise ValueError(f"count must be at most about {len(found)} for {task}, got {count}")


def _negated(draw: random.Random, count: int) -> list[Item]:
    """Return MMLU's questions asking for what is not the answer, with the right answer and one wrong option.

    Zhou et al. (NeQA) negate a part of questions of OpenBookQA by rule; here the question is left as it is, and negated from
    outside.
    """
    asked = [
        q for q in question_set("mmlu", repeated="drop").questions if len(q.text) < 300 and "not" not in q.text.lower()
    ]
    if count > len(asked):
        raise ValueError(f"count must be at most {len(asked)} for neqa, got {count}")
    return [_negated_one(draw, q.text, q.choices, "ABCD".index(str(q.target))) for q in draw.sample(asked, count)]


def _negated_one(draw: random.Random, text: str, choices: Sequence[str], right: int) -> Item:
    other = draw.choice([option for k, option in enumerate(choices) if k != right])
    (first, second), at = _both(draw, other, choices[right])
    prompt = (
        "The following are multiple choice questions (with answers).\n\n"
        f'Question: Which of these is not the correct answer to "{text}"?\nA. {first}\nB. {second}\nAnswer:'
    )
    return Item(prompt, (" A", " B"), at)


def as_lines(items: Sequence[Item]) -> Iterator[str]:
    """Yield items as the prize's JSON lines."""
    for item in items:
        yield json.dumps(
            {"prompt": item.prompt, "classes": list(item.classes), "answer_index": item.answer_index},
            ensure_ascii=False,
        )
