"""Studies from Optuna's storages, and into them."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from heuretic.search import NSGA2, Algorithm, Genome, Limit, Space
from heuretic.search.limits import total_violation
from heuretic.search.optuna_samplers import import_optuna, quiet
from heuretic.study.export import trials_with_rows
from heuretic.study.interop.counting import counted
from heuretic.study.interop.optuna_parameters import Distributions, Parameter, parameter
from heuretic.study.records import Direction, Objective, State, StudyRecord, TrialRecord
from heuretic.study.store import Store, StoreError, open_store
from heuretic.study.study import Study
from heuretic.study.trial import trial_seed
from heuretic.symbolic import FrozenDict, dumps, loads
from heuretic.symbolic.digests import digest_bytes

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

#: The user attribute of an Optuna study that says which of our studies it holds.
MARK = "heuretic"
#: Fields of a row that are kept as user attributes under their own names; metrics of these names are `value.NAME`.
FIELDS = (
    "number", "digest", "seed", "origin", "parents", "violation", "worker", "environment", "fingerprint", "error",
    "attempts", "artifacts", "steps",
)  # fmt: skip
#: What stands before the name of a constraint to make the name of a metric.
CONSTRAINT = "constraint."


def from_optuna(
    source: str | BaseStorage | OptunaStudy,
    name: str | None = None,
    *,
    store: str | Store | None = None,
    as_name: str | None = None,
    metrics: str | Sequence[str] = (),
    algorithm: Algorithm | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Study:
    """Take a study of Optuna into a store, and return it as one of ours. The source is only read.

    The program is a mapping of parameters by name: floats and ints become `number` (a parameter with several ranges the
    range that holds them all), categoricals `one_of`. A parameter that a trial did not have is fixed at its default in that
    trial: the program is complete, but the choice does not appear among the trial's. Numbers with a step are moved onto
    the grid exactly, by less than a millionth of a step.

    Values become metrics, intermediate values the steps of the first, numeric user attributes metrics of their names,
    constraints metrics `constraint.NAME` with a `Limit` each. Trials keep their numbers, states and times; one with an
    infinite value is failed, as it would be here. What has no place here is left out: trials not finished, user
    attributes that are no numbers, and candidates that no program can hold, for which their text stands. A warning says
    so, and the environment of the trials.

    To go on with the study, call `discover(study.space().program, evaluate, ...)`, or `discover` with a function of a
    `Trial` that makes the same choices, with this store and name and the same objectives, limits, algorithm and seed.

    Args:
        source: URL of a database such as "sqlite:///optuna.db", or a storage or study of Optuna.
        name: Which study of the storage; may be left out if there is one. as_name: Its name here; default: the same.
        metrics: Names of the objectives, in Optuna's order. Default: those set in Optuna, or else "value", of several
            "value_0", "value_1", ...  Here what is maximised comes first, as in `discover`.
        algorithm: What is to go on with it. Default: `Auto()`, with several objectives `NSGA2()`. seed: Likewise.
        progress: False for silence; default: a line in a terminal.

    Raises: StoreError if there is no such study, or one of this name in the store; ValueError if a parameter changes
        its kind or names are wrong; ImportError if Optuna is missing. Nothing is written then.
    """
    optuna = import_optuna("from_optuna")
    with quiet(optuna):
        study = _source(optuna, source, name)
        title, everything = as_name or study.study_name, study.get_trials(deepcopy=False)
    trials = [trial for trial in everything if trial.state.is_finished()]
    reader = _Reader(study, trials, (metrics,) if isinstance(metrics, str) else tuple(metrics), seed)
    for state, count in Counter(t.state.name.lower() for t in everything if not t.state.is_finished()).items():
        reader.left_out.setdefault(f"{count} {state}")
    records = [reader.record(trial) for trial in counted(trials, "reading", len(trials), progress)]
    if algorithm is None:
        from heuretic.search.auto import Auto  # imports numpy

        algorithm = Auto() if len(reader.objectives) == 1 else NSGA2()
    search: Any = algorithm.start(reader.spaces[-1], seed)
    if hasattr(search, "asked"):  # as if it had asked for these trials: it need not begin with random ones
        search.asked = len(records)
    for record in counted(records, "learning", len(records), progress):
        search.tell([replace(record, genome=reader.whole(record)).result])

    opened, main = open_store(store), reader.objectives[0]
    several = tuple((o.name, o.direction, None) for o in reader.objectives) if len(reader.objectives) > 1 else None
    _begin(
        opened,
        StudyRecord(
            name=title, program=dumps(FrozenDict()), start="", algorithm=dumps(algorithm), limits=dumps(reader.limits),
            evaluate="", objective=main.name, direction=main.direction, seed=seed,
            created=min((record.started for record in records), default=time.time()),
            objectives=dumps(several) if several else "",
        ),
        [dumps(space.program) for space in reader.spaces],
    )  # fmt: skip
    facts = {"source": f"Optuna study {study.study_name!r}"}
    if reader.left_out:
        facts["left out"] = "; ".join(reader.left_out)
        warnings.warn(f"left out of study {title!r}: {facts['left out']}", stacklevel=2)
    if study.user_attrs:
        facts["user attributes"] = json.dumps(study.user_attrs, default=str)
    environment = opened.environment(facts)
    state = {
        "search": search.state(), "next": max((r.number for r in records), default=-1) + 1, "reused": 0, "waiting": [],
        "equivalent": 0, "space": len(reader.spaces) - 1, "dequeued": 0,
    }  # fmt: skip
    for place, record in enumerate(records):  # one by one, so that a large study is never in memory twice
        records[place] = replace(record, environment=environment)
    opened.commit(title, records, state, 0)
    return Study(opened, title)


class _Reader:
    """Trials of an Optuna study as records.

    Attributes:
        spaces: First the empty one, from which a study whose choices are met while running starts; then one for each set of
            parameters that some trials lacked some of; last the one with all.
        left_out: What had no place, in words, in order.
    """

    def __init__(self, study: OptunaStudy, trials: Sequence[FrozenTrial], metrics: Sequence[str], seed: int) -> None:
        self.left_out: dict[str, None] = {}
        self.ours = MARK in study.user_attrs
        self._names, self.objectives, self._seed = *_objectives(study, metrics), seed
        self.limits = _limits(trials)
        self._parameters = _parameters(trials)
        for name, each in self._parameters.items():
            if each.renamed:
                self.left_out.setdefault(f"candidates of {name!r}, now texts: {', '.join(each.renamed)}")
        choices = {name: each.choice for name, each in self._parameters.items()}
        self._defaults = FrozenDict(cast(Mapping[str, Any], Space(FrozenDict(choices)).decode(
            Space(FrozenDict(choices)).default())))  # fmt: skip
        partial = dict.fromkeys(frozenset(t.params) for t in trials if len(t.params) < len(choices))
        self._places = {names: place for place, names in enumerate(partial, start=1)}
        self._places[frozenset(choices)] = len(partial) + 1 if choices else 0
        programs = [{n: c if n in names else self._defaults[n] for n, c in choices.items()} for names in partial]
        self.spaces = [Space(FrozenDict(each)) for each in ({}, *programs, choices)]
        if not choices:
            del self.spaces[1:]
            self._places[frozenset()] = 0
        self._gene_of_default = dict(zip(choices, self.spaces[-1].default(), strict=True))

    def whole(self, record: TrialRecord) -> Genome:
        """Return the genome of a record in the space with all parameters."""
        own = self.spaces[record.space]
        genes = {path[0]: gene for path, gene in zip(own.paths, record.genome, strict=True)}
        return tuple(genes.get(name, default) for name, default in self._gene_of_default.items())

    def record(self, trial: FrozenTrial) -> TrialRecord:
        """Return a trial as a record; its environment is left open."""
        place = self._places[frozenset(trial.params)]
        genome = tuple(each.gene(trial.params[name]) for name, each in self._parameters.items() if name in trial.params)
        values, costs, energy, fields = self._attributes(trial)
        own = _own_values(trial)
        values = {**dict(zip(self._names, own, strict=False)), **values}
        values |= {CONSTRAINT + key: float(value) for key, value in trial.constraints.items()}
        state: State = {"COMPLETE": "finished", "PRUNED": "pruned"}.get(trial.state.name, "failed")  # type: ignore[assignment]
        error = fields.get("error")
        if state == "finished" and not all(map(math.isfinite, own)):
            state, error = "failed", f"the values must be finite, got {', '.join(map(str, own))}"
        elif state == "failed" and error is None:
            error = trial.system_attrs.get("fail_reason") or "failed in Optuna, which keeps no reason"
        scores = tuple(values[o.name] * o.sign for o in self.objectives) if state == "finished" else ()
        kept = tuple(limit for limit in self.limits if limit.name in values)  # Optuna: what was not set, holds
        started = trial.datetime_start or trial.datetime_complete
        ended = trial.datetime_complete
        number = int(fields.get("number", trial.number))
        parents = str(fields.get("parents", "")).split()
        return TrialRecord(
            number=number, state=state, genome=genome, digest=digest_bytes(self.spaces[place].decode(genome)).hex(),
            seed=int(fields.get("seed", trial_seed(self._seed, number))), values=values, costs=costs, energy=energy,
            score=scores[0] if scores else None, scores=scores if len(scores) > 1 else (),
            violation=fields.get("violation", total_violation(kept, values) if state != "failed" else 0.0),
            parents=tuple(map(int, parents)), origin=fields.get("origin", "optuna"), worker=fields.get("worker", "optuna"),
            steps=self._steps(trial, fields), started=started.timestamp() if started else 0.0,
            seconds=(ended - started).total_seconds() if started and ended else 0.0, space=place, error=error,
            fingerprint=fields.get("fingerprint"), attempts=int(fields.get("attempts", 1)),
        )  # fmt: skip

    def _attributes(
        self, trial: FrozenTrial
    ) -> tuple[dict[str, float], dict[str, float], dict[str, float], dict[str, Any]]:
        """Return a trial's user attributes as values, costs, energy and, of trials that came from here, fields."""
        groups: dict[str, dict[str, Any]] = {"value.": {}, "cost.": {}, "energy.": {}, "choice.": {}}
        fields: dict[str, Any] = {}
        for name, value in trial.user_attrs.items():
            group = next((g for g in groups if name.startswith(g)), None) if self.ours else None
            if self.ours and name in FIELDS:
                fields[name] = value
            elif group is not None:
                groups[group][name.removeprefix(group)] = value
            elif not isinstance(value, Real):
                self.left_out.setdefault(f"user attribute {name!r}, which is no number")
            else:
                groups["value."][name if name not in self._names else f"user.{name}"] = float(value)
        return groups["value."], groups["cost."], groups["energy."], fields

    def _steps(self, trial: FrozenTrial, fields: Mapping[str, Any]) -> tuple[tuple[int, Mapping[str, float]], ...]:
        if "steps" in fields:
            return tuple((step, metrics) for step, metrics in fields["steps"])
        return tuple((step, {self._names[0]: value}) for step, value in sorted(trial.intermediate_values.items()))


