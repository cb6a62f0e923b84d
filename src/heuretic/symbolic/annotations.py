"""What a class body says of its fields: annotations, which may be strings and name types that come later."""

from __future__ import annotations

import sys
import typing
from collections.abc import Mapping
from copy import copy
from dataclasses import KW_ONLY
from typing import Any, ClassVar
from weakref import WeakSet

from heuretic.symbolic.checks import MISSING, Check, Field, compile_check, substitute


def _annotations(namespace: dict[str, Any]) -> dict[str, Any]:
    """Return the annotations of a class body; from Python 3.14 they are made when asked for."""
    if sys.version_info >= (3, 14):
        import annotationlib

        function = annotationlib.get_annotate_from_class_namespace(namespace)
        if function is not None:
            return annotationlib.call_annotate_function(function, annotationlib.Format.FORWARDREF)
    return namespace.get("__annotations__", {})


def own_fields(owner: str, namespace: dict[str, Any], kw_only: bool) -> dict[str, Field]:
    """Return the fields that a class body declares, and take their defaults out of the namespace.

    Raises: TypeError if a default is mutable, or a field has no annotation or a reserved name.
    """
    fields: dict[str, Field] = {}
    for name, annotation in _annotations(namespace).items():
        text = annotation if isinstance(annotation, str) else ""
        if annotation is KW_ONLY or text in ("KW_ONLY", "dataclasses.KW_ONLY"):
            kw_only = True
            continue
        if typing.get_origin(annotation) is ClassVar or annotation is ClassVar or "ClassVar" in text.partition("[")[0]:
            continue
        if name.startswith("__"):
            raise TypeError(f"{owner}.{name} must not start with two underscores")
        default = namespace.pop(name, MISSING)
        source = copy(default) if isinstance(default, Field) else Field(default=default)
        if isinstance(source.default, list | dict | set) and source.default:
            raise TypeError(f"{owner}.{name}: default must be immutable, got a {type(source.default).__name__}. "
                            f"Try hr.field(default_factory=...)")  # fmt: skip
        source.name, source.annotation, source.kw_only = name, annotation, source.kw_only or kw_only
        fields[name] = source
    for name, value in namespace.items():
        if isinstance(value, Field):
            raise TypeError(f"{owner}.{name} must have a type annotation")
    return fields


def check_order(owner: str, fields: dict[str, Field]) -> None:
    """Raise TypeError if a positional field without default follows one with a default."""
    seen = ""
    for name, spec in fields.items():
        if spec.kw_only:
            continue
        if not spec.optional and seen:
            raise TypeError(f"{owner}.{name} has no default but follows {seen}, which has one. Try kw_only=True")
        seen = name if spec.optional else seen


def resolve_annotations(cls: Any, own: dict[str, Field], local: Mapping[str, Any]) -> None:
    """Turn string annotations into types where they can be already; the rest waits for the first object.

    What a class made inside a function waits for may never be found by name again, so it is looked at anew
    whenever its neighbours are made.
    """
    scope = {**vars(sys.modules.get(cls.__module__, typing)), **local, cls.__name__: cls}
    pending = list(own.values())
    place = (cls.__module__, cls.__qualname__.rpartition(".")[0])
    for other in [each for each in _waiting if (each.__module__, each.__qualname__.rpartition(".")[0]) == place]:
        scope.setdefault(other.__name__, other)
        pending += [spec for spec in other.__fields__.values() if has_forward(spec.annotation)]
    for spec in pending:
        if isinstance(spec.annotation, str):
            try:
                spec.annotation = eval(spec.annotation, scope)
            except NameError:
                continue
        if not isinstance(spec.annotation, str):
            spec.annotation = _evaluate_nested(spec.annotation, scope)
    if "<locals>" in cls.__qualname__ and any(has_forward(spec.annotation) for spec in own.values()):
        _waiting.add(cls)


#: Classes made inside functions, with annotations that name what was not there yet.
_waiting: WeakSet[Any] = WeakSet()


def _evaluate_nested(annotation: Any, scope: dict[str, Any]) -> Any:
    """Resolve forward references inside an annotation, as in `tuple["Node", ...]`; unknown ones stay."""

    def probe() -> None: ...

    probe.__annotations__ = {"x": annotation}
    try:
        return typing.get_type_hints(probe, scope, scope, include_extras=True)["x"]
    except NameError:
        return annotation


def has_forward(annotation: Any) -> bool:
    """Whether the annotation still names types by strings."""
    if isinstance(annotation, str | typing.ForwardRef):
        return True
    return (
        any(has_forward(a) for a in typing.get_args(annotation)) and typing.get_origin(annotation) is not typing.Literal
    )


def _bindings(cls: Any) -> dict[Any, Any]:
    """Return, by base class, what its type variables are bound to, as in `class IntBox(Box[int])`."""
    bound: dict[Any, dict[Any, Any]] = {}
    for base in cls.__mro__:
        for generic in base.__dict__.get("__orig_bases__", ()):
            origin = typing.get_origin(generic)
            if hasattr(origin, "__fields__"):
                arguments = [substitute(argument, bound.get(base, {})) for argument in typing.get_args(generic)]
                bound[origin] = dict(zip(getattr(origin, "__parameters__", ()), arguments, strict=False))
    return bound


def checks_of(cls: Any) -> dict[str, Check]:
    """Return the compiled checks of a class, made when its first object is (types may be defined late)."""
    checks = cls.__dict__.get("__checks__")
    if checks is None:
        checks = {}
        bound = _bindings(cls)
        for spec in cls.__fields__.values():
            if has_forward(spec.annotation):
                module = spec.owner.__module__
                resolved = _evaluate_nested(
                    spec.annotation, {**vars(sys.modules[module]), spec.owner.__name__: spec.owner}
                )
                if has_forward(resolved):
                    raise TypeError(f"{cls.__name__}.{spec.name}: cannot find the type {spec.annotation!r}. "
                                    f"Define or import it in {module}")  # fmt: skip
                spec.annotation = resolved
            checks[spec.name] = compile_check(substitute(spec.annotation, bound.get(spec.owner, {})), spec)
        type.__setattr__(cls, "__checks__", checks)
    return checks
