"""Optuna's samplers on our spaces: a run is an Optuna study in memory, of which we keep what is needed to rebuild it."""

from __future__ import annotations

import json
import math
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from inspect import signature
from itertools import groupby
from random import Random
from typing import Any

from heuretic.search.algorithm import Candidate, Result, stream
from heuretic.search.decisions import Categorical, Decision, Genes, Interval, Length, Order, Subset
from heuretic.search.space import Genome, Space
from heuretic.symbolic import FrozenDict, Symbolic, build, field

#: Short names of samplers in `optuna.samplers`.
SAMPLERS = {
    "tpe": "TPESampler", "cmaes": "CmaEsSampler", "gp": "GPSampler", "nsga2": "NSGAIISampler",
    "nsga3": "NSGAIIISampler", "random": "RandomSampler", "qmc": "QMCSampler",
}  # fmt: skip
_ONE_OBJECTIVE = ("cmaes",)
#: Where Optuna keeps what `Trial.set_constraint("violation", ...)` sets.
_CONSTRAINT = "constraints:violation"


class OptunaSampler(Symbolic):
    """A sampler of Optuna as an algorithm: `OptunaSampler("tpe", {"n_startup_trials": 20})`.

    Choices that apply are suggested to Optuna as they are met, named by their paths: `one_of` as a categorical, numbers
    as floats or ints, orders and subsets by random keys (a float for each item; their order counts). Results of
    programs that the run never proposed are added as trials. Programs beyond a computed limit are drawn anew, at most
    `TRIES` times (then drawn from the space); measured violations are constraints, or for samplers that take none
    (cmaes, random, qmc) failures. Needs the extra `optuna`; gp needs scipy and torch besides.

    Every draw is by a sampler made for it, with a seed of its own, so that nothing hides in a sampler's memory. A run
    therefore goes on identically from its state. What this costs: gp fits its kernel from scratch each time. State:
    the numbers of all trials (consecutive ones as one entry), for cmaes also its distribution (about d**2 numbers).
    Optuna needs longer for each candidate the more trials there are. Its log is silenced while it works here, and its
    verbosity then put back.

    Args:
        sampler: tpe, cmaes, gp, nsga2, nsga3, random or qmc. settings: Arguments of the Optuna class, by name;
            symbolic calls among them are built.

    Raises: ImportError, when started, if Optuna is missing; ValueError if it refuses the settings.
    Reference: Akiba et al. 2019, "Optuna: A Next-generation Hyperparameter Optimization Framework", arXiv:1907.10902;
    for tpe Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization"; for cmaes Hansen 2016, "The CMA
    Evolution Strategy: A Tutorial", arXiv:1604.00772.
    """

    sampler: str = "tpe"
    settings: Mapping[str, Any] = field(default=FrozenDict())

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {self.sampler!r}")
        if "seed" in self.settings:
            raise ValueError("settings must not hold seed, got one. Give the seed to the study")

    @property
    def several_objectives(self) -> bool:
        """Whether the sampler takes several objectives at once."""
        return self.sampler not in _ONE_OBJECTIVE

    def start(self, space: Space, seed: int = 0) -> OptunaRun:
        """Begin a run."""
        return OptunaRun(self, space, seed)


