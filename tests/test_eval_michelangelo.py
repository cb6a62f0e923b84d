"""Latent list, MRCR, IDK: what is generated, what it scores, and how scores go with the length of the context."""

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from difflib import SequenceMatcher
from itertools import islice
from random import Random
from typing import Any

import numpy as np
import pytest
from inspect_ai.model import ModelOutput, ModelUsage

from heuretic.evals import Evaluation
from heuretic.evals.addresses import EVALUATIONS
from heuretic.evals.michelangelo import IDK, MRCR, LatentList
from heuretic.evals.michelangelo.idk import NOT_TOLD, choice_of, idk_score
from heuretic.evals.michelangelo.latent_list import (
    ListAnswer,
    latent_list_score,
    literal,
    read_list,
    read_number,
    statements,
)
from heuretic.evals.michelangelo.length_curve import (
    STACK,
    as_text,
    cumulative_average,
    drawing,
    figure,
    length_curve,
    length_name,
    stack_weights,
    weighted_mean,
)
from heuretic.evals.michelangelo.list_programs import (
    FILLERS,
    INITIAL,
    KINDS,
    Operation,
    Program,
    View,
    changed,
    filler,
    program,
    relevant,
)
from heuretic.evals.michelangelo.long_context import fitted
from heuretic.evals.michelangelo.mrcr import (
    LONGEST,
    AfterMark,
    after_mark,
    mrcr_score,
    openai_mrcr_score,
    ordinal,
    similarity,
)
from heuretic.evals.michelangelo.writings import FORMATS, writing
from heuretic.evals.running import evaluate
from heuretic.ideas import michelangelo, reasoning
from heuretic.lm import Question
from heuretic.lm.strategies.prompting import asked
from scripted import scripted

TASKS: tuple[Evaluation, ...] = (LatentList(lengths=(2048,)), MRCR(lengths=(2048,)), IDK(lengths=(2048,)))


def oracle(lines: list[str], view: str) -> str:
    """Return what Python itself shows after statements on a list; these are made here, so running them is safe."""
    shown: list[str] = []
    scope: dict[str, Any] = {"a": list(INITIAL), "print": lambda value: shown.append(str(value))}
    for line in lines:
        exec(line, scope)
    value = eval(view, scope)
    return shown[-1] if view.startswith("print") else str(value)


def listed(text: str) -> tuple[list[str], str]:
    """Return the statements of the last example of a prompt, and its view."""
    example = text.rpartition(f"a = {list(INITIAL)}\n")[2]
    lines = [line.removeprefix(">> ") for line in example.splitlines() if line.startswith(">> ")]
    return lines[:-1], lines[-1]


# -- latent list ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("complexity", [1, 5, 20])
def test_every_operation_of_a_program_changes_the_answer(complexity, kind):
    for seed in range(12):
        made = program(complexity, kind, Random(seed))
        lines = [str(each) for each in made.operations]
        assert len(lines) == complexity
        assert oracle(lines, str(made.view)) == made.answer
        for left_out in range(complexity):
            assert oracle(lines[:left_out] + lines[left_out + 1 :], str(made.view)) != made.answer
        assert all(abs(n) <= 4000 for each in made.operations for n in each.arguments)
        assert relevant(made)


def test_an_operation_that_changes_nothing_is_noticed():
    view = View("max", 0, 6)
    assert relevant(Program((Operation("pop", (5,)),), view, "5"))
    assert not relevant(Program((Operation("pop", (5,)), Operation("reverse")), view, "5"))
    assert not relevant(Program((Operation("append", (9,)), Operation("remove", (9,))), View("len"), "6"))


def test_operations_are_those_of_python():
    for seed in range(300):
        rng = Random(seed)
        items = [rng.randint(-9, 9) for _ in range(rng.randint(0, 5))]
        name = rng.choice(("append", "insert", "pop", "remove", "sort", "reverse"))
        given = {"append": (rng.randint(-9, 9),), "insert": (rng.randint(0, 9), 7), "pop": (rng.randint(0, 6),),
                 "remove": (rng.randint(-9, 9),)}.get(name, ())  # fmt: skip
        expected: list[int] | None = items.copy()
        try:
            getattr(expected, name)(*given)
        except (IndexError, ValueError):
            expected = None
        before = items.copy()
        assert changed(items, Operation(name, given)) == expected
        assert items == before


