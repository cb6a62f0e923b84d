"""Engine `ray`: evaluations in actors on a Ray cluster, of this machine alone or of many."""

from __future__ import annotations

import io
import logging
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import spawn
from pathlib import Path, PurePosixPath
from queue import SimpleQueue
from types import FunctionType
from typing import Any

from heuretic.search import Space
from heuretic.study.code import Code, collect
from heuretic.study.conditions import Conditions
from heuretic.study.engines import EngineError, Report, process_tree
from heuretic.study.environment import environment_facts
from heuretic.study.trial import Evaluator, Outcome, Ticket
from heuretic.symbolic.names import find, main_name

_MAIN = ("__main__", "__mp_main__")
#: Object store of a cluster that is started here, in bytes. Only the evaluation goes through it; what is larger is spilled.
_STORE_BYTES = 512 * 2**20
#: Seconds between two looks at the memory of an evaluation.
_LOOK_S = 0.1
#: Set in a worker while it imports the user's script.
_loading = False


class Ray:
    """Evaluates in actors of a Ray cluster, one trial at a time in each.

    A cluster that Ray is connected to already is used and left as it is; else one is connected to or started, and left
    or shut down by `close`. A worker that dies, alone or with its node, is replaced, and its trial is tried again
    after a while. A trial that takes too long or too much memory is ended with its worker.

    Args:
        workers: Trials at the same time at most; None for as many as the nodes have room for, which is looked up
            again every few seconds.
        address: "ray", "ray://HOST:PORT" (a Ray client server) or "ray:ADDRESS" with what `ray.init` takes, such as
            "ray:auto". With "ray", the environment variable RAY_ADDRESS decides; without it, a cluster of this
            machine is started.
        note: Called with a line of text when the user should know what is waited for.
    Raises: EngineError if the cluster cannot be reached, no node has room for a trial, or the evaluation cannot be
        sent to workers; ImportError if Ray is not installed.
    """

    #: Seconds between looks at the cluster; before a note that nothing runs; without any fitting node before giving up.
    CHECK_S, NOTE_S, LOST_S = 3.0, 10.0, 300.0
    #: How often each worker may end at its start before giving up, if none ever was ready.
    STARTS = 3

    def __init__(
        self,
        evaluator: Evaluator,
        report: Report,
        workers: int | None = None,
        conditions: Conditions = Conditions(),
        address: str = "ray",
        note: Callable[[str], None] = lambda line: None,
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be >= 1 or None, got {workers}")
        if _loading:
            raise EngineError("discover was called while a worker imported this script")
        self._ray: Any = _library()
        self._evaluator, self._report, self._conditions, self._note = evaluator, report, conditions, note
        self._wanted = workers
        self._needs = _needs(conditions.resources)
        self._queue: deque[Ticket] = deque()
        self._later: list[tuple[float, Ticket]] = []
        self._deaths: dict[int, int] = {}
        self._slots: list[_Slot] = []
        self._started = self._failed_starts = 0
        self._had_worker = False
        self._parcel: Any = None
        self._handler: Any = None
        pickled = _pickled(evaluator)  # before a cluster is started for it
        needs = dict(self._needs)
        options = {
            "num_cpus": needs.pop("CPU", 0.0), "num_gpus": needs.pop("GPU", 0.0), "memory": needs.pop("memory", None),
            "resources": needs, "max_restarts": 0,
        }  # fmt: skip
        self._actor_class = self._ray.remote(**options)(_Worker)
        self._is_ours = self._connect(address)
        try:
            self._home = _Home.here(self._ray, evaluator)
            self._parcel = self._ray.put((*pickled, self._home))
            self._checked = self._seen = self._ran = time.monotonic()
            if not self._capacity():
                raise EngineError(self._no_room())
            self._adapt()
        except BaseException:
            self.close()
            raise

    # -- the cluster --------------------------------------------------------------------------------------------

    def _connect(self, address: str) -> bool:
        """Connect to a cluster or start one; return whether it is ours to leave."""
        where = _address(address)
        if self._ray.is_initialized():
            if where not in (None, "auto") and "://" not in where:
                present = self._ray.get_runtime_context().gcs_address
                if present != where:
                    raise EngineError(
                        f"Ray is connected to {present} already, got engine={address!r}. Try engine='ray', or "
                        f"ray.shutdown() before"
                    )
            return False
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options: dict[str, Any] = {"address": where or os.environ.get("RAY_ADDRESS") or "local"}
        if options["address"] == "local":
            cores = os.cpu_count() or 1
            wanted = math.ceil((self._wanted or 0) * self._needs.get("CPU", 0.0))
            options |= {
                "num_cpus": max(cores, wanted), "include_dashboard": False, "object_store_memory": _STORE_BYTES,
            }  # fmt: skip
        is_main = threading.current_thread() is threading.main_thread()
        self._handler = signal.getsignal(signal.SIGTERM) if is_main else None  # Ray puts its own in place
        try:
            self._ray.init(**options, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
            self._restore_handler()
            raise EngineError(
                f"Ray cannot be reached at {options['address']!r}: {error}. A cluster that asks for a token needs "
                f"RAY_AUTH_MODE=token in the environment, and the token"
            ) from error
        return True

    def _nodes(self) -> list[Mapping[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _capacity(self) -> int:
        """Return how many trials the nodes have room for, were they empty."""
        needs = self._needs or {"CPU": 1.0}
        return sum(
            int(min((node.get(name, 0.0) + 1e-6 * need) / need for name, need in needs.items()))
            for node in self._nodes()
        )

    def _no_room(self) -> str:
        present: dict[str, float] = {}
        for node in self._nodes():
            for name in self._needs:
                present[name] = max(present.get(name, 0.0), node.get(name, 0.0))
        return (
            f"resources must fit on one node of the cluster, got {_shown(self._needs)}, where no node has more than "
            f"{_shown(present) if present else 'nothing'}. Ask for less, or have the cluster add such a node first"
        )

    def _adapt(self) -> None:
        """Have as many workers as there should be; raise EngineError if there has been no room for any for long."""
        now = self._checked = time.monotonic()
        room = self._capacity()
        if room:
            self._seen = now
        elif now - self._seen > self.LOST_S:
            raise EngineError(f"{self._no_room()} (for {self.LOST_S:.0f} s now). Run the study again to go on")
        target = room if self._wanted is None else self._wanted
        self.workers = max(1, target)
        idle = sorted((slot for slot in self._slots if slot.ticket is None), key=lambda slot: slot.is_ready)
        for slot in idle[: max(0, len(self._slots) - target)]:
            self._dismiss(slot)
        while len(self._slots) < target:
            self._hire()
        if any(slot.ticket for slot in self._slots) or not self._queue:
            self._ran = now
        elif now - self._ran > self.NOTE_S:
            self._ran = math.inf  # once
            free = {name: self._ray.available_resources().get(name, 0.0) for name in self._needs}
            self._note(
                f"Waiting for the Ray cluster: a trial takes {_shown(self._needs)}, and {_shown(free)} is free on all "
                f"nodes together."
            )

    def _hire(self) -> None:
        if self._parcel is None:
            self._parcel = self._ray.put((*_pickled(self._evaluator), self._home))
        actor = self._actor_class.remote(self._parcel, self._conditions.memory_mb)
        self._slots.append(_Slot(actor, f"worker-{self._started}", actor.node.remote()))
        self._started += 1

    def _dismiss(self, slot: _Slot) -> None:
        self._slots.remove(slot)
        self._ray.kill(slot.actor)

    # -- the protocol -------------------------------------------------------------------------------------------

    def submit(self, ticket: Ticket) -> None:
        self._queue.append(ticket)
        self._hand_out()

    def _hand_out(self) -> None:
        for slot in self._slots:
            if not self._queue:
                return
            if slot.is_ready and slot.ticket is None:
                slot.begin(self._queue.popleft())

    def wait(self, timeout_s: float) -> list[Outcome]:
        now = time.monotonic()
        if now - self._checked > self.CHECK_S:
            self._adapt()
        self._queue.extendleft(ticket for due, ticket in self._later if due <= now)
        self._later = [(due, ticket) for due, ticket in self._later if due > now]
        self._hand_out()
        slots = {slot.ref: slot for slot in self._slots if slot.ref is not None}
        ends = [due for due, _ in self._later]
        if self._conditions.timeout_s is not None:
            ends += [slot.began + self._conditions.timeout_s for slot in self._slots if slot.ticket]
        pause = max(0.0, min([timeout_s, *(end - now for end in ends)]))
        outcomes: list[Outcome] = []
        if slots:
            ended, rest = self._ray.wait(list(slots), timeout=pause)
            if ended and rest:  # all that are there by now, so that one commit takes them all
                ended += self._ray.wait(rest, num_returns=len(rest), timeout=0)[0]
            for ref in ended:
                outcomes.extend(self._take(slots[ref]))
        else:
            time.sleep(pause)
        outcomes.extend(self._end_overdue())
        self._hand_out()
        return outcomes

    def _take(self, slot: _Slot) -> list[Outcome]:
        """Take in what a worker has to say."""
        ref, slot.ref = slot.ref, None
        errors = self._ray.exceptions
        kind: str
        content: Any
        try:
            kind, content = self._ray.get(ref)
        except (errors.RuntimeEnvSetupError, errors.ActorUnschedulableError) as error:
            raise EngineError(f"a worker could not start: {error}") from None
        except errors.RayTaskError as error:  # what went to the worker or came back from it could not be read
            if slot.ticket is None:
                raise EngineError(f"a worker could not start: {str(error)[-4000:]}") from None
            failure, slot.ticket = self._failure(slot, _cause(error), ended=True), None
            return [failure]
        except errors.RayError as error:
            return self._bury(slot, error)
        if kind == "ready":
            node, slot.facts = content
            slot.name, slot.is_ready, self._had_worker = f"{slot.name}@{node[:8]}", True, True
        elif kind == "report":
            slot.steps.append(content[1:])
            slot.ref = slot.actor.go_on.remote(self._report(*content))
        elif kind == "broken":
            raise EngineError(
                f"a worker could not start, because evaluate, or what it needs, cannot be had there. Every node needs "
                f"heuretic and the libraries of evaluate in the same versions:\n{content}"
            )
        elif kind == "memory":
            return [
                self._end(
                    slot, f"OutOfMemory: the evaluation used more than {self._conditions.memory_mb:g} MB (memory_mb)"
                )
            ]
        else:
            content.worker, content.attempts = slot.name, self._deaths.pop(content.number, 0) + 1
            content.facts, slot.facts = content.facts or slot.facts, {}
            slot.ticket = None
            return [content]
        return []

    def _bury(self, slot: _Slot, error: Exception) -> list[Outcome]:
        """Replace a worker that is gone; put its trial off for another try, or give its outcome."""
        self._dismiss(slot)
        if not slot.is_ready:
            self._failed_starts += 1
            given_up = not self._had_worker and self._failed_starts >= self.STARTS * self.workers
            if getattr(error, "actor_init_failed", False) or given_up:
                raise EngineError(f"a worker could not start: {str(error)[-4000:]}")
            return []  # the next look at the cluster hires another
        self._adapt()
        ticket = slot.ticket
        if ticket is None:
            return []
        deaths = self._deaths[ticket.number] = self._deaths.get(ticket.number, 0) + 1
        retry = self._conditions.retry
        if deaths < retry.attempts:
            self._later.append((time.monotonic() + retry.delay_s(deaths), ticket))
            return []
        times = f"{deaths} time{'s' if deaths > 1 else ''}"
        text = f"ProcessDied: the evaluation ended its process {times} (last: {_cause(error)})"
        if isinstance(error, self._ray.exceptions.OutOfMemoryError):
            text = f"OutOfMemory: Ray ended the evaluation {times}, because its node was short of memory"
        return [self._failure(slot, text)]

    def _end_overdue(self) -> list[Outcome]:
        limit = self._conditions.timeout_s
        if limit is None:
            return []
        due = time.monotonic() - limit
        error = f"TimedOut: the evaluation took more than {limit:g} s (timeout_s)"
        return [self._end(slot, error) for slot in list(self._slots) if slot.ticket and slot.began <= due]

    def _end(self, slot: _Slot, error: str) -> Outcome:
        """End a worker in mid-trial, for good."""
        outcome = self._failure(slot, error, ended=True)
        self._dismiss(slot)
        self._adapt()
        return outcome

    def _failure(self, slot: _Slot, error: str, ended: bool = False) -> Outcome:
        assert slot.ticket is not None
        attempts = max(1, self._deaths.pop(slot.ticket.number, 0) + ended)
        facts, slot.facts = slot.facts, {}
        return Outcome(
            slot.ticket.number, slot.started, time.monotonic() - slot.began, error=error, steps=slot.steps,
            facts=facts, worker=slot.name, attempts=attempts,
        )  # fmt: skip

    def withdraw(self) -> list[int]:
        taken = [*self._queue, *(ticket for _, ticket in self._later)]
        self._queue.clear()
        self._later.clear()
        return sorted(ticket.number for ticket in taken)

    def add_space(self, space: Space) -> None:
        self._evaluator.add_space(space)
        self._parcel = None  # workers to come get all spaces
        for slot in self._slots:
            slot.actor.add_space.remote(space.program)

    def close(self) -> None:
        for slot in self._slots:
            self._ray.kill(slot.actor)
        self._slots.clear()
        self._queue.clear()
        self._later.clear()
        self._parcel = None
        if self._is_ours:
            self._is_ours = False
            self._ray.shutdown()
            self._restore_handler()

    def _restore_handler(self) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)


class _Slot:
    """A worker as the engine sees it.

    Attributes:
        ref: What it will say next; None while it has nothing to do. is_ready: It has imported what it needs.
        ticket: What it evaluates, began and started: since when, on the monotonic clock and as Unix time; steps: what
            it has reported. facts: About its environment, not yet told.
    """

    def __init__(self, actor: Any, name: str, ref: Any) -> None:
        self.actor, self.name, self.ref = actor, name, ref
        self.is_ready = False
        self.ticket: Ticket | None = None
        self.began = self.started = 0.0
        self.steps: list[tuple[int, dict[str, float]]] = []
        self.facts: dict[str, str] = {}

    def begin(self, ticket: Ticket) -> None:
        self.ticket, self.began, self.started, self.steps = ticket, time.monotonic(), time.time(), []
        self.ref = self.actor.begin.remote(ticket)


def _library() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ImportError("engine='ray' needs Ray. Try pip install 'heuretic[ray]'") from error
    return ray


def _address(engine: str) -> str | None:
    """Return the address that an engine's name gives, None for "ray" alone."""
    if engine == "ray" or engine.startswith("ray://"):
        return None if engine == "ray" else engine
    if engine.startswith("ray:") and len(engine) > 4:
        return engine.removeprefix("ray:")
    raise ValueError(f"engine must be 'ray', 'ray://HOST:PORT' or 'ray:ADDRESS', got {engine!r}")


def _needs(resources: Mapping[str, float]) -> dict[str, float]:
    """Return what a trial occupies, under Ray's names and in Ray's units; one CPU if nothing else is said."""
    ours = {"cpu": ("CPU", 1.0), "gpu": ("GPU", 1.0), "memory_mb": ("memory", 2.0**20)}
    needs: dict[str, float] = {}
    for name, amount in {"cpu": 1.0, **resources}.items():
        theirs, factor = ours.get(name, (name, 1.0))
        if amount > 0:
            needs[theirs] = amount * factor
    return needs


def _shown(resources: Mapping[str, float]) -> str:
    names = {"CPU": ("cpu", 1.0), "GPU": ("gpu", 1.0), "memory": ("memory_mb", 2.0**20)}
    parts = {names.get(key, (key, 1.0)): amount for key, amount in resources.items()}
    return "{" + ", ".join(f"'{name}': {amount / factor:g}" for (name, factor), amount in parts.items()) + "}"


def _cause(error: Exception) -> str:
    """Return the line of Ray's long error messages that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).partition(" Worker exit detail")[0][:300]


# -- what is sent to the workers ----------------------------------------------------------------------------------------


def _pickled(evaluator: Evaluator) -> tuple[bytes, bool]:
    """Return the evaluator pickled, and whether the script that runs must be imported to read it.

    What a script defines goes by its name, as with processes; closures, and all of an interactive session, by value.
    """
    from ray import cloudpickle

    data = spawn.get_preparation_data("ray")
    has_script = "init_main_from_path" in data or "init_main_from_name" in data
    used = False

    class Pickler(cloudpickle.Pickler):
        def reducer_override(self, obj: Any) -> Any:
            nonlocal used
            by_name = has_script and isinstance(obj, type | FunctionType) and obj.__module__ in _MAIN
            if by_name and find("__main__", obj.__qualname__) is obj:
                used = True
                return obj.__qualname__
            return super().reducer_override(obj)

    buffer = io.BytesIO()
    try:
        Pickler(buffer).dump(evaluator)
    except Exception as error:
        raise EngineError(
            f"evaluate must be picklable to run on Ray: {type(error).__name__}: {error}. "
            f"Open files, locks and connections inside of it, or use engine='inline'"
        ) from error
    return buffer.getvalue(), used


@dataclass(frozen=True, slots=True)
class _Home:
    """Where the user's modules are: on the node of the study as they are there, elsewhere as files sent along."""

    node: str
    folder: str
    path: tuple[str, ...]
    main: Mapping[str, Any]
    script: str
    code: Code | str

    @classmethod
    def here(cls, ray: Any, evaluator: Evaluator) -> _Home:
        data = spawn.get_preparation_data("ray")
        path = tuple(dict.fromkeys(os.path.abspath(each) for each in sys.path))
        main = {key: data[key] for key in ("init_main_from_path", "init_main_from_name") if data.get(key)}
        try:
            code: Code | str = collect(evaluator.evaluate, *(space.program for space in evaluator.spaces))
        except (ValueError, OSError) as error:
            code = str(error)  # which matters only if there are other nodes
        script = ""
        if isinstance(code, Code) and "init_main_from_path" in main:
            file = Path(main["init_main_from_path"])
            same = [each for each, content in code.files.items() if content == file.read_bytes()]
            script = next((each for each in same if PurePosixPath(each).name == file.name), "")
        return cls(ray.get_runtime_context().get_node_id(), os.getcwd(), path, main, script, code)

    def settle(self, node: str, needs_main: bool) -> None:
        """Make this process, a worker, find the user's modules."""
        main = dict(self.main)
        if node == self.node:
            os.chdir(self.folder)
            added = [each for each in self.path if each not in sys.path]
        elif isinstance(self.code, str):
            raise EngineError(self.code)
        else:
            folder = self.code.unpack()
            added = [str(folder)]
            if "init_main_from_path" in main:
                main["init_main_from_path"] = str(folder / self.script)
        sys.path[:0] = added
        if needs_main:
            spawn.prepare(main)
            main_name.cache_clear()


# -- in a worker --------------------------------------------------------------------------------------------------------


class _Worker:
    """The actor. It evaluates in a thread, so that a call can end at the trial's next report, and the next call go on.

    Each call returns (kind, content): an outcome, a report that waits for its answer, too much memory used; at first,
    that it is ready or why not.
    """

    def __init__(self, parcel: tuple[bytes, bool, _Home], memory_mb: float | None) -> None:
        global _loading
        from ray import cloudpickle, get_runtime_context

        self._tickets: SimpleQueue[Ticket] = SimpleQueue()
        self._answers: SimpleQueue[bool] = SimpleQueue()
        self._events: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._reporting, self._watching, self._is_busy = threading.Lock(), threading.Lock(), False
        self._memory_mb = memory_mb
        pickled, needs_main, home = parcel
        node = get_runtime_context().get_node_id()
        _loading = True
        try:
            home.settle(node, needs_main)
            self._evaluator: Evaluator = cloudpickle.loads(pickled)
            self._sent = environment_facts()
            if self._holds_too_much():
                raise EngineError(
                    f"memory_mb must leave room to evaluate, got {memory_mb:g}: a worker holds "
                    f"{process_tree.used_mb(os.getpid(), 0.0):.0f} MB before its first evaluation"
                )
            self._first: tuple[str, Any] = ("ready", (node, self._sent))
        except BaseException:
            told = traceback.format_exc(limit=-12)[-8000:]
            if needs_main:
                told += (
                    "Workers import the script: put its main part under 'if __name__ == \"__main__\":', "
                    "or define evaluate in a module"
                )
            self._first = ("broken", told)
            return
        finally:
            _loading = False
        threading.Thread(target=self._work, daemon=True).start()
        if memory_mb is not None:
            threading.Thread(target=self._watch, daemon=True).start()

    def node(self) -> tuple[str, Any]:
        return self._first

    def begin(self, ticket: Ticket) -> tuple[str, Any]:
        self._tickets.put(ticket)
        return self._events.get()

    def go_on(self, end: bool) -> tuple[str, Any]:
        self._answers.put(end)
        return self._events.get()

    def add_space(self, program: Any) -> None:
        self._evaluator.add_space(Space(program))

    def _report(self, number: int, step: int, metrics: dict[str, float]) -> bool:
        with self._reporting:  # the evaluation may have threads of its own
            self._events.put(("report", (number, step, metrics)))
            return self._answers.get()

    def _work(self) -> None:
        while True:
            ticket = self._tickets.get()
            began, self._is_busy = time.time(), True
            try:
                outcome = self._evaluator(ticket, self._report)
            except BaseException:  # such as asyncio's CancelledError
                error = traceback.format_exc(limit=-12)[-8000:]
                outcome = Outcome(ticket.number, began, time.time() - began, error=error)
            with self._watching:
                self._is_busy = False
            facts = environment_facts()
            if facts != self._sent:
                outcome.facts = self._sent = facts
            sys.stdout.flush()
            sys.stderr.flush()
            self._events.put(("outcome", outcome))

    def _holds_too_much(self) -> bool:
        return self._memory_mb is not None and process_tree.used_mb(os.getpid(), self._memory_mb) > self._memory_mb

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            if not self._is_busy or not self._holds_too_much():
                continue
            with self._watching:  # the trial that is blamed must not have ended
                if self._is_busy:
                    self._events.put(("memory", None))
                    return
