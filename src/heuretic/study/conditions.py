"""What every evaluation of a study is run under: when it is tried again, and how much it may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Retry:
    """What becomes of a trial whose process or machine dies in it. An evaluation that raises is not tried again.

    Attributes:
        attempts: Evaluations of one trial at most; then it is recorded as failed.
        first_s: Seconds before the second attempt; doubled before each further one, up to `cap_s`.
        silent_s: Seconds that a worker which shares the study through its database may be silent before its trials are given to
            others. A worker says that it is alive four times as often.
    """

    attempts: int = 3
    first_s: float = 1.0
    cap_s: float = 60.0
    silent_s: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts must be >= 1, got {self.attempts}")
        if self.first_s < 0 or self.cap_s < self.first_s:
            raise ValueError(f"first_s must be >= 0 and at most cap_s, got {self.first_s} and {self.cap_s}")
        if self.silent_s <= 0:
            raise ValueError(f"silent_s must be > 0, got {self.silent_s}")

    def delay_s(self, attempts: int) -> float:
        """Return the seconds to wait after so many attempts."""
        return min(self.cap_s, self.first_s * 2.0 ** (max(1, attempts) - 1))


@dataclass(frozen=True, slots=True)
class Conditions:
    """What every evaluation of a study is run under.

    Attributes:
        retry: What becomes of a trial whose process dies. timeout_s: Seconds that one evaluation may take.
        memory_mb: Memory in MiB (resident) that the process of an evaluation may reach.
        resources: What a trial occupies on a cluster: "cpu", "gpu" (counts, fractions allowed), "memory_mb", and names
            that the cluster itself defines.
    """

    retry: Retry = Retry()
    timeout_s: float | None = None
    memory_mb: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("timeout_s", "memory_mb"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be > 0 or None, got {value}")
        for name, amount in self.resources.items():
            if amount < 0:
                raise ValueError(f"resources must be >= 0, got {name}={amount}")
