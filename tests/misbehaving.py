"""Evaluations that misbehave, in a module of its own because worker processes import it. $TRACE is a folder for traces."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import heuretic as hr


def trace(name: str, text: object = "") -> None:
    """Add a line to a file of the test."""
    with open(Path(os.environ["TRACE"]) / name, "a") as file:
        file.write(f"{text}\n")


def traced(name: str) -> list[str]:
    """Return the lines of a file of the test."""
    path = Path(os.environ["TRACE"]) / name
    return path.read_text().splitlines() if path.exists() else []


def start_child(*, own_session: bool) -> None:
    """Start a process that would run for ten minutes, and leave its number."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=own_session)
    trace("children", child.pid)


def hang(trial: hr.Trial) -> NoReturn:
    """Report, start two processes, and hang."""
    trial.report(0, value=1.5)
    start_child(own_session=False)
    start_child(own_session=True)
    time.sleep(600)
    raise AssertionError


def hang_deaf(trial: hr.Trial) -> NoReturn:
    """Hang in native code that keeps the interpreter locked, deaf to all signals that can be refused."""
    start_child(own_session=False)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    trace("deaf", os.getpid())
    ctypes.PyDLL(None).sleep(600)
    raise AssertionError


def end_politely(trial: hr.Trial) -> NoReturn:
    """Clean up when asked to end, and then return as if nothing had happened."""

    def clean_up(*_: object) -> None:
        trace("cleaned up")
        raise InterruptedError

    signal.signal(signal.SIGTERM, clean_up)
    time.sleep(600)
    raise AssertionError


def grow(trial: hr.Trial) -> NoReturn:
    """Use more and more memory."""
    held: list[bytearray] = []
    for step in range(10_000):
        held.append(bytearray(b"x" * 2**23))
        trial.report(step, mb=8.0 * (step + 1))
        time.sleep(0.005)
    raise AssertionError


def grow_in_children(trial: hr.Trial) -> NoReturn:
    """Have other processes use the memory."""
    code = "held = bytearray(b'x' * 2**27); import time; time.sleep(600)"
    for _ in range(3):
        trace("children", subprocess.Popen([sys.executable, "-c", code]).pid)
    time.sleep(600)
    raise AssertionError


def share(trial: hr.Trial) -> float:
    """Fork processes that share what this one holds: many times as much if each is counted in full."""
    held = bytearray(b"x" * (120 * 2**20))
    children: list[int] = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            time.sleep(1.5)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    return len(held) / 2**20


KEPT: list[bytearray] = []


def leak(trial: hr.Trial) -> float:
    """Keep some memory for ever, less than the limit by itself."""
    KEPT.append(bytearray(b"x" * (60 * 2**20)))
    time.sleep(0.4)
    return len(KEPT)


def die(trial: hr.Trial) -> NoReturn:
    """Leave at once."""
    trace("died", time.time())
    trial.report(0, value=2.5)
    os._exit(7)


def crash(trial: hr.Trial) -> NoReturn:
    """Read where nothing is."""
    ctypes.string_at(0)
    raise AssertionError


def die_twice(trial: hr.Trial) -> float:
    """Be killed twice."""
    trace("died twice", time.time())
    if len(traced("died twice")) < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 3.0


def die_leaving_a_fork(trial: hr.Trial) -> NoReturn:
    """Die while a forked process holds everything open that this one had."""
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    trace("children", pid)
    os._exit(1)


def fork(trial: hr.Trial) -> float:
    """Fork, and let both return; the fork also tries to report."""
    pid = os.fork()
    if pid == 0:
        trace("forks", os.getpid())
        trial.report(0, value=99.0)
        return 99.0
    os.waitpid(pid, 0)
    return 1.0


def start_processes(trial: hr.Trial) -> float:
    """Use processes, as data loaders do."""
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(2) as pool:
        return float(sum(pool.map(abs, [-1, 2])))


def print_much(trial: hr.Trial) -> float:
    """Print five megabytes."""
    for _ in range(500):
        print("x" * 10_000)
    return 1.0


def close_output(trial: hr.Trial) -> float:
    """Close standard output."""
    sys.stdout.close()
    return 1.0


def change_directory(trial: hr.Trial) -> float:
    """Go elsewhere."""
    os.chdir("/")
    return 1.0


def leave(trial: hr.Trial) -> NoReturn:
    """End the program, as scripts do."""
    sys.exit("enough")


def cancel(trial: hr.Trial) -> NoReturn:
    """Raise what is no Exception."""
    raise asyncio.CancelledError


class Unpicklable(Exception):
    """Cannot be sent anywhere, nor shown."""

    def __reduce__(self) -> NoReturn:
        raise RuntimeError

    def __str__(self) -> NoReturn:
        raise RuntimeError


def raise_unpicklable(trial: hr.Trial) -> NoReturn:
    """Raise what cannot be sent."""
    raise Unpicklable


def raise_deep(trial: hr.Trial, left: int = 300) -> NoReturn:
    """Raise with a huge message from deep down."""
    if left == 0:
        raise ValueError("x" * 10_000_000)
    raise_deep(trial, left - 1)


def return_closure(trial: hr.Trial) -> Any:
    """Return what is no number, and cannot be sent."""
    return lambda: trial


def fine(trial: hr.Trial) -> float:
    """Say where it is evaluated, with output that works."""
    print("fine")
    trace("directories", os.getcwd())
    return 1.0


def dispatch(program: Mapping[str, Any], trial: hr.Trial) -> Any:
    """Evaluate in the way that the program names."""
    evaluate: Callable[[hr.Trial], Any] = globals()[program["what"]]
    return evaluate(trial)


class SlowToLoad:
    """An evaluation that takes two seconds to get ready in a worker, and none to evaluate."""

    def __setstate__(self, state: object) -> None:
        time.sleep(2.0)

    def __getstate__(self) -> object:
        return "something"

    def __call__(self, program: object) -> float:
        return 1.0


def meet_what_is_local(trial: hr.Trial) -> float:
    """Meet a choice that cannot be sent."""

    class Local(hr.Symbolic):
        x: int

    return float(trial.one_of("f", Local(1), Local(2)).x)
