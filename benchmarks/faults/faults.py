"""Many workers on one study while workers are killed, the driver is killed, and the database restarts: what is left?

    python benchmarks/faults/faults.py [--store postgresql|sqlite|both] [--trials 20000] [--workers N] [--killed 0.2]
                                       [--trial-ms 5] [--quick] [--json OUT]

Real processes: each worker is a `heuretic worker` (with the process that evaluates: two), and is killed with SIGKILL and
replaced. The server is a PostgreSQL of its own, stopped the way of a crash and started again after two seconds. Counted
afterwards: trials lost, counted twice, left in the queue, with a value that is not that of their program; and, looked
at twice a second from outside, whether the best and the number of trials ever went back.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import heuretic as hr
from heuretic.study.store import StoreError, open_store

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tests")]
from objective import value  # noqa: E402

from postgres import Server  # noqa: E402

DRIVER = """
import sys
import heuretic as hr
from objective import SPACE, evaluate
if __name__ == "__main__":
    hr.discover(SPACE, evaluate, algorithm=hr.Evolution(population=50), trials={trials}, store=sys.stdin.readline().strip(),
                name="faults", engine="workers", workers=0, progress=False, retry=hr.Retry(attempts=10, first_s=0.1, silent_s={silent_s}))
"""


class Processes:
    """The driver and the workers of one run."""

    def __init__(self, url: str, folder: Path, trials: int, silent_s: float, trial_ms: float) -> None:
        self.url, self.folder, self.trials, self.silent_s = url, folder, trials, silent_s
        path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
        self.environment = {
            **os.environ, "TRACE": str(folder), "TRIAL_MS": str(trial_ms), "HEURETIC_STORE": url, "OMP_NUM_THREADS": "1",
            "PYTHONPATH": path,
        }  # fmt: skip
        self.workers: list[subprocess.Popen[bytes]] = []
        self.driver = self.drive()

    def drive(self) -> subprocess.Popen[bytes]:
        """Start the driver. The URL goes through a pipe: a command line can be read by everybody."""
        code = DRIVER.format(trials=self.trials, silent_s=self.silent_s)
        with open(self.folder / "driver.log", "ab") as log:
            driver = subprocess.Popen(
                [sys.executable, "-c", code], env=self.environment, stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        assert driver.stdin is not None
        driver.stdin.write(f"{self.url}\n".encode())
        driver.stdin.close()
        return driver

    def hire(self) -> None:
        """Start a worker."""
        with open(self.folder / "workers.log", "ab") as log:
            command = [sys.executable, "-m", "heuretic", "worker", "--json", "--folder", str(HERE), "--idle", "60"]
            self.workers.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))

    def close(self) -> None:
        """Kill what is left."""
        for process in (self.driver, *self.workers):
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()


def run(
    kind: str,
    url: str,
    server: Server | None,
    workers: int,
    trials: int,
    killed: float,
    trial_ms: float,
    silent_s: float,
) -> dict[str, Any]:
    """Run one study with faults and return what was counted."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        processes = Processes(url, folder, trials, silent_s, trial_ms)
        for _ in range(workers):
            processes.hire()
        store = open_store(url)
        kills = [rng.uniform(0.05, 0.9) for _ in range(round(killed * workers))]  # when, as shares of the trials
        kills.sort()
        restart = 0.5 if server is not None else 2.0
        driver_kill = 0.3
        went_back = driver_kills = restarts = done_kills = 0
        best, count, first = float("-inf"), 0, 0.0
        gaps: list[float] = []
        last_progress = time.monotonic()
        try:
            while processes.driver.poll() is None:
                time.sleep(0.1)
                try:
                    counts, found = sum(store.counts("faults").values()), store.best("faults")
                except StoreError:
                    continue  # it is not made yet
                now = time.monotonic()
                if counts and not first:
                    first = now
                score = found.score if found is not None and found.score is not None else float("-inf")
                went_back += counts < count or score < best
                if counts > count:
                    gaps.append(now - last_progress)
                    last_progress = now
                best, count = max(best, score), max(count, counts)
                share = count / trials
                while kills and share >= kills[0]:
                    kills.pop(0)
                    victim = processes.workers.pop(rng.randrange(len(processes.workers)))
                    victim.send_signal(signal.SIGKILL)
                    victim.wait()
                    processes.hire()
                    done_kills += 1
                if share >= driver_kill and not driver_kills:
                    processes.driver.kill()
                    processes.driver.wait()
                    processes.driver = processes.drive()
                    driver_kills += 1
                if share >= restart and server is not None and not restarts:
                    server.restart("immediate", down_s=2.0)
                    restarts += 1
            ended = time.monotonic()
            log = (folder / "driver.log").read_text()
            left = sum(process.poll() is None for process in wait_for(processes.workers, 120))
        finally:
            processes.close()
        study = hr.open_study(url, "faults")
        numbers, wrong, again = Counter[int](), 0, 0
        for trial in store.trials("faults"):
            numbers[trial.number] += 1
            again += trial.attempts > 1
            wrong += trial.score is None or abs(trial.score - value(study.decode(trial))) > 1e-9
        evaluations = Counter(
            int(line) for file in folder.glob("[0-9]*.txt") for line in file.read_text().split() if line.isdigit()
        )
        counted = sum(study.counts.values())
        row = {
            "store": kind, "workers": workers, "trials": trials, "workers_killed": done_kills, "driver_killed": driver_kills,
            "server_restarts": restarts, "lost": trials - len(numbers), "counted_twice": max(counted, sum(numbers.values())) - len(numbers),
            "stuck": len(store.tickets("faults")), "wrong": wrong, "went_back": went_back, "workers_left": left,
            "evaluated_again": sum(evaluations.values()) - len(evaluations), "tried_again": again,
            "longest_pause_s": round(max(gaps[1:], default=0.0), 2), "seconds": round(ended - first, 1),
            "trials_per_s": round(trials / (ended - first), 1), "driver_log": log[-500:],
        }  # fmt: skip
        store.close()
    return row


