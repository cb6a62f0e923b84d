"""Engine `processes`: evaluations in worker processes of this machine, each a fresh interpreter."""

from __future__ import annotations

import atexit
import faulthandler
import heapq
import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

from heuretic.search import Space
from heuretic.study import trial
from heuretic.study.conditions import Conditions
from heuretic.study.engines import EngineError, Report, process_tree
from heuretic.study.environment import environment_facts
from heuretic.study.trial import Evaluator, Outcome, Ticket


class Processes:
    """Evaluates in worker processes, each a fresh interpreter.

    A worker that dies in a trial (killed, out of memory, crashed) is replaced, and the trial is tried again as
    `conditions.retry` says. An evaluation that takes more time or memory than `conditions` allows is ended with its
    process and all that this has started: with SIGTERM for time, a second later and for memory with SIGKILL. On Linux
    the error then says where in Python it was, unless it dealt with SIGTERM itself; and so it does after a crash. Each
    worker gets its share of the cores for numerical threads unless OMP_NUM_THREADS is set.
    """

    #: Seconds between looks at the workers' memory, and from SIGTERM to SIGKILL.
    WATCH_S, GRACE_S = 0.25, 1.0

    def __init__(
        self, evaluator: Evaluator, report: Report, workers: int, conditions: Conditions = Conditions()
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers must be >= 1, got {workers}")
        self.workers = workers
        self._evaluator, self._report, self._conditions = evaluator, report, conditions
        self._context = multiprocessing.get_context("spawn")
        self._queue: deque[Ticket] = deque()
        self._again: list[tuple[float, int, Ticket]] = []  # a heap: when it is due, its number
        self._deaths: dict[int, int] = {}
        self._pool: list[_Worker] = []
        self._started = 0
        self._stillborn: int | None = None  # deaths at the start since a worker was ready; None: none ever was
        self._watch_at = 0.0
        _refuse_inside_worker()
        _check_sendable(evaluator)
        if conditions.memory_mb is not None:
            process_tree.used_mb(os.getpid(), math.inf)  # raises if this cannot be found here
        atexit.register(self.close)  # before multiprocessing's own handler, which waits for workers to end
        try:
            for _ in range(workers):
                self._hire()
        except BaseException:
            self.close()
            raise

    def submit(self, ticket: Ticket) -> None:
        self._queue.append(ticket)
        self._hand_out()

    def wait(self, timeout_s: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        self._hand_out()
        by_pipe = {worker.pipe: worker for worker in self._pool}
        for pipe in wait(list(by_pipe), self._sleep_s(timeout_s)):
            outcomes.extend(self._read(by_pipe[pipe]))  # type: ignore[index]
        now = time.monotonic()
        if self._conditions.timeout_s is not None:
            for worker in [worker for worker in self._pool if worker.deadline <= now]:
                outcomes.extend(self._overdue(worker))
        if now >= self._watch_at:
            self._watch_at = now + self.WATCH_S
            for worker in list(self._pool):
                outcomes.extend(self._watch(worker))
        self._hand_out()
        return outcomes

    def withdraw(self) -> list[int]:
        taken = [*self._queue, *(ticket for _, _, ticket in self._again)]
        self._queue.clear()
        self._again.clear()
        return sorted(ticket.number for ticket in taken)

    def add_space(self, space: Space) -> None:
        self._evaluator.add_space(space)  # workers are told with their next ticket

    def close(self) -> None:
        atexit.unregister(self.close)
        for worker in self._pool:
            worker.end()
        for worker in self._pool:
            worker.process.join(5)
            worker.close()
        self._pool.clear()

    # -- workers ----------------------------------------------------------------------------------------------------

    def _hire(self) -> None:
        name = f"worker-{self._started}"
        self._started += 1
        ours, theirs = self._context.Pipe()
        # Not a daemon, because evaluations may start processes themselves.
        process = self._context.Process(target=_work, args=(theirs, name), name=name, daemon=False)
        threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // self.workers))}
        added = {key: value for key, value in threads.items() if key not in os.environ}
        os.environ.update(added)
        try:
            with _interrupts_held():
                process.start()
        except OSError as error:
            ours.close()
            raise EngineError(f"a worker process could not be started: {error}. Try fewer workers") from error
        finally:
            for key in added:
                del os.environ[key]
            theirs.close()
        self._pool.append(_Worker(process, ours, name))

    def _hand_out(self) -> None:
        if not self._queue and not self._again:
            return
        now = time.monotonic()
        while self._again and self._again[0][0] <= now:
            self._queue.appendleft(heapq.heappop(self._again)[2])
        for worker in self._pool:
            if self._queue and worker.ready and worker.ticket is None:
                self._begin(worker, self._queue.popleft(), now)

    def _begin(self, worker: _Worker, ticket: Ticket, now: float) -> None:
        # The worker does nothing but wait for this, so its evaluation begins now.
        worker.begin(ticket, now)
        if self._conditions.timeout_s is not None:
            worker.deadline = now + self._conditions.timeout_s
        for space in self._evaluator.spaces[worker.spaces :]:
            self._send(worker, space.program)
        worker.spaces = len(self._evaluator.spaces)
        self._send(worker, ticket)

    def _send(self, worker: _Worker, message: Any) -> None:
        """Send to a worker; one that has died in the meantime is noticed by the next wait."""
        try:
            worker.pipe.send(message)
        except OSError:
            pass

    def _sleep_s(self, timeout_s: float) -> float:
        """Return the seconds until something must be done even if no worker says anything, at most `timeout_s`."""
        due: list[float] = []
        if self._conditions.timeout_s is not None:
            due.extend(worker.deadline for worker in self._pool)
        if self._conditions.memory_mb is not None:
            due.append(self._watch_at)
        if self._again:
            due.append(self._again[0][0])
        return max(0.0, min(timeout_s, min(due) - time.monotonic())) if due else timeout_s

    def _read(self, worker: _Worker) -> list[Outcome]:
        kind: str
        content: Any
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            return self._bury(worker)
        except Exception as error:  # what the trial met, or so it seems, cannot be read in this process
            kind, content = "outcome", self._failure(worker, f"{type(error).__name__}: {error}")
        if worker.verdict is not None:  # it is being ended; whatever it says now comes too late
            return []
        if kind == "outcome" or kind == "last outcome":
            content.facts, worker.facts = content.facts or worker.facts, {}
            content.attempts = self._deaths.pop(content.number, 0) + 1
            worker.ticket, worker.deadline = None, math.inf
            if kind == "last outcome":
                self._replace(worker)
            else:
                self._weigh(worker)
            return [content]
        if kind == "report":
            number, step, metrics = content
            worker.steps.append((step, metrics))
            if time.monotonic() < worker.deadline:
                self._send(worker, self._report(number, step, metrics))
        elif kind == "here":
            worker.spaces = len(self._evaluator.spaces)
            self._send(worker, self._evaluator)
        elif kind == "ready":
            worker.ready, self._stillborn = True, 0
            worker.facts, last_words = content
            worker.listen(last_words)
            self._weigh(worker, fresh=True)
        elif kind == "broken":
            raise EngineError(
                f"a worker could not start, because evaluate, or what it needs, cannot be had in a fresh interpreter. "
                f"Define it in a module, or use engine='inline':\n{content}"
            )
        return []

    # -- what goes wrong --------------------------------------------------------------------------------------------

    def _overdue(self, worker: _Worker) -> list[Outcome]:
        """End an evaluation that has had its time; the second time, without asking."""
        if worker.verdict is not None:
            return self._bury(worker)
        if worker.pipe.poll():  # perhaps it has just ended
            return []
        worker.verdict = f"TimedOut: the evaluation took more than {self._conditions.timeout_s:g} s (timeout_s)"
        worker.deadline = time.monotonic() + self.GRACE_S
        worker.end(signal.SIGTERM)
        return []

    def _watch(self, worker: _Worker) -> list[Outcome]:
        """End an evaluation that has had its memory; find a worker that is gone although its pipe is open."""
        if worker.pipe.poll():
            return []
        if worker.process.exitcode is not None:  # what it has forked holds the pipe
            return self._bury(worker)
        limit = self._conditions.memory_mb
        if limit is None or worker.ticket is None or worker.verdict is not None:
            return []
        if process_tree.used_mb(worker.pid, limit) <= limit:
            return []
        worker.verdict = f"OutOfMemory: the evaluation used more than {limit:g} MB (memory_mb)"
        if worker.idle_mb > limit / 2:
            worker.verdict += f", of which its process held {worker.idle_mb:.0f} MB before"
        return self._bury(worker)

    def _weigh(self, worker: _Worker, fresh: bool = False) -> None:
        """Replace a worker that holds too much between two evaluations."""
        limit, now = self._conditions.memory_mb, time.monotonic()
        if limit is None or (now < worker.weighed + self.WATCH_S and not fresh):
            return
        worker.weighed, worker.idle_mb = now, process_tree.used_mb(worker.pid, limit)
        if worker.idle_mb > limit and fresh:
            raise EngineError(
                f"memory_mb must leave room to evaluate, got {limit:g}: "
                f"a worker holds {worker.idle_mb:.0f} MB before its first evaluation"
            )
        if worker.idle_mb > limit:
            self._replace(worker)

    def _replace(self, worker: _Worker) -> str:
        """End a worker, with all that it has started, and hire another. Return how it ended."""
        self._pool.remove(worker)
        worker.end()
        worker.process.join(5)
        worker.close()
        self._hire()
        return _cause(worker.process.exitcode)

    def _bury(self, worker: _Worker) -> list[Outcome]:
        """Replace a worker that is dead or shall be; put its trial off for another try, or give its outcome."""
        if not worker.ready:
            self._count_stillborn(worker)
        cause = self._replace(worker)
        ticket = worker.ticket
        if ticket is None:
            return []
        deaths = self._deaths.pop(ticket.number, 0) + 1
        if worker.verdict is not None:
            return [self._failure(worker, worker.verdict, deaths)]
        retry = self._conditions.retry
        if deaths < retry.attempts:
            self._deaths[ticket.number] = deaths
            heapq.heappush(self._again, (time.monotonic() + retry.delay_s(deaths), ticket.number, ticket))
            return []
        times = f"{deaths} time{'s' if deaths > 1 else ''}"
        error = f"ProcessDied: the evaluation ended its process {times} (last: {cause})"
        return [self._failure(worker, error, deaths)]

    def _count_stillborn(self, worker: _Worker) -> None:
        """Refuse to go on if workers die at their start: at once if none ever was ready, else after some tries."""
        if self._stillborn is None or self._stillborn + 1 >= max(3, self._conditions.retry.attempts):
            worker.process.join(5)
            raise EngineError(
                f"a worker process ended at its start ({_cause(worker.process.exitcode)}). If this is a script, put "
                f"its main part under 'if __name__ == \"__main__\":', because workers import it"
            )
        self._stillborn += 1

    def _failure(self, worker: _Worker, error: str, attempts: int = 1) -> Outcome:
        assert worker.ticket is not None
        facts, worker.facts = worker.facts, {}
        return Outcome(
            worker.ticket.number, worker.began, time.monotonic() - worker.clock, error=worker.last_words + error,
            steps=worker.steps, facts=facts, worker=worker.name, attempts=attempts,
        )  # fmt: skip


class _Worker:
    """A worker process as the engine sees it.

    Attributes:
        ready: It has imported what it needs. spaces: How many of the evaluator's spaces it knows.
        ticket: What it evaluates, began and clock: since when, as Unix time and on the monotonic clock; steps: what it has
            reported; deadline: when to end it, on the monotonic clock.
        verdict: Why it is being ended. idle_mb: What it held when it had nothing to do, weighed: when that was.
        facts: About its environment, not yet told. last_words: Of one that has ended: where it was in the evaluation.
    """

    def __init__(self, process: Any, pipe: Connection, name: str) -> None:
        self.process, self.pipe, self.name, self.pid = process, pipe, name, process.pid
        self.ready, self.spaces = False, 0
        self.ticket: Ticket | None = None
        self.began, self.clock, self.deadline = 0.0, 0.0, math.inf
        self.steps: list[tuple[int, dict[str, float]]] = []
        self.verdict: str | None = None
        self.idle_mb, self.weighed = 0.0, 0.0
        self.facts: dict[str, str] = {}
        self.last_words = ""
        self._family: list[process_tree.Member] = []
        self._words: int | None = None  # a file
        self._heard = 0

    def begin(self, ticket: Ticket, now: float) -> None:
        """Note that an evaluation begins."""
        self.ticket, self.began, self.clock, self.steps = ticket, time.time(), now, []
        if self._words is not None:
            self._heard = os.fstat(self._words).st_size  # processes that the last one has forked may have written

    def listen(self, descriptor: int | None) -> None:
        """Open the file, without a name, in which the process leaves its last words."""
        if descriptor is not None:
            with suppress(OSError):
                self._words = os.open(f"/proc/{self.pid}/fd/{descriptor}", os.O_RDONLY)

    def close(self) -> None:
        """Let go of a process that has ended; read its last words."""
        self.pipe.close()
        if self._words is not None:
            lines = os.pread(self._words, 8000, self._heard).decode(errors="replace").splitlines()
            own = next((i for i, line in enumerate(lines) if trial.__file__ in line), len(lines))  # and what called it
            self.last_words = "".join(f"{line}\n" for line in lines[:own] if line)
            os.close(self._words)
            self._words = None

    def end(self, number: int = process_tree.KILL) -> None:
        """Send a signal to the process and to all it has started, now or when this was first called."""
        self._family = list(dict.fromkeys([*self._family, *process_tree.family(self.pid)]))
        process_tree.send(self.pid, self._family, number)


def _cause(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    names = {each.value: each.name for each in signal.Signals}
    return f"killed by {names.get(-code, f'signal {-code}')}"


def _check_sendable(evaluator: Evaluator) -> None:
    try:
        ForkingPickler.dumps(evaluator)
    except Exception as error:
        raise EngineError(
            f"evaluate must be importable to run in other processes: {error}. "
            f"Define it at the top of a module, or use engine='inline'"
        ) from error


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Put Ctrl-C off, here and in processes that are started in the meantime, until each can deal with it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # when it starts, it lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# -- in a worker process ------------------------------------------------------------------------------------------------


def _work(pipe: Connection, name: str) -> None:
    """Run in a worker process: evaluate tickets until the pipe closes. Ctrl-C is left to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        os.setpgid(0, 0)  # to be ended with what evaluations start; a session of its own would be scheduled apart
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")  # when the machine is short of memory, Linux ends a worker and not the study
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        pipe.send(("here", None))
        content = pipe.recv_bytes()
    except (EOFError, OSError):
        return
    _end_with_parent_even_if_stuck()
    try:
        evaluator: Evaluator = pickle.loads(content)
        evaluator._prepare()
    except Exception:
        with suppress(OSError):
            pipe.send(("broken", traceback.format_exc()))
        return
    last_words = _leave_last_words()
    process, home, has_output = os.getpid(), os.getcwd(), _has_output()
    told = environment_facts()
    reporting = threading.Lock()

    def report(number: int, step: int, metrics: dict[str, float]) -> bool:
        if os.getpid() != process:
            raise RuntimeError("report must be called in the process of the evaluation, got called in a fork of it")
        with reporting:
            pipe.send(("report", (number, step, metrics)))
            return pipe.recv()

    try:
        pipe.send(("ready", (told, last_words)))
        while True:
            message = pipe.recv()
            if not isinstance(message, Ticket):
                evaluator.add_space(Space(message))
                continue
            began = time.time()
            try:
                outcome = evaluator(message, report)
            except BaseException:  # such as asyncio's CancelledError
                outcome = Outcome(
                    message.number, began, time.time() - began, error=traceback.format_exc(limit=-12)[-8000:]
                )
            if os.getpid() != process:
                os._exit(0)  # the evaluation has forked, and this is the other process
            outcome.worker = name
            facts = environment_facts()
            if facts != told:
                outcome.facts = told = facts
            with suppress(OSError):
                os.chdir(home)
            _flush()
            kind = "outcome" if _has_output() or not has_output else "last outcome"
            pipe.send_bytes(_pickled(kind, outcome))
            if kind == "last outcome":
                return
    except (EOFError, OSError):
        return  # the parent is gone


def _leave_last_words() -> int | None:
    """Have the stack of Python written when this process crashes or gets SIGTERM; return the file, which has no name."""
    if sys.platform != "linux":
        return None
    file = os.memfd_create("last words")
    faulthandler.enable(file, all_threads=False)
    faulthandler.register(signal.SIGTERM, file, all_threads=False, chain=True)
    return file


def _pickled(kind: str, outcome: Outcome) -> memoryview:
    try:
        return ForkingPickler.dumps((kind, outcome))
    except Exception as error:  # a candidate met while running
        told = f"{type(error).__name__}: choices met in other processes must be picklable: {error}. Try engine='inline'"
        outcome.met, outcome.values, outcome.error = {}, {}, told
        return ForkingPickler.dumps((kind, outcome))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, replaced by something else, or nobody reads it
            stream.flush()


def _has_output() -> bool:
    """Whether standard output and error are open, so that what is printed cannot end up in another file."""
    try:
        for stream in (sys.__stdout__, sys.__stderr__):
            os.fstat(stream.fileno())  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return False
    return True


def _end_with_parent() -> None:
    """End this process, and its process group, when the one that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    while not wait([parent.sentinel], 2.0) and os.getppid() == parent.pid:
        pass
    if hasattr(os, "killpg"):
        os.killpg(os.getpid(), process_tree.KILL)
    os._exit(1)


def _end_with_parent_even_if_stuck() -> None:
    """Have Linux itself do the same: no thread of Python runs while native code hangs with the interpreter locked.

    The parent must not write into the pipe any more by which this process was started.
    """
    parent = multiprocessing.parent_process()
    if parent is None or sys.platform != "linux":
        return
    import fcntl

    with suppress(OSError):  # a system that is Linux only in part
        fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, -os.getpid())
        fcntl.fcntl(parent.sentinel, getattr(fcntl, "F_SETSIG", 10), signal.SIGKILL)
        flags = fcntl.fcntl(parent.sentinel, fcntl.F_GETFL)
        fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)


def _refuse_inside_worker() -> None:
    process = multiprocessing.current_process()
    if getattr(process, "_inheriting", False):
        raise EngineError(
            "discover was called while a worker imported this script. Put the main part of the script under "
            "'if __name__ == \"__main__\":'"
        )
