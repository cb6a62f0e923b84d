"""SAFE and LongFact: long answers split into facts, each judged on looked-up evidence, and scored by F1@K."""

from heuretic.evals.safe.f1_at_k import f1_at_k, k_of
from heuretic.evals.safe.facts import Demonstration, FactSplitter
from heuretic.evals.safe.longfact import LongFact
from heuretic.evals.safe.rating import FactRating, Lookup, Rated
from heuretic.evals.safe.safe import SAFE

__all__ = ["SAFE", "Demonstration", "FactRating", "FactSplitter", "LongFact", "Lookup", "Rated", "f1_at_k", "k_of"]
