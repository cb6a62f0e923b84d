"""Saved programs: what is written is read again, and what a stranger wrote can neither run nor crash anything."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import heuretic as hr
import strategies as own
from heuretic.symbolic import InvalidField, LoadError
from heuretic.symbolic.codec import MAX_DEPTH
from heuretic.symbolic.names import Name
from heuretic.symbolic.values import freeze, same

HERE = ("strategies", __name__, "builtins")


class Conv(hr.Symbolic):
    filters: int = 1
    kernel_size: int = hr.field(default=3, ge=1, aliases=("kernel", "size"))
    rate: float = 0.5
    more: tuple[Any, ...] = ()


class Fragile(hr.Symbolic):
    divisor: int = 1

    def __post_init__(self) -> None:
        assert 1 / self.divisor
        if self.divisor == 7:
            raise KeyError("seven")
        if self.divisor == 8:
            raise ValueError("eight " * 10**5)


def document(program: Any) -> str:
    return json.dumps({"heuretic": 1, "program": program})


def refused(text: str | bytes, match: str = ".", trust: Any = HERE, **options: Any) -> str:
    """Assert that reading fails as it should; return the message."""
    with pytest.raises(LoadError, match=match) as caught:
        hr.loads(text, trust=trust, **options)
    assert type(caught.value) is LoadError
    assert len(str(caught.value)) < 1200
    return str(caught.value)


class TestRoundTrip:
    @given(own.values)
    def test_values(self, value: Any) -> None:
        text = hr.dumps(value)
        back = hr.loads(text, trust=HERE)
        assert same(back, freeze(value))
        assert hr.digest(back) == hr.digest(value)
        assert hr.dumps(back) == text
        assert same(hr.loads(hr.dumps(value, indent=2).encode(), trust=HERE), back)

    @given(own.spaces)
    def test_spaces(self, space: hr.Space) -> None:
        assert same(hr.loads(hr.dumps(space.program), trust=HERE), space.program)

    @given(own.values)
    def test_reading_without_names(self, value: Any) -> None:
        text = hr.dumps(value)
        blind = hr.loads(text, resolve_names=False)
        assert hr.dumps(blind) == text
        assert same(hr.loads(hr.dumps(blind), trust=HERE), freeze(value))
        assert repr(blind) is not None
        assert hr.diff(blind, hr.loads(text, resolve_names=False)) == [] or not hr.diff(
            blind, hr.loads(text, resolve_names=False)
        )

    def test_the_format(self) -> None:
        tree = hr.sym(own.stack)(Conv(2), {"$x": float("inf")}, own.Colour.RED, gain=own.join)
        assert json.loads(hr.dumps(tree)) == {
            "heuretic": 1,
            "program": {
                "$call": "strategies:stack",
                "$args": [
                    {"$type": f"{__name__}:Conv", "filters": 2, "kernel_size": 3, "rate": 0.5, "more": []},
                    {"$map": [["$x", {"$float": "inf"}]]},
                    {"$enum": "strategies:Colour", "name": "RED"},
                ],
                "gain": {"$ref": "strategies:join"},
            },
        }

    def test_what_cannot_be_written_is_refused_when_written(self) -> None:
        for value in (object(), lambda: 1, {1: 2}, float("nan"), [b""], {"a": {1}}):
            with pytest.raises(InvalidField):
                hr.dumps(value)

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda v: Conv(more=[v]),
            lambda v: [v],
            lambda v: {"a": v},
            hr.sym(own.stack),
            lambda v: own.Tree(anything=v),
        ],
    )
    def test_what_is_written_is_never_too_deep_to_read(self, wrap: Any) -> None:
        value: Any = Conv()
        written = 0
        for _ in range(MAX_DEPTH + 20):
            value = wrap(value)
            try:
                text = hr.dumps(value)
            except InvalidField as error:
                assert "nested at most" in str(error)  # noqa: PT017
                break
            written += 1
            value = freeze(value)
        else:
            pytest.fail("no limit")
        assert written >= 90
        assert hr.dumps(hr.loads(text, trust=HERE)) == text


class TestChangingPrograms:
    def test_missing_fields_get_their_default(self) -> None:
        assert hr.loads(document({"$type": f"{__name__}:Conv", "filters": 5}), trust=HERE) == Conv(5)

    def test_aliases(self) -> None:
        old = document({"$type": "old.place:Convolution", "filters": 5, "kernel": 7})
        aliases = {"old.place:Convolution": f"{__name__}:Conv"}
        assert hr.loads(old, trust=HERE, aliases=aliases) == Conv(5, 7)
        refused(old, "outside the trusted packages")
        refused(document({"$type": f"{__name__}:Conv", "kernel": 7, "size": 5}), "no field")
        refused(document({"$type": f"{__name__}:Conv", "kernel": 7, "kernel_size": 5}), "no field 'kernel'")

    def test_aliases_do_not_widen_trust(self) -> None:
        refused(document({"$ref": "a:b"}), "outside the trusted", aliases={"a:b": "os:system"})

    @pytest.mark.parametrize("version", [2, 0, "1", None, True, 1.0, [1], 10**400, {}])
    def test_other_versions(self, version: Any) -> None:
        refused(json.dumps({"heuretic": version, "program": 1}), "format")

    def test_unknown_and_unfit_fields(self) -> None:
        assert "Did you mean 'filters'" in refused(document({"$type": f"{__name__}:Conv", "filtres": 1}))
        assert "program at more[1].filters: expected int, got 'x'" in refused(
            document({"$type": f"{__name__}:Conv", "more": [1, {"$type": f"{__name__}:Conv", "filters": "x"}]})
        )
        refused(
            document([1, {"$type": f"{__name__}:Conv", "kernel_size": 0}]),
            r"at \[1\]\.kernel_size: expected a number >= 1",
        )
        refused(
            document({"$type": f"{__name__}:Conv", "rate": 10**400}), "at rate: expected a number that fits a float"
        )
        refused(document({"$call": "strategies:join", "scael": 1}), r"no parameter 'scael'\. Did you mean 'scale'")
        refused(document({"$call": "strategies:join", "$args": [1]}), "parameter")

    def test_errors_in_the_checks_of_a_class(self) -> None:
        for value in (0, 7, 8):
            refused(document({"a": {"$type": f"{__name__}:Fragile", "divisor": value}}), "at a: Fragile: ")


class TestUntrusted:
    def test_nothing_outside_is_imported(self, tmp_path: Path) -> None:
        (tmp_path / "canary.py").write_text(
            "import pathlib\npathlib.Path(__file__).with_name('sang').touch()\nfrom os import system\n"
        )
        (tmp_path / "package").mkdir()
        (tmp_path / "package" / "__init__.py").write_text("")
        (tmp_path / "package" / "__main__.py").write_text("raise SystemExit(3)\n")
        script = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
import heuretic as hr, json
for program in ({{"$ref": "canary:system"}}, {{"$call": "canary:f", "x": 1}}, {{"$type": "canary:T"}}, {{"$enum": "canary:E", "name": "A"}},
                {{"$ref": "package.__main__:x"}}, {{"a": [{{"$map": [["b", {{"$ref": "canary:system"}}]]}}]}}, {{"$ref": "packagex:y"}}):
    text = json.dumps({{"heuretic": 1, "program": program}})
    for trust in ((), ("package",), ("can", "canary.inner")):
        try: hr.loads(text, trust=trust)
        except hr.symbolic.LoadError as error: print(type(error).__name__)
        else: print("loaded", text)
    blind = hr.loads(text, resolve_names=False) if "__main__" not in text else None
assert "canary" not in sys.modules and "package.__main__" not in sys.modules
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert set(done.stdout.split()) == {"LoadError"}
        assert not (tmp_path / "sang").exists()

    @pytest.mark.parametrize(
        "name",
        [
            "os:system", "subprocess:Popen", "builtins:eval", "heuretic.symbolic.names:os.system", "heuretic.symbolic.names:importlib.import_module",
            "heuretic.symbolic.names:sys.modules", "heuretic.symbolic.trees:get_close_matches", "heuretic.symbolic.values:Any", "heuretic.symbolic.nodes:typing.Any",
            "heuretic.symbolic.nodes:Symbolic.__init__", "heuretic.symbolic.nodes:__builtins__", "heuretic.symbolic.nodes:__builtins__.eval",
            "heuretic:__getattr__", "heuretic:symbolic", "heuretic:symbolic.build", "heuretic.symbolic.names:lru_cache", "heuretic.symbolic.calls:inspect.signature",
            "heuretic.nowhere:x", "heuretic:nothing", "heuretic.symbolic.codec:FORMAT", "heuretic.symbolic.codec:_PLAIN", "heuretic.symbolic.calls:P",
            "heuretic", ":x", "heuretic:", "a b:c", "heuretic..symbolic:x", "heuretic.symbolic:loads()", "heuretic:x\n", "heuretic.symbolic:1x", "", "ö:ü",
            "heuretic.symbolic.__main__:x", "heuretic.__main__:x", "__main__:x", "heuretic\0:x", "heuretic.symbolic:" + "x" * 10**5, "x" * 10**6 + ":y",
            "heuretic.symbolic.names:resolve", "heuretic.symbolic.patches:patch_at", "heuretic.symbolic.trees:_noting", "heuretic.symbolic.trees:build",
        ],
    )  # fmt: skip
    def test_names_that_lead_elsewhere(self, name: str) -> None:
        before = set(sys.modules)
        for program in (
            {"$ref": name},
            {"$call": name},
            {"$type": name},
            {"$enum": name, "name": "x"},
            {"$call": name, "$args": [{"$ref": name}]},
        ):
            refused(document(program), "program at", trust=())
            refused(document([{"k": program}]), r"program at \[0\]\.k", trust=())
        assert {m for m in set(sys.modules) - before if not m.startswith("heuretic")} == set()

    def test_names_do_not_lead_through_modules(self) -> None:
        # `own.hr` is a module that this test's module imported: the place of a name must be where it is defined.
        refused(document({"$ref": "strategies:hr.Evolution"}), "leads through a module")
        refused(document({"$call": f"{__name__}:own.join"}), "leads through a module")
        assert hr.loads(document({"$ref": f"{__name__}:TestUntrusted"}), trust=HERE) is TestUntrusted

    def test_machinery_is_not_called(self) -> None:
        # Built, this would fetch os.system with the trust that the file itself grants.
        fetch = {"$call": "heuretic.symbolic.names:resolve", "name": "os:getcwd", "trust": ["os", "posix"]}
        refused(
            document({"$call": "heuretic.symbolic.trees:_noting", "at": [], "function": fetch}), "machinery", trust=()
        )
        refused(document(fetch), "machinery", trust=())
        assert hr.loads(hr.dumps(hr.Evolution)) is hr.Evolution

    @pytest.mark.parametrize(
        "program",
        [
            {"$type": "heuretic.search.evolution:Evolution", "$call": "strategies:join"}, {"$call": "strategies:join", "$type": "x:y"},
            {"$ref": "strategies:join", "first": 1}, {"$ref": ["strategies:join"]}, {"$ref": None}, {"$type": 1}, {"$call": {}}, {"$type": "strategies:join"},
            {"$type": "strategies:Made"}, {"$call": "strategies:Colour.RED"}, {"$type": "heuretic.symbolic.nodes:Symbolic"}, {"$call": "strategies:HERE"},
            {"$enum": "strategies:Colour"}, {"$enum": "strategies:Colour", "name": "GREEN"}, {"$enum": "strategies:Colour", "name": []},
            {"$enum": "strategies:Colour", "name": {"a": 1}}, {"$enum": "strategies:Colour", "name": None}, {"$enum": "strategies:Leaf", "name": "x"},
            {"$enum": "strategies:Colour", "name": "__class__"}, {"$float": "nan"}, {"$float": 1}, {"$float": ["inf"]}, {"$float": "inf", "x": 1}, {"$float": "1e5"},
            {"$map": {}}, {"$map": [1]}, {"$map": [["a"]]}, {"$map": [[1, 2]]}, {"$map": [["a", 1], ["a", 2]]}, {"$map": [["a", 1]], "b": 2}, {"$map": "ab"},
            {"$unknown": 1}, {"$": 1}, {"a": 1, "$b": 2}, {"$args": [1]}, {"$call": "strategies:join", "$args": {}}, {"$call": "strategies:join", "$args": None},
            {"$call": "strategies:stack", "$args": [1], "$more": 2}, {"$call": "strategies:Made", "size": 1, "$ref": "os:system"},
            {"$type": "strategies:Leaf", "$args": [1]}, {"$type": "strategies:Leaf", "": 1}, {"$call": "strategies:join", "layers": 1},
            {"$call": "strategies:stack", "layers": [1]}, {"$type": "heuretic.search.choices:Number", "lo": 3, "hi": 1},
            {"$type": "heuretic.search.choices:OneOf", "candidates": []}, {"$type": "strategies:Leaf", "width": {"$type": "heuretic.search.choices:Choice"}},
            {"$type": "heuretic.search.choices:SomeOf", "candidates": [1], "at_least": 3, "at_most": 9},
        ],
    )  # fmt: skip
    def test_malformed(self, program: Any) -> None:
        refused(document(program), "program at ")
        refused(document({"outer": [0, program]}), r"program at outer\[1\]")

    def test_without_names_nothing_is_imported(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "never_imported.py").write_text("raise SystemExit\n")
        monkeypatch.syspath_prepend(tmp_path)
        program = {
            "$type": "never_imported:T",
            "a": {"$call": "os:system", "$args": ["x"]},
            "b": {"$ref": "never_imported:f"},
        }
        tree = hr.loads(document(program), resolve_names=False)
        assert "never_imported" not in sys.modules
        assert hr.get(tree, "a[0]") == "x"
        assert isinstance(tree.b, Name)
        assert repr(tree) == "T(a=system('x'), b=f)"
        edited = hr.replace(tree, {"a[0]": "y"})
        assert json.loads(hr.dumps(edited))["program"] == {**program, "a": {"$call": "os:system", "$args": ["y"]}}
        nested = hr.replace(
            hr.loads(document({"$type": "m:T", "a": [1, {"$ref": "m:f"}]}), resolve_names=False), {"a[0]": 2}
        )
        assert json.loads(hr.dumps(nested))["program"]["a"] == [2, {"$ref": "m:f"}]
        with pytest.raises(TypeError, match=r"cannot be called|can be read but not built"):
            hr.build(tree)
        for bad in (
            {"$ref": ""},
            {"$ref": "no colon"},
            {"$type": "m:T", "$call": "os:system"},
            {"$call": "m:f", "$type": "x:y"},
        ):
            refused(document(bad), resolve_names=False)

    def test_a_script_is_called_by_its_own_name(self, tmp_path: Path) -> None:
        script = tmp_path / "my_script.py"
        script.write_text(
            "import heuretic as hr\nclass A(hr.Symbolic):\n    x: int = 1\n"
            "if __name__ == '__main__':\n    text = hr.dumps(A(2))\n    assert 'my_script:A' in text\n"
            "    assert hr.loads(text, trust=['__main__']) == hr.loads(text, trust=['my_script']) == A(2)\n    print(hr.digest(A(2)))\n"
        )
        ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
        code = "import my_script, heuretic as hr; print(hr.digest(my_script.A(2)))"
        imported = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        assert ran == imported


class TestCorrupt:
    GOOD = hr.dumps(
        hr.sym(own.stack)(
            Conv(2),
            {"$x": float("inf"), "ü": '\\"', "n": -1.5e300},
            own.Colour.RED,
            gain=hr.one_of(own.join, None, True),
        )
    )

    def test_every_prefix(self) -> None:
        for end in range(len(self.GOOD)):
            refused(self.GOOD[:end])
            refused(self.GOOD.encode()[:end])

    def test_duplicate_keys_at_any_depth(self) -> None:
        for text in (
            '{"heuretic": 1, "heuretic": 1, "program": 1}', '{"heuretic": 1, "program": 1, "program": 2}', '{"heuretic": 1, "program": {"a": 1, "a": 1}}',
            '{"heuretic": 1, "program": [{"b": {"a": 1, "c": 2, "a": 1}}]}', '{"heuretic": 1, "program": {"$call": "strategies:stack", "$args": [{"a": 1, "a": 2}]}}',
            '{"heuretic": 1, "program": {"$map": [["$", {"a": 1, "a": 2}]]}}', '{"heuretic": 1, "program": {"$type": "strategies:Leaf", "$type": "strategies:Leaf"}}',
        ):  # fmt: skip
            message = refused(text)
            assert "twice" in message or "must be of the form" in message

    @pytest.mark.parametrize(
        ("open_", "close"),
        [
            ("[", "]"), ('{"a":', "}"), ('{"$type":"strategies:Tree","anything":', "}"), ('{"$call":"strategies:stack","$args":[', "]}"),
            ('{"$map":[["a",', "]]}"), ('{"$type":"heuretic.search.choices:Repeat","at_least":1,"at_most":1,"item":', "}"), ('{"$call":"strategies:join","first":', "}"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("depth", [MAX_DEPTH + 5, 320, 450, 900, 10_000, 100_000])
    def test_deep(self, open_: str, close: str, depth: int) -> None:
        for inner, end in ((open_ * depth + "1" + close * depth, "}"), (open_ * depth, "")):
            refused('{"heuretic": 1, "program": ' + inner + end)
            refused('{"heuretic": 1, "program": ' + inner + end, resolve_names=False)

    @pytest.mark.parametrize(
        "text",
        [
            "", " ", "null", "1", "[]", "{}", '"x"', "NaN", '{"heuretic": 1}', '{"program": 1}', '{"heuretic": 1, "program": 1, "more": 2}', '{"heuretic": 1, "program": NaN}',
            '{"heuretic": 1, "program": [Infinity]}', '{"heuretic": 1, "program": -Infinity}', '{"heuretic": 1, "program": ' + "9" * 5000 + "}",
            '{"heuretic": ' + "9" * 5000 + ', "program": 1}', '{"heuretic": 1, "program": "\\ud8"}', '{"heuretic": 1, "program": 01}', self_closing := '{"heuretic": 1, "program": 1}}',
            "\ufeff" + '{"heuretic": 1, "program": 1}', '{"heuretic": 1, "program": "a\nb"}', "\ud800", '{"heuretic": 1, "program": 1}\0',
        ],
    )  # fmt: skip
    def test_not_a_document(self, text: str) -> None:
        refused(text)

    @pytest.mark.parametrize(
        "data",
        [
            b"\xff",
            b"\xff\xfe",
            b'{"heuretic": 1, "program": "\xff"}',
            b"\x00\x00",
            b'{"heuretic": 1, "program": "\xed\xa0\x80"}',
        ],
    )
    def test_wrong_encoding(self, data: bytes) -> None:
        if b"\xed" in data:  # Python's JSON reader takes surrogates in UTF-8, and so do we
            assert hr.loads(data) == "\ud800"
        else:
            refused(data)

    def test_lone_surrogates_are_strings(self) -> None:
        assert hr.loads(document("\ud800")) == "\ud800"
        refused(document({"$ref": "\ud800:x"}))
        refused(document({"$type": "strategies:Leaf", "\ud800": 1})).encode("utf-8", "backslashreplace")

    def test_too_large(self) -> None:
        refused(" " * 101, "at most 100 bytes, got 101", max_bytes=100)
        assert hr.loads(document([1]), max_bytes=100) == (1,)

    def test_numbers_are_frozen_like_any_other(self) -> None:
        loaded = hr.loads('{"heuretic": 1, "program": [-0.0, {"a": -0.0}]}')
        assert hr.digest(loaded) == hr.digest([0.0, {"a": 0.0}])
        assert hr.loads('{"heuretic": 1, "program": 1e999}') == float("inf")

    def test_messages_are_bounded(self) -> None:
        long = "k" * 10**5
        for program in (
            {long: {"$ref": "os:system"}}, {"$type": "strategies:Leaf", long: 1}, {"$ref": "strategies:" + long}, {"$call": "strategies:join", long: 1},
            {"$" + long: 1}, {"$type": "strategies:Leaf", "name": [long]}, {"$type": "strategies:Leaf", "mode": long}, {"$enum": "strategies:Colour", "name": long},
        ):  # fmt: skip
            refused(document(program))


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid document in which a few values were exchanged, removed, repeated or renamed."""
    document = json.loads(hr.dumps(draw(own.values | own.spaces.map(lambda s: s.program))))
    junk = st.one_of(
        st.none(), st.booleans(), own.ints, st.floats(allow_nan=False), own.texts, st.just([]), st.just({}), st.just([[1], "x"]),
        st.sampled_from(["$type", "$call", "$ref", "$args", "$map", "$enum", "$float", "strategies:join", "strategies:Leaf", "strategies:Tree", "os:system",
                         "heuretic.search.choices:OneOf", "heuretic.search.choices:Repeat", "heuretic.search.choices:Number", "strategies:Colour", "inf"]),
    )  # fmt: skip
    for _ in range(draw(st.integers(1, 3))):
        places: list[tuple[Any, Any]] = []
        todo: list[Any] = [document]
        while todo:
            value = todo.pop()
            for key in list(value) if isinstance(value, dict) else range(len(value)):
                places.append((value, key))
                if isinstance(value[key], dict | list):
                    todo.append(value[key])
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        action = draw(st.sampled_from(["set", "delete", "rename", "wrap"]))
        if action == "set":
            holder[key] = draw(junk)
        elif action == "delete":
            del holder[key]
        elif action == "wrap":
            holder[key] = {draw(st.sampled_from(["$ref", "$call", "$map", "a", "$type"])): holder[key]}
        elif isinstance(holder, dict):
            new = draw(junk)
            holder[new if isinstance(new, str) else "renamed"] = holder.pop(key)
    return document


@settings(max_examples=300)
@given(mutated(), st.booleans())
def test_fuzz(document: Any, resolve: bool) -> None:
    try:
        program = hr.loads(json.dumps(document), trust=HERE, resolve_names=resolve)
    except LoadError as error:
        assert len(str(error)) < 1200  # noqa: PT017
    else:
        assert same(hr.loads(hr.dumps(program), trust=HERE, resolve_names=resolve), program)
        assert hr.digest(program) is not None
        assert repr(program) is not None


@settings(max_examples=100)
@given(st.binary(max_size=60) | st.text(max_size=60), st.integers(0, 10**6))
def test_fuzz_of_characters(junk: Any, at: int) -> None:
    good: Any = TestCorrupt.GOOD if isinstance(junk, str) else TestCorrupt.GOOD.encode()
    at %= len(good)
    try:
        hr.loads(good[:at] + junk + good[at + len(junk) // 2 :], trust=HERE)
    except LoadError as error:
        assert len(str(error)) < 1200  # noqa: PT017
