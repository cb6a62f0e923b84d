"""Short invented stories that tell some things and leave others out, with questions about both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

UNKNOWN = "I don't know"
_NAMES = (
    "Agnes", "Boris", "Clara", "David", "Elena", "Farid", "Gwen", "Hugo", "Irma", "Jakob", "Kenji", "Laila", "Marta", "Nils", "Olive",
    "Pavel", "Ruth", "Stefan", "Tara", "Viktor",
)  # fmt: skip
_COLOURS = ("black", "brown", "grey", "white", "golden", "red", "spotted", "cream")
_CITIES = ("Fresno", "Berkeley", "Sacramento", "Oakland", "Portland", "Tacoma", "Boise", "Reno")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_JOBS = ("a nurse", "a carpenter", "a pilot", "a teacher", "a baker", "a lawyer", "a plumber", "a librarian")
_FOODS = ("lentil soup", "mushroom pie", "fried rice", "pancakes", "fish stew", "apple cake", "noodles", "potato salad")
_AGES = ("two years old", "three years old", "four years old", "five years old", "seven years old", "nine years old")
_PETS = ("Biscuit", "Pepper", "Luna", "Rusty", "Domino", "Hazel", "Olaf", "Tango")
_SPORTS = ("tennis", "rowing", "climbing", "badminton", "fencing", "swimming", "archery", "cycling")
_INSTRUMENTS = (
    "the cello",
    "the flute",
    "the trumpet",
    "the harp",
    "the accordion",
    "the oboe",
    "the drums",
    "the viola",
)


@dataclass(frozen=True, slots=True)
class _Fact:
    """Something that may be told: the sentence that tells it, the question for it, and what it can be."""

    told: str
    question: str
    values: tuple[str, ...]


_SCENES: tuple[tuple[str, tuple[_Fact, ...]], ...] = (
    (
        "{name} took a dog for a long walk.",
        (
            _Fact("{name}'s dog is {value}.", "What colour is {name}'s dog?", _COLOURS),
            _Fact("{name}'s dog is called {value}.", "What is the name of {name}'s dog?", _PETS),
            _Fact("{name}'s dog is {value}.", "How old is {name}'s dog?", _AGES),
            _Fact("{name}'s walk was on a {value}.", "On what day did {name} take the dog for a walk?", _DAYS),
        ),
    ),
    (
        "{name} was gathered with friends around a table at a park.",
        (
            _Fact("The park where {name} sat is in {value}.", "What city is the park where {name} sat located in?", _CITIES),
            _Fact("At the park {name} ate {value}.", "What did {name} eat at the park?", _FOODS),
            _Fact("{name} came to the park on a {value}.", "On what day did {name} come to the park?", _DAYS),
            _Fact("{name} talked about {value} at the table.", "Which sport did {name} talk about at the table?", _SPORTS),
        ),
    ),
    (
        "{name} has just moved into a small flat above a shop.",
        (
            _Fact("{name} works as {value}.", "What does {name} work as?", _JOBS),
            _Fact("{name}'s flat is in {value}.", "In which city is {name}'s flat?", _CITIES),
            _Fact("The door of {name}'s flat is {value}.", "What colour is the door of {name}'s flat?", _COLOURS[:6]),
            _Fact("In the new flat {name} practises {value}.", "Which instrument does {name} practise?", _INSTRUMENTS),
        ),
    ),
    (
        "{name} missed the last train and waited at the station until morning.",
        (
            _Fact("{name} missed the train on a {value}.", "On what day did {name} miss the train?", _DAYS),
            _Fact("{name} had been on the way to {value}.", "Where had {name} been going?", _CITIES),
            _Fact("While waiting, {name} ate {value}.", "What did {name} eat while waiting?", _FOODS),
            _Fact("{name} told a stranger that {value} was the best of sports.", "Which sport did {name} praise?", _SPORTS),
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Story:
    """Attributes: text: What is told. question: What is asked. choices: Four, the last of them `UNKNOWN`. right: Place of the right one."""

    text: str
    question: str
    choices: tuple[str, ...]
    right: int


def story(known: bool, rng: Random) -> Story:
    """Return a story and a question whose answer it tells, if `known`, or does not tell.

    Two other facts are told about the person who is asked about, and what is asked is often told of another person, so that
    one of the choices is in the text though it does not answer the question.
    """
    name, other = rng.sample(_NAMES, 2)
    scene, facts = _SCENES[rng.randrange(len(_SCENES))]
    asked, *rest = rng.sample(facts, len(facts))
    choices = rng.sample(asked.values, 3)
    right = rng.randrange(3) if known else 3
    sentences = [_told(fact, name, rng.choice(fact.values)) for fact in rest[:2]]
    if known:
        sentences.append(_told(asked, name, choices[right]))
    if rng.random() < 0.5:
        misleading = [choice for place, choice in enumerate(choices) if place != right]
        sentences.append(_told(asked, other, rng.choice(misleading)))
    rng.shuffle(sentences)
    text = " ".join([scene.format(name=name), *sentences])
    return Story(text, asked.question.format(name=name), (*choices, UNKNOWN), right)


def _told(fact: _Fact, name: str, value: str) -> str:
    return fact.told.format(name=name, value=value)


def written_choices(choices: Sequence[str]) -> str:
    """Return choices as lines with letters."""
    return "\n".join(f"({chr(65 + place)}) {choice}" for place, choice in enumerate(choices))
