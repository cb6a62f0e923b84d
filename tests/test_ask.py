"""`heuretic ask` on real local weights."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ask")


def ask(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "heuretic", "ask", *arguments], cwd=folder, capture_output=True, text=True, timeout=240
    )


def test_one_question_shows_how_the_answer_came_about(folder: Path) -> None:
    done = ask(folder, "What is 2 + 3?", "--strategy", "direct | self-consistency?samples=3")
    assert done.returncode == 0, done.stderr
    assert "--- direct\nWhat is 2 + 3?" in done.stdout
    assert done.stdout.count(">>>") == 3
    assert re.search(r"^Answer: \S+, \d+% of the votes$", done.stdout, re.MULTILINE)
    assert re.search(r"\d+ prompt tokens.*\d+ generated, 3 replies", done.stdout)


def test_json_and_replies_from_disk(folder: Path) -> None:
    first = json.loads(ask(folder, "What is 2 + 2?", "--strategy", "direct", "--json").stdout)
    again = json.loads(ask(folder, "What is 2 + 2?", "--strategy", "direct", "--json").stdout)
    assert first["answer"] == again["answer"]
    assert [r["cached"] for r in again["trace"][0]["replies"]] == [True]


def test_a_file_of_questions(folder: Path) -> None:
    asked = folder / "sums.jsonl"
    asked.write_text("".join(json.dumps({"question": f"What is {k} + 1?", "answer": k + 1}) + "\n" for k in range(4)))
    done = ask(folder, "--file", str(asked), "--strategy", "direct", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["answered"] == 4
    assert sum(told["outcomes"].values()) == 4
    low, high = told["interval"]
    assert 0 <= low <= told["accuracy"] <= high <= 1
    lines = [json.loads(line) for line in Path(told["out"]).read_text().splitlines()]
    assert {line["question"] for line in lines} == {f"What is {k} + 1?" for k in range(4)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("x", "--strategy", "dircet"), "Did you mean 'direct'"),
        (("x", "--model", "heuretic/nothing-here"), "nothing-here"),
        (("x", "--tokens", "1", "--strategy", "direct"), "the next call may take"),
        (("--file", "missing.jsonl"), "missing.jsonl"),
        ((), "a question or --file must be given"),
        (("x", "--image", "missing.png"), "missing.png"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_line(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    done = ask(folder, *arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert said in " ".join(done.stderr.split())
