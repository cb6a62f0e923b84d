"""What was chosen in each trial, and where that stands on an axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from heuretic.search import Space
from heuretic.search.decisions import Categorical, Interval, Length
from heuretic.study.records import TrialRecord
from heuretic.study.report_figures import Axis
from heuretic.study.report_text import choice_text, is_number

#: Stands for the value of a choice that does not apply.
UNUSED: Any = object()


class ChoiceReader:
    """The choices of trials by path, as `Space.chosen` shows them, but quick for many trials."""

    def __init__(self, space: Callable[[int], Space]) -> None:
        self._space = space
        self._spaces: dict[int, Space] = {}
        self._labels: dict[tuple[int, int, tuple[Any, ...]], Any] = {}
        self._numeric: dict[int, list[bool]] = {}
        self._names: dict[int, list[str]] = {}
        self._known: dict[int, dict[str, Any]] = {}
        self._intervals: dict[str, Interval | Length] = {}
        self._places: dict[tuple[str, str], float] = {}
        #: Paths of all choices of the spaces seen, in the order of the program.
        self.paths: dict[str, None] = {}

    def __call__(self, record: TrialRecord) -> dict[str, Any]:
        known = self._known.get(record.number)
        if known is None:
            known = self._known[record.number] = self.read(record)
        return known

    def read(self, record: TrialRecord) -> dict[str, Any]:
        """Return the choices of a trial without keeping them for another time."""
        if record.space not in self._spaces:
            self._meet(record.space, self._space(record.space))
        space = self._spaces[record.space]
        names, numeric, genome = self._names[record.space], self._numeric[record.space], record.genome
        chosen: dict[str, Any] = {}
        for i, applies in enumerate(space.active(genome)):
            if not applies:
                continue
            if numeric[i]:
                chosen[names[i]] = genome[space.offsets[i]]
                continue
            key = (record.space, i, space.genes(genome, i))
            if key not in self._labels:
                label = self._labels[key] = space.chosen(genome)[names[i]]
                order = (
                    float(label)
                    if is_number(label)
                    else float(key[2][0])
                    if isinstance(space.decisions[i], Categorical)
                    else 0.0
                )
                self._places.setdefault((names[i], choice_text(label)), order)
            chosen[names[i]] = self._labels[key]
        return chosen

    def _meet(self, index: int, space: Space) -> None:
        names = [str(path) or "program" for path in space.paths]
        self._spaces[index] = space
        self._names[index] = names
        self._numeric[index] = [isinstance(decision, Interval | Length) for decision in space.decisions]
        for name, decision in zip(names, space.decisions, strict=True):
            if isinstance(decision, Interval | Length):
                known = self._intervals.get(name, decision)
                wider = known if (known.hi - known.lo) >= (decision.hi - decision.lo) else decision
                self._intervals[name] = wider
        self.paths.update(dict.fromkeys(names))

    def axis(self, path: str, values: Iterable[Any]) -> Axis:
        """Return the axis for a choice of which these values are to be shown, `UNUSED` where it did not apply."""
        given = list(values)
        present = [value for value in given if value is not UNUSED]
        missing = len(present) < len(given)
        interval = self._intervals.get(path)
        if interval is not None and all(map(is_number, present)):
            log = isinstance(interval, Interval) and interval.log and min(present) > 0
            low, high = min(interval.lo, *present), max(interval.hi, *present)
            whole = isinstance(interval, Length) or interval.whole
            spread = 0.4 / (high - low) if whole and 0 < high - low <= 12 and not log else 0.0
            return Axis(path, low=low, high=high, log=log, missing=missing, spread=spread)
        texts = {choice_text(value) for value in present}
        ordered = sorted(texts, key=lambda text: (self._places.get((path, text), 0.0), text))
        return Axis(path, tuple(ordered), missing=missing, spread=0.4 / max(1, len(ordered)))
