"""`architecture`: a function that describes a model becomes one that builds it, and keeps the description at hand."""

from collections.abc import Callable
from functools import wraps
from inspect import isfunction
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from heuretic.symbolic import Call, build, calls, find, replace

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


def is_architecture(value: Any) -> bool:
    """Whether `architecture` made this."""
    return isfunction(value) and hasattr(value, "program")


def architectures() -> dict[str, Architecture[..., Any]]:
    """Return the architectures of `heuretic.nn` by name."""
    import heuretic.nn as room  # which imports this module

    public = {name: getattr(room, name) for name in room.__all__}
    return {name: value for name, value in public.items() if is_architecture(value)}


def spelled_out(program: Any) -> Any:
    """Return a program with, for each call of an architecture in it, the program that the architecture describes."""
    found = find(program, lambda value: isinstance(value, Call) and is_architecture(value.__target__))
    for path, call in reversed(found):  # those inside others first
        describe = Call(call.__target__.program, call.__keys__, call.__values__)
        program = replace(program, {tuple(path): calls.make(describe, dict(call.__items__()))})
    return program
