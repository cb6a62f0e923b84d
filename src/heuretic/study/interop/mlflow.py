"""Studies into MLflow: a run for the study, and below it one for each trial."""

from __future__ import annotations

import logging
import os
import posixpath
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from importlib import import_module
from typing import TYPE_CHECKING, Any

from heuretic.study.export import trials_with_rows
from heuretic.study.interop.counting import counted
from heuretic.study.records import TrialRecord
from heuretic.study.store import StoreError

if TYPE_CHECKING:
    from heuretic.study.study import Study

#: What a batch of MLflow may hold.
METRICS, PARAMS, LENGTH = 1000, 100, 6000
_STATUS = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


def to_mlflow(
    study: Study, tracking_uri: str, experiment: str | None = None, *, artifacts: bool = True,
    progress: bool | None = None,
) -> str:  # fmt: skip
    """Write a study to MLflow and return the id of its run, of which the trials' runs are children.

    Of each trial: choices as params, metrics, costs (`cost.NAME`) and energy (`energy.PART`) as metrics, steps as steps of the
    metrics, and as tags (`heuretic.state`, `.digest`, `.seed`, ...) the rest of the record, the facts of its environment
    and its error. Characters that MLflow refuses in names become "_". Written again, only new trials are added; a run
    that was being written when the process was killed is written anew. Runs of pruned trials are KILLED.

    MLflow's telemetry is switched off in this process, unless MLFLOW_DISABLE_TELEMETRY says otherwise.

    Args:
        tracking_uri: Where MLflow keeps runs: "sqlite:///mlflow.db", a server's "http://...", or a folder, which MLflow
            takes only with MLFLOW_ALLOW_FILE_STORE=true. With a database, files go to `mlruns` in the working directory.
        experiment: Name of the experiment, made if there is none; default: the study's name.
        artifacts: Whether to copy the files that trials saved, too.

    Raises: StoreError if MLflow cannot use the place; ImportError if MLflow is missing.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it is read when MLflow is imported
    try:
        mlflow: Any = import_module("mlflow")
        entities: Any = import_module("mlflow.entities")
        refused: Any = import_module("mlflow.exceptions").MlflowException
    except ImportError:
        raise ImportError("to_mlflow needs MLflow. Try: pip install 'heuretic[tracking]'") from None
    with _quiet():
        try:
            client = mlflow.MlflowClient(tracking_uri=tracking_uri)
            writer = _Writer(client, entities, study, _experiment(client, experiment or study.name), artifacts)
            known = writer.known()
            for trial, row in counted(trials_with_rows(study), "writing", sum(study.counts.values()), progress):
                if trial.number not in known:
                    writer.write(trial, row)
            writer.finish()
            return writer.parent
        except refused as error:
            raise StoreError(f"cannot write to MLflow at {_shown(tracking_uri)}: {error}") from error


class _Writer:
    """Runs of one study in one experiment.

    Attributes:
        parent: Id of the study's run.
    """

    def __init__(self, client: Any, entities: Any, study: Study, experiment: str, artifacts: bool) -> None:
        self._client, self._entities, self._study, self._experiment = client, entities, study, experiment
        self._artifacts = artifacts
        self._environments = study.environments
        self._names: dict[str, str] = {}
        #: A study of the same name in another store is another study.
        key = blake2b(f"{study.created!r} {study.name}".encode(), digest_size=8).hexdigest()
        self._mark = {"heuretic.study": study.name, "heuretic.key": key}
        runs = list(self._runs(key))
        parents = [run for run in runs if "heuretic.number" not in run.data.tags]
        self._children = [run for run in runs if "heuretic.number" in run.data.tags]
        self._best = parents[0].data.tags.get("heuretic.best") if parents else None
        self.parent: str = parents[0].info.run_id if parents else self._create_parent()

    def _runs(self, key: str) -> Iterator[Any]:
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.`heuretic.key` = '{key}'", max_results=1000, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _create_parent(self) -> str:
        study = self._study
        goals = ", ".join(f"{objective.direction} {objective.name}" for objective in study.objectives)
        tags = {
            **self._mark, "mlflow.runName": study.name, "heuretic.objectives": goals, "heuretic.algorithm": study.algorithm,
            "heuretic.seed": str(study.seed), "heuretic.store": study.store.url, "heuretic.evaluate": study.evaluate,
        }  # fmt: skip
        made = self._client.create_run(self._experiment, round(study.created * 1000), tags, study.name)
        return made.info.run_id

    def known(self) -> set[int]:
        """Return the numbers of the trials that are written completely; delete runs that are not."""
        whole: set[int] = set()
        for run in self._children:
            if run.info.status in _STATUS.values():
                whole.add(int(run.data.tags["heuretic.number"]))
            else:
                self._client.delete_run(run.info.run_id)
        return whole

    def write(self, trial: TrialRecord, row: Mapping[str, Any]) -> None:
        """Write a trial as a run, which has an end only when all of it is there."""
        start = round(trial.started * 1000)
        end = start + round(trial.seconds * 1000)
        facts = self._environments.get(trial.environment, {})
        fields = {name: value for name, value in row.items() if "." not in name and value not in (None, "")}
        tags = {f"heuretic.{name}": str(value)[:LENGTH] for name, value in fields.items()}
        tags |= {f"environment.{name}": str(value)[:LENGTH] for name, value in facts.items()}
        tags = {self._name(name): value for name, value in tags.items()}
        named = {**self._mark, "heuretic.number": str(trial.number), "mlflow.parentRunId": self.parent}
        run = self._client.create_run(self._experiment, start, named, f"{self._study.name} {trial.number}")
        key = run.info.run_id
        for some in _parts([self._entities.RunTag(*item) for item in tags.items()], PARAMS):
            self._client.log_batch(key, tags=some)
        chosen = {name.removeprefix("choice."): value for name, value in row.items() if name.startswith("choice.")}
        params = [self._entities.Param(self._name(name), str(value)[:LENGTH]) for name, value in chosen.items()]
        for some in _parts(params, PARAMS):
            self._client.log_batch(key, params=some)
        for some in _parts(list(self._metrics(trial, row, start, end)), METRICS):
            self._client.log_batch(key, metrics=some)
        if self._artifacts and trial.artifacts:
            self._copy(key, trial)
        self._client.set_terminated(key, _STATUS[trial.state], end)

    def _metrics(self, trial: TrialRecord, row: Mapping[str, Any], start: int, end: int) -> Iterator[Any]:
        """Yield the steps of a trial and, one step after the last, what it ended with."""
        last = max((step for step, _ in trial.steps), default=-1)
        for place, (step, metrics) in enumerate(trial.steps, 1):
            at = start + round((end - start) * place / (len(trial.steps) + 1))  # reports carry no times
            for name, value in metrics.items():
                yield self._entities.Metric(self._name(name), value, at, step)
        for name, value in row.items():
            if name.startswith(("value.", "cost.", "energy.")):
                yield self._entities.Metric(self._name(name.removeprefix("value.")), value, end, last + 1)

    def _copy(self, key: str, trial: TrialRecord) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for artifact in trial.artifacts:
                self._study.artifacts.extract(artifact, folder)
            self._client.log_artifacts(key, folder)

    def _name(self, name: str) -> str:
        """Return a name that MLflow takes, a different one for each."""
        if name not in self._names:
            plain = re.sub(r"[^\w.\- /]", "_", name).strip("/. ")[:200] or "_"
            plain = plain if posixpath.normpath(plain) == plain else plain.replace("/", "_")
            taken = set(self._names.values())
            numbered = (f"{plain}_{i}" for i in range(2, 10_000))
            self._names[name] = plain if plain not in taken else next(n for n in numbered if n not in taken)
        return self._names[name]

    def finish(self) -> None:
        """Write to the study's run what the best trial has, and end it."""
        best = self._study.best
        if best is not None and str(best.number) != self._best:
            at = round((best.started + best.seconds) * 1000)
            metrics = [self._entities.Metric(self._name(name), value, at, 0) for name, value in best.values.items()]
            for some in _parts(metrics, METRICS):
                self._client.log_batch(self.parent, metrics=some)
            self._client.set_tag(self.parent, "heuretic.best", str(best.number))
        self._client.set_terminated(self.parent, "FINISHED")


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[first : first + size] for first in range(0, len(items), size))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow from reporting on the tables that it creates."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _shown(uri: str) -> str:
    head, at, tail = uri.rpartition("@")
    return f"{head.partition('://')[0]}://***@{tail}" if at else uri


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        return client.create_experiment(name)
    if found.lifecycle_stage == "deleted":
        raise StoreError(f"experiment {name!r} is deleted in MLflow. Restore it, or name another one")
    return found.experiment_id
