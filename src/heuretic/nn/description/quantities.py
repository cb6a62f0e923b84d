"""Numbers and bytes as people read them."""


def decimal(number: float) -> str:
    """Return a count in three digits: 999, 4.01 k, 5.29 M, 386 M, 1.82 G."""
    return _scaled(number, 1000, ("", " k", " M", " G", " T", " P"))


def binary(size: float) -> str:
    """Return bytes in three digits: 999 B, 12 KiB, 82.4 MiB."""
    return _scaled(size, 1024, (" B", " KiB", " MiB", " GiB", " TiB", " PiB"))


def percent(part: float, whole: float) -> str:
    """Return a share: 12%, <1%, or nothing for nothing."""
    if not part or not whole:
        return ""
    rounded = f"{100 * part / whole:.0f}%"
    return "<1%" if rounded == "0%" else rounded


def _scaled(number: float, base: int, units: tuple[str, ...]) -> str:
    value, unit = float(number), 0
    while value >= base - 0.5 and unit < len(units) - 1:
        value, unit = value / base, unit + 1
    return (f"{value:.0f}" if unit == 0 or value >= 99.95 else f"{value:.3g}") + units[unit]
