"""What becomes of a score with the size of the model: worse, better, or first one and then the other.

McKenzie et al. 2023, arXiv:2306.09479 (inverse scaling); Wei et al. 2022, arXiv:2211.02011 (U-shaped scaling: performance decreases
up to a certain size, and then increases again). Both papers judge by looking at curves; the rule here is written down in `RULE`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from heuretic.evals.evaluation import Evaluation
from heuretic.evals.results import RESAMPLES, Estimate, Results
from heuretic.evals.running import Run, evaluate
from heuretic.lm import LanguageModel
from heuretic.lm import model as model_named

Values = NDArray[np.float64]
Shape = Literal["inverse", "U-shaped", "inverted U", "positive", "flat", "undecided"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
MARGIN = 0.05
"""Differences in score below this count as none."""
SIZES_FOR_TURN = 4
"""With fewer sizes a turn would rest on one model, whose training may differ in other ways."""
_AT_ONCE = 4_000_000

RULE = (
    "Items are resampled {resamples} times, the same for all models. A score surely falls (rises) between two sizes if their "
    "difference lies below (above) 0 by the simultaneous 95% bands of all pairs of sizes (maximum of the standardized bootstrap "
    "differences), so that with equal scores any such claim is made in 5% of cases. U-shaped: it surely falls up to some size and surely "
    "rises from it, and never the other way round; inverted U: the reverse; both need at least {sizes} sizes. Inverse: it surely "
    "falls somewhere and rises nowhere; positive: the reverse. Flat: all differences surely lie within {margin} of 0. Else undecided."
)


@dataclass(frozen=True, slots=True)
class Point:
    """The scores of one model.

    Attributes: size: Parameters, or floating-point operations of its training. loss: Mean, if there are losses.
    """

    name: str
    size: float
    score: Estimate
    loss: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Trend:
    """What becomes of a score with size.

    Attributes:
        shape: By `RULE`. reason: One sentence that says why. rule: The rule with its numbers.
        shares: Of the resamples, how many have which shape if their means are taken as they are. It describes; it does not decide.
        slope: Of the score for each factor of ten in size, by least squares. loss_slope: Of the loss.
        points: By size. items: How many every model has a score for. left_out: Items without one.
        without_loss: Of the items, those that the means and the slope of the loss leave out, since a model has no loss for them.
    """

    shape: Shape
    reason: str
    shares: Mapping[Shape, float]
    slope: Estimate
    loss_slope: Estimate | None
    points: tuple[Point, ...]
    items: int
    left_out: int
    rule: str
    without_loss: int = 0

    def __str__(self) -> str:
        return picture(self)


def trend(
    scores: Mapping[str, Sequence[float] | Values], sizes: Mapping[str, float], *,
    losses: Mapping[str, Sequence[float] | Values] | None = None, clusters: Sequence[str] | None = None,
    margin: float = MARGIN, resamples: int = RESAMPLES, seed: int = 0,
) -> Trend:  # fmt: skip
    """Return what becomes of scores with size.

    Args:
        scores: For each model, the scores of the same items in the same order; NaN where there is none, which leaves the item
            out for all. sizes: Of each model, > 0 and different.
        losses: As scores, where less is better; NaN where there is none, which leaves the item out of what is told of losses.
        clusters: What items have in common: these are resampled then.
        margin: Differences in score that count as none.
    Raises: ValueError for fewer than 2 models or items, other models in `sizes`, items that are not paired, or sizes that are equal
        or not > 0.
    """
    names = _by_size(scores, sizes)
    table = _table(scores, names, "scores")
    lost = None if losses is None else _table(losses, names, "losses")
    if lost is not None and lost.shape != table.shape:
        raise ValueError(f"losses must be of the same items as scores, got {lost.shape[1]} and {table.shape[1]}")
    known = np.asarray(~np.isnan(table).any(axis=0), bool)
    if known.sum() < 2:
        raise ValueError(f"items must be at least 2 with a score by every model, got {int(known.sum())}")
    left_out = int((~known).sum())
    table = table[:, known]
    kept = None if clusters is None else [c for c, k in zip(clusters, known, strict=True) if k]
    drawn = _resampled(table, kept, resamples, seed)
    means = table.mean(axis=1)
    x = np.log10([sizes[name] for name in names])
    count = table.shape[1]
    shape, reason = decide(means, drawn, margin, names)
    shares = _shares(drawn, margin)
    loss_points: list[Estimate | None] = [None] * len(names)
    loss_slope, without_loss = None, 0
    if lost is not None:
        own = lost[:, known]
        whole = np.asarray(~np.isnan(own).any(axis=0), bool)
        without_loss = int((~whole).sum())
        if whole.sum() >= 2:
            own = own[:, whole]
            kept = None if kept is None else [c for c, k in zip(kept, whole, strict=True) if k]
            lost_draws = _resampled(own, kept, resamples, seed)
            loss_points = [_estimate(own[k].mean(), lost_draws[:, k], own.shape[1]) for k in range(len(names))]
            loss_slope = _estimate(slope(x, own.mean(axis=1)), slope(x, lost_draws), own.shape[1])
    points = tuple(
        Point(name, float(sizes[name]), _estimate(means[k], drawn[:, k], count), loss_points[k])
        for k, name in enumerate(names)
    )
    rule = RULE.format(resamples=resamples, sizes=SIZES_FOR_TURN, margin=margin)
    return Trend(
        shape, reason, shares, _estimate(slope(x, means), slope(x, drawn), count), loss_slope, points, count, left_out, rule,
        without_loss,
    )  # fmt: skip


def decide(means: Values, drawn: Values, margin: float, names: Sequence[str] = ()) -> tuple[Shape, str]:
    """Return the shape by `RULE`, and why.

    Args:
        means: By size, shape (sizes,). drawn: Means of resamples, shape (resamples, sizes). names: For the reason.
    """
    called = list(names) or [f"size {k}" for k in range(len(means))]
    pairs = [(i, j) for j in range(len(means)) for i in range(j)]
    low, high = simultaneous(means, drawn, pairs)
    falls = [pair for pair, end in zip(pairs, high, strict=True) if end < 0]
    rises = [pair for pair, end in zip(pairs, low, strict=True) if end > 0]

    def told(pair: tuple[int, int]) -> str:
        return f"from {called[pair[0]]} ({means[pair[0]]:.3f}) to {called[pair[1]]} ({means[pair[1]]:.3f})"

    def steepest(found: list[tuple[int, int]]) -> str:
        return told(max(found, key=lambda pair: abs(means[pair[1]] - means[pair[0]])))

    if not falls and not rises:
        widest = max(float(np.max(np.abs(low))), float(np.max(np.abs(high))))
        if widest < margin:
            return "flat", f"no two sizes differ by more than {widest:.3f}"
        return "undecided", f"no two sizes surely differ, and differences up to {widest:.3f} are not ruled out"
    if not rises:
        return "inverse", f"the score surely falls {steepest(falls)}, and surely rises nowhere"
    if not falls:
        return "positive", f"the score surely rises {steepest(rises)}, and surely falls nowhere"
    told_both = f"the score surely falls {steepest(falls)} and surely rises {steepest(rises)}"
    if len(means) < SIZES_FOR_TURN:
        return "undecided", f"{told_both}, but a turn needs at least {SIZES_FOR_TURN} sizes"
    valley = any(a[1] == b[0] for a in falls for b in rises)
    hill = any(a[1] == b[0] for a in rises for b in falls)
    if valley == hill:
        return "undecided", f"{told_both}, with {'more than one turn' if valley else 'no sure turn between'}"
    return ("U-shaped" if valley else "inverted U"), told_both


def simultaneous(
    means: Values, drawn: Values, pairs: Sequence[tuple[int, int]], level: float = 0.95
) -> tuple[Values, Values]:
    """Return the ends of bands that hold all differences between pairs of means together with probability `level`.

    The maximum over pairs of the absolute standardized bootstrap difference gives their common half-width (Romano and Wolf
    2005, "Exact and approximate stepdown methods for multiple hypothesis testing", single step).
    """
    first, second = (np.array([pair[k] for pair in pairs]) for k in (0, 1))
    found = means[second] - means[first]
    spread = drawn[:, second] - drawn[:, first]
    error = spread.std(axis=0)
    varying = error > 1e-12
    largest = np.max(np.abs(spread - found)[:, varying] / error[varying], axis=1, initial=0.0)
    half = np.quantile(largest, level) * error
    return found - half, found + half


def shape_of(means: Values, margin: float = MARGIN) -> Shape:
    """Return the shape of means by size taken as they are; differences within `margin` count as none.

    The depth of a valley is the smaller of what is lost before it and gained after it; of a valley and a hill the higher one
    counts.
    """
    return SHAPES[int(_shapes(np.asarray(means, float)[None], margin)[0])]


def slope(x: Values, means: Values) -> Values:
    """Return the slopes of least squares of means, shape (..., sizes), over x."""
    centred = x - x.mean()
    return means @ centred / (centred @ centred)


def _shapes(drawn: Values, margin: float) -> NDArray[np.int64]:
    """Return the number in `SHAPES` of each row's shape."""
    before, after = np.maximum.accumulate(drawn, axis=1), np.maximum.accumulate(drawn[:, ::-1], axis=1)[:, ::-1]
    valley = np.minimum(before - drawn, after - drawn).max(axis=1)
    lost = (before - drawn).max(axis=1)
    before, after = np.minimum.accumulate(drawn, axis=1), np.minimum.accumulate(drawn[:, ::-1], axis=1)[:, ::-1]
    hill = np.minimum(drawn - before, drawn - after).max(axis=1)
    gained = (drawn - before).max(axis=1)
    straight = np.where(gained >= lost, SHAPES.index("positive"), SHAPES.index("inverse"))
    found = np.where(np.maximum(gained, lost) > margin, straight, SHAPES.index("flat"))
    if drawn.shape[1] >= SIZES_FOR_TURN:
        turned = np.where(valley >= hill, SHAPES.index("U-shaped"), SHAPES.index("inverted U"))
        found = np.where(np.maximum(valley, hill) > margin, turned, found)
    return found


