"""Patches: named, typed, parameterised sets of rules that rewrite programs whose author never heard of them."""

from __future__ import annotations

import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, TypeVar, Union, cast
from urllib.parse import quote, unquote

from heuretic.symbolic.adapters import Adapter, adapter_for, draft
from heuretic.symbolic.annotations import checks_of
from heuretic.symbolic.calls import Call
from heuretic.symbolic.catalog import entries, published
from heuretic.symbolic.checks import MISSING
from heuretic.symbolic.diffs import ABSENT, Change
from heuretic.symbolic.display import is_default, title
from heuretic.symbolic.errors import InvalidField, Key, OpenChoiceError, PatchError, brief, shortened
from heuretic.symbolic.names import main_name
from heuretic.symbolic.nodes import Symbolic, head
from heuretic.symbolic.paths import Path
from heuretic.symbolic.trees import build, completed, is_call_of
from heuretic.symbolic.values import SCALARS, FrozenDict, Node, children, freeze

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def rule(function: F | None = None, *, on: str | tuple[str, ...] = ()) -> F | Any:
    """Mark a method of a `Patch` as a rule for the nodes of the type that its argument is annotated with.

    The method gets the node (and, if it takes a second argument, its `Path`; if a third, what the patch's `survey`
    returned) and returns what shall stand in its place: the node itself for "no change", an edited one
    (`hr.replace(node, kernel=3)`), or another program.
    The node is a symbolic call or a built object; both read alike (`node.out_channels`).

    Args:
        on: Names of further classes, `package.module:Class`, for packages that need not be installed.
    """

    def mark(marked: F) -> F:
        marked.__rule_on__ = (on,) if isinstance(on, str) else on  # type: ignore[attr-defined]
        return marked

    return mark if function is None else mark(function)


@dataclass(frozen=True, slots=True)
class _Rule:
    """One rule, ready to be tried on nodes."""

    function: Callable[..., Any]
    classes: tuple[type, ...]
    names: tuple[str, ...]
    arguments: int

    def distance(self, node: Any) -> int | None:
        """Return how many base classes lie between the node's class and the rule's, or None if it does not match."""
        target = node.__target__ if is_call_of(node, (object,)) else type(node)
        best = None
        for steps, base in enumerate(target.__mro__):
            if base in self.classes or f"{base.__module__}:{base.__qualname__}" in self.names:
                best = steps
                break
        return best

    def __call__(self, *context: Any) -> Any:
        """Return what shall stand in place of a node, given the node, its path and the survey."""
        path = context[1]
        result = self.function(*context[: self.arguments])
        if result is None:
            raise PatchError(
                f"rule {self.function.__qualname__} must return a node (its argument for no change), got None at {path or 'the root'}"
            )
        return result

    @property
    def sought(self) -> list[str]:
        return [c.__name__ for c in self.classes] + [n.partition(":")[2] for n in self.names]


def _make_rule(function: Callable[..., Any], names: tuple[str, ...] = ()) -> _Rule:
    try:
        hints = typing.get_type_hints(function)
        parameters = list(inspect.signature(function).parameters)
    except (NameError, ValueError) as error:
        raise PatchError(f"rule {function!r}: cannot read its annotations: {error}") from None
    if not parameters:
        raise PatchError(f"rule {function.__qualname__} must take a node")
    annotation = hints.get(parameters[0])
    options = (
        typing.get_args(annotation) if typing.get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    )
    classes = tuple(c for c in (typing.get_origin(o) or o for o in options) if isinstance(c, type))
    if not classes and not names:
        raise PatchError(
            f"rule {function.__qualname__} must annotate {parameters[0]!r} with the class it is for, got {annotation!r}"
        )
    return _Rule(function, classes, names, len(parameters))


class Patch(Symbolic):
    """Base of patches: fields are the parameters, methods marked `@hr.rule` the rules.

        class WiderKernels(hr.Patch):
            "Use larger kernels in every convolution."
            size: int = hr.field(default=5, ge=1)

            @hr.rule
            def convolution(self, node: nn.Conv2d) -> nn.Conv2d:
                return hr.replace(node, kernel_size=self.size)

    Patches are values: they compare, save, and take open choices as parameters like any program. `a | b` is the
    patch that applies a, then b.
    """

    #: The name in addresses. Defaults to the class name in kebab-case.
    name: ClassVar[str] = ""

    def survey(self, program: Any) -> Any:
        """Look at the whole program or built object before the rules are tried on its parts.

        For patches that need to know more than a part and its path: how many parts there are, or which are connected.
        What is returned is the third argument of rules that take one. Must not edit anything.
        """
        return None

    def __or__(self, other: Patch) -> Patch:
        return Chain((*_parts(self), *_parts(other)))

    @property
    def address(self) -> str:
        """The patch as text, `name?param=value&...`, which `patch_at` reads back."""
        return " | ".join(_address(part) for part in _parts(self))


