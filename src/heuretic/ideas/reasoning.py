"""Checks of claims about getting answers out of a language model: arms that answer the same questions, judged by one rule.

Each seed of a check has questions of its own, the same in every arm, and is the seed of every sample drawn for them. So the
questions of all seeds are answered once by each arm, a value for each seed comes from different questions and draws, and
differences between arms are paired by question. Where a set of questions is chosen by how it is answered, `blocks` leaves out
those that it was chosen with.

The model is the one that `$HEURETIC_LM` names (`openai/...`, `google/...`, `heuretic/FILE.gguf`, ...), by default the local one
of 135 million parameters. Its replies are kept in the cache, so a check that is run again asks for nothing.

Where the local model is above chance was looked for beforehand, greedily, with 20 to 40 questions each: MultiArith (also its
smallest numbers), GSM8K (also one step only), last letters of one, two and four words, SCAN (also its shortest commands), 19 tasks of
BIG-Bench Hard with answers only, and two subjects of MMLU. It was nowhere: the best were movie_recommendation with 8 of 20 right and
last letters of one word with 8 of 30, where always giving the commonest answer has 7. So no set was chosen by its accuracy, and the
small checks can show little with this model; they are there to be run with a stronger one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from heuretic.ideas.idea import Scale
from heuretic.ideas.result import Arm, Comparison, Estimate, Reproduction, Verdict, compare
from heuretic.lm import Answer, LanguageModel, Question, Sample, Sampling, Strategy, Usage, answer_all, model
from heuretic.symbolic import find, replace

LOCAL = "heuretic/smollm2-135m"
METRIC = "accuracy"
RULE = (
    "d is the difference in accuracy, {treatment} minus {control}, paired by question, with its 95% interval by bootstrap over the "
    "questions. Not testable at this scale if neither arm's accuracy lies wholly above that of always giving the commonest right "
    "answer; else reproduced if d lies wholly above 0, not reproduced if it lies wholly below {margin}; "
    "else not testable at this scale. Smoke runs are too short."
)
MARGIN = 0.02
"""A gain that is surely smaller than this counts as none."""

Judge = Callable[[Question, Answer], bool]
T = TypeVar("T")


def chosen_model(name: str | None = None, **arguments: Any) -> LanguageModel:
    """Return the model called `name`, else the one that `$HEURETIC_LM` names, else the local one."""
    return model(name or os.environ.get("HEURETIC_LM", "") or LOCAL, **arguments)


def checksum_of(asked: LanguageModel) -> dict[str, str]:
    """Return the model's name and the sha256 of its weights, or of its name where the weights are hidden."""
    digest = getattr(asked.inspect.api, "digest", None) or asked.name
    text = str(digest)
    hexadecimal = len(text) == 64 and not set(text) - set("0123456789abcdef")
    return {asked.name: text if hexadecimal else hashlib.sha256(text.encode()).hexdigest()}


def blocks(
    questions: Sequence[T], seeds: Sequence[int], each: int, *, chosen_with: int = 0
) -> dict[int, tuple[T, ...]]:
    """Return `each` questions for every seed, all different, drawn in an order that does not depend on the seeds.

    Args:
        chosen_with: So many questions at the beginning of that order were used for choosing, and are left out.
    Raises: ValueError if there are too few questions.
    """
    order = random.Random(0).sample(range(len(questions)), len(questions))[chosen_with:]
    if len(order) < each * len(seeds):
        raise ValueError(f"questions must be at least {each} for each of {len(seeds)} seeds, got {len(order)}")
    return {seed: tuple(questions[i] for i in order[k * each :][:each]) for k, seed in enumerate(seeds)}


def selection_part(questions: Sequence[T], count: int) -> tuple[T, ...]:
    """Return the questions that `blocks(..., chosen_with=count)` leaves out."""
    return tuple(questions[i] for i in random.Random(0).sample(range(len(questions)), len(questions))[:count])


def checked_seeds(seeds: Sequence[int] | None, default: Sequence[int]) -> tuple[int, ...]:
    """Return the seeds of a check. Raises: ValueError for fewer than 2, equal or negative ones."""
    chosen = tuple(default if seeds is None else seeds)
    if len(chosen) < 2 or len(set(chosen)) < len(chosen) or min(chosen) < 0:
        raise ValueError(f"seeds must be at least 2, different and >= 0, got {chosen}")
    return chosen


