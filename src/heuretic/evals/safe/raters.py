"""Raters of facts to compare: models that are asked, SAFE itself, and what anybody could say without looking.

Each is an async callable `(fact, topic, context)`, as `heuretic.evals.safe.agreement` asks for.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from heuretic.evals.safe.agreement import Judgement
from heuretic.evals.safe.consistency import declines
from heuretic.evals.safe.human_labels import Context
from heuretic.evals.safe.prompts import paid, used
from heuretic.evals.safe.rating import Label
from heuretic.evals.safe.safe import SAFE
from heuretic.lm import LanguageModel, Sampling, Usage
from heuretic.lm.likelihood import likelihood
from heuretic.lm.strategies.prompting import exchange, laid_out
from heuretic.symbolic import Symbolic, field

TRUE_OR_FALSE = "[EVIDENCE]Statement about [TOPIC]: [FACT]\nIs the statement true or false?"
"""FActScore's "No-context LM" and "Retrieve-then-LM" (Min et al. 2023, section 4.1) ask in these words: "True or False?"."""
_SLOT = re.compile(r"\[(EVIDENCE|TOPIC|FACT)\]")
_SAID = re.compile(
    r"\b(?:true|false|untrue|yes|no|not supported|unsupported|supported|incorrect|correct)\b", re.IGNORECASE
)
_CHOICE = re.compile(r"\b(?:true\W+or\W+false|true/false|false\W+or\W+true)\b", re.IGNORECASE)
"""The choice as models repeat it."""
_NEGATED = re.compile(r"(?:\b(?:not|never|neither)|n['’]t|\bcannot)\W+(?:\w+\W+){0,2}\Z", re.IGNORECASE)
_UNSURE = re.compile(
    r"\b(?:whether|if|(?:cannot|can['’]t|could not|couldn['’]t|unable to) (?:confirm|verify|determine|tell|say|judge|know|find|be sure)|"
    r"not (?:able|possible|clear|sure|certain|enough))\b",
    re.IGNORECASE,
)


class FactPrompt(Symbolic):
    """How a model is asked about one fact, with what others wrote as evidence or without."""

    template: str = field(default=TRUE_OR_FALSE, doc="[EVIDENCE], [TOPIC] and [FACT] are replaced")
    evidence: bool = field(default=True, doc="show what others wrote about the topic")
    characters: int = field(default=1500, ge=1, doc="of each text that is shown")

    def __call__(self, fact: str, topic: str, context: Context) -> str:
        """Return the prompt."""
        texts = [text[: self.characters].strip() for text in context.others.values() if not declines(text)]
        shown = "\n\n".join(texts) + "\n\n" if self.evidence and texts else ""
        values = {"EVIDENCE": shown, "TOPIC": topic, "FACT": fact}
        return _SLOT.sub(lambda slot: values[slot[1]], self.template)


WITH_EVIDENCE, WITHOUT_EVIDENCE = FactPrompt(), FactPrompt(evidence=False)
_ROOM = Sampling(max_tokens=1024)
"""A word is asked for; the rest is for models that think first."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A model that is asked whether a fact is true, and whose words are read."""

    model: LanguageModel
    prompt: FactPrompt = WITH_EVIDENCE
    sampling: Sampling = _ROOM

    async def __call__(self, fact: str, topic: str, context: Context) -> Judgement:
        """Return the label, None if the reply has none."""
        messages = laid_out([], self.prompt(fact, topic, context), "Reply with True or False only.")
        step = await exchange("fact", messages, self.model, 1, 0, self.sampling)
        return Judgement(read_truth(step.replies[0].text), used((step,)), paid((step,)))


def read_truth(text: str) -> Label | None:
    """Return what a reply says about a fact: its first word of truth, None if it has none.

    "not true" and "isn't entirely true" say the contrary; the choice itself, and what a sentence leaves open ("whether it is true"), say nothing.
    """
    text = _CHOICE.sub("", text)
    for found in _SAID.finditer(text):
        before = re.split(r"[.!?\n]", text[: found.start()])[-1]
        if not _UNSURE.search(before):
            true = found[0].casefold() in ("true", "yes", "supported", "correct")
            return "supported" if true is not bool(_NEGATED.search(before)) else "not supported"
    return None


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A local model, by how much likelier True is to it than False after the prompt.

    Attributes:
        model: One of `heuretic/...`, which can say how likely a text is.
    """

    model: LanguageModel
    prompt: FactPrompt = WITH_EVIDENCE
    continuations: tuple[str, str] = (" True", " False")

    async def __call__(self, fact: str, topic: str, context: Context) -> Judgement:
        """Return the probability of True among the two. Raises: ModelError if the model cannot say."""
        text = f"{self.prompt(fact, topic, context)}\nAnswer:"
        replies = await self.model.score(text, self.continuations)
        yes, no = (likelihood(reply).sum_logprob for reply in replies)
        return Judgement(1 / (1 + math.exp(no - yes)), sum((reply.usage for reply in replies), Usage()))


@dataclass(frozen=True, slots=True)
class BySAFE:
    """SAFE, asked about a fact that is split off already."""

    safe: SAFE
    model: LanguageModel

    async def __call__(self, fact: str, topic: str, context: Context) -> Judgement:
        """Return SAFE's label."""
        question = context.question.removeprefix("Question: ")
        [rating] = await self.safe.judge([(fact, context.sentence)], question, context.response, self.model)
        return Judgement(rating.label, used(rating.steps), paid(rating.steps))


async def always_supported(fact: str, topic: str, context: Context) -> Label:
    """Return "supported"."""
    return "supported"


async def by_length(fact: str, topic: str, context: Context) -> float:
    """Return a score that is the higher, the shorter the fact: short facts say less that can be wrong."""
    return 1 / (1 + len(fact.split()))


def at_base_rate(rate: float, seed: int = 0) -> Callable[..., Any]:
    """Return a rater that calls a random share `rate` of facts supported; the same fact always gets the same label."""

    async def rater(fact: str, topic: str, context: Context) -> Label:
        text = "\n".join([str(seed), topic, context.writer, context.sentence, fact])
        drawn = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
        return "supported" if drawn < rate else "not supported"

    return rater


def base_rate(labels: Sequence[Label]) -> float:
    """Return the share of supported facts among those supported or not. Raises: ValueError if there are none."""
    known = [label for label in labels if label in ("supported", "not supported")]
    if not known:
        raise ValueError("labels must have supported or not supported facts, got none")
    return known.count("supported") / len(known)
