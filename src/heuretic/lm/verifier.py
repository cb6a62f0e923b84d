"""What tells good attempts from bad ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from heuretic.lm.answer import Sample
from heuretic.lm.questions import Question


@runtime_checkable
class Verifier(Protocol):
    """Judges all attempts at one question together, since some verifiers (a vote, a ranking) need them all."""

    async def __call__(self, question: Question, samples: Sequence[Sample]) -> list[float | None]:
        """Return a score in [0, 1] for each attempt, 1 for surely right; None where no judgement was possible."""
        ...
