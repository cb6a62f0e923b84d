"""Progress of a training: one live line in a terminal, a plain line now and then elsewhere; silent for two seconds."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import Any

SILENT_S, REFRESH_S, PLAIN_S = 2.0, 0.2, 10.0


class Progress:
    """Shows step, loss, rate and the time left, on standard error.

    Args:
        steps: Steps planned. first: Steps done before. enabled: False for silence, None to show after two seconds.
    """

    def __init__(self, steps: int, first: int, enabled: bool | None) -> None:
        self.steps, self.first = steps, first
        self._enabled = enabled
        self._started = time.monotonic()
        self._due = math.inf if enabled is False else self._started + (0 if enabled else SILENT_S)
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None

    def update(self, done: int, measures: Mapping[str, Any]) -> None:
        """Show that `done` steps are done, with these measures. Costs one reading of a clock if nothing is due."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + (REFRESH_S if self._terminal else PLAIN_S)
        shown = "  ".join(f"{name} {_number(value):.4g}" for name, value in measures.items())
        rate = (done - self.first) / max(1e-9, now - self._started)
        if self._terminal:
            if self._bar is None:
                self._bar = self._opened()
            self._bar.update(self._task, completed=done, shown=shown, rate=rate)
            self._bar.refresh()
        else:
            left = (self.steps - done) / max(rate, 1e-9)
            print(f"step {done}/{self.steps}  {shown}  {rate:.3g}/s  {left:.0f} s left", file=sys.stderr, flush=True)

    def _opened(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        bar = Progress(
            TextColumn("step {task.completed}/{task.total}"), BarColumn(bar_width=20), TextColumn("{task.fields[shown]}"),
            TextColumn("{task.fields[rate]:.3g}/s"), TimeRemainingColumn(), TextColumn("left"),
            console=Console(stderr=True), auto_refresh=False, transient=True,
        )  # fmt: skip
        self._task = bar.add_task("", total=self.steps, completed=self.first, shown="", rate=0.0)
        bar.start()
        return bar

    def note(self, message: str) -> None:
        """Print a message that stays."""
        if self._enabled is not False:
            (self._bar.console.print if self._bar else lambda text: print(text, file=sys.stderr, flush=True))(message)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _number(value: Any) -> float:
    return float(value.detach() if hasattr(value, "detach") else value)
