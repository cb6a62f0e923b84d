"""Published sets of questions with their right answers, and one that is generated: last letters of words."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from heuretic.data.files import File, find
from heuretic.data.records import Corrupt, Records
from heuretic.lm.published_questions import lines, published, records_of
from heuretic.lm.questions import Question

BBH_TASKS: tuple[str, ...] = (
    "boolean_expressions", "causal_judgement", "date_understanding", "disambiguation_qa", "dyck_languages", "formal_fallacies",
    "geometric_shapes", "hyperbaton", "logical_deduction_five_objects", "logical_deduction_seven_objects",
    "logical_deduction_three_objects", "movie_recommendation", "multistep_arithmetic_two", "navigate", "object_counting",
    "penguins_in_a_table", "reasoning_about_colored_objects", "ruin_names", "salient_translation_error_detection", "snarks",
    "sports_understanding", "temporal_sequences", "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects", "tracking_shuffled_objects_three_objects", "web_of_lies", "word_sorting",
)  # fmt: skip
"""The sub-tasks of BIG-Bench Hard: 27, which are counted as 23 when those that differ in the number of objects are one."""

SCAN_SPLITS: tuple[str, ...] = ("simple", "length", "addprim_jump")

_WORDS = (  # in one text, since a list of them would fill the page
    "able about above acid actor adult after again agent album alert alone angle apple armor arrow artist autumn award baker "
    "basket beach beard bench berry birth black blade blanket blood board bottle brain branch bread breeze brick bridge broad "
    "brush bucket budget butter button cabin camel camera candle canvas carbon carpet castle cause chain chalk chamber charm "
    "cheese chest circle circus citizen clean cliff clock cloud coach coast coffee color comic copper corner cotton couch cousin "
    "cradle cream cricket crowd crown crystal dance desert diamond dinner doctor dozen dragon dream driver eagle earth eight elbow "
    "engine enough evening event fabric falcon family farmer feather fence fever field finger flame flock floor flower forest "
    "fossil frame friend frost fruit garden ginger giraffe glass globe grain grand grape grass guitar hammer harbor heart heavy "
    "helmet hockey honey horse hotel humor iron island jacket jelly jewel jungle kettle kitchen knife ladder lamp laptop laser "
    "leader lemon letter level library light linen liquid lizard locket lunch magic magnet maple marble market meadow melody metal "
    "mirror model money monkey month motor mouse music napkin needle night noise ocean office olive onion orange orbit oven owner "
    "oxygen paddle palace panda paper parrot pencil pepper piano picnic pillow pilot planet pocket poem potato prince puzzle queen "
    "quick rabbit radar random raven ribbon river robot rocket salad salmon school shadow shark shelf silver singer sister "
    "skill sleep smoke snail socket spark spirit spoon spring square stamp stone storm street sugar summer sunset table tailor "
    "target temple thick thread tiger timber tomato tower train tunnel turtle uncle valley velvet violin vision volcano wagon "
    "water whale wheat window winter wizard wonder yellow zebra"
)
"""Common words, of which every other makes up the questions for training."""


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Questions and where they are from.

    Attributes:
        name: As it was asked for, with the part. questions: In the order of the file.
        checksum: sha256, in hexadecimal digits, of the file or of what was generated.
    """

    name: str
    questions: tuple[Question, ...]
    checksum: str


def questions(
    name: str,
    part: str = "test",
    *,
    corrupt: Corrupt = "raise",
    repeated: Literal["keep", "drop"] = "keep",
    count: int = 500,
    seed: int = 0,
) -> list[Question]:
    """Return the questions of `question_set`, which has the same arguments."""
    return list(question_set(name, part, corrupt=corrupt, repeated=repeated, count=count, seed=seed).questions)


