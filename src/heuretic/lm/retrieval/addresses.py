"""Searches by address: `bm25?paths=["notes"]`, `serper | recorded?file=lookups.jsonl`, as algorithms have them."""

from __future__ import annotations

from heuretic.lm.retrieval.evidence import Search
from heuretic.search.addresses import Addresses

SEARCHES: Addresses[Search] = Addresses(
    "search",
    {
        "bm25": ("heuretic.lm.retrieval.bm25", "BM25", {}),
        "brave": ("heuretic.lm.retrieval.web", "Brave", {}),
        "embeddings": ("heuretic.lm.retrieval.embeddings", "Embeddings", {}),
        "recorded": ("heuretic.lm.retrieval.recorded", "Recorded", {}),
        "serper": ("heuretic.lm.retrieval.web", "Serper", {}),
        "tavily": ("heuretic.lm.retrieval.web", "Tavily", {}),
    },
    wrapped="search",
    wrapper="recorded",
)
"""All searches of the room."""
