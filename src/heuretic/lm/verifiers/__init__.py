"""Verifiers: what tells right attempts from wrong ones."""

from heuretic.lm.verifiers.choosing import Majority, RewardModel
from heuretic.lm.verifiers.comparing import Exact, MultipleChoice, Numeric, Pattern
from heuretic.lm.verifiers.equivalent import Equivalent
from heuretic.lm.verifiers.unit_tests import UnitTests

__all__ = ["Equivalent", "Exact", "Majority", "MultipleChoice", "Numeric", "Pattern", "RewardModel", "UnitTests"]
