"""Sharing a study: what `discover(..., engine="workers")` sets up, and how `heuretic worker` joins it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from heuretic.study.code import Code, collect
from heuretic.study.conditions import Conditions, Retry
from heuretic.study.engines import EngineError, Report
from heuretic.study.engines.processes import Processes
from heuretic.study.engines.workers import Workers
from heuretic.study.queue import Queue
from heuretic.study.sql_store import SqlStore
from heuretic.study.store import Store, StoreError
from heuretic.study.study import Study
from heuretic.study.trial import Evaluate, Evaluator
from heuretic.study.worker import Worker
from heuretic.symbolic import InvalidField
from heuretic.symbolic.names import find, name_of

#: Which code a worker runs: its own if it is that of the study; its own whatever it is; that kept with the study.
WhichCode = Literal["same", "own", "kept"]


def share(
    store: Store, study: str, evaluator: Evaluator, code: Code | None, report: Report, conditions: Conditions, workers: int,
    prunes: bool, note: Callable[[str], None],
) -> Workers:  # fmt: skip
    """Return the engine of a study whose trials are evaluated by workers, with so many of them in this process's charge.

    Raises: StoreError if the store is not one that other processes can open; EngineError if they could not run the evaluation.
    """
    if not isinstance(store, SqlStore):
        raise StoreError(
            "engine='workers' must have a store that other processes can open. Try store='sqlite:///study.db'"
        )
    try:
        name = name_of(evaluator.evaluate)
    except (InvalidField, TypeError) as error:
        raise EngineError(f"evaluate must be importable to run in other processes: {error}") from error
    if code is None:
        raise EngineError("evaluate must be defined in a Python file to run in other processes")
    queue = Queue(store, study)
    queue.keep_code(code.digest, code.files)
    terms: dict[str, Any] = {
        "evaluate": name, "code": code.digest, "define_by_run": evaluator.define_by_run, "required": evaluator.required,
        "watched": evaluator.watched, "prunes": prunes, "artifacts": evaluator.artifacts,
        "energy": None if evaluator.energy is None else asdict(evaluator.energy), "retry": asdict(conditions.retry),
        "timeout_s": conditions.timeout_s, "memory_mb": conditions.memory_mb,
    }  # fmt: skip
    trust = (name.partition(":")[0].partition(".")[0],) if evaluator.define_by_run else None

    def local(stopping: threading.Event) -> None:
        own = SqlStore(store.secret_url)
        worker = Worker(
            own, study, lambda said: Processes(evaluator, said, workers, conditions), Study(own, study, trust=trust).space,
            conditions.retry, prunes, facts={"code": code.digest},
        )  # fmt: skip
        worker.run(lambda: "now" if stopping.is_set() else "")

    return Workers(store, study, report, conditions, terms, note, local if workers else None, trust or ())


def join(
    store: SqlStore, study: str, *, workers: int = 1, code: WhichCode = "same", folder: str | Path = ".",
    trust: Iterable[str] = (), idle_s: float = 600.0,
) -> Worker:  # fmt: skip
    """Return a worker for a shared study, ready to run.

    Args:
        code: "same" runs the code found here if it is that of the study; "own" runs it whatever it is, and the digest is
            recorded with each trial; "kept" runs the code that is kept with the study: only for those who trust
            everybody that may write to the database.
        folder: Where the code lies here. trust: Packages that the study's programs may name, besides those that its
            code imports.

    Raises: StoreError if the study is not shared; EngineError if its code is not here or is another one.
    """
    queue = Queue(store, study)
    standing = queue.standing()
    terms = standing.terms
    if not terms:
        raise StoreError(
            f"study {study!r} in {store.url} is not shared with workers. Try hr.discover(..., engine='workers')"
        )
    kept = queue.kept_code(terms["code"])
    evaluate = _evaluation(study, terms, kept, code, Path(folder))
    trusted = {terms["evaluate"].partition(":")[0].partition(".")[0], *collect(evaluate).imports(), *trust}
    known = Study(store, study, trust=trusted)
    spaces = [known.space(index) for index in range(len(store.spaces(study)))]
    own = collect(evaluate, spaces[0].program)
    if code != "own" and own.digest != terms["code"]:
        paths = sorted(path for path in {*own.files, *kept} if own.files.get(path) != kept.get(path))
        raise EngineError(
            f"the code of study {study!r} must be {terms['code'][:8]}, got {own.digest[:8]} here; different: "
            f"{', '.join(paths) or 'installed versions'}. Bring it up to date; or --code own to run it all the same and "
            f"have its digest recorded with each trial; or --code kept to run that kept with the study"
        )
    conditions = Conditions(Retry(**terms["retry"]), terms["timeout_s"], terms["memory_mb"])
    evaluator = Evaluator(
        evaluate, spaces, terms["define_by_run"], tuple(terms["required"]), tuple(terms["watched"]), terms["artifacts"],
        _energy(terms["energy"]),
    )  # fmt: skip
    return Worker(
        store, study, lambda said: Processes(evaluator, said, workers, conditions), known.space, conditions.retry,
        terms["prunes"], idle_s, {"code": own.digest},
    )  # fmt: skip


def _evaluation(
    study: str, terms: Mapping[str, Any], kept: Mapping[str, bytes], which: WhichCode, folder: Path
) -> Evaluate:
    """Import the function to call from the folder, or from the files kept with the study."""
    module, _, name = terms["evaluate"].partition(":")
    if which == "kept" and kept:
        folder = Code(terms["code"], kept).unpack()
    place = str(folder.resolve())
    if place not in sys.path:
        sys.path.insert(0, place)
        # The processes that evaluate import the same files.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (place, os.environ.get("PYTHONPATH"))))
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise EngineError(
                f"the code of study {study!r} needs {error.name!r}, which is not installed here"
            ) from error
        raise EngineError(
            f"module {module!r}, which evaluates study {study!r}, must be importable here, got none in {place}. "
            f"Try --folder, or --code kept to run the {len(kept)} file(s) kept with the study, if you trust everybody "
            f"who may write to the database"
        ) from error
    evaluate = find(module, name)
    if evaluate is None:
        raise EngineError(f"module {module!r} must define {name!r}, which evaluates study {study!r}; it does not here")
    return evaluate


def _energy(given: Mapping[str, Any] | None) -> Any:
    if given is None:
        return None
    from heuretic.study.energy import Energy

    return Energy(**given)
