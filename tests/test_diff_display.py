"""Diffs say exactly what differs; programs read as one would write them and show in notebooks without scripts."""

from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given

import heuretic as hr
import strategies as own
from heuretic.symbolic.diffs import ABSENT
from heuretic.symbolic.values import freeze, same


class TestDiff:
    @given(own.values, own.values)
    def test_is_empty_exactly_for_equal_programs(self, a: Any, b: Any) -> None:
        assert not hr.diff(a, a)
        assert bool(hr.diff(a, b)) == (not same(freeze(a), freeze(b)))
        assert bool(hr.diff(a, b)) == (hr.digest(a) != hr.digest(b))

    @given(own.trees, own.trees)
    def test_applying_what_came_after_gives_the_second(self, a: Any, b: Any) -> None:
        changes = hr.diff(a, b)
        if not any(ABSENT in (c.before, c.after) for c in changes):
            assert hr.replace(a, {c.path: c.after for c in changes}) == b
        for change in changes:
            if change.before is not ABSENT:
                assert hr.get(a, change.path) is change.before

    def test_small_changes_in_big_trees_stay_small(self) -> None:
        a = own.Tree(children=[own.Leaf(i) for i in range(50)], params={"k": own.Leaf()})
        b = hr.replace(a, {"children[7].width": 99, "params.k.flag": True})
        assert [str(c) for c in hr.diff(a, b)] == ["~ children[7].width: 7 -> 99", "~ params.k.flag: False -> True"]

    def test_insertion_and_removal(self) -> None:
        a, b = own.Tree(children=[1, 2, 3]), own.Tree(children=[1, 9, 2, 3])
        assert [str(c) for c in hr.diff(a, b)] == ["+ children[1]: 9"]
        assert [str(c) for c in hr.diff(b, a)] == ["- children[1]: 9"]

    def test_order_of_keys_is_a_difference(self) -> None:
        assert len(hr.diff({"a": 1, "b": 2}, {"b": 2, "a": 1})) == 1
        assert len(hr.diff(hr.sym(own.Made)(1, x=1, y=2), hr.sym(own.Made)(1, y=2, x=1))) == 1

    def test_types_of_numbers_are_a_difference(self) -> None:
        assert [(c.before, c.after) for c in hr.diff(own.Tree(anything=1), own.Tree(anything=True))] == [(1, True)]

    def test_functions_are_shown_by_name(self) -> None:
        changes = hr.diff(own.Tree(anything=own.join), own.Tree(anything=own.stack))
        assert str(changes) == "~ anything: join -> stack"
        assert repr(hr.diff(1, 1)) == "(no difference)"

    def test_lines_are_bounded_and_escaped(self) -> None:
        changes = hr.diff(own.Tree(anything="<b>&" * 10**5), own.Tree(anything="x\n\n" * 10**5))
        assert len(str(changes)) < 400
        assert "\n" not in str(changes)
        assert "<b>" not in changes._repr_html_()
        from rich.console import Console

        console = Console(width=500, file=open("/dev/null", "w"), record=True)  # noqa: SIM115
        console.print(changes)
        assert "~ anything" in console.export_text()


NAMES: dict[str, Any] = {
    **{name: getattr(own, name) for name in ("Leaf", "Tree", "Colour", "join", "stack", "Made")},
    **{name: getattr(hr, name) for name in ("one_of", "number", "some_of", "permutation", "repeat")},
}


class TestText:
    @pytest.mark.parametrize(
        "program",
        [
            own.Leaf(), own.Leaf(3, 0.25, True, "it's", "b"), own.Tree(children=[own.Leaf(2)], colour=own.Colour.BLUE),
            own.Tree(params={"a": (1,), "b": {}}, maker=str, anything=own.join), hr.one_of(1, own.Leaf(), "x"), hr.number(1, 9, step=2),
            hr.some_of([1, 2, 3], 1, 2), hr.permutation([1, 2]), hr.repeat(own.Leaf(hr.number(1, 3)), 1, 4), own.Tree(anything=hr.one_of(1, 2)),
            own.Tree(children=[own.Leaf(i, name="n" * 20) for i in range(9)]), own.Tree(children=[(1,), (), ((2,),)]),
        ],
    )  # fmt: skip
    def test_evaluates_back(self, program: Any) -> None:
        assert eval(repr(program), NAMES) == program
        assert str(program) == repr(program)

    def test_calls_read_as_calls(self) -> None:
        call = hr.sym(own.stack)(1, hr.sym(own.join)(2, second=(3,)), gain=4)
        assert repr(call) == "stack(1, join(first=2, second=(3,)), gain=4)"

    def test_only_equal_defaults_are_left_out(self) -> None:
        class Loose(hr.Symbolic):
            a: Any = 1
            b: Any = (1,)
            c: float = 1
            d: dict[str, Any] = hr.field(default_factory=dict)

        assert repr(Loose()) == "Loose()"
        assert repr(Loose(True, (1.0,), 1.5, {"x": 1})) == "Loose(a=True, b=(1.0,), c=1.5, d={'x': 1})"

    @given(own.trees)
    def test_lines_are_short(self, tree: Any) -> None:
        for line in repr(tree).splitlines():
            assert len(line) <= 100 or len(line.split()) <= 8  # a single long leaf cannot be broken

    def test_long_programs_take_several_lines(self) -> None:
        shown = repr(
            own.Tree(children=[own.Tree(children=[own.Leaf(i, name="abcdef") for i in range(8)]) for _ in range(3)])
        )
        lines = shown.splitlines()
        assert max(map(len, lines)) <= 100
        assert 10 < len(lines) < 60


class Seen(HTMLParser):
    """Collects tags and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.depth = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.update(name for name, _ in attrs)
        self.depth += 1

    def handle_endtag(self, tag: str) -> None:
        self.depth -= 1

    def handle_data(self, data: str) -> None:
        self.text += data


class TestHtml:
    def test_folds_without_scripts(self) -> None:
        seen = Seen(own.Tree(children=[own.Leaf(2)], params={"a": 1})._repr_html_())
        assert "details" in seen.tags
        assert "summary" in seen.tags
        assert set(seen.tags) <= {"style", "div", "details", "summary", "b", "i", "u"}
        assert seen.attributes <= {"class", "open"}
        assert seen.depth == 0

    @pytest.mark.parametrize(
        "hostile", ["<script>alert(1)</script>", "</details><img src=x onerror=y>", "'\"&<>", "<style>"]
    )
    def test_text_is_escaped(self, hostile: str) -> None:
        tree = own.Tree(
            anything=hostile,
            params={hostile: hostile},
            children=[hr.sym(own.Made)(hostile, **{hostile.replace("$", ""): 1})],
        )
        seen = Seen(tree._repr_html_())
        assert set(seen.tags) <= {"style", "div", "details", "summary", "b", "i", "u"}
        assert seen.attributes <= {"class", "open"}
        assert seen.text.count(repr(hostile)) >= 2

    @given(own.trees)
    def test_any_tree_is_well_formed(self, tree: Any) -> None:
        assert Seen(tree._repr_html_()).depth == 0
