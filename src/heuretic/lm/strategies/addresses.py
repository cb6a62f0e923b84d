"""Strategies by address: `chain-of-thought | self-consistency?samples=10`, as algorithms have them."""

from __future__ import annotations

from heuretic.lm.strategies.prompting import Attempting
from heuretic.search.addresses import Addresses

STRATEGIES: Addresses[Attempting] = Addresses(
    "strategy",
    {
        name: (f"heuretic.lm.strategies.{name.replace('-', '_')}", kind, {})
        for name, kind in (
            ("chain-of-thought", "ChainOfThought"),
            ("direct", "Direct"),
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
