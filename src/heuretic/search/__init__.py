"""What a program could be: choices, spaces, genomes, limits, and the algorithms that search them."""

from heuretic.search.algorithm import Algorithm, Candidate, Result, Search
from heuretic.search.choices import Choice, number, one_of, permutation, repeat, some_of
from heuretic.search.evolution import Evolution
from heuretic.search.hill_climbing import HillClimbing
from heuretic.search.limits import Limit
from heuretic.search.random_search import RandomSearch
from heuretic.search.space import Genome, InfeasibleError, Space

__all__ = [
    "Algorithm", "Candidate", "Choice", "Evolution", "Genome", "HillClimbing", "InfeasibleError", "Limit",
    "RandomSearch", "Result", "Search", "Space", "number", "one_of", "permutation", "repeat", "some_of",
]  # fmt: skip
