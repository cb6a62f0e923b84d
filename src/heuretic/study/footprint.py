"""What a study consumed and emitted, and what better choices of model, machine, mechanisation and map would save."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from heuretic.study.emissions import Building, Factors, Grid, Processor, load_factors
from heuretic.study.records import TrialRecord

PARTS = ("cpu_kwh", "gpu_kwh", "ram_kwh")


@dataclass(frozen=True, slots=True)
class Saving:
    """What one practice would save, after those before it.

    Attributes:
        practice: model, machine, mechanisation or map. factor: By how much it divides what was left, >= 1.
        kwh, co2e_kg: What it saves. because: What it would change, and where the factor is from.
        published: The range of factors that the paper gives.
    """

    practice: str
    factor: float
    kwh: float
    co2e_kg: float
    because: str
    published: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Energy in kWh and emissions in kg of CO2 equivalent.

    Attributes:
        trials, finished, failed, pruned: How many. measured: How many of them brought energy of their own.
        parts: Energy by "cpu_kwh", "gpu_kwh" and "ram_kwh"; of estimated trials all is "estimated_kwh".
        kwh: Their sum. counted_kwh: The part of it that counters in the hardware gave. estimated_kwh: The part that is
            only seconds times a stated power; the rest is codecarbon's model of processors and memory.
        co2e_kg: Emissions. wasted_kwh: Energy of failed and pruned trials. winner, winner_kwh: The best trial and its
            energy; None if there is none.
        seconds: Time of all evaluations together. watts: The stated power of estimated trials.
        pue: Power usage effectiveness, which the energy includes. g_per_kwh: Grams of CO2 equivalent per kWh.
        place: Where, if that was said.
        savings: In the order model, machine, mechanisation, map: each takes its part of what those before it leave.
        left_kwh, left_co2e_kg: What remains after all of them.
        compared: What the emissions compare with, as (amount, name, source).
    """

    trials: int
    finished: int
    failed: int
    pruned: int
    measured: int
    parts: Mapping[str, float]
    kwh: float
    counted_kwh: float
    estimated_kwh: float
    co2e_kg: float
    wasted_kwh: float
    winner: int | None
    winner_kwh: float | None
    seconds: float
    watts: float
    pue: float
    g_per_kwh: float
    place: str
    savings: tuple[Saving, ...]
    left_kwh: float
    left_co2e_kg: float
    compared: tuple[float, str, str]
    factors: str = field(default="emission_factors.toml")

    @property
    def kwh_per_trial(self) -> float:
        """Mean energy of a trial, 0 if there is none."""
        return self.kwh / self.trials if self.trials else 0.0

    @property
    def kwh_per_finished(self) -> float | None:
        """All energy divided by the trials that finished; None if none did."""
        return self.kwh / self.finished if self.finished else None

    @property
    def winner_share(self) -> float | None:
        """Which part of the energy went into the best trial."""
        return self.winner_kwh / self.kwh if self.winner_kwh is not None and self.kwh else None

    def record(self) -> dict[str, Any]:
        """Return everything as plain data."""
        own = {
            "kwh_per_trial": self.kwh_per_trial,
            "kwh_per_finished": self.kwh_per_finished,
            "winner_share": self.winner_share,
        }
        return {**asdict(self), **own}


