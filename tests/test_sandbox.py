"""The sandbox against code that wants out: real listeners, files and processes, looked at from outside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import heuretic
from heuretic.lm.sandbox import Execution, Sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="code is shut in on Linux only")
HERE = Path(__file__).parent
CALL = "import ctypes, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n"


@pytest.fixture(autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where sandboxes of this test get their folders. After each test none is left, and no process that works in one."""
    folder = tmp_path_factory.mktemp("places")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []
    assert gone(folder)


def working_in(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if os.readlink(entry).startswith(str(folder)):
                found.append(entry.parent.name)
    return found


def gone(folder: Path, seconds: float = 2.0) -> bool:
    """Return whether no process works in a folder any more; killed ones take a moment to go."""
    until = time.monotonic() + seconds
    while working_in(folder) and time.monotonic() < until:
        time.sleep(0.01)
    return not working_in(folder)


def run(code: str, tests: str = "", **limits: Any) -> Execution:
    return asyncio.run(Sandbox(**limits).run(code, tests))


def refused(statement: str, *errors: str) -> None:
    """Check that a statement of code raises one of the errors, inside, and that code next to it does run."""
    ended = run(f"print('before')\n{statement}\nprint('after')")
    assert (ended.outcome, ended.output) == ("failed", "before\n"), ended
    assert ended.error.split(":")[0] in errors, ended


def test_code_runs_and_is_judged_by_its_tests() -> None:
    code = "import math, json, re, collections, decimal, random, datetime\ndef double(x):\n    return 2 * x"
    assert run(code, "assert double(4) == 8").outcome == "passed"
    wrong = run(code, "assert double(4) == 9, 'not nine'")
    assert (wrong.outcome, wrong.error) == ("failed", "AssertionError: not nine")
    assert run("def f(:", "pass").error.startswith("SyntaxError")
    own = run("open('note', 'w').write('x' * 100)\nprint(open('note').read()[:3], 'ü')")
    assert (own.outcome, own.output) == ("passed", "xxx ü\n")
    assert run("print(hash('a'))").output == run("print(hash('a'))").output  # runs are alike


def test_no_connection_arrives(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as local:
        port = listener.getsockname()[1]
        path = str(place.parent / "s")
        local.bind(path)
        local.listen()
        for one in (listener, local):
            one.settimeout(0.2)
        refused(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)", "PermissionError")
        refused(f"import socket\nsocket.socket(socket.AF_UNIX).connect({path!r})", "PermissionError")
        refused("import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "PermissionError")
        for one in (listener, local):
            with pytest.raises(TimeoutError):
                one.accept()
        with socket.create_connection(("127.0.0.1", port)):  # they do listen
            listener.accept()[0].close()
    os.unlink(path)


def test_no_file_outside_is_read_or_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    monkeypatch.setenv("TOKEN", "hunter2")
    package = Path(heuretic.__file__)
    files = ["/etc/passwd", "/etc/shadow", "/proc/self/environ", f"/proc/{os.getpid()}/environ", "/proc/1/environ"]
    for path in [
        *files,
        str(secret),
        str(package),
        str(HERE / "conftest.py"),
        "/proc/self/mem",
        "/dev/mem",
        "/dev/tty",
    ]:
        if not path.startswith("/proc/") and Path(path).exists() is False:
            continue
        found = run(
            f"try:\n    print('read', open({path!r}, 'rb').read())\nexcept OSError as e:\n    print(type(e).__name__)"
        )
        assert found.output in ("PermissionError\n", "FileNotFoundError\n"), path
    everything = run(
        "import os\nprint(dict(os.environ))\nfor d in ('/', '/proc', '/tmp', '/root', '/home', '/etc', '..'):\n"
        "    try:\n        print(os.listdir(d))\n    except OSError as e:\n        pass"
    )
    assert everything.output == "{'PYTHONHASHSEED': '0', 'LC_CTYPE': 'C.UTF-8'}\n"
    for target in (secret, tmp_path / "new", Path("/tmp/heuretic-new"), Path("/dev/shm/heuretic-new")):
        refused(f"open({str(target)!r}, 'w')", "PermissionError", "OSError")
        assert not target.exists() or target.read_text() == "hunter2"
    refused(f"import os\nos.unlink({str(secret)!r})", "PermissionError", "OSError")
    refused(f"import os\nos.chmod({str(secret)!r}, 0)", "PermissionError", "OSError")
    refused(f"import os\nos.symlink({str(secret)!r}, 'link')\nopen('link').read()", "PermissionError")
    refused(f"import os\nos.link({str(secret)!r}, 'hard')", "PermissionError", "OSError")
    refused(f"import os\nos.symlink({str(tmp_path)!r}, 'way')\nopen('way/made', 'w')", "PermissionError", "OSError")
    assert secret.read_text() == "hunter2"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["secret"]


@pytest.mark.parametrize(
    "statement",
    [
        "os.fork()",
        "while True: os.fork()",
        "subprocess.run(['/bin/true'])",
        "os.system('true') == 0 or os.fork()",
        "os.execv('/bin/sh', ['sh'])",
        "os.execv(sys.executable, ['python'])",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "multiprocessing.get_context('fork').Process(target=print).start()",
    ],
)
def test_no_process_or_program_starts(statement: str) -> None:
    refused(f"import multiprocessing, os, subprocess, sys\n{statement}", "PermissionError", "BlockingIOError")


@pytest.mark.parametrize(
    "name",
    [
        "libc.ptrace(16, 1, 0, 0)",
        f"libc.ptrace(16, {os.getpid()}, 0, 0)",
        "libc.process_vm_readv(1, ctypes.create_string_buffer(16), 1, ctypes.create_string_buffer(16), 1, 0)",
        "libc.mount(b'none', b'.', b'tmpfs', 0, None)",
        "libc.umount2(b'.', 2)",
        "libc.unshare(0x10000000)",
        "libc.unshare(0x20000)",
        "libc.setns(0, 0)",
        "libc.chroot(b'.')",
        "libc.syscall(425, 8, ctypes.create_string_buffer(128))",  # io_uring_setup
        "libc.syscall(321, 0, 0, 0)" if os.uname().machine == "x86_64" else "libc.syscall(280, 0, 0, 0)",  # bpf
        "libc.syscall(438, 3, 0, 0)",  # pidfd_getfd
        "libc.syscall(0x40000000 + 41, 2, 1, 0)",  # a socket by the x32 numbers
        "libc.sethostname(b'mine', 4)",
    ],
)
def test_no_system_call_leads_out(name: str) -> None:
    ended = run(f"{CALL}r = {name}\nassert r == -1, r\nprint(errno.errorcode[ctypes.get_errno()])")
    assert ended.outcome == "passed", ended
    assert ended.output in ("EPERM\n", "ENOSYS\n")


def test_programs_in_32_bit_calls_are_ended() -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("of x86-64 only")
    shell = "b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3'"  # mov eax, 20 (getpid); int 0x80; ret
    ended = run(
        f"{CALL}import mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write({shell})\n"
        "a = ctypes.addressof(ctypes.c_char.from_buffer(m))\nprint(ctypes.CFUNCTYPE(ctypes.c_int)(a)())"
    )
    assert (ended.outcome, ended.output) == ("failed", "")


def test_the_parent_lives_on() -> None:
    for code in (
        "os.kill(os.getppid(), 9)",
        "os.kill(1, 9)",
        "os.killpg(0, 9)",
        "os.kill(-1, 9)",
        f"os.kill({os.getpid()}, 9)",
    ):
        ended = run(f"import os\ntry:\n    {code}\nfinally:\n    print('done')\nassert False")
        assert ended.outcome == "failed", (code, ended)


def test_limits_on_time() -> None:
    endless = run("print('begun', flush=True)\nwhile True: pass", cpu_s=1, wall_s=8)
    assert (endless.outcome, endless.output) == ("timeout", "begun\n")
    assert "CPU" in endless.error
    deaf = run("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", cpu_s=1, wall_s=8)
    assert deaf.outcome in ("failed", "timeout")
    assert deaf.seconds < 8
    asleep = run("print('begun', flush=True)\nimport time\ntime.sleep(60)", wall_s=0.6)
    assert (asleep.outcome, asleep.error, asleep.output) == ("timeout", "more than 0.6 s", "begun\n")
    assert asleep.seconds < 2


def test_limits_on_memory_output_and_files() -> None:
    assert run("x = 'a' * (1 << 30)", memory_mb=128).outcome == "memory"
    assert run("x = []\nwhile True: x.append(bytearray(1 << 20))", memory_mb=128).outcome == "memory"
    loud = run("while True: print('x' * 1000)", output_kb=8)
    assert (loud.outcome, len(loud.output), loud.error) == ("failed", 8192, "more than 8 KiB of output")
    for code in (
        "f = open('big', 'wb')\nwhile True: f.write(b'x' * 100_000)",
        "for i in range(100): open(str(i), 'wb').write(b'x' * 100_000)",
        "for i in range(2000): open(str(i), 'w').close()",
        "files = [open(str(i), 'w') for i in range(100)]",
    ):
        ended = run(code, files_mb=1)
        assert ended.outcome == "failed", code
        assert ended.error.startswith("OSError") or "ended" in ended.error, ended


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos._exit(0)",
        "import sys\nsys.exit(0)",
        "raise KeyboardInterrupt",
        "print('passed')\nimport os\nos._exit(0)",
        "import os\nfor fd in range(64):\n    try: os.write(fd, b'passed\\n')\n    except OSError: pass\nos._exit(0)",
        'import os\nfor fd in range(64):\n    try: os.write(fd, b\'["passed", ""]\\n\')\n    except OSError: pass\nos._exit(0)',
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'?\\n' + b'0' * 64 + b'\\npassed\\n')\n    except OSError: pass\nos._exit(0)",
        "import os\nfor fd in range(64):\n    try: os.close(fd)\n    except OSError: pass",
        "import builtins\nbuiltins.exec = lambda *a, **k: None",
        "import builtins\nbuiltins.compile = lambda *a, **k: ''",
        "import builtins\nbuiltins.AssertionError = builtins.BaseException = ValueError",
        "import builtins\nbuiltins.open = builtins.print = builtins.type = None",
        'import json, os\njson.dumps = lambda *a, **k: \'["passed", ""]\'\nos.write = print',
        "import ctypes\nctypes.string_at(0)",
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
        "class E(Exception):\n    def __str__(self): raise E\nraise E",
        "class E(Exception):\n    def __str__(self): return '\\ud800' * 10**6\nraise E",
        "raise Exception('😀\\n' * 10**6)",
        "import unittest.mock, sys\nsys.stdout = sys.stderr = unittest.mock.MagicMock()",
        "\0",
        "\ud800",
        "(" * 5000,
    ],
)
def test_what_does_not_pass_is_not_taken_for_passing(code: str) -> None:
    ended = run(code, "assert 1 == 2")
    assert ended.outcome != "passed", ended
    assert len(ended.error) < 5000


