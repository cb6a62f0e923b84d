"""How a model draws its samples, as a value that can be searched."""

from __future__ import annotations

import hashlib

from heuretic.symbolic import Symbolic, field


class Sampling(Symbolic):
    """How samples are drawn. The default is greedy.

    Sample `i` of a prompt is drawn with seed `seed_of(i)`, so asking for more samples later keeps the earlier ones.

    Raises: ValueError for values out of range.
    """

    temperature: float = field(default=0.0, ge=0, doc="0 for greedy, else the divisor of the logits")
    top_p: float | None = field(default=None, doc="keep the fewest most probable tokens of this probability, (0, 1]")
    top_k: int | None = field(default=None, doc="keep so many of the most probable tokens, >= 1")
    max_tokens: int = field(default=256, ge=1, doc="most tokens to generate")
    stop: tuple[str, ...] = field(default=(), doc="texts that end the sample and are not part of it")
    seed: int = field(default=0, ge=0, doc="decides every draw, where the model allows")
    logprobs: bool = field(default=False, doc="ask for the log-probability of the sample")

    def __post_init__(self) -> None:
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be >= 1, got {self.top_k}. Leave it out to keep every token")

    def seed_of(self, index: int) -> int:
        """Return the seed of sample `index`, in [0, 2**31): those of consecutive samples are consecutive."""
        start = int.from_bytes(hashlib.sha256(str(self.seed).encode()).digest()[:4], "big")
        return (start + index) % 2**31
