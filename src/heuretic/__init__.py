"""heuretic: programs as values, published ideas as patches, and a search over everything left open.

`import heuretic as hr` loads nothing but names; each room is imported when something of it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heuretic.search import (
        Evolution as Evolution,
        HillClimbing as HillClimbing,
        Limit as Limit,
        RandomSearch as RandomSearch,
        Space as Space,
        number as number,
        one_of as one_of,
        permutation as permutation,
        repeat as repeat,
        some_of as some_of,
    )
    from heuretic.study import Study as Study, Trial as Trial, discover as discover, open_study as open_study
    from heuretic.symbolic import (
        Patch as Patch,
        Symbolic as Symbolic,
        apply as apply,
        build as build,
        diff as diff,
        digest as digest,
        dumps as dumps,
        field as field,
        find as find,
        get as get,
        loads as loads,
        replace as replace,
        rule as rule,
        sym as sym,
        walk as walk,
    )

__version__ = "0.1.0"

_ROOMS = ("symbolic", "search", "study", "nn", "data", "train", "ideas")
_NAMES = {
    "symbolic": "Patch Symbolic apply build diff digest dumps field find get loads replace rule sym walk",
    "search": "Evolution HillClimbing Limit RandomSearch Space number one_of permutation repeat some_of",
    "study": "Study Trial discover open_study",
}
_HOME = {name: room for room, names in _NAMES.items() for name in names.split()}

__all__ = ["__version__", *_HOME, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"heuretic.{name}")
    if name in _HOME:
        value = getattr(import_module(f"heuretic.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'heuretic' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
