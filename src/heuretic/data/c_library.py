"""C code of this package, compiled where it runs: by the system's C compiler, for this processor, when it is first asked for.

That takes a fifth of a second. The library stays in memory and nothing is kept on disk that another processor might not run.
Whoever uses one has another way for systems without a compiler.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

_FLAGS = ("-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")


@functools.cache
def compiled(source: Path) -> ctypes.CDLL:
    """Return the library that a C file makes. Each file is compiled once.

    Raises: RuntimeError if there is no compiler or it fails, OSError if what it made cannot be loaded.
    """
    compiler = (
        shlex.split(os.environ.get("CC", ""))
        or [found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))][:1]
    )
    if not compiler:
        raise RuntimeError("there is no C compiler: neither $CC nor cc, gcc or clang")
    with tempfile.TemporaryDirectory(prefix="heuretic-") as folder:
        library = str(Path(folder) / "library.so")
        for processor in ("-march=native", "-mcpu=native"):  # the second is for compilers for ARM that lack the first
            done = subprocess.run(
                [*compiler, *_FLAGS, processor, str(source), "-o", library, "-lm"],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            if done.returncode == 0:
                return ctypes.CDLL(library)  # stays loaded when the file is gone
    raise RuntimeError(f"{shlex.join(compiler)} failed: {done.stderr.strip()[-300:]}")


@functools.cache
def unavailable(source: Path) -> str:
    """Compile the file, the first time. Return why that failed, or "" if it did not."""
    try:
        compiled(source)
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        return str(error)
    return ""
