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
    rationalize,
    standard_transformations,
)

LETTERS = {letter: sympy.Symbol(letter) for letter in string.ascii_letters}
NAMES = {**LETTERS, "ln": sympy.log, "e": sympy.E, "i": sympy.I, "pi": sympy.pi, "oo": sympy.oo}
FUNCTION = re.compile(r"\s*[A-Za-z]\(\s*[a-z](?:\s*,\s*[a-z])*\s*\)\s*=(?!=)")
"""The left side of "f(x) = ...", of which the right side counts."""
EQUATION = "equation"
"""Stands for what an equation is for that gives no letter or function a value."""
APPLIED = re.compile(r"(?<![A-Za-z_])([fghFGHPQT])(?=\()")
"""Letters that before a bracket are functions and no factors."""
RULES = (
    *standard_transformations,
    rationalize,
    factorial_notation,
    implicit_multiplication_application,
    convert_equals_signs,
)


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
    """Return what an equation is for, a letter or a function, None if it is no equation; and its value.

    Of an equation for anything else the value is the difference of its sides.
    """
    name = None
    if left := FUNCTION.match(text):
        name, text = "".join(left[0][:-1].split()), text[left.end() :]
    applied = {letter: sympy.Function(letter) for letter in APPLIED.findall(text)}
    found = parse_expr(text.strip(), local_dict=NAMES | applied, transformations=RULES)
    if isinstance(found, sympy.Equality):
        lhs: Any = found.lhs
        rhs: Any = found.rhs
        return (str(lhs), rhs) if lhs.is_Symbol else (EQUATION, lhs - rhs)
    return name, found


def same(a, b):
    if a == b:
        return True
    difference = sympy.simplify(a - b)
    if difference == 0:
        return True
    if difference.free_symbols or difference.is_Rational:
        return False
    near, *sides = (each.evalf(30) for each in (difference, a, b))
    return near.is_number and abs(near) < sympy.Float("1e-20") * min(1, *map(abs, sides))


def alike(kind, left, right):
    """Return whether two lists, or in any order two sets, have the same names and values."""
    if kind != "set":
        return all(m == n and same(x, y) for (m, x), (n, y) in zip(left, right, strict=True))
    right = list(right)
    for name, x in left:
        match = next((k for k, (other, y) in enumerate(right) if name == other and same(x, y)), None)
        if match is None:
            return False
        del right[match]
    return True


def equal(a, b):
    (kind, parts), (other, others) = split(a), split(b)
    if kind != other or len(parts) != len(others):
        return False
    left, right = [value(p) for p in parts], [value(p) for p in others]
    if not alike(kind, *([(None, x) for _, x in each] for each in (left, right))):
        return False
    # Brackets that differ are intervals, open and closed, or lists written in two ways.
    if kind == "list" and ends(a) != ends(b):
        return None
    names, other_names = ({name for name, _ in each} for each in (left, right))
    if all(len(each - {None}) < 2 for each in (names, other_names)) and EQUATION not in names ^ other_names:
        return (
            True  # "x = 5" and "5", "f(x) = 1, f(x) = 2" and "g(x) = 1, g(x) = 2": it does not matter how it is called
        )
    if names == other_names:
        return alike(kind, left, right)
    return None


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
