"""The engine `ray` on a real cluster of this machine: results, deaths of workers, nodes and drivers, limits, code."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import heuretic as hr
from heuretic.search import RandomSearch, Space, SuccessiveHalving
from heuretic.study.conditions import Conditions, Retry
from heuretic.study.engines import EngineError
from heuretic.study.trial import Evaluator, Outcome, Ticket
from objectives import SPACE, Point, failing, met_while_running, noisy, score, size

ray = pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")

from heuretic.study.engines.ray import Ray  # noqa: E402

RANDOM = {"algorithm": RandomSearch(), "progress": False}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head node with two CPUs, to which this process is connected; tests add nodes."""
    from ray.cluster_utils import Cluster

    started = Cluster(
        initialize_head=True, head_node_args={
            "num_cpus": 2, "object_store_memory": 100 * 2**20, "include_dashboard": False,
            "_system_config": {"health_check_period_ms": 1000},
        },
    )  # fmt: skip
    ray.init(address=started.address, log_to_driver=False, logging_level=logging.ERROR)
    yield started
    ray.shutdown()
    started.shutdown()


def stepping(point: Point, trial: hr.Trial) -> float:
    """Report many steps."""
    for step in range(20):
        trial.report(step, value=score(point) * step)
    return score(point)


def watched(point: Point, folder: str, trial: hr.Trial, sleep_s: float = 0.0) -> float:
    """Say that a trial begins and in which process, and take a while."""
    with open(Path(folder) / f"{trial.index}.txt", "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(sleep_s)
    return score(point)


def watching(folder: Path, sleep_s: float, slow_trials: tuple[int, ...]) -> Callable[..., float]:
    """A closure, which no module can name."""
    place = str(folder)

    def evaluate(point: Point, trial: hr.Trial) -> float:
        begun = Path(place, f"{trial.index}.txt").exists()
        return watched(point, place, trial, sleep_s if trial.index in slow_trials and not begun else 0.0)

    return evaluate


def pids(folder: Path, trial: int) -> list[int]:
    file = folder / f"{trial}.txt"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def servers_of(pid: int) -> list[int]:
    """Return Ray's own servers among the children of a process, some of which come and go."""
    found: list[int] = []
    for child in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess):
            if child.name() in ("raylet", "gcs_server"):
                found.append(child.pid)
    return found


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # also if it goes while it is looked at
        return True


def kill_when_begun(folder: Path, trial: int) -> threading.Thread:
    def act() -> None:
        until(lambda: pids(folder, trial))
        os.kill(pids(folder, trial)[0], signal.SIGKILL)

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def seen(study: Any) -> list[Any]:
    return [(t.number, t.genome, t.seed, t.state, t.values, t.steps, t.error is None) for t in study.trials]


def an_engine(evaluate: Any, conditions: Conditions = Conditions(), **given: Any) -> tuple[Ray, list[Any]]:
    reports: list[Any] = []
    evaluator = Evaluator(evaluate, [Space(SPACE)], False, ("value",))
    return Ray(
        evaluator, lambda *report: bool(reports.append(report)), given.pop("workers", 1), conditions, **given
    ), reports


def ticket(number: int) -> Ticket:
    return Ticket(number, Space(SPACE).default(), bytes(16), number)


def outcomes(engine: Ray, count: int, seconds: float = 30.0) -> list[Outcome]:
    found: list[Outcome] = []

    def enough() -> bool:
        found.extend(engine.wait(0.5))
        return len(found) >= count

    until(enough, seconds)
    return found


