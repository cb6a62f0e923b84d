"""The Python files that an evaluation consists of, so that it can run where they are not."""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import platform
import re
import sys
import sysconfig
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from heuretic.symbolic import dumps
from heuretic.symbolic.names import main_name

#: Most that the files of one evaluation may hold together, in bytes. Code is small; what is larger was taken by mistake.
LIMIT_BYTES = 16 * 2**20
_MAIN = ("__main__", "__mp_main__")
_NAMES = re.compile(r'"\$(?:type|ref|call)": "([^":]+):')


@dataclass(frozen=True, slots=True)
class Code:
    """The source of an evaluation.

    Attributes:
        digest: 32 hexadecimal digits, which change with any path or content; of an evaluation that is part of an
            installed distribution, with its name and version.
        files: Content by path, "/" between folders, relative to the folder that must be on `sys.path`.
    """

    digest: str
    files: Mapping[str, bytes]

    def imports(self) -> set[str]:
        """Return the packages that the files import, by their first name, without those of the standard library."""
        found = {name.partition(".")[0] for path, content in self.files.items() for name in _imports(content, path)}
        return found - sys.stdlib_module_names

    def write(self, folder: str | Path) -> None:
        """Write the files below a folder, which is made if need be. A file that is there with this content stays.

        Raises: ValueError, with nothing written, if a path leads out of the folder or is no Python file; OSError.
        """
        top = Path(folder).resolve()
        targets = {_below(top, path): content for path, content in self.files.items()}
        for target, content in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_file() and target.read_bytes() == content:
                continue
            # Several workers may write the same folder at once: each file appears whole.
            with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
                file.write(content)
            os.replace(file.name, target)

    def unpack(self) -> Path:
        """Write the files to a folder for temporary files that is this user's own, and return it. Equal code shares one.

        Raises: as `write`; ValueError if the digest, which may be a stranger's word, is none.
        """
        if not re.fullmatch("[0-9a-f]{32}", self.digest):
            raise ValueError(f"the digest of code must be 32 hexadecimal digits, got {self.digest!r}")
        user = f"heuretic-{os.getuid()}" if hasattr(os, "getuid") else "heuretic"
        top = Path(tempfile.gettempdir(), user)
        top.mkdir(mode=0o700, exist_ok=True)
        # A stranger may have made the folder first: what is imported must not be for others to write.
        about = top.lstat()
        is_own = not hasattr(os, "getuid") or (about.st_uid == os.getuid() and not about.st_mode & 0o022)
        if top.is_symlink() or not is_own:
            top = Path(tempfile.mkdtemp(prefix="heuretic-"))
        folder = top / self.digest
        self.write(folder)
        return folder


def collect(evaluate: Any, *programs: Any) -> Code:
    """Return the Python files that an evaluation consists of.

    These are the module that defines it, be it the script that runs, and what is imported from there, also inside
    functions, as far as it is neither installed, nor of the standard library or heuretic; of packages, all files. What
    is loaded by chance does not count, so that the digest is the same in every process.

    Args:
        evaluate: The evaluation: a function, or an object that can be called.
        programs: Programs whose classes and functions are needed too.
    Raises: ValueError if the files hold more than `LIMIT_BYTES`, or there are none because the module has no source.
    """
    owner = _owner(evaluate)
    installed = _distribution(owner)
    wanted: deque[tuple[str, str | None]] = deque()
    files: dict[str, Path] = {}
    names = {name for program in programs for name in _NAMES.findall(dumps(program))}
    if owner in _MAIN or names & set(_MAIN):  # a script that has no other name is called so in programs, too
        wanted.extend(_main(files))
    if owner not in _MAIN and installed is None:
        wanted.append((owner, None))
    wanted.extend((name, None) for name in sorted(names - set(_MAIN)))
    found: dict[str, bytes] = {}
    seen: set[tuple[str, str | None]] = set()
    while wanted or files:
        for path, file in files.items():
            if path not in found:
                found[path] = file.read_bytes()
                _check_size(found)
                root = str(file.parents[path.count("/")])
                wanted.extend((name, root) for name in _imports(found[path], path))
        files.clear()
        while wanted:
            name, root = request = wanted.popleft()
            if request not in seen:
                seen.add(request)
                files.update(_files(name, root))
    if not found and installed is None and owner not in _MAIN:
        raise ValueError(f"evaluate must be defined in a Python file, got one of module {owner!r}, which has none")
    return Code(_digest(installed or "", found), dict(sorted(found.items())))


def _owner(evaluate: Any) -> str:
    """Return the name of the module that defines a function, a class, or the class of an object."""
    while isinstance(evaluate, functools.partial):
        evaluate = evaluate.func
    return getattr(evaluate, "__module__", None) or type(evaluate).__module__


