"""Energy and emissions: hand-computed cases, what is counted and what is not, footprints, the command and the idea."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import heuretic as hr
from heuretic.cli.files import UsageError
from heuretic.cli.main import app
from heuretic.ideas import carbon
from heuretic.ideas.result import Comparison
from heuretic.search import Space
from heuretic.study import TrialRecord
from heuretic.study import energy as energy_module
from heuretic.study.emissions import Factors, FactorsError, grid, load_factors
from heuretic.study.energy import Energy, Meter, Power, Reading, _GPUs, _Processors, consumed
from heuretic.study.footprint import footprint
from heuretic.study.report_energy import energy_text, mass_text
from heuretic.study.trial import Evaluator, Ticket

pytest.importorskip("codecarbon")
from codecarbon.core.gpu import AllGPUDevices
from codecarbon.core.gpu_device import GPUDevice

CORES = psutil.cpu_count() or 1
BUNDLED = (files("heuretic.study") / "emission_factors.toml").read_text()


def burn(cpu_s: float) -> float:
    """Use so much CPU time; return how much it was."""
    began = time.process_time()
    while time.process_time() - began < cpu_s:
        sum(i * i for i in range(1000))
    return time.process_time() - began


# -- measuring --------------------------------------------------------------------------------------------------


def test_energy_by_hand() -> None:
    before = Reading(clock=100.0, cpu_s=7.0, memory=0.2, gpu_kwh=0.5)
    after = Reading(clock=136.0, cpu_s=79.0, memory=0.3, gpu_kwh=0.502)
    found = consumed(before, after, Power(core_w=50.0, ram_w=40.0), pue=1.5, intensity_g=400.0)
    # 72 s x 50 W = 3600 J = 0.001 kWh; 36 s x 40 W x a quarter of the memory = 360 J = 0.0001 kWh; 0.002 kWh of GPU.
    assert found == pytest.approx(
        {
            "cpu_kwh": 0.0015, "ram_kwh": 0.00015, "gpu_kwh": 0.003, "co2e_kg": 0.00465 * 0.4, "counted_kwh": 0.003,
            "pue": 1.5,
        },
        rel=1e-12,
    )  # fmt: skip


def test_a_shared_machine_by_hand() -> None:
    power = Power(core_w=50.0, ram_w=0.0, shared_w=10.0, counted=True)
    found = consumed(Reading(0, 0, 0, 0), Reading(36.0, 72.0, 0, 0), power, pue=1.0, intensity_g=1000.0)
    assert found["cpu_kwh"] == pytest.approx(0.001, rel=1e-12)
    assert found["ram_kwh"] == pytest.approx(0.0002, rel=1e-12)  # 72 s of CPU time x 10 W, whatever the wall clock says
    assert found["co2e_kg"] == pytest.approx(0.0012, rel=1e-12)
    assert found["counted_kwh"] == found["cpu_kwh"]


def test_a_trial_is_charged_for_its_cpu_time_and_its_part_of_the_memory() -> None:
    inner: dict[str, float] = {}

    def evaluate(program: Any) -> float:
        clock = time.perf_counter()
        inner["cpu_s"] = burn(0.2)
        inner["wall_s"] = time.perf_counter() - clock
        return 1.0

    settings = Energy(pue=1.5, intensity_g=400.0, cpu_w=100.0, ram_w=36.0)
    evaluator = Evaluator(evaluate, [Space(hr.one_of(1, 2))], False, ("value",), energy=settings)
    evaluator._prepare()  # the meter is made once, before
    cpu, clock = time.process_time(), time.perf_counter()
    found = evaluator(Ticket(0, (0,), b"", 0), lambda *_: False).energy
    outer_cpu_s, outer_wall_s = time.process_time() - cpu, time.perf_counter() - clock
    joules = found["cpu_kwh"] * 3.6e6 / 1.5
    assert inner["cpu_s"] * 100 / CORES <= joules <= outer_cpu_s * 100 / CORES  # exact, on a machine however busy
    share = found["ram_kwh"] * 3.6e6 / 1.5 / 36.0
    held = psutil.Process().memory_info().rss / psutil.virtual_memory().total
    assert 0.3 * held * inner["wall_s"] <= share <= 3 * held * outer_wall_s
    assert found["gpu_kwh"] == 0 or found["counted_kwh"] > 0
    total = found["cpu_kwh"] + found["ram_kwh"] + found["gpu_kwh"]
    assert found["co2e_kg"] == pytest.approx(total * 0.4, rel=1e-12)
    assert found["pue"] == 1.5


@pytest.mark.parametrize("stays", [False, True])
def test_processes_that_a_trial_starts_are_charged_to_it(stays: bool) -> None:
    code = (
        "import time, sys\nwhile time.process_time() < 0.3: sum(i * i for i in range(1000))\n"
        f"print('done', flush=True)\nif {stays}: time.sleep(60)"
    )
    meter = Meter(Energy(cpu_w=100.0, ram_w=0.0))
    meter.start()
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"done\n"
    if not stays:
        child.wait()
    joules = meter.stop()["cpu_kwh"] * 3.6e6
    child.kill()
    child.wait()
    assert joules >= 100 / CORES * (0.3 - 0.03)  # the system counts in ticks of 0.01 s
    meter.start()
    assert meter.stop()["cpu_kwh"] * 3.6e6 < 100 / CORES * 0.25  # what was charged is not charged again


def test_counters_in_processors_are_read_and_shared_by_cpu_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """codecarbon's real reader of RAPL, on a folder that looks like the kernel's."""
    from codecarbon.external.hardware import CPU

    domain = tmp_path / "intel-rapl:0"
    domain.mkdir()
    (domain / "name").write_text("package-0")
    (domain / "max_energy_range_uj").write_text("262143328850")
    counter = domain / "energy_uj"
    counter.write_text("1000000000")
    cpu = CPU(str(tmp_path), "intel_rapl", "some processor", 100, rapl_dir=str(tmp_path))
    processors = _Processors(cpu, psutil, memory_w=0.0)
    burn(0.05)
    counter.write_text("1042000000")
    joules, _, busy_s = processors._window()
    assert joules == pytest.approx(42.0, rel=1e-5)
    assert busy_s > 0

    monkeypatch.setattr(energy_module, "hardware", lambda settings: (cpu, 0.0, None))
    meter = Meter(Energy(intensity_g=1000.0))
    meter.start()
    burn(0.3)
    counter.write_text("1092000000")
    found = meter.stop()
    assert 0 < found["cpu_kwh"] * 3.6e6 <= 50 * 1.1  # at most all of it; the shares are known to ticks of 0.01 s
    assert found["counted_kwh"] == found["cpu_kwh"]


class Gpu(GPUDevice):
    """codecarbon's bookkeeping of a GPU, with a driver whose counter (in mJ) and processes are set by the test."""

    counter, processes = 5_000_000, 0

    def _get_total_energy_consumption(self) -> int:
        return self.counter

    def _get_compute_processes(self) -> list[dict[str, int]]:
        return [{"pid": i, "used_memory": 0} for i in range(self.processes)]

    def _get_gpu_name(self) -> str:
        return "some GPU"

    def _get_uuid(self) -> str:
        return "GPU-0"

    def _get_power_limit(self) -> int:
        return 300

    def _get_memory_info(self) -> Any:
        return SimpleNamespace(total=1)


