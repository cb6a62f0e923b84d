"""Strategies by address: `chain-of-thought | self-consistency?samples=10`, as algorithms have them."""

from __future__ import annotations

from datetime import UTC, datetime

from heuretic.lm.retrieval.evidence import Search
from heuretic.lm.strategies.prompting import Attempting
from heuretic.search.addresses import Addresses

STRATEGIES: Addresses[Attempting] = Addresses(
    "strategy",
    {
        name: (f"heuretic.lm.strategies.{name.replace('-', '_')}", kind, {})
        for name, kind in (
            ("chain-of-thought", "ChainOfThought"),
            ("direct", "Direct"),
            ("fresh-prompt", "FreshPrompt"),
            ("instructed", "Instructed"),
            ("least-to-most", "LeastToMost"),
            ("likeliest", "Likeliest"),
            ("rationale-ensemble", "RationaleEnsemble"),
            ("repeated-sampling", "RepeatedSampling"),
            ("self-consistency", "SelfConsistency"),
            ("step-back", "StepBack"),
        )
    },
    wrapped="of",
    wrapper="self-consistency",
)
"""All strategies of the room. Those that need a part which has no address, such as a verifier, are written in Python."""


def strategy_at(address: str, search: Search | None = None) -> Attempting:
    """Return the strategy at an address; one that looks questions up does so with `search`, today.

    Raises: AddressError as `STRATEGIES.at` does; ValueError if the strategy needs a search and none is given.
    """
    if search is None and address.partition("?")[0].strip() == "fresh-prompt":
        raise ValueError("fresh-prompt must have a search, got none. Try --search serper")
    given = {} if search is None else {"search": search, "today": datetime.now(UTC).date().isoformat()}
    return STRATEGIES.at(address, given)
