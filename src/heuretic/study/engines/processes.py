"""Engine `processes`: evaluations in worker processes of this machine, each a fresh interpreter."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from multiprocessing.connection import Connection, wait
from pickle import PicklingError
from typing import Any

from heuretic.search import Space
from heuretic.study.conditions import Conditions
from heuretic.study.engines import EngineError, Report
from heuretic.study.environment import environment_facts
from heuretic.study.trial import Evaluator, Outcome, Ticket


class Processes:
    """Evaluates in worker processes, each a fresh interpreter.

    A worker that dies in a trial (killed, out of memory, crashed) is replaced, and the trial is tried once more; if it
    takes the second worker down too, it is recorded as failed. Each worker gets its share of the cores for numerical
    threads unless OMP_NUM_THREADS is set.
    """

    ATTEMPTS = 2

    def __init__(
        self, evaluator: Evaluator, report: Report, workers: int, conditions: Conditions = Conditions()
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers must be >= 1, got {workers}")
        self.workers = workers
        self._evaluator, self._report, self._conditions = evaluator, report, conditions
        self._context = multiprocessing.get_context("spawn")
        self._queue: deque[Ticket] = deque()
        self._lives: dict[int, int] = {}
        self._pool: list[_Worker] = []
        self._started = 0
        _refuse_inside_worker()
        try:
            for _ in range(workers):
                self._hire()
        except BaseException:
            self.close()
            raise

    def _hire(self) -> None:
        name = f"worker-{self._started}"
        self._started += 1
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, name), name=name, daemon=True)
        threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // self.workers))}
        added = {key: value for key, value in threads.items() if key not in os.environ}
        os.environ.update(added)
        try:
            process.start()
        finally:
            for key in added:
                del os.environ[key]
        theirs.close()
        worker = _Worker(process, ours, name)
        self._pool.append(worker)
        try:
            ours.send(self._evaluator)
        except (PicklingError, AttributeError, TypeError) as error:
            raise EngineError(
                f"evaluate must be importable to run in other processes: {error}. "
                f"Define it at the top of a module, or use engine='inline'"
            ) from error
        except OSError:
            pass  # it died at once; noticed, with its exit code, by wait

    def submit(self, ticket: Ticket) -> None:
        self._queue.append(ticket)
        self._hand_out()

    def _hand_out(self) -> None:
        for worker in self._pool:
            if not self._queue:
                return
            if worker.ticket is None:
                worker.ticket = self._queue.popleft()
                self._send(worker, worker.ticket)

    def wait(self, timeout_s: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        by_pipe = {worker.pipe: worker for worker in self._pool}
        for pipe in wait(list(by_pipe), timeout_s):
            worker = by_pipe[pipe]  # type: ignore[index]
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                outcomes.extend(self._bury(worker))
                continue
            kind, content = message
            if kind == "outcome":
                worker.ticket = None
                outcomes.append(content)
            elif kind == "ready":
                worker.ready = True
            elif kind == "report":
                self._send(worker, self._report(*content))
            elif kind == "broken":
                raise EngineError(f"a worker could not start:\n{content}")
        self._hand_out()
        return outcomes

    def _send(self, worker: _Worker, message: Any) -> None:
        """Send to a worker; one that has died in the meantime is noticed by the next wait."""
        try:
            worker.pipe.send(message)
        except OSError:
            pass

    def _bury(self, worker: _Worker) -> list[Outcome]:
        """Replace a dead worker; give its trial another try, or an outcome if it had its tries."""
        self._pool.remove(worker)
        worker.pipe.close()
        worker.process.join(5)
        code = worker.process.exitcode
        cause = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        if not worker.ready:
            raise EngineError(
                f"a worker process ended at its start ({cause}). If this is a script, put its main part under "
                f"'if __name__ == \"__main__\":', because workers import it"
            )
        self._hire()
        ticket = worker.ticket
        if ticket is None:
            return []
        self._lives[ticket.number] = self._lives.get(ticket.number, 0) + 1
        if self._lives[ticket.number] < self.ATTEMPTS:
            self._queue.appendleft(ticket)
            return []
        error = f"ProcessDied: the evaluation ended its process {self.ATTEMPTS} times (last: {cause})"
        return [Outcome(ticket.number, time.time(), error=error, worker=worker.name)]

    def add_space(self, space: Space) -> None:
        self._evaluator.add_space(space)
        for worker in self._pool:  # the successor of one that died gets the evaluator with all spaces
            self._send(worker, space.program)

    def close(self) -> None:
        for worker in self._pool:
            worker.pipe.close()
            worker.process.kill()
        for worker in self._pool:
            worker.process.join(5)
        self._pool.clear()


class _Worker:
    """A worker process as the engine sees it. `ready`: it has imported what it needs."""

    def __init__(self, process: Any, pipe: Connection, name: str) -> None:
        self.process, self.pipe, self.name = process, pipe, name
        self.ticket: Ticket | None = None
        self.ready = False


def _work(pipe: Connection, name: str) -> None:
    """Run in a worker process: evaluate tickets until the pipe closes. Ctrl-C is left to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        evaluator: Evaluator = pipe.recv()
    except (EOFError, OSError):
        return
    except Exception:
        pipe.send(("broken", traceback.format_exc()))
        return
    pipe.send(("ready", None))
    sent: dict[str, str] = {}

    def report(number: int, step: int, metrics: dict[str, float]) -> bool:
        pipe.send(("report", (number, step, metrics)))
        while True:
            answer = pipe.recv()
            if isinstance(answer, bool):
                return answer
            take(answer)

    waiting: deque[Ticket] = deque()

    def take(message: Any) -> None:
        if isinstance(message, Ticket):
            waiting.append(message)
        else:
            evaluator.add_space(Space(message))

    try:
        while True:
            while not waiting:
                take(pipe.recv())
            outcome = evaluator(waiting.popleft(), report)
            outcome.worker = name
            facts = environment_facts()
            if facts != sent:
                outcome.facts = sent = facts
            sys.stdout.flush()
            sys.stderr.flush()
            pipe.send(("outcome", outcome))
    except (EOFError, OSError):
        return  # the parent is gone


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _refuse_inside_worker() -> None:
    process = multiprocessing.current_process()
    if getattr(process, "_inheriting", False):
        raise EngineError(
            "discover was called while a worker imported this script. Put the main part of the script under "
            "'if __name__ == \"__main__\":'"
        )