def wait_for(processes: list[subprocess.Popen[bytes]], seconds: float) -> list[subprocess.Popen[bytes]]:
    """Wait for processes to end by themselves, for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(process.poll() is None for process in processes):
        time.sleep(0.1)
    return processes


@contextmanager
def place(kind: str) -> Iterator[tuple[str, Server | None]]:
    """Yield the URL of an empty store, and its server."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/faults.db?synchronous=NORMAL", None
        return
    server = Server("max_connections = 200")
    try:
        with server.database() as url:
            yield url, server
    finally:
        server.close()


def main() -> None:
    """Parse arguments, run, print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--store", choices=["postgresql", "sqlite", "both"], default="both")
    options.add_argument("--trials", type=int, default=20_000)
    options.add_argument("--workers", type=int, help="default: 64 on PostgreSQL, 8 on SQLite")
    options.add_argument("--killed", type=float, default=0.2)
    options.add_argument("--trial-ms", type=float, default=5.0)
    options.add_argument("--silent-s", type=float, default=5.0)
    options.add_argument("--quick", action="store_true", help="400 trials, 4 workers")
    options.add_argument("--json")
    given = options.parse_args()
    rows: list[dict[str, Any]] = []
    for kind in ("postgresql", "sqlite") if given.store == "both" else (given.store,):
        workers = given.workers or (4 if given.quick else 64 if kind == "postgresql" else 8)
        trials = 400 if given.quick else given.trials
        killed = 0.5 if given.quick else given.killed
        with place(kind) as (url, server):
            rows.append(run(kind, url, server, workers, trials, killed, given.trial_ms, given.silent_s))
    for name in rows[0]:
        if name != "driver_log":
            print(f"{name.replace('_', ' '):18s}" + "".join(f"{row[name]:>14}" for row in rows))
    if given.json:
        kept = [{name: value for name, value in row.items() if name != "driver_log"} for row in rows]
        Path(given.json).write_text(json.dumps(kept, indent=1) + "\n")
    bad = [
        row for row in rows if row["lost"] or row["counted_twice"] or row["stuck"] or row["wrong"] or row["went_back"]
    ]
    if bad:
        print(*(row["driver_log"] for row in bad), sep="\n", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
