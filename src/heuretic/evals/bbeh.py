"""BIG-Bench Extra Hard: 23 tasks, the published extraction and matching of answers, and the adjusted harmonic mean.

Kazemi et al. 2025, "BIG-Bench Extra Hard", arXiv:2502.19187; the rules are those of `evaluate.py` in google-deepmind/bbeh.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from heuretic.data.files import File, find
from heuretic.data.records import Corrupt, Records
from heuretic.evals.evaluation import Evaluation, Questions, Score, said
from heuretic.evals.results import Estimate, Results
from heuretic.evals.short_answers import same_answer, short_answer
from heuretic.lm import Answer, LanguageModel, Question, Sampling
from heuretic.lm.parsing import CUE, Parse
from heuretic.lm.published_questions import examples, records_of
from heuretic.lm.question_sets import first_of_each
from heuretic.lm.strategies import Attempting, ChainOfThought
from heuretic.symbolic import Symbolic, field

SUFFIX = (
    'Think step by step, and when you provide the final answer, please use the prefix "The answer is:" without any modification, and '
    'provide the answer directly, with no formatting, no bolding, and no markup. For instance: "The answer is: 42" or "The answer '
    'is: yes". If the question is multiple choice with a single correct answer, the final answer must only be the letter '
    'corresponding to the correct answer. For example, "The answer is: (a)".'
)
"""What follows each question in the paper."""

_PREFIXES = ("The answer is:", "The final answer is ", "The final answer is: ", "The answer is ")
_COMMIT = "https://raw.githubusercontent.com/google-deepmind/bbeh/80d12ca916b7158f22293fcf3144f4d3d854d4be/bbeh"
_CHECKSUMS = {
    "boardgame_qa": "3d47dc41eb825b2ee77a696e79859d8d2043b1bf04077e120caec4ad324f32a8",
    "boolean_expressions": "49e763f10dbea048be56036c8cbf2a6d0bb735235e3806b50809a1addb57eee2",
    "buggy_tables": "c27b76200bf1b0d4ada3729f5a40aa1f0062267e42c4f40820b3e40891c3fe85",
    "causal_understanding": "b10bbf43f7f5cdde927b0ad03f99a7a78b3525de4bfa90008b36b12b010c9a81",
    "disambiguation_qa": "6d34e0c89c3b1e1386df5919159b8d67b4668308d1225bd1ee54eb1e946472bd",
    "dyck_languages": "a089612502bdfb98a447c8cba84f972724308ea0d059e8561e3cc9785de585cc",
    "geometric_shapes": "7ff506d026450cb878a0963ce478724ad1451bc56469c813c791b9345ac1bea7",
    "hyperbaton": "0fbacc94f4c740c3050021f4c57089f2011d7bd77fcff3346a7f4b9dbef842e2",
    "linguini": "ba387d2aa1bde122e6c9937fca4e075b9cc7d64e6047b170cfcffd6304919ea8",
    "movie_recommendation": "808882647b84c116a57e0975e3d357749525e12d215c4a5dae83de83ae8c4772",
    "multistep_arithmetic": "47207086cd2afe74df9968172d24134c82af8c666144092f04e4c1ebad8cf3d2",
    "nycc": "67c9a9dca40e6ec820a279da19a019cedd5427fbaaae3fd175cdb74965474b08",
    "object_counting": "a0a8b10ca1aa06eae611c7c7e854fbec4f9622c8f74a74ffa00436a9a8609b67",
    "object_properties": "d606b3aa0c35d5397afc5937207174593c82ad5dfcaf7e5dfb40a99278aef0e4",
    "sarc_triples": "4c7b8eb4b542d326152394456c0a1afc8ef5447ee06dd4187b7eb91027a6b821",
    "shuffled_objects": "43cda28220c66e8d63e667d3091cd18b0b17aa55c005bb24bbb63144afdba9c1",
    "spatial_reasoning": "e77986b73e0ed15b5f950978b7758f55311b4d50e7215961084b126e4d960cb7",
    "sportqa": "69b3f164d9617eab9185830eacf4250badb56c2d718ddc75012597ed1a4bc9bf",
    "temporal_sequence": "55f6711d3d76925acb5d2fffdc1947e0e7186c686f0a343598394a57df6c7c6e",
    "time_arithmetic": "2510515a6f12024a742743e29a389f07beacb3bf4c71e0b59be12f3e364cf31b",
    "web_of_lies": "15f23d32579285701f68dae7947e2191eff21ee97440dfa73cb3565a66c77a6d",
    "word_sorting": "f49674b7b85774d6190c2844e1682c2ee8ff591ca1eeee4e785a45ef1e20024d",
    "zebra_puzzles": "0acd979060ee49f063f241dd1a298bd80b63d6b7fbfb08057ff480bff98a6198",
}
_MINI = "14e77b3d6be68faa008d268abf53b1f8d2420ffdd762504a304dafc3f8d43026"
TASKS: tuple[str, ...] = tuple(_CHECKSUMS)
"""The 23 tasks: 200 questions each, but 120 of disambiguation_qa."""
_THREE_WAY = frozenset(("boardgame_qa", "causal_understanding"))
_LETTERED = frozenset(
    ("boolean_expressions", "disambiguation_qa", "geometric_shapes", "movie_recommendation", "nycc", "shuffled_objects")
)
_OPTION = re.compile(r"^\s*\(([A-Z])\)", re.MULTILINE)
_PEOPLE = re.compile(r"There are (\d+) people")


def extract(text: str, official: bool = False) -> str:
    """Return the answer that a reply gives, in small letters, ready for `matches`; "" if it gives none.

    Args:
        official: As published: after the last of each prefix in turn, case-sensitive, LaTeX only where it ends the text, the first
            line; without a prefix the first line of the text. Otherwise as `heuretic.evals.short_answers` finds it.
    """
    return _published_extract(text) if official else short_answer(text) or ""


def _published_extract(text: str) -> str:
    answer = text.strip()
    for prefix in _PREFIXES:
        if prefix in answer:
            answer = answer.rpartition(prefix)[2].strip()
    answer = _without_latex(answer.removesuffix(".")).lower().replace(", ", ",").replace("**", "")
    return answer.partition("\n")[0].removesuffix(".")


def _without_latex(text: str) -> str:
    if text.startswith("$") and text.endswith("$"):
        text = text[1:-1]
    for command in ("boxed{", "text{", "texttt{"):
        if command in text and text.endswith("}"):
            text = text[:-1].split(command)[1]
    return text


def reference_of(target: str) -> str:
    """Return a target as `matches` wants it."""
    return target.strip().lower().replace(", ", ",")


def matches(answer: str, reference: str, official: bool = False) -> bool:
    """Return whether an extracted answer is the reference, as the file has it or as `reference_of` gives it.

    Args:
        official: As published: equal, or equal but for one difference: the brackets of a "(x)", after which nothing else is tried; the
            way to write a number; "'"; "[]" around one of them; a last "?" of the answer. Nothing is equal to "[]". Otherwise also
            equal as `heuretic.evals.short_answers` sees it, and nothing is only equal to nothing.
    """
    if official:
        return _published_match(answer, reference_of(reference))
    if not answer.strip():
        return not reference.strip()
    return _published_match(answer, reference_of(reference)) or same_answer(answer, reference)


def _published_match(answer: str, reference: str) -> bool:
    if answer == reference:
        return True
    if len(answer) == 3 and answer[0] == "(" and answer[-1] == ")":
        return answer[1] == reference
    if len(reference) == 3 and reference[0] == "(" and reference[-1] == ")":
        return reference[1] == answer
    try:
        if float(answer) == float(reference):
            return True
    except ValueError:
        pass
    if answer.replace("'", "") == reference.replace("'", ""):
        return True
    if f"[{reference}]" == answer or f"[{answer}]" == reference:
        return True
    return answer.endswith("?") and answer[:-1] == reference


def correct(text: str, target: str, official: bool = False) -> bool:
    """Return whether a reply gives the target."""
    return matches(extract(text, official), target, official)


def adjusted_harmonic_mean(accuracies: Sequence[float] | np.ndarray, percent: bool = True) -> Any:
    """Return n / sum of 1 / (accuracy + 1) over the last axis, with accuracies in percent.

    The 1, which keeps a task with none right from deciding everything, is not taken off again, as on the leaderboard: all zero
    gives 1.0, all 100 gives 101.

    Args: percent: Whether accuracies are in percent; if they are shares, the 1 is 0.01, and so is the unit of the result.
    Raises: ValueError if there are none, or one is out of range.
    """
    held, most = np.asarray(accuracies, float), 100.0 if percent else 1.0
    if not held.size or not (held.min() >= 0 and held.max() <= most):
        got = "none" if not held.size else f"{held.min():g} to {held.max():g}"
        raise ValueError(f"accuracies must be at least one, each in [0, {most:g}], got {got} with percent={percent}")
    return held.shape[-1] / (1 / (held + most / 100)).sum(axis=-1)


class Extract(Symbolic):
    """The parser of BBEH's answers, see `extract`. A reply without text has none."""

    cue: str = field(default=CUE, doc="what tells in a reply that was cut off that an answer was finished")
    official: bool = field(default=False, doc="as published")

    def __call__(self, text: str, question: Question) -> str | None:
        return extract(text, self.official) or None