def _shares(drawn: Values, margin: float) -> dict[Shape, float]:
    counts = np.bincount(_shapes(drawn, margin), minlength=len(SHAPES)) / len(drawn)
    return {shape: float(counts[k]) for k, shape in enumerate(SHAPES) if counts[k]}


def _by_size(scores: Mapping[str, Any], sizes: Mapping[str, float]) -> list[str]:
    if set(scores) != set(sizes) or len(scores) < 2:
        raise ValueError(
            f"scores and sizes must be of the same models, at least 2, got {sorted(scores)} and {sorted(sizes)}"
        )
    if any(not (size > 0 and math.isfinite(size)) for size in sizes.values()) or len(set(sizes.values())) < len(sizes):
        raise ValueError(f"sizes must be > 0 and different, got {dict(sizes)}")
    return sorted(scores, key=lambda name: sizes[name])


def _table(held: Mapping[str, Sequence[float] | Values], names: Sequence[str], what: str) -> Values:
    rows = [np.asarray(held[name], np.float64) for name in names]
    if len({row.shape for row in rows}) != 1 or rows[0].ndim != 1:
        raise ValueError(
            f"{what} must be of the same items for all models, got {', '.join(f'{n}: {r.shape}' for n, r in zip(names, rows, strict=True))}"
        )
    return np.stack(rows)


