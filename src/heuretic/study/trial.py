"""One evaluation: what the user's function is given, and what comes back from it."""

from __future__ import annotations

import inspect
import math
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from heuretic.search import Genome, Space, number, one_of, permutation, repeat, some_of
from heuretic.study.records import Artifact
from heuretic.symbolic import FrozenDict

if TYPE_CHECKING:
    from heuretic.study.artifacts import Artifacts
    from heuretic.study.energy import Energy, Meter

T = TypeVar("T")
Evaluate = Callable[..., Any]


class Pruned(Exception):
    """Raised inside an evaluation to end it early; `Trial.report` raises it when the study's `prune` says so."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A candidate on its way to a worker."""

    number: int
    genome: Genome
    digest: bytes
    seed: int
    parents: tuple[int, ...] = ()
    origin: str = "sample"
    space: int = 0
    fingerprint: bytes | None = None


@dataclass(slots=True)
class Outcome:
    """What an evaluation gave. `met` holds choices first met while it ran (define-by-run), with their values; `environment`
    the number of its `facts` in the store, if they were stored already."""

    number: int
    started: float
    seconds: float = 0.0
    values: dict[str, float] = field(default_factory=dict)
    pruned: bool = False
    error: str | None = None
    steps: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    met: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    worker: str = "main"
    artifacts: list[Artifact] = field(default_factory=list)
    energy: dict[str, float] = field(default_factory=dict)
    attempts: int = 1
    environment: int | None = None


def trial_seed(study_seed: int, trial_number: int) -> int:
    """Return the seed of one trial, from 0 to 2**31 - 1: a function of the study's seed and the trial's number."""
    return int.from_bytes(blake2b(b"%d:%d" % (study_seed, trial_number), digest_size=4).digest(), "little") >> 1


class Trial:
    """What an evaluation knows of its trial: number, seed, reporting, and choices met while it runs.

    Attributes:
        index: Position in the study. seed: Use it for everything random in the evaluation.
        program: The complete program under evaluation (define-by-run: the mapping of choices known so far).
    """

    def __init__(
        self,
        ticket: Ticket,
        program: Any,
        known: Mapping[str, Any],
        report: Callable[[int, int, dict[str, float]], bool],
        watched: tuple[str, ...] = (),
        files: Artifacts | None = None,
    ) -> None:
        self.index, self.seed, self.program = ticket.number, ticket.seed, program
        self._known, self._report, self._watched, self._files = known, report, watched, files
        self.artifacts: list[Artifact] = []
        self.steps: list[tuple[int, dict[str, float]]] = []
        self.met: dict[str, tuple[Any, Any]] = {}

    def report(self, step: int, **metrics: float) -> None:
        """Record metrics of a step (an epoch, say).

        Raises: Pruned if the study's `prune` decides that going on is not worth it; ValueError if that needs a metric
            which is not among these.
        """
        values = {name: _as_float(name, value) for name, value in metrics.items()}
        missing = [name for name in self._watched if name not in values]
        if missing:
            raise ValueError(
                f"report must include {', '.join(map(repr, missing))}, by which the study prunes, "
                f"got {', '.join(values) or 'nothing'}. Try trial.report(step, {missing[0]}=...)"
            )
        self.steps.append((int(step), values))
        if self._report(self.index, int(step), values):
            raise Pruned(f"pruned at step {step}")

    def save(self, name: str, content: bytes | str | Path | BinaryIO) -> Artifact:
        """Keep a file with the trial: bytes, a path, or an open binary file, which is read as a stream.

        The same content is stored once, whatever trials save it. A name that was used before is replaced.

        Raises: ValueError if the study has no place for files; OSError if the place cannot be written.
        """
        if self._files is None:
            raise ValueError("a study in memory has no place for files. Try discover(..., artifacts='FOLDER')")
        saved = self._files.put(name, content)
        self.artifacts = [*(each for each in self.artifacts if each.name != name), saved]
        return saved

    def one_of(self, name: str, *candidates: T) -> T:
        """Choose one of the candidates; the choice becomes part of the study's space under `name`."""
        return cast(T, self._choose(name, one_of(*candidates)))

    def number(self, name: str, lo: float, hi: float, *, log: bool = False, step: float | None = None) -> Any:
        """Choose a number, as `hr.number` describes it."""
        return self._choose(name, number(lo, hi, log=log, step=step))

    def some_of(self, name: str, candidates: Sequence[T], at_least: int, at_most: int | None = None) -> tuple[T, ...]:
        """Choose some of the candidates."""
        return cast(tuple[T, ...], self._choose(name, some_of(candidates, at_least, at_most)))

    def permutation(self, name: str, items: Sequence[T]) -> tuple[T, ...]:
        """Choose an order of the items."""
        return cast(tuple[T, ...], self._choose(name, permutation(items)))

    def repeat(self, name: str, item: T, at_least: int, at_most: int | None = None) -> tuple[T, ...]:
        """Choose how many copies of an item, and whatever is open in each."""
        return cast(tuple[T, ...], self._choose(name, repeat(item, at_least, at_most)))

    def _choose(self, name: str, choice: Any) -> Any:
        if not isinstance(self.program, FrozenDict):
            raise TypeError("choices can be met while running only if discover was given no program")
        known = self._known.get(name)
        if name in self.met:
            known, value = self.met[name]
        elif known is not None:
            value = self.program[name]
        else:
            space = Space(choice)
            rng = Random(int.from_bytes(blake2b(f"{self.seed}:{name}".encode(), digest_size=8).digest(), "little"))
            value = space.decode(space.sample(rng))
            self.met[name] = (choice, value)
            return value
        if known != choice:
            raise ValueError(
                f"choice {name!r} was first met as {known!r}, now as {choice!r}. Give each choice its own name"
            )
        return value


