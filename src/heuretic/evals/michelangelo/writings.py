"""Pieces of writing for conversations: made from a seed by patterns and word lists, so that no two are alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from random import Random

FORMATS = (
    "poem", "riddle", "essay", "email", "play", "letter", "story", "song", "speech", "diary entry", "news report", "review",
)  # fmt: skip
TOPICS = (
    "penguins", "flamingos", "ducks", "basketball", "lighthouses", "volcanoes", "chess", "honey bees", "railways", "umbrellas",
    "glaciers", "violins", "tulips", "submarines", "bakeries", "comets", "deserts", "bicycles", "libraries", "owls",
    "waterfalls", "kites", "mushrooms", "castles", "tea", "whales", "clocks", "orchards", "robots", "thunderstorms",
    "markets", "turtles", "pianos", "bridges", "snow", "maps", "foxes", "harbours", "marathons", "caves",
    "telescopes", "gardens", "wolves", "pottery", "windmills", "coral reefs", "puppets", "mountains", "cheese", "swimming",
    "elevators", "rainbows", "cats", "museums", "cricket", "islands", "spices", "astronauts", "trams", "dragons",
)  # fmt: skip
_WORDS: dict[str, tuple[str, ...]] = {
    "adjective": (
        "amber", "ancient", "blunt", "brave", "bright", "brittle", "calm", "careful", "clever", "cold", "crooked", "curious", "damp",
        "dusty", "eager", "early", "empty", "faint", "famous", "fierce", "foreign", "gentle", "golden", "grave", "hasty", "heavy",
        "hollow", "honest", "humble", "idle", "jagged", "kind", "late", "lively", "lonely", "loud", "lucky", "mild", "modest", "narrow",
        "nervous", "noble", "odd", "pale", "patient", "plain", "polite", "proud", "quick", "quiet", "rare", "ragged", "restless", "rough",
        "sacred", "shallow", "sharp", "silent", "silver", "simple", "slow", "smooth", "solemn", "sour", "stubborn", "sturdy", "sudden",
        "tender", "thin", "tidy", "tired", "vast", "warm", "weary", "wild", "wise", "wooden", "young",
    ),
    "noun": (
        "anchor", "apple", "attic", "basket", "bell", "blanket", "bottle", "branch", "brother", "bucket", "button", "candle", "carpet",
        "ceiling", "cellar", "chimney", "cloud", "coat", "corner", "cousin", "cradle", "curtain", "doctor", "door", "drum", "engine",
        "farmer", "feather", "fence", "field", "fisherman", "flag", "forest", "garden", "gate", "glove", "hammer", "harvest", "hill",
        "island", "jar", "kettle", "king", "kitchen", "ladder", "lake", "lantern", "leaf", "letter", "merchant", "meadow", "mirror",
        "morning", "mountain", "neighbour", "needle", "notebook", "ocean", "painter", "path", "pillow", "pocket", "pond", "promise",
        "question", "river", "road", "roof", "sailor", "secret", "shadow", "shoulder", "sister", "stone", "stranger", "street", "teacher",
        "thread", "tower", "traveller", "valley", "village", "wagon", "wall", "whistle", "window", "winter", "wreath",
    ),
    "verb": (
        "admires", "answers", "awakens", "borrows", "breaks", "builds", "buries", "carries", "catches", "chases", "circles", "colours",
        "counts", "covers", "crosses", "decorates", "describes", "discovers", "draws", "empties", "explores", "fears", "follows",
        "forgets", "forgives", "gathers", "greets", "guards", "haunts", "hides", "holds", "honours", "imitates", "interrupts", "invites",
        "lifts", "loses", "measures", "mends", "misses", "moves", "notices", "opens", "outlives", "paints", "praises", "questions",
        "reaches", "recalls", "rejects", "remembers", "repairs", "returns", "rings", "saves", "seeks", "shakes", "shelters", "sketches",
        "startles", "studies", "surprises", "teaches", "touches", "trusts", "visits", "warms", "watches", "welcomes", "whispers to",
    ),
    "place": (
        "Aldermoor", "Birchwick", "Cantlow", "Dunmere", "Eastvale", "Fernleigh", "Greyport", "Hollin Bay", "Inchford", "Juniper Hill",
        "Kestrel Point", "Larkstead", "Marrow Lane", "Northolt Quay", "Oakhampton", "Pellworth", "Quarry End", "Ravensby", "Silverbrook",
        "Thornaby", "Upper Wick", "Verity Square", "Westmarch", "Yarrow Green",
    ),
    "person": (
        "Ada", "Bruno", "Celia", "Dmitri", "Esther", "Felix", "Greta", "Hassan", "Ines", "Jonas", "Kavita", "Leon", "Mira", "Nadia",
        "Otto", "Priya", "Quentin", "Rosa", "Samir", "Tilda", "Umberto", "Vera", "Wanda", "Yusuf", "Zoe",
    ),
    "time": (
        "at dawn", "at noon", "before supper", "by candlelight", "every Thursday", "in the first week of May", "in late autumn",
        "long after midnight", "on Sundays", "once a year", "since Tuesday", "this spring", "twice a month", "when it rains",
        "when the bells ring", "while others sleep", "without any warning", "for the third time", "against all advice", "as ever",
    ),
}  # fmt: skip
_LINES = (
    "{Topic}, {adjective} as the {noun}, {time}",
    "O {adjective} {noun} that {verb} the {noun}",
    "And all the {topic} of {place} sing",
    "A {adjective} {noun} {verb} the {adjective} {noun}",
    "No {noun} {verb} the {noun} {time}",
    "The {noun} of {person} knows {topic} well",
    "Beyond {place} a {noun} {verb} the {noun}",
    "I gave my {adjective} {noun} to {topic}",
    "Let {topic} be {adjective}, let the {noun} be {adjective}",
    "What {noun} {verb} a {adjective} {noun} {time}?",
)
_SENTENCES = (
    "{Topic} remind {person} of the {adjective} {noun} that {verb} a {noun} {time}.",
    "In {place}, a {adjective} {noun} {verb} the {noun}, and {topic} are never far away.",
    "Most people in {place} would say that {topic} are {adjective}, {adjective} and a little {adjective}.",
    "{Time}, {person} {verb} a {adjective} {noun} and writes about {topic}.",
    "There is no {noun} as {adjective} as the one that {verb} {person} {time}.",
    "It was {person} who first compared {topic} to a {adjective} {noun}.",
    "Nobody {verb} the {noun} of {place} without a {adjective} {noun}.",
    "The {adjective} {noun} {verb} {place}, which is why {topic} matter {time}.",
    "{Person} and {person} disagree about {topic}: one {verb} the {noun}, the other a {adjective} {noun}.",
    "If {topic} were a {noun}, they would be a {adjective} one that {verb} a {noun}.",
    "A {noun} and a {adjective} {noun} are all that {topic} leave behind {time}.",
    "Near {place} the {noun} {verb} every {adjective} {noun}.",
    "{Topic} have been {adjective} before, but {time} a {noun} {verb} the {adjective} {noun}.",
    "Ask {person} about {topic} and the {noun} {verb} a {adjective} {noun}.",
)
_SPOKEN = (
    "NAME: Have you heard about {topic}? They say a {noun} {verb} the {adjective} {noun}.",
    "NAME: I left my {adjective} {noun} in {place}, {time}.",
    "NAME: {Topic}! And not one {adjective} {noun} among us.",
    "NAME: (aside) The {noun} {verb} me {time}.",
    "NAME: Give {person} the {noun}, and say that {topic} are {adjective}.",
    "NAME: Whoever {verb} a {adjective} {noun} must love {topic}.",
)
_HINTS = (
    "I am {adjective} like a {noun}, yet no {noun} {verb} me.",
    "{Time} I meet a {adjective} {noun}.",
    "{Person} has seen me in {place}, where the {noun} {verb} a {noun}.",
    "My {noun} is {adjective} and my {noun} is {adjective}.",
    "Some say {topic} when they mean a {adjective} {noun}.",
    "A {noun} {verb} me, but a {adjective} {noun} {verb} me more.",
)
_OPENINGS: dict[str, tuple[str, ...]] = {
    "poem": ("To the {adjective} {noun} of {topic}\n", "Ode to {topic} and a {adjective} {noun}\n"),
    "riddle": ("What am I, said the {adjective} {noun}?\n", "Guess, {person}, by the {adjective} {noun}.\n"),
    "essay": ("On {topic} and the {adjective} {noun}.", "Why {topic} resemble a {adjective} {noun}."),
    "email": (
        "Subject: {topic} and the {adjective} {noun}\nHello {person},",
        "Subject: your {adjective} {noun}\nHi {person},",
    ),
    "play": (
        "[Enter {person} with a {adjective} {noun}.]\n",
        "[{place}, {time}. A {adjective} {noun} stands on the stage.]\n",
    ),
    "letter": ("{place}, {time}\nDear {person},", "To {person}, who {verb} the {noun}:"),
    "story": ("Once a {adjective} {noun} lived in {place}.", "{Person} woke {time} beside a {adjective} {noun}."),
    "song": ("(for {person}, with a {adjective} {noun})\n", "(slowly, as a {noun} {verb} a {noun})\n"),
    "speech": ("Friends of the {adjective} {noun}!", "People of {place}, hear me {time}!"),
    "diary entry": ("{place}, {time}. A {adjective} day.", "Dear diary, today {person} {verb} a {noun}."),
    "news report": (
        "{place}: {person} {verb} a {adjective} {noun}.",
        "{place}, {time}: {topic} in the {adjective} {noun}.",
    ),
    "review": ("{person} gives this {noun} two stars.", "A {adjective} {noun}, four stars, says {person}."),
}
_BODIES = {"poem": _LINES, "song": _LINES, "riddle": _HINTS, "play": _SPOKEN}
_BREAKS = {"poem": "\n", "song": "\n", "riddle": "\n", "play": "\n"}
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")
_SLOT = re.compile(r"\{(\w+)\}|(NAME)")


@cache
def _parts(pattern: str) -> tuple[tuple[str, Sequence[str] | str, bool], ...]:
    """Return a pattern as pairs of a text and what follows it: a word list, or "topic"; and whether it begins with a capital."""
    found, last = [], 0
    for match in _SLOT.finditer(pattern):
        slot = (match[1] or "person").lower()
        capital = (match[1] or "").istitle()
        words: Sequence[str] | str = "topic" if slot == "topic" else _WORDS[slot]
        found.append((pattern[last : match.start()], words, capital))
        last = match.end()
    return (*found, (pattern[last:], "", False))


def _filled(pattern: str, topic: str, rng: Random) -> str:
    pieces: list[str] = []
    for before, words, capital in _parts(pattern):
        pieces.append(before)
        if words:
            word = topic if isinstance(words, str) else words[int(rng.random() * len(words))]
            pieces.append(word[0].upper() + word[1:] if capital else word)
    return _ARTICLE.sub(r"\1n ", "".join(pieces))


def writing(form: str, topic: str, characters: int, rng: Random) -> str:
    """Return a piece of writing on a topic, of at most so many characters and, unless that is very few, not many fewer.

    It is made sentence by sentence of patterns whose words are drawn from lists of 20 to 90, in the shape of its format: titled verses,
    hints, lines of a dialogue, or prose with a fitting opening. It makes little sense, which nothing here needs; two pieces of
    the same format and topic share what their patterns share, and with a seed that has not been used yet, nothing else.
    """
    patterns, gap = _BODIES.get(form, _SENTENCES), _BREAKS.get(form, " ")
    openings = _OPENINGS[form]
    pieces = [_filled(openings[int(rng.random() * len(openings))], topic, rng).rstrip("\n")]
    written = len(pieces[0])
    while True:
        following = _filled(patterns[int(rng.random() * len(patterns))], topic, rng)
        written += len(following) + len(gap)
        if written > characters:
            break
        pieces.append(following)
    text = gap.join(pieces)
    return text if len(text) <= characters else text[:characters].rsplit(" ", 1)[0]
