"""`Study`: what a search leaves behind, and `open_study`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields as dataclass_fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from heuretic.search import Limit, Space
from heuretic.search.limits import cost_name
from heuretic.search.pareto import Front
from heuretic.study.artifacts import Artifacts, artifacts_url
from heuretic.study.loop import Stop, joins
from heuretic.study.records import Artifact, Direction, Objective, TrialRecord, Winner
from heuretic.study.store import Store, StoreError, open_store
from heuretic.symbolic import Diff, diff, dumps, loads

if TYPE_CHECKING:
    from heuretic.study.footprint import Footprint


class Study:
    """A study in a store: what was searched, how, and every trial. Reading one runs nothing that it names.

    Attributes:
        name: Its name in the store. store: Where it lives.
        stopped: Why the last run in this process ended: trials, time, target, plateau, exhausted, failures,
            interrupted, or "" if none ran.
        reused: Proposals answered from memory because they repeated a trial; equivalent: those among them that are
            another program which computes the same (see `Equivalence`).
    """

    def __init__(
        self, store: Store, name: str, *, trust: Iterable[str] | None = None, program: Any = None,
        artifacts: str | None = None,
    ) -> None:  # fmt: skip
        record = store.study(name)
        if record is None:
            raise StoreError(f"no study {name!r} in {store.url}; it has {', '.join(store.names()) or 'none'}")
        self.store, self.name, self.record = store, name, record
        self._trust, self._program, self._place = trust, program, artifacts
        self.stopped: Stop = ""
        state, _ = store.state(name)
        self.equivalent: int = state.get("equivalent", 0) if state else 0
        self.reused: int = state["reused"] + self.equivalent if state else 0

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items()) or "no trials"
        best = self.best
        shown = f"; best {self.objective} {best.values[self.objective]:.6g} (trial {best.number})" if best else ""
        if len(self.objectives) > 1:
            shown = (
                f"; {', '.join(f'{o.direction} {o.name}' for o in self.objectives)}: {len(self._front)} on the front"
            )
        return f"Study({self.name!r}: {counts}{shown})"

    @property
    def objective(self) -> str:
        """Name of the metric that decides; of several objectives, the first."""
        return self.record.objective

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """All that the study is after. A reward appears as its description."""
        if not self.record.objectives:
            return (Objective(self.record.objective, self.record.direction),)
        return tuple(Objective(*item) for item in loads(self.record.objectives, resolve_names=False))

    @property
    def direction(self) -> Direction:
        """Whether the objective is maximised or minimised; of several objectives, the first."""
        return self.record.direction

    @property
    def seed(self) -> int:
        """The study's seed."""
        return self.record.seed

    @property
    def created(self) -> float:
        """When the study was created, Unix time in seconds."""
        return self.record.created

    @property
    def evaluate(self) -> str:
        """Importable name of the evaluation."""
        return self.record.evaluate

    @property
    def algorithm(self) -> str:
        """The algorithm and its settings, as text."""
        return " ".join(repr(loads(self.record.algorithm, resolve_names=False)).split())

    @cached_property
    def limits(self) -> tuple[Limit, ...]:
        """The limits; costs that are functions appear as their names."""
        return tuple(_described_limit(item) for item in loads(self.record.limits, resolve_names=False))

    def space(self, index: int = -1) -> Space:
        """Return the space of programs; of a study to which choices were added, the newest."""
        return self._spaces[index]

    @property
    def _spaces(self) -> list[Space]:
        known: list[Space] = self.__dict__.setdefault("_known_spaces", [])
        own = None if self._program is None else dumps(self._program)
        for text in self.store.spaces(self.name)[len(known) :]:
            known.append(Space(self._program if text == own else self._load(text)))
        return known

    def _load(self, text: str) -> Any:
        return loads(text, resolve_names=self._trust is not None, trust=tuple(self._trust or ()))

    @cached_property
    def start(self) -> Any:
        """The program the search started from, complete; None if there is none within the limits."""
        return self._load(self.record.start) if self.record.start else None

    @property
    def trials(self) -> Sequence[TrialRecord]:
        """All trials in order of number, read from the store."""
        return list(self.store.trials(self.name))

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by state."""
        return self.store.counts(self.name)

    @property
    def environments(self) -> Mapping[int, Mapping[str, str]]:
        """Facts about where trials ran, by number."""
        return self.store.environments()

    @cached_property
    def artifacts(self) -> Artifacts:
        """Where its trials save files. Raises: ValueError if that is not known, or cannot be used."""
        place = artifacts_url(self._place, self.store.url)
        if place is None:
            raise ValueError(
                f"artifacts must name the place of files of study {self.name!r}, as {self.store.url} implies none. "
                f"Try open_study(..., artifacts=...) or HEURETIC_ARTIFACTS"
            )
        return Artifacts(place)

    def files(self, trial: TrialRecord | int) -> Mapping[str, Artifact]:
        """Return the files that a trial saved, by name. Raises: ValueError if there is no trial of this number."""
        if isinstance(trial, int):
            number, trial = trial, next(iter(self.store.trials(self.name, [trial])), trial)
            if isinstance(trial, int):
                raise ValueError(f"trial must be one of {sum(self.counts.values())} in {self.name!r}, got {number}")
        return {each.name: each for each in trial.artifacts}

    def open(self, trial: TrialRecord | int, name: str) -> BinaryIO:
        """Open a file that a trial saved as a binary stream, which is checked as it is read, see `Artifacts.open`.

        Raises: ValueError if there is no such trial or file, or it is damaged.
        """
        files = self.files(trial)
        if name not in files:
            number = trial if isinstance(trial, int) else trial.number
            raise ValueError(
                f"name must be a file of trial {number}: {', '.join(files) or 'it has none'}; got {name!r}"
            )
        return self.artifacts.open(files[name])

    def decode(self, record: TrialRecord) -> Any:
        """Return the complete program of a trial."""
        return self.space(record.space).decode(record.genome)

    @property
    def best(self) -> Winner | None:
        """The best finished trial, with its program; None if none finished. Trials within the limits come first.

        Of a study with several objectives, the best by the first of them; see `front`.
        """
        record = self.store.best(self.name)
        return None if record is None else self._winner(record)

    @property
    def front(self) -> list[Winner]:
        """The finished trials that no other dominates, best by the first objective first; of one objective, the best.

        Of trials with equal scores the first stands for all. While no trial keeps the limits, these are the trials that break them least.
        """
        if len(self.objectives) == 1:
            best = self.best
            return [] if best is None else [best]
        winners = [self._winner(record) for record in self.store.trials(self.name, list(self._front))]
        return sorted(winners, key=lambda winner: (tuple(-s for s in winner.scores), winner.number))

    @property
    def _front(self) -> Front:
        front = Front()
        for record in self.store.trials(self.name):
            joins(front, record.result)
        return front

    def _winner(self, record: TrialRecord) -> Winner:
        given = {f.name: getattr(record, f.name) for f in dataclass_fields(TrialRecord)}
        return Winner(**given, program=self.decode(record))

    def enqueue(self, *programs: Any) -> None:
        """Have hand-picked complete programs evaluated next, by the run in progress or by the next one.

        Raises: ValueError naming the place where a program is not in the study's space.
        """
        texts = self.store.spaces(self.name)
        space = Space(loads(texts[-1], resolve_names=False))  # by what it says: a study that is only read knows no more
        for genome in [space.encode(loads(dumps(program), resolve_names=False)) for program in programs]:
            self.store.enqueue(self.name, len(texts) - 1, genome)

    def footprint(self) -> Footprint:
        """Return the energy and emissions of the trials, and what other choices would save."""
        from heuretic.study.footprint import footprint

        return footprint(self.trials, self.best)

    def diff(self) -> Diff:
        """Return what the winner changed of the starting program."""
        best = self.best
        if best is None or self.start is None:
            raise ValueError(f"study {self.name!r} has no winner and starting program to compare")
        return diff(self.start, best.program)

    def report(self, path: str | Path) -> Path:
        """Write a self-contained HTML report and return its path."""
        from heuretic.study.report import render

        target = Path(path)
        target.write_text(render(self), encoding="utf-8")
        return target

    def frame(self, kind: Literal["pandas", "polars"] = "pandas") -> Any:
        """Return the trials as a data frame, one row each: fields, metrics, costs, energy and choices in columns.

        Raises: ImportError if the library is missing.
        """
        from heuretic.study.interop.frames import frame

        return frame(self, kind)


def open_study(
    store: str | Store, name: str | None = None, *, trust: Iterable[str] | None = None, artifacts: str | None = None
) -> Study:
    """Open a study to read it. The name may be left out if the store holds one study only.

    Args:
        trust: Packages whose names may be imported, as in `hr.loads`; then programs can be built. By default nothing
            is imported and programs can only be read.
        artifacts: Where its trials saved files, as in `hr.discover`.

    Raises: StoreError if there is no such study.
    """
    if isinstance(store, str) and store.startswith("sqlite:///"):
        file = store.removeprefix("sqlite:///").partition("?")[0]
        if not Path(file).exists():
            raise StoreError(f"no file {file}")
    opened = open_store(store)
    names = opened.names()
    if name is None:
        if len(names) != 1:
            raise StoreError(
                f"name must be given, as {opened.url} holds {len(names)} studies: {', '.join(names) or 'none'}"
            )
        name = names[0]
    return Study(opened, name, trust=trust, artifacts=artifacts)


def _described_limit(item: Any) -> Limit:
    given = dict(item.__items__())
    given["cost"] = cost_name(given.get("cost", ""))
    return Limit(**given)
