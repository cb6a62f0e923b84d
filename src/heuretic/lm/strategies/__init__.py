"""Strategies: ways to get an answer out of a model. Each is a value whose prompts can be patched and searched."""

from heuretic.lm.strategies.chain_of_thought import ChainOfThought
from heuretic.lm.strategies.direct import Direct
from heuretic.lm.strategies.fresh_prompt import FreshPrompt
from heuretic.lm.strategies.instructed import Instructed
from heuretic.lm.strategies.least_to_most import Decompose, Decomposition, LeastToMost, Solve
from heuretic.lm.strategies.prompting import Attempting, Exemplar
from heuretic.lm.strategies.rationale_ensemble import RationaleEnsemble
from heuretic.lm.strategies.repeated_sampling import RepeatedSampling
from heuretic.lm.strategies.self_consistency import SelfConsistency
from heuretic.lm.strategies.step_back import PRINCIPLES, Abstract, StepBack

__all__ = [
    "PRINCIPLES", "Abstract", "Attempting", "ChainOfThought", "Decompose", "Decomposition", "Direct", "Exemplar", "FreshPrompt", "Instructed", "LeastToMost",
    "RationaleEnsemble", "RepeatedSampling", "SelfConsistency", "Solve", "StepBack",
]  # fmt: skip
