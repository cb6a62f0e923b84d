"""Answers written in another way, and answers that are nearly right: pairs of which it is known whether they are equal.

They are made by rules for text, without sympy, so that a checker which uses sympy can be tested with them.
"""

from __future__ import annotations

import random
import re

_LEFT = re.compile(r"([^=]*=)(.*)", re.DOTALL)
"""An equation: what is on its left side stays as it is."""
_FRACTION = re.compile(r"\\frac\{([^{}]*)\}\{([^{}]*)\}")


def rewritten(answer: str, rng: random.Random) -> str:
    """Return an answer that is equal: other signs for the same formula, a neutral operation, or a list in another order."""
    opening, parts, closing = _parts(answer)
    written = [_same(part, rng, alone=len(parts) == 1) for part in parts]
    if not opening and len(written) > 1:
        rng.shuffle(written)
        return rng.choice((", ", " and ")).join(written)
    return opening + ", ".join(written) + closing


def altered(answer: str, rng: random.Random) -> str:
    """Return an answer that is not equal: a number more or less, a factor, another sign, or a list without one of its items."""
    opening, parts, closing = _parts(answer)
    if len(parts) > 1 and not opening and rng.random() < 0.5:
        del parts[rng.randrange(len(parts))]
    else:
        place = rng.randrange(len(parts))
        parts[place] = _other(parts[place], rng)
    return opening + ", ".join(parts) + closing


def _parts(answer: str) -> tuple[str, list[str], str]:
    """Return the brackets around a list, if there are some, and its items without their spaces and $."""
    text = answer.replace("$", "").strip()
    opening, closing = (text[0], text[-1]) if text[0] + text[-1] in ("()", "[]", "(]", "[)") else ("", "")
    parts, depth = [""], 0
    for sign in text[1:-1] if opening else text:
        depth += (sign in "([{") - (sign in ")]}")
        if depth < 0:  # brackets that do not belong together, as in (a)(b)
            return "", [text], ""
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    if len(parts) == 1:
        return "", [text], ""
    return opening, [part.strip() for part in parts], closing


def _same(part: str, rng: random.Random, alone: bool) -> str:
    equation = _LEFT.fullmatch(part)
    left, formula = (equation[1] + " ", equation[2].strip()) if equation else ("", part)
    ways = [f"({formula})+1-1", f"1\\cdot ({formula})", f"\\frac{{2}}{{2}}\\cdot ({formula})", f"7+({formula})-7"]
    if re.fullmatch(r"\d+", formula):
        ways += [f"{formula}.0", f"{int(formula):,}" if alone else formula, f"\\frac{{{3 * int(formula)}}}{{3}}"]
    if _FRACTION.search(formula):
        ways += [_FRACTION.sub(r"((\1)/(\2))", formula), formula.replace("\\frac", "\\dfrac")]
    return left + rng.choice(ways)


def _other(part: str, rng: random.Random) -> str:
    equation = _LEFT.fullmatch(part)
    left, formula = (equation[1] + " ", equation[2].strip()) if equation else ("", part)
    ways = [f"({formula})+1", f"({formula})-1"]
    if formula != "0":
        ways += [f"2\\cdot ({formula})", f"-({formula})", f"\\frac{{1}}{{3}}\\cdot ({formula})"]
    return left + rng.choice(ways)
