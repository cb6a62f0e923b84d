"""IMO-Bench: tables with mistakes, formulas against prose, judges' formats, points, grades, and how far checkers agree."""

import asyncio
import csv
import gzip
import io
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ModelOutput, ModelUsage

from heuretic.data.records import Records
from heuretic.data.tables import csv_rows
from heuretic.evals import Results
from heuretic.evals.imo_bench import AnswerBench, GradingBench, ProofBench
from heuretic.evals.imo_bench.answer_bench import AnswerGrader, FinalAnswer, read_verdict
from heuretic.evals.imo_bench.formulas import comparable
from heuretic.evals.imo_bench.grading_bench import GRADES, read_grade
from heuretic.evals.imo_bench.proof_bench import ProofGrader, read_points
from heuretic.evals.imo_bench.rewritings import altered, rewritten
from heuretic.evals.running import evaluate
from heuretic.ideas import imo_bench as idea
from heuretic.lm import Question
from heuretic.lm.verifiers import Equivalent
from scripted import scripted

ANSWERS = ("Problem ID", "Problem", "Short Answer", "Category", "Subcategory", "Source")
PROOFS = ("Problem ID", "Problem", "Solution", "Grading guidelines", "Category", "Level", "Short Answer", "Source")
GRADINGS = (
    "Grading ID", "Problem ID", "Problem", "Solution", "Grading guidelines", "Response", "Points", "Reward", "Problem Source",
)  # fmt: skip


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEURETIC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HEURETIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HEURETIC_OFFLINE", "1")
    (tmp_path / "data" / "imobench").mkdir(parents=True)
    return tmp_path / "data" / "imobench"


def put(folder: Path, name: str, text: str) -> None:
    with gzip.open(folder / name, "wt", encoding="utf-8", newline="") as file:
        file.write(text)


def answers(*rows: Sequence[str]) -> str:
    return table(
        ANSWERS, [[f"imo-bench-{name}", f"Find {name}.", answer, area, "x", "y"] for name, answer, area in rows]
    )


def cut_off(text: str) -> ModelOutput:
    choice = ChatCompletionChoice(message=ChatMessageAssistant(content=text), stop_reason="max_tokens")
    return ModelOutput(model="scripted", choices=[choice], usage=ModelUsage(output_tokens=9))


# --- Tables


def test_broken_quotes_are_told_with_file_and_row_or_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('id,text\n1,"one\ntwo"\n2,"open\n,"closed",x\n3,three\n4,"four ""quoted"""\n')
    with pytest.raises(ValueError, match=r"balanced quotes.*t\.csv, row 1\. Try corrupt"):
        list(csv_rows(path, Records("raise"), ("id", "text")))
    records = Records("skip")
    kept = [found for _, found in csv_rows(path, records, ("id", "text"), new="id")]
    assert [(found["id"], found["text"]) for found in kept] == [
        ("1", "one\ntwo"),
        ("3", "three"),
        ("4", 'four "quoted"'),
    ]
    assert "balanced quotes" in records.bad[0][2]


def test_a_quote_that_is_never_closed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('id,text\n1,one\n2,"open\n3,three\n')
    with pytest.raises(ValueError, match=r"row 1"):
        list(csv_rows(path, Records("raise"), ("id", "text")))
    assert len(list(csv_rows(path, Records("skip"), ("id", "text")))) == 1


def test_a_byte_order_mark_and_spaces_in_the_header_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("\ufeffid, text \r\n1,one\r\n".encode())
    assert [found for _, found in csv_rows(path, Records("raise"), ("id", "text"))] == [{"id": "1", "text": "one"}]


# --- AnswerBench: the file


def test_damaged_rows_are_left_out_and_named(folder: Path) -> None:
    text = answers(
        ("algebra-001", "3", "Algebra"),
        ("algebra-036", "Algebra", "Functional Equation"),
        ("geometry-096", "$\\frac{7}{18}", "Geometry"),
        ("number_theory-055", "$14625$", "Number theory"),
        ("combinatorics-007", "19", "Cominatorics"),
    )
    put(folder, "answerbench_v2.csv.gz", text)
    found = AnswerBench().load()
    assert [(q.id, q.target, q.about["area"]) for q in found] == [
        ("imo-bench-algebra-001", "3", "Algebra"),
        ("imo-bench-combinatorics-007", "19", "Combinatorics"),
    ]
    notes = "\n".join(found.notes)
    assert notes.count("is left out") == 3
    assert "combinatorics-007 is counted as Combinatorics: its category is Cominatorics" in notes
    assert list(found.checksums) == ["answerbench_v2.csv.gz"]
    kept = AnswerBench(damaged="keep").load()
    assert kept.count == 5
    assert {q.about["area"] for q in kept} == {"Algebra", "Combinatorics", "Geometry", "Number theory"}


