"""What strategies add to calls of a model: requests a second, memory, and answers a second from disk.

    HEURETIC_OFFLINE=1 OMP_NUM_THREADS=1 python benchmarks/reasoning.py [--quick] [--json OUT] [--model NAME] [--only PART]

Parts, each in a process of its own:

- requests: 32 questions at once to local weights, greedily, in turns: the provider's own `generate` (raw), inspect-ai's
  `Model.generate`, `LanguageModel.sample` and a strategy. The figure is the median over rounds of the ratio to the raw calls
  of the same round, by the clock and by CPU time. The order of a round is shuffled, and since the engine remembers prompts,
  none comes twice. On eight more questions, one at a time and in float32 (in bfloat16 even the same raw calls need not agree,
  as what the engine remembers changes the rounding), all must say the same.
- calls: CPU time of one call to a scripted model by the same ways, and with a cache on disk that misses.
- memory: peak resident memory of a process that has 1,000 questions to local weights under way at once, weights included.
- cached: answers a second from a file of replies that is opened anew each time; medians of five runs.
- growth: resident memory per call over 10,000 calls to a scripted model, where the context has a transcript of inspect-ai
  already; beside it the same calls by inspect-ai's `Model.generate`, which keeps a record of each.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

AT_ONCE = 32
GOALS = {"requests": 0.95, "memory_bytes": 1e9, "cached": 1000.0, "growth_bytes": 200.0}
Ask = Callable[[str], Awaitable[str]]


def questions(count: int, first: int = 0) -> list[str]:
    """Return different questions."""
    forms = (
        "What is {} plus {}?",
        "A farmer has {} cows and buys {} more. How many cows are there?",
        "Name {} cities, and {} rivers.",
        "Which is more, {} or {}?",
    )
    return [forms[k % 4].format(k + 2, 3 * k + 1) for k in range(first, first + count)]


async def _all(ask: Ask, asked: Sequence[str], at_once: int) -> list[str]:
    gate = asyncio.Semaphore(at_once)

    async def one(question: str) -> str:
        async with gate:
            return await ask(question)

    return list(await asyncio.gather(*map(one, asked)))


def _ways(model: Any, tokens: int) -> dict[str, Ask]:
    """Return the ways to ask, from the barest: all send the same message and settings."""
    from inspect_ai.model import ChatMessageUser, GenerateConfig

    from heuretic.lm import Sampling
    from heuretic.lm.strategies import ChainOfThought

    strategy = ChainOfThought(sampling=Sampling(temperature=0.0, max_tokens=tokens))
    settings = GenerateConfig(temperature=0.0, max_tokens=tokens, seed=0)

    def prompt(question: str) -> str:
        return f"{question}\n\n{strategy.cue} {strategy.ending}"

    async def raw(question: str) -> str:
        done = await model.inspect.api.generate([ChatMessageUser(content=prompt(question))], [], "none", settings)
        return (done[0] if isinstance(done, tuple) else done).completion

    async def inspect(question: str) -> str:
        return (await model.inspect.generate(prompt(question), config=settings)).completion

    async def sample(question: str) -> str:
        return (await model.sample(prompt(question), 1, strategy.sampling))[0].text

    async def through(question: str) -> str:
        answer = await strategy(question, model)
        if answer.trace[0].prompt != prompt(question):
            raise RuntimeError(f"the prompts must be the same, got {answer.trace[0].prompt!r} and {prompt(question)!r}")
        return answer.trace[0].replies[0].text

    return {"raw": raw, "inspect-ai": inspect, "sample": sample, "strategy": through}


def requests(name: str, quick: bool) -> dict[str, Any]:
    """Compare requests a second of all ways to ask local weights."""
    from heuretic.lm import model

    ways = _ways(model(name, cache=None, threads=1), 16)
    rounds, count = (2, 32) if quick else (5, 48)
    asyncio.run(_all(ways["strategy"], questions(AT_ONCE, 100_000), AT_ONCE))
    order, shuffled = list(ways), random.Random(0)
    clock: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    for k in range(rounds):
        shuffled.shuffle(order)
        for way in order:
            # The number before a question makes its prompt another one for each way, in turns.
            asked = [f"({order.index(way) + 1}) {q}" for q in questions(count, k * count)]
            began, spent = time.perf_counter(), time.process_time()
            asyncio.run(_all(ways[way], asked, AT_ONCE))
            clock[way].append(count / (time.perf_counter() - began))
            cpu[way].append(count / (time.process_time() - spent))
    check = questions(8, 200_000)
    exact = _ways(model(name, cache=None, threads=1, dtype="float32"), 16)
    texts = [asyncio.run(_all(ask, check, 1)) for ask in exact.values()]
    rates = {
        way: {
            "requests_per_s": statistics.median(clock[way]),
            "requests_per_cpu_s": statistics.median(cpu[way]),
            "of_raw": statistics.median(a / b for a, b in zip(clock[way], clock["raw"], strict=True)),
            "of_raw_by_round": [a / b for a, b in zip(clock[way], clock["raw"], strict=True)],
            "of_raw_by_cpu": statistics.median(a / b for a, b in zip(cpu[way], cpu["raw"], strict=True)),
        }
        for way in ways
    }
    return {"rounds": rounds, "questions": count, "same_texts": all(t == texts[0] for t in texts), "ways": rates}


def _scripted() -> Any:
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    used = ModelUsage(input_tokens=40, output_tokens=40, total_tokens=80)

    def reply(*_: Any) -> ModelOutput:
        return ModelOutput.from_content("m", "word " * 40 + "The answer is 5.").model_copy(update={"usage": used})

    return get_model("mockllm/model", custom_outputs=reply, memoize=False)


def calls(name: str, quick: bool) -> dict[str, Any]:
    """Return milliseconds of CPU time of one call to a scripted model, by the same ways."""
    from heuretic.lm import LanguageModel, ReplyCache

    ways = _ways(LanguageModel(_scripted()), 64)
    count, rounds = (200, 3) if quick else (1000, 5)
    with tempfile.TemporaryDirectory() as folder:
        cache = ReplyCache(Path(folder, "replies.db"))
        ways["strategy and cache"] = _ways(LanguageModel(_scripted(), cache=cache), 64)["strategy"]
        found: dict[str, list[float]] = {way: [] for way in ways}
        for k in range(-1, rounds):  # the first warms up
            for way, ask in ways.items():
                began = time.process_time()
                asyncio.run(_all(ask, questions(count, k * count + count), AT_ONCE))
                if k >= 0:
                    found[way].append((time.process_time() - began) / count * 1e3)
        cache.close()
    return {"calls": count, "rounds": rounds, "cpu_ms": {way: statistics.median(times) for way, times in found.items()}}


def memory(name: str, quick: bool) -> dict[str, Any]:
    """Return peak memory of a process with many questions under way."""
    from heuretic.lm import Sampling, answer_all, model
    from heuretic.lm.strategies import ChainOfThought

    imported = _peak()
    asked = model(name, cache=None, threads=1)
    loaded = _peak()
    count = 100 if quick else 1000
    began = time.perf_counter()
    strategy = ChainOfThought(sampling=Sampling(temperature=0.0, max_tokens=16))
    found = answer_all(strategy, questions(count), asked, concurrency=count)
    outcomes = [a.outcome for a in found]
    return {
        "questions": count, "seconds": time.perf_counter() - began, "imported_bytes": imported, "loaded_bytes": loaded, "peak_bytes": _peak(),
        "outcomes": {o: outcomes.count(o) for o in sorted(set(outcomes))}, "tokens": sum(a.usage.tokens for a in found),
    }  # fmt: skip


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cached(name: str, quick: bool) -> dict[str, Any]:
    """Return answers a second where all replies are on disk."""
    from heuretic.lm import LanguageModel, ReplyCache, answer_all
    from heuretic.lm.strategies import ChainOfThought, SelfConsistency

    count = 500 if quick else 3000
    rates: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, strategy in (("chain of thought", ChainOfThought()), ("10 samples", SelfConsistency(samples=10))):
            asked = questions(count if kind == "chain of thought" else count // 10)
            path = Path(folder, f"{len(rates)}.db")
            answer_all(strategy, asked, LanguageModel(_scripted(), cache=ReplyCache(path)))
            runs: list[tuple[float, float]] = []
            for _ in range(2 if quick else 5):
                model = LanguageModel(_scripted(), cache=ReplyCache(path))
                began, spent = time.perf_counter(), time.process_time()
                found = answer_all(strategy, asked, model)
                clock, cpu = time.perf_counter() - began, time.process_time() - spent
                runs.append((len(asked) / clock, len(asked) / cpu))
                if not all(r.cached for a in found for step in a.trace for r in step.replies):
                    raise RuntimeError("all replies must come from disk")
            rates[kind] = {
                "answers": len(asked),
                "answers_per_s": statistics.median(r[0] for r in runs),
                "answers_per_cpu_s": statistics.median(r[1] for r in runs),
            }
    return rates


def growth(name: str, quick: bool) -> dict[str, Any]:
    """Return bytes of memory that stay for each call."""
    from inspect_ai.log import transcript

    from heuretic.lm import LanguageModel

    transcript()  # from now on every task of this context inherits this one
    steps = (200, 1000) if quick else (2000, 10_000)
    found: dict[str, Any] = {}
    ways = _ways(LanguageModel(_scripted()), 64)
    for way in ("strategy", "inspect-ai"):
        sizes, done = [], 0
        for step in steps:
            while done < step:
                asyncio.run(_all(ways[way], questions(100, done), AT_ONCE))
                done += 100
            gc.collect()
            sizes.append(psutil.Process().memory_info().rss)
        found[way] = {"calls": steps[1] - steps[0], "bytes_per_call": (sizes[1] - sizes[0]) / (steps[1] - steps[0])}
    return found


PARTS: dict[str, Callable[[str, bool], dict[str, Any]]] = {
    "requests": requests, "calls": calls, "memory": memory, "cached": cached, "growth": growth,
}  # fmt: skip


def show(part: str, found: dict[str, Any]) -> bool:
    """Print what a part found, and return whether it meets its goal (where it has none, True)."""
    if part == "requests":
        print(f"{'':20} {'requests/s':>11} {'of raw':>8} {'by CPU':>8}   same texts: {found['same_texts']}")
        for way, row in found["ways"].items():
            low, high = min(row["of_raw_by_round"]), max(row["of_raw_by_round"])
            print(
                f"{way:20} {row['requests_per_s']:>11.2f} {row['of_raw']:>8.1%} {row['of_raw_by_cpu']:>8.1%}   rounds {low:.1%} to {high:.1%}"
            )
        met = found["same_texts"] and found["ways"]["strategy"]["of_raw"] >= GOALS["requests"]
        goal = f"at least {GOALS['requests']:.0%} of raw"
    elif part == "calls":
        print("CPU ms a call: " + ", ".join(f"{way} {ms:.3f}" for way, ms in found["cpu_ms"].items()))
        return True
    elif part == "memory":
        sizes = ", ".join(
            f"{key.partition('_')[0]} {found[key] / 1e6:.0f} MB" for key in found if key.endswith("_bytes")
        )
        print(f"{found['questions']} questions at once: {sizes}, {found['seconds']:.0f} s, {found['outcomes']}")
        met, goal = found["peak_bytes"] < GOALS["memory_bytes"], f"peak below {GOALS['memory_bytes'] / 1e6:.0f} MB"
    elif part == "cached":
        for kind, row in found.items():
            print(
                f"from disk, {kind}: {row['answers_per_s']:.0f} answers/s, {row['answers_per_cpu_s']:.0f} by CPU time"
            )
        met = found["chain of thought"]["answers_per_s"] >= GOALS["cached"]
        goal = f"at least {GOALS['cached']:.0f} answers/s"
    else:
        for way, row in found.items():
            print(f"memory per call, {way}: {row['bytes_per_call']:.0f} bytes over {row['calls']} calls")
        met = found["strategy"]["bytes_per_call"] <= GOALS["growth_bytes"]
        goal = f"at most {GOALS['growth_bytes']:.0f} bytes a call through a strategy"
    print(f"  goal: {goal}: {'met' if met else 'NOT met'}")
    return met


def main() -> None:
    """Measure, print, and write what was asked for."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="few questions and rounds")
    arguments.add_argument("--json", help="write the figures to this file")
    arguments.add_argument("--model", default="heuretic/smollm2-135m", help="local weights")
    arguments.add_argument("--only", choices=list(PARTS), action="append", help="only this part; may be repeated")
    arguments.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.part:
        print(json.dumps(PARTS[given.part](given.model, given.quick)))
        return
    from heuretic.study.environment import environment_facts

    found: dict[str, Any] = {}
    for part in given.only or PARTS:
        ran = subprocess.run(
            [sys.executable, __file__, "--part", part, "--model", given.model] + ["--quick"] * given.quick,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found[part] = json.loads(ran.stdout.splitlines()[-1])
        found[part] = {**found[part], "met": show(part, found[part]), "load": os.getloadavg()}
    if given.json:
        record = {"model": given.model, "quick": given.quick, "goals": GOALS, **found, "facts": environment_facts()}
        Path(given.json).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
