"""Published question sets: what is read, what is refused, and what is generated."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from heuretic.data.records import Records
from heuretic.lm.bbh_exemplars import bbh_prompt
from heuretic.lm.published_questions import published, records_of
from heuretic.lm.question_sets import BBH_TASKS, SCAN_SPLITS, canonical_target, question_set, questions

GSM8K = [
    {"question": "Two and two?", "answer": "2+2=4\n#### 4", "index": 0},
    {"question": "A thousand and eighty?", "answer": "so\n#### 1,080", "index": 1},
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that writes records, or lines, where a set is looked for."""
    monkeypatch.setenv("HEURETIC_DATA", str(tmp_path))
    monkeypatch.setenv("HEURETIC_CACHE", str(tmp_path / "cache"))

    def write(where: str, records: list) -> Path:
        path = tmp_path / where
        path.parent.mkdir(exist_ok=True)
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.writelines((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records)
        return path

    return write


# -- what is read -----------------------------------------------------------------------------------------------


def test_gsm8k_has_the_number_after_the_hashes(place) -> None:
    place("gsm8k/train.jsonl.gz", GSM8K)
    first, second = questions("gsm8k", "train")
    assert (first.text, first.target, first.id) == ("Two and two?", "4", "0")
    assert first.about["rationale"] == "2+2=4"
    assert second.target == "1080"


def test_multiarith_and_aqua(place) -> None:
    place(
        "multiarith/multiarith.jsonl.gz",
        [{"question": " How many? ", "answer": 39.0, "equations": ["X=1"], "index": 3}],
    )
    [question] = questions("multiarith")
    assert (question.text, question.target, question.id) == ("How many?", "39", "3")
    place(
        "aqua/test.jsonl.gz",
        [{"question": "Which?", "options": ["A)5(√3 + 1)", "B) 6"], "correct": "B", "rationale": "r"}],
    )
    [question] = questions("aqua")
    assert (question.choices, question.target) == (("5(√3 + 1)", "6"), "B")


def test_bbh_is_one_set_or_one_task(place) -> None:
    rows = [{"task": task, "input": f"Do it, {task}", "target": "yes"} for task in ("navigate", "snarks", "navigate")]
    place("bbh/bbh.jsonl.gz", rows)
    assert [q.id for q in questions("bbh")] == ["navigate/0", "snarks/0", "navigate/1"]
    assert [q.id for q in questions("bbh/navigate")] == ["navigate/0", "navigate/1"]
    assert len(set(BBH_TASKS)) == 27
    with pytest.raises(ValueError, match=r"bbh/ruin_names must have at least one question"):
        questions("bbh/ruin_names")


def test_mmlu_is_one_set_or_one_subject(place) -> None:
    rows = [
        {"subject": s, "index": 0, "question": "q?", "choices": ["0", "4"], "answer": "B"}
        for s in ("anatomy", "virology")
    ]
    place("mmlu_test/mmlu_test.jsonl.gz", rows)
    assert [q.id for q in questions("mmlu")] == ["anatomy/0", "virology/0"]
    [question] = questions("mmlu/virology")
    assert (question.choices, question.target) == (("0", "4"), "B")
    place("mmlu_test/mmlu_test.jsonl.gz", [rows[0] | {"answer": "C"}])
    with pytest.raises(ValueError, match="answer the letter of one of them, got"):
        questions("mmlu")
    with pytest.raises(ValueError, match=r"subject must be one of abstract_algebra, anatomy, .*, got 'virologie'"):
        questions("mmlu/virologie")


def test_scan(place) -> None:
    place("scan/length_train.txt.gz", ["IN: walk left OUT: I_TURN_LEFT I_WALK"])
    [question] = questions("scan/length", "train")
    assert (question.text, question.target) == ("walk left", "I_TURN_LEFT I_WALK")


def test_the_published_files_are_whole() -> None:
    expected = {
        ("gsm8k", "train"): 7473,
        ("gsm8k", "test"): 1019,
        ("multiarith", "test"): 600,
        ("aqua", "test"): 254,
        ("bbh", "test"): 6511,
    }
    expected |= {("scan/simple", "test"): 4182, ("scan/length", "test"): 3920}
    for (name, part), count in expected.items():
        try:
            found = question_set(name, part)
        except FileNotFoundError as missing:
            pytest.skip(str(missing))
        assert len(found.questions) == count
        assert len(found.checksum) == 64
        assert all(q.target and q.text == q.text.strip() for q in found.questions)
    assert len(question_set("multiarith", repeated="drop").questions) == 580
    tasks = [q.about["task"] for q in questions("bbh")]
    assert {tasks.count(task) for task in BBH_TASKS} == {250, 187, 146, 178}


def test_files_are_read_as_they_are_published_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEURETIC_DATA", str(tmp_path))
    problem = {"iIndex": 7, "sQuestion": " 2 and 3? ", "lSolutions": [5.0], "lEquations": ["X=2+3"], "lAlignments": [1]}
    options = ["A)1", "B)2", "C)3", "D)4", "E)5"]
    written = {
        "gsm8k/test.jsonl": "\n".join(map(json.dumps, GSM8K)),
        "multiarith/multiarith.json": json.dumps([problem]),
        "aqua/test.json": json.dumps({"question": "2?", "options": options, "correct": "B", "rationale": "so"}),
        "mmlu_test/virology_test.csv": '"Is ""it"", say,\nso?",yes,no, both ,neither,C\r\nWhy?,1,2,3,4,A\r\n',
        "scan/length_train.txt": "IN: walk left OUT: I_TURN_LEFT I_WALK\n",
    } | {
        f"bbh/{task}.json": json.dumps(
            {"canary": "c", "examples": [{"input": f"{task} {k}?", "target": k} for k in (0, 1)]}
        )
        for task in BBH_TASKS
    }
    for place, text in written.items():
        path = tmp_path / place
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode())

    assert [(q.id, q.target) for q in questions("gsm8k")] == [("0", "4"), ("1", "1080")]
    [problem] = questions("multiarith")
    assert (problem.text, problem.target, problem.id) == ("2 and 3?", "5", "7")
    [question] = questions("aqua")
    assert (question.target, question.choices[1]) == ("B", "2")
    quoted, other = questions("mmlu/virology")
    assert (quoted.text, quoted.choices, quoted.target) == ('Is "it", say,\nso?', ("yes", "no", "both", "neither"), "C")
    assert (quoted.id, other.id, other.about["subject"]) == ("virology/0", "virology/1", "virology")
    [command] = questions("scan/length", "train")
    assert command.target == "I_TURN_LEFT I_WALK"
    found = question_set("bbh").questions
    assert len(found) == 2 * len(BBH_TASKS)
    assert [(q.id, q.text, q.target) for q in questions("bbh/navigate")] == [
        ("navigate/0", "navigate 0?", "0"), ("navigate/1", "navigate 1?", "1"),
    ]  # fmt: skip

    (tmp_path / "multiarith/multiarith.json").write_text(json.dumps([{"sQuestion": "?", "lSolutions": [1, 2]}]))
    with pytest.raises(ValueError, match="problem must have sQuestion, lEquations, and one of lSolutions"):
        questions("multiarith")
    (tmp_path / "mmlu_test/virology_test.csv").write_text('"Why?,1,2,3,4,A\n')
    with pytest.raises(ValueError, match=r"virology_test\.csv must be CSV with balanced quotes"):
        questions("mmlu/virology")
    (tmp_path / "bbh/navigate.json").write_text("[]")
    with pytest.raises(ValueError, match=r"navigate\.json must be JSON with examples"):
        questions("bbh")


