"""Runs against each other on the same questions: paired differences, intervals, significance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from heuretic.evals.results import Estimate, Results, Values, mean_difference
from heuretic.study.comparison_statistics import holm

PERMUTATIONS = 10_000
_SCORES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""inspect-ai's letters for correct, partial, incorrect, no answer."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One run minus another, over the questions that both have a score for.

    Attributes:
        first, second: Their names. estimate: Of the mean difference, with a 95% bootstrap interval.
        p: Two-sided probability of a difference as large if runs were exchangeable for each question (or cluster of questions):
            a permutation test. corrected: The same, corrected for the number of comparisons (Holm).
        better, worse, equal: Questions on which the first scored more, less, the same. only_one: Questions that only one has.
    """

    first: str
    second: str
    estimate: Estimate
    p: float
    corrected: float
    better: int
    worse: int
    equal: int
    only_one: int


def compare(runs: Sequence[tuple[str, Results]]) -> list[Difference]:
    """Return the difference between each run and the first one.

    Raises: ValueError for fewer than two runs, or if a run shares no question with the first.
    """
    if len(runs) < 2:
        raise ValueError(f"runs must be at least 2, got {len(runs)}. Try naming two logs")
    (base_name, base), *others = runs
    found = [_difference(name, results, base_name, base) for name, results in others]
    corrected = holm([each.p for each in found])
    return [replace(each, corrected=p) for each, p in zip(found, corrected, strict=True)]


def _difference(name: str, results: Results, base_name: str, base: Results) -> Difference:
    place = {question: k for k, question in enumerate(base.ids)}
    pairs = [(k, place[question]) for k, question in enumerate(results.ids) if question in place]
    if not pairs:
        raise ValueError(
            f"runs must share questions, got none in {name} and {base_name}. Try runs of the same evaluation"
        )
    ours, theirs = (np.array(side) for side in zip(*pairs, strict=True))
    differences = results.values[ours] - base.values[theirs]
    known = ~np.isnan(differences)
    differences = differences[known]
    if not len(differences):
        raise ValueError(f"runs must have scores for the same questions, got none in {name} and {base_name}")
    clusters = None if base.clusters is None else [base.clusters[int(k)] for k in theirs[known].tolist()]
    p = permutation_test(differences, clusters)
    return Difference(
        name, base_name, mean_difference(differences, clusters), p, p, int((differences > 0).sum()), int((differences < 0).sum()),
        int((differences == 0).sum()), len(results) + len(base) - 2 * len(pairs),
    )  # fmt: skip


def permutation_test(differences: Values, clusters: Sequence[str] | None = None) -> float:
    """Return the two-sided p-value of paired differences under random flips of their signs, clusters flipped together.

    Exact where all differences other than 0 have one size (right or wrong answers: McNemar's exact test), else by 10,000 seeded
    flips with the one observed among them (Phipson and Smyth 2010, "Permutation P-values Should Never Be Zero").
    """
    sums = np.asarray(differences, float)
    if clusters is not None:
        _, place = np.unique(np.asarray(clusters, object).astype(str), return_inverse=True)
        sums = np.bincount(place, sums).astype(np.float64)
    sums = sums[np.abs(sums) > 1e-12]
    if not len(sums):
        return 1.0
    sizes = np.abs(sums)
    if np.ptp(sizes) < 1e-12:
        return _sign_test(int((sums > 0).sum()), len(sums))
    rng, observed, extreme, left = np.random.default_rng(0), abs(sums.sum()) - 1e-9, 0, PERMUTATIONS
    while left:
        count = min(left, max(1, 2_000_000 // len(sums)))
        flips = rng.integers(0, 2, (count, len(sums)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(flips @ sums) >= observed).sum())
        left -= count
    return (extreme + 1) / (PERMUTATIONS + 1)


def _sign_test(positive: int, count: int) -> float:
    """Return the two-sided p-value of so many positive signs of `count`, each as likely as not."""
    fewer = min(positive, count - positive)
    logs = [math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) for k in range(fewer + 1)]
    return min(1.0, 2 * math.fsum(math.exp(each - count * math.log(2)) for each in logs))


def read_run(path: str | Path) -> tuple[str, Results]:
    """Return the name and scores of a run from its log, also from one that `inspect eval` wrote.

    Raises: FileNotFoundError if there is no such file; ValueError if it is not a log with scores.
    """
    from inspect_ai.log import read_eval_log, read_eval_log_sample_summaries

    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"run must be a log, got {path}, which is not there. Try `ls logs`")
    try:
        header = read_eval_log(str(file), header_only=True)
        summaries = read_eval_log_sample_summaries(str(file))
    except Exception as error:  # whatever a damaged archive makes its reader raise
        raise ValueError(f"run must be a log of inspect-ai, got {path}: {type(error).__name__}: {error}") from error
    ids, values, about = [], [], []
    for summary in summaries:
        if summary.scores:
            ids.append(str(summary.id))
            values.append(_number(next(iter(summary.scores.values())).value))
            about.append(summary.metadata)
    if not ids:
        raise ValueError(f"run must have scores, got none at {path}")
    within = ((header.results.metadata if header.results else None) or {}).get("within") or ""
    clusters = [str(each.get(within, "")) for each in about] if within else None
    name = f"{header.eval.task.removeprefix('heuretic/')} {header.eval.model}"
    return name, Results(ids, np.array(values, float), ["answered"] * len(ids), clusters=clusters)


def _number(value: object) -> float:
    if isinstance(value, str):
        return _SCORES.get(value, float("nan"))
    return float(value) if isinstance(value, bool | int | float) else float("nan")
