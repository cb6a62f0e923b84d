"""Energy and emissions in a report, and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heuretic.study.footprint import Footprint, footprint
from heuretic.study.report_text import duration_text, esc

if TYPE_CHECKING:
    from heuretic.study.report_page import Page

_PARTS = {"cpu_kwh": "Processors", "gpu_kwh": "GPUs", "ram_kwh": "Memory", "estimated_kwh": "Estimated"}


def energy_section(page: Page) -> str:
    """Return what the study consumed and emitted, as HTML; "" if no trial measured its energy."""
    if not any(trial.energy for trial in page.trials):
        return ""
    environments = page.study.environments.values()
    shown = footprint(page.trials, page.best, processors=[e["processor"] for e in environments if "processor" in e])
    rows = [(_PARTS[part], kwh) for part, kwh in shown.parts.items() if kwh]
    rows.append(("A trial, mean", shown.kwh_per_trial))
    if shown.wasted_kwh:
        rows.append((f"Failed ({shown.failed}) and pruned ({shown.pruned})", shown.wasted_kwh))
    if shown.winner_kwh is not None:
        rows.append((f"The winner (trial {shown.winner})", shown.winner_kwh))
    body = "".join(
        f'<tr><th scope="row">{esc(label)}</th><td class="n">{energy_text(kwh)}</td>'
        f'<td class="n">{100 * kwh / (shown.kwh or 1):.3g}%</td></tr>'
        for label, kwh in rows
    )
    savings = [each for each in shown.savings if each.factor > 1]
    practices = "".join(
        f'<tr><th scope="row">{esc(each.practice.capitalize())}</th><td class="n">{each.factor:.3g}×</td>'
        f'<td class="n">{energy_text(each.kwh)}</td><td class="n">{mass_text(each.co2e_kg)}</td></tr>'
        for each in savings
    )
    how = "".join(f"<li>{esc(each.practice.capitalize())}: {esc(each.because)}.</li>" for each in savings)
    wide = '<div class="wide" tabindex="0" role="region" aria-label="{}"><table>{}</table></div>'
    return (
        f"<p><strong>{energy_text(shown.kwh)}</strong> of electricity, <strong>{mass_text(shown.co2e_kg)}</strong> of CO2 "
        f"equivalent, at {shown.g_per_kwh:.0f} g/kWh and a power usage effectiveness of {shown.pue:.3g}"
        f'{esc(compared_text(shown.compared))}.</p><p class="soft">{esc(how_text(shown))}</p>'
        + wide.format(
            "Energy by part",
            '<thead><tr><th scope="col">Part</th><th scope="col" class="n">Energy</th><th scope="col" class="n">Of all</th></tr>'
            f"</thead><tbody>{body}</tbody>",
        )
        + "<h3>What would save</h3>"
        + wide.format(
            "What would save",
            '<thead><tr><th scope="col">Practice</th><th scope="col" class="n">Factor</th>'
            '<th scope="col" class="n">Energy</th><th scope="col" class="n">CO2e</th></tr></thead>'
            f"<tbody>{practices}</tbody>",
        )
        + f'<ul>{how}</ul><p class="soft">All four: {esc(combined_text(shown))}. Factors and their sources: '
        "emission_factors.toml; on the command line: heuretic carbon.</p>"
    )


def how_text(shown: Footprint) -> str:
    """Return in words how the energy came about."""
    if not shown.trials:
        return "No trials yet."
    if not shown.measured:
        return (
            f"ESTIMATE: no trial measured its energy. {duration_text(shown.seconds)} of evaluations x {shown.watts:g} W. "
            "Next time: hr.discover(..., energy=True)"
        )
    said = f"{shown.measured} of {shown.trials} trials measured; {100 * shown.counted_kwh / (shown.kwh or 1):.0f}% by counters in the hardware"
    modelled = shown.kwh - shown.counted_kwh - shown.estimated_kwh
    if modelled > 1e-9 * shown.kwh:
        said += f", {100 * modelled / shown.kwh:.0f}% modelled from CPU time and memory"
    if shown.estimated_kwh:
        said += f", {100 * shown.estimated_kwh / shown.kwh:.0f}% ESTIMATED from seconds x {shown.watts:.3g} W"
    return said + "."


def combined_text(shown: Footprint) -> str:
    """Return in words what the four practices come to."""
    energy = shown.kwh / shown.left_kwh if shown.left_kwh else 1.0
    emitted = shown.co2e_kg / shown.left_co2e_kg if shown.left_co2e_kg else 1.0
    return f"{energy:.3g}x less energy and {emitted:.3g}x less CO2e; each takes its part of what those before it leave"


def compared_text(compared: tuple[float, str, str]) -> str:
    """Return what an amount of emissions compares with; nothing where it is too small to be imagined."""
    amount, name, _ = compared
    return f", about as much as {amount:.2g} {name}" if amount >= 0.001 else ""


def energy_text(kwh: float) -> str:
    """Return energy with a unit in which it can be read."""
    return _with_unit(kwh, (("MWh", 1e3), ("kWh", 1.0), ("Wh", 1e-3), ("J", 1 / 3.6e6), ("mJ", 1 / 3.6e9)))


def mass_text(kg: float) -> str:
    """Return a mass with a unit in which it can be read."""
    return _with_unit(kg, (("t", 1e3), ("kg", 1.0), ("g", 1e-3), ("mg", 1e-6), ("µg", 1e-9)))


def _with_unit(value: float, units: tuple[tuple[str, float], ...]) -> str:
    if value <= 0:
        return "0"
    unit, size = next((each for each in units if value >= each[1]), units[-1])
    amount = value / size
    return f"{amount:,.0f} {unit}" if amount >= 999.5 else f"{amount:.3g} {unit}"
