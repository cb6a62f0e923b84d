"""F1@K: precision of the facts of a long answer, and recall up to the number of facts that a reader wants.

Wei et al. 2024, arXiv:2403.18802, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from heuretic.evals.results import Estimate, bootstrap_mean

K_MEDIAN, K_MAX = 64, 178
"""What the paper reports with: the median and the maximum of facts over all answers of all its models to its 250 prompts."""
K_OF_CODE = 100
"""The default of the paper's code, which is not what the paper reports with."""

Wanted = Literal["median", "max"]


@dataclass(frozen=True, slots=True)
class FactCounts:
    """How many facts of an answer have which label; irrelevant and unjudged ones have no part in F1@K."""

    supported: int = 0
    not_supported: int = 0
    irrelevant: int = 0
    unjudged: int = 0

    @property
    def facts(self) -> int:
        """All facts."""
        return self.supported + self.not_supported + self.irrelevant + self.unjudged


def f1_at_k(supported: int, not_supported: int, k: int) -> float:
    """Return the harmonic mean of precision S/(S+N) and recall min(S/K, 1); 0 if nothing is supported.

    Args:
        supported, not_supported: Relevant facts with these labels. k: Supported facts that make recall 1.
    Raises: ValueError for negative counts, or k <= 0.
    """
    if k <= 0 or not math.isfinite(k):
        raise ValueError(f"k must be finite and > 0, got {k}. Try {K_MEDIAN}, the paper's")
    precision = precision_of(supported, not_supported)
    if not supported or precision is None:
        return 0.0
    recall = recall_at_k(supported, k)
    return 2 * precision * recall / (precision + recall)


def precision_of(supported: int, not_supported: int) -> float | None:
    """Return the share of supported facts among the relevant ones, None if there are none.

    Raises: ValueError for negative counts.
    """
    if supported < 0 or not_supported < 0:
        raise ValueError(f"counts of facts must be >= 0, got {supported} supported, {not_supported} not supported")
    rated = supported + not_supported
    return supported / rated if rated else None


def recall_at_k(supported: int, k: int) -> float:
    """Return min(S/K, 1)."""
    return min(supported / k, 1.0)


def k_of(counts: Sequence[int], which: Wanted) -> int:
    """Return the K that belongs to a set of prompts: the median or maximum number of facts of all answers to them.

    One K belongs to a study: take it over the answers of all models that are compared, and never anew for each. A median between
    two numbers is rounded up, and K is at least 1.

    Raises: ValueError if there are no counts, a negative one, or `which` is unknown.
    """
    if not counts or min(counts) < 0:
        raise ValueError(f"counts of facts must be at least one, and >= 0, got {list(counts)[:10]}")
    if which not in ("median", "max"):
        raise ValueError(f"which must be median or max, got {which!r}")
    return max(1, math.ceil(median(counts) if which == "median" else max(counts)))


def mean_f1_at_k(answers: Sequence[FactCounts | None], k: int) -> Estimate:
    """Return the mean of F1@K over prompts, with its 95% interval; None, for a prompt without an answer, counts 0."""
    return bootstrap_mean([0.0 if each is None else f1_at_k(each.supported, each.not_supported, k) for each in answers])
