"""Latency, measured where the search runs: medians with intervals, and models measured in turn."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any, Literal

import torch
from torch import Tensor, nn

from heuretic.nn.costs import evaluating
from heuretic.symbolic import Symbolic, build, digest, field
from heuretic.symbolic.values import Node

Clock = Literal["wall", "cpu"]
_CLOCKS: Mapping[Clock, Callable[[], int]] = {"wall": time.perf_counter_ns, "cpu": time.process_time_ns}
#: Latencies measured in this process, by digests of meter and program.
_measured: dict[tuple[str, str], float] = {}
#: The clock ticks in fractions of a microsecond; what is shorter than this is called several times in a row.
_SHORTEST_MS = 0.1


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of repeated calls, in milliseconds.

    Attributes:
        times_ms: In the order in which they were taken. calls: Calls in a row behind each time, which is their mean.
        confidence: Of the interval.
    """

    times_ms: tuple[float, ...]
    calls: int = 1
    confidence: float = 0.95

    @property
    def median_ms(self) -> float:
        """The median: what interruptions disturb least."""
        return statistics.median(self.times_ms)

    @property
    def interval_ms(self) -> tuple[float, float]:
        """The interval of the median that follows from the times being drawn alike; slow drifts are beyond it."""
        return median_interval(self.times_ms, self.confidence)

    @property
    def min_ms(self) -> float:
        """The shortest time."""
        return min(self.times_ms)

    @property
    def spread_ms(self) -> float:
        """The distance between the quartiles."""
        first, _, third = statistics.quantiles(self.times_ms, n=4) if len(self.times_ms) > 1 else (0.0, 0.0, 0.0)
        return third - first

    def __str__(self) -> str:
        low, high = self.interval_ms
        return f"{self.median_ms:.4g} ms [{low:.4g}, {high:.4g}], {len(self.times_ms)} times, min {self.min_ms:.4g} ms"


@dataclass(frozen=True, slots=True)
class Turns:
    """The times of several models measured in turn; the k-th times of all belong to the same round."""

    timings: Mapping[str, Timing]

    def ratio(self, name: str, other: str) -> tuple[float, float, float]:
        """Return the median over rounds of the time of `name` over that of `other`, and its interval (low, high)."""
        first, second = self.timings[name], self.timings[other]
        ratios = [a / b for a, b in zip(first.times_ms, second.times_ms, strict=True)]
        return statistics.median(ratios), *median_interval(ratios, first.confidence)


def measure(
    function: Callable[..., Any],
    *inputs: Any,
    threads: int = 1,
    warmup: int = 5,
    repeats: int = 200,
    tolerance: float = 0.02,
    budget_s: float = 2.0,
    confidence: float = 0.95,
    clock: Clock = "wall",
) -> Timing:
    """Time calls of `function(*inputs)` until the median is known well enough.

    A module runs in eval mode (and is then put back as it was); everything runs under `torch.inference_mode`. Work
    that goes on after the call returns, as on a GPU, is not waited for: let the function wait.

    Args:
        threads: Of torch, while it is measured. warmup: Calls before the first that counts.
        repeats: Times taken at most. tolerance: Stop when the interval of the median, from end to end, is within this
            share of the median. budget_s: Stop when the times taken add up to so many seconds, though not before
            eight times were taken.
        confidence: Of the interval.
        clock: "wall", or "cpu" for the time the process spends computing, on all its threads together: on one thread
            it is what the wall clock shows on an idle machine, and stays so when others take their share of it.

    Raises: RuntimeError if the call raises; ValueError if a setting is out of range.
    """
    _check(threads=threads, repeats=repeats, confidence=confidence, clock=clock)
    with _prepared([function], threads):
        calls = _warm_up(function, inputs, warmup, "function")
        times: list[float] = []
        spent = 0.0
        while len(times) < repeats:
            times.append(_time_ms(function, inputs, calls, clock))
            spent += times[-1] * calls / 1000
            if len(times) >= 8 and (spent >= budget_s or _is_known(times, tolerance, confidence)):
                break
    return Timing(tuple(times), calls, confidence)


def interleaved(
    functions: Mapping[str, Callable[..., Any]],
    *inputs: Any,
    threads: int = 1,
    warmup: int = 5,
    rounds: int = 100,
    seed: int = 0,
    confidence: float = 0.95,
    clock: Clock = "wall",
) -> Turns:
    """Time several functions or modules in turn: once each round, in an order drawn anew.

    What else the machine does falls on all of them alike, so ratios hold even where the times themselves do not.

    Args:
        functions: By name, all called with `inputs`. rounds: Times taken of each.
        seed: Of the orders. threads, warmup, confidence, clock: See `measure`.

    Raises: RuntimeError naming the function if a call raises; ValueError if a setting is out of range.
    """
    _check(threads=threads, repeats=rounds, confidence=confidence, clock=clock)
    order, rng = list(functions), Random(seed)
    with _prepared(list(functions.values()), threads):
        calls = {name: _warm_up(function, inputs, warmup, name) for name, function in functions.items()}
        times: dict[str, list[float]] = {name: [] for name in functions}
        for _ in range(rounds):
            rng.shuffle(order)
            for name in order:
                times[name].append(_time_ms(functions[name], inputs, calls[name], clock))
    return Turns({name: Timing(tuple(taken), calls[name], confidence) for name, taken in times.items()})


