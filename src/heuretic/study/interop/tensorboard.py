"""Studies into TensorBoard: a folder of events for each trial, with its hyperparameters, without TensorFlow or torch."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heuretic.search.decisions import Categorical, Interval, Length
from heuretic.study.export import trials_with_rows
from heuretic.study.interop.counting import counted
from heuretic.study.records import TrialRecord

if TYPE_CHECKING:
    from heuretic.study.study import Study


def to_tensorboard(study: Study, folder: str | Path, *, progress: bool | None = None) -> Path:
    """Write a study as events that `tensorboard --logdir FOLDER` shows, and return the study's folder in `folder`.

    Each trial is a run `trial-000012` with its steps as scalars, its metrics as `final/NAME`, costs as `cost/NAME`, energy as
    `energy/PART`, and its choices as hyperparameters. The folder holds what the study's tab "HParams" compares them by.
    Written again, only new trials are added: a run appears whole or not at all.

    Raises: OSError if the folder cannot be written; ImportError if TensorBoard is missing.
    """
    try:
        events = _Events()
    except ImportError:
        raise ImportError("to_tensorboard needs TensorBoard. Try: pip install 'heuretic[tracking]'") from None
    place = Path(folder) / _file_name(study.name)
    names: dict[str, None] = {}
    for trial, row in counted(trials_with_rows(study), "writing", sum(study.counts.values()), progress):
        target = place / f"trial-{trial.number:06d}"
        names.update(dict.fromkeys(_tag(name) for name in row if name.startswith(("value.", "cost.", "energy."))))
        at = int(trial.started or study.created)
        if not (target / _events_file(at)).exists():
            _write_file(target, at, events.of_trial(study.name, trial, row))
    _write_file(place, int(study.created), events.of_study(study, names))
    return place


class _Events:
    """Makes events; the definitions of TensorBoard that this needs import neither TensorFlow nor torch."""

    def __init__(self) -> None:
        self.event: Any = import_module("tensorboard.compat.proto.event_pb2").Event
        self.summary: Any = import_module("tensorboard.compat.proto.summary_pb2").Summary
        self.api: Any = import_module("tensorboard.plugins.hparams.api_pb2")
        self.plugin: Any = import_module("tensorboard.plugins.hparams.plugin_data_pb2")
        self.metadata: Any = import_module("tensorboard.plugins.hparams.metadata")

    def of_trial(self, study: str, trial: TrialRecord, row: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the events of one trial."""
        end = trial.started + trial.seconds
        start = self.plugin.SessionStartInfo(group_name=f"{study} {trial.number}", start_time_secs=trial.started)
        for name, value in row.items():
            if name.startswith("choice."):
                _set(start.hparams[name.removeprefix("choice.")], value)
        yield self._marked(self.metadata.SESSION_START_INFO_TAG, trial.started, session_start_info=start)
        for place, (step, metrics) in enumerate(trial.steps, 1):
            at = trial.started + trial.seconds * place / (len(trial.steps) + 1)  # reports carry no times
            for name, value in metrics.items():
                yield self._scalar(name, value, step, at)
        last = max((step for step, _ in trial.steps), default=0)
        for name, value in row.items():
            if name.startswith(("value.", "cost.", "energy.")):
                yield self._scalar(_tag(name), value, last, end)
        status = self.api.STATUS_FAILURE if trial.state == "failed" else self.api.STATUS_SUCCESS
        closing = self.plugin.SessionEndInfo(status=status, end_time_secs=end)
        yield self._marked(self.metadata.SESSION_END_INFO_TAG, end, session_end_info=closing)

    def of_study(self, study: Study, metrics: Iterable[str]) -> Iterator[Any]:
        """Yield the one event that says which hyperparameters and metrics there are."""
        infos: dict[str, Any] = {}
        for index in range(len(study.store.spaces(study.name))):
            space = study.space(index)
            for place, (path, decision) in enumerate(zip(space.paths, space.decisions, strict=True)):
                name = str(path) or "program"
                info = infos[name] = self.api.HParamInfo(name=name, type=self.api.DATA_TYPE_STRING)
                if isinstance(decision, Interval | Length):
                    info.type = self.api.DATA_TYPE_FLOAT64
                    info.domain_interval.min_value, info.domain_interval.max_value = decision.lo, decision.hi
                elif isinstance(decision, Categorical):
                    values = [space._shown(place, (k,)) for k in range(decision.n)]
                    if all(isinstance(v, bool) for v in values):
                        info.type = self.api.DATA_TYPE_BOOL
                    elif all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
                        info.type = self.api.DATA_TYPE_FLOAT64
                    for value in values:
                        _set(info.domain_discrete.values.add(), value)
        experiment = self.api.Experiment(
            name=study.name, description=", ".join(f"{o.direction} {o.name}" for o in study.objectives),
            time_created_secs=study.created, hparam_infos=infos.values(),
            metric_infos=[self.api.MetricInfo(name=self.api.MetricName(tag=tag)) for tag in metrics],
        )  # fmt: skip
        yield self._marked(self.metadata.EXPERIMENT_TAG, study.created, experiment=experiment)

    def _scalar(self, tag: str, value: float, step: int, at: float) -> Any:
        return self.event(wall_time=at, step=step, summary=self.summary(value=[{"tag": tag, "simple_value": value}]))

    def _marked(self, tag: str, at: float, **content: Any) -> Any:
        metadata = self.metadata.create_summary_metadata(self.plugin.HParamsPluginData(**content))
        value = self.summary.Value(tag=tag, metadata=metadata, tensor=self.metadata.NULL_TENSOR)
        return self.event(wall_time=at, summary=self.summary(value=[value]))


def _set(value: Any, given: Any) -> None:
    """Fill in a value of whichever kind; what is neither number nor bool goes in as text."""
    if isinstance(given, bool):
        value.bool_value = given
    elif isinstance(given, int | float):
        value.number_value = given
    else:
        value.string_value = str(given)


def _tag(name: str) -> str:
    """Return the tag for a metric, cost or energy column."""
    group, _, rest = name.partition(".")
    return f"{'final' if group == 'value' else group}/{rest}"


def _events_file(at: int) -> str:
    return f"events.out.tfevents.{at}.heuretic"


def _write_file(folder: Path, at: int, events: Iterable[Any]) -> None:
    """Write events to a file that appears when it is complete."""
    record_writer: Any = import_module("tensorboard.summary.writer.record_writer")
    event: Any = import_module("tensorboard.compat.proto.event_pb2").Event
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{uuid.uuid4().hex}.part"
    with temporary.open("wb") as file:
        writer = record_writer.RecordWriter(file)
        writer.write(event(wall_time=at, file_version="brain.Event:2").SerializeToString())
        for each in events:
            writer.write(each.SerializeToString())
    os.replace(temporary, folder / _events_file(at))


def _file_name(name: str) -> str:
    """Return a study's name as that of a folder; slashes make folders in folders, as the names of comparisons mean."""
    parts = [re.sub(r"[^\w.\- ]", "_", part).strip(". ") for part in name.split("/")]
    return "/".join(part for part in parts if part) or "study"
