"""The command line, as a user runs it: real processes, real files, exit codes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import heuretic as hr

PROGRAM = """
import time
import heuretic as hr
class Line(hr.Symbolic):
    slope: float
    kind: str = "a"
program = Line(hr.number(-1.0, 1.0), hr.one_of("a", "b"))
settings = {"trials": 15, "maximize": "score", "algorithm": hr.Evolution(population=5, tournament=2)}
def evaluate(line):
    time.sleep(SLEEP)
    return {"score": line.slope + (line.kind == "b"), "extra": 3}
class Steeper(hr.Patch):
    by: float = 0.1
    note: str = ""
    @hr.rule
    def line(self, node: Line) -> Line:
        return hr.replace(node, kind="b" + self.note)
fixed = Line(0.5)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "line_search.py").write_text(PROGRAM.replace("SLEEP", "0"))
    (tmp_path / "slow_search.py").write_text(PROGRAM.replace("SLEEP", "0.2"))
    return tmp_path


def heuretic(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "heuretic"), *arguments]
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", "HEURETIC_DATA": str(folder)}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def test_discover_show_report_export(folder: Path) -> None:
    done = heuretic(folder, "discover", "line_search.py", "--seed", "3", "--report", "out.html")
    assert "15 finished" in done.stdout
    assert "sqlite:///heuretic.db" in done.stdout
    assert (folder / "out.html").stat().st_size > 1e6
    listed = json.loads(heuretic(folder, "study", "list", "--json").stdout)
    assert [study["name"] for study in listed] == ["line_search"]
    assert listed[0]["counts"] == {"finished": 15}
    assert listed[0]["seed"] == 3
    shown = heuretic(folder, "study", "show").stdout
    assert "maximize score" in shown
    assert "kind: 'a' -> 'b'" in shown
    best = json.loads(heuretic(folder, "study", "show", "line_search", "--json").stdout)["best"]
    assert best["values"]["score"] > 1
    heuretic(folder, "study", "report")
    assert (folder / "line_search.html").exists()
    heuretic(folder, "study", "export")
    with (folder / "line_search.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 15
    assert max(float(row["value.score"]) for row in table) == best["values"]["score"]
    assert {row["choice.kind"] for row in table} == {"a", "b"}
    heuretic(folder, "study", "export", "--format", "json", "--out", "all.json")
    assert len(json.loads((folder / "all.json").read_text())["trials"]) == 15
    heuretic(folder, "study", "export", "--format", "parquet")
    parquet = pytest.importorskip("pyarrow.parquet")
    assert parquet.read_table(folder / "line_search.parquet").num_rows == 15


def test_discover_goes_on_and_prints_json_for_scripts(folder: Path) -> None:
    first = json.loads(heuretic(folder, "discover", "line_search.py", "--trials", "5", "--json").stdout)
    assert (first["counts"], first["stopped"]) == ({"finished": 5}, "trials")
    second = json.loads(
        heuretic(folder, "discover", "line_search.py", "--trials", "9", "--workers", "2", "--json").stdout
    )
    assert second["counts"] == {"finished": 9}
    third = heuretic(folder, "discover", "line_search.py", "--seed", "8", code=1)
    assert "another seed" in third.stderr
    assert "Give this one another name" in third.stderr


def test_ctrl_c_is_clean_and_exits_with_130(folder: Path) -> None:
    command = [str(Path(sys.executable).parent / "heuretic"), "discover", "slow_search.py", "--trials", "500"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (folder / "heuretic.db").exists():
        time.sleep(0.05)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Stopped: interrupted" in out
    assert "Traceback" not in err
    study = hr.open_study(f"sqlite:///{folder}/heuretic.db")
    assert 0 < len(study.trials) < 100


def test_patch_shows_saves_and_refuses(folder: Path) -> None:
    address = "line_search:Steeper?note=%20%26%20more"
    done = heuretic(folder, "patch", "line_search.py:fixed", "--with", address, "--out", "p.json")
    assert "kind='b & more'" in done.stdout
    assert "line_search:Line" in (folder / "p.json").read_text()
    changed = heuretic(folder, "patch", "line_search.py:fixed", "--with", address, "--diff").stdout
    assert changed.startswith("~ (root)")
    listed = json.loads(heuretic(folder, "patch", "line_search.py:fixed", "--with", address, "--json").stdout)
    assert len(listed["changes"]) == 1
    unknown = heuretic(folder, "patch", "line_search.py:fixed", "--with", "line_search:Steeper?bye=1", code=1)
    assert "no parameter 'bye'" in unknown.stderr
    missed = heuretic(folder, "patch", "line_search.py:fixed", "--with", "primer", code=1)
    assert "changed nothing" in missed.stderr


def test_ideas_lists_and_shows(folder: Path) -> None:
    listed = json.loads(heuretic(folder, "ideas", "--json").stdout)
    assert {"lion", "primer", "pyglove", "smooth-adversarial-training"} <= {idea["slug"] for idea in listed}
    assert "arXiv:2302.06675" in heuretic(folder, "ideas", "lion").stdout
    assert "lion" in heuretic(folder, "ideas").stdout
    assert "Did you mean 'primer'?" in heuretic(folder, "ideas", "primr", code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["discover", "missing.py"], "no file missing.py"),
        (["discover", "empty.py"], "must define program and evaluate"),
        (["discover", "not-a-name.py"], "importable name"),
        (["discover", "json.py"], "name of another module"),
        (["study", "show"], "no store at"),
        (["study", "list", "--store", "redis://x"], "must be sqlite"),
        (["patch", "line_search.py:nothing", "--with", "primer"], "has no 'nothing'"),
        (["patch", "nowhere", "--with", "primer"], "must be FILE.py:NAME"),
        (["patch", "missing.json", "--with", "primer"], "no file missing.json"),
        (["reproduce", "primer"], "no check of its claim yet"),
        (["reproduce", "lion", "--scale", "small"], "HEURETIC_DATA must name a folder"),
    ],
)
def test_mistakes_get_one_helpful_line(folder: Path, arguments: list[str], message: str) -> None:
    for name in ("empty.py", "not-a-name.py", "json.py"):
        (folder / name).write_text("")
    done = heuretic(folder, *arguments, code=1)
    assert message in done.stderr
    assert done.stderr.startswith("error: ")


