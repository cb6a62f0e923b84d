"""`heuretic carbon`: what a study consumed and emitted, what better choices would save, and estimates before a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from heuretic.cli.files import UsageError, load_module
from heuretic.study.emissions import Factors, Grid, grid, load_factors
from heuretic.study.footprint import Footprint, footprint, processor_of
from heuretic.study.report_energy import combined_text, compared_text, energy_text, how_text, mass_text
from heuretic.study.report_text import duration_text

DEFAULT_STORE = "sqlite:///heuretic.db"


def carbon(
    target: Annotated[
        str | None,
        typer.Argument(metavar="STUDY|FILE", help="The study; may be left out if there is only one. With --estimate a Python file, as for discover."),
    ] = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="Estimate a run before it: measure a few evaluations of FILE, or take --seconds.")] = False,
    store: Annotated[str, typer.Option(envvar="HEURETIC_STORE", help="Where studies live.")] = DEFAULT_STORE,
    country: Annotated[str | None, typer.Option(help="ISO code such as FRA, or WLD for the world average. Default: as measured.")] = None,
    region: Annotated[str | None, typer.Option(help="Part of the country, such as california.")] = None,
    pue: Annotated[float | None, typer.Option(help="Power usage effectiveness of the building. Default: as measured.")] = None,
    watts: Annotated[float | None, typer.Option(help="Power of one evaluation at work, where nothing was measured.")] = None,
    hardware: Annotated[str | None, typer.Option(help="What it runs on: a code of the factors, such as h100, or a processor's name.")] = None,
    tolerance: Annotated[float, typer.Option(help="How much worse than the winner a cheaper model may be, as a fraction.")] = 0.01,
    trials: Annotated[int | None, typer.Option(min=1, help="Of an estimate: how many trials. Default: the file's, else 100.")] = None,
    measure: Annotated[int, typer.Option(min=1, help="Of an estimate: evaluations of FILE to measure.")] = 3,
    seconds: Annotated[float | None, typer.Option(help="Of an estimate: seconds of one evaluation, instead of measuring.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Of an estimate: evaluations at once; they change the time, not the energy.")] = 1,
    factors: Annotated[Path | None, typer.Option(help="An edited copy of emission_factors.toml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text for people.")] = False,
) -> None:  # fmt: skip
    """Show a study's energy and emissions, and what a better model, machine, building and place would save."""
    try:
        table = load_factors(None if factors is None else str(factors))
        place = grid(country or "WLD", region, table) if country or region else None
        if estimate:
            given = (target, trials, measure, seconds, workers)
            found = _estimate(*given, place, pue, watts, hardware, table)
            print(json.dumps(found)) if as_json else _print_estimate(found, table)
            return
        shown, name = _of_study(target, store, place, pue, watts, hardware, tolerance, table)
    except (ImportError, ValueError) as error:
        raise UsageError(str(error)) from None
    print(json.dumps({"study": name, **shown.record()})) if as_json else print_footprint(shown, name)


def _of_study(
    name: str | None, store: str, place: Grid | None, pue: float | None, watts: float | None, hardware: str | None,
    tolerance: float, table: Factors,
) -> tuple[Footprint, str]:  # fmt: skip
    from heuretic.cli.study import _open
    from heuretic.study import open_study

    study = open_study(_open(store), name)
    names = [hardware] if hardware else [facts.get("processor", "") for facts in study.environments.values()]
    found = footprint(
        study.store.trials(study.name), study.best, place=place, pue=pue, factors=table, watts=_watts(watts, hardware, table),
        processors=[each for each in names if each], tolerance=tolerance,
    )  # fmt: skip
    return found, study.name


def _watts(watts: float | None, hardware: str | None, table: Factors) -> float | None:
    """Return the stated power; of a processor in the factors, its own."""
    if watts is not None or hardware is None:
        return watts
    known = processor_of(table, [hardware])
    if known is None:
        raise ValueError(
            f"hardware must be in the factors ({', '.join(table.hardware)}), got {hardware!r}. Try --watts"
        )
    return known.watts


