"""`Symbolic`: typed, immutable classes whose objects are the nodes of a program.

The methods of each class are generated when the class is made (as `dataclasses` does), so that making, comparing
and editing nodes costs little more than a plain class with slots.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar, dataclass_transform

from heuretic.symbolic.annotations import check_order, checks_of, has_forward, own_fields, resolve_annotations
from heuretic.symbolic.checks import MISSING, Check, Field, field, is_exact
from heuretic.symbolic.digests import compile_digest
from heuretic.symbolic.errors import FrozenError, InvalidField, Key, OpenChoiceError
from heuretic.symbolic.names import module_name
from heuretic.symbolic.values import SCALARS, FrozenDict, Node, Open, children, freeze, same

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class SymbolicMeta(type):
    """Makes the class: slots from annotations, and generated `__init__`, `__eq__` and copying."""

    __fields__: Mapping[str, Field]

    def __new__(
        mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, kw_only: bool = False, **keywords: Any
    ) -> SymbolicMeta:
        if not bases or "__symbolic_root__" in namespace:
            return super().__new__(mcls, name, bases, namespace)
        if "__init__" in namespace:
            raise TypeError(f"{name} must not define __init__ (it is generated). Check values in __post_init__(self)")
        fields = own_fields(name, namespace, kw_only)
        inherited: dict[str, Field] = {}
        for base in reversed(bases):
            inherited.update(getattr(base, "__fields__", {}))
        for hidden in (inherited.keys() - fields.keys()) & namespace.keys():
            raise TypeError(
                f"{name}.{hidden} would hide the field {hidden}. To change its default, annotate it: {hidden}: <type> = ..."
            )
        merged = {**inherited, **fields}
        check_order(name, merged)
        namespace["__slots__"] = tuple(f for f in fields if f not in inherited)
        namespace["__fields__"] = types.MappingProxyType(merged)
        namespace["__match_args__"] = tuple(f for f, spec in merged.items() if not spec.kw_only)
        if "__init_subclass__" in namespace:
            namespace["__init_subclass__"] = _not_for_drafts(namespace["__init_subclass__"])
        cls = super().__new__(mcls, name, bases, namespace, **keywords)
        for spec in fields.values():
            spec.owner = cls
        resolve_annotations(cls, fields, sys._getframe(1).f_locals)
        _generate(cls)
        return cls

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: Any) -> None:
        super().__init__(name, bases, namespace)


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
    __setters__: ClassVar[Mapping[str, Callable[[Any, Any], Any]]] = {}
    __draft__: ClassVar[Callable[[Any], Any]]
    __has_post_init__: ClassVar[bool] = False

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenError(
            f"{type(self).__name__}.{name} cannot be set: programs are immutable. Try hr.replace(tree, {name}=...)"
        )

    def __delattr__(self, name: str) -> None:
        raise FrozenError(f"{type(self).__name__}.{name} cannot be deleted: programs are immutable")

    def __items__(self) -> Iterable[tuple[Key, Any]]:
        return ()

    def __head__(self) -> str:
        return head(type(self))

    def __with__(self, changes: Mapping[Key, Any]) -> Node:
        cls = self.__class__
        checks: dict[Any, Check] = checks_of(cls)
        checked: dict[str, Any] = {}
        for name, value in changes.items():
            check = checks.get(name)
            if check is None:
                raise InvalidField(f"a field of {cls.__name__} ({', '.join(cls.__names__)})", name)
            try:
                value = check(value)
            except InvalidField as error:
                raise error.under(name) from None
            if len(changes) == 1:
                return cls.__setters__[str(name)](self, value)
            checked[str(name)] = value
        new = cls.__draft__(self)
        for name, value in checked.items():
            setattr(new, name, value)
        new.__class__ = cls
        if cls.__has_post_init__:
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
        if isinstance(cls, SymbolicMeta):
            type.__setattr__(cls, "__head_name__", cached)
    return cached


def run_post_init(node: Any) -> None:
    """Run the user's check across fields; if it meets an open choice it is left for when the choice is made."""
    try:
        node.__post_init__()
    except OpenChoiceError:
        pass
    except Exception:
        if not _depends_on_choice(node):
            raise


class _Undecided:
    """Stands for an open choice in a check that has failed: unlike the choice, it does not even compare."""

    def _open(self, *_: Any) -> Any:
        raise OpenChoiceError("this is still open")

    __eq__ = __ne__ = __hash__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __iter__ = __len__ = _open
    __contains__ = __getitem__ = __getattr__ = __int__ = __float__ = __index__ = __str__ = __repr__ = __format__ = _open
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __neg__ = __abs__ = __pow__ = __rpow__ = _open
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __call__ = _open


