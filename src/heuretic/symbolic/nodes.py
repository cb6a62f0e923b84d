"""`Symbolic`: typed, immutable classes whose objects are the nodes of a program.

The methods of each class are generated when the class is made (as `dataclasses` does), so that making, comparing
and editing nodes costs little more than a plain class with slots.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY
from operator import attrgetter
from typing import Any, ClassVar, TypeVar, dataclass_transform

from heuretic.symbolic.checks import MISSING, Check, Field, compile_check, field, is_exact, substitute
from heuretic.symbolic.errors import FrozenError, InvalidField, Key, OpenChoiceError
from heuretic.symbolic.names import module_name
from heuretic.symbolic.values import FrozenDict, Node, freeze, same

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class SymbolicMeta(type):
    """Makes the class: slots from annotations, and generated `__init__`, `__eq__` and copying."""

    __fields__: Mapping[str, Field]

    def __new__(
        mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, kw_only: bool = False
    ) -> SymbolicMeta:
        if not bases or "__symbolic_root__" in namespace:
            return super().__new__(mcls, name, bases, namespace)
        if "__init__" in namespace:
            raise TypeError(f"{name} must not define __init__ (it is generated). Check values in __post_init__(self)")
        fields = _own_fields(name, namespace, kw_only)
        inherited: dict[str, Field] = {}
        for base in reversed(bases):
            inherited.update(getattr(base, "__fields__", {}))
        merged = {**inherited, **fields}
        _check_order(name, merged)
        namespace["__slots__"] = tuple(f for f in fields if f not in inherited)
        namespace["__fields__"] = types.MappingProxyType(merged)
        namespace["__match_args__"] = tuple(f for f, spec in merged.items() if not spec.kw_only)
        cls = super().__new__(mcls, name, bases, namespace)
        _resolve_annotations(cls, fields, sys._getframe(1).f_locals)
        _generate(cls)
        return cls


class Symbolic(Node, metaclass=SymbolicMeta):
    """Base of all typed nodes: `class Conv(hr.Symbolic): filters: int; kernel: int = 3`.

    Objects are frozen, hashable, compared by value, checked when made, and shared freely between trees, threads
    and processes. `hr.replace` makes edited ones. Lists become tuples and dicts become immutable mappings.
    A field may also hold an open choice (`hr.one_of(...)`) of values that fit it.

    Define `build(self)` to say what `hr.build` makes of a node, and `__post_init__(self)` to check fields against
    each other (raise ValueError; while a choice it looks at is open, the check waits until it is made).
    """

    __symbolic_root__: ClassVar[bool] = True
    __slots__ = ()
    __fields__: ClassVar[Mapping[str, Field]] = types.MappingProxyType({})
    __names__: ClassVar[tuple[str, ...]] = ()
    __checks__: ClassVar[dict[str, Check]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenError(f"{type(self).__name__}.{name} cannot be set: programs are immutable. Try hr.replace(tree, {name}=...)")

    def __delattr__(self, name: str) -> None:
        raise FrozenError(f"{type(self).__name__}.{name} cannot be deleted: programs are immutable")

    def __items__(self) -> Iterator[tuple[Key, Any]]:
        cls = type(self)
        return zip(cls.__names__, cls.__values__(self))  # type: ignore[attr-defined]

    def __head__(self) -> str:
        return head(type(self))

    def __with__(self, changes: Mapping[Key, Any]) -> Node:
        cls = type(self)
        checks = checks_of(cls)
        new = cls.__draft__(self)  # type: ignore[attr-defined]
        for name, value in changes.items():
            check = checks.get(name)  # type: ignore[arg-type]
            if check is None:
                raise InvalidField(f"a field of {cls.__name__} ({', '.join(cls.__names__)})", name)
            try:
                setattr(new, name, check(value))  # type: ignore[arg-type]
            except InvalidField as error:
                raise error.under(name) from None
        new.__class__ = cls
        if cls.__has_post_init__:  # type: ignore[attr-defined]
            run_post_init(new)
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), tuple(value for _, value in self.__items__()))

    def __replace__(self: T, **changes: Any) -> T:
        return self.__with__(changes)  # type: ignore[attr-defined]


def head(cls: type) -> str:
    """Return the importable name of a class; classes made inside functions keep their qualified name."""
    cached = cls.__dict__.get("__head_name__")
    if cached is None:
        cached = f"{module_name(cls.__module__)}:{cls.__qualname__}"
        type.__setattr__(cls, "__head_name__", cached)
    return cached


def run_post_init(node: Any) -> None:
    """Run the user's check across fields; if it meets an open choice it is left for when the choice is made."""
    try:
        node.__post_init__()
    except OpenChoiceError:
        pass


