"""Field checks: a type annotation is compiled once into a function that checks, coerces and freezes a value."""

from __future__ import annotations

import collections.abc
import re
import types
import typing
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from heuretic.symbolic.errors import InvalidField, Key
from heuretic.symbolic.names import is_reference, name_of
from heuretic.symbolic.values import FrozenDict, Node, Open, check_float, freeze, same

Check = Callable[[Any], Any]


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()


@dataclass(slots=True)
class Field:
    """What is known of one field of a `Symbolic` class. Made by `hr.field`."""

    default: Any = MISSING
    default_factory: Callable[[], Any] | None = None
    kw_only: bool = False
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    regex: str | None = None
    choices: Collection[Any] | None = None
    aliases: tuple[str, ...] = ()
    doc: str = ""
    name: str = ""
    annotation: Any = None
    owner: Any = None

    @property
    def optional(self) -> bool:
        """Whether the field may be left out when an object is made."""
        return self.default is not MISSING or self.default_factory is not None

    @property
    def constrained(self) -> bool:
        """Whether more than the type is checked."""
        bounds = (self.ge, self.gt, self.le, self.lt, self.regex, self.choices)
        return any(bound is not None for bound in bounds)


def field(
    *,
    default: Any = MISSING,
    default_factory: Callable[[], Any] | None = None,
    kw_only: bool = False,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    regex: str | None = None,
    choices: Collection[Any] | None = None,
    aliases: tuple[str, ...] = (),
    doc: str = "",
) -> Any:
    """Describe a field of a `Symbolic` class: `width: int = hr.field(default=64, ge=1)`.

    Args:
        ge, gt, le, lt: Bounds of a number. regex: The whole string must match it.
        choices: The only values allowed. aliases: Former names, accepted when reading saved programs.
    """
    if default is not MISSING and default_factory is not None:
        raise TypeError("field must have default or default_factory, got both")
    return Field(default, default_factory, kw_only, ge, gt, le, lt, regex, choices, aliases, doc)


def compile_check(annotation: Any, spec: Field | None = None) -> Check:
    """Return the check for a field: placeholders pass if all their values would."""
    inner = _compile(annotation)
    if spec is not None and spec.constrained:
        inner = _constrain(inner, spec)
    return _admit_open(inner, annotation if annotation in (int, float) else None)


