"""FreshQA: questions whose answers change, and questions with false premises, judged by FreshEval.

Vu et al. 2023, "FreshLLMs: Refreshing Large Language Models with Search Engine Augmentation", arXiv:2310.03214; the form of the
judge's prompt and the published parser are those of fresheval_relaxed.ipynb and fresheval_strict.ipynb of its authors.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import ClassVar, Literal

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

from heuretic.data.files import sha256
from heuretic.data.records import Corrupt, Records, unreadable
from heuretic.evals.evaluation import Evaluation, Questions, Score, said
from heuretic.evals.judging import needed, unjudged, verdict
from heuretic.evals.results import Estimate, Results
from heuretic.lm import Answer, LanguageModel, Question, Sampling
from heuretic.lm.parsing import Parse, Whole
from heuretic.lm.retrieval.dates import MONTH, given_day, long_day, normalised
from heuretic.lm.strategies import Attempting, Direct
from heuretic.lm.strategies.published_fresh import fresheval_prompt
from heuretic.symbolic import Symbolic, field

COLUMNS = ("id", "split", "question", "effective_year", "false_premise", "num_hops", "fact_type", "answer_0")
"""What a release must have; answer_1 to answer_9 may follow."""
_SIZE = 600
"""Questions of a full release."""
_SWALLOWED = re.compile(r"\n[^\n]*,(?:TEST|DEV),", re.IGNORECASE)
_SHEET = re.compile(
    r"(20\d{2})[-_. ]?(\d{2})[-_. ]?(\d{2})"
    rf"|(?<![a-z])({MONTH})[-_ ]*(\d{{1,2}})[-_, ]*(20\d{{2}})",
    re.IGNORECASE,
)
_VERDICT = re.compile(
    r"evaluation\W*\s*[:=]\W*(?:is\s+)?(not correct|incorrect|correct)(?=\s*(?:$|[.,;!(\"'*_`}\]<]|-|–|—))",
    re.IGNORECASE,
)
"""What follows the word must end it: a sentence that goes on ("correct answer is Paris") is about something else."""
_ALONE = re.compile(r"(?:\A|[.!?:*`]\s*\n|\n\s*\n)[\W_]*(correct|incorrect)[\W_]*\Z", re.IGNORECASE)
_CREDITED = re.compile(r"\bresponse\s+(?:is|should be|will be)\s+(not\s+)?credited\b|\bresponse\s+(?:isn't|cannot be)\s+(credited)\b", re.IGNORECASE)  # fmt: skip


class Shown(Symbolic):
    """A judged response, to be shown to the judge, with its verdicts in both modes."""

    question: str = field(doc="what was asked")
    answers: tuple[str, ...] = field(doc="the right answers")
    response: str = field(doc="what was said; {today} is the day of the evaluation")
    relaxed: str = field(doc="comment in relaxed evaluation, without its last sentence")
    credited: bool = field(doc="whether it is credited there")
    strict: str = field(default="", doc="comment in strict evaluation; empty if it is the same")
    credited_strictly: bool = field(default=False, doc="whether it is credited there")


SHOWN: tuple[Shown, ...] = (
    Shown(
        question="What is the capital of Australia?", answers=("Canberra",), response="The capital of Australia is Canberra.",
        relaxed="This is a valid question. The primary answer in the response (Canberra) is accurate, and nothing else is said.",
        credited=True, credited_strictly=True,
    ),
    Shown(
        question="When did Norway join the European Union?", answers=("Norway has never joined the European Union.",),
        response="Norway has never joined the European Union. Its voters rejected membership in 1972 and 1994.",
        relaxed="The question contains a false premise. The response points out that Norway has never joined, and all else is accurate.",
        credited=True, credited_strictly=True,
    ),
    Shown(
        question="How many times has Angela Merkel been President of France?", answers=("Angela Merkel has never been President of France.",),
        response="Zero", relaxed="The question contains a false premise. The response does not point it out, which is always required.",
        credited=False,
    ),
    Shown(
        question="Which planet is the third from the Sun?", answers=("Earth", "The Earth"), response="1. Mercury 2. Venus 3. Earth",
        relaxed="This is a valid question. Though nothing is stated explicitly, the correct answer (Earth) can be inferred.", credited=True,
        strict="This is a valid question. The correct answer (Earth) can be inferred, but an explicit statement is missing.",
    ),
    Shown(
        question="How tall is Mount Everest in metres?", answers=("8,849 metres", "8848.86 metres"), response="Mount Everest is over 8,000 metres tall.",
        relaxed="This is a valid question. An approximate number (over 8,000 metres) is not accepted unless the correct answers include it.",
        credited=False,
    ),
    Shown(
        question="Who was the first person on the Moon?", answers=("Neil Armstrong", "Neil Alden Armstrong"), response="It was Neil.",
        relaxed="This is a valid question about a person. A full or commonly used name is expected (Neil Armstrong, not Neil).", credited=False,
    ),
    Shown(
        question="Is 17 greater than 20?", answers=("No",), response="No, it isn't: 17 is larger than 20.",
        relaxed="This is a valid question. The primary answer (No) is accurate, but what is added contradicts it.", credited=False,
    ),
    Shown(
        question="How many bits are in a byte?", answers=("8", "8 bits"), response="8 bits. It is 8 bits, 8 bit, 8 bits per byte, 8 bits, 8 bit byte, 8 bits",
        relaxed="This is a valid question. The response is ill-formed and repeats itself, but the primary answer (8 bits) is accurate.", credited=True,
        strict="This is a valid question. The primary answer (8 bits) is accurate, but the response is ill-formed and repeats itself.",
    ),
    Shown(
        question="How many member states does the African Union have?", answers=("55", "55 member states"),
        response="As of my last update, the African Union had 55 member states. This may have changed since then.",
        relaxed="This is a valid question. The response does not confirm that it is current, but the primary answer (55) is accurate.", credited=True,
        strict="This is a valid question. The primary answer (55) is accurate, but the response does not confirm that it is current.",
    ),
    Shown(
        question="Who wrote War and Peace?", answers=("Leo Tolstoy", "Tolstoy"), response="War and Peace was written by Leo Tolstoy in Paris in 1920.",
        relaxed="This is a valid question. Place and year are hallucinated, but the primary answer (Leo Tolstoy) is accurate.", credited=True,
        strict="This is a valid question. The primary answer (Leo Tolstoy) is accurate, but place and year are hallucinated.",
    ),
    Shown(
        question="Who was the first person to run a marathon in under two hours?", answers=("Eliud Kipchoge",),
        response="As of my last update, Eliud Kipchoge was the first person to run a marathon distance in under two hours, in 2019.",
        relaxed="This is a valid question. The primary answer (Eliud Kipchoge) is accurate; who was first does not change.",
        credited=True, credited_strictly=True,
    ),
    Shown(
        question="What is the largest ocean?", answers=("The Pacific Ocean", "Pacific"),
        response="As of today {today}, the most up-to-date and relevant information regarding this query is as follows. The Pacific Ocean.",
        relaxed="This is a valid question. The primary answer in the response (the Pacific Ocean) is accurate.", credited=True, credited_strictly=True,
    ),
)  # fmt: skip
"""In the form of the published ones, with questions and comments of our own."""


class FreshEval(Symbolic):
    """The prompt of the judge. The instructions say what the published ones do, in other words; with `official` of
    `FreshQA` the published instructions and demonstrations are in their place.
    """

    relaxed: str = field(
        default=(
            "Please evaluate the response to a question under relaxed evaluation: hallucinated or outdated information and ill-formed "
            "text are allowed as long as the primary answer is accurate. {rules} Ill-formed responses, also in other languages than "
            "English, and hallucinated or outdated information that does not much affect the primary answer are accepted."
        ),
        doc="what the judge is told in relaxed evaluation",
    )
    strict: str = field(
        default=(
            "Please evaluate the response to a question under strict evaluation: no hallucinated or outdated information and no "
            "ill-formed text is allowed. {rules} A response with any hallucination, however small, is not credited. Where the response "
            "says that its information may be outdated, accept it only if it is evident that the fact has not changed."
        ),
        doc="what the judge is told in strict evaluation",
    )
    rules: str = field(
        default=(
            "Credit the response only if it gives a confident and definitive answer, or if the correct answer can obviously be inferred "
            "from it. The primary or final answer must be accurate when it stands alone. Additional information must not contradict "
            "it or change how it is understood. For a question with a false premise, the response must point the premise out. Names "
            "of entities (such as people) must be complete or commonly recognized. Numbers must be exact, unless the correct answers "
            "include approximate ones."
        ),
        doc="stands for {rules} in both",
    )
    shown: tuple[Shown, ...] = field(default=SHOWN, doc="judged responses, shown in this order")
    sampling: Sampling = field(default=Sampling(max_tokens=256), doc="how verdicts are drawn")
    tries: int = field(default=3, ge=1, doc="how often to ask until there is a verdict")

    def messages(
        self, question: str, answers: tuple[str, ...], response: str, today: date, strict: bool = False, official: bool = False
    ) -> list[ChatMessage]:  # fmt: skip
        """Return the whole prompt for one response."""
        day = long_day(today)
        before = fresheval_prompt(strict, day) if official else self._before(day, strict)
        asked = f"question: {question}\ncorrect answer(s): {' | '.join(answers)}\nresponse: {response}\ncomment: "
        return [
            ChatMessageSystem(content=f"You are a helpful assistant. Respond as concisely as possible. Knowledge cutoff: {day}."),
            ChatMessageUser(content="What's today's date?"),
            ChatMessageAssistant(content=f"Today is {day} in Pacific Standard Time."),
            ChatMessageUser(content=f"{before}\n\n\n{asked}"),
        ]  # fmt: skip

    def _before(self, day: str, strict: bool) -> str:
        blocks = [(self.strict if strict else self.relaxed).replace("{rules}", self.rules)]
        for each in self.shown:
            comment = (each.strict or each.relaxed) if strict else each.relaxed
            good = each.credited_strictly if strict else each.credited
            blocks.append(
                f"question: {each.question}\ncorrect answer(s): {' | '.join(each.answers)}\n"
                f"response: {each.response.replace('{today}', day)}\ncomment: {comment} Thus, the response is "
                f"{'' if good else 'not '}credited.\nevaluation: {'correct' if good else 'incorrect'}"
            )
        return "\n\n\n".join(blocks)


def read_evaluation(text: str, official: bool = False) -> bool | None:
    """Return whether a judge credits a response, None if its verdict is not valid.

    Args:
        official: As published: in each line with "evaluation: " what follows the last space must be "correct" or "incorrect", else
            the verdict is not valid; the last such line counts; without one, the sentence "Thus, the response is (not) credited."
            Otherwise also in capitals, with punctuation and markup, or as all of the last line; a word in a sentence that goes on is no
            verdict; the last verdict counts, and two that differ in one line are none.
    """
    return _published(text) if official else _tolerant(text)


def _published(text: str) -> bool | None:
    found: bool | None = None
    for line in text.split("\n"):
        if "evaluation: " in line:
            word = line.split(" ")[-1]
            if word not in ("correct", "incorrect"):
                return None
            found = word == "correct"
    if found is None and "Thus, the response is credited." in text:
        return True
    if found is None and "Thus, the response is not credited." in text:
        return False
    return found


def _tolerant(text: str) -> bool | None:
    for line in reversed(text.splitlines()):
        if not _VERDICT.search(line):
            continue
        words = {word.lower() for word in re.findall(r"(?i)\b(?:incorrect|correct)\b", line.rpartition(":")[2])}
        if len(words) == 2:
            return None
        return _VERDICT.findall(line)[-1].lower() == "correct"
    said_so = list(_CREDITED.finditer(text))
    if said_so:
        return not (said_so[-1][1] or said_so[-1][2])
    alone = _ALONE.search(text)
    return None if alone is None else alone[1].lower() == "correct"


def sheet_date(name: str) -> str:
    """Return the day in the name of a release, as YYYY-MM-DD: FreshQA_v11242025.csv, freshqa_2025-11-24.csv; empty if there is none."""
    if found := re.search(r"(?<!\d)(\d{2})(\d{2})(20\d{2})(?!\d)", name):
        return _valid(f"{found[3]}-{found[1]}-{found[2]}")
    found = _SHEET.search(name)
    if found is None:
        return ""
    return (
        _valid("-".join(found.groups()[:3]))
        if found[1]
        else normalised(f"{found[4]} {found[5]}, {found[6]}", "2000-01-01")
    )


def _valid(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return ""


class FreshQA(Evaluation):
    """FreshQA: the share of questions answered right, by a judge, in relaxed or strict evaluation.

    Answers change from week to week: a score holds for the day of the sheet, which is in the notes of every run.
    """

    name: ClassVar[str] = "freshqa"
    by: ClassVar[tuple[str, ...]] = ("fact_type", "premise", "num_hops", "effective_year")
    judged: ClassVar[bool] = True

    file: str = field(default="", doc="a release as CSV")
    date: str = field(default="", doc="the day of the release, YYYY-MM-DD; empty if the file's name has it")
    split: Literal["TEST", "DEV", "all"] = field(default="TEST", doc="which questions")
    strict: bool = field(default=False, doc="strict evaluation, which allows no hallucinations")
    official: bool = field(default=False, doc="ask the judge and read its verdicts as published")
    today: str = field(default="", doc="the day on which the judge is asked, YYYY-MM-DD; empty for that of the release")
    grader: FreshEval = field(default=FreshEval(), doc="the judge's prompt")
    corrupt: Corrupt = field(default="raise", doc="what to do with rows that cannot be read")
    max_tokens: int = field(default=256, ge=1, doc="most tokens of a reply")

    def __post_init__(self) -> None:
        for day in filter(None, (self.date, self.today)):
            given_day(day)

    @property
    def title(self) -> str:
        return f"freshqa {'strict' if self.strict else 'relaxed'} {self._released()}".strip()

    def _released(self) -> str:
        return self.date or sheet_date(Path(self.file).name)

    def load(self) -> Questions:
        """Return the questions of the release.

        Raises: FileNotFoundError without a file; ValueError if its day is not known, or for a file or row that cannot be read.
        """
        path = Path(self.file).expanduser()
        if not self.file or not path.is_file():
            raise FileNotFoundError(
                f"file must be a release of FreshQA as CSV, got {self.file!r}. Try the sheets named on github.com/freshllms/freshqa"
            )
        released = self._released()
        if not released:
            raise ValueError(
                f"date must be the day of the release, got none, nor one in the name of {path}. Try date='2025-11-24'"
            )
        records = Records(self.corrupt)
        every = tuple(self._questions(path, records))
        found = tuple(each for each in every if self.split in ("all", each.about["split"]))
        if not found:
            raise ValueError(
                f"freshqa must have at least one question of {self.split}, got none at {path}. Try split='all'"
            )
        notes = [f"release of {released}; {'strict' if self.strict else 'relaxed'} evaluation"]
        notes += [f"{name}, row {row}, is left out: {why}" for name, row, why in records.bad]
        if len(every) != _SIZE:
            notes.append(f"a full release has {_SIZE} questions, this one {len(every)}")
        return Questions(lambda: found, len(found), {f"{path.name} ({released})": sha256(path)}, tuple(notes))

    def _questions(self, path: Path, records: Records) -> Iterator[Question]:
        seen: dict[str, int] = {}
        for row, record in _rows(path, records):
            name, text = record["id"].strip(), record["question"].strip()
            answers = tuple(a for k in range(10) if (a := record.get(f"answer_{k}", "").strip()))
            premise = {"TRUE": "false", "FALSE": "valid"}.get(record["false_premise"].strip().upper())
            if not name or not text or not answers:
                records.refuse(path, row, "row must have id, question and answer_0", [name, text, answers])
            elif name in seen:
                records.refuse(path, row, "id must be new", f"{name!r}, which row {seen[name]} has too")
            elif premise is None:
                records.refuse(path, row, "false_premise must be TRUE or FALSE", repr(record["false_premise"]))
            else:
                seen[name] = row
                fact = record["fact_type"].strip().lower()
                about = {
                    "fact_type": "false-premise" if premise == "false" else fact, "labelled_fact_type": fact, "premise": premise,
                    "num_hops": record["num_hops"].strip().lower(), "effective_year": year_group(record["effective_year"]),
                    "split": record["split"].strip().upper(), "next_review": record.get("next_review", ""), "source": record.get("source", ""),
                }  # fmt: skip
                yield Question(text, answers, id=name, about=about)

    def strategy(self) -> Attempting:
        """Return the question alone, greedily."""
        return Direct(instruction="", parse=Whole(), sampling=Sampling(max_tokens=self.max_tokens))

    def parse(self) -> Parse:
        return Whole()

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        """Return the judge's verdict on any text, as published: a refusal may name a false premise, and what was said before a text
        was cut off may be right. Without a text (empty, or cut off inside reasoning) it is wrong.
        """
        response = said(answer)
        if not response.strip():
            return Score(0.0, reason=answer.outcome)
        assert isinstance(question.target, tuple)
        today = given_day(self.today or self._released())
        found, steps = await verdict(
            "evaluate the response", needed(judge, self.title),
            self.grader.messages(question.text, question.target, response, today, self.strict, self.official),
            lambda text: read_evaluation(text, self.official), self.grader.sampling, self.grader.tries,
        )  # fmt: skip
        if found is None:
            return Score(None, steps=steps, reason=unjudged(steps))
        return Score(float(found), steps=steps)

    def summary(self, results: Results) -> Mapping[str, Estimate]:
        """Return the accuracy overall, and with valid and with false premises."""
        found = {"accuracy": results.mean()}
        for premise, part in results.groups("premise").items():
            found[f"accuracy, {premise} premise"] = part.mean()
        return found

    def guess(self, question: Question) -> str | None:
        return None


def year_group(text: str) -> str:
    """Return the year from which an answer holds as the paper groups it: all before 2022 are one group."""
    found = re.search(r"\d{4}", text)
    if found is None:
        return text.strip().lower() or "unknown"
    before = "before" in text.lower() or int(found[0]) < 2022
    return "before 2022" if before else found[0]


def _rows(path: Path, records: Records) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield row numbers, from 0 below the header, and rows; the header is on one of the first lines, the third as published."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.reader(file, strict=True)
            first: list[str] = []
            for _, line in zip(range(5), table, strict=False):
                first = first or [cell.strip() for cell in line if cell.strip()]
                header = [cell.strip().lower() for cell in line]
                if {"id", "question"} <= set(header):
                    break
            else:
                raise ValueError(
                    f"columns must include {', '.join(COLUMNS)}, got {first} at {path}. Try the published form"
                )
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                raise ValueError(f"columns must include {', '.join(missing)}, got {', '.join(header)} at {path}")
            for row, line in enumerate(table):
                if not any(cell.strip() for cell in line):
                    continue
                swallowed = next((cell for cell in line if _SWALLOWED.search(cell)), "")
                if swallowed:
                    records.refuse(
                        path,
                        row,
                        "cells must not hold other rows, as where a quote was not closed",
                        repr(swallowed[:80]),
                    )
                elif len(line) != len(header):
                    records.refuse(path, row, f"row must have {len(header)} fields", len(line))
                else:
                    yield row, dict(zip(header, line, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, "CSV with balanced quotes", error) from error
