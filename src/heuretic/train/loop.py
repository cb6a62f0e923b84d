"""The training loop: steps, measuring, checkpoints, stopping. What an update does is the caller's."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from heuretic.train.progress import Progress
from heuretic.train.saved_states import SavedStates
from heuretic.train.seeds import derived_seed, seeded

Measures = Mapping[str, "Tensor | float"]
#: Does step number `step` (from 0) with a batch and returns its measures, of which "loss" is watched.
Update = Callable[[Any, int], Measures]
#: Return the batch of a step: a function of its number alone, which is what makes a resumed run exact.
Batches = Callable[[int], Any]


class Stateful(Protocol):
    """Something that a checkpoint must hold, such as `Training`."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Any, /) -> Any: ...


class Reporter(Protocol):
    """What measures are reported to: a `heuretic.Trial`. May raise to end the training (a pruned trial does)."""

    def report(self, step: int, /, **metrics: float) -> None: ...


class Meter(Protocol):
    """Measures what the training consumes: `heuretic.study.energy.Meter(heuretic.Energy())`."""

    def start(self) -> None: ...
    def stop(self) -> Mapping[str, float]: ...


@dataclass(slots=True)
class Run:
    """A training under way, as callbacks see it, and what is left of it.

    Attributes:
        steps: Steps planned. done: Steps done. measures: Of the last step. evaluations: What was measured, by step.
        cpu_seconds: Of this process until each of the evaluations, what evaluating took left out: the cost of training
            alone, which other work on the machine disturbs less than `seconds`.
        reason: Why it ended. best: The step whose evaluation was best, if there is patience. seconds: Since it began, over all resumed parts.
        consumed: Energy and emissions, if a meter was given.
    """

    steps: int
    done: int = 0
    measures: Measures = field(default_factory=dict)
    evaluations: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    reason: str = ""
    best: int | None = None
    seconds: float = 0.0
    cpu_seconds: list[float] = field(default_factory=list)
    consumed: dict[str, float] = field(default_factory=dict)

    def stop(self, reason: str) -> None:
        """End the training after this step."""
        self.reason = reason


class Diverged(ArithmeticError):
    """The loss is not finite any more.

    Attributes:
        step: The first such step, from 0. digest: sha256 of its batch. checkpoint: The last good one, None if none was kept.
    """

    def __init__(self, step: int, loss: float, digest: str, checkpoint: Path | None) -> None:
        last = f"the last good checkpoint is {checkpoint}" if checkpoint else "no checkpoint was kept"
        super().__init__(
            f"loss must be finite, got {loss} at step {step} (batch {digest[:12]}); {last}. "
            f"Try a smaller learning rate, or clip=1.0"
        )
        self.step, self.digest, self.checkpoint = step, digest, checkpoint


