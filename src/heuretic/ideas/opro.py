"""OPRO: a language model as the optimiser, shown what was tried before with its scores.

Yang et al. 2023, "Large Language Models as Optimizers", arXiv:2309.03409. The algorithm is `heuretic.lm.opro.OPRO`, the search for an
instruction `heuretic.lm.opro.optimize_prompt`, and `heuretic optimize-prompt` on the command line.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import heuretic as hr
from heuretic.ideas import reasoning
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.reasoning import Answered
from heuretic.ideas.result import Arm, Comparison, Reproduction, compare
from heuretic.lm import LanguageModel, Question, Sampling
from heuretic.lm.opro import (
    OPRO,
    LinearRegression,
    Parts,
    PublishedParsing,
    TravellingSalesman,
    drive,
    optimize_prompt,
    published,
)
from heuretic.lm.parsing import Choice
from heuretic.lm.question_sets import question_set
from heuretic.lm.strategies.instructed import Instructed
from heuretic.search import HillClimbing, RandomSearch

CLAIM = "the instruction that a model finds is better than those that people wrote, on questions it was not found with"
HAND_WRITTEN = (
    "Let's think step by step.",
    "Let's solve the problem.",
    "Take a deep breath and work on this problem step-by-step.",
)
"""Kojima et al. 2022, the paper's own starting point, and the one that the paper found for PaLM 2-L."""

