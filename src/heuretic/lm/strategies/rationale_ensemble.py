"""Vote over prompts that differ in the order or the rationales of their exemplars."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Literal

from heuretic.lm.answer import Answer, Sample, Step
from heuretic.lm.model import LanguageModel
from heuretic.lm.parsing import canonical
from heuretic.lm.questions import Question
from heuretic.lm.strategies.chain_of_thought import ChainOfThought
from heuretic.lm.strategies.prompting import Exemplar, cue_of, drawing, independent
from heuretic.lm.voting import Plurality, Vote, elect
from heuretic.symbolic import Symbolic, field, replace

Kind = Literal["self-consistency", "prompt-order", "input-rationale"]


class RationaleEnsemble(Symbolic):
    """Take the vote of members that reason from different prompts, by default each with one reply drawn at random.

    Wang et al. 2022, "Rationale-Augmented Ensembles in Language Models", arXiv:2207.00747: 40 members, temperature 0.7. A member's
    exemplars are

    - self-consistency: those of `of`, the same for all;
    - prompt-order: in an order of its own;
    - input-rationale: with rationales that the model wrote itself. It is asked about each exemplar after the others, and of
      its replies those with the right answer are kept (a filter that the paper does not spell out); where none is, the
      exemplar keeps the rationale it came with. These replies are asked for once where the model has a cache, and belong to the
      trace of the first question only.

    The paper finds that drawing the output at random matters most; `output="greedy"` is its ablation. It balances the answers
    among the exemplars of a classification, which is left to whoever writes them.

    Raises: ValueError if there are too few exemplars for the kind, or greedy members would all be the same.
    """

    of: ChainOfThought = field(doc="the strategy, with exemplars; its temperature is replaced by the one here")
    kind: Kind = field(default="input-rationale", doc="self-consistency, prompt-order or input-rationale")
    members: int = field(default=40, ge=1, doc="prompts, with one reply each")
    output: Literal["sampled", "greedy"] = field(default="sampled", doc="how a member's reply is drawn")
    rationales: int = field(default=8, ge=1, doc="replies to each exemplar, for input-rationale")
    vote: Vote = field(default=Plurality(), doc="what a member weighs")
    temperature: float = field(default=0.7, gt=0, doc="divisor of the logits")
    top_k: int | None = field(default=None, doc="most probable tokens to draw from")
    seed: int = field(default=0, ge=0, doc="decides orders and which rationale goes where")

    def __post_init__(self) -> None:
        least = {"self-consistency": 0, "prompt-order": 2, "input-rationale": 2}[self.kind]
        if len(self.of.exemplars) < least:
            raise ValueError(
                f"of must have at least {least} exemplars for {self.kind}, got {len(self.of.exemplars)}. "
                "Try ChainOfThought(exemplars=ARITHMETIC)"
            )
        if self.kind == "self-consistency" and self.output == "greedy":
            raise ValueError('output must be "sampled" for self-consistency: greedy members would all be the same')

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        """Return the answer with the most votes; `samples` are the members' attempts."""
        return await self._voted(Question(question) if isinstance(question, str) else question, model, 0)

    async def attempts(
        self, question: Question, model: LanguageModel, n: int, first: int = 0
    ) -> tuple[list[Sample], list[Step]]:
        """Return the results of independent votes."""
        return await independent(self._voted(question, model, k) for k in range(first, first + n))

    async def _voted(self, question: Question, model: LanguageModel, number: int) -> Answer:
        drawn = drawing(self.of, self.temperature, self.top_k, None)
        members = range(number * self.members, (number + 1) * self.members)
        if self.kind == "self-consistency":
            samples, trace = await drawn.attempts(question, model, self.members, members[0])
            return elect(samples, self.vote, trace)
        trace: list[Step] = []
        pools: list[list[str]] = []
        if self.kind == "input-rationale":
            found = await asyncio.gather(*(self._rationales(k, model) for k in range(len(self.of.exemplars))))
            pools = [pool for pool, _ in found]
            trace = [step for _, steps in found for step in steps if not all(r.cached for r in step.replies)]
        ask = drawn if self.output == "sampled" else drawing(self.of, 0.0, None, None)
        asking = []
        for member in members:
            prompt = replace(ask, {"exemplars": self._exemplars(member, pools)})
            asking.append(prompt.attempts(question, model, 1, member if self.output == "sampled" else 0))
        answered = await asyncio.gather(*asking)
        return elect(
            [s for samples, _ in answered for s in samples], self.vote, [*trace, *(t for _, ts in answered for t in ts)]
        )

    def _exemplars(self, member: int, pools: list[list[str]]) -> tuple[Exemplar, ...]:
        chance = Random(self.seed << 64 | member)
        exemplars = list(self.of.exemplars)
        if self.kind == "prompt-order":
            chance.shuffle(exemplars)
            return tuple(exemplars)
        return tuple(
            replace(exemplar, {"rationale": chance.choice(pool)})
            for exemplar, pool in zip(exemplars, pools, strict=True)
        )

    async def _rationales(self, place: int, model: LanguageModel) -> tuple[list[str], list[Step]]:
        exemplar = self.of.exemplars[place]
        others = (*self.of.exemplars[:place], *self.of.exemplars[place + 1 :])
        question = Question(exemplar.question, exemplar.answer)
        asked = replace(drawing(self.of, self.temperature, self.top_k, None), {"exemplars": others})
        samples, steps = await asked.attempts(question, model, self.rationales)
        right = canonical(exemplar.answer, self.of.parse, question)
        kept = [_rationale(s.text, cue_of(self.of.parse)) for s in samples if s.answer == right]
        named = [Step(f"rationales of exemplar {place + 1}", step.prompt, step.replies) for step in steps]
        return [text for text in kept if text] or [exemplar.rationale], named


def _rationale(text: str, cue: str) -> str:
    """Return a reply without its answer: what comes before the last cue."""
    place = text.casefold().rfind(cue.casefold()) if cue else -1
    return (text[:place] if place >= 0 else text).strip()
