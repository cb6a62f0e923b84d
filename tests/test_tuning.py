"""Scoring strategies on labelled questions, and searching over what they leave open."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import heuretic as hr
from heuretic.lm import Accuracy, Question, answer_all
from heuretic.lm.parsing import Choice
from heuretic.lm.strategies import ChainOfThought, Direct, SelfConsistency
from heuretic.lm.strategies.addresses import STRATEGIES
from heuretic.lm.strategies.prompting import parser_of
from heuretic.lm.tuning import scores
from heuretic.lm.verifiers import Numeric
from heuretic.lm.waiting import wait
from scripted import scripted

QUESTIONS = [Question(f"{k} plus one?", target=f"{k + 1}.0") for k in range(6)]


def adds_if_told(prompt: str, _: object) -> str:
    number = int(prompt.split()[0])
    return (
        f"The answer is {number + 1}."
        if "carefully" in prompt
        else "I know not."
        if number == 3
        else "The answer is 1."
    )


def test_accuracy_counts_what_the_parser_reads_as_equal() -> None:
    told = Accuracy(QUESTIONS, scripted(adds_if_told))(Direct(instruction="Add carefully."))
    assert told["accuracy"] == 1.0  # "1" and the target "1.0" are the same number
    careless = Accuracy(QUESTIONS, scripted(adds_if_told))(Direct(instruction="Add."))
    assert careless["accuracy"] == pytest.approx(1 / 6)
    assert careless["without_answer"] == pytest.approx(1 / 6)
    assert "dollars" not in careless  # no price is known
    assert careless["input_tokens"] == 4.0


def test_the_best_of_an_open_strategy_is_found() -> None:
    program = Direct(instruction=hr.one_of("Add.", "Add carefully.", "Say."))
    study = hr.discover(
        program,
        Accuracy(QUESTIONS, scripted(adds_if_told)),
        maximize="accuracy",
        trials=3,
        algorithm="random",
        progress=False,
    )
    assert study.best is not None
    assert study.best.program == Direct(instruction="Add carefully.")
    assert study.best.metrics["accuracy"] == 1.0


def test_limit_file_and_verifier(tmp_path: Path) -> None:
    file = tmp_path / "questions.csv"
    file.write_text("question,answer\n1 plus one?,2.2\n2 plus one?,9\n3 plus one?,4\n")
    near = Accuracy(file, scripted(adds_if_told), verify=Numeric(absolute=0.25), limit=2)
    assert near(Direct(instruction="carefully"))["accuracy"] == 0.5


def test_questions_without_a_target_are_refused() -> None:
    with pytest.raises(ValueError, match="questions must have targets, got none for 'Why"):
        Accuracy([Question("Why?")], scripted(["x"]))


def test_the_parser_is_that_of_the_innermost_strategy() -> None:
    assert parser_of(SelfConsistency(of=ChainOfThought(parse=Choice()))) == Choice()
    question = Question("Which?", target="(B)", choices=("red", "blue"))
    strategy = ChainOfThought(parse=Choice())
    given = answer_all(strategy, [question], scripted(["The answer is (B)."]))
    assert wait(scores(strategy, [question], given)) == [True]


def test_strategies_have_addresses() -> None:
    nested = STRATEGIES.at("chain-of-thought?cue=Think. | self-consistency?samples=3&top_k=null")
    assert nested == SelfConsistency(of=ChainOfThought(cue="Think."), samples=3, top_k=None)
    assert STRATEGIES.at(STRATEGIES.of(nested)) == nested
    with pytest.raises(ValueError, match="Did you mean 'direct'"):
        STRATEGIES.at("dircet")


def test_the_command_searches_a_strategy_on_a_labelled_file(tmp_path: Path) -> None:
    (tmp_path / "sums.jsonl").write_text('{"question": "What is 1 + 1?", "answer": 2}\n')
    (tmp_path / "mine.py").write_text(
        "import heuretic as hr\nfrom heuretic.lm import Sampling\nfrom heuretic.lm.strategies import Direct\n"
        "program = Direct(instruction=hr.one_of('Number?', 'Reply.'), sampling=Sampling(max_tokens=4))\n"
    )
    command = [sys.executable, "-m", "heuretic", "discover", "sums.jsonl", "--trials", "2", "--json"]
    done = subprocess.run(
        [*command, "--strategy", "mine.py:program"], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["stopped"] in ("trials", "exhausted")
    without = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert without.returncode == 1
    assert "--strategy must say what is searched" in " ".join(without.stderr.split())