def _main(files: dict[str, Path]) -> Iterator[tuple[str, str | None]]:
    """Add the running script, or give the names of the modules that an interactive session has at hand."""
    main = sys.modules["__main__"]
    given = getattr(main, "__file__", None)
    if given is not None and (script := Path(given).absolute()).is_file():
        found = dict(_files(main_name(), str(script.parent))) if main_name() != "__main__" else {}
        # A script whose name is not an identifier, or hides behind a module of that name, stands for itself.
        files.update(found if any(file.samefile(script) for file in found.values()) else {script.name: script})
        return
    for value in list(vars(main).values()):
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(name, str) and name not in _MAIN:
            yield name, os.getcwd()


def _files(name: str, root: str | None) -> Iterable[tuple[str, Path]]:
    """Return the files of the user's module or package, by path; none if it is somebody else's or not to be found."""
    parts = name.split(".")
    if parts[0] == "heuretic" or parts[0] in sys.builtin_module_names:
        return ()
    places: list[str] | None = None
    for depth in range(len(parts)):
        spec = _spec(parts[: depth + 1], root, places)
        if spec is None:
            return ()
        if spec.origin is None:  # a folder without __init__.py: only what is imported from it is needed
            places = list(spec.submodule_search_locations or ())
            continue
        file = Path(spec.origin).absolute()
        if file.suffix != ".py" or not file.is_file() or _is_installed(file):
            return ()
        if spec.submodule_search_locations is None:
            return [("/".join((*parts[:depth], file.name)), file)]
        above = file.parents[depth + 1]
        return [(each.relative_to(above).as_posix(), each) for each in _sources(file.parent)]
    return ()


def _spec(parts: list[str], root: str | None, places: list[str] | None) -> ModuleSpec | None:
    """Find a module without importing it: beside the module that imports it first, then wherever Python looks."""
    name = ".".join(parts)
    try:
        if places is not None:
            return PathFinder.find_spec(name, places)
        beside = PathFinder.find_spec(name, [root]) if root is not None else None
        if beside is not None and beside.origin is not None:
            return beside
        return importlib.util.find_spec(name) or beside
    except (ImportError, ValueError, AttributeError):  # such as a module that was made by hand and has no spec
        return None


def _sources(package: Path) -> Iterator[Path]:
    for folder, inside, names in os.walk(package):
        inside[:] = sorted(
            each
            for each in inside
            if each.isidentifier() and each != "__pycache__" and not Path(folder, each, "pyvenv.cfg").exists()
        )
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))


def _imports(source: bytes, path: str) -> Iterator[str]:
    """Return the full names of what a file imports; of `from a import b`, both `a` and `a.b`."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # it can only be a file that is not run, such as a template
        return
    package = path.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join((*above, *([node.module] if node.module else [])))
            if module:
                yield module
            yield from (f"{module}.{alias.name}".lstrip(".") for alias in node.names if alias.name != "*")


@functools.cache
def _library() -> tuple[Path, ...]:
    return tuple({Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib")})


def _is_installed(file: Path) -> bool:
    """Whether a file belongs to an installed distribution or the standard library."""
    if {"site-packages", "dist-packages"} & set(file.parts):
        return True
    real = file.resolve()
    return any(real.is_relative_to(folder) for folder in _library())


def _distribution(module: str) -> str | None:
    """Return the name and version of what a module is installed with; None if it is the user's own."""
    top = module.partition(".")[0]
    if top in _MAIN:
        return None
    if top != "heuretic":
        spec = _spec([top], None, None)
        origin = getattr(sys.modules.get(module), "__file__", None) or (spec.origin if spec else None)
        if top not in sys.builtin_module_names and (origin is None or not _is_installed(Path(origin))):
            return None
    if top in sys.stdlib_module_names:
        return f"python {platform.python_version()}"
    try:
        return f"{top} {version(top)}"
    except PackageNotFoundError:
        names = sorted(set(packages_distributions().get(top, ())))
        return ", ".join(f"{name} {version(name)}" for name in names) or top


def _check_size(files: Mapping[str, bytes]) -> None:
    size = sum(map(len, files.values()))
    if size > LIMIT_BYTES:
        largest = max(files, key=lambda path: len(files[path]))
        raise ValueError(
            f"the code of evaluate must hold at most {LIMIT_BYTES / 2**20:g} MiB, got {size / 2**20:.1f} MiB in "
            f"{len(files)} files, the largest {largest} with {len(files[largest]) / 2**20:.1f} MiB. Try a package of "
            f"its own with only what evaluate needs, or install what is large"
        )


def _digest(installed: str, files: Mapping[str, bytes]) -> str:
    found = blake2b(digest_size=16)
    for part in (installed.encode(), *(each for path in sorted(files) for each in (path.encode(), files[path]))):
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()


def _below(top: Path, path: str) -> Path:
    """Return where a file goes; the path may come from a stranger."""
    parts = PurePosixPath(path).parts
    plain = parts and not set("\\:\0") & set(path) and ".." not in parts and not path.startswith("/")
    if not plain or not path.endswith(".py") or "/".join(parts) != path:
        raise ValueError(f"paths of code must be relative, without '..', and end in .py, got {path!r}")
    target = top.joinpath(*parts)
    if not target.parent.resolve().is_relative_to(top) or target.is_symlink():
        raise ValueError(f"paths of code must stay below {top}, got {path!r}, which leads out by a link")
    return target
