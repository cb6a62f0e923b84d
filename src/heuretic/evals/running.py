"""Running an evaluation: questions in, answers scored as they come, numbers with intervals out."""

from __future__ import annotations

import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from heuretic.evals.addresses import EVALUATIONS
from heuretic.evals.evaluation import Evaluation, Questions, Score
from heuretic.evals.results import Estimate, Results
from heuretic.lm import Answer, BudgetSpent, LanguageModel, ModelError, Question, Usage
from heuretic.lm import model as model_named
from heuretic.lm.answering import as_done
from heuretic.lm.retrieval.evidence import Search
from heuretic.lm.strategies import Attempting, FreshPrompt
from heuretic.lm.strategies.addresses import STRATEGIES
from heuretic.lm.waiting import wait
from heuretic.symbolic import Symbolic, find

if TYPE_CHECKING:
    from heuretic.study import Energy

_FEWEST = 10
"""Questions of a category from which its commonest target can be told."""
MISSING = "-"
"""Stands for a category that a question does not name."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What all exchanges with one model took.

    Attributes: usage: Tokens and calls. cost: US dollars, None if the price of a call is not known. cached: Replies from disk.
    """

    usage: Usage
    cost: float | None
    replies: int
    cached: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What an evaluation of one model found.

    Attributes:
        evaluation: As it was run. model, judge: Their names; no judge where none was asked. strategy: How it was asked.
        summary: Numbers over all scores, the headline first; judge-free ones have names of their own.
        groups: The headline's score by category: for each key, for each category.
        outcomes: What became of the questions; those without a score are counted in `unscored`, by reason.
        bounds: The mean score if all answers without one were wrong, and if all were right.
        chance: Expected score of a random choice, None if there is nothing to choose from. constant: Score of a constant
            answer in each category: the target that is commonest there among all questions.
        spent, judge_spent: Tokens, calls and money. energy: kWh and CO2e as `hr.Energy` measures them; empty if it did not.
        seconds: Wall-clock. checksums, notes: Of the questions; notes also say why the
            first of each kind has no score. questions: How many were answered. total: Of how many that there are, None if nobody knows.
        stopped: Why it ended early; empty if it did not. log: The file of inspect-ai, None if none was written.
    """

    evaluation: Evaluation
    model: str
    judge: str | None
    strategy: Any
    results: Results
    summary: Mapping[str, Estimate]
    groups: Mapping[str, Mapping[str, Estimate]]
    outcomes: Mapping[str, int]
    unscored: Mapping[str, int]
    bounds: tuple[float, float]
    chance: float | None
    constant: float | None
    spent: Spent
    judge_spent: Spent
    energy: Mapping[str, float]
    seconds: float
    checksums: Mapping[str, str]
    notes: tuple[str, ...]
    total: int | None
    started: float
    stopped: str = ""
    log: Path | None = None

    @property
    def score(self) -> Estimate:
        """The headline."""
        return next(iter(self.summary.values()))

    @property
    def questions(self) -> int:
        """How many were answered."""
        return len(self.results)


class Log(Protocol):
    """Where answers go as they come."""

    def add(self, question: Question, answer: Answer, score: Score, seconds: float) -> None: ...

    def close(self, run: Run) -> Path: ...

    def abandon(self) -> None: ...


def evaluate(
    evaluation: Evaluation | str,
    model: LanguageModel | str,
    *,
    strategy: Attempting | str | None = None,
    judge: LanguageModel | str | None = None,
    limit: int | None = None,
    concurrency: int = 64,
    logs: str | Path | None = None,
    energy: Energy | bool = False,
    progress: Callable[[int, int | None, float], None] | None = None,
) -> Run:
    """Ask a model the questions of an evaluation and score what it says.

    Replies are in the cache as they come, so a run that was stopped or killed goes on when it is started again, and asks only
    for what is missing. Scores do not depend on the order in which answers come.

    Args:
        evaluation: Itself, or its address such as "bbeh?mini=true". model: Itself, or its name.
        strategy: How to ask; default: as the benchmark does. One given by address looks for answers as the benchmark expects.
        judge: Who scores, where that takes a model. limit: Only so many questions, see `chosen`.
        concurrency: Most questions under way at once. logs: Folder for the log, which `inspect view` shows.
        energy: Whether to measure it, and how. progress: Called with how many are scored, of how many, and the mean so far.
    Returns: What was found; with `stopped`, of a part of the questions, if the budget was spent or Ctrl-C came.
    Raises: ModelError if a model cannot be used; ValueError if a judge is needed and none given, or no question was answered;
        what loading the questions raises.
    """
    if isinstance(evaluation, str):
        evaluation = EVALUATIONS.at(evaluation)
    if isinstance(strategy, str):
        strategy = evaluation.fitted(STRATEGIES.at(strategy))
    how = strategy or evaluation.strategy()
    asked = model_named(model) if isinstance(model, str) else model
    judging = model_named(judge) if isinstance(judge, str) else judge
    if evaluation.needs_judge and judging is None:
        raise ValueError(f"{evaluation.title} must have a judge, got none. Try judge='openai/gpt-4o-mini', or --judge")
    evaluation.check()
    questions = evaluation.load()
    total = questions.count if limit is None else limit if questions.count is None else min(limit, questions.count)
    log: Log | None = None
    if logs is not None:
        from heuretic.evals.log import LogWriter

        log = LogWriter(Path(logs), evaluation, asked.name, how, judging and judging.name, total)
    columns, began, started, stopped = _Columns(evaluation), time.perf_counter(), time.time(), ""
    meter = _meter(energy)

    async def one(question: Question) -> tuple[Answer, Score, float]:
        since = time.perf_counter()
        if reason := cast(Evaluation, evaluation).missing(question):
            return Answer(None, "error", 0.0, (), ()), Score(None, reason=reason), 0.0
        answer = await how(question, asked)
        if answer.outcome == "error":
            failed = [reply.error for step in answer.trace for reply in step.replies if reply.error]
            return answer, Score(None, reason=f"error: {failed[-1] if failed else ''}"), time.perf_counter() - since
        score = await _scored(cast(Evaluation, evaluation), question, answer, judging)
        return answer, score, time.perf_counter() - since

    async def run() -> None:
        found = as_done(one, _distinct(chosen(evaluation, questions, limit)), concurrency)
        try:
            async for number, question, (answer, score, seconds) in found:
                columns.add(number, question, answer, score)
                if log is not None:
                    log.add(question, answer, score, seconds)
                if progress is not None:
                    progress(len(columns), total, columns.mean)
        finally:
            await found.aclose()

    try:
        wait(run())
    except BudgetSpent as error:
        stopped = f"the budget: {error}"
    except KeyboardInterrupt:
        stopped = "interrupted"
    except BaseException:
        if log is not None:
            log.abandon()
        raise
    if not len(columns):
        if log is not None:
            log.abandon()
        raise ValueError(
            f"{evaluation.title} must have at least one answered question, got none{': ' * bool(stopped)}{stopped}"
        )
    results = columns.results()
    done = Run(
        evaluation=evaluation, model=asked.name, judge=judging.name if judging and columns.judge_spent.replies else None,
        strategy=how, results=results, summary=evaluation.summary(results),
        groups={key: {name: part.mean() for name, part in results.groups(key).items()} for key in evaluation.by},
        outcomes=dict(columns.outcomes.most_common()), unscored=dict(columns.unscored.most_common()),
        bounds=_bounds(results), chance=columns.chance, constant=columns.constant(None if evaluation.generated else questions), spent=columns.spent,
        judge_spent=columns.judge_spent, energy=meter.stop() if meter else {}, seconds=time.perf_counter() - began,
        checksums=questions.checksums, notes=(*questions.notes, *columns.reasons), total=questions.count, started=started, stopped=stopped,
    )  # fmt: skip
    if log is None:
        return done
    return replace(done, log=log.close(done))


def searching(evaluation: Evaluation, strategy: Any, search: Search) -> Evaluation:
    """Return the evaluation with who looks evidence up, or as it is if only the strategy looks things up.

    Raises: ValueError if neither does.
    """
    looks_up = isinstance(strategy, Symbolic) and any(find(strategy, FreshPrompt))
    return (
        evaluation if looks_up and type(evaluation).searching is Evaluation.searching else evaluation.searching(search)
    )


async def _scored(evaluation: Evaluation, question: Question, answer: Answer, judge: LanguageModel | None) -> Score:
    """Return the score of an answer. What is wrong with an evaluation is told with the question where it showed."""
    try:
        score = await evaluation.score(question, answer, judge)
    except (BudgetSpent, ModelError):
        raise
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{evaluation.title}, question {question.id!r}: {kind}{error}") from error
    if not isinstance(score, Score):
        got = type(score).__name__
        raise TypeError(f"score of {evaluation.title} must be a Score, got {got} for question {question.id!r}")
    return score


def chosen(evaluation: Evaluation, questions: Questions, limit: int | None) -> Iterable[Question]:
    """Return so many questions, evenly from all categories, in their order; the same ones every time, and more with a larger limit.

    Categories are those of the first key of `by`. Where questions are made as they are asked for, or nobody knows how many there
    are, the first ones are taken.

    Raises: ValueError if limit < 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be >= 1, got {limit}")
    if limit is None or questions.count is None or limit >= questions.count or evaluation.generated:
        return islice(questions, limit)
    members: dict[str, list[int]] = {}
    for number, question in enumerate(questions):
        key = str(question.about.get(evaluation.by[0], MISSING)) if evaluation.by else ""
        members.setdefault(key, []).append(number)
    rng = np.random.default_rng(0)
    shuffled = [rng.permutation(numbers).tolist() for _, numbers in sorted(members.items())]
    rounds = (number for each in zip_longest(*shuffled) for number in each if number is not None)
    kept = set(islice(rounds, limit))
    return (question for number, question in enumerate(questions) if number in kept)