def is_exact(annotation: Any) -> bool:
    """Whether `==` on checked values of this type already tells 1, 1.0 and True apart."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation in (int, float, bool, str, type(None)) or issubclass(annotation, Node | Enum)
    if annotation is None:
        return True
    arguments = [a for a in get_args(annotation) if a is not Ellipsis]
    origin = get_origin(annotation)
    if origin is Literal:
        return len({type(a) for a in arguments} & {bool, int, float}) <= 1
    if origin in (Union, types.UnionType):
        return len({bool, int, float}.intersection(arguments)) <= 1 and all(map(is_exact, arguments))
    if origin in (tuple, list, collections.abc.Sequence):
        return bool(arguments) and all(map(is_exact, arguments))
    return False


def _admit_open(check: Check, wanted: type | None = None) -> Check:
    def checked(value: Any) -> Any:
        if isinstance(value, Open):
            return value.admit(check, wanted)
        return check(value)

    return checked


def _check_int(value: Any) -> int:
    if value.__class__ is int:
        return value
    if _is_numpy_scalar(value):
        return _check_int(value.item())
    if isinstance(value, int) and not isinstance(value, bool | Enum):
        return int(value)
    raise InvalidField("int", value)


def _check_float(value: Any) -> float:
    if isinstance(value, float | int) and not isinstance(value, bool):
        try:
            return check_float(float(value))
        except OverflowError:
            raise InvalidField("a number that fits a float", value) from None
    if _is_numpy_scalar(value):
        return _check_float(value.item())  # type: ignore
    raise InvalidField("float", value)


def _is_numpy_scalar(value: Any) -> bool:
    return type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0


def _check_bool(value: Any) -> bool:
    if value.__class__ is bool:
        return value
    if _is_numpy_scalar(value):
        return _check_bool(value.item())  # type: ignore
    raise InvalidField("bool", value)


def _check_str(value: Any) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    raise InvalidField("str", value)


def _check_none(value: Any) -> None:
    if value is not None:
        raise InvalidField("None", value)


def _check_callable(value: Any) -> Any:
    if isinstance(value, Node) or (callable(value) and is_reference(value)):
        return freeze(value)
    raise InvalidField("a function, class or symbolic call", value)


_SIMPLE: dict[Any, Check] = {
    int: _check_int, float: _check_float, bool: _check_bool, str: _check_str,
    None: _check_none, type(None): _check_none, Any: freeze, object: freeze,
    tuple: freeze, list: freeze, dict: freeze, Callable: _check_callable, collections.abc.Callable: _check_callable,
}  # fmt: skip


def _compile(annotation: Any) -> Check:
    simple = _SIMPLE.get(annotation) if isinstance(annotation, collections.abc.Hashable) else None
    if simple:
        return simple
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return _compile(arguments[0])
    if isinstance(annotation, TypeVar):
        if annotation.__constraints__:
            return _union(annotation.__constraints__)
        return _compile(annotation.__bound__) if annotation.__bound__ else freeze
    if isinstance(annotation, typing.NewType):
        return _compile(annotation.__supertype__)
    if origin is Literal:
        return _literal(arguments)
    if origin in (Union, types.UnionType):
        return _union(arguments)
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        return _fixed_tuple([_admit_open(_compile(a)) for a in arguments])
    if origin in (tuple, list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection):
        return _sequence(_admit_open(_compile(arguments[0])))
    if origin in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
        return _mapping(_compile(arguments[0]), _admit_open(_compile(arguments[1])))
    if origin is collections.abc.Callable:
        return _check_callable
    if origin is type:
        return _subclass(arguments[0])
    if isinstance(origin, type):
        return _generic(origin, arguments)
    if isinstance(annotation, type):
        return _instance(annotation)
    raise TypeError(f"field annotation must be a type, got {annotation!r}")


def _literal(options: tuple[Any, ...]) -> Check:
    exact = {(type(o), o) for o in options}
    expected = "one of " + ", ".join(map(repr, options))

    def check(value: Any) -> Any:
        try:
            if (type(value), value) in exact:
                return value
        except TypeError:
            pass
        raise InvalidField(expected, value)

    return check


def _union(options: tuple[Any, ...]) -> Check:
    # An exact type wins over a coercion, whatever the order: `float | int` keeps 1 an int.
    exact = {o: _compile(o) for o in options if o in (int, float, bool, str, type(None))}
    checks = [_compile(o) for o in options]

    def check(value: Any) -> Any:
        known = exact.get(type(value))
        if known:
            return known(value)
        errors: list[InvalidField] = []
        for option in checks:
            try:
                return option(value)
            except InvalidField as error:
                errors.append(error)
        deepest = max(errors, key=lambda e: len(e.path))
        if deepest.path:
            raise deepest
        raise InvalidField(" or ".join(dict.fromkeys(e.expected for e in errors)), value)

    return check


def _sequence(item: Check) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, tuple | list):
            raise InvalidField("a list or tuple", value)
        checked: list[Any] = []
        try:
            for v in value:
                checked.append(item(v))
        except InvalidField as error:
            raise error.under(len(checked)) from None
        return tuple(checked)

    return check


def _fixed_tuple(items: list[Check]) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, tuple | list) or len(value) != len(items):
            raise InvalidField(f"a tuple of {len(items)}", value)
        return tuple([_at(i, item, v) for i, (item, v) in enumerate(zip(items, value, strict=True))])

    return check


def _mapping(key: Check, item: Check) -> Check:
    def check(value: Any) -> FrozenDict:
        if not isinstance(value, collections.abc.Mapping):
            raise InvalidField("a mapping", value)
        return FrozenDict({_check_str(key(name)): _at(name, item, v) for name, v in value.items()})

    return check


def _at(key: Key, check: Check, value: Any) -> Any:
    try:
        return check(value)
    except InvalidField as error:
        raise error.under(key) from None


def _subclass(base: Any) -> Check:
    options = get_args(base) if get_origin(base) in (Union, types.UnionType) else (get_origin(base) or base,)
    wanted = tuple(o for o in options if isinstance(o, type) and o is not Any) or (object,)
    expected = "a class derived from " + " or ".join(c.__name__ for c in wanted)

    def check(value: Any) -> Any:
        if isinstance(value, type) and issubclass(value, wanted):
            name_of(value)
            return value
        raise InvalidField(expected, value)

    return check


def _instance(wanted: type) -> Check:
    protocol = bool(getattr(wanted, "_is_protocol", False))

    def check(value: Any) -> Any:
        if protocol or isinstance(value, wanted) or (isinstance(value, Node) and makes(value, wanted)):
            return freeze(value)
        raise InvalidField(wanted.__name__, value)

    return check


def _generic(origin: type, arguments: tuple[Any, ...]) -> Check:
    """Check `Box[int]`: an instance of Box whose fields of the type variable hold ints."""
    plain = _instance(origin)
    parameters: tuple[Any, ...] = getattr(origin, "__parameters__", ())
    bound = dict(zip(parameters, arguments, strict=False))

    compiled: dict[Any, Check] = {}

    def check(value: Any) -> Any:
        value = plain(value)
        fields: dict[str, Field] = getattr(type(value), "__fields__", {})
        changes: dict[Key, Any] = {}
        for spec in fields.values() if bound else ():
            annotation = substitute(spec.annotation, bound)
            if annotation is not spec.annotation:
                inner = compiled.get(spec.annotation) or compiled.setdefault(spec.annotation, compile_check(annotation))
                given = getattr(value, spec.name)
                fitting = _at(spec.name, inner, given)
                if not same(fitting, given):
                    changes[spec.name] = fitting
        return value.__with__(changes) if changes else value

    return check


def substitute(annotation: Any, bound: dict[Any, Any]) -> Any:
    """Return `annotation` with type variables replaced."""
    if isinstance(annotation, TypeVar):
        return bound.get(annotation, annotation)
    parameters = getattr(annotation, "__parameters__", ())
    return annotation[tuple(bound.get(p, p) for p in parameters)] if parameters else annotation


def makes(node: Any, wanted: type) -> bool:
    """Whether building `node` can give an instance of `wanted`, as far as can be known without building."""
    target = getattr(node, "__target__", None) if hasattr(type(node), "__target__") else None
    maker = target if target is not None else getattr(type(node), "build", None)
    if isinstance(maker, type):
        return issubclass(maker, wanted)
    if maker is None:
        return False
    returned = getattr(maker, "__annotations__", {}).get("return")
    return issubclass(returned, wanted) if isinstance(returned, type) else True


def _constrain(check: Check, spec: Field) -> Check:
    rules: list[tuple[str, Callable[[Any], bool]]] = []
    for bound, sign, holds in (
        (spec.ge, ">=", lambda v: v >= spec.ge), (spec.gt, ">", lambda v: v > spec.gt),
        (spec.le, "<=", lambda v: v <= spec.le), (spec.lt, "<", lambda v: v < spec.lt),
    ):  # fmt: skip
        if bound is not None:
            rules.append((f"a number {sign} {bound}", holds))
    if spec.regex is not None:
        pattern = re.compile(spec.regex)
        rules.append((f"a string matching {spec.regex!r}", lambda v: bool(pattern.fullmatch(v))))
    if spec.choices is not None:
        allowed = [check(option) for option in spec.choices]
        rules.append(("one of " + ", ".join(map(repr, allowed)), lambda v: any(same(v, option) for option in allowed)))

    def constrained(value: Any) -> Any:
        value = check(value)
        if value is not None:
            for expected, holds in rules:
                try:
                    fits = holds(value)
                except TypeError:  # such as a bound on a field that also takes strings
                    fits = False
                if not fits:
                    raise InvalidField(expected, value)
        return value

    return constrained
