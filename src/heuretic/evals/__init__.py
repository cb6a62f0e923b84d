"""Evaluations: published benchmarks, scored as published, with intervals, on any model. Needs `pip install 'heuretic[lm]'`."""

from heuretic.evals.addresses import EVALUATIONS, SUITES
from heuretic.evals.evaluation import Evaluation, Questions, Score, said
from heuretic.evals.results import Estimate, Results

__all__ = ["EVALUATIONS", "SUITES", "Estimate", "Evaluation", "Questions", "Results", "Score", "said"]
