"""Running evaluations: scores with intervals, logs that inspect-ai reads, limits, stops, comparisons, and the study they end in."""

import asyncio
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from inspect_ai.log import read_eval_log, read_eval_log_sample_summaries
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    GenerateConfig,
    ModelOutput,
    ModelUsage,
    get_model,
)

import heuretic as hr
from heuretic.evals import EVALUATIONS, Evaluation, Questions, Results, Score
from heuretic.evals.comparing import compare, permutation_test, read_run
from heuretic.evals.estimating import estimate
from heuretic.evals.judging import needed, verdict
from heuretic.evals.labelled import Labelled
from heuretic.evals.log import record
from heuretic.evals.results import bootstrap_mean, mean_difference
from heuretic.evals.running import evaluate
from heuretic.lm import Answer, Budget, LanguageModel, Price, Question, ReplyCache, Sampling
from heuretic.lm.strategies import ChainOfThought, Direct, SelfConsistency
from heuretic.study import StoreError, open_study
from heuretic.study.recording import record as record_trial
from scripted import scripted
from services import KEY, Asked, Sent, Service, openai

ROOT = Path(__file__).parent.parent


def number(prompt: str) -> int:
    found = re.search(r"What is (\d+) \+ 1\?", prompt)
    assert found is not None, prompt
    return int(found[1])