def test_the_published_file_is_read_though_a_quote_is_missing_in_it(folder: Path) -> None:
    text = answers(("algebra-001", "3", "Algebra"))
    text += 'imo-bench-algebra-036,"Find all $Y$ such that\n\\[\na\n\\]\n'
    text += ',"$Y(x)=A+\\frac{B}{x}-x$",Algebra,Functional Equation,Iran 2002\n'
    text += "imo-bench-algebra-037,Find more.,4,Algebra,x,y\n"
    (folder / "answerbench_v2.csv").write_text(text)
    assert [q.target for q in AnswerBench().load()] == ["3", "4"]
    kept = list(AnswerBench(damaged="keep").load())
    assert [q.target for q in kept] == ["3", "$Y(x)=A+\\frac{B}{x}-x$", "4"]
    assert kept[1].text == "Find all $Y$ such that\n\\[\na\n\\]"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (answers(("algebra-001", "3", "Algebra"), ("algebra-001", "4", "Algebra")), r"Problem ID must be new.*row 1"),
        (
            answers(("algebra-001", "3", "Algebra")).replace("Short Answer", "Answer"),
            r"columns must include Short Answer",
        ),
        (answers(("algebra-001", " ", "Algebra")), r"nothing in Short Answer.*row 0"),
        (answers(("physics-001", "3", "Physics")), r"Category must be one of.*row 0"),
        (answers(("algebra-001", "3", "Algebra")).strip() + ",more", r"6 fields.*row 0"),
        (answers(("algebra-001", "3", "Algebra")) + 'x,"y"z,1,Algebra,,\n', r"balanced quotes.*row 1"),
        (answers(), r"at least one problem"),
    ],
)
def test_files_that_are_not_as_published_are_told(folder: Path, text: str, said: str) -> None:
    put(folder, "answerbench_v2.csv.gz", text)
    with pytest.raises(ValueError, match=said):
        AnswerBench().load()


def test_missing_files_and_wrong_checksums_are_told(folder: Path, tmp_path: Path) -> None:
    for evaluation in (AnswerBench(), ProofBench(), GradingBench(), GradingBench(file=str(tmp_path / "none.csv"))):
        with pytest.raises(FileNotFoundError, match="must"):
            evaluation.load()
    cached = tmp_path / "cache" / "files" / "imobench"
    cached.mkdir(parents=True)
    (cached / "answerbench_v2.csv").write_text(answers(("algebra-001", "3", "Algebra")))
    with pytest.raises(FileNotFoundError, match="HEURETIC_OFFLINE"):
        AnswerBench().load()
    put(folder, "answerbench_v2.csv.gz", answers(("algebra-001", "3", "Algebra")))
    (folder / "answerbench_v2.csv.gz").write_bytes((folder / "answerbench_v2.csv.gz").read_bytes()[:-12])
    with pytest.raises(ValueError, match=r"answerbench_v2\.csv\.gz"):
        AnswerBench().load()


# --- AnswerBench: formulas

