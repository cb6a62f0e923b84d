"""What evaluations add to a model's time: scorers on one core, the harness beside raw calls, memory while answers stream.

    HEURETIC_OFFLINE=1 OMP_NUM_THREADS=1 python benchmarks/evaluations.py [--quick] [--json OUT] [--model NAME] [--only PART]

Parts, each in a process of its own:

- scorers: samples a second of CPU time for every scorer of strings, on replies of 1,500 characters; the median of five runs.
- harness: the same questions to local weights, 32 at once and greedily, in turns: the provider's own `generate` (raw), inspect-ai's
  `eval` and `heuretic.evals.evaluate`, both with scores and logs. The figure is the median over rounds of the ratio to the raw calls
  of the same round.
- streaming: resident memory and time of 100,000 answers of a scripted model, scored and logged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from heuretic.evals import Evaluation, Questions, Score
from heuretic.lm import Answer, LanguageModel, Question, Sampling
from heuretic.lm.strategies import ChainOfThought

AT_ONCE = 32
GOALS = {"scorers_per_s": 5000, "harness": 0.95, "streaming_bytes_per_answer": 2500}
PROSE = "First, consider what the question asks. The list has several parts, and each of them matters. " * 15


class Sums(Evaluation):
    """Sums, as many as wanted."""

    name: ClassVar[str] = "sums"
    by: ClassVar[tuple[str, ...]] = ("group",)

    count: int = 100
    first: int = 0
    tokens: int = 16

    def load(self) -> Questions:
        def made() -> Iterator[Question]:
            for k in range(self.first, self.first + self.count):
                yield Question(
                    f"A farmer has {k} cows and buys {3 * k} more. How many cows are there?",
                    str(4 * k),
                    id=f"q{k}",
                    about={"group": str(k % 7)},
                )

        return Questions(made, self.count)

    def strategy(self) -> ChainOfThought:
        return ChainOfThought(sampling=Sampling(max_tokens=self.tokens))

    async def score(self, question: Question, answer: Answer, judge: LanguageModel | None = None) -> Score:
        return Score(float(answer.answer == question.target))


def scorers(name: str, quick: bool) -> dict[str, Any]:
    """Return samples a second for every scorer."""
    from heuretic.evals import bbeh, bbh
    from heuretic.evals.freshqa import read_evaluation
    from heuretic.evals.imo_bench.answer_bench import read_verdict
    from heuretic.evals.imo_bench.grading_bench import read_grade
    from heuretic.evals.imo_bench.proof_bench import read_points
    from heuretic.evals.michelangelo.latent_list import latent_list_score, literal, read_number
    from heuretic.evals.michelangelo.mrcr import mrcr_score
    from heuretic.evals.safe.f1_at_k import f1_at_k
    from heuretic.lm.parsing import AfterCue, Choice, FinalNumber

    question = Question("Which?", "B", ("a dog", "a cat", "a cow", "a hen"))
    reply = f"{PROSE}\n\n**The answer is:** (B)"
    ways: dict[str, Callable[[int], Any]] = {
        "BBEH, official": lambda k: bbeh.correct(f"{PROSE}The answer is: {k}", str(k), True),
        "BBEH, tolerant": lambda k: bbeh.correct(reply, "(B)"),
        "BBH, harness": lambda k: bbh.published_extract(f"{PROSE}So the answer is {k}.") == str(k),
        "BBH, tolerant": lambda k: bbh.matches(AfterCue(cue="the answer is")(reply, question) or "", "(B)"),
        "final number": lambda k: FinalNumber()(f"{PROSE}The answer is {k}.", question),
        "choice": lambda k: Choice()(reply, question),
        "AnswerAutoGrader": lambda k: read_verdict(f"<thinking>{PROSE}</thinking> \\boxed{{Correct}}"),
        "ProofBench points": lambda k: read_points(f"{PROSE}<points>6 out of 7</points>"),
        "GradingBench word": lambda k: read_grade(f"{PROSE}\npartial"),
        "FreshEval": lambda k: read_evaluation(f"comment: {PROSE}\nevaluation: correct"),
        "latent list": lambda k: latent_list_score(literal(read_number(f"{PROSE}\nOutput: {k}") or ""), str(k), "sum"),
        "MRCR": lambda k: mrcr_score(f"x1y2z3 {PROSE[k % 50 :]}", PROSE, "x1y2z3"),
        "F1@K": lambda k: f1_at_k(k % 60, k % 7, 64),
    }
    count, runs = (500, 2) if quick else (4000, 5)
    rates = {}
    for label, way in ways.items():
        found, samples = [], count // 40 if label == "MRCR" else count  # difflib takes milliseconds
        for _ in range(runs):
            began = time.process_time()
            for k in range(samples):
                way(k)
            found.append(samples / (time.process_time() - began))
        rates[label] = statistics.median(found)
    return {"samples": count, "runs": runs, "per_s": rates, "slowest": min(rates.values())}


def harness(name: str, quick: bool) -> dict[str, Any]:
    """Return the throughput of whole evaluations relative to raw calls."""
    from inspect_ai import Task
    from inspect_ai import eval as inspect_eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import ChatMessageUser, GenerateConfig
    from inspect_ai.scorer import match
    from inspect_ai.solver import generate

    from heuretic.evals import evaluate
    from heuretic.lm import model
    from heuretic.lm.waiting import wait

    asked = model(name, cache=None, threads=1)
    rounds, count, tokens = (2, 32, 16) if quick else (7, 64, 32)
    settings = GenerateConfig(temperature=0.0, max_tokens=tokens, seed=0)

    def prompts(first: int) -> list[str]:
        sums = Sums(count=count, first=first)
        strategy = sums.strategy()
        return [f"{q.text}\n\n{strategy.cue} {strategy.ending}" for q in sums.load()]

    async def all_raw(first: int) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(prompt: str) -> None:
            async with gate:
                await asked.inspect.api.generate([ChatMessageUser(content=prompt)], [], "none", settings)

        await asyncio.gather(*map(one, prompts(first)))

    def ours(first: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            evaluate(Sums(count=count, first=first, tokens=tokens), asked, concurrency=AT_ONCE, logs=folder)

    def theirs(first: int) -> None:
        samples = [Sample(input=prompt, target="1", id=k) for k, prompt in enumerate(prompts(first), 1)]
        task = Task(MemoryDataset(samples), solver=generate(), scorer=match(), config=settings)
        with tempfile.TemporaryDirectory() as folder:
            inspect_eval(
                task, model=asked.inspect, display="none", log_dir=folder, max_samples=AT_ONCE, log_realtime=False
            )

    ways: dict[str, Callable[[int], Any]] = {
        "raw": lambda first: wait(all_raw(first)),
        "heuretic": ours,
        "inspect-ai": theirs,
    }
    for k, way in enumerate(ways.values()):
        way(90_000 + k * count)
    rates: dict[str, list[float]] = {label: [] for label in ways}
    order, shuffled, first = list(ways), random.Random(0), 0
    for _ in range(rounds):
        shuffled.shuffle(order)
        for label in order:
            first += count
            began = time.perf_counter()
            ways[label](first)
            rates[label].append(count / (time.perf_counter() - began))
    ratios = {label: [a / b for a, b in zip(found, rates["raw"], strict=True)] for label, found in rates.items()}
    return {
        "rounds": rounds, "questions": count, "tokens": tokens,
        "per_s": {label: statistics.median(found) for label, found in rates.items()},
        "of_raw": {label: statistics.median(found) for label, found in ratios.items()},
        "of_raw_by_round": ratios,
    }  # fmt: skip


def streaming(name: str, quick: bool) -> dict[str, Any]:
    """Return what many answers of a scripted model take."""
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    from heuretic.evals import evaluate

    used = ModelUsage(input_tokens=40, output_tokens=40, total_tokens=80)

    def reply(*_: Any) -> ModelOutput:
        return ModelOutput.from_content("m", "word " * 40 + "The answer is 5.").model_copy(update={"usage": used})

    asked = LanguageModel(get_model("mockllm/model", custom_outputs=reply, memoize=False))
    count = 5_000 if quick else 100_000
    memory: dict[int, int] = {}

    def told(done: int, of: int | None, mean: float) -> None:
        if done in (1_000, count // 2, count):
            memory[done] = _resident()

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = evaluate(Sums(count=count), asked, logs=folder, progress=told)
        assert run.log is not None
        size = run.log.stat().st_size
    return {
        "answers": count, "seconds": time.perf_counter() - began, "ms_per_answer": (time.perf_counter() - began) / count * 1e3,
        "resident_bytes": {str(k): v for k, v in memory.items()}, "log_bytes": size,
        "bytes_per_answer": (memory[count] - memory[1_000]) / (count - 1_000),
    }  # fmt: skip


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


PARTS = {"scorers": scorers, "harness": harness, "streaming": streaming}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--model", default="heuretic/smollm2-135m")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(PARTS[given.part](given.model, given.quick)))
        return
    from heuretic.study.environment import environment_facts

    found: dict[str, Any] = {"goals": GOALS, "environment": environment_facts(), "quick": given.quick}
    for part in [given.only] if given.only else PARTS:
        command = [
            sys.executable,
            __file__,
            "--part",
            part,
            "--model",
            given.model,
            *(["--quick"] if given.quick else []),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        found[part] = json.loads(done.stdout.splitlines()[-1])
        print(part, json.dumps(found[part], indent=1))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