class OptunaRun:
    """State: candidates asked for, and the Optuna study's trials in order, with what the sampler noted on them.

    `slots` has an entry for each trial of the Optuna study: a result, the genome of a candidate whose result is not
    known yet, or None for a draw that was not feasible.
    """

    TRIES = 30

    def __init__(self, settings: OptunaSampler, space: Space, seed: int) -> None:
        self.settings, self.space, self.seed, self.asked = settings, space, seed, 0
        self.slots: list[Result | Genome | None] = []
        self.notes: list[dict[str, Any]] = []
        self.waiting: dict[Genome, list[int]] = {}
        self.objectives, self.constrained = 1, False
        self._optuna = import_optuna()
        self._constant = stream(seed, 1 << 62).getrandbits(31)  # for sequences that must have one seed throughout
        self._params = Parameters(space)
        self._shared: dict[str, Any] = {}
        with quiet(self._optuna):
            self._sampler(Random(0))  # refuses wrong settings now rather than in the first trial
            self._open()

    # -- proposing ----------------------------------------------------------------------------------------------

    def ask(self, n: int = 1) -> list[Candidate]:
        with quiet(self._optuna):
            return [Candidate(self._next()) for _ in range(n)]

    def _next(self) -> Genome:
        rng = stream(self.seed, self.asked)
        self.asked += 1
        for _ in range(self.TRIES):
            self._study.sampler = self._sampler(rng)
            trial = self._study.ask()
            genome = self._params.suggest(self.space, trial)
            self._settle(trial, genome)
            if self.space.is_feasible(genome):
                self._expect(genome, self._storage.get_trial(trial._trial_id).system_attrs)
                return genome
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
            self.slots.append(None)
            self.notes.append({})
        genome = self.space.sample(rng)
        self._add(genome, {})
        self._expect(genome, {})
        return genome

    def _settle(self, trial: Any, genome: Genome) -> None:
        """Make the trial's parameters a function of the genome, and forget what only serves other processes."""
        drawn = self._storage.get_trial(trial._trial_id)
        for name, value in self._params.of(self.space, genome)[0].items():
            if drawn.params[name] != value:
                distribution = drawn.distributions[name]
                self._storage.set_trial_param(trial._trial_id, name, distribution.to_internal_repr(value), distribution)
        for key in drawn.system_attrs:
            if "relative_params" in key:
                self._storage.set_trial_system_attr(trial._trial_id, key, "")

    def _expect(self, genome: Genome, notes: Mapping[str, Any]) -> None:
        self.waiting.setdefault(genome, []).append(len(self.slots))
        self.slots.append(genome)
        self.notes.append({key: value for key, value in notes.items() if value != ""})

    def _sampler(self, rng: Random) -> Any:
        """Return a new sampler with a seed drawn from `rng`."""
        seed, name = rng.getrandbits(31), self.settings.sampler
        cls = getattr(self._optuna.samplers, SAMPLERS[name])
        given = {key: build(value) for key, value in self.settings.settings.items()}
        given["seed"] = seed
        if name == "qmc":
            given.update(seed=self._constant, independent_sampler=self._optuna.samplers.RandomSampler(seed=seed))
        try:
            sampler = cls(**given)
        except TypeError as error:
            known = [p for p in signature(cls).parameters if p not in ("seed", "constraints_func")]
            raise ValueError(f"settings must be of {', '.join(known)}, got {dict(self.settings.settings)}") from error
        for key, value in vars(sampler).items():  # the parameters that all trials share, worked out once for all draws
            if isinstance(value, self._optuna.search_space.IntersectionSearchSpace):
                setattr(sampler, key, self._shared.setdefault(key, value))
        return sampler

    # -- taking in ----------------------------------------------------------------------------------------------

    def tell(self, results: Sequence[Result]) -> None:
        with quiet(self._optuna):
            for result in results:
                self._tell(result)

    def _tell(self, result: Result) -> None:
        places = self.waiting.pop(result.genome, [])
        if places:
            for place in places:
                self.slots[place] = result
        else:
            self.slots.append(result)
            self.notes.append({})
        objectives = max(self.objectives, len(result.scores))
        constrained = self.constrained or (result.violation > 0 and self._takes_constraints)
        if (objectives, constrained) != (self.objectives, self.constrained):
            self.objectives, self.constrained = objectives, constrained
            self._open()  # an Optuna study cannot change these later
            return
        state, values = self._outcome(result)
        for place in places:
            if self.constrained and values is not None:
                self._storage.set_trial_system_attr(place, _CONSTRAINT, _bounded(result.violation))
            self._study.tell(place, values, state)
        if not places:
            self._add(result, {})

    @property
    def _takes_constraints(self) -> bool:
        return self.settings.sampler in ("tpe", "gp", "nsga2", "nsga3")

    def _outcome(self, result: Result) -> tuple[Any, list[float] | None]:
        """Return Optuna's state and values of a result."""
        states = self._optuna.trial.TrialState
        scores = result.scores or (() if result.score is None else (result.score,))
        broken = result.violation > 0 and not self._takes_constraints
        if result.score is None or broken or len(scores) != self.objectives or any(math.isnan(s) for s in scores):
            return states.FAIL, None
        return states.COMPLETE, list(scores)

    # -- the Optuna study ---------------------------------------------------------------------------------------

    def _open(self, study_notes: Mapping[str, Any] | None = None) -> None:
        """Make the Optuna study anew from the slots."""
        notes = study_notes if study_notes is not None else self._study_notes()
        self._shared = {}
        self._storage = self._optuna.storages.InMemoryStorage()
        self._study = self._optuna.create_study(
            storage=self._storage, directions=["maximize"] * self.objectives,
            sampler=self._optuna.samplers.RandomSampler(seed=0),
        )  # fmt: skip
        for slot, noted in zip(self.slots, self.notes, strict=True):
            self._add(slot, noted)
        for key, value in notes.items():
            self._storage.set_study_system_attr(self._study._study_id, key, value)

    def _study_notes(self) -> dict[str, Any]:
        if not hasattr(self, "_study"):
            return {}
        noted = self._storage.get_study_system_attrs(self._study._study_id)
        last = max((int(key.rpartition(":")[2]) for key in noted if ":parent:" in key), default=0)
        kept = {k: v for k, v in noted.items() if ":parent:" not in k or int(k.rpartition(":")[2]) == last}
        return json.loads(json.dumps(kept))

    def _add(self, slot: Result | Genome | None, noted: Mapping[str, Any]) -> None:
        """Add a trial to the Optuna study."""
        states = self._optuna.trial.TrialState
        genome = slot.genome if isinstance(slot, Result) else slot
        params, distributions = self._params.of(self.space, genome) if genome is not None else ({}, {})
        attributes, values = dict(noted), None
        if isinstance(slot, Result):
            state, values = self._outcome(slot)
            if self.constrained and values is not None:
                attributes[_CONSTRAINT] = _bounded(slot.violation)
        else:
            state = states.FAIL if slot is None else states.RUNNING
        self._study.add_trial(
            self._optuna.trial.create_trial(
                state=state, values=values, params=params, distributions=distributions, system_attrs=attributes
            )
        )

    # -- going on later -----------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"asked": self.asked, "trials": _runs(self.slots)}
        if self.objectives > 1 or self.constrained:
            state |= {"objectives": self.objectives, "constrained": self.constrained}
        study = self._study_notes()
        if study:
            state["study"] = study
        for key in dict.fromkeys(key for noted in self.notes for key in noted):
            if ":optimizer:" not in key:
                values = groupby(noted.get(key) for noted in self.notes)
                state.setdefault("notes", {})[key] = [[value, len(list(same))] for value, same in values]
        optimizers = [[place, key, _plain(pickle.loads(held))] for place, key, held in self._optimizers()]
        return state | {"optimizers": optimizers} if optimizers else state

    def _optimizers(self) -> Iterator[tuple[int, str, bytes]]:
        """Yield the pickles that cmaes may still go on from: that of the last finished trial, and those under way."""
        for place in range(len(self.notes) - 1, -1, -1):
            slot = self.slots[place]
            parts = {key: value for key, value in self.notes[place].items() if ":optimizer:" in key}
            if parts and (not isinstance(slot, Result) or self._outcome(slot)[1] is not None):
                key = next(iter(parts)).rpartition(":")[0]
                yield place, key, bytes.fromhex("".join(parts[f"{key}:{i}"] for i in range(len(parts))))
                if isinstance(slot, Result):
                    return

    def restore(self, state: dict[str, Any], results: Callable[[Iterable[int]], list[Result]]) -> None:
        self.asked = state["asked"]
        self.objectives, self.constrained = state.get("objectives", 1), state.get("constrained", False)
        runs = state["trials"]
        numbers = sorted(
            {n for first, *count in runs if isinstance(first, int) for n in range(first, first + count[0])}
        )
        known = {result.number: result for result in results(numbers)}
        self.slots = []
        for first, *count in runs:
            if isinstance(first, list):
                self.slots.append(tuple(first))
            elif first is None:
                self.slots.extend([None] * count[0])
            else:
                self.slots.extend(known.get(number) for number in range(first, first + count[0]))
        self.waiting = {}
        for place, slot in enumerate(self.slots):
            if isinstance(slot, tuple):
                self.waiting.setdefault(slot, []).append(place)
        self.notes = [{} for _ in self.slots]
        for key, values in state.get("notes", {}).items():
            for noted, value in zip(self.notes, (v for v, count in values for _ in range(count)), strict=True):
                if value is not None:
                    noted[key] = value
        for place, key, plain in state.get("optimizers", []):
            self.notes[place][f"{key}:0"] = pickle.dumps(_unplain(plain)).hex()
        with quiet(self._optuna):
            self._open(state.get("study", {}))

    def grow(self, space: Space, adapt: Callable[[Genome], Genome]) -> None:
        self.space, self._params = space, Parameters(space)
        for place, slot in enumerate(self.slots):
            if isinstance(slot, Result):
                self.slots[place] = replace(slot, genome=adapt(slot.genome))
            elif slot is not None:
                self.slots[place] = adapt(slot)
        self.waiting = {adapt(genome): places for genome, places in self.waiting.items()}
        self.notes = [{} for _ in self.slots]  # distributions and generations over the old space
        with quiet(self._optuna):
            self._open({})


