"""Finding what a user names on the command line: Python files and the objects in them."""

from __future__ import annotations

import importlib
import sys
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from heuretic.symbolic import loads


class UsageError(ValueError):
    """What was asked for on the command line cannot be found or makes no sense."""


def engine_name(given: str | None) -> str | None:
    """Return the name of an engine as it was given. Raises: UsageError if there is none of this name."""
    if given is None or given in ("inline", "processes", "workers", "ray") or given.startswith("ray:"):
        return given
    raise UsageError(f"engine must be inline, processes, workers, ray or ray://HOST:PORT, got {given!r}")


def load_module(file: Path) -> ModuleType:
    """Import a user's Python file under its own name, as worker processes will.

    Raises: UsageError if there is no such file or its name cannot be imported.
    """
    if not file.is_file():
        raise UsageError(f"no file {file}")
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise UsageError(f"file must be a Python file with an importable name, got {file.name!r}")
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = importlib.import_module(file.stem)
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != file.resolve():
        raise UsageError(f"{file.name} has the name of another module ({found or file.stem}). Rename it")
    return module


def load_object(place: str) -> Any:
    """Return the object at `FILE.py:NAME`, `package.module:NAME`, or the program in a saved `FILE.json`.

    A saved program is read without importing what it names.
    """
    if place.endswith(".json"):
        path = Path(place)
        if not path.is_file():
            raise UsageError(f"no file {path}")
        return loads(path.read_bytes(), resolve_names=False)
    where, _, name = place.rpartition(":")
    if not where or not name:
        raise UsageError(f"object must be FILE.py:NAME, package.module:NAME or FILE.json, got {place!r}")
    module = load_module(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            close = get_close_matches(part, list(vars(module)), 1)
            raise UsageError(f"{where} has no {name!r}" + (f". Did you mean {close[0]!r}?" if close else ""))
        found = getattr(found, part)
    return found