def _distinct(questions: Iterable[Question]) -> Iterator[Question]:
    """Yield the questions. Raises: ValueError for an identifier that occurs twice."""
    seen: set[str] = set()
    for number, question in enumerate(questions):
        if question.id in seen:
            raise ValueError(
                f"id must be new, got {question.id!r} again at question {number}, counted from 0. Try other identifiers"
            )
        seen.add(question.id)
        yield question


def _meter(energy: Energy | bool) -> Any:
    if not energy:
        return None
    from heuretic.study.energy import Energy, Meter

    meter = Meter(Energy() if energy is True else energy)
    meter.start()
    return meter


def _bounds(results: Results) -> tuple[float, float]:
    missing = np.isnan(results.values)
    known = float(np.nansum(results.values))
    return known / len(results), (known + float(missing.sum())) / len(results)


class _Columns:
    """Results as they come, in a few bytes each."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._keys: tuple[str, ...] = tuple(dict.fromkeys((*evaluation.by, evaluation.within)))
        self._numbers, self._ids, self._values = array("q"), [], array("d")
        self._outcomes: list[str] = []
        self._about: dict[str, list[str]] = {key: [] for key in self._keys if key}
        self._metrics: dict[str, array[float]] = {}
        self._sum, self._known = 0.0, 0
        self._chances: tuple[float, int] = (0.0, 0)
        self._guesses: list[tuple[str, str]] = []
        self.outcomes: Counter[str] = Counter()
        self.unscored: Counter[str] = Counter()
        self.reasons: tuple[str, ...] = ()
        self.spent = self.judge_spent = Spent(Usage(), 0.0, 0, 0)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def mean(self) -> float:
        """The mean score so far."""
        return self._sum / self._known if self._known else float("nan")

    @property
    def chance(self) -> float | None:
        """Expected score of random choices; None unless all questions have some."""
        total, count = self._chances
        return total / count if count == len(self) and count else None

    def constant(self, everything: Iterable[Question] | None) -> float | None:
        """Return the score of a constant answer in each category, the commonest target there among `everything`.

        Where questions are made as they are asked for, there is no everything: those asked stand for it, unless a category has
        so few of them that the commonest target would be known by looking at it. None then, and unless all questions have targets
        that could be said.
        """
        if not self._guesses or len(self._guesses) < len(self):
            return None
        counts: dict[str, Counter[str]] = {}
        for question in everything or ():
            guess = self._evaluation.guess(question)
            if guess is not None:
                counts.setdefault(self._category(question), Counter())[guess] += 1
        if not counts:
            for category, guess in self._guesses:
                counts.setdefault(category, Counter())[guess] += 1
            if min(each.total() for each in counts.values()) < _FEWEST:
                return None
        commonest = {category: max(sorted(each), key=each.__getitem__) for category, each in counts.items()}
        return sum(commonest[category] == guess for category, guess in self._guesses) / len(self)

    def _category(self, question: Question) -> str:
        return str(question.about.get(self._evaluation.by[0], MISSING)) if self._evaluation.by else ""

    def add(self, number: int, question: Question, answer: Answer, score: Score) -> None:
        """Add what became of a question."""
        value = float("nan") if score.value is None else float(score.value)
        self._numbers.append(number)
        self._ids.append(question.id)
        self._values.append(value)
        self._outcomes.append(answer.outcome)
        self.outcomes[answer.outcome] += 1
        for key, column in self._about.items():
            column.append(str(question.about.get(key, MISSING)))
        for name, metric in score.metrics.items():
            column = self._metrics.setdefault(name, array("d", [float("nan")] * (len(self) - 1)))
            column.append(float(metric))
        for column in self._metrics.values():
            if len(column) < len(self):
                column.append(float("nan"))
        if score.value is None:
            kind, _, why = score.reason.partition(": ")
            self.unscored[kind or "unjudged"] += 1
            if why and self.unscored[kind] == 1:
                self.reasons += (f"{question.id} has no score, {kind}: {why}",)
        else:
            self._sum, self._known = self._sum + value, self._known + 1
        chance = self._evaluation.chance(question)
        if chance is not None:
            self._chances = (self._chances[0] + chance, self._chances[1] + 1)
        guess = self._evaluation.guess(question)
        if guess is not None:
            self._guesses.append((sys.intern(self._category(question)), sys.intern(guess)))
        self.spent = _more(self.spent, answer.trace)
        self.judge_spent = _more(self.judge_spent, score.steps)

    def results(self) -> Results:
        """Return everything in the order of the questions."""
        order = np.argsort(np.array(self._numbers), kind="stable")
        about = {key: [column[k] for k in order] for key, column in self._about.items()}
        within = self._evaluation.within
        return Results(
            [self._ids[k] for k in order], np.array(self._values)[order], [self._outcomes[k] for k in order], about,
            {name: np.array(column)[order] for name, column in self._metrics.items()}, about[within] if within else None,
        )  # fmt: skip


def _more(spent: Spent, steps: Iterable[Any]) -> Spent:
    for step in steps:
        for reply in step.replies:
            lacking = spent.cost is None or (reply.cost is None and reply.outcome != "error")
            cost = None if lacking else (spent.cost or 0.0) + (reply.cost or 0.0)
            spent = Spent(spent.usage + reply.usage, cost, spent.replies + 1, spent.cached + reply.cached)
    return spent
