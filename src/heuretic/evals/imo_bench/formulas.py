"""Which short answers are formulas that sympy can compare, and how they are written for it."""

from __future__ import annotations

import re
import string

from heuretic.lm.verifiers.equivalent import plain_expression

_GREEK = re.compile(
    r"\\(?:alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|phi|varphi|chi|psi|omega)"
    r"(?![A-Za-z])"
)
_BETWEEN = re.compile(r"(?:\\text\{)?(?<![A-Za-z])\s*\b(?:and|or)\b\s*(?:\})?")
_THOUSANDS = re.compile(r"[\s$]*(?:[A-Za-z]\s*=\s*)?[-+]?\d{1,3}(?:(?:,|\{,\}|\\,|\s)\d{3})+(?:\.\d+)?[\s$.]*")
_BINOMIAL = re.compile(r"\\[dt]?binom\{([^{}]*)\}\{([^{}]*)\}")
_ROOT = re.compile(r"√\s*(\d+)")
_SIGNS = str.maketrans(
    {"²": "^2", "³": "^3", "√": r"\sqrt ", "≠": r"\ne ", "\u00a0": " ", "\u2009": " ", "\u202f": " "}
)
_FUNCTIONS = frozenset(
    ("sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "log", "ln", "exp", "binomial", "factorial", "pi")
)
_WORDS = frozenset(
    (
        "is",
        "if",
        "in",
        "no",
        "of",
        "to",
        "as",
        "at",
        "by",
        "an",
        "on",
        "be",
        "we",
        "it",
        "for",
        "all",
        "odd",
        "any",
        "the",
        "not",
        "set",
        "one",
    )
)


def comparable(answer: str, target: str) -> tuple[str, str] | None:
    """Return both in a form that `heuretic.lm.verifiers.Equivalent` can compare; None if one is prose, or a formula it cannot read.

    Greek letters become Latin ones that neither has, "2 or 3" is "2, 3", and commas part lists unless all of it is one number. Prose
    is told from products of letters by its words: those of four letters and more, and short ones such as "odd" and "if".
    """
    used = set(answer + target)
    free = iter(
        [letter for letter in string.ascii_letters if letter not in used | {"e", "i", "E", "I", "O", "N", "S", "Q"}]
    )
    latin: dict[str, str] = {}
    found = []
    for text in (answer, target):
        text = _listed(_ROOT.sub(r"\\sqrt{\1}", text).translate(_SIGNS).strip())
        for letter in _GREEK.findall(text):
            if letter not in latin and (new := next(free, None)) is not None:
                latin[letter] = new
        text = _GREEK.sub(lambda letter: f" {latin.get(letter[0], letter[0])} ", text)
        if _is_prose(text) or plain_expression(text) is None:
            return None
        found.append(text)
    return found[0], found[1]


def _listed(text: str) -> str:
    if _THOUSANDS.fullmatch(text):
        return re.sub(r"\{,\}|\\,|,|(?<=\d)\s(?=\d)", "", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", "", text)  # degrees
    text = _BINOMIAL.sub(r"binomial((\1),(\2))", _BETWEEN.sub(", ", text).replace("{,}", ""))
    return re.sub(r",+\s*(?:,\s*)*", ", ", text)


def _is_prose(text: str) -> bool:
    if re.search(r"\\[cld]?dots|\.\.\.|…|\\(?:text\w*|mathrm)\{[^{}]*[A-Za-z]{2}", text):
        return True
    words = re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", " ", text))
    return any(word.lower() in _WORDS or (len(word) > 3 and word.lower() not in _FUNCTIONS) for word in words)