@pytest.mark.parametrize(
    ("complexity", "kind", "error"), [(0, "sum", "must be >= 1, got 0"), (400, "min", "must be possible, got 400")]
)
def test_complexity_is_checked(complexity, kind, error, monkeypatch):
    monkeypatch.setattr("heuretic.evals.michelangelo.list_programs._RESTARTS", 1)
    with pytest.raises(ValueError, match=error):
        program(complexity, kind, Random(0))


def test_filler_leaves_the_list_as_it_is_in_equal_parts():
    items, used = [3, -7, 3, 12, 0], Counter[str]()
    for run in islice(filler(items, Random(4)), 3000):
        scope: dict[str, Any] = {"a": items.copy(), "print": lambda value: None}
        for line in run:
            exec(line, scope)
        assert scope["a"] == items
        kind = "print" if run[0].startswith("print") else "reverse" if set(run) == {"a.reverse()"} else "cancel"
        used[kind] += sum(map(len, run)) + len(run)
        if kind == "reverse":
            assert len(run) % 2 == 0
    shares = [used[kind] / sum(used.values()) for kind in FILLERS]
    assert np.allclose(shares, 1 / 3, atol=0.01)


def test_relevant_operations_stand_evenly_in_the_context():
    made = Program(tuple(Operation("append", (90_000 + k,)) for k in range(20)), View("len"), "26")
    for seed in range(5):
        rng = Random(seed)
        lines = list(statements(made, 40_000, [(k + rng.random()) / 20 for k in range(20)], rng))
        ends = np.cumsum([len(line) for line in lines])
        places = [ends[lines.index(f"a.append({90_000 + k})")] / ends[-1] for k in range(20)]
        assert all(k / 20 - 0.01 <= place <= (k + 1) / 20 + 0.01 for k, place in enumerate(places))
        assert oracle(lines, "len(a)") == "26"


@pytest.mark.parametrize("tokens", [1024, 4096, 40_000])
def test_latent_lists_have_the_answer_that_python_gives(tokens):
    for question in LatentList(lengths=(tokens,), each=30).load():
        lines, view = listed(question.text)
        assert oracle(lines, view) == question.target
        assert view.startswith(question.about["view"])
        assert 0.97 * tokens <= question.about["tokens"] <= tokens


def test_problem_is_the_same_at_every_length():
    evaluation = LatentList(lengths=(1024, 30_000), each=15)
    pairs: dict[str, list[Question]] = {}
    for question in evaluation.load():
        pairs.setdefault(question.about["problem"], []).append(question)
    for short, long in pairs.values():
        assert (short.target, listed(short.text)[1]) == (long.target, listed(long.text)[1])
        assert len(long.text) > 20 * len(short.text)
    shares = Counter((q.about["complexity"], q.about["view"]) for q, _ in pairs.values())
    assert set(shares.values()) == {1}
    assert len(shares) == 15


@pytest.mark.parametrize(
    ("answer", "target", "view", "score"),
    [
        ("[1, 2]", "[1, 2]", "print", 1), ("[1,2]", "[1, 2]", "print", 0), ("[2, 1]", "[1, 2]", "print", 0),
        ([1, 2], "[1, 2]", "print", 1),
        (10, "10", "sum", 1), (9, "10", "sum", 0.9), (11, "10", "max", 0.9), (-10, "10", "min", 0), (25, "10", "sum", 0),
        (-8, "-10", "min", 0.8), (0, "0", "sum", 1), (1, "0", "sum", 0), (-1, "0", "sum", 0), (0, "7", "len", 0),
        ("10", "10", "sum", 0), (10.0, "10", "sum", 0), (None, "10", "sum", 0), ([10], "10", "sum", 0),
        (True, "1", "len", 1), (False, "0", "sum", 1), (True, "2", "len", 0.5), (10**400, "10", "sum", 0),
        (float("nan"), "10", "sum", 0),
    ],
)  # fmt: skip
def test_latent_list_score(answer, target, view, score):
    assert latent_list_score(answer, target, view) == pytest.approx(score, abs=1e-9)


