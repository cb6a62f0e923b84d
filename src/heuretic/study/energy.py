"""Energy and emissions of evaluations, from codecarbon's power figures, offline."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

from heuretic.study.emissions import grid, load_factors

#: Seconds that machine-wide readings cover at least: their counters tick every 10 ms, so shorter ones say little.
WINDOW_S = 1.0
_J_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Energy:
    """How the energy of evaluations is measured and turned into emissions.

    Attributes:
        country: ISO 3166-1 alpha-3 code of the place where it runs, "WLD" for the world average.
        region: Part of the country, as codecarbon names it: a state of USA, a province of CAN or CHN, a bidding zone of
            NOR or SWE.
        pue: Power usage effectiveness of the building, >= 1; multiplies all energy. 1 counts the computer alone.
        tracking: "process" counts what the evaluating process and its children use. "machine" shares all that the
            machine uses among processes by their CPU time, so that its idle power is counted too.
        intensity_g: Grams of CO2 equivalent per kWh, where it is known better than by country and region.
        cpu_w: Power of all processors together at full load, in watts. Default: measured or looked up by codecarbon.
        ram_w: Power of the machine's memory in watts. Default: codecarbon's estimate by its size.
        factors: An edited copy of `emission_factors.toml`.

    Raises: ValueError if a value is out of range or a place is unknown, ImportError if codecarbon is needed to look it
        up and is missing.
    """

    country: str = "WLD"
    region: str | None = None
    pue: float = 1.0
    tracking: Literal["process", "machine"] = "process"
    intensity_g: float | None = None
    cpu_w: float | None = None
    ram_w: float | None = None
    factors: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.pue < float("inf"):
            raise ValueError(
                f"pue must be >= 1, got {self.pue}. Try 1.58, the average data centre, or 1.1, a large cloud"
            )
        if self.tracking not in ("process", "machine"):
            raise ValueError(f"tracking must be 'process' or 'machine', got {self.tracking!r}")
        for name in ("intensity_g", "cpu_w", "ram_w"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be >= 0 or None, got {value}")
        self.intensity()  # a wrong place shall be told now, not by every trial

    def intensity(self) -> float:
        """Return grams of CO2 equivalent per kWh."""
        if self.intensity_g is not None:
            return self.intensity_g
        return grid(self.country, self.region, load_factors(self.factors)).g_per_kwh


class Reading(NamedTuple):
    """The clocks and counters of one moment.

    Attributes:
        clock: Seconds. cpu_s: CPU time of this process and its children so far, in seconds.
        memory: Share of the machine's memory that they hold. gpu_kwh: Energy of the GPUs so far, this process's share.
    """

    clock: float
    cpu_s: float
    memory: float
    gpu_kwh: float


class Power(NamedTuple):
    """What a machine draws.

    Attributes:
        core_w: Watts of one busy core: energy of the processors per second of CPU time.
        ram_w: Watts of the whole memory. shared_w: Watts of the memory per second of CPU time, where the whole machine
            is shared by CPU time; then `ram_w` is 0.
        counted: Whether the processors' energy comes from counters in them and not from a model.
    """

    core_w: float
    ram_w: float
    shared_w: float = 0.0
    counted: bool = False


def consumed(before: Reading, after: Reading, power: Power, pue: float, intensity_g: float) -> dict[str, float]:
    """Return what was used between two readings.

    Returns: kWh by part with the building's share ("cpu_kwh", "gpu_kwh", "ram_kwh"), "co2e_kg", and how they came
        about: "counted_kwh" is the part of the energy that counters in the hardware gave, the rest is a model's; "pue".
    """
    cpu_s, wall_s = after.cpu_s - before.cpu_s, after.clock - before.clock
    cpu = power.core_w * cpu_s / _J_PER_KWH * pue
    ram = (power.ram_w * wall_s * (before.memory + after.memory) / 2 + power.shared_w * cpu_s) / _J_PER_KWH * pue
    gpu = (after.gpu_kwh - before.gpu_kwh) * pue
    return {
        "cpu_kwh": cpu, "gpu_kwh": gpu, "ram_kwh": ram, "co2e_kg": (cpu + gpu + ram) * intensity_g / 1000,
        "counted_kwh": gpu + (cpu if power.counted else 0.0), "pue": pue,
    }  # fmt: skip


class Meter:
    """Measures one evaluation at a time in the process that runs it; made once in each process.

    codecarbon finds the hardware and knows its power. Its own start_task and stop_task take 5 ms and 7 ms, look through
    all processes and count the whole memory for each worker; so the power figures are taken from its hardware objects
    and summed up here, over CPU time and wall-clock time, which costs about 0.1 ms a trial.

    Raises: ImportError if codecarbon is missing.
    """

    def __init__(self, settings: Energy) -> None:
        need_codecarbon()
        import psutil

        self.settings, self._intensity_g = settings, settings.intensity()
        self._psutil, self._process = psutil, psutil.Process()
        self._memory_bytes = psutil.virtual_memory().total
        self._children_s = self._live_children_s()
        processors, memory, gpus = hardware(settings)
        self._processors = _Processors(processors, psutil, memory if settings.tracking == "machine" else 0.0)
        self._model_w = _modelled_core_w(processors, psutil.cpu_count() or 1)
        self._ram_w = 0.0 if settings.tracking == "machine" else memory
        self._gpus = _GPUs(gpus, settings.tracking)
        self._before = self._read()

    def start(self) -> None:
        """Begin an evaluation."""
        if self._windows:
            self._processors.forget_pause()
        self._before = self._read()

    def stop(self) -> dict[str, float]:
        """End it; return what it used, see `consumed`."""
        if _has_children():
            self._children_s = self._live_children_s()
        after = self._read()
        return consumed(self._before, after, self._power(), self.settings.pue, self._intensity_g)

    @property
    def _windows(self) -> bool:
        """Whether the power of a busy core must be found by reading the machine again and again."""
        return self._model_w is None or self.settings.tracking == "machine"

    def _power(self) -> Power:
        if self._model_w is not None and not self._windows:
            return Power(self._model_w, self._ram_w)
        core_w, shared_w = self._processors.rate()
        return Power(core_w, self._ram_w, shared_w, counted=self._model_w is None)

    def _read(self) -> Reading:
        ended = os.times()  # in ticks of 10 ms, which add up; living children were looked at when the last trial ended
        cpu_s = time.process_time() + ended.children_user + ended.children_system + self._children_s
        memory = self._process.memory_info().rss / self._memory_bytes if self._ram_w else 0.0
        return Reading(time.perf_counter(), cpu_s, memory, self._gpus.kwh())

    def _live_children_s(self) -> float:
        """Return the CPU time so far of children that are alive, such as those that load data."""
        total = 0.0
        for child in self._process.children(recursive=True):
            try:
                total += sum(child.cpu_times()[:4])  # user, system, and the same of its own children that ended
            except self._psutil.Error:  # it ended meanwhile
                continue
        return total


def need_codecarbon() -> None:
    """Raise ImportError if codecarbon or psutil is missing; imports neither, which takes a while."""
    try:
        missing = any(find_spec(name) is None for name in ("codecarbon", "psutil"))
    except ImportError:
        missing = True
    if missing:
        raise ImportError("energy needs codecarbon. Try: pip install 'heuretic[carbon]'")


def hardware(settings: Energy) -> tuple[Any, float, Any]:
    """Return what codecarbon finds: its object for the processors, watts of the memory, its object for the GPUs.

    The latter is None if there are none. Nothing is written, sent or printed.
    """
    log = logging.getLogger("codecarbon")
    loaded, level = "codecarbon" in sys.modules, log.level
    import codecarbon
    from codecarbon.external.hardware import CPU, GPU

    given = {"force_cpu_power": settings.cpu_w, "force_ram_power": settings.ram_w}
    forced: dict[str, Any] = {name: watts for name, watts in given.items() if watts is not None}
    log.disabled = True  # its first line comes before it looks at log_level
    try:
        tracker = codecarbon.OfflineEmissionsTracker(
            country_iso_code="USA", tracking_mode="machine", output_methods=[], log_level="critical",
            allow_multiple_runs=True, **forced,
        )  # fmt: skip
        tracker.get_detected_hardware()  # this makes the objects; no thread was started, nothing needs to be stopped
        found = tracker._hardware
    finally:
        log.disabled = False
        if loaded:  # by the user, whose settings stay as they were
            log.setLevel(level)
    gpus = next((part for part in found if isinstance(part, GPU)), None)
    processors = next(
        (p for p in found if isinstance(p, CPU) or (not isinstance(p, GPU) and getattr(p, "chip_part", "") == "CPU")),
        None,
    )
    memory = sum(part.total_power().W for part in found if part is not processors and part is not gpus)
    if processors is None:
        raise RuntimeError("codecarbon must find a processor, got none. Try Energy(cpu_w=...)")
    return processors, float(memory), gpus


def _modelled_core_w(processors: Any, cores: int) -> float | None:
    """Return the watts of a busy core where codecarbon has only a model: full power by load; None if it has counters."""
    if getattr(processors, "_mode", "") not in ("cpu_load", "constant"):
        return None
    return float(processors._tdp) / cores


class _Processors:
    """Watts of a busy core, found from the energy of all processors and the CPU time of all processes."""

    def __init__(self, processors: Any, psutil: Any, memory_w: float) -> None:
        self._processors, self._psutil, self._memory_w = processors, psutil, memory_w
        self._rate: tuple[float, float] | None = None
        load = getattr(processors, "_cpu_load_meter", None)
        if load is not None:
            load.reset()  # otherwise its first reading sleeps
        processors.start()
        self._clock, self._busy = time.perf_counter(), self._busy_s()

    def forget_pause(self) -> None:
        """Leave out what was used while no evaluation ran, if that was long."""
        if time.perf_counter() - self._clock >= WINDOW_S:
            self._window()

    def rate(self) -> tuple[float, float]:
        """Return the watts of processors and memory per busy core, over the last second or more."""
        if self._rate is None or time.perf_counter() - self._clock >= WINDOW_S:
            joules, memory, busy_s = self._window()
            # A first window of no tick at all is shorter than 10 ms; all of it was then this process's.
            measured = (joules / max(busy_s, 0.01), memory / max(busy_s, 0.01))
            if busy_s == 0:
                return measured
            self._rate = measured
        return self._rate

    def _window(self) -> tuple[float, float, float]:
        clock, busy = time.perf_counter(), self._busy_s()
        seconds, used = clock - self._clock, busy - self._busy
        self._clock, self._busy = clock, busy
        _, energy = self._processors.measure_power_and_energy(last_duration=seconds)
        return energy.kWh * _J_PER_KWH, self._memory_w * seconds, used

    def _busy_s(self) -> float:
        times = self._psutil.cpu_times()
        return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))


class _GPUs:
    """Energy of the GPUs so far, by their counters, each divided by the number of processes that compute on it."""

    def __init__(self, gpus: Any, tracking: str) -> None:
        self._gpus, self._tracking, self._kwh = gpus, tracking, 0.0
        self._clock, self._looked = 0.0, float("-inf")
        self._processes: Mapping[int, int] = {}
        if gpus is not None:
            gpus.start()

    def kwh(self) -> float:
        """Return this process's share since the first reading."""
        if self._gpus is None:
            return 0.0
        from codecarbon.core.units import Time

        clock = time.perf_counter()
        seconds = clock - self._clock if self._clock else 0.0
        if clock - self._looked >= (WINDOW_S if any(self._processes.values()) else 0.1):
            self._processes, self._looked = self._look(), clock  # it changes seldom, and asking takes long
        self._clock = clock
        for device in self._gpus.devices.get_delta(Time.from_seconds(seconds)):
            if device["gpu_index"] in self._gpus.gpu_ids:
                self._kwh += device["delta_energy_consumption"].kWh * self._share(device["gpu_index"])
        return self._kwh

    def _share(self, gpu: int) -> float:
        """Return our part of a GPU. In "process" tracking, one that nobody computes on is nobody's."""
        count = self._processes.get(gpu, 0)
        return 1 / count if count else float(self._tracking == "machine")

    def _look(self) -> Mapping[int, int]:
        """Return how many processes compute on each GPU.

        In containers they are counted right, though their numbers are not ours; so we cannot leave out a GPU on which
        only others compute. CUDA_VISIBLE_DEVICES says which are ours, and codecarbon keeps to it.
        """
        counts: dict[int, int] = {}
        for device in self._gpus.devices.devices:
            try:
                counts[device.gpu_index] = len(device._get_compute_processes())
            except Exception:  # not every driver tells
                counts[device.gpu_index] = 1
        return counts


def _has_children() -> bool:
    """Whether this process has any child. Costs a microsecond; to look for them takes milliseconds."""
    if not hasattr(os, "waitid"):
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:
        return False
    return True