def _depends_on_choice(node: Any) -> bool:
    """Whether a check that failed looks at an open choice, if only to compare it (`self.norm in ("pre", "post")`)."""
    if isinstance(node, Open):
        return False
    probe = _with_undecided(node)
    if probe is node:
        return False
    try:
        probe.__post_init__()
    except OpenChoiceError:
        return True
    except Exception:
        return False
    return True


def _with_undecided(value: Any) -> Any:
    """Return `value` with every open choice in it replaced; for checks only, as such a tree is no program."""
    if isinstance(value, Open):
        return _Undecided()
    parts = {key: new for key, child in children(value) if (new := _with_undecided(child)) is not child}
    if not parts:
        return value
    if isinstance(value, Symbolic):
        cls = type(value)
        probe = cls.__draft__(value)
        for key, part in parts.items():
            setattr(probe, str(key), part)
        probe.__class__ = cls
        return probe
    filled = {key: parts.get(key, child) for key, child in children(value)}
    if isinstance(value, FrozenDict):
        return FrozenDict({str(key): part for key, part in filled.items()})
    if isinstance(value, Node):  # a symbolic call
        return type(value)(value.__target__, tuple(filled), tuple(filled.values()))  # type: ignore
    return tuple(filled.values())


class _Setters(dict[str, Callable[[Any, Any], Any]]):
    """By field: the function `(node, value) -> node` that copies a node with one value exchanged for a checked one.

    Each is generated when it is first used.
    """

    def __init__(self, cls: Any, draft: type) -> None:
        self.cls, self.draft = cls, draft

    def __missing__(self, name: str) -> Callable[[Any, Any], Any]:
        body = "".join(f"    draft.{n} = {'value' if n == name else f'node.{n}'}\n" for n in self.cls.__names__)
        finish = "    post_init(draft)\n" if self.cls.__has_post_init__ else ""
        source = (
            f"def put(node, value):\n    draft = Draft()\n    draft.__digest__ = None\n{body}"
            f"    draft.__class__ = cls\n{finish}    return draft\n"
        )
        scope = {"Draft": self.draft, "cls": self.cls, "post_init": run_post_init}
        exec(source, scope)
        self[name] = typing.cast(Callable[[Any, Any], Any], scope["put"])
        return self[name]


def _restore(cls: Any, values: tuple[Any, ...]) -> Any:
    return cls.__restore__(values)


def _not_for_drafts(hook: Any) -> Any:
    """Wrap a user's `__init_subclass__`, which shall not hear of the hidden draft classes."""
    function = hook.__func__ if isinstance(hook, classmethod) else hook

    def init_subclass(cls: Any, **keywords: Any) -> None:
        if "__symbolic_root__" not in cls.__dict__:
            function(cls, **keywords)

    return classmethod(init_subclass)


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
    cls_set = type.__setattr__
    cls_set(cls, "__names__", names)
    cls_set(cls, "__stable__", frozenset(n for n, spec in cls.__fields__.items() if _is_stable(spec)))
    cls_set(cls, "__has_post_init__", callable(getattr(cls, "__post_init__", None)))

    def first_init(self: Any, /, *args: Any, **kwargs: Any) -> None:
        compiled = _compile_init(cls)
        if cls.__dict__["__init__"] is first_init:
            cls_set(cls, "__init__", compiled)
        compiled(self, *args, **kwargs)

    def first_digest(self: Any) -> bytes:
        compiled = compile_digest(head(cls), names)
        cls_set(cls, "__compute_digest__", compiled)
        return compiled(self)

    first_init.__signature__ = _signature(cls)  # type: ignore[attr-defined]
    cls_set(cls, "__init__", first_init)
    cls_set(cls, "__compute_digest__", first_digest)

    body = "".join(f"    draft.{n} = self.{n}\n" for n in names)
    draft = _make_draft(cls)
    cls_set(cls, "__setters__", _Setters(cls, draft))
    scope = {"Draft": draft, "cls": cls, "same": same, "SIMPLE": SCALARS, "EMPTY": ()}
    items = "".join(f"({n!r}, self.{n}), " for n in names)
    compare = " and ".join(
        f"self.{n} == other.{n}" if is_exact(cls.__fields__[n].annotation) else f"same(self.{n}, other.{n})"
        for n in names
    )
    inner = "".join(
        f"    v = self.{n}\n    if v.__class__ not in SIMPLE and v is not EMPTY: found.append(({n!r}, v))\n"
        for n in names
    )
    restore = "".join(f"    draft.{n} = values[{i}]\n" for i, n in enumerate(names))
    source = (
        f"def draft(self):\n    draft = Draft()\n    draft.__digest__ = None\n{body}    return draft\n"
        f"def restore(values):\n    draft = Draft()\n    draft.__digest__ = None\n{restore}"
        f"    draft.__class__ = cls\n    return draft\n"
        f"def __items__(self): return ({items})\n"
        f"def __inner__(self):\n    found = []\n{inner}    return found\n"
        f"def __eq__(self, other):\n"
        f"    if self is other: return True\n"
        f"    if other.__class__ is not self.__class__: return NotImplemented\n"
        f"    return {compare or 'True'}\n"
    )
    exec(source, scope)
    cls_set(cls, "__draft__", scope["draft"])
    cls_set(cls, "__restore__", staticmethod(typing.cast(Callable[..., Any], scope["restore"])))
    cls_set(cls, "__items__", scope["__items__"])
    cls_set(cls, "__inner__", scope["__inner__"])
    if "__eq__" not in cls.__dict__:
        cls_set(cls, "__eq__", scope["__eq__"])
    cls_set(cls, "__hash__", Node.__hash__)


