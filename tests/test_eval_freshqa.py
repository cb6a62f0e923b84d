"""FreshQA: releases as they are published, the judge's prompt in both modes, and both parsers of its verdicts."""

import asyncio
import csv
import hashlib
from datetime import date
from pathlib import Path

import pytest
from inspect_ai.model import GenerateConfig, ModelOutput, ModelUsage

from heuretic.evals import evaluate
from heuretic.evals.freshqa import SHOWN, FreshEval, FreshQA, read_evaluation, sheet_date, year_group
from heuretic.lm import Answer, Sample
from scripted import scripted

HEADER = [
    "id", "split", "question", "effective_year", "next_review", "false_premise", "num_hops", "fact_type", "source",
    *(f"answer_{k}" for k in range(10)), "note",
]  # fmt: skip


def row(name: str, question: str, *answers: str, split: str = "TEST", year: str = "2022", premise: str = "FALSE", fact: str = "fast-changing") -> list[str]:  # fmt: skip
    return [
        name,
        split,
        question,
        year,
        "weekly",
        premise,
        "one-hop",
        fact,
        "https://a.org",
        *answers,
        *[""] * (10 - len(answers)),
        "",
    ]


RELAXED = "9b45f2868d47376e46c0ec4469b184f910e538187e8a2cf7591232b85cfd17b6"
STRICT = "811cbb4bcbc2eb08473bc4dce70b96a8bb408c656bb8e727bc7a8fa5cbc17cf0"
ROWS = [
    row("0", 'Who leads "X"?', "Ann Lee", "Lee, Ann"),
    row("1", "When did Y end?", "Y has not ended.", premise="TRUE", fact="slow-changing", year="before 2022"),
    row("2", "How many?\nExactly?", "3", split="DEV", year="2023", fact="never-changing"),
]


def release(folder: Path, rows: list[list[str]], above: int = 2, name: str = "FreshQA_v11242025.csv") -> str:
    path = folder / name
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([*[["WARNING", *[""] * 19]] * above, *rows])
    return str(path)


@pytest.mark.parametrize("above", [0, 2])
def test_a_release_is_read_with_its_day(tmp_path: Path, above: int) -> None:
    found = FreshQA(file=release(tmp_path, [HEADER, *ROWS], above), split="all").load()
    first, false, multiline = list(found)
    assert first.text == 'Who leads "X"?'
    assert first.target == ("Ann Lee", "Lee, Ann")
    assert false.about["fact_type"] == "false-premise"
    assert false.about["labelled_fact_type"] == "slow-changing"
    assert (false.about["effective_year"], multiline.about["effective_year"]) == ("before 2022", "2023")
    assert found.notes[0] == "release of 2025-11-24; relaxed evaluation"
    assert "2025-11-24" in next(iter(found.checksums))
    assert [q.id for q in FreshQA(file=release(tmp_path, [HEADER, *ROWS], above)).load()] == ["0", "1"]
    assert [q.id for q in FreshQA(file=release(tmp_path, [HEADER, *ROWS], above), split="DEV").load()] == ["2"]