class Chain(Patch):
    """Patches applied one after the other. Made by `a | b`."""

    patches: tuple[Patch, ...]


def _parts(patch: Patch) -> tuple[Patch, ...]:
    return patch.patches if isinstance(patch, Chain) else (patch,)


def patch_name(patch: type[Patch] | Patch) -> str:
    """Return the name of a patch as addresses use it."""
    cls = patch if isinstance(patch, type) else type(patch)
    named = cls.name if isinstance(cls.name, str) else ""
    return named or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()


def _address(patch: Patch) -> str:
    given = []
    for name, spec in type(patch).__fields__.items():
        value = getattr(patch, name)
        if not is_default(spec, value):
            try:
                given.append(f"{name}={quote(_parameter_text(value), safe='[]{},:')}")
            except TypeError:
                raise PatchError(
                    f"{patch_name(patch)}: {name}={brief(value)} cannot be written in an address. Try hr.dumps(patch)"
                ) from None
    return _address_name(type(patch)) + ("?" + "&".join(given) if given else "")


def _address_name(cls: type[Patch]) -> str:
    slug = patch_name(cls)
    return slug if slug in entries() and getattr(published(slug), "patch", None) is cls else head(cls)


def _parameter_text(value: Any) -> str:
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            if not any("\ud800" <= char <= "\udfff" for char in value):
                return value
        except RecursionError:
            pass
    return json.dumps(value)  # strings in quotes, or they would be read as a number, list, ...


def patch_at(address: str) -> Patch:
    """Return the patch at an address such as `primer?power=2` or `my_package.patches:WiderKernels?size=7`.

    A value is JSON where it reads as JSON and fits the parameter, else a string; characters that addresses use
    (`&`, `?`, `%`, spaces) are percent-encoded. A plain name is looked up among the ideas that installed packages
    publish; a name with a colon is imported.

    Raises: PatchError if there is no such patch or a parameter is unknown, repeated or does not fit.
    """
    if " | " in address:
        return Chain(tuple(patch_at(part) for part in address.split(" | ")))
    name, _, query = address.strip().partition("?")
    cls = _patch_class(name.strip())
    given: dict[str, Any] = {}
    for item in query.split("&") if query else ():
        key, equals, text = item.partition("=")
        key, text = unquote(key), unquote(text)
        spec = cls.__fields__.get(key)
        if spec is None:
            known = (
                ", ".join(f"{f}={s.default!r}" if s.default is not MISSING else f for f, s in cls.__fields__.items())
                or "none"
            )
            raise PatchError(f"{name} has no parameter {key[:80]!r} in {address[:200]!r}; it has {known}")
        if not equals:
            raise PatchError(f"{key} must have a value, as in {key}=..., got {address[:200]!r}")
        if key in given:
            raise PatchError(f"{key} must be given once, got it twice in {address[:200]!r}")
        given[key] = _fitting(cls, key, text, address)
    try:
        return cls(**given)
    except (InvalidField, TypeError, ValueError) as error:
        raise PatchError(f"{address[:200]!r}: {error}") from None


def _fitting(cls: type[Patch], key: str, text: str, address: str) -> Any:
    check = checks_of(cls)[key]
    refused: InvalidField | None = None
    try:
        return check(json.loads(text))
    except InvalidField as error:
        refused = error
    except (ValueError, RecursionError):
        pass
    try:
        return check(text)
    except InvalidField as second:
        error = refused or second
        raise PatchError(
            f"{address[:200]!r}: {key} must be {shortened(error.expected, 200)}, got {brief(text)}"
        ) from None


def _patch_class(name: str) -> type[Patch]:
    if ":" in name:
        module, _, qualname = name.partition(":")
        try:
            if module == main_name() and "__main__" in sys.modules:
                module = "__main__"
            found: Any = import_module(module)
            for part in qualname.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise PatchError(f"no patch at {name[:120]!r}: {error}") from None
    else:
        found = getattr(published(name), "patch", None)
        if found is None:
            raise PatchError(f"{name!r} is in the catalogue but is not a patch. Try: heuretic ideas {name}")
    if not (isinstance(found, type) and issubclass(found, Patch)):
        raise PatchError(f"{name!r} must name a Patch class, got {brief(found)}")
    return found


