"""Trends over sizes: known shapes with noise, how often the rule errs, paired items, and models swept over an evaluation."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from inspect_ai.model import GenerateConfig

from heuretic.evals.evaluation import Evaluation, Questions, Score
from heuretic.evals.results import Results
from heuretic.evals.scaling_trend import (
    Trend,
    figure,
    page,
    picture,
    shape_of,
    simultaneous,
    size_text,
    sweep,
    trend,
    trends_of,
)
from heuretic.lm import Answer, LanguageModel, Question
from heuretic.lm.parsing import Choice
from heuretic.lm.strategies import Direct
from scripted import scripted

SIZES = {"a": 1e7, "b": 1e8, "c": 1e9, "d": 1e10, "e": 1e11}


def drawn(chances: Sequence[float], items: int, seed: int, shared: float = 0.6) -> dict[str, np.ndarray]:
    """Return right and wrong answers with these accuracies; items are as hard for all models, for the most part."""
    rng = np.random.default_rng(seed)
    common = rng.random(items)
    own = rng.random((len(chances), items))
    rolls = np.where(rng.random((len(chances), items)) < shared, common, own)
    return {name: (rolls[k] < p).astype(float) for k, (name, p) in enumerate(zip(SIZES, chances, strict=False))}


def decided(chances: Sequence[float], items: int, seed: int, **arguments: Any) -> Trend:
    scores = drawn(chances, items, seed)
    return trend(scores, {name: SIZES[name] for name in scores}, resamples=400, **arguments)


CURVES = {
    "inverse": (0.8, 0.7, 0.6, 0.5, 0.4),
    "positive": (0.3, 0.4, 0.5, 0.6, 0.7),
    "U-shaped": (0.7, 0.5, 0.3, 0.5, 0.7),
    "inverted U": (0.3, 0.5, 0.7, 0.5, 0.4),
    "flat": (0.5, 0.5, 0.5, 0.5, 0.5),
}


@pytest.mark.parametrize("shape", CURVES)
def test_known_shapes_are_found(shape: str) -> None:
    found = decided(CURVES[shape], 8000 if shape == "flat" else 500, 0)
    assert found.shape == shape
    assert found.reason
    assert found.shares[found.shape] > 0.9
    assert math.isclose(sum(found.shares.values()), 1.0)


@pytest.mark.parametrize("shape", CURVES)
def test_shapes_of_exact_means(shape: str) -> None:
    assert shape_of(np.array(CURVES[shape])) == shape


def test_turns_within_the_margin_do_not_count() -> None:
    assert shape_of(np.array([0.9, 0.5, 0.52, 0.51])) == "inverse"
    assert shape_of(np.array([0.5, 0.48, 0.5, 0.52])) == "flat"
    assert shape_of(np.array([0.5, 0.3, 0.6])) == "positive"  # three sizes: no turns, and more is gained than lost
    assert shape_of(np.array([0.5, 0.3, 0.6, 0.6])) == "U-shaped"


@pytest.mark.parametrize(
    ("chances", "wrong"),
    [
        (CURVES["flat"], {"inverse", "positive", "U-shaped", "inverted U"}),
        ((0.2,) * 5, {"inverse", "positive", "U-shaped", "inverted U"}),
        (CURVES["inverse"], {"positive", "U-shaped", "inverted U", "flat"}),
        ((0.8, 0.4, 0.4, 0.4, 0.4), {"positive", "U-shaped", "inverted U", "flat"}),
        (CURVES["positive"], {"inverse", "U-shaped", "inverted U", "flat"}),
        (CURVES["U-shaped"], {"inverted U", "flat"}),
    ],
)
def test_false_decisions_are_rare(chances: Sequence[float], wrong: set[str]) -> None:
    runs = 200
    shapes = Counter(decided(chances, 150, seed).shape for seed in range(runs))
    # 5% are allowed, and a bound of 4.2 standard errors is added for 200 runs
    assert sum(shapes[shape] for shape in wrong) <= runs * 0.05 + 4.2 * math.sqrt(runs * 0.05 * 0.95), shapes


def test_strong_shapes_are_found_in_most_samples() -> None:
    for shape in ("inverse", "positive", "U-shaped"):
        shapes = Counter(decided(CURVES[shape], 150, seed).shape for seed in range(60))
        assert shapes[shape] >= 54, (shape, shapes)


def test_few_items_leave_the_matter_undecided() -> None:
    found = decided((0.5, 0.45, 0.5, 0.55), 40, 1)
    assert found.shape == "undecided"
    assert "not ruled out" in found.reason


def test_a_turn_needs_four_sizes() -> None:
    found = decided((0.8, 0.3, 0.8), 500, 0)
    assert found.shape == "undecided"
    assert "at least 4 sizes" in found.reason
    assert decided((0.8, 0.3, 0.3, 0.8), 500, 0).shape == "U-shaped"


def test_two_sizes_can_only_rise_or_fall() -> None:
    assert decided((0.8, 0.4), 300, 0).shape == "inverse"
    assert decided((0.4, 0.8), 300, 0).shape == "positive"


def test_more_than_one_turn_is_undecided() -> None:
    found = decided((0.8, 0.3, 0.8, 0.3, 0.8), 500, 0)
    assert found.shape == "undecided"
    assert "more than one turn" in found.reason


def test_paired_items_make_small_differences_sure() -> None:
    rng = np.random.default_rng(0)
    right = (rng.random(400) < 0.5).astype(float)
    worse = right.copy()
    worse[np.flatnonzero(right)[:20]] = 0.0  # 5% of the items, all of them in one direction
    sizes = {"a": 1.0, "b": 10.0}
    assert trend({"a": right, "b": worse}, sizes).shape == "inverse"
    unpaired = rng.permutation(worse)
    assert trend({"a": right, "b": unpaired}, sizes).shape == "undecided"


def test_order_of_models_and_items_does_not_matter() -> None:
    scores = drawn(CURVES["inverse"], 200, 3)
    sizes = dict(SIZES)
    shuffled = dict(reversed(list(scores.items())))
    one, other = trend(scores, sizes), trend(shuffled, sizes)
    assert one == other
    assert [point.name for point in one.points] == list(SIZES)


def test_slopes_are_per_factor_of_ten() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(300)
    sizes = {"a": 1e6, "b": 1e7, "c": 1e8}
    scores = {name: base - 0.1 * k for k, name in enumerate(sizes)}
    losses = {name: base + 0.5 * k for k, name in enumerate(sizes)}
    found = trend(scores, sizes, losses=losses)
    assert found.slope.value == pytest.approx(-0.1)
    assert found.slope.low == pytest.approx(-0.1)
    assert found.loss_slope is not None
    assert found.loss_slope.value == pytest.approx(0.5)
    assert found.points[2].loss is not None
    assert found.points[2].loss.value == pytest.approx(base.mean() + 1.0)
    assert found.shape == "inverse"  # without any doubt: every item falls by as much


def test_intervals_of_slopes_hold_the_truth() -> None:
    truth = -0.1
    held = 0
    for seed in range(100):
        found = decided(CURVES["inverse"], 200, seed)
        assert found.slope.low is not None
        assert found.slope.high is not None
        held += found.slope.low <= truth <= found.slope.high
    assert held >= 88


def test_bands_hold_all_differences_together() -> None:
    rng = np.random.default_rng(0)
    pairs = [(i, j) for j in range(4) for i in range(j)]
    held = 0
    for _ in range(200):
        table = rng.normal(size=(100, 4))
        times = rng.multinomial(100, np.full(100, 0.01), 300)
        low, high = simultaneous(table.mean(axis=0), times @ table / 100, pairs)
        held += bool((low <= 0).all() and (high >= 0).all())
    assert held >= 177  # 95% of 200, less 4.2 standard errors


def test_equal_models_are_flat() -> None:
    same = np.array([0.0, 1.0] * 50)
    found = trend({"a": same, "b": same, "c": same}, {"a": 1, "b": 2, "c": 3})
    assert found.shape == "flat"
    assert found.shares == {"flat": 1.0}


def test_items_without_a_score_are_left_out_for_all() -> None:
    scores = {"a": [1.0, np.nan, 0.0, 1.0], "b": [0.0, 1.0, np.nan, 1.0]}
    found = trend(scores, {"a": 1, "b": 2})
    assert (found.items, found.left_out) == (2, 2)
    assert [point.score.value for point in found.points] == [1.0, 0.5]


def test_clusters_widen_intervals() -> None:
    scores = {name: np.repeat(column, 10) for name, column in drawn((0.6, 0.5), 30, 0).items()}
    sizes = {"a": 1.0, "b": 10.0}
    groups = [str(k // 10) for k in range(300)]
    apart, together = trend(scores, sizes), trend(scores, sizes, clusters=groups)
    assert apart.slope.high is not None and apart.slope.low is not None  # noqa: PT018
    assert together.slope.high is not None and together.slope.low is not None  # noqa: PT018
    assert together.slope.value == apart.slope.value
    assert together.slope.high - together.slope.low > 2 * (apart.slope.high - apart.slope.low)


@pytest.mark.parametrize(
    ("scores", "sizes", "said"),
    [
        ({"a": [1, 0]}, {"a": 1}, "at least 2"),
        ({"a": [1, 0], "b": [1, 0]}, {"a": 1, "c": 2}, "same models"),
        ({"a": [1, 0], "b": [1, 0]}, {"a": 1, "b": 1}, "different"),
        ({"a": [1, 0], "b": [1, 0]}, {"a": 1, "b": 0}, "> 0"),
        ({"a": [1, 0], "b": [1, 0]}, {"a": 1, "b": math.nan}, "> 0"),
        ({"a": [1, 0], "b": [1, 0, 1]}, {"a": 1, "b": 2}, "same items"),
        ({"a": [1, math.nan], "b": [math.nan, 1]}, {"a": 1, "b": 2}, "at least 2 with a score"),
    ],
)
def test_what_cannot_be_compared_is_refused(scores: Mapping[str, Any], sizes: Mapping[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        trend(scores, sizes)


def test_losses_must_be_of_the_same_items() -> None:
    with pytest.raises(ValueError, match="losses must be of the same items"):
        trend({"a": [1, 0], "b": [1, 0]}, {"a": 1, "b": 2}, losses={"a": [1.0], "b": [1.0]})


# ---- pictures ----


def test_text_says_shape_sizes_and_chance() -> None:
    shown = picture(decided(CURVES["inverse"], 200, 0), chance=0.5)
    lines = shown.splitlines()
    assert lines[0].startswith("a    10M 0.")
    assert lines[0].count("█") > lines[4].count("█")
    assert all("|" in line for line in lines[:5])
    assert "inverse: the score surely falls" in shown
    assert "slope per factor of ten -0.087 [-0.1" in shown


def test_figure_is_plain_data_that_plotly_takes() -> None:
    shown = figure({"all": decided(CURVES["U-shaped"], 200, 0)}, chance=0.5)
    json.dumps(shown, allow_nan=False)
    assert shown["data"][0]["name"] == "all: U-shaped"
    assert min(shown["data"][0]["error_y"]["array"]) >= 0
    assert "plotly" in page(shown)


@pytest.mark.parametrize(
    ("size", "text"), [(135e6, "135M"), (2.7e9, "2.7B"), (5.4e11, "540B"), (3e21, "3e+21"), (512, "512"), (1e12, "1T")]
)
def test_sizes_are_written_as_people_do(size: float, text: str) -> None:
    assert size_text(size) == text


# ---- models ----


class Letters(Evaluation):
    """Questions of two kinds: (A) is right for all."""

    name: ClassVar[str] = "letters"
    by: ClassVar[tuple[str, ...]] = ("kind",)

    def load(self) -> Questions:
        asked = [
            Question(f"number {k}", "A", ("x", "y"), id=str(k), about={"kind": "even" if k % 2 == 0 else "odd"})
            for k in range(120)
        ]
        return Questions(lambda: iter(asked), len(asked))

    def strategy(self) -> Direct:
        return Direct(parse=Choice())

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        return Score(float(answer.answer == "A"), {"loss": 0.0 if answer.answer == "A" else 2.0})


def knowing(share: int) -> LanguageModel:
    """Return a model that is right on so many of ten questions."""

    def reply(prompt: str, config: GenerateConfig) -> str:
        number = int(prompt.split()[1])
        return "The answer is (A)." if (number // 2) % 10 < share else "The answer is (B)."

    return scripted(reply)


def test_sweep_asks_all_models_the_same_and_finds_the_trend() -> None:
    told: list[str] = []
    found = sweep(
        Letters(), {"large": 1e9, "small": 1e8, "middle": 3e8}, progress=told.append,
        made=lambda name: knowing({"small": 9, "middle": 5, "large": 2}[name]),
    )  # fmt: skip
    assert list(found.trends) == ["", "even", "odd"]
    assert found.trends[""].shape == "inverse"
    assert [p.score.value for p in found.trends[""].points] == [0.9, 0.5, 0.2]
    assert found.trends[""].loss_slope is not None
    assert found.trends[""].loss_slope.value > 0
    assert found.chance == 0.5
    assert len(found.rows()) == 9
    assert found.rows()[0]["model"] == "small"
    assert told[0].startswith("small: 0.900 [")
    assert "\n\nodd\nsmall" in found.text()
    assert len(found.figure()["data"]) == 3
    assert list(found.runs) == ["small", "middle", "large"]
    assert found.runs["small"].outcomes == {"answered": 120}


def test_sweep_takes_some_questions_and_refuses_one_model() -> None:
    found = sweep(Letters(), {"a": 1.0, "b": 2.0}, made=lambda name: knowing(5), limit=20)
    assert found.trends[""].items == 20
    assert found.trends[""].shape == "flat"
    with pytest.raises(ValueError, match="at least 2"):
        sweep(Letters(), {"a": 1.0}, made=lambda name: knowing(5))


def test_questions_that_one_model_did_not_get_to_are_left_out() -> None:
    a = Results(["1", "2", "3", "4"], np.array([1.0, 0.0, 1.0, 1.0]), ["answered"] * 4)
    b = Results(["1", "3", "4"], np.array([0.0, 1.0, np.nan]), ["answered"] * 3)
    found = trends_of({"a": a, "b": b}, {"a": 1.0, "b": 2.0})[""]
    assert (found.items, found.left_out) == (2, 1)
    assert [point.score.value for point in found.points] == [1.0, 0.5]


def test_items_without_a_loss_are_left_out_of_it_and_counted() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(50)
    sizes = {"a": 1.0, "b": 10.0}
    losses = {"a": base, "b": base + 1.0}
    whole = trend(dict.fromkeys(sizes, base), sizes, losses=losses)
    assert whole.without_loss == 0
    assert "no loss" not in str(whole)
    missing = {"a": base, "b": np.where(np.arange(50) == 7, np.nan, base + 1.0)}
    found = trend(dict.fromkeys(sizes, base), sizes, losses=missing)
    assert (found.items, found.without_loss) == (50, 1)
    assert found.loss_slope is not None
    assert (found.loss_slope.value, found.loss_slope.count) == (pytest.approx(1.0), 49)
    assert "1 of 50 items have no loss by every model" in str(found)
    ids, outcomes = [str(k) for k in range(50)], ["answered"] * 50
    results = {name: Results(ids, base, outcomes, {}, {"loss": missing[name]}) for name in sizes}
    assert trends_of(results, sizes)[""].without_loss == 1
    results["b"] = Results(ids, base, outcomes)
    none = trends_of(results, sizes)[""]
    assert (none.loss_slope, none.without_loss) == (None, 50)


def test_a_measure_that_is_a_loss_is_taken_negative() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(100)
    results = {
        name: Results(
            [str(k) for k in range(100)], np.full(100, np.nan), ["answered"] * 100, {"task": ["x"] * 100}, {"loss": base + worse},
            [str(k // 2) for k in range(100)],
        )
        for name, worse in (("a", 0.0), ("b", 1.0))
    }  # fmt: skip
    found = trends_of(results, {"a": 1.0, "b": 10.0}, "task")
    assert list(found) == [""]
    assert found[""].shape == "inverse"
    assert found[""].slope.value == pytest.approx(-1.0)