EQUAL = [
    ("$\\frac12$", "0.5"), ("x^2+2x+1", "(x+1)^2"), ("(2, 251, 252)", "(2,251,252)"), ("1,13,25,325", "1, 13, 25, 325"),
    ("2030 or 2026", "2026, 2030"), ("f(x)=-1, f(x)=x+1", "$P(x)=-1, P(x)=x+1$"), ("\\beta-\\alpha", "$-\\alpha+\\beta$"),
    ("{1,2}", "\\{2, 1\\}"), ("1{,}234", "1234"), ("1,234", "1234"), ("$\\binom{2k}{k}^2$", "\\binom{2k}{k}\\cdot\\binom{2k}{k}"),
    ("2^{2024}+1", "1+2^{2024}"), ("\\sqrt2+1", "$1+\\sqrt{2}$"), ("x = 5", "5"), ("(-\\infty,0]", "$(-\\infty , 0]$"),
    ("$4\\cdot3^{2023}$", "4*3^{2023}"), ("(17458+2970√5)/23769", "$\\frac{17458+2970\\sqrt{5}}{23769}$"), ("13/2", "6.5"),
    ("(1+1)/2, 3", "3, 1"), ("\\frac{1}{2}, (1)", "1/2, 1"),
    ("$180^\\circ - 2\\alpha$", "180 - 2\\alpha"), ("2x²+c", "$P(x)=2x^{2}+c$"), ("-\\frac{2023}{2024^2}", "-2023/2024^2"),
]  # fmt: skip
UNEQUAL = [
    ("3", "4"), ("x+1", "x-1"), ("1, 2", "1, 2, 3"), ("(1, 2)", "(2, 1)"), ("-1/2", "1/2"), ("\\alpha", "\\beta"),
    ("2^{2024}-1", "2^{2024}+1"), ("\\sqrt{3}", "\\sqrt{2}"), ("1, 3", "1, 2"), ("P(x)=x-4", "P(x)=x+4"),
]  # fmt: skip
PROSE = [
    ("odd n", "even n"), ("n is prime", "n"), ("all multiples of 14", "14"), ("$n \\ge 2$", "2"), ("0<c<1", "c"), ("No positive integers", "0"),
    ("\\lfloor x \\rfloor", "x"), ("1, 2, \\ldots, 5", "1, 2, 5"), ("p_1 \\cdots p_k", "p_1 p_k"), ("$\\mathbb{Z}$", "Z"), ("5 if a = 1", "5"), ("2 \\text{ cats}", "2"),
    ("60, 100, 8p (for all odd primes p)", "60, 100, 8p"), ("(-1, 2) \\cup (3, 4)", "(-1, 2)"),
]  # fmt: skip


def test_formulas_are_compared_and_prose_is_not() -> None:
    pairs = [comparable(*pair) for pair in [*EQUAL, *UNEQUAL]]
    assert [pair for pair, got in zip([*EQUAL, *UNEQUAL], pairs, strict=True) if got is None] == []
    told = asyncio.run(Equivalent().equal([pair for pair in pairs if pair is not None]))
    assert [pair for pair, same in zip(EQUAL, told, strict=False) if same is not True] == []
    assert [pair for pair, same in zip(UNEQUAL, told[len(EQUAL) :], strict=True) if same is not False] == []
    for one, other in PROSE:
        assert comparable(one, other) is None, one
        assert comparable(other, one) is None, one


SWAPPED = [
    ("a=3 and b=7", "a=7, b=3"), ("x=1,y=2", "x=2,y=1"), ("1 2", "12"), ("2 3", "6"), ("3\\frac{1}{2}", "1.5"), ("x_2", "2x"), ("√12", "2"),
    ("a=1,b=2", "2,1"), ("odd n", "o ddn"),
]  # fmt: skip


def test_answers_that_only_look_alike_are_not_equal() -> None:
    assert [pair for pair in SWAPPED if asyncio.run(AnswerBench().equal(*pair))] == []
    for pair in [("b=7 and a=3", "a=3, b=7"), ("√12", "2√3"), ("x=1 or x=2", "1, 2")]:
        assert asyncio.run(AnswerBench().equal(*pair)) is True, pair


def test_open_and_closed_intervals_are_not_told_apart_by_sympy() -> None:
    assert asyncio.run(AnswerBench().equal("(-6,5)", "[-6,5]")) is None
    assert asyncio.run(AnswerBench().equal("odd $n$", "odd  $n$")) is True
    assert asyncio.run(AnswerBench().equal("n odd", "odd $n$")) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("So $x=1$.\n\nThe answer is $\\frac{1}{2}$.", "$\\frac{1}{2}$"),
        ("The answer is: **5**.", "5"),
        ("The answer is \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("Thus \\boxed{3}, hence \\boxed{\\{1, 2\\}}.", "\\{1, 2\\}"),
        ("The answer is 3.\nWait, the final answer is 4\nDone", "4"),
        ("**Final answer: $5$**", "$5$"),
        ("Answer: 5", "5"),
        ("### Answer:\n\n\\boxed{n=5}\n", "n=5"),
        ("The answer: it is hard.\nThe answer is 7", "7"),
        ("I cannot find it.", None),
        ("", None),
    ],
)
def test_final_answers_are_found_with_their_markup(text: str, found: str | None) -> None:
    assert FinalAnswer()(text, Question("?")) == found


