"""The Inverse Scaling Prize: tasks on which larger models do worse.

McKenzie et al. 2023, "Inverse Scaling: When Bigger Isn't Better", arXiv:2306.09479; Wei et al. 2022, "Inverse scaling can become
U-shaped", arXiv:2211.02011, for one demonstration and for reasoning. A single accuracy says little here: what counts is the trend
over models of several sizes, see `heuretic.evals.scaling_trend`.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from heuretic.data.files import File, find, sha256
from heuretic.data.records import Corrupt, Records
from heuretic.data.tables import csv_rows, json_rows
from heuretic.evals.evaluation import Evaluation, Questions, Score
from heuretic.evals.inverse_scaling_tasks import GENERATORS, Item, as_lines, generated
from heuretic.evals.results import Estimate, Results
from heuretic.lm import Answer, LanguageModel, Question
from heuretic.lm.answer import Sample, Step
from heuretic.lm.likelihood import Likelihood, likelihood
from heuretic.lm.parsing import CUE, Parse, after_cue, is_refusal, without_markup
from heuretic.lm.strategies import Attempting, ChainOfThought, Direct
from heuretic.lm.strategies.likeliest import LIKELIHOODS, Likeliest, best_of, letter_of
from heuretic.lm.strategies.prompting import one_attempt
from heuretic.symbolic import Symbolic, field

TASKS: tuple[str, ...] = (
    "hindsight-neglect-10shot", "into-the-unknown", "memo-trap", "modus-tollens", "neqa", "pattern-matching-suppression",
    "prompt-injection", "quote-repetition", "redefine-math", "repetitive-algebra", "sig-figs",
)  # fmt: skip
"""The eleven tasks that won a prize. quote-repetition is called Resisting Correction in the paper."""
OTHER_TASKS: tuple[str, ...] = ("winobias-antistereotype",)
"""In the same format; EleutherAI's lm-evaluation-harness counts it among its eleven, and leaves prompt-injection out."""
OURS = "ours"
"""Begins the names of tasks that are generated here, in the style of those of the prize: ours-memo-trap."""
OTHER_PROMPT = f"{LIKELIHOODS} after the other prompt"
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "logodds": ("prompt", "other_prompt", "classes", "answer_index"),
    "classification": ("prompt", "classes", "answer_index"),
    "sequence_prob": ("prompt", "completion"),
}
"""What records of each form have; the first form that fits is taken."""


