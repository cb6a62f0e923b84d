"""Revising a fact so that it can be understood without the answer it comes from."""

from __future__ import annotations

from heuretic.evals.judging import verdict
from heuretic.evals.safe.prompts import REVISE, filled, first_fenced
from heuretic.lm import LanguageModel, Sampling
from heuretic.lm.answer import Step
from heuretic.symbolic import Symbolic, field


class Revision(Symbolic):
    """Ask for the fact with full names in the place of vague references; without a fenced block in any reply it stays as it is."""

    prompt: str = field(default=REVISE, doc="[STATEMENT] and [RESPONSE] are replaced")

    async def __call__(
        self, fact: str, response: str, model: LanguageModel, sampling: Sampling, tries: int
    ) -> tuple[str, tuple[Step, ...]]:
        """Return the fact as revised, and all exchanges."""
        prompt = filled(self.prompt, {"STATEMENT": fact, "RESPONSE": response})
        revised, steps = await verdict("revise", model, prompt, first_fenced, sampling, tries)
        return revised or fact, steps
