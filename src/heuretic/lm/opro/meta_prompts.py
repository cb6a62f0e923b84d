"""Meta-prompts: what a language model is shown of past solutions, and how its replies are read.

A meta-prompt is a value; its texts are fields, so that they can be searched and patched as everything else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Literal, Protocol, cast, runtime_checkable

import numpy as np

from heuretic.lm.questions import Question
from heuretic.lm.strategies.instructed import Position
from heuretic.search.algorithm import Result
from heuretic.search.decisions import Interval, Order, Writing
from heuretic.search.space import Genome, Space
from heuretic.symbolic import Symbolic, field

#: Why a proposal is not used.
Refusal = Literal["unparsed", "too long", "digits", "marker", "outside"]


@runtime_checkable
class MetaPrompt(Protocol):
    """What `OPRO` needs to know of a problem."""

    def check(self, space: Space) -> None:
        """Raise TypeError if programs of this space cannot be written and read as texts."""
        ...

    def write(self, space: Space, past: Sequence[Result], step: int) -> tuple[str, list[Result]]:
        """Return the prompt of a step, and the results that it shows. `past` is in order of proposal."""
        ...

    def read(self, space: Space, text: str) -> Genome | Refusal:
        """Return the genome that a reply proposes, or why there is none to use."""
        ...


def scored(past: Sequence[Result]) -> list[Result]:
    """Return the results that have a score and keep the limits, worst first; ties stay in their order."""
    kept = [r for r in past if r.score is not None and math.isfinite(r.score) and r.violation == 0]
    return sorted(kept, key=lambda r: cast(float, r.score))


class InstructionMetaPrompt(Symbolic):
    """For programs with one open text: past instructions with their scores, worst first, and a few questions.

    The score of an instruction is its accuracy in [0, 1]. `published` makes the three forms of the paper.

    Order of operations: all that were scored, in ascending order, ties as they came; the last `kept`; of these the ones that
    reach `threshold`, so there may be fewer. Exemplars are drawn anew in each step.

    Reference: Yang et al. 2023, "Large Language Models as Optimizers", arXiv:2309.03409, and its code
    (opro/optimization/opt_utils.py). Departures: exemplars are drawn from the questions given here; texts are compared
    themselves instead of their MD5 digests, and any Unicode is allowed; what is refused is counted.
    """

    opening: str = field(doc="what is said before past instructions")
    entry: str = field(doc="one past instruction, with {text} and {score}")
    request: str = field(doc="what is asked for")
    exemplars_opening: str = field(default="", doc="what is said before questions")
    exemplar: str = field(default="", doc="one question, with {question} and {answer}")
    start: str = field(default="<INS>", doc="begins the proposal in a reply")
    end: str = field(default="</INS>", doc="ends the proposal in a reply")
    strict: bool = field(
        default=False, doc="refuse replies without both marks; otherwise a missing mark is the reply's own end"
    )
    kept: int | None = field(default=20, doc="most instructions that are shown")
    threshold: float = field(
        default=0.3, ge=0, le=1, doc="least score that is shown; 0.0 for PaLM, 0.3 for GPT scorers"
    )
    buckets: int | None = field(default=100, doc="scores are shown as round(score * buckets); None for decimals")
    decimals: int = field(default=3, ge=0, doc="decimals of scores that are shown without buckets")
    exemplars: int = field(default=3, ge=0, doc="questions shown")
    instructions_first: bool = field(default=True, doc="past instructions before questions")
    questions: tuple[tuple[str, str], ...] = field(default=(), doc="questions with answers to draw exemplars from")
    longest: int = field(default=500, ge=1, doc="longer instructions are refused (characters)")
    digits: bool = field(default=True, doc="whether instructions may have digits; False for GSM8K in the paper")
    marker: str = field(default="INS", doc="instructions that have this in them are refused")

    def __post_init__(self) -> None:
        if self.kept is not None and self.kept < 1:
            raise ValueError(f"kept must be >= 1 or None, got {self.kept}")
        if self.buckets is not None and self.buckets < 1:
            raise ValueError(f"buckets must be >= 1 or None, got {self.buckets}")

    def check(self, space: Space) -> None:
        if [type(d) for d in space.decisions] != [Writing]:
            found = ", ".join(f"{type(d).__name__} at {p}" for d, p in zip(space.decisions, space.paths, strict=True))
            raise TypeError(
                f"program must have one open text and no other choice for instructions to be written, got {found or 'none'}. "
                f"Try instruction=hr.text(...)"
            )

    def write(self, space: Space, past: Sequence[Result], step: int) -> tuple[str, list[Result]]:
        decision = cast(Writing, space.decisions[0])
        shown = scored(past)[-(self.kept or len(past) or 1) :]
        shown = [r for r in shown if not self.threshold or cast(float, r.score) >= self.threshold]
        entries = "".join(
            _filled(self.entry, text=decision.text(r.genome), score=self.shown_score(cast(float, r.score)))
            for r in shown
        )
        parts = [self.opening + entries]
        if self.exemplars and self.questions:
            drawn = [self.questions[k] for k in self.drawn(step)]
            texts = [_filled(self.exemplar, question=question, answer=answer) for question, answer in drawn]
            parts.append(self.exemplars_opening + "".join(texts))
        if not self.instructions_first:
            parts.reverse()
        return "\n\n".join(parts) + self.request, shown

    def shown_score(self, score: float) -> str:
        """Return a score as it is shown: rounded half to even, so 0.125 is 12."""
        return str(round(score, self.decimals) if self.buckets is None else round(score * self.buckets))

    def drawn(self, step: int) -> list[int]:
        """Return the places of the questions that are shown in a step, ascending."""
        count = min(self.exemplars, len(self.questions))
        return sorted(np.random.RandomState(step % 2**32).choice(len(self.questions), count, replace=False).tolist())

    def read(self, space: Space, text: str) -> Genome | Refusal:
        found = self.found(text)
        if not found:
            return "unparsed"
        if len(found) > min(self.longest, space.decisions[0].width):
            return "too long"
        if not self.digits and any(c.isdigit() for c in found):
            return "digits"
        if self.marker and self.marker in found:
            return "marker"
        try:
            return cast(Writing, space.decisions[0]).genes(found)
        except ValueError:  # half a character
            return "unparsed"

    def found(self, text: str) -> str:
        """Return the instruction in a reply, polished; "" if there is none."""
        if self.strict:
            pattern = re.escape(self.start) + "(.*?)" + re.escape(self.end)
            # Square brackets are looked for within a line, tags across lines, as in the published code.
            found = re.search(pattern, text, re.DOTALL if len(self.start) > 1 else 0)
            return polished(found[1]) if found else ""
        begin = text.find(self.start)
        until = text.find(self.end)
        return polished(text[begin + len(self.start) if begin >= 0 else 0 : until if until >= 0 else len(text)].strip())


def polished(sentence: str) -> str:
    """Return a sentence without spaces around it and `**`, beginning with a capital letter."""
    sentence = sentence.strip().replace("**", "")
    return sentence[0].upper() + sentence[1:] if len(sentence) > 1 else sentence


def _filled(template: str, **values: str) -> str:
    """Fill {names} in one pass, so that braces in what is filled in stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda m: values.get(m[1], m[0]), template)


