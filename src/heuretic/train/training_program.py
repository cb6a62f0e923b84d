"""Trainings as programs: a symbolic call of a recipe, which `discover` can fill in and this runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from heuretic.symbolic import build
from heuretic.symbolic.calls import Call
from heuretic.train.loop import Reporter, Run
from heuretic.train.seeds import seeded


@dataclass(frozen=True, slots=True)
class Trained:
    """What a recipe returns.

    Attributes:
        model: The trained model (its moving average, if there is one), in evaluation mode.
        metrics: What was measured at the end, by name, such as "validation_accuracy".
        runs: What happened, one for each training in it.
    """

    model: nn.Module
    metrics: dict[str, float]
    runs: tuple[Run, ...]


def run(program: Any, *, seed: int = 0, trial: Reporter | None = None) -> Trained:
    """Run a training program, `hr.sym(hr.train.supervised)(...)`: build its arguments, with weights from `seed`, and call it.

    Raises: TypeError if it is not a symbolic call; whatever building or the recipe raise.
    """
    if not isinstance(program, Call):
        raise TypeError(
            f"program must be a symbolic call of a recipe, got {type(program).__name__}. Try hr.sym(hr.train.supervised)(...)"
        )
    with seeded(seed):
        arguments = {str(name): build(value) for name, value in program.__items__()}
    return program.__target__(**arguments, seed=seed, trial=trial)


def evaluate(program: Any, trial: Any) -> dict[str, float]:
    """Run a training program with the trial's seed and return its metrics: what `hr.discover` takes.

    `hr.discover(program, hr.train.evaluate, maximize="validation_accuracy")`
    """
    return run(program, seed=trial.seed, trial=trial).metrics
