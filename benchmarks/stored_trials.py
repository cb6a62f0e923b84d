"""What a study in a database costs as it grows: queries, claims, reports and whole trials at 1,000 to 1,000,000 stored trials.

    python benchmarks/stored_trials.py [--store postgresql|sqlite|both] [--up-to 1000000] [--json OUT]

Trials of eight parameters are written through `Store.commit`, as a run would, until each mark; there everything is timed,
medians of many calls: what a worker does (claim, report), what the leader does (record a trial, look for outcomes), what people
ask (best, counts, the first ten), opening the study, and a real run of 200 further trials by two workers. The last column
is the time at the last mark over that at the first.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import heuretic as hr
from heuretic.study import TrialRecord, open_store
from heuretic.study.queue import Queue
from heuretic.study.sql_store import SqlStore
from heuretic.study.trial import Outcome, Ticket

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "faults"), str(HERE.parent / "tests")]
from objective import SPACE, value  # noqa: E402

from postgres import Server  # noqa: E402

RUN = {"name": "growth", "algorithm": hr.RandomSearch(), "seed": 0, "progress": False}


def median_ms(work: Callable[[], object], times: int = 50) -> float:
    """Return the median time of a call in ms."""
    taken: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e3


def fill(store: SqlStore, space: hr.Space, first: int, last: int) -> None:
    """Write finished trials with the numbers from first to last - 1, a thousand in a transaction."""
    rng = random.Random(first)
    state, revision = store.state("growth")
    assert state is not None
    for start in range(first, last, 1000):
        trials: list[TrialRecord] = []
        for number in range(start, min(start + 1000, last)):
            genome = space.sample(rng)
            score = value(space.decode(genome))
            trials.append(
                TrialRecord(
                    number, "finished", genome, rng.randbytes(16).hex(), number, {"value": score}, score=score,
                    started=time.time(), seconds=0.01, worker="filled", environment=1,
                )
            )  # fmt: skip
        revision = store.commit("growth", trials, {**state, "next": start + len(trials)}, revision)


def at_mark(store: SqlStore, space: hr.Space, count: int) -> dict[str, float]:
    """Time everything on a study of so many trials."""
    queue = Queue(store, "growth")
    rng = random.Random(count)
    numbers = iter(range(10**9, 10**10))  # tickets and trials that are removed again afterwards
    _, revision = store.state("growth")
    state, _ = store.state("growth")
    assert state is not None
    offered: list[int] = []

    def offer() -> None:
        nonlocal revision
        tickets = [Ticket(next(numbers), space.sample(rng), b"", 1) for _ in range(100)]
        revision = store.commit("growth", [], state, revision, tickets)
        offered.extend(ticket.number for ticket in tickets)

    offer()
    claimed: list[int] = []
    times: dict[str, float] = {}
    times["claim"] = median_ms(
        lambda: claimed.extend(c.ticket.number for c in queue.exchange("w", 60.0, want=1).claims)
    )
    pending = list(claimed)
    times["report"] = median_ms(lambda: queue.exchange("w", 60.0, [Outcome(pending.pop(), 1.0, values={"value": 1.0})]))
    times["look for outcomes"] = median_ms(queue.outcomes)
    done = list(claimed)

    def record() -> None:
        nonlocal revision
        trial = TrialRecord(done.pop(), "failed", (1,), rng.randbytes(16).hex(), 1, worker="filled")
        revision = store.commit("growth", [trial], state, revision)

    times["record"] = median_ms(record)
    times["best"] = median_ms(lambda: store.best("growth"))
    times["counts"] = median_ms(lambda: store.counts("growth"))
    times["first ten"] = median_ms(lambda: store.top("growth", 10))
    times["one trial"] = median_ms(lambda: list(store.trials("growth", [rng.randrange(count)])))
    clean(store)
    return times


def analyze(store: SqlStore) -> None:
    """Bring the planner's statistics up to date."""
    import sqlalchemy as sa

    store.transact(lambda connection: connection.execute(sa.text("ANALYZE")))


def size(store: SqlStore) -> int:
    """Return the bytes that the trials take, indices included."""
    import sqlalchemy as sa

    query = "SELECT pg_total_relation_size('trials')"
    if store.dialect == "sqlite":
        query = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    return int(store.transact(lambda connection: connection.execute(sa.text(query)).scalar_one(), write=False))