def test_latent_list_score_checks_the_view():
    with pytest.raises(ValueError, match="view must be one of print, sum, min, max, len, got 'mean'"):
        latent_list_score(1, "1", "mean")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", "5"), ("-12\n", "-12"), ("Output: 7", "7"), ("The answer is 7.", "7"), ("**Output:** `-3`", "-3"), ("5.0", "5"), ("2.5", "2.5"),
        ("1,234", "1234"), ("−40", "-40"), ("sum(a[1:3]) = 2 + 3 = 5", "5"), ("Output: 2 + 3 = 5", "5"), ("True", None), ("", None), ("none", None),
        ("5\n===================\nExample 4:\n>> a = [1]\nOutput: 9", "5"), ("a is [1, 2, 3]. min(a[0:2]) is 1", "1"),
        ("a.insert(2, 5) ... so a[2] is 9\nOutput: 14", "14"), ("\\boxed{42}", "42"), ("7\n>> a.pop(3)", "7"),
        ("6.\n\nExplanation: the list has 3 elements", "6"), ("6 (from a[1:4])", "6"), ("Output: 6 (a[1:3] = [2, 4])", "6"), ("-6, as a is [1, 2]", "-6"),
        ("6. The list has 3 elements.", "6"), ("1. Begin with [1, 2].\n2. Add 3, so that the sum is 6", "6"), ("2 + 3 = 5", "5"), ("1, 2, 3", "3"), ("2.5.", "2.5"), ("```python\n7\n```\nHere a is [1, 2].", "7"),
    ],
)  # fmt: skip
def test_numbers_are_found_in_replies(text, number):
    assert read_number(text) == number


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[1, -2]", "[1, -2]"), ("[1,-2]", "[1, -2]"), ("Output: [3]", "[3]"), ("[]", "[]"), ("The slice a[1:3] is [4, 5].", "[4, 5]"),
        ("a = [1, 2, 3]\nOutput: [2, 3]", "[2, 3]"), ("[5]\n=======\nExample 4\n[6]", "[5]"), ("[a, b]", None), ("1, 2", None), ("a[1]", None),
        ("first [1, 2], then [2]", "[2]"), ("[1.5]", None), ("[2, 3]\nas a was [1, 2, 3]", "[2, 3]"),
        ("[1, 2].\nThe list was [1, 2, 3].", "[1, 2]"), ("[1, 2] (from [1, 2, 3])", "[1, 2]"), ("[1, 2, 3] becomes [2, 3]", "[2, 3]"),
    ],
)  # fmt: skip
def test_lists_are_found_in_replies(text, found):
    assert read_list(text) == found


@pytest.mark.parametrize(
    "text",
    ["\n", " ", "the ", "the final ", "answer ", "not ", "without a ", "(A) ", "[1, ", "1,", "Output:", "[", "("],
)
def test_long_replies_are_read_in_linear_time(text):
    def seconds(count: int) -> float:
        began = time.process_time()
        for read in (read_number, read_list):
            read(text * count)
        choice_of(text * count, CITIES)
        return time.process_time() - began

    assert seconds(20_000) < 0.5


@pytest.mark.parametrize(
    ("text", "value"),
    [("7", 7), (" -7 ", -7), ("True", True), ("False", False), ("7.0", 7.0), ("1e3", 1000.0), ("x", "x"), ("1_0", "1_0"),
     ("9" * 5000, "9" * 5000), ("", "")],
)  # fmt: skip
def test_literals(text, value):
    found = literal(text)
    assert found == value
    assert type(found) is type(value)


def test_official_reading_is_that_of_the_published_metric():
    def score(reply: str, official: bool, view: str = "len", target: str = "1") -> float:
        evaluation = LatentList(lengths=(1024,), each=1, official=official)
        question = Question("?", target, about={"view": view})
        answer = asyncio.run(evaluation.strategy()(question, scripted([reply])))
        value = asyncio.run(evaluation.score(question, answer)).value
        assert value is not None
        return value

    assert [score(r, True) for r in ("1", "True", "1.0", "It is 1", "Output: 1")] == [1, 1, 0, 0, 0]
    assert [score(r, False) for r in ("1", "True", "1.0", "It is 1", "Output: 1")] == [1, 0, 1, 1, 1]
    assert [score(r, True, "print", "[1, 2]") for r in ("[1, 2]", "[1,2]", "Output: [1, 2]")] == [1, 0, 0]
    assert [score(r, False, "print", "[1, 2]") for r in ("[1, 2]", "[1,2]", "Output: [1, 2]")] == [1, 1, 1]
    assert ListAnswer(official=True)("  ", Question("?")) is None


# -- MRCR -----------------------------------------------------------------------------------------------------------


def turns(text: str) -> list[tuple[str, str]]:
    """Return the requests and pieces of the last conversation of a prompt."""
    conversation = text.rpartition(" EXAMPLE 3 ========\n")[2]
    return re.findall(r"User: Write an? (.+?)\.\nModel: (.*?)\n(?=User: )", conversation, re.DOTALL)