def test_a_failing_user_file_shows_the_users_error(folder: Path) -> None:
    (folder / "broken.py").write_text("import no_such_package\n")
    command = [str(Path(sys.executable).parent / "heuretic"), "discover", "broken.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "no_such_package" in done.stderr


def test_version_help_and_completion(folder: Path) -> None:
    assert heuretic(folder, "--version").stdout.strip() == f"heuretic {hr.__version__}"
    for command in ("describe", "discover", "ideas", "patch", "reproduce", "study"):
        assert command in heuretic(folder, "--help").stdout
    assert "--install-completion" in heuretic(folder, "--help").stdout


def test_a_store_from_a_stranger_is_only_read(folder: Path) -> None:
    heuretic(folder, "discover", "line_search.py", "--trials", "4")
    (folder / "line_search.py").write_text("raise SystemExit('this was run')")
    assert "maximize score" in heuretic(folder, "study", "show").stdout
    heuretic(folder, "study", "report")
    heuretic(folder, "study", "export")


def test_names_that_look_like_markup_are_shown_as_they_are(folder: Path) -> None:
    (folder / "odd.py").write_text(
        "import heuretic as hr\n"
        "program = {'[red]lr': hr.number(0.0, 1.0), 'k': hr.one_of('[bold]', 'plain')}\n"
        "def evaluate(p): return {'[b]loss': p['[red]lr']}\n"
        "settings = {'trials': 6, 'minimize': '[b]loss'}\n"
    )
    shown = heuretic(folder, "discover", "odd.py", "--name", "[blue]study").stdout
    assert "[b]loss" in shown
    assert "k=[bold]" in shown
    assert "[blue]study" in heuretic(folder, "study", "list").stdout
    assert "[blue]study" in heuretic(folder, "study", "show").stdout


def test_several_objectives_on_the_command_line(folder: Path) -> None:
    (folder / "two.py").write_text(
        "import heuretic as hr\n"
        "program = (hr.number(0.0, 1.0), hr.one_of(1, 2, 3))\n"
        "def evaluate(p):\n"
        "    return {'gain': p[0] * p[1], 'price': p[0] + p[1]}\n"
        "settings = {'maximize': 'gain', 'minimize': 'price', 'seed': 1}\n"
    )
    done = heuretic(folder, "discover", "two.py", "--trials", "30", "--algorithm", "nsga2?population=8")
    assert "trials on the front" in done.stdout
    shown = json.loads(heuretic(folder, "study", "show", "two", "--json").stdout)
    assert shown["objectives"] == [
        {"name": "gain", "direction": "maximize"}, {"name": "price", "direction": "minimize"},
    ]  # fmt: skip
    assert len(shown["front"]) >= 2
    assert "NSGA2(population=8" in shown["algorithm"]
    assert "maximize gain, minimize price" in heuretic(folder, "study", "list").stdout
    wrong = heuretic(folder, "discover", "two.py", "--name", "x", "--algorithm", "nsga3?population=8", code=1)
    assert "Did you mean 'nsga2'?" in wrong.stderr


def test_a_check_of_a_claim_is_kept_as_a_study(folder: Path) -> None:
    done = heuretic(folder, "reproduce", "pyglove", "--json", "--store", "sqlite:///checks.db")
    result = json.loads(done.stdout)
    assert result["study"] == "reproduce/pyglove/smoke"
    shown = json.loads(heuretic(folder, "study", "show", "--store", "sqlite:///checks.db", "--json").stdout)
    assert shown["counts"] == {"finished": len(result["arms"]) * len(result["seeds"])}