def seeded(strategy: T, seed: int) -> T:
    """Return a strategy whose every `Sampling` has this seed."""
    return replace(strategy, {(*path, "seed"): seed for path, _ in find(strategy, Sampling)})


def right(question: Question, answer: Answer) -> bool:
    """Return whether the answer is a target; letter case, a last full stop and brackets around a letter aside."""
    targets = question.target if isinstance(question.target, tuple) else (question.target,)
    return answer.answer is not None and _plain(answer.answer) in {_plain(t) for t in targets if t is not None}


def _plain(text: str) -> str:
    plain = " ".join(text.casefold().split()).removesuffix(".")
    return plain[1] if re.fullmatch(r"\([a-z]\)", plain) else plain


@dataclass(frozen=True, slots=True)
class Answered:
    """What one arm made of all questions, by seed and in their order."""

    strategy: Any
    answers: Mapping[int, tuple[Answer, ...]]
    correct: Mapping[int, tuple[float, ...]]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def flat(self) -> np.ndarray:
        """1 for each right answer and 0 for each other, shape (questions,)."""
        return np.concatenate([np.asarray(values, float) for values in self.correct.values()])

    def arm(self) -> Arm:
        """Return the arm: accuracy and tokens for each seed, and in its settings what became of the questions."""
        outcomes = Counter(answer.outcome for given in self.answers.values() for answer in given)
        shown = bootstrap(self.flat)
        settings = {
            "strategy": repr(self.strategy),
            "questions": len(self.flat),
            "accuracy_bootstrap_95": [shown.low, shown.high],
            "outcomes": dict(sorted(outcomes.items())),
            **self.settings,
        }
        per_seed = {
            METRIC: tuple(_mean(values) for values in self.correct.values()),
            "input_tokens_per_question": tuple(
                _mean([a.usage.input_tokens for a in given]) for given in self.answers.values()
            ),
            "output_tokens_per_question": tuple(
                _mean([a.usage.output_tokens for a in given]) for given in self.answers.values()
            ),
        }
        return Arm(settings, per_seed)


def ask(
    strategies: Mapping[str, Strategy], asked: Mapping[int, Sequence[Question]], model: LanguageModel, *,
    judge: Judge = right, concurrency: int = 64, said: Callable[[str], None] = lambda line: None,
) -> dict[str, Answered]:  # fmt: skip
    """Let each strategy answer the questions of every seed, with that seed."""
    found = {}
    for name, strategy in strategies.items():
        answers, correct = {}, {}
        for seed, questions in asked.items():
            answers[seed] = tuple(answer_all(seeded(strategy, seed), questions, model, concurrency=concurrency))
            correct[seed] = tuple(float(judge(q, a)) for q, a in zip(questions, answers[seed], strict=True))
            said(f"{name}, seed {seed}: accuracy {_mean(correct[seed]):.3f} on {len(questions)} questions")
        found[name] = Answered(strategy, answers, correct)
    return found


def attempts(
    strategy: Any, questions: Sequence[Question], model: LanguageModel, n: int, *, concurrency: int = 16
) -> list[tuple[tuple[Sample, ...], Usage]]:
    """Return `n` independent attempts of a strategy at each question, and what they took."""

    async def run() -> list[tuple[tuple[Sample, ...], Usage]]:
        free = asyncio.Semaphore(concurrency)

        async def one(question: Question) -> tuple[tuple[Sample, ...], Usage]:
            async with free:
                samples, steps = await strategy.attempts(question, model, n)
            return tuple(samples), sum((reply.usage for step in steps for reply in step.replies), Usage())

        return await asyncio.gather(*map(one, questions))

    return asyncio.run(run())


def commonest_share(questions: Sequence[Question]) -> float:
    """Return the accuracy of always giving the answer that is right most often."""
    targets = Counter(str(question.target) for question in questions)
    return max(targets.values()) / sum(targets.values())