def test_rewritten_answers_are_equal_and_altered_ones_are_not() -> None:
    targets = [
        "3",
        "0",
        "$\\frac{7}{18}$",
        "1/2, 1",
        "$(2, 5, 3)$",
        "$P(x)=2x^2+c, P(x)=x$",
        "$[-6,5]$",
        "12, 345",
        "$a^2-b$",
    ]
    rng = random.Random(4)
    pairs = [(made(target, rng), target) for made in (rewritten, altered) for target in targets for _ in range(4)]
    told = asyncio.run(Equivalent().equal([pair for each in pairs if (pair := comparable(*each))]))
    assert told == [True] * 36 + [False] * 36
    assert rewritten("3", random.Random(7)) == rewritten("3", random.Random(7))


# --- AnswerBench: the judge


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<thinking>same</thinking>\n\\boxed{Correct}", True),
        ("<thinking>\\boxed{Correct}?</thinking>\\boxed{Incorrect}", False),
        ("\\boxed{Incorrect} no, \\boxed{Correct}", True),
        ("\\boxed{ Incorrect }", False),
        ("<thinking>\\boxed{Correct}", None),  # cut off within its reasoning
        ("**Incorrect**", False),
        ("Verdict: Correct", True),
        ("It is not correct", None),
        ("\\boxed{Maybe}", None),
        ("", None),
    ],
)
def test_verdicts_are_read(text: str, found: bool | None) -> None:
    assert read_verdict(text) is found


def test_only_the_published_form_counts_if_it_is_asked_for() -> None:
    assert read_verdict("Verdict: Correct", official=True) is None
    assert read_verdict("\\boxed{correct}", official=True) is None
    assert read_verdict("\\boxed{Correct}", official=True) is True


def test_prompts_are_filled_once() -> None:
    written = AnswerGrader().written("{answer}", "{response}", "\\frac{problem}{x}")
    assert "Problem:\n{answer}\n\nReference answer:\n{response}\n\nResponse:\n\\frac{problem}{x}\n" in written
    proof = ProofGrader().written(problem="{response}", solution="s", guidelines="g", response="{problem}")
    assert "Problem:\n{response}\n" in proof
    assert "Proposed solution:\n{problem}\n" in proof


FOUR = answers(
    ("algebra-001", "$\\frac{1}{2}$", "Algebra"), ("algebra-002", "odd $n$", "Algebra"), ("geometry-001", "3", "Geometry"),
    ("geometry-002", "$x+1$", "Geometry"),
)  # fmt: skip
SAID = {"algebra-001": "0.5", "algebra-002": "n odd", "geometry-001": "4", "geometry-002": "y"}


def solver(prompt: str, config: object) -> str:
    return next(f"We see. The answer is {answer}." for name, answer in SAID.items() if name in prompt)


def test_without_a_judge_what_cannot_be_told_has_no_score(folder: Path) -> None:
    put(folder, "answerbench_v2.csv.gz", FOUR)
    run = evaluate(AnswerBench(), scripted(solver))
    assert run.results.values.tolist() == pytest.approx([1.0, float("nan"), 0.0, 0.0], nan_ok=True)
    assert run.unscored == {"not a formula": 1}
    assert run.summary["accuracy"].value == pytest.approx(1 / 3)
    assert run.summary["accuracy by sympy alone"].value == pytest.approx(1 / 3)
    assert run.judge is None
    assert "agreement of sympy and judge" not in run.summary


