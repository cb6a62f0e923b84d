"""Facts about where a trial ran: versions and machine class, never host or user names."""

from __future__ import annotations

import os
import platform
import sys
from functools import lru_cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version

#: Packages whose version can change a result; recorded if they are loaded.
_PACKAGES = ("numpy", "torch", "sklearn", "transformers", "scipy", "pandas", "jax")
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def environment_facts() -> dict[str, str]:
    """Return the facts of this process, with the versions of what it has loaded by now."""
    loaded = tuple(name for name in _PACKAGES if name in sys.modules)
    return dict(_facts(loaded))


@lru_cache(maxsize=8)
def _facts(loaded: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    facts = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(os.cpu_count() or 0),
        "heuretic": _version("heuretic"),
    }
    facts.update({name: _version(_DISTRIBUTIONS.get(name, name)) for name in loaded})
    return tuple(sorted(facts.items()))


def host() -> str:
    """Return what tells this machine, since it was started, from others, without naming it."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read()
    except OSError:
        boot = ""
    return blake2b(f"{platform.node()} {boot}".encode(), digest_size=6).hexdigest()


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
