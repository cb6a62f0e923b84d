"""Evaluations by address, `bbeh?mini=true`, and suites of them."""

from __future__ import annotations

from collections.abc import Mapping

from heuretic.evals.evaluation import Evaluation
from heuretic.search.addresses import Addresses

ABOUT: Mapping[str, str] = {
    "aqua": "Word problems in algebra with five options, arXiv:1705.04146.",
    "gsm8k": "Word problems of grade-school mathematics, arXiv:2110.14168.",
    "mmlu": "Questions with four options from 57 subjects, arXiv:2009.03300.",
    "multiarith": "Word problems with two steps of arithmetic, Roy and Roth 2015.",
}
"""The published question sets that are evaluations under their own names, and what they are."""

EVALUATIONS: Addresses[Evaluation] = Addresses(
    "evaluation",
    {
        name: (f"heuretic.evals.{place}", kind, {})
        for name, place, kind in (
            ("are-you-sure", "are_you_sure", "AreYouSure"),
            ("bbh", "bbh", "BBH"),
            ("bbeh", "bbeh", "BBEH"),
            ("imo-answer-bench", "imo_bench.answer_bench", "AnswerBench"),
            ("imo-proof-bench", "imo_bench.proof_bench", "ProofBench"),
            ("imo-grading-bench", "imo_bench.grading_bench", "GradingBench"),
            ("longfact", "safe.longfact", "LongFact"),
            ("freshqa", "freshqa", "FreshQA"),
            ("latent-list", "michelangelo.latent_list", "LatentList"),
            ("mrcr", "michelangelo.mrcr", "MRCR"),
            ("idk", "michelangelo.idk", "IDK"),
            ("haloquest", "haloquest", "HaloQuest"),
            ("inverse-scaling", "inverse_scaling", "InverseScaling"),
            ("sycophancy", "sycophancy", "Sycophancy"),
            ("questions", "labelled", "Labelled"),
        )
    }
    | {name: ("heuretic.evals.labelled", "Labelled", {"set": name}) for name in ABOUT},
    wrapped="",
    wrapper="",
)
"""All evaluations of the room."""

SUITES: Mapping[str, tuple[str, ...]] = {
    "reasoning": ("bbh", "bbeh", "gsm8k", "aqua", "mmlu", "imo-answer-bench", "imo-proof-bench"),
    "factuality": ("longfact", "freshqa"),
    "long-context": ("latent-list", "mrcr", "idk"),
    "vision": ("haloquest",),
    "honesty": ("sycophancy", "are-you-sure", "inverse-scaling"),
}