@pytest.mark.parametrize(
    ("tracking", "processes", "share"),
    [("process", 1, 1.0), ("process", 4, 0.25), ("process", 0, 0.0), ("machine", 0, 1.0), ("machine", 2, 0.5)],
)
def test_a_gpu_is_shared_by_the_processes_that_compute_on_it(tracking: str, processes: int, share: float) -> None:
    devices = AllGPUDevices()
    ours, hidden = Gpu(None, 0), Gpu(None, 1)
    devices.devices, devices.device_count = [ours, hidden], 2
    gpus = _GPUs(SimpleNamespace(start=devices.start, devices=devices, gpu_ids=[0]), tracking)
    before = gpus.kwh()
    ours.processes = processes  # the first computation of a process comes after its first reading
    time.sleep(0.11)
    ours.counter += 7_200_000  # 7.2 kJ = 0.002 kWh
    hidden.counter += 9_000_000
    assert gpus.kwh() - before == pytest.approx(0.002 * share, rel=1e-5)


def test_machine_tracking_charges_idle_power_too() -> None:
    """Of a modelled machine that is at most fully busy, at least a tenth of full power is drawn and shared."""
    settings = Energy(cpu_w=100.0, ram_w=20.0, tracking="machine", intensity_g=500.0)
    meter = Meter(settings)
    burn(0.3)
    meter.start()
    used = burn(1.0)
    found = meter.stop()
    # Power by load is 10% + 90% x load^3 of 100 W, shared by CPU time: the least a busy core can come to is at
    # 0.38 of full load, 39 W x cores for every busy core's second. Ticks and other work leave some room.
    assert found["cpu_kwh"] * 3.6e6 >= 0.3 * 100 / CORES * used
    assert found["ram_kwh"] * 3.6e6 >= 0.9 * 20.0 / CORES * used