def expected_piece(text: str) -> str:
    """Return what is asked for, by reading the prompt as a person would."""
    asked_for = re.findall(r"User: (?:Add the sentence|Prepend) \w+ to the (.+?)\.", text)[-1].replace(
        " (1 indexed)", ""
    )
    place = re.match(r"(\d+)(?:st|nd|rd|th) (.+)", asked_for)
    number, key = (int(place[1]), place[2]) if place else (1, asked_for)
    pieces = [piece for request, piece in turns(text) if request == key]
    assert place is not None or len(pieces) == 1
    return pieces[number - 1]


@pytest.mark.parametrize("tokens", [2048, 30_000])
def test_the_needle_can_be_found_and_is_told_from_its_like(tokens):
    for question in MRCR(lengths=(tokens,), each=9).load():
        conversation = turns(question.text)
        assert question.target == expected_piece(question.text)
        assert len({piece for _, piece in conversation}) == len(conversation)
        key = re.sub(r"^\d+\w\w ", "", question.about["key"])
        form, _, topic = key.partition(" about ")
        same = [request for request, _ in conversation if request == key]
        alike = [r for r, _ in conversation if r.startswith(f"{form} about ") or r.endswith(f" about {topic}")]
        assert (len(same), len(alike)) == (2 if question.about["similar"] == "order" else 1, 2)
        assert question.about["random_piece"] < 0.3
        assert len(str(question.target)) * 0.25 <= 512
        assert 0.9 * tokens <= question.about["tokens"] <= tokens


@pytest.mark.parametrize("needles", [2, 4, 8])
def test_the_variant_of_openai_has_many_needles(needles):
    for question in MRCR(lengths=(8192,), each=6, openai=True, needles=needles).load():
        mark = question.about["mark"]
        assert question.target == mark + expected_piece(question.text)
        key = re.sub(r"^\d+\w\w ", "", question.about["key"])
        assert [request for request, _ in turns(question.text)].count(key) == needles


def test_marks_and_ordinals():
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th"
    ]  # fmt: skip
    assert after_mark("well, Xy7: a poem", "Xy7:") == "a poem"
    assert after_mark("add Xy7 to it. Xy7 a poem", "Xy7") == "a poem"
    assert after_mark("a poem", "Xy7") is None
    assert after_mark("Xy7", "Xy7") == ""
    assert after_mark("anything", "") is None


def test_mrcr_scores():
    gold = writing("poem", "penguins", 900, Random(1))
    other = writing("poem", "penguins", 900, Random(2))
    assert mrcr_score(f"Xy7 {gold}", gold, "Xy7") == 1
    assert mrcr_score(gold, gold, "Xy7") == 0
    assert mrcr_score(f"Sure! Xy7{gold}", gold, "Xy7") == 1
    assert mrcr_score("Xy7", gold, "Xy7") == 0
    assert mrcr_score(f"Xy7 {other}", gold, "Xy7") == SequenceMatcher(None, other, gold).ratio() < 0.3
    assert openai_mrcr_score(f"Xy7{gold}", f"Xy7{gold}", "Xy7") == 1
    assert openai_mrcr_score(f"Sure! Xy7{gold}", f"Xy7{gold}", "Xy7") == 0
    assert openai_mrcr_score(f" Xy7{gold}", f"Xy7{gold}", "Xy7") == 0
    assert openai_mrcr_score(f"Xy7 {gold}", f"Xy7{gold}", "Xy7") == SequenceMatcher(None, f" {gold}", gold).ratio() < 1


def test_similarity_keeps_the_heuristic_of_difflib_and_the_order():
    gold = "".join(Random(0).choices("abcde ", k=400))
    output = gold[20:]
    assert similarity(output, gold) == SequenceMatcher(None, output, gold).ratio()
    assert similarity(output, gold) < 0.1 < 0.9 < SequenceMatcher(None, output, gold, autojunk=False).ratio()
    short = gold[20:150]  # of fewer than 200 characters, none is too frequent
    assert similarity(short, gold) < 0.1 < 0.4 < similarity(gold, short)


def test_similarity_of_endless_outputs_is_bounded():
    gold = writing("essay", "tea", 150, Random(0))
    assert similarity(gold + " " * 50_000, gold) == pytest.approx(2 * len(gold) / (2 * len(gold) + 50_000))
    assert similarity("x" * LONGEST + gold, gold) < 0.001


