"""Choose the option that the model finds likeliest, without generating anything."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Literal

from heuretic.lm.answer import Answer, Sample, Step
from heuretic.lm.likelihood import Likelihood, likelihood
from heuretic.lm.model import LanguageModel
from heuretic.lm.questions import Question
from heuretic.lm.replies import Reply
from heuretic.lm.strategies.prompting import Attempting, Exemplar, one_attempt
from heuretic.symbolic import Symbolic, field

LIKELIHOODS = "likelihoods"
"""The name of the exchange in an answer's trace."""
GENERATED = "generated, not likelihoods: "
"""Begins the names of exchanges of a fallback, whose accuracy is another measure."""
_LETTERED = re.compile(r"^\s*\(([A-Z])\)[ \t]*(\S.*?)\s*$", re.MULTILINE)
_LISTED = re.compile(r"^[ \t]*-[ \t]+(\S.*?)\s*$", re.MULTILINE)
Per = Literal["sum", "character", "token"]


class Likeliest(Symbolic):
    """Choose the option with the highest log-likelihood after the prompt. Needs a model that gives them, such as local weights.

    Brown et al. 2020, arXiv:2005.14165, section 2.4. `per="sum"` is acc of EleutherAI's lm-evaluation-harness and the
    measure of the Inverse Scaling Prize; `per="character"` is its acc_norm, where the delimiter does not count as length.
    The prompt is text without a chat template. All options of a question are computed together, and share the prompt.
    There is nothing random: all attempts are equal. The answer is the option's letter, or the option where a question's text
    lists options without letters.

    Raises: ModelError where a model gives no likelihoods and there is no `fallback`; ValueError for a question without
        options, or with images.
    """

    preface: str = field(default="", doc="comes before everything")
    exemplars: tuple[Exemplar, ...] = field(default=(), doc="shown before the question, with what is scored as answer")
    layout: str = field(default="{question}\nAnswer:", doc="of a question; {options} are its options as lines")
    delimiter: str = field(default=" ", doc="stands between the prompt and an option")
    separator: str = field(default="\n\n", doc="stands between preface, exemplars and question")
    saying: Literal["option", "letter"] = field(default="option", doc="what of an option is scored")
    per: Per = field(default="sum", doc="compare sums, or sums per character or token")
    fallback: Attempting | None = field(default=None, doc="asks models that give no likelihoods: another measure")

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        """Return the likeliest option."""
        return await one_attempt(self, question, model)

    async def attempts(
        self, question: Question, model: LanguageModel, n: int, first: int = 0
    ) -> tuple[list[Sample], list[Step]]:
        """Return the one choice `n` times, or attempts of the fallback."""
        if self.fallback is not None and not model.gives_likelihoods:
            samples, steps = await self.fallback.attempts(question, model, n, first)
            return samples, [dataclasses.replace(step, name=GENERATED + step.name) for step in steps]
        if question.parts:
            raise ValueError(
                f"question must be text only for likelihoods, got parts in {question.id or question.text!r}"
            )
        names, texts = options_of(question)
        prompt = self.prompt(question)
        shown = [letter_of(k) for k in range(len(texts))] if self.saying == "letter" else texts
        replies = await model.score(prompt, [self.delimiter + text for text in shown])
        return [_chosen(replies, names, shown, self.per)] * n, [Step(LIKELIHOODS, prompt, tuple(replies))]

    def prompt(self, question: Question) -> str:
        """Return the text that options are scored after."""
        shown = [self._laid(Question(e.question)) + self.delimiter + e.answer for e in self.exemplars]
        return self.separator.join([*([self.preface] if self.preface else []), *shown, self._laid(question)])

    def _laid(self, question: Question) -> str:
        options = "\n".join(f"{letter_of(k)}. {option}" for k, option in enumerate(question.choices))
        return re.sub(
            r"\{(question|options)\}", lambda m: question.text if m[1] == "question" else options, self.layout
        )


def letter_of(number: int) -> str:
    """Return A for 0, B for 1 and so on."""
    return chr(65 + number)


def options_of(question: Question) -> tuple[list[str], list[str]]:
    """Return the names of a question's options and the options: its choices, else lines "(A) ..." or "- ..." of its text.

    The name is the letter, or for lines without letters the option itself.

    Raises: ValueError if there are fewer than 2, or more than letters.
    """
    if question.choices:
        names, options = [letter_of(k) for k in range(len(question.choices))], list(question.choices)
    else:
        tail = question.text[max(0, question.text.rfind("Options:")) :]
        lettered = _LETTERED.findall(tail)
        names, options = [name for name, _ in lettered], [option for _, option in lettered]
        if names != [letter_of(k) for k in range(len(names))] or not names:
            options = _LISTED.findall(tail)
            names = options
    if not 2 <= len(options) <= 26:
        raise ValueError(
            f"question must have 2 to 26 options for likelihoods, got {len(options)} in {question.id or question.text[:60]!r}"
        )
    return names, options


def best_of(found: Sequence[Likelihood], lengths: Sequence[int], per: Per) -> int:
    """Return which option is chosen, the first of equal ones. `lengths` are those of the options without delimiter."""
    values = {
        "sum": [each.sum_logprob for each in found],
        "character": [each.sum_logprob / max(1, length) for each, length in zip(found, lengths, strict=True)],
        "token": [each.per_token for each in found],
    }[per]
    return max(range(len(values)), key=lambda k: (values[k], -k))


def _chosen(replies: Sequence[Reply], names: Sequence[str], shown: Sequence[str], per: Per) -> Sample:
    unfit = next((reply for reply in replies if reply.outcome != "answered"), None)
    if unfit is not None:
        return Sample(None, unfit.outcome, "")
    found = [likelihood(reply) for reply in replies]
    best = best_of(found, [len(text) for text in shown], per)
    return Sample(names[best], "answered", shown[best], found[best].per_token)
