"""LayerNAS: architecture search in polynomial time, layer by layer, the best kept of each range of costs.

Fan et al. 2023, "LayerNAS: Neural Architecture Search in Polynomial Complexity", arXiv:2304.11517. The algorithm is
`heuretic.search.LayerNAS`; it works on any space.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import heuretic as hr
from heuretic.data import data_file
from heuretic.ideas.idea import Idea, Paper, Scale, plan_of
from heuretic.ideas.result import Arm, Comparison, Reproduction, Verdict, compare
from heuretic.search import Algorithm, LayerNAS

CLAIM = "on NAS-Bench-Macro a better architecture under a cost cap than random and regularised evolution at equal evaluations"
QUANTILES = (0.25, 0.5, 0.75)
CAPS = tuple((cost, quantile) for cost in ("params", "flops") for quantile in QUANTILES)
RULE = (
    "Regret is the accuracy of the best architecture in the table within the cap less that of the best one found, in "
    "points; d is the paired difference of the mean regret over all caps, LayerNAS minus the other arm, with its 95% "
    "interval over seeds. Reproduced if at every budget (50, 100 and 200 evaluations) d lies wholly below 0 against "
    "random search and against regularised evolution; not reproduced if at any budget d lies wholly above 0 against "
    "either; else not testable at this scale. Smoke runs have too few seeds to test anything."
)
Net = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much one scale runs."""

    seeds: tuple[int, ...]
    caps: tuple[tuple[str, float], ...]
    budgets: tuple[int, ...]


PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan((0, 1), (("params", 0.5),), (25, 50)),
    "small": Plan(tuple(range(20)), CAPS, (50, 100, 200)),
    "full": Plan(tuple(range(200)), CAPS, (50, 100, 200)),
}


@dataclass(frozen=True, slots=True)
class Table:
    """NAS-Bench-Macro: accuracy in %, parameters and FLOPs of each architecture."""

    checksum: str
    rows: Mapping[Net, tuple[float, float, float]]

    def cap(self, cost: str, quantile: float) -> float:
        """Return the cost that this share of the architectures keeps."""
        costs = sorted(row[1 if cost == "params" else 2] for row in self.rows.values())
        return costs[int(quantile * (len(costs) - 1))]


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None
) -> Reproduction:
    """Compare LayerNAS with random search and regularised evolution under caps on parameters and FLOPs.

    All arms search the same space, 8 layers of 3 blocks, with the same limit on the computed cost, so that none spends
    an evaluation on an architecture beyond the cap, and none pays for an architecture twice. Evolution has the settings
    of its paper (population 50, tournament 10), and in a second arm those found best for such small budgets
    (tournament 25, 10 random candidates to begin with), on other seeds (from 1000 on). LayerNAS has its defaults. The
    verdict follows from `RULE`; where it says regularised evolution, both arms count.

    Data: `$HEURETIC_DATA/nas_bench_macro/nas_bench_macro_cifar10.parquet`; needs pyarrow.

    Raises: FileNotFoundError if the data is missing, ValueError for an unknown scale or fewer than 2 seeds.
    """
    plan = plan_of(PLANS, scale)
    chosen = tuple(plan.seeds if seeds is None else seeds)
    if len(set(chosen)) != len(chosen) or len(chosen) < 2:
        raise ValueError(f"seeds must be at least 2 and different, got {chosen}")
    began = time.perf_counter()
    table = _table()
    arms: dict[str, Arm] = {}
    for name in _ALGORITHMS:
        measured: dict[str, list[list[float]]] = {f"regret_{budget}_points": [] for budget in plan.budgets}
        for cost, quantile in plan.caps:
            found = [_regrets(name, table, cost, table.cap(cost, quantile), plan.budgets, seed) for seed in chosen]
            for i, values in enumerate(measured.values()):
                values.append([regrets[i] for regrets in found])
            if progress is not None:
                progress(
                    f"{name}, {cost} {quantile:.0%}: mean regrets {[sum(f) / len(f) for f in zip(*found, strict=True)]}"
                )
        arms[name] = Arm(
            {
                "algorithm": str(_ALGORITHMS[name]), "evaluations": max(plan.budgets),
                "caps": [f"{cost} <= {table.cap(cost, q):.0f} ({q:.0%})" for cost, q in plan.caps],
            },
            {metric: tuple(sum(caps) / len(caps) for caps in zip(*values, strict=True)) for metric, values in measured.items()},
        )  # fmt: skip
    comparisons = tuple(
        compare(arms, f"regret_{budget}_points", "LayerNAS", rival) for rival in _RIVALS for budget in plan.budgets
    )
    verdict, reason = judge(scale, comparisons)
    return Reproduction(
        idea="layernas", claim=CLAIM, scale=scale, seeds=chosen, data={"nas_bench_macro_cifar10.parquet": table.checksum},
        arms=arms, comparisons=comparisons, rule=RULE, verdict=verdict, reason=reason,
        seconds=time.perf_counter() - began,
    )  # fmt: skip


