"""`architecture`: a function that describes a model becomes one that builds it, and keeps the description at hand."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from heuretic.symbolic import build

P = ParamSpec("P")
M_co = TypeVar("M_co", covariant=True)


class Architecture(Protocol[P, M_co]):
    """A family of models under one name: call it for a model with random weights, or ask for the model's program."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> M_co: ...

    def program(self, *args: P.args, **kwargs: P.kwargs) -> M_co:
        """Return the model as a program: typed as the model, but a value whose parts can be replaced and left open."""
        ...


def architecture(describe: Callable[P, M_co]) -> Architecture[P, M_co]:
    """Make of a function that returns a program one that builds it; the program itself stays there as `.program(...)`."""

    @wraps(describe)
    def make(*args: P.args, **kwargs: P.kwargs) -> M_co:
        return build(describe(*args, **kwargs))

    cast(Any, make).program = describe
    return cast(Architecture[P, M_co], make)