def test_both_checkers_are_kept_and_compared(folder: Path) -> None:
    put(folder, "answerbench_v2.csv.gz", FOUR)
    asked: list[str] = []

    def judge(prompt: str, config: object) -> str:
        right = "Find algebra-00" in prompt or "Find geometry-002" in prompt
        return f"<thinking>x</thinking>\\boxed{{{'Correct' if right else 'Incorrect'}}}"

    run = evaluate(AnswerBench(), scripted(solver), judge=scripted(judge, asked))
    assert run.results.values.tolist() == [1.0, 1.0, 0.0, 1.0]
    assert run.results.metrics["sympy"].tolist() == pytest.approx([1.0, float("nan"), 0.0, 0.0], nan_ok=True)
    assert run.results.metrics["judge"].tolist() == [1.0, 1.0, 0.0, 1.0]
    assert run.summary["accuracy by sympy alone"].value == pytest.approx(1 / 3)
    assert run.summary["accuracy by judge alone"].value == pytest.approx(3 / 4)
    assert run.summary["agreement of sympy and judge"].value == pytest.approx(2 / 3)
    assert run.summary["kappa of sympy and judge"].value == pytest.approx(0.4)
    assert any("Response:\nWe see. The answer is 0.5." in prompt for prompt in asked)  # the whole reply
    saving = evaluate(AnswerBench(both=False), scripted(solver), judge=scripted(judge, again := []))
    assert len(again) == 3
    assert saving.results.values.tolist() == [1.0, 1.0, 0.0, 1.0]


def test_a_judge_that_never_answers_in_form_leaves_answers_unjudged(folder: Path) -> None:
    put(folder, "answerbench_v2.csv.gz", FOUR)
    asked: list[str] = []
    run = evaluate(AnswerBench(), scripted(solver), judge=scripted(lambda prompt, _: "Who knows?", asked))
    assert run.results.values.tolist() == pytest.approx([1.0, *[float("nan")] * 3], nan_ok=True)
    assert run.unscored == {"unjudged": 3}
    assert len(asked) == 4 * 3
    assert "accuracy by judge alone" not in run.summary


@pytest.mark.parametrize(
    "text", ["So $n=5$.", "**Final answer: $5$**", "I can't help with more than this: 5.", "Answer: 5"]
)
def test_every_reply_with_a_text_is_judged_unless_sympy_settles_it(folder: Path, text: str) -> None:
    put(folder, "answerbench_v2.csv.gz", answers(("algebra-001", "5", "Algebra"), ("algebra-002", "5", "Algebra")))
    asked: list[str] = []
    run = evaluate(
        AnswerBench(both=False),
        scripted(lambda prompt, _: text if "algebra-001" in prompt else ""),
        judge=scripted(lambda prompt, _: "\\boxed{Correct}", asked),
    )
    assert run.results.values.tolist() == [1.0, 0.0]
    assert len(asked) == ("nswer: " not in text)
    assert run.summary["accuracy by sympy alone"].value == (0.0 if asked else 0.5)
    if asked:
        assert run.summary["accuracy by judge alone"].value == 0.5
        assert f"Response:\n{text}" in asked[0]
        assert run.summary["agreement of sympy and judge"].count == 0


@pytest.mark.parametrize(
    ("text", "right"), [("The answer is 5.\nIndeed", 1.0), ("<think>The answer is 5.\nIndeed", 0.0)]
)
def test_a_text_that_was_cut_off_is_judged_unless_it_is_all_reasoning(folder: Path, text: str, right: float) -> None:
    put(folder, "answerbench_v2.csv.gz", answers(("algebra-001", "5", "Algebra")))
    cut = cut_off(text)
    judge = scripted(lambda prompt, _: "\\boxed{Correct}")
    for given in (None, judge):
        run = evaluate(AnswerBench(), scripted(lambda prompt, _: cut), judge=given)
        assert run.results.values.tolist() == [right]
        assert all(column.tolist() == [right] for column in run.results.metrics.values())
        assert len(run.results.metrics) == 1 + (given is not None)


def test_replies_without_an_answer_are_wrong(folder: Path) -> None:
    put(folder, "answerbench_v2.csv.gz", FOUR)
    run = evaluate(AnswerBench(), scripted(lambda prompt, _: "<think>The answer is 3"))
    assert run.summary["accuracy"].value == 0.0
    assert "answered" not in run.outcomes


# --- ProofBench


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("good <points>7 out of 7</points>", 7),
        ("<points>6 out of 7</points> or <points>7 out of 7</points>", 6),  # the first one
        ("<points>3 out of 7</points> <points>7 out of 7</points>", None),  # no point of the scale
        ("<points> 0 out of 7 </points>", 0),
        ("<points>1 out of 7</points>", 1),
        ("<points>7 out of 70</points>", None),
        ("<points>7/7</points>", None),
        ("7 out of 7", None),
        ("<points>17 out of 7</points>", None),
        ("", None),
    ],
)
def test_the_first_points_count(text: str, points: int | None) -> None:
    assert read_points(text) == points