PatchLike = Patch | str | Callable[..., Any]


def apply(program: T, *patches: PatchLike, allow_empty: bool = False, changes: list[Change] | None = None) -> T:
    """Return `program` with the patches applied, in the order given.

    Works on programs and on built objects of any framework with an adapter (such as `torch.nn.Module`), which are
    copied first, weights included: the one given is never touched. Nodes are visited children first; what a rule
    returns is not visited again. Of several rules that match, the one for the most derived class is used.

    Where no rule matches a node of a program, but the object it builds has parts that match (`hr.sym(resnet50)()` has its
    convolutions inside), the patch becomes part of the program: `hr.build` applies it to what it has built. So
    `hr.build(hr.apply(program, patch))` and `hr.apply(hr.build(program), patch)` come to the same.

    Args:
        patches: Patches, addresses, or single rules: functions of one node, annotated with its class.
        allow_empty: Let a patch pass that changes nothing. Normally that is an error, because a silent no-op makes
            every later comparison false.
        changes: A list to which every change is added.

    Raises: PatchError if a patch is unknown, ill-formed, or changed nothing.
    """
    seen: list[Change] = []
    adapter = None if isinstance(program, Node | tuple | FrozenDict) else adapter_for(program)
    if adapter is None and not isinstance(program, Node | tuple | list | dict):
        raise PatchError(
            f"apply needs a program or an object of a known framework, got {brief(program)}. "
            f"Try hr.sym(...), or install the package that adapts it"
        )
    result: Any = freeze(program) if adapter is None else adapter.copy(program)
    for patch in [_as_patch(p) for p in patches]:
        for part in _parts(patch) if isinstance(patch, Patch) else (patch,):
            before, visited = len(seen), [0]
            if adapter is not None:
                result = _applied_to_built(result, part, seen, visited, adapter)
            else:
                result = _applied_to_program(result, part, seen, visited, allow_empty)
            if len(seen) == before and not allow_empty:
                sought = dict.fromkeys(name for r in _rules(part) for name in r.sought)
                raise PatchError(
                    f"{_label(part)} changed nothing in {title(result)} ({visited[0]} nodes seen); it looks for "
                    f"{', '.join(sought) or 'nothing (it has no rules)'}. Pass allow_empty=True if that is meant"
                )
    if adapter is not None:
        adapter.finish(result)
    if changes is not None:
        changes.extend(seen)
    return cast(T, result)


def _applied_to_built(
    built: Any, part: Patch | Callable[..., Any], seen: list[Change], visited: list[int], adapter: Adapter
) -> Any:
    before, known = len(seen), adapter.program(built)
    result = _rewrite_foreign(built, part, seen, visited, adapter)
    if len(seen) > before:
        adapter.remember(result, _recorded(known, part))
    return result


def _applied_to_program(
    program: Any, part: Patch | Callable[..., Any], seen: list[Change], visited: list[int], allow_empty: bool
) -> Any:
    before = len(seen)
    undecided: OpenChoiceError | None = None
    result = program
    try:
        result = _rewrite(program, (), _rules(part), seen, visited, _survey(part, program))
    except OpenChoiceError as error:  # of the patch itself: it can wait for it until it is built
        undecided = error
    if len(seen) == before:
        result = _deferred(program, part, seen, visited, allow_empty)
    if len(seen) == before and undecided is not None:
        raise undecided
    return result


class Patched(Symbolic):
    """A program with patches that its nodes do not show: `hr.build` applies them, in order, to what it has built.

    Made by `apply`. Holds patches and no addresses, so a program from a stranger names nothing here that is not trusted.
    """

    program: Any
    patches: tuple[Patch, ...]

    def build(self) -> Any:
        return apply(build(self.program), *self.patches)


def _deferred(program: Any, part: Any, seen: list[Change], visited: list[int], allow_empty: bool) -> Any:
    """Return the program with a patch that is applied whenever it is built, or as it is if that would change nothing."""
    if not isinstance(program, Call | Patched) or not isinstance(part, Patch):
        return program
    try:
        found = draft(completed(program))
    except Exception as error:  # the program's own
        if allow_empty:
            return program
        raise PatchError(
            f"{_label(part)} changed nothing in the nodes of {title(program)}, and what it builds cannot be looked at: "
            f"{type(error).__name__}: {error}. If it can be built elsewhere, try hr.symbolic.Patched(program, (patch,)) there"
        ) from error
    if found is None:
        return program
    made, adapter = found
    below: list[Change] = []
    try:
        _rewrite_foreign(made, completed(part), below, visited, adapter)
    except RuntimeError:
        # The rules need weights to work on, which the draft has none of, so that only building can tell.
        below.append(Change(Path(), program, program))
    if not below:
        return program
    new = _recorded(program, part)
    seen.append(Change(Path(("patches", len(new.patches) - 1)), ABSENT, part))
    return new


