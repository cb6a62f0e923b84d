"""BIG-Bench Hard: the harness's extraction with its quirks, tolerant matching, how tasks are asked, and its averages."""

import asyncio
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest

from heuretic.evals import Results
from heuretic.evals.bbh import BBH, HUMANS, LEAD, ShortAnswer, TaskExemplars, matches, published_extract, strategies
from heuretic.evals.running import evaluate
from heuretic.ideas import cot_bbh
from heuretic.lm import Question
from heuretic.lm.bbh_exemplars import bbh_prompt
from heuretic.lm.question_sets import BBH_TASKS
from scripted import scripted

# --- As published


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("So the answer is (A).", "(A)"),
        ("So the answer is (A)", "(A"),  # the last character is eaten
        ("So the answer is A", ""),
        ("So the answer is ", "[invalid]"),
        ("So The answer is (A).", "[invalid]"),  # case-sensitive
        ("So the answer is: (A).", "[invalid]"),
        ("So the answer is (A).\nMore.", "(A)"),  # the line
        ("the answer is No. So the answer is Yes.", "No. So the answer is Yes"),  # from the first one on
        ("the answer is No.\nthe answer is Yes.", "No"),
        ("Quite so. So the answer is (A).", "[invalid]"),  # the stop Q
        ("So the answer is (A).\n\nQ: next", "(A)"),
        ("First.\n\nSo the answer is (A).", "[invalid]"),  # the stop of an empty line
        ("So the answer is (A).</s>So", "(A)"),
        ("So the answer is > ] }.", "> ] }"),
        ("So the answer is   12  .", "12"),
        ("", "[invalid]"),
    ],
)
def test_answers_are_extracted_as_the_harness_does(text: str, found: str) -> None:
    assert published_extract(text) == found


# --- Tolerant


@pytest.mark.parametrize(
    ("answer", "target", "same"),
    [
        ("(a)", "(A)", True),
        ("A", "(A)", True),
        ("(A) both of them", "(A)", True),
        ("(a) or (b)", "(A)", False),
        ("(b)", "(A)", False),
        ("ab", "(A)", False),
        ("No, you do not return.", "No", True),
        ("no", "No", True),
        ("not", "No", False),
        ("Yes or No", "Yes", False),
        ("invalid", "valid", False),
        ("**valid**", "valid", True),
        ("false", "False", True),
        ("] ) >", "])>", True),
        ("])", "] ) >", False),
        ("42.0", "42", True),
        ("1,234", "1234", True),
        ("4 2", "42", False),
        ("-42", "42", False),
        ("apple, bean, corn", "apple bean corn", True),
        ("apple corn bean", "apple bean corn", False),
        ("", "No", False),
        ("yes/no", "Yes", False),
        ("not valid", "invalid", True),
        ("not plausible", "implausible", True),
        ("not valid", "valid", False),
        ("not yes", "Yes", False),
        ("(A) (B)", "(A)", False),
    ],
)
def test_answers_are_matched_however_they_are_written(answer: str, target: str, same: bool) -> None:
    assert matches(answer, target) is same


def test_answers_are_found_in_replies() -> None:
    parse, question = ShortAnswer(), Question("?")
    assert parse("First.\n\nSo the answer is **(B)**, as said.", question) == "b"
    assert parse("<think>the answer is (A)", question) is None
    assert parse("", question) is None


# --- How tasks are asked


def asked(how: TaskExemplars, task: str, reply: str = "So the answer is No.") -> tuple[str, str | None]:
    prompts: list[str] = []
    question = Question("Do you return?", "No", about={"task": task})
    answer = asyncio.run(how(question, scripted(lambda prompt, config: reply, prompts)))
    return prompts[0], answer.answer


@pytest.mark.parametrize("task", BBH_TASKS)
def test_every_task_is_asked_with_its_own_exemplars(task: str) -> None:
    known = bbh_prompt(task)
    reasoned, answer = asked(TaskExemplars(), task)
    assert answer == "no"
    assert reasoned.startswith(f"{known.description}\n\nQ: {known.exemplars[0].question}\nA: {LEAD} ")
    assert reasoned.endswith(f"Q: Do you return?\nA: {LEAD}")
    assert len(re.findall("the answer is ", reasoned)) >= 3
    assert reasoned.count(f"A: {LEAD}") == 4
    plain, answer = asked(TaskExemplars(reasoning=False), task, "No.")
    assert answer == "no"
    assert plain.endswith("Q: Do you return?\nA:")
    assert f"\nA: {known.exemplars[2].answer}." in plain
    assert LEAD not in plain


