"""Verifiers: what they take for right, what for wrong, and what they cannot tell."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from heuretic import dumps, loads
from heuretic.lm import Question, Sample, Sampling, answer_all
from heuretic.lm.parsing import FinalNumber
from heuretic.lm.strategies import Direct, RepeatedSampling
from heuretic.lm.verifiers import Equivalent, Exact, Majority, MultipleChoice, Numeric, Pattern, RewardModel, UnitTests
from scripted import scripted


def said(*answers: str | None) -> list[Sample]:
    return [Sample(a, "unparsed" if a is None else "answered", a or "") for a in answers]


def scores(verifier: Any, question: Question, samples: list[Sample]) -> list[float | None]:
    return asyncio.run(verifier(question, samples))


def test_exact_reads_targets_as_the_parser_does() -> None:
    question = Question("?", target=("18.0", "nineteen"))
    assert scores(Exact(parse=FinalNumber()), question, said("18", "19", None, "nineteen")) == [1, 0, 0, 1]
    assert scores(Exact(), Question("?", target="Yes."), said("yes", "no")) == [1, 0]
    with pytest.raises(ValueError, match="question must have a target"):
        scores(Exact(), Question("?"), said("yes"))


def test_numeric_within_a_tolerance() -> None:
    question = Question("?", target="1/3")
    assert scores(Numeric(absolute=0.01), question, said("0.333", "0.35", "none")) == [1, 0, 0]
    assert scores(Numeric(), question, said("1/3", "0.333333333")) == [1, 0]
    assert scores(Numeric(relative=0.01), Question("?", target="-200"), said("-201", "201", "-203")) == [1, 0, 0]
    with pytest.raises(ValueError, match="target must be a number"):
        scores(Numeric(), Question("?", target="blue"), said("1"))


def test_multiple_choice_by_letter_or_text() -> None:
    question = Question("?", target="a dog", choices=("a cat", "a dog"))
    assert scores(MultipleChoice(), question, said("B", "A", "a dog", None)) == [1, 0, 1, 0]
    assert scores(MultipleChoice(), Question("?", target="(B)", choices=("x", "y")), said("B", "A")) == [1, 0]


def test_patterns_end_in_time() -> None:
    assert scores(Pattern(pattern=r"^\d+ km$"), Question("?"), said("12 km", "12 miles")) == [1, 0]
    hard = Pattern(pattern="(a|aa|a?)+$", timeout_s=0.2)
    assert scores(hard, Question("?"), said("a" * 60 + "b")) == [None]
    with pytest.raises(ValueError, match="pattern must be a regular expression"):
        Pattern(pattern="(")


@pytest.mark.parametrize(
    ("answer", "target", "equal"),
    [
        ("1/2", "0.5", True), (r"\frac{1}{2}", "0.5", True), ("sin(x)^2+cos(x)^2", "1", True), ("x=5", "5", True),
        ("(1,2)", "(2,1)", False), ("{1,2}", "{2,1}", True), (r"2\sqrt{2}", r"\sqrt8", True), ("2x+2", "2(x+1)", True),
        ("x+1", "x+2", False), ("yes", "no", False), ("10,000", "10000", True), (r"e^{i\pi}", "-1", True),
    ],
)  # fmt: skip
def test_what_is_mathematically_equal(answer: str, target: str, equal: bool) -> None:
    assert scores(Equivalent(), Question("?", target=target), said(answer)) == [float(equal)]


EQUAL = [
    ("y=2, x=1", "x=1,y=2"), ("x = 1, x = 2", "2, 1"), ("x=1, 2", "1,2"), ("f(x)=x, f(x)=1", "g(x)=1, g(x)=x"), ("f(x)=1,g(x)=x", "g(x)=x,f(x)=1"),
    ("x=5", "5"), ("n=5", "m=5"), ("x+y=5", "y+x=5"), (r"3\frac{1}{2}", "3.5"), ("-3 1/2", r"-\frac72"), (r"2\dfrac34", "11/4"), (r"x^2\frac{1}{3}", "x^2/3"),
    ("a_1+a_2", "a_2+a_1"), ("a_{10}", "a_10"), (r"2x_1x_2", r"x_2\cdot x_1\cdot 2"), (r"1\,234", "1234"), ("1,\\!000", "1000"), ("1 ,  2", "1,2"), ("2(3)", "6"),
    (r"\sqrt{5+2\sqrt{6}}", r"\sqrt2+\sqrt3"), ("0.1+0.2", "0.3"), ("90^\\circ", "90"), ("f(0)+x", "x+f(0)"), (r"\left(1,2\right)", "(1,2)"),
]  # fmt: skip
UNEQUAL = [
    ("x=1,y=2", "x=2,y=1"), ("a=1,b=2", "2,1"), ("a=1,b=2", "c=1,d=2"), ("(x=1,y=2)", "(x=2,y=1)"), ("f(x)=x,g(x)=1", "f(x)=1,g(x)=x"), ("x+y=5", "x+y-5"),
    ("1 2", "12"), ("2 3", "6"), ("2, 3", "2 3"), (r"2\ 3", "23"), (r"1\text{ or }2", "12"), ("$1$$2$", "12"), ("1 or 2", "1"), ("1, 234", "1,234"),
    (r"3\frac{1}{2}", "1.5"), (r"3\frac12", "3/2"), ("3 1/2", "1.5"), (r"2\frac32", "3"), (r"2\frac32", "7/2"), ("x_2", "2x"), ("C_n", "nC"), ("a_1", "a"),
    (r"\sqrt12", "2"), (r"\frac112", "2"), ("2^{-100}", "3^{-100}"), (r"2^{-100}\sqrt2", r"2^{-100}\sqrt3"), ("+-1", "-1"), ("f(2)", "2f"), ("f(0)+x", "x"),
    (r"f\circ g", "fg"), ("1_2", "12"),
]  # fmt: skip


def test_equal_is_said_where_it_is_sure_and_only_there() -> None:
    told = asyncio.run(Equivalent().equal([*EQUAL, *UNEQUAL]))
    assert [pair for pair, same in zip(EQUAL, told, strict=False) if not same] == []
    assert [pair for pair, same in zip(UNEQUAL, told[len(EQUAL) :], strict=True) if same] == []


def test_hostile_formulas_are_not_evaluated_and_end_in_time(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    hostile = f"__import__('os').system('touch {mark}')"
    bombs = said(hostile, "9**9**9**9", "factorial(factorial(99))", "1")
    assert scores(Equivalent(each_s=0.5), Question("?", target="1"), bombs) == [0.0, None, None, 1.0]
    assert not mark.exists()


def test_code_is_run_once_and_its_majority_counts() -> None:
    question = Question("Double a number.", about={"tests": "assert f(2) == 4"})
    right = Sample("x", "answered", "Sure!\n```python\ndef f(x):\n    return 2 * x\n```\nThat is it.")
    wrong = Sample("x", "answered", "def f(x): return 5")
    assert scores(UnitTests(), question, [right, wrong, right]) == [1, 0, 1]
    rare = UnitTests(tests="import random\nassert random.random() < 0.05", runs=5)
    assert scores(rare, question, [right]) == [0]
    with pytest.raises(ValueError, match="tests must be given"):
        scores(UnitTests(), Question("?"), [right])


async def grade(question: Question, text: str) -> float | None:
    return {"right": 0.9, "wrong": 0.3}.get(text)


def test_a_model_grades() -> None:
    judge = RewardModel("heuretic/smollm2-135m", sampling=Sampling(max_tokens=24))
    assert loads(dumps(judge)) == judge
    [score] = scores(judge, Question("2+2?"), said("4"))
    assert score is None or 0 <= score <= 1


def test_majority_and_reward() -> None:
    assert scores(Majority(), Question("?"), said("1", "2", "1", None)) == [2 / 3, 1 / 3, 2 / 3, None]
    samples = [Sample("4", "answered", "right"), Sample("5", "answered", "wrong"), Sample("5", "answered", "odd")]
    assert scores(RewardModel(grade), Question("2+2?"), samples) == [0.9, 0.3, None]
    assert scores(RewardModel(grade, by_answer=True), Question("2+2?"), samples) == pytest.approx([0.75, 0.25, 0.25])


def test_repeated_sampling_takes_what_the_verifier_prefers() -> None:
    model = scripted(lambda prompt, settings: f"The answer is {(settings.seed or 0) % 5}.")
    strategy = RepeatedSampling(of=Direct(sampling=Sampling(seed=3)), k=10, verify=Numeric())
    [answer] = answer_all(strategy, [Question("Which?", target="3")], model)
    assert (answer.answer, answer.share, len(answer.samples)) == ("3", 0.2, 10)
