"""Going on with a stored study, also in a larger space, and starting from what other studies know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from heuretic.search import Genome, Limit, Space
from heuretic.search.limits import total_violation
from heuretic.study.loop import with_rewards
from heuretic.study.records import Objective, StudyRecord, TrialRecord
from heuretic.study.store import Store, StoreError
from heuretic.study.study import Study
from heuretic.symbolic import FrozenDict, diff, dumps, loads


def check_same(
    existing: StudyRecord, asked: StudyRecord, store: Store, extend: bool, define_by_run: bool, module: str
) -> None:
    """Refuse to go on with a study that is not the one asked for: its trials would not be comparable."""
    for what in ("program", "algorithm", "objective", "direction", "objectives", "seed", "limits", "start"):
        before, now = getattr(existing, what), getattr(asked, what)
        if what == "program" and not define_by_run:
            before = store.spaces(asked.name)[-1]
            if before != now and extend:
                _extend(asked, store)
                before = now
        if what == "start" and len(store.spaces(asked.name)) > 1:
            continue
        if what == "algorithm" and before != now and _equal(before, now, module):
            continue
        if before != now:
            shown = f"{before!r}, now {now!r}"
            if what in ("program", "algorithm", "limits", "objectives") and before and now:
                read: Callable[[str], Any] = lambda text: loads(text, resolve_names=False)
                shown = str(diff(read(before), read(now)))
            more = ", or extend=True if this program only adds choices or candidates" if what == "program" else ""
            raise StoreError(
                f"study {asked.name!r} in {store.url} was started with another {what}: {shown[:400]}. "
                f"Give this one another name=...{more}"
            )


def _equal(before: str, now: str, module: str) -> bool:
    """Whether two descriptions are of equal algorithms, though the older one lacks settings added since then."""
    trusted = ("heuretic", module.partition(".")[0])
    try:
        return loads(before, trust=trusted) == loads(now, trust=trusted)
    except ValueError:
        return False


def _extend(asked: StudyRecord, store: Store) -> None:
    """Add the program asked for to the study's spaces, after checking that every trial is in it.

    Raises: StoreError naming the place where a trial is not in it.
    """
    spaces = [Space(loads(text, resolve_names=False)) for text in (*store.spaces(asked.name), asked.program)]
    for record in store.trials(asked.name):
        try:
            spaces[-1].encode(spaces[record.space].decode(record.genome))
        except ValueError as error:
            raise StoreError(
                f"study {asked.name!r} cannot be extended: trial {record.number} would be lost, as its {error}. "
                f"Choices may only be added; or give another name=... and warm_start=this study"
            ) from None
    store.add_space(asked.name, asked.program)


def adapter(store: Store, name: str, spaces: list[Space], define_by_run: bool) -> Callable[[Genome, int, int], Genome]:
    """Return a function that carries a genome from one of the study's spaces to a later one."""
    described: list[Space] = []

    def adapt(genome: Genome, before: int, after: int) -> Genome:
        if before == after:
            return genome
        if define_by_run:  # choices are only ever added, at the end; but trials of another tool may have lacked some
            own, other = spaces[before], spaces[after]
            if own.paths == other.paths[: len(own.paths)]:
                return genome + other.default()[len(genome) :]
            return other.encode(FrozenDict({**other.decode(other.default()), **own.decode(genome)}))
        if not described:  # by what the programs say, so that nothing an old one names must still be there
            described.extend(Space(loads(text, resolve_names=False)) for text in store.spaces(name))
        return described[after].encode(described[before].decode(genome))

    return adapt


def earlier_trials(
    studies: Sequence[Study], space: Space, objectives: tuple[Objective, ...], limits: tuple[Limit, ...]
) -> list[TrialRecord]:
    """Return the trials of other studies that are in this space, as records with negative numbers.

    Raises: ValueError if a study has not measured an objective of this one.
    """
    described = Space(loads(dumps(space.program), resolve_names=False))
    found: list[TrialRecord] = []
    for study in studies:
        known = Study(study.store, study.name)
        for record in known.trials:
            if record.score is None:
                continue
            try:
                genome = described.encode(known.decode(record))
            except ValueError:  # not in this space
                continue
            if not space.is_feasible(genome):
                continue
            try:
                values = with_rewards(objectives, record.values, record.costs)
                scores = tuple(values[o.name] * o.sign for o in objectives)
            except KeyError as error:
                raise ValueError(
                    f"warm_start must be a study that measured {error}, got {study.name!r} with "
                    f"{', '.join(record.metrics) or 'nothing'}"
                ) from None
            found.append(
                replace(
                    record, genome=genome, values=values, score=scores[0],
                    scores=scores if len(scores) > 1 else (), violation=total_violation(limits, {**values, **record.costs}),
                    parents=(), origin="warm start", worker=f"study {study.name}", space=0, steps=(), environment=0, artifacts=(),
                )
            )  # fmt: skip
    found.sort(key=lambda record: record.result.rank)  # the best last: algorithms that forget forget the oldest
    return [replace(record, number=-1 - i) for i, record in enumerate(found)]