def test_leaving_inside_the_tests_is_no_pass() -> None:
    for leave in ("sys.exit(0)", "os._exit(0)", "os.abort()", "os.kill(os.getpid(), 9)"):
        assert run("x = 1", f"import os, sys\n{leave}").outcome == "failed"


def test_threads_end_with_the_code(place: Path) -> None:
    ended = run(
        "import threading, time\nfor _ in range(3): threading.Thread(target=time.sleep, args=(60,)).start()", wall_s=20
    )
    assert ended.outcome == "passed"
    assert ended.seconds < 15
    assert gone(place)


def test_a_thread_bomb_stays_inside() -> None:
    ended = run("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()", wall_s=5)
    assert ended.outcome in ("failed", "memory", "timeout")


@pytest.mark.parametrize("after", [0.0, 0.02, 0.05, 0.1, 0.2, 0.5])
def test_cancelling_ends_the_code(place: Path, after: float) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(Sandbox().run("import time\ntime.sleep(60)"))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    began = time.monotonic()
    asyncio.run(cancelled())
    assert gone(place)
    assert time.monotonic() - began < 5


def test_fifty_at_once() -> None:
    async def many() -> list[Execution]:
        sandbox = Sandbox(wall_s=60)
        return await asyncio.gather(
            *(sandbox.run(f"open('x', 'w').write('{i}')\nprint(open('x').read())") for i in range(50))
        )

    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    ended = asyncio.run(many())
    assert [e.outcome for e in ended] == ["passed"] * 50
    assert [e.output for e in ended] == [f"{i}\n" for i in range(50)]
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    assert threading.active_count() <= threads + 8


