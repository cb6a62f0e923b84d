"""Paths: how places are written. Replace: how they are changed."""

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import heuretic as hr
import strategies as own
from heuretic.symbolic import FrozenDict, InvalidField, Path, PathError
from heuretic.symbolic.paths import as_path
from heuretic.symbolic.values import freeze, same

path_keys = st.lists(own.keys | st.integers(-(10**6), 10**6), max_size=5).map(tuple)


class Leaf(hr.Symbolic):
    x: int = 1
    y: Any = None

    @property
    def twice(self) -> Any:
        return self.y


class Node(hr.Symbolic):
    left: Leaf = Leaf()
    right: Leaf = Leaf()
    many: tuple[Leaf, ...] = ()
    params: dict[str, Any] = hr.field(default_factory=dict)


TREE = Node(many=[Leaf(1), Leaf(2), Leaf(3)], params={"items": {"x": 1}, "a b": 2, "get": [5]})


class TestPaths:
    @given(path_keys)
    def test_round_trip(self, keys: Any) -> None:
        assert as_path(str(Path(keys))) == keys

    @pytest.mark.parametrize(
        "key", ["a·", "x²", "ª", "_", "٣", "1a", "class", "\ud800", "\x00", "a.b", "[0]", "", '"', "\\"]
    )
    def test_unusual_keys(self, key: str) -> None:
        for keys in ((key,), ("a", key, 0), (key, key)):
            assert as_path(str(Path(keys))) == keys

    @pytest.mark.parametrize(
        ("text", "keys"),
        [
            ("", ()), ("a", ("a",)), ("a.b[2].c", ("a", "b", 2, "c")), ("[0][-1]", (0, -1)), ('["a b"].c', ("a b", "c")),
            ('a["x\\"]"][3]', ("a", 'x"]', 3)), ('[""]', ("",)), ("größe", ("größe",)), ('["0"]', ("0",)),
        ],
    )  # fmt: skip
    def test_grammar(self, text: str, keys: Any) -> None:
        assert as_path(text) == keys
        assert str(Path(keys)) == text or text == '["0"]'

    @pytest.mark.parametrize(
        "text",
        [
            ".a",
            "a.",
            "a..b",
            "a b",
            "[",
            "[x]",
            "a.[0]",
            "a[0]b",
            "[1.5]",
            '["a]',
            "['a']",
            '["\\x"]',
            '["\n"]',
            "a[9" + "9" * 5000 + "]",
            "1a",
        ],
    )
    def test_unreadable(self, text: str) -> None:
        with pytest.raises(PathError) as caught:
            as_path(text)
        assert len(str(caught.value)) < 300

    def test_get(self) -> None:
        assert hr.get(TREE, "many[-1].x") == 3
        assert hr.get(TREE, 'params["a b"]') == 2
        assert hr.get(TREE, "params.items.x") == 1
        assert hr.get(TREE, "") is TREE
        assert hr.get([1, {"a": 2}], "[1].a") == 2

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("many[3]", r"no '\[3\]' at 'many' in a tuple of 3; it has 3 positions"),
            ("many[0].z", r"no 'z' at 'many\[0\]' in a Leaf; it has x, y"),
            ("lefft.x", "no 'lefft' in a Node; did you mean 'left'"),
            ("left.x.y", r"no 'y' at 'left.x' in 1 \(int\); it has no parts"),
            ("params.item", "no 'item' at 'params' in a FrozenDict of 3; did you mean 'items'"),
            ("params[0]", "at 'params'"), ("left[0]", "at 'left'"), ("many.x", "at 'many'"), ("left.twice", "no 'twice'"),
            ("left.__class__", "__class__"), ("params.keys", "at 'params'"),
        ],
    )  # fmt: skip
    def test_errors_name_the_longest_valid_prefix(self, path: str, message: str) -> None:
        with pytest.raises(PathError, match=message):
            hr.get(TREE, path)
        with pytest.raises(PathError, match=message):
            hr.replace(TREE, {path: 1})
        with pytest.raises(PathError, match=message):
            hr.replace(TREE, {path: 1, "right.x": 2})

    def test_errors_are_short(self) -> None:
        big = freeze({f"k{i}" * 1000: 1 for i in range(50)})
        for path in (("x" * 10**5,), ("k0" * 1000, "y"), tuple("a" for _ in range(10**4))):
            with pytest.raises(PathError) as caught:
                hr.get(big, path)
            assert len(str(caught.value)) < 900

    def test_calls_suggest_parameters_that_were_not_given(self) -> None:
        with pytest.raises(PathError, match="did you mean 'scale'"):
            hr.get(hr.sym(own.join)(1), "scael")

    @given(own.trees)
    def test_walk_and_get_agree(self, tree: Any) -> None:
        seen = list(hr.walk(tree))
        assert len({path for path, _ in seen}) == len(seen)
        for path, value in seen:
            assert hr.get(tree, path) is value
            assert hr.get(tree, str(path)) is value

    @given(own.trees)
    def test_find_is_a_filtered_walk(self, tree: Any) -> None:
        for cls in (own.Leaf, int, str, bool, (own.Tree, own.Leaf), own.Colour, tuple):
            assert hr.find(tree, cls) == [
                (p, v)
                for p, v in hr.walk(tree)
                if isinstance(v, cls) or (isinstance(v, hr.symbolic.Call) and own.Made is cls)
            ]
        made = [v for _, v in hr.find(tree, own.Made)]
        assert made == [v for _, v in hr.walk(tree) if isinstance(v, hr.symbolic.Call) and v.__target__ is own.Made]


