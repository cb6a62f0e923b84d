"""BIG-Bench Extra Hard: 23 tasks, the published extraction and matching of answers, and the adjusted harmonic mean.

Kazemi et al. 2025, "BIG-Bench Extra Hard", arXiv:2502.19187; the rules are those of `evaluate.py` in google-deepmind/bbeh.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from heuretic.data.files import File, find
from heuretic.data.records import Records, unreadable
from heuretic.evals.evaluation import Evaluation, Questions, Score, said
from heuretic.evals.results import Estimate, Results
from heuretic.lm import Answer, LanguageModel, Question, Sampling
from heuretic.lm.parsing import Parse
from heuretic.lm.question_sets import json_lines
from heuretic.lm.strategies import Attempting, ChainOfThought
from heuretic.symbolic import Symbolic, field

SUFFIX = (
    'Think step by step, and when you are ready to provide the final answer, use the prefix "The answer is:" followed by the answer '
    'directly, with no formatting and no markup. For instance: "The answer is: 42", or "The answer is: yes", or "The answer is: (a)". '
    "For multi-choice questions, provide the letter corresponding to the correct answer."
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
_CLOSED = {"boardgame_qa": 3, "causal_understanding": 3, "sarc_triples": 8, "web_of_lies": 27, "zebra_puzzles": 8}
"""How many answers are possible where questions have no options."""

_CUE = re.compile(r"(?:the\s+)?(?:(?:final|correct)\s+)?answer(?:\s+is\s*:?|\s*:)", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_WRAPPED = re.compile(r"\\(?:text|texttt|textbf|mathrm|mathbf|boxed)\{([^{}]*)\}")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)")
_SEPARATED = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_OPTION = re.compile(r"\(([a-z])\)(?=\W|$)|([a-z])[.):](?=\s|$)")
_AFTERWARDS = re.compile(r"[.;]\s|,?\s(?:because|since|as)\s|\s[-–—]\s|\s\(")
_UNIT = re.compile(r"([-+]?[\d.]+)\s+[a-z]+")


def extract(text: str, official: bool = False) -> str:
    """Return the answer that a reply gives, in small letters, ready for `matches`.

    Args:
        official: As published: after the last of each prefix in turn, case-sensitive, LaTeX only where it ends the text, the first
            line. Otherwise also after other cues, within markup and LaTeX anywhere; without a cue what is boxed, else the last line.
    """
    return _published_extract(text) if official else _tolerant_extract(text)


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


def _tolerant_extract(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).replace("−", "-").strip()
    cues = list(_CUE.finditer(text))
    boxed = _BOXED.findall(text)
    if cues:
        rest = text[cues[-1].end() :].strip(" \t:*_\n")
        if inside := _BOXED.search(rest.partition("\n")[0]):
            rest = inside[1]
    elif boxed:
        rest = boxed[-1]
    else:
        rest = text.rpartition("\n")[2]
    line = _WRAPPED.sub(r"\1", rest.strip().partition("\n")[0])
    for mark in ("**", "__", "`", "$", "\\(", "\\)"):
        line = line.replace(mark, "")
    return re.sub(r",\s+", ",", line.strip().removesuffix(".").strip().lower())


def reference_of(target: str) -> str:
    """Return a target as `matches` wants it."""
    return target.strip().lower().replace(", ", ",")


def matches(answer: str, reference: str, official: bool = False) -> bool:
    """Return whether an extracted answer is the reference.

    Args:
        official: As published. Otherwise also in typographic variants, with an explanation behind it, or with a unit behind a number;
            "(1)" is 1.0 then, and words such as "nan" and "inf" are no numbers.
    """
    return _published_match(answer, reference) if official else _tolerant_match(answer, reference)


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


def _tolerant_match(answer: str, reference: str) -> bool:
    reference = _bare(reference)
    forms = {_bare(answer), _bare(_AFTERWARDS.split(answer)[0])}
    if unit := _UNIT.fullmatch(answer):
        forms.add(unit[1])
    if option := _OPTION.match(answer):
        forms.add(option[1] or option[2])
    number = _number(reference)
    return reference in forms or (number is not None and number in map(_number, forms))


def _bare(text: str) -> str:
    text = re.sub(r",\s+", ",", unicodedata.normalize("NFKC", text).replace("−", "-")).strip(" .?!")
    for left, right in (("(", ")"), ("[", "]")):
        if text.startswith(left) and text.endswith(right) and left not in text[1:]:
            text = text[1:-1]
    return re.sub(r"['\"“”‘’]", "", text).strip()


def _number(text: str) -> float | None:
    if _SEPARATED.fullmatch(text):
        text = text.replace(",", "")
    return float(text) if _NUMBER.fullmatch(text) else None


def correct(text: str, target: str, official: bool = False) -> bool:
    """Return whether a reply gives the target."""
    return matches(extract(text, official), reference_of(target), official)


def adjusted_harmonic_mean(accuracies: Sequence[float] | np.ndarray, *, percent: bool = True) -> Any:
    """Return n / sum of 1 / (accuracy + 1) over the last axis, with accuracies in percent.

    The 1, which keeps a task with none right from deciding everything, is not taken off again, as on the leaderboard: all zero
    gives 1.0, all 100 gives 101.

    Args: percent: Whether accuracies are in percent; if they are shares, the 1 is 0.01, and so is the unit of the result.
    """
    held = np.asarray(accuracies, float) + (1.0 if percent else 0.01)
    return held.shape[-1] / (1 / held).sum(axis=-1)


class Extract(Symbolic):
    """The parser of BBEH's answers, see `extract`. A reply without text has none."""

    official: bool = field(default=False, doc="as published")

    def __call__(self, text: str, question: Question) -> str | None:
        return extract(text, self.official) or None