def published(
    form: Literal["chat", "text", "pretrained"] = "chat",
    position: Position = "Q_begin",
    *,
    questions: Sequence[Question] = (),
    labels: bool = False,
    topic: str = "",
    **changes: Any,
) -> InstructionMetaPrompt:
    """Return a meta-prompt of the paper.

    Args:
        form: "chat" for models that follow instructions (GPT-3.5 and GPT-4 in the paper), "text" for text-bison, "pretrained"
            for models that only continue a text (instructions without questions).
        position: Where the instruction will stand. labels: Whether prompts have "Q:" and "A:".
        questions: With answers, to draw exemplars from. topic: What "pretrained" calls the problems, such as "grade school math".
        changes: Any other field, such as threshold=0.0.
    Raises: ValueError if the paper has no such form.
    """
    if not labels and position in ("before_Q", "A_begin") and form != "pretrained":
        labels = True  # there is no such place without them
    asked = tuple((q.text + _options(q), _target(q)) for q in questions if q.target is not None)
    if form == "pretrained":
        places = {
            "Q_begin": "at the beginning of the question",
            "Q_end": "at the end of the question",
            "A_begin": "at the beginning of the answer",
        }
        if position not in places:
            raise ValueError(f"position must be one of {', '.join(places)} for a pretrained model, got {position!r}")
        given = {
            "opening": f"Create a piece of text {places[position]} to enhance the precision in solving diverse {topic.strip()} problems.",
            "entry": "\n\nPrecision: {score} <TEXT>{text}</TEXT>", "request": "", "start": "<TEXT>", "end": "</TEXT>", "strict": True,
            "kept": None, "threshold": 0.0, "buckets": None, "decimals": 2, "exemplars": 0,
        }  # fmt: skip
        return InstructionMetaPrompt(**{**given, **changes})
    chat = form == "chat"
    mark = "<Start>" if chat and position == "A_begin" else "<INS>"
    head = {
        "before_Q": f"{mark}\nQ: {{question}}\nA:", "Q_begin": f"Q: {mark}\n{{question}}\nA:",
        "Q_end": f"Q: {{question}}\n{mark}\nA:", "A_begin": f"Q: {{question}}\nA: {mark}",
    } if labels else {"Q_begin": f"{mark}\n{{question}}\n", "Q_end": f"{{question}}\n{mark}\n"}  # fmt: skip
    label = "input:\n" if labels else "Problem:\n" if chat else "input:\n"
    if chat and position == "A_begin":
        label = ""
    given: dict[str, Any] = {
        "entry": "\ntext:\n{text}\nscore:\n{score}\n",
        "exemplar": f"\n{label}{head[position]}\n" + ("Ground truth answer" if chat else "output") + ":\n{answer}\n",
        "questions": asked,
    }
    if not chat:
        given |= {
            "opening": "I have some texts along with their corresponding scores. The texts are arranged in ascending order based on "
            "their scores, where higher scores indicate better quality.\n\n",
            "exemplars_opening": "The following exemplars show how to apply your text: you replace <INS> in each input with your text, then "
            "read the input and give an output. We say your output is wrong if your output is different from the given output, "
            "and we say your output is correct if they are the same. When replacing <INS> with an old piece of text above, we "
            "get wrong outputs on the following inputs.\n\n",
            "request": "\n\nWrite your new text that is different from the old ones and has a score as high as possible. Write the text "
            "in square brackets.",
            "start": "[", "end": "]", "strict": True, "threshold": 0.0,
        }  # fmt: skip
    elif position == "A_begin":
        given |= {
            "opening": "Your task is to generate the answer starting sentence <Start>. Below are some previous starting sentences with "
            "their scores. The score ranges from 0 to 100.\n",
            "exemplars_opening": "Below are some problems.\n",
            "request": "\n\nGenerate a starting sentence that is different from all the <Start> sentences above, and has a higher score "
            "than all the <Start> sentences above. The starting sentence should begin with <Start> and end with </Start>. The "
            "starting sentence should be concise, effective, and generally applicable to all QA pairs above.",
            "start": "<Start>", "end": "</Start>",
        }  # fmt: skip
    else:
        given |= {
            "opening": "Your task is to generate the instruction <INS>. Below are some previous instructions with their scores. The "
            "score ranges from 0 to 100.\n",
            "exemplars_opening": "Below are some problems.\n",
            "request": "\n\nGenerate an instruction that is different from all the instructions <INS> above, and has a higher score than "
            "all the instructions <INS> above. The instruction should begin with <INS> and end with </INS>. The instruction "
            "should be concise, effective, and generally applicable to all problems above.",
        }  # fmt: skip
    return InstructionMetaPrompt(**{**given, **changes})