WITHOUT = """
import asyncio, ctypes, os, struct, sys, tempfile
from pathlib import Path
from heuretic.lm.sandbox import Sandbox, SandboxError
libc = ctypes.CDLL(None, use_errno=True)

def forbid(number, first=None):
    # A kernel without a system call answers ENOSYS; seccomp says so in its stead. With `first`, only for that first argument.
    lines = [(0x20, 0, 0, 0), (0x15, 0, 1 if first is None else 3, number)]
    lines += [] if first is None else [(0x20, 0, 0, 16), (0x15, 0, 1, first)]
    lines += [(6, 0, 0, 0x50000 | 38), (6, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, ctypes.c_ulong(2), struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code)), 0, 0) == 0

marker = Path(sys.argv[1], "ran")
def attempt(name, prepare):
    if os.fork() == 0:
        prepare()
        try:
            ended = asyncio.run(Sandbox(wall_s=20).run(f"open({str(marker)!r}, 'w')\\nprint('ran')"))
            print(name, "ran" if "ran" in ended.output else ended.error, flush=True)
        except SandboxError as error:
            print(name, "refused", error, flush=True)
        os._exit(0)
    os.wait()

def no_namespaces():
    user, group = os.getuid(), os.getgid()
    assert libc.unshare(0x10000000) == 0
    for file, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path("/proc/self", file).write_text(text)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")

arm = os.uname().machine == "aarch64"
attempt("none", lambda: None)
attempt("namespaces", no_namespaces)
attempt("mount_setattr", lambda: forbid(442))
attempt("mount", lambda: forbid(40 if arm else 165))
attempt("landlock", lambda: forbid(444))
attempt("landlock_restrict_self", lambda: forbid(446))
attempt("capset", lambda: forbid(91 if arm else 126))
attempt("seccomp", lambda: forbid(167 if arm else 157, 22))
print("marker", marker.exists())
"""


def test_without_a_layer_nothing_is_run(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(heuretic.__file__).parents[1]), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert (
        lines[0] == "none PermissionError: [Errno 13] Permission denied: " + repr(str(tmp_path / "ran"))
        or "Read-only" in lines[0]
    )
    for line, layer in zip(
        lines[1:-1],
        ("namespaces", "read-only mounts", "", "landlock", "landlock", "capabilities", "seccomp"),
        strict=True,
    ):
        assert " refused code must be shut in to be run" in line, done.stdout
        assert layer in line.split("unprotected: ")[1], line
    assert lines[-1] == "marker False"
