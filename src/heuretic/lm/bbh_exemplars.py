"""The published exemplars of BIG-Bench Hard: three questions for each task, with chains of thought written by people."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

_EXEMPLAR = re.compile(r"Q: (.*)\nA: Let's think step by step\.\s(.*?)\s*So the answer is (.*?)\.?\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class WorkedQuestion:
    """A question, how it is answered, and the answer."""

    question: str
    rationale: str
    answer: str


@dataclass(frozen=True, slots=True)
class TaskPrompt:
    """What a task is about, in a sentence or two, and its three exemplars."""

    description: str
    exemplars: tuple[WorkedQuestion, ...]


def bbh_prompt(task: str) -> TaskPrompt:
    """Return the description and exemplars of a task of BIG-Bench Hard, such as navigate.

    A rationale begins after "Let's think step by step." and ends before "So the answer is"; those who only answer leave it out,
    as the paper does for its answer-only prompts.

    Raises: ValueError for an unknown task.
    Reference: Suzgun et al. 2022, arXiv:2210.09261, with the text of its repository.
    """
    found = _all()
    if task not in found:
        raise ValueError(f"task must be one of {', '.join(found)}, got {task!r}")
    return found[task]


@lru_cache(maxsize=1)
def _all() -> dict[str, TaskPrompt]:
    text = files("heuretic.lm").joinpath("bbh_exemplars.txt").read_text(encoding="utf-8")
    found = {}
    for section in text.split("\n===== ")[1:]:
        task, _, body = section.partition("\n")
        description, *worked = re.split(r"\n\s*\n(?=Q: )", body.strip())
        matches = [_EXEMPLAR.fullmatch(each) for each in worked]
        exemplars = tuple(WorkedQuestion(m[1].strip(), m[2].strip(), m[3].strip()) for m in matches if m)
        found[task] = TaskPrompt(description.strip(), exemplars)
    return found