class TestReplace:
    def test_many_at_once(self) -> None:
        new = hr.replace(TREE, {"many[0].x": 7, "many[-1].x": 9, "params.items.x": 5, "left": Leaf(4)})
        assert new == Node(Leaf(4), Leaf(), [Leaf(7), Leaf(2), Leaf(9)], {"items": {"x": 5}, "a b": 2, "get": [5]})
        assert new.right is TREE.right
        assert new.many[1] is TREE.many[1]

    def test_mapping_keys_named_like_methods(self) -> None:
        assert hr.replace(TREE, {"params.items.x": 5}).params["items"] == {"x": 5}
        assert hr.replace(TREE, {"params.get[0]": 6}).params["get"] == (6,)

    def test_sharing(self) -> None:
        new = hr.replace(TREE, {"left.x": 5})
        assert new.many is TREE.many
        assert new.params is TREE.params
        assert hr.replace(TREE, {}) is TREE
        assert hr.replace(TREE) is TREE

    def test_keywords(self) -> None:
        assert hr.replace(Leaf(1, 2), x=5, y=6) == Leaf(5, 6)
        with pytest.raises(ValueError, match="twice"):
            hr.replace(Leaf(), {"x": 1}, x=2)

    def test_nothing_happens_after_an_error(self) -> None:
        digest = hr.digest(TREE)
        for changes in (
            {"left.x": 5, "right.x": "bad"},
            {"left.x": "bad"},
            {"right.x": 1, "nowhere": 2},
            {"many[0].x": 2, "many[7]": 1},
        ):
            with pytest.raises((InvalidField, PathError)):
                hr.replace(TREE, changes)
            assert hr.digest(TREE) == digest

    @pytest.mark.parametrize(
        "changes",
        [
            {"left": Leaf(2), "left.x": 3}, {"left.x": 3, "left": Leaf(2)}, {"many": (), "many[0].x": 1}, {"": TREE, "left.x": 1},
            {"left.x": 1, ("left", "x"): 2}, {"many[0].x": 1, "many[-3].y": 2}, {"many[0]": Leaf(), "many[-3]": Leaf(5)}, {"left.y": None, "left.y.z": 1},
        ],
    )  # fmt: skip
    def test_overlapping_places_are_refused(self, changes: Any) -> None:
        with pytest.raises(ValueError, match=r"replaced|together"):
            hr.replace(TREE, changes)

    def test_roots_of_every_kind(self) -> None:
        assert hr.replace([1, 2, [3]], {"[2][0]": 4}) == (1, 2, (4,))  # type: ignore
        assert hr.replace({"a": {"b": 1}}, {"a.b": [2]}) == {"a": {"b": (2,)}}
        assert hr.replace((1, 2), {"[-1]": [5]}) == (1, (5,))
        assert hr.replace(TREE, {"": Leaf()}) == Leaf()
        for scalar in (1, "abc", None):
            with pytest.raises(TypeError, match="replace needs a program"):
                hr.replace(scalar, {"[0]": 1})

    def test_keys_are_not_added_by_mistake(self) -> None:
        for changes in ({"params.itens": 1}, {("params", 0): 1}, {"params.new": 1, "left.x": 2}):
            with pytest.raises(PathError, match="at 'params'"):
                hr.replace(TREE, changes)

    def test_properties_and_methods_are_no_places(self) -> None:
        tree = Node(left=Leaf(y=Leaf()))
        for path in ("left.twice", "left.twice.x", "left.__class__", "params.keys", "left.x.real", "params.items.keys"):
            with pytest.raises(PathError):
                hr.replace(tree, {path: 1})

    def test_values_are_checked_by_the_field_around_a_choice(self) -> None:
        tree = Node(left=Leaf(hr.one_of(1, 2)), many=[Leaf(hr.one_of(1, 3))])
        assert hr.replace(tree, {"left.x.candidates[0]": 5}).left.x == hr.one_of(5, 2)
        for path in ("left.x.candidates[0]", "many[0].x.candidates[1]"):
            with pytest.raises(InvalidField, match="expected int"):
                hr.replace(tree, {path: "bad"})
            with pytest.raises(InvalidField, match="expected int"):
                hr.replace(tree, {path: "bad", "right.x": 1})
        assert hr.replace(tree, {"left.x.candidates[0]": 2}).left.x == hr.one_of(2)  # alike now, so one remains
        for path in ("left.x.nothing", "left.x.candidates[2]"):
            with pytest.raises(PathError):
                hr.replace(tree, {path: 2})
        for wrong in ("ab", 3, ()):
            with pytest.raises(ValueError, match=r"expected|at least one"):
                hr.replace(tree, {"left.x.candidates": wrong})

    def test_a_message_that_reads_like_a_missing_field(self) -> None:
        class Rule(hr.Symbolic):
            text: str = hr.field(default="a", regex="a field of gold|a parameter|a")

        with pytest.raises(InvalidField, match="expected a string"):
            hr.replace(Node(left=Leaf(y=Rule())), {"left.y.text": "z"})

    @given(own.trees, own.values, st.data())
    def test_replace_then_get_and_back(self, tree: Any, value: Any, data: Any) -> None:
        free = [(p, v) for p, v in hr.walk(tree) if p and self.takes_anything(tree, p)]
        assume(free)
        path, old = data.draw(st.sampled_from(free))
        new = hr.replace(tree, {path: value})
        assert same(hr.get(new, path), freeze(value))
        assert (new == tree) == same(freeze(value), old)
        back = hr.replace(new, {str(path): old})
        assert back == tree
        assert hr.digest(back) == hr.digest(tree)
        rebuilt = self.rebuilt(new)
        assert rebuilt == new
        assert hr.digest(rebuilt) == hr.digest(new)

    @staticmethod
    def takes_anything(tree: Any, path: Any) -> bool:
        typed = {
            "width",
            "rate",
            "flag",
            "name",
            "mode",
            "colour",
            "maybe",
            "either",
            "fixed",
            "maker",
            "children",
            "params",
        }
        parent, key = hr.get(tree, path[:-1]), path[-1]
        if isinstance(parent, own.Leaf) or (isinstance(parent, own.Tree) and key in typed):
            return False
        return not (len(path) > 1 and path[-2] == "fixed" and isinstance(hr.get(tree, path[:-2]), own.Tree))

    def rebuilt(self, value: Any) -> Any:
        """Make everything anew through constructors."""
        if isinstance(value, hr.symbolic.Call):
            rest = [self.rebuilt(v) for k, v in value.__items__() if isinstance(k, int)]
            return hr.sym(value.__target__)(
                *rest, **{k: self.rebuilt(v) for k, v in value.__items__() if isinstance(k, str)}
            )
        if isinstance(value, hr.Symbolic):
            return type(value)(**{k: self.rebuilt(v) for k, v in value.__items__()})
        if isinstance(value, tuple):
            return [self.rebuilt(v) for v in value]
        if isinstance(value, FrozenDict):
            return {k: self.rebuilt(v) for k, v in value.items()}
        return value
