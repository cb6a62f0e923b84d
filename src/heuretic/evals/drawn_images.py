"""Pictures that are drawn here, with questions of HaloQuest's three categories and their right answers.

Each is a few shapes on a plain ground, one of which may carry a word. So an evaluation of what models see can be run, and tested,
without fetching anything; it is far easier than HaloQuest, and its scores are not to be compared with published ones.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from heuretic.evals.haloquest_images import Image

COLOURS = {
    "red": (214, 40, 40), "blue": (35, 87, 214), "green": (34, 139, 60), "yellow": (245, 200, 20), "purple": (128, 50, 168),
    "orange": (240, 125, 20),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star")
WORDS = ("SUN", "MAP", "OAK", "TEA", "FOX", "JAM")
_COLUMNS, _ROWS, _CELL = 4, 3, 120
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape: what, its colour, its place (column, row), and the word on it, if any."""

    kind: str
    colour: str
    place: tuple[int, int]
    word: str = ""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture as a list of shapes, and a question about it.

    Attributes: category: One of HaloQuest's. answers: Any of them is right.
    """

    shapes: tuple[Shape, ...]
    category: str
    question: str
    answers: tuple[str, ...]

    def image(self) -> Image:
        """Return the picture as PNG."""
        return Image(drawing(self.shapes), "image/png")


def drawn(count: int, seed: int = 0) -> Iterator[Drawn]:
    """Yield so many pictures with questions, the categories in turn; the first ones do not depend on how many there are."""
    makers: tuple[Callable[[random.Random], Drawn], ...] = (_false_premise, _visual_challenge, _insufficient_context)
    for number in range(count):
        yield makers[number % len(makers)](random.Random(f"drawn images {seed} {number}"))


def drawing(shapes: tuple[Shape, ...]) -> bytes:
    """Return a picture of shapes as the bytes of a PNG file."""
    from PIL import Image as pillow
    from PIL import ImageDraw

    picture = pillow.new("RGB", (_COLUMNS * _CELL, _ROWS * _CELL), (250, 250, 245))
    pen = ImageDraw.Draw(picture)
    for shape in shapes:
        x, y = ((place + 0.5) * _CELL for place in shape.place)
        radius, colour = 0.4 * _CELL, COLOURS[shape.colour]
        if shape.kind == "circle":
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        else:
            pen.polygon(_corners(shape.kind, x, y, radius), fill=colour)
        if shape.word:
            pen.text(
                (x, y + (0.1 * _CELL if shape.kind == "triangle" else 0)), shape.word, (255, 255, 255), _font(), "mm"
            )
    stored = io.BytesIO()
    picture.save(stored, "PNG")
    return stored.getvalue()


def _corners(kind: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    if kind == "square":
        half = 0.85 * radius
        return [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]
    points = 3 if kind == "triangle" else 10
    found = []
    for k in range(points):
        reach = radius * (0.45 if kind == "star" and k % 2 else 1.0)
        angle = 2 * math.pi * k / points - math.pi / 2
        found.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    return found


def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(26)


def _scene(rng: random.Random, missing: str = "") -> list[Shape]:
    """Return three to seven shapes in different places; none of the kind `missing`."""
    kinds = [kind for kind in SHAPES if kind != missing]
    places = rng.sample([(x, y) for x in range(_COLUMNS) for y in range(_ROWS)], rng.randint(3, 7))
    return [Shape(rng.choice(kinds), rng.choice(list(COLOURS)), place) for place in places]


def _false_premise(rng: random.Random) -> Drawn:
    missing = rng.choice(SHAPES)
    scene = _scene(rng, missing)
    question = rng.choice(
        (
            f"What color is the {missing}?",
            f"Which word is written on the {missing}?",
            f"Is the {missing} larger than the other shapes?",
        )
    )
    answers = (
        f"There is no {missing} in the image.",
        f"The image does not show a {missing}.",
        f"No {missing} is visible.",
    )
    return Drawn(tuple(scene), "false premises", question, answers)


def _visual_challenge(rng: random.Random) -> Drawn:
    scene = _scene(rng)
    if rng.random() < 0.5:
        kind = rng.choice(scene).kind
        count = sum(shape.kind == kind for shape in scene)
        plural = kind if count == 1 else f"{kind}s"
        verb = "is" if count == 1 else "are"
        return Drawn(
            tuple(scene), "visual challenge", f"How many {kind}s are in the image?",
            (str(count), _NUMBERS[count], f"There {verb} {_NUMBERS[count]} {plural} in the image."),
        )  # fmt: skip
    which, word = rng.randrange(len(scene)), rng.choice(WORDS)
    marked = scene[which]
    # White on yellow cannot be read.
    colour = marked.colour if marked.colour != "yellow" else "red"
    kind = marked.kind if marked.kind != "star" else "circle"
    scene[which] = Shape(kind, colour, marked.place, word)
    if rng.random() < 0.5:
        return Drawn(
            tuple(scene),
            "visual challenge",
            "Which word is written in the image?",
            (word.lower(), f"The word is {word}."),
        )
    return Drawn(
        tuple(scene),
        "visual challenge",
        f"What color is the shape on which {word} is written?",
        (colour, f"It is {colour}."),
    )


def _insufficient_context(rng: random.Random) -> Drawn:
    scene = _scene(rng)
    shape = rng.choice(scene).kind
    question, what = rng.choice(
        (
            ("Who drew this picture?", "who drew it"),
            (f"What is hidden behind the {shape}?", f"what is behind the {shape}"),
            ("In which city was this picture made?", "the city in which it was made"),
            ("How heavy is the paper that this picture was drawn on?", "how heavy the paper is"),
        )
    )
    answers = (
        f"The image does not show {what}.", "It cannot be determined from the image.", "There is not enough information to tell.",
    )  # fmt: skip
    return Drawn(tuple(scene), "insufficient context", question, answers)
