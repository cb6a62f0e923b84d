"""Emission factors: how much a kWh emits where, what buildings and processors need, and where each figure is from."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any


class FactorsError(ValueError):
    """A file of emission factors cannot be read or lacks something."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The electricity of a place: grams of CO2 equivalent per kWh, with where the figure is from."""

    code: str
    name: str
    g_per_kwh: float
    source: str
    year: int


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor: watts at full load, and peak arithmetic in TFLOPS (None if unknown)."""

    code: str
    name: str
    kind: str
    watts: float
    source: str
    year: int
    tflops: float | None = None
    match: str = ""


@dataclass(frozen=True, slots=True)
class Building:
    """A kind of data centre: its power usage effectiveness."""

    code: str
    name: str
    value: float
    source: str
    year: int


@dataclass(frozen=True, slots=True)
class Factors:
    """All that `emission_factors.toml` holds.

    Attributes:
        grid, hardware, pue: By code. practices: Published ranges of what each practice saves, by its name.
        better: Which processor, building and places stand for the better choice.
        comparison: Name of what emissions are compared with, and its kg of CO2 equivalent.
        sources: Of the practices and the comparison. place: Where the file is.
    """

    grid: Mapping[str, Grid]
    hardware: Mapping[str, Processor]
    pue: Mapping[str, Building]
    practices: Mapping[str, tuple[float, float]]
    better_machine: Processor
    better_building: Building
    better_places: tuple[Grid, ...]
    comparison: tuple[str, float]
    sources: Mapping[str, str]
    place: str


PRACTICES = ("model", "machine", "mechanisation", "map")


def load_factors(path: str | None = None) -> Factors:
    """Return the factors of a file; by default those that come with the package.

    Raises: FactorsError if the file cannot be read, or a figure, its source or its year is missing or makes no sense.
    """
    return _load(None if path is None else str(Path(path).resolve()))


@lru_cache(maxsize=8)
def _load(path: str | None) -> Factors:
    try:
        if path is None:
            text = (files("heuretic.study") / "emission_factors.toml").read_text(encoding="utf-8")
        else:
            text = Path(path).read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FactorsError(f"factors must be a readable TOML file, got {error}, at {path}") from None
    place = path or "emission_factors.toml"
    try:
        grids = {code: Grid(code, **_entry(data, "grid", code, "g_per_kwh")) for code in data["grid"]}
        hardware = {code: Processor(code, **_entry(data, "hardware", code, "watts")) for code in data["hardware"]}
        buildings = {code: Building(code, **_entry(data, "pue", code, "value")) for code in data["pue"]}
        practices = {name: _range(name, data["practices"][name]) for name in PRACTICES}
        better, comparison = data["better"], data["comparison"]
        found = Factors(
            grid=grids, hardware=hardware, pue=buildings, practices=practices, better_machine=hardware[better["machine"]],
            better_building=buildings[better["mechanisation"]],
            better_places=tuple(sorted((grids[code] for code in better["map"]), key=lambda g: g.g_per_kwh)),
            comparison=(comparison["name"], _positive("comparison.kg_co2e", comparison["kg_co2e"])),
            sources={part: f"{data[part]['source']} ({data[part]['year']})" for part in ("practices", "comparison")},
            place=place,
        )  # fmt: skip
    except KeyError as error:
        raise FactorsError(
            f"factors must have {error}, got none, at {place}. Try an edited copy of the whole file"
        ) from None
    except (TypeError, ValueError, AttributeError) as error:
        raise FactorsError(
            f"factors must follow the file that comes with the package, got {error}, at {place}"
        ) from None
    if not found.better_places:
        raise FactorsError(f"factors must name places in better.map, got none, at {place}")
    for each in buildings.values():
        if each.value < 1:
            raise FactorsError(f"pue.{each.code}.value must be >= 1, got {each.value}, at {place}")
    return found


def _entry(data: Mapping[str, Any], part: str, code: str, figure: str) -> dict[str, Any]:
    entry = dict(data[part][code])
    for name in ("name", "source", "year", figure):
        if name not in entry:
            raise KeyError(f"{part}.{code}.{name}")
    for name in (figure, *(["tflops"] if "tflops" in entry else [])):
        entry[name] = _positive(f"{part}.{code}.{name}", entry[name])
    return entry


def _range(name: str, given: Any) -> tuple[float, float]:
    low, high = (_positive(f"practices.{name}", value) for value in given)
    if not 1 <= low <= high:
        raise ValueError(f"practices.{name} = {given}, which must be two factors >= 1, the smaller first")
    return low, high


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{name} = {value!r}, which must be a number > 0")
    return float(value)


def grid(country: str, region: str | None = None, factors: Factors | None = None) -> Grid:
    """Return the electricity of a country, or of a part of it.

    The file of factors comes first, under CODE or CODE/region; what it does not list is looked up in codecarbon.

    Raises: ValueError if codecarbon knows no such place, with those that are spelt alike; ImportError if the place is
        not in the file and codecarbon is missing.
    """
    factors = factors or load_factors()
    code = country if region is None else f"{country}/{region}"
    return factors.grid.get(code) or _codecarbon_grid(country, region, factors)


def _codecarbon_grid(country: str, region: str | None, factors: Factors) -> Grid:
    try:
        from codecarbon._version import __version__ as version
        from codecarbon.core.emissions import Emissions
        from codecarbon.core.units import Energy as KWh
        from codecarbon.external.geography import GeoMetadata
        from codecarbon.input import DataSource
    except ImportError:
        raise ImportError(
            f"the electricity of {country!r} is looked up in codecarbon. Try: pip install 'heuretic[carbon]', or one of "
            f"{', '.join(factors.grid)}"
        ) from None
    tables = DataSource()
    countries = tables.get_global_energy_mix_data()
    if country not in countries:
        if region is None or country not in factors.grid:
            known = {code: entry["country_name"] for code, entry in countries.items()}
            known.update({code: entry.name for code, entry in factors.grid.items()})
            raise ValueError(
                f"country must be an ISO 3166-1 alpha-3 code with known electricity, got {country!r}"
                f"{_close(country, known)}"
            )
        raise ValueError(f"region must be left out for {country}, got {region!r}")
    entry = countries[country]
    lookup = Emissions(tables)  # no token, so nothing is asked over the network
    source = f"codecarbon {version}"
    if region is None:
        place = GeoMetadata(country_iso_code=country, country_name=entry["country_name"])
        return Grid(
            country, entry["country_name"], lookup.get_country_emissions(KWh(1.0), place) * 1000,
            f"{source}, global_energy_mix.json", int(entry["year"]),
        )  # fmt: skip
    regions = _regions(country, tables)
    key = next((known for known in regions if known.lower() == region.lower()), None)
    if key is None:
        if not regions:
            raise ValueError(f"region must be left out for {country}, of which only the whole is known, got {region!r}")
        raise ValueError(
            f"region must be a part of {country} that codecarbon knows, got {region!r}"
            f"{_close(region, {name: name for name in regions})}"
        )
    place = GeoMetadata(country_iso_code=country, country_name=entry["country_name"], region=key)
    kg = lookup.get_region_emissions(KWh(1.0), place)
    return Grid(f"{country}/{key}", f"{key}, {entry['country_name']}", kg * 1000, f"{source}, regional data", 2023)


def _regions(country: str, tables: Any) -> list[str]:
    """Return the parts of a country that codecarbon has figures for."""
    if country == "USA":
        return [name for name, entry in tables.get_country_emissions_data("usa").items() if "emissions" in entry]
    if country == "CAN":
        return list(tables.get_country_energy_mix_data("can"))
    if country == "CHN":
        provinces = tables.get_china_provincial_emissions_data()["data"].values()
        return [name for province in provinces for name in province["names"]]
    zones = {"SWE": "SE", "NOR": "NO", "FIN": "FI"}.get(country)
    known = tables.get_nordic_country_energy_mix_data()["data"]
    return [name for name in known if zones and name.startswith(zones)]


def _close(given: str, known: Mapping[str, str]) -> str:
    """Return what was probably meant, by code or by name."""
    by_name = {name.lower(): code for code, name in known.items()}
    found = [code for name, code in by_name.items() if len(given) > 1 and name.startswith(given.lower())]
    found += get_close_matches(given.upper(), list(known), 2, 0.6)
    found += [by_name[name] for name in get_close_matches(given.lower(), list(by_name), 2, 0.7)]
    close = [code if known[code] == code else f"{code} ({known[code]})" for code in dict.fromkeys(found)]
    return f". Did you mean {', '.join(close[:4])}?" if close else ""
