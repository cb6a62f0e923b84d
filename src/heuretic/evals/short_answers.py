"""Short answers as people read them: found in replies whatever their markup, and compared whatever their spelling.

Benchmarks score short answers by a few string operations, which take a bold answer or a sentence after it for a wrong one. The
functions here are what is used instead unless the published rules are asked for.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import takewhile

from heuretic.lm.parsing import right_side, telling
from heuretic.lm.thinking import said_and_thought

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("‘’‛ʼ′＇", "'"),
        **dict.fromkeys("“”„‟″«»＂", '"'),
        **dict.fromkeys("‐‑‒–—―−﹣－", "-"),
        **dict.fromkeys("\u00a0\u1680\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000\t", " "),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", None),
        **{chr(wide): chr(wide - 0xFEE0) for wide in range(0xFF01, 0xFF5F) if chr(wide) not in "＇＂－"},
    }
)
_UNDERLINES = re.compile(r"(?<!\w)__(?=\S)|(?<=\S)__(?!\w)")
_LATEX = re.compile(r"\\[()\[\],;!]")
_CUE = re.compile(
    r"\b(?:the|my)\s+(?:(?:final|correct|right|best)\s+)*answer\s+(?:is|(?:would|should|must) be)\b[\s:*_]*",
    re.IGNORECASE,
)
_HEADING = re.compile(r"(?:^|\n)[ #>*_-]*(?:the\s+)?(?:(?:final|correct)\s+)?answer\s*[:=*_\n][\s:*_]*", re.IGNORECASE)
_BRACES = re.compile(r"\\boxed\{|\\[{}]|[{}]")
_DOLLARS = re.compile(r"\$([^$\n]*[^$\s])\$(?!\w)")
_OPTION = re.compile(r"(?:option|choice)\s+(?=\(?[A-Z]\b)", re.IGNORECASE)
_ITEM = re.compile(r"\s*(?:\d{1,3}[.)]|[-*•])\s+(\S.*)")
_WORD = re.compile(r"answer", re.IGNORECASE)
_COMMAND = re.compile(r"\\(?:text|texttt|textbf|mathrm|mathbf|boldsymbol|operatorname)\{([^{}]*)\}")
_ABBREVIATED = re.compile(r"(?:^|\s|\()(?:mr|mrs|ms|dr|st|vs|jr|sr|prof|mt)$", re.IGNORECASE)
_SENTENCE = re.compile(r"[.!?;](?=\s+\S)")
_REASON = re.compile(
    r"(?:,\s*|\s+)(?:because|since|which|given that)\b|,\s*(?:as|so|but)\b|\s+(?:-|=>|->)\s+", re.IGNORECASE
)
_LETTER = re.compile(r"\(([A-Za-z0-9])\)(?=$|[\s.,:;-])|([A-Z])(?:\)|[.:](?=\s))")
_BRACKETED = re.compile(r"\(([A-Za-z0-9])\)")
_DENIED = re.compile(r"\b(?:not|instead of|rather than)\s+\([A-Za-z0-9]\)", re.IGNORECASE)
_ANOTHER = re.compile(r"\s*(?:(?:or|and)\b|[/&]|,\s*(?:or |and )?[A-Z]\b)")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_UNIT = re.compile(r"([-+]?[\d.,]+) ([^\W\d]+)")
_MULTIPLES = frozenset(
    [
        "hundred",
        "thousand",
        "million",
        "billion",
        "trillion",
        "dozen",
        "k",
        "m",
        "bn",
        "squared",
        "cubed",
        "factorial",
        "half",
        "halve",
        "third",
        "quarter",
        "tenth",
        "hundredth",
    ]
)
_NOTE = re.compile(r"\s+\((?!\w\)|(?:or|and|not|incorrect|wrong)\b)[^()]*\)$")


def plain(text: str) -> str:
    """Return a text in composed form with plain quotes, dashes, spaces and letters, and without signs that take no room."""
    return text.replace("\t", " ") if text.isascii() else unicodedata.normalize("NFC", text).translate(_CHARACTERS)


def short_answer(text: str) -> str | None:
    """Return the answer that a reply gives, in small letters and one canonical form; None if it gives none.

    It is what follows the last "The answer is" that tells it (also final, correct, right or best answer, in any case and markup), else a last
    "Answer:", else the last \\boxed{}, else the first line. Of that, the first line counts, up to the end of its first sentence or
    to a reason ("because"); of an option with its text, "(B) both", the letter. Reasoning in tags is not looked at, and where its
    tag is not closed there is no answer.
    """
    text = _unmarked(plain(said_and_thought(text)[0])).strip()
    if word := _WORD.search(text):
        for cue in (_CUE, _HEADING):
            found = list(cue.finditer(text, max(0, word.start() - 80)))
            if found:
                # A colon announces an answer, whatever it looks like.
                ends = [each.end() for each in found]
                end = ends[-1] if ":" in found[-1][0] and text[ends[-1] :].strip() else telling(text, ends)
                return canonical(_first(text[end:])) or None
    return canonical(_first(boxed(text) or text)) or None


def _unmarked(text: str) -> str:
    """Return a text without the signs of bold, code and LaTeX's formulas, but with what is in them."""
    text = text.replace("**", "").replace("`", "")
    text = _UNDERLINES.sub("", text) if "__" in text else text
    text = _LATEX.sub("", text) if "\\" in text else text
    return _DOLLARS.sub(r"\1", text) if "$" in text else text


