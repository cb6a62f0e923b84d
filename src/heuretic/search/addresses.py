"""Values by address: `evolution?population=20&tournament=5` is `Evolution(population=20, tournament=5)`.

Addresses are for the command line and for names of studies; in Python, write the class. Nothing is imported until a
value is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Generic, TypeVar, cast
from urllib.parse import quote, unquote

from heuretic.search.algorithm import Algorithm
from heuretic.symbolic import InvalidField, Symbolic, digest
from heuretic.symbolic.annotations import checks_of
from heuretic.symbolic.display import is_default
from heuretic.symbolic.errors import brief, shortened

T = TypeVar("T")


class AddressError(ValueError):
    """An address names nothing here, or settings that it does not have. Nothing was started."""


class Addresses(Generic[T]):
    """The addresses of one kind of values.

    Args:
        kind: What they are called in errors.
        names: For each name that addresses can begin with, the module and class, and the settings that the name stands for.
        wrapped: The field of a wrapper that holds what it wraps.
        wrapper: The name of one, for errors.
    """

    def __init__(
        self, kind: str, names: Mapping[str, tuple[str, str, dict[str, Any]]], wrapped: str, wrapper: str
    ) -> None:
        self._kind, self._table, self._wrapped, self._wrapper = kind, names, wrapped, wrapper

    def names(self) -> list[str]:
        """Return the names that addresses can begin with."""
        return sorted(self._table)

    def at(self, address: str, given: Mapping[str, Any] | None = None) -> T:
        """Return the value at an address such as `evolution?population=20` or `optuna-tpe?n_startup_trials=20`.

        A value is JSON where it reads as JSON and fits the setting, else a string; `&`, `%`, `|` and the like are
        percent-encoded. A wrapper follows what it wraps: `hill-climbing | restarts?patience=50`.

        Args: given: Values of settings that the address leaves out, for those that have such settings.
        Raises: AddressError if there is no such name, or a setting is unknown, repeated or does not fit.
        """
        found: T | None = None
        for part in address.split("|"):
            found = self._one(part.strip(), found, address, given or {})
        return cast(T, found)

    def _one(self, text: str, inner: T | None, address: str, more: Mapping[str, Any]) -> T:
        name, _, query = text.partition("?")
        cls, given = self._class(name.strip()), dict(self._table[name.strip()][2])
        fields: Mapping[str, Any] = cls.__fields__
        if inner is not None:
            if self._wrapped not in fields:  # the field that holds what a wrapper wraps
                raise AddressError(
                    f"{name.strip()} must be a wrapper to follow '|', got {address[:200]!r}. Try {self._wrapper}"
                )
            given[self._wrapped] = inner
        others: dict[str, Any] = {}
        for item in query.split("&") if query else ():
            key, equals, value = item.partition("=")
            key, value = unquote(key.strip()), unquote(value.strip())
            if not equals:
                raise AddressError(f"{key} must have a value, as in {key}=..., got {address[:200]!r}")
            if key in given or key in others:
                raise AddressError(f"{key} must be given once, got it again in {address[:200]!r}")
            if "settings" in fields:
                others[key] = _json(value)
            elif key not in fields:
                known = ", ".join(f"{f}={_shown(spec)}" for f, spec in fields.items() if f not in given) or "none"
                raise AddressError(f"{name} must have the setting {key[:80]!r}, got {address[:200]!r}; it has {known}")
            else:
                given[key] = self._fitting(cls, key, value, address)
        if others:
            given["settings"] = others
        given = {key: value for key, value in more.items() if key in fields} | given
        try:
            return cast(T, cls(**given))
        except (InvalidField, TypeError, ValueError) as error:
            raise AddressError(f"{address[:200]!r}: {error}") from None

    def _fitting(self, cls: Any, key: str, value: str, address: str) -> Any:
        if key == self._wrapped:
            return self.at(value)
        check, refused = checks_of(cls)[key], None
        for read in (_json(value), value):
            try:
                return check(read)
            except InvalidField as error:
                refused = refused or error
        expected = shortened(refused.expected, 200) if refused else "another value"
        raise AddressError(f"{address[:200]!r}: {key} must be {expected}, got {brief(value)}")

    def kind(self, name: str) -> type[T]:
        """Return the class that a name stands for. Raises: AddressError if there is no such name."""
        return self._class(name)

    def _class(self, name: str) -> Any:
        if name not in self._table:
            close = get_close_matches(name, list(self._table), 1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise AddressError(
                f"{self._kind} must be one of {', '.join(self.names())}, got {name[:80]!r}. {hint}".strip()
            )
        module, cls, _ = self._table[name]
        return getattr(import_module(module), cls)

    def of(self, value: T) -> str:
        """Return the address of a value: `at(of(a)) == a` for those that addresses can name.

        Another is named by its class and a digest of its settings, which tells it apart from others but cannot be read.
        """
        kind = type(value)
        for name, (module, cls, fixed) in self._table.items():
            if (kind.__module__, kind.__name__) == (module, cls) and all(
                getattr(value, key) == setting for key, setting in fixed.items()
            ):
                try:
                    return self._written(name, value, fixed)
                except TypeError:
                    break
        return f"{kind.__name__}-{digest(value)[:8]}" if isinstance(value, Symbolic) else kind.__name__

    def _written(self, name: str, described: Any, fixed: Mapping[str, Any]) -> str:
        before = ""
        given: dict[str, Any] = {}
        for key, spec in type(described).__fields__.items():
            value = getattr(described, key)
            if key in fixed:
                continue
            if key == self._wrapped:
                before = f"{self.of(value)} | "
            elif key == "settings":
                given.update(value)
            elif not is_default(spec, value):
                given[key] = value
        query = "&".join(f"{quote(key)}={quote(_text(value), safe='[]{},:')}" for key, value in given.items())
        return f"{before}{name}" + (f"?{query}" if query else "")


def _shown(spec: Any) -> str:
    return repr(spec.default) if spec.optional else "..."


def _json(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _text(value: Any) -> str:
    """Return a value as an address writes it; strings in quotes only where they would read as something else.

    Raises: TypeError if it is no JSON.
    """
    if isinstance(value, str) and _json(value) == value:
        return value
    return json.dumps(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


ALGORITHMS: Addresses[Algorithm] = Addresses(
    "algorithm",
    {
        "auto": ("heuretic.search.auto", "Auto", {}),
        "bayesian": ("heuretic.search.bayesian", "Bayesian", {}),
        "evolution": ("heuretic.search.evolution", "Evolution", {}),
        "hill-climbing": ("heuretic.search.hill_climbing", "HillClimbing", {}),
        "layernas": ("heuretic.search.layernas", "LayerNAS", {}),
        "nsga2": ("heuretic.search.nsga2", "NSGA2", {}),
        "random": ("heuretic.search.random_search", "RandomSearch", {}),
        "reinforce": ("heuretic.search.reinforce", "Reinforce", {}),
        "rejection": ("heuretic.search.rejection", "Rejection", {}),
        "restarts": ("heuretic.search.restarts", "Restarts", {}),
        **{
            f"optuna-{name}": ("heuretic.search.optuna_samplers", "OptunaSampler", {"sampler": name})
            for name in ("cmaes", "gp", "nsga2", "nsga3", "qmc", "random", "tpe")
        },
    },
    "algorithm",
    "restarts",
)
names, algorithm, address_of = ALGORITHMS.names, ALGORITHMS.at, ALGORITHMS.of