def test_measuring_writes_says_and_asks_nothing(tmp_path: Path) -> None:
    script = tmp_path / "quiet.py"
    script.write_text(
        "import sys, threading\n"
        "asked = []\n"
        "sys.addaudithook(lambda name, _: asked.append(name) if name in ('socket.connect', 'socket.getaddrinfo') else None)\n"
        "import heuretic as hr\n"
        "study = hr.discover(hr.one_of(*range(9)), lambda n: float(n), trials=3, energy=True, progress=False)\n"
        "assert all(trial.energy['cpu_kwh'] > 0 for trial in study.trials), study.trials\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "assert not asked, asked\n"
    )
    folder = tmp_path / "empty"
    folder.mkdir()
    done = subprocess.run([sys.executable, str(script)], cwd=folder, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(folder.iterdir()) == []


def working(program: Any) -> float:
    """For worker processes."""
    burn(0.1)
    return float(program)


def test_several_workers_are_not_charged_for_more_than_the_machine_has() -> None:
    began = time.perf_counter()
    study = hr.discover(
        hr.one_of(*range(50)), working, trials=6, algorithm="random", engine="processes", workers=2, progress=False,
        energy=Energy(cpu_w=100.0, ram_w=20.0, intensity_g=1.0),
    )  # fmt: skip
    wall_s = time.perf_counter() - began
    trials = study.trials
    assert len(trials) == 6
    assert all(trial.energy["cpu_kwh"] * 3.6e6 >= 0.1 * 100 / CORES for trial in trials)
    assert sum(trial.energy["cpu_kwh"] for trial in trials) * 3.6e6 <= 100 * wall_s
    assert sum(trial.energy["ram_kwh"] for trial in trials) * 3.6e6 <= 20 * wall_s


def test_energy_of_a_wrong_type_or_without_codecarbon_is_refused_before_the_study(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="energy must be True, False or Energy"):
        hr.discover(hr.one_of(1, 2), float, energy=cast(Any, "yes"), progress=False)
    script = tmp_path / "missing.py"
    script.write_text(
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'codecarbon': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "import heuretic as hr\n"
        "try:\n"
        "    hr.discover(hr.one_of(1, 2), float, energy=True, progress=False, store='sqlite:///s.db')\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "energy needs codecarbon. Try: pip install 'heuretic[carbon]'\n", done.stderr


def test_failed_and_pruned_trials_are_charged() -> None:
    def evaluate(n: int, trial: hr.Trial) -> float:
        burn(0.01)
        if n % 2:
            raise ValueError("odd")
        trial.report(1, value=0.0)
        return 0.0

    study = hr.discover(
        hr.one_of(*range(4)), evaluate, trials=4, algorithm="random", progress=False, energy=Energy(cpu_w=10.0),
        prune=lambda *_: True, max_failures=10,
    )  # fmt: skip
    assert {trial.state for trial in study.trials} == {"failed", "pruned"}
    assert all(trial.energy["cpu_kwh"] > 0 for trial in study.trials)


# -- settings and factors ---------------------------------------------------------------------------------------


def test_settings_survive_json_and_pickle() -> None:
    settings = Energy(country="USA", region="california", pue=1.2, tracking="machine", cpu_w=65.0)
    assert Energy(**json.loads(json.dumps(dataclasses.asdict(settings)))) == settings
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"pue": 0.9}, "pue must be >= 1, got 0.9. Try 1.58"),
        ({"pue": math.nan}, "pue must be >= 1"),
        ({"tracking": "all"}, "tracking must be 'process' or 'machine', got 'all'"),
        ({"intensity_g": -1.0}, "intensity_g must be >= 0 or None, got -1.0"),
        ({"cpu_w": math.inf}, "cpu_w must be >= 0 or None, got inf"),
        ({"country": "GER"}, r"country must be an ISO 3166-1 alpha-3 code .* got 'GER'. Did you mean DEU \(Germany\)"),
        ({"country": "france"}, r"Did you mean FRA \(France\)"),
        ({"country": "USA", "region": "Californa"}, "got 'Californa'. Did you mean california"),
        ({"country": "DEU", "region": "bavaria"}, "region must be left out for DEU"),
        ({"region": "california"}, "region must be left out for WLD"),
        ({"factors": "no/such.toml"}, "factors must be a readable TOML file"),
    ],
)
def test_wrong_settings_are_refused_at_once(given_: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Energy(**given_)


def test_places_that_the_file_lists_agree_with_codecarbon() -> None:
    from codecarbon.core.emissions import Emissions
    from codecarbon.core.units import Energy as KWh
    from codecarbon.external.geography import GeoMetadata
    from codecarbon.input import DataSource

    lookup = Emissions(DataSource())
    for code, listed in load_factors().grid.items():
        place = GeoMetadata(country_iso_code=code, country_name=listed.name)
        assert listed.g_per_kwh == pytest.approx(1000 * lookup.get_country_emissions(KWh(1.0), place), rel=1e-9), code
    place = GeoMetadata(country_iso_code="USA", country_name="United States", region="california")
    expected = 1000 * lookup.get_private_infra_emissions(KWh(1.0), place)
    assert grid("USA", "California").g_per_kwh == pytest.approx(expected, rel=1e-9)


def test_an_edited_copy_of_the_factors_decides(tmp_path: Path) -> None:
    copy = tmp_path / "mine.toml"
    copy.write_text(BUNDLED.replace("g_per_kwh = 475.0", "g_per_kwh = 123.0"))
    assert Energy(factors=str(copy)).intensity() == 123.0
    assert Energy().intensity() == 475.0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("g_per_kwh = 475.0", "g_per_kwh = -1", r"grid.WLD.g_per_kwh = -1"),
        ("year = 2018\n", "", r"grid.WLD.year|hardware.t4.year"),
        ('machine = "h100"', 'machine = "h900"', "'h900'"),
        ("model = [3.0, 10.0]", "model = [10.0, 3.0]", "practices.model"),
        ("value = 1.58", "value = 0.58", "pue.average.value must be >= 1"),
        ("[practices]", "[practices", "readable TOML"),
        ("watts = 4.0", "watts = 4.0\ncolour = 1", "colour"),
    ],
)
def test_a_broken_copy_of_the_factors_is_refused_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in BUNDLED
    copy = tmp_path / "mine.toml"
    copy.write_text(BUNDLED.replace(old, new, 1))
    with pytest.raises(FactorsError, match=said) as caught:
        load_factors(str(copy))
    assert str(copy) in str(caught.value)