class Evaluator:
    """The user's function together with the spaces it is given programs from. Runs in whatever process it is sent to.

    Args:
        required: The metrics that every evaluation must return. watched: Those that every report must include.
        artifacts: Where trials save files. energy: How to measure what evaluations consume.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        spaces: Sequence[Space],
        define_by_run: bool,
        required: tuple[str, ...],
        watched: tuple[str, ...] = (),
        artifacts: str | None = None,
        energy: Energy | None = None,
    ) -> None:
        self.evaluate, self.define_by_run, self.required, self.watched = evaluate, define_by_run, required, watched
        self.artifacts, self.energy = artifacts, energy
        self._files: Artifacts | None = None
        self._meter: Meter | None = None
        self.spaces = list(spaces)
        self._takes_trial = not define_by_run and _takes_two(evaluate)

    def __reduce__(self) -> tuple[Any, ...]:
        programs = [space.program for space in self.spaces]
        given = (self.define_by_run, self.required, self.watched, self.artifacts, self.energy)
        return _evaluator, (self.evaluate, programs, *given)

    def add_space(self, space: Space) -> None:
        """Make a larger space known."""
        self.spaces.append(space)

    def __call__(self, ticket: Ticket, report: Callable[[int, int, dict[str, float]], bool]) -> Outcome:
        """Evaluate one candidate; what the user's function raises is returned as text, except KeyboardInterrupt."""
        space = self.spaces[ticket.space]
        self._prepare()
        if self._meter is not None:
            self._meter.start()
        outcome = Outcome(ticket.number, time.time())
        clock = time.perf_counter()
        trial: Trial | None = None
        try:
            program = space.decode(ticket.genome)
            if self.define_by_run:
                trial = Trial(ticket, program, space.program, report, self.watched, self._files)
                returned = self.evaluate(trial)
            elif self._takes_trial:
                trial = Trial(ticket, program, {}, report, self.watched, self._files)
                returned = self.evaluate(program, trial)
            else:
                returned = self.evaluate(program)
            outcome.values = metrics_of(returned, self.required)
        except Pruned:
            outcome.pruned = True
        except (Exception, SystemExit):
            outcome.error = traceback.format_exc(limit=-12)[-8000:]
        outcome.seconds = time.perf_counter() - clock
        if self._meter is not None:
            outcome.energy = self._meter.stop()
        if trial is not None:
            outcome.steps, outcome.met, outcome.artifacts = trial.steps, trial.met, trial.artifacts
        return outcome

    def _prepare(self) -> None:
        """Open what evaluations use, in the process that runs them."""
        if self.artifacts is not None and self._files is None:
            from heuretic.study.artifacts import Artifacts

            self._files = Artifacts(self.artifacts)
        if self.energy is not None and self._meter is None:
            from heuretic.study.energy import Meter

            self._meter = Meter(self.energy)


def _evaluator(evaluate: Evaluate, programs: Sequence[Any], *given: Any) -> Evaluator:
    return Evaluator(evaluate, [Space(program) for program in programs], *given)


def metrics_of(returned: Any, required: tuple[str, ...]) -> dict[str, float]:
    """Return what an evaluation returned as metrics by name: a number is the one required metric.

    Raises: TypeError or ValueError saying what was wrong.
    """
    if isinstance(returned, Mapping):
        metrics = {str(name): _as_float(str(name), value) for name, value in returned.items()}
    elif returned is None:
        raise TypeError("evaluate must return a number or a mapping of numbers, got None. Is a return missing?")
    elif len(required) > 1:
        raise TypeError(
            f"evaluate must return a mapping with {', '.join(map(repr, required))}, got {type(returned).__name__}"
        )
    else:
        [name] = required or ("value",)
        metrics = {name: _as_float(name, returned)}
    for name in required:
        if name not in metrics:
            raise ValueError(f"evaluate must return {name!r}, got {', '.join(metrics) or 'nothing'}")
        if not math.isfinite(metrics[name]):
            raise ValueError(f"{name} must be finite, got {metrics[name]}")
    return metrics


def _as_float(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}") from None


def _takes_two(evaluate: Evaluate) -> bool:
    """Whether `evaluate` wants the trial as well as the program."""
    try:
        parameters = inspect.signature(evaluate).parameters.values()
    except ValueError:
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is p.empty for p in parameters) >= 2
