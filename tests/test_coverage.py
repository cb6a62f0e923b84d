"""Coverage: against all subsets, known curves and costs that can be checked by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from heuretic.lm.coverage import choose_k, coverage_at_k, coverage_curve, fit_ks, fit_power_law, forecast


@pytest.mark.parametrize("samples", range(1, 8))
def test_coverage_at_k_is_the_share_of_all_subsets_with_a_right_one(samples: int) -> None:
    for correct in range(samples + 1):
        for k in range(1, samples + 1):
            subsets = list(itertools.combinations([1] * correct + [0] * (samples - correct), k))
            assert coverage_at_k(correct, samples, k) == pytest.approx(sum(map(max, subsets)) / len(subsets), abs=1e-12)


def test_coverage_at_k_agrees_with_binomials_where_floats_would_overflow() -> None:
    for correct, samples, k in [(1, 10_000, 100), (3, 10_000, 9_000), (7_000, 10_000, 1)]:
        exact = 1 - math.comb(samples - correct, k) / math.comb(samples, k)
        assert coverage_at_k(correct, samples, k) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("wrong", [(1, 5, 6), (1, 5, 0), (6, 5, 1), (-1, 5, 1)])
def test_coverage_at_k_has_no_estimate_beyond_the_samples(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must be between"):
        coverage_at_k(*wrong)


def test_intervals_are_over_problems_and_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        counts = [(int(c), 20) for c in rng.binomial(20, rng.beta(0.5, 2, size=60))]
        point = coverage_curve(counts, [1], seed=trial, resamples=400)[0]
        hits += point.low <= 0.2 <= point.high
    assert 0.88 <= hits / 200 <= 0.99
    assert coverage_curve([(0, 10), (10, 10)], [1, 10])[1].coverage == 0.5  # a problem never solved counts


def test_a_known_curve_is_found_again_and_inverted() -> None:
    ks = fit_ks(10_000)
    assert (ks[0], ks[-1]) == (1, 10_000)
    assert len(ks) == len(set(ks)) <= 40
    law = fit_power_law(ks, [math.exp(-1.7 * k**-0.4) for k in ks])
    assert (law.a, law.b) == (pytest.approx(-1.7, rel=1e-4), pytest.approx(-0.4, rel=1e-4))
    assert law(law.samples_for(0.9)) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="inside"):
        fit_power_law([1, 2, 4], [0.0, 0.0, 0.0])


def test_a_forecast_from_few_samples_holds_for_many() -> None:
    rng = np.random.default_rng(1)
    rates = rng.beta(0.4, 3, size=400)
    counts = [(int(c), 100) for c in rng.binomial(100, rates)]
    told = forecast(counts, 1_000, resamples=60)
    assert told.low <= told.coverage <= told.high
    assert told.coverage == pytest.approx(float(np.mean(1 - (1 - rates) ** 1_000)), abs=0.06)


def test_k_is_worth_its_cost() -> None:
    def law(k: int) -> float:
        return 1 - 0.5**k

    choice = choose_k(law, prompt=100, sample=10, value=100)  # the 4th sample adds 6.25 < 10, the 3rd 12.5
    assert (choice.k, choice.cost) == (3, 130)
    assert choose_k(law, prompt=100, sample=10, budget=155).k == 5
    assert choose_k(law, prompt=100, sample=10, budget=125, value=100).k == 2
    with pytest.raises(ValueError, match="budget must pay"):
        choose_k(law, prompt=100, sample=10, budget=105)