def to_optuna(
    study: Study, storage: str | BaseStorage, name: str | None = None, *, progress: bool | None = None
) -> OptunaStudy:
    """Write a study into a storage of Optuna and return it as Optuna's. Written again, only new trials are added.

    Parameters are named by the paths of choices: numbers are floats or ints, `one_of` a categorical (candidates that are
    not scalars by their names), the count of `repeat` an int, and `some_of` and `permutation` a key from 0 to 1 for each
    item, with what was chosen in the user attribute `choice.PATH`. Objectives are values with their directions and
    names; the first objective's steps are intermediate values; measured limits are constraints. Other metrics, costs,
    energy, digest, seed and the rest of a record are user attributes, by which `from_optuna` reads all back.

    Args:
        storage: URL of a database, or a storage of Optuna. name: What Optuna calls the study; default: as here.

    Raises: StoreError if the storage has another study of this name or cannot be used; ImportError if Optuna is missing.
    """
    optuna = import_optuna("to_optuna")
    with quiet(optuna):
        target = _target(optuna, study, storage, name or study.name)
        known = {each.user_attrs.get("number") for each in target.get_trials(deepcopy=False)}
        parameters = Distributions([loads(text, resolve_names=False) for text in study.store.spaces(study.name)])
        total = sum(study.counts.values())
        for record, row in counted(trials_with_rows(study), "writing", total, progress):
            if record.number not in known:
                target.add_trial(_frozen(optuna, study, record, row, parameters))
    return target