class InverseScaling(Evaluation):
    """A task of the Inverse Scaling Prize, or one in its style.

    The prompt is used as it is, and classes follow it without a delimiter, since they carry their own. The score is 1 if the
    right class has the highest summed log-likelihood; `acc_norm` compares sums per character, as EleutherAI's harness does, and
    `loss` is the negative log-probability of the right class among the classes, in nats. Records of one completion
    (prompt-injection) have only a loss: that of the completion. Records with another prompt are scored after that prompt, and
    `logodds_difference` is how much more the first prompt speaks for the right class.

    With one shot, a record drawn from the task is shown with its right class before every other, as Wei et al. do, and is not asked;
    which one they showed is not published. With reasoning, the model writes a chain of thought that names a class, so it is
    accuracy of another kind, and there is no loss; Wei et al. write demonstrations with reasoning, here there is a cue.
    """

    name: ClassVar[str] = "inverse-scaling"
    by: ClassVar[tuple[str, ...]] = ("task",)
    within: ClassVar[str] = "group"

    task: str = field(default=OURS, doc="one of the prize, prize for all of them, ours-TASK, or ours for all of ours")
    file: str = field(
        default="", doc="a .jsonl or .csv with the task's records, instead of $HEURETIC_DATA/inverse_scaling"
    )
    shots: Literal[0, 1] = field(default=0, doc="demonstrations before the question")
    reasoning: bool = field(default=False, doc="let the model write a chain of thought")
    generate: bool = field(default=False, doc="let models that give no likelihoods write the class: another measure")
    count: int = field(default=200, ge=2, doc="how many items of each task are generated")
    seed: int = field(default=0, ge=0, doc="decides what is generated, and which demonstration is shown")
    corrupt: Corrupt = field(default="raise", doc="skip leaves out records that cannot be read")

    def load(self) -> Questions:
        """Return the questions of the task, or of several.

        Raises: ValueError for an unknown task, a file that cannot be read, renamed columns or a corrupt record;
            FileNotFoundError if a file is not there.
        """
        names = self._names()
        questions: list[Question] = []
        checksums: dict[str, str] = {}
        notes: list[str] = []
        for name in names:
            items, checksums[name], about = self._items(name)
            notes += [f"{name}: {note}" for note in about]
            questions += questions_of(name, items, self.shots, self.seed)
        return Questions(lambda: iter(questions), len(questions), checksums, tuple(notes))

    def strategy(self) -> Attempting:
        """Return likelihoods of the classes, or a chain of thought."""
        written = NamingClass(of=Direct(parse=self.parse()))
        if self.reasoning:
            return NamingClass(of=ChainOfThought(parse=self.parse()))
        return ClassLikelihoods(fallback=written if self.generate else None)

    def parse(self) -> Parse:
        """Return what finds a class in a reply."""
        return NamedClass()

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        """Return 1 for the right class, with the accuracy per character and the loss where there are likelihoods."""
        return score_of(question, answer)

    def summary(self, results: Results) -> Mapping[str, Estimate]:
        """Return accuracy, accuracy per character and loss, each averaged over tasks."""
        shown = {"accuracy": results.mean_of_groups("task")}
        shown |= {
            name: results.mean_of_groups("task", metric=name)
            for name in ("acc_norm", "loss", "logodds_difference", "generated")
            if name in results.metrics
        }
        return shown if shown["accuracy"].count else {"loss": shown.pop("loss"), **shown} if "loss" in shown else shown

    def chance(self, question: Question) -> float | None:
        """Return the share of one class, None where there is only one."""
        return 1 / len(question.choices) if len(question.choices) > 1 else None

    def _names(self) -> tuple[str, ...]:
        if self.file:
            return (self.task if self.task not in (OURS, "prize") else Path(self.file).name.partition(".")[0],)
        if self.task == OURS:
            return tuple(f"{OURS}-{name}" for name in GENERATORS)
        if self.task == "prize":
            return TASKS
        name = self.task.replace("_", "-")
        ours = [f"{OURS}-{each}" for each in (*GENERATORS, "neqa")]
        if name not in (*TASKS, *OTHER_TASKS, *ours):
            raise ValueError(
                f"task must be {OURS}, prize or one of {', '.join((*TASKS, *OTHER_TASKS, *ours))}, got {self.task!r}. Try "
                "file= for a task of your own"
            )
        return (name,)

    def _items(self, name: str) -> tuple[list[Item], str, list[str]]:
        if not self.file and name.startswith(f"{OURS}-"):
            items = generated(name.removeprefix(f"{OURS}-"), self.count, self.seed)
            digest = hashlib.sha256("\n".join(as_lines(items)).encode()).hexdigest()
            return items, digest, ["generated here in the style of the prize; its own questions are others"]
        if self.file:
            path = Path(self.file)
            if not path.is_file():
                raise FileNotFoundError(f"file must be a task of the prize, got {path}, which is not there")
            checksum = sha256(path)
        else:
            forms = [[File(f"inverse_scaling/{name}.{end}")] for end in ("jsonl", "jsonl.gz", "csv")]
            found = find(f"{name} of the Inverse Scaling Prize", forms)[1]
            path, checksum = found.paths[0], found.checksum
        items, notes = read_items(path, self.corrupt)
        return items, checksum, notes


def questions_of(task: str, items: Sequence[Item], shots: int = 0, seed: int = 0) -> list[Question]:
    """Return items as questions whose target is the letter of the right class, after a demonstration if there is to be one."""
    lead, left_out = "", -1
    if shots:
        if len(items) < 2:
            raise ValueError(f"items must be at least 2 for a demonstration, got {len(items)} of {task}")
        left_out = int.from_bytes(hashlib.sha256(f"{task} {seed}".encode()).digest()[:4], "big") % len(items)
        shown = items[left_out]
        lead = f"{shown.prompt}{shown.classes[shown.answer_index]}\n\n"
    return [
        Question(
            lead + item.prompt, letter_of(item.answer_index), item.classes, f"{task}/{item.id or k}",
            about={
                "task": task, "group": f"{task}/{item.group or item.id or k}", "form": item.form,
                "other_prompt": lead + item.other_prompt if item.other_prompt else "",
            },
        )
        for k, item in enumerate(items)
        if k != left_out
    ]  # fmt: skip


# ---- files ----


