"""Random numbers as functions of a seed and a place, so that nothing depends on what was drawn before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch


def derived_seed(seed: int, *place: int | str) -> int:
    """Return a number from 0 to 2**63 - 1 that depends on all arguments."""
    text = ":".join(map(str, (seed, *place)))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *place: int | str) -> torch.Generator:
    """Return a generator on the CPU for one place, such as a step."""
    return torch.Generator().manual_seed(derived_seed(seed, *place))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch's global generators begin with `seed` inside the block, and leave them as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
