"""Symbolic calls: `hr.sym(nn.Conv2d)(1, 16, 3)` is a value that says what to call, and calls nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from inspect import Parameter, Signature
from typing import Any, NoReturn, ParamSpec, TypeVar, cast

from heuretic.symbolic.digests import digest_of_parts, keep
from heuretic.symbolic.errors import FrozenError, InvalidField, Key
from heuretic.symbolic.names import Name, is_reference, name_of
from heuretic.symbolic.values import Node, freeze, same

P = ParamSpec("P")
R = TypeVar("R")

_SIMPLE_KINDS = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def sym(target: Callable[P, R]) -> Callable[P, R]:
    """Return a function that records a call of `target` instead of making it.

    `target` is any importable class or function. The recorded call is a node of a program: its arguments are read
    and replaced by parameter name (`conv.out_channels`) and, behind `*args`, by position (`sequential[0]`).
    `hr.build` makes the call. To type checkers the result is what the call would return.

    Raises: InvalidField if `target` cannot be imported by name, TypeError if the arguments do not fit its signature.
    """
    if not (callable(target) and is_reference(target)):
        raise InvalidField("an importable class or function", target)
    name_of(target)

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        keys, values = _bind(target, args, kwargs)
        return cast(R, Call(target, keys, values))

    return call


class Call(Node):
    """A recorded call. Made by `hr.sym`; its parameters read as attributes, those not given as their defaults."""

    __slots__ = ("__keys__", "__target__", "__values__")
    __target__: Any
    __keys__: tuple[Key, ...]
    __values__: tuple[Any, ...]

    def __init__(self, target: Any, keys: tuple[Key, ...], values: tuple[Any, ...]) -> None:
        put = object.__setattr__
        put(self, "__target__", target)
        put(self, "__keys__", keys)
        put(self, "__values__", values)
        put(self, "__digest__", None)

    def __items__(self) -> Iterable[tuple[Key, Any]]:
        return zip(self.__keys__, self.__values__, strict=True)

    def __head__(self) -> str:
        return name_of(self.__target__)

    def __compute_digest__(self) -> bytes:
        result = digest_of_parts(self.__head__(), self.__items__())
        keep(self, result)
        return result

    def __with__(self, changes: Mapping[Key, Any]) -> Call:
        given = dict(zip(self.__keys__, self.__values__, strict=True))
        for key, value in changes.items():
            if key not in given:
                _check_known(self.__target__, key)
            try:
                given[key] = freeze(value)
            except InvalidField as error:
                raise error.under(key) from None
        if len(given) != len(self.__keys__):
            given = _in_order(self.__target__, given)
        return Call(self.__target__, tuple(given), tuple(given.values()))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self.__keys__:
            return self.__values__[self.__keys__.index(name)]
        parameter = _parameters(self.__target__).get(name)
        if parameter is not None and parameter.default is not Parameter.empty:
            return _frozen_default(parameter.default)
        raise AttributeError(
            f"{_unknown(self.__target__, name)} A symbolic call has parameters only; hr.build makes the object"
        )

    def __getitem__(self, position: int) -> Any:
        rest = tuple(v for k, v in self.__items__() if isinstance(k, int))
        return rest[position]

    def __len__(self) -> int:
        return sum(isinstance(k, int) for k in self.__keys__)

    def __bool__(self) -> bool:
        return True

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(f"{self.__head__()} is a symbolic call, which cannot be called. Try hr.build(program) first")

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenError(f"{name} cannot be set: programs are immutable. Try hr.replace(program, {name}=...)")

    def __delattr__(self, name: str) -> None:
        raise FrozenError(f"{name} cannot be deleted: programs are immutable")

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Call):
            return NotImplemented
        return (
            self.__target__ == other.__target__
            and self.__keys__ == other.__keys__
            and same(self.__values__, other.__values__)
        )

    __hash__ = Node.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        return Call, (self.__target__, self.__keys__, self.__values__)

    def __replace__(self, **changes: Any) -> Call:
        return self.__with__(cast(Mapping[Key, Any], changes))


@lru_cache(maxsize=4096)
def _signature(target: Any) -> Signature | None:
    """Return the signature, or None where Python knows none (some built-ins) or the target is only a name."""
    if isinstance(target, Name):
        return None
    try:
        return inspect.signature(target)
    except ValueError:
        return None


def _parameters(target: Any) -> Mapping[str, Parameter]:
    signature = _signature(target)
    return signature.parameters if signature else {}


def parameter_names(call: Call) -> list[str]:
    """Return the names of the parameters that a call can be given by name."""
    variable = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return [name for name, p in _parameters(call.__target__).items() if p.kind not in variable]


def _kinds(target: Any) -> set[Any]:
    return {p.kind for p in _parameters(target).values()}


def _bind(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Key, ...], tuple[Any, ...]]:
    signature = _signature(target)
    given: dict[Key, Any] = {}
    if signature is None:
        given = {**dict(enumerate(args)), **kwargs}
    else:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name_of(target)}: {error}. Its signature is {signature}"[:400]) from None
        for name, value in bound.arguments.items():
            kind = signature.parameters[name].kind
            if kind is Parameter.VAR_POSITIONAL:
                given.update(enumerate(value))
            elif kind is Parameter.VAR_KEYWORD:
                _check_free(target, given, value)
                given.update(value)
            else:
                given[name] = value
    for key, value in given.items():
        try:
            given[key] = freeze(value)
        except InvalidField as error:
            raised = error.under(key)
            raised.owner = name_of(target)
            raise raised from None
    return tuple(given), tuple(given.values())


def _check_free(target: Any, given: Mapping[Key, Any], extra: Mapping[str, Any]) -> None:
    """Refuse what could not be told apart later: parameters are read by name, and `$` marks what is special in JSON."""
    for name in extra:
        if name in given or name.startswith("$"):
            raise TypeError(
                f"{name_of(target)}: a symbolic call cannot hold **{{{name!r}: ...}}; that name is taken"[:400]
            )


def _frozen_default(value: Any) -> Any:
    try:
        return freeze(value)
    except InvalidField:
        return value


def _check_known(target: Any, key: Key) -> None:
    if isinstance(key, str) and key.startswith("$"):
        raise InvalidField("an argument name without a dollar", key)
    if _signature(target) is None:
        return
    kinds = _kinds(target)
    if isinstance(key, int):
        if Parameter.VAR_POSITIONAL in kinds:
            return
        raise InvalidField(f"a parameter of {name_of(target)}", key)
    known = _parameters(target).get(key)
    if (
        known is None or known.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    ) and Parameter.VAR_KEYWORD not in kinds:
        raise InvalidField(_unknown(target, key), key)


def _unknown(target: Any, name: str) -> str:
    known = list(_parameters(target))
    close = get_close_matches(name, known, 1)
    hint = f"Did you mean {close[0]!r}?" if close else f"It has {', '.join(known) or 'none'}."
    return f"{name_of(target)} has no parameter {name!r}. {hint}"


def _in_order(target: Any, given: dict[Key, Any]) -> dict[Key, Any]:
    """Put arguments in the order of the signature, so that equal calls are equal however they were edited."""
    known = {name: i for i, name in enumerate(_parameters(target))}

    def rank(key: Key) -> tuple[int, int]:
        if isinstance(key, int):
            at = next((i for i, p in enumerate(_parameters(target).values()) if p.kind is Parameter.VAR_POSITIONAL), 0)
            return at, key
        return known.get(key, len(known)), 0

    return dict(sorted(given.items(), key=lambda item: rank(item[0])))


def make(call: Call, values: Mapping[Key, Any]) -> Any:
    """Call the target of `call` with built `values` in place of its arguments."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    rest = [value for key, value in values.items() if isinstance(key, int)]
    parameters = _parameters(call.__target__)
    by_place = [n for n, p in parameters.items() if p.kind in _SIMPLE_KINDS] if rest else [
        n for n, p in parameters.items() if p.kind is Parameter.POSITIONAL_ONLY
    ]  # fmt: skip
    while by_place and not rest and by_place[-1] not in values:
        by_place.pop()
    for name in by_place:
        if name in values:
            positional.append(values[name])
        elif parameters[name].default is not Parameter.empty:
            positional.append(parameters[name].default)
        else:
            raise TypeError(f"{call.__head__()} needs {name}")
    taken = set(by_place)
    named = {key: value for key, value in values.items() if isinstance(key, str) and key not in taken}
    return call.__target__(*positional, *rest, **named)