class TestResults:
    def test_are_those_of_one_process(self, cluster: Any) -> None:
        given: dict[str, Any] = {"trials": 12, "seed": 5, **RANDOM}
        for evaluate in (noisy, failing):
            here = hr.discover(SPACE, evaluate, **given)
            there = hr.discover(SPACE, evaluate, engine="ray", workers=2, deterministic=True, **given)
            assert {row[0]: row for row in seen(here)} == {row[0]: row for row in seen(there)}
        assert {"failed", "finished"} == set(there.counts)
        workers = {t.worker for t in there.trials}
        assert workers <= {f"worker-{i}@{ray.nodes()[0]['NodeID'][:8]}" for i in range(2)}
        assert all(t.attempts == 1 for t in there.trials)
        assert all("python" in there.store.environments()[t.environment] for t in there.trials)
        assert ray.is_initialized()  # it was not ours

    def test_pruning_decides_the_same(self, cluster: Any) -> None:
        given: dict[str, Any] = {"trials": 16, "seed": 2, "prune": SuccessiveHalving(min_steps=2), **RANDOM}
        there = hr.discover(SPACE, stepping, engine="ray", workers=1, **given)
        here = hr.discover(SPACE, stepping, engine="processes", workers=1, **given)
        assert seen(here) == seen(there)
        assert there.counts["pruned"] > 4
        both = hr.discover(SPACE, stepping, engine="ray", workers=2, **given)
        assert sum(both.counts.values()) == 16
        assert both.counts["pruned"] > 4
        assert all(t.steps[-1][0] < 19 for t in both.trials if t.state == "pruned")

    def test_choices_met_while_running(self, cluster: Any) -> None:
        study = hr.discover(met_while_running, engine="ray", workers=2, trials=15, **RANDOM)
        assert study.counts == {"finished": 15}
        assert all(t.values["value"] > -0.1 for t in study.trials)
        assert {len(t.genome) for t in study.trials} != {2}  # depth is met under gelu alone

    def test_costs_are_kept_and_lambdas_run(self, cluster: Any) -> None:
        offset = 100
        study = hr.discover(
            SPACE,
            lambda point: point.n + offset,
            engine="ray",
            trials=8,
            limits=(hr.Limit(size, at_most=200),),
            **RANDOM,
        )
        assert study.counts == {"finished": 8}
        assert all(t.values["value"] == t.costs["size"] / 10 + 100 <= 120 for t in study.trials)


class TestDeaths:
    def test_a_killed_worker_is_replaced_and_its_trial_tried_again(self, cluster: Any, tmp_path: Path) -> None:
        killer = kill_when_begun(tmp_path, 1)
        study = hr.discover(
            SPACE, watching(tmp_path, 300.0, (1,)), engine="ray", workers=2, trials=10, retry=Retry(2, 0.1), **RANDOM
        )
        killer.join()
        assert study.counts == {"finished": 10}
        assert {t.number: t.attempts for t in study.trials} == {i: 2 if i == 1 else 1 for i in range(10)}
        assert len(set(pids(tmp_path, 1))) == 2

    def test_a_trial_that_kills_all_its_workers_fails_and_holds_up_no_other(self, cluster: Any) -> None:
        def evaluate(point: Point, trial: hr.Trial) -> float:
            trial.report(7, value=1.0)
            if trial.index == 0:
                os._exit(3)
            return score(point)

        engine, reports = an_engine(evaluate, Conditions(Retry(2, 4.0, 4.0)), workers=1)
        try:
            engine.submit(ticket(0))
            until(lambda: engine.wait(0.1) == [] and engine._later)
            for number in range(1, 4):
                engine.submit(ticket(number))
            assert [each.number for each in outcomes(engine, 3)] == [1, 2, 3]  # while trial 0 is put off
            assert engine._later
            assert engine.withdraw() == [0]
            engine.submit(ticket(0))
            [last] = outcomes(engine, 1)
        finally:
            engine.close()
        assert last.error is not None
        assert re.match(r"ProcessDied: the evaluation ended its process 2 times \(last: .*process has died", last.error)
        assert (last.attempts, last.steps, last.worker.startswith("worker-")) == (2, [(7, {"value": 1.0})], True)
        assert sorted(number for number, _, _ in reports) == [0, 0, 1, 2, 3]

    def test_a_killed_node_moves_the_trial_to_a_new_one(self, cluster: Any, tmp_path: Path) -> None:
        """Nodes come and go; on another node than that of the driver, the code is what was sent."""
        first = cluster.add_node(num_cpus=0, resources={"spot": 1}, object_store_memory=80 * 2**20)
        evaluator = Evaluator(watching(tmp_path, 300.0, (2,)), [Space(SPACE)], False, ("value",))
        conditions = Conditions(Retry(3, 0.1), resources={"cpu": 0, "spot": 1})
        engine = Ray(evaluator, lambda *_: False, None, conditions)
        try:
            assert engine.workers == 1
            for number in range(4):
                engine.submit(ticket(number))
            found = {each.number: each for each in outcomes(engine, 2)}
            until(lambda: engine.wait(0.1) == [] and pids(tmp_path, 2))
            cluster.remove_node(first, allow_graceful=False)
            second = cluster.add_node(num_cpus=0, resources={"spot": 1}, object_store_memory=80 * 2**20)
            found |= {each.number: each for each in outcomes(engine, 2, 120.0)}  # Ray takes its time to notice
        finally:
            engine.close()
        assert {n: (each.error, each.attempts) for n, each in found.items()} == {
            n: (None, 1 + (n == 2)) for n in range(4)
        }
        assert [found[n].worker.partition("@")[2] for n in (0, 1)] == [first.node_id[:8]] * 2
        assert [found[n].worker.partition("@")[2] for n in (2, 3)] == [second.node_id[:8]] * 2
        cluster.remove_node(second, allow_graceful=False)

    def test_close_ends_what_runs(self, cluster: Any, tmp_path: Path) -> None:
        engine, _ = an_engine(watching(tmp_path, 300.0, (0, 1)), workers=2)
        for number in range(2):
            engine.submit(ticket(number))
        until(lambda: engine.wait(0.1) == [] and pids(tmp_path, 0) and pids(tmp_path, 1))
        engine.close()
        engine.close()
        until(lambda: all(is_gone(pid) for number in range(2) for pid in pids(tmp_path, number)), 20)


