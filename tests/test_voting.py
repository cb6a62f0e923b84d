"""Votes: who may vote, what a vote weighs, ties, shares."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heuretic.lm import Sample
from heuretic.lm.voting import Likelihood, Plurality, elect, tally

answers = st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=20)


def attempts(found: list[str | None], logprobs: list[float | None] | None = None) -> list[Sample]:
    logprobs = logprobs or [None] * len(found)
    return [Sample(a, "unparsed" if a is None else "answered", "", lp) for a, lp in zip(found, logprobs, strict=True)]


@given(answers)
def test_plurality_counts_answers_and_nothing_else(found: list[str | None]) -> None:
    answer = elect(attempts(found), Plurality(), [])
    votes = [a for a in found if a is not None]
    if not votes:
        assert (answer.answer, answer.outcome, answer.share) == (None, "unparsed", 0.0)
        return
    most = max(votes.count(a) for a in votes)
    assert answer.answer == next(a for a in votes if votes.count(a) == most)  # the first seen of the most frequent
    assert answer.share == pytest.approx(most / len(votes))
    assert answer.outcome == "answered"
    assert math.fsum(tally(attempts(found), Plurality()).values()) == pytest.approx(1)


@given(answers, st.randoms())
def test_the_order_of_attempts_decides_ties_only(found: list[str | None], chance) -> None:
    shuffled = list(found)
    chance.shuffle(shuffled)
    before, after = tally(attempts(found), Plurality()), tally(attempts(shuffled), Plurality())
    assert before == pytest.approx(after)


def test_many_unparsed_attempts_do_not_win() -> None:
    answer = elect(attempts([None, None, None, "7"]), Plurality(), [])
    assert (answer.answer, answer.share) == ("7", 1.0)


def test_the_commonest_outcome_is_reported_if_nothing_was_found() -> None:
    samples = [Sample(None, "unparsed", ""), Sample(None, "refused", ""), Sample(None, "refused", "")]
    assert elect(samples, Plurality(), []).outcome == "refused"


def test_likelihood_lets_a_sure_minority_win() -> None:
    samples = attempts(["1", "1", "2"], [-3.0, -3.0, -0.1])
    assert elect(samples, Plurality(), []).answer == "1"
    assert elect(samples, Likelihood(), []).answer == "2"
    total = 2 * math.exp(-3) + math.exp(-0.1)
    assert elect(samples, Likelihood(), []).share == pytest.approx(math.exp(-0.1) / total)


@given(st.lists(st.tuples(st.sampled_from(["1", "2", None]), st.floats(-50, 0)), min_size=1, max_size=20))
def test_equal_likelihoods_are_a_plurality(pairs: list[tuple[str | None, float]]) -> None:
    found = [a for a, _ in pairs]
    assert tally(attempts(found, [-1.5] * len(found)), Likelihood()) == pytest.approx(
        tally(attempts(found), Plurality())
    )
    weighed = tally(attempts(found, [lp for _, lp in pairs]), Likelihood())
    assert not weighed or math.fsum(weighed.values()) == pytest.approx(1)


def test_likelihood_needs_log_probabilities() -> None:
    with pytest.raises(ValueError, match="logprobs=True"):
        elect(attempts(["1"]), Likelihood(), [])
    assert elect(attempts([None, "1"], [None, -1.0]), Likelihood(), []).answer == "1"


def test_answers_too_unlikely_for_floats_still_vote() -> None:
    assert elect(attempts(["1", "2"], [-2000.0, -1000.0]), Likelihood(), []).answer == "2"
