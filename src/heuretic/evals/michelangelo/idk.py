"""IDK: whether a model says that it does not know what a long context does not tell."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from random import Random
from typing import ClassVar

from heuretic.evals.evaluation import Score
from heuretic.evals.michelangelo.long_context import LongContext, fitted
from heuretic.evals.michelangelo.stories import story, written_choices
from heuretic.lm import Answer, LanguageModel, Question, Sampling
from heuretic.lm.parsing import Parse, without_markup
from heuretic.lm.strategies import Attempting, Direct
from heuretic.symbolic import Symbolic, field

NOT_TOLD = "not told"
"""Stands for a reply that chooses nothing, and says that the context does not tell."""
_RULE = "==================="
_OPENING = (
    "You will see a text, most of which is made of letters that mean nothing, and a question about it. Choose the answer that "
    "follows from the text."
)
_PROSE = 0.5
"""What a character of prose counts, where letters with spaces between count 1: four of them are a token, not two."""
_NEXT_EXAMPLE = re.compile(r"^[ \t]{0,8}={5,}.*", re.MULTILINE | re.DOTALL)
_CUE = re.compile(r"\b(?:the |final |correct |best ){0,3}(?:answer|choice|option)\s*(?:is\b\s*:?|:)\s*", re.IGNORECASE)
_MISSING = (
    r"mention|stat|specif|provid|includ|contain|present|availabl|found|find|describ|indicat|giv|given|tell|told|say|said|"
    r"reveal|disclos|clear|enough|sufficient|known|answer|determin|address|discuss|identif|infer|conclud"
)
_NOT = r"(?:\b(?:not|never|cannot|nowhere)|n['’]t)"
_WITHOUT = re.compile(
    rf"{_NOT}\s+(?:\w+\s+){{0,3}}?(?:(?:{_MISSING})\w*|know\b|in\s+the\s+(?:text|context|passage|story)\b)|\bnowhere\b"
    r"|\bno\s+(?:\w+\s+){0,2}?(?:information|mention|indication|details?|evidence|answer|clue|data|way (?:to|of))\b"
    r"|\b(?:insufficient|missing|lacks?|lacking|without)\s+(?:\w+\s+){0,2}?(?:information|context|details?|data)\b"
    r"|\bimpossible\s+to\s+(?:know|tell|say|determine|answer)\b|\bunknown\b|\bunclear\b|\bunspecified\b|\bunanswerable\b",
    re.IGNORECASE,
)
_RIGHT = r"\s+is\s+(?:the\s+)?(?:right|correct|best)\b"
_DENIED = r"\s+(?:[^.,;()\n]{0,40}\s)?(?:is|are|seems?)\s+(?:not|wrong|incorrect|false)\b"
_SEVERAL = re.compile(rf"\(?[A-Za-z]\)(?:\s*(?:or|and|,|/|&)\s*\(?[A-Za-z]\)|{_DENIED})", re.IGNORECASE)
_CLAUSE = re.compile(r"[.,;:!?\n]+|\b(?:but|though|although|however)\b", re.IGNORECASE)
_DOUBT = re.compile(r"\b(?:if|whether|may|might|could)\b", re.IGNORECASE)
_NOT_THIS = "(?<! not)(?<! cannot be)(?<! cant be)(?<! isnt)(?<! wasnt)"


def choice_of(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter of the option that a reply chooses; `NOT_TOLD` if it chooses none and says that the text does not tell.

    In this order: a letter in brackets or alone after the last "answer is" or "Answer:"; a reply that begins with a letter; the
    only letter in brackets that is not said to be wrong; the whole reply, or what comes after "answer is", if it is the text of an option;
    the only option whose text occurs, beside what says that something is not in the text; that the answer is not in the text.
    None if nothing of these is there, or letters contradict each other.
    """
    plain = without_markup(_NEXT_EXAMPLE.sub("", text)).strip()
    last = chr(64 + len(choices))
    cues = list(_CUE.finditer(plain))
    after = plain[cues[-1].end() :].strip() if cues else ""
    for part in (after, plain):
        led = re.match(
            rf"(?:(?:option|choice)\s+)?(?:\(?([A-Za-z])\)|([A-{last}])(?:[.:,;]|\s*$|\s*\n|{_RIGHT})|([a-{last.lower()}])[.\s]*$)",
            part,
        )
        letter = ((led[1] or led[2] or led[3]) if led else "").upper()
        if "A" <= letter <= last and not _SEVERAL.match(part):
            return letter
    named = re.findall(rf"\b[Oo]ption ([A-{last}])\b", plain)
    letters = re.findall(rf"\(([A-{last}a-{last.lower()}])\)(?!{_DENIED})", plain)
    bracketed = {found.upper() for found in letters} | set(named)
    if len(bracketed) == 1:
        return bracketed.pop()
    if bracketed:
        return None
    for part in (after.partition("\n")[0], plain):
        for place, choice in enumerate(choices):
            if part and _bare(part) == _bare(choice):
                return chr(65 + place)
    if _WITHOUT.search(plain):
        return _only_named(_told(plain, choices), choices) or NOT_TOLD
    return _only_named(plain, choices)


def _told(text: str, choices: Sequence[str]) -> str:
    """Return a text without the clauses that say that something is not in the context, or only may be."""
    options = "|".join(map(re.escape, choices))
    text = re.sub(
        rf"({options}),(?=\s*(?:or |and )?(?:{options}))", r"\1", text, flags=re.IGNORECASE
    )  # lists stay whole
    clauses = _CLAUSE.split(text)
    return ". ".join(each for each in clauses if not _WITHOUT.search(each) and not _DOUBT.search(each))