def _recorded(program: Any, part: Any) -> Any:
    """Return the program of what `program` builds with a patch applied to it; None if there is none."""
    if program is None or not isinstance(part, Patch):
        return None
    if isinstance(program, Patched):
        return Patched(program.program, (*program.patches, part))
    return Patched(program, (part,))


def _survey(part: Patch | Callable[..., Any], program: Any) -> Any:
    return part.survey(program) if isinstance(part, Patch) else None


def _label(part: Any) -> str:
    return patch_name(part) if isinstance(part, Patch) else getattr(part, "__qualname__", repr(part))


def _as_patch(patch: PatchLike) -> Patch | Callable[..., Any]:
    if isinstance(patch, str):
        return patch_at(patch)
    if isinstance(patch, Patch) or inspect.isfunction(patch) or inspect.ismethod(patch):
        return patch
    raise PatchError(f"a patch must be a Patch, an address or a rule function, got {brief(patch)}")


def _rules(patch: Patch | Callable[..., Any]) -> list[_Rule]:
    if not isinstance(patch, Patch):
        return [_make_rule(patch, getattr(patch, "__rule_on__", ()))]
    found: dict[str, Any] = {}
    for cls in reversed(type(patch).__mro__):
        found.update({n: f for n, f in vars(cls).items() if hasattr(f, "__rule_on__")})
    return [_make_rule(getattr(patch, name), function.__rule_on__) for name, function in found.items()]


def _best(rules: list[_Rule], node: Any) -> _Rule | None:
    matches = [(distance, i) for i, r in enumerate(rules) if (distance := r.distance(node)) is not None]
    return rules[min(matches)[1]] if matches else None


def _rewrite(
    value: Any, at: tuple[Key, ...], rules: list[_Rule], changes: list[Change], visited: list[int], survey: Any
) -> Any:
    edits: dict[Key, Any] = {}
    for key, child in children(value):
        if child.__class__ in SCALARS:
            continue
        new = _rewrite(child, (*at, key), rules, changes, visited, survey)
        if new is not child:
            edits[key] = new
    if edits:
        if isinstance(value, Node):
            try:
                value = value.__with__(edits)
            except InvalidField as error:
                raise error.under(*at) from None
            except ValueError as error:
                raise PatchError(
                    f"the patched {title(value)} at {str(Path(at)) or 'the root'} is refused: {error}"
                ) from error
        elif value.__class__ is tuple:
            value = tuple(edits.get(i, item) for i, item in enumerate(value))
        else:
            value = FrozenDict({key: edits.get(key, item) for key, item in value.items()})
    if not isinstance(value, Node):
        return value
    visited[0] += 1
    chosen = _best(rules, value)
    if chosen is None:
        return value
    new = freeze(chosen(value, Path(at), survey))
    if new is not value and new != value:
        changes.append(Change(Path(at), value, new))
        return new
    return value


def _rewrite_foreign(
    root: Any, part: Patch | Callable[..., Any], changes: list[Change], visited: list[int], adapter: Adapter
) -> Any:
    """Rewrite a foreign tree in place; the caller made it a copy, so an error in a rule harms nothing."""
    rules, survey = _rules(part), _survey(part, root)
    memo: dict[int, tuple[Any, Any]] = {}

    def visit(node: Any, at: tuple[Key, ...]) -> Any:
        if id(node) in memo:  # a part that stands in two places is replaced by one new part in both
            return memo[id(node)][1]
        visited[0] += 1
        for key, child in list(adapter.children(node)):
            new = visit(child, (*at, key))
            if new is not child:
                adapter.assign(node, key, new)
        chosen = _best(rules, node)
        result = node
        if chosen is not None:
            returned = chosen(node, Path(at), survey)
            if returned is not node:
                result = adapter.fit(node, returned)
                changes.append(Change(Path(at), node, result))
        memo[id(node)] = (node, result)  # the node is kept so that its id stays taken
        return result

    return visit(root, ())
