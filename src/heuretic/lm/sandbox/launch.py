"""The process that runs a stranger's code: it shuts itself in, then runs it. A script of its own, on the standard library only.

It is started by `heuretic.lm.sandbox` with a JSON object on standard input and reports on the file
descriptor that its argument names.
What shuts it in, each layer holding if another fails:

1. namespaces of its own for users, mounts, processes, network, messages and host names: no network, no foreign process;
2. every mount read-only, and a small file system in memory as the only place to write, gone with the process;
3. Landlock: only the interpreter's files and libraries can be read, only that place can be written;
4. seccomp: no sockets, no new processes or programs, no tracing, no mounts, no keys, no io_uring;
5. limits on CPU time, memory, file sizes, open files; no capabilities, no new privileges.

If one of them cannot be had, nothing is run, and the report says which.
"""

import ctypes
import json
import os
import platform
import resource
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_USER, NEW_MOUNT, NEW_PID, NEW_NET, NEW_IPC, NEW_HOST = (
    0x10000000,
    0x20000,
    0x20000000,
    0x40000000,
    0x8000000,
    0x4000000,
)
AT_FDCWD, RECURSIVE, READ_ONLY_MOUNT = -100, 0x8000, 1
NO_NEW_PRIVILEGES, DROP_FROM_BOUNDING_SET, DIE_WITH_PARENT, DUMPABLE = 38, 24, 1, 4
EPERM, ENOSYS = 1, 38
CLONE_THREAD = 0x10000

# What is denied, by machine: sockets; processes and programs; tracing and other processes' memory; mounts and roots; namespaces;
# keys, io_uring, bpf, perf, userfaultfd, handles of files.
DENIED = {
    "x86_64": (
        0xC000003E,
        (*(41, 42, 43, 49, 50, 288, 57, 58, 59, 322, 101, 310, 311, 438, 440, 155, 161, 165, 166, 428, 429, 430, 431, 432, 433, 442),
         *(272, 308, 248, 249, 250, 425, 426, 427, 321, 298, 323, 304, 246, 169)),
        56,
    ),
    "aarch64": (
        0xC00000B7,
        (*(198, 203, 202, 200, 201, 242, 221, 281, 117, 270, 271, 438, 440, 41, 51, 40, 39, 428, 429, 430, 431, 432, 433, 442),
         *(97, 268, 217, 218, 219, 425, 426, 427, 280, 241, 282, 265, 104, 142)),
        220,
    ),
}  # fmt: skip
CLONE3 = 435


class Unprotected(Exception):
    """A layer cannot be had here."""