def read_items(path: Path, corrupt: Corrupt = "raise") -> tuple[list[Item], list[str]]:
    """Return the records of a file of the prize, .jsonl, .jsonl.gz or .csv, and what is doubtful about them.

    Raises: ValueError if the file, its columns or a record cannot be read, naming the file and the row counted from 0.
    """
    records = Records(corrupt)
    items: list[Item] = []
    seen: dict[str, int] = {}
    for row, record in _records(path, records):
        item = _item(path, row, record, records)
        if item is None:
            continue
        if item.id and item.id in seen:
            records.refuse(path, row, "id must be new", f"{item.id!r}, which row {seen[item.id]} has too")
            continue
        seen[item.id] = row
        items.append(item if item.id else dataclasses.replace(item, id=str(row)))
    if not items:
        raise ValueError(f"{path.name} must have at least one record, got none at {path}. Try getting it anew")
    notes = [f"{len(records.bad)} records were left out"] if records.bad else []
    again = len(items) - len({(item.prompt, item.classes) for item in items})
    bare = sum(any(not each[0].isspace() for each in item.classes) for item in items)
    notes += [f"{again} records repeat another"] if again else []
    notes += [f"{bare} records have a class without a leading space"] if bare else []
    return items, notes


def _records(path: Path, records: Records) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if path.name.removesuffix(".gz").endswith(".csv"):
        return csv_rows(path, records, ())
    return json_rows(path, records)


def _item(path: Path, row: int, record: Mapping[str, Any], records: Records) -> Item | None:
    form = next((form for form, columns in _COLUMNS.items() if all(c in record for c in columns)), None)
    if form is None:
        if "anchor" in record:
            raise ValueError(f"records must not be of the numeric form, which the prize gave up, at {path}, row {row}")
        wanted = "prompt, classes and answer_index (or prompt and completion)"
        if row == 0:  # the columns have other names: no record can be read
            raise ValueError(f"records must have {wanted}, got {', '.join(map(str, record))} at {path}, row {row}")
        records.refuse(path, row, f"record must have {wanted}", sorted(map(str, record)))
        return None
    prompt, other, name = record["prompt"], record.get("other_prompt", ""), str(record.get("id") or "")
    if not isinstance(prompt, str) or not prompt.strip() or not isinstance(other, str):
        records.refuse(path, row, "prompt must be a text", repr(prompt)[:60])
        return None
    if form == "sequence_prob":
        completion = record["completion"]
        if not isinstance(completion, str) or not completion:
            records.refuse(path, row, "completion must be a text", repr(completion)[:60])
            return None
        return Item(prompt, (completion,), 0, form, id=name)
    classes = classes_of(record["classes"])
    if classes is None:
        records.refuse(path, row, "classes must be a list of 2 to 26 different texts", repr(record["classes"])[:80])
        return None
    index = _index(record["answer_index"])
    if index is None or not 0 <= index < len(classes):
        records.refuse(path, row, f"answer_index must be 0 to {len(classes) - 1}", repr(record["answer_index"]))
        return None
    return Item(prompt, classes, index, form if other else "classification", other, id=name)


def classes_of(held: Any) -> tuple[str, ...] | None:
    """Return the classes of a record, which are a list, or the text of one in JSON or Python; None if they are not."""
    if isinstance(held, str):
        try:
            held = ast.literal_eval(held)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return None
    if not isinstance(held, list | tuple) or not all(isinstance(each, str) and each for each in held):
        return None
    return tuple(held) if 2 <= len(held) <= 26 and len(set(held)) == len(held) else None


def _index(held: Any) -> int | None:
    if isinstance(held, bool):
        return None
    try:
        number = float(held)
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() else None


# ---- asking ----


class ClassLikelihoods(Symbolic):
    """Score the classes of a question after its prompt as it is, and after its other prompt if it has one.

    The answer is the letter of the likeliest class; that of a single class says nothing.
    """

    fallback: Attempting | None = field(default=None, doc="asks models that give no likelihoods: another measure")

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        """Return the likeliest class."""
        return await one_attempt(self, question, model)

    async def attempts(
        self, question: Question, model: LanguageModel, n: int, first: int = 0
    ) -> tuple[list[Sample], list[Step]]:
        """Return the one choice `n` times, or attempts of the fallback."""
        if len(question.choices) == 1 and model.gives_likelihoods:
            replies = await model.score(question.text, question.choices)
            outcome = replies[0].outcome
            sample = Sample("A" if outcome == "answered" else None, outcome, question.choices[0])
            return [sample] * n, [Step(LIKELIHOODS, question.text, tuple(replies))]
        plain = Likeliest(layout="{question}", delimiter="", fallback=self.fallback)
        samples, steps = await plain.attempts(question, model, n, first)
        other = question.about.get("other_prompt", "")
        if other and model.gives_likelihoods:
            samples, more = await plain.attempts(dataclasses.replace(question, text=other), model, n, first)
            steps += [dataclasses.replace(step, name=OTHER_PROMPT) for step in more]
        return samples, steps