def test_a_reply_without_the_mark_is_no_answer_and_one_cut_off_is_scored_if_official():
    evaluation = MRCR(lengths=(2048,), each=1)
    [question] = evaluation.load()
    mark, gold = question.about["mark"], str(question.target)

    def scored(evaluation: Evaluation, reply: Any) -> tuple[float | None, str]:
        answer = asyncio.run(evaluation.strategy()(question, scripted([reply])))
        return asyncio.run(evaluation.score(question, answer)).value, answer.outcome

    assert scored(evaluation, f"{mark} {gold}") == (1, "answered")
    assert scored(evaluation, f"<think>{mark} no</think>{mark} {gold}") == (1, "answered")
    assert scored(evaluation, gold) == (0, "unparsed")
    assert scored(evaluation, "I'm sorry, I can't help with that.") == (0, "refused")
    cut = ModelOutput.from_content("scripted", f"{mark} {gold[:-40]}", "max_tokens")
    cut.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    assert scored(evaluation, cut) == (0, "truncated")
    value, outcome = scored(MRCR(lengths=(2048,), each=1, official=True), cut)
    assert outcome == "truncated"
    assert value == similarity(gold[:-40].strip(), gold) > 0.5
    first = AfterMark(first=True)
    assert [first(t, question) for t in (f"{mark}x", f" {mark}x", "x")] == ["x", None, None]


@pytest.mark.parametrize("form", FORMATS)
def test_writings_differ_and_are_no_longer_than_asked_for(form):
    rng = Random(form)
    pieces = [writing(form, "owls", 700, rng) for _ in range(30)]
    assert len(set(pieces)) == 30
    assert all(500 <= len(piece) <= 700 for piece in pieces)
    assert all(len(writing(form, "owls", few, rng)) <= few for few in (5, 20, 60))
    assert max(similarity(a, b) for a in pieces[:8] for b in pieces[:8] if a is not b) < 0.5


# -- IDK ------------------------------------------------------------------------------------------------------------

CITIES = ("Fresno", "Berkeley", "Sacramento", "I don't know")


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("(D)", "D"), ("D", "D"), ("d) I don't know", "D"), ("(b) Berkeley", "B"), ("Answer: C", "C"), ("**(B)**", "B"), ("\\boxed{B}", "B"),
        ("Berkeley", "B"), ("I don’t know", "D"), ("It is in Fresno.", "A"), ("I think it is option B.", "B"), ("The answer is: A", "A"),
        ("The text does not mention it, so (D).", "D"), ("It does not say, but the answer is (B).", "B"), ("(A) Fresno\n=======\nAnswer: (D)", "A"),
        ("(A) is wrong and (B) is wrong", None), ("(A) or (B)", None), ("Fresno or Berkeley", None), ("", None), ("A dog was there.", None),
        ("(E) other", None), ("Reno", None),
        ("The text does not mention the city.", NOT_TOLD), ("The context doesn't say.", NOT_TOLD), ("This is not in the context.", NOT_TOLD),
        ("There is no information about that.", NOT_TOLD), ("It cannot be determined.", NOT_TOLD), ("I do not know.", NOT_TOLD),
        ("I’m sorry, I cannot answer this, as the text doesn’t say.", NOT_TOLD), ("the city is not specified anywhere", NOT_TOLD),
        ("It does not say whether it is Fresno, Berkeley or Sacramento.", NOT_TOLD), ("We don't have enough information.", NOT_TOLD),
        ("Unknown", NOT_TOLD), ("The answer is not given.", NOT_TOLD),
        ("Fresno. The other cities are not mentioned.", "A"), ("It is Fresno; the text does not mention Berkeley.", "A"),
        ("The text says that it is Reno, Fresno is not mentioned.", NOT_TOLD), ("The text does not mention Fresno.", NOT_TOLD),
        ("It may be Fresno, but the text does not say.", NOT_TOLD), ("The text states that it is Fresno, no other details are given.", "A"),
        ("(A) is wrong. (D)", "D"), ("(A) Fresno is incorrect. (B)", "B"), ("A is correct", "A"), ("A is the right one.", "A"), ("b", "B"),
        ("Berkeley, not Fresno", "B"), ("It is not Fresno.", None), ("Fresno, Berkeley and Sacramento are not mentioned.", NOT_TOLD),
    ],
)  # fmt: skip
def test_choices_are_found_in_replies(text, choice):
    assert choice_of(text, CITIES) == choice


def test_idk_scores_free_text_right_only_where_nothing_is_told():
    assert idk_score("The text does not say.", CITIES, "D") == 1
    assert idk_score("The text does not say.", CITIES, "B") == 0
    assert idk_score("(B)", CITIES, "B") == 1
    assert idk_score("(B)", CITIES, "D") == 0
    assert idk_score("(D)", CITIES, "B") == 0
    assert idk_score("hm", CITIES, "D") == 0
    told = "Fresno. The other cities are not mentioned."
    assert (idk_score(told, CITIES, "D"), idk_score(told, CITIES, "A")) == (0, 1)