def footprint(
    trials: Iterable[TrialRecord],
    best: TrialRecord | None = None,
    *,
    place: Grid | None = None,
    pue: float | None = None,
    factors: Factors | None = None,
    watts: float | None = None,
    processors: Sequence[str] = (),
    tolerance: float = 0.01,
) -> Footprint:
    """Return what trials consumed and emitted, and what the four practices would save.

    Args:
        trials: Trials without energy of their own are estimated as seconds x `watts`. best: The winner among them.
        place, pue: Where it ran, in what kind of building; by default as it was measured, else the world average and 1.
            Energy that was measured with another `pue` is converted.
        watts: Power while an evaluation runs, of trials without energy of their own. Default: that of those with, else
            one core of a server.
        processors: Names of the processors it ran on, to look them up in the factors.
        tolerance: How much worse than the winner a cheaper model may be, as a fraction of the winner's score.

    Raises: ValueError if an argument is out of range.
    """
    if pue is not None and not 1 <= pue < math.inf:
        raise ValueError(f"pue must be >= 1, got {pue}. Try 1.58, the average data centre")
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be >= 0, got {tolerance}")
    if watts is not None and not 0 < watts < math.inf:
        raise ValueError(f"watts must be > 0, got {watts}")
    table = factors or load_factors()
    own = [trial for trial in trials if trial.number >= 0]  # negative numbers are trials of other studies
    world = table.grid["WLD"]
    measured = [trial for trial in own if trial.energy]
    known_g = _mean(((t.energy.get("co2e_kg", 0.0) * 1000, _kwh(t)) for t in measured), world.g_per_kwh)
    known_pue = _mean(((t.energy.get("pue", 1.0) * _kwh(t), _kwh(t)) for t in measured), 1.0)
    parts: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    drawn = ((_kwh(t) / t.energy.get("pue", 1.0) * 3.6e6, t.seconds) for t in measured)
    stated_w = _mean(drawn, table.hardware["cpu-core"].watts) if watts is None else watts
    spent: dict[int, float] = {}
    co2e = counted = estimated = 0.0
    for trial in own:
        if trial.energy:
            scale = 1.0 if pue is None else pue / trial.energy.get("pue", 1.0)
            kwh = _kwh(trial) * scale
            for part in PARTS:
                parts[part] += trial.energy.get(part, 0.0) * scale
            counted += trial.energy.get("counted_kwh", 0.0) * scale
            emitted = trial.energy.get("co2e_kg", 0.0) * scale if place is None else kwh * place.g_per_kwh / 1000
        else:
            kwh = trial.seconds * stated_w / 3.6e6 * (known_pue if pue is None else pue)
            estimated += kwh
            emitted = kwh * (known_g if place is None else place.g_per_kwh) / 1000
        spent[trial.number] = kwh
        co2e += emitted
    if estimated:
        parts["estimated_kwh"] = estimated
    total = math.fsum(spent.values())
    used_g = known_g if place is None else place.g_per_kwh
    used_pue = known_pue if pue is None else pue
    savings = _savings(own, best, spent, co2e, used_g, used_pue, table, processors, tolerance)
    amount = co2e / table.comparison[1]
    return Footprint(
        trials=len(own), finished=sum(t.state == "finished" for t in own), failed=sum(t.state == "failed" for t in own),
        pruned=sum(t.state == "pruned" for t in own), measured=len(measured), parts=parts, kwh=total, counted_kwh=counted,
        estimated_kwh=estimated, co2e_kg=co2e, wasted_kwh=sum(spent[t.number] for t in own if t.state != "finished"),
        winner=None if best is None else best.number, winner_kwh=None if best is None else spent.get(best.number),
        seconds=sum(t.seconds for t in own), watts=stated_w, pue=used_pue, g_per_kwh=used_g,
        place="as measured" if place is None and measured else (place or world).name, savings=savings,
        left_kwh=total - sum(s.kwh for s in savings), left_co2e_kg=co2e - sum(s.co2e_kg for s in savings),
        compared=(amount, table.comparison[0], table.sources["comparison"]), factors=table.place,
    )  # fmt: skip


def _kwh(trial: TrialRecord) -> float:
    return sum(trial.energy.get(part, 0.0) for part in PARTS)


def _mean(weighted: Iterable[tuple[float, float]], otherwise: float) -> float:
    """Return the sum of the first divided by the sum of the second."""
    pairs = list(weighted)
    weight = math.fsum(w for _, w in pairs)
    return math.fsum(v for v, _ in pairs) / weight if weight > 0 else otherwise


