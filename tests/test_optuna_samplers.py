"""Optuna's samplers as algorithms: the common contract, going on identically, and what Optuna gets to see."""

import json
import logging
import subprocess
import sys
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

optuna = pytest.importorskip("optuna")

import heuretic as hr  # noqa: E402
from heuretic.search import Result  # noqa: E402
from heuretic.search.optuna_samplers import SAMPLERS, OptunaSampler, Parameters, _genes, parameter_values  # noqa: E402
from objectives import SPACE, score  # noqa: E402
from test_algorithms import FLAT, SPACES, Contract, Ledger, drive  # noqa: E402

#: Settings with which few trials are enough for the models to be used.
SETTINGS: dict[str, dict[str, Any]] = {
    "tpe": {"n_startup_trials": 4, "n_ei_candidates": 4},
    "cmaes": {"popsize": 4},
    "gp": {"n_startup_trials": 3},
    "nsga2": {"population_size": 5},
    "nsga3": {"population_size": 5},
}
CHEAP = ["cmaes", "nsga2", "nsga3", "qmc", "random", "tpe"]
MIXED = hr.Space(
    {
        "x": hr.number(-1.0, 1.0), "lr": hr.number(1e-5, 1.0, log=True), "n": hr.number(1, 1000, log=True),
        "tenth": hr.number(0.1, 0.75, step=0.1), "third": hr.number(-4, 9, step=3), "order": hr.permutation("abcd"),
        "some": hr.some_of(range(6), 1, 4), "ranked": hr.some_of(range(5), 2, 3, ordered=True),
        "deep": hr.repeat(hr.one_of("a", hr.number(0.0, 9.0), hr.permutation([1, 2, 3])), 0, 3),
    }
)  # fmt: skip
NUMBERS = hr.Space(tuple(hr.number(-3.0, 3.0) for _ in range(3)))


def sampler(name: str) -> OptunaSampler:
    return OptunaSampler(name, SETTINGS.get(name, {}))


def value(genome: Any) -> float:
    return -sum((g - 1) ** 2 for g in genome)


class TestNsga2(Contract):
    algorithm = sampler("nsga2")
    test_goes_on_identically_from_its_state = None  # type: ignore[assignment]  # below, for all samplers


@pytest.mark.parametrize("name", CHEAP)
@pytest.mark.parametrize("space", [SPACES["narrow"], MIXED, NUMBERS], ids=["narrow", "mixed", "numbers"])
class TestEverySampler:
    def test_candidates_are_in_the_space_and_follow_from_the_seed(self, name: str, space: hr.Space) -> None:
        runs = [[c.genome for c in drive(sampler(name).start(space, seed), Ledger(), 9)] for seed in (3, 3, 4)]
        assert runs[0] == runs[1]
        assert runs[0] != runs[2]
        assert all(space.contains(genome) and space.is_feasible(genome) for genome in runs[0])

    def test_goes_on_identically_from_its_state(self, name: str, space: hr.Space) -> None:
        """With several candidates under way, told out of order, failures, violations, and others' results."""
        rng = Random(name + str(space.width))
        search, ledger, waiting = sampler(name).start(space, 7), Ledger(), list[Any]()
        for step in range(24):
            if waiting and rng.random() < 0.6:
                rng.shuffle(waiting)
                candidate = waiting.pop()
                told = rng.choice([value(candidate.genome)] * 8 + [None, float("-inf")])
                search.tell([ledger.add(candidate.genome, told, rng.choice([0.0, 0.0, 0.0, 0.5]))])
            elif rng.random() < 0.1:
                genome = space.sample(rng)
                search.tell([ledger.add(genome, value(genome))])
            else:
                waiting += search.ask(rng.randint(1, 2))
            if step % 6 == 5:
                twin = sampler(name).start(space, 7)
                twin.restore(json.loads(json.dumps(search.state(), allow_nan=False)), ledger.by_number)
                assert twin.state() == search.state()
                if step == 17:
                    search = twin  # the study was killed here
        twin = sampler(name).start(space, 7)
        twin.restore(json.loads(json.dumps(search.state())), ledger.by_number)
        for _ in range(6):
            ours, theirs = search.ask(2), twin.ask(2)
            assert ours == theirs
            told = [ledger.add(c.genome, value(c.genome)) for c in ours]
            search.tell(told)
            twin.tell(told)


def test_gp_goes_on_identically() -> None:
    pytest.importorskip("torch")
    search, ledger = sampler("gp").start(NUMBERS, 1), Ledger()
    for _ in range(5):
        [candidate] = search.ask()
        search.tell([ledger.add(candidate.genome, value(candidate.genome))])
    twin = sampler("gp").start(NUMBERS, 1)
    twin.restore(json.loads(json.dumps(search.state(), allow_nan=False)), ledger.by_number)
    assert search.ask() == twin.ask()