def _options(question: Question) -> str:
    return "".join(f"\n({chr(65 + k)}) {choice}" for k, choice in enumerate(question.choices))


def _target(question: Question) -> str:
    return question.target if isinstance(question.target, str) else (question.target or ("",))[0]


class NumbersMetaPrompt(Symbolic):
    """For programs whose open choices are all numbers: past values, worst first, of a function to be minimised.

    The default texts are those of linear regression in the paper. Values are shown and taken with `decimals` decimals, and the
    function's values as ints (cut off, not rounded) unless `value_decimals` > 0; alike lines are shown once.

    Reference: arXiv:2309.03409, section 3.1 and optimize_linear_regression.py. Departures: ties stay in order of proposal
    (there in the order of a Python set); values outside the choices' intervals are refused.
    """

    names: tuple[str, ...] = field(default=("w", "b"), doc="what the numbers are called, in order")
    opening: str = field(
        default="Now you will help me minimize a function with two input variables w, b. I have some (w, b) pairs and the function values "
        "at those points. The pairs are arranged in descending order based on their function values, where lower values are "
        "better.\n\n"
    )
    entry: str = field(
        default="\ninput:\n{input}\nvalue:\n{value}\n", doc="one line of the past, with {input} and {value}"
    )
    request: str = field(
        default="\n\nGive me a new (w, b) pair that is different from all pairs above, and has a function value lower than any of the above. "
        "Do not write code. The output must end with a pair [w, b], where w and b are numerical values."
    )
    kept: int = field(default=20, ge=1, doc="most lines shown")
    decimals: int = field(default=0, ge=0)
    value_decimals: int = field(default=0, ge=0)

    def check(self, space: Space) -> None:
        if not all(isinstance(d, Interval) for d in space.decisions) or len(space.decisions) != len(self.names):
            raise TypeError(
                f"program must have {len(self.names)} open numbers ({', '.join(self.names)}) and no other choice, got {space!r}"
            )

    def write(self, space: Space, past: Sequence[Result], step: int) -> tuple[str, list[Result]]:
        lines: dict[tuple[str, str], Result] = {}
        for result in scored(past):
            value = -cast(float, result.score)
            inputs = ", ".join(
                f"{name}={_number(gene, self.decimals)}" for name, gene in zip(self.names, result.genome, strict=True)
            )
            lines.setdefault((inputs, _number(value, self.value_decimals)), result)
        shown = list(lines.items())[-self.kept :]
        entries = "".join(_filled(self.entry, input=inputs, value=value) for (inputs, value), _ in shown)
        return self.opening + entries.strip() + self.request, [result for _, result in shown]

    def read(self, space: Space, text: str) -> Genome | Refusal:
        # The last brackets that do not merely name the variables.
        for inside in reversed(re.findall(r"\[(.*?)\]", text)):
            if "=" not in inside and any(name in inside for name in self.names):
                continue
            try:
                values = [float(item.rpartition("=")[2]) for item in inside.split(",")]
            except ValueError:
                return "unparsed"
            if len(values) != len(space.decisions) or not all(map(math.isfinite, values)):
                return "unparsed"
            genome = tuple(
                round(v) if cast(Interval, d).whole else round(v, self.decimals)
                for v, d in zip(values, space.decisions, strict=True)
            )
            return genome if space.contains(genome) and _feasible(space, genome) else "outside"
        return "unparsed"