def test_every_published_file_has_an_address_and_a_checksum() -> None:
    sets = [("gsm8k", "train", ""), ("gsm8k", "test", ""), ("aqua", "test", ""), ("multiarith", "test", "")]
    sets += [("bbh", "test", ""), ("mmlu", "test", "")] + [
        ("scan", p, s) for s in SCAN_SPLITS for p in ("train", "test")
    ]
    found = [file for family, part, which in sets for file in published(family, part, which)]
    assert len(found) == len({file.urls for file in found}) == 2 + 1 + 1 + len(BBH_TASKS) + 57 + 6
    assert [Path(file.place).stem for file in published("bbh", "test", "")] == list(BBH_TASKS)
    for file in found:
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        [url] = file.urls
        assert re.fullmatch(r"https://raw\.githubusercontent\.com/[\w-]+/[\w-]+/[0-9a-f]{40}/[\w./-]+", url)


@pytest.mark.parametrize(("text", "number"), [("1,080", "1080"), ("39.0", "39"), ("$2.50", "2.5"), ("-3", "-3")])
def test_numbers_have_one_form(text: str, number: str) -> None:
    assert canonical_target(text) == number


# -- last letters -----------------------------------------------------------------------------------------------


def test_last_letters_are_generated_by_seed() -> None:
    found = question_set("last-letter/4", count=50, seed=3)
    assert found == question_set("last-letter/4", count=50, seed=3)
    assert found.checksum != question_set("last-letter/4", count=50, seed=4).checksum
    for question in found.questions:
        words = question.text.split('"')[1].split()
        assert len(words) == 4
        assert question.target == "".join(word[-1] for word in words)
    assert len({q.text for q in found.questions}) == 50