@dataclass(frozen=True, slots=True)
class Loop:
    """How long a training runs, and what happens along the way; the same for every recipe.

    Everything that draws from torch's global generator inside a step (dropout, say) is a function of seed and step, and so
    is the batch; hence a run that was killed and is started again with the same `folder` ends with the same bits (on a CPU, and
    with `deterministic` on a GPU).

    Args:
        steps: Updates. evaluate_every: Steps between evaluations; None evaluates at the end only.
        folder: Where checkpoints go; a run finds its own there and goes on. None keeps none.
        checkpoint_every: Steps between checkpoints; None saves after every evaluation.
        patience: Evaluations without a better `watched` after which the run ends; None never.
        watched: Measure of the evaluations that `patience` is about. A name with "loss" in it is better when smaller.
        check_every: Steps between looks at the loss on a GPU, each of which waits for it. On a CPU every step is looked at.
        callbacks: Each is called with the `Run` after every step, and may stop it.
        deterministic: Only operations that give the same bits every time.
        prefetch: Make the next batch in a thread during the step, where batches are a function; a DataLoader has its own workers.
        progress: False is silent, None shows it after two seconds.
    Raises: ValueError if a number is below 1.
    """

    steps: int = 1000
    evaluate_every: int | None = None
    folder: str | None = None
    checkpoint_every: int | None = None
    patience: int | None = None
    watched: str = "loss"
    check_every: int = 20
    callbacks: tuple[Callable[[Run], None], ...] = ()
    deterministic: bool = False
    prefetch: bool = False
    progress: bool | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "evaluate_every", "checkpoint_every", "patience", "check_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def within(self, name: str) -> Loop:
        """Return the same for one of several trainings of a recipe: what it keeps is in a folder of its own inside this one."""
        return self if self.folder is None else replace(self, folder=str(Path(self.folder) / name))

    def run(
        self, update: Update, batches: Batches | Iterable[Any], *, seed: int, state: Mapping[str, Stateful] | None = None,
        evaluate: Callable[[], Mapping[str, float]] | None = None, trial: Reporter | None = None, meter: Meter | None = None,
    ) -> Run:  # fmt: skip
        """Run, or go on with what `folder` holds, and return what happened.

        Args:
            batches: A function of the step, or something to go through again and again, such as a DataLoader.
            state: What checkpoints hold besides the step. Default: `update`, if it is a `Training`.
            evaluate: Returns measures, which go to `trial` too.
        Raises: Diverged if the loss is not finite; ValueError if `folder` holds a run with another seed.
        """
        parts: Mapping[str, Any] = {"training": update} if hasattr(update, "state_dict") else {}
        parts = parts if state is None else state
        saved = SavedStates(self.folder, seed) if self.folder else None
        run = Run(self.steps)
        if saved is not None and (found := saved.newest()) is not None:
            run = Run(self.steps, **found["run"])
            for name, part in parts.items():
                part.load_state_dict(found["state"][name])
        source: Batches = batches if callable(batches) else _Again(batches, seed)
        # What is gone through draws from torch's generator, which is the step's while one is under way.
        ahead = self.prefetch and callable(batches)
        progress = Progress(self.steps, run.done, self.progress if trial is None else self.progress or False)
        began = time.perf_counter() - run.seconds
        busy_since = time.process_time() - (run.cpu_seconds[-1] if run.cpu_seconds else 0.0)
        watch = _Watch(source, self.check_every, saved)
        if meter is not None:
            meter.start()
        try:
            with seeded(seed), _deterministic(self.deterministic), _ahead(source, ahead) as get:
                while run.done < self.steps and not run.reason:
                    step = run.done
                    batch = get(step, step + 1 < self.steps)
                    _reseed(seed, step)
                    run.measures = update(batch, step)
                    run.done += 1
                    watch(step, run.measures)
                    due = run.done == self.steps or bool(self.evaluate_every and run.done % self.evaluate_every == 0)
                    if evaluate is not None and due:
                        run.cpu_seconds.append(time.process_time() - busy_since)
                        self._evaluate(run, evaluate, trial)
                        busy_since = time.process_time() - run.cpu_seconds[-1]
                    for callback in self.callbacks:
                        callback(run)
                    if saved is not None and self._is_checkpoint(run, due):
                        watch.look()
                        run.seconds = time.perf_counter() - began
                        saved.save(run, parts)
                    progress.update(run.done, run.measures)
                watch.look()
        except KeyboardInterrupt:
            newest = None if saved is None else saved.newest_path()
            kept = f"run it again to go on from {newest}" if newest else "no checkpoint was kept. Try Loop(folder=...)"
            progress.note(f"interrupted after {run.done} of {self.steps} steps; {kept}")
            raise
        finally:
            progress.close()
            run.seconds = time.perf_counter() - began
            if meter is not None:
                run.consumed = dict(meter.stop())
        run.reason = run.reason or "all steps done"
        return run

    def _evaluate(self, run: Run, evaluate: Callable[[], Mapping[str, float]], trial: Reporter | None) -> None:
        values = {name: float(value) for name, value in evaluate().items()}
        run.evaluations.append((run.done, values))
        if trial is not None:
            trial.report(run.done, **values)
        if self.patience is None:
            return
        if self.watched not in values:
            raise ValueError(f"watched must be one of {', '.join(values)}, got {self.watched!r}")
        sign = -1 if "loss" in self.watched else 1
        scores = [sign * each[self.watched] for _, each in run.evaluations]
        best = max(range(len(scores)), key=scores.__getitem__)
        run.best = run.evaluations[best][0]
        if len(scores) - 1 - best >= self.patience:
            run.stop(f"{self.watched} was not better than at step {run.best} for {self.patience} evaluations")

    def _is_checkpoint(self, run: Run, evaluated: bool) -> bool:
        if run.done == self.steps or run.reason:
            return True
        return evaluated if self.checkpoint_every is None else run.done % self.checkpoint_every == 0