class TourMetaPrompt(Symbolic):
    """For programs whose one open choice is the order of points after the first: past tours, longest first.

    Reference: arXiv:2309.03409, section 3.2 and optimize_tsp.py. Departures: tours that are not valid are refused and counted,
    instead of asking until there are as many valid ones as wanted; alike tours are shown once; ties as in `NumbersMetaPrompt`.
    """

    points: tuple[tuple[float, float], ...] = field(doc="coordinates; the tour starts at the first")
    opening: str = field(default="You are given a list of points with coordinates below:\n")
    explanation: str = field(
        default=".\n\nBelow are some previous traces and their lengths. The traces are arranged in descending order based on their "
        "lengths, where lower values are better.\n\n"
    )
    entry: str = field(default="\n<trace> {tour} </trace>\nlength:\n{length}\n")
    request: str = field(
        default="\n\nGive me a new trace that is different from all traces above, and has a length lower than any of the above. The trace "
        "should traverse all points exactly once. The trace should start with '<trace>' and end with </trace>."
    )
    kept: int = field(default=10, ge=1, doc="most tours shown")
    decimals: int = field(default=0, ge=0, doc="of lengths; 0 cuts off, as in the paper's code")

    def check(self, space: Space) -> None:
        wanted = len(self.points) - 1
        if not (len(space.decisions) == 1 and isinstance(space.decisions[0], Order) and space.decisions[0].n == wanted):
            raise TypeError(f"program must have one open order of {wanted} points and no other choice, got {space!r}")

    def write(self, space: Space, past: Sequence[Result], step: int) -> tuple[str, list[Result]]:
        shown = scored(past)[-self.kept :]
        places = ", ".join(f"({k}): ({_plain(x)}, {_plain(y)})" for k, (x, y) in enumerate(self.points))
        entries = "".join(
            _filled(
                self.entry,
                tour=",".join(["0", *(str(int(g) + 1) for g in r.genome)]),
                length=_number(-cast(float, r.score), self.decimals),
            )
            for r in shown
        )
        return self.opening + places + self.explanation + entries.strip() + self.request, shown

    def read(self, space: Space, text: str) -> Genome | Refusal:
        found = re.search(r"<trace>(.*?)</trace>", text, re.DOTALL)
        if not found:
            return "unparsed"
        tour = [int(item) for item in found[1].split(",") if re.fullmatch(r"\s*-?\d{1,9}\s*", item)]
        if not tour or tour[0] != 0:
            return "outside" if tour else "unparsed"
        genome = tuple(k - 1 for k in tour[1:])
        return genome if space.contains(genome) and _feasible(space, genome) else "outside"


def _feasible(space: Space, genome: Genome) -> bool:
    return not space.checked or space.is_feasible(genome)


def _number(value: float, decimals: int) -> str:
    return str(round(value, decimals)) if decimals else str(int(value))


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)
