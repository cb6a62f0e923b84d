"""Published ideas: one module each, found through the entry-point group `heuretic.ideas`."""

from heuretic.ideas.catalog import all_ideas, get
from heuretic.ideas.idea import Idea, Paper

__all__ = ["Idea", "Paper", "all_ideas", "get"]