def test_every_factor_has_a_source_and_a_year() -> None:
    factors = load_factors()
    entries = [*factors.grid.values(), *factors.hardware.values(), *factors.pue.values()]
    assert len(entries) > 15
    assert all(each.source and 2000 < each.year < 2030 for each in entries)
    assert set(factors.sources) == {"practices", "comparison"}


# -- footprints -------------------------------------------------------------------------------------------------


def trial(number: int, kwh: float, score: float | None = 0.0, state: Any = "finished", **more: Any) -> TrialRecord:
    """A trial that measured its energy at PUE 1.2 and 300 g/kWh."""
    energy = {"cpu_kwh": kwh * 0.75, "gpu_kwh": 0.0, "ram_kwh": kwh * 0.25, "co2e_kg": kwh * 0.3, "pue": 1.2}
    return TrialRecord(number, state, (number,), f"{number:032x}", 0, score=score, energy=energy, **more)


STUDY = [
    trial(-1, 100.0, 9.0),  # of another study
    trial(0, 1.0, 0.5),
    trial(1, 4.0, 0.9),
    trial(2, 2.0, 0.895),
    trial(3, 3.0, None, "failed"),
    trial(4, 2.0, None, "pruned"),
]


def test_a_footprint_by_hand() -> None:
    found = footprint(STUDY, STUDY[2])
    assert (found.trials, found.finished, found.failed, found.pruned, found.measured) == (5, 3, 1, 1, 5)
    assert found.kwh == pytest.approx(12.0)
    assert found.parts == pytest.approx({"cpu_kwh": 9.0, "gpu_kwh": 0.0, "ram_kwh": 3.0})
    assert found.co2e_kg == pytest.approx(3.6)
    assert found.wasted_kwh == pytest.approx(5.0)
    assert found.kwh_per_trial == pytest.approx(2.4)
    assert found.kwh_per_finished == pytest.approx(4.0)
    assert found.winner_share == pytest.approx(4 / 12)
    assert (found.pue, found.g_per_kwh) == (pytest.approx(1.2), pytest.approx(300.0))
    model, machine, mechanisation, place = found.savings
    # Trial 2 is within 1% of the winner for half of its energy; with it at most 2 kWh for each: 1 + 2 + 2 + 2 + 2 = 9.
    assert model.kwh == pytest.approx(3.0)
    assert "trial 2" in model.because
    assert machine.factor == 2.0
    assert machine.kwh == pytest.approx(4.5)
    assert mechanisation.kwh == pytest.approx(4.5 * (1 - 1.1 / 1.2))
    assert place.kwh == 0
    assert found.left_kwh == pytest.approx(9 / 2 * 1.1 / 1.2)
    assert found.left_co2e_kg == pytest.approx(9 / 2 * 1.1 / 1.2 * 0.03008)


