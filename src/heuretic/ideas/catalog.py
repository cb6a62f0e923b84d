"""The catalogue of ideas, those of other installed packages included."""

from heuretic.ideas.idea import Idea
from heuretic.symbolic import PatchError
from heuretic.symbolic.catalog import entries, published
from heuretic.symbolic.errors import brief


def get(slug: str) -> Idea:
    """Return the idea called `slug`.

    Raises: PatchError if no installed package publishes it, it cannot be imported, or is published as something else.
    """
    found = published(slug)
    if not isinstance(found, Idea) or found.slug != slug:
        raise PatchError(
            f"entry point {slug!r} must be an Idea of that slug, got {getattr(found, 'slug', brief(found))}"
        )
    return found


def all_ideas() -> tuple[Idea, ...]:
    """Return all published ideas, sorted by slug.

    Raises: PatchError as `get` does.
    """
    return tuple(get(slug) for slug in entries())
