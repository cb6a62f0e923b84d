"""Latent list: what a short list looks like after operations that stand far apart in a long context."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from random import Random
from typing import ClassVar

from heuretic.evals.evaluation import Score
from heuretic.evals.michelangelo.list_programs import INITIAL, KINDS, NOTHING, Kind, Program, filler, program
from heuretic.evals.michelangelo.long_context import LongContext, fitted
from heuretic.lm import Answer, LanguageModel, Question, Sampling
from heuretic.lm.parsing import Parse, canonical_number, without_markup
from heuretic.lm.strategies import Attempting, Direct
from heuretic.symbolic import Symbolic, field

COMPLEXITIES = (1, 5, 20)
_OPENING = "Pretend to be a Python interpreter. You will see a sequence of updates which correspond to list operations."
_RULE = "==================="
_FIRST = f">> a = {list(INITIAL)}\n"
_NEXT_EXAMPLE = re.compile(r"^[ \t]{0,8}(?:={5,}|#{0,6} ?Example \d+).*", re.MULTILINE | re.DOTALL)
_CUE = re.compile(r"\boutput\s*:|\b(?:the |final ){0,2}answer\s+is\b\s*:?|\banswer\s*:", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?![\w]|\.\d)")
_LIST = re.compile(r"(?<![\w\])])\[([^\[\]]*)\]")
_NO_MORE = r"(?:\s*$|\s*[;(]|\.(?!\d)|\s+(?:because|since|as|from)\b)"
_BEGINS_WITH_NUMBER = re.compile(rf"\s*({_NUMBER.pattern})(?:{_NO_MORE}|,(?!\s*[-+\d]))")
_BEGINS_WITH_LIST = re.compile(rf"\s*{_LIST.pattern}{_NO_MORE}")
_FENCE = re.compile(r"\A\s*```\w*[ \t]*\n")
_FIRST_STEP = re.compile(r"\s*1\.\s.*^[ \t]*2\.\s", re.MULTILINE | re.DOTALL)
_INT = re.compile(r"[-+]?\d{1,400}")
_FLOAT = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d{1,3})?")


def latent_list_score(answer: object, target: str, view: str) -> float:
    """Return the published score of an answer, in [0, 1].

    A printed slice must be equal as a string. A number must already be an int, and scores 1 - min(1, |t - a| / (1e-10 + |t|)), so
    that 0 is matched exactly or not at all. As in Python, True and False are the ints 1 and 0; floats score 0, and so do texts.
    arXiv:2409.12640, section 2.1. Ints too great for a float score 0 here; the code in the paper raises for them.

    Args: view: "print", "sum", "min", "max" or "len".
    Raises: ValueError for another view, or a target that is no number where the view shows one.
    """
    if view not in KINDS:
        raise ValueError(f"view must be one of {', '.join(KINDS)}, got {view!r}")
    if view == "print":
        return float(str(answer) == target)
    right = float(target)
    if not isinstance(answer, int):
        return 0.0
    try:
        error = abs(right - answer) / (1e-10 + abs(right))
    except OverflowError:
        return 0.0
    return 1.0 - min(1.0, error)


def literal(text: str) -> int | float | bool | str:
    """Return the int, float or bool that a text is as Python writes it, else the text."""
    bare = text.strip()
    if bare in ("True", "False"):
        return bare == "True"
    if _INT.fullmatch(bare):
        return int(bare)
    return float(bare) if _FLOAT.fullmatch(bare) else text


class ListAnswer(Symbolic):
    """What a reply says that a view shows.

    The paper says that replies were post-processed, not how. Officially, the whole reply is the answer, without spaces around.
    Otherwise it is looked for: after the last "Output:" or "the answer is"; else a first line that begins with an answer, and goes on
    with nothing or an explanation; else the last list or number. Lists are written anew as Python does, 5.0 and 1,234 are the ints 5 and 1234, and True is no number.
    Examples that a model adds after its answer are left out.
    """

    official: bool = field(default=False, doc="whether the whole reply is the answer")

    def __call__(self, text: str, question: Question) -> str | None:
        if self.official:
            return text.strip() or None
        return read_list(text) if question.about.get("view") == "print" else read_number(text)


def read_number(text: str) -> str | None:
    """Return the number that a reply gives, whole if its value is: "5" for "Output: 5.0"; None if there is none."""
    said, cued = _said(text)
    lines = [line for line in said.splitlines() if line.strip()]
    if not lines:
        return None
    begun = _BEGINS_WITH_NUMBER.match(lines[0])
    if begun and not _FIRST_STEP.match(said):
        return canonical_number(begun[1])
    found = _NUMBER.search(lines[0].rpartition("=")[2]) if cued else None
    if found is None:
        numbers = _NUMBER.findall(said)
        return canonical_number(numbers[0] if cued else numbers[-1]) if numbers else None
    return canonical_number(found[0])


def read_list(text: str) -> str | None:
    """Return the list of whole numbers that a reply gives, as Python writes it; None if there is none."""
    said, cued = _said(text)
    found = [each for each in (_as_list(inside) for inside in _LIST.findall(said)) if each is not None]
    if not found:
        return None
    begun = _BEGINS_WITH_LIST.match(said.lstrip().partition("\n")[0])
    return found[0] if cued or (begun and _as_list(begun[1]) == found[0]) else found[-1]


def _said(text: str) -> tuple[str, bool]:
    """Return the part of a reply in which the answer is, and whether a cue stands before it."""
    plain = without_markup(_FENCE.sub("", text))
    own = _NEXT_EXAMPLE.sub("", plain)
    own = own if own.strip() else plain
    cues = list(_CUE.finditer(own))
    return (own[cues[-1].end() :], True) if cues else (own, False)


def _as_list(inside: str) -> str | None:
    items = [canonical_number(item) for item in inside.split(",")] if inside.strip() else []
    if any(item is None or not _INT.fullmatch(item) for item in items):
        return None
    return f"[{', '.join(item for item in items if item is not None)}]"


def statements(made: Program, characters: int, places: list[float], rng: Random) -> Iterator[str]:
    """Yield the lines of a program with filler between, at most so many characters of it, prompts and line ends counted.

    Args: places: Where each operation stands, as a share of the filler, ascending.
    """
    items, written = list(INITIAL), 0
    operations = iter(zip(places, made.operations, strict=True))
    place, operation = next(operations, (1.0, None))
    runs = filler(items, rng)
    while True:
        while operation is not None and written >= place * characters:
            yield str(operation)
            getattr(items, operation.name)(*operation.arguments)
            place, operation = next(operations, (1.0, None))
        run = next(runs)
        size = sum(map(len, run)) + 4 * len(run)
        if written + size > characters:
            break
        written += size
        yield from run
    yield from [NOTHING] * ((characters - written) // (len(NOTHING) + 4))
    while operation is not None:
        yield str(operation)
        _, operation = next(operations, (1.0, None))


def demonstration(number: int, rng: Random) -> str:
    """Return a short example with its answer."""
    made = program(rng.choice((1, 3, 5)), rng.choice(KINDS), rng)
    lines = statements(made, rng.randint(60, 160), _places(len(made.operations), rng), rng)
    body = "".join(f">> {line}\n" for line in lines)
    return f"{_RULE}\nExample {number}:\n{_FIRST}{body}>> {made.view}\nOutput: {made.answer}\n"


def _places(count: int, rng: Random) -> list[float]:
    """Return one place at random in each of so many equal parts of the context."""
    return [(k + rng.random()) / count for k in range(count)]


class LatentList(LongContext):
    """Follow a list through a long sequence of operations, few of which matter in the end.

    Vodrahalli et al. 2024, arXiv:2409.12640, section 2.1 and appendix A.1. One, five and twenty relevant operations and the five
    views come equally often. Each relevant operation matters: without it the program still runs and shows something else. They stand
    evenly in the context, one at a random place in each equal part of it. Filler does not change the list: `print("Do nothing.")`,
    even runs of `reverse`, and operations that undo each other within a few lines, in equal parts.

    Departures: the paper's second demonstration inserts numbers beyond 4000, here all are within; the demonstrations are made.
    """

    name: ClassVar[str] = "latent-list"
    by: ClassVar[tuple[str, ...]] = ("length", "complexity", "view")
    references: ClassVar[Mapping[str, float]] = {"chance (paper, 128K)": 0.122}

    tokens_per_character: float = field(
        default=0.44,
        gt=0,
        doc="by which lengths are measured where nothing counts; so many where digits are tokens, else fewer",
    )
    complexities: tuple[int, ...] = field(default=COMPLEXITIES, doc="relevant operations, in equal shares")
    views: tuple[Kind, ...] = field(default=KINDS, doc="what is asked, in equal shares")
    official: bool = field(
        default=False, doc="whether the whole reply must be the answer, as the published metric has it"
    )
    max_tokens: int = field(default=256, ge=1, doc="most tokens of a reply")

    def __post_init__(self) -> None:
        LongContext.__post_init__(self)
        if not self.complexities or min(self.complexities) < 1 or not self.views:
            raise ValueError(f"complexities and views must be at least one, got {self.complexities}, {self.views}")

    def problem(self, number: int, tokens: int) -> Question:
        rng = self.of_problem(number)
        complexity = self.complexities[number % len(self.complexities)]
        kind = self.views[number // len(self.complexities) % len(self.views)]
        made = program(complexity, kind, rng)
        places = _places(complexity, rng)
        shown = "".join(demonstration(k + 1, rng) for k in range(self.shots))
        head = (
            f"{_OPENING} Here are some examples.\n{shown}{_RULE}\nExample {self.shots + 1}:\n"
            if shown
            else f"{_OPENING}\n"
        )
        head, tail = head + _FIRST, f">> {made.view}\nOutput:"
        said = len(head) + len(tail) + sum(len(str(each)) + 4 for each in made.operations)

        def build(characters: int) -> str:
            room = characters - said
            if room < 0:
                raise ValueError(
                    f"length must be at least {int(said * self.tokens_per_character) + 1} tokens for problem {number}, got {tokens}. "
                    "Try fewer shots"
                )
            lines = statements(made, room, places, self.of_filler(number, tokens))
            return f"{head}{''.join(f'>> {line}' + chr(10) for line in lines)}{tail}"

        text = fitted(build, tokens, self.tokens_per_character, self.count)
        return Question(text, made.answer, about={"complexity": str(complexity), "view": kind})

    def parse(self) -> Parse:
        """Return what finds the shown value in a reply."""
        return ListAnswer(official=self.official)

    def strategy(self) -> Attempting:
        """Ask with the prompt of the paper, as it is."""
        sampling = Sampling(max_tokens=self.max_tokens, stop=(f"\n{_RULE}",))
        return Direct(instruction="", parse=self.parse(), sampling=sampling)

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        view, target = str(question.about["view"]), str(question.target)
        if answer.answer is None:
            return Score(0.0, {"exact": 0.0}, reason=answer.outcome)
        said = answer.answer if view == "print" else literal(answer.answer)
        return Score(latent_list_score(said, target, view), {"exact": float(str(said) == target)})
