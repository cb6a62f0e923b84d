"""heuretic: programs as values, published ideas as patches, and a search over everything left open.

`import heuretic as hr` loads nothing but names; each room is imported when something of it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heuretic.search import (
        Evolution as Evolution,
    )
    from heuretic.search import (
        HillClimbing as HillClimbing,
    )
    from heuretic.search import (
        Limit as Limit,
    )
    from heuretic.search import (
        RandomSearch as RandomSearch,
    )
    from heuretic.search import (
        Space as Space,
    )
    from heuretic.search import (
        number as number,
    )
    from heuretic.search import (
        one_of as one_of,
    )
    from heuretic.search import (
        permutation as permutation,
    )
    from heuretic.search import (
        repeat as repeat,
    )
    from heuretic.search import (
        some_of as some_of,
    )
    from heuretic.study import Study as Study
    from heuretic.study import Trial as Trial
    from heuretic.study import discover as discover
    from heuretic.study import open_study as open_study
    from heuretic.symbolic import (
        Patch as Patch,
    )
    from heuretic.symbolic import (
        Symbolic as Symbolic,
    )
    from heuretic.symbolic import (
        apply as apply,
    )
    from heuretic.symbolic import (
        build as build,
    )
    from heuretic.symbolic import (
        diff as diff,
    )
    from heuretic.symbolic import (
        digest as digest,
    )
    from heuretic.symbolic import (
        dumps as dumps,
    )
    from heuretic.symbolic import (
        field as field,
    )
    from heuretic.symbolic import (
        find as find,
    )
    from heuretic.symbolic import (
        get as get,
    )
    from heuretic.symbolic import (
        loads as loads,
    )
    from heuretic.symbolic import (
        replace as replace,
    )
    from heuretic.symbolic import (
        rule as rule,
    )
    from heuretic.symbolic import (
        sym as sym,
    )
    from heuretic.symbolic import (
        walk as walk,
    )

__version__ = "0.1.0"

_ROOMS = ("symbolic", "search", "study", "nn", "train", "ideas")
_NAMES = {
    "symbolic": "Patch Symbolic apply build diff digest dumps field find get loads replace rule sym walk",
    "search": "Evolution HillClimbing Limit RandomSearch Space number one_of permutation repeat some_of",
    "study": "Study Trial discover open_study",
}
_HOME = {name: room for room, names in _NAMES.items() for name in names.split()}

__all__ = [
    "Evolution",
    "HillClimbing",
    "Limit",
    "Patch",
    "RandomSearch",
    "Space",
    "Study",
    "Symbolic",
    "Trial",
    "__version__",
    "apply",
    "build",
    "diff",
    "digest",
    "discover",
    "dumps",
    "field",
    "find",
    "get",
    "ideas",
    "loads",
    "nn",
    "number",
    "one_of",
    "open_study",
    "permutation",
    "repeat",
    "replace",
    "rule",
    "search",
    "some_of",
    "study",
    "sym",
    "symbolic",
    "train",
    "walk",
]


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