class Parameters:
    """The parameters of Optuna for each decision of a space, and their values for a genome."""

    def __init__(self, space: Space) -> None:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        self.of_decision: list[dict[str, Any]] = []
        for decision, path in zip(space.decisions, space.paths, strict=True):
            name = str(path) or "program"
            if isinstance(decision, Categorical):
                its: dict[str, Any] = {name: CategoricalDistribution(tuple(range(decision.n)))}
            elif isinstance(decision, Length):
                its = {name: IntDistribution(decision.lo, decision.hi)}
            elif isinstance(decision, Interval) and _is_indexed(decision):
                its = {name: IntDistribution(0, int(decision.size()) - 1)}
            elif isinstance(decision, Interval) and decision.whole:
                its = {name: IntDistribution(int(decision.lo), int(decision.hi), log=decision.log)}
            elif isinstance(decision, Interval):
                its = {name: FloatDistribution(decision.lo, decision.hi, log=decision.log)}
            elif isinstance(decision, Subset | Order):
                its = {f"{name}#{i}": FloatDistribution(0.0, 1.0) for i in range(decision.n)}
                if isinstance(decision, Subset):
                    its = {f"{name}#": IntDistribution(decision.lo, decision.hi), **its}
            else:
                raise TypeError(f"OptunaSampler knows no {type(decision).__name__}, the kind of decision at {name}")
            self.of_decision.append(its)

    def suggest(self, space: Space, trial: Any) -> Genome:
        """Have the sampler choose everything that applies; return the genome."""
        genome = list(space.default())
        applies: list[bool] = []
        for index, (decision, its) in enumerate(zip(space.decisions, self.of_decision, strict=True)):
            parent, start = space.parents[index], space.offsets[index]
            if parent is None:
                on = True
            else:
                above, branch = parent
                on = applies[above] and space.decisions[above].selects(space.genes(tuple(genome), above), branch)
            applies.append(on)
            if on:
                values = [_suggested(trial, name, distribution) for name, distribution in its.items()]
                genome[start : start + decision.width] = _genes(decision, values)
        return tuple(genome)

    def of(self, space: Space, genome: Genome) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the parameters that apply to a genome, with their distributions, both by name."""
        params: dict[str, Any] = {}
        distributions: dict[str, Any] = {}
        for index, on in enumerate(space.active(genome)):
            if on:
                its = self.of_decision[index]
                params.update(
                    zip(its, parameter_values(space.decisions[index], space.genes(genome, index)), strict=True)
                )
                distributions.update(its)
        return params, distributions


def _suggested(trial: Any, name: str, distribution: Any) -> Any:
    kind = type(distribution).__name__
    if kind == "CategoricalDistribution":
        return trial.suggest_categorical(name, distribution.choices)
    suggest = trial.suggest_int if kind == "IntDistribution" else trial.suggest_float
    return suggest(name, distribution.low, distribution.high, log=distribution.log)


def _is_indexed(decision: Interval) -> bool:
    """Whether the parameter is the place on the number's grid instead of the number."""
    return decision.step is not None and not (decision.whole and decision.step == 1)