def test_broken_releases_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="release of FreshQA"):
        FreshQA().load()
    with pytest.raises(ValueError, match="day of the release"):
        FreshQA(file=release(tmp_path, [HEADER, *ROWS], name="sheet.csv")).load()
    assert FreshQA(file=release(tmp_path, [HEADER, *ROWS], name="sheet.csv"), date="2024-01-01").load().count == 2
    for rows, message in (
        ([HEADER[1:], *ROWS], "columns must include id"),
        ([[h.replace("fact_type", "kind") for h in HEADER], *ROWS], "columns must include fact_type"),
        ([HEADER, ROWS[0], ROWS[0]], r"id must be new, got '0', which row 0 has too at .*, row 1"),
        ([HEADER, row("0", "Q?")], "answer_0"),
        ([HEADER, row("0", "Q?", "A", premise="maybe")], "TRUE or FALSE"),
        ([HEADER, ROWS[0][:-3]], "20 fields"),
        ([HEADER], "at least one question"),
    ):
        with pytest.raises(ValueError, match=message):
            FreshQA(file=release(tmp_path, rows)).load()
    kept = FreshQA(file=release(tmp_path, [HEADER, row("9", "Q?"), *ROWS]), corrupt="skip").load()
    assert kept.count == 2
    assert "left out" in kept.notes[1]
    assert kept.notes[-1] == "a full release has 600 questions, this one 3"
    open_quote = [*ROWS[0][:2], f"Who?,{','.join(ROWS[0][3:])}\n{','.join(ROWS[1])}", *ROWS[0][3:]]
    with pytest.raises(ValueError, match="cells must not hold other rows"):
        FreshQA(file=release(tmp_path, [HEADER, open_quote, ROWS[2]])).load()
    path = Path(release(tmp_path, [HEADER, *ROWS]))
    path.write_text(path.read_text() + '"3,TEST,open quote')
    with pytest.raises(ValueError, match="balanced quotes"):
        FreshQA(file=str(path)).load()


@pytest.mark.parametrize(
    ("text", "published", "tolerant"),
    [
        ("Fine.\nevaluation: correct", True, True),
        ("evaluation: incorrect", False, False),
        ("evaluation: correct.", None, True),
        ("evaluation: correct ", None, True),
        ("evaluation: Correct", None, True),
        ("Evaluation: correct", None, True),
        ("**Evaluation:** incorrect", None, False),
        ("evaluation: correct\nevaluation: incorrect", False, False),
        ("evaluation: nonsense\nevaluation: correct", None, True),
        ("evaluation: correct or incorrect", False, None),
        ("evaluation: not correct", True, False),
        ("my evaluation: the answer is correct", True, None),
        ("Thus, the response is credited.", True, True),
        ("Thus, the response is not credited.", False, False),
        ("thus the response is not credited", None, False),
        ("Thus, the response is credited.\nevaluation: incorrect", False, False),
        ("correct", None, True),
        ("It is partly right.", None, None),
        ("", None, None),
        ("comment: the correct answer is Paris\nevaluation:", None, None),
        ("evaluation: correct answer is Paris, so the response is wrong", None, None),
        ("evaluation: correct answer(s) not given", None, None),
        ("Strict evaluation: correct only if exact. I cannot say.", None, None),
        ("The answer is not\ncorrect", None, None),
        ("It names Paris.\n\n**Correct**", None, True),
        ("evaluation: incorrect (it should name Rome)", None, False),
        ("evaluation: correct - all is accurate", None, True),
        ('{"evaluation": "incorrect"}', None, False),
        ("evaluation: **correct**, as said", None, True),
    ],
)  # fmt: skip
def test_verdicts(text: str, published: bool | None, tolerant: bool | None) -> None:
    assert read_evaluation(text, official=True) is published
    assert read_evaluation(text) is tolerant


def test_the_prompt_flips_its_demonstrations_between_modes() -> None:
    today, prompts = date(2025, 11, 24), {}
    for strict in (False, True):
        messages = FreshEval().messages("Q?", ("a", "b"), "R", today, strict)
        prompts[strict] = messages[-1].text
        assert messages[0].text.endswith("Knowledge cutoff: November 24, 2025.")
        assert prompts[strict].endswith("\n\n\nquestion: Q?\ncorrect answer(s): a | b\nresponse: R\ncomment: ")
        assert ("strict evaluation" if strict else "relaxed evaluation") in prompts[strict]
        labels = [line for line in prompts[strict].splitlines() if line.startswith("evaluation: ")]
        assert labels == [
            f"evaluation: {'correct' if (s.credited_strictly if strict else s.credited) else 'incorrect'}"
            for s in SHOWN
        ]
        assert all(read_evaluation(block, official=True) is not None for block in prompts[strict].split("\n\n\n")[1:-1])
    assert sum(s.credited and not s.credited_strictly for s in SHOWN) == 4
    assert not any(s.credited_strictly and not s.credited for s in SHOWN)
    assert "{" not in prompts[False]


