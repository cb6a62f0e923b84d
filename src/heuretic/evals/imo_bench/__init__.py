"""IMO-Bench: short answers, proofs, and the grading of proofs, at the level of the International Mathematical Olympiad.

Luong et al. 2025, "Towards Robust Mathematical Reasoning", arXiv:2511.01846. Data: google-deepmind/superhuman, imobench/*.csv. The
prompts of its graders are in the paper's appendix; those here say the same in our words, keep the formats of their answers, and are
values that can be replaced.
"""

from heuretic.evals.imo_bench.answer_bench import AnswerBench
from heuretic.evals.imo_bench.grading_bench import GradingBench
from heuretic.evals.imo_bench.proof_bench import ProofBench

__all__ = ["AnswerBench", "GradingBench", "ProofBench"]
