"""Looking up evidence: in the user's own files, on the web, or in a record of earlier lookups.

Every search is called as `await search(query, k)` and returns `Evidence(text, title, url, date)`.
"""

from heuretic.lm.retrieval.bm25 import BM25, BM25Index
from heuretic.lm.retrieval.embeddings import Embeddings, Encoder
from heuretic.lm.retrieval.evidence import Evidence, Search
from heuretic.lm.retrieval.recorded import Recorded
from heuretic.lm.retrieval.web import Brave, Serper, Tavily

__all__ = ["BM25", "BM25Index", "Brave", "Embeddings", "Encoder", "Evidence", "Recorded", "Search", "Serper", "Tavily"]