def print_footprint(shown: Footprint, name: str) -> None:
    """Print a study's energy and emissions as tables."""
    console = Console(highlight=False)
    console.print(f"[bold]{escape(name)}[/]  {energy_text(shown.kwh)}  {mass_text(shown.co2e_kg)} CO2e", soft_wrap=True)
    console.print(
        f"{shown.g_per_kwh:.0f} g CO2e/kWh ({shown.place}), PUE {shown.pue:g}{compared_text(shown.compared)}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    console.print(how_text(shown), markup=False, soft_wrap=True)
    table = Table("energy", "", "of all", box=None, header_style="bold")
    rows = [
        (part.removesuffix("_kwh").upper() if part != "estimated_kwh" else "estimated", kwh)
        for part, kwh in shown.parts.items()
    ]
    rows += [("a trial, mean", shown.kwh_per_trial)]
    if shown.kwh_per_finished is not None:
        rows += [(f"all, by {shown.finished} finished", shown.kwh_per_finished)]
    rows += [(f"failed ({shown.failed}) and pruned ({shown.pruned})", shown.wasted_kwh)]
    if shown.winner_kwh is not None:
        rows += [(f"the winner (trial {shown.winner})", shown.winner_kwh)]
    for label, kwh in rows:
        table.add_row(label, energy_text(kwh), f"{100 * kwh / shown.kwh:.1f}%" if shown.kwh else "")
    console.print(table)
    saved = Table("what would save", "by", "energy", "CO2e", "in the paper", box=None, header_style="bold")
    for each in shown.savings:
        low, high = each.published
        saved.add_row(
            each.practice, f"{each.factor:.3g}x", energy_text(each.kwh), mass_text(each.co2e_kg), f"{low:g}x to {high:g}x"
        )  # fmt: skip
    less_kwh, less_kg = shown.kwh - shown.left_kwh, shown.co2e_kg - shown.left_co2e_kg
    saved.add_row("all four", "", energy_text(less_kwh), mass_text(less_kg), style="bold")
    console.print(saved)
    for each in shown.savings:
        console.print(f"  {each.practice}: {each.because}", markup=False, soft_wrap=True)
    console.print(f"  all four: {combined_text(shown)}", markup=False, soft_wrap=True)


def _estimate(
    file: str | None, trials: int | None, measure: int, seconds: float | None, workers: int, place: Grid | None,
    pue: float | None, watts: float | None, hardware: str | None, table: Factors,
) -> dict[str, Any]:  # fmt: skip
    """Return what a run would consume: by the mean of a few measured evaluations, or by seconds x watts."""
    where = place or table.grid["WLD"]
    overhead = 1.0 if pue is None else pue
    if not 1 <= overhead < math.inf:
        raise ValueError(f"pue must be >= 1, got {pue}. Try 1.58, the average data centre")
    if seconds is not None:
        if not 0 < seconds < math.inf:
            raise ValueError(f"seconds must be > 0, got {seconds}")
        stated = _watts(watts, hardware, table) or table.hardware["cpu-core"].watts
        if stated <= 0:
            raise ValueError(f"watts must be > 0, got {stated}")
        each, spans, low, high = [seconds * stated / 3.6e6 * overhead], [seconds], None, None
        how, count = f"{seconds:g} s x {stated:g} W a trial, as stated", trials or 100
    elif file is None:
        raise ValueError("--estimate must have a FILE to measure, or --seconds (and --watts or --hardware)")
    else:
        each, spans, planned = _measure(Path(file), measure, overhead)
        count = trials or planned
        low, high = _interval(each)
        how = f"mean of {len(each)} measured evaluations of random programs"
    mean = sum(each) / len(each)
    total = mean * count
    return {
        "trials": count, "workers": workers, "how": how, "seconds": sum(spans) / len(spans) * count / workers,
        "kwh_per_trial": mean, "kwh": total, "kwh_low": None if low is None else low * count,
        "kwh_high": None if high is None else high * count, "co2e_kg": total * where.g_per_kwh / 1000,
        "g_per_kwh": where.g_per_kwh, "place": where.name, "source": where.source, "year": where.year, "pue": overhead,
        "estimate": True,
    }  # fmt: skip


def _measure(file: Path, count: int, pue: float) -> tuple[list[float], list[float], int]:
    """Evaluate a few random programs of a file in memory; return the kWh and seconds of each, and the trials planned."""
    from heuretic.search import RandomSearch
    from heuretic.study import discover
    from heuretic.study.energy import Energy

    module = load_module(file)
    missing = [n for n in ("program", "evaluate") if not hasattr(module, n)]
    if missing:
        raise ValueError(f"{file} must define {' and '.join(missing)}")
    settings = dict(getattr(module, "settings", {}))
    # What decides how a candidate is chosen and judged stays; what decides where and how long it runs does not.
    kept = {name: settings[name] for name in ("maximize", "minimize", "limits", "seed") if name in settings}
    study = discover(
        module.program,
        module.evaluate,
        algorithm=RandomSearch(),
        trials=count,
        energy=Energy(pue=pue),
        progress=False,
        **kept,
    )
    done = [trial for trial in study.trials if trial.energy]
    if not done:
        raise ValueError(f"{file} must have a program that can be evaluated, got no trial")
    failed = [trial for trial in done if trial.state == "failed"]
    if len(failed) == len(done):
        raise ValueError(
            f"{file} must have evaluations that succeed, got: {(failed[-1].error or '').strip().splitlines()[-1]}"
        )
    kwh = [sum(t.energy[part] for part in ("cpu_kwh", "gpu_kwh", "ram_kwh")) for t in done]
    return kwh, [trial.seconds for trial in done], settings.get("trials") or 100


def _interval(values: list[float]) -> tuple[float | None, float | None]:
    """Return the 95% t interval of the mean; nothing for one value."""
    from heuretic.ideas.result import estimate

    found = estimate(values)
    return (None if found.low is None else max(0.0, found.low)), found.high


def _print_estimate(found: dict[str, Any], table: Factors) -> None:
    console = Console(highlight=False)
    between = ""
    if found["kwh_high"] is not None:
        between = f" (95%: {energy_text(found['kwh_low'])} to {energy_text(found['kwh_high'])})"
    console.print(f"[bold]ESTIMATE[/] of {found['trials']:,} trials: {found['how']}", soft_wrap=True)
    name, kg = table.comparison
    rows = {
        "energy": f"{energy_text(found['kwh'])}{between}",
        "CO2e": mass_text(found["co2e_kg"]) + compared_text((found["co2e_kg"] / kg, name, "")),
        "time": f"{duration_text(found['seconds'])} with {found['workers']} at once",
        "electricity": f"{found['g_per_kwh']:.0f} g CO2e/kWh, {found['place']} {found['year']} ({found['source']})",
        "building": f"PUE {found['pue']:g}",
    }
    grid_table = Table(box=None, show_header=False)
    for label, text in rows.items():
        grid_table.add_row(label, escape(text))
    console.print(grid_table)
