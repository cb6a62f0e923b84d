"""What happened: trials, stores, the run loop, engines and reports."""

from heuretic.study.engines import EngineError
from heuretic.study.loop import Prune
from heuretic.study.records import StudyRecord, TrialRecord, Winner
from heuretic.study.store import Conflict, Memory, Store, StoreError, open_store
from heuretic.study.study import Study, discover, open_study
from heuretic.study.trial import Pruned, Trial, trial_seed

__all__ = [
    "Conflict", "EngineError", "Memory", "Prune", "Pruned", "Store", "StoreError", "Study", "StudyRecord", "Trial",
    "TrialRecord", "Winner", "discover", "open_store", "open_study", "trial_seed",
]  # fmt: skip