class _Watch:
    """Looks whether losses are finite: at once on a CPU; on a GPU now and then, because looking waits for it."""

    def __init__(self, batches: Batches, every: int, saved: SavedStates | None) -> None:
        self.batches, self.every, self.saved = batches, every, saved
        self.waiting: list[tuple[int, Any]] = []

    def __call__(self, step: int, measures: Measures) -> None:
        loss = measures.get("loss")
        if loss is None:
            return
        self.waiting.append((step, loss.detach() if isinstance(loss, Tensor) else loss))
        if not (isinstance(loss, Tensor) and loss.is_cuda) or len(self.waiting) >= self.every:
            self.look()

    def look(self) -> None:
        for step, loss in self.waiting:
            value = float(loss)
            if not math.isfinite(value):
                newest = None if self.saved is None else self.saved.newest_path()
                raise Diverged(step, value, digest_of(self.batches(step)), newest)
        self.waiting.clear()


class _Again:
    """Batches of something that is gone through again and again. To go back to a step, its epoch is begun anew."""

    def __init__(self, source: Iterable[Any], seed: int) -> None:
        self.source, self.seed = source, seed
        self.step, self.rest, self.last = 0, iter(()), None

    def __call__(self, step: int) -> Any:
        if step == self.step - 1:
            return self.last
        if step < self.step:
            self.step, self.rest = 0, iter(())
        while self.step <= step:
            self.last = next(self.rest, _END)
            if self.last is _END:
                # A DataLoader takes its order from torch's generator when it is begun.
                _reseed(self.seed, self.step)
                self.rest = iter(self.source)
                self.last = next(self.rest, _END)
                if self.last is _END:
                    raise ValueError(
                        "batches must be something to go through again and again, got nothing on going through it. "
                        "Try a list or a DataLoader, not a generator"
                    )
            self.step += 1
        return self.last


_END = object()


@contextmanager
def _ahead(batches: Batches, prefetch: bool) -> Iterator[Callable[[int, bool], Any]]:
    """Yield what returns the batch of a step and, with `prefetch`, begins making the next one meanwhile."""
    if not prefetch:
        yield lambda step, more: batches(step)
        return
    with ThreadPoolExecutor(1, "batches") as pool:
        waiting: dict[int, Future[Any]] = {}

        def get(step: int, more: bool) -> Any:
            future = waiting.pop(step, None)
            batch = batches(step) if future is None else future.result()
            if more:
                waiting[step + 1] = pool.submit(batches, step + 1)
            return batch

        yield get


def _reseed(seed: int, step: int) -> None:
    number = derived_seed(seed, step)
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if not wanted:
        yield
        return
    try:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def digest_of(batch: Any) -> str:
    """Return the sha256 of the tensors of a batch, shapes and dtypes included, in hexadecimal digits."""
    digest = hashlib.sha256()
    for leaf in tree_leaves(batch):
        if isinstance(leaf, Tensor):
            digest.update(f"{tuple(leaf.shape)} {leaf.dtype}".encode())
            digest.update(leaf.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        else:
            digest.update(repr(leaf).encode())
    return digest.hexdigest()


__all__ = ["Batches", "Diverged", "Loop", "Meter", "Reporter", "Run", "Stateful", "Update", "digest_of"]