class Sums(Evaluation):
    """Sums in as many groups as wanted."""

    name: ClassVar[str] = "sums"
    by: ClassVar[tuple[str, ...]] = ("group",)
    within: ClassVar[str] = ""

    count: int = 12
    groups: int = 3
    same: bool = False

    def load(self) -> Questions:
        def all_of_them() -> Iterator[Question]:
            for k in range(self.count):
                target = "1" if self.same else str(k + 1)
                group = f"group {k * self.groups // self.count}"
                yield Question(f"What is {k} + 1?", target, id=f"q{k}", about={"group": group, "pair": str(k // 2)})

        return Questions(all_of_them, self.count, {"sums": "0" * 64})

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        if answer.answer == "unjudged":
            return Score(None, reason="unjudged: off format")
        return Score(
            float(answer.answer == question.target), {"length": len(question.text) / 100}, {"said": answer.answer}
        )


class Grouped(Sums):
    """Sums that come in pairs."""

    name: ClassVar[str] = "grouped"
    within: ClassVar[str] = "pair"


class Judged(Sums):
    """Sums that a judge scores."""

    name: ClassVar[str] = "judged"
    judged: ClassVar[bool] = True

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        found, steps = await verdict(
            "grade",
            needed(judge, self.name),
            f"{question.text} {answer.answer}",
            lambda text: {"yes": 1.0, "no": 0.0}.get(text),
            Sampling(),
        )
        return Score(found, steps=steps, reason="" if found is not None else "unjudged")


def right_below(limit: int) -> LanguageModel:
    """Return a model that does sums of small numbers right."""
    return scripted(lambda prompt, _: f"The answer is {number(prompt) + (1 if number(prompt) < limit else 2)}.")


# --- Scores


def test_a_run_has_scores_intervals_groups_and_what_it_took() -> None:
    run = evaluate(Sums(), right_below(6))
    assert run.score.value == 0.5
    assert run.score.low is not None
    assert run.score.high is not None
    assert 0.1 <= run.score.low < 0.5 < run.score.high <= 0.9
    assert {name: each.value for name, each in run.groups["group"].items()} == {
        "group 0": 1.0,
        "group 1": 0.5,
        "group 2": 0.0,
    }
    assert run.outcomes == {"answered": 12}
    assert (run.questions, run.total, run.stopped, run.judge, run.log) == (12, 12, "", None, None)
    assert run.spent.usage.calls == run.spent.replies == 12
    assert run.checksums == {"sums": "0" * 64}
    assert run.results.ids == [f"q{k}" for k in range(12)]
    assert run.results.metrics["length"].tolist() == [len(f"What is {k} + 1?") / 100 for k in range(12)]


def test_the_order_in_which_answers_come_changes_nothing() -> None:
    async def output(messages, *_) -> ModelOutput:
        await asyncio.sleep(random.Random(messages[-1].text).random() / 50)
        found = ModelOutput.from_content("m", f"The answer is {number(messages[-1].text) % 5}.")
        return found.model_copy(update={"usage": ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)})

    model = LanguageModel(get_model("mockllm/model", custom_outputs=output, memoize=False))
    at_once, one_by_one = evaluate(Grouped(count=30), model), evaluate(Grouped(count=30), model, concurrency=1)
    assert at_once.results.ids == one_by_one.results.ids
    assert at_once.summary == one_by_one.summary
    assert at_once.groups == one_by_one.groups


def test_what_has_no_score_is_counted_and_never_taken_for_wrong() -> None:
    def reply(prompt: str, _: object) -> str | ModelOutput:
        k = number(prompt)
        if k == 0:
            raise RuntimeError("the service is down")
        if k == 1:
            return "The answer is unjudged."
        if k == 2:
            cut = ChatCompletionChoice(message=ChatMessageAssistant(content="<think>1 and 2"), stop_reason="max_tokens")
            return ModelOutput(
                model="m", choices=[cut], usage=ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
            )
        if k == 3:
            return "I'm sorry, but I can't help with that."
        return f"<think>The answer is 99.</think>The answer is {k + 1}."

    from heuretic.lm.parsing import AfterCue

    run = evaluate(Sums(), scripted(reply), strategy=Direct(parse=AfterCue()))
    assert run.outcomes == {"answered": 9, "error": 1, "truncated": 1, "refused": 1}
    assert run.unscored == {"error": 1, "unjudged": 1}
    assert run.score.count == 10
    assert run.score.value == pytest.approx(0.8)
    assert run.bounds == pytest.approx((8 / 12, 10 / 12))
    assert math.isnan(run.results.values[0])
    assert run.results.values[2] == run.results.values[3] == 0


def test_chance_and_the_constant_answer() -> None:
    labelled = Labelled(set="mmlu/anatomy")
    run = evaluate(labelled, scripted(lambda *_: "The answer is (A)."))
    targets = [q.target for q in labelled.load()]
    assert run.chance == 0.25
    assert run.constant == max(targets.count(letter) for letter in "ABCD") / len(targets)
    assert run.score.value == targets.count("A") / len(targets)
    assert evaluate(Sums(same=True), right_below(0)).constant == 1.0
    part = evaluate(labelled, scripted(lambda *_: "The answer is (A)."), limit=5)
    assert part.constant in {0.0, 0.2, 0.4, 0.6, 0.8, 1.0}  # of these five, the answer that is commonest among all


def test_a_judge_is_named_asked_again_and_then_counted_as_not_judging() -> None:
    asked: list[str] = []

    def judging(prompt: str, config: GenerateConfig) -> str:
        return "hm" if number(prompt) == 3 else "yes" if number(prompt) % 2 else "no"

    run = evaluate(Judged(), right_below(12), judge=scripted(judging, asked))
    assert run.judge == "mockllm/model"
    assert run.score.value == pytest.approx(5 / 11)
    assert run.unscored == {"unjudged": 1}
    assert run.judge_spent.replies == len(asked) == 11 + 3
    with pytest.raises(ValueError, match="judged must have a judge, got none"):
        evaluate(Judged(), right_below(12))


def test_judges_are_asked_anew_when_their_prompt_changes(tmp_path: Path) -> None:
    asked: list[str] = []
    judge = scripted(lambda *_: "yes", asked, cache=ReplyCache(tmp_path / "replies.db"))
    for text, calls in (("Is it right?", 1), ("Is it right?", 1), ("Is it really right?", 2)):
        found, _ = asyncio.run(verdict("grade", judge, text, lambda said: said == "yes" or None, Sampling()))
        assert found is True
        assert len(asked) == calls


# --- Which questions


def test_a_limit_takes_questions_of_all_categories_and_a_larger_one_takes_more() -> None:
    def taken(limit: int) -> list[str]:
        return list(evaluate(Sums(count=60, groups=5), right_below(0), limit=limit).results.ids)

    ten, twenty = taken(10), taken(20)
    assert len(ten) == 10
    assert set(ten) < set(twenty)
    assert {int(name[1:]) * 5 // 60 for name in ten[:10]} == set(range(5))
    assert ten == taken(10)
    assert ten == sorted(ten, key=lambda name: int(name[1:]))  # in their order
    with pytest.raises(ValueError, match="limit must be >= 1"):
        taken(0)


def test_equal_ids_are_an_error() -> None:
    class Twice(Sums):
        """The first question twice."""

        def load(self) -> Questions:
            first = next(iter(Sums.load(self)))
            return Questions(lambda: [first, first], 2)

    with pytest.raises(ValueError, match="id must be new, got 'q0' again"):
        evaluate(Twice(), right_below(0))


def test_strategies_by_address_look_for_answers_as_the_evaluation_expects() -> None:
    run = evaluate(
        Labelled(set="aqua"),
        scripted(lambda *_: "So (B). The answer is (B)."),
        strategy="direct | self-consistency?samples=2",
        limit=4,
    )
    assert isinstance(run.strategy, SelfConsistency)
    assert run.outcomes == {"answered": 4}
    assert run.spent.replies == 8


def test_a_file_of_questions_is_an_evaluation(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(
        "".join(
            json.dumps({"question": f"What is {k} + 1?", "answer": k + 1, "category": "ab"[k % 2]}) + "\n"
            for k in range(8)
        )
    )
    run = evaluate(Labelled(set=str(file)), right_below(4))
    assert (run.evaluation.title, run.score.value) == ("mine", 0.5)
    assert set(run.groups["category"]) == {"a", "b"}
    assert set(run.checksums) == {"mine.jsonl"}
    file.write_text('{"question": "What is 1 + 1?"}\n')
    with pytest.raises(ValueError, match="questions must have targets"):
        evaluate(Labelled(set=str(file)), right_below(4))
    file.write_text('{"question": "What is 1 + 1?", "answer"\n')
    with pytest.raises(ValueError, match=r"record must be JSON, got .*mine\.jsonl, row 0"):
        evaluate(Labelled(set=str(file)), right_below(4))
    with pytest.raises(FileNotFoundError, match=r"missing\.csv"):
        evaluate(Labelled(set="missing.csv"), right_below(4))


# --- Logs


def test_inspect_reads_the_log(tmp_path: Path) -> None:
    def reply(prompt: str, _: object) -> str:
        return (
            "The answer is unjudged." if number(prompt) == 5 else f"{'so ' * 20_000}The answer is {number(prompt) + 1}."
        )

    from heuretic.lm.parsing import AfterCue

    run = evaluate(Sums(), scripted(reply), strategy=Direct(parse=AfterCue()), logs=tmp_path)
    assert run.log is not None
    log = read_eval_log(str(run.log))
    assert (log.status, log.eval.task, log.eval.model) == ("success", "heuretic/sums", "mockllm/model")
    assert log.samples is not None
    assert len(log.samples) == 12
    assert log.results is not None
    [score] = log.results.scores
    assert score.metrics["score"].value == run.score.value == 1.0
    assert (score.scored_samples, score.unscored_samples) == (11, 1)
    samples = {sample.id: sample for sample in log.samples}
    assert "characters left out" in samples["q0"].messages[1].text
    assert len(samples["q0"].messages[1].text) < 21_000
    assert samples["q0"].scores is not None
    assert samples["q0"].scores["score"].value == 1
    assert samples["q0"].scores["score"].metadata is not None
    assert samples["q0"].scores["score"].metadata["said"] == "1"
    assert math.isnan(samples["q5"].scores["score"].value)  # pyright: ignore
    kept = json.loads(json.dumps(log.results.metadata))
    assert kept["summary"]["score"]["value"] == 1.0
    assert kept["strategy"]["program"]["$type"].endswith(":Direct")
    assert len(read_eval_log_sample_summaries(str(run.log))) == 12
    assert list(tmp_path.iterdir()) == [run.log]


def test_the_memory_of_a_run_hardly_grows_with_the_number_of_answers(tmp_path: Path) -> None:
    code = """
import sys, tracemalloc
from test_evaluations import Sums, right_below, evaluate
evaluate(Sums(count=500), right_below(0), logs=sys.argv[1])
tracemalloc.start()
peaks = []
for count in (500, 3000):
    tracemalloc.reset_peak()
    evaluate(Sums(count=count), right_below(0), logs=sys.argv[1])
    peaks.append(tracemalloc.get_traced_memory()[1])
print((peaks[1] - peaks[0]) / 2500)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True,
        text=True, timeout=240, check=True,
    )  # fmt: skip
    assert float(done.stdout) < 2_500  # bytes for each answer, most of them entries of the archive's table of contents


def test_a_run_that_fails_leaves_no_log(tmp_path: Path) -> None:
    class Broken(Sums):
        """Scores that cannot be told."""

        async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
            raise RuntimeError("no score")

    with pytest.raises(ValueError, match=r"sums, question '.*': RuntimeError: no score"):
        evaluate(Broken(), right_below(0), logs=tmp_path)
    with pytest.raises(ValueError, match="at least one answered question"):
        evaluate(Sums(), scripted(lambda *_: "5", budget=Budget(tokens=1)), logs=tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- Stops


def test_a_spent_budget_ends_a_run_with_what_there_is(tmp_path: Path) -> None:
    model = scripted(lambda prompt, _: f"The answer is {number(prompt) + 1}.", budget=Budget(tokens=600))
    run = evaluate(Sums(count=100), model, logs=tmp_path, concurrency=2)
    assert "budget" in run.stopped
    assert 0 < run.questions < 100
    assert run.log is not None
    assert read_eval_log(str(run.log), header_only=True).status == "cancelled"


SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from heuretic.lm import model
from test_evaluations import Sums, evaluate
asked = model("openai-api/loopback/some-model", base_url=sys.argv[1], cache=sys.argv[2])
run = evaluate(Sums(count=60), asked, logs=sys.argv[3], concurrency=4)
print(run.questions, run.score.value, run.stopped, run.spent.cached)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_goes_on_with_what_is_missing(how: signal.Signals, tmp_path: Path) -> None:
    def answer(asked: Asked, k: int) -> Sent:
        time.sleep(0.03)
        return openai(f"The answer is {number(asked.body['messages'][-1]['content']) + 1}.")

    service = Service(answer)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "LOOPBACK_API_KEY": KEY,
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, "-c", SCRIPT, f"{service.url}/v1", str(tmp_path / "replies.db"), str(tmp_path / "logs")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(service.asked) < 20 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(how)
    told, _ = process.communicate(timeout=60)
    before = len(service.asked)
    assert before < 60
    if how == signal.SIGINT:
        assert "interrupted" in told
        [log] = (tmp_path / "logs").glob("*.eval")
        assert read_eval_log(str(log), header_only=True).status == "cancelled"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    asked, score, *_, kept = done.stdout.split()
    assert (asked, score) == ("60", "1.0")
    assert int(kept) >= before - 4
    assert len(service.asked) <= before + 60 - int(kept) + 4
    service.stop()


# --- Intervals and comparisons


def test_intervals_are_as_wide_as_they_should_be() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        found = bootstrap_mean(rng.binomial(1, 0.3, 60).astype(float))
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 0.3 <= found.high
    assert 0.88 <= inside / 200 <= 0.99
    values = rng.normal(size=400)
    found = bootstrap_mean(values)
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / (2 * 1.96 * values.std() / 20) == pytest.approx(1, abs=0.08)
    clustered = bootstrap_mean(np.repeat(rng.normal(size=40), 10), [str(k // 10) for k in range(400)])
    alone = bootstrap_mean(np.repeat(rng.normal(size=40), 10))
    assert clustered.low is not None
    assert clustered.high is not None
    assert alone.low is not None
    assert alone.high is not None
    assert clustered.high - clustered.low > 2 * (alone.high - alone.low)
    none = bootstrap_mean([0.0] * 40)
    assert (none.low, none.high) == (0.0, pytest.approx(0.0876, abs=1e-4))
    assert bootstrap_mean([0.0] * 40, [str(k // 4) for k in range(40)]).high == pytest.approx(0.2775, abs=1e-4)
    assert (bootstrap_mean([0.5]).value, bootstrap_mean([0.5]).low) == (0.5, None)
    assert math.isnan(bootstrap_mean([]).value)


def test_intervals_of_differences_are_mirrored_when_runs_are_swapped() -> None:
    differences = np.array([1.0] * 12 + [-1.0] * 8 + [0.0] * 20)
    one, other = mean_difference(differences), mean_difference(-differences)
    assert (one.low, one.high) == (-other.high, -other.low)  # pyright: ignore[reportOptionalOperand]
    assert (one.low, one.high) == (pytest.approx(-0.1225, abs=1e-3), pytest.approx(0.3130, abs=1e-3))
    only = mean_difference([1.0] * 10 + [0.0] * 30)
    mirrored = mean_difference([-1.0] * 10 + [0.0] * 30)
    assert (only.low, only.high) == (-mirrored.high, -mirrored.low)  # pyright: ignore[reportOptionalOperand]
    none = mean_difference([0.0] * 40)
    assert none.value == 0
    assert none.high == -none.low > 0  # pyright: ignore[reportOptionalOperand]
    rng, inside = np.random.default_rng(2), 0
    for _ in range(300):
        drawn = mean_difference(rng.choice([1.0, 0.0, -1.0], 40, p=[0.25, 0.65, 0.1]))
        assert drawn.low is not None
        assert drawn.high is not None
        inside += drawn.low <= 0.15 <= drawn.high
    assert 0.91 <= inside / 300 <= 0.99


def test_numbers_over_the_means_of_groups() -> None:
    results = Results(
        [str(k) for k in range(7)],
        np.array([1, 1, 1, 0, 0, 1, math.nan]),
        ["answered"] * 7,
        {"task": ["a", "a", "a", "b", "b", "b", "b"]},
    )
    macro = results.mean_of_groups("task")
    assert macro.value == pytest.approx((1 + 1 / 3) / 2)
    assert macro.count == 6
    assert results.mean().value == pytest.approx(4 / 6)
    few = Results(["a", "b"], np.array([1.0, 0.0]), ["answered"] * 2, {"task": ["a", "b"]}).mean_of_groups("task")
    assert (few.low, few.high) == (0.0, 1.0)  # one question a task says nothing about its spread
    zeros = Results(
        [str(k) for k in range(20)], np.zeros(20), ["answered"] * 20, {"task": ["a", "b"] * 10}
    ).mean_of_groups("task")
    assert zeros.high == pytest.approx(0.161, abs=1e-3)
    smallest = results.mean_of_groups("task", lambda means: means.min(axis=-1))
    assert smallest.value == pytest.approx(1 / 3)


def test_paired_differences_are_tested_exactly_where_answers_are_right_or_wrong() -> None:
    ours = Results([str(k) for k in range(20)], np.array([1.0] * 15 + [0.0] * 5), ["answered"] * 20)
    theirs = Results([str(k) for k in range(1, 21)], np.array([1.0] * 6 + [0.0] * 14), ["answered"] * 20)
    [found] = compare([("theirs", theirs), ("ours", ours)])
    assert (found.better, found.worse, found.equal, found.only_one) == (8, 0, 11, 2)
    assert found.estimate.value == pytest.approx(8 / 19)
    assert found.p == pytest.approx(2 / 2**8)
    assert permutation_test(np.array([1.0] * 6 + [-1.0] * 2)) == pytest.approx(2 * (1 + 8 + 28) / 2**8)
    assert permutation_test(np.zeros(5)) == 1.0
    differing = np.array([0.3, 0.1, 0.25, 0.4, -0.05, 0.2, 0.15, 0.35])
    exact = np.mean([abs(np.dot(signs, differing)) >= differing.sum() - 1e-9 for signs in _signs(8)])
    assert permutation_test(differing) == pytest.approx(exact, abs=0.006)
    pairs = ["a", "a", "b", "b", "c", "c", "d", "d"]
    assert permutation_test(np.ones(8), pairs) == pytest.approx(2 / 2**4)


def _signs(count: int) -> np.ndarray:
    return np.array([[1 - 2 * (k >> place & 1) for place in range(count)] for k in range(2**count)])


def test_several_comparisons_are_corrected_and_foreign_runs_refused() -> None:
    ids = [str(k) for k in range(40)]
    base = Results(ids, np.array([1.0, 0.0] * 20), ["answered"] * 40)
    better = Results(ids, np.array([1.0, 1.0] * 5 + [1.0, 0.0] * 15), ["answered"] * 40)
    equal = Results(ids, base.values, ["answered"] * 40)
    first, second = compare([("base", base), ("better", better), ("equal", equal)])
    assert first.p == pytest.approx(2 / 2**5)
    assert first.corrected == pytest.approx(4 / 2**5)
    assert second.p == second.corrected == 1.0
    with pytest.raises(ValueError, match="must share questions"):
        compare([("base", base), ("foreign", Results(["x"], np.ones(1), ["answered"]))])
    with pytest.raises(ValueError, match="at least 2"):
        compare([("base", base)])


def test_runs_are_read_back_from_logs(tmp_path: Path) -> None:
    few, many = (evaluate(Grouped(count=40), right_below(k), logs=tmp_path) for k in (10, 30))
    assert few.log is not None
    assert many.log is not None
    name, results = read_run(few.log)
    assert name == "grouped mockllm/model"
    assert dict(zip(results.ids, results.values.tolist(), strict=True)) == dict(
        zip(few.results.ids, few.results.values.tolist(), strict=True)
    )
    [found] = compare([read_run(few.log), read_run(many.log)])
    assert found.estimate.value == pytest.approx(0.5)
    assert found.p == pytest.approx(2 / 2**10)  # 20 better questions are 10 pairs
    (tmp_path / "broken.eval").write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(ValueError, match=r"broken\.eval"):
        read_run(tmp_path / "broken.eval")
    with pytest.raises(FileNotFoundError, match="missing"):
        read_run(tmp_path / "missing.eval")


# --- inspect-ai


def test_as_a_task_of_inspect_an_evaluation_has_the_same_score(tmp_path: Path) -> None:
    from inspect_ai import eval as inspect_eval

    from heuretic.evals.inspect_tasks import TASKS

    assert set(TASKS) == set(EVALUATIONS.names())
    model = scripted(lambda prompt, _: "The answer is (C)." if "body" in prompt else "The answer is (B).")
    ours = evaluate(Labelled(set="mmlu/anatomy", max_tokens=64), model, limit=40, logs=tmp_path)
    task = TASKS["questions"](set="mmlu/anatomy", max_tokens=64, size=40)
    [log] = inspect_eval(task, model=model.inspect, display="none", log_dir=str(tmp_path), log_realtime=False)
    assert log.status == "success"
    assert log.results is not None
    metrics = {name: each.value for score in log.results.scores for name, each in score.metrics.items()}
    assert metrics["score"] == ours.score.value
    assert metrics["score low"] == pytest.approx(ours.score.low, abs=0.06)
    assert ours.log is not None
    [found] = compare([read_run(ours.log), read_run(log.location.removeprefix("file://"))])
    assert (found.estimate.value, found.equal) == (0.0, 40)


# --- Beforehand


def test_a_dry_run_counts_what_a_run_asks() -> None:
    strategy = ChainOfThought(sampling=Sampling(max_tokens=50))
    asked, judge = estimate(Labelled(set="gsm8k"), strategy, 200, Price(1.0, 2.0))
    assert (asked.questions, asked.calls, asked.output_tokens, judge.calls) == (200, 200, 10_000, 0)
    run = evaluate(Labelled(set="gsm8k"), scripted(lambda *_: "The answer is 3."), strategy=strategy, limit=200)
    assert run.spent.usage.calls == asked.calls
    assert 0.5 < run.spent.usage.input_tokens / asked.input_tokens < 1.5
    assert asked.dollars == pytest.approx((asked.input_tokens + 2 * 10_000) / 1e6)
    several, _ = estimate(Labelled(set="gsm8k"), SelfConsistency(of=strategy, samples=5), 200, None)
    assert (several.output_tokens, several.dollars) == (50_000, None)


# --- Studies


def test_runs_become_trials_of_one_study(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/study.db"
    file = tmp_path / "log.eval"
    file.write_bytes(b"what was said")
    for model, strategy, score in (
        ("a", "direct", 0.2),
        ("b", "direct", 0.4),
        ("a", "chain-of-thought", 0.3),
        ("a", "direct", 0.25),
    ):
        study = record_trial(
            {"model": model, "strategy": strategy, "judge": None}, {"score": score, "tokens": 3.0}, store=store, name="eval sums",
            objective="score", started=1.0, seconds=2.0, files=[file], facts={"data sums": "0" * 64},
        )  # fmt: skip
    assert [trial.values["score"] for trial in study.trials] == [0.2, 0.4, 0.3, 0.25]
    assert study.best is not None
    assert dict(study.best.program) == {"model": "b", "strategy": "direct", "judge": None}
    assert dict(study.decode(study.trials[2]))["strategy"] == "chain-of-thought"
    assert study.trials[0].digest == study.trials[3].digest
    assert study.open(0, "log.eval").read() == b"what was said"
    assert "0" * 64 in study.environments[study.trials[0].environment]["data sums"]
    assert study.report(tmp_path / "report.html").stat().st_size > 1e5
    with pytest.raises(StoreError, match="must have the objective"):
        record_trial({"a": 1}, {"loss": 1.0}, store=store, name="eval sums", objective="loss", started=0, seconds=0)
    with pytest.raises(ValueError, match="values must have the objective"):
        record_trial({"a": 1}, {"loss": 1.0}, store=store, name="other", objective="score", started=0, seconds=0)


def test_processes_that_record_at_once_lose_nothing(tmp_path: Path) -> None:
    code = """
import sys
from heuretic.study.recording import record
for k in range(10):
    record({"model": sys.argv[2], "k": k}, {"score": k / 10}, store=sys.argv[1], name="s", objective="score", started=0.0, seconds=0.0)
"""
    store = f"sqlite:///{tmp_path}/study.db"
    running = [subprocess.Popen([sys.executable, "-c", code, store, name]) for name in "abc"]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    study = open_study(store, "s")
    assert [trial.number for trial in study.trials] == list(range(30))
    programs = [study.decode(trial) for trial in study.trials]
    assert sorted((p["model"], p["k"]) for p in programs) == [(m, k) for m in "abc" for k in range(10)]
    assert all(t.values["score"] == p["k"] / 10 for t, p in zip(study.trials, programs, strict=True))


def test_records_of_runs_are_json() -> None:
    run = evaluate(Sums(), right_below(6))
    shown = json.loads(json.dumps(record(run), allow_nan=False))
    assert shown["groups"]["group"]["group 1"]["value"] == 0.5
    assert hr.evals.evaluate is evaluate
