"""heuretic: programs as values, published ideas as patches, and a search over everything left open.

`import heuretic as hr` loads nothing but names; each room is imported when something of it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heuretic import data, evals, ideas, lm, nn, search, study, symbolic, train
    from heuretic.search import (
        NSGA2,
        Auto,
        Equivalence,
        Evolution,
        HillClimbing,
        LayerNAS,
        Limit,
        RandomSearch,
        Reinforce,
        Rejection,
        Restarts,
        Space,
        number,
        one_of,
        permutation,
        repeat,
        some_of,
        text,
    )  # fmt: skip
    from heuretic.study import Energy, Retry, Study, Trial, discover, open_study
    from heuretic.symbolic import (
        Patch,
        Symbolic,
        apply,
        build,
        diff,
        digest,
        dumps,
        field,
        find,
        get,
        loads,
        program_of,
        replace,
        rule,
        sym,
        walk,
    )  # fmt: skip

__version__ = "0.1.0"

_ROOMS = ("symbolic", "search", "study", "nn", "data", "train", "lm", "evals", "ideas")
_NAMES = {
    "symbolic": "Patch Symbolic apply build diff digest dumps field find get loads program_of replace rule sym walk",
    "search": "Auto Equivalence Evolution HillClimbing LayerNAS Limit NSGA2 RandomSearch Reinforce Rejection Restarts Space "
    "number one_of permutation repeat some_of text",
    "study": "Energy Retry Study Trial discover open_study",
}
_HOME = {name: room for room, names in _NAMES.items() for name in names.split()}

__all__ = [
    "NSGA2", "Auto", "Energy", "Equivalence", "Evolution", "HillClimbing", "LayerNAS", "Limit", "Patch", "RandomSearch",
    "Reinforce", "Rejection", "Restarts", "Retry", "Space", "Study", "Symbolic", "Trial", "__version__", "apply", "build", "data", "diff",
    "digest", "discover", "dumps", "evals", "field", "find", "get", "ideas", "lm", "loads", "nn", "number", "one_of", "open_study",
    "permutation", "program_of", "repeat", "replace", "rule", "search", "some_of", "study", "sym", "symbolic", "text", "train", "walk",
]  # fmt: skip


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
