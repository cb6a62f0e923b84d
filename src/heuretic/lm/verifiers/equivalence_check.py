"""What the sandbox runs for `Equivalent`: one line for each pair, yes, no, or ? where it cannot be told."""

import json
import re
import signal
import string
from typing import Any

import sympy
from sympy.parsing.sympy_parser import (
    convert_equals_signs,
    factorial_notation,
    implicit_multiplication_application,
    parse_expr,
    standard_transformations,
)

LETTERS = {letter: sympy.Symbol(letter) for letter in string.ascii_letters}
NAMES = {**LETTERS, "ln": sympy.log, "e": sympy.E, "i": sympy.I, "pi": sympy.pi, "oo": sympy.oo}
FUNCTION = re.compile(r"\s*[A-Za-z]\(\s*[a-z](?:\s*,\s*[a-z])*\s*\)\s*=(?!=)")
"""The left side of "f(x) = ...", of which the right side counts."""
RULES = (*standard_transformations, factorial_notation, implicit_multiplication_application, convert_equals_signs)


class Late(Exception):
    pass


def late(*_):
    raise Late


def split(text):
    """Return a formula as its kind, single, list or set, and its parts."""
    text = text.strip()
    kind = {"(": "list", "[": "list", "{": "set"}.get(text[:1]) if enclosed(text) else None
    inner = text[1:-1] if kind else text
    parts, depth = [""], 0
    for sign in inner:
        depth += (sign in "([{") - (sign in ")]}")
        if depth < 0:
            return "single", [text]
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    if kind and (len(parts) > 1 or kind == "set"):
        return kind, parts
    whole = split_bare(text)
    return ("set", whole) if len(whole) > 1 else ("single", [text])


def enclosed(text):
    """Return whether the last sign closes the bracket that is the first: so it is in "(a, b)", but not in "(a) + 1, (b)"."""
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if depth == 0:
            return place == len(text) - 1 and place > 0
    return False


def split_bare(text):
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def value(text) -> Any:
    text = text[left.end() :] if (left := FUNCTION.match(text)) else text
    found = parse_expr(text.strip(), local_dict=NAMES, transformations=RULES)
    if isinstance(found, sympy.Equality):  # of an equation for a letter the right side counts
        left: Any = found.lhs
        right: Any = found.rhs
        return right if left.is_Symbol else left - right
    return found


def same(a, b):
    if a == b:
        return True
    difference = sympy.simplify(a - b)
    if difference == 0:
        return True
    near = difference.evalf(30) if not difference.free_symbols else None
    return near is not None and near.is_number and abs(near) < sympy.Float("1e-20")


def equal(a, b):
    (kind, parts), (other, others) = split(a), split(b)
    if kind != other or len(parts) != len(others):
        return False
    left, right = [value(p) for p in parts], [value(p) for p in others]
    if kind != "set":
        alike = all(same(x, y) for x, y in zip(left, right, strict=True))
        # Brackets that differ are intervals, open and closed, or lists written in two ways.
        return None if alike and kind == "list" and ends(a) != ends(b) else alike
    for x in left:
        match = next((k for k, y in enumerate(right) if same(x, y)), None)
        if match is None:
            return False
        del right[match]
    return True


def ends(text):
    return text.strip()[:1] + text.strip()[-1:]


def main(pairs, seconds):
    signal.signal(signal.SIGALRM, late)
    for a, b in json.loads(pairs):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            told = {True: "yes", False: "no", None: "?"}[equal(a, b)]
        except Exception:  # late, or what sympy cannot read after all
            told = "?"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        print(told, flush=True)