def _resampled(table: Values, clusters: Sequence[str] | None, resamples: int, seed: int) -> Values:
    """Return the means of resampled items, shape (resamples, rows of the table)."""
    sizes = np.ones(table.shape[1])
    if clusters is not None:
        _, place = np.unique(np.asarray(clusters, object).astype(str), return_inverse=True)
        sizes = np.bincount(place).astype(np.float64)
        table = np.stack([np.bincount(place, row).astype(np.float64) for row in table])
    rng, count, found = np.random.default_rng(seed), len(sizes), []
    at_once = max(1, _AT_ONCE // count)
    for first in range(0, resamples, at_once):
        times = rng.multinomial(count, np.full(count, 1 / count), min(at_once, resamples - first)).astype(np.float64)
        found.append(times @ table.T / (times @ sizes)[:, None])
    return np.concatenate(found)


def _estimate(value: float | Values, drawn: Values, count: int) -> Estimate:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(float(value), float(low), float(high), count)


# ---- models ----


@dataclass(frozen=True, slots=True)
class Sweep:
    """Models of several sizes on one evaluation.

    Attributes:
        runs: Of each model, smallest first. trends: Over all questions under "", and by category.
        chance: Score of a random choice, None where there is nothing to choose from.
    """

    runs: Mapping[str, Run]
    trends: Mapping[str, Trend]
    chance: float | None = None

    def rows(self) -> list[dict[str, Any]]:
        """Return a table: one row for each model and category, with intervals."""
        return [
            {
                "part": part or "all", "model": point.name, "size": point.size, "items": shown.items,
                "score": point.score.value, "low": point.score.low, "high": point.score.high,
                "loss": None if point.loss is None else point.loss.value, "trend": shown.shape,
            }
            for part, shown in self.trends.items()
            for point in shown.points
        ]  # fmt: skip

    def text(self) -> str:
        """Return all trends as text."""
        return "\n\n".join(
            f"{part or 'all'}\n{picture(shown, None if part else self.chance)}" for part, shown in self.trends.items()
        )

    def figure(self) -> dict[str, Any]:
        """Return the trends as a figure of Plotly."""
        return figure({part or "all": shown for part, shown in self.trends.items()}, self.chance)


def sweep(
    evaluation: Evaluation, models: Mapping[str, float], *, made: Callable[[str], LanguageModel] = model_named,
    limit: int | None = None, judge: LanguageModel | None = None, margin: float = MARGIN, concurrency: int = 64,
    progress: Callable[[str], None] | None = None,
) -> Sweep:  # fmt: skip
    """Let models of several sizes answer the questions of an evaluation, as it asks them.

    Args:
        models: Sizes by name: parameters, or floating-point operations of the training.
        made: Returns the model of a name. limit: Only so many questions, the same for all.
        judge: For evaluations that need one. progress: Called with a line for each model.
    Raises: ValueError for fewer than 2 models, or sizes that are equal or not > 0; whatever running the evaluation raises.
    """
    names = _by_size(models, models)
    runs: dict[str, Run] = {}
    for name in names:
        runs[name] = evaluate(evaluation, made(name), limit=limit, judge=judge, concurrency=concurrency)
        if progress is not None:
            progress(f"{name}: {runs[name].score} on {runs[name].questions} questions")
    key = evaluation.by[0] if evaluation.by else ""
    trends = trends_of({name: run.results for name, run in runs.items()}, models, key, margin=margin)
    return Sweep(runs, trends, runs[names[0]].chance)


def trends_of(
    results: Mapping[str, Results], sizes: Mapping[str, float], by: str = "", *, margin: float = MARGIN
) -> dict[str, Trend]:
    """Return the trend of all results under "", and those of their categories by what `about` says under `by`.

    Questions that a model did not get to are left out for all. Where there is no score but a loss, that is taken, negative.

    Raises: ValueError if fewer than 2 questions are common to all models.
    """
    common = set.intersection(*(set(each.ids) for each in results.values()))
    shared = {name: each.where([k in common for k in each.ids]) for name, each in results.items()}
    first = next(iter(shared.values()))
    if any(list(each.ids) != list(first.ids) for each in shared.values()):
        raise ValueError("results must be in the order of the questions, got different orders. Try running them again")
    parts: dict[str, Any] = {"": np.ones(len(first), bool)}
    categories = np.asarray(first.about[by], object) if by else np.array([])
    if len(set(categories)) > 1:
        parts |= {str(part): categories == part for part in sorted(set(categories))}
    found: dict[str, Trend] = {}
    for part, mask in parts.items():
        own = {name: each.where(mask) for name, each in shared.items()}
        scores = {name: each.values for name, each in own.items()}
        nothing = np.full(int(mask.sum()), np.nan)
        losses = {name: each.metrics.get("loss", nothing) for name, each in own.items()}
        told = any("loss" in each.metrics for each in own.values())
        if told and all(np.isnan(column).all() for column in scores.values()):
            scores = {name: -column for name, column in losses.items()}
        clusters = next(iter(own.values())).clusters
        paired = int((~np.isnan(np.stack(list(scores.values())))).all(axis=0).sum())
        if part and paired < 2:
            continue
        found[part] = trend(scores, sizes, losses=losses if told else None, clusters=clusters, margin=margin)
    return found


# ---- pictures ----


def picture(shown: Trend, chance: float | None = None, width: int = 40) -> str:
    """Return a trend as text: a line for each size with a bar for a score in [0, 1], and what it comes to."""
    longest = max(len(point.name) for point in shown.points)
    lines = []
    for point in shown.points:
        bar = "█" * round(width * min(1.0, max(0.0, point.score.value)))
        if chance is not None:
            at = min(width - 1, round(width * chance))
            bar = bar.ljust(width)
            bar = f"{bar[:at]}|{bar[at + 1 :]}"
        loss = "" if point.loss is None else f"  loss {point.loss}"
        lines.append(f"{point.name:<{longest}} {size_text(point.size):>6} {point.score!s:<22} {bar.rstrip()}{loss}")
    if chance is not None:
        lines.append(f"| is chance, {chance:.3f}")
    shares = ", ".join(f"{shape} {share:.0%}" for shape, share in sorted(shown.shares.items(), key=lambda s: -s[1]))
    lines.append(f"{shown.shape}: {shown.reason}")
    lines.append(f"slope per factor of ten {shown.slope}; {shown.items} items; of the resamples {shares}")
    if shown.loss_slope is not None:
        lines.append(f"slope of the loss {shown.loss_slope}")
    if shown.without_loss:
        lines.append(f"{shown.without_loss} of {shown.items} items have no loss by every model, and are left out of it")
    return "\n".join(lines)


def size_text(size: float) -> str:
    """Return a size as people write it: 135M, 2.7B, 3e+21."""
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if unit <= size < 1e15:
            return f"{size / unit:.3g}{name}"
    return f"{size:.3g}"


def figure(trends: Mapping[str, Trend], chance: float | None = None) -> dict[str, Any]:
    """Return trends as a figure of Plotly: scores with intervals over the logarithm of size."""
    traces = [
        {
            "type": "scatter", "mode": "lines+markers", "name": f"{part}: {shown.shape}",
            "x": [p.size for p in shown.points], "y": [p.score.value for p in shown.points],
            "text": [f"{p.name}<br>{p.score}" for p in shown.points], "hoverinfo": "text",
            "error_y": {
                "type": "data", "symmetric": False,
                "array": [(p.score.value if p.score.high is None else p.score.high) - p.score.value for p in shown.points],
                "arrayminus": [p.score.value - (p.score.value if p.score.low is None else p.score.low) for p in shown.points],
            },
        }
        for part, shown in trends.items()
    ]  # fmt: skip
    layout: dict[str, Any] = {
        "xaxis": {"type": "log", "title": {"text": "size of the model"}},
        "yaxis": {"title": {"text": "score"}},
        "showlegend": True,
    }
    if chance is not None:
        line = {"color": "#8a93a3", "dash": "dot", "width": 1}
        layout["shapes"] = [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": chance, "y1": chance, "line": line}
        ]
    return {"data": traces, "layout": layout}


def page(shown: Mapping[str, Any]) -> str:
    """Return a figure as a page of HTML that needs no network."""
    import plotly.io

    return plotly.io.to_html(shown, include_plotlyjs=True, full_html=True, validate=True)
