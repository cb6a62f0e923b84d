"""Type checkers understand programs: good code passes in strict mode, and the usual mistakes are found."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import heuretic as hr

SAMPLE = Path(__file__).with_name("typing_sample.py")

MISTAKES = """
# pyright: strict
import heuretic as hr


class Conv(hr.Symbolic):
    filters: int
    kernel: int = 3


def scaled(value: int, by: float = 2.0) -> float:
    return value * by


conv = Conv(1)
Conv("wide")  # reportArgumentType
Conv()  # reportCallIssue
Conv(1, colour=2)  # reportCallIssue
conv.filters = 3  # reportAttributeAccessIssue
conv.nothing  # reportAttributeAccessIssue
hr.sym(scaled)("x")  # reportArgumentType
hr.sym(scaled)()  # reportCallIssue
Conv(hr.one_of("a", "b"))  # reportArgumentType
Conv(hr.number(0.0, 1.0))  # reportArgumentType
hr.replace(conv, 3)  # reportArgumentType
hr.apply(conv, 3)  # reportArgumentType
hr.Evolution(population="many")  # reportArgumentType
"""


def pyright(folder: Path, code: str) -> list[dict[str, Any]]:
    """Return what pyright reports for `code`, run in strict mode."""
    (folder / "sample.py").write_text(code)
    config = {"include": ["sample.py"], "typeCheckingMode": "strict", "pythonVersion": "3.11"}
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    command = [
        sys.executable,
        "-m",
        "pyright",
        "--project",
        str(folder),
        "--outputjson",
        "--pythonpath",
        sys.executable,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        return json.loads(done.stdout)["generalDiagnostics"]
    except ValueError:
        pytest.fail(f"pyright did not run: {done.stdout[-500:]} {done.stderr[-500:]}")


def test_sample_passes_in_strict_mode(tmp_path: Path) -> None:
    found = pyright(tmp_path, SAMPLE.read_text())
    assert [f"{d['range']['start']['line'] + 1}: {d['message']}" for d in found if d["severity"] == "error"] == []


def test_sample_runs() -> None:
    sample = importlib.import_module("typing_sample")
    assert sample.changes == ["~ layers.item.kernel: 3 -> 9"]
    assert sample.best.layers[0].kernel == 3
    assert hr.build(sample.best) == [repr(sample.best.layers[0])]


def test_mistakes_are_found(tmp_path: Path) -> None:
    expected = {i: line.partition("# ")[2] for i, line in enumerate(MISTAKES.splitlines()) if "# report" in line}
    found = {
        d["range"]["start"]["line"]: d["rule"]
        for d in pyright(tmp_path, MISTAKES)
        if d["rule"] in set(expected.values())
    }
    assert found == expected