def _only_named(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter of the only option whose text occurs, except after "not"."""
    said = f" {_bare(text)} "
    bare = [re.escape(_bare(choice)) for choice in choices]
    found = [place for place, each in enumerate(bare) if re.search(rf"{_NOT_THIS} {each} ", said)]
    return chr(65 + found[0]) if len(found) == 1 else None


def idk_score(text: str, choices: Sequence[str], right: str) -> float:
    """Return 1 if a reply chooses the right option; a reply that chooses none and says that the text does not tell is right
    only where the right option is the last, "(D) I don't know". arXiv:2409.12640, section 2.3.

    Args: right: Its letter.
    """
    return _scored(choice_of(text, choices), choices, right)


def _scored(said: str | None, choices: Sequence[str], right: str) -> float:
    last = chr(64 + len(choices))
    return float(said is not None and (last if said == NOT_TOLD else said) == right)


def _bare(text: str) -> str:
    return " ".join(re.findall(r"[\w]+", text.casefold().replace("’", "'").replace("'", "")))


class IDKAnswer(Symbolic):
    """The letter of the option that a reply chooses; "not told" where it chooses none and says that the text does not tell."""

    cue: str = field(default="The answer is", doc="what exemplars put before the answer")

    def __call__(self, text: str, question: Question) -> str | None:
        return choice_of(text, question.choices)


class IDK(LongContext):
    """Choose among three plausible answers and "(D) I don't know", which is right for 70% of the questions.

    Vodrahalli et al. 2024, arXiv:2409.12640, section 2.3 and appendix A.3. A short invented story stands somewhere in a context of
    random letters. Of every ten questions of a length, seven ask for what the story does not tell (complexity 0), and three for what
    it does (complexity 1): then one of (A), (B), (C) is right.

    Departures: stories are made of patterns; demonstrations and their wording are ours, for the paper shows none; the story stands
    at a random place, not always at the beginning. Always choosing (D) scores 0.7, so look at both complexities.
    """

    name: ClassVar[str] = "idk"
    references: ClassVar[Mapping[str, float]] = {"chance (paper)": 0.25, "always (D)": 0.7}

    tokens_per_character: float = field(
        default=0.502, gt=0, doc="by which lengths are measured where nothing counts: most tokenizers have a letter and a space as one"
    )  # fmt: skip
    max_tokens: int = field(default=256, ge=1, doc="most tokens of a reply")

    def problem(self, number: int, tokens: int) -> Question:
        rng = self.of_problem(number)
        known = _known(number, self.seed)
        made, depth = story(known, rng), rng.random()
        shown = "".join(_demonstration(k, rng) for k in range(self.shots))
        head = f"{_OPENING} Here are some examples.\n{shown}{_RULE}\n" if shown else f"{_OPENING}\n\n"
        tail = f"\nQuestion: {made.question}\nChoices:"
        prose = len(head) + len(made.text) + len(tail) + len(written_choices(made.choices)) + len("\n\n\nAnswer:  . . ")
        said = int(prose * _PROSE) + 2

        def build(characters: int) -> str:
            room = characters - said
            if room < 0:
                raise ValueError(
                    f"length must be at least {int(said * self.tokens_per_character) + 1} tokens for problem {number}, got {tokens}. "
                    "Try fewer shots"
                )
            return f"{head}{_buried(made.text, max(0, room - 4) // 2, depth, self.of_filler(number, tokens))}{tail}"

        text = fitted(build, tokens, self.tokens_per_character, self.count)
        about: dict[str, str | float] = {"complexity": str(int(known)), "depth": round(depth, 3)}
        if self.count is None:
            letters = len(text) - len(head) - len(tail) - len(made.text)
            about["tokens"] = round((letters + said) * self.tokens_per_character)
        return Question(text, chr(65 + made.right), made.choices, about=about)

    def parse(self) -> Parse:
        """Return what finds the chosen option in a reply."""
        return IDKAnswer()

    def strategy(self) -> Attempting:
        """Ask with the prompt of the paper, as it is."""
        sampling = Sampling(max_tokens=self.max_tokens, stop=(f"\n{_RULE}",))
        return Direct(instruction="Answer:", parse=self.parse(), sampling=sampling)

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        if answer.answer is None:
            return Score(0.0, {"says it does not know": 0.0}, reason=answer.outcome)
        unknown = answer.answer in (NOT_TOLD, chr(64 + len(question.choices)))
        value = _scored(answer.answer, question.choices, str(question.target))
        return Score(value, {"says it does not know": float(unknown)})


def _known(number: int, seed: int) -> bool:
    """Return whether the answer of a problem is told: three of every ten, spread evenly."""
    return (3 * number + seed) % 10 < 3


def _buried(text: str, letters: int, depth: float, rng: Random) -> str:
    """Return a text among random letters, at a depth of 0 (at the beginning) to 1 (at the end)."""
    before = int(letters * depth)
    first, second = (" ".join(rng.choices(string.ascii_uppercase, k=count)) for count in (before, letters - before))
    return f"{first}{'. ' * bool(first)}{text}{' ' * bool(second)}{second}{'.' * bool(second)}"


def _demonstration(number: int, rng: Random) -> str:
    made = story(number % 2 == 1, rng)
    body = _buried(made.text, 30, rng.random(), rng)
    right = f"({chr(65 + made.right)}) {made.choices[made.right]}"
    return f"{_RULE}\n{body}\nQuestion: {made.question}\nChoices:\n{written_choices(made.choices)}\n\nAnswer: {right}\n"
