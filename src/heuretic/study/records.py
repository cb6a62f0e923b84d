"""What a study remembers: one record per trial, and what is common to all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from heuretic.search import Genome, Result

State = Literal["finished", "failed", "pruned"]
Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True, slots=True)
class Objective:
    """What a study is after.

    Attributes:
        name: The metric; or, with `reward`, the name under which the reward is recorded.
        direction: Whether more or less of it is better.
        reward: A function of all metrics and costs of a trial (a mapping by name) that gives the objective.
    """

    name: str
    direction: Direction = "maximize"
    reward: Any = None

    @property
    def sign(self) -> int:
        """What the metric is multiplied by to make more of it better."""
        return -1 if self.direction == "minimize" else 1


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a trial saved.

    Attributes:
        name: What the trial called it. digest: SHA-256 of its content, under which it is stored. size: In bytes.
    """

    name: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One evaluated candidate.

    Attributes:
        number: Position in the study, from 0, in the order of proposal; negative for trials of another study that
            this one was started with.
        state: finished; failed (the evaluation raised, or its process died); pruned (it stopped itself early).
        genome: What was chosen, see `Space`. space: Which of the study's spaces the genome belongs to.
        digest: Digest of the complete program, 32 hexadecimal digits. fingerprint: What the program computes, hashed
            by a probe, in hexadecimal digits; None if there is none.
        values: The metrics that the evaluation returned, by name.
        costs: Computed costs of the limits, by name.
        score: The objective, negated if it is minimised (higher is better); None unless finished.
        scores: Of a study with several objectives, all of them; `score` is the first.
        violation: By how much measured limits are exceeded, relative to them; 0 if all hold.
        parents: Numbers of the trials it was made from. origin: start, sample, mutation, crossover, ...
        seed: The seed that the evaluation was given.
        steps: Metrics reported on the way, as (step, metrics).
        started: Unix time in seconds. seconds: Wall-clock duration of the evaluation.
        worker: Which process evaluated it. environment: Which of the study's environments it ran in.
        error: Traceback text of a failure.
        artifacts: Files that the evaluation saved.
        energy: If energy was measured: kWh by part ("cpu_kwh", "gpu_kwh", "ram_kwh", PUE included) and
            "co2e_kg".
        attempts: How often it was begun; more than once if a process or machine died in it.
    """

    number: int
    state: State
    genome: Genome
    digest: str
    seed: int
    values: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    score: float | None = None
    violation: float = 0.0
    parents: tuple[int, ...] = ()
    origin: str = "sample"
    steps: tuple[tuple[int, Mapping[str, float]], ...] = ()
    started: float = 0.0
    seconds: float = 0.0
    worker: str = "main"
    environment: int = 0
    space: int = 0
    error: str | None = None
    scores: tuple[float, ...] = ()
    fingerprint: str | None = None
    artifacts: tuple[Artifact, ...] = ()
    energy: Mapping[str, float] = field(default_factory=dict)
    attempts: int = 1

    @property
    def result(self) -> Result:
        """The record as search algorithms see it."""
        fingerprint = None if self.fingerprint is None else bytes.fromhex(self.fingerprint)
        return Result(self.number, self.genome, self.score, self.violation, self.scores, self.metrics, fingerprint)

    @property
    def metrics(self) -> Mapping[str, float]:
        """All that was measured or computed, by name."""
        return {**self.values, **self.costs} if self.costs else self.values


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner(TrialRecord):
    """The best trial, with its program."""

    program: Any


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """What a study was asked to do. Programs are JSON texts of `hr.dumps`, so reading them runs nothing.

    Attributes:
        name: Unique in its store.
        program: The open program; start: the complete program that is evaluated first, or "" if there is none.
        algorithm, limits: Their descriptions. evaluate: Importable name of the evaluation.
        objective: Name of the metric that decides, of several the first. direction: Whether more or less is better.
        objectives: Descriptions of all objectives if there are several or a reward, else "".
        seed: The study's seed. created: Unix time in seconds.
    """

    name: str
    program: str
    start: str
    algorithm: str
    limits: str
    evaluate: str
    objective: str
    direction: Direction
    seed: int
    created: float
    objectives: str = ""
