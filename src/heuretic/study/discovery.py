"""`discover`: the one call that runs a search."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from heuretic.search import NSGA2, Algorithm, Genome, InfeasibleError, Limit, Pruner, Space
from heuretic.search.limits import computed_costs, total_violation
from heuretic.study.artifacts import artifacts_url
from heuretic.study.conditions import Conditions, Retry
from heuretic.study.continuing import adapter, check_same, earlier_trials
from heuretic.study.engines import Engine, Inline, Report
from heuretic.study.engines.processes import Processes
from heuretic.study.loop import Budget, Prune, Run, Stop
from heuretic.study.progress import Progress
from heuretic.study.records import Direction, Objective, StudyRecord
from heuretic.study.store import Conflict, Memory, Store, StoreError, open_store
from heuretic.study.study import Study
from heuretic.study.trial import Evaluate, Evaluator
from heuretic.symbolic import FrozenDict, InvalidField, LoadError, Symbolic, dumps, loads
from heuretic.symbolic.errors import brief
from heuretic.symbolic.names import name_of
from heuretic.symbolic.values import freeze

if TYPE_CHECKING:
    from heuretic.study.code import Code
    from heuretic.study.energy import Energy

#: What decides: the name of a metric, or a function of all metrics by name.
Goal = str | Callable[[Mapping[str, float]], float]


class _CostCheck:
    """Computes the costs of programs for the sampler and the record, each program once."""

    def __init__(self, limits: tuple[Limit, ...]) -> None:
        self.limits = tuple(limit for limit in limits if not limit.measured)
        self.error: Exception | None = None
        self.closest: tuple[float, Any] = (math.inf, None)
        self._last: tuple[Any, dict[str, float]] | None = None

    def costs(self, program: Any) -> dict[str, float]:
        if self._last is None or self._last[0] is not program:
            self._last = (program, computed_costs(self.limits, program))
        return self._last[1]

    def feasible(self, program: Any) -> bool:
        """Whether the program keeps the limits. One whose cost cannot be computed does not."""
        return self.violation(program) == 0

    def violation(self, program: Any) -> float:
        """Return by how much the program breaks the limits; infinite if a cost cannot be computed."""
        try:
            violation = total_violation(self.limits, self.costs(program))
        except Exception as error:
            self.error = error
            return math.inf
        if violation < self.closest[0]:
            self.closest = (violation, program)
        return violation

    def explain(self, error: InfeasibleError, space: Space) -> None:
        """Add to the error what was tried: the program that came closest, with its choices, and costs that failed."""
        _, program = self.closest
        if program is not None:
            costs = self.costs(program)
            shown = ", ".join(
                f"{limit.name} is {costs[limit.name]:.6g}, and must be {limit.bounds}" for limit in self.limits
            )
            chosen = ", ".join(f"{path}={value}" for path, value in space.chosen(space.encode(program)).items())
            error.add_note(f"the closest program drawn: {shown}; with {chosen[:400]}")
        if self.error is not None:
            failed = f"{type(self.error).__name__}: {self.error}"
            error.add_note(f"the last cost that could not be computed: {failed}")


def discover(
    program: Any,
    evaluate: Evaluate | None = None,
    *,
    algorithm: Algorithm | str | None = None,
    trials: int | None = 100,
    maximize: Goal | Sequence[Goal] | None = None,
    minimize: Goal | Sequence[Goal] | None = None,
    limits: Sequence[Limit] = (),
    start: Any = None,
    enqueue: Sequence[Any] = (),
    warm_start: Study | Sequence[Study] = (),
    extend: bool = False,
    seed: int = 0,
    store: str | Store | None = None,
    name: str | None = None,
    engine: str = "inline",
    workers: int | None = None,
    deterministic: bool = False,
    time_s: float | None = None,
    target: float | None = None,
    plateau: int | None = None,
    max_failures: int = 20,
    prune: Pruner | Prune | None = None,
    timeout_s: float | None = None,
    memory_mb: float | None = None,
    retry: Retry | int = Retry(),
    resources: Mapping[str, float] = {},
    artifacts: str | None = None,
    energy: Energy | bool = False,
    progress: bool | None = None,
) -> Study:
    """Search over everything that a program leaves open, and return the study.

    Called again with the same store and name, the study goes on where it stopped or was killed: nothing finished is
    lost or counted twice, and with one worker (or `deterministic`) the trials are those of a run never interrupted.
    A program that was evaluated before is never paid for again. An evaluation that raises is recorded as failed.

    Args:
        program: The open program. Or, with no `evaluate`, a function of a `Trial` that makes its choices as it runs
            (`trial.one_of("act", "relu", "gelu")`).
        evaluate: Called as `evaluate(program)` or `evaluate(program, trial)`; returns the objective as a number, or
            a mapping of metrics. Use `trial.seed` for everything random.
        algorithm: An algorithm, or its address such as "auto", "evolution?population=20" or "optuna-tpe". Default: what
            the study has already; a new one gets `Auto()`, with several objectives `NSGA2()`.
        trials: Trials in all, earlier runs included; None for no bound.
        maximize, minimize: Name of the metric that decides (default: maximise the number returned, called "value");
            or a reward, which is a function of all metrics such as `SoftExponent("accuracy", "latency_ms", 5.0)`; or
            several of these, together also in both arguments, of which the study then finds the Pareto front.
        limits: Bounds on computed or measured costs. Computed ones are kept inside the sampler.
        start: A complete program to evaluate first (default: first candidates and middle values).
        enqueue: Hand-picked complete programs to evaluate next, once each; also later, see `Study.enqueue`.
        warm_start: Studies to learn from: their trials that are in this space are told to the algorithm, with scores by
            this study's objectives. They are no trials of this study, and none of them can win.
        extend: Go on with a study of a smaller program, to which this one adds choices or candidates.
        seed: Decides everything random. store: Such as "sqlite:///study.db"; default: memory.
        name: Default: the name of the evaluation.
        engine: "inline"; or "processes" with `workers` processes (default: one per core); or "workers": through the store,
            `workers` processes here (0 for none) and every `heuretic worker` that joins from elsewhere. Run twice, the
            second one stands by; or "ray" (also "ray://HOST:PORT", "ray:ADDRESS"): on a Ray cluster, by default as many
            trials at a time as it has room for. But for "inline", `evaluate` must be importable, and a script must guard its main
            part with `if __name__ == "__main__":`.
        deterministic: Tell results in order of number, so that a given number of workers gives the same trials every
            time (a slow trial then holds the others up).
        time_s, target, plateau, max_failures: Stop after so many seconds, when the objective reaches a value, after
            so many trials without improvement, or after so many failures in a row.
        prune: `SuccessiveHalving()` or `MedianStopping()`, which compare the objectives given to `trial.report`; or a
            function called with (trial, step, metrics, steps of all trials) at each report, True ends the trial.
        timeout_s, memory_mb: What one evaluation may take in seconds and in MiB of resident memory; one that takes more is
            ended with its process and recorded as failed. Not with the engine "inline".
        retry: How often a trial is tried again whose process or machine died; a number means that many attempts.
        resources: What one trial occupies on a cluster, such as {"cpu": 2, "gpu": 0.5, "memory_mb": 4000}.
        artifacts: Where files go that trials save with `trial.save`: a folder, or a URL of fsspec such as "s3://bucket/x".
            Default: $HEURETIC_ARTIFACTS, else beside an SQLite store, for study.db the folder study.db-artifacts.
        energy: Measure what each evaluation consumes and emits: True, or `Energy(country="FRA", pue=1.2)` and so on.
        progress: False for silence; default: after two seconds, on standard error.

    Raises: StoreError if a study of this name in the store is of another program, algorithm, seed or objective;
        InfeasibleError if no program keeps the limits; InvalidField, TypeError or ValueError if an argument is wrong.
    """
    define_by_run = evaluate is None
    if define_by_run:
        if not callable(program) or isinstance(program, Symbolic):
            raise TypeError("discover needs evaluate, a function of the program (or one function of a Trial alone)")
        program, evaluate = FrozenDict(), cast(Evaluate, program)
        if enqueue or warm_start or extend:
            raise ValueError(
                "enqueue, warm_start and extend must be left out if choices are met while running: "
                "which they are is not known beforehand. Try a program with its choices, and evaluate"
            )
    objectives = _objectives(maximize, minimize)
    main = objectives[0]
    if trials is not None and trials < 1:
        raise ValueError(f"trials must be >= 1 or None, got {trials}")
    if trials is None and time_s is None and target is None and plateau is None:
        raise ValueError("trials=None needs another way to stop: time_s, target or plateau")
    names = [limit.name for limit in limits]
    if len(set(names)) < len(names):
        raise ValueError(
            f"limits must have different costs, got {', '.join(names)}. Give at_least and at_most in one Limit"
        )
    conditions = Conditions(Retry(attempts=retry) if isinstance(retry, int) else retry, timeout_s, memory_mb, resources)
    _check_engine(engine, conditions, deterministic)
    program = freeze(program)
    checks = _CostCheck(tuple(limits))
    space = Space(program, checks.feasible, checks.violation) if checks.limits else Space(program)
    opened = open_store(store)
    place = artifacts_url(artifacts, opened.url)
    title = name or _evaluate_name(evaluate).rpartition(":")[2]
    existing = opened.study(title)
    chosen = _algorithm(algorithm, objectives, existing)
    first = _start_genome(space, start)
    record = StudyRecord(
        name=title,
        program=dumps(program),
        start=dumps(space.decode(first)) if first is not None and not define_by_run else "",
        algorithm=dumps(_algorithm_described(chosen)),
        limits=dumps(tuple(limits)),
        evaluate=_evaluate_name(evaluate),
        objective=main.name,
        direction=main.direction,
        seed=seed,
        created=time.time(),
        objectives=_described(objectives) if len(objectives) > 1 or main.reward is not None else "",
    )
    if existing is None:
        try:
            opened.create(record)
        except StoreError:  # another process of a study to be shared may have been faster
            existing = opened.study(title)
            if existing is None or engine != "workers":
                raise
    if existing is not None:
        check_same(existing, record, opened, extend, define_by_run, type(chosen).__module__)
    trust = _packages(evaluate) if define_by_run else None
    study = Study(opened, record.name, program=program, trust=trust, artifacts=place)
    if record.start and first is not None:
        study.start = space.decode(first)
    spaces = study._spaces
    if not define_by_run:
        spaces[-1] = space
        _enqueue_new(study, space, enqueue)
    others = (warm_start,) if isinstance(warm_start, Study) else tuple(warm_start)
    shown = Progress(main.name, trials, main.sign, sum(study.counts.values()), progress)
    if hasattr(opened, "note"):
        opened.note = shown.note  # type: ignore[attr-defined]
    pruner = prune if isinstance(prune, Pruner) else None
    earlier = [] if existing else earlier_trials(others, space, objectives, tuple(limits))
    code = None if isinstance(opened, Memory) else _code_of(evaluate, spaces[0].program)
    facts = {} if code is None else {"code": code.digest}

    def begin() -> Run:
        return Run(
            name=record.name, store=opened, spaces=study._spaces, begin=lambda space: chosen.start(space, seed),
            adapt=adapter(opened, record.name, spaces, define_by_run), seed=seed, objectives=objectives,
            limits=tuple(limits), costs=checks.costs, budget=Budget(trials, time_s, target, plateau, max_failures),
            define_by_run=define_by_run, deterministic=deterministic, prune=None if pruner else cast(Prune | None, prune),
            pruning=None if pruner is None else pruner.start(), start=first, earlier=earlier, progress=shown, facts=facts,
        )  # fmt: skip

    run = begin()
    best = study.best
    if best is not None and best.score is not None and best.violation == 0:
        shown.best = (best.score, best.number)
    required = tuple(o.name for o in objectives if o.reward is None)
    evaluator = Evaluator(
        evaluate, spaces, define_by_run, required, tuple(o.name for o in objectives) if pruner else (),
        place, _energy(energy),
    )  # fmt: skip
    running: Engine | None = None
    try:
        if engine == "workers":
            from heuretic.study.sharing import share  # imports SQLAlchemy

            running = shared = share(
                opened, record.name, evaluator, code, lambda *said: run.report(*said), conditions,
                _cores() if workers is None else workers, prune is not None, shown.note,
            )  # fmt: skip
            while shared.lead():
                run = begin()
                run.restore()
                try:
                    run.go(shared)
                except Conflict:  # this process was out of reach for so long that another one leads
                    continue
                shared.end(run.stopped)
                break
            else:
                done = Study(opened, record.name, program=program, artifacts=place)
                done.stopped = cast(Stop, shared.stopped)
                return done
        else:
            run.restore()
            running = _engine(engine, evaluator, run.report, workers, conditions, shown.note)
            run.go(running)
    except InfeasibleError as error:
        checks.explain(error, space)
        raise
    finally:
        if running is not None:
            running.close()
        shown.close()
    study.stopped = run.stopped
    study.equivalent = getattr(run.search, "reused", 0)
    study.reused = run.reused + study.equivalent
    if study.best is None and study.counts.get("failed") and run.stopped != "failures":
        shown.note(f"All {study.counts['failed']} trials failed. The last: {_last_failure(study)}")
    if run.stopped == "exhausted" and trials is not None:
        shown.note(_exhausted(study, run.space, trials))
    if run.stopped == "failures":
        shown.note(f"Stopped: {max_failures} trials failed in a row. The last: {_last_failure(study)}")
    return study


def _engine(
    engine: str,
    evaluator: Evaluator,
    report: Report,
    workers: int | None,
    conditions: Conditions,
    note: Callable[[str], None],
) -> Engine:
    """Return the engine of this name, whose workers belong to this process."""
    if engine == "inline":
        return Inline(evaluator, report)
    if engine == "processes":
        return Processes(evaluator, report, workers if workers is not None else _cores(), conditions)
    from heuretic.study.engines.ray import Ray

    return Ray(evaluator, report, workers, conditions, engine, note)


def _check_engine(engine: str, conditions: Conditions, deterministic: bool) -> None:
    """Refuse what cannot run before anything is written.

    Raises: ValueError if there is no such engine, or it cannot do what is asked for.
    """
    if engine not in ("inline", "processes", "workers", "ray") and not engine.startswith("ray:"):
        raise ValueError(
            f"engine must be 'inline', 'processes', 'workers', 'ray', or 'ray://HOST:PORT' and the like, got {engine!r}"
        )
    if engine == "inline" and (conditions.timeout_s is not None or conditions.memory_mb is not None):
        raise ValueError("timeout_s and memory_mb need engine='processes': this process cannot end itself")
    if engine == "workers" and deterministic:
        raise ValueError("deterministic must be False with engine='workers': workers come and go")


def _objectives(
    maximize: Goal | Sequence[Goal] | None, minimize: Goal | Sequence[Goal] | None
) -> tuple[Objective, ...]:
    """Return what is to be maximised, then what is to be minimised."""
    found: list[Objective] = []
    wanted: tuple[tuple[Direction, Any], ...] = (("maximize", maximize), ("minimize", minimize))
    for direction, given in wanted:
        for goal in (given,) if isinstance(given, str) or callable(given) else given or ():
            if isinstance(goal, str):
                found.append(Objective(goal, direction))
            elif callable(goal):
                found.append(
                    Objective(getattr(goal, "name", None) or getattr(goal, "__name__", "reward"), direction, goal)
                )
            else:
                raise TypeError(f"{direction} must be the name of a metric, a reward, or several, got {goal!r}")
    names = [objective.name for objective in found]
    if len(set(names)) < len(names) or "" in names:
        raise ValueError(f"maximize and minimize must have different names, none of them empty, got {names}")
    return tuple(found) or (Objective("value"),)


def _described(objectives: tuple[Objective, ...]) -> str:
    """Return the objectives as a JSON text; a reward that cannot be saved, such as a lambda, as its name."""

    def reward(given: Callable[..., float] | None) -> Any:
        try:
            return None if given is None else loads(dumps(given), resolve_names=False)
        except InvalidField:
            return None if given is None else _evaluate_name(given)

    return dumps(tuple((o.name, o.direction, reward(o.reward)) for o in objectives))


def _algorithm(
    given: Algorithm | str | None, objectives: tuple[Objective, ...], existing: StudyRecord | None
) -> Algorithm:
    """Return the algorithm that is meant; if none is given, the one that the study has already.

    Raises: ValueError if there are several objectives and it takes one.
    """
    chosen: Any = given
    if isinstance(given, str):
        from heuretic.search.addresses import algorithm as algorithm_at

        chosen = algorithm_at(given)
    elif given is None:
        from heuretic.search.auto import Auto  # imports numpy

        chosen = _kept(existing) or (Auto() if len(objectives) == 1 else NSGA2())
    if len(objectives) > 1 and not getattr(chosen, "several_objectives", False):
        raise ValueError(
            f"algorithm must take several objectives ({', '.join(o.name for o in objectives)}), "
            f"got {type(chosen).__name__}. Try hr.NSGA2(), or one reward made of them"
        )
    return chosen


def _algorithm_described(chosen: Algorithm) -> Any:
    """Return what a study remembers of an algorithm: its value, that of its `description`, or the name of its class."""
    described = getattr(chosen, "description", chosen)
    return described if isinstance(described, Symbolic) else type(chosen).__qualname__


def _kept(existing: StudyRecord | None) -> Algorithm | None:
    """Return the algorithm of a stored study; None if there is none, or it names something outside this package."""
    try:
        found = None if existing is None else loads(existing.algorithm, trust=("heuretic",))
    except LoadError:
        return None
    return found if isinstance(found, Algorithm) else None


def _enqueue_new(study: Study, space: Space, programs: Sequence[Any]) -> None:
    """Enqueue the programs that have not been enqueued yet, so that a script can be run again."""
    index = len(study._spaces) - 1
    known = {genome for _, place, genome in study.store.enqueued(study.name) if place == index}
    for program in programs:
        genome = space.encode(program)
        if not space.is_feasible(genome):
            raise InfeasibleError(f"enqueue must hold programs within the limits, got {brief(program)}")
        if genome not in known:
            study.store.enqueue(study.name, index, genome)


def _last_failure(study: Study) -> str:
    last = next((t for t in reversed(study.trials) if t.error), None)
    return (last.error or "").strip().splitlines()[-1] if last else ""


def _exhausted(study: Study, space: Space, trials: int) -> str:
    done = sum(study.counts.values())
    if space.size <= done:
        return (
            f"Stopped after {done} of {trials} trials: the space has {space.size} program(s), and all were evaluated."
        )
    return (
        f"Stopped after {done} of {trials} trials: {study.record.name!r} proposed nothing new any more "
        f"({study.reused} repeats). Widen the space, relax the limits, or try another algorithm."
    )


def _start_genome(space: Space, start: Any) -> Genome | None:
    """Return the genome to evaluate first, or None if the default one is not feasible."""
    if start is not None:
        genome = space.encode(start)
        if not space.is_feasible(genome):
            raise InfeasibleError("start breaks a limit or its own checks. Give a start that keeps them, or none")
        return genome
    genome = space.default()
    return genome if space.is_feasible(genome) else None


def _evaluate_name(evaluate: Evaluate) -> str:
    try:
        return name_of(evaluate)
    except (InvalidField, TypeError):
        return f"{getattr(evaluate, '__module__', '')}:{getattr(evaluate, '__qualname__', type(evaluate).__name__)}"


def _code_of(evaluate: Evaluate, program: Any) -> Code | None:
    """Return the code of the evaluation, whose digest is a fact about where trials ran; None if it has no files."""
    from heuretic.study.code import collect

    try:
        return collect(evaluate, program)
    except (ValueError, OSError):
        return None


def _packages(evaluate: Evaluate) -> tuple[str, ...]:
    return (_evaluate_name(evaluate).partition(":")[0].partition(".")[0],)


def _energy(given: Energy | bool) -> Energy | None:
    if given is False:
        return None
    from heuretic.study.energy import Energy, need_codecarbon

    if given is not True and not isinstance(given, Energy):
        raise TypeError(f"energy must be True, False or Energy(...), got {type(given).__name__}")
    need_codecarbon()  # before the study begins, not in each worker
    return Energy() if given is True else given


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