class BBEH(Evaluation):
    """BIG-Bench Extra Hard: 4,520 questions of 23 tasks, or the mini version of 460.

    Questions are kept as published, also a pair in spatial_reasoning that is there twice.
    """

    name: ClassVar[str] = "bbeh"
    by: ClassVar[tuple[str, ...]] = ("task",)
    references: ClassVar[Mapping[str, float]] = {
        "published: random": 2.4, "published: GPT-4o": 6.0, "published: DeepSeek R1": 6.8, "published: o3-mini (high)": 44.8,
    }  # fmt: skip

    mini: bool = field(default=False, doc="the official small version, whose questions name no task")
    official: bool = field(default=False, doc="extract and match as published")
    max_tokens: int = field(default=4096, ge=1, doc="most tokens of a reply")

    def load(self) -> Questions:
        """Return the questions of all tasks, or those of the mini version."""
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
        lines = form == 0

        def questions() -> Iterator[Question]:
            records = Records("raise")
            for path in found.paths:
                rows = json_lines(path, records, ("input", "target")) if lines else _examples(path, records)
                for row, record in rows:
                    task = str(record.get("task") or ("mini" if self.mini else path.stem)).removeprefix("bbeh_")
                    if not self.mini and task not in TASKS:
                        records.refuse(path, row, "task must be one of the 23 of BBEH", repr(task))
                    target = str(record["target"]).strip()
                    yield Question(record["input"].strip(), target, id=f"{task}/{row}", about={"task": task})

        return Questions(questions, 460 if self.mini else 4520, {place if lines else "bbeh": found.checksum})

    def strategy(self) -> Attempting:
        """Return the question with the paper's suffix, greedily."""
        return ChainOfThought(cue=SUFFIX, ending="", parse=self.parse(), sampling=Sampling(max_tokens=self.max_tokens))

    def parse(self) -> Parse:
        return Extract(official=self.official)

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        """Return whether the answer is right; the published rules also read a reply that was cut off."""
        found = extract(said(answer), True) if self.official and answer.answer is None else answer.answer
        assert isinstance(question.target, str)
        return Score(float(found is not None and matches(found, reference_of(question.target), self.official)))

    def summary(self, results: Results) -> Mapping[str, Estimate]:
        """Return the adjusted harmonic mean over tasks in points (percent plus 1), and the micro average as a share."""
        if self.mini:
            return {"micro average": results.mean()}
        harmonic = results.mean_of_groups("task", lambda means: adjusted_harmonic_mean(100 * means))
        return {"adjusted harmonic mean, points": harmonic, "micro average": results.mean()}

    def chance(self, question: Question) -> float | None:
        """Return 1 over the number of options or of possible answers, 0 where answers are open."""
        task = str(question.about.get("task"))
        if task in _CLOSED:
            return 1 / _CLOSED[task]
        options = set(re.findall(r"^\s*\(?([A-Z])[).:]\s", question.text, re.MULTILINE))
        lettered = re.fullmatch(r"\(?[A-Z]\)?", str(question.target))
        return 1 / len(options) if lettered and options else 0.0


def _examples(path: Path, records: Records) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        rows = json.loads(path.read_text("utf-8"))["examples"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(path, "JSON with examples", error) from error
    for row, record in enumerate(rows):
        if isinstance(record, dict) and isinstance(record.get("input"), str) and record.get("target") is not None:
            yield row, record
        else:
            records.refuse(
                path, row, "record must have input and target", sorted(record) if isinstance(record, dict) else record
            )
