"""Michelangelo: long contexts that must be put together, not searched for one sentence.

Vodrahalli et al. 2024, "Michelangelo: Long Context Evaluations Beyond Haystacks via Latent Structure Queries", arXiv:2409.12640. The
evaluations are `heuretic.evals.michelangelo`.

The paper's claim is about frontier models, whose scores fall well before 32K tokens while the complexity of the task stays the same.
What can be tested with any model is whether its scores at a long context are below those at a short one, on the same problems. A
model that does no better than chance at the short length has nothing to lose, and then nothing can be said.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import heuretic as hr
from heuretic.evals.michelangelo import IDK, MRCR, LatentList
from heuretic.evals.michelangelo.length_curve import cumulative_average, length_name
from heuretic.evals.michelangelo.long_context import LongContext
from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Arm, Reproduction, Verdict, compare
from heuretic.lm import LanguageModel, Question

CLAIM = "on the same problems, scores are lower in a long context than in a short one"
METRIC = "score"
MARGIN = 0.05
RULE = (
    "d is the mean score at {long} tokens minus that at {short}, paired by problem, over all tasks, with its 95% interval by bootstrap "
    "over the problems. Not testable at this scale if the score at {short} does not lie wholly above that of chance; else "
    "reproduced if d lies wholly below 0, not reproduced if it lies wholly above {margin}; else not testable at this scale. Chance: "
    "for IDK the better of guessing and of always saying that one does not know; for latent lists what the paper estimates; for MRCR the "
    "piece most like the one asked for. Smoke runs are too short."
)
_AT_ONCE = 8
CHANCE = {"idk": 0.7, "latent-list": 0.122}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check asks: `each` problems of every task for each seed, at every length, shortest first."""

    tasks: tuple[LongContext, ...]
    seeds: tuple[int, ...]
    each: int


def _tasks(
    lengths: tuple[int, ...], shots: int, kinds: Sequence[str] = ("idk", "latent-list", "mrcr")
) -> tuple[LongContext, ...]:
    # Digits and letters are tokens of their own in the local models, for which these are the rates.
    known: dict[str, LongContext] = {
        "idk": IDK(lengths=lengths, shots=shots, max_tokens=32),
        "latent-list": LatentList(lengths=lengths, shots=shots, complexities=(1,), max_tokens=32),
        "mrcr": MRCR(lengths=lengths, shots=shots, longest=64, max_tokens=128),
    }
    return tuple(known[kind] for kind in kinds)


PLANS: dict[Scale, Plan] = {
    "smoke": Plan(_tasks((160, 240), 0, ("latent-list",)), (1, 2), 1),
    "small": Plan(_tasks((1024, 4096), 2, ("idk", "latent-list")), (1, 2), 6),
    "full": Plan(_tasks((1024, 2048, 4096, 7680), 2), (1, 2, 3), 30),
}


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None,
    model: str | None = None,
) -> Reproduction:  # fmt: skip
    """Ask the same problems in contexts of several lengths, and compare the longest with the shortest.

    The verdict follows from `RULE`. The full check goes to 7,680 tokens, to which the local model reaches.

    Args: model: Its name, see `heuretic.ideas.reasoning`.
    Raises: ModelError if the model cannot be used; ValueError for an unknown scale or fewer than 2 seeds.
    """
    plan, said = plan_of(PLANS, scale), progress or (lambda line: None)
    chosen, began = reasoning.checked_seeds(seeds, plan.seeds), time.perf_counter()
    lm = reasoning.chosen_model(model)
    lengths = plan.tasks[0].lengths
    scores: dict[int, dict[int, list[float]]] = {tokens: {seed: [] for seed in chosen} for tokens in lengths}
    arms: dict[str, dict[int, list[float]]] = {}
    chances: dict[int, list[float]] = {seed: [] for seed in chosen}
    data: dict[str, str] = {}
    for task in plan.tasks:
        for seed in chosen:
            seeded = hr.replace(task, {"seed": seed, "each": plan.each})
            digest = hashlib.sha256()
            for question, value in asyncio.run(_scores(seeded, lm)):
                digest.update(question.text.encode())
                tokens = int(question.about["length"])
                scores[tokens][seed].append(value)
                arms.setdefault(f"{task.name}, {length_name(tokens)}", {s: [] for s in chosen})[seed].append(value)
                if tokens == lengths[0]:
                    chance = CHANCE[task.name] if task.name in CHANCE else question.about["random_piece"]
                    chances[seed].append(chance)
            data[f"{task.name}, seed {seed}"] = digest.hexdigest()
            said(f"{task.name}, seed {seed}: {', '.join(_shown(arms, task.name, n, seed) for n in lengths)}")
    short, long = length_name(lengths[0]), length_name(lengths[-1])
    flat = {tokens: [v for seed in chosen for v in by_seed[seed]] for tokens, by_seed in scores.items()}
    by_chance = [value for seed in chosen for value in chances[seed]]
    verdict, reason = judged(scale, flat[lengths[0]], flat[lengths[-1]], by_chance, short, long)
    together = {length_name(tokens): _arm(by_seed, tokens, flat) for tokens, by_seed in scores.items()}
    apart = {name: Arm({}, {METRIC: tuple(map(_mean, by_seed.values()))}) for name, by_seed in arms.items()}
    return Reproduction(
        idea="michelangelo", claim=CLAIM, scale=scale, seeds=chosen, data=data | reasoning.checksum_of(lm), arms=together | apart,
        comparisons=(compare(together, METRIC, long, short),), rule=RULE.format(short=short, long=long, margin=-MARGIN),
        verdict=verdict, reason=reason, seconds=time.perf_counter() - began,
    )  # fmt: skip


