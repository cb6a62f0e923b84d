"""Energy and emissions of evaluations, measured by codecarbon in offline mode."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Energy:
    """How energy is measured and turned into emissions."""

    country: str = "WLD"
    pue: float = 1.0


class Meter:
    """Measures one evaluation at a time in the process that runs it."""

    def __init__(self, settings: Energy) -> None:
        self.settings = settings

    def start(self) -> None:
        """Begin an evaluation."""

    def stop(self) -> dict[str, float]:
        """End it; return kWh by part and kg of CO2e."""
        return {}
