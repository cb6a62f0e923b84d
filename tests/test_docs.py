"""What the documents show is run: every Python block of the README, in order, in one fresh interpreter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(code: str, folder: Path) -> str:
    script = folder / "readme_blocks.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=folder, capture_output=True, text=True, timeout=240,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},  # threads wait for each other where cores are busy
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_page(page: str, count: int, folder: Path) -> str:
    """Run the Python blocks of a page, of which there are so many; return what they print."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert len(blocks) == count
    return run("\n".join(blocks), folder)


def test_the_readme_runs_and_shows_what_it_says(tmp_path: Path) -> None:
    printed = run_page("README.md", 6, tmp_path)
    assert "SiLU()" in printed
    assert "ReLU()" not in printed
    assert "-> SquaredReLU" in printed
    assert "(CondConv(experts=4), AdvProp(), StochasticDepths())" in printed
    assert "~ [0].depth: 2 -> 4" in printed
    assert "2 True" in printed
    assert re.search(r"'validation_accuracy': 0\.\d", printed)
    assert re.search(r"[1-9]\d* on the front; [1-9]\d* equivalents not paid for", printed)
    assert (tmp_path / "report.html").stat().st_size > 1e6
    assert (tmp_path / "study.db").exists()


def test_the_page_on_searching_runs(tmp_path: Path) -> None:
    printed = run_page("docs/search.md", 7, tmp_path)
    assert "OptunaSampler" in printed
    assert "answered from memory" in printed
    assert "'pruned'" in printed


def test_the_page_on_vision_runs(tmp_path: Path) -> None:
    printed = run_page("docs/vision.md", 5, tmp_path)
    assert "torch.Size([2, 10])\n2 (2, 16, 48, 64)\n" in printed
    assert "~ blocks[6].filters: 320 -> 192" in printed
    assert "\n16 80\n" in printed
    assert "\n[3, 3]\n" in printed
    assert "cannot reach activations that are called as functions: [1] calls F.relu at readme_blocks.py" in printed
    assert "(silu_1)" not in printed
    assert "(relu_1): SiLU()" in printed


def test_the_sizes_in_the_documents_are_those_of_the_models() -> None:
    script = ROOT / "docs" / "make_sizes_table.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_page_on_artifacts_runs(tmp_path: Path) -> None:
    printed = run_page("docs/artifacts.md", 3, tmp_path)
    assert "Artifact(name='predictions.csv'" in printed
    assert "\nb'0," in printed
    assert "\n{}\nRemoved(digests=(), size=0, leftovers=0)" in printed
    assert (tmp_path / "copied/plots/axes.svg").read_bytes() == b"<svg/>"
    assert (tmp_path / "study.db-artifacts").is_dir()


def test_the_page_on_energy_runs(tmp_path: Path) -> None:
    pytest.importorskip("codecarbon")
    printed = run_page("docs/carbon.md", 2, tmp_path)
    assert "'co2e_kg'" in printed
    assert re.findall(r"^(\w+): [\d.]+x less", printed, re.MULTILINE) == ["model", "machine", "mechanisation", "map"]
    assert "9 times the emissions" in printed  # 381 g/kWh for 56, at a PUE of 1.58 for 1.2


def test_the_page_on_other_tools_runs(tmp_path: Path) -> None:
    printed = run_page("docs/interop.md", 7, tmp_path)
    assert "'C': number(lo=0.001, hi=1.0, log=True)" in printed
    assert "Study('models': 10 finished; best value" in printed
    assert len(list((tmp_path / "runs/models").glob("trial-*/*"))) == 15


def test_the_page_on_sharing_runs(tmp_path: Path) -> None:
    assert "Study('road': 20 finished" in run_page("docs/sharing.md", 1, tmp_path)


def test_the_page_on_reasoning_runs(tmp_path: Path) -> None:
    printed = run_page("docs/reasoning.md", 5, tmp_path)
    assert re.search(r"^\w+ (\S+) Usage\(input_tokens=[1-9]\d*, .*calls=1\)", printed, re.MULTILINE)
    assert "stopped: " in printed
    assert re.search(r"^\[.*\] -> ", printed, re.MULTILINE)
    assert re.search(r"^Direct\(instruction=.* [01]\.\d+", printed, re.MULTILINE)
    assert "coverage by 100 samples 0.67" in printed


def test_the_page_on_evaluations_runs(tmp_path: Path) -> None:
    printed = run_page("docs/evaluations.md", 5, tmp_path)
    assert re.search(r"^0\.\d+ \[0\.\d+, 0\.\d+\] random 0\.25 constant 0\.\d+$", printed, re.MULTILINE)
    assert re.search(r"^-?0\.\d+ \[-?0\.\d+, -?0\.\d+\] p = [01]", printed, re.MULTILINE)
    assert "True False\n1.0 101.0\n" in printed
    assert "{'Africa': " in printed
    assert "['2024-05-04', '2023-02-01']" in printed
    assert len(list((tmp_path / "logs").glob("*.eval"))) == 1


def test_the_page_on_ray_runs(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    assert "Study('on ray': 20 finished" in run_page("docs/ray.md", 1, tmp_path)


def test_every_file_and_command_that_the_documents_name_exists() -> None:
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "docs/design.md",
        "docs/search.md",
        "docs/artifacts.md",
        "docs/interop.md",
        "docs/carbon.md",
        "docs/ray.md",
        "docs/reasoning.md",
        "docs/evaluations.md",
        "docs/sharing.md",
    ):
        text = (ROOT / name).read_text()
        links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
        assert all((ROOT / name).parent.joinpath(link).exists() for link in links), (name, links)
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\S+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert f"\n{target}:" in makefile


@pytest.mark.parametrize(
    "distribution",
    [
        "plotly",
        "rich",
        "sqlalchemy",
        "typer",
        "torch",
        "pyarrow",
        "hypothesis",
        "numpy",
        "optuna",
        "fsspec",
        "alembic",
        "psycopg",
        "ray",
        "codecarbon",
        "psutil",
        "pandas",
        "polars",
        "mlflow-skinny",
        "tensorboard",
    ],
)
def test_every_dependency_is_explained(distribution: str) -> None:
    declared = (ROOT / "pyproject.toml").read_text()
    assert re.search(rf'"{distribution}[>=\[]', declared)
    assert distribution in (ROOT / "docs/dependencies.md").read_text().lower()


def test_the_digits_example_finds_something_and_touches_the_test_part_at_the_end(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/digits.py"), "--trials", "4", "--report", str(tmp_path / "r.html")],
        capture_output=True, text=True, timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # threads that wait for one another stall on a busy machine
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {
        name: float(score) for name, score in re.findall(r"^  (start|winner)\s+(0\.\d+) \+-", done.stdout, re.MULTILINE)
    }
    assert found.keys() == {"start", "winner"}
    assert found["winner"] > 0.5
    assert "trials 4/4" in done.stderr
    assert (tmp_path / "r.html").exists()


def test_the_page_on_training_runs(tmp_path: Path) -> None:
    printed = run_page("docs/training.md", 4, tmp_path)
    assert re.search(r"'validation_accuracy': 0\.[89]", printed)
    assert "\nTrue\n" in printed
    assert "~ optimization.optimizer[0]: AdamW -> Lion" in printed
    assert "100 all steps done" in printed


def test_the_page_on_data_runs(tmp_path: Path) -> None:
    printed = run_page("docs/data.md", 2, tmp_path)
    assert "(100, 8, 8, 1) uint8" in printed
    assert "torch.Size([16, 1, 8, 8]) torch.uint8" in printed
