"""From several attempts to one answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from heuretic.lm.answer import Answer, Sample, Step
from heuretic.lm.replies import Outcome
from heuretic.symbolic import Symbolic


class Vote(Protocol):
    """Says how much each attempt's answer weighs. Attempts without an answer never vote."""

    def weights(self, samples: Sequence[Sample]) -> list[float]:
        """Return a weight >= 0 for each attempt."""
        ...


class Plurality(Symbolic):
    """Every answer weighs the same: the vote of self-consistency (Wang et al. 2023, arXiv:2203.11171)."""

    def weights(self, samples: Sequence[Sample]) -> list[float]:
        return [1.0] * len(samples)


class Likelihood(Symbolic):
    """An answer weighs the likelihood of its text, exp of the mean log-probability of a token ("normalised" in the same paper).

    The samples must be drawn with `Sampling(logprobs=True)`.
    """

    def weights(self, samples: Sequence[Sample]) -> list[float]:
        if any(s.answer is not None and s.logprob_per_token is None for s in samples):
            raise ValueError(
                "samples must have log-probabilities for this vote. Try Sampling(logprobs=True), or Plurality()"
            )
        # Relative to the likeliest, which changes no share, so that texts too unlikely for a float still weigh something.
        likeliest = max(
            (s.logprob_per_token for s in samples if s.answer is not None and s.logprob_per_token is not None),
            default=0.0,
        )
        return [math.exp((s.logprob_per_token or 0.0) - likeliest) if s.answer is not None else 0.0 for s in samples]


def tally(samples: Sequence[Sample], vote: Vote) -> dict[str, float]:
    """Return the share of the votes of each answer, first seen first; shares sum to 1."""
    totals: dict[str, float] = {}
    for sample, weight in zip(samples, vote.weights(samples), strict=True):
        if sample.answer is not None:
            totals[sample.answer] = totals.get(sample.answer, 0.0) + weight
    everything = math.fsum(totals.values())
    return {answer: total / everything for answer, total in totals.items()} if everything else totals


def elect(samples: Sequence[Sample], vote: Vote, trace: Sequence[Step]) -> Answer:
    """Return the answer with the most votes, of several equal ones the first seen, with its share.

    If there is no answer at all, the outcome is the commonest one of the attempts.
    """
    shares = tally(samples, vote)
    if not shares:
        return Answer(None, commonest([s.outcome for s in samples]), 0.0, tuple(samples), tuple(trace))
    winner = max(shares, key=lambda answer: shares[answer])  # max keeps the first of equals
    return Answer(winner, "answered", shares[winner], tuple(samples), tuple(trace))


def commonest(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the most frequent outcome, of several equally frequent ones the first seen."""
    return max(outcomes, key=lambda outcome: outcomes.count(outcome)) if outcomes else "unparsed"
