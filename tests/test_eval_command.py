"""`heuretic eval` as a user runs it: real weights, a server on the loopback, files, mistakes and stops."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from heuretic.evals import EVALUATIONS, SUITES
from heuretic.study import open_study
from services import KEY, Asked, Sent, Service, openai


def heuretic(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "heuretic", "eval", *arguments], cwd=folder, capture_output=True, text=True, timeout=240,
        env=os.environ | environment,
    )  # fmt: skip


LOOPBACK = ("--model", "openai-api/loopback/m")


def loopback(service: Service) -> dict[str, str]:
    """Return the environment in which the model "openai-api/loopback/..." is that of the service."""
    return {"LOOPBACK_API_KEY": KEY, "LOOPBACK_BASE_URL": f"{service.url}/v1", "NO_PROXY": "127.0.0.1"}


@pytest.fixture
def sums_served() -> Iterator[Service]:
    """A server that says "The answer is 2." after 50 ms, but fails for the model "failing"."""

    def answer(asked: Asked, number: int) -> Sent:
        time.sleep(0.05)
        if asked.body["model"] == "failing":
            return Sent({"error": {"message": "no such thing", "type": "invalid_request_error"}}, 400)
        return openai("The answer is 2.")

    service = Service(answer)
    yield service
    service.stop()


def sums_file(folder: Path, count: int = 4) -> str:
    lines = (json.dumps({"question": f"What is {k} + 1?", "answer": str(k + 1)}) for k in range(count))
    (folder / "own.jsonl").write_text("\n".join(lines))
    return "own.jsonl"


def test_a_file_may_be_a_setting_and_gzipped(tmp_path: Path, sums_served: Service) -> None:
    name = sums_file(tmp_path)
    (tmp_path / "own.jsonl.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    for address in (name, f"questions?set={name}", "own.jsonl.gz"):
        done = heuretic(tmp_path, address, *LOOPBACK, "--limit", "3", "--json", **loopback(sums_served))
        assert done.returncode == 0, done.stderr
        shown = json.loads(done.stdout)
        assert (shown["evaluation"], shown["questions"], shown["of"]) == ("own", 3, 4)
    release = heuretic(tmp_path, "freshqa?file=FreshQA.csv", *LOOPBACK, "--judge", LOOPBACK[1], **loopback(sums_served))
    assert "file must be a release of FreshQA" in release.stderr


def test_what_cannot_run_of_several_is_left_out_and_the_others_are_told(tmp_path: Path, sums_served: Service) -> None:
    at = loopback(sums_served)
    name = sums_file(tmp_path)
    done = heuretic(tmp_path, name, "inverse-scaling", "haloquest", *LOOPBACK, "--limit", "2", "--json", **at)
    assert done.returncode == 1
    assert [run["evaluation"] for run in json.loads(done.stdout)] == ["own"]
    assert "inverse-scaling is left out: " in done.stderr
    assert "haloquest is left out: haloquest must have a judge, got none" in done.stderr
    nothing = heuretic(tmp_path, "--suite", "vision", *LOOPBACK, "--json", **at)
    assert (nothing.returncode, json.loads(nothing.stdout)) == (1, [])
    planned = heuretic(tmp_path, name, "longfact", *LOOPBACK, "--dry-run", "--json", **at)
    assert [sorted(each) for each in json.loads(planned.stdout)] == [
        ["evaluation", "judge", "model"],
        ["evaluation", "left_out"],
    ]


def test_a_run_in_which_everything_failed_is_a_failure(tmp_path: Path, sums_served: Service) -> None:
    failing = ("--model", "openai-api/loopback/failing")
    done = heuretic(tmp_path, sums_file(tmp_path), *failing, **loopback(sums_served))
    assert done.returncode == 1
    assert "Not stored: no question has a score." in done.stdout
    assert not (tmp_path / "heuretic.db").exists()


def test_prices_and_limits_of_money(tmp_path: Path, sums_served: Service) -> None:
    name, at = sums_file(tmp_path), loopback(sums_served)
    priced = ("--price", f"{LOOPBACK[1]}=1000000,2000000")
    [told] = json.loads(heuretic(tmp_path, name, *LOOPBACK, *priced, "--dry-run", "--json", **at).stdout)
    assert told["model"]["dollars"] == told["model"]["input_tokens"] + 2 * told["model"]["output_tokens"]
    [unknown] = json.loads(heuretic(tmp_path, name, "--model", "openai/gpt-4o-mini", "--dry-run", "--json").stdout)
    assert unknown["model"]["calls"] == 4  # no key is needed to know that
    spent = heuretic(tmp_path, name, *LOOPBACK, *priced, "--json", **at)
    assert json.loads(spent.stdout)["spent"]["cost"] == 4 * (7 + 2 * 3)
    for wrong, said in (
        (("--dollars", "0"), "cost must be > 0"), (("--price", "1,2"), "price must be NAME=INPUT,OUTPUT"),
        (("--price", "m=1"), "price must be NAME=INPUT,OUTPUT"), (("--price", "m=1,-2"), "price must be NAME=INPUT,OUTPUT"),
    ):  # fmt: skip
        done = heuretic(tmp_path, name, *LOOPBACK, *wrong, **at)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr


def test_runs_of_different_evaluations_are_not_compared(tmp_path: Path, sums_served: Service) -> None:
    at, logs = loopback(sums_served), []
    name = sums_file(tmp_path)
    (tmp_path / "other.jsonl").write_text((tmp_path / name).read_text())
    for each in (name, "other.jsonl"):
        logs.append(json.loads(heuretic(tmp_path, each, *LOOPBACK, "--json", **at).stdout)["log"])
    done = heuretic(tmp_path, "compare", *logs)
    assert (done.returncode, "runs must be of one evaluation, got own and other" in done.stderr) == (1, True)


def test_a_terminated_run_closes_its_log_and_goes_on_later(tmp_path: Path, sums_served: Service) -> None:
    at, name = loopback(sums_served), sums_file(tmp_path, 200)
    command = [sys.executable, "-m", "heuretic", "eval", name, *LOOPBACK, "--concurrency", "2", "--json"]
    at |= {"HEURETIC_CACHE": str(tmp_path / "cache")}
    running = subprocess.Popen(command, cwd=tmp_path, env=os.environ | at, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(sums_served.asked) < 20 and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGTERM)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    stopped = json.loads(out)
    assert stopped["stopped"] == "interrupted"
    assert [file.suffix for file in (tmp_path / "logs").iterdir()] == [".eval"]
    rest = json.loads(heuretic(tmp_path, name, *LOOPBACK, "--json", **at).stdout)
    assert (rest["questions"], rest["spent"]["cached"] >= stopped["questions"]) == (200, True)
    stored = [t.values["stopped"] for t in open_study(f"sqlite:///{tmp_path}/heuretic.db", "eval own").trials]
    assert stored == [1.0, 0.0]


def test_a_strategy_with_evidence_has_settings_too(tmp_path: Path, sums_served: Service) -> None:
    (tmp_path / "notes.txt").write_text("Tom has two apples.")
    (tmp_path / "tom.jsonl").write_text('{"question": "How many apples has Tom?", "answer": "2"}')
    looking = ("--search", 'bm25?paths=["notes.txt"]', "--strategy", "fresh-prompt?check_premise=false")
    done = heuretic(tmp_path, "tom.jsonl", *LOOPBACK, *looking, "--json", **loopback(sums_served))
    assert done.returncode == 0, done.stderr
    [asked] = [each.body["messages"][-1]["content"] for each in sums_served.asked]
    assert "Tom has two apples." in asked
    assert "valid premise" not in asked


def test_the_command_line_on_real_weights(tmp_path: Path) -> None:
    done = heuretic(tmp_path, "mmlu/anatomy?max_tokens=8", "--limit", "4")
    assert done.returncode == 1  # names of evaluations, not of question sets
    done = heuretic(tmp_path, "mmlu?max_tokens=8", "--limit", "4", "--energy")
    assert done.returncode == 0, done.stderr
    assert re.search(r"score +\d", done.stdout)
    assert "random choice" in done.stdout
    assert "CO2e" in done.stdout
    [log] = (tmp_path / "logs").iterdir()
    again = json.loads(heuretic(tmp_path, "mmlu?max_tokens=8", "--limit", "4", "--strategy", "direct", "--json").stdout)
    assert again["questions"] == 4
    assert again["summary"]["score"]["count"] == 4
    assert again["model"] == "heuretic/smollm2-135m"
    both = [str(log), again["log"]]
    compared = heuretic(tmp_path, "compare", *both)
    assert compared.returncode == 0, compared.stderr
    assert "difference" in compared.stdout
    [found] = json.loads(heuretic(tmp_path, "compare", *both, "--json").stdout)
    assert found["better"] + found["worse"] + found["equal"] == 4
    study = open_study(f"sqlite:///{tmp_path}/heuretic.db", "eval mmlu")
    assert {trial.values["score"] for trial in study.trials} <= {0, 0.25, 0.5, 0.75, 1}
    assert [dict(study.decode(t))["strategy"] for t in study.trials] == ["the benchmark's", "direct"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bbhh",), "Did you mean"),
        (("--suite", "thinking"), "suite must be one of"),
        (("gsm8k", "--model", "heuretic/nothing-here"), "nothing-here"),
        (("missing.jsonl",), "missing.jsonl"),
        (("compare", "missing.eval", "other.eval"), "missing.eval"),
        (("gsm8k", "--strategy", "dircet"), "Did you mean 'direct'"),
        (("gsm8k?max_tokens=many",), "max_tokens must be"),
    ],
)
def test_mistakes_on_the_command_line_are_told_in_one_line(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = heuretic(tmp_path, *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_lists_and_dry_runs_ask_nothing(tmp_path: Path) -> None:
    listed = json.loads(heuretic(tmp_path, "--json").stdout)
    assert {each["name"] for each in listed} == set(EVALUATIONS.names())
    assert all(each["about"] for each in listed)
    assert {name for members in SUITES.values() for name in members} <= set(EVALUATIONS.names())
    [told] = json.loads(heuretic(tmp_path, "gsm8k", "--limit", "50", "--dry-run", "--json").stdout)
    assert told["model"]["calls"] == 50
    assert told["model"]["dollars"] == 0
    assert list(tmp_path.iterdir()) == []
