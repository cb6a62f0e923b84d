"""Results that were measured outside a run of `discover`, as trials of a study."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heuretic.search import RandomSearch, Space, one_of
from heuretic.study.artifacts import Artifacts, artifacts_url
from heuretic.study.environment import environment_facts
from heuretic.study.records import Direction, StudyRecord, TrialRecord
from heuretic.study.store import Conflict, Store, StoreError, open_store
from heuretic.study.study import Study
from heuretic.symbolic import FrozenDict, digest, dumps, loads

_TRIES = 100


def record(
    choices: Mapping[str, str | int | float | bool | None],
    values: Mapping[str, float],
    *,
    store: str | Store,
    name: str,
    objective: str,
    direction: Direction = "maximize",
    started: float,
    seconds: float,
    energy: Mapping[str, float] = {},
    files: Sequence[Path] = (),
    facts: Mapping[str, str] = {},
) -> Study:
    """Add one finished trial to a study, which is made if it is not there.

    It is kept as if its choices had been met while it ran: a value that no trial before it had becomes one more candidate.

    Args:
        choices: What was evaluated, by name. values: All that was measured, the objective too.
        started: Unix time in seconds. seconds: How long it took. energy: See `TrialRecord`.
        files: Copied to where the study keeps files. facts: Where it ran, beside versions and machine.
    Raises: StoreError if there is such a study with another objective; ValueError if the objective is not in `values`.
    """
    if objective not in values:
        raise ValueError(f"values must have the objective {objective!r}, got {', '.join(values)}")
    opened = open_store(store)
    if opened.study(name) is None:
        created = StudyRecord(
            name=name, program=dumps(FrozenDict()), start="", algorithm=dumps(RandomSearch()), limits=dumps(()), evaluate="",
            objective=objective, direction=direction, seed=0, created=time.time(),
        )  # fmt: skip
        try:
            opened.create(created)
        except StoreError:  # another process made it
            pass
    known = opened.study(name)
    if known is None or (known.objective, known.direction) != (objective, direction):
        raise StoreError(
            f"study {name!r} must have the objective {objective!r}, got {known and known.objective!r}. Try another name"
        )
    place = artifacts_url(None, opened.url) if files else None
    kept = [Artifacts(place).put(file.name, file) for file in files] if place else []
    environment = opened.environment({**environment_facts(), **facts})
    score = values[objective] * (-1 if direction == "minimize" else 1)
    program = FrozenDict(choices)
    for _ in range(_TRIES):
        state, revision = opened.state(name)
        space, index = _with_room_for(opened, name, choices)
        number = (state or {}).get("next", 0)
        trial = TrialRecord(
            number=number, state="finished", genome=space.encode(program), digest=digest(program), seed=0, values=dict(values),
            score=score, origin="start", started=started, seconds=seconds, environment=environment, space=index,
            artifacts=tuple(kept), energy=dict(energy),
        )  # fmt: skip
        before = state or {"search": {}, "reused": 0, "waiting": [], "equivalent": 0, "dequeued": 0}
        try:
            opened.commit(name, [trial], {**before, "next": number + 1, "space": index}, revision)
            return Study(opened, name)
        except Conflict:
            continue
    raise StoreError(f"study {name!r} must be free for a moment, got {_TRIES} conflicts with other writers. Try again")


def _with_room_for(opened: Store, name: str, choices: Mapping[str, Any]) -> tuple[Space, int]:
    """Return the study's last space, or a larger one with these values, and its index."""
    spaces = opened.spaces(name)
    candidates: dict[str, list[Any]] = {key: list(choice.candidates) for key, choice in loads(spaces[-1]).items()}
    grown = False
    for key, value in choices.items():
        if not any(type(value) is type(each) and value == each for each in candidates.setdefault(key, [])):
            candidates[key].append(value)
            grown = True
    program = FrozenDict({key: one_of(*values) for key, values in candidates.items()})
    return Space(program), opened.add_space(name, dumps(program)) if grown else len(spaces) - 1