def test_seven_of_ten_are_not_told_and_what_is_told_is_in_the_text():
    complexities = Counter[str]()
    for question in IDK(lengths=(600, 5000), each=50).load():
        complexities[question.about["complexity"]] += 1
        assert question.choices[3] == "I don't know"
        assert len(set(question.choices)) == 4
        right = question.choices["ABCD".index(str(question.target))]
        story = re.sub(r"\b[A-Z]( [A-Z])*\b\.?", "", question.text.rpartition("======\n")[2])
        told, _, ask = story.rpartition("\nQuestion: ")
        name = re.findall(r"\b[A-Z][a-z]+", ask.partition("\n")[0])[-1]
        about_person = [sentence for sentence in re.split(r"(?<=\.)\s+", told) if name in sentence]
        assert (question.target == "D") == (question.about["complexity"] == "0")
        if question.target == "D":
            assert not any(choice in s for choice in question.choices[:3] for s in about_person)
        else:
            assert any(right in s for s in about_person)
    assert complexities == {"0": 70, "1": 30}


def test_idk_through_the_runner_with_constant_answers():
    evaluation = IDK(lengths=(600, 1200), each=10)
    run = evaluate(evaluation, scripted(lambda prompt, config: "(D)"))
    assert run.score.value == pytest.approx(0.7)
    assert run.chance == 0.25
    assert {k: v.value for k, v in run.groups["complexity"].items()} == {"0": 1, "1": 0}
    free = evaluate(evaluation, scripted(lambda prompt, config: "The text does not say."))
    assert free.score.value == pytest.approx(0.7)


# -- lengths --------------------------------------------------------------------------------------------------------


def test_stack_weights_divide_by_repetitions():
    assert stack_weights([1024, 32 * 1024, 64 * 1024, 128 * 1024, 1024 * 1024]) == pytest.approx(
        [1 / 3, 1 / 3, 0.5, 0.5, 1]
    )
    assert stack_weights([1024, 40_000], STACK[:2]) == pytest.approx([0.5, 1])
    assert stack_weights([5, 6], ()).tolist() == [1, 1]
    with pytest.raises(ValueError, match="at most 32,768, the longest subset, got 40,000"):
        stack_weights([1024, 40_000], STACK[:1])


def test_cumulative_average_counts_all_that_are_no_longer():
    lengths, scores = [4, 1, 2, 1, 4], [0.0, 1.0, 0.5, 0.0, 0.5]
    assert cumulative_average(lengths, scores) == [(1, 0.5), (2, 0.5), (4, pytest.approx(0.4))]
    assert cumulative_average(lengths, scores, tops=(2, 4)) == [
        (1, 0.5), (2, 0.5), (4, pytest.approx((0.5 * 1.5 + 0.5) / 3.5))
    ]  # fmt: skip
    assert cumulative_average([1, 2], [float("nan"), 0.5])[1] == (2, 0.5)
    assert np.isnan(cumulative_average([1, 2], [float("nan"), 0.5])[0][1])


def test_weighted_mean_resamples_clusters_whole():
    values, weights = np.array([1.0, 1.0, 0.0, 0.0]), np.ones(4)
    together = weighted_mean(values, weights, ["a", "a", "b", "b"])
    apart = weighted_mean(values, weights)
    assert (together.value, apart.value) == (0.5, 0.5)
    assert together.low == 0
    assert together.high == 1
    assert weighted_mean([1, 0, float("nan")], [3, 1, 9]).value == 0.75
    assert weighted_mean([0.5], [1]).low is None
    assert np.isnan(weighted_mean([], []).value)


def test_curves_as_text_figure_and_drawing():
    points = length_curve([1024, 1024, 4096, 4096], [1, 1, 0, 1], clusters=["x", "y", "x", "y"])
    assert [(p.tokens, p.mean.value, p.cumulative.value) for p in points] == [(1024, 1, 1), (4096, 0.5, 0.75)]
    curves = {"a < b": points, "empty": ()}
    text = as_text(curves)
    assert "4K  0.500  0.750  |" + "#" * 30 + " " * 10 + "|" in text
    shown = figure(curves)
    assert shown["data"][0]["y"] == [1.0, 0.75]
    assert shown["layout"]["xaxis"]["ticktext"] == ["1K", "4K"]
    from plotly.graph_objects import Figure

    assert [len(each["x"]) for each in Figure(shown).to_dict()["data"]] == [2, 0]
    svg = drawing(curves)
    from xml.etree import ElementTree

    tree = ElementTree.fromstring(svg)
    assert len(tree.findall(".//{*}circle")) == 2
    assert "a &lt; b" in svg
    assert drawing({}).startswith("<svg")
    assert [length_name(n) for n in (512, 1024, 1500, 32768, 2**20)] == ["512", "1K", "1,500", "32K", "1M"]


