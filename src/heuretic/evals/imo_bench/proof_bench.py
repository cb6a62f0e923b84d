"""IMO-ProofBench: 60 problems whose proofs a judge grades by guidelines, 0, 1, 6 or 7 points of 7."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from heuretic.data.files import File, find
from heuretic.data.records import Corrupt, Records
from heuretic.data.tables import csv_rows
from heuretic.evals.evaluation import Evaluation, Questions, Score, said
from heuretic.evals.judging import needed, verdict
from heuretic.evals.results import Estimate, Results
from heuretic.lm import Answer, LanguageModel, Question, Sampling
from heuretic.lm.parsing import Parse, Whole
from heuretic.lm.strategies import Attempting, ChainOfThought
from heuretic.symbolic import Symbolic, field

POINTS: tuple[int, ...] = (0, 1, 6, 7)

_FILE = File(
    "imobench/proofbench_v2.csv",
    (
        "https://raw.githubusercontent.com/google-deepmind/superhuman/a02069ef66dbae4c5b0713ba0dc144a35375558f/imobench/proofbench_v2.csv",
    ),
    "aa8b813dbd4068137e3d165e5da228f6e0e1cc85a91c37883e1791b954e43af0",
)
_BLOCK = re.compile(r"<points>\s*(\d+)\s+out\s+of\s+7\s*</points>", re.IGNORECASE)


class ProofGrader(Symbolic):
    """The prompt of a judge of proofs, in the form of the paper's ProofAutoGrader.

    `{problem}`, `{solution}`, `{guidelines}` and `{response}` are filled in. The grade is the first <points> block.
    """

    prompt: str = field(
        default=(
            "You grade a solution to a problem of the International Mathematical Olympiad, as strictly as its coordinators do: what is "
            "not proved counts for nothing.\n\n"
            "Scale:\n"
            "7: complete and rigorous.\n"
            "6: almost complete, with a minor error or gap that is easily mended.\n"
            "1: a substantial step, which the guidelines or the reference solution name, is proved, and not much more.\n"
            "0: no substantial progress, or wrong from the beginning.\n"
            "Where the specific guidelines say otherwise, they count.\n\n"
            "Go about it in this order: read the references; check each step of the proposed solution; say which errors and gaps there "
            "are, and what was really proved; then decide.\n\n"
            "Problem:\n{problem}\n\nReference solution:\n{solution}\n\nSpecific grading guidelines:\n{guidelines}\n\n"
            "Proposed solution:\n{response}\n\n"
            "Write your reasoning, and at its end the grade in one block, which is one of <points>7 out of 7</points>, "
            "<points>6 out of 7</points>, <points>1 out of 7</points>, <points>0 out of 7</points>. Use the block once."
        ),
        doc="what the judge is asked",
    )
    sampling: Sampling = field(default=Sampling(max_tokens=4096), doc="how grades are drawn")
    tries: int = field(default=3, ge=1, doc="how often to ask until there is a grade")

    def written(self, **filled: str) -> str:
        """Return the whole prompt."""
        return re.sub(r"\{(problem|solution|guidelines|response)\}", lambda found: filled[found[1]], self.prompt)


def read_points(text: str) -> int | None:
    """Return the points of the first <points>N out of 7</points> block; None if there is none, or N is not 0, 1, 6 or 7."""
    found = _BLOCK.search(text)
    return int(found[1]) if found and int(found[1]) in POINTS else None


class ProofBench(Evaluation):
    """IMO-ProofBench (second version): points of all proofs over points possible, Basic and Advanced apart."""

    name: ClassVar[str] = "imo-proof-bench"
    by: ClassVar[tuple[str, ...]] = ("part", "area", "level")
    unit: ClassVar[float] = 0.01
    judged: ClassVar[bool] = True
    references: ClassVar[Mapping[str, float]] = {
        "published: Gemini Deep Think (IMO Gold), advanced, %": 65.7, "published: best model of others, advanced, %": 23.3,
    }  # fmt: skip

    corrupt: Corrupt = field(default="raise", doc="what to do with rows that cannot be read")
    grader: ProofGrader = field(default=ProofGrader(), doc="the judge's prompt")
    max_tokens: int = field(default=16_384, ge=1, doc="most tokens of a proof")

    def load(self) -> Questions:
        _, found = find("imo-proof-bench", [[File("imobench/proofbench_v2.csv.gz")], [_FILE]])
        path, records, questions = found.paths[0], Records(self.corrupt), []
        columns = ("Problem ID", "Problem", "Solution", "Grading guidelines", "Category", "Level")
        for row, each in csv_rows(path, records, columns, new="Problem ID"):
            part = re.match(r"PB-(Basic|Advanced)-\d+$", each["Problem ID"])
            if part is None:
                records.refuse(path, row, "Problem ID must be PB-Basic-N or PB-Advanced-N", repr(each["Problem ID"]))
                continue
            about = {
                "part": part[1], "area": each["Category"], "level": each["Level"], "solution": each["Solution"],
                "guidelines": each["Grading guidelines"],
            }  # fmt: skip
            questions.append(Question(each["Problem"].strip(), id=each["Problem ID"], about=about))
        notes = tuple(f"{file}, row {row}, is left out: {why}" for file, row, why in records.bad)
        return Questions(lambda: questions, len(questions), {path.name: found.checksum}, notes)

    def strategy(self) -> Attempting:
        ending = "Prove your answer completely and rigorously."
        return ChainOfThought(cue="", ending=ending, parse=Whole(), sampling=Sampling(max_tokens=self.max_tokens))

    def parse(self) -> Parse:
        return Whole()

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        proof = said(answer)
        if answer.outcome not in ("answered", "truncated", "unparsed") or not proof.strip():
            return Score(0.0, reason=answer.outcome)
        prompt = self.grader.written(
            problem=question.text, solution=str(question.about["solution"]), guidelines=str(question.about["guidelines"]),
            response=proof,
        )  # fmt: skip
        points, steps = await verdict(
            "grade the proof", needed(judge, self.name), prompt, read_points, self.grader.sampling, self.grader.tries
        )
        return Score(
            None if points is None else points / 7,
            steps=steps,
            reason="unjudged" if points is None else f"{points} of 7",
        )

    def summary(self, results: Results) -> Mapping[str, Estimate]:
        """Return the share of all points, and that of Basic and of Advanced problems, in percent."""
        parts = {f"{part.lower()}, %": each.mean().times(100) for part, each in results.groups("part").items()}
        return {"points, %": results.mean().times(100), **parts}

    def chance(self, question: Question) -> float | None:
        return None
