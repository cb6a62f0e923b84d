"""Where the time of a shared trial goes: CPU of the leader, of a worker, and of the PostgreSQL server, per trial.

    python benchmarks/sharing_costs.py [--trials 3000] [--json OUT]

A trivial objective of 20 parameters; the leader is this process, one `heuretic worker` evaluates. CPU times are read
from /proc (Linux) when the first tenth of the trials is done, and at the end, so that starting does not count. What a leader or a server
can carry follows: a core carries 1 s over its CPU per trial.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from overhead import SPACE, objective

import heuretic as hr
from heuretic.study.store import open_store

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))
from postgres import Server  # noqa: E402

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_s(root: int) -> float:
    """Return the CPU time of a process and its descendants so far, ended children included."""
    times: dict[int, float] = {}
    parents: dict[int, int] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(place.name)], times[int(place.name)] = int(fields[1]), sum(map(int, fields[11:15])) * TICK_S
    total = 0.0
    for pid in times:
        above = pid
        while above not in (0, root):
            above = parents.get(above, 0)
        total += times[pid] if above == root else 0.0
    return total


def main() -> None:
    """Parse arguments, run, print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--trials", type=int, default=3000)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    server = Server()
    postmaster = int((server.folder / "data/postmaster.pid").read_text().splitlines()[0])
    marks: list[tuple[float, float, float, float]] = []
    try:
        with server.database() as url:
            environment = {**os.environ, "HEURETIC_STORE": url, "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-m", "heuretic", "worker", "--json", "--folder", str(HERE), "--idle", "60"]
            worker = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
            done = threading.Event()

            def watch() -> None:
                store = open_store(url)
                while not done.wait(0.05):
                    if "costs" in store.names() and store.counts("costs").get("finished", 0) >= given.trials // 10:
                        break
                marks.append(
                    (store.counts("costs")["finished"], time.process_time(), cpu_s(worker.pid), cpu_s(postmaster))
                )
                store.close()

            watcher = threading.Thread(target=watch)
            watcher.start()
            study = hr.discover(
                SPACE, objective, minimize="value", trials=given.trials, algorithm=hr.Evolution(), store=url, name="costs",
                engine="workers", workers=0, progress=False,
            )  # fmt: skip
            marks.append((given.trials, time.process_time(), cpu_s(worker.pid), cpu_s(postmaster)))
            done.set()
            watcher.join()
            study.store.close()
            worker.wait(60)
    finally:
        server.close()
    first, last = marks
    trials = last[0] - first[0]
    row = {
        f"{name}_cpu_ms": round((after - before) / trials * 1e3, 3)
        for name, before, after in zip(("leader", "worker", "server"), first[1:], last[1:], strict=True)
    }
    print(*(f"{name.partition('_')[0]:8s} {value:6.3f} ms CPU a trial" for name, value in row.items()), sep="\n")
    if given.json:
        given.json.write_text(json.dumps({"trials": given.trials, **row}, indent=1) + "\n")


if __name__ == "__main__":
    main()