def _is_stable(spec: Field) -> bool:
    """Whether a checked value of the same class always fits: no bounds, and no generic that looks inside it."""

    def looks_inside(annotation: Any) -> bool:
        origin = typing.get_origin(annotation)
        return isinstance(origin, SymbolicMeta) or any(looks_inside(a) for a in typing.get_args(annotation))

    return not spec.constrained and not has_forward(spec.annotation) and not looks_inside(spec.annotation)


def _make_draft(cls: Any) -> type:
    """Return a class of the same layout whose objects can still be written.

    A copy is filled in as a draft and then given its real class: assigning a slot this way costs a tenth of
    `object.__setattr__`, which is what frozen dataclasses pay. It takes all three of object's own methods to be quick.
    """
    slots = {
        "__slots__": cls.__dict__["__slots__"], "__module__": cls.__module__, "__init__": object.__init__,
        "__setattr__": object.__setattr__, "__delattr__": object.__delattr__,
    }  # fmt: skip
    if "__dict__" in dir(cls) and not any("__dict__" in vars(b) for b in cls.__bases__):
        slots["__slots__"] = (*slots["__slots__"], "__dict__")
    slots["__symbolic_root__"] = True
    if "__orig_bases__" in cls.__dict__:  # what Generic asks of its subclasses
        slots["__orig_bases__"] = cls.__dict__["__orig_bases__"]
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
    scope: dict[str, Any] = {"__MISSING": MISSING, "__InvalidField": InvalidField, "__post_init": run_post_init}
    positional: list[str] = []
    keyword: list[str] = []
    # Everything but the arguments has two leading underscores, which fields may not have.
    scope["__set_digest"] = Node.__dict__["__digest__"].__set__
    lines: list[str] = ["__set_digest(__self, None)"]
    for name, spec in cls.__fields__.items():
        scope[f"__check_{name}"], scope[f"__set_{name}"] = checks[name], getattr(cls, name).__set__
        argument = name
        if spec.default_factory is not None:
            scope[f"__make_{name}"] = spec.default_factory
            argument = f"{name}=__MISSING"
            lines.append(f"if {name} is __MISSING: {name} = __make_{name}()")
        elif spec.default is not MISSING:
            scope[f"__default_{name}"] = _checked_default(cls, name, spec, checks[name])
            argument = f"{name}=__default_{name}"
        (keyword if spec.kw_only else positional).append(argument)
        quick = _QUICK.get(spec.annotation) if isinstance(spec.annotation, type) and not spec.constrained else None
        if typing.get_origin(spec.annotation) is typing.Literal and not spec.constrained:
            options = typing.get_args(spec.annotation)
            if all(isinstance(o, str) for o in options):
                scope[f"__options_{name}"] = frozenset(options)
                quick = "{0}.__class__ is not str or {0} not in __options_{0}"
        test = quick.format(name) if quick else "True"
        if spec.default is not MISSING:  # the default was checked when the class was compiled
            test = f"{name} is not __default_{name}" + (f" and ({test})" if quick else "")
        lines.append(
            f"if {test}:\n"
            f"            try: {name} = __check_{name}({name})\n"
            f"            except __InvalidField as __error: raise __named(__error, '{name}') from None"
        )
        lines.append(f"__set_{name}(__self, {name})")
    if cls.__has_post_init__:
        lines.append("__post_init(__self)")

    def named(error: InvalidField, name: str) -> InvalidField:
        raised = error.under(name)
        raised.owner = cls.__name__
        return raised

    scope["__named"] = named
    arguments = ", ".join(["__self", *positional, *(["*", *keyword] if keyword else [])])
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