def _restore(cls: Any, values: tuple[Any, ...]) -> Any:
    return cls.__restore__(values)


def _own_fields(owner: str, namespace: dict[str, Any], kw_only: bool) -> dict[str, Field]:
    fields: dict[str, Field] = {}
    for name, annotation in namespace.get("__annotations__", {}).items():
        text = annotation if isinstance(annotation, str) else ""
        if annotation is KW_ONLY or text in ("KW_ONLY", "dataclasses.KW_ONLY"):
            kw_only = True
            continue
        if typing.get_origin(annotation) is ClassVar or annotation is ClassVar or "ClassVar" in text.partition("[")[0]:
            continue
        if name.startswith("__"):
            raise TypeError(f"{owner}.{name} must not start with two underscores")
        default = namespace.pop(name, MISSING)
        source = default if isinstance(default, Field) else Field(default=default)
        if isinstance(source.default, list | dict | set) and source.default:
            raise TypeError(f"{owner}.{name}: default must be immutable, got a {type(source.default).__name__}. "
                            f"Try hr.field(default_factory=...)")  # fmt: skip
        source.name, source.annotation, source.kw_only = name, annotation, source.kw_only or kw_only
        fields[name] = source
    for name, value in namespace.items():
        if isinstance(value, Field):
            raise TypeError(f"{owner}.{name} must have a type annotation")
    return fields


def _check_order(owner: str, fields: dict[str, Field]) -> None:
    seen = ""
    for name, spec in fields.items():
        if spec.kw_only:
            continue
        if not spec.optional and seen:
            raise TypeError(f"{owner}.{name} has no default but follows {seen}, which has one. Try kw_only=True")
        seen = name if spec.optional else seen


def _resolve_annotations(cls: Any, own: dict[str, Field], local: Mapping[str, Any]) -> None:
    """Turn string annotations into types where they can be already; the rest waits for the first object."""
    scope = {**vars(sys.modules.get(cls.__module__, typing)), **local, cls.__name__: cls}
    for spec in own.values():
        if isinstance(spec.annotation, str):
            try:
                spec.annotation = eval(spec.annotation, scope)
            except NameError:
                continue
        if not isinstance(spec.annotation, str):
            spec.annotation = _evaluate_nested(spec.annotation, scope)


def _evaluate_nested(annotation: Any, scope: dict[str, Any]) -> Any:
    """Resolve forward references inside an annotation, as in `tuple["Node", ...]`; unknown ones stay."""

    def probe() -> None: ...

    probe.__annotations__ = {"x": annotation}
    try:
        return typing.get_type_hints(probe, scope, scope, include_extras=True)["x"]
    except NameError:
        return annotation


def _has_forward(annotation: Any) -> bool:
    if isinstance(annotation, str | typing.ForwardRef):
        return True
    return any(_has_forward(a) for a in typing.get_args(annotation)) and typing.get_origin(annotation) is not typing.Literal


def _bindings(cls: Any) -> dict[Any, Any]:
    """Return what the type variables of generic bases are bound to, as in `class IntBox(Box[int])`."""
    bound: dict[Any, Any] = {}
    for base in getattr(cls, "__orig_bases__", ()):
        origin = typing.get_origin(base)
        if isinstance(origin, SymbolicMeta):
            bound.update(zip(getattr(origin, "__parameters__", ()), typing.get_args(base), strict=False))
    return bound


