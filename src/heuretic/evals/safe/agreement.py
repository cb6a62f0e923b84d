"""How well a rater of facts agrees with people.

Balanced accuracy (Brodersen et al. 2010) and Cohen's kappa (Cohen 1960) are over facts that people call supported or not supported;
raw agreement is over all labels, as Wei et al. 2024, arXiv:2403.18802, section 4, report 72% for SAFE. Intervals resample persons
with all their facts, since facts of one person are right or wrong together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from heuretic.evals.results import RESAMPLES, Estimate
from heuretic.evals.safe.human_labels import Context, HumanFact
from heuretic.evals.safe.rating import Label
from heuretic.lm import Usage

Values = NDArray[np.float64]
LABELS: tuple[Label, ...] = ("supported", "not supported", "irrelevant")
SAID: tuple[Label, ...] = (*LABELS, "unjudged")

_FREE = Usage()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a rater says about a fact: a label, the probability that it is supported, or None; and what that took."""

    said: Label | float | None
    usage: Usage = _FREE
    cost: float | None = 0.0


Rater = Callable[[str, str, Context], Awaitable[Label | float | Judgement | None]]
"""Called with a fact, its topic and its context."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a rater said about many facts.

    Attributes:
        labels: In the order of the facts. scores: The probabilities it gave, NaN where it gave none.
        usage, cost, seconds: Of all facts together; the cost is None if a price is not known.
    """

    labels: tuple[Label, ...]
    scores: Values
    usage: Usage = _FREE
    cost: float | None = 0.0
    seconds: float = 0.0

    def at(self, threshold: float | Values) -> Judged:
        """Return the same, where probabilities of at least a threshold (one, or one for each fact) mean supported."""
        supported = self.scores >= threshold
        labels: list[Label] = list(self.labels)
        for k in np.flatnonzero(~np.isnan(self.scores)).tolist():
            labels[k] = "supported" if supported[k] else "not supported"
        return Judged(tuple(labels), self.scores, self.usage, self.cost, self.seconds)


async def rate(rater: Rater, facts: Sequence[HumanFact], *, threshold: float = 0.5, concurrency: int = 16) -> Judged:
    """Return what a rater says about facts, at most `concurrency` of which are with it at once.

    A label that is not one of `SAID`, a probability outside [0, 1] or None counts as unjudged.
    """
    free, began = asyncio.Semaphore(concurrency), time.perf_counter()

    async def one(each: HumanFact) -> Judgement:
        async with free:
            said = await rater(each.fact, each.topic, each.context)
        return said if isinstance(said, Judgement) else Judgement(said)

    judgements = await asyncio.gather(*map(one, facts))
    labels: list[Label] = [_label(each.said) for each in judgements]
    scores = np.array([_probability(each.said) for each in judgements], float)
    costs = [each.cost for each in judgements]
    cost = None if any(each is None for each in costs) else sum(each for each in costs if each is not None)
    usage = sum((each.usage for each in judgements), Usage())
    return Judged(tuple(labels), scores, usage, cost, time.perf_counter() - began).at(threshold)


def _label(said: Label | float | None) -> Label:
    known: tuple[Label, ...] = tuple(label for label in SAID if label == said)
    return known[0] if known else "unjudged"


def _probability(said: Label | float | None) -> float:
    return float(said) if isinstance(said, int | float | np.floating) and 0 <= said <= 1 else float("nan")


