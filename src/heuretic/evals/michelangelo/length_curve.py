"""Scores against the length of the context, with their cumulative average: as numbers, as a figure, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import log2
from typing import Any

import numpy as np

from heuretic.evals.results import RESAMPLES, Estimate, Values, bootstrap_mean
from heuretic.study.comparison_page import COLOURS, DASHES

STACK = (32 * 1024, 128 * 1024, 1024 * 1024)
"""Up to which lengths, in tokens, the three published subsets go."""
_BARS = 40


@dataclass(frozen=True, slots=True)
class LengthPoint:
    """One length of the context.

    Attributes: tokens: The length. mean: Score of the questions of this length. cumulative: Of all that are no longer.
    """

    tokens: int
    mean: Estimate
    cumulative: Estimate


def stack_weights(lengths: Sequence[int], tops: Sequence[int] = STACK) -> Values:
    """Return the weight of each question when subsets that go up to `tops` are put together.

    A question counts one divided by the number of subsets that have its length: with all three published ones, a third up to 32K
    and a half up to 128K. arXiv:2409.12640, section 3.2.

    Args: lengths: Of the questions, in tokens. tops: None at all leaves every question its whole weight.
    Raises: ValueError for a length that no subset has.
    """
    held = np.asarray(lengths, np.int64)
    if not len(tops):
        return np.ones(len(held))
    repeated = (held[:, None] <= np.asarray(tops, np.int64)).sum(axis=1)
    if (repeated == 0).any():
        longest = int(held[repeated == 0].max())
        raise ValueError(f"lengths must be at most {max(tops):,}, the longest subset, got {longest:,}")
    return 1.0 / repeated


def cumulative_average(
    lengths: Sequence[int], scores: Sequence[float] | Values, tops: Sequence[int] = ()
) -> list[tuple[int, float]]:
    """Return, for each length in ascending order, the mean score of all questions that are no longer.

    Args: scores: NaN where there is none. tops: See `stack_weights`.
    """
    held, values = np.asarray(lengths, np.int64), np.asarray(scores, float)
    weights = stack_weights(lengths, tops) * ~np.isnan(values)
    sums, found = np.nan_to_num(values) * weights, []
    for tokens in np.unique(held).tolist():
        inside = held <= tokens
        total = float(weights[inside].sum())
        found.append((tokens, float(sums[inside].sum()) / total if total else float("nan")))
    return found


def weighted_mean(
    scores: Sequence[float] | Values, weights: Sequence[float] | Values, clusters: Sequence[str] | None = None
) -> Estimate:
    """Return a weighted mean with its 95% percentile interval, resampling questions, or whole clusters if they are given.

    Scores that are NaN are left out.
    """
    values, parts = np.asarray(scores, float), np.asarray(weights, float)
    known = ~np.isnan(values)
    values, parts = values[known], parts[known]
    if not len(values):
        return Estimate(float("nan"))
    labels = None if clusters is None else np.asarray(clusters, object)[known].astype(str).tolist()
    if np.ptp(parts) == 0:
        return bootstrap_mean(values, labels)
    sums, sizes = values * parts, parts
    if labels is not None:
        _, place = np.unique(labels, return_inverse=True)
        sums, sizes = np.bincount(place, sums), np.bincount(place, sizes)
    value = float(sums.sum() / sizes.sum())
    if len(sums) < 2:
        return Estimate(value, count=len(values))
    rng, means, at_once = np.random.default_rng(0), [], max(1, 4_000_000 // len(sums))
    for first in range(0, RESAMPLES, at_once):
        drawn = rng.integers(0, len(sums), (min(at_once, RESAMPLES - first), len(sums)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return Estimate(value, float(low), float(high), len(values))


def length_curve(
    lengths: Sequence[int], scores: Sequence[float] | Values, *, tops: Sequence[int] = (),
    clusters: Sequence[str] | None = None,
) -> tuple[LengthPoint, ...]:  # fmt: skip
    """Return the mean and the cumulative average at each length, ascending, with intervals.

    Args: clusters: What questions have in common, such as the same problem at several lengths. tops: See `stack_weights`.
    """
    held, values, weights = np.asarray(lengths, np.int64), np.asarray(scores, float), stack_weights(lengths, tops)
    labels = None if clusters is None else np.asarray(clusters, object)

    def mean(inside: Any) -> Estimate:
        return weighted_mean(values[inside], weights[inside], None if labels is None else labels[inside].tolist())

    return tuple(LengthPoint(n, mean(held == n), mean(held <= n)) for n in np.unique(held).tolist())


def length_name(tokens: int) -> str:
    """Return a length as it is called: 32K for 32,768, 1M for 1,048,576."""
    for unit, size in (("M", 1024 * 1024), ("K", 1024)):
        if tokens >= size and tokens % size == 0:
            return f"{tokens // size}{unit}"
    return f"{tokens:,}"


def as_text(curves: Mapping[str, Sequence[LengthPoint]]) -> str:
    """Return curves as lines of text: mean and cumulative average at each length, with a bar for the latter."""
    width = max((len(length_name(p.tokens)) for points in curves.values() for p in points), default=0)
    lines: list[str] = []
    for name, points in curves.items():
        lines.append(f"{name}: score, cumulative average")
        for point in points:
            shown = point.cumulative.value
            bar = "#" * round(_BARS * min(max(shown, 0.0), 1.0)) if shown == shown else "no scores"
            lines.append(
                f"  {length_name(point.tokens):>{width}}  {point.mean.value:.3f}  {shown:.3f}  |{bar:<{_BARS}}|"
            )
    return "\n".join(lines)


def figure(curves: Mapping[str, Sequence[LengthPoint]]) -> dict[str, Any]:
    """Return the cumulative averages as a figure of Plotly (`plotly.graph_objects.Figure(figure(...))`), lengths logarithmic."""
    lengths = sorted({point.tokens for points in curves.values() for point in points})
    data = []
    for place, (name, points) in enumerate(curves.items()):
        shown = [point for point in points if point.cumulative.value == point.cumulative.value]
        data.append({
            "type": "scatter", "mode": "lines+markers", "name": escape(name), "x": [point.tokens for point in shown],
            "y": [point.cumulative.value for point in shown], "line": {"color": COLOURS[place % len(COLOURS)], "width": 2.2},
            "text": [f"{length_name(p.tokens)}: {p.cumulative}; at this length {p.mean}" for p in shown],
            "hovertemplate": "%{text}<extra></extra>",
        })  # fmt: skip
    return {
        "data": data,
        "layout": {
            "xaxis": {
                "title": {"text": "tokens in context"}, "type": "log", "tickvals": lengths,
                "ticktext": [length_name(n) for n in lengths],
            },
            "yaxis": {"title": {"text": "cumulative average score"}, "range": [0, 1.02]},
        },
    }  # fmt: skip


def drawing(curves: Mapping[str, Sequence[LengthPoint]]) -> str:
    """Return the cumulative averages, with bands of their intervals, as SVG that stands by itself and needs no script."""
    width, height, left, right, top, bottom = 760, 360, 60, 16, 14, 48
    lengths = sorted({point.tokens for points in curves.values() for point in points})
    first, last = (log2(lengths[0]), log2(lengths[-1])) if lengths else (0.0, 1.0)

    def across(tokens: int) -> float:
        share = (log2(tokens) - first) / (last - first) if last > first else 0.5
        return left + share * (width - left - right)

    def down(score: float) -> float:
        return top + (1 - min(max(score, 0.0), 1.0)) * (height - top - bottom)

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="sans-serif" font-size="13"'
            ' aria-label="Cumulative average score by tokens in context" fill="#59606e">'
        )
    ]
    for tick in range(6):
        y = f"{down(tick / 5):.1f}"
        parts.append(f'<path stroke="#d9dde5" d="M{left},{y}H{width - right}"/>')
        parts.append(f'<text x="{left - 8}" y="{y}" dy=".35em" text-anchor="end">{tick / 5:.1f}</text>')
    for tokens in lengths:
        x = f"{across(tokens):.1f}"
        parts.append(f'<text x="{x}" y="{height - bottom + 18}" text-anchor="middle">{length_name(tokens)}</text>')
    for place, (name, points) in enumerate(curves.items()):
        parts += _course(name, [p for p in points if p.cumulative.value == p.cumulative.value], place, across, down)
        parts.append(
            f'<text x="{left + 12}" y="{height - bottom - 10 - 18 * (len(curves) - 1 - place)}" fill="{COLOURS[place % len(COLOURS)]}">'
            f"{escape(name)}</text>"
        )
    middle = (top + height - bottom) / 2
    parts.append(
        f'<text x="{(left + width - right) / 2}" y="{height - 8}" text-anchor="middle">tokens in context</text>'
        f'<text transform="translate(14,{middle}) rotate(-90)" text-anchor="middle">cumulative average score</text></svg>'
    )
    return "".join(parts)


def _course(name: str, points: Sequence[LengthPoint], place: int, across: Any, down: Any) -> list[str]:
    if not points:
        return []
    colour, dash = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]
    known = [p for p in points if p.cumulative.low is not None and p.cumulative.high is not None]
    edge = [(across(p.tokens), down(p.cumulative.high)) for p in known]
    edge += [(across(p.tokens), down(p.cumulative.low)) for p in known[::-1]]
    band = "L".join(f"{x:.1f},{y:.1f}" for x, y in edge)
    line = "L".join(f"{across(p.tokens):.1f},{down(p.cumulative.value):.1f}" for p in points)
    dots = "".join(
        f'<circle cx="{across(p.tokens):.1f}" cy="{down(p.cumulative.value):.1f}" r="3" fill="{colour}"/>'
        for p in points
    )
    return [
        f'<path fill="{colour}" fill-opacity=".13" d="M{band}Z"/>' if len(known) > 1 else "",
        f'<path fill="none" stroke="{colour}" stroke-width="2.2" stroke-dasharray="{dash}" d="M{line}">'
        f"<title>{escape(name)}</title></path>{dots}",
    ]
