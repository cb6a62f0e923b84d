"""HaloQuest: questions about images that hold a false premise, lack context, or are hard to see.

Wang et al. 2024, "HaloQuest: A Visual Hallucination Dataset for Advancing Multimodal Reasoning", arXiv:2407.15680. The data have
the addresses of images, which are fetched when the questions are asked and kept on this machine only (`haloquest_images`). An image
that is gone is reported, and its questions have no score.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from inspect_ai.model import ContentImage

from heuretic.data.files import File, find
from heuretic.data.records import Corrupt, Records, unreadable
from heuretic.evals.drawn_images import Drawn, drawn
from heuretic.evals.evaluation import Evaluation, Questions, Score, said
from heuretic.evals.haloquest_images import Image, ImageAbsent, ImageSource, with_images
from heuretic.evals.haloquest_judge import AutoEval, matches, overlap
from heuretic.evals.judging import needed, unjudged
from heuretic.evals.results import Estimate, Results
from heuretic.lm import Answer, LanguageModel, Question, Sampling
from heuretic.lm.parsing import Parse, Whole
from heuretic.lm.strategies import Attempting, Direct
from heuretic.symbolic import field

Part = Literal["train", "eval"]
KINDS: tuple[str, ...] = ("false premises", "visual challenge", "insufficient context")
IMAGE_TYPES: tuple[str, ...] = ("real", "generated")
COLUMNS: tuple[str, ...] = (
    "image_name", "url", "image type", "hallucination type", "question", "groundtruth responses", "split"
)  # fmt: skip
_AT = "https://raw.githubusercontent.com/google/haloquest/2f643ebb77aeae40f4c5323db38f99f0dc257cf5"
_PUBLISHED: Mapping[Part, str] = {
    "eval": "6c88c8d6eb6d0a98881ec3e50ae52b5919247b53a47b7c723819603621b838b4",
    "train": "eddca6490800fcf4185d5e4044d5f2c2e8691af0df8d426f0bcc5810465cbb3f",
}
ABSENT = "image absent"
"""The reason of a score that is none because there is no image; what was wrong with it follows."""


@dataclass(frozen=True, slots=True)
class Row:
    """One question of the data, with all right answers as one text, as it was published."""

    id: str
    url: str
    image_type: str
    kind: str
    question: str
    groundtruth: str


def answers_of(groundtruth: str) -> tuple[str, ...]:
    """Return the right answers in a text that separates them by ";", without the numbers of a list ("1. ...; 2. ...")."""
    found = tuple(" ".join(each.split()) for each in groundtruth.split(";") if each.strip())
    numbered = len(found) > 1 and all(each.startswith(f"{k}. ") for k, each in enumerate(found, 1))
    return tuple(each.partition(". ")[2] for each in found) if numbered else found


def read_rows(path: Path, part: Part, corrupt: Corrupt = "raise") -> tuple[list[Row], tuple[str, ...]]:
    """Return the rows of a file of HaloQuest (.csv, .csv.gz), and what was noticed.

    A row whose image and question were there before counts as repeated if its answers are the same too; in the training part 13
    have other answers, which are kept. Columns without a name, as the published files have, are ignored.

    Raises: ValueError for a file or a record that cannot be read, with its row, counted from 0 without the header.
    """
    records = Records(corrupt)
    rows: list[Row] = []
    seen: dict[tuple[str, str], set[str]] = {}
    table = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = next(table, [])
    except csv.Error as error:
        raise unreadable(path, "CSV", error) from error
    if missing := [name for name in COLUMNS if name not in header]:
        raise ValueError(f"columns must be {', '.join(COLUMNS)}, got no {', '.join(missing)} at {path}")
    number = -1
    while True:
        number += 1
        try:
            cells = next(table)
        except StopIteration:
            break
        except csv.Error as error:
            records.refuse(path, number, "record must have closed quotes", f"{error} (line {table.line_num})")
            continue
        if not cells:
            number -= 1  # an empty line is no record
            continue
        row = _row(dict(zip(header, cells, strict=False)), len(cells) - len(header), path, part, number, records)
        if row is None:
            continue
        known = seen.setdefault((row.url, row.question), set())
        if row.groundtruth in known:
            records.refuse(path, number, "question must be new", f"{row.question!r} about the same image again")
            continue
        known.add(row.groundtruth)
        rows.append(row)
    if not rows:
        raise ValueError(f"records must be at least one, got none at {path}")
    again = sum(len(known) - 1 for known in seen.values())
    notes = [f"{again} questions are asked twice about one image, with other answers"] if again else []
    return rows, (*notes, *(f"left out: {name}, row {row}: {reason}" for name, row, reason in records.bad))


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise unreadable(path, "CSV in UTF-8, plain or gzip", error) from error


def _row(cells: Mapping[str, str], surplus: int, path: Path, part: Part, number: int, records: Records) -> Row | None:
    if surplus:
        records.refuse(
            path,
            number,
            "record must have as many cells as the header",
            f"{abs(surplus)} too {'many' if surplus > 0 else 'few'}",
        )
        return None
    rules: tuple[tuple[bool, str, str], ...] = (
        (cells["split"] != part, f"split must be {part}", cells["split"]),
        (cells["image type"] not in IMAGE_TYPES, f"image type must be {' or '.join(IMAGE_TYPES)}", cells["image type"]),
        (cells["hallucination type"] not in KINDS, f"hallucination type must be one of {', '.join(KINDS)}", cells["hallucination type"]),
        (not cells["question"].strip(), "question must have a text", cells["question"]),
        (not answers_of(cells["groundtruth responses"]), "groundtruth responses must have one", cells["groundtruth responses"]),
        (not cells["url"].startswith(("http://", "https://")), "url must begin with http:// or https://", cells["url"]),
    )  # fmt: skip
    for broken, rule, got in rules:
        if broken:
            records.refuse(path, number, rule, repr(got[:80]))
            return None
    return Row(
        f"{part}-{number}", cells["url"].strip(), cells["image type"], cells["hallucination type"], cells["question"].strip(),
        cells["groundtruth responses"].strip(),
    )  # fmt: skip


class HaloQuest(Evaluation):
    """The share of answers that the judge takes for right, over all questions, by category, by kind of image, and by both.

    arXiv:2407.15680, section 4. The question is asked with the image and nothing else. A judge-free rule (`matches`) and the overlap
    of words stand beside the judge's score under names of their own. Questions come in an order in which the first ones are from all
    categories. A text that says it cannot assist, or that was cut off, goes to the judge like any other, which is told that the former is wrong.
    """

    name: ClassVar[str] = "haloquest"
    by: ClassVar[tuple[str, ...]] = ("category", "image type", "category and image type")
    within: ClassVar[str] = "image"
    generated: ClassVar[bool] = True  # images are fetched as the questions are asked
    judged: ClassVar[bool] = True
    references: ClassVar[Mapping[str, float]] = {
        "Gemini 1.5 Pro (May 2024)": 0.779, "GPT-4o (May 2024)": 0.632, "GPT-4 (May 2024)": 0.612, "BEiT-3 (0.7B)": 0.400,
        "InstructBLIP (12B)": 0.285, "LLaVA (13B)": 0.109,
    }  # fmt: skip
    """Auto-Eval of the published leaderboard, judged by Gemini 1.0 Pro."""

    part: Part = field(default="eval", doc="eval has 608 questions, train 7,140")
    kinds: tuple[str, ...] = field(default=(), doc="only these categories; none for all")
    image_types: tuple[str, ...] = field(default=(), doc="only real or generated images; none for both")
    drawn: int = field(default=0, ge=0, doc="so many pictures drawn here instead of the data; 0 for the data")
    seed: int = field(default=0, ge=0, doc="of the drawn pictures")
    scoring: Literal["auto", "judge", "match"] = field(
        default="auto", doc="judge, or match: the rule without one; auto: match for drawn pictures only"
    )
    official: bool = field(default=False, doc="read the judge's verdicts as published")
    judge: AutoEval = field(default=AutoEval(), doc="how the judge is asked")
    images: ImageSource = field(default=ImageSource(), doc="where images come from")
    corrupt: Corrupt = field(default="raise", doc="skip leaves out records that cannot be read")
    max_tokens: int = field(default=512, ge=1, doc="most tokens of a reply")

    def __post_init__(self) -> None:
        for name, given, known in (("kinds", self.kinds, KINDS), ("image_types", self.image_types, IMAGE_TYPES)):
            if unknown := [each for each in given if each not in known]:
                raise ValueError(f"{name} must be of {', '.join(known)}, got {', '.join(unknown)}")
        if self.drawn and self.image_types:
            raise ValueError(f"image_types must be none for drawn pictures, got {', '.join(self.image_types)}")

    @property
    def needs_judge(self) -> bool:
        return self.scoring == "judge" or (self.scoring == "auto" and not self.drawn)

    def missing(self, question: Question) -> str:
        """Return what is wrong with a question's image, empty if it is there."""
        absent = question.about.get("absent")
        return f"{ABSENT}: {absent}" if absent else ""

    def load(self) -> Questions:
        """Return the questions; their images are fetched while they are gone through.

        Raises: FileNotFoundError, ValueError as `read_rows` does.
        """
        if self.drawn:
            return self._drawn()
        packed, plain = f"haloquest/haloquest_{self.part}.csv.gz", f"haloquest/haloquest-{self.part}.csv"
        published = File(plain, (f"{_AT}/haloquest-{self.part}.csv",), _PUBLISHED[self.part])
        _, found = find("HaloQuest", ((File(packed),), (published,)))
        rows, notes = read_rows(found.paths[0], self.part, self.corrupt)
        kept = [
            row
            for row in rows
            if row.kind in (self.kinds or KINDS) and row.image_type in (self.image_types or IMAGE_TYPES)
        ]
        ordered = spread(kept)

        def source() -> Iterator[Question]:
            for row, image in with_images(ordered, lambda row: row.url, self.images):
                yield _question(row, image)

        return Questions(source, len(ordered), {found.paths[0].name: found.checksum}, notes)

    def _drawn(self) -> Questions:
        def chosen() -> Iterator[tuple[int, Drawn]]:
            every = enumerate(drawn(self.drawn, self.seed))
            return (each for each in every if each[1].category in (self.kinds or KINDS))

        def source() -> Iterator[Question]:
            for number, each in chosen():
                row = Row(
                    f"drawn-{number}", f"drawn-{number}", "drawn", each.category, each.question, "; ".join(each.answers)
                )
                yield _question(row, each.image())

        told = [repr(each) for each in chosen()]
        digest = hashlib.sha256("\n".join(told).encode()).hexdigest()
        note = "pictures were drawn here: scores are not to be compared with published ones"
        return Questions(source, len(told), {"drawn pictures": digest}, (note,))

    def strategy(self) -> Attempting:
        return Direct(instruction="", parse=Whole(), sampling=Sampling(max_tokens=self.max_tokens))

    def parse(self) -> Parse:
        return Whole()

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        if reason := self.missing(question):
            return Score(None, reason=reason)
        text, groundtruth = said(answer).strip(), str(question.about["groundtruth"])
        right = answers_of(groundtruth)
        metrics = {"match without judge": float(matches(text, right)), "word overlap": overlap(text, right)}
        if not text:
            return Score(0.0, dict.fromkeys(metrics, 0.0), reason=answer.outcome)
        if not self.needs_judge:
            return Score(metrics["match without judge"], metrics)
        found, steps = await self.judge(needed(judge, self.name), question.text, text, groundtruth, self.official)
        if found is None:
            return Score(None, metrics, steps=steps, reason=unjudged(steps))
        points = {"response": found.response_point, "groundtruth": found.groundtruth_point}
        return Score(float(found.correct), metrics, {"main points": points}, steps)

    def summary(self, results: Results) -> Mapping[str, Estimate]:
        """Return the share of right answers, the judge-free numbers, and how many questions have no score."""
        headline = "accuracy" if self.needs_judge else "match without judge"
        unscored = np.isnan(results.values)
        free = {name: results.mean(name) for name in ("match without judge", "word overlap") if name in results.metrics}
        missing = Estimate(float(unscored.mean()) if len(results) else float("nan"), count=len(results))
        return {headline: results.mean(), **free, "without score": missing}

    def guess(self, question: Question) -> str | None:
        """Return that nobody can tell where context is lacking, for which this is right every time; else a right answer."""
        if question.about["category"] == "insufficient context":
            return "It cannot be determined from the image."
        return answers_of(str(question.about["groundtruth"]))[0]


def spread(rows: Sequence[Row]) -> list[Row]:
    """Return rows in an order, always the same, that takes from each pair of category and kind of image in turn."""
    members: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        members.setdefault((row.kind, row.image_type), []).append(row)
    rng = np.random.default_rng(0)
    shuffled = [[each[k] for k in rng.permutation(len(each))] for _, each in sorted(members.items())]
    return [row for together in zip_longest(*shuffled) for row in together if row is not None]


def _question(row: Row, image: Image | ImageAbsent) -> Question:
    about: dict[str, Any] = {
        "category": row.kind, "image type": row.image_type, "category and image type": f"{row.kind}, {row.image_type}",
        "image": row.url, "groundtruth": row.groundtruth,
    }  # fmt: skip
    parts: tuple[ContentImage, ...] = ()
    if isinstance(image, ImageAbsent):
        about["absent"] = str(image)
    else:
        parts = (ContentImage(image=image.uri),)
    return Question(row.question, answers_of(row.groundtruth), id=row.id, parts=parts, about=about)
