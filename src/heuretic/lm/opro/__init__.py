"""Optimisation by prompting (Yang et al. 2023, arXiv:2309.03409): a language model proposes instructions, numbers and orders."""

from heuretic.lm.opro.algorithm import OPRO, OPROUsing
from heuretic.lm.opro.meta_prompts import (
    InstructionMetaPrompt,
    MetaPrompt,
    NumbersMetaPrompt,
    TourMetaPrompt,
    published,
)
from heuretic.lm.opro.problems import Line, LinearRegression, Tour, TravellingSalesman, drive
from heuretic.lm.opro.prompts import (
    Measured,
    Parts,
    Plan,
    PromptResult,
    PromptSearch,
    Rate,
    SearchStopped,
    optimize_prompt,
    parse_for,
    split_questions,
)
from heuretic.lm.opro.scoring import OfficialScoring, PublishedParsing

__all__ = [
    "OPRO", "InstructionMetaPrompt", "Line", "LinearRegression", "Measured", "MetaPrompt", "NumbersMetaPrompt",
    "OPROUsing", "OfficialScoring", "Parts", "Plan", "PromptResult", "PromptSearch", "PublishedParsing", "Rate", "SearchStopped", "Tour",
    "TourMetaPrompt", "TravellingSalesman", "drive", "optimize_prompt", "parse_for", "published", "split_questions",
]  # fmt: skip
