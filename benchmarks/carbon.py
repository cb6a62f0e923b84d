"""What measuring energy costs a trial, and how it agrees with codecarbon's own tracker.

    python benchmarks/carbon.py [--quick] [--json OUT]

Cost: the same trials of 10 ms, 100 ms and 1 s of CPU time with and without a meter, in turns; medians of the CPU time of
a trial, measured around the evaluation as the study calls it. Besides the difference, which the noise of a shared machine
hides, the time of the meter's own start and stop alone, as a share of the trial.

Agreement: a busy loop under codecarbon's OfflineEmissionsTracker (process tracking) and our meter at once, several times;
processors must agree within 3% in the median. Both are also set beside CPU time x watts, counted here, and the wall clock
beside the steady one: codecarbon divides by the former, so a clock that is being set shows in its figure. Memory differs
on purpose: codecarbon charges every process at least 10 W, we its part of the memory.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from typing import Any

import psutil

from heuretic.search import Space, one_of
from heuretic.study.energy import Energy, Meter
from heuretic.study.environment import environment_facts
from heuretic.study.trial import Evaluator, Ticket

AGREEMENT = 0.03
GOAL = 0.01


def steps_for(seconds: float) -> int:
    """Return how many steps of work take so long."""
    work(20_000)
    began = time.process_time()
    work(200_000)
    return max(1, round(200_000 * seconds / (time.process_time() - began)))


def work(steps: int) -> float:
    """Keep one core busy."""
    total = 0.0
    for i in range(steps):
        total += i * 0.5
    return total


def cost(seconds: float, repeats: int) -> dict[str, float]:
    """Return medians of CPU time with and without the meter, and of the meter alone, in seconds."""
    steps = steps_for(seconds)
    space = [Space(one_of(1, 2))]
    evaluators = {
        name: Evaluator(lambda _: work(steps), space, False, ("value",), energy=settings)
        for name, settings in (("without", None), ("with", Energy(country="FRA")))
    }
    meter = Meter(Energy(country="FRA"))
    times: dict[str, list[float]] = {name: [] for name in (*evaluators, "meter")}
    ticket = Ticket(0, (0,), b"", 0)
    for evaluator in evaluators.values():
        evaluator(ticket, lambda *_: False)
    for _ in range(repeats):
        for name, evaluator in evaluators.items():
            began = time.process_time()
            evaluator(ticket, lambda *_: False)
            times[name].append(time.process_time() - began)
        began = time.process_time()
        meter.start()
        meter.stop()
        times["meter"].append(time.process_time() - began)
    found = {name: statistics.median(taken) for name, taken in times.items()}
    difference = found["with"] / found["without"] - 1
    return {**found, "repeats": repeats, "difference": difference, "meter_share": found["meter"] / found["without"]}


def agreement(seconds: float) -> dict[str, Any]:
    """Run codecarbon's tracker and our meter over the same busy loop."""
    import codecarbon

    logging.getLogger("codecarbon").disabled = True
    tracker = codecarbon.OfflineEmissionsTracker(
        country_iso_code="FRA", tracking_mode="process", output_methods=[], log_level="critical", measure_power_secs=1
    )
    tracker.get_detected_hardware()
    meter = Meter(Energy(country="FRA"))
    core_w = meter._power().core_w
    tracker.start_task("loop")  # start() and stop() may leave out what came after the last periodic measurement
    meter.start()
    began, clock, cpu = time.perf_counter(), time.time(), time.process_time()
    while time.perf_counter() - began < seconds:
        work(100_000)
    cpu_s, clock_s, took_s = time.process_time() - cpu, time.time() - clock, time.perf_counter() - began
    ours = meter.stop()
    theirs = tracker.stop_task("loop")
    return {
        "seconds": took_s,
        "cpu_kwh": {
            "codecarbon": theirs.cpu_energy, "heuretic": ours["cpu_kwh"], "cpu_time_x_watts": cpu_s * core_w / 3.6e6,
        },
        "ram_kwh": {"codecarbon": theirs.ram_energy, "heuretic": ours["ram_kwh"]},
        "g_per_kwh": {
            "codecarbon": 1000 * theirs.emissions / theirs.energy_consumed,
            "heuretic": 1000 * ours["co2e_kg"] / (ours["cpu_kwh"] + ours["ram_kwh"] + ours["gpu_kwh"]),
        },
        "cpu_ratio": ours["cpu_kwh"] / theirs.cpu_energy,
        "wall_clock_by_steady_clock": clock_s / took_s,
    }  # fmt: skip


def main() -> None:
    """Measure, print, and write what was asked for."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="few repeats, a short loop")
    arguments.add_argument("--json", help="write the figures to this file")
    given = arguments.parse_args()
    lengths = {0.01: 15, 0.1: 7, 1.0: 3} if given.quick else {0.01: 301, 0.1: 101, 1.0: 21}
    costs = {f"{length:g}": cost(length, repeats) for length, repeats in lengths.items()}
    print(f"{'trial':>8} {'without':>10} {'with':>10} {'difference':>11} {'meter':>10} {'share':>8}")
    for length, found in costs.items():
        print(
            f"{length:>6} s {1000 * found['without']:>7.2f} ms {1000 * found['with']:>7.2f} ms {found['difference']:>+10.2%} "
            f"{1e6 * found['meter']:>7.0f} us {found['meter_share']:>8.3%}"
        )
    runs = [agreement(2.0 if given.quick else 10.0) for _ in range(3 if given.quick else 7)]
    for run in runs:
        cpu, ram = run["cpu_kwh"], run["ram_kwh"]
        print(
            f"{run['seconds']:.1f} s: processors codecarbon {cpu['codecarbon']:.4g} kWh, heuretic {cpu['heuretic']:.4g}, CPU time x "
            f"watts {cpu['cpu_time_x_watts']:.4g}; memory {ram['codecarbon']:.3g} and {ram['heuretic']:.3g}; ratio "
            f"{run['cpu_ratio']:.4f}, wall clock {run['wall_clock_by_steady_clock']:.4f}"
        )
    ratio = statistics.median(run["cpu_ratio"] for run in runs)
    agree = abs(ratio - 1) <= AGREEMENT
    print(f"processors: median ratio {ratio:.4f}, {'within' if agree else 'NOT within'} {AGREEMENT:.0%}")
    if given.json:
        record = {
            "cost": costs, "goal": f"meter below {GOAL:.0%} of a trial of 0.1 s", "met": costs["0.1"]["meter_share"] < GOAL,
            "agreement": {"median_cpu_ratio": ratio, "tolerance": AGREEMENT, "met": agree, "runs": runs}, "load": psutil.getloadavg(), "facts": environment_facts(),
        }  # fmt: skip
        with open(given.json, "w") as file:
            file.write(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