def test_replies_may_have_paragraphs_and_end_before_a_next_question() -> None:
    stops: list[object] = []

    def script(prompt: str, config: object) -> str:
        stops.append(config.stop_seqs)  # pyright: ignore[reportAttributeAccessIssue]
        return "First.\n\nSo the answer is Yes."

    question = Question("?", "Yes", about={"task": "navigate"})
    assert asyncio.run(TaskExemplars()(question, scripted(script))).answer == "yes"
    assert stops == [["\n\nQ:", "\nQ:"]]


def test_a_question_without_a_task_is_refused() -> None:
    with pytest.raises(ValueError, match="task must be one of"):
        asyncio.run(TaskExemplars()(Question("?"), scripted(["x"])))
    with pytest.raises(ValueError, match="task must be one of"):
        BBH(task="navigation")


def test_the_idea_asks_as_before() -> None:
    found = strategies("navigate", 80)
    assert set(found) == {cot_bbh.TREATMENT, cot_bbh.CONTROL}
    assert cot_bbh.strategies is strategies
    assert found["chain of thought"].sampling.max_tokens == 80


# --- Averages


def test_averages_are_over_tasks_merged_tasks_and_questions() -> None:
    tasks = ["navigate"] * 4 + [f"logical_deduction_{n}_objects" for n in ("three", "five", "seven")]
    values = np.array([1.0, 1, 1, 1, 0, 0, 0])
    results = Results(
        [str(k) for k in range(7)], values, ["answered"] * 7, {"task": tasks}, {"published rules": 1 - values}
    )
    found = BBH().summary(results)
    assert next(iter(found)) == "macro average of 23 tasks"
    assert found["macro average of 23 tasks"].value == pytest.approx(1 / 2)
    assert found["macro average of 27 tasks"].value == pytest.approx(1 / 4)
    assert found["micro average"].value == pytest.approx(4 / 7)
    assert found["micro average, by the published rules"].value == pytest.approx(3 / 7)
    assert "micro average, by the published rules" not in BBH(official=True).summary(results)
    assert BBH.references is HUMANS


# --- Runs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEURETIC_DATA", str(tmp_path))
    (tmp_path / "bbh").mkdir()
    return tmp_path / "bbh"


def written(folder: Path, rows: list[dict[str, str]]) -> None:
    with gzip.open(folder / "bbh.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_a_run_scores_both_ways(folder: Path) -> None:
    options = "Which?\nOptions:\n(A) a\n(B) b\n(C) c"
    written(
        folder,
        [
            {"task": "ruin_names", "input": options, "target": "(A)"},
            {"task": "navigate", "input": "Back?", "target": "No"},
            {"task": "object_counting", "input": "How many?", "target": "3"},
        ],
    )
    replies = {"Which?": "So the answer is (A).", "Back?": "Q. So the answer is **No**", "How many?": "no idea"}

    def script(prompt: str, config: object) -> str:
        return next(said for key, said in replies.items() if key in prompt.rpartition("Q: ")[2])

    run = evaluate(BBH(), scripted(script))
    assert run.summary["micro average"].value == pytest.approx(2 / 3)
    assert run.summary["micro average, by the published rules"].value == pytest.approx(1 / 3)
    assert run.chance == pytest.approx((1 / 3 + 1 / 2 + 0) / 3)
    assert evaluate(BBH(official=True), scripted(script)).summary["micro average"].value == pytest.approx(1 / 3)
    only = evaluate(BBH(task="navigate", reasoning=False, official=True), scripted(lambda prompt, _: " No.\n\nQ: x"))
    assert only.questions == 1
    assert only.score.value == 1.0


def test_bad_files_are_told(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"bbh/bbh\.jsonl\.gz"):
        BBH().load()
    written(folder, [{"task": "navigate", "question": "Back?", "target": "No"}])
    with pytest.raises(ValueError, match=r"record must have input.*row 0"):
        BBH().load()
    written(folder, [{"task": "other", "input": "Back?", "target": "No"}])
    with pytest.raises(ValueError, match=r"task must be one of.*row 0"):
        BBH().load()
