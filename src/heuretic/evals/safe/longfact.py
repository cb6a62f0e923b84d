"""LongFact: prompts that ask for long answers full of facts, scored by F1@K of the facts that SAFE supports.

Wei et al. 2024, arXiv:2403.18802, sections 2, 5 and 6.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from heuretic.data.files import File, find, sha256
from heuretic.data.records import Corrupt, Records
from heuretic.data.tables import json_rows
from heuretic.evals.evaluation import Evaluation, Questions, Score, said
from heuretic.evals.judging import needed
from heuretic.evals.results import Estimate, Results, bootstrap_mean
from heuretic.evals.safe.f1_at_k import K_MAX, K_MEDIAN, f1_at_k, k_of, precision_of, recall_at_k
from heuretic.evals.safe.rating import Rated
from heuretic.evals.safe.safe import SAFE
from heuretic.lm import Answer, LanguageModel, Question, Sampling
from heuretic.lm.parsing import Parse, Whole
from heuretic.lm.retrieval.evidence import Search
from heuretic.lm.strategies import Attempting, Direct
from heuretic.symbolic import field, replace

POSTAMBLE = "Provide as many specific details and examples as possible (such as names of people, numbers, events, locations, dates, times, etc.)"
_PUBLISHED = (
    "https://raw.githubusercontent.com/google-deepmind/long-form-factuality/9d27158d198ced0a9d8271a80147cae580614601/"
)
_BENCHMARK, _PROMPTS = 250, 1140
_COUNTS = (
    "facts", "supported_facts", "not_supported_facts", "irrelevant_facts", "unjudged_facts", "dropped_facts", "unsplit_sentences",
)  # fmt: skip
_K = {"median": K_MEDIAN, "max": K_MAX}


class LongFact(Evaluation):
    """Long answers to fact-seeking prompts about 38 topics; the score is F1@K.

    The benchmark is objects, shuffled with seed 1, the first 250, with a postamble that asks for details. The published code lists the
    38 files in the order of the file system, which nobody knows; here they are in alphabetical order, so its 250 prompts are others.

    An empty answer, a refusal and an answer without facts count 0. Facts without a verdict and sentences that could not be split have no
    part in the score and are counted; an answer that has some, and no fact with a verdict, has no score. The number of facts has
    those that the published code drops in it, as there.
    """

    name: ClassVar[str] = "longfact"
    by: ClassVar[tuple[str, ...]] = ("topic",)
    judged: ClassVar[bool] = True

    part: Literal["objects", "concepts"] = field(default="objects", doc="what the prompts ask about")
    benchmark: bool = field(default=True, doc="250 prompts as the paper draws them; else all, in the order of the file")
    postamble: str = field(default=POSTAMBLE, doc="follows each prompt")
    k: int | Literal["median", "max"] = field(
        default=K_MEDIAN,
        doc="supported facts that make recall 1; in words: of the answers at hand, only for a study of one model",
    )
    rater: SAFE = field(default=SAFE(), doc="labels the facts of an answer")
    official: bool = field(default=False, doc="the rater reads, drops and splits as the published code does")
    file: str = field(default="", doc="JSON lines of your own instead, with topic and prompt")
    corrupt: Corrupt = field(default="raise", doc="what to do with records that cannot be read")

    def __post_init__(self) -> None:
        if isinstance(self.k, int) and self.k < 1:
            raise ValueError(f"k must be >= 1, median or max, got {self.k}. Try {K_MEDIAN}, the paper's")
        if self.rater.official:
            raise ValueError(
                "rater must not be official itself. Try LongFact(official=True), or longfact?official=true"
            )

    def searching(self, search: Search) -> LongFact:
        """Return the evaluation whose rater looks facts up there."""
        return replace(self, {"rater.search": search})

    def check(self) -> None:
        """Raises: ValueError if the rater has no search, or its search no key."""
        self.rater.check()

    def load(self) -> Questions:
        """Return the prompts.

        Raises: FileNotFoundError if they are not there; ValueError for a record that cannot be read, or if none is left.
        """
        paths, checksum = self._paths()
        records = Records(self.corrupt)
        rows = [row for path in paths for row in read_prompts(path, records)]
        if not rows:
            raise ValueError(
                f"LongFact must have at least one prompt, got none at {paths[0]}. Try getting the file anew"
            )
        numbered: dict[str, int] = {}
        found = []
        for topic, prompt in rows:
            numbered[topic] = numbered.get(topic, -1) + 1
            found.append((f"{topic}/{numbered[topic]}", topic, prompt))
        drawn = self.benchmark and not self.file
        notes = tuple(f"{name}, row {row}: {reason}" for name, row, reason in records.bad)
        if drawn:
            if len(found) != _PROMPTS:
                notes += (f"{_PROMPTS} prompts were published, {len(found)} are there: the 250 drawn are others",)
            random.Random(1).shuffle(found)
            found = found[:_BENCHMARK]

        def questions() -> Iterator[Question]:
            for name, topic, prompt in found:
                yield Question(f"{prompt} {self.postamble}".strip(" \n"), id=name, about={"topic": topic})

        return Questions(questions, len(found), {self.file or f"longfact/{self.part}": checksum}, notes)

    def _paths(self) -> tuple[tuple[Path, ...], str]:
        if self.file:
            path = Path(self.file)
            if not path.is_file():
                raise FileNotFoundError(
                    f"file must be JSON lines with topic and prompt, got {path}, which is not there"
                )
            return (path,), sha256(path)
        lines = files("heuretic.evals.safe").joinpath("longfact_files.txt").read_text(encoding="utf-8").splitlines()
        published = [
            File(place, (_PUBLISHED + place,), digest) for digest, _, place in (x.partition("  ") for x in lines)
        ]
        ours = [each for each in published if f"longfact-{self.part}_" in each.place]
        place = f"longfact/longfact_{self.part}.jsonl.gz"
        try:
            _, found = find(f"LongFact {self.part}", [[File(place)], ours])
        except FileNotFoundError as error:  # its message would name all 38 files
            raise FileNotFoundError(
                f"HEURETIC_DATA must name a folder with {place}, for LongFact, got {os.environ.get('HEURETIC_DATA', '')!r}, and the "
                "published files cannot be downloaded. Try HEURETIC_OFFLINE=0, and pip install 'heuretic[data]'"
            ) from error
        return found.paths, found.checksum

    def strategy(self) -> Attempting:
        """Return one free reply, as the published code draws it."""
        return Direct(instruction="", parse=Whole(), sampling=Sampling(temperature=0.5, max_tokens=1024))

    def parse(self) -> Parse | None:
        """Return the whole text."""
        return Whole()

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        """Return F1@K of an answer's facts; for a K in words, with the paper's."""
        response = said(answer).strip()
        if not response:
            return Score(0.0, _metrics(Rated(()), self._k), reason=f"no response: {answer.outcome}")
        rater = replace(self.rater, official=self.official)
        rated = await rater(question.text, response, needed(judge, "LongFact"))
        counts = rated.counts
        details = {
            "facts": [each.record() for each in rated.facts], "dropped": [each.record() for each in rated.dropped],
            "unsplit": list(rated.unsplit), "tokens": rated.usage.tokens, "cost": rated.cost,
        }  # fmt: skip
        metrics = _metrics(rated, self._k)
        if not counts.supported + counts.not_supported and (counts.unjudged or rated.unsplit or rated.lost):
            why = (
                f"no fact was judged: {counts.unjudged} unjudged, {len(rated.dropped)} dropped, "
                f"{len(rated.unsplit)} sentences not split; {next(iter(rated.reasons), 'the splitter gave no whole reply')}"
            )
            return Score(None, metrics, details, rated.steps, why)
        value = f1_at_k(counts.supported, counts.not_supported, self._k)
        return Score(value, metrics, details, rated.steps, "" if metrics["facts"] else "no facts")

    @property
    def _k(self) -> int:
        return self.k if isinstance(self.k, int) else _K[self.k]

    def summary(self, results: Results) -> Mapping[str, Estimate]:
        """Return F1@K, precision and recall over prompts, and for each answer its facts by label and its sentences that were not split."""
        k, f1 = self._k, results.mean()
        if not isinstance(self.k, int):
            facts = _column(results, "facts")
            known = ~np.isnan(results.values) & ~np.isnan(facts)
            if known.any():
                k = k_of([int(n) for n in facts[known]], self.k)
                pairs = zip(
                    _column(results, "supported_facts")[known],
                    _column(results, "not_supported_facts")[known],
                    strict=True,
                )
                f1 = bootstrap_mean([f1_at_k(int(s), int(n), k) for s, n in pairs])
        return {
            f"f1@{k}": f1,
            **{name: results.mean(name) for name in ("precision", "recall") if name in results.metrics},
            **{name.replace("_", " "): results.mean(name, share=False) for name in _COUNTS if name in results.metrics},
        }


def _column(results: Results, name: str) -> np.ndarray:
    """Return numbers for each answer, 0 for those that scored 0 without any."""
    column = np.array(results.metrics.get(name, np.full(len(results), np.nan)), float)
    column[np.isnan(column) & (results.values == 0)] = 0.0
    return column


def _metrics(rated: Rated, k: int) -> dict[str, float]:
    counts, dropped = rated.counts, len(rated.dropped)
    precision = precision_of(counts.supported, counts.not_supported)
    numbers = (
        counts.facts + dropped, counts.supported, counts.not_supported, counts.irrelevant, counts.unjudged, dropped, len(rated.unsplit)
    )  # fmt: skip
    return {
        **({} if precision is None else {"precision": precision}),
        "recall": recall_at_k(counts.supported, k), **{name: float(n) for name, n in zip(_COUNTS, numbers, strict=True)},
    }  # fmt: skip


def read_prompts(path: Path, records: Records) -> Iterator[tuple[str, str]]:
    """Yield the topic and prompt of each record of JSON lines, gzipped or not; the file's name has the topic if the record has none.

    Raises: ValueError for a record that cannot be read, unless `records` leaves it out.
    """
    named = path.name.partition(".")[0].rpartition("_")[2]
    for row, record in json_rows(path, records):
        prompt, topic = record.get("prompt"), record.get("topic", named)
        if not isinstance(prompt, str) or not prompt.strip() or not isinstance(topic, str):
            records.refuse(path, row, "record must have texts as topic and prompt", sorted(record))
            continue
        yield topic, prompt
