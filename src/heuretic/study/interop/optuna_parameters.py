"""Parameters of Optuna as choices, and choices as parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from heuretic.search import Genome, Space, number, one_of
from heuretic.search.decisions import Categorical, Genes, Interval, Length
from heuretic.search.optuna_samplers import Parameters, parameter_values
from heuretic.symbolic import InvalidField, dumps
from heuretic.symbolic.values import freeze, same

# -- from Optuna ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter as a choice.

    Attributes:
        choice: The choice. gene: Maps a value of Optuna to the gene of the choice.
        renamed: Texts that stand for candidates which a program cannot hold.
    """

    choice: Any
    gene: Callable[[Any], int | float]
    renamed: tuple[str, ...] = ()


def parameter(name: str, distributions: Iterable[Any], values: Sequence[Any]) -> Parameter:
    """Return the choice that holds all values a parameter had, from any of its distributions.

    Raises: ValueError if the distributions are of different kinds.
    """
    ways = list(distributions)
    kinds = {type(way).__name__ for way in ways}
    if kinds == {"CategoricalDistribution"}:
        return _categorical(ways)
    if len(kinds) > 1 or not kinds <= {"FloatDistribution", "IntDistribution"}:
        raise ValueError(
            f"parameter {name!r} must be a float, an int or a categorical in all trials, got {', '.join(sorted(kinds))}. "
            f"Give each its own name in Optuna"
        )
    return _number(ways, values, whole=kinds == {"IntDistribution"})


def _number(ways: Sequence[Any], values: Sequence[Any], whole: bool) -> Parameter:
    kind: Callable[[Any], Any] = int if whole else float
    # Values beyond the bounds come from `enqueue_trial`, which only warns of them.
    lo, hi = kind(min(*(w.low for w in ways), *values)), kind(max(*(w.high for w in ways), *values))
    if lo == hi:
        return Parameter(one_of(lo), lambda value: 0)
    log = all(way.log for way in ways) and lo > 0
    steps = {way.step for way in ways}
    step = steps.pop() if len(steps) == 1 and not log else None
    if step is None or (whole and step == 1):
        return Parameter(number(lo, hi, log=log), kind)
    grid = Interval(lo, hi, False, step, whole)

    def on_grid(value: Any) -> int | float:
        return grid._on_grid(round((value - lo) / step))

    if any(abs(on_grid(value) - value) > 1e-6 * step for value in values):  # ranges whose grids do not meet
        return Parameter(number(lo, hi), kind)
    return Parameter(number(lo, hi, step=step), on_grid)


def _categorical(ways: Sequence[Any]) -> Parameter:
    candidates: list[Any] = []
    places: dict[str, int] = {}
    renamed: list[str] = []
    for value in (choice for way in ways for choice in way.choices):
        if _key(value) in places:
            continue
        try:
            candidate = freeze(value)
            dumps(candidate)
        except InvalidField:
            shown = repr(value)
            candidate = f"{type(value).__name__} {len(candidates)}" if " at 0x" in shown else shown
            renamed.append(candidate)
        places[_key(value)] = next((i for i, c in enumerate(candidates) if same(c, candidate)), len(candidates))
        if places[_key(value)] == len(candidates):
            candidates.append(candidate)
    return Parameter(one_of(*candidates), lambda value: places[_key(value)], tuple(renamed))


def _key(value: Any) -> str:
    """Return what tells values of a categorical apart, also those that are equal: 1, 1.0 and True."""
    return f"{type(value).__name__} {value!r}"


# -- to Optuna --------------------------------------------------------------------------------------------------------


class Distributions:
    """The choices of a study as parameters of Optuna, named by their paths.

    Numbers are floats or ints, `one_of` is a categorical of its candidates (of those that are not scalars, their names),
    a count of copies an int. Subsets and orders are a key for each item, as in `OptunaSampler`.
    """

    def __init__(self, programs: Sequence[Any]) -> None:
        self._spaces = [Space(program) for program in programs]
        self._known: dict[int, _SpaceParameters] = {}

    def of(self, index: int, genome: Genome) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        """Return the parameters that apply to a genome of a space and their distributions, both by name, and the paths of
        choices of which the parameters are keys."""
        newest = self._at(len(self._spaces) - 1)
        own = self._at(index)
        if not own.fits(newest):  # Optuna takes one distribution for each name
            genome = newest.space.encode(own.space.decode(genome))
            own = newest
        return own.of(genome)

    def _at(self, index: int) -> _SpaceParameters:
        if index not in self._known:
            self._known[index] = _SpaceParameters(self._spaces[index])
        return self._known[index]


class _SpaceParameters:
    """The parameters of one space: for each decision a path, distributions by name, and a reader of their values."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._names = [str(path) or "program" for path in space.paths]
        self._distributions: list[dict[Any, Any]] = []
        self._read: list[Callable[[Genes], Sequence[Any]]] = []
        self._keyed: list[bool] = []
        keys = Parameters(space).of_decision
        for index, (decision, path) in enumerate(zip(space.decisions, space.paths, strict=True)):
            name = path[0] if len(path) == 1 and isinstance(path[0], str) else self._names[index]
            if isinstance(decision, Categorical):
                distribution, read = _as_categorical(_candidates(space, index))
            elif isinstance(decision, Interval | Length):
                distribution, read = _as_number(decision), _itself
            else:
                self._distributions.append(keys[index])
                self._read.append(lambda genes, decision=decision: parameter_values(decision, genes))
                self._keyed.append(True)
                continue
            self._distributions.append({name: distribution})
            self._read.append(read)
            self._keyed.append(False)

    def fits(self, other: _SpaceParameters) -> bool:
        """Whether the other has all these parameters, with the same distributions."""
        if self is other:
            return True
        theirs = {name: its for each in other._distributions for name, its in each.items()}
        return all(theirs.get(name) == its for each in self._distributions for name, its in each.items())

    def of(self, genome: Genome) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        params: dict[str, Any] = {}
        distributions: dict[str, Any] = {}
        keyed: list[str] = []
        for index, applies in enumerate(self.space.active(genome)):
            if applies:
                its = self._distributions[index]
                params.update(zip(its, self._read[index](self.space.genes(genome, index)), strict=True))
                distributions.update(its)
                if self._keyed[index]:
                    keyed.append(self._names[index])
        return params, distributions, keyed


def _itself(genes: Genes) -> Sequence[Any]:
    return genes


def _as_number(decision: Interval | Length) -> Any:
    from optuna.distributions import FloatDistribution, IntDistribution

    if isinstance(decision, Length):
        return IntDistribution(decision.lo, decision.hi)
    if decision.whole:
        return IntDistribution(int(decision.lo), int(decision.last()), log=decision.log, step=int(decision.step or 1))
    return FloatDistribution(decision.lo, float(decision.last()), log=decision.log, step=decision.step)


def _as_categorical(candidates: Sequence[Any]) -> tuple[Any, Callable[[Genes], Sequence[Any]]]:
    from optuna.distributions import CategoricalDistribution

    shown = list(candidates)
    if any(a == b for i, a in enumerate(shown) for b in shown[:i]):  # to Optuna 1, 1.0 and True are one
        shown = [repr(candidate) for candidate in shown]
    return CategoricalDistribution(tuple(shown)), lambda genes: (shown[int(genes[0])],)


def _candidates(space: Space, index: int) -> list[Any]:
    """Return the candidates of a `one_of` as short values that a person can read."""
    decision = space.decisions[index]
    assert isinstance(decision, Categorical)
    return [space._shown(index, (place,)) for place in range(decision.n)]
