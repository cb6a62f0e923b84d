"""Where studies go to and come from on the command line, besides files."""

from __future__ import annotations

import warnings
from typing import Literal

from heuretic.cli.files import UsageError
from heuretic.study import Study
from heuretic.study.store import Store

Tool = Literal["optuna", "mlflow", "tensorboard"]


def write_to(study: Study, tool: Tool, place: str | None) -> str:
    """Write a study into another tool's place, by default one in the working directory; return the place."""
    try:
        if tool == "optuna":
            from heuretic.study.interop.optuna import to_optuna

            place = place or "sqlite:///optuna.db"
            to_optuna(study, place)
        elif tool == "mlflow":
            from heuretic.study.interop.mlflow import to_mlflow

            place = place or "sqlite:///mlflow.db"
            to_mlflow(study, place)
        else:
            from heuretic.study.interop.tensorboard import to_tensorboard

            place = str(to_tensorboard(study, place or "runs"))
    except ImportError as error:
        raise UsageError(str(error)) from None
    return place


def read_from(url: str, name: str | None, store: Store, as_name: str | None, seed: int) -> tuple[Study, list[str]]:
    """Take a study of Optuna into a store; return it, and what is to be said of it."""
    from heuretic.study.interop.optuna import from_optuna

    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            study = from_optuna(url, name, store=store, as_name=as_name, seed=seed)
    except (ImportError, ValueError) as error:
        raise UsageError(str(error)) from None
    return study, [str(each.message) for each in said if each.category is UserWarning]
