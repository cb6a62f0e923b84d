"""OPRO: a language model proposes programs, shown the best of those before with their scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from heuretic.lm.budget import BudgetSpent
from heuretic.lm.model import LanguageModel, ModelError
from heuretic.lm.model import model as model_named
from heuretic.lm.opro.meta_prompts import MetaPrompt
from heuretic.lm.replies import Usage
from heuretic.lm.sampling import Sampling
from heuretic.lm.waiting import wait
from heuretic.search.algorithm import Candidate, Result, Search, stream
from heuretic.search.decisions import Writing
from heuretic.search.space import Genome, Space
from heuretic.symbolic import Symbolic, field


class OPRO(Symbolic):
    """Optimisation by prompting.

    In each step the model is asked `per_step` times with the same meta-prompt; what can be read of its replies and was not
    evaluated before is evaluated, and the next step begins when all results are in. Sample k of step s is drawn with the
    seed of sample s * `per_step` + k, so a run that goes on, or is repeated with a cache of replies, proposes the same.

    Reference: Yang et al. 2023, "Large Language Models as Optimizers", arXiv:2309.03409, algorithm in section 2 and figure 2.
    Departures: a program that was evaluated before is never evaluated again (the paper's code evaluates a proposal equal to
    an initial instruction once more); the run ends after `barren` steps without anything new.
    """

    meta_prompt: Any = field(doc="a MetaPrompt, such as published('chat')")
    model: str = field(
        default="", doc='name of the optimiser model, such as "openai/gpt-4o"; see `using` for a model at hand'
    )
    per_step: int = field(default=8, ge=1, doc="replies asked for in each step")
    steps: int | None = field(default=200, doc="most steps; None for no limit but that on trials")
    starts: int = field(
        default=5,
        ge=0,
        doc="programs drawn before the first step; of an open text, all initial texts are taken instead",
    )
    barren: int = field(default=20, ge=1, doc="steps in a row without a new program that end the run")
    sampling: Sampling = field(
        default=Sampling(temperature=1.0, max_tokens=512), doc="1024 tokens for PaLM in the paper"
    )

    def __post_init__(self) -> None:
        if not isinstance(self.meta_prompt, MetaPrompt):
            raise ValueError(f"meta_prompt must be a MetaPrompt, got {self.meta_prompt!r}. Try hr.lm.opro.published()")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be >= 1 or None, got {self.steps}")

    def start(self, space: Space, seed: int = 0) -> Search:
        """Begin a run. Raises: ModelError if the model cannot be used; TypeError if the space does not fit the meta-prompt."""
        if not self.model:
            raise ModelError("OPRO must have a model to ask, got none. Try OPRO(..., model=NAME) or .using(MODEL)")
        return OPRORun(self, model_named(self.model), space, seed)

    def using(self, model: LanguageModel) -> OPROUsing:
        """Return this algorithm with a model at hand, which may have a budget, a price and a cache of its own."""
        return OPROUsing(self, model)


class OPROUsing:
    """`OPRO` with a model at hand.

    Attributes:
        description: The settings with the model's name: what a study remembers of the algorithm.
        latest: The run begun last, None before.
    """

    def __init__(self, settings: OPRO, model: LanguageModel) -> None:
        changes = {name: getattr(settings, name) for name in OPRO.__fields__}
        self.description = OPRO(**{**changes, "model": model.name})
        self.model = model
        self.latest: OPRORun | None = None

    def start(self, space: Space, seed: int = 0) -> OPRORun:
        """Begin a run. Raises: TypeError if the space does not fit the meta-prompt."""
        self.latest = OPRORun(self.description, self.model, space, seed)
        return self.latest


class OPRORun:
    """State: steps begun, starting points asked for, proposals not asked for yet, those under way, and the trials told.

    Attributes:
        step: The step under way, -1 before the first. refused: Proposals not used, by reason.
        usage, cost: What the optimiser's replies took; cost is None if a price is not known.
        spent: Why no more is proposed, if a budget ended it.
    """

    def __init__(self, settings: OPRO, model: LanguageModel, space: Space, seed: int) -> None:
        settings.meta_prompt.check(space)
        self.settings, self.model, self.space, self.seed = settings, model, space, seed
        self.step, self.drawn, self.empty = -1, 0, 0
        self.queue: list[tuple[Genome, tuple[int, ...]]] = []
        self.waiting: list[Genome] = []
        self.results: dict[Genome, Result] = {}
        self.steps: dict[int, int] = {}
        self.refused: Counter[str] = Counter()
        self.usage = Usage()
        self.cost: float | None = 0.0
        self.spent = ""
        self._sampling = _seeded(settings.sampling, seed)
        first = space.decisions[0]
        if isinstance(first, Writing):
            self._starts = [first.genes(text) for text in first.initial]
        else:
            self._starts = [space.sample(stream(seed, k)) for k in range(settings.starts)]

    def ask(self, n: int = 1) -> list[Candidate]:
        candidates: list[Candidate] = []
        while len(candidates) < n:
            if self.step < 0 and self.drawn < len(self._starts):
                genome = self._starts[self.drawn]
                self.drawn += 1
                if genome not in self.results and genome not in self.waiting:
                    self.waiting.append(genome)
                    candidates.append(Candidate(genome))
            elif self.queue:
                genome, parents = self.queue.pop(0)
                self.waiting.append(genome)
                candidates.append(Candidate(genome, parents, "model"))
            elif self.waiting or not self._propose():  # the next step is to see all results of this one
                break
        return candidates

    def _propose(self) -> bool:
        """Fill the queue with what the model proposes next; return whether there is anything."""
        limit = self.settings.steps
        while not self.spent and self.empty < self.settings.barren and (limit is None or self.step + 1 < limit):
            past = sorted(self.results.values(), key=lambda r: r.number)
            text, shown = self.settings.meta_prompt.write(self.space, past, self.step + 1)
            first = (self.step + 1) * self.settings.per_step
            try:
                replies = wait(self.model.sample(text, self.settings.per_step, self._sampling, first=first))
            except BudgetSpent as error:
                self.spent = str(error)
                return False
            self.step += 1
            parents = tuple(r.number for r in shown if r.number >= 0)
            for reply in replies:
                self.usage += reply.usage
                if reply.outcome != "error":
                    self.cost = None if self.cost is None or reply.cost is None else self.cost + reply.cost
                if reply.outcome not in ("answered", "truncated"):
                    self.refused[reply.outcome] += 1
                    continue
                genome = self.settings.meta_prompt.read(self.space, reply.text)
                if isinstance(genome, str):
                    self.refused[genome] += 1
                elif genome in self.results or any(genome == known for known, _ in self.queue):
                    self.refused["duplicate"] += 1
                else:
                    self.queue.append((genome, parents))
            if all(reply.outcome == "error" for reply in replies):
                raise ModelError(f"{self.model.name} failed {len(replies)} times in a row: {replies[-1].error}")
            self.empty = 0 if self.queue else self.empty + 1
            if self.queue:
                return True
        return False

    def tell(self, results: Sequence[Result]) -> None:
        for result in results:
            if result.genome in self.waiting:
                self.waiting.remove(result.genome)
            known = self.results.get(result.genome)
            if known is None or result.number < known.number:
                self.results[result.genome] = result
                if result.number >= 0:
                    self.steps[result.number] = self.step

    def state(self) -> dict[str, Any]:
        u = self.usage
        return {
            "step": self.step, "drawn": self.drawn, "empty": self.empty, "queue": [[list(g), list(p)] for g, p in self.queue],
            "waiting": [list(g) for g in self.waiting], "told": [r.number for r in self.results.values()],
            "steps": [[number, step] for number, step in self.steps.items()], "refused": dict(self.refused),
            "usage": [u.input_tokens, u.cached_input_tokens, u.output_tokens, u.calls], "cost": self.cost,
        }  # fmt: skip

    def restore(self, state: dict[str, Any], results: Callable[[Iterable[int]], list[Result]]) -> None:
        self.step, self.drawn, self.empty = state["step"], state["drawn"], state["empty"]
        self.queue = [(tuple(genome), tuple(parents)) for genome, parents in state["queue"]]
        self.waiting = [tuple(genome) for genome in state["waiting"]]
        found = {r.number: r for r in results(state["told"])}
        self.results = {found[n].genome: found[n] for n in state["told"]}
        self.steps = dict(state["steps"])
        self.refused = Counter(state["refused"])
        self.usage, self.cost = Usage(*state["usage"]), state["cost"]

    def grow(self, space: Space, adapt: Callable[[Genome], Genome]) -> None:
        raise TypeError("OPRO cannot go on in a larger space: its meta-prompt is made for this one. Start a new study")


def _seeded(sampling: Sampling, seed: int) -> Sampling:
    """Return the sampling with the run's seed mixed in, so that runs of different seeds draw differently."""
    values = {name: getattr(sampling, name) for name in Sampling.__fields__}
    return Sampling(**{**values, "seed": stream(seed, sampling.seed).getrandbits(48)}) if seed else sampling