@pytest.mark.parametrize("name", ["tpe", "cmaes", "nsga2"])
def test_models_are_used(name: str) -> None:
    for seed in range(2):
        best = {}
        for kind in (name, "random"):
            ledger = Ledger()
            search = OptunaSampler(kind, {"population_size": 10} if kind == "nsga2" else {}).start(NUMBERS, seed)
            for _ in range(60):
                [candidate] = search.ask()
                search.tell([ledger.add(candidate.genome, value(candidate.genome))])
            best[kind] = sum(sorted((r.score or 0 for r in ledger.results), reverse=True)[:10])
        assert best[name] > best["random"]


class TestParameters:
    @given(st.integers(0, 2**40))
    def test_of_a_genome_and_back(self, seed: int) -> None:
        genome = MIXED.sample(Random(seed))
        parameters = Parameters(MIXED)
        values, distributions = parameters.of(MIXED, genome)
        assert values.keys() == distributions.keys()
        for name, distribution in distributions.items():
            assert distribution._contains(distribution.to_internal_repr(values[name]))
        trial = optuna.trial.FixedTrial(values)
        assert parameters.suggest(MIXED, trial) == genome
        for index, decision in enumerate(MIXED.decisions):
            genes = MIXED.genes(genome, index)
            assert _genes(decision, parameter_values(decision, genes)) == genes

    def test_only_choices_that_apply_are_suggested_by_their_paths(self) -> None:
        space = hr.Space({"kind": hr.one_of("none", hr.number(0.0, 1.0)), "order": hr.permutation("ab")})
        search = OptunaSampler("random").start(space, 0)
        seen = {tuple(sorted(p.of(space, c.genome)[0])) for p in [Parameters(space)] for c in search.ask(20)}
        shared = ("kind", "order#0", "order#1")
        assert seen == {shared, tuple(sorted((*shared, "kind.candidates[1]")))}

    def test_a_number_is_drawn_with_its_scale(self) -> None:
        space = hr.Space(hr.number(1e-6, 1.0, log=True))
        drawn = [c.genome[0] for c in OptunaSampler("random").start(space, 0).ask(200)]
        assert 0.35 < sum(x < 1e-3 for x in drawn) / 200 < 0.65


class TestResults:
    def test_optuna_sees_failures_constraints_and_what_it_never_asked_for(self) -> None:
        search = sampler("tpe").start(FLAT, 0)
        ledger = Ledger()
        asked = [c.genome for c in search.ask(3)]
        search.tell([ledger.add(asked[2], None), ledger.add(asked[0], 1.0), ledger.add(FLAT.sample(Random(9)), 5.0)])
        trials = search._study.trials
        assert [t.state.name for t in trials] == ["COMPLETE", "RUNNING", "FAIL", "COMPLETE"]
        assert [t.values for t in trials] == [[1.0], None, None, [5.0]]
        search.tell([ledger.add(asked[1], 9.0, 0.25)])
        trials = search._study.trials
        assert [t.constraints for t in trials] == [{"violation": 0.0}, {"violation": 0.25}, {}, {"violation": 0.0}]
        assert search._study.best_trial.number == 3

    def test_samplers_without_constraints_take_a_violation_for_a_failure(self) -> None:
        search = sampler("cmaes").start(NUMBERS, 0)
        [candidate] = search.ask()
        search.tell([Result(0, candidate.genome, 5.0, 0.5)])
        assert [t.state.name for t in search._study.trials] == ["FAIL"]

    @pytest.mark.parametrize("name", ["tpe", "nsga2", "nsga3", "random"])
    def test_several_objectives(self, name: str) -> None:
        assert sampler(name).several_objectives
        search, results = sampler(name).start(NUMBERS, 0), list[Result]()
        for number in range(16):
            [candidate] = search.ask()
            scores = (-(candidate.genome[0] ** 2), -((candidate.genome[0] - 1) ** 2))
            failed = number % 5 == 4
            results.append(
                Result(number, candidate.genome, None if failed else scores[0], scores=() if failed else scores)
            )
            search.tell([results[-1]])
        assert len(search._study.directions) == 2
        twin = sampler(name).start(NUMBERS, 0)
        twin.restore(json.loads(json.dumps(search.state())), lambda numbers: [results[n] for n in numbers])
        assert search.ask(2) == twin.ask(2)

    def test_cmaes_takes_one_objective(self) -> None:
        assert not sampler("cmaes").several_objectives
        with pytest.raises(ValueError, match="several objectives"):
            hr.discover(SPACE, lambda p: {"a": 1, "b": 2}, algorithm=sampler("cmaes"), maximize=["a", "b"])

    def test_a_narrow_space_is_met_and_a_hopeless_draw_ends(self) -> None:
        tight = hr.Space(tuple(hr.number(0.0, 1.0) for _ in range(4)), feasible=lambda p: sum(p) < 1.3)
        search, ledger = sampler("tpe").start(tight, 0), Ledger()
        assert all(tight.is_feasible(c.genome) for c in drive(search, ledger, 8))
        assert any(slot is None for slot in search.slots)
        twin = sampler("tpe").start(tight, 0)
        twin.restore(json.loads(json.dumps(search.state())), ledger.by_number)
        assert search.ask(2) == twin.ask(2)
        with pytest.raises(hr.search.InfeasibleError):
            sampler("random").start(hr.Space(hr.number(0.0, 1.0), feasible=lambda p: False), 0).ask()

    def test_state_is_small_and_holds_no_program(self) -> None:
        for name, most in (("tpe", 60), ("random", 60), ("qmc", 250), ("nsga2", 500), ("cmaes", 6000)):
            search, ledger = sampler(name).start(NUMBERS, 0), Ledger()
            drive(search, ledger, 40)
            assert len(json.dumps(search.state(), allow_nan=False)) < most


