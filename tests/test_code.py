"""The files of an evaluation: found by what is imported, the same in every process, and safe to write."""

from __future__ import annotations

import functools
import importlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import heuretic as hr
from heuretic.study import code
from heuretic.study.code import Code, collect


def files(folder: Path, **sources: str) -> None:
    for path, source in sources.items():
        target = folder / f"{path.replace('__', '/')}.py"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source)
    importlib.invalidate_caches()


def run(folder: Path, *command: str) -> Any:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A script with a package, a module imported inside a function, a folder without __init__, and bystanders."""
    files(
        tmp_path,
        run_it=(
            "import json, os, numpy, heuretic\nfrom heuretic.study.code import collect\nimport bystander\n"
            "from shapes.round import circle\nfrom loose import tool\n"
            "def evaluate(p):\n    import late\n    return late.f(p)\n"
            "if __name__ == '__main__':\n"
            "    found = collect(evaluate)\n    print(json.dumps([found.digest, list(found.files)]))\n"
        ),
        bystander="",
        late="import deeper\ndef f(p): return 1.0\n",
        deeper="import late\n",
        unused="",
        loose__tool="from . import mate\n",
        loose__mate="",
        loose__other="",
    )
    (tmp_path / "shapes" / "inner").mkdir(parents=True)
    for path in ("__init__.py", "round.py", "inner/__init__.py", "inner/square.py"):
        (tmp_path / "shapes" / path).write_text("circle = 1\n")
    (tmp_path / "shapes" / "broken.py").write_text("def {{ template }}")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


EXPECTED = [
    "bystander.py", "deeper.py", "late.py", "loose/mate.py", "loose/tool.py", "run_it.py", "shapes/__init__.py",
    "shapes/broken.py", "shapes/inner/__init__.py", "shapes/inner/square.py", "shapes/round.py",
]  # fmt: skip


def test_script_and_module_are_the_same_code(project: Path) -> None:
    digest, paths = run(project, "run_it.py")
    assert paths == EXPECTED
    assert run(Path("/"), str(project / "run_it.py")) == [digest, paths]
    assert run(project, "-m", "run_it") == [digest, paths]
    imported = collect(importlib.import_module("run_it").evaluate)
    assert (imported.digest, list(imported.files)) == (digest, paths)
    assert imported.files["late.py"] == (project / "late.py").read_bytes()


def test_the_digest_follows_paths_and_contents(project: Path) -> None:
    evaluate = importlib.import_module("run_it").evaluate
    first = collect(evaluate).digest
    (project / "unused.py").write_text("changed = 1")
    assert collect(evaluate).digest == first
    (project / "shapes" / "inner" / "square.py").write_text("circle = 2\n")
    second = collect(evaluate).digest
    (project / "shapes" / "inner" / "square.py").rename(project / "shapes" / "inner" / "rectangle.py")
    assert len({first, second, collect(evaluate).digest}) == 3


def test_a_script_whose_name_cannot_be_imported(project: Path) -> None:
    (project / "run_it.py").rename(project / "run-it.py")
    _, paths = run(project, "run-it.py")
    assert paths == sorted(["run-it.py", *(path for path in EXPECTED if path != "run_it.py")])


def test_a_program_of_such_a_script(project: Path) -> None:
    source = (
        "import json, heuretic as hr, numpy\nfrom heuretic.study.code import collect\nimport late\n"
        "class Node(hr.Symbolic):\n    x: float\nprint(json.dumps(list(collect(numpy.linalg.norm, Node(1.0)).files)))\n"
    )
    (project / "a-script.py").write_text(source)
    assert run(project, "a-script.py") == ["a-script.py", "deeper.py", "late.py"]


def test_module_run_inside_a_package(tmp_path: Path) -> None:
    source = (
        "import json\nfrom heuretic.study.code import collect\nfrom ..near import x\ndef evaluate(p): return 1.0\n"
        "if __name__ == '__main__': print(json.dumps(list(collect(evaluate).files)))\n"
    )
    files(tmp_path, pack__main=source)
    for path, text in {
        "far/__init__.py": "",
        "far/deep/__init__.py": "",
        "far/near.py": "x = 1\n",
        "far/deep/go.py": source,
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert run(tmp_path, "-m", "far.deep.go") == [
        "far/__init__.py",
        "far/deep/__init__.py",
        "far/deep/go.py",
        "far/near.py",
    ]


def test_interactive_code_brings_the_modules_at_hand(project: Path) -> None:
    line = "from heuretic.study.code import collect; import json, late; f = lambda p: late.f(p); print(json.dumps(list(collect(f).files)))"
    assert run(project, "-c", line) == ["deeper.py", "late.py"]


def test_objects_partials_and_programs(project: Path) -> None:
    files(
        project,
        nodes="import heuretic as hr\nclass Node(hr.Symbolic):\n    f: object\n",
        caller="class Call:\n    def __call__(self, p): return 1.0\n",
    )
    call, node = importlib.import_module("caller").Call, importlib.import_module("nodes").Node
    assert list(collect(call()).files) == list(collect(functools.partial(call(), 1)).files) == ["caller.py"]
    late = importlib.import_module("late").f
    program = hr.loads(hr.dumps(node(f=(late, {"a": hr.one_of(1, 2)}))), trust=("nodes", "late"))
    assert list(collect(call(), program).files) == ["caller.py", "deeper.py", "late.py", "nodes.py"]


def test_installed_code_is_named_not_copied() -> None:
    import numpy

    found = [collect(f) for f in (hr.discover, numpy.linalg.norm, pytest.approx, math.sqrt, len, json.dumps)]
    assert all(each.files == {} for each in found)
    assert len({each.digest for each in found}) == 4  # heuretic, numpy, pytest, Python
    assert found[0].digest == collect(hr.dumps).digest
    assert collect(hr.discover).digest == code._digest(f"heuretic {hr.__version__}", {})


def test_code_without_a_file_or_with_too_much_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = type(sys)("made_by_hand")
    monkeypatch.setitem(sys.modules, "made_by_hand", made)
    exec("def f(p): return 1.0", vars(made))
    with pytest.raises(ValueError, match=r"must be defined in a Python file, got one of module 'made_by_hand'"):
        collect(vars(made)["f"])
    (project / "shapes" / "table.py").write_text("x = '" + "a" * code.LIMIT_BYTES + "'")
    with pytest.raises(ValueError, match=r"at most 16 MiB, got 16\.0 MiB in .* the largest shapes/table\.py"):
        collect(importlib.import_module("run_it").evaluate)


def test_written_code_runs_elsewhere(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    found = collect(importlib.import_module("run_it").evaluate)
    folder = tmp_path_factory.mktemp("elsewhere") / "new"
    for _ in range(2):
        found.write(folder)
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == EXPECTED
    assert run(folder, "run_it.py") == [found.digest, EXPECTED]


@pytest.mark.parametrize(
    "path", ["../out.py", "/tmp/out.py", "a/../../out.py", "a/..", "", ".", "a//b.py", "./a.py", "C:\\out.py", "a\\b.py", "a\0.py", "evil.pth", "a/", "link/out.py", "file.py"]
)  # fmt: skip
def test_paths_of_strangers_stay_in_the_folder(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "outside").mkdir()
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "file.py").symlink_to(tmp_path / "outside" / "file.py")
    with pytest.raises(ValueError, match="paths of code must"):
        Code("0" * 32, {"good.py": b"", path: b"x"}).write(folder)
    assert not (folder / "good.py").exists()
    assert list((tmp_path / "outside").iterdir()) == []


def test_the_packages_that_code_imports(tmp_path: Path) -> None:
    code = Code(
        "d",
        {"a.py": b"import os.path, numpy as np\nfrom b.c import d\n", "b/c.py": b"from . import e\nimport torch.nn\n"},
    )
    assert code.imports() == {"numpy", "b", "torch"}


def test_a_digest_of_strangers_is_no_path() -> None:
    with pytest.raises(ValueError, match="must be 32 hexadecimal digits"):
        Code("../../elsewhere", {"a.py": b""}).unpack()
