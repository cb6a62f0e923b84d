"""Mathematical equivalence."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path

from heuretic.lm.answer import Sample
from heuretic.lm.parsing import canonical_number
from heuretic.lm.questions import Question
from heuretic.lm.sandbox import Sandbox
from heuretic.lm.verifiers.comparing import targets
from heuretic.symbolic import Symbolic, field, replace

_CHECK = Path(__file__).with_name("equivalence_check.py")
_MIXED = re.compile(
    r"(?<![\w.])(\d+)(?:\s*\\[dt]?frac\s*(?:\{(\d+)\}\{(\d+)\}|(\d)\s*(\d)(?!\d))|\s+(\d+)\s*/\s*(\d+)(?![\w.]))"
)
"""A whole number and a fraction. They are a sum, except after ^, _ and a root, where TeX ends what these signs are for."""
_SUBSCRIPT = re.compile(r"([A-Za-z])\s*_\s*(?:\{\s*([A-Za-z0-9]+)\s*\}|(\d+|[A-Za-z]))")
_REPLACED = (
    (r"(?<=\d)(?:\\[,;: ]|~)(?=\d{3}(?!\d))", ""),
    (r"\\!|\\left(?![a-z])|\\right(?![a-z])|\\displaystyle", ""),
    (r"\\[,;: ]|~|\$|\\\(|\\\)|\\\[|\\\]|\^\s*(?:\\circ|\{\s*\\circ\s*\})|°", " "),
    (r"\\text\{[^{}]*\}|\\mathrm\{[^{}]*\}", " "),
    (r"\\[dt]?frac\s*(\d)\s*(\d)(?!\d)", r"((\1)/(\2))"),
    (r"\\sqrt\s*(\w)(?!\d)", r"sqrt(\1)"),
    (r"\\sqrt\[(\w+)\]\{([^{}]*)\}", r"((\2)**(1/(\1)))"),
    (r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)"),
    (r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))"),
    (r"\^\{([^{}]*)\}", r"**(\1)"),
    (r"\\cdot|\\times|×|·", "*"),
    (r"\\div|÷", "/"),
    (r"\\pi|π", " pi "),
    (r"\\infty|∞", " oo "),
    (r"\\(sin|cos|tan|log|ln|exp)\b", r"\1"),
    (r"\\\{", "{"),
    (r"\\\}", "}"),
    (r"[−–]", "-"),
    (r"\^", "**"),
    (r"(?<=\d),(?=\d{3}(?!\d))", ""),
)
_WORDS = [
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "log",
    "ln",
    "exp",
    "sqrt",
    "pi",
    "oo",
    "Abs",
    "factorial",
    "binomial",
]
_ALLOWED = re.compile(
    rf"(?:\d+\.?\d*|\.\d+|{'|'.join(_WORDS)}|(?<![a-zA-Z])[a-zA-Z]_[a-zA-Z0-9]+|[a-zA-Z]|\*\*|[-+*/(),={{}}!\[\]\s])*"
)
_UNSURE = re.compile(r"\d\s+\.?\d|(?:^|[=,(\[{])\s*\+\s*-")
"""Numbers side by side, which may be a list, digits of one number, or a product; "+-1", which may be two values."""


def plain_expression(text: str) -> str | None:
    """Return a formula in LaTeX or plain text as sympy reads it; None if anything in it is not of a formula.

    Only numbers, letters alone or with a subscript, some functions and operators are let through: sympy's own parser evaluates what
    it is given. A whole number with a fraction behind it is their sum; other numbers side by side are no formula.
    """
    text = text.strip().removesuffix(".")
    boxed = re.fullmatch(r".*\\boxed\{(.*)\}.*", text, re.DOTALL)
    text = boxed[1] if boxed else text
    text = _SUBSCRIPT.sub(r"\1_\2\3 ", _MIXED.sub(_sum, text))
    for _ in range(4):  # nested fractions and roots come apart from the inside
        before = text
        for pattern, by in _REPLACED:
            text = re.sub(pattern, by, text)
        if text == before:
            break
    if _UNSURE.search(text) or any(map(iskeyword, re.findall(r"[A-Za-z]+", text))):
        return None
    return text if len(text) <= 300 and _ALLOWED.fullmatch(text) and text.strip() else None


def _sum(found: re.Match[str]) -> str:
    """Return a whole number and a fraction as their sum; as they are where they are none; a sign of no formula if it is not sure."""
    whole, above, below = (number for number in found.groups() if number)
    before = found.string[: found.start()].rstrip(" {")
    if before.endswith(("^", "_", "sqrt")):
        return found[0]
    return f"({whole}+({above})/({below}))" if int(above) < int(below) else "?"


class Equivalent(Symbolic):
    """Right if the answer is mathematically equal to a target, as sympy says: 1/2 and 0.5, sin(x)^2 + cos(x)^2 and 1.

    Formulas may be LaTeX. Of "x = 5" the right side counts; in lists of values for several letters, it also counts which is for
    which. Lists in brackets are equal in order, sets in braces and bare lists in any. "Right" is said only where it is sure. The
    check runs in the sandbox, since formulas can take for ever and their parser evaluates; a pair that does not end in time, or
    of which it cannot be told, has no judgement.
    """

    sandbox: Sandbox = field(
        default=Sandbox(cpu_s=20, wall_s=30.0, memory_mb=1024), doc="limits for the answers to a question"
    )
    each_s: float = field(default=2.0, gt=0, doc="seconds for one pair")

    async def __call__(self, question: Question, samples: Sequence[Sample]) -> list[float | None]:
        wanted = targets(question)
        answers = list(dict.fromkeys(s.answer for s in samples if s.answer is not None))
        found = await self.equal([(answer, target) for answer in answers for target in wanted])
        scores: dict[str, float | None] = {}
        for place, answer in enumerate(answers):
            said = found[place * len(wanted) : (place + 1) * len(wanted)]
            scores[answer] = 1.0 if True in said else None if None in said else 0.0
        return [0.0 if s.answer is None else scores[s.answer] for s in samples]

    async def equal(self, pairs: Sequence[tuple[str, str]]) -> list[bool | None]:
        """Return for each pair of formulas whether they are equal; None where it could not be told in time."""
        found: list[bool | None] = [_same(a, b) for a, b in pairs]
        hard = {
            place: (a, b)
            for place, pair in enumerate(pairs)
            if found[place] is None and (a := plain_expression(pair[0])) and (b := plain_expression(pair[1]))
        }
        for place in set(range(len(pairs))) - set(hard):
            found[place] = bool(found[place])  # what is no formula is equal only if it is the same text
        if hard:
            spec = find_spec("sympy")
            if spec is None or spec.origin is None:
                raise ImportError("Equivalent must have sympy. Try pip install 'heuretic[lm]'")
            sandbox = (
                self.sandbox
                if self.sandbox.readable
                else _with_packages(self.sandbox, str(Path(spec.origin).parents[1]))
            )
            code = _CHECK.read_text(encoding="utf-8") + f"\nmain({json.dumps(list(hard.values()))!r}, {self.each_s})\n"
            told = (await sandbox.run(code)).output.splitlines()
            for place, line in zip(hard, told, strict=False):
                found[place] = {"yes": True, "no": False}.get(line)
        return found


def _same(a: str, b: str) -> bool | None:
    one, other = canonical_number(a), canonical_number(b)
    if one is not None and other is not None:
        return one == other
    return True if same_text(a, b) else None


def same_text(a: str, b: str) -> bool:
    """Return whether two texts differ only in spaces that part nothing: those in "1 2" and "1, 234" do."""
    return _closed(a) == _closed(b)


def _closed(text: str) -> str:
    text = re.sub(r"(?<=[\w.])\s+(?=[\w.])|(?<=\d,)\s+(?=\d{3}(?!\d))", "\0", text.strip())
    return "".join(text.split())


def _with_packages(sandbox: Sandbox, folder: str) -> Sandbox:
    return replace(sandbox, {"readable": (folder,)})