class TestStudies:
    def test_a_stopped_study_goes_on_as_if_undisturbed(self, tmp_path: Any) -> None:
        url = f"sqlite:///{tmp_path / 's.db'}?synchronous=OFF"
        for trials in (5, 11, 18):
            hr.discover(SPACE, score, algorithm=sampler("tpe"), trials=trials, store=url, name="a", progress=False)
        whole = hr.discover(SPACE, score, algorithm=sampler("tpe"), trials=18, progress=False)
        assert [t.genome for t in hr.open_study(url, "a").trials] == [t.genome for t in whole.trials]

    def test_limits_hold(self) -> None:
        from objectives import size

        study = hr.discover(
            SPACE, score, algorithm="optuna-random", limits=[hr.Limit(size, at_most=100)], trials=12, progress=False
        )
        assert len(study.trials) == 12
        assert max(t.costs["size"] for t in study.trials) <= 100

    def test_choices_met_while_running(self) -> None:
        from objectives import met_while_running

        study = hr.discover(met_while_running, algorithm=sampler("nsga2"), trials=15, progress=False)
        assert len(study.trials) == 15
        assert len(study.space()) == 3

    def test_what_grows_goes_on(self) -> None:
        small, large = hr.Space((hr.number(0.0, 1.0),)), hr.Space((hr.number(0.0, 1.0), hr.number(0.0, 1.0)))
        search, ledger = sampler("cmaes").start(small, 0), Ledger()
        drive(search, ledger, 9)
        waiting = search.ask(1)[0].genome
        search.grow(large, lambda genome: (*genome, 0.5))
        search.tell([ledger.add((*waiting, 0.5), 1.0)])
        assert all(large.contains(c.genome) for c in drive(search, ledger, 9))
        assert len({c.genome[1] for c in search.ask(5)}) == 5


class TestBeingAGuest:
    def test_verbosity_and_warnings_are_as_before(self, recwarn: pytest.WarningsRecorder) -> None:
        before = optuna.logging.get_verbosity()
        state = Random(0).getstate()
        search = OptunaSampler("cmaes", {"with_margin": True}).start(MIXED, 0)
        drive(search, Ledger(), 6)
        assert optuna.logging.get_verbosity() == before == logging.getLogger("optuna").level
        assert Random(0).getstate() == state
        assert not recwarn.list

    def test_nothing_is_printed(self, capfd: pytest.CaptureFixture[str]) -> None:
        drive(sampler("cmaes").start(NUMBERS, 0), Ledger(), 6)
        assert capfd.readouterr() == ("", "")

    def test_optuna_is_imported_only_when_a_run_starts(self) -> None:
        code = (
            "import sys, heuretic as hr; hr.search.OptunaSampler('tpe'); assert 'optuna' not in sys.modules;"
            "sys.modules['optuna'] = None\n"
            "try: hr.search.OptunaSampler('tpe').start(hr.Space(hr.number(0, 1)))\n"
            "except ImportError as error: print(error)"
        )
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert "Try: pip install 'heuretic[optuna]'" in said

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match=r"sampler must be one of tpe, cmaes, gp, .*, got 'TPE'"):
            OptunaSampler("TPE")
        with pytest.raises(ValueError, match="settings must not hold seed"):
            OptunaSampler("tpe", {"seed": 3})
        with pytest.raises(ValueError, match=r"settings must be of .*n_startup_trials.*, got \{'startup': 3\}"):
            OptunaSampler("tpe", {"startup": 3}).start(FLAT)
        forged = {"asked": 1, "trials": [], "optimizers": [[0, "cma:optimizer", {"class": "os.system", "held": {}}]]}
        with pytest.raises(ValueError, match=r"state must hold an optimizer of cmaes, got 'os.system'"):
            sampler("cmaes").start(NUMBERS).restore(forged, lambda numbers: [])

    def test_every_name_is_a_sampler_of_optuna(self) -> None:
        assert all(hasattr(optuna.samplers, cls) for cls in SAMPLERS.values())
        assert hr.loads(hr.dumps(sampler("tpe"))) == sampler("tpe")

    def test_symbolic_settings_are_built(self) -> None:
        crossover = hr.sym(optuna.samplers.nsgaii.SBXCrossover)()
        described = OptunaSampler("nsga2", {"population_size": 4, "crossover": crossover})
        assert len(drive(described.start(NUMBERS, 0), Ledger(), 9)) == 9
