"""How much of the score each choice explains on its own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Importance:
    """The main effect of one choice.

    Attributes:
        choice: The path of the choice.
        share: Share of the variance of the score that the choice explains alone, 0 to 1. Shares of several choices
            need not add up to 1: what only combinations explain belongs to none, what two choices tell alike to both.
        noise: The share below which chance is a good explanation: two standard deviations of the share of a choice
            that does nothing, with as many trials and groups; 1 if there are too few trials to tell anything.
        trials: Trials in which the choice applied. groups: Values, or ranges of values, that were compared.
    """

    choice: str
    share: float
    noise: float
    trials: int
    groups: int

    @property
    def certain(self) -> bool:
        """Whether the share is more than chance would give."""
        return self.share > self.noise


def importance(choices: Sequence[Mapping[str, Any]], scores: Sequence[float], *, bins: int = 8) -> list[Importance]:
    """Return the share of the variance of `scores` that each choice explains alone, largest first.

    For a choice that applies in n of N trials and takes k values, with the sums of squares between and within the
    groups of equal values SSB and SSW, and the total sum of squares over all N trials SST:

        share = (SSB - (k - 1) * SSW / (n - k)) / SST, clipped to 0 ... 1

    which for n = N is epsilon squared (the adjusted R squared) of a one-way analysis of variance: eta squared less what k - 1
    free means explain by chance. A choice that does not apply in some trials is judged on the others alone, so a
    choice inside a candidate takes no credit for the candidate.

    Args:
        choices: For each trial the choices that applied, by path, as of `Space.chosen`.
        scores: For each trial its score; trials with a score that is not finite are left out.
        bins: Numbers with more values than this (fewer if there are few trials) are grouped into quantile ranges.

    Reference: Kelley 1935, "An unbiased correlation ratio measure", PNAS 21(9); compared with eta and omega squared
    by Okada 2013, Behaviormetrika 40(2). Departure: scaled by the variance of all trials for conditional choices.
    Without this correction a choice with many values would look important by chance. The trials of a search are not
    drawn at random, so choices that a search varies together share their effects.
    """
    if len(choices) != len(scores):
        raise ValueError(f"choices and scores must have equal lengths, got {len(choices)} and {len(scores)}")
    kept = _scaled([(chosen, score) for chosen, score in zip(choices, scores, strict=True) if math.isfinite(score)])
    columns: dict[str, tuple[list[Any], list[float]]] = {}
    for chosen, score in kept:
        for path, value in chosen.items():
            values, its_scores = columns.setdefault(path, ([], []))
            values.append(value)
            its_scores.append(score)
    total = _squares([score for _, score in kept])
    found = [_main_effect(path, values, its_scores, total, bins) for path, (values, its_scores) in columns.items()]
    return sorted(found, key=lambda item: (-item.certain, -item.share, item.choice))


def _main_effect(path: str, values: list[Any], scores: list[float], total: float, bins: int) -> Importance:
    n = len(values)
    groups: dict[Any, list[float]] = {}
    for key, score in zip(_group_keys(values, max(2, min(bins, n // 5))), scores, strict=True):
        groups.setdefault(key, []).append(score)
    k = len(groups)
    if k < 2:
        return Importance(path, 0.0, 0.0 if n > 2 else 1.0, n, k)
    if n - k < 2 or total <= 0:
        return Importance(path, 0.0, 1.0, n, k)
    within = math.fsum(_squares(group) for group in groups.values())
    between = max(0.0, _squares(scores) - within)
    share = (between - (k - 1) * within / (n - k)) / total
    # Under no effect SSB / (SSB + SSW) follows a Beta((k - 1) / 2, (n - k) / 2); the correction stretches it.
    a, b = (k - 1) / 2, (n - k) / 2
    spread = math.sqrt(a * b / ((a + b) ** 2 * (a + b + 1))) * (n - 1) / (n - k)
    noise = 2 * spread * min(1.0, _squares(scores) / total)
    return Importance(path, min(1.0, max(0.0, share)), min(1.0, noise), n, k)


def _group_keys(values: list[Any], bins: int) -> list[Any]:
    """Return the value itself as key, or the number of its quantile range if there are more numbers than bins."""
    keys = [(value.__class__, value) for value in values]
    if len(set(keys)) <= bins or not all(cls in (int, float) for cls, _ in keys):
        return keys
    counts = Counter(values)
    places: dict[Any, int] = {}
    below = 0
    for value in sorted(counts):  # by the middle of its rank, so that equal values stay together
        places[value] = int(bins * (below + counts[value] / 2) / len(values))
        below += counts[value]
    return [places[value] for value in values]


def _scaled(kept: list[tuple[Mapping[str, Any], float]]) -> list[tuple[Mapping[str, Any], float]]:
    """Return the scores shifted and scaled, which changes no share: no overflow, and equal scores become exactly 0."""
    largest = max((abs(score) for _, score in kept), default=0.0) or 1.0
    first = kept[0][1] / largest if kept else 0.0
    return [(chosen, score / largest - first) for chosen, score in kept]


def _squares(scores: Sequence[float]) -> float:
    """Return the sum of squared deviations from the mean."""
    if not scores:
        return 0.0
    mean = math.fsum(scores) / len(scores)
    return math.fsum((score - mean) ** 2 for score in scores)