def proofs(*names: str) -> str:
    return table(
        PROOFS, [[f"PB-{n}", f"Prove {n}.", "by hand", "(Partial) a", "Algebra", "IMO-easy", "", "x"] for n in names]
    )


def test_proofs_are_graded_by_guidelines_basic_and_advanced_apart(folder: Path) -> None:
    put(folder, "proofbench_v2.csv.gz", proofs("Basic-001", "Basic-002", "Advanced-001"))
    asked: list[str] = []
    turns = iter(["no grade", "<points>5 out of 7</points>"])

    def judge(prompt: str, config: object) -> str:
        if "Prove Basic-002" in prompt:
            return next(turns, "<points>6 out of 7</points>")
        return f"<points>{7 if 'Prove Basic' in prompt else 1} out of 7</points>"

    run = evaluate(ProofBench(), scripted(lambda prompt, _: "Trivially True."), judge=scripted(judge, asked))
    assert run.results.values.tolist() == pytest.approx([1.0, 6 / 7, 1 / 7])
    assert run.summary["points, %"].value == pytest.approx(100 * 14 / 21)
    assert run.summary["basic, %"].value == pytest.approx(100 * 13 / 14)
    assert run.summary["advanced, %"].value == pytest.approx(100 / 7)
    assert len(asked) == 5
    for part in ("Prove Basic-001.", "by hand", "(Partial) a", "Trivially True."):
        assert part in asked[0]


def test_proofs_without_a_grade_are_unjudged_and_without_a_judge_refused(folder: Path) -> None:
    put(folder, "proofbench_v2.csv.gz", proofs("Basic-001"))
    run = evaluate(ProofBench(), scripted(["a proof"]), judge=scripted(lambda prompt, _: "<points>4 out of 7</points>"))
    assert run.unscored == {"unjudged": 1}
    assert np.isnan(run.score.value)
    with pytest.raises(ValueError, match="must have a judge"):
        evaluate(ProofBench(), scripted(["a proof"]))
    empty = evaluate(ProofBench(), scripted([""]), judge=scripted([]))
    assert empty.results.values.tolist() == [0.0]


def test_a_proof_cut_off_inside_its_reasoning_is_worth_nothing_and_not_judged(folder: Path) -> None:
    put(folder, "proofbench_v2.csv.gz", proofs("Basic-001"))
    judge = scripted(lambda prompt, _: "<points>6 out of 7</points>", asked := [])
    run = evaluate(ProofBench(), scripted(lambda prompt, _: cut_off("<think>First")), judge=judge)
    assert (run.results.values.tolist(), run.outcomes, asked) == ([0.0], {"truncated": 1}, [])
    run = evaluate(ProofBench(), scripted(lambda prompt, _: cut_off("First")), judge=judge)
    assert run.results.values.tolist() == pytest.approx([6 / 7])


def test_proofs_must_be_of_a_part(folder: Path) -> None:
    put(folder, "proofbench_v2.csv.gz", proofs("Basic-001", "Hard-001"))
    with pytest.raises(ValueError, match=r"PB-Basic-N.*row 1"):
        ProofBench().load()
    assert ProofBench(corrupt="skip").load().count == 1
    put(folder, "proofbench_v2.csv.gz", proofs("Basic-001").replace("Grading guidelines", "Guidelines"))
    with pytest.raises(ValueError, match="columns must include Grading guidelines"):
        ProofBench().load()


# --- GradingBench


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("All steps hold.\n\ncorrect", "correct"),
        ("It is incorrect", "incorrect"),
        ("**Almost.**", "almost"),
        ("Grade: `Partial`\n", "partial"),
        ("almost correct", "correct"),  # the last word
        ("correct, I think", None),
        ("partially", None),
        ("", None),
    ],
)
def test_the_last_word_is_the_grade(text: str, grade: str | None) -> None:
    assert read_grade(text) == grade


def gradings(*rows: tuple[str, str, str, str]) -> str:
    return table(
        GRADINGS,
        [[name, f"PB-{name[-1]}", "Prove it.", "Secret.", "Hidden.", said, points, word, "x"] for name, said, points, word in rows],
    )  # fmt: skip