async def _scores(task: LongContext, lm: LanguageModel) -> list[tuple[Question, float]]:
    """Return the questions of a task with their scores, in order."""
    strategy, free = reasoning.seeded(task.strategy(), task.seed), asyncio.Semaphore(_AT_ONCE)

    async def one(question: Question) -> tuple[Question, float]:
        async with free:
            answer = await strategy(question, lm)
        if answer.outcome == "error":
            failed = [reply.error for step in answer.trace for reply in step.replies if reply.error]
            raise ValueError(
                f"{lm.name} must answer question {question.id} of {task.name}, got {failed[-1:] or 'an error'}"
            )
        value = (await task.score(question, answer)).value
        assert value is not None
        return question, value

    return await asyncio.gather(*map(one, task.load()))


def judged(
    scale: Scale,
    short: Sequence[float],
    long: Sequence[float],
    chance: Sequence[float],
    short_name: str,
    long_name: str,
) -> tuple[Verdict, str]:
    """Return the verdict by `RULE` and the sentence that says why.

    Args: short, long, chance: Scores of the same problems in the same order.
    """
    floor = _mean(chance)
    at_short, at_long = reasoning.bootstrap(short), reasoning.bootstrap(long)
    d = reasoning.bootstrap([b - a for a, b in zip(short, long, strict=True)])
    assert at_short.low is not None and d.low is not None and d.high is not None  # noqa: PT018
    reason = (
        f"Score {at_long} at {long_name} tokens against {at_short} at {short_name}, difference {d}, on {len(short)} problems; chance has "
        f"{floor:.3f}."
    )
    if scale == "smoke" or at_short.low <= floor:
        return "not testable at this scale", reason
    if d.high < 0:
        return "reproduced", reason
    return ("not reproduced" if d.low > -MARGIN else "not testable at this scale"), reason


def _arm(by_seed: dict[int, list[float]], tokens: int, flat: dict[int, list[float]]) -> Arm:
    shown = reasoning.bootstrap(flat[tokens])
    upto = [(n, value) for n, values in flat.items() if n <= tokens for value in values]
    cumulative = cumulative_average([n for n, _ in upto], [value for _, value in upto])[-1][1]
    settings: dict[str, Any] = {
        "tokens": tokens, "problems": len(flat[tokens]), "score_bootstrap_95": [shown.low, shown.high],
        "cumulative_average": cumulative,
    }  # fmt: skip
    return Arm(settings, {METRIC: tuple(map(_mean, by_seed.values()))})


def _shown(arms: dict[str, dict[int, list[float]]], task: str, tokens: int, seed: int) -> str:
    name = length_name(tokens)
    return f"{_mean(arms[f'{task}, {name}'][seed]):.3f} at {name}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


IDEA = Idea(
    slug="michelangelo",
    title="Michelangelo: long contexts beyond haystacks",
    paper=Paper(
        authors="Vodrahalli, Ontanon, Tripuraneni, Xu, Jain, Shivanna, Hui, Dikkala, Kazemi, Fatemi, et al.",
        year=2024,
        title="Michelangelo: Long Context Evaluations Beyond Haystacks via Latent Structure Queries",
        arxiv="2409.12640",
    ),
    claim=CLAIM,
    usage=(
        "import heuretic as hr\nfrom heuretic.evals.michelangelo import LatentList\nfrom heuretic.evals.running import evaluate\n"
        'run = evaluate(LatentList(lengths=(1024, 4096)), hr.lm.model("heuretic/smollm2-135m"))\nprint(run.summary)'
    ),
    provides=(
        "heuretic.evals.michelangelo:LatentList",
        "heuretic.evals.michelangelo:MRCR",
        "heuretic.evals.michelangelo:IDK",
        "heuretic.evals.michelangelo.length_curve:cumulative_average",
    ),
    reproduce=reproduce,
)
