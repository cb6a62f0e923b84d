"""Trials as flat rows and as columns, for CSV, Parquet, JSON and data frames."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from heuretic.study.records import TrialRecord
from heuretic.study.report_choices import ChoiceReader

if TYPE_CHECKING:
    from heuretic.study.study import Study

Format = Literal["csv", "parquet", "json"]
#: What stands before the names in columns of which there is one per metric, cost, part or choice, in this order.
GROUPS = ("value.", "cost.", "energy.", "choice.")


def rows(study: Study) -> Iterator[dict[str, Any]]:
    """Yield one row per trial: the record's fields, metrics as `value.NAME`, costs as `cost.NAME`, energy as
    `energy.PART`, choices as `choice.PATH` (absent where a choice did not apply), and the number of artifacts."""
    return (row for _, row in trials_with_rows(study))


def trials_with_rows(study: Study) -> Iterator[tuple[TrialRecord, dict[str, Any]]]:
    """Yield every trial together with its row."""
    choices = ChoiceReader(study.space)
    for trial in study.store.trials(study.name):
        row: dict[str, Any] = {
            "number": trial.number, "state": trial.state, "digest": trial.digest, "seed": trial.seed,
            "origin": trial.origin, "parents": " ".join(map(str, trial.parents)), "violation": trial.violation,
            "started": trial.started, "seconds": trial.seconds, "worker": trial.worker,
            "environment": trial.environment, "fingerprint": trial.fingerprint, "error": trial.error,
            "attempts": trial.attempts, "artifacts": len(trial.artifacts),
        }  # fmt: skip
        for group, content in zip(GROUPS, (trial.values, trial.costs, trial.energy, choices.read(trial)), strict=True):
            for name, value in content.items():
                row[group + name] = value
        yield trial, row


def columns(study: Study) -> dict[str, list[Any]]:
    """Return all trials as columns of equal length, metrics, costs and choices after the record's fields.

    None stands where a trial has no such value; a candidate that is None becomes the text "None".
    """
    table: dict[str, list[Any]] = {}
    count = 0
    for row in rows(study):
        for name, value in row.items():
            column = table.get(name)
            if column is None:
                column = table[name] = []
            if len(column) < count:
                column.extend([None] * (count - len(column)))
            column.append("None" if value is None and name.startswith("choice.") else value)
        count += 1
    for column in table.values():
        column.extend([None] * (count - len(column)))
    return {name: one_type(table.pop(name)) for name in sorted(table, key=_group)}


def one_type(values: list[Any]) -> list[Any]:
    """Return values of one type: ints among floats become floats, and what has no type in common becomes text."""
    kinds = {type(v) for v in values} - {type(None)}
    if kinds == {int} and any(v is not None and abs(v) >= 2**63 for v in values):
        kinds = {int, float}  # no table has ints that large
    if kinds == {int, float}:
        return [None if v is None else float(v) for v in values]
    return values if len(kinds) <= 1 else [None if v is None else str(v) for v in values]


def export(study: Study, path: str | Path, kind: Format) -> Path:
    """Write all trials to a file and return its path.

    JSON keeps types and step metrics; CSV and Parquet have one column per metric, cost and choice.

    Raises: ImportError if Parquet is asked for and pyarrow is missing.
    """
    target = Path(path)
    if kind == "json":
        trials = [
            {**row, "steps": [[step, dict(metrics)] for step, metrics in trial.steps]}
            for trial, row in trials_with_rows(study)
        ]
        document = {"study": study.name, "objective": study.objective, "direction": study.direction,
                    "objectives": [{"name": o.name, "direction": o.direction} for o in study.objectives],
                    "seed": study.seed, "algorithm": study.algorithm,
                    "environments": {str(k): dict(v) for k, v in study.environments.items()}, "trials": trials}  # fmt: skip
        target.write_text(json.dumps(document, indent=1), encoding="utf-8")
        return target
    if kind == "csv":
        table = columns(study)
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows(zip(*table.values(), strict=True))
        return target
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError("Parquet needs pyarrow. Try: pip install 'heuretic[parquet]'") from None
    pyarrow.parquet.write_table(pyarrow.table(columns(study)), target)
    return target


def _group(name: str) -> int:
    return next((i for i, group in enumerate(GROUPS, 1) if name.startswith(group)), 0)