def test_grades_are_compared_with_peoples(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text(
        gradings(("GB-1", "good", "7", "Correct"), ("GB-2", "bad", "0", "Incorrect"), ("GB-3", "so so", "1", "Partial"))
    )
    asked: list[str] = []
    grade = {"good": "correct", "bad": "partial", "so so": "no idea"}

    def script(prompt: str, config: object) -> str:
        return next(f"I see. {word}" for said, word in grade.items() if f"solution:\n{said}" in prompt)

    run = evaluate(GradingBench(file=str(path)), scripted(script, asked))
    assert run.summary["accuracy"].value == pytest.approx(1 / 3)
    assert run.summary["mean absolute error, points"].value == pytest.approx(0.5)
    assert run.outcomes == {"answered": 2, "unparsed": 1}
    assert run.chance == 1 / 4
    assert "Secret." not in asked[0]
    assert set(run.groups["grade"]) == {"correct", "incorrect", "partial"}
    evaluate(GradingBench(file=str(path), shown=True), scripted(script, shown := []))
    assert "Secret." in shown[0]
    assert "Hidden." in shown[0]
    assert list(GRADES.values()) == [0, 1, 6, 7]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (gradings(("GB-1", "a", "8", "Correct")), r"Points must be 0 to 7.*row 0"),
        (gradings(("GB-1", "a", "7", "Great")), r"Reward must be one of.*row 0"),
        (gradings(("GB-1", "a", "7", "Correct"), ("GB-1", "b", "7", "Correct")), r"Grading ID must be new.*row 1"),
        (gradings(("GB-1", "a", "7", "Correct")).replace("Response", "Proof"), "columns must include Response"),
        (gradings(("GB-1", "", "7", "Correct")), r"nothing in Response.*row 0"),
        (gradings(("GB-1", "a", "7", "Correct")) + 'GB-2,"x"y\n', r"balanced quotes.*row 1"),
    ],
)
def test_gradings_that_are_not_as_published_are_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "g.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        GradingBench(file=str(tmp_path / "g.csv")).load()


# --- Agreement and speed


def test_agreement_counts_what_both_told() -> None:
    sympy, judge = np.array([1.0, 1, 0, np.nan, 0]), np.array([1.0, 0, 0, 1, np.nan])
    results = Results([str(k) for k in range(5)], judge, ["answered"] * 5, {}, {"sympy": sympy, "judge": judge})
    found = AnswerBench().summary(results)
    assert found["agreement of sympy and judge"].value == pytest.approx(2 / 3)
    assert found["agreement of sympy and judge"].count == 3
    assert found["kappa of sympy and judge"].value == pytest.approx((2 / 3 - 4 / 9) / (5 / 9))


def test_readers_of_verdicts_are_fast() -> None:
    text = "step by step " * 100 + "<thinking>x</thinking> <points>6 out of 7</points> \\boxed{Correct} correct"
    began = time.perf_counter()
    for _ in range(1_000):
        assert read_verdict(text)
        assert read_points(text) == 6
        assert read_grade(text) == "correct"
    assert time.perf_counter() - began < 1.0


def test_the_idea_tells_equal_answers_from_altered_ones(folder: Path) -> None:
    told = ("3", "$\\frac{7}{18}$", "1/2, 1", "$(2, 5, 3)$", "$P(x)=2x^2+c$", "odd $n$", "2025", "$a^2-b$")
    put(
        folder, "answerbench_v2.csv.gz", answers(*((f"algebra-{k:03}", each, "Algebra") for k, each in enumerate(told)))
    )
    lines: list[str] = []
    found = idea.reproduce("smoke", seeds=(5, 6), progress=lines.append)
    assert found.verdict == "not testable at this scale"
    assert found.arms[idea.TREATMENT].measurements["agreement"] == (1.0, 1.0)
    assert found.arms[idea.TREATMENT].settings["answers_that_are_formulas"] == 7
    assert all(0.5 <= share < 1 for share in found.arms[idea.CONTROL].measurements["agreement"])
    assert len(lines) == 2
    assert "1 of 8 answers are prose" in found.reason
    with pytest.raises(ValueError, match="seeds must be at least 2"):
        idea.reproduce("smoke", seeds=(1,))
