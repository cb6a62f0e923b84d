"""Evaluations: published benchmarks, scored as published, with intervals, on any model. Needs `pip install 'heuretic[lm]'`."""

from heuretic.evals.addresses import EVALUATIONS, SUITES
from heuretic.evals.comparing import Difference, compare, read_run
from heuretic.evals.evaluation import Evaluation, Questions, Score, said
from heuretic.evals.results import Estimate, Results
from heuretic.evals.running import Run, evaluate

__all__ = [
    "EVALUATIONS", "SUITES", "Difference", "Estimate", "Evaluation", "Questions", "Results", "Run", "Score", "compare", "evaluate",
    "read_run", "said",
]  # fmt: skip
