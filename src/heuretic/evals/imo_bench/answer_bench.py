"""IMO-AnswerBench: 400 problems with short answers, compared by sympy first and by a judge."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from heuretic.data.files import File, find
from heuretic.data.records import Corrupt, Records
from heuretic.data.tables import csv_rows
from heuretic.evals.agreement import cohens_kappa
from heuretic.evals.evaluation import Evaluation, Questions, Score, said
from heuretic.evals.imo_bench.formulas import comparable
from heuretic.evals.judging import verdict
from heuretic.evals.results import Estimate, Results
from heuretic.evals.short_answers import boxed
from heuretic.lm import Answer, LanguageModel, Question, Sampling
from heuretic.lm.parsing import CUE, Parse, after_cue
from heuretic.lm.strategies import Attempting, ChainOfThought
from heuretic.lm.verifiers import Equivalent
from heuretic.lm.verifiers.equivalent import same_text
from heuretic.symbolic import Symbolic, field

ENDING = 'Solve the problem, then end with a line "The answer is" followed by the final answer only.'
AREAS: tuple[str, ...] = ("Algebra", "Combinatorics", "Geometry", "Number theory")
DAMAGED: Mapping[str, str] = {
    "imo-bench-algebra-036": "its fields are shifted: the short answer is the word Algebra",
    "imo-bench-geometry-096": "its short answer lacks the closing $",
    "imo-bench-number_theory-055": "its short answer is 14625, the first version's 146250",
}
"""Rows of the second version that are not as they should be."""
_MENDED = {
    r',"$Y(x)=A+\frac{B}{x}-x$",Algebra,Functional Equation,Iran 2002':
    r'","$Y(x)=A+\frac{B}{x}-x$",Algebra,Functional Equation,Iran 2002'
}  # fmt: skip
"""The end of imo-bench-algebra-036 as published, where a quote is missing, and as it should be."""

_FILE = File(
    "imobench/answerbench_v2.csv",
    (
        "https://raw.githubusercontent.com/google-deepmind/superhuman/a02069ef66dbae4c5b0713ba0dc144a35375558f/imobench/answerbench_v2.csv",
    ),
    "275877a9d988d85278fad3a5f8a41d7f83393a60bf259531ec0a5161e6b21cf9",
)
_VERDICT = re.compile(r"\\boxed\{\s*(Correct|Incorrect)\s*\}")
_HEADING = re.compile(r"^[ #>*_-]*(?:the\s+)?(?:final\s+)?answer[ *_]*:", re.IGNORECASE | re.MULTILINE)
_TOLERANT = re.compile(
    r"^\W*(?:(?:final\s+)?(?:verdict|grade|judge?ment|result)\W+(?:is\W+)?)?(correct|incorrect)\W*$",
    re.IGNORECASE | re.MULTILINE,
)


class AnswerGrader(Symbolic):
    """The prompt of a judge that compares final answers, in the form of the paper's AnswerAutoGrader.

    `{problem}`, `{answer}` and `{response}` are filled in. The verdict is the last \\boxed{Correct} or \\boxed{Incorrect}.
    """

    prompt: str = field(
        default=(
            "You grade final answers to competition problems. Decide whether the response ends in an answer that is mathematically "
            "equivalent to the reference answer.\n\n"
            "Rules:\n"
            "1. Judge the final answer only. Reasoning does not matter, right or wrong.\n"
            "2. The answer must be wholly equivalent: 1/2 is 0.5, and x^2+2x+1 is (x+1)^2. There is no partial credit.\n"
            "3. Sets and lists are equal in any order, unless the problem asks for a tuple or a sequence.\n"
            "4. Every value must be there, and no other. A condition or domain that changes the meaning must be the same.\n"
            "5. If the response has no clear final answer, or several that contradict each other, it is incorrect.\n\n"
            "Problem:\n{problem}\n\nReference answer:\n{answer}\n\nResponse:\n{response}\n\n"
            "First analyse within <thinking> and </thinking>: the final answer of the response, the reference answer, whether they are "
            "equivalent. Then write the verdict, which is either \\boxed{Correct} or \\boxed{Incorrect}, and nothing after it."
        ),
        doc="what the judge is asked",
    )
    sampling: Sampling = field(default=Sampling(max_tokens=2048), doc="how verdicts are drawn")
    tries: int = field(default=3, ge=1, doc="how often to ask until there is a verdict")

    def written(self, problem: str, answer: str, response: str) -> str:
        """Return the whole prompt."""
        filled = {"{problem}": problem, "{answer}": answer, "{response}": response}
        return re.sub(r"\{(?:problem|answer|response)\}", lambda found: filled[found[0]], self.prompt)


def read_verdict(text: str, official: bool = False) -> bool | None:
    """Return the verdict of a judge of answers, None if there is none.

    Args: official: Only \\boxed{Correct} and \\boxed{Incorrect} count; otherwise also a line with the bare word, or with "verdict" and the word.
    """
    text = re.sub(r"<thinking>.*?(?:</thinking>|\Z)", "", text, flags=re.DOTALL)
    found = _VERDICT.findall(text)
    if not found and not official:
        found = _TOLERANT.findall(text)
    return found[-1].lower() == "correct" if found else None


class FinalAnswer(Symbolic):
    """What follows the last "The answer is", else the last "Answer:", to the end of its line; else what is boxed last."""

    cue: ClassVar[str] = CUE

    def __call__(self, text: str, question: Question) -> str | None:
        line = None
        if after_cue(text, CUE) is not None:  # formulas are wanted as they are, with their markup
            line = re.split(r"answer\s+is\s*:?", text, flags=re.IGNORECASE)[-1].strip().partition("\n")[0]
        elif headings := list(_HEADING.finditer(text)):
            line = text[headings[-1].end() :].strip().partition("\n")[0]
        inside = boxed(text)
        found = inside if line is None or "\\boxed" in line else line
        return found.strip(" *").removesuffix(".").strip(" *") or None if found else None


class AnswerBench(Evaluation):
    """IMO-AnswerBench (second version): the share of problems whose short answer is right.

    sympy decides first. What it finds equal is right; all else that has a text is for the judge, who sees the whole reply: also what
    sympy cannot read or finds different, and replies in which no final answer was found. Without a judge these last are wrong, as
    is what sympy can read and finds different, and the rest has no score. Metrics "sympy" and "judge" tell the verdicts of both;
    a reply without an answer is wrong for sympy, one without a text for both. Their agreement is over replies with an answer.
    The published score is the judge's alone, by Gemini 2.5 Pro.
    """

    name: ClassVar[str] = "imo-answer-bench"
    by: ClassVar[tuple[str, ...]] = ("area",)
    references: ClassVar[Mapping[str, float]] = {
        "published: Gemini Deep Think (IMO Gold)": 0.800, "published: best model of others": 0.731,
    }  # fmt: skip

    damaged: Literal["drop", "keep"] = field(default="drop", doc="what to do with rows that are known to be damaged")
    corrupt: Corrupt = field(default="raise", doc="what to do with rows that cannot be read")
    checker: Equivalent = field(default=Equivalent(), doc="compares formulas")
    grader: AnswerGrader = field(default=AnswerGrader(), doc="the judge's prompt")
    both: bool = field(default=True, doc="ask the judge also where sympy is sure, so that their agreement can be told")
    max_tokens: int = field(default=8192, ge=1, doc="most tokens of a reply")

    def load(self) -> Questions:
        """Return the problems; the damaged rows are named in the notes."""
        _, found = find("imo-answer-bench", [[File("imobench/answerbench_v2.csv.gz")], [_FILE]])
        records, notes = Records(self.corrupt), list[str]()
        questions = tuple(self._questions(found.paths[0], records, notes))
        if not questions:
            raise ValueError(
                f"imo-answer-bench must have at least one problem, got none at {found.paths[0]}. Try the published file"
            )
        notes.extend(f"{file}, row {row}, is left out: {why}" for file, row, why in records.bad)
        return Questions(lambda: questions, len(questions), {found.paths[0].name: found.checksum}, tuple(notes))

    def _questions(self, path: Path, records: Records, notes: list[str]) -> Iterator[Question]:
        for row, found in csv_rows(
            path, records, ("Problem ID", "Problem", "Short Answer", "Category"), new="Problem ID", mended=_MENDED
        ):
            name = found["Problem ID"]
            if name in DAMAGED:
                notes.append(f"{name} is {'left out' if self.damaged == 'drop' else 'kept'}: {DAMAGED[name]}")
                if self.damaged == "drop":
                    continue
            area = found["Category"] if found["Category"] in AREAS else _area(name)
            if area is None:
                records.refuse(path, row, f"Category must be one of {', '.join(AREAS)}", repr(found["Category"]))
                continue
            if area != found["Category"]:
                notes.append(f"{name} is counted as {area}: its category is {found['Category']}")
            about = {"area": area, "subcategory": found.get("Subcategory", ""), "source": found.get("Source", "")}
            yield Question(
                found["Problem"].strip().strip('"').strip(), found["Short Answer"].strip(), id=name, about=about
            )

    def strategy(self) -> Attempting:
        return ChainOfThought(cue="", ending=ENDING, parse=self.parse(), sampling=Sampling(max_tokens=self.max_tokens))

    def parse(self) -> Parse:
        return FinalAnswer()

    async def equal(self, answer: str, target: str) -> bool | None:
        """Return whether sympy finds two answers equal; None where one is prose, or it cannot tell."""
        pair = comparable(answer, target)
        if pair is None:
            return True if same_text(answer, target) else None
        [found] = await self.checker.equal([pair])
        return found

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        assert isinstance(question.target, str)
        text = said(answer)
        if not text.strip():
            return Score(0.0, {"sympy": 0.0} if judge is None else {"sympy": 0.0, "judge": 0.0}, reason=answer.outcome)
        sympy = False if answer.answer is None else await self.equal(answer.answer, question.target)
        metrics = {} if sympy is None else {"sympy": float(sympy)}
        if judge is None or (sympy and not self.both):
            reason = "not a formula" if sympy is None else "" if answer.answer else answer.outcome
            return Score(None if sympy is None else float(sympy), metrics, reason=reason)
        prompt = self.grader.written(question.text, question.target, text)
        found, steps = await verdict(
            "grade the answer", judge, prompt, read_verdict, self.grader.sampling, self.grader.tries
        )
        if found is not None:
            metrics["judge"] = float(found)
        right = True if sympy else found
        value = None if right is None else float(right)
        return Score(value, metrics, steps=steps, reason="" if right is not None else "unjudged")

    def summary(self, results: Results) -> Mapping[str, Estimate]:
        """Return the accuracy; that by sympy alone, and by the judge alone, where there are some; and how far both agree."""
        found = {"accuracy": results.mean()}
        for checker in ("sympy", "judge"):
            if checker in results.metrics:
                found[f"accuracy by {checker} alone"] = results.mean(checker)
        if {"sympy", "judge"} <= results.metrics.keys():
            sympy, judge = results.metrics["sympy"], results.metrics["judge"]
            answered = np.asarray(results.outcomes) == "answered"
            told = answered & ~np.isnan(sympy) & ~np.isnan(judge)
            same = np.where(told, (sympy == judge).astype(float), np.nan)
            agreeing = Results(results.ids, same, results.outcomes)
            found["agreement of sympy and judge"] = agreeing.mean()
            if told.any():
                found["kappa of sympy and judge"] = cohens_kappa(sympy[told], judge[told])
        return found


def _area(name: str) -> str | None:
    """Return the area that an identifier names, for rows whose category is not one."""
    for area in AREAS:
        if f"-{area.lower().replace(' ', '_')}-" in name:
            return area
    return None
