"""IMO-Bench: short answers, proofs and grades of proofs at the level of the International Mathematical Olympiad.

Luong et al. 2025, "Towards Robust Mathematical Reasoning", arXiv:2511.01846. The evaluations are in `heuretic.evals.imo_bench`. What
its problems ask of a model, and how far judges agree with people (the paper: 98.9% on short answers), takes strong models; what can be
checked here is the checker without a model that decides first.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from heuretic.evals.imo_bench import AnswerBench
from heuretic.evals.imo_bench.formulas import comparable
from heuretic.evals.imo_bench.rewritings import altered, rewritten
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.reasoning import bootstrap, checked_seeds
from heuretic.ideas.result import Arm, Reproduction, Verdict, compare
from heuretic.lm.parsing import canonical_number

CLAIM = "short answers that are formulas can be checked without a judge: nearly always rightly, and far better than by comparing texts"
TREATMENT, CONTROL = "sympy", "same text or number"
AT_LEAST = 0.95
RULE = (
    "Pairs are answers of IMO-AnswerBench rewritten so that they are equal, or altered so that they are not, by rules for text. Agreement "
    "is the share of pairs told rightly, of all pairs; what a checker cannot read counts as told wrongly. d is the paired difference, "
    f"{TREATMENT} minus {CONTROL}. Reproduced if, of the pairs that {TREATMENT} decides, those told rightly lie wholly above {AT_LEAST}, and "
    f"d wholly above 0 (95% intervals by bootstrap over pairs); not reproduced if they lie wholly below {AT_LEAST}, or d below 0; else not "
    "testable at this scale. Smoke runs are too short."
)
AT_ONCE = 24
"""Pairs for each start of the sandbox, which has a limit on its time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check compares: pairs of so many answers for each seed; 0 for all."""

    seeds: tuple[int, ...]
    answers: int


PLANS: dict[Scale, Plan] = {"smoke": Plan((2, 3), 6), "small": Plan((2, 3), 0), "full": Plan(tuple(range(2, 12)), 0)}


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None
) -> Reproduction:
    """Compare answers with themselves rewritten, and with wrong ones that look alike, with sympy and as texts. No model is asked.

    The rules for reading formulas were mended while looking at pairs of seed 1, which is therefore not among the default seeds; the
    answers are the same for all seeds. The verdict follows from `RULE`.

    Raises: FileNotFoundError if the problems are missing; ValueError for an unknown scale or fewer than 2 seeds.
    """
    began, plan, said = time.perf_counter(), plan_of(PLANS, scale), progress or (lambda line: None)
    chosen = checked_seeds(seeds, plan.seeds)
    evaluation = AnswerBench()
    loaded = evaluation.load()
    targets = [str(question.target) for question in loaded]
    readable = [target for target in targets if comparable(target, target) is not None]
    told: dict[str, list[list[float]]] = {TREATMENT: [], CONTROL: []}
    undecided: list[float] = []
    decided: list[float] = []
    for seed in chosen:
        rng = random.Random(seed)
        kept = rng.sample(readable, plan.answers) if plan.answers else readable
        pairs = [(made(target, rng), target) for target in kept for made in (rewritten, altered)]
        truth = [True, False] * len(kept)
        found = asyncio.run(_by_sympy(evaluation, pairs))
        told[TREATMENT].append([float(verdict is right) for verdict, right in zip(found, truth, strict=True)])
        told[CONTROL].append([float(_as_text(*pair) is right) for pair, right in zip(pairs, truth, strict=True)])
        undecided.append(found.count(None) / len(found))
        decided += [float(verdict is right) for verdict, right in zip(found, truth, strict=True) if verdict is not None]
        said(f"seed {seed}: {np.mean(told[TREATMENT][-1]):.3f} of {len(pairs)} pairs told rightly by sympy")
    arms = {
        name: Arm({"pairs": sum(map(len, values))}, {"agreement": tuple(float(np.mean(each)) for each in values)})
        for name, values in told.items()
    }
    settings = {
        **arms[TREATMENT].settings, "checker": repr(evaluation.checker), "answers": len(targets), "answers_that_are_formulas": len(readable),
        "decided_pairs_told_rightly_bootstrap_95": _interval(decided),
    }  # fmt: skip
    arms[TREATMENT] = Arm(settings, {**arms[TREATMENT].measurements, "undecided_share": tuple(undecided)})
    d = bootstrap(np.concatenate(told[TREATMENT]) - np.concatenate(told[CONTROL]))
    right = bootstrap(decided)
    return Reproduction(
        idea="imo-bench", claim=CLAIM, scale=scale, seeds=chosen, data=dict(loaded.checksums), arms=arms,
        comparisons=(compare(arms, "agreement", TREATMENT, CONTROL),), rule=RULE,
        verdict=_verdict(scale, right.low or 0.0, right.high or 0.0, d.low or 0.0, d.high or 0.0),
        reason=(
            f"sympy told {right} of {len(decided)} decided pairs rightly; difference to comparing texts {d}. The pairs are made by rules; "
            f"what models write is more varied. {len(targets) - len(readable)} of {len(targets)} answers are prose or formulas that sympy "
            "cannot read, which need a judge; no judge was tested."
        ),
        seconds=time.perf_counter() - began,
    )  # fmt: skip


async def _by_sympy(evaluation: AnswerBench, pairs: Sequence[tuple[str, str]]) -> list[bool | None]:
    found: list[bool | None] = []
    for first in range(0, len(pairs), AT_ONCE):
        forms = [comparable(*pair) for pair in pairs[first : first + AT_ONCE]]
        told = iter(await evaluation.checker.equal([form for form in forms if form is not None]))
        found += [None if form is None else next(told) for form in forms]
    return found


def _as_text(answer: str, target: str) -> bool:
    number = canonical_number(answer)
    plain = ["".join(text.replace("$", "").split()) for text in (answer, target)]
    return plain[0] == plain[1] or (number is not None and number == canonical_number(target))


def _interval(values: Sequence[float]) -> list[float | None]:
    shown = bootstrap(values)
    return [shown.mean, shown.low, shown.high]


def _verdict(scale: Scale, low: float, high: float, d_low: float, d_high: float) -> Verdict:
    if scale == "smoke":
        return "not testable at this scale"
    if low > AT_LEAST and d_low > 0:
        return "reproduced"
    return "not reproduced" if high < AT_LEAST or d_high < 0 else "not testable at this scale"


IDEA = Idea(
    slug="imo-bench",
    title="IMO-Bench: olympiad answers, proofs and grades",
    paper=Paper(
        authors="Luong, Hwang, Nguyen, Ghiasi, Chervonyi, Seo, Kim, Bingham, Lee, Mishra, Zhai, Hu, Michalewski, Kim, Ahn, Bae, Song, Trinh, "
        "Le, Jung",
        year=2025,
        title="Towards Robust Mathematical Reasoning",
        arxiv="2511.01846",
    ),
    claim=CLAIM,
    usage=(
        "import heuretic as hr\n"
        'run = hr.evals.evaluate("imo-answer-bench", "openai/gpt-4o-mini", judge="google/gemini-2.5-pro")\nprint(run.summary)'
    ),
    provides=(
        "heuretic.evals.imo_bench:AnswerBench",
        "heuretic.evals.imo_bench:ProofBench",
        "heuretic.evals.imo_bench:GradingBench",
    ),
    reproduce=reproduce,
)
