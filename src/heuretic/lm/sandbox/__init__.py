"""Running code that nobody here wrote, shut in: no network, no other files or processes, bounded time, memory and output."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from heuretic.symbolic import Symbolic, field

_LAUNCH = Path(__file__).with_name("launch.py")
_SYSTEM = (
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/dev/urandom",
    "/dev/null",
)


Ending = Literal["passed", "failed", "timeout", "memory"]


class SandboxError(Exception):
    """Code cannot be shut in on this machine, so it is not run."""


@dataclass(frozen=True, slots=True)
class Execution:
    """What became of code.

    Attributes:
        outcome: "passed" if code and tests ran to their end; "failed" if an exception came out of them, or the process ended
            early; "timeout" and "memory" if a limit was met.
        error: The exception in a line. output: What was printed, cut off at the limit. seconds: Wall time.
    """

    outcome: Ending
    error: str
    output: str
    seconds: float


class Sandbox(Symbolic):
    """Runs Python code in a process that has shut itself in; see `launch.py` for the layers. Linux on x86-64 or ARM only.

    Code sees the standard library, and the packages below `readable`. It gets a fresh folder in memory to write to. Code that
    sets out to deceive tests that run in the same interpreter can do so; it cannot get out.
    """

    cpu_s: int = field(default=5, ge=1, doc="seconds of CPU time")
    wall_s: float = field(default=10.0, gt=0, doc="seconds of wall time")
    memory_mb: int = field(default=512, ge=32, doc="MiB of address space")
    files_mb: int = field(default=16, ge=1, doc="MiB of files")
    output_kb: int = field(default=64, ge=1, doc="KiB of output that are kept; more ends the run")
    readable: tuple[str, ...] = field(default=(), doc="folders of packages that code may import from")

    async def run(self, code: str, tests: str = "") -> Execution:
        """Run code, then tests in the same scope.

        Raises: SandboxError if a layer of protection is missing here; nothing was run then.
        """
        if sys.platform != "linux":
            raise SandboxError(
                f"code can be shut in on Linux only, got {sys.platform}. Run it in a Linux container or virtual machine"
            )
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="heuretic-sandbox-") as place:
            outcome, error, output = await self._run(code, tests, place)
        return Execution(outcome, error, output, time.perf_counter() - began)

    async def _run(self, code: str, tests: str, place: str) -> tuple[Ending, str, str]:
        ours, theirs = os.pipe()
        settings = {
            "code": code, "tests": tests, "place": place, "cpu_s": self.cpu_s, "memory_mb": self.memory_mb, "files_mb": self.files_mb,
            "readable": [sysconfig.get_path("stdlib"), f"{sys.base_prefix}/lib", *_SYSTEM, *self.readable], "path": list(self.readable),
        }  # fmt: skip
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-s", "-S", "-B", str(_LAUNCH), str(theirs),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={"PYTHONHASHSEED": "0"}, cwd=place,
                pass_fds=(theirs,), start_new_session=True,
            )  # fmt: skip
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        reports = asyncio.StreamReader()
        with os.fdopen(ours, "rb") as pipe:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reports), pipe
            )
            secret = secrets.token_bytes(32)
            printed = bytearray()
            printing = asyncio.ensure_future(_print(process, printed, self.output_kb << 10))
            late = False
            try:
                async with asyncio.timeout(self.wall_s):
                    report = await _reported(process, settings, reports, secret)
                    _kill(process)
                    await printing
            except TimeoutError:
                late, report = True, []
            finally:
                _kill(process)
                printing.cancel()
                transport.close()
                await process.wait()
                # Else its pipes are closed when it is collected, perhaps after the event loop.
                process._transport.close()  # pyright: ignore[reportAttributeAccessIssue]
        output = printed[: self.output_kb << 10].decode(errors="replace")
        if late:
            return "timeout", f"more than {self.wall_s:g} s", output
        if report and report[0].startswith("unprotected"):
            raise SandboxError(
                f"code must be shut in to be run, and that failed here: {report[0]}. Try a newer kernel, or a container that allows it"
            )
        if len(report) == 3 and report[0] == secret.hex() and report[1] in get_args(Ending):
            return cast(Ending, report[1]), report[2], output
        if process.returncode == 128 + signal.SIGXCPU:
            return "timeout", f"more than {self.cpu_s} s of CPU time", output
        if len(printed) > self.output_kb << 10:
            return "failed", f"more than {self.output_kb} KiB of output", output
        return "failed", "the process ended before its tests did", output


async def _reported(
    process: asyncio.subprocess.Process, settings: dict[str, Any], reports: asyncio.StreamReader, secret: bytes
) -> list[str]:
    """Return the lines that the process reports, having told it the secret when it said that code and tests are done."""
    assert process.stdin
    try:
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        await process.stdin.drain()
        first = await reports.readline()
        if first != b"?\n":
            return [first.decode(errors="replace").strip()]
        process.stdin.write(secret)
        await process.stdin.drain()
        return (await reports.read(4096)).decode(errors="replace").split("\n", 2)
    except (BrokenPipeError, ConnectionResetError, ValueError):  # it ended early, or wrote into the report itself
        return []
    finally:
        if process.returncode is None and reports.at_eof():
            await process.wait()


async def _print(process: asyncio.subprocess.Process, kept: bytearray, most: int) -> None:
    """Keep what the process prints. It is ended when it prints too much."""
    assert process.stdout
    while len(kept) <= most and (more := await process.stdout.read(1 << 14)):
        kept += more
    if len(kept) > most:
        _kill(process)


def _kill(process: asyncio.subprocess.Process) -> None:
    """End the process and the first of its namespace, which takes all others in it along: both are in one process group."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