def test_another_building_place_and_tolerance() -> None:
    found = footprint(STUDY, STUDY[2], pue=1.8, place=grid("FRA"), tolerance=0.0)
    assert found.kwh == pytest.approx(18.0)
    assert found.co2e_kg == pytest.approx(18.0 * 0.056039)
    assert found.savings[0].factor == 1.0  # nothing else is as good as the winner, and nothing uses more
    assert found.savings[2].factor == pytest.approx(1.8 / 1.1)
    assert found.savings[3].factor == pytest.approx(56.039 / 30.08)


def test_between_accelerators_the_ratio_of_peaks_per_watt_counts() -> None:
    for name, factor in (
        ("NVIDIA A100-SXM4-80GB", 989 / 700 / (312 / 400)),
        ("NVIDIA H100 80GB HBM3", 1.0),
        ("AMD EPYC 7763", 2.0),
    ):
        found = footprint(STUDY, STUDY[2], processors=["Some CPU", name])
        assert found.savings[1].factor == pytest.approx(factor)


def test_trials_without_energy_are_estimated_and_say_so() -> None:
    bare = [TrialRecord(i, "finished", (i,), f"{i:032x}", 0, score=1.0, seconds=3600.0) for i in range(3)]
    found = footprint(bare, bare[0], watts=100.0, pue=1.5)
    assert found.kwh == found.estimated_kwh == pytest.approx(0.45)
    assert found.co2e_kg == pytest.approx(0.45 * 0.475)
    assert (found.measured, found.counted_kwh) == (0, 0.0)
    mixed = footprint([dataclasses.replace(bare[0], energy=STUDY[1].energy), *bare[1:]])
    assert mixed.watts == pytest.approx(1000 / 1.2)  # what the measured trial drew
    assert mixed.kwh == pytest.approx(3.0)
    assert mixed.estimated_kwh == pytest.approx(2.0)
    assert footprint([]).kwh == 0