TREATMENT, CONTROL = "instruction of OPRO", "best hand-written instruction"
RULE = (
    "The hand-written instruction is that of three which is best on the training and validation questions of OPRO, which chose its "
    "own by them too; both then answer held-out questions. "
    + reasoning.RULE.format(treatment=TREATMENT, control=CONTROL, margin=reasoning.MARGIN)
    + " Regression and the travelling salesman, after as many evaluations by every algorithm, are told beside it."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a check asks.

    Attributes:
        questions: The set. train, validation, held_out: Questions for each seed. steps, per_step: Of OPRO, for instructions.
        max_tokens: Of an answer. proposal_tokens: Of a reply that proposes something; cut off, it proposes nothing.
        evaluations: Most lines or tours evaluated for each problem, by each algorithm.
    """

    questions: str
    seeds: tuple[int, ...]
    train: int
    validation: int
    held_out: int
    steps: int
    per_step: int
    max_tokens: int
    proposal_tokens: int
    evaluations: int


PLANS: dict[Scale, Plan] = {
    "smoke": Plan("mmlu/miscellaneous", (1, 2), 1, 1, 1, 1, 1, 6, 6, 6),
    "small": Plan("mmlu/miscellaneous", (1, 2, 3), 8, 8, 40, 3, 4, 24, 96, 40),
    "full": Plan("gsm8k", (1, 2, 3), 60, 60, 200, 50, 8, 512, 512, 200),
}


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None,
    model: str | None = None,
) -> Reproduction:  # fmt: skip
    """Search an instruction with each seed's training and validation questions, and measure it on its held-out ones.

    The same model answers and proposes. The verdict follows from `RULE`. Beside it, OPRO, random search and hill climbing, from the same
    starts and with as many evaluations, minimise the squared error of a line and the length of a tour of ten points.

    Args:
        model: Its name, see `heuretic.ideas.reasoning`.
    Raises: FileNotFoundError if the questions are missing; ModelError if the model cannot be used; ValueError for an unknown
        scale or fewer than 2 seeds.
    """
    plan, began, said = plan_of(PLANS, scale), time.perf_counter(), progress or (lambda line: None)
    chosen = reasoning.checked_seeds(seeds, plan.seeds)
    lm = reasoning.chosen_model(model)
    found = question_set(plan.questions, repeated="drop")
    asked = reasoning.blocks(found.questions, chosen, plan.train + plan.validation + plan.held_out)
    held_out = {seed: questions[plan.train + plan.validation :] for seed, questions in asked.items()}
    answered, texts = _instructions(plan, asked, held_out, lm, said)
    arms, comparisons = reasoning.compared(answered, [(TREATMENT, name) for name in (CONTROL, *HAND_WRITTEN)])
    arms[TREATMENT] = Arm({**arms[TREATMENT].settings, "instructions": texts[TREATMENT]}, arms[TREATMENT].measurements)
    arms[CONTROL] = Arm({**arms[CONTROL].settings, "instructions": texts[CONTROL]}, arms[CONTROL].measurements)
    others, differences, told = problems(plan, chosen, lm, said)
    floor = reasoning.commonest_share(found.questions)
    return Reproduction(
        idea="opro", claim=CLAIM, scale=scale, seeds=chosen, data={found.name: found.checksum} | reasoning.checksum_of(lm),
        arms=arms | others, comparisons=(*comparisons, *differences), rule=RULE,
        verdict=reasoning.judged(scale, answered[TREATMENT], answered[CONTROL], floor),
        reason=f"{reasoning.reason_of(answered, TREATMENT, CONTROL, floor)} {told}", seconds=time.perf_counter() - began,
    )  # fmt: skip


def _instructions(
    plan: Plan, asked: Mapping[int, Sequence[Question]], held_out: Mapping[int, Sequence[Question]], lm: LanguageModel,
    said: Callable[[str], None],
) -> tuple[dict[str, Answered], dict[str, list[str]]]:  # fmt: skip
    """Return what was answered with each instruction, and the instructions by seed that were chosen."""
    texts: dict[str, list[str]] = {TREATMENT: [], CONTROL: []}
    for seed, questions in asked.items():
        seen = {seed: questions[: plan.train + plan.validation]}
        parts = Parts(tuple(questions[: plan.train]), tuple(seen[seed][plan.train :]), ())
        opro = OPRO(
            published("chat", "Q_end", questions=parts.train, threshold=0.0), per_step=plan.per_step, steps=plan.steps,
            sampling=Sampling(temperature=1.0, max_tokens=plan.proposal_tokens),
        )  # fmt: skip
        result = optimize_prompt(
            parts,
            instructed(hr.text("Let's solve the problem."), plan),
            scorer=lm,
            steps=plan.steps,
            seed=seed,
            opro=opro,
        )
        if result.best is None:
            raise RuntimeError(f"OPRO must have scored an instruction, got none: {result.stopped}")
        texts[TREATMENT].append(result.best.instruction)
        hand = reasoning.ask({text: instructed(text, plan) for text in HAND_WRITTEN}, seen, lm)
        texts[CONTROL].append(max(HAND_WRITTEN, key=lambda text: hand[text].flat.sum()))
        said(
            f"seed {seed}: {result.evaluations} instructions in {result.steps} steps, refused {result.refused}, best "
            f"{result.best.instruction!r} ({result.best.train} on train), by hand {texts[CONTROL][-1]!r}"
        )
    answered = reasoning.ask({text: instructed(text, plan) for text in HAND_WRITTEN}, held_out, lm, said=said)
    for name, chosen in texts.items():
        each = [
            reasoning.ask({name: instructed(text, plan)}, {seed: held_out[seed]}, lm, said=said)[name]
            for text, seed in zip(chosen, held_out, strict=True)
        ]
        answers = {seed: given for one in each for seed, given in one.answers.items()}
        correct = {seed: given for one in each for seed, given in one.correct.items()}
        answered[name] = Answered("one for each seed", answers, correct)
    return answered, texts


def instructed(instruction: Any, plan: Plan) -> Instructed:
    """Return the strategy that has the instruction behind the question."""
    parse = Choice() if plan.questions.startswith("mmlu/") else PublishedParsing()
    return Instructed(instruction, "Q_end", parse=parse, sampling=Sampling(max_tokens=plan.max_tokens))


def problems(
    plan: Plan, seeds: Sequence[int], lm: LanguageModel, said: Callable[[str], None] = lambda line: None
) -> tuple[dict[str, Arm], list[Comparison], str]:
    """Minimise a line's error and a tour's length with every algorithm, and return arms, comparisons and a sentence.

    The metric of a line is log10(1 + its error above the least one), of a tour its length above the shortest's in percent. OPRO ends
    early if the model proposes nothing new in five steps, so all are compared after as many evaluations as it came to.
    """
    arms: dict[str, Arm] = {}
    comparisons, told = [], []
    for title, metric in (("regression", "log10_excess_error"), ("salesman", "excess_length_percent")):
        values: dict[str, list[float]] = {}
        ends: dict[str, list[float]] = {}
        counts: list[float] = []
        for seed in seeds:
            problem = LinearRegression(repetition=seed) if title == "regression" else TravellingSalesman(10, seed=seed)
            opro = OPRO(
                problem.meta_prompt, per_step=8, starts=0, steps=None, barren=5,
                sampling=Sampling(temperature=1.0, max_tokens=plan.proposal_tokens),
            ).using(lm)  # fmt: skip
            algorithms = {"OPRO": opro, "random search": RandomSearch(), "hill climbing": HillClimbing()}
            for name, algorithm in algorithms.items():
                results = drive(
                    algorithm, problem.program, problem.evaluate, trials=plan.evaluations, starts=problem.starts, seed=seed
                )  # fmt: skip
                if name == "OPRO":
                    counts.append(float(len(results)))
                for held, upto in ((values, int(counts[-1])), (ends, len(results))):
                    best = min(result.metrics["value"] for result in results[:upto])
                    ratio = best / problem.optimum
                    excess = math.log10(1 + best - problem.optimum) if title == "regression" else 100 * (ratio - 1)
                    held.setdefault(f"{name}, {title}", []).append(max(excess, 0.0))
            refused = dict(opro.latest.refused) if opro.latest else {}
            said(
                f"{title}, seed {seed}: "
                + ", ".join(f"{n} {v[-1]:.3g}" for n, v in values.items())
                + f", refused {refused}"
            )
        for name, excesses in values.items():
            arms[name] = Arm(
                {"most_evaluations": plan.evaluations, "starts": "alike"},
                {
                    metric: tuple(excesses),
                    f"{metric}_at_most_evaluations": tuple(ends[name]),
                    "evaluations": tuple(counts),
                },
            )
        dry = " before it had nothing new" if min(counts) < plan.evaluations else ""
        told.append(f"{title}: OPRO came to {fmean(counts):.0f} of {plan.evaluations} evaluations{dry}")
        for other in ("random search", "hill climbing"):
            pair = compare(arms, metric, f"OPRO, {title}", f"{other}, {title}", less_is_better=True)
            comparisons.append(pair)
            told.append(f"{metric} after as many, OPRO minus {other}, {pair.estimate}")
    return arms, comparisons, f"Beside it, {'; '.join(told)}."


IDEA = Idea(
    slug="opro",
    title="OPRO: a language model as the optimiser",
    paper=Paper(
        authors="Yang, Wang, Lu, Liu, Le, Zhou, Chen",
        year=2023,
        title="Large Language Models as Optimizers",
        arxiv="2309.03409",
    ),
    claim=CLAIM,
    usage=(
        "import heuretic as hr\nfrom heuretic.lm.opro import optimize_prompt\n"
        'model = hr.lm.model("heuretic/smollm2-135m")\n'
        'found = optimize_prompt(hr.lm.questions("multiarith"), scorer=model, steps=10)\n'
        "print(found.best.instruction, found.best.held_out)"
    ),
    provides=("heuretic.lm.opro:OPRO", "heuretic.lm.opro:optimize_prompt"),
    reproduce=reproduce,
)
