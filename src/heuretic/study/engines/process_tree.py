"""A process with everything it has started: the memory they use, and their end. By /proc on Linux, by psutil elsewhere."""

from __future__ import annotations

import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

#: Windows has no SIGKILL; there, SIGTERM ends a process at once.
KILL: int = getattr(signal, "SIGKILL", signal.SIGTERM)


class Member(NamedTuple):
    """A process, with when it began in the system's count, because a number is given to another process later."""

    pid: int
    began: str


def family(pid: int) -> list[Member]:
    """Return the process and all its descendants, the process first; nothing if it is gone."""
    if sys.platform != "linux":
        return _family_by_psutil(pid)
    found: list[Member] = []
    pids = [pid]
    for each in pids:
        began = _began(each)
        if began is None:
            continue
        found.append(Member(each, began))
        with suppress(OSError):  # it ended in the meantime
            for thread in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{thread}/children") as children:
                    pids.extend(map(int, children.read().split()))
    return found


def used_mb(pid: int, at_most: float) -> float:
    """Return the MiB of resident memory of the process and its descendants; 0 if it is gone.

    If that is more than `at_most`, pages that several of them share, as after a fork, are counted once (on Linux only).

    Raises: ImportError if the system is not Linux and psutil is not installed.
    """
    if sys.platform != "linux":
        return _used_mb_by_psutil(pid)
    members = family(pid)
    pages = 0
    for member in members:
        with suppress(OSError):
            pages += int(Path(f"/proc/{member.pid}/statm").read_text().split()[1])
    used = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    if used <= at_most or len(members) < 2:
        return used
    kib = 0  # reading this is slow where much memory is used, hence the first look
    for member in members:
        with suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{member.pid}/smaps_rollup").read_text(), re.MULTILINE)
            kib += int(found[1]) if found else 0
    return kib / 1024 if kib else used


def send(group: int, members: list[Member], number: int) -> None:
    """Send a signal once to each process of a group, and to those of `members` that are still there and not in it."""
    grouped = hasattr(os, "killpg")
    if grouped:
        with suppress(OSError):  # nobody is left, or the group was not made yet
            os.killpg(group, number)
    for member in members:
        with suppress(OSError):
            is_same = sys.platform != "linux" or _began(member.pid) == member.began
            if is_same and not (grouped and os.getpgid(member.pid) == group):
                os.kill(member.pid, number)


def _family_by_psutil(pid: int) -> list[Member]:
    try:
        import psutil

        parent = psutil.Process(pid)
        return [Member(each.pid, str(each.create_time())) for each in (parent, *parent.children(recursive=True))]
    except Exception:  # gone, or no psutil: what is in the process group is found without it
        return [Member(pid, "")]


def _used_mb_by_psutil(pid: int) -> float:
    try:
        import psutil
    except ImportError:
        raise ImportError("memory_mb needs psutil on this system. Try pip install psutil") from None
    used = 0
    for member in family(pid):
        with suppress(psutil.Error):
            used += psutil.Process(member.pid).memory_info().rss
    return used / 2**20


def _began(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return None