def call(what, result):
    """Return the result of a system call. Raises: Unprotected if it failed."""
    if result < 0:
        raise Unprotected(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def syscall(what, number, *arguments):
    return call(what, LIBC.syscall(ctypes.c_long(number), *arguments))


def namespaces(place, megabytes):
    """Enter new namespaces, make every mount read-only, and mount a small file system in memory at `place`."""
    user, group = os.getuid(), os.getgid()
    call("namespaces", LIBC.unshare(NEW_USER | NEW_MOUNT | NEW_PID | NEW_NET | NEW_IPC | NEW_HOST))
    for name, text in (("setgroups", "deny"), ("gid_map", f"1000 {group} 1"), ("uid_map", f"1000 {user} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    call("private mounts", LIBC.mount(b"none", b"/", None, ctypes.c_ulong(0x4000 | 0x40000), None))
    attributes = struct.pack("QQQQ", READ_ONLY_MOUNT, 0, 0, 0)
    syscall("read-only mounts", 442, AT_FDCWD, b"/", RECURSIVE, attributes, ctypes.c_size_t(len(attributes)))
    options = f"size={megabytes}m,nr_inodes=1000,mode=700".encode()
    flags = ctypes.c_ulong(2 | 4)  # no set-user-id programs, no devices
    call("file system in memory", LIBC.mount(b"tmpfs", place.encode(), b"tmpfs", flags, options))


def landlock(readable, writable):
    """Allow reading below some paths and writing below one, and nothing else."""
    version = syscall("landlock", 444, None, ctypes.c_size_t(0), 1)
    everything = (1 << (13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16)) - 1
    # From version 4 also TCP, from 6 abstract sockets and signals.
    sizes = {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}
    rules = struct.pack("QQQ", everything, 3, 3)[: sizes.get(version, 24)]
    ruleset = syscall("landlock rules", 444, rules, ctypes.c_size_t(len(rules)), 0)
    execute, read_file, read_folder = 1, 4, 8
    for path, allowed in [
        *((p, execute | read_file | read_folder) for p in readable),
        (writable, everything & ~execute),
    ]:
        try:
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not os.path.isdir(path):
            allowed &= execute | read_file | 2 | 1 << 14
        rule = struct.pack("=Qi", allowed & everything, opened)
        syscall(f"landlock rule for {path}", 445, ruleset, 1, rule, 0)
        os.close(opened)
    call("no new privileges", LIBC.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    syscall("landlock", 446, ruleset, 0)
    os.close(ruleset)


def seccomp():
    """Deny system calls that have no place in a computation."""
    if platform.machine() not in DENIED:
        raise Unprotected(f"seccomp: no list of system calls for {platform.machine()}")
    architecture, denied, clone = DENIED[platform.machine()]
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, deny, absent = 0x7FFF0000, 0x80000000, 0x50000 | EPERM, 0x50000 | ENOSYS
    lines = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, kill), (load, 0, 0, 0)]
    lines += [(at_least, 0, 1, 0x40000000), (give, 0, 0, deny), (equal, 0, 1, CLONE3), (give, 0, 0, absent)]
    lines += [line for number in denied for line in ((equal, 0, 1, number), (give, 0, 0, deny))]
    # Threads are allowed, processes are not.
    lines += [
        (equal, 0, 3, clone),
        (load, 0, 0, 16),
        (any_bit, 1, 0, CLONE_THREAD),
        (give, 0, 0, deny),
        (give, 0, 0, allow),
    ]
    code = b"".join(struct.pack("HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(buffer))
    call("seccomp", LIBC.prctl(22, ctypes.c_ulong(2), program, 0, 0))


def no_capabilities():
    for capability in range(64):
        LIBC.prctl(DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)
    call("capabilities", LIBC.capset(struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *[0] * 6)))


def limits(settings):
    # The first limit on CPU time sends a signal that says so, the second ends what does not heed it.
    resource.setrlimit(resource.RLIMIT_CPU, (settings["cpu_s"], settings["cpu_s"] + 1))
    for name, value in (
        ("AS", settings["memory_mb"] << 20), ("FSIZE", settings["files_mb"] << 20), ("CORE", 0),
        ("NOFILE", 32), ("STACK", 64 << 20),
    ):  # fmt: skip
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def verdict(settings, execute=exec, build=compile):
    """Run code and then its tests. Returns: What became of it, and the last line of an error.

    What the tests need is taken beforehand, since code may replace built-in functions.
    """
    scope = {"__name__": "candidate"}
    try:
        tests = build(settings["tests"], "<tests>", "exec")
        execute(build(settings["code"], "<code>", "exec"), scope)
        execute(tests, scope)
    except MemoryError:
        return "memory", "MemoryError"
    except BaseException as error:
        return "failed", f"{type(error).__name__}: {error}"
    return "passed", ""


def main():
    report, leave, to = os.write, os._exit, int(sys.argv[1])
    settings = json.loads(sys.stdin.buffer.readline())
    try:
        namespaces(settings["place"], settings["files_mb"])
        for _ in range(2):  # the first process of the namespace takes everything in it along; the second runs the code
            child = os.fork()
            if child:
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                os._exit(code if code >= 0 else 128 - code)
            LIBC.prctl(DIE_WITH_PARENT, 9, 0, 0, 0)
        os.chdir(settings["place"])
        no_capabilities()
        landlock(settings["readable"], settings["place"])
        limits(settings)
        seccomp()
    except (Unprotected, OSError) as error:
        report(to, f"unprotected: {error}\n".encode())
        leave(1)
    secret_from, flush = sys.stdin.buffer.read, sys.stdout.flush
    sys.path += settings["path"]
    result, line = verdict(settings)
    # The secret is asked for only now, so code that ends the process, or prints what a success looks like, does not know it.
    flush()
    report(to, b"?\n")
    secret = secret_from(32)
    report(to, f"{secret.hex()}\n{result}\n{line[:500]}".encode(errors="backslashreplace"))
    leave(0)


main()
