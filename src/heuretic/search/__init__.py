"""What a program could be: choices, spaces, genomes, limits, and the algorithms that search them.

Algorithms that need numpy or another library are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heuretic.search.algorithm import Algorithm, Candidate, Result, Search
from heuretic.search.choices import Choice, number, one_of, permutation, repeat, some_of, text
from heuretic.search.evolution import Evolution
from heuretic.search.hill_climbing import HillClimbing
from heuretic.search.limits import Limit
from heuretic.search.nsga2 import NSGA2
from heuretic.search.pruning import MedianStopping, Pruner, Pruning, SuccessiveHalving
from heuretic.search.random_search import RandomSearch
from heuretic.search.space import Genome, InfeasibleError, Space

if TYPE_CHECKING:
    from heuretic.search.auto import Auto
    from heuretic.search.bayesian import Bayesian
    from heuretic.search.cost_model import CostModel, fit_cost_model
    from heuretic.search.equivalence import Equivalence
    from heuretic.search.layernas import LayerNAS
    from heuretic.search.optuna_samplers import OptunaSampler
    from heuretic.search.policies import Policy
    from heuretic.search.probes import OutputProbe, ProgramProbe, RandomInputs
    from heuretic.search.reinforce import Reinforce
    from heuretic.search.rejection import Rejection
    from heuretic.search.restarts import Restarts
    from heuretic.search.rewards import AbsoluteReward, SoftExponent

#: Where the names live that are imported when first used.
_LATER: dict[str, str] = {
    "Auto": "auto",
    "Bayesian": "bayesian",
    "CostModel": "cost_model",
    "fit_cost_model": "cost_model",
    "Equivalence": "equivalence",
    "OptunaSampler": "optuna_samplers",
    "OutputProbe": "probes",
    "RandomInputs": "probes",
    "ProgramProbe": "probes",
    "AbsoluteReward": "rewards",
    "LayerNAS": "layernas",
    "Policy": "policies",
    "Reinforce": "reinforce",
    "Rejection": "rejection",
    "Restarts": "restarts",
    "SoftExponent": "rewards",
}

__all__ = [
    "NSGA2", "AbsoluteReward", "Algorithm", "Auto", "Bayesian", "Candidate", "Choice", "CostModel", "Equivalence", "Evolution", "Genome",
    "HillClimbing", "InfeasibleError", "LayerNAS", "Limit", "MedianStopping", "OptunaSampler", "OutputProbe", "Policy", "ProgramProbe",
    "Pruner", "Pruning", "RandomInputs", "RandomSearch", "Reinforce", "Rejection", "Restarts", "Result", "Search", "SoftExponent",
    "Space", "SuccessiveHalving", "fit_cost_model", "number", "one_of", "permutation", "repeat", "some_of", "text",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'heuretic.search' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"heuretic.search.{_LATER[name]}"), name)
    return value
