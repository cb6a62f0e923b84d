"""Finding the answer in a text, in one canonical form, so that equal answers are equal strings.

A parser is called with the text and the question and returns the canonical answer, or None if there is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from heuretic.lm.questions import Question
from heuretic.symbolic import Symbolic, field

Parse = Callable[[str, Question], str | None]

CUE = "The answer is"
_NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>[-+]?)\s?[$€£]?\s?(?P<whole>\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?P<fraction>\.\d+)?"
    r"(?:\s?/\s?(?P<below>\d+)(?![\d/]))?(?:[eE](?P<power>[-+]?\d{1,3})\b)?|(?<![\w.])(?P<sign2>[-+]?)\s?[$€£]?(?P<bare>\.\d+)"
)
_MINUS = str.maketrans({"−": "-", "–": "-", "﹣": "-", "－": "-"})
_MARKUP = re.compile(r"\*\*|__|`|\\boxed\{([^{}]*)\}|\\text\{([^{}]*)\}|\\[()\[\]!,;]")
_FRACTION = re.compile(r"\\d?frac\{(\d+)\}\{(\d+)\}")
_EQUATION = re.compile(r"[\d\s.,$()+*/x×÷-]+=")
_ABOUT = "based|obtained|found|derived|given|calculated|computed|determined|supported|explained|in|on|at|from|by|because|since|as|that|"
_ABOUT += "therefore|thus|also|not|what|unique|independent|always"
_UNTOLD = re.compile(
    rf"[\s*_.]*(?:\Z|(?:{_ABOUT})\s+\w|(?:correct|clear|consistent|verified|confirmed)\b)", re.IGNORECASE
)
"""What may follow "the answer is" where the answer is not told, but talked about."""
_NARROW = re.compile(r"(?<=\d)[\u2009\u202f](?=\d{3}(?!\d))")


def canonical_number(text: str) -> str | None:
    """Return the number that a text is, so that equal numbers give equal texts: 18 for "18.0", 1234.5 for "$1,234.50".

    Fractions of whole numbers stay fractions in lowest terms, unless they end as decimals: 1/3, but 0.5. None if the text is
    no number.
    """
    found = _NUMBER.fullmatch(text.translate(_MINUS).strip())
    return None if found is None else _canonical(found)


def _canonical(found: re.Match[str]) -> str | None:
    if found["bare"]:
        return _plain(Decimal((found["sign2"] or "") + "0" + found["bare"]))
    digits = (found["sign"] or "") + found["whole"].replace(",", "") + (found["fraction"] or "")
    try:
        value = Decimal(digits)
        if found["power"]:
            value = value.scaleb(int(found["power"]))
    except InvalidOperation:
        return None
    if not found["below"]:
        return _plain(value)
    below = int(found["below"])
    if below == 0 or found["fraction"] or found["power"]:
        return None
    whole = Fraction(int(value), below)
    rest = whole.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return str(whole) if rest > 1 else _plain(Decimal(whole.numerator) / Decimal(whole.denominator))


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    text = text.lstrip("0") if not text.startswith(("-", "+")) else text[0].replace("+", "") + text[1:].lstrip("0")
    if text in ("", "-"):
        return "0"
    return text.replace("-.", "-0.") if text.startswith("-.") else "0" + text if text.startswith(".") else text


def without_markup(text: str) -> str:
    """Return a text without the signs of bold, code and LaTeX around what they mark, with plain minus signs."""
    text = _NARROW.sub(",", _FRACTION.sub(r"\1/\2", text.translate(_MINUS)))
    while (bare := _MARKUP.sub(lambda m: m[1] or m[2] or "", text)) != text:  # from the inside out
        text = bare
    return text


def telling(text: str, ends: Sequence[int]) -> int:
    """Return the last of the places behind cues where an answer follows; the last one if it does nowhere.

    "The answer is: 5. Note: the answer is based on the table." tells it at the first cue, not at the second.
    """
    return next((end for end in reversed(ends) if not _UNTOLD.match(text, end)), ends[-1])


def right_side(line: str) -> str:
    """Return what an equation comes to, 11 for "5 + 6 = 11"; any other line as it is."""
    return line.rpartition("=")[2] if _EQUATION.match(line) else line


def after_cue(text: str, cue: str) -> str | None:
    """Return what follows the last cue that tells an answer, letter case, a colon and markup aside; None if there is no cue.

    "The final answer is" and "The correct answer is" pass for "The answer is".
    """
    text = without_markup(text)
    words = [rf"(?:(?:final|correct)\s+)?{re.escape(w)}" if w == "answer" else re.escape(w) for w in cue.split()]
    ends = [found.end() for found in re.finditer(r"\s+".join(words), text, re.IGNORECASE)] if words else []
    return text[telling(text, ends) :].lstrip(" :\n") if ends else None


class FinalNumber(Symbolic):
    """The first number after the last cue; without a cue in the text, its last number.

    Wei et al. 2022, arXiv:2201.11903: "The answer is" ends every exemplar. Numbers in words are not read.
    """

    cue: str = field(default=CUE, doc="what the answer comes after")
    anywhere: bool = field(default=True, doc="whether to take the last number of a text that has no cue")

    def __call__(self, text: str, question: Question) -> str | None:
        rest = after_cue(text, self.cue)
        if rest is not None:
            found = _NUMBER.search(right_side(rest.partition("\n")[0]))
        elif self.anywhere and not is_refusal(text):
            numbers = list(_NUMBER.finditer(without_markup(text)))
            found = numbers[-1] if numbers else None
        else:
            found = None
        return None if found is None else _canonical(found)


_DENIED = re.compile(
    r"\b(?:not|instead of|rather than)\s+(?:option\s+)?{0}(?:\s*(?:,|\bn?or\b|\band\b)\s*{0})*"
    r"|{0}\s+is\s+(?:wrong|incorrect|false|not (?:right|correct|true))".format(
        r"(?:\([A-Z]\)|\b(?-i:[A-Z])\b(?!['’]))"
    ),
    re.IGNORECASE,
)
_ANOTHER = re.compile(
    r"\s*(?:\b(?:or|and)\s+(?:option\s+)?\(?(?-i:[A-Z])\b|[/&]|,?\s*\([A-Z]\)|,\s*(?-i:[A-Z])\b(?!['’]))", re.IGNORECASE
)


class Choice(Symbolic):
    """The letter of the option that is chosen, as "(B)" says; the option's own text counts as its letter.

    After the last cue, or in the whole text if it has none: a letter in brackets, a letter alone, or the text of exactly one
    option. Letters that the question has no option for, that are denied ("not (A)") or that come in twos ("A or B") are no answer.
    """

    cue: str = field(default=CUE, doc="what the answer comes after")

    def __call__(self, text: str, question: Question) -> str | None:
        said_so = after_cue(text, self.cue)
        if said_so is None and is_refusal(text):
            return None
        rest = without_markup(text) if said_so is None else said_so.partition("\n")[0]
        rest = rest.strip(" \n\"'$“”")
        options = question.choices
        last = chr(64 + len(options)) if options else "Z"
        named = _DENIED.sub("", rest)
        alone = re.fullmatch(rf"([A-{last}])[.)\s]*", named, re.IGNORECASE) or re.match(
            rf"(?:[Oo]ption\s+|[Cc]hoice\s+)?([A-{last}])(?![\w)'’])(?!\s+(?!because|since|as\b|is correct|is right)[a-z])",
            named,
        )
        bracketed = list(re.finditer(rf"\(([A-{last}])\)", named, re.IGNORECASE))
        found = alone or next(iter(bracketed), None)
        if found:
            among = {each[1].upper() for each in (found, *bracketed)}
            # Of several, the first is the answer where one was announced, unless they stand side by side.
            sure = len(among) == 1 or said_so is not None
            return found[1].upper() if sure and not _ANOTHER.match(named, found.end()) else None
        said = _words(rest)
        inside = [k for k, option in enumerate(options) if _words(option) and f" {_words(option)} " in f" {said} "]
        # An option within another option ("5" in "5 apples") gives way to the longer one.
        inside = [
            k
            for k in inside
            if not any(j != k and f" {_words(options[k])} " in f" {_words(options[j])} " for j in inside)
        ]
        return chr(65 + inside[0]) if len(inside) == 1 else None


class AfterCue(Symbolic):
    """The text after the last cue, to the end of its line, without quotes and a last full stop, in small letters.

    Without the cue there is no answer, or, if `whole_without_cue`, the whole text if it has one line only.
    """

    cue: str = field(default=CUE, doc="what the answer comes after")
    whole_without_cue: bool = field(default=False, doc="whether a text of one line is an answer by itself")

    def __call__(self, text: str, question: Question) -> str | None:
        rest = after_cue(text, self.cue)
        if rest is None and self.whole_without_cue and "\n" not in text.strip() and not is_refusal(text):
            rest = without_markup(text)
        return None if rest is None else _bare(rest.partition("\n")[0])


class Whole(Symbolic):
    """The whole text, without spaces and quotes around it and a last full stop, in small letters."""

    def __call__(self, text: str, question: Question) -> str | None:
        return None if is_refusal(text) else _bare(text)


class Actions(Symbolic):
    """The actions of a SCAN command after the last cue, as "TURN_LEFT JUMP": written out, or as Python's sums and multiples.

    Zhou et al. 2023, arXiv:2205.10625, write ("TURN_LEFT" + "JUMP") * 2 and expand it afterwards. SCAN's own "I_TURN_LEFT" is
    TURN_LEFT. More than `most` actions are no answer.
    """

    cue: str = field(default=CUE, doc="what the answer comes after")
    most: int = field(default=200, ge=1, doc="longest sequence; SCAN's longest has 48")

    def __call__(self, text: str, question: Question) -> str | None:
        rest = after_cue(text, self.cue)
        if rest is None and "\n" not in text.strip():
            rest = without_markup(text)
        line = (rest or "").partition("\n")[0].strip().removesuffix(".")
        spaced = re.sub(r"[,\"'“”‘’]", " ", line.upper()).replace("I_", "").replace("TURN ", "TURN_")
        found = _sequence(re.findall(r"[A-Z_]+|\d+|\S", spaced), self.most)
        return " ".join(found) if found else None


_ACTIONS = frozenset(("WALK", "LOOK", "RUN", "JUMP", "TURN_LEFT", "TURN_RIGHT"))


def _sequence(tokens: list[str], most: int) -> list[str] | None:
    """Return the actions that sums and multiples of actions come to; None if they are no such thing, or too many."""
    sums: list[list[str]] = [[]]  # one list for each open bracket
    last: list[int] = [0]  # where the last summand of it begins: what a factor multiplies
    place = 0
    while place < len(tokens):
        token = tokens[place]
        if token in _ACTIONS:
            last[-1] = len(sums[-1])
            sums[-1].append(token)
        elif token == "(":
            sums.append([])
            last.append(0)
        elif token == ")" and len(sums) > 1:
            inner = sums.pop()
            last.pop()
            last[-1] = len(sums[-1])
            sums[-1] += inner
        elif token == "*" and place + 1 < len(tokens) and tokens[place + 1].isdecimal() and sums[-1]:
            place += 1
            factor, begin = int(tokens[place]), last[-1]
            if factor * (len(sums[-1]) - begin) > most:
                return None
            sums[-1][begin:] = sums[-1][begin:] * factor
        elif token != "+":
            return None
        place += 1
    return sums[0] if len(sums) == 1 and 0 < len(sums[0]) <= most else None


def _bare(text: str) -> str | None:
    text = " ".join(text.split())
    while text and (stripped := text.strip("\"'“”‘’ ").removesuffix(".")) != text:
        text = stripped
    return text.casefold() or None


def _words(text: str) -> str:
    return " ".join(re.findall(r"[\w.%$-]+", text.casefold())).rstrip(".")


def canonical(target: str, parse: Parse, question: Question) -> str:
    """Return a target in the form that `parse` gives to answers, or as it is if the parser finds nothing in it."""
    found = parse(target, question)
    return target if found is None else found


_REFUSAL = re.compile(
    r"\s*(?:(?:i['’]?m (?:very |really |so )?sorry|i am (?:very |really |so )?sorry|sorry|i apologi[sz]e|unfortunately)[,.!]?\s*)?"
    r"(?:but\s+)?(?:as an? (?:ai|artificial|large|language)[^.,]*,\s*)?"
    r"i(?: can(?:no|['’])?t| am (?:not able|unable)|['’]m (?:not able|unable)| won['’]?t| will not) (?:to )?"
    r"(?:help|assist|answer|provide|comply|fulfil|do that|discuss|engage|continue|create|generate)",
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    """Return whether a text begins as services decline to answer. A text with an answer in it is to be looked at first."""
    return _REFUSAL.match(text) is not None