def test_words_of_training_and_test_differ() -> None:
    for length in (2, 4, 8):
        train, test = (
            {w for q in questions(f"last-letter/{length}", part) for w in q.about["words"]}
            for part in ("train", "test")
        )
        assert train
        assert not train & test


# -- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"prompt": "x", "answer": "#### 1"},
            r"record must have question, answer, got \['answer', 'prompt'\] at .*train\.jsonl\.gz, row 2",
        ),
        ({"question": " ", "answer": "#### 1"}, "question must be a text"),
        ({"question": "x", "answer": "it is 4"}, "answer must end with #### and a number, got 'it is 4'"),
        ({"question": "x", "answer": "#### nan"}, "answer must end with #### and a number"),
        ({"question": "x", "answer": "#### 4", "index": 1}, "index must be new, got 1, which row 1 has too"),
        ("{broken", "record must be JSON"),
        ("[1]", "record must have question, answer, got list"),
        ({"question": "x", "answer": "#### 4", "index": [1]}, r"index must be a whole number or text, got \[1\]"),
        ("[" * 100_000 + "]" * 100_000, "record must be JSON"),
    ],
)
def test_a_record_that_cannot_be_read_is_named_or_skipped(place, record, message: str) -> None:
    place("gsm8k/train.jsonl.gz", [*GSM8K, record])
    with pytest.raises(ValueError, match=message):
        questions("gsm8k", "train")
    assert len(questions("gsm8k", "train", corrupt="skip")) == 2


def refusal(name: str, **settings: Any) -> str:
    try:
        questions(name, **settings)
    except ValueError as error:
        return str(error)
    return ""


STRANGE = (None, 5, 1.5, True, float("nan"), [], ["a"], [["a"]], {}, {"a": 1})


@pytest.mark.parametrize(
    ("name", "where", "record"),
    [
        ("gsm8k", "gsm8k/test.jsonl.gz", GSM8K[0]),
        ("multiarith", "multiarith/multiarith.jsonl.gz", {"question": "x", "answer": 39.0, "equations": ["X=1"], "index": 3}),
        ("aqua", "aqua/test.jsonl.gz", {"question": "x", "options": ["A)5", "B) 6"], "correct": "B", "rationale": "r"}),
        ("bbh", "bbh/bbh.jsonl.gz", {"input": "x", "target": "y", "task": "navigate"}),
        ("mmlu", "mmlu_test/mmlu_test.jsonl.gz", {"question": "x", "choices": ["a", "b"], "answer": "A", "subject": "s", "index": 1}),
    ],
)  # fmt: skip
def test_strange_values_are_refused_or_read_and_never_break_a_reader(
    place, name: str, where: str, record: dict
) -> None:
    for column in record:
        for value in STRANGE:
            path = place(where, [record | {column: value}])
            if said := refusal(name):
                assert f"at {path}, row 0" in said, (column, value)
                assert "at least one question" in refusal(name, corrupt="skip")
                continue
            [question] = questions(name)
            texts = [question.text, question.target, question.id, *question.choices, question.about.get("subject", "")]
            assert all(isinstance(each, str) for each in texts), (column, value)
            assert column not in ("task", "subject"), value


def test_a_published_file_with_a_strange_task_or_equations_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bbh").mkdir()
    path = tmp_path / "bbh" / "navigate.json"
    path.write_text('{"examples": [{"input": "x", "target": "y", "task": ["a"]}]}')
    with pytest.raises(ValueError, match=r"task must be a text, got \['a'\] at .*navigate\.json, row 0"):
        list(records_of(path, Records("raise"), ("input", "target", "task")))
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="must be JSON"):
        list(records_of(path, Records("raise"), ("input", "target", "task")))


