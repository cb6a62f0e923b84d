"""What comes back from a model: replies with their outcome, tokens and cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["answered", "unparsed", "empty", "truncated", "refused", "overflow", "error"]
"""What became of a question. Only "answered" has an answer:

- unparsed: there is text, but no answer was found in it;
- empty: the text is empty;
- truncated: the text was cut off by the limit on tokens before an answer was complete, or inside its reasoning;
- refused: the model or a filter of its service declined;
- overflow: the prompt does not fit in the model's context;
- error: the service failed, after all retries.
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and calls.

    Attributes:
        input_tokens: Prompt tokens that were processed. Samples of one prompt that shared its processing count it once.
        cached_input_tokens: Prompt tokens that a prefix cache of the model or service spared.
        output_tokens: Tokens generated, those of reasoning included.
        calls: Requests made to the model; 0 for what came from the cache on disk.
    """

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    calls: int = 0

    @property
    def tokens(self) -> int:
        """Tokens processed and generated."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
            self.output_tokens + other.output_tokens,
            self.calls + other.calls,
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """One sample of a model's answer to a prompt.

    Attributes:
        text: What was said, without reasoning. reasoning: What was thought in tags or parts of their own.
        outcome: "answered" if there is text to look for an answer in; nothing is looked for otherwise, save in a text that
            was "truncated" (outside its reasoning).
        usage: Tokens as they were counted when the sample was made, also if it now comes from the cache on disk.
        cost: In US dollars; None if no price is known.
        logprob: Sum of the log-probabilities of the tokens of the sample in nats, if they were asked for.
        scored: Tokens of a text that was given and not generated, whose log-probability `logprob` is; 0 for samples.
        error: Why there is no text. cached: Whether it comes from the cache on disk.
    """

    text: str
    outcome: Outcome = "answered"
    usage: Usage = Usage()
    cost: float | None = None
    reasoning: str = ""
    logprob: float | None = None
    error: str | None = None
    cached: bool = False
    scored: int = 0