class Latency(Symbolic):
    """Milliseconds of one forward pass, measured here: `hr.Limit(Latency((1, 3, 32, 32)), at_most=5)`.

    A complete program is built, its module measured as in `measure`, and the median kept: in one process a program
    is measured once, and equal programs get equal latencies although every measurement is different. What is not a
    program (a module, any callable) is measured anew each time.

    Another process measures for itself, and what it finds may fall on the other side of a limit: a study that goes on
    after a stop may then propose other programs than one that was never stopped. Where that matters, return
    the latency from the evaluation and limit that: `hr.Limit("latency_ms", at_most=5)`. With other work on the machine,
    such as the workers of the same study, `clock="cpu"` is the steadier meter; to weigh models against each other, see
    `interleaved`.

    Args:
        inputs: Shape of the input (float32, normally distributed), or a symbolic call that makes it, such as
            `hr.sym(torch.zeros)((1, 8), dtype=torch.long)`; a tuple of such calls for several inputs.
        threads, warmup, repeats, tolerance, budget_s, clock: See `measure`. name: In records.

    Reference: Tan et al. 2019, "MnasNet: Platform-Aware Neural Architecture Search for Mobile", arXiv:1807.11626,
    section 3 (latency is measured on the device, not derived from operations).
    """

    inputs: Any
    threads: int = field(default=1, ge=1)
    warmup: int = field(default=5, ge=0)
    repeats: int = field(default=200, ge=8)
    tolerance: float = field(default=0.02, ge=0)
    budget_s: float = field(default=2.0, gt=0)
    clock: Clock = "wall"
    name: str = "latency_ms"

    def __call__(self, model: Any) -> float:
        """Return the median in milliseconds. Raises: RuntimeError if the forward pass does."""
        if not isinstance(model, Node):
            return self.timing(model).median_ms
        key = digest(self), digest(model)
        if key not in _measured:
            _measured[key] = self.timing(model).median_ms
        return _measured[key]

    def timing(self, model: Any) -> Timing:
        """Measure a program, module or callable anew, and return all times."""
        function = model
        if isinstance(model, Node):
            with torch.random.fork_rng(devices=[]):  # weights are drawn, but not out of somebody's sequence
                torch.manual_seed(0)
                function = build(model)
        if not callable(function):
            raise TypeError(f"model must be callable or a program of something callable, got {type(function).__name__}")
        return measure(
            function, *self.example(), threads=self.threads, warmup=self.warmup, repeats=self.repeats,
            tolerance=self.tolerance, budget_s=self.budget_s, clock=self.clock,
        )  # fmt: skip

    def example(self) -> tuple[Any, ...]:
        """Return the inputs, the same ones every time if they are given by shape."""
        if isinstance(self.inputs, tuple) and all(isinstance(size, int) for size in self.inputs):
            return (torch.randn(self.inputs, generator=torch.Generator().manual_seed(0)),)
        made = build(self.inputs)
        return made if isinstance(made, tuple) else (made,)


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return two of the values between which the median of what they are drawn from lies, with at least `confidence`.

    The ends are order statistics, so nothing is assumed of the distribution. With too few values for the confidence
    (fewer than 6 for 95%) they are the smallest and the largest.
    """
    ordered = sorted(values)
    cut = _left_out(len(ordered), confidence)
    return ordered[cut], ordered[len(ordered) - 1 - cut]


@lru_cache(maxsize=1024)
def _left_out(count: int, confidence: float) -> int:
    """Return how many of `count` values lie outside the interval of the median at each end."""
    if count > 1000:
        deviations = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
        return int((count - deviations * math.sqrt(count)) / 2) - 1
    below, cut = 0.0, 0  # the chance that the median lies below the value numbered `cut`
    while (below := below + math.comb(count, cut) / 2**count) <= (1 - confidence) / 2:
        cut += 1
    return max(cut - 1, 0)


def _is_known(times: Sequence[float], tolerance: float, confidence: float) -> bool:
    low, high = median_interval(times, confidence)
    return high - low <= tolerance * statistics.median(times)


def _check(*, threads: int, repeats: int, confidence: float, clock: str) -> None:
    if threads < 1 or repeats < 1:
        raise ValueError(f"threads and repeats (or rounds) must be >= 1, got {threads} and {repeats}. Try 1 and 100")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}. Try 0.95")
    if clock not in _CLOCKS:
        raise ValueError(f"clock must be 'wall' or 'cpu', got {clock!r}")


@contextmanager
def _prepared(functions: Sequence[Callable[..., Any]], threads: int) -> Iterator[None]:
    """Run modules in eval mode, without gradients and on so many threads; afterwards all is as it was."""
    modules = [function for function in functions if isinstance(function, nn.Module)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with evaluating(*modules), torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


def _warm_up(function: Callable[..., Any], inputs: tuple[Any, ...], warmup: int, name: str) -> int:
    """Call until warm, and return how many calls in a row take long enough to be timed."""
    shown = ", ".join(f"tensor {tuple(i.shape)}" if isinstance(i, Tensor) else type(i).__name__ for i in inputs)
    try:
        for _ in range(warmup):
            function(*inputs)
        once = min(_time_ms(function, inputs, 1, "wall") for _ in range(3))
    except Exception as error:
        raise RuntimeError(
            f"{name} must run on its inputs to be measured, got {type(error).__name__}: {str(error)[:300]}, "
            f"at inputs ({shown}). Try calling it on them yourself"
        ) from error
    return max(1, math.ceil(_SHORTEST_MS / max(once, 1e-6)))


def _time_ms(function: Callable[..., Any], inputs: tuple[Any, ...], calls: int, clock: Clock) -> float:
    now = _CLOCKS[clock]
    began = now()
    for _ in range(calls):
        function(*inputs)
    return (now() - began) / 1e6 / calls