class TestLimits:
    def test_time_and_memory(self, cluster: Any, tmp_path: Path) -> None:
        folder = str(tmp_path)

        def evaluate(point: Point, trial: hr.Trial) -> float:
            if trial.index == 1:
                child = subprocess.Popen(["sleep", "300"])
                Path(folder, "child").write_text(str(child.pid))
                time.sleep(300)
            if trial.index == 2:
                held = [bytearray(b"x" * 2**20) for _ in range(700)]
                time.sleep(300)
                return len(held)
            return score(point)

        engine, _ = an_engine(evaluate, Conditions(Retry(3, 0.1), timeout_s=6.0, memory_mb=600.0))
        try:
            for number in range(4):
                engine.submit(ticket(number))
            found = {each.number: each for each in outcomes(engine, 4)}
        finally:
            engine.close()
        assert found[1].error == "TimedOut: the evaluation took more than 6 s (timeout_s)"
        assert found[2].error == "OutOfMemory: the evaluation used more than 600 MB (memory_mb)"
        assert [found[n].attempts for n in range(4)] == [1] * 4
        assert [found[n].error for n in (0, 3)] == [None] * 2
        assert 6.0 <= found[1].seconds < 60
        assert [found[n].worker.partition("@")[0] for n in range(4)] == [f"worker-{i}" for i in (0, 0, 1, 2)]
        until(lambda: is_gone(int((tmp_path / "child").read_text())))

    def test_memory_that_no_worker_fits_into(self, cluster: Any) -> None:
        with pytest.raises(EngineError, match="memory_mb must leave room to evaluate, got 20: a worker holds"):
            hr.discover(SPACE, score, engine="ray", workers=1, trials=2, memory_mb=20, **RANDOM)

    @pytest.mark.parametrize("resources", [{"gpu": 1}, {"cpu": 3}, {"wishes": 0.5}, {"memory_mb": 10**9}])
    def test_what_no_node_has_is_refused(self, cluster: Any, resources: dict[str, float]) -> None:
        with pytest.raises(
            EngineError, match=r"resources must fit on one node of the cluster, got .* no node has more than"
        ) as caught:
            hr.discover(SPACE, score, engine="ray", trials=2, resources=resources, **RANDOM)
        assert next(iter(resources)) in str(caught.value)

    def test_as_many_workers_as_there_is_room_for(self, cluster: Any) -> None:
        for resources, workers in (({}, 2), ({"cpu": 0.5}, 4), ({"cpu": 2}, 1), ({"cpu": 0}, 2)):
            engine, _ = an_engine(score, Conditions(resources=resources), workers=None)
            engine.close()
            assert engine.workers == workers

    def test_taken_resources_are_waited_for(self, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Ray, "NOTE_S", 0.3)
        monkeypatch.setattr(Ray, "CHECK_S", 0.1)

        class Holder:
            def ready(self) -> None:
                """Return when it runs."""

        taken = ray.remote(num_cpus=2)(Holder).remote()
        ray.get(taken.ready.remote())
        lines: list[str] = []
        engine, _ = an_engine(score, note=lines.append)
        try:
            engine.submit(ticket(0))
            until(lambda: engine.wait(0.1) == [] and lines)
            ray.kill(taken)
            assert outcomes(engine, 1)[0].error is None
        finally:
            engine.close()
        assert lines == [
            "Waiting for the Ray cluster: a trial takes {'cpu': 1}, and {'cpu': 0} is free on all nodes together."
        ]

    def test_nothing_piles_up(self, cluster: Any) -> None:
        import ray._private.worker as worker

        core_worker: Any = vars(worker.global_worker)["core_worker"]
        engine, _ = an_engine(score, workers=2)
        held: list[int] = []
        try:
            done, next_number = 0, 0
            while done < 2000:
                while next_number < min(2000, done + 6):  # more than there are workers
                    engine.submit(ticket(next_number))
                    next_number += 1
                done += len(engine.wait(0.5))
                held.append(len(core_worker.get_all_reference_counts()))
                assert sum(slot.ticket is not None for slot in engine._slots) <= 2
        finally:
            engine.close()
        assert max(held) <= 12
        assert max(held[-100:]) <= max(held[:100])


