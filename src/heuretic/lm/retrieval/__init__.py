"""Looking up evidence: in the user's own files, on the web, or in a record of earlier lookups."""

from heuretic.lm.retrieval.evidence import Evidence, Search

__all__ = ["Evidence", "Search"]