def question_set(
    name: str,
    part: str = "test",
    *,
    corrupt: Corrupt = "raise",
    repeated: Literal["keep", "drop"] = "keep",
    count: int = 500,
    seed: int = 0,
) -> QuestionSet:
    """Return a set of questions from `$HEURETIC_DATA`, from the cache, downloaded into it, or generated.

    Args:
        name: One of
            - gsm8k (Cobbe et al. 2021, arXiv:2110.14168): parts train and test;
            - multiarith (Roy and Roth 2015), aqua (Ling et al. 2017, arXiv:1705.04146): part test;
            - bbh, or bbh/TASK for one of `BBH_TASKS` (Suzgun et al. 2022, arXiv:2210.09261): part test;
            - mmlu, or mmlu/SUBJECT such as mmlu/high_school_physics (Hendrycks et al. 2020, arXiv:2009.03300): part test;
            - scan/simple, scan/length, scan/addprim_jump (Lake and Baroni 2018, arXiv:1711.00350): parts train and test;
            - last-letter/WORDS, such as last-letter/4: concatenate the last letters of so many words (Wei et al. 2022,
              arXiv:2201.11903), generated; the words of the parts train and test differ.
        corrupt: Raise for a record that cannot be read, or "skip" it.
        repeated: "keep" the questions as they are published, some of which are there twice, or "drop" all but the first; those
            whose answers contradict each other are dropped altogether. Dropping keeps parts of one set apart.
        count, seed: How many questions to generate, and which. Not for the others.
    Raises: FileNotFoundError if the files are not there and cannot be downloaded; ValueError for an unknown name or part, a file or record that cannot be
        read, an identifier that occurs twice, or if no question is left.
    """
    family, _, which = name.partition("/")
    if family == "last-letter":
        return _last_letters(name, which, part, count, seed)
    if family not in _READERS or (which and family not in ("bbh", "mmlu", "scan")):
        raise ValueError(
            f"questions must be one of {', '.join(_READERS)}, last-letter, or a part of them, got {name!r}. Try bbh/navigate, "
            "scan/length or last-letter/2"
        )
    parts = ("train", "test") if family in ("gsm8k", "scan") else ("test",)
    if part not in parts:
        raise ValueError(f"part must be one of {', '.join(parts)} for {name}, got {part!r}")
    if family == "bbh" and which and which not in BBH_TASKS:
        raise ValueError(f"task must be one of {', '.join(BBH_TASKS)}, got {which!r}")
    if family == "scan" and which not in SCAN_SPLITS:
        raise ValueError(f"split must be one of {', '.join(SCAN_SPLITS)}, got {which!r}. Try scan/simple")
    place = {
        "gsm8k": f"gsm8k/{part}.jsonl.gz",
        "multiarith": "multiarith/multiarith.jsonl.gz",
        "aqua": "aqua/test.jsonl.gz",
        "bbh": "bbh/bbh.jsonl.gz",
        "mmlu": "mmlu_test/mmlu_test.jsonl.gz",
        "scan": f"scan/{which}_{part}.txt.gz",
    }[family]
    _, files = find(name, [[File(place)], published(family, part, which)])
    records = Records(corrupt)
    found = tuple(question for path in files.paths for question in _READERS[family](path, records, which))
    if repeated == "drop":
        found, _ = first_of_each(found)
    if not found:
        raise ValueError(
            f"{name} must have at least one question, got none at {files.paths[0]}. Try getting the file anew"
        )
    return QuestionSet(f"{name} {part}", found, files.checksum)


def canonical_target(text: str) -> str:
    """Return a number as it is written without separators and needless zeros: 1,080 and 1080.0 are 1080.

    Raises: ValueError if it is not a number.
    """
    number = float(text.strip().replace(",", "").lstrip("$"))
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(f"target must be finite, got {text!r}")
    return str(int(number)) if number.is_integer() else repr(number)


def _gsm8k(path: Path, records: Records, which: str) -> Iterator[Question]:
    for row, record in records_of(path, records, ("question", "answer")):
        rationale, found, gold = str(record["answer"]).rpartition("####")
        try:
            target = canonical_target(gold) if found else ""
        except ValueError:
            target = ""
        if not target:
            records.refuse(path, row, "answer must end with #### and a number", repr(str(record["answer"])[-40:]))
            continue
        about = {"rationale": rationale.strip()}
        yield Question(record["question"].strip(), target, id=str(record.get("index", row)), about=about)


def _multiarith(path: Path, records: Records, which: str) -> Iterator[Question]:
    for row, record in records_of(path, records, ("question", "answer")):
        try:
            target = canonical_target(str(record["answer"]))
        except ValueError:
            records.refuse(path, row, "answer must be a number", repr(record["answer"]))
            continue
        equations = record.get("equations", [])
        if not isinstance(equations, list):
            records.refuse(path, row, "equations must be a list", repr(equations))
            continue
        about = {"equations": tuple(equations)}
        yield Question(record["question"].strip(), target, id=str(record.get("index", row)), about=about)


def _aqua(path: Path, records: Records, which: str) -> Iterator[Question]:
    for row, record in records_of(path, records, ("question", "options", "correct")):
        options = record["options"] if isinstance(record["options"], list) else []
        lettered = [re.fullmatch(r"\(?([A-E])\)\s*(.*)", str(option), re.DOTALL) for option in options]
        letters = [match[1] for match in lettered if match]
        if len(letters) != len(options) or letters != list("ABCDE")[: len(letters)] or record["correct"] not in letters:
            records.refuse(path, row, "options must be A) to E), and correct one of them", [options, record["correct"]])
            continue
        choices = tuple(match[2].strip() for match in lettered if match)
        about = {"rationale": str(record.get("rationale", "")).strip()}
        yield Question(record["question"].strip(), record["correct"], choices, id=str(row), about=about)