class TestRefusals:
    def test_what_cannot_be_sent(self, cluster: Any) -> None:
        lock = threading.Lock()
        with pytest.raises(EngineError, match=r"evaluate must be picklable to run on Ray: .*lock"):
            hr.discover(SPACE, lambda point: score(point) if lock else 0.0, name="lock", engine="ray", **RANDOM)

    def test_what_workers_cannot_import(self, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A module that is there when the study begins, and not where workers look."""
        import importlib.util

        (tmp_path / "elsewhere.py").write_text("def evaluate(point): return 1.0")
        spec = importlib.util.spec_from_file_location("elsewhere", tmp_path / "elsewhere.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "elsewhere", module)
        spec.loader.exec_module(module)
        with pytest.raises(EngineError, match=r"(?s)a worker could not start.*No module named 'elsewhere'"):
            hr.discover(SPACE, module.evaluate, engine="ray", workers=1, trials=2, **RANDOM)

    def test_wrong_names_and_addresses(self, cluster: Any) -> None:
        for engine in ("rai", "ray:", "Ray", "rayon"):
            with pytest.raises(ValueError, match="engine must be"):
                hr.discover(SPACE, score, engine=engine, **RANDOM)
        with pytest.raises(EngineError, match=r"Ray is connected to .* already, got engine='ray:10\.1\.1\.1:6379'"):
            hr.discover(SPACE, score, engine="ray:10.1.1.1:6379", **RANDOM)
        with pytest.raises(ValueError, match="workers must be >= 1 or None, got 0"):
            hr.discover(SPACE, score, engine="ray", workers=0, **RANDOM)


SCRIPT = """
import os, sys, time
from pathlib import Path
import heuretic as hr
from shapes.round import area

class Circle(hr.Symbolic):
    radius: float
    name: str = "a"

def evaluate(circle):
    Path("begun", str(os.getpid())).touch()
    time.sleep(float(Path("sleep_s").read_text()))
    return area(circle) if isinstance(circle, Circle) else -1.0

def run():
    program = Circle(hr.number(0.0, 1.0), hr.one_of("a", "b"))
    study = hr.discover(program, evaluate, engine="ray", workers=2, trials=12, store="sqlite:///s.db", name="circles",
                        algorithm=hr.RandomSearch(), progress=False)
    print(study.counts, study.stopped)
"""


class TestScripts:
    """A script in a folder that no worker knows, with a package of its own and a program of its own classes."""

    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        (tmp_path / "shapes").mkdir()
        (tmp_path / "begun").mkdir()
        (tmp_path / "shapes" / "__init__.py").write_text("")
        (tmp_path / "shapes" / "round.py").write_text("def area(circle): return 3.14159 * circle.radius**2\n")
        (tmp_path / "script.py").write_text(f"{SCRIPT}\nif __name__ == '__main__':\n    run()\n")
        return tmp_path

    @staticmethod
    def start(project: Path, sleep_s: float, address: str = "", script: str = "script.py") -> subprocess.Popen[str]:
        (project / "sleep_s").write_text(str(sleep_s))  # workers have the environment of their node, not of the driver
        environment = {**os.environ, "RAY_ADDRESS": address}
        return subprocess.Popen(
            [sys.executable, script], cwd=project, env=environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def test_killed_with_the_cluster_it_started_and_gone_on_with_on_another(self, cluster: Any, project: Path) -> None:
        first = self.start(project, 0.3)
        store = f"sqlite:///{project}/s.db"
        until(lambda: len(list((project / "begun").iterdir())) == 2)
        time.sleep(1.0)  # some trials end
        servers = servers_of(first.pid)
        first.kill()
        first.communicate()
        assert len(servers) == 2
        workers = [int(each.name) for each in (project / "begun").iterdir()]
        until(lambda: all(is_gone(pid) for pid in (*servers, *workers)))
        before = {t.number: t for t in hr.open_study(store).trials}
        second = self.start(project, 0.0, cluster.address)
        out, err = second.communicate(timeout=120)
        assert out.strip().splitlines()[-1:] == ["{'finished': 12} trials"], err
        after = {t.number: t for t in hr.open_study(store).trials}
        assert {n: after[n] for n in before} == before
        assert sorted(after) == list(range(12))
        assert all(t.values["value"] >= 0 for t in after.values())
        workers = {int(each.name) for each in (project / "begun").iterdir()}
        until(lambda: all(is_gone(pid) for pid in workers))

    def test_two_interrupts_end_it_at_once(self, cluster: Any, project: Path) -> None:
        process = self.start(project, 300.0, cluster.address)
        until(lambda: len(list((project / "begun").iterdir())) == 2)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        time.sleep(0.5)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert out.strip().splitlines()[-1:] == ["{} interrupted"], err
        until(lambda: all(is_gone(int(each.name)) for each in (project / "begun").iterdir()))

    def test_a_script_without_a_guard_is_told_so(self, cluster: Any, project: Path) -> None:
        (project / "script.py").write_text(f"{SCRIPT}\nrun()\n")
        process = self.start(project, 0.0, cluster.address)
        _, err = process.communicate(timeout=60)
        assert process.returncode != 0
        assert "put its main part under" in err

    def test_on_other_nodes_the_code_is_what_was_sent(self, cluster: Any, project: Path) -> None:
        """The name of the script cannot be imported, and its folder is no worker's: it must have come along."""
        (project / "script.py").rename(project / "a-script.py")
        node = cluster.add_node(num_cpus=0, resources={"far": 2}, object_store_memory=80 * 2**20)
        try:
            source = (
                (project / "a-script.py").read_text().replace('Path("begun"', "assert not Path('begun').exists() #")
            )
            source = source.replace("time.sleep(", "assert not Path('sleep_s').exists() #")
            source = source.replace("workers=2,", 'workers=2, resources={"cpu": 0, "far": 1},')
            source = source.replace(
                "area(circle) if", 'float("heuretic" in __file__ and os.path.dirname(__file__) in sys.path[:1]) if'
            )
            source = source.replace(
                "print(study.counts,", "print({t.values['value'] for t in study.trials}, study.counts,"
            )
            (project / "a-script.py").write_text(source)
            out, err = self.start(project, 0.0, cluster.address, "a-script.py").communicate(timeout=120)
        finally:
            cluster.remove_node(node, allow_graceful=False)
        assert out.strip().splitlines()[-1:] == ["{1.0} {'finished': 12} trials"], err
