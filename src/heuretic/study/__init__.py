"""What happened: trials, stores, the run loop, engines, reports and comparisons."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heuretic.study.artifact_places import ArtifactError
from heuretic.study.artifacts import Artifacts
from heuretic.study.conditions import Retry
from heuretic.study.discovery import discover
from heuretic.study.energy import Energy
from heuretic.study.engines import EngineError
from heuretic.study.loop import Prune
from heuretic.study.records import Artifact, Objective, StudyRecord, TrialRecord, Winner
from heuretic.study.store import Conflict, Memory, Store, StoreError, open_store
from heuretic.study.study import Study, open_study
from heuretic.study.trial import Pruned, Trial, trial_seed

if TYPE_CHECKING:
    from heuretic.study.comparison import AlgorithmComparison, compare, open_comparison
    from heuretic.study.interop.mlflow import to_mlflow
    from heuretic.study.interop.optuna import from_optuna, to_optuna
    from heuretic.study.interop.tensorboard import to_tensorboard

#: Where the names live that are imported when first used, as they need numpy or other tools.
_LATER = {
    "AlgorithmComparison": "comparison", "compare": "comparison", "open_comparison": "comparison",
    "from_optuna": "interop.optuna", "to_optuna": "interop.optuna", "to_mlflow": "interop.mlflow",
    "to_tensorboard": "interop.tensorboard",
}  # fmt: skip

__all__ = [
    "AlgorithmComparison", "Artifact", "ArtifactError", "Artifacts", "Conflict", "Energy", "EngineError", "Memory", "Objective", "Prune", "Pruned", "Retry", "Store", "StoreError", "Study", "StudyRecord", "Trial",
    "TrialRecord", "Winner", "compare", "discover", "from_optuna", "open_comparison", "open_store", "open_study", "to_mlflow",
    "to_optuna", "to_tensorboard", "trial_seed",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'heuretic.study' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"heuretic.study.{_LATER[name]}"), name)
    return value
