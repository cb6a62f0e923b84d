"""Stochastic depth: drop residual paths in training.

Huang et al. 2016, "Deep Networks with Stochastic Depth", arXiv:1603.09382; part of EfficientNet, noisy student and others.
"""

from heuretic.ideas.idea import Idea, Paper
from heuretic.nn import StochasticDepths

IDEA = Idea(
    slug="stochastic-depth",
    title="Stochastic depth: residual paths dropped in training",
    paper=Paper(
        authors="Huang, Sun, Liu, Sedra, Weinberger",
        year=2016,
        title="Deep Networks with Stochastic Depth",
        arxiv="1603.09382",
    ),
    claim="lower test error of deep residual networks at less training time",
    usage='import heuretic as hr\nmodel = hr.apply(model, "stochastic-depth?rate=0.2")',
    patch=StochasticDepths,
    provides=("heuretic.nn:StochasticDepth", "heuretic.nn:path_ends"),
)