def _savings(
    own: Sequence[TrialRecord], best: TrialRecord | None, spent: Mapping[int, float], co2e_kg: float, g_per_kwh: float,
    pue: float, table: Factors, processors: Sequence[str], tolerance: float,
) -> tuple[Saving, ...]:  # fmt: skip
    """Return the four savings, each of what is left by those before it, so that they add up."""
    total = math.fsum(spent.values())
    chosen = [
        ("model", *_model(own, best, spent, total, tolerance)),
        ("machine", *_machine(table, processors)),
        ("mechanisation", *_mechanisation(pue, table.better_building)),
        ("map", *_map(g_per_kwh, table.better_places)),
    ]
    left, left_co2e, savings = total, co2e_kg, []
    for practice, factor, because in chosen:
        kept = 1 / factor
        kwh = 0.0 if practice == "map" else left * (1 - kept)  # a cleaner place uses as much energy
        emitted = left_co2e * (1 - kept)
        savings.append(Saving(practice, factor, kwh, emitted, because, table.practices[practice]))
        left, left_co2e = left - kwh, left_co2e - emitted
    return tuple(savings)


def _model(
    own: Sequence[TrialRecord], best: TrialRecord | None, spent: Mapping[int, float], total: float, tolerance: float
) -> tuple[float, str]:
    """Every trial at most as expensive as the cheapest one that is about as good as the winner."""
    if best is None or best.score is None or best.number not in spent:
        return 1.0, "no trial is known to be good yet"
    allowed = best.score - tolerance * abs(best.score)
    good = [t for t in own if t.score is not None and t.score >= allowed and t.violation <= best.violation]
    cheapest = min(good, key=lambda t: (spent[t.number], t.number))
    level = spent[cheapest.number]
    reduced = math.fsum(min(kwh, level) for kwh in spent.values())
    near = f"within {100 * tolerance:g}% of the winner"
    if reduced <= 0 or reduced >= total:
        return 1.0, f"no trial used more than trial {cheapest.number}, the cheapest {near}"
    if cheapest.number == best.number:
        return total / reduced, f"no trial more expensive than the winner (trial {best.number})"
    ratio = spent[best.number] / level if level else math.inf
    return (
        total / reduced,
        f"no trial more expensive than trial {cheapest.number}: {near}, for 1/{ratio:.3g} of its energy",
    )


def _machine(table: Factors, processors: Sequence[str]) -> tuple[float, str]:
    """Between accelerators the ratio of peaks per watt; instead of a general processor, the low end of the paper's."""
    better = table.better_machine
    here = processor_of(table, processors)
    if here is not None and here.kind == better.kind and here.tflops and better.tflops:
        ratio = better.tflops / better.watts / (here.tflops / here.watts)
        if ratio <= 1:
            return 1.0, f"{here.name} is as good as any in the file"
        return ratio, f"{better.name} for {here.name}: peak per watt by data sheets, an upper bound"
    name = here.name if here else next(iter(processors), "an unknown processor")
    return table.practices["machine"][0], f"a processor for machine learning for {name}: low end of the published range"


def processor_of(table: Factors, names: Sequence[str]) -> Processor | None:
    """Return the processor in the factors that one of these names means; accelerators first."""
    ordered = sorted(table.hardware.values(), key=lambda p: p.kind == "cpu")
    for each in ordered:
        if any(each.code == name or (each.match and each.match.lower() in name.lower()) for name in names):
            return each
    return None


def _mechanisation(pue: float, better: Building) -> tuple[float, str]:
    if pue == 1:
        return 1.0, "pue is 1, the computer alone: give --pue, such as 1.58 for an average data centre"
    if pue <= better.value:
        return 1.0, f"pue {pue:g} is as good as {better.name} ({better.value:g})"
    return pue / better.value, f"{better.name}: pue {better.value:g} for {pue:g}"


def _map(g_per_kwh: float, places: Sequence[Grid]) -> tuple[float, str]:
    listed = ", ".join(f"{place.name} {place.g_per_kwh:.0f}" for place in places[:3])
    best = places[0]
    if g_per_kwh <= best.g_per_kwh:
        return 1.0, f"{g_per_kwh:.0f} g/kWh is as good as the best listed ({listed})"
    return g_per_kwh / best.g_per_kwh, f"g/kWh: {listed} for {g_per_kwh:.0f}"