def boxed(text: str) -> str | None:
    """Return what the last \\boxed{} of a text holds, its braces balanced; None if there is none that is closed."""
    last, found, opened = -1, None, []
    for brace in _BRACES.finditer(text, max(0, text.find("\\boxed{"))):
        if brace[0].endswith("{") and brace[0] != "\\{":
            opened.append(brace)
        elif brace[0] == "}" and opened and (begun := opened.pop())[0] != "{" and begun.start() > last:
            last, found = begun.start(), text[begun.end() : brace.start()].strip()
    return found


def _first(rest: str) -> str:
    """Return the answer that a text begins with."""
    line = _listed(rest.strip())
    line = boxed(line) or line
    if "\\" in line:
        line = _COMMAND.sub(r"\1", line).replace("\\{", "{").replace("\\}", "}")
    line = right_side(_OPTION.sub("", line.strip(" *_$"), count=1)).strip()
    letter = _LETTER.match(line)
    if letter:
        rest = _DENIED.sub("", line[letter.end() :])
        if not _BRACKETED.search(rest) and not _ANOTHER.match(rest):
            return letter[1] or letter[2]
    for end in _SENTENCE.finditer(line):
        if not _ABBREVIATED.search(line[: end.start()]):
            line = line[: end.end()].removesuffix(";")
            break
    return _REASON.split(line, maxsplit=1)[0]


def _listed(text: str) -> str:
    """Return the first line of a text, or in one line what it lists in lines or between semicolons."""
    items = list(takewhile(bool, map(_ITEM.fullmatch, text.split("\n"))))
    if len(items) > 1:
        return ", ".join(item[1].strip() for item in items if item)
    line = text.partition("\n")[0]
    pieces = line.split(";")
    short = len(pieces) > 1 and all(1 <= len(piece.split()) <= 2 for piece in pieces)
    return ",".join(pieces) if short else line


def canonical(answer: str) -> str:
    """Return an answer in small letters, without quotes and a final full stop around it, spaces single and none after commas."""
    text = " ".join(plain(answer).casefold().split())
    while text and (bare := text.strip('"* ').removesuffix(".").removesuffix("!")) != text:
        text = bare
    return text.replace(" ,", ",").replace(", ", ",")


def same_answer(answer: str, target: str) -> bool:
    """Return whether two answers are the same, whatever their letter case, quotes, brackets, spaces and way to write a number.

    "(B)" is "b", "[a, b]" is "a,b", "(A), (B)" is "a,b", "1,234.0" is "1234", "25%", "$25" and "25 days" are "25"; a last question
    mark or note in brackets does not count. What is left must be equal.
    """
    one, other = canonical(answer), canonical(target)
    if one == other:
        return True
    first, second = _bare(one), _bare(other)
    if first == second:
        return bool(first) or one == other
    wanted = _number(second)
    if wanted is not None:
        unit = _UNIT.fullmatch(_NOTE.sub("", first))
        return (
            _number(unit[1] if unit and unit[2].removesuffix("s") not in _MULTIPLES else _NOTE.sub("", first)) == wanted
        )
    return _bare(_NOTE.sub("", one)) == second or _bare(_NOTE.sub("", other)) == first


def _bare(text: str) -> str:
    """Return a canonical answer without quotes, brackets around all of it or around single letters, and a question mark."""
    text = text.replace("'", "").replace('"', "").removesuffix("?").strip()
    text = _BRACKETED.sub(r"\1", text) if "(" in text else text
    if text[:1] == "[" and text[-1:] == "]":
        text = text[1:-1].strip()
    return text


def _number(text: str) -> float | None:
    text = text.removeprefix("$").removesuffix("%").strip()
    try:
        return float(text.replace(",", "") if _THOUSANDS.fullmatch(text) else text)
    except ValueError:
        return None