def test_summary_reweights_stacked_subsets():
    evaluation = LatentList(lengths=(1024, 2048), each=3, subsets=(1024, 2048))
    questions = list(evaluation.load())
    assert evaluation.load().count == len(questions) == 9
    assert Counter(q.about["length"] for q in questions) == {"1024": 6, "2048": 3}
    assert len({q.id for q in questions}) == 9
    short = {q.text for q in questions if q.about["length"] == "1024"}
    right = {q.text: str(q.target) for q in questions}
    run = evaluate(evaluation, scripted(lambda p, c: f"Output: {right[p.strip()]}" if p.strip() in short else "?"))
    assert run.score.value == pytest.approx(0.5)
    assert {name: each.value for name, each in run.summary.items()} == pytest.approx(
        {"score": 0.5, "score at 1K": 1, "score at 2K": 0, "cumulative to 1K": 1, "cumulative to 2K": 0.5}
    )
    assert set(run.groups) == {"length", "complexity", "view"}


@pytest.mark.parametrize("evaluation", [LatentList(lengths=(1024, 2048), each=15), MRCR(lengths=(2048,), each=3)])
def test_a_model_that_reads_everything_has_all_right(evaluation):
    def solve(prompt: str, config: Any) -> str:
        if isinstance(evaluation, LatentList):
            return oracle(*listed(prompt))
        mark = re.findall(r"Add the sentence (\w+) to", prompt)[-1]
        return f"{mark} {expected_piece(prompt)}"

    run = evaluate(evaluation, scripted(solve))
    assert run.score.value == 1
    assert run.outcomes == {"answered": len(run.results)}


# -- generation -----------------------------------------------------------------------------------------------------


def digests(addresses: list[str]) -> list[str]:
    """Return the sha256 of all that the evaluations at some addresses ask."""
    return [
        hashlib.sha256(repr([(q.id, q.text, q.target, q.choices, q.about) for q in EVALUATIONS.at(each).load()]).encode()).hexdigest()
        for each in addresses
    ]  # fmt: skip