def clean(store: SqlStore) -> None:
    """Remove what `at_mark` has added."""
    import sqlalchemy as sa

    def work(connection: sa.Connection) -> None:
        connection.execute(sa.text("DELETE FROM tickets"))
        connection.execute(sa.text("DELETE FROM trials WHERE number >= 1000000000"))
        connection.execute(sa.text("UPDATE runs SET failed = 0"))

    store.transact(work)


def whole_trials(url: str, count: int, engine: dict[str, Any]) -> tuple[float, float]:
    """Run 200 more trials; return trials a second between the first and the last of them, and the seconds until the first began."""
    began = time.time()
    study = hr.discover(SPACE, value, trials=count + 200, store=url, **RUN, **engine)
    new = list(study.store.trials("growth", range(count, count + 200)))
    assert len(new) == 200
    first, last = new[0].started, max(trial.started + trial.seconds for trial in new)
    study.store.close()
    return 199 / (last - first), first - began


@contextmanager
def place(kind: str) -> Iterator[str]:
    """Yield the URL of an empty store."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/growth.db?synchronous=NORMAL"
        return
    server = Server()
    try:
        with server.database() as url:
            yield url
    finally:
        server.close()


def measure(kind: str, marks: list[int]) -> list[dict[str, Any]]:
    """Grow one study and time it at each mark."""
    rows: list[dict[str, Any]] = []
    with place(kind) as url:
        hr.discover(SPACE, value, trials=10, store=url, **RUN)
        store = open_store(url)
        assert isinstance(store, SqlStore)
        space = hr.Space(SPACE)
        count = 10
        for mark in marks:
            began = time.perf_counter()
            fill(store, space, count, mark)
            filled = (mark - count) / (time.perf_counter() - began)
            if kind == "postgresql":  # as autovacuum does within a minute of so many rows
                analyze(store)
            times = at_mark(store, space, mark)
            count = mark
            inline, opened = whole_trials(url, count, {})
            count += 200
            shared, _ = whole_trials(url, count, {"engine": "workers", "workers": 2})
            count += 200
            rows.append(
                {
                    "bytes_per_trial": size(store) / count, "store": kind, "trials": mark, "ms": times, "bulk_trials_per_s": filled, "inline_trials_per_s": inline,
                    "workers_trials_per_s": shared, "resume_s": opened,
                }
            )  # fmt: skip
            print(f"  {kind} at {mark:,}", file=sys.stderr, flush=True)
        store.close()
    return rows


def table(rows: list[dict[str, Any]]) -> None:
    """Print one store's rows as a table."""
    print(f"\n{rows[0]['store']:24s}" + "".join(f"{row['trials']:>12,}" for row in rows) + f"{'ratio':>9s}")
    for name in rows[0]["ms"]:
        values = [row["ms"][name] for row in rows]
        print(f"{name + ' (ms)':24s}" + "".join(f"{v:12.2f}" for v in values) + f"{values[-1] / values[0]:9.2f}")
    for name in ("inline_trials_per_s", "workers_trials_per_s", "bulk_trials_per_s", "resume_s", "bytes_per_trial"):
        values = [row[name] for row in rows]
        ratio = values[-1] / values[0] if name in ("resume_s", "bytes_per_trial") else values[0] / values[-1]
        print(f"{name.replace('_', ' '):24s}" + "".join(f"{v:12.1f}" for v in values) + f"{ratio:9.2f}")


def main() -> None:
    """Parse arguments, run, print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--store", choices=["postgresql", "sqlite", "both"], default="both")
    options.add_argument("--up-to", type=int, default=1_000_000)
    options.add_argument("--json")
    given = options.parse_args()
    marks = [mark for mark in (1000, 10_000, 100_000, 1_000_000) if mark <= given.up_to]
    rows: list[dict[str, Any]] = []
    for kind in ("postgresql", "sqlite") if given.store == "both" else (given.store,):
        rows.extend(measure(kind, marks))
        table([row for row in rows if row["store"] == kind])
    if given.json:
        Path(given.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
