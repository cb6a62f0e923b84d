"""Checkpoints of a run: one file a step, written whole or not at all, and read without running anything."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from torch import Tensor
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from heuretic.train.loop import Run, Stateful

FORMAT, KEPT = 1, 2


class SavedStates:
    """The checkpoints in one folder. The newest two are kept, in case the disk loses the last."""

    def __init__(self, folder: str | Path, seed: int) -> None:
        self.folder, self.seed = Path(folder), seed
        self.folder.mkdir(parents=True, exist_ok=True)

    def paths(self) -> list[Path]:
        """Return the checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*.pt"))

    def newest_path(self) -> Path | None:
        return next(reversed(self.paths()), None)

    def newest(self) -> dict[str, Any] | None:
        """Return what the newest readable checkpoint holds, None if there is none. A damaged one is passed over with a warning.

        Raises: ValueError if it is of another seed or of a later version.
        """
        for path in reversed(self.paths()):
            try:
                found = torch.load(path, map_location="cpu", weights_only=True)
            except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
                warnings.warn(f"checkpoint {path} cannot be read ({error}); the one before it is used", stacklevel=3)
                continue
            if found.get("format") != FORMAT:
                raise ValueError(
                    f"checkpoint must have format {FORMAT}, got {found.get('format')} at {path}. Try another folder"
                )
            if found["seed"] != self.seed:
                raise ValueError(
                    f"folder must hold a run with seed {self.seed}, got {found['seed']} at {path}. Try another folder"
                )
            return found
        return None

    def save(self, run: Run, state: Mapping[str, Stateful]) -> None:
        """Write a checkpoint, unless a number in it is not finite: nothing could go on from that.

        A process killed meanwhile leaves none that looks whole. Of several processes the first writes.
        """
        path = self.folder / f"step-{run.done:09d}.pt"
        if not PartialState().is_main_process:
            return
        part = path.with_suffix(f".{os.getpid()}.part")
        content = {
            "format": FORMAT, "seed": self.seed, "state": {name: each.state_dict() for name, each in state.items()},
            "run": {name: getattr(run, name) for name in ("done", "evaluations", "best", "reason", "seconds", "cpu_seconds")},
        }  # fmt: skip
        numbers = (
            leaf for leaf in tree_leaves(content["state"]) if isinstance(leaf, Tensor) and leaf.is_floating_point()
        )
        if not all(bool(leaf.isfinite().all()) for leaf in numbers):
            return
        try:
            with part.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        for old in self.paths()[:-KEPT]:
            old.unlink(missing_ok=True)
