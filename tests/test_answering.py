"""Many questions at once: order, failures, cancellation, budgets, and a process that is killed."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from heuretic.lm import Budget, BudgetSpent, LanguageModel, Question, ReplyCache, Sampling, answer_all, answers
from heuretic.lm.strategies import Direct, SelfConsistency
from scripted import scripted

DIRECT = Direct(sampling=Sampling(max_tokens=8))


def echoes(prompt: str, _: Any) -> str:
    return f"The answer is {prompt.split()[0]}."


def test_a_thousand_questions_at_once_come_back_in_order() -> None:
    seen: list[tuple[int, int]] = []
    given = answer_all(
        DIRECT, [f"{k} ?" for k in range(1000)], scripted(echoes), concurrency=1000, progress=lambda *n: seen.append(n)
    )
    assert [a.answer for a in given] == [str(k) for k in range(1000)]
    assert seen == [(k, 1000) for k in range(1, 1001)]


def test_at_most_so_many_are_under_way() -> None:
    under_way, most = 0, 0

    class Counted:
        async def __call__(self, question: Question | str, model: LanguageModel) -> Any:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1
            return await DIRECT(question, model)

    answer_all(Counted(), [f"{k} ?" for k in range(50)], scripted(echoes), concurrency=7)
    assert most == 7
    with pytest.raises(ValueError, match="concurrency must be >= 1"):
        answer_all(DIRECT, ["?"], scripted(echoes), concurrency=0)


def test_a_strategy_that_fails_stops_the_others() -> None:
    ended: list[str] = []

    class Failing:
        async def __call__(self, question: Question | str, model: LanguageModel) -> Any:
            if question == "bad":
                raise RuntimeError("no strategy for this")
            try:
                await asyncio.sleep(30)
            finally:
                ended.append(str(question))

    began = time.monotonic()
    with pytest.raises(RuntimeError, match="no strategy for this"):
        answer_all(Failing(), ["a", "b", "bad", "c"], scripted(echoes))
    assert time.monotonic() - began < 20
    assert sorted(ended) == ["a", "b", "c"]


def test_leaving_early_cancels_what_is_under_way() -> None:
    async def first() -> int:
        async for number, _ in answers(DIRECT, [f"{k} ?" for k in range(20)], scripted(echoes), concurrency=5):
            return number
        raise AssertionError

    async def run() -> int:
        number = await first()
        await asyncio.sleep(0.05)
        left = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        assert not [t for t in left if not t.done() and "_one" in repr(t.get_coro())]
        return number

    assert asyncio.run(run()) in range(5)


def test_a_budget_stops_and_what_was_answered_is_kept(tmp_path: Path) -> None:
    asked: list[str] = []
    cache = ReplyCache(tmp_path / "replies.db")
    questions = [f"{k} ?" for k in range(40)]
    capped = scripted(echoes, asked, cache=cache, budget=Budget(tokens=400))
    with pytest.raises(BudgetSpent):
        answer_all(DIRECT, questions, capped, concurrency=1)
    done = len(asked)
    assert 0 < done < 40
    assert capped.budget is not None
    assert capped.budget.usage.tokens <= 400
    assert len(cache) == done
    answer_all(DIRECT, questions, scripted(echoes, asked, cache=cache))
    assert len(asked) == 40, "only what was missing is asked"


def test_samples_of_one_prompt_are_kept_apart_and_grow(tmp_path: Path) -> None:
    asked: list[str] = []
    model = scripted(lambda p, c: f"The answer is {c.seed}.", asked, cache=ReplyCache(tmp_path / "replies.db"))
    [few] = answer_all(SelfConsistency(of=DIRECT, samples=3), ["?"], model)
    [more] = answer_all(SelfConsistency(of=DIRECT, samples=5), ["?"], model)
    assert [s.answer for s in more.samples[:3]] == [s.answer for s in few.samples]
    assert len({s.answer for s in more.samples}) == 5
    assert len(asked) == 5


CHILD = """
import asyncio, sys
from scripted import scripted
from heuretic.lm import ReplyCache, Sampling, answer_all
from heuretic.lm.strategies import Direct

def slow(prompt, config):
    import time
    time.sleep(0.004)
    with open(sys.argv[2], "a") as log:
        log.write(prompt.split()[0] + "\\n")
    return f"The answer is {prompt.split()[0]}."

model = scripted(slow, cache=ReplyCache(sys.argv[1]))
given = answer_all(Direct(sampling=Sampling(max_tokens=8)), [f"{k} ?" for k in range(500)], model, concurrency=16)
print([a.answer for a in given] == [str(k) for k in range(500)])
"""


def test_killed_in_the_middle_only_what_is_missing_is_asked(tmp_path: Path) -> None:
    log = tmp_path / "asked"
    command = [sys.executable, "-c", CHILD, str(tmp_path / "replies.db"), str(log)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    first = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    limit = time.monotonic() + 120
    while not (log.exists() and len(log.read_text().split()) >= 150):
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < limit
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    before = log.read_text().split()
    kept = len(ReplyCache(tmp_path / "replies.db"))
    assert 100 < kept < 500
    assert len(before) - kept <= 16, "all but those under way were kept"
    log.unlink()
    second = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
    assert second.stdout == "True\n", second.stderr
    assert len(log.read_text().split()) == 500 - kept
    third = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
    assert third.stdout == "True\n"
    assert len(log.read_text().split()) == 500 - kept, "a rerun asks nothing"


def test_calls_leave_no_records_behind() -> None:
    from inspect_ai.log._transcript import transcript

    async def run() -> int:
        model = scripted(echoes)
        before = len(transcript().events)
        for k in range(200):
            await model.sample(f"{k} ?")
        return len(transcript().events) - before

    assert asyncio.run(run()) == 0
