"""Records that cannot be read: an error that names file and row, or a count of what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Corrupt = Literal["raise", "skip"]


@dataclass(slots=True)
class Records:
    """What a reader says about the records it cannot use.

    Attributes:
        corrupt: "raise" for an error at the first one, "skip" to leave it out. bad: What was left out: file, row, reason.
    """

    corrupt: Corrupt
    bad: list[tuple[str, int, str]] = field(default_factory=list)

    def refuse(self, path: Path | str, row: int, rule: str, got: object) -> None:
        """Raise ValueError for the record at `row`, counted from 0, or note that it is left out."""
        reason = f"{rule}, got {got}"
        if self.corrupt == "raise":
            raise corrupt_record(path, row, reason)
        self.bad.append((Path(path).name, row, reason))

    def check(self, paths: Sequence[Path]) -> None:
        """Raise what would have been raised if records that were left out before are not to be."""
        if self.bad and self.corrupt == "raise":
            name, row, reason = self.bad[0]
            folder = next((path.parent for path in paths if name.startswith(path.name)), Path())
            raise corrupt_record(folder / name, row, reason)


def corrupt_record(path: Path | str, row: int, reason: str) -> ValueError:
    """Return the error for one record."""
    return ValueError(f'{reason} at {path}, row {row}. Try corrupt="skip", which leaves such records out')


def unreadable(path: Path, rule: str, error: Exception) -> ValueError:
    """Return the error for a file of which nothing can be read."""
    reason = str(error).partition("\n")[0].rstrip(":")
    return ValueError(
        f"{path.name} must be {rule}, got {type(error).__name__}: {reason} at {path}. Try getting it anew"
    )