def _bbh(path: Path, records: Records, which: str) -> Iterator[Question]:
    numbers: Counter[str] = Counter()
    for row, record in records_of(path, records, ("input", "target", "task")):
        task = record["task"]
        number = numbers[task]
        numbers[task] += 1
        if task not in BBH_TASKS:
            records.refuse(path, row, f"task must be one of the {len(BBH_TASKS)} of BIG-Bench Hard", repr(task))
        elif not isinstance(record["target"], str | int | float):
            records.refuse(path, row, "target must be a text or number", repr(record["target"]))
        elif not which or task == which:
            yield Question(
                record["input"].strip(), str(record["target"]).strip(), id=f"{task}/{number}", about={"task": task}
            )


def _mmlu(path: Path, records: Records, which: str) -> Iterator[Question]:
    for row, record in records_of(path, records, ("question", "choices", "answer", "subject")):
        choices = record["choices"] if isinstance(record["choices"], list) else []
        letters = "ABCDEFGHIJ"[: len(choices)]
        told = all(isinstance(choice, str | int | float) for choice in choices)
        if len(choices) < 2 or not told or record["answer"] not in tuple(letters):
            got = [record["choices"], record["answer"]]
            records.refuse(path, row, "choices must be at least 2 texts, and answer the letter of one of them", got)
        elif not which or record["subject"] == which:
            subject = record["subject"]
            yield Question(
                record["question"].strip(), record["answer"], tuple(str(choice).strip() for choice in choices),
                f"{subject}/{record.get('index', row)}", about={"subject": subject},
            )  # fmt: skip


def _scan(path: Path, records: Records, which: str) -> Iterator[Question]:
    for row, line in enumerate(lines(path, "commands in lines")):
        match = re.fullmatch(r"IN: ([a-z ]+) OUT: ([A-Z_ ]+)", line.strip())
        if match is None:
            records.refuse(path, row, "line must be IN: command OUT: ACTIONS", repr(line[:60]))
            continue
        yield Question(match[1].strip(), " ".join(match[2].split()), id=str(row))


_READERS: Mapping[str, Callable[[Path, Records, str], Iterator[Question]]] = {
    "gsm8k": _gsm8k,
    "multiarith": _multiarith,
    "aqua": _aqua,
    "bbh": _bbh,
    "mmlu": _mmlu,
    "scan": _scan,
}


def first_of_each(found: Sequence[Question]) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """Return the first of all equal questions of a task, and those left out because equal questions have different targets."""
    targets: dict[tuple[str, str], set[Any]] = {}
    first: dict[tuple[str, str], Question] = {}
    for question in found:
        first.setdefault(_key(question), question)
        targets.setdefault(_key(question), set()).add(question.target)
    return (
        tuple(question for key, question in first.items() if len(targets[key]) == 1),
        tuple(question for question in found if len(targets[_key(question)]) > 1),
    )


def _key(question: Question) -> tuple[str, str]:
    return str(question.about.get("task", "")), question.text


def _last_letters(name: str, which: str, part: str, count: int, seed: int) -> QuestionSet:
    if part not in ("train", "test"):
        raise ValueError(f"part must be train or test for {name}, got {part!r}")
    words = _WORDS.split()[0 if part == "train" else 1 :: 2]
    length = int(which) if which.isdecimal() else 0
    if not 1 <= length <= len(words):
        raise ValueError(f"words must be 1 to {len(words)}, got {which!r}. Try last-letter/4")
    if not 1 <= count <= len(words) ** length // 2:
        raise ValueError(f"count must be 1 to {len(words) ** length // 2} for {name}, got {count}")
    draw = random.Random(f"last letters {length} {part} {seed}")
    lists: dict[tuple[str, ...], None] = {}
    while len(lists) < count:
        lists[tuple(draw.sample(words, length))] = None
    found = tuple(
        Question(
            f'Take the last letters of the words in "{" ".join(each)}" and concatenate them.',
            "".join(word[-1] for word in each),
            id=str(number),
            about={"words": each},
        )
        for number, each in enumerate(lists)
    )
    digest = hashlib.sha256("\n".join(question.text for question in found).encode()).hexdigest()
    return QuestionSet(f"{name} {part}", found, digest)