def test_texts_are_the_same_in_another_process():
    addresses = [f"{name}?lengths=[2048,5000]&each=4&seed=3" for name in ("latent-list", "mrcr", "idk")]
    code = "import json, sys, test_eval_michelangelo as t; print(json.dumps(t.digests(sys.argv[1:])))"
    done = subprocess.run(
        [sys.executable, "-c", code, *addresses], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    here = digests(addresses)
    assert json.loads(done.stdout) == here == digests(addresses)
    assert set(here).isdisjoint(digests([each.replace("seed=3", "seed=4") for each in addresses]))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_work_grows_no_faster_than_the_length(task):
    def work(tokens: int) -> int:
        calls = 0

        def count(frame: Any, event: str, argument: Any) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            task.problem(2, tokens)
        finally:
            sys.setprofile(None)
        return calls

    base = work(2048)
    small, large = work(50_000) - base, work(200_000) - base
    assert large < 4.6 * small + 2000


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_one_prompt_is_in_memory_at_a_time(task):
    from heuretic import replace

    questions = iter(replace(task, {"lengths": (100_000,), "each": 6}).load())
    first = len(next(questions).text)
    tracemalloc.start()
    total = sum(len(question.text) for question in questions)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 4.8 * first
    assert peak < 60 * first  # lines are objects of some 70 bytes each until they are joined


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_million_tokens_are_made(task):
    question = task.question(2, 2**20)
    assert 0.98 * 2**20 <= question.about["tokens"] <= 2**20


def count_words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_lengths_are_exact_where_tokens_are_counted(task):
    from heuretic import replace

    made = replace(task, {"count": count_words, "lengths": (3000,), "each": 3})
    for question in made.load():
        assert question.about["tokens"] == count_words(question.text)
        assert 2800 <= question.about["tokens"] <= 3000
    assert made.load().notes == ("lengths are measured by the function given",)


def test_fitting_gives_up_on_what_does_not_fit():
    assert fitted(lambda n: "x" * n, 100, 0.25) == "x" * 400
    assert len(fitted(lambda n: "x" * n, 100, 0.25, len)) == pytest.approx(99, abs=1)
    with pytest.raises(ValueError, match="context must fit 10 tokens, got 50"):
        fitted(lambda n: "x" * 50, 10, 0.25, len)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_demonstrations_are_a_setting(task):
    from heuretic import replace

    none = next(iter(replace(task, {"shots": 0}).load()))
    three = next(iter(replace(task, {"shots": 3}).load()))
    marker = {"latent-list": "Output: ", "mrcr": "\nModel: ", "idk": "\nAnswer: ("}[task.name]
    assert none.target is not None
    if task.name != "mrcr":
        assert (none.text.count(marker), three.text.count(marker)) == (0, 3)
    assert (none.text.count("====="), three.text.count("=====") > 2) == (0, True)
    assert none.about["tokens"] <= 2048 >= three.about["tokens"]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: LatentList(lengths=()), r"lengths must be different and >= 1, at least one, got \(\)"),
        (lambda: LatentList(lengths=(1024, 1024)), "lengths must be different"),
        (lambda: LatentList(lengths=(4096,), subsets=(1024,)), "lengths must be at most 1,024"),
        (lambda: LatentList(complexities=(0,)), "complexities and views must be"),
        (lambda: MRCR(needles=4), "needles must be 2 in the paper's task, got 4. Try openai=True"),
        (lambda: MRCR(similar=()), "similar must be at least one"),
        (lambda: next(iter(LatentList(lengths=(100,)).load())), r"length must be at least \d+ tokens for problem 0, got 100"),
        (lambda: next(iter(IDK(lengths=(100,)).load())), r"length must be at least \d+ tokens for problem 0, got 100"),
        (lambda: next(iter(MRCR(lengths=(20,)).load())), r"length must be at least \d+ tokens for problem 0, got 20"),
    ],
)  # fmt: skip
def test_settings_are_checked(make, error):
    with pytest.raises(ValueError, match=error):
        make()


def test_prompts_end_as_in_the_paper():
    latent, mrcr, idk = (asked(next(iter(task.load()))) for task in TASKS)
    assert latent.endswith("\nOutput:")
    assert re.search(r"\nUser: Add the sentence \w{10} to the .+\.\nModel:$", mrcr)
    assert re.search(r"\nChoices:\n\(A\) .+\n\(B\) .+\n\(C\) .+\n\(D\) I don't know$", idk)


# -- the idea -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "short", "long", "verdict"),
    [
        ("small", [1, 1, 1, 1, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1, 0, 0], "reproduced"),
        ("small", [1, 1, 1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 0, 1, 1, 1], "not reproduced"),
        ("small", [1, 1, 1, 1, 0, 1, 1, 1], [1, 0, 1, 1, 1, 1, 1, 1], "not testable at this scale"),
        ("small", [0, 1, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0], "not testable at this scale"),
        ("smoke", [1, 1, 1, 1, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1, 0, 0], "not testable at this scale"),
    ],
)
def test_verdicts(scale, short, long, verdict):
    found, reason = michelangelo.judged(scale, short, long, [0.2] * 8, "1K", "4K")
    assert found == verdict
    assert "chance has 0.200" in reason


def test_the_idea_compares_lengths_on_the_same_problems(monkeypatch):
    def forgetful(prompt: str, config: Any) -> str:
        lines, view = listed(prompt)
        return oracle(lines, view) if len(lines) < 12 else "?"

    monkeypatch.setattr(reasoning, "model", lambda name, **arguments: scripted(forgetful))
    result = michelangelo.reproduce("smoke", seeds=(5, 6))
    assert result.arms["160"].measurements["score"] == (1.0, 1.0)
    assert result.comparisons[0].differences == (-1.0, -1.0)
    assert result.verdict == "not testable at this scale"
    assert set(result.arms) == {"160", "240", "latent-list, 160", "latent-list, 240"}
    assert json.loads(json.dumps(result.record()))["data"].keys() >= {"latent-list, seed 5", "latent-list, seed 6"}
    with pytest.raises(ValueError, match="seeds must be at least 2"):
        michelangelo.reproduce("smoke", seeds=(1,))


def test_the_idea_stops_at_an_error_of_the_model(monkeypatch):
    def fails(prompt: str, config: Any) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(reasoning, "model", lambda name, **arguments: scripted(fails))
    with pytest.raises((ValueError, ConnectionError), match="no route to host"):
        michelangelo.reproduce("smoke")