@given(
    st.lists(st.tuples(st.floats(0, 1e3), st.floats(-1, 1), st.sampled_from(["finished", "failed"])), max_size=8),
    st.floats(1, 3), st.sampled_from(["WLD", "FRA", "NOR"]), st.floats(0, 0.5),
)  # fmt: skip
def test_savings_and_what_is_left_add_up(
    drawn: list[tuple[float, float, str]], pue: float, code: str, tolerance: float
) -> None:
    trials = [
        trial(i, kwh, score if state == "finished" else None, state) for i, (kwh, score, state) in enumerate(drawn)
    ]
    best = max((t for t in trials if t.score is not None), key=lambda t: t.score or 0, default=None)
    found = footprint(trials, best, pue=pue, place=grid(code), tolerance=tolerance)
    assert math.isclose(found.left_kwh + sum(s.kwh for s in found.savings), found.kwh, abs_tol=1e-9)
    assert math.isclose(found.left_co2e_kg + sum(s.co2e_kg for s in found.savings), found.co2e_kg, abs_tol=1e-9)
    assert math.isclose(sum(found.parts.values()), found.kwh, rel_tol=1e-9, abs_tol=1e-12)
    assert all(s.factor >= 1 and s.kwh >= 0 and s.co2e_kg >= 0 for s in found.savings)
    assert -1e-9 <= found.left_kwh <= found.kwh + 1e-9