def checks_of(cls: Any) -> dict[str, Check]:
    """Return the compiled checks of a class, made when its first object is (types may be defined late)."""
    checks = cls.__dict__.get("__checks__")
    if checks is None:
        checks = {}
        bound = _bindings(cls)
        for spec in cls.__fields__.values():
            if _has_forward(spec.annotation):
                module = vars(sys.modules[cls.__module__])
                resolved = _evaluate_nested(spec.annotation, {**module, cls.__name__: cls})
                if _has_forward(resolved):
                    raise TypeError(f"{cls.__name__}.{spec.name}: cannot find the type {spec.annotation!r}. "
                                    f"Define or import it in {cls.__module__}")  # fmt: skip
                spec.annotation = resolved
            checks[spec.name] = compile_check(substitute(spec.annotation, bound), spec)
        type.__setattr__(cls, "__checks__", checks)
    return checks


#: The quick test in generated code; values that fail it go to the full check. Floats: zero may be -0.0, and NaN.
_QUICK = {
    int: "{0}.__class__ is not int",
    bool: "{0}.__class__ is not bool",
    str: "{0}.__class__ is not str",
    float: "{0}.__class__ is not float or not {0} or {0} != {0}",
}


def _generate(cls: Any) -> None:
    """Attach the generated methods. `__init__` is compiled at the first call, when all types are known."""
    names: tuple[str, ...] = tuple(cls.__fields__)
    getter = attrgetter(*names) if len(names) > 1 else None
    cls_set = type.__setattr__
    cls_set(cls, "__names__", names)
    if getter is not None:
        cls_set(cls, "__values__", getter)
    elif names:
        cls_set(cls, "__values__", lambda self: (getattr(self, names[0]),))
    else:
        cls_set(cls, "__values__", lambda self: ())
    cls_set(cls, "__stable__", frozenset(n for n, spec in cls.__fields__.items() if _is_stable(spec)))
    cls_set(cls, "__has_post_init__", callable(getattr(cls, "__post_init__", None)))

    def first_init(self: Any, *args: Any, **kwargs: Any) -> None:
        compiled = _compile_init(cls)
        if cls.__dict__["__init__"] is first_init:
            cls_set(cls, "__init__", compiled)
        compiled(self, *args, **kwargs)

    first_init.__signature__ = _signature(cls)  # type: ignore[attr-defined]
    cls_set(cls, "__init__", first_init)

    body = "".join(f"    draft.{n} = self.{n}\n" for n in names)
    scope = {"new": object.__new__, "Draft": _make_draft(cls), "cls": cls, "same": same}
    compare = " and ".join(
        f"self.{n} == other.{n}" if is_exact(cls.__fields__[n].annotation) else f"same(self.{n}, other.{n})"
        for n in names
    )
    restore = "".join(f"    draft.{n} = values[{i}]\n" for i, n in enumerate(names))
    source = (
        f"def draft(self):\n    draft = new(Draft)\n{body}    return draft\n"
        f"def restore(values):\n    draft = new(Draft)\n{restore}    draft.__class__ = cls\n    return draft\n"
        f"def __eq__(self, other):\n"
        f"    if self is other: return True\n"
        f"    if other.__class__ is not self.__class__: return NotImplemented\n"
        f"    return {compare or 'True'}\n"
    )
    exec(source, scope)
    cls_set(cls, "__draft__", scope["draft"])
    cls_set(cls, "__restore__", staticmethod(typing.cast(Callable[..., Any], scope["restore"])))
    if "__eq__" not in cls.__dict__:
        cls_set(cls, "__eq__", scope["__eq__"])
    cls_set(cls, "__hash__", Node.__hash__)


def _is_stable(spec: Field) -> bool:
    """Whether a checked value of the same class always fits: no bounds, and no generic that looks inside it."""

    def looks_inside(annotation: Any) -> bool:
        origin = typing.get_origin(annotation)
        return isinstance(origin, SymbolicMeta) or any(looks_inside(a) for a in typing.get_args(annotation))

    return not spec.constrained and not looks_inside(spec.annotation)


