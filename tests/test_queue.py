"""The contract of the queue of a shared study, on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from heuretic.study import Retry, StoreError, StudyRecord
from heuretic.study.queue import Queue
from heuretic.study.sql_store import SqlStore
from heuretic.study.tables import workers
from heuretic.study.trial import Outcome, Ticket
from heuretic.symbolic import FrozenDict
from postgres import Server

STUDY = StudyRecord("first", '{"heuretic": 1, "program": 1}', "", "{}", "[]", "m:f", "value", "maximize", 3, 12.5)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("postgres_url") if request.param == "postgresql" else f"sqlite:///{tmp_path}/s.db"


@pytest.fixture
def queue(url: str) -> Iterator[Queue]:
    store = SqlStore(url)
    store.create(STUDY)
    yield Queue(store, "first")
    store.close()


def offer(queue: Queue, count: int) -> None:
    tickets = [
        Ticket(n, (n, 0.5), b"", n + 7, (1, 2), "mutation", 0, b"\x01\xff" if n % 2 else None) for n in range(count)
    ]
    _, revision = queue.store.state("first")
    queue.store.commit("first", [], {}, revision, tickets)


def claimed(queue: Queue, worker: str, want: int, silent_s: float = 60.0) -> list[int]:
    return [claim.ticket.number for claim in queue.exchange(worker, silent_s, want=want).claims]


def test_what_is_offered_is_claimed_in_order_as_it_was(queue: Queue) -> None:
    offer(queue, 3)
    [first, second] = queue.exchange("a", 60.0, want=2).claims
    assert first.ticket == Ticket(0, (0, 0.5), b"", 7, (1, 2), "mutation", 0, None)
    assert second.ticket.fingerprint == b"\x01\xff"
    assert (first.attempts, second.attempts) == (1, 1)
    assert claimed(queue, "b", 5) == [2]
    assert claimed(queue, "b", 5) == []
    assert queue.outcomes() == []


def test_nothing_is_claimed_twice_by_many_at_once(url: str, queue: Queue) -> None:
    offer(queue, 200)
    got: list[list[int]] = [[] for _ in range(6)]

    def work(which: int) -> None:
        store = SqlStore(url)
        own = Queue(store, "first")
        while numbers := claimed(own, f"w{which}", 3):
            got[which].extend(numbers)
        store.close()

    threads = [threading.Thread(target=work, args=(which,)) for which in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(number for numbers in got for number in numbers) == dict.fromkeys(range(200), 1)


def test_an_outcome_comes_back_whole(queue: Queue) -> None:
    offer(queue, 1)
    claimed(queue, "a", 1)
    outcome = Outcome(
        0, 12.5, 0.25, {"value": 0.1 + 0.2, "loss": float("inf")}, error="bad \0 \ud800 text", steps=[(3, {"loss": 0.5})],
        worker="a/worker-0", energy={"cpu_kwh": 1e-9}, attempts=2, environment=4,
    )  # fmt: skip
    queue.exchange("a", 60.0, [outcome])
    [back] = queue.outcomes()
    assert back.error == "bad \\0 \\ud800 text"
    back.error = outcome.error
    assert back == outcome


def test_choices_met_on_the_way_come_back(queue: Queue) -> None:
    import heuretic as hr

    offer(queue, 1)
    met = {"act": (hr.one_of("relu", "gelu"), "gelu"), "x": (hr.number(0.0, 1.0), 0.25)}
    queue.exchange("a", 60.0, [Outcome(0, 1.0, met=met)])
    [back] = queue.outcomes()
    assert FrozenDict(back.met) == FrozenDict(met)


def test_the_first_report_counts_whoever_makes_it(queue: Queue) -> None:
    offer(queue, 2)
    assert claimed(queue, "slow", 1, silent_s=0.05) == [0]
    time.sleep(0.1)
    assert queue.recover(Retry(first_s=0.0)) == 1
    assert claimed(queue, "quick", 1) == [0]
    queue.exchange("slow", 60.0, [Outcome(0, 1.0, values={"value": 1.0})])
    queue.exchange("quick", 60.0, [Outcome(0, 1.0, values={"value": 2.0})])
    queue.exchange("slow", 60.0, [Outcome(0, 1.0, values={"value": 1.0})])  # sent again after a lost connection
    assert [outcome.values["value"] for outcome in queue.outcomes()] == [1.0]
    queue.exchange("slow", 60.0, [Outcome(99, 1.0, values={"value": 1.0})])  # of a trial that is recorded already
    assert len(queue.outcomes()) == 1


def test_only_the_silent_lose_their_tickets(queue: Queue) -> None:
    offer(queue, 2)
    claimed(queue, "silent", 1, silent_s=0.3)
    claimed(queue, "alive", 1, silent_s=0.3)
    for _ in range(6):
        time.sleep(0.1)
        queue.alive("alive", 0.3, 1, [1])
    assert queue.slots() == 1
    assert queue.recover(Retry(first_s=0.0)) == 1
    assert claimed(queue, "other", 5) == [0]


def test_attempts_wait_longer_each_time_and_end(queue: Queue) -> None:
    offer(queue, 1)
    retry = Retry(attempts=3, first_s=0.2, cap_s=0.3)
    pauses: list[float] = []
    began = time.monotonic()
    for attempt in range(3):
        while not (got := queue.exchange("w", 0.01, want=1).claims):
            assert time.monotonic() - began < 5
            time.sleep(0.01)
        assert got[0].attempts == attempt + 1
        pauses.append(time.monotonic() - began)
        time.sleep(0.03)
        began = time.monotonic()  # the pause begins while the attempt is recovered, which may itself take a while
        assert queue.recover(retry) == 1
        assert queue.recover(retry) == 0
    assert pauses[1] >= 0.19
    assert pauses[2] >= 0.29  # twice 0.2, but no more than the cap
    [outcome] = queue.outcomes()
    assert outcome.error == "WorkerDied: 3 workers in turn fell silent in this trial (last: w)"
    assert outcome.attempts == 3
    assert claimed(queue, "w", 1) == []


def test_what_is_given_back_was_never_begun(queue: Queue) -> None:
    offer(queue, 2)
    claimed(queue, "a", 2)
    queue.alive("a", 60.0, 2, [0, 1])
    queue.leave("a", [1])
    assert queue.slots() == 0
    [claim] = queue.exchange("b", 60.0, want=5).claims
    assert (claim.ticket.number, claim.attempts) == (1, 1)


def test_what_is_withdrawn_waits_for_the_next_run(queue: Queue) -> None:
    offer(queue, 3)
    claimed(queue, "a", 1)
    assert sorted(queue.withdraw()) == [1, 2]
    assert claimed(queue, "b", 5) == []
    queue.begin()
    assert claimed(queue, "b", 5) == [1, 2]
    assert [ticket.number for ticket in queue.store.tickets("first")] == [0, 1, 2]


def test_one_leads_at_a_time(url: str, queue: Queue) -> None:
    other = Queue(SqlStore(url), "first")
    assert queue.standing().terms == {}
    assert queue.lead("a", 0.3, {"evaluate": "m:f"})
    assert not other.lead("b", 60.0, {})
    assert queue.lead("a", 0.3, {"evaluate": "m:f"})
    standing = other.standing()
    assert (standing.leader, standing.terms, standing.stopped) == ("a", {"evaluate": "m:f"}, "")
    time.sleep(0.4)
    assert other.standing().leader == ""
    assert other.lead("b", 60.0, {})
    assert not queue.lead("a", 60.0, {})
    assert queue.lead("c", 60.0, {}, instead_of="b")
    other.release("b", "trials")  # leads no more, so it ends nothing
    assert queue.standing().leader == "c"
    queue.release("c", "trials")
    assert (queue.standing().leader, queue.standing().stopped) == ("", "trials")
    other.store.close()


def test_reports_reach_the_leader_once_and_decisions_the_worker(queue: Queue) -> None:
    offer(queue, 2)
    claimed(queue, "a", 2)
    assert not queue.exchange("a", 60.0, steps=[(0, 1, {"loss": 2.0}), (1, 1, {"loss": 1.0})], running=[0, 1]).stop
    assert queue.steps() == [(0, 1, {"loss": 2.0}), (1, 1, {"loss": 1.0})]
    assert queue.steps() == []
    queue.stop([0])
    assert queue.exchange("a", 60.0, steps=[(0, 2, {"loss": 1.5})], running=[0, 1]).stop == [0]
    queue.begin()  # another leader takes over, and hears all of it
    assert [step[:2] for step in queue.steps()] == [(0, 1), (1, 1), (0, 2)]
    queue.forget_steps([0])
    queue.begin()
    assert [step[:2] for step in queue.steps()] == [(1, 1)]
    queue.exchange("zombie", 60.0, steps=[(99, 1, {"loss": 0.0})])  # of a trial that is recorded already
    queue.begin()
    assert [step[:2] for step in queue.steps()] == [(1, 1)]


def test_a_decision_ends_with_the_attempt_that_it_was_about(queue: Queue) -> None:
    offer(queue, 1)
    claimed(queue, "a", 1, silent_s=0.05)
    queue.stop([0])
    time.sleep(0.1)
    assert queue.recover(Retry(first_s=0.0)) == 1
    assert claimed(queue, "b", 1) == [0]
    assert queue.exchange("b", 60.0, steps=[(0, 1, {"loss": 1.0})], running=[0]).stop == []


def test_workers_that_are_gone_are_cleared_away(queue: Queue) -> None:
    queue.alive("gone", 0.05, 1, [])
    queue.alive("here", 60.0, 2, [])
    time.sleep(0.1)
    assert queue.alive_workers() == {"here": 2}
    queue.begin()
    kept = queue.store.transact(lambda connection: connection.execute(sa.select(workers.c.id)).scalars().all())
    assert kept == ["here"]


def test_code_is_kept(queue: Queue) -> None:
    files = {"a.py": "x = 'ü'\n".encode(), "b/c.py": bytes(range(256))}
    queue.keep_code("d1", files)
    queue.keep_code("d1", files)
    assert queue.kept_code("d1") == files
    assert queue.kept_code("d2") == {}


SKEWED = """
import sys, time
real = time.time
time.time = lambda: real() + {skew}
from heuretic.study.queue import Queue
from heuretic.study.sql_store import SqlStore
from heuretic.study.tables import workers
queue = Queue(SqlStore(sys.stdin.readline().strip()), "first")
[claim] = queue.exchange("skewed", 1.0, want=1).claims
queue.alive("skewed", 60.0, 1, [claim.ticket.number])
"""


@pytest.mark.parametrize("skew", [86400.0, -86400.0])
def test_a_worker_whose_clock_is_wrong_is_as_alive_as_others(url: str, queue: Queue, skew: float) -> None:
    offer(queue, 1)
    subprocess.run([sys.executable, "-c", SKEWED.format(skew=skew)], input=url, text=True, check=True)
    assert queue.slots() == 1
    assert queue.recover(Retry()) == 0
    assert claimed(queue, "other", 1) == []


class TestConnections:
    def test_a_connection_that_is_cut_is_made_again(self, server: Server, postgres_url: str) -> None:
        store = SqlStore(postgres_url)
        store.create(STUDY)
        for revision in range(3):
            database = postgres_url.rpartition("/")[2]
            server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
            assert store.commit("first", [], {"n": revision}, revision) == revision + 1
        assert store.state("first") == ({"n": 2}, 3)
        store.close()

    def test_a_commit_whose_answer_was_lost_is_not_made_twice(self, postgres_url: str) -> None:
        store = SqlStore(postgres_url)
        store.create(STUDY)
        once = store.transact

        def as_after_a_lost_answer(work: Any, write: bool = True) -> Any:
            once(work, write)
            return once(work, write)

        store.transact = as_after_a_lost_answer  # type: ignore[method-assign]
        assert store.commit("first", [], {"n": 1}, 0, [Ticket(0, (1,), b"", 1)]) == 1
        assert store.state("first") == ({"n": 1}, 1)
        assert len(store.tickets("first")) == 1
        store.close()

    def test_patience_ends(self, postgres_url: str, server: Server) -> None:
        store = SqlStore(postgres_url, patience_s=4)
        store.create(STUDY)
        said: list[str] = []
        store.note = said.append
        database = postgres_url.rpartition("/")[2]
        server.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
        with pytest.raises(
            StoreError, match=r"(?s)cannot use postgresql://.*Tried again for 4 s\. What is stored is safe"
        ):
            store.state("first")
        assert len(said) == 1
        assert "is out of reach" in said[0]

    def test_what_cannot_be_written_is_not_tried_again(self, postgres_url: str) -> None:
        store = SqlStore(postgres_url)
        store.create(STUDY)
        began = time.monotonic()
        with pytest.raises(StoreError, match="cannot contain NUL"):
            store.enqueue("first\0", 0, (1,))
        assert time.monotonic() - began < 60
        store.close()

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ("password", "password authentication failed"),
            ("database", "does not exist"),
            ("port", "(?i)connection refused"),
        ],
    )
    def test_what_is_wrong_with_a_url_is_said(self, server: Server, wrong: str, said: str) -> None:
        url = {
            "password": server.url(password="hunter2"),
            "database": server.url("nowhere"),
            "port": server.url().replace(str(server.port), "1"),
        }[wrong]
        began = time.monotonic()
        with pytest.raises(StoreError, match=said) as caught:
            SqlStore(url).names()
        assert "Are host, port, user, password" in str(caught.value)
        assert "hunter2" not in str(caught.value)
        assert time.monotonic() - began < 20