def _frozen(
    optuna: Any, study: Study, record: TrialRecord, row: Mapping[str, Any], parameters: Distributions
) -> FrozenTrial:
    """Return a record as a trial of Optuna."""
    states = optuna.trial.TrialState
    params, distributions, keyed = parameters.of(record.space, record.genome)
    names = [objective.name for objective in study.objectives]
    values: list[float] | None = [record.values.get(name, math.nan) for name in names]
    if record.state == "failed" or any(map(math.isnan, values)):
        values = None
    attributes = {name: row[name] for name in FIELDS if row.get(name) not in (None, "")}
    for metric, value in record.values.items():
        if metric not in names and not metric.startswith(CONSTRAINT):
            clashes = metric in FIELDS or metric.startswith(("value.", "cost.", "energy.", "choice."))
            attributes[f"value.{metric}" if clashes else metric] = value
    attributes |= {name: value for name, value in row.items() if name.startswith(("cost.", "energy."))}
    attributes |= {f"choice.{path}": row[f"choice.{path}"] for path in keyed if f"choice.{path}" in row}
    if any(set(metrics) != {names[0]} for _, metrics in record.steps):
        attributes["steps"] = [[step, dict(metrics)] for step, metrics in record.steps]
    started = datetime.fromtimestamp(record.started)  # Optuna's times are local
    return optuna.trial.FrozenTrial(
        number=0, trial_id=0, value=None, values=values, params=params, distributions=distributions, user_attrs=attributes,
        state={"finished": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[record.state],
        datetime_start=started, datetime_complete=started + timedelta(seconds=record.seconds),
        intermediate_values={step: metrics[names[0]] for step, metrics in record.steps if names[0] in metrics},
        system_attrs=_constraints(study.limits, record.values),
    )  # fmt: skip


def _constraints(limits: Sequence[Limit], values: Mapping[str, float]) -> dict[str, float]:
    """Return what Optuna keeps of the limits on metrics: positive where one is broken."""
    found: dict[str, float] = {}
    for limit in limits:
        value = values.get(limit.name, math.nan)
        key = f"constraints:{limit.name.removeprefix(CONSTRAINT)}"
        if not limit.measured or math.isnan(value):
            continue
        if limit.at_most is not None:
            found[key] = value - limit.at_most
        if limit.at_least is not None:
            found[f"{key} (at least)" if limit.at_most is not None else key] = limit.at_least - value
    return found


def _source(optuna: Any, source: Any, name: str | None) -> OptunaStudy:
    """Open the study that is meant, without creating or upgrading anything."""
    if isinstance(source, optuna.Study):
        if name not in (None, source.study_name):
            raise StoreError(f"name must be {source.study_name!r}, the name of the study given, got {name!r}")
        return source
    shown = _shown(source)
    try:
        storage = _storage(optuna, source, create=False)
        names = optuna.study.get_all_study_names(storage)
    except (RuntimeError, optuna.exceptions.OptunaError, *_database_errors()) as error:
        raise StoreError(f"cannot read {shown} as a storage of Optuna: {_cause(error)}") from error
    if name is None and len(names) != 1:
        raise StoreError(f"name must be given, as {shown} holds {len(names)} studies: {', '.join(names) or 'none'}")
    if name is not None and name not in names:
        raise StoreError(f"no study {name!r} in {shown}; it has {', '.join(names) or 'none'}")
    return optuna.load_study(study_name=name or names[0], storage=storage)


def _target(optuna: Any, study: Study, storage: Any, name: str) -> OptunaStudy:
    """Open or create the study that trials are written to."""
    mark = {"study": study.name, "created": study.created}
    try:
        opened = _storage(optuna, storage, create=True)
        if name not in optuna.study.get_all_study_names(opened):
            made = optuna.create_study(
                storage=opened, study_name=name, directions=[objective.direction for objective in study.objectives]
            )
            made.set_metric_names([objective.name for objective in study.objectives])
            made.set_user_attr(MARK, mark)
            return made
        found = optuna.load_study(study_name=name, storage=opened)
    except (RuntimeError, optuna.exceptions.OptunaError, *_database_errors()) as error:
        raise StoreError(f"cannot use {_shown(storage)} as a storage of Optuna: {_cause(error)}") from error
    if found.user_attrs.get(MARK) != mark:
        raise StoreError(f"name must be new in {_shown(storage)}, which has another study {name!r}. Try another name")
    return found


def _storage(optuna: Any, given: Any, create: bool) -> Any:
    if isinstance(given, optuna.storages.BaseStorage):
        return given
    if not isinstance(given, str):
        raise TypeError(f"storage must be a URL or a storage of Optuna, got {type(given).__name__}")
    if given.startswith("sqlite:///") and not create:
        file = given.removeprefix("sqlite:///").partition("?")[0]
        if not Path(file).exists():
            raise StoreError(f"no file {file}")
    if given.startswith(("postgresql://", "postgres://")):  # the driver that we bring
        given = "postgresql+psycopg://" + given.partition("://")[2]
    return optuna.storages.RDBStorage(given, skip_table_creation=not create)


def _shown(storage: Any) -> str:
    """Return a storage in words, without a password."""
    if not isinstance(storage, str):
        return type(storage).__name__
    head, at, tail = storage.rpartition("@")
    return f"{head.partition('://')[0]}://***@{tail}" if at else storage


def _cause(error: BaseException) -> str:
    """Return what went wrong at first: Optuna wraps the errors of databases in general ones."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(getattr(error, "orig", error)).split())[:300]


def _database_errors() -> tuple[type[Exception], ...]:
    from sqlalchemy.exc import SQLAlchemyError

    return (SQLAlchemyError, ImportError)


def _objectives(study: OptunaStudy, metrics: Sequence[str]) -> tuple[list[str], tuple[Objective, ...]]:
    """Return the objectives' names in Optuna's order, and the objectives in ours: first what is maximised."""
    directions: list[Direction] = [
        "minimize" if direction.name == "MINIMIZE" else "maximize" for direction in study.directions
    ]
    count = len(directions)
    names = list(metrics or study.metric_names or (["value"] if count == 1 else [f"value_{i}" for i in range(count)]))
    if len(names) != count or len(set(names)) < count or "" in names:
        raise ValueError(f"metrics must be {count} different names, one for each objective, got {names}")
    objectives = [Objective(name, direction) for name, direction in zip(names, directions, strict=True)]
    return names, tuple(sorted(objectives, key=lambda objective: objective.sign, reverse=True))


def _limits(trials: Sequence[FrozenTrial]) -> tuple[Limit, ...]:
    names = dict.fromkeys(name for trial in trials for name in trial.constraints)
    return tuple(Limit(CONSTRAINT + name, at_most=0.0) for name in names)


def _parameters(trials: Sequence[FrozenTrial]) -> dict[str, Parameter]:
    """Return all parameters that any trial has, in the order in which they are first met."""
    distributions: dict[str, dict[str, Any]] = {}  # by what they say, as those of objects have no hash
    values: dict[str, list[Any]] = {}
    for trial in trials:
        for name, distribution in trial.distributions.items():
            distributions.setdefault(name, {}).setdefault(repr(distribution), distribution)
            values.setdefault(name, []).append(trial.params[name])
    return {name: parameter(name, ways.values(), values[name]) for name, ways in distributions.items()}


def _own_values(trial: FrozenTrial) -> list[float]:
    """Return the values of a trial; of one pruned without, the last that it reported."""
    if trial.values is not None:
        return [float(value) for value in trial.values]
    if trial.state.name == "PRUNED" and trial.intermediate_values:
        return [trial.intermediate_values[max(trial.intermediate_values)]]
    return []


def _begin(store: Store, record: StudyRecord, programs: Sequence[str]) -> None:
    """Create the study, or go on with one whose import was killed before its trials were written."""
    existing = store.study(record.name)
    if existing is None:
        store.create(record)
    elif store.state(record.name)[0] is not None or replace(existing, created=record.created) != record:
        raise StoreError(f"study {record.name!r} exists already in {store.url}. Try another name with as_name=...")
    known = store.spaces(record.name)
    if known != list(programs[: len(known)]):
        raise StoreError(f"study {record.name!r} exists already in {store.url}. Try another name with as_name=...")
    for program in programs[len(known) :]:
        store.add_space(record.name, program)
