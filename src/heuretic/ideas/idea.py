"""`Idea`: an entry of the catalogue. One published idea, where it comes from, and what this package has of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from heuretic.symbolic import Patch

if TYPE_CHECKING:
    from heuretic.ideas.result import Reproduction

Scale = Literal["smoke", "small", "full"]
SCALES: tuple[Scale, ...] = ("smoke", "small", "full")
Plan = TypeVar("Plan")


def plan_of(plans: Mapping[Scale, Plan], scale: Scale) -> Plan:
    """Return what a check runs at a scale.

    Raises: ValueError for an unknown scale.
    """
    if scale not in plans:
        raise ValueError(f"scale must be one of {', '.join(plans)}, got {scale!r}")
    return plans[scale]


@dataclass(frozen=True, slots=True)
class Paper:
    """Where an idea was published. `authors` are surnames; `arxiv` is the identifier without version, or "" if none."""

    authors: str
    year: int
    title: str
    arxiv: str = ""

    @property
    def url(self) -> str:
        """The address of the paper's page, or "" if it is not on arXiv."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""

    def __str__(self) -> str:
        return f"{self.authors} {self.year}, {self.title}" + (f", arXiv:{self.arxiv}" if self.arxiv else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Idea:
    """A published idea.

    Attributes:
        slug: Name in the catalogue and in addresses, kebab-case. title: One line for people.
        claim: What `reproduce` checks, or would check. usage: Lines of code that apply it.
        patch: The patch class, if the idea can be applied to programs and models.
        provides: What else the package has of it, as importable names.
        reproduce: Runs the check of the claim: `reproduce(scale, *, seeds=None, progress=None) -> Reproduction`, where
            `scale` is smoke, small or full, `seeds` are ints or None for the scale's own, and `progress` is called
            with one line of text now and then. None where no check is written yet.
    """

    slug: str
    title: str
    paper: Paper
    claim: str
    usage: str
    patch: type[Patch] | None = None
    provides: tuple[str, ...] = ()
    reproduce: Callable[..., Reproduction] | None = None

    @property
    def status(self) -> str:
        """What there is: "patch", "patch, reproduction", "reproduction" or "reference only"."""
        parts = [text for text, given in (("patch", self.patch), ("reproduction", self.reproduce)) if given is not None]
        return ", ".join(parts) or "reference only"

    def summary(self) -> dict[str, Any]:
        """Return the idea as plain data for listings; its patch parameters as {name: default}."""
        parameters = (
            {} if self.patch is None else {n: f.default for n, f in self.patch.__fields__.items() if f.optional}
        )
        return {
            "slug": self.slug, "title": self.title, "paper": str(self.paper), "url": self.paper.url,
            "claim": self.claim, "usage": self.usage, "status": self.status, "parameters": parameters,
            "provides": list(self.provides),
        }  # fmt: skip
