"""How far two raters agree: Cohen's kappa with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heuretic.evals.results import RESAMPLES, Estimate


def cohens_kappa(
    first: Sequence[Any] | NDArray[Any], second: Sequence[Any] | NDArray[Any], clusters: Sequence[str] | None = None
) -> Estimate:
    """Return Cohen's kappa of two raters' labels with a 95% bootstrap interval over items, or over clusters of items.

    NaN if both give one and the same label to everything, where chance explains all. Cohen 1960, "A Coefficient of Agreement for
    Nominal Scales".
    """
    return _estimated(first, second, clusters)


def _estimated(first: Any, second: Any, clusters: Sequence[str] | None) -> Estimate:
    one, other = np.asarray(first), np.asarray(second)
    if len(one) != len(other) or not len(one):
        raise ValueError(f"labels must be as many from both raters, and at least one, got {len(one)} and {len(other)}")
    labels, places = np.unique(np.concatenate([one.astype(str), other.astype(str)]), return_inverse=True)
    kinds = len(labels)
    cells = places[: len(one)] * kinds + places[len(one) :]
    groups = (
        np.arange(len(one))
        if clusters is None
        else np.unique(np.asarray(clusters, object).astype(str), return_inverse=True)[1]
    )
    tables = np.zeros((int(groups.max()) + 1, kinds * kinds))
    np.add.at(tables, (groups, cells), 1)
    value = float(_kappa(tables.sum(axis=0).reshape(1, kinds, kinds))[0])
    if len(tables) < 2:
        return Estimate(value, count=len(one))
    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(tables), np.full(len(tables), 1 / len(tables)), RESAMPLES)
    drawn = _kappa((weights @ tables).reshape(RESAMPLES, kinds, kinds))
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Estimate(value, count=len(one))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(value, float(low), float(high), len(one))


def _kappa(tables: NDArray[Any]) -> NDArray[Any]:
    total = tables.sum(axis=(1, 2))
    observed = np.trace(tables, axis1=1, axis2=2) / total
    expected = (tables.sum(axis=2) * tables.sum(axis=1)).sum(axis=1) / total**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)