def test_all_records_of_another_form_leave_no_question(place) -> None:
    place("multiarith/multiarith.jsonl.gz", [{"Question": "x", "answer": 1}])
    with pytest.raises(ValueError, match=r"at least one question, got none at .*multiarith"):
        questions("multiarith", corrupt="skip")
    place("aqua/test.jsonl.gz", [{"question": "x", "options": ["A)1", "C)2"], "correct": "A"}])
    with pytest.raises(ValueError, match=r"options must be A\) to E\)"):
        questions("aqua")
    place("bbh/bbh.jsonl.gz", [{"task": "navigation", "input": "x", "target": "y"}])
    with pytest.raises(ValueError, match=r"task must be one of the 27 .* got 'navigation'"):
        questions("bbh")
    place("scan/simple_test.txt.gz", ["walk => I_WALK"])
    with pytest.raises(ValueError, match="line must be IN: command OUT: ACTIONS"):
        questions("scan/simple")


def test_a_file_that_is_absent_or_not_gzipped(place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"HEURETIC_DATA must name a folder with gsm8k/test\.jsonl\.gz"):
        questions("gsm8k")
    path = place("gsm8k/test.jsonl.gz", GSM8K)
    whole = path.read_bytes()
    for damaged in (b"question,answer\n", whole[: len(whole) // 2], whole[:40] + b"\x00\xff" + whole[42:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"test\.jsonl\.gz must be JSON lines, gzipped, got"):
            questions("gsm8k")
    monkeypatch.delenv("HEURETIC_DATA")
    with pytest.raises(FileNotFoundError, match="HEURETIC_DATA must name a folder"):
        questions("aqua")


def test_repeated_questions_are_kept_or_dropped(place) -> None:
    rows = [
        ("snarks", "a", "x"),
        ("snarks", "a", "x"),
        ("navigate", "a", "x"),
        ("snarks", "b", "yes"),
        ("snarks", "b", "no"),
        ("snarks", "c", "x"),
    ]
    place("bbh/bbh.jsonl.gz", [{"task": t, "input": i, "target": g} for t, i, g in rows])
    assert len(questions("bbh")) == 6
    assert [(q.about["task"], q.text) for q in questions("bbh", repeated="drop")] == [
        ("snarks", "a"),
        ("navigate", "a"),
        ("snarks", "c"),
    ]


@pytest.mark.parametrize(
    ("name", "part", "message"),
    [
        ("gsm9k", "test", "questions must be one of gsm8k, multiarith"),
        ("gsm8k/easy", "test", "questions must be one of"),
        ("gsm8k", "dev", "part must be one of train, test for gsm8k, got 'dev'"),
        ("aqua", "train", "part must be one of test"),
        ("bbh/navigation", "test", "task must be one of boolean_expressions"),
        ("scan", "test", f"split must be one of {', '.join(SCAN_SPLITS)}, got ''"),
        ("last-letter/four", "test", "words must be 1 to"),
        ("last-letter/2", "dev", "part must be train or test"),
    ],
)
def test_an_unknown_name_is_refused(name: str, part: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        questions(name, part)
    with pytest.raises(ValueError, match="count must be 1 to"):
        questions("last-letter/1", count=10_000)


# -- exemplars of BIG-Bench Hard --------------------------------------------------------------------------------


def test_every_task_has_three_published_exemplars() -> None:
    for task in BBH_TASKS:
        prompt = bbh_prompt(task)
        assert len(prompt.exemplars) == 3, task
        assert prompt.description
        assert "Q:" not in prompt.description
        for each in prompt.exemplars:
            assert each.question
            assert each.rationale
            assert each.answer
            assert "So the answer is" not in each.rationale
            assert not each.rationale.startswith("Let's think")
    first = bbh_prompt("sports_understanding").exemplars[0]
    assert first.question.startswith('Is the following sentence plausible? "Bam Adebayo')
    assert first.rationale.startswith("Bam Adebayo is an American basketball player.")
    assert first.answer == "yes"
    assert bbh_prompt("dyck_languages").exemplars[0].answer == "] } ]"
    with pytest.raises(ValueError, match="task must be one of boolean_expressions"):
        bbh_prompt("navigation")