def _make_draft(cls: Any) -> type:
    """Return a class of the same layout whose objects can still be written.

    A copy is filled in as a draft and then given its real class: assigning a slot this way costs a tenth of
    `object.__setattr__`, which is what frozen dataclasses pay.
    """
    slots = {"__slots__": cls.__dict__["__slots__"], "__setattr__": object.__setattr__, "__module__": cls.__module__}
    if "__dict__" in dir(cls) and not any("__dict__" in vars(b) for b in cls.__bases__):
        slots["__slots__"] = (*slots["__slots__"], "__dict__")
    slots["__symbolic_root__"] = True
    return SymbolicMeta(f"_{cls.__name__}Draft", cls.__bases__, slots)


def _signature(cls: Any) -> Any:
    from inspect import Parameter, Signature

    parameters = [
        Parameter(
            spec.name,
            Parameter.KEYWORD_ONLY if spec.kw_only else Parameter.POSITIONAL_OR_KEYWORD,
            default=spec.default if spec.default is not MISSING else ... if spec.optional else Parameter.empty,
            annotation=spec.annotation,
        )
        for spec in cls.__fields__.values()
    ]
    return Signature(sorted(parameters, key=lambda p: p.kind))


def _compile_init(cls: Any) -> Callable[..., None]:
    """Compile `__init__`: an exact-type test inline per field, the full check only where that fails."""
    checks = checks_of(cls)
    scope: dict[str, Any] = {"MISSING": MISSING, "InvalidField": InvalidField, "post_init": run_post_init}
    positional: list[str] = []
    keyword: list[str] = []
    lines: list[str] = []
    for name, spec in cls.__fields__.items():
        scope[f"check_{name}"], scope[f"set_{name}"] = checks[name], getattr(cls, name).__set__
        argument = name
        if spec.default_factory is not None:
            scope[f"make_{name}"] = spec.default_factory
            argument = f"{name}=MISSING"
            lines.append(f"if {name} is MISSING: {name} = make_{name}()")
        elif spec.default is not MISSING:
            scope[f"default_{name}"] = _checked_default(cls, name, spec, checks[name])
            argument = f"{name}=default_{name}"
        (keyword if spec.kw_only else positional).append(argument)
        quick = _QUICK.get(spec.annotation) if isinstance(spec.annotation, type) and not spec.constrained else None
        if typing.get_origin(spec.annotation) is typing.Literal and not spec.constrained:
            options = typing.get_args(spec.annotation)
            if all(isinstance(o, str) for o in options):
                scope[f"options_{name}"] = frozenset(options)
                quick = "{0}.__class__ is not str or {0} not in options_{0}"
        test = quick.format(name) if quick else "True"
        if spec.default is not MISSING:  # the default was checked when the class was compiled
            test = f"{name} is not default_{name}" + (f" and ({test})" if quick else "")
        lines.append(
            f"if {test}:\n"
            f"            try: {name} = check_{name}({name})\n"
            f"            except InvalidField as error: raise named(error, '{name}') from None"
        )
        lines.append(f"set_{name}(self, {name})")
    if cls.__has_post_init__:
        lines.append("post_init(self)")

    def named(error: InvalidField, name: str) -> InvalidField:
        raised = error.under(name)
        raised.owner = cls.__name__
        return raised

    scope["named"] = named
    arguments = ", ".join(["self", *positional, *(["*", *keyword] if keyword else [])])
    # The values are passed as closure cells, which are read faster than globals.
    outer = ", ".join(scope)
    body = "\n        ".join(lines) or "pass"
    source = f"def outer({outer}):\n    def __init__({arguments}):\n        {body}\n    return __init__\n"
    space: dict[str, Any] = {}
    exec(source, space)
    init = space["outer"](**scope)
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__signature__ = cls.__dict__["__init__"].__signature__ if "__init__" in cls.__dict__ else _signature(cls)
    return init


def _checked_default(cls: Any, name: str, spec: Field, check: Check) -> Any:
    try:
        return check(spec.default if not isinstance(spec.default, list | dict) else freeze(spec.default))
    except InvalidField as error:
        raised = error.under(name)
        raised.owner = f"default of {cls.__name__}"
        raise raised from None


def fields(cls: type[Symbolic] | Symbolic) -> Mapping[str, Field]:
    """Return the fields of a `Symbolic` class by name, in order."""
    return cls.__fields__


__all__ = ["FrozenDict", "Symbolic", "SymbolicMeta", "field", "fields", "head", "run_post_init"]