@pytest.mark.parametrize(("name", "value"), [("pue", 0.5), ("tolerance", -0.1), ("watts", 0.0)])
def test_footprint_refuses_what_makes_no_sense(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        cast(Any, footprint)(STUDY, **{name: value})


def test_amounts_are_shown_with_a_unit_that_fits() -> None:
    assert [energy_text(x) for x in (0, 2.5e-10, 1 / 3.6e6, 0.0012, 1.5, 2345.0)] == [
        "0", "0.9 mJ", "1 J", "1.2 Wh", "1.5 kWh", "2.35 MWh",
    ]  # fmt: skip
    assert [mass_text(x) for x in (1e-8, 0.0021, 3.0, 4000.0)] == ["10 µg", "2.1 g", "3 kg", "4 t"]


# -- command line and report ------------------------------------------------------------------------------------

PROGRAM = """
import heuretic as hr
program = hr.one_of(1000, 2000, 3000)
settings = {"trials": 40, "maximize": "score"}
def evaluate(n):
    return {"score": float(sum(i * i for i in range(n)))}
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run `heuretic carbon` in a folder with a measured and an unmeasured study; return what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name, energy in (("measured", Energy(country="FRA", pue=1.2, cpu_w=50.0)), ("bare", False)):
        hr.discover(
            hr.one_of(1, 2, 3), lambda n: burn(0.002 * n), trials=3, algorithm="random", store="sqlite:///s.db",
            name=name, energy=energy, progress=False,
        )  # fmt: skip

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["carbon", *arguments, "--store", "sqlite:///s.db"])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.output

    return run


def test_the_command_shows_a_measured_study(command: Callable[..., str]) -> None:
    found = json.loads(command("measured", "--json"))
    study = hr.open_study("sqlite:///s.db", "measured")
    expected = sum(t.energy["cpu_kwh"] + t.energy["ram_kwh"] + t.energy["gpu_kwh"] for t in study.trials)
    assert found["kwh"] == pytest.approx(expected, rel=1e-9)
    assert found["co2e_kg"] == pytest.approx(expected * 0.056039, rel=1e-9)
    assert found["pue"] == pytest.approx(1.2)
    assert [s["practice"] for s in found["savings"]] == ["model", "machine", "mechanisation", "map"]
    text = command("measured", "--country", "DEU", "--pue", "1.58")
    assert "381 g CO2e/kWh (Germany), PUE 1.58" in text
    assert "3 of 3 trials measured" in text
    assert "ESTIMATE" not in text


def test_the_command_estimates_an_unmeasured_study_and_says_so(command: Callable[..., str]) -> None:
    text = command("bare", "--hardware", "h100")
    assert "ESTIMATE: no trial measured its energy" in text
    assert "x 700 W" in text
    found = json.loads(command("bare", "--watts", "36", "--json"))
    seconds = sum(t.seconds for t in hr.open_study("sqlite:///s.db", "bare").trials)
    assert found["kwh"] == pytest.approx(seconds * 36 / 3.6e6)
    assert found["measured"] == 0


def test_estimates_before_a_run(command: Callable[..., str], tmp_path: Path) -> None:
    options = "--seconds 3600 --watts 250 --trials 8 --workers 4 --pue 1.5 --country SWE --json"
    stated = json.loads(command("--estimate", *options.split()))
    assert stated["kwh"] == pytest.approx(3.0)
    assert stated["co2e_kg"] == pytest.approx(3.0 * 0.040695)
    assert stated["seconds"] == pytest.approx(7200.0)
    (tmp_path / "carbon_task.py").write_text(PROGRAM)
    measured = json.loads(command("--estimate", "carbon_task.py", "--measure", "2", "--json"))
    assert measured["trials"] == 40
    assert measured["kwh"] == pytest.approx(40 * measured["kwh_per_trial"])
    assert 0 <= measured["kwh_low"] <= measured["kwh"] <= measured["kwh_high"]
    assert sorted(hr.open_study("sqlite:///s.db", "bare").store.names()) == ["bare", "measured"]  # nothing is kept
    assert "ESTIMATE of 40 trials: mean of 2 measured" in command("--estimate", "carbon_task.py", "--measure", "2")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["measured", "--country", "FRAN"], "Did you mean FRA"),
        (["measured", "--pue", "0.5"], "pue must be >= 1"),
        (["bare", "--hardware", "abacus"], "hardware must be in the factors"),
        (["measured", "--factors", "none.toml"], "factors must be a readable TOML file"),
        (["--estimate"], "--estimate must have a FILE"),
        (["--estimate", "--seconds", "0"], "seconds must be > 0"),
        (["--estimate", "none.py"], "no file none.py"),
    ],
)
def test_wrong_arguments_are_one_line(command: Callable[..., str], arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        command(*arguments)


def test_the_report_shows_energy_where_there_is_some(command: Callable[..., str], tmp_path: Path) -> None:
    measured = hr.open_study("sqlite:///s.db", "measured").report(tmp_path / "m.html").read_text()
    assert 'id="energy"' in measured
    assert "power usage effectiveness of 1.2" in measured
    assert "56 g/kWh" in measured
    assert 'id="energy"' not in hr.open_study("sqlite:///s.db", "bare").report(tmp_path / "b.html").read_text()


# -- the idea ---------------------------------------------------------------------------------------------------


def comparison(metric: str, *differences: float) -> Comparison:
    return Comparison(metric, "efficient", "most accurate", differences, metric != "test_accuracy")


@pytest.mark.parametrize(
    ("accuracy", "log10", "verdict"),
    [
        (
            (0.0, 0.001, -0.001),
            (-0.5, -0.6, -0.4),
            "not testable at this scale",
        ),  # saves, but it is one practice of four
        ((-0.05, -0.051, -0.052), (-0.5, -0.6, -0.4), "not reproduced"),  # saves, but is worse
        ((0.0, 0.001, -0.001), (0.2, 0.21, 0.22), "not reproduced"),  # uses more
        ((0.0, 0.001, -0.001), (-0.2, 0.2, 0.0), "not testable at this scale"),  # undecided
    ],
)
def test_the_verdict_follows_the_rule(accuracy: tuple[float, ...], log10: tuple[float, ...], verdict: str) -> None:
    comparisons = (comparison("test_accuracy", *accuracy), comparison("log10_training_kwh", *log10))
    assert carbon.judge("small", comparisons)[0] == verdict
    assert carbon.judge("smoke", comparisons)[0] == "not testable at this scale"


def test_a_smoke_run_measures_both_choices_of_the_model() -> None:
    result = carbon.reproduce("smoke", seeds=(1, 2))
    assert result.verdict == "not testable at this scale"
    before, after = result.arms["most accurate"].measurements, result.arms["efficient"].measurements
    assert all(kwh > 0 for kwh in (*before["training_kwh"], *after["training_kwh"]))
    low = result.arms["measured model, published rest (low ends)"].measurements
    factor = before["training_kwh"][0] / after["training_kwh"][0]
    assert low["energy_factor"][0] == pytest.approx(factor * 2.0 * 1.4)
    assert low["co2e_factor"][0] == pytest.approx(factor * 2.0 * 1.4 * 5.0)


def test_the_published_factors_come_to_what_the_paper_claims() -> None:
    """100x less energy and 1000x less CO2e are the products of the upper ends of the published ranges."""
    practices: Factors = load_factors()
    energy = math.prod(practices.practices[name][1] for name in ("model", "machine", "mechanisation"))
    assert energy == pytest.approx(100.0)
    assert energy * practices.practices["map"][1] == pytest.approx(1000.0)