def _genes(decision: Decision, values: list[Any]) -> Genes:
    """Return the genes of a decision for the values of its parameters."""
    if isinstance(decision, Interval):
        return (list(decision.values())[values[0]] if _is_indexed(decision) else values[0],)
    if isinstance(decision, Order):
        return tuple(sorted(range(decision.n), key=values.__getitem__))
    if isinstance(decision, Subset):
        size, keys = values[0], values[1:]
        picked = sorted(range(decision.n), key=keys.__getitem__)[:size]
        return (*(picked if decision.ordered else sorted(picked)), *(-1,) * (decision.hi - size))
    return (values[0],)


def parameter_values(decision: Decision, genes: Genes) -> list[Any]:
    """Return the values of a decision's parameters for its genes: `_genes(decision, parameter_values(decision, g)) == g`."""
    if isinstance(decision, Interval) and _is_indexed(decision):
        return [list(decision.values()).index(genes[0])]
    if isinstance(decision, Order):
        return [(genes.index(item) + 0.5) / decision.n for item in range(decision.n)]
    if isinstance(decision, Subset):
        picked = [int(gene) for gene in genes if gene >= 0]
        if not decision.ordered:  # which are in counts, not their order
            return [len(picked), *(0.25 if item in picked else 0.75 for item in range(decision.n))]
        order = [*picked, *(item for item in range(decision.n) if item not in picked)]
        return [len(picked), *((order.index(item) + 0.5) / decision.n for item in range(decision.n))]
    return [genes[0]]


