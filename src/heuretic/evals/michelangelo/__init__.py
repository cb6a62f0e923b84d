"""Michelangelo: whether models put a long context together, by three tasks that can be made at any length.

Vodrahalli et al. 2024, "Michelangelo: Long Context Evaluations Beyond Haystacks via Latent Structure Queries", arXiv:2409.12640 (v2).
There is no official code or data for it; everything here is made anew from a seed, by the descriptions of sections 2 and 3 and the
prompts of appendix A.
"""

from heuretic.evals.michelangelo.idk import IDK
from heuretic.evals.michelangelo.latent_list import LatentList
from heuretic.evals.michelangelo.mrcr import MRCR

__all__ = ["IDK", "MRCR", "LatentList"]
