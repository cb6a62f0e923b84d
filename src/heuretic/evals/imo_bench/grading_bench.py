"""IMO-GradingBench: proofs that people graded, to be graded by the model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from heuretic.data.files import data_file, sha256
from heuretic.data.records import Corrupt, Records
from heuretic.data.tables import csv_rows
from heuretic.evals.evaluation import Evaluation, Questions, Score
from heuretic.evals.results import Estimate, Results
from heuretic.lm import Answer, LanguageModel, Question, Sampling
from heuretic.lm.parsing import Parse
from heuretic.lm.strategies import Attempting, ChainOfThought
from heuretic.symbolic import Symbolic, field

GRADES: Mapping[str, int] = {"incorrect": 0, "partial": 1, "almost": 6, "correct": 7}
"""The four words of a grade, and their points."""

ENDING = (
    "Grade the proposed solution. Check every step, then end with one word on a line of its own: incorrect (no substantial progress), "
    "partial (a substantial step is proved), almost (minor errors or gaps only) or correct (complete and rigorous)."
)


def read_grade(text: str) -> str | None:
    """Return the grade that is the last word of a text, None if it is none of the four. Markup and punctuation are no words."""
    words = re.findall(r"\w+", text)
    last = words[-1].lower() if words else ""
    return last if last in GRADES else None


class Grade(Symbolic):
    """The parser of grades, see `read_grade`."""

    def __call__(self, text: str, question: Question) -> str | None:
        return read_grade(text)


class GradingBench(Evaluation):
    """IMO-GradingBench: how far a model's grades of proofs agree with people's; accuracy of the word, mean error in points.

    The published table has the columns Grading ID, Problem ID, Problem, Solution, Grading guidelines, Response, Points (0 to 7), Reward
    (the word) and Problem Source. The grader is shown neither solution nor guidelines, unless `shown`.
    """

    name: ClassVar[str] = "imo-grading-bench"
    by: ClassVar[tuple[str, ...]] = ("grade",)
    within: ClassVar[str] = "problem"

    file: str = field(default="", doc="the table; empty for imobench/gradingbench.csv in $HEURETIC_DATA")
    shown: bool = field(default=False, doc="show the reference solution and the guidelines too")
    corrupt: Corrupt = field(default="raise", doc="what to do with rows that cannot be read")
    max_tokens: int = field(default=4096, ge=1, doc="most tokens of a reply")

    def load(self) -> Questions:
        """Return the proofs. Raises: FileNotFoundError without the table."""
        if self.file:
            path = Path(self.file)
            if not path.is_file():
                raise FileNotFoundError(
                    f"file must be the table of GradingBench, got {self.file!r}, which is not there"
                )
            checksum = sha256(path)
        else:
            path, checksum = data_file(
                "imobench/gradingbench.csv", "It is published in google-deepmind/superhuman, imobench."
            )
        records, questions = Records(self.corrupt), []
        columns = ("Grading ID", "Problem ID", "Problem", "Response", "Points")
        columns += ("Solution", "Grading guidelines") if self.shown else ()
        for row, each in csv_rows(path, records, columns, new="Grading ID"):
            if not re.fullmatch(r"[0-7](?:\.0)?", each["Points"].strip()):
                records.refuse(path, row, "Points must be 0 to 7", repr(each["Points"]))
                continue
            points = int(each["Points"].strip()[0])
            word = each.get("Reward", "").strip().lower() or _nearest(points)
            if word not in GRADES:
                records.refuse(path, row, f"Reward must be one of {', '.join(GRADES)}", repr(each["Reward"]))
                continue
            references = (
                f"\n\nReference solution:\n{each['Solution']}\n\nGuidelines:\n{each['Grading guidelines']}"
                if self.shown
                else ""
            )
            text = f"Problem:\n{each['Problem']}{references}\n\nProposed solution:\n{each['Response']}"
            about = {"grade": word, "points": points, "problem": each["Problem ID"]}
            questions.append(Question(text, word, id=each["Grading ID"], about=about))
        notes = tuple(f"{file}, row {row}, is left out: {why}" for file, row, why in records.bad)
        return Questions(lambda: questions, len(questions), {path.name: checksum}, notes)

    def strategy(self) -> Attempting:
        return ChainOfThought(cue="", ending=ENDING, parse=Grade(), sampling=Sampling(max_tokens=self.max_tokens))

    def parse(self) -> Parse:
        return Grade()

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        """Return whether the word is the people's; the error in points is a metric where there is a word."""
        if answer.answer is None:
            return Score(0.0, reason=answer.outcome)
        error = abs(GRADES[answer.answer] - int(question.about["points"]))
        return Score(float(answer.answer == question.target), {"error in points": float(error)})

    def summary(self, results: Results) -> Mapping[str, Estimate]:
        """Return the accuracy, and the mean absolute error in points of the answers that had a grade."""
        found = {"accuracy": results.mean()}
        if "error in points" in results.metrics:
            found["mean absolute error, points"] = results.mean("error in points", share=False)
        return found

    def chance(self, question: Question) -> float | None:
        return 1 / len(GRADES)


def _nearest(points: int) -> str:
    return min(GRADES, key=lambda word: (abs(GRADES[word] - points), GRADES[word]))
