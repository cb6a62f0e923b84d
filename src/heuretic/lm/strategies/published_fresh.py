"""The published texts of FreshEval and FreshPrompt (Vu et al. 2023, arXiv:2310.03214; Apache-2.0, see the file itself)."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files


@lru_cache(maxsize=1)
def _sections() -> dict[str, str]:
    text = files("heuretic.lm.strategies").joinpath("published_fresh.txt").read_text(encoding="utf-8")
    parts = (part.partition("\n") for part in text.split("\n===== ")[1:])
    return {name: body.strip("\n") for name, _, body in parts}


def fresheval_prompt(strict: bool, day: str) -> str:
    """Return what the judge is told before the response it judges: the instructions and 15 judged responses."""
    return _sections()["strict" if strict else "relaxed"].replace("{today}", day)


def freshprompt_demonstrations() -> tuple[tuple[str, str], ...]:
    """Return the five questions that are shown before the real one with their answers; evidence for them is looked up."""
    pairs = (each.partition("\nanswer: ") for each in _sections()["freshprompt"].split("\n\n"))
    return tuple((question.removeprefix("question: "), answer) for question, _, answer in pairs)
