"""Whether a fact is about what was asked. Foo stands for "related", so that what a judge thinks of that word plays no part."""

from __future__ import annotations

from heuretic.evals.judging import verdict
from heuretic.evals.safe.prompts import RELEVANCE, bracketed, decided, filled
from heuretic.lm import LanguageModel, Sampling
from heuretic.lm.answer import Step
from heuretic.symbolic import Symbolic, field


class Relevance(Symbolic):
    """Ask whether the fact's subject and the question's are related by what the answer says; a judge that never says counts as yes."""

    prompt: str = field(default=RELEVANCE, doc="[PROMPT], [RESPONSE] and [STATEMENT] are replaced")

    async def __call__(
        self, fact: str, question: str, response: str, model: LanguageModel, sampling: Sampling, tries: int, official: bool = False
    ) -> tuple[bool, tuple[Step, ...]]:  # fmt: skip
        """Return whether a fact is relevant, and all exchanges."""
        prompt = filled(self.prompt, {"STATEMENT": fact, "PROMPT": question, "RESPONSE": response})

        def read(text: str) -> bool | None:
            return read_relevance(text, official=official)

        relevant, steps = await verdict("relevance", model, prompt, read, sampling, tries)
        return relevant is not False, steps


def read_relevance(text: str, *, official: bool = False) -> bool | None:
    """Return what a judge says: True for [Foo], False for [Not Foo], None for neither.

    The last brackets that say one of the two count, see `decided`. With `official`, the first brackets must say exactly that.
    """
    if official:
        return {"Foo": True, "Not Foo": False}.get(next(iter(bracketed(text)), ""))
    return decided(text, "foo")