def test_the_official_prompt_is_the_published_one(tmp_path: Path) -> None:
    """Checksums: of the whole prompts that the notebooks make on that day, by running their own cells."""
    today = date(2025, 11, 24)
    for strict, wanted in ((False, RELAXED), (True, STRICT)):
        text = FreshEval().messages("Q?", ("a", "b"), "R", today, strict, official=True)[-1].text
        assert text.count("\nevaluation: ") == 15
        assert "{" not in text
        assert hashlib.sha256(text.encode()).hexdigest() == wanted
    asked: list[str] = []
    evaluation = FreshQA(file=release(tmp_path, [HEADER, *ROWS]), official=True)
    evaluate(evaluation, scripted(lambda prompt, config: "Ann"), judge=scripted(["evaluation: correct"] * 2, asked))
    assert all("How old is the world's oldest verified living person?" in prompt for prompt in asked)


def test_a_run_is_scored_by_the_judge(tmp_path: Path) -> None:
    evaluation = FreshQA(file=release(tmp_path, [HEADER, *ROWS]), split="all", strict=True)
    model = scripted(lambda prompt, config: "Ann Lee" if "X" in prompt else "It ended in 2020.")
    judge = scripted(
        lambda prompt, config: (
            f"evaluation: {'correct' if prompt.endswith('Ann Lee' + chr(10) + 'comment: ') else 'incorrect'}"
        )
    )
    run = evaluate(evaluation, model, judge=judge)
    assert run.results.values.tolist() == [1.0, 0.0, 0.0]
    assert run.summary["accuracy"].value == pytest.approx(1 / 3)
    assert run.summary["accuracy, valid premise"].value == 0.5
    assert set(run.groups["fact_type"]) == {"fast-changing", "false-premise", "never-changing"}
    assert evaluation.title == "freshqa strict 2025-11-24"


def test_unreadable_verdicts_are_unjudged_and_refusals_are_judged(tmp_path: Path) -> None:
    evaluation = FreshQA(file=release(tmp_path, [HEADER, *ROWS]))
    question = next(iter(evaluation.load()))

    def score(outcome, text: str, judge):
        return asyncio.run(
            evaluation.score(question, Answer(None, outcome, 0.0, (Sample(None, outcome, text),), ()), judge)
        )

    asked: list[str] = []
    lost = score("refused", "There is no such thing.", scripted(["Hm."] * 9, asked))
    assert (lost.value, len(asked)) == (None, 3)
    assert lost.reason.startswith("judge off format: no verdict in 3 replies")
    assert score("refused", "I cannot say.", scripted(["evaluation: maybe", "evaluation: correct"])).value == 1.0
    assert score("empty", "", scripted([])).value == 0.0
    assert score("truncated", "", scripted([])).value == 0.0, "cut off inside its reasoning"
    assert score("truncated", "Ann Lee leads it. She was", scripted(["evaluation: correct"])).value == 1.0
    declined = ModelOutput.from_content("judge", "No.", stop_reason="content_filter")
    declined.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    assert score("answered", "Ann", scripted(lambda prompt, config: declined)).reason == "judge refused: 'No.'"

    def down(prompt: str, config: GenerateConfig) -> str:
        raise RuntimeError("status 500")

    assert score("answered", "Ann", scripted(down)).reason.startswith("judge failed: ")


def test_days_and_years() -> None:
    assert sheet_date("freshqa_2025-11-24.csv") == sheet_date("FreshQA_v11242025.csv") == "2025-11-24"
    assert sheet_date("FreshQA November 24, 2025.csv") == sheet_date("freshqa_20251124.csv") == "2025-11-24"
    assert sheet_date("summary_12_2024.csv") == sheet_date("marathon 5 2024.csv") == ""
    assert sheet_date("freshqa.csv") == sheet_date("freshqa_20259924.csv") == ""
    assert [year_group(y) for y in ("before 2022", "2019", "2022", "2024", "")] == [
        "before 2022",
        "before 2022",
        "2022",
        "2024",
        "unknown",
    ]
