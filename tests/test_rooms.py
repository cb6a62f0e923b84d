"""Rooms import one way only, heavy packages stay out of the small rooms, and public names exist."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import heuretic

SOURCE = Path(heuretic.__file__).parent
ORDER = {
    "symbolic": 1, "search": 2, "nn": 2, "data": 2, "study": 3, "train": 3, "lm": 3, "evals": 4, "ideas": 5, "web": 6, "cli": 6,
}  # fmt: skip
NETWORK = {"requests", "httpx", "urllib3", "aiohttp", "http", "socket", "openai", "anthropic", "websockets"}
ROOMS = sorted(room for room in ORDER if (SOURCE / room).is_dir())


def imported(file: Path) -> set[str]:
    """Return the full names of all modules that a file imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative import"
            found.add(node.module or "")
            if node.module == "heuretic":
                found.update(f"heuretic.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_to_earlier_rooms(room: str) -> None:
    for file in (SOURCE / room).rglob("*.py"):
        for name in imported(file):
            parts = name.split(".")
            if parts[0] != "heuretic" or len(parts) < 2 or parts[1] in (room, "__version__"):
                continue
            other = parts[1]
            assert other in ORDER, f"{file.name} imports {name}; import from a room, not from the root"
            assert ORDER[other] < ORDER[room], f"{file.relative_to(SOURCE)} imports {name}"


def test_ideas_do_not_import_each_other() -> None:
    shared = {"idea", "catalog", "few_labels", "reasoning", "result", "studies", "trainings"}
    modules = {f.stem for f in (SOURCE / "ideas").glob("*.py")} - shared - {"__init__"}
    for stem in modules:
        others = {n.split(".")[2] for n in imported(SOURCE / "ideas" / f"{stem}.py") if n.startswith("heuretic.ideas.")}
        assert not others & (modules - {stem}), stem


@pytest.mark.parametrize("room", ["symbolic", "search", "study"])
def test_small_rooms_import_neither_torch_nor_a_network_client(room: str) -> None:
    for file in (SOURCE / room).rglob("*.py"):
        packages = {name.partition(".")[0] for name in imported(file)}
        assert not packages & (NETWORK | {"torch", "torchvision", "transformers"}), file
        assert "urllib.request" not in imported(file), file


def test_every_room_has_a_row() -> None:
    assert {p.name for p in SOURCE.iterdir() if (p / "__init__.py").exists()} <= set(ORDER)


@pytest.mark.parametrize("module", ["heuretic", "heuretic.symbolic", "heuretic.search"])
def test_import_is_light(module: str) -> None:
    code = f"import {module}, sys; print(*(sorted({{'torch', 'numpy', 'sqlalchemy', 'plotly', 'rich'}} & set(sys.modules))))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_exist(room: str) -> None:
    module = importlib.import_module(f"heuretic.{room}")
    names = getattr(module, "__all__", [])
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(module, name) is not None, name


def test_root_names_exist_and_equal_no_room() -> None:
    names = [name for name in heuretic.__all__ if name not in ROOMS]
    assert not set(names) & set(ORDER)
    for name in names:
        assert getattr(heuretic, name) is not None
        assert name in dir(heuretic)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = heuretic.nonsense
