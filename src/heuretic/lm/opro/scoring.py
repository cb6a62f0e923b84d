"""How the published code of OPRO scores a prediction, for accuracies that can be compared with the paper's."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import Literal

from heuretic.lm.answer import Sample
from heuretic.lm.questions import Question
from heuretic.symbolic import Symbolic, field

_LETTERS = string.ascii_lowercase
_BOOLEANS = (("false", "true"), ("no", "yes"), ("invalid", "valid"))
_WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
    "thirty",
    "forty",
    "fifty",
    "sixty",
    "seventy",
    "eighty",
    "ninety",
]
_NUMBER_OF = dict(zip(_WORDS, [*range(20), *range(20, 100, 10)], strict=True))
#: What begins a question, and an answer, in the languages that the code knows.
_QUESTION = (
    "প্রশ্ন:",
    "frage:",
    "question:",
    "pregunta:",
    "question :",
    "問題：",
    "задача:",
    "swali:",
    "ప్రశ్న:",
    "โจทย์:",
    "问题：",
    "q:",
)
_ANSWER = (
    "ধাপে ধাপে উত্তর: ", "schritt-für-schritt-antwort: ", "step-by-step answer: ", "respuesta paso a paso: ", "réponse étape par étape : ",
    "ステップごとの答え：", "пошаговое решение: ", "jibu la hatua kwa hatua: ", "దశలవారీగా సమాధానం: ", "คำตอบทีละขั้นตอน: ", "逐步解答：", "#### ",
)  # fmt: skip
_BEHIND = ("answer is ", "answer: ", "answer is: ")
_BEHIND_ELSE = ("is: ", "are: ")
_AHEAD = (" is the correct answer", " is the right answer", " is the final answer", " is the answer")


class OfficialScoring(Symbolic):
    """The scoring of the published code, as a verifier: 1 or 0 for each sample by its text.

    Anything but numbers counts as right if the gold string is *included* in the parsed prediction; multiple choice takes the letter, the
    text of the option, or a text that has that option's text and no other's; numbers are rounded to 0 decimals. Lenient: use it
    to compare with published scores only.

    Source: opro/evaluation/{metrics,eval_utils}.py of arXiv 2309.03409. Departure: options are looked for in the question, not in the
    whole prompt, which has the instruction too.
    """

    numeric: Literal["yes", "no", "adaptive"] = field(
        default="adaptive", doc="adaptive: where the gold answer is digits only"
    )
    boolean: bool = field(default=False, doc="whether 0 and 1 stand for false and true")
    multiple_choice: bool | None = field(default=None, doc="None: where the question has options")

    async def __call__(self, question: Question, samples: Sequence[Sample]) -> list[float | None]:
        """Return 1 for right and 0 for wrong; None if the question has no target."""
        if question.target is None:
            return [None] * len(samples)
        targets = (question.target,) if isinstance(question.target, str) else question.target
        return [float(any(self.right(question, target, sample.text) for target in targets)) for sample in samples]

    def right(self, question: Question, target: str, text: str) -> bool:
        """Whether a text counts as right for a gold answer."""
        numeric = target.isnumeric() if self.numeric == "adaptive" else self.numeric == "yes"
        found = prediction(text, numeric, self.boolean)
        several = bool(question.choices) if self.multiple_choice is None else self.multiple_choice
        options = "".join(f"\n({chr(65 + k)}) {choice}" for k, choice in enumerate(question.choices))
        return matches(target, found, question.text + options if several else "", included=not numeric)


class PublishedParsing(Symbolic):
    """Finds the answer in a text as the published code does: after "the answer is" and the like, else the last number."""

    numeric: Literal["yes", "no", "adaptive"] = field(
        default="adaptive", doc="adaptive: where the gold answer is a number"
    )
    decimals: int = field(default=0, ge=0, doc="numbers are rounded to so many; 0 in the paper")

    def __call__(self, text: str, question: Question) -> str | None:
        """Return the answer in lower case, None if there is none."""
        target = question.target if isinstance(question.target, str) else (question.target or ("",))[0]
        numeric = _is_number(target) if self.numeric == "adaptive" else self.numeric == "yes"
        found = prediction(text, numeric, decimals=self.decimals)
        if question.choices and re.match(r"\(?[a-z]\)", found):
            found = found.strip("(")[0]
        return found if found and (not numeric or _is_number(found)) else None


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"-?[\d,]*\.?\d+", text.strip()))


def prediction(text: str, numeric: bool, boolean: bool = False, decimals: int = 0) -> str:
    """Return the prediction that is parsed out of a text, in lower case."""
    found = text.lower().strip()
    behind = _BEHIND if any(p in text for p in _BEHIND) else _BEHIND_ELSE  # in the text as it is: "Answer: " is none
    for question in _QUESTION:
        found = found.split(question)[0]
    indicated = False
    for cue in (*_ANSWER, *behind):
        if cue in found:
            found, indicated = found.split(cue)[-1], True
    for cue in _AHEAD:
        if cue in found:
            found, indicated = found.split(cue)[0], True
    found = found.strip().split("this is the solution:")[0].rstrip(".").rstrip("'")
    if sum(f"({letter})" in found for letter in _LETTERS) == 1:
        found = re.findall(r"\(.*?\)", found)[0]
    plain = found.split(".")[0]
    if boolean:
        if any(plain in pair for pair in _BOOLEANS):
            found = plain
        else:
            for digit in (_as_number(found, indicated, decimals), plain):
                if digit in ("0", "1"):
                    found = str(digit == "1").lower()
        found = found.translate(str.maketrans("", "", string.punctuation)).strip()
    else:
        found = _as_number(found, indicated, decimals) if numeric else plain
    return found.strip(":").strip().split("\n")[0].split("Q:")[0]


def _as_number(found: str, indicated: bool, decimals: int) -> str:
    found = re.sub(r"[$,%€£]", "", found.split("=")[-1]).split(":")[0].strip()
    for word, number in _NUMBER_OF.items():
        found = found.replace(word, str(number))
    parts = found.split(" ") if indicated else found.split(" ")[::-1]
    found = next((part for part in parts if not part.isalpha()), parts[0])
    while found and found[-1].isalpha():
        found = found[:-1]
    found = found.removesuffix("-")
    try:
        return f"{round(float(found), decimals):.{decimals}f}"
    except (ValueError, OverflowError):
        digits = re.search(r"(\d+)(?!.*\d)", found)
        return digits[0] if digits else found


def matches(target: str, found: str, options: str = "", included: bool = False) -> bool:
    """Whether a parsed prediction counts as the gold answer; `options` is the question of a multiple choice, else ""."""
    target, found = target.lower(), found.lower()
    is_included = target in found
    gold_text, others = "", []
    if options:
        target = f"({target})" if target and target in _LETTERS else target
        found = f"({found})" if found and found in _LETTERS else found
        if not re.fullmatch(r"\([a-z]\)", target):
            return False
        texts = [t.strip().lower().split("\n")[0] for t in re.split(r"\([A-Z]\)|A:", options)][1:]
        letters = sorted(set(re.findall(r"\([A-Z]\)", options)))
        count = next((k for k, letter in enumerate(letters) if letter != f"({chr(65 + k)})"), len(letters))
        place = ord(target[1]) - ord("a")
        if place >= len(texts):
            return False
        gold_text, others = texts[place], [texts[k] for k in range(min(count, len(texts))) if k != place]
    target = target[1] if re.fullmatch(r"\([a-z]\)", target) else target
    found = found[1] if re.fullmatch(r"\([a-z]\)", found) else found
    bare = str.maketrans("", "", string.punctuation)
    right = found == target or found.translate(bare).strip() == target.translate(bare).strip()
    if options:
        kept = found.translate(str.maketrans("", "", re.sub(r"[!?.]", "", string.punctuation)))
        right = right or gold_text in (found, kept.strip() if not re.search(r"[!?.]", kept) else found)
        if gold_text in found:
            rest = found.replace(gold_text, "") if all(gold_text not in other for other in others) else found
            right = right or all(other not in rest for other in others)
    pair = next((p for p in _BOOLEANS if target in p), None)
    if pair is not None:
        truth = str(pair.index(target) == 1).lower()
        right = right or {"0": "false", "1": "true"}.get(found, found).strip() == truth
    return right or (included and is_included)
