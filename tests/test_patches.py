"""Patches on programs: which rule is used, in what order, what is reported, and how patches are written as text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path as FilePath
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import heuretic as hr
import strategies as own
from heuretic.symbolic import Chain, Change, InvalidField, PatchError, Path, patch_at, patch_name


class Layer(hr.Symbolic):
    size: int = 1


class Conv(Layer):
    kernel: int = 3


class Separable(Conv):
    pass


class Norm(hr.Symbolic):
    kind: str = "batch"


class Net(hr.Symbolic):
    layers: tuple[Layer | Norm | Net, ...] = ()
    head: Layer = Layer()
    extra: Any = None


class Wider(hr.Patch):
    """Add to the size of layers."""

    by: int = hr.field(default=1, ge=1)

    @hr.rule
    def layer(self, node: Layer) -> Layer:
        return hr.replace(node, size=node.size + self.by)


class Kinds(hr.Patch):
    """One rule per level of the class tree."""

    @hr.rule
    def any_layer(self, node: Layer) -> Layer:
        return hr.replace(node, size=100)

    @hr.rule
    def conv(self, node: Conv) -> Conv:
        return hr.replace(node, size=200)


class Merged(hr.Patch):
    @hr.rule
    def both(self, node: Norm | Conv, path: Path) -> Any:
        return Layer(len(path))


class Everything(hr.Patch):
    text: str = ""
    number: float = 1.0
    count: int = 0
    flag: bool = False
    mode: Literal["a", "b"] = "a"
    maybe: int | None = 3
    items: tuple[Any, ...] = ()
    table: dict[str, Any] = hr.field(default_factory=dict)
    anything: Any = None
    mixed: int | str = 0


class Needs(hr.Patch):
    what: Any


class Described(hr.Patch):
    name: str = ""  # type: ignore

    @hr.rule
    def norm(self, node: Norm) -> Norm:
        return Norm(self.name)


NET = Net([Conv(1), Norm(), Net([Separable(2)])], extra=[Layer(7), {"k": Conv(8)}])


def sizes(tree: Any) -> list[int]:
    return [layer.size for _, layer in hr.find(tree, Layer)]


class TestDispatch:
    def test_most_derived_class_wins(self) -> None:
        assert sizes(hr.apply(NET, Kinds())) == [200, 200, 100, 100, 100, 200]

    def test_unions_and_paths(self) -> None:
        assert hr.apply(NET, Merged()).layers == (Layer(2), Layer(2), Net([Layer(4)]))

    def test_children_come_first_and_results_are_not_visited_again(self) -> None:
        seen: list[str] = []

        def wrap(node: Layer | Net, path: Path) -> Any:
            seen.append(str(path))
            return Net([node]) if isinstance(node, Layer) and path[-2:-1] == ("layers",) else node

        wrapped = hr.apply(NET, wrap)
        assert seen == [
            "layers[0]",
            "layers[2].layers[0]",
            "layers[2].head",
            "layers[2]",
            "head",
            "extra[0]",
            "extra[1].k",
            "",
        ]
        assert wrapped.layers[0] == Net([Conv(1)])

    def test_calls_of_classes_match_by_what_they_make(self) -> None:
        def made(node: own.Made) -> Any:
            return hr.replace(node, {"size": 9})

        assert hr.apply([hr.sym(own.Made)(1), hr.sym(own.join)(2)], made) == (hr.sym(own.Made)(9), hr.sym(own.join)(2))

    def test_by_name_for_packages_that_are_not_installed(self) -> None:
        class ByName(hr.Patch):
            @hr.rule(on=f"{__name__}:Norm")
            def norm(self, node: Any) -> Any:
                return Norm("layer")

        assert hr.find(hr.apply(NET, ByName()), Norm) == [(Path(("layers", 1)), Norm("layer"))]

    def test_inherited_and_overridden_rules(self) -> None:
        class Much(Wider):
            def layer(self, node: Layer) -> Layer:
                return hr.replace(node, size=node.size * 10)

        class More(Wider):
            @hr.rule
            def norm(self, node: Norm) -> Norm:
                return Norm("x")

        assert sizes(hr.apply(NET, Much())) == [10, 20, 10, 10, 70, 80]
        assert hr.apply(NET, More(by=2)) == hr.apply(hr.apply(NET, Wider(2)), as_x)

    def test_untouched_parts_are_shared(self) -> None:
        def norms(node: Norm) -> Norm:
            return Norm("x")

        patched = hr.apply(NET, norms)
        assert patched.extra is NET.extra
        assert patched.layers[2] is NET.layers[2]

    @given(own.trees)
    def test_identity_rule_changes_nothing(self, tree: Any) -> None:
        def same(node: hr.Symbolic) -> Any:
            return node

        assert hr.apply(tree, same, allow_empty=True) is tree


def as_x(node: Norm) -> Norm:
    return Norm("x")


class TestApply:
    def test_order(self) -> None:
        double = Wider(2) | Kinds()
        assert double == Chain((Wider(2), Kinds()))
        assert (double | Wider(1)).patches == (Wider(2), Kinds(), Wider(1))  # type: ignore
        assert (
            hr.apply(NET, Wider(2) | Kinds())
            == hr.apply(hr.apply(NET, Wider(2)), Kinds())
            == hr.apply(NET, Wider(2), Kinds())
        )
        assert hr.apply(NET, Kinds() | Wider(2)) != hr.apply(NET, Wider(2) | Kinds())
        assert hr.apply(NET) is NET

    def test_changes_are_reported(self) -> None:
        changes: list[Change] = []
        hr.apply(Net(head=Conv(4)), Wider(3), changes=changes)
        assert [(str(c.path), c.before, c.after) for c in changes] == [("head", Conv(4), Conv(7))]
        with pytest.raises(PatchError):
            hr.apply(Net(head=Conv(4)), Wider(3), as_x, changes=changes)
        assert len(changes) == 1

    def test_no_change_is_an_error(self) -> None:
        for tree in (Norm(), (), {"a": 1}):
            with pytest.raises(
                PatchError, match=r"wider changed nothing in .* nodes seen\); it looks for Layer.*allow_empty"
            ):
                hr.apply(tree, Wider())
            assert hr.apply(tree, Wider(), allow_empty=True) == tree

        class Nothing(hr.Patch):
            pass

        with pytest.raises(PatchError, match="has no rules"):
            hr.apply(NET, Nothing())

        def keeps(node: Layer) -> Layer:
            return hr.replace(node, size=node.size)

        with pytest.raises(PatchError, match="keeps changed nothing"):
            hr.apply(NET, keeps)

    def test_rules_that_are_wrong(self) -> None:
        def forgets(node: Layer) -> Any:
            hr.replace(node, size=2)

        def returns_junk(node: Norm) -> Any:
            return object()

        def wrong_type(node: Norm) -> Any:
            return 3

        def untyped(node) -> Any:  # type: ignore
            return node

        def takes_nothing() -> Any: ...

        with pytest.raises(PatchError, match=r"forgets must return a node .* got None at layers\[0\]"):
            hr.apply(NET, forgets)
        with pytest.raises(InvalidField):
            hr.apply(NET, returns_junk)
        with pytest.raises(InvalidField, match=r"^layers\[1\]: expected .*, got 3"):
            hr.apply(NET, wrong_type)
        with pytest.raises(PatchError, match="must annotate 'node'"):
            hr.apply(NET, untyped)
        with pytest.raises(PatchError, match="must take a node"):
            hr.apply(NET, takes_nothing)
        for junk in (3, Wider, None, "", object()):
            with pytest.raises(PatchError):
                hr.apply(NET, junk)  # type: ignore
        with pytest.raises(PatchError, match="apply needs a program"):
            hr.apply(3, Wider())

    def test_parameters_are_checked(self) -> None:
        with pytest.raises(InvalidField, match="by: expected a number >= 1, got 0"):
            Wider(0)
        with pytest.raises(InvalidField, match="by: expected int"):
            Wider("1")  # type: ignore

    def test_inside_open_choices(self) -> None:
        open_net = Net(head=hr.one_of(Conv(1), Layer(5)), extra=hr.repeat(Conv(2), 1, 3))
        patched = hr.apply(open_net, Wider(10))
        assert patched == Net(head=hr.one_of(Conv(11), Layer(15)), extra=hr.repeat(Conv(12), 1, 3))
        assert hr.Space(patched).size == hr.Space(open_net).size == 6

    def test_candidates_that_become_alike(self) -> None:
        def flat(node: Layer) -> Layer:
            return Layer(1)

        assert hr.apply(Net(head=hr.one_of(Conv(1), Conv(2))), flat).head == hr.one_of(Layer(1))
        with pytest.raises(PatchError, match=r"at extra is refused: some_of must have different"):
            hr.apply(Net(extra=hr.some_of([Conv(1), Conv(2)], 1)), flat)

    def test_patches_can_be_left_open(self) -> None:
        space = hr.Space(Wider(hr.number(1, 3)))
        assert sizes(hr.apply(Layer(), space.decode((3,)))) == [4]
        assert hr.loads(hr.dumps(space.program), trust=[__name__]) == space.program


class TestAddresses:
    @given(
        st.builds(
            Everything,
            text=own.texts
            | st.sampled_from(
                ["a&b=c?d%20 e", "1", "true", "null", "[1]", '"q"', "NaN", " | ", "ü", " x ", "\n", "1e5", "{", "+"]
            ),
            number=own.floats,
            count=own.ints,
            flag=st.booleans(),
            mode=st.sampled_from(["a", "b"]),
            maybe=st.none() | own.ints,
            items=st.lists(own.ints | own.texts | own.floats | st.none() | st.booleans(), max_size=3).map(tuple),
            table=st.dictionaries(own.keys, own.texts | st.lists(own.ints, max_size=2), max_size=2),
            anything=own.texts | own.ints | own.floats | st.booleans() | st.none() | st.lists(own.texts, max_size=2),
            mixed=own.ints | own.texts,
        )
    )
    def test_round_trip(self, patch: Everything) -> None:
        assert patch.address.isprintable()
        assert patch_at(patch.address) == patch
        assert patch_at((patch | Wider(3)).address) == patch | Wider(3)

    def test_spelling(self) -> None:
        assert Wider(7).address == f"{__name__}:Wider?by=7"
        assert Wider().address == f"{__name__}:Wider"
        assert patch_name(Wider) == "wider"
        assert Everything(text="a b&c").address == f"{__name__}:Everything?text=a%20b%26c"
        assert patch_at(f' {__name__}:Everything?text=5&mixed=5&anything=True&items=[1,"x"] ') == Everything(
            text="5", mixed=5, anything="True", items=(1, "x")
        )
        assert patch_at(f"{__name__}:Wider") == Wider()
        assert sizes(hr.apply(Layer(), f"{__name__}:Wider?by=2 | {__name__}:Wider?by=3")) == [6]
        assert Described("x").address == f"{__name__}:Described?name=x"

    def test_published_patches_are_called_by_name(self) -> None:
        lion = pytest.importorskip("heuretic.ideas.primer").IDEA.patch
        address = lion().address
        assert ":" not in address
        assert patch_at(address) == lion()

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ("?size=1", r"no parameter 'size'.*it has by=1"), ("?by=1&by=2", "must be given once"), ("?by=x", "by must be int, got 'x'"),
            ("?by=0", "a number >= 1"), ("?by", r"by must have a value"), ("?by=1.5", "must be int"), ("?by=", "must be int"), ("?by=true", "must be int"),
            ("?&", "no parameter ''"), ("?by=" + "[" * 10**5, "must be int"), ("?by=" + "9" * 10**4, "must be int"), ("?" + "x" * 10**5 + "=1", "no parameter"),
        ],
    )  # fmt: skip
    def test_wrong_parameters(self, query: str, message: str) -> None:
        with pytest.raises(PatchError, match=message) as caught:
            patch_at(f"{__name__}:Wider{query}")
        assert len(str(caught.value)) < 700

    @pytest.mark.parametrize(
        "address",
        [
            "",
            "?",
            "nonsense",
            "primmer",
            ":",
            "nowhere:X",
            f"{__name__}:",
            f"{__name__}:Nope",
            f"{__name__}:Layer",
            f"{__name__}:NET",
            "os:system",
            ".:x",
            "a b:c",
        ],
    )
    def test_wrong_names(self, address: str) -> None:
        with pytest.raises(PatchError):
            patch_at(address)

    def test_missing_parameter(self) -> None:
        with pytest.raises(PatchError, match="what"):
            patch_at(f"{__name__}:Needs")

    def test_what_has_no_text_form(self) -> None:
        for value in (hr.one_of(1, 2), int, own.Colour.RED, [hr.sym(own.join)(1)]):
            with pytest.raises(PatchError, match=r"needs: what=.* cannot be written in an address"):
                _ = Needs(value).address

    def test_patches_of_a_script(self, tmp_path: FilePath) -> None:
        script = tmp_path / "patch_script.py"
        script.write_text(
            "import heuretic as hr\nfrom heuretic.symbolic import patch_at\nclass P(hr.Patch):\n    x: int = 1\n"
            "if __name__ == '__main__':\n    assert patch_at(P(2).address) == P(2)\n    print(P(2).address)\n"
        )
        done = subprocess.run([sys.executable, script], capture_output=True, text=True)
        assert done.stdout == "patch_script:P?x=2\n", done.stderr
