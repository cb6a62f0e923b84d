"""Searching the instruction of a strategy: the parts of the questions, the evaluation, the plan beforehand and the result."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heuretic.lm.answer import Answer, Sample, Strategy
from heuretic.lm.answering import answers
from heuretic.lm.budget import Budget, BudgetSpent, Price
from heuretic.lm.cache import ReplyCache
from heuretic.lm.model import LanguageModel
from heuretic.lm.opro.algorithm import OPRO, OPRORun, OPROUsing
from heuretic.lm.opro.meta_prompts import InstructionMetaPrompt, published
from heuretic.lm.opro.scoring import OfficialScoring, PublishedParsing
from heuretic.lm.parsing import AfterCue, Choice, FinalNumber, Parse, canonical_number
from heuretic.lm.questions import Question
from heuretic.lm.replies import Reply, Usage
from heuretic.lm.sampling import Sampling
from heuretic.lm.strategies.instructed import Instructed, Position
from heuretic.lm.strategies.prompting import parser_of, winner
from heuretic.lm.verifier import Verifier
from heuretic.lm.verifiers.comparing import Exact
from heuretic.lm.waiting import wait
from heuretic.search.algorithm import Result
from heuretic.search.choices import Text, text
from heuretic.search.space import Space
from heuretic.symbolic import get as value_at
from heuretic.symbolic import open_choices, replace, walk


class SearchStopped(KeyboardInterrupt):
    """The budget is spent in the middle of an evaluation. Like an interruption: what was under way is not recorded as failed."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of how many questions were answered right."""

    right: float
    of: int

    @property
    def value(self) -> float:
        """The share, in [0, 1]."""
        return self.right / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the share (Wilson 1927), which is the doubt from having so few questions only."""
        z, n, p = 1.959963984540054, self.of, self.value
        centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        low, high = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
        return max(0.0, min(low, p)), min(1.0, max(high, p))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.1%} [{low:.1%}, {high:.1%}]"


@dataclass(frozen=True, slots=True)
class Parts:
    """The questions, apart: to score proposals on, to see overfitting and choose, and to report on."""

    train: tuple[Question, ...]
    validation: tuple[Question, ...]
    held_out: tuple[Question, ...]


def split_questions(questions: Sequence[Question], train: float = 0.2, validation: float = 0.2, seed: int = 0) -> Parts:
    """Return the parts of questions, each in their order; what is neither train nor validation is held out.

    With seed 0 the parts are those of the paper's code, which has train=0.035 and validation=0 for GSM8K, 0.2 and 0 for a
    task of BBH, 0.8 and 0.2 for MMLU.

    Raises: ValueError if a question has no target, or a share is out of range, or no question is left to train on.
    """
    missing = next((q for q in questions if q.target is None), None)
    if missing is not None:
        raise ValueError(
            f"questions must have targets to be scored by, got none for {missing.id or missing.text[:60]!r}"
        )
    if not 0 < train <= 1 or not 0 <= validation <= 1 or train + validation > 1 + 1e-9:
        raise ValueError(f"train must be in (0, 1], and train + validation <= 1, got {train} and {validation}")
    rng, n = np.random.RandomState(seed), len(questions)
    if int(train * n) < 1:
        raise ValueError(f"train must leave at least one question to train on, got {train} of {n} questions")
    first = np.sort(rng.choice(n, int(train * n), replace=False))
    rest = np.setdiff1d(np.arange(n), first)
    second = np.sort(rng.choice(rest, min(int(validation * n), len(rest)), replace=False)) if len(rest) else rest
    third = np.setdiff1d(rest, second)
    pick: Callable[[Any], tuple[Question, ...]] = lambda places: tuple(questions[int(k)] for k in places)
    return Parts(pick(first), pick(second), pick(third))


@dataclass(slots=True)
class Measured:
    """An instruction with its accuracies; those that were not measured are None."""

    instruction: str
    program: Any
    train: Rate | None = None
    validation: Rate | None = None
    held_out: Rate | None = None
    step: int = -1


@dataclass(frozen=True, slots=True)
class Plan:
    """What a search can take at most, and roughly takes, known before anything is asked.

    Attributes:
        evaluations: Instructions scored on the training part. calls: Requests, each answered by one sample or more.
        most: Tokens if every reply is as long as it may be, counting prompts by their bytes where the model does not count.
        likely: Tokens at four bytes a token and half the longest replies. most_cost, likely_cost: US dollars, None without price.
    """

    evaluations: int
    calls: int
    most: Usage
    likely: Usage
    most_cost: float | None
    likely_cost: float | None


@dataclass(slots=True)
class PromptResult:
    """What was found. `best` was chosen by validation accuracy among the finalists, ties by training accuracy and age."""

    best: Measured | None
    initial: Measured | None
    finalists: list[Measured]
    steps: int
    evaluations: int
    refused: dict[str, int]
    usage: Usage
    cost: float | None
    stopped: str


class PromptSearch:
    """A strategy with an open instruction, made ready to be searched: `program`, `algorithm`, `evaluate`, `plan`, `finish`.

    `hr.discover(search.program, search.evaluate, algorithm=search.algorithm, maximize="train")` runs it with everything that studies
    have; `optimize_prompt` runs it in memory.

    Args: see `optimize_prompt`.
    Raises: ValueError if there is not exactly one open text, or a budget has no price to go with.
    """

    def __init__(
        self,
        questions: Sequence[Question] | Parts,
        strategy: Any = None,
        *,
        scorer: LanguageModel,
        optimizer: LanguageModel | None = None,
        budget: Budget | None = None,
        steps: int = 200,
        seed: int = 0,
        position: Position = "Q_begin",
        initial: Sequence[str] = ("Let's solve the problem.",),
        meta_prompt: InstructionMetaPrompt | None = None,
        train: float = 0.2,
        validation: float = 0.2,
        verify: Verifier | None = None,
        official: bool = False,
        validate_every: int | None = 3,
        finalists: int = 5,
        opro: OPRO | None = None,
        concurrency: int = 64,
    ) -> None:
        self.parts = questions if isinstance(questions, Parts) else split_questions(questions, train, validation)
        labels = position in ("before_Q", "A_begin")
        if strategy is None:
            strategy = Instructed(text(*initial), position, labels, parse_for(self.parts, official))
        choices = open_choices(strategy)
        if len(choices) != 1 or not isinstance(choices[0][1], Text):
            raise ValueError(
                f"strategy must have one open text and no other choice, got {len(choices)} choices. "
                f'Try Instructed(instruction=hr.text("Let\'s solve the problem."))'
            )
        self.program, self.place = strategy, choices[0][0]
        self.budget = budget
        self.scorer = _limited(scorer, budget)
        self.optimizer = self.scorer if optimizer is None or optimizer is scorer else _limited(optimizer, budget)
        if budget is not None and budget.cost is not None:
            for each in (self.scorer, self.optimizer):
                if each.price is None:
                    raise ValueError(
                        f"a budget in money needs a price for {each.name}. Give model(..., price=Price(...))"
                    )
        prompt = meta_prompt or published("chat", position, questions=self.parts.train, labels=labels)
        if meta_prompt is not None and not meta_prompt.questions and meta_prompt.exemplars:
            prompt = replace(meta_prompt, {"questions": published("chat", questions=self.parts.train).questions})
        settings = opro or OPRO(prompt)
        settings = replace(settings, {"meta_prompt": prompt, "steps": steps})
        self.algorithm: OPROUsing = settings.using(self.optimizer)
        self.verify = verify or (OfficialScoring() if official else Exact(parse=parser_of(strategy)))
        self.validate_every, self.count, self.seed, self.concurrency = validate_every, finalists, seed, concurrency
        self.space = Space(self.program)
        self._reserved = Usage()

    # -- evaluating -------------------------------------------------------------------------------------------------

    def evaluate(self, program: Any) -> dict[str, float]:
        """Return the accuracy on the training part, and in every third step also that on the validation part.

        Metrics: train, of (questions), unanswered (share without an answer), tokens, cost (NaN left out if not known), and in some
        steps validation.

        Raises: SearchStopped if the budget does not suffice; ModelError if the model cannot be used.
        """
        try:
            accuracy, usage, cost, unanswered = self._measure(program, self.parts.train)
            metrics = {"train": accuracy.value, "of": float(accuracy.of), "unanswered": unanswered}
            run = self.algorithm.latest
            due = run is not None and self.validate_every is not None and max(run.step, 0) % self.validate_every == 0
            if due and self.parts.validation:
                seen, more, its, _ = self._measure(program, self.parts.validation)
                metrics["validation"], usage = seen.value, usage + more
                cost = None if cost is None or its is None else cost + its
        except BudgetSpent as error:
            raise SearchStopped(str(error)) from error
        return {
            **metrics, "tokens_in": float(usage.input_tokens), "tokens_cached": float(usage.cached_input_tokens),
            "tokens_out": float(usage.output_tokens), "calls": float(usage.calls), **({} if cost is None else {"cost": cost}),
        }  # fmt: skip

    def _measure(self, program: Any, questions: Sequence[Question]) -> tuple[Rate, Usage, float | None, float]:
        return wait(self._measured(program, questions))

    async def _measured(
        self, program: Strategy, questions: Sequence[Question]
    ) -> tuple[Rate, Usage, float | None, float]:
        right, usage, silent = 0.0, Usage(), 0
        costs: list[float | None] = []
        async for number, answer in answers(program, questions, self.scorer, concurrency=self.concurrency):
            [score] = await self.verify(questions[number], [_as_sample(answer)])
            right += score or 0.0
            silent += answer.answer is None
            usage += answer.usage
            costs.append(answer.cost)
        cost = None if any(c is None for c in costs) else math.fsum(c for c in costs if c is not None)
        return Rate(right, len(questions)), usage, cost, silent / len(questions)

    # -- before -----------------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """Return what the search can take at most. Asks nothing."""
        settings = self.algorithm.description
        steps, per_step = settings.steps or 0, settings.per_step
        prompt: InstructionMetaPrompt = settings.meta_prompt
        longest = min(prompt.longest, self.space.decisions[0].width)
        starts = value_at(self.program, self.place).initial
        evaluations = len(starts) + steps * per_step
        checked = (
            0 if self.validate_every is None else len(starts) + len(range(0, steps, self.validate_every)) * per_step
        )
        finals = min(self.count, evaluations) + 1
        train, validation, held_out = (
            _sizes(p) for p in (self.parts.train, self.parts.validation, self.parts.held_out)
        )
        asked = evaluations * len(train) + (checked + finals) * len(validation) + 2 * len(held_out)
        per_question, output = _most_calls(self.program)
        overhead = _prompt_bytes(self.program, self.place) + 32
        sizes = evaluations * sum(train) + (checked + finals) * sum(validation) + 2 * sum(held_out)
        input_bytes = per_question * (sizes + asked * overhead)
        kept = prompt.kept or evaluations
        # A character takes up to four bytes; instructions of models seldom have more than one.
        fixed = sum(len(t.encode()) for t in (prompt.opening, prompt.exemplars_opening, prompt.request)) + 48
        exemplars = sorted((len(q.encode()) + len(a.encode()) for q, a in prompt.questions), reverse=True)[
            : prompt.exemplars
        ]
        fixed += sum(exemplars) + prompt.exemplars * len(prompt.exemplar.encode())
        entries = [min(kept, len(starts) + s * per_step) for s in range(steps)]
        meta_most = sum(fixed + e * (4 * longest + len(prompt.entry.encode()) + 8) for e in entries) * per_step
        meta_likely = sum(fixed + e * (100 + len(prompt.entry.encode())) for e in entries) * per_step
        proposals = steps * per_step
        most_scorer = Usage(
            input_bytes + asked * per_question * 4 * longest, 0, asked * per_question * output, asked * per_question
        )
        most_optimizer = Usage(meta_most, 0, proposals * settings.sampling.max_tokens, proposals)
        likely_scorer = Usage(
            (input_bytes + asked * per_question * 100) // 4, 0, asked * per_question * output // 2, asked * per_question
        )
        likely_optimizer = Usage(meta_likely // 4, 0, proposals * min(64, settings.sampling.max_tokens), proposals)
        return Plan(
            evaluations, most_scorer.calls + proposals, most_scorer + most_optimizer, likely_scorer + likely_optimizer,
            _priced((self.scorer, most_scorer), (self.optimizer, most_optimizer)),
            _priced((self.scorer, likely_scorer), (self.optimizer, likely_optimizer)),
        )  # fmt: skip

    # -- after ------------------------------------------------------------------------------------------------------

    def instruction(self, program: Any) -> str:
        """Return the text that was searched for, out of a complete program."""
        return value_at(program, self.place)

    def finish(
        self, results: Sequence[Result], stopped: str, progress: Callable[[str], None] | None = None
    ) -> PromptResult:
        """Choose among the best results by validation, and measure the chosen and the initial instruction on held-out questions.

        What the budget does not allow any more is left unmeasured, and `stopped` says so.
        """
        said = progress or (lambda _: None)
        run = self.algorithm.latest
        ranked = sorted((r for r in results if r.score is not None), key=lambda r: (-(r.score or 0.0), r.number))
        first = self.space.default()
        found: dict[Any, Measured] = {}
        for result in ranked:
            program = self.space.decode(result.genome)
            metrics = result.metrics
            of = int(metrics.get("of", len(self.parts.train)))
            seen = metrics.get("validation")
            size = len(self.parts.validation)
            found[result.genome] = Measured(
                self.instruction(program), program, Rate(round((result.score or 0.0) * of, 6), of),
                Rate(round(seen * size, 6), size) if seen is not None and size else None,
                step=run.steps.get(result.number, -1) if run is not None else -1,
            )  # fmt: skip
        initial = found.get(first)
        finalists = list(found.values())[: self.count]
        best = finalists[0] if finalists else None
        usage, cost = self.taken(results)
        try:
            for each in [*finalists, *([initial] if initial is not None and initial not in finalists else [])]:
                if each.validation is None and self.parts.validation:
                    said(f"validation of {each.instruction[:60]!r}")
                    each.validation, more, its, _ = self._measure(each.program, self.parts.validation)
                    usage, cost = usage + more, None if cost is None or its is None else cost + its
            best = max(finalists, key=_rank, default=None)
            for each in (best, initial):
                if each is not None and each.held_out is None and self.parts.held_out:
                    said(f"held-out questions with {each.instruction[:60]!r}")
                    each.held_out, more, its, _ = self._measure(each.program, self.parts.held_out)
                    usage, cost = usage + more, None if cost is None or its is None else cost + its
        except BudgetSpent as error:
            best = max((f for f in finalists if f.validation is not None), key=_rank, default=best)
            stopped = f"{stopped}; budget before all was measured: {error}" if stopped else f"budget: {error}"
        refused = dict(run.refused) if run is not None else {}
        steps = run.step + 1 if run is not None else 0
        return PromptResult(best, initial, finalists, steps, len(ranked), refused, usage, cost, stopped)

    def taken(self, results: Sequence[Result]) -> tuple[Usage, float | None]:
        """Return tokens and US dollars of the evaluations in `results` and of the proposals so far."""
        run = self.algorithm.latest
        usage = run.usage if run is not None else Usage()
        cost = run.cost if run is not None else 0.0
        for result in results:
            m = result.metrics
            if "tokens_in" in m:
                usage += Usage(int(m["tokens_in"]), int(m["tokens_cached"]), int(m["tokens_out"]), int(m["calls"]))
                cost = None if cost is None or "cost" not in m else cost + m["cost"]
        return usage, cost

    def reserve(self) -> None:
        """Set aside what the last measurements are likely to take, so that a budget spent on the search leaves a result."""
        if self.budget is None or self._reserved.tokens:
            return
        validation, held_out = _sizes(self.parts.validation), _sizes(self.parts.held_out)
        per_question, output = _most_calls(self.program)
        asked = (self.count + 1) * len(validation) + 2 * len(held_out)
        read = (self.count + 1) * sum(validation) + 2 * sum(held_out)
        wanted = Usage(per_question * (read // 4 + asked * 60), 0, per_question * asked * output // 2, 0)
        limit = self.budget.tokens
        if limit is not None and wanted.tokens > limit // 2:  # a search with half of a small budget says more than none
            share = limit / 2 / wanted.tokens
            wanted = Usage(int(wanted.input_tokens * share), 0, int(wanted.output_tokens * share), 0)
        price = self.scorer.price
        if self.budget.cost is not None and price is not None and price.of(wanted) > self.budget.cost / 2:
            share = self.budget.cost / 2 / price.of(wanted)
            wanted = Usage(int(wanted.input_tokens * share), 0, int(wanted.output_tokens * share), 0)
        try:
            self.budget.reserve(wanted, price)
        except BudgetSpent:  # a run that goes on near its end
            return
        self._reserved = wanted

    def release(self) -> None:
        """Give back what `reserve` set aside."""
        if self.budget is not None and self._reserved.tokens:
            self.budget.settle(self._reserved, Usage(), self.scorer.price)
            self._reserved = Usage()


def parse_for(parts: Parts, official: bool = False) -> Parse:
    """Return a parser for questions: letters if all have options, numbers if all targets are, else what follows the cue."""
    if official:
        return PublishedParsing()
    questions = [*parts.train, *parts.validation, *parts.held_out]
    if all(q.choices for q in questions):
        return Choice()
    targets = [q.target if isinstance(q.target, str) else (q.target or ("",))[0] for q in questions]
    if all(canonical_number(target) is not None for target in targets):
        return FinalNumber()
    return AfterCue(whole_without_cue=True)


def optimize_prompt(
    questions: Sequence[Question] | Parts,
    strategy: Any = None,
    *,
    scorer: LanguageModel,
    optimizer: LanguageModel | None = None,
    budget: Budget | None = None,
    steps: int = 200,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    **settings: Any,
) -> PromptResult:
    """Search for the instruction with which a strategy answers questions best, and say how good it is on questions not seen.

    Proposals are scored on the training part; the validation part chooses among the `finalists`, so that one which fits the training
    part only shows; the held-out part is asked once, for the winner and the initial instruction. With a cache of replies, the
    same call after an interruption goes through what was done without asking anything again.

    Args:
        questions: With targets; or their `Parts`.
        strategy: With one open text: `ChainOfThought(cue=hr.text("Let's think step by step."))`; default: `Instructed`.
        scorer: The model that answers. optimizer: The one that writes instructions (default: the same).
        budget: A hard limit for both together; replies from the cache count as if asked anew. Near its end the search stops,
            and what is left goes into the last measurements.
        steps, seed: Of `OPRO`. progress: Called with a line of text now and then.
        settings: Further ones of `PromptSearch`: position, initial (texts), meta_prompt, train and validation (shares), verify,
            official (scoring of the published code), validate_every (steps), finalists, opro, concurrency.
    Raises: ValueError if something does not fit; ModelError if a model cannot be used.
    """
    search = PromptSearch(
        questions, strategy, scorer=scorer, optimizer=optimizer, budget=budget, steps=steps, seed=seed, **settings
    )
    said = progress or (lambda _: None)
    space, results, stopped = search.space, [], "steps"
    run: OPRORun = search.algorithm.start(space, seed)
    search.reserve()
    try:
        while candidates := run.ask(1):
            program = space.decode(candidates[0].genome)
            metrics = search.evaluate(program)
            results.append(Result(len(results), candidates[0].genome, metrics["train"], metrics=metrics))
            run.tell(results[-1:])
            best = max(results, key=lambda r: r.score or 0.0)
            said(f"step {run.step + 1} of {steps}, {len(results)} instructions, best on train {best.score:.1%}")
        if run.spent:
            stopped = f"budget: {run.spent}"
        elif run.empty >= run.settings.barren:
            stopped = f"nothing new in {run.empty} steps"
    except SearchStopped as error:
        stopped = f"budget: {error}"
    search.release()
    return search.finish(results, stopped, progress)


class _ChargingCache(ReplyCache):
    """A cache whose replies count against a budget when they are taken out, as if they were asked for anew."""

    def __init__(self, cache: ReplyCache, budget: Budget, price: Price | None) -> None:
        self.path, self._inner, self._budget, self._price = cache.path, cache, budget, price

    def get(self, request: bytes, samples: Iterable[int]) -> dict[int, Reply]:
        found = self._inner.get(request, samples)
        for reply in found.values():
            self._budget.settle(Usage(), reply.usage, self._price)
        return found

    def put(self, request: bytes, replies: Mapping[int, Reply]) -> None:
        self._inner.put(request, replies)

    def __len__(self) -> int:
        return len(self._inner)

    def close(self) -> None:
        self._inner.close()


def _limited(model: LanguageModel, budget: Budget | None) -> LanguageModel:
    """Return the model with a budget, leaving the given one as it is."""
    if budget is None:
        return model
    limited = copy.copy(model)
    limited.budget = budget
    if model.cache is not None:
        limited.cache = _ChargingCache(model.cache, budget, model.price)
    return limited


def _rank(each: Measured) -> tuple[float, float, int]:
    seen, trained = each.validation, each.train
    return (seen.value if seen else -1.0, trained.value if trained else -1.0, -each.step)


def _as_sample(answer: Answer) -> Sample:
    """Return what a verifier is to judge: the answer with a text that says so, or the last text."""
    if answer.answer is not None and any(sample.answer == answer.answer for sample in answer.samples):
        return winner(answer)
    return Sample(answer.answer, answer.outcome, answer.samples[-1].text if answer.samples else "")


def _sizes(questions: Sequence[Question]) -> list[int]:
    return [len(q.text.encode()) + sum(len(c.encode()) + 8 for c in q.choices) + 4096 * len(q.parts) for q in questions]


def _most_calls(program: Any) -> tuple[int, int]:
    """Return how many calls one question takes, where the strategy says (`calls`), and the longest reply in tokens."""
    limits = [node.max_tokens for _, node in walk(program) if isinstance(node, Sampling)]
    return int(getattr(program, "calls", 1)), max(limits, default=256)


def _prompt_bytes(program: Any, place: Any) -> int:
    """Return the bytes of all texts in a strategy but the open one: at least what it adds to a question."""
    return sum(len(value.encode()) + 2 for _, value in walk(program) if isinstance(value, str))


def _priced(*used: tuple[LanguageModel, Usage]) -> float | None:
    prices = [(model.price, usage) for model, usage in used]
    if any(price is None for price, _ in prices):
        return None
    return math.fsum(price.of(usage) for price, usage in prices if price is not None)