def _runs(slots: Sequence[Result | Genome | None]) -> list[list[Any]]:
    """Return slots shortened: [number, count] for consecutive results, [null, count], or [genome]."""
    runs: list[list[Any]] = []
    for slot in slots:
        if isinstance(slot, tuple):
            runs.append([list(slot)])
            continue
        number = slot.number if slot is not None else None
        last = runs[-1] if runs and len(runs[-1]) == 2 else None
        if last is not None and (last[0] is None if number is None else last[0] is not None and sum(last) == number):
            last[1] += 1
        else:
            runs.append([number, 1])
    return runs


def _plain(value: Any) -> Any:
    """Return an optimizer of the package cmaes as JSON-able values; a store must never hold pickles."""
    import numpy as np

    if isinstance(value, np.ndarray):
        flat = [float(v) if math.isfinite(v) else None for v in value.ravel()]
        return {"shape": list(value.shape), "values": flat}
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if value is None or isinstance(value, bool | int | str):
        return value
    if type(value).__module__.partition(".")[0] == "cmaes":
        held = {key: v for key, v in vars(value).items() if not isinstance(v, np.random.RandomState)}
        return {"class": type(value).__name__, "held": {key: _plain(v) for key, v in held.items()}}
    raise TypeError(f"cannot keep {type(value).__name__} of an optimizer")


def _unplain(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    import numpy as np

    if "shape" in value:
        flat = [math.nan if v is None else v for v in value["values"]]
        return np.array(flat, dtype=float).reshape(value["shape"])
    if "float" in value:
        return float(value["float"])
    if value["class"] not in ("CMA", "SepCMA", "CMAwM"):
        raise ValueError(f"state must hold an optimizer of cmaes, got {value['class']!r}")
    made = object.__new__(getattr(import_module("cmaes"), value["class"]))
    vars(made).update({key: _unplain(v) for key, v in value["held"].items()}, _rng=np.random.RandomState(0))
    return made


def _bounded(violation: float) -> float:
    return min(violation, 1e9)  # models cannot take infinity


def import_optuna(what: str = "OptunaSampler") -> Any:
    """Return the module `optuna`. Raises: ImportError saying that `what` needs it, if it is missing or too old."""
    try:
        optuna = import_module("optuna")
    except ImportError as error:
        raise ImportError(
            f"{what} needs Optuna, which is not installed. Try: pip install 'heuretic[optuna]'"
        ) from error
    if int(optuna.__version__.partition(".")[0]) < 5:
        raise ImportError(
            f"{what} needs Optuna 5 or newer, got {optuna.__version__}. Try: pip install 'heuretic[optuna]'"
        )
    return optuna


@contextmanager
def quiet(optuna: Any) -> Iterator[None]:
    """Silence Optuna's log and its notes on experimental and old settings for as long as it works for us."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
