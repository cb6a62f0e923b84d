"""A real PostgreSQL server, started and stopped by the tests and benchmarks that need one."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Server:
    """A PostgreSQL server on a port of the loopback, with its data in a temporary folder.

    The server refuses to run as root; then it runs as the system user `postgres`, whom its package creates.
    """

    PASSWORD = "correct horse"

    def __init__(self, settings: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="heuretic-pg-", dir="/tmp"))
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/tmp"}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        secret = self.folder / "password"
        secret.write_text(self.PASSWORD)
        secret.chmod(0o644)
        self._run(
            "initdb", "-D", str(self.folder / "data"), "-U", "heuretic", "-A", "scram-sha-256", "--pwfile", str(secret),
            "-E", "UTF8", "--no-locale", "--no-sync",
        )  # fmt: skip
        lines = f"port={self.port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{self.folder}'\n{settings}\n"
        with open(self.folder / "data/postgresql.conf", "a") as file:
            file.write(lines)
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        found = program_path(program)
        assert found is not None, f"{program} is not installed"
        done = subprocess.run([found, *arguments], capture_output=True, text=True, **self._as)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        log = str(self.folder / "log")
        subprocess.run(
            [str(program_path("pg_ctl")), "-D", str(self.folder / "data"), "-l", log, "-w", "-t", "60", "start"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._as,
        )  # fmt: skip

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: `fast` ends connections, `immediate` is as good as a crash."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-t", "60", "-m", mode, "stop")

    def restart(self, mode: str = "fast", down_s: float = 0.0) -> None:
        """Stop the server, leave it down for a while, start it again."""
        self.stop(mode)
        time.sleep(down_s)
        self.start()

    def url(self, database: str = "postgres", password: str | None = None) -> str:
        """Return the URL of a database."""
        secret = (password or self.PASSWORD).replace(" ", "%20")
        return f"postgresql://heuretic:{secret}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run one statement outside any transaction; return its rows."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def database(self) -> Iterator[str]:
        """Create an empty database, yield its URL, drop it."""
        name = f"d{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        """Stop the server and remove its data."""
        try:
            self.stop("immediate")
        except AssertionError:
            pid = int((self.folder / "data/postmaster.pid").read_text().splitlines()[0])
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


def program_path(program: str) -> str | None:
    """Return the path of one of PostgreSQL's programs, which Debian keeps out of PATH."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    return str(kept[-1]) if kept else shutil.which(program)