class BBEH(Evaluation):
    """BIG-Bench Extra Hard: 4,520 questions of 23 tasks, or the mini version of 460.

    The headline is the adjusted harmonic mean over tasks, of the mini version the share of right answers, both in percent. Every
    answer is scored by the published rules too, from the whole reply, as the metric "published rules".
    """

    name: ClassVar[str] = "bbeh"
    by: ClassVar[tuple[str, ...]] = ("task",)
    unit: ClassVar[float] = 0.01
    references: ClassVar[Mapping[str, float]] = {
        f"published: {model}, {what}, %": value
        for model, *values in (
            ("o3-mini (high)", 44.8, 54.2, 56.7), ("Gemini 2.0 Flash", 9.8, 23.9, 27.0), ("Gemini 2.0 Flash-Lite", 8.0, 19.7, 22.2),
            ("DeepSeek R1", 6.8, 34.9, 37.2), ("GPT4o", 6.0, 22.3, 23.5), ("Distill R1 Qwen 32b", 5.2, 19.2, 15.4),
            ("Gemma3 27b", 4.9, 18.8, 17.4), ("Gemma3 12b", 4.5, 16.3, 14.3), ("Gemma3 4b", 3.4, 11.0, 13.3),
            ("Gemma2 27b IT", 4.0, 14.8, 15.0), ("Llama 3.1 8b Instruct", 3.6, 10.6, 11.5), ("Random", 2.4, 8.4, 8.4),
        )
        for what, value in zip(("adjusted harmonic mean", "micro average", "mini, micro average"), values, strict=True)
    }  # fmt: skip
    # leaderboard.md at the commit above

    mini: bool = field(default=False, doc="the official small version, whose questions name no task")
    official: bool = field(default=False, doc="extract and match as published")
    repeated: Literal["keep", "drop"] = field(
        default="keep", doc="questions that are there twice: as published, or once"
    )
    corrupt: Corrupt = field(default="raise", doc="what to do with records that cannot be read")
    max_tokens: int = field(default=4096, ge=1, doc="most tokens of a reply")

    def load(self) -> Questions:
        """Return the questions of all tasks, or those of the mini version; the notes say what is there twice or left out.

        Raises: FileNotFoundError, ValueError as `heuretic.data` does.
        """
        place = "bbeh/bbeh_mini.jsonl.gz" if self.mini else "bbeh/bbeh_all.jsonl.gz"
        published = (
            [File("bbeh/mini.json", (f"{_COMMIT}/mini/data.json",), _MINI)]
            if self.mini
            else [
                File(f"bbeh/{task}.json", (f"{_COMMIT}/benchmark_tasks/bbeh_{task}/task.json",), checksum)
                for task, checksum in _CHECKSUMS.items()
            ]
        )
        form, found = find("bbeh", [[File(place)], published])
        records = Records(self.corrupt)
        kept = tuple(self._questions(found.paths, records))
        first, contradicting = first_of_each(kept)
        again = len(kept) - len({question.text for question in kept})
        if not kept:
            raise ValueError(f"bbeh must have at least one question, got none at {found.paths[0]}. Try getting it anew")
        notes = [f"{file}, row {row}, is left out: {why}" for file, row, why in records.bad]
        done = "kept, as published" if self.repeated == "keep" else "left out"
        if again:
            notes.append(f"{again} questions are there again, and {done}")
        if contradicting:
            named = ", ".join(question.id for question in contradicting)
            notes.append(f"equal questions with different targets are {done}: {named}")
        chosen = kept if self.repeated == "keep" else first
        checksums = {place if form == 0 else "bbeh": found.checksum}
        return Questions(lambda: chosen, len(chosen), checksums, tuple(notes))

    def _questions(self, paths: Sequence[Path], records: Records) -> Iterator[Question]:
        numbers: Counter[str] = Counter()
        for path in paths:
            lines = path.name.endswith(".jsonl.gz")
            rows = records_of(path, records, ("input", "target")) if lines else examples(path, records)
            for row, record in rows:
                task = "mini" if self.mini else str(record.get("task") or path.stem).removeprefix("bbeh_")
                if not self.mini and task not in TASKS:
                    records.refuse(path, row, "task must be one of the 23 of BBEH", repr(task))
                    continue
                numbers[task] += 1
                yield Question(
                    record["input"].strip(),
                    str(record["target"]).strip(),
                    id=f"{task}/{numbers[task] - 1}",
                    about={"task": task},
                )

    def strategy(self) -> Attempting:
        """Return the question with the paper's suffix, greedily."""
        return ChainOfThought(cue=SUFFIX, ending="", parse=self.parse(), sampling=Sampling(max_tokens=self.max_tokens))

    def parse(self) -> Parse:
        return Extract(official=self.official)

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        """Return whether the answer is right; the published rules also read a reply that was cut off, and take an empty one for "[]"."""
        target, text = str(question.target), said(answer)
        published = float(correct(text, target, official=True))
        tolerant = float(answer.answer is not None and matches(answer.answer, target))
        return Score(
            published if self.official else tolerant,
            {"published rules": published},
            {"answer": answer.answer, "target": target},
        )

    def summary(self, results: Results) -> Mapping[str, Estimate]:
        """Return what the leaderboard has, in percent, also by the published rules where they are not the headline's."""
        found: dict[str, Estimate] = {}
        for metric, suffix in (
            (("", ""),) if self.official else (("", ""), ("published rules", ", by the published rules"))
        ):
            if metric and metric not in results.metrics:
                continue
            if not self.mini:
                harmonic = results.mean_of_groups("task", lambda means: adjusted_harmonic_mean(100 * means), metric)
                found[f"adjusted harmonic mean, %{suffix}"] = harmonic
            found[f"micro average, %{suffix}"] = results.mean(metric).times(100)
        return found

    def chance(self, question: Question) -> float | None:
        """Return 1 over the number of options or of possible answers, 0 where answers are open; None where only the task would tell.

        The leaderboard's random line (micro average 8.4%, ours 7.7%) also guesses some of the open ones.
        """
        task, text = str(question.about.get("task")), question.text
        if task in _THREE_WAY:
            return 1 / 3
        if task == "sarc_triples":
            return 1 / 8
        if task == "web_of_lies":  # three words, of yes and no, or of yes, no and unknown
            return 1 / 27 if "unknown" in text else 1 / 8
        if task == "zebra_puzzles":
            return 1 / int(people[1]) if (people := _PEOPLE.search(text)) else 0.0
        options = set(_OPTION.findall(text)) if task in _LETTERED or self.mini else ()
        if options and re.fullmatch(r"\([A-Z]\)", str(question.target)):
            return 1 / len(options)
        return None if self.mini else 0.0
