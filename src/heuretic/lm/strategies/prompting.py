"""What strategies share: exemplars, how prompts are laid out, and how a reply becomes an attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, Content, ContentText

from heuretic.lm.answer import Answer, Sample, Step
from heuretic.lm.model import LanguageModel
from heuretic.lm.parsing import CUE, Parse, Whole, after_cue, is_refusal
from heuretic.lm.questions import Question
from heuretic.lm.replies import Outcome, Reply
from heuretic.lm.sampling import Sampling
from heuretic.symbolic import Symbolic, field, find, replace

S = TypeVar("S")


class Exemplar(Symbolic):
    """A question with its answer, to be shown before the real one."""

    question: str = field(doc="what is asked")
    rationale: str = field(doc="the reasoning that leads to the answer, without it; may be empty")
    answer: str = field(doc="the final answer only")

    def answered(self, cue: str, reasoning: bool = True) -> str:
        """Return the answer after its cue, and, with `reasoning`, after its rationale."""
        return f"{self.rationale if reasoning else ''} {cue} {self.answer}.".strip()


class Attempting(Protocol):
    """A strategy that can make several independent attempts at a question; all strategies here can."""

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer: ...

    async def attempts(
        self, question: Question, model: LanguageModel, n: int, first: int = 0
    ) -> tuple[list[Sample], list[Step]]:
        """Return attempts number `first` to `first + n - 1`, and the exchanges they came from.

        An attempt depends on its number only, not on how many are made together.
        """
        ...


def asked(question: Question) -> str:
    """Return the text of a question, with its options as lines "(A) ..."."""
    return "\n".join([question.text, *(f"({chr(65 + k)}) {option}" for k, option in enumerate(question.choices))])


def laid_out(
    shown: Iterable[tuple[str, str]],
    text: str,
    opening: str = "",
    *,
    preface: str = "",
    turns: bool = False,
    parts: Sequence[Content] = (),
) -> list[ChatMessage]:
    """Return a prompt: a preface, pairs of question and answer, then the real question.

    Without pairs it is the question and, after an empty line, the `opening`. With pairs in one message these are "Q:" and
    "A:", and the opening begins the answer. With `turns` each pair is a message of the user and one of the model, and the
    preface one of the system.
    """
    pairs = list(shown)
    messages: list[ChatMessage] = [ChatMessageSystem(content=preface)] if preface and turns else []
    if pairs and not turns:
        body = "\n\n".join(f"Q: {question}\nA: {answer}" for question, answer in pairs)
        text = f"{body}\n\nQ: {text}\nA:{' ' + opening if opening else ''}"
    else:
        for question, answer in pairs:
            messages += [ChatMessageUser(content=question), ChatMessageAssistant(content=answer)]
        text = f"{text}\n\n{opening}" if opening else text
    if preface and not turns:
        text = f"{preface}\n\n{text}"
    messages.append(ChatMessageUser(content=[*parts, ContentText(text=text)] if parts else text))
    return messages


def written(messages: Sequence[ChatMessage]) -> str:
    """Return a prompt as one text, for reading."""
    if len(messages) == 1:
        return messages[0].text
    return "\n\n".join(f"[{message.role}] {message.text}" for message in messages)


def stopping(sampling: Sampling, pairs: bool, turns: bool) -> Sampling:
    """Return `sampling`, which stops before a next question where the prompt shows a list of questions and names no stop."""
    return replace(sampling, {"stop": ("\n\nQ:", "\nQ:")}) if pairs and not turns and not sampling.stop else sampling


def cue_of(parse: Parse) -> str:
    """Return what a parser expects answers after, which is what exemplars put there."""
    return getattr(parse, "cue", CUE)


async def exchange(
    name: str, messages: Sequence[ChatMessage], model: LanguageModel, n: int, first: int, sampling: Sampling
) -> Step:
    """Ask for samples `first` to `first + n - 1` and return the exchange."""
    return Step(name, written(messages), tuple(await model.sample(messages, n, sampling, first=first)))


def attempt(reply: Reply, parse: Parse, question: Question) -> Sample:
    """Return what a reply says: its answer, or why there is none.

    Only text outside reasoning is looked at. A text that was cut off counts if the line with the answer after its cue was
    finished.
    """
    outcome: Outcome = reply.outcome
    answer = None
    if outcome == "answered":
        answer = parse(reply.text, question)
        if answer is None:
            outcome = "refused" if is_refusal(reply.text) else "unparsed"
    elif outcome == "truncated":
        whole = reply.text.rpartition("\n")[0]  # the lines that were finished
        announced = after_cue(whole, getattr(parse, "cue", "")) is not None
        answer = parse(whole, question) if announced else None
        outcome = "truncated" if answer is None else "answered"
    tokens = reply.usage.output_tokens
    per_token = reply.logprob / tokens if reply.logprob is not None and tokens else None
    return Sample(answer, outcome, reply.text, per_token)


async def one_attempt(strategy: Attempting, question: Question | str, model: LanguageModel) -> Answer:
    """Return the answer of a strategy's first attempt."""
    if isinstance(question, str):
        question = Question(question)
    [sample], trace = await strategy.attempts(question, model, 1)
    return Answer(sample.answer, sample.outcome, float(sample.answer is not None), (sample,), tuple(trace))


async def independent(runs: Iterable[Awaitable[Answer]]) -> tuple[list[Sample], list[Step]]:
    """Return the elected answers of independent runs as attempts, and all their exchanges."""
    answers = await asyncio.gather(*runs)
    return [winner(answer) for answer in answers], [step for answer in answers for step in answer.trace]


@lru_cache(maxsize=256)
def drawing(strategy: S, temperature: float, top_k: int | None, top_p: float | None) -> S:
    """Return a strategy all of whose samples are drawn so; lengths, stops and seeds stay."""
    drawn = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    changes: dict[Any, Any] = {
        (*path, name): value for path, _ in find(strategy, Sampling) for name, value in drawn.items()
    }
    return replace(strategy, changes)


def winner(answer: Answer) -> Sample:
    """Return an elected answer as an attempt: its text is that of the first attempt that says so."""
    for sample in answer.samples:
        if sample.answer is not None and sample.answer == answer.answer:
            return sample
    return Sample(None, answer.outcome, "")


def parser_of(strategy: object) -> Parse:
    """Return what a strategy, or the one it wraps, finds final answers with; the whole text if it has no `parse`."""
    for name in ("parse", "solve", "of"):
        inner = getattr(strategy, name, None)
        if inner is not None:
            return inner if name == "parse" else parser_of(inner)
    return Whole()
