"""What may be spent on a model, and what was."""

from __future__ import annotations

from dataclasses import dataclass

from heuretic.lm.replies import Usage


class BudgetSpent(Exception):
    """A call could have gone over the budget, and was not made."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens: of prompts, generated, and of prompts from a prefix cache (None: as prompts)."""

    input: float
    output: float
    cached_input: float | None = None

    def of(self, usage: Usage) -> float:
        """Return the cost of `usage` in US dollars."""
        cached = self.input if self.cached_input is None else self.cached_input
        total = self.input * usage.input_tokens + self.output * usage.output_tokens + cached * usage.cached_input_tokens
        return total / 1e6


class Budget:
    """A hard limit: a call is made only if even its longest possible replies keep within it.

    Args: tokens: Most tokens, prompts and generated together. cost: Most US dollars; the model must have a price.
    Attributes: usage, spent: Tokens and US dollars spent so far.
    Raises: ValueError if a limit is not > 0.
    """

    def __init__(self, tokens: int | None = None, cost: float | None = None) -> None:
        for name, limit in (("tokens", tokens), ("cost", cost)):
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} must be > 0, got {limit}. Leave it out for no limit")
        self.tokens = tokens
        self.cost = cost
        self.usage = Usage()
        self.spent = 0.0
        self._reserved = Usage()
        self._reserved_cost = 0.0

    def reserve(self, usage: Usage, price: Price | None) -> None:
        """Set `usage` aside for a call that is about to be made. Raises: BudgetSpent if it does not fit."""
        if self.cost is not None and price is None:
            raise ValueError("a budget in money needs a price. Give the model price=Price(input=..., output=...)")
        cost = price.of(usage) if price else 0.0
        tokens = self.usage.tokens + self._reserved.tokens + usage.tokens
        if self.tokens is not None and tokens > self.tokens:
            raise BudgetSpent(
                f"{self.usage.tokens} of {self.tokens} tokens are spent, {self._reserved.tokens} are set aside for calls under "
                f"way, and the next call may take {usage.tokens}"
            )
        total = self.spent + self._reserved_cost + cost
        if self.cost is not None and total > self.cost:
            raise BudgetSpent(
                f"{self.spent:.4f} of {self.cost:.4f} dollars are spent, and the next call may cost {cost:.4f}"
            )
        self._reserved += usage
        self._reserved_cost += cost

    def settle(self, reserved: Usage, used: Usage, price: Price | None) -> None:
        """Count what a call took in place of what was set aside for it."""
        self._reserved = Usage(
            self._reserved.input_tokens - reserved.input_tokens,
            self._reserved.cached_input_tokens - reserved.cached_input_tokens,
            self._reserved.output_tokens - reserved.output_tokens,
            self._reserved.calls - reserved.calls,
        )
        self.usage += used
        if price:
            self._reserved_cost -= price.of(reserved)
            self.spent += price.of(used)