@dataclass(frozen=True, slots=True)
class LabelScores:
    """Precision, recall and F1 of one label over all facts; None where nothing has the label."""

    precision: float | None
    recall: float | None
    f1: float | None
    facts: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well a rater agrees with people.

    Attributes:
        raw: Share of facts with the same label. binary: The same, over facts that people call supported or not supported; for these an
            "irrelevant" of the rater means "not supported", and an unjudged fact agrees with neither.
        balanced_accuracy: Mean of the two labels' recalls. kappa: Agreement beyond chance.
        table: Facts by people's label, then by the rater's. labels: Scores of each label.
        unjudged: Facts without a verdict. facts: All facts. by_writer: The same for each model that wrote the answers.
    """

    raw: Estimate
    binary: Estimate
    balanced_accuracy: Estimate
    kappa: Estimate
    table: Mapping[Label, Mapping[Label, int]]
    labels: Mapping[Label, LabelScores]
    unjudged: int
    facts: int
    by_writer: Mapping[str, Agreement] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"balanced accuracy {self.balanced_accuracy}, kappa {self.kappa}, raw agreement {self.raw} "
            f"({self.binary} without irrelevant facts), {self.unjudged} of {self.facts} facts unjudged"
        )


def agreement(facts: Sequence[HumanFact], labels: Sequence[Label], *, by_writer: bool = True) -> Agreement:
    """Return how well labels agree with those of people, with 95% intervals over persons.

    Raises: ValueError if there are no facts, or not as many labels, or an unknown one.
    """
    if not facts or len(facts) != len(labels):
        raise ValueError(f"labels must be one for each of at least one fact, got {len(labels)} for {len(facts)} facts")
    unknown = sorted({str(label) for label in labels} - set(SAID))
    if unknown:
        raise ValueError(f"labels must be of {', '.join(SAID)}, got {', '.join(unknown)}")
    tables = _tables(facts, labels)
    whole = tables.sum(axis=0)
    drawn = _resampled(tables)
    writers = sorted({each.context.writer for each in facts}) if by_writer else []
    parts = {}
    for writer in writers:
        chosen = [k for k, each in enumerate(facts) if each.context.writer == writer]
        parts[writer] = agreement([facts[k] for k in chosen], [labels[k] for k in chosen], by_writer=False)
    estimates = {
        name: _estimate(number, whole, drawn, int(whole.sum() if name == "raw" else whole[:2].sum()))
        for name, number in (("raw", _raw), ("binary", _binary), ("balanced_accuracy", _balanced), ("kappa", _kappa))
    }
    return Agreement(
        **estimates,
        table={h: {s: int(whole[i, j]) for j, s in enumerate(SAID)} for i, h in enumerate(LABELS)},
        labels={label: _label_scores(whole, k) for k, label in enumerate(LABELS)},
        unjudged=int(whole[:, 3].sum()), facts=len(facts), by_writer=parts,
    )  # fmt: skip


def difference(facts: Sequence[HumanFact], ours: Sequence[Label], theirs: Sequence[Label]) -> Mapping[str, Estimate]:
    """Return by how much one rater's balanced accuracy and kappa lie above another's, paired by person.

    Raises: ValueError as `agreement` does.
    """
    agreement(facts, ours, by_writer=False)
    agreement(facts, theirs, by_writer=False)
    both = np.stack([_tables(facts, ours), _tables(facts, theirs)], axis=1)
    drawn, whole = _resampled(both), both.sum(axis=0)
    found = {}
    for name, number in (("balanced_accuracy", _balanced), ("kappa", _kappa)):
        values = number(drawn)
        low, high = _ends(values[:, 0] - values[:, 1])
        value = number(whole)
        found[name] = Estimate(float(value[0] - value[1]), low, high, len(facts))
    return found


def crossed(facts: Sequence[HumanFact], *, seed: int = 0) -> tuple[list[int], list[int]]:
    """Return the places of the facts of one half of the persons, drawn at random, and of the other half.

    Raises: ValueError if there are fewer than 2 persons.
    """
    topics = sorted({each.topic for each in facts})
    if len(topics) < 2:
        raise ValueError(f"facts must be about at least 2 persons, got {len(topics)}")
    half = set(np.random.default_rng(seed).permutation(topics)[: len(topics) // 2].tolist())
    return (
        [k for k, each in enumerate(facts) if each.topic in half],
        [k for k, each in enumerate(facts) if each.topic not in half],
    )


def at_crossed_thresholds(judged: Judged, facts: Sequence[HumanFact], *, seed: int = 0) -> Judged:
    """Return the same, divided for each half of the persons at the threshold that is best for the other half."""
    halves = crossed(facts, seed=seed)
    thresholds = np.full(len(facts), 0.5)
    for here, there in (halves, halves[::-1]):
        known = [
            k for k in there if facts[k].label in ("supported", "not supported") and not np.isnan(judged.scores[k])
        ]
        if known:
            right = np.array([facts[k].label == "supported" for k in known], float)
            thresholds[here] = best_threshold(judged.scores[known], right)
    return judged.at(thresholds)


def best_threshold(scores: Values, right: Values) -> float:
    """Return the score at and above which facts are called supported with the best balanced accuracy.

    It lies in the middle between two scores.
    """
    order = np.argsort(scores, kind="stable")
    ranked, hits = scores[order], right[order] > 0.5
    lost = np.concatenate([[0.0], np.cumsum(hits) / max(1, hits.sum())])
    spared = np.concatenate([[0.0], np.cumsum(~hits) / max(1, (~hits).sum())])
    gain = spared - lost
    gain[1:-1][ranked[1:] == ranked[:-1]] = -np.inf
    cut = int(np.argmax(gain))
    if cut == 0:
        return float(ranked[0])
    return float(np.nextafter(ranked[-1], np.inf)) if cut == len(ranked) else float((ranked[cut - 1] + ranked[cut]) / 2)


def auc(scores: Values, right: Values) -> float:
    """Return the probability that a supported fact scores higher than one that is not, ties counting half; NaN without both."""
    known = ~np.isnan(scores)
    values, hits = scores[known], right[known] > 0.5
    if not hits.any() or hits.all():
        return float("nan")
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    positives = int(hits.sum())
    return float((ranks[hits].sum() - positives * (positives + 1) / 2) / (positives * (len(hits) - positives)))


def _tables(facts: Sequence[HumanFact], labels: Sequence[Label]) -> Values:
    """Return counts by person, people's label and the rater's, shape (persons, 3, 4)."""
    _, person = np.unique([each.topic for each in facts], return_inverse=True)
    human = np.array([LABELS.index(each.label) for each in facts])
    said = np.array([SAID.index(label) for label in labels])
    tables = np.zeros((int(person.max()) + 1, len(LABELS), len(SAID)))
    np.add.at(tables, (person, human, said), 1)
    return tables


def _resampled(tables: Values) -> Values:
    """Return sums over resampled persons, shape (RESAMPLES, ...)."""
    count = len(tables)
    times = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(float)
    return np.tensordot(times, tables, axes=(1, 0))


def _estimate(number: Callable[[Values], Values], whole: Values, drawn: Values, count: int) -> Estimate:
    low, high = _ends(number(drawn))
    return Estimate(float(number(whole)), low, high, count)


def _ends(values: Values) -> tuple[float | None, float | None]:
    known = values[~np.isnan(values)]
    if not len(known):
        return None, None
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


def _share(part: Values, whole: Values) -> Values:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _raw(tables: Values) -> Values:
    same = tables[..., 0, 0] + tables[..., 1, 1] + tables[..., 2, 2]
    return _share(same, tables.sum(axis=(-2, -1)))


def _two(tables: Values) -> Values:
    """Return tables of supported and not supported facts by what the rater says: supported, not supported, nothing."""
    kept = tables[..., :2, :]
    return np.stack([kept[..., 0], kept[..., 1] + kept[..., 2], kept[..., 3]], axis=-1)


def _binary(tables: Values) -> Values:
    two = _two(tables)
    return _share(two[..., 0, 0] + two[..., 1, 1], two.sum(axis=(-2, -1)))


def _balanced(tables: Values) -> Values:
    two = _two(tables)
    recalls = _share(np.stack([two[..., 0, 0], two[..., 1, 1]], axis=-1), two.sum(axis=-1))
    return recalls.mean(axis=-1)


def _kappa(tables: Values) -> Values:
    two = _two(tables)
    total = two.sum(axis=(-2, -1))
    said, human = two.sum(axis=-2), two.sum(axis=-1)
    chance = _share((said[..., 0] * human[..., 0] + said[..., 1] * human[..., 1]), total**2)
    same = _share(two[..., 0, 0] + two[..., 1, 1], total)
    return np.where(chance < 1, (same - chance) / np.where(chance < 1, 1 - chance, 1), 0.0)


def _label_scores(table: Values, k: int) -> LabelScores:
    hits, said, human = table[k, k], table[:, k].sum(), table[k].sum()
    precision, recall = (float(hits / each) if each else None for each in (said, human))
    f1 = float(2 * hits / (said + human)) if said + human else None
    return LabelScores(precision, recall, f1, int(human))
