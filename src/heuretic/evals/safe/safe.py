"""SAFE: the facts of a long answer, each judged by a model that looks up evidence.

Wei et al. 2024, "Long-form factuality in large language models", arXiv:2403.18802, section 3.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable

from heuretic.evals.safe.facts import FactSplitter
from heuretic.evals.safe.rating import FactRating, Rated, Rating
from heuretic.evals.safe.relevance import Relevance
from heuretic.evals.safe.revise import Revision
from heuretic.lm import LanguageModel, Sampling
from heuretic.lm.retrieval import Search
from heuretic.lm.retrieval.evidence import check
from heuretic.symbolic import Symbolic, field, replace

_ROUNDS = 3
"""So often the published code begins a fact anew that it could not judge."""


class SAFE(Symbolic):
    """Split an answer into facts; revise each, ask whether it is relevant, look up evidence, and ask for a verdict.

    Constants are the published ones, for gpt-3.5-turbo-0125 and Google by Serper. Facts are judged at the same time; what is asked
    about one fact is asked in turn.

    Departures by default: verdicts and relevance are read from the last brackets that give one; a fact that the judge gives no
    verdict for, or that nothing could be looked up for, stays as "unjudged". With `official`, replies are read as the
    published code reads them, and such a fact is begun anew twice and then dropped, which `Rated.dropped` says.
    """

    search: Search | None = field(default=None, doc="looks up evidence")
    split: FactSplitter = field(default=FactSplitter(), doc="the first step")
    revise: Revision = field(default=Revision(), doc="makes facts self-contained")
    relevance: Relevance = field(default=Relevance(), doc="is asked with the revised fact")
    rate: Rating = field(default=Rating(), doc="looks for evidence and asks for the verdict")
    sampling: Sampling = field(
        default=Sampling(temperature=0.1, max_tokens=512), doc="how all but the splitter's replies are drawn"
    )
    tries: int = field(default=11, ge=1, doc="asked so often at most for a reply in the right format (max_retries + 1)")
    concurrency: int = field(default=16, ge=1, doc="facts of an answer judged at once")
    official: bool = field(default=False, doc="read, drop and split as the published code does")

    def check(self) -> None:
        """Raises: ValueError if there is no search, or it has no key."""
        check(self._searching())

    async def __call__(self, question: str, response: str, model: LanguageModel) -> Rated:
        """Return an answer's facts with their labels and evidence.

        Raises: ValueError if there is no search, or a key is missing or refused, which would be so for every fact.
        """
        self._searching()
        splitter = replace(self.split, official=True) if self.official else self.split
        split = await splitter(response, model)
        ratings = await self.judge(split.facts, question, response, model)
        lost = {id(each) for each in ratings if self.official and each.label == "unjudged"}
        return Rated(
            tuple(each for each in ratings if id(each) not in lost),
            tuple(each for each in ratings if id(each) in lost), split.steps, split.unsplit,
        )  # fmt: skip

    async def judge(
        self, facts: Iterable[tuple[str, str]], question: str, response: str, model: LanguageModel
    ) -> list[FactRating]:
        """Return ratings of facts that are there already, each with its sentence, in their order."""
        search, free = self._searching(), asyncio.Semaphore(self.concurrency)

        async def one(fact: str, sentence: str) -> FactRating:
            async with free:
                rating = await self._rated(fact, sentence, question, response, model, search, self.sampling)
                for number in range(1, _ROUNDS if self.official else 1):
                    if rating.label != "unjudged":
                        break
                    sampling, before = replace(self.sampling, seed=self.sampling.seed + number), rating.steps
                    again = await self._rated(fact, sentence, question, response, model, search, sampling)
                    rating = dataclasses.replace(again, steps=(*before, *again.steps))
            return rating

        return list(await asyncio.gather(*(one(fact, sentence) for fact, sentence in facts)))

    async def _rated(
        self, fact: str, sentence: str, question: str, response: str, model: LanguageModel, search: Search, sampling: Sampling
    ) -> FactRating:  # fmt: skip
        revised, steps = await self.revise(fact, response, model, sampling, self.tries)
        relevant, asked = await self.relevance(revised, question, response, model, sampling, self.tries, self.official)
        steps += asked
        if not relevant:
            return FactRating(fact, sentence, revised, "irrelevant", (), steps)
        label, lookups, asked, reason = await self.rate(revised, search, model, sampling, self.tries, self.official)
        return FactRating(fact, sentence, revised, label, lookups, steps + asked, reason)

    def _searching(self) -> Search:
        if self.search is None:
            raise ValueError(
                "SAFE must have a search, got none. Try SAFE(search=...) with one of heuretic.lm.retrieval, or --search serper"
            )
        return self.search
