"""Search for the way to ask a small local model that gets most sums right:

    heuretic discover examples/strategy.py --trials 8

Everything left open is searched: how the question is put, whether the model reasons first, and how many paths vote.
"""

from pathlib import Path

import heuretic as hr
from heuretic.lm import Accuracy, Sampling
from heuretic.lm.strategies import ChainOfThought, Direct, SelfConsistency

short = Sampling(max_tokens=64)
program = hr.one_of(
    Direct(instruction=hr.one_of('Reply with "The answer is" and the number only.', "How many? Give the number.")),
    ChainOfThought(cue=hr.one_of("Let's think step by step.", "Write the sum and its result."), sampling=short),
    SelfConsistency(of=ChainOfThought(sampling=short), samples=hr.one_of(3, 5), temperature=hr.one_of(0.4, 0.7)),
)
evaluate = Accuracy(Path(__file__).with_name("sums.jsonl"), "heuretic/smollm2-135m", limit=16)
settings = {"maximize": "accuracy"}