class NamingClass(Symbolic):
    """Say what the classes are, and let a strategy that generates name one."""

    of: Attempting = field(default=Direct(), doc="asks")
    telling: str = field(default="Choose one of these: {classes}.", doc="follows the question")

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        """Return the class of one attempt."""
        return await one_attempt(self, question, model)

    async def attempts(
        self, question: Question, model: LanguageModel, n: int, first: int = 0
    ) -> tuple[list[Sample], list[Step]]:
        """Return attempts of the other strategy."""
        shown = " or ".join(f'"{each.strip()}"' for each in question.choices)
        told = dataclasses.replace(
            question, text=f"{question.text}\n\n{self.telling.replace('{classes}', shown)}", choices=(),
            about={**question.about, "classes": question.choices},
        )  # fmt: skip
        return await self.of.attempts(told, model, n, first)


class NamedClass(Symbolic):
    """The letter of the class that a text names after the last cue, or in all of it.

    The text is a class, begins with one, or has exactly one in it as words of its own; letter case, quotes and a last full stop
    do not count. Else a letter in brackets is that of the class.
    """

    cue: str = field(default=CUE, doc="what the class comes after")

    def __call__(self, text: str, question: Question) -> str | None:
        classes = question.about.get("classes") or question.choices
        rest = after_cue(text, self.cue)
        said = _bare(without_markup(text) if rest is None else rest.partition("\n")[0])
        if rest is None and is_refusal(text):
            return None
        found = class_named(said, [_bare(each) for each in classes])
        if found is None and (match := re.match(r"\(([a-z])\)", said)):
            found = ord(match[1]) - ord("a")
        return letter_of(found) if found is not None and found < len(classes) else None


def class_named(said: str, classes: Sequence[str]) -> int | None:
    """Return which class a text names; both without case and quotes."""
    if said in classes:
        return classes.index(said)
    begins = [k for k, each in enumerate(classes) if each and re.match(re.escape(each) + r"(?!\w)", said)]
    if begins:
        return max(begins, key=lambda k: len(classes[k]))
    within = [k for k, each in enumerate(classes) if each and re.search(rf"(?<!\w){re.escape(each)}(?!\w)", said)]
    return within[0] if len(within) == 1 else None


def _bare(text: str) -> str:
    return text.strip().casefold().strip("\"'“”‘’ ").removesuffix(".").strip("\"'“”‘’ ")


# ---- scores ----


def score_of(question: Question, answer: Answer) -> Score:
    """Return what an answer is worth, see `InverseScaling`."""
    right = ord(str(question.target)) - ord("A")
    first, other = _found(answer, LIKELIHOODS), _found(answer, OTHER_PROMPT)
    correct = float(answer.answer == question.target)
    if not any(step.name == LIKELIHOODS for step in answer.trace):
        if len(question.choices) == 1:
            return Score(None, reason="a completion needs likelihoods")
        reason = "a class that was written, not likelihoods"
        return Score(correct, {"generated": 1.0}, {"class": answer.answer}, reason=reason)
    if not first:
        return Score(0.0 if len(question.choices) > 1 else None, reason=f"no likelihoods: {answer.outcome}")
    if len(question.choices) == 1:
        loss = -first[0].sum_logprob
        return Score(None, {"loss": loss}, {"tokens": first[0].tokens}, reason="a loss only")
    lengths = [len(each) for each in question.choices]
    decisive = other or first
    metrics = {
        "acc_norm": float(best_of(decisive, lengths, "character") == right),
        "loss": class_loss([each.sum_logprob for each in decisive], right),
    }
    if other:
        metrics["logodds_difference"] = logodds(first, right) - logodds(other, right)
    return Score(correct, metrics, {"logprobs": [each.sum_logprob for each in decisive]})


def class_loss(logprobs: Sequence[float], right: int) -> float:
    """Return the negative log-probability in nats of the right class, where the classes have all the probability."""
    top = max(logprobs)
    return top + math.log(math.fsum(math.exp(each - top) for each in logprobs)) - logprobs[right]


def logodds(found: Sequence[Likelihood], right: int) -> float:
    """Return the log of the odds of the right class against the others, in nats."""
    rest = [each.sum_logprob for k, each in enumerate(found) if k != right]
    top = max(rest)
    return found[right].sum_logprob - top - math.log(math.fsum(math.exp(each - top) for each in rest))


def _found(answer: Answer, name: str) -> list[Likelihood]:
    for step in answer.trace:
        if step.name == name and all(reply.outcome == "answered" for reply in step.replies):
            return [likelihood(reply) for reply in step.replies]
    return []