def bootstrap(values: Sequence[float] | np.ndarray, *, draws: int = 10_000, seed: int = 0) -> Estimate:
    """Return the mean of values, one for each question, with the 95% percentile interval of resampled questions."""
    held = np.asarray(values, float)
    if held.size == 0:
        raise ValueError("values must be at least one, got none")
    means = held[np.random.default_rng(seed).integers(0, len(held), (draws, len(held)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(float(held.mean()), float(low), float(high))


def judged(scale: Scale, treatment: Answered, control: Answered, floor: float, *, margin: float = MARGIN) -> Verdict:
    """Return the verdict by `RULE`; `floor` is `commonest_share`."""
    lows = [bootstrap(arm.flat).low or 0.0 for arm in (treatment, control)]
    if scale == "smoke" or max(lows) <= floor:
        return "not testable at this scale"
    d = bootstrap(treatment.flat - control.flat)
    assert d.low is not None
    assert d.high is not None
    if d.low > 0:
        return "reproduced"
    return "not reproduced" if d.high < margin else "not testable at this scale"


def compared(
    found: Mapping[str, Answered], pairs: Sequence[tuple[str, str]]
) -> tuple[dict[str, Arm], tuple[Comparison, ...]]:
    """Return the arms, and the paired differences (treatment, control); their bootstrap intervals are in the treatment's settings."""
    arms = {name: answered.arm() for name, answered in found.items()}
    comparisons = []
    for treatment, control in pairs:
        d = bootstrap(found[treatment].flat - found[control].flat)
        held = dict(arms[treatment].settings)
        held["difference_bootstrap_95"] = {**held.get("difference_bootstrap_95", {}), control: [d.mean, d.low, d.high]}
        arms[treatment] = Arm(held, arms[treatment].measurements)
        comparisons.append(compare(arms, METRIC, treatment, control))
    return arms, tuple(comparisons)


def reason_of(found: Mapping[str, Answered], treatment: str, control: str, floor: float) -> str:
    """Return the sentence that says what was compared and what came of it."""
    ours, theirs = found[treatment], found[control]
    d = bootstrap(ours.flat - theirs.flat)
    return (
        f"Accuracy {bootstrap(ours.flat)} with {treatment} against {bootstrap(theirs.flat)} with {control}, difference {d}, on "
        f"{len(ours.flat)} questions; always giving the commonest right answer has {floor:.3f}."
    )


@dataclass(frozen=True, slots=True)
class Slice:
    """Questions of one kind, and the strategies that answer them, by the name of their arm.

    Attributes:
        chosen_with: So many of the questions were used for choosing the slice, see `blocks`.
    """

    name: str
    questions: Sequence[Question]
    checksum: str
    strategies: Mapping[str, Strategy]
    chosen_with: int = 0
    judge: Judge = right


def check(
    slug: str, claim: str, treatment: str, control: str, slices: Sequence[Slice], each: int, lm: LanguageModel, *, scale: Scale,
    seeds: tuple[int, ...], pairs: Sequence[tuple[str, str]] = (), concurrency: int = 64,
    progress: Callable[[str], None] | None = None,
) -> Reproduction:  # fmt: skip
    """Let all arms answer `each` questions of every slice with every seed, and judge treatment against control by `RULE`.

    Args:
        pairs: Further arms to compare, (treatment, control).
    """
    began, said = time.perf_counter(), progress or (lambda line: None)
    everything: dict[str, list[Answered]] = {}
    arms: dict[str, Arm] = {}
    same = 0.0
    for part in slices:
        asked = blocks(part.questions, seeds, each, chosen_with=part.chosen_with)
        same += commonest_share(part.questions) / len(slices)

        def told(line: str, name: str = part.name) -> None:
            said(f"{name}: {line}")

        found = ask(part.strategies, asked, lm, judge=part.judge, concurrency=concurrency, said=told)
        for name, answered in found.items():
            everything.setdefault(name, []).append(answered)
            if len(slices) > 1:
                arms[f"{name}, {part.name}"] = answered.arm()
    pooled = {name: _pooled(answered) for name, answered in everything.items()}
    together, comparisons = compared(pooled, ((treatment, control), *pairs))
    return Reproduction(
        idea=slug, claim=claim, scale=scale, seeds=seeds,
        data={part.name: part.checksum for part in slices} | checksum_of(lm), arms=together | arms, comparisons=comparisons,
        rule=RULE.format(treatment=treatment, control=control, margin=MARGIN),
        verdict=judged(scale, pooled[treatment], pooled[control], same),
        reason=reason_of(pooled, treatment, control, same), seconds=time.perf_counter() - began,
    )  # fmt: skip


def _pooled(parts: Sequence[Answered]) -> Answered:
    """Return the answers to all slices as those of one."""
    if len(parts) == 1:
        return parts[0]
    seeds = parts[0].answers
    answers = {seed: tuple(a for part in parts for a in part.answers[seed]) for seed in seeds}
    correct = {seed: tuple(c for part in parts for c in part.correct[seed]) for seed in seeds}
    return Answered("one for each slice", answers, correct)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(np.asarray(values, float)))
