"""Programs as JSON. A saved program is data: reading one runs nothing that it names.

Format 1: `{"heuretic": 1, "program": VALUE}`. VALUE is a JSON scalar, a list, a mapping, or a mapping with one of
the keys `$type` (a `Symbolic` class), `$call` (a symbolic call), `$ref` (a class, function or constant by name),
`$enum`, `$float` (an infinity) or `$map` (a mapping with a key that starts with a dollar).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from enum import Enum
from typing import Any, NoReturn

from heuretic.symbolic.calls import Call
from heuretic.symbolic.errors import InvalidField, Key, LoadError, brief, shortened
from heuretic.symbolic.names import DEFAULT_TRUST, Name, is_name, is_reference, module_name, name_of, resolve
from heuretic.symbolic.nodes import Symbolic
from heuretic.symbolic.paths import Path
from heuretic.symbolic.values import SCALARS, FrozenDict, Node, freeze, inner

FORMAT = 1
MAX_DEPTH = 200
#: Names that are resolved even when others are not: choices are part of the language that programs are written in.
_VOCABULARY = "heuretic.search.choices:"


def dumps(program: Any, *, indent: int | None = None) -> str:
    """Return a program (or leaf, or container) as JSON text.

    Raises: InvalidField if it holds something that has no importable name.
    """
    encoded = _encode(program if isinstance(program, Node) else freeze(program), MAX_DEPTH)
    try:
        return json.dumps({"heuretic": FORMAT, "program": encoded}, indent=indent, allow_nan=False)
    except ValueError:  # rare, so looked for only when the encoder has met one
        return json.dumps({"heuretic": FORMAT, "program": _spelt(encoded)}, indent=indent, allow_nan=False)


def _spelt(encoded: Any) -> Any:
    """Return encoded JSON with infinities as `$float`."""
    if encoded.__class__ is float and math.isinf(encoded):
        return {"$float": repr(encoded)}
    if isinstance(encoded, dict):
        return {key: _spelt(item) for key, item in encoded.items()}
    return [_spelt(item) for item in encoded] if isinstance(encoded, list) else encoded


def _encode(value: Any, room: int) -> Any:
    kind = value.__class__
    if kind in SCALARS:
        return value
    if room < 0:
        raise InvalidField(f"a program nested at most {MAX_DEPTH} deep (deeper ones could not be read again)", value)
    if kind is Call:
        encoded: dict[str, Any] = {"$call": name_of(value.__target__)}
        if getattr(value.__target__, "kind", "") == "$type":
            encoded = {"$type": str(value.__target__)}
        rest = [child for key, child in value.__items__() if isinstance(key, int)]
        if rest:
            encoded["$args"] = [_encode(child, room - 1) for child in rest]
        for key, child in value.__items__():
            if isinstance(key, str):
                encoded[key] = _encode(child, room - 1)
        return encoded
    if isinstance(value, Node):
        fields: dict[Any, Any] = {"$type": value.__head__()}
        fields.update(value.__items__())
        for key, child in value.__inner__():
            fields[key] = _encode(child, room - 1)
        return fields
    if kind is tuple or kind is list:
        return [_encode(item, room - 1) for item in value]
    if isinstance(value, Mapping):
        if any(key.startswith("$") for key in value):
            return {"$map": [[key, _encode(item, room - 1)] for key, item in value.items()]}
        return {key: _encode(item, room - 1) for key, item in value.items()}
    if isinstance(value, Enum):
        return {"$enum": name_of(type(value)), "name": value.name}
    if isinstance(value, Name):
        if value.kind == "$enum":
            kind, _, member = str(value).rpartition(".")
            return {"$enum": kind, "name": member}
        return {value.kind: str(value)}
    freeze(value)
    return {"$ref": name_of(value)}


class _Repeated(dict[str, Any]):
    """A JSON object in which a key stood twice."""


def loads(
    text: str | bytes,
    *,
    trust: Collection[str] = (),
    aliases: Mapping[str, str] | None = None,
    resolve_names: bool = True,
    max_bytes: int = 64 * 2**20,
) -> Any:
    """Read a program that `dumps` wrote.

    Nothing the text names is called. Names are imported only from `heuretic` and from the packages in `trust`;
    importing them runs their module code, so list only packages you would import anyway.

    Args:
        trust: Packages (or modules) whose classes and functions the text may name, such as `("torch", "my_models")`.
        aliases: Former names and their successors: `{"old.module:Conv": "new.module:Conv"}`.
        resolve_names: False reads the program without importing anything it names: it can be walked, compared, printed and
            edited, but not built. Use this to look at files from strangers.
        max_bytes: Refuse longer texts.

    Raises: LoadError naming the place, if the text is corrupt, too large or too deep, repeats a key, names
        something outside `trust` or unknown, is of a newer format, or holds values that do not fit their fields.
    """
    if len(text) > max_bytes:
        raise LoadError(
            f"saved program must be at most {max_bytes} bytes, got {len(text)}. Raise max_bytes if it is yours"
        )
    given = (*DEFAULT_TRUST, *map(module_name, trust)), dict(aliases or {}), resolve_names
    try:
        return _read_inside_out(text, _Reader(*given, children_read=True))
    except Exception:  # whatever it is, reading from the outside finds it again, and knows its place
        return _read_outside_in(text, _Reader(*given))


def _read_inside_out(text: str | bytes, reader: _Reader) -> Any:
    """Read in one pass: each object becomes a node as soon as the parser has seen its end. Errors have no place."""

    def finished(pairs: list[tuple[str, Any]]) -> Any:
        content = dict(pairs)
        if len(content) != len(pairs):
            raise ValueError("repeated key")
        return reader.read(content, ())

    document = json.loads(text, object_pairs_hook=finished, parse_constant=_no_constant)
    if document.keys() != {"heuretic", "program"} or document["heuretic"] is not FORMAT:
        raise ValueError("not a saved program")
    program = freeze(document["program"])
    level, depth = [program], 0
    while level:
        level, depth = [child for value in level for _, child in inner(value)], depth + 1
        if depth > MAX_DEPTH + 1:
            raise ValueError("too deep")
    return program


def _read_outside_in(text: str | bytes, reader: _Reader) -> Any:
    """Read in two passes, first the JSON, then its meaning, which says where an error is."""
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise LoadError(f"saved program is nested more than {MAX_DEPTH} deep, at character {_too_deep(text)}") from None
    except json.JSONDecodeError as error:
        raise LoadError(f"saved program is not valid JSON: {error}") from None
    except UnicodeDecodeError as error:
        raise LoadError(f"saved program must be UTF-8 text: {error}") from None
    except ValueError as error:
        raise LoadError(f"saved program holds an unreadable number: {error}") from None
    if not isinstance(document, dict) or isinstance(document, _Repeated) or document.keys() != {"heuretic", "program"}:
        raise LoadError('saved program must be of the form {"heuretic": 1, "program": ...}, got ' + brief(document))
    if document["heuretic"] != FORMAT or type(document["heuretic"]) is not int:
        raise LoadError(
            f"saved program has format {brief(document['heuretic'])}; this version reads format {FORMAT}. Try upgrading heuretic"
        )
    try:
        program = reader.read(document["program"], ())
        return program if isinstance(program, Node) else freeze(program)
    except RecursionError:
        raise LoadError(
            f"saved program is nested more than {MAX_DEPTH} deep, or was read too deep in the caller's stack"
        ) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        return _Repeated({repeated: None})
    return result


def _no_constant(token: str) -> NoReturn:
    raise ValueError(f"{token} (infinities are written {{'$float': 'inf'}}, NaN is not allowed)")


def _too_deep(text: str | bytes) -> int:
    """Return the position of the bracket that opens one level too many. Only run on texts known to be too deep."""
    depth, inside, escaped = 0, False, False
    decoded = text if isinstance(text, str) else text.decode("utf-8", "replace")
    for at, char in enumerate(decoded):
        if inside:
            inside = char != '"' or escaped
            escaped = char == "\\" and not escaped
        elif char == '"':
            inside, escaped = True, False
        elif char in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return at
        elif char in "]}":
            depth -= 1
    return len(decoded)


class _Reader:
    """Turns JSON objects into nodes. `children_read`: what is inside an object was turned before it."""

    def __init__(
        self, trust: tuple[str, ...], aliases: dict[str, str], resolve_names: bool, children_read: bool = False
    ) -> None:
        self.trust, self.aliases, self.resolve_names = trust, aliases, resolve_names
        self.children_read = children_read
        self.known: dict[str, Any] = {}
        self.classes: dict[str, type[Symbolic] | Name] = {}

    def read(self, value: Any, at: tuple[Key, ...]) -> Any:
        if value.__class__ in SCALARS:
            return value
        if value == []:
            return ()
        if len(at) > MAX_DEPTH:
            raise LoadError(f"saved program is nested more than {MAX_DEPTH} deep at {Path(at[:6])!s}...")
        if value.__class__ is list:
            return tuple(
                [item if item.__class__ in SCALARS else self.read(item, (*at, i)) for i, item in enumerate(value)]
            )
        if not isinstance(value, dict) or isinstance(value, FrozenDict):
            return value  # read before
        if value.__class__ is _Repeated:
            raise self.error(at, f"key {next(iter(value))!r} stands twice")
        if "$type" in value:
            return self.read_type(value, at)
        special = next((key for key in value if key.startswith("$")), None)
        if special is None:
            return FrozenDict({key: self.read(item, (*at, key)) for key, item in value.items()})
        if special == "$call":
            return self.read_call(value, at)
        return self.read_leaf(special, value, at)

    def read_leaf(self, special: str, value: dict[str, Any], at: tuple[Key, ...]) -> Any:
        content = value[special]
        if special == "$float" and len(value) == 1 and content in ("inf", "-inf"):
            return float(content)
        if special == "$ref" and len(value) == 1:
            found = self.name(content, at, "$ref")
            try:
                return freeze(found)
            except InvalidField as error:
                raise self.error(at, f"{content!r}: {error}") from None
        if special == "$enum" and value.keys() == {"$enum", "name"} and isinstance(value["name"], str):
            kind = self.name(content, at, "$enum")
            if isinstance(kind, Name):
                return Name(f"{kind}.{value['name']}", "$enum")
            if not (isinstance(kind, type) and issubclass(kind, Enum)) or value["name"] not in kind.__members__:
                raise self.error(at, f"{content!r} has no member {brief(value['name'])}")
            return kind[value["name"]]
        if special == "$map" and len(value) == 1 and isinstance(content, list):
            pairs: dict[str, Any] = {}
            for i, pair in enumerate(content):
                if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)) or pair[0] in pairs:
                    raise self.error((*at, i), "$map must be a list of [name, value] without repetition")
                pairs[pair[0]] = self.read(pair[1], (*at, pair[0]))
            return FrozenDict(pairs)
        raise self.error(at, f"unknown or malformed {special!r}")

    def read_type(self, value: dict[str, Any], at: tuple[Key, ...]) -> Any:
        head = value.pop("$type")
        cls = self.classes.get(head) if head.__class__ is str else None
        if cls is None:
            cls = self.symbolic_class(head, at)
        given = value
        if not self.children_read:
            given = {k: v if v.__class__ in SCALARS else self.read(v, (*at, k)) for k, v in value.items()}
        if isinstance(cls, Name):
            return self.unresolved(cls, given, at)
        if given.keys() != cls.__fields__.keys():
            self.rename(cls, given, at)
        try:
            return cls(**given)
        except InvalidField as error:
            raise self.error((*at, *error.path), f"expected {error.expected}, got {brief(error.got)}") from None
        except RecursionError:
            raise
        except Exception as error:  # whatever the class's own check makes of values that it did not expect
            raise self.error(at, f"{cls.__name__}: {error}") from error

    def symbolic_class(self, head: Any, at: tuple[Key, ...]) -> type[Symbolic] | Name:
        cls = self.name(head, at, "$type")
        if not isinstance(cls, Name) and (not (isinstance(cls, type) and issubclass(cls, Symbolic)) or cls is Symbolic):
            raise self.error(at, f"{head!r} is not a Symbolic class")
        return self.classes.setdefault(head, cls)

    def rename(self, cls: type[Symbolic], given: dict[str, Any], at: tuple[Key, ...]) -> None:
        """Put values under the present names of their fields, and see that nothing is left over or missing."""
        for name in given.keys() - cls.__fields__.keys():
            current = next((f.name for f in cls.__fields__.values() if name in f.aliases), None)
            if current is None or current in given:
                close = get_close_matches(name, list(cls.__fields__), 1)
                hint = f"Did you mean {close[0]!r}?" if close else f"It has {', '.join(cls.__fields__)}."
                raise self.error(at, f"{cls.__name__} has no field {name!r}. {hint}")
            given[current] = given.pop(name)
        missing = [f.name for f in cls.__fields__.values() if not f.optional and f.name not in given]
        if missing:
            raise self.error(at, f"{cls.__name__} needs {', '.join(missing)}")

    def read_call(self, value: dict[str, Any], at: tuple[Key, ...]) -> Any:
        target = self.name(value["$call"], at, "$call")
        if not (callable(target) and is_reference(target)) and not isinstance(target, Name):
            raise self.error(at, f"{value['$call']!r} cannot be called")
        rest = value.get("$args", [])
        if not isinstance(rest, list):
            raise self.error(at, f"$args must be a list, got {brief(rest)}")
        given: dict[Key, Any] = {}
        for key, item in value.items():
            if key == "$args":
                given.update({i: self.read(child, (*at, i)) for i, child in enumerate(rest)})
            elif key != "$call":
                given[key] = self.read(item, (*at, key))
        call = Call(target, (), ())
        try:
            return call.__with__(given) if given else call
        except InvalidField as error:
            raise self.error((*at, *error.path), error.expected) from None

    def unresolved(self, name: Name, given: dict[str, Any], at: tuple[Key, ...]) -> Any:
        for key in given:
            if key.startswith("$"):
                raise self.error(at, f"unknown or malformed {key!r}")
        return Call(name, tuple(given), tuple(freeze(value) for value in given.values()))

    def name(self, name: Any, at: tuple[Key, ...], kind: str) -> Any:
        if not isinstance(name, str):
            raise self.error(at, f"a name must be a string, got {brief(name)}")
        if not self.resolve_names and not name.startswith(_VOCABULARY):
            if not is_name(name.replace(".<locals>", "")):
                raise self.error(at, f"{name[:80]!r} is not a name of the form 'package.module:Name'")
            return Name(name, kind)
        if name not in self.known:
            try:
                self.known[name] = resolve(self.aliases.get(name, name), self.trust)
            except LoadError as error:
                raise self.error(at, str(error)) from None
        found = self.known[name]
        if kind in ("$call", "$ref") and (kind == "$call" or not isinstance(found, type)) and _is_machinery(found):
            raise self.error(at, f"{name!r} belongs to the machinery of heuretic, which programs do not call")
        return found

    def error(self, at: tuple[Key, ...], message: str) -> LoadError:
        place = shortened(str(Path(at)), 200) or "the root"
        return LoadError(f"saved program at {place}: {shortened(message, 600)}")


#: Rooms whose functions could be turned into running anything if a stranger's file were built: `patch_at` imports
#: modules, `resolve` fetches functions. Programs have no use for them.
_MACHINERY = (
    "heuretic.symbolic.", "heuretic.search.", "heuretic.study.", "heuretic.nn.checkpoints.", "heuretic.web.", "heuretic.cli.",
)  # fmt: skip


def _is_machinery(found: Any) -> bool:
    return f"{getattr(found, '__module__', '')}.".startswith(_MACHINERY)
