"""Names of importable objects, `package.module:Qualified.Name`, and the one place that resolves them."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Collection
from functools import lru_cache
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from heuretic.symbolic.errors import InvalidField, LoadError

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_MAIN = ("__main__", "__mp_main__")
#: Packages whose names a saved program may always use: constructors of ours and of plain Python types.
DEFAULT_TRUST = ("heuretic",)


class Name(str):
    """The name of an object that was read from a file and deliberately not imported."""

    __slots__ = ("kind",)
    kind: str

    def __new__(cls, name: str, kind: str) -> Name:
        self = super().__new__(cls, name)
        self.kind = kind
        return self

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return str(self), self.kind


@lru_cache(maxsize=1)
def main_name() -> str:
    """Return the name under which other processes can import what this one runs as `__main__`."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    stem = os.path.splitext(os.path.basename(file))[0] if file else ""
    return stem if stem.isidentifier() else "__main__"


def module_name(module: str) -> str:
    """Return `module`, with `__main__` under its importable name so that a script and its import agree."""
    return main_name() if module in _MAIN else module


@lru_cache(maxsize=4096)
def name_of(value: Any) -> str:
    """Return the importable name of a class, function or library constant (such as a torch dtype).

    Raises: InvalidField if it is a lambda, a closure, or cannot be found again under its own name.
    """
    if isinstance(value, Name):
        return str(value)
    module, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if qualname is None:  # a constant such as torch.float32, whose repr is its name
        module, _, qualname = repr(value).rpartition(".")
    if module:
        if "<" in qualname:
            raise InvalidField("an importable function or class (defined at the top of a module, no lambda)", value)
        name = f"{module_name(module)}:{qualname}"
        if isinstance(value, type) or find(module, qualname) is value:
            return name
    short = qualname.rpartition(".")[2]
    for root in [m for m in list(sys.modules) if "." not in m]:  # torch.relu and friends carry a private name
        if vars(sys.modules[root]).get(short) is value:
            return f"{root}:{short}"
    raise InvalidField("an importable function, class or constant", value)


def find(module: str, qualname: str) -> Any:
    """Return the attribute of an already imported module, or None."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def is_name(text: str) -> bool:
    """Whether `text` looks like `package.module:Name`, without dunder names (a script's `__main__` aside)."""
    if not _NAME.fullmatch(text):
        return False
    module, _, qualname = text.partition(":")
    return "__" not in qualname and ("__" not in module or module in _MAIN)


def resolve(name: str, trust: Collection[str]) -> Any:
    """Import and return the object called `name`, if its package is among `trust`.

    Nothing outside the trusted packages is imported, looked through or returned: an attribute of a trusted
    module that was itself imported from elsewhere (`trusted.module:os.system`) is refused.

    Raises: LoadError naming the object and the list to extend.
    """
    if not is_name(name):
        raise LoadError(f"{name[:80]!r} is not a name of the form 'package.module:Name'")
    module, _, qualname = name.partition(":")
    if not is_trusted(module, trust):
        raise LoadError(
            f"{name!r} is outside the trusted packages {tuple(trust)}. "
            f"If you trust the file's author, add trust=(..., {module.partition('.')[0]!r})"
        )
    if module == main_name() and "__main__" in sys.modules:
        module = "__main__"
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise LoadError(f"cannot import {module!r} for {name!r}: {error}") from error
    for part in qualname.split("."):
        try:
            found = getattr(found, part)
        except Exception:
            raise LoadError(
                f"{module!r} has no {qualname!r}. If it was renamed, pass aliases={{{name!r}: 'new:name'}}"
            ) from None
        if isinstance(found, ModuleType):
            raise LoadError(f"{name!r} leads through a module; only classes may stand before the last name")
    owner = owner_of(found)
    if not is_trusted(owner, trust):
        raise LoadError(f"{name!r} belongs to {owner!r}, which is outside the trusted packages {tuple(trust)}")
    return found


def is_reference(value: Any) -> bool:
    """Whether `value` is a leaf that is stored by name: a class, a function, or a constant of a library."""
    if isinstance(value, type | FunctionType | BuiltinFunctionType | Name):
        return True
    package = type(value).__module__.partition(".")[0]
    if package in ("builtins", "heuretic"):
        return hasattr(value, "__qualname__") and callable(value)
    text = repr(value) if type(value).__module__ == package else ""
    return text.startswith(package + ".") and find(package, text.removeprefix(package + ".")) is value


def is_trusted(module: str, trust: Collection[str]) -> bool:
    """Whether a module is one of those in `trust`, or inside one."""
    return any(module == root or module.startswith(root + ".") for root in trust)


def owner_of(value: Any) -> str:
    """Return the module that an object belongs to; of a bound method, that of the object which it is bound to."""
    bound = getattr(value, "__self__", None) if not isinstance(value, type | FunctionType) else None
    if isinstance(bound, ModuleType):
        return module_name(bound.__name__)
    if bound is not None:
        value = bound if isinstance(bound, type) else type(bound)
    return module_name(getattr(value, "__module__", None) or type(value).__module__)