def judge(scale: Scale, comparisons: Sequence[Comparison]) -> tuple[Verdict, str]:
    """Return the verdict by `RULE`, and the sentence that says why."""
    below, above, seen = True, False, []
    for each in comparisons:
        shown = each.estimate
        low, high = (shown.mean if end is None else end for end in (shown.low, shown.high))
        below, above = below and high < 0, above or low > 0
        seen.append(f"{shown} against {each.control} ({each.metric.split('_')[1]} evaluations)")
    verdict: Verdict = "reproduced" if below else "not reproduced" if above else "not testable at this scale"
    reason = f"Difference in mean regret over the caps, in points, with 95% interval: {'; '.join(seen)}."
    return ("not testable at this scale" if scale == "smoke" else verdict), reason


_ALGORITHMS: Mapping[str, Algorithm] = {
    "LayerNAS": LayerNAS(),  # with the cap's cost and at_most
    "random search": hr.RandomSearch(),
    "regularised evolution": hr.Evolution(),
    "regularised evolution, small budgets": hr.Evolution(tournament=25, initial=10),
}
_RIVALS = tuple(_ALGORITHMS)[1:]
_PROGRAM = tuple(hr.one_of(0, 1, 2) for _ in range(8))


def _regrets(name: str, table: Table, cost: str, cap: float, budgets: Sequence[int], seed: int) -> list[float]:
    """Return the regret after each budget."""
    function, column = (params, 1) if cost == "params" else (flops, 2)
    algorithm = LayerNAS(cost=function, at_most=cap) if name == "LayerNAS" else _ALGORITHMS[name]
    study = hr.discover(
        _PROGRAM, lambda net: table.rows[net][0], algorithm=algorithm, trials=max(budgets),
        seed=seed, limits=[hr.Limit(function, at_most=cap)], progress=False,
    )  # fmt: skip
    accuracies = [trial.values["value"] for trial in study.trials]
    optimum = max(row[0] for row in table.rows.values() if row[column] <= cap)
    return [optimum - max(accuracies[:budget]) for budget in budgets]


def params(net: Net) -> float:
    """Return the parameters of an architecture in the table."""
    return _table().rows[net][1]


def flops(net: Net) -> float:
    """Return the FLOPs of an architecture in the table."""
    return _table().rows[net][2]


@functools.cache
def _table() -> Table:
    path, checksum = data_file(
        "nas_bench_macro/nas_bench_macro_cifar10.parquet",
        "Try getting it from github.com/xiusu/NAS-Bench-Macro, as columns arch, mean_acc, params, flops",
    )
    from pyarrow import parquet

    columns = parquet.read_table(path, columns=["arch", "mean_acc", "params", "flops"]).to_pydict()
    rows = {
        tuple(map(int, str(arch))): (float(accuracy), float(params), float(flops))
        for arch, accuracy, params, flops in zip(*columns.values(), strict=True)
    }
    return Table(checksum, rows)


IDEA = Idea(
    slug="layernas",
    title="LayerNAS: search layer by layer, keep the best of each range of costs",
    paper=Paper(
        authors="Fan, Alon, Shen, Peng, Kumar, Long, Wang, Iliopoulos, Juan, Vee",
        year=2023,
        title="LayerNAS: Neural Architecture Search in Polynomial Complexity",
        arxiv="2304.11517",
    ),
    claim=CLAIM,
    usage=(
        "import heuretic as hr\nlimits = [hr.Limit(hr.nn.parameter_count, at_most=1e6)]\n"
        "layers = hr.LayerNAS(cost=hr.nn.parameter_count, at_most=1e6)\n"
        "study = hr.discover(program, evaluate, algorithm=layers, limits=limits)"
    ),
    provides=("heuretic.search:LayerNAS", "heuretic.search.layernas:front"),
    reproduce=reproduce,
)
