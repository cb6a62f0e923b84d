"""Many questions at once: order, failures, cancellation, budgets, and a process that is killed."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, Model, ModelOutput, ModelUsage, get_model

from heuretic.lm import (
    Answer,
    Budget,
    BudgetSpent,
    LanguageModel,
    Question,
    ReplyCache,
    Sampling,
    answer_all,
    answers,
)
from heuretic.lm.solver import solver as as_solver
from heuretic.lm.strategies import Direct, SelfConsistency
from scripted import scripted
from services import KEY, Asked, Sent, Service, openai

QUESTIONS = 500
AT_ONCE = 24
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


# --- Models that take their time


def numbers(prompt: str) -> int:
    """Return the number that a question is about."""
    found = re.search(r"What is (\d+) \+ 1\?", prompt)
    assert found is not None, prompt
    return int(found[1])


def sums(count: int) -> list[str]:
    return [f"What is {k} + 1?" for k in range(count)]


def waiting(reply: Callable[[str], Awaitable[str]], connections: int = 10_000) -> Model:
    """Return a model that replies with what `reply` gives for the text of a prompt, in its time."""

    async def output(messages, *_) -> ModelOutput:
        said = await reply(messages[-1].text)
        used = ModelUsage(input_tokens=4, output_tokens=4, total_tokens=8)
        return ModelOutput.from_content("m", said).model_copy(update={"usage": used})

    config = GenerateConfig(max_connections=connections)
    return get_model("mockllm/model", custom_outputs=output, memoize=False, config=config)


# --- A server that counts

SCRIPT = """
import sys
from heuretic.lm import answer_all, model
from test_answering import AT_ONCE, QUESTIONS, DIRECT, sums
asked = model("openai-api/loopback/some-model", base_url=sys.argv[1], cache=sys.argv[2])
for found in answer_all(DIRECT, sums(QUESTIONS), asked, concurrency=AT_ONCE):
    print(found.answer, found.trace[0].replies[0].cached)
"""


@pytest.fixture
def counting() -> Iterator[Service]:
    """A server that does sums, each after 20 ms."""

    def answer(asked: Asked, number: int) -> Sent:
        time.sleep(0.02)
        return openai(f"The answer is {numbers(asked.body['messages'][-1]['content']) + 1}.")

    service = Service(answer)
    yield service
    service.stop()


def asked_of(service: Service, since: int = 0) -> Counter[int]:
    return Counter(numbers(asked.body["messages"][-1]["content"]) for asked in service.asked[since:])


def test_after_a_kill_a_server_is_asked_only_for_what_is_missing(counting: Service, tmp_path: Path) -> None:
    replies = tmp_path / "replies.db"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path), "LOOPBACK_API_KEY": KEY, "NO_PROXY": "127.0.0.1",
        "XDG_DATA_HOME": str(tmp_path / "inspect"),
    }  # fmt: skip
    command = [sys.executable, "-c", SCRIPT, f"{counting.url}/v1", str(replies)]

    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(counting.asked) < QUESTIONS // 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    time.sleep(0.2)  # the server finishes what it began
    first = asked_of(counting)
    before = len(counting.asked)
    assert QUESTIONS // 2 <= before < QUESTIONS
    assert set(first.values()) == {1}
    cache = ReplyCache(replies)
    kept = len(cache)
    cache.close()
    assert before - AT_ONCE <= kept <= before  # lost are at most the questions that were under way

    def rest() -> tuple[list[str], Counter[int]]:
        since = len(counting.asked)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines(), asked_of(counting, since)

    lines, second = rest()
    assert [line.split()[0] for line in lines] == [str(k + 1) for k in range(QUESTIONS)]
    missing = {k for k, line in enumerate(lines) if line.endswith("False")}
    assert second == Counter(dict.fromkeys(missing, 1))
    assert len(missing) == QUESTIONS - kept
    assert set(first) | missing == set(range(QUESTIONS))

    lines, third = rest()
    assert lines == [f"{k + 1} True" for k in range(QUESTIONS)]
    assert not third


def test_a_thousand_questions_are_under_way_at_once_and_keep_their_order(tmp_path: Path) -> None:
    under_way, everyone = 0, asyncio.Event()

    async def reply(prompt: str) -> str:
        nonlocal under_way
        under_way += 1
        if under_way == 1000:
            everyone.set()
        await asyncio.wait_for(everyone.wait(), 60)  # nobody is answered before all have asked
        number = numbers(prompt)
        await asyncio.sleep((number * 7919 % 1000) / 10_000)  # in another order than they were asked in
        return f"The answer is {number + 1}."

    model = LanguageModel(waiting(reply), cache=ReplyCache(tmp_path / "replies.db"))
    told: list[tuple[int, int]] = []
    found = answer_all(DIRECT, sums(1000), model, concurrency=1000, progress=lambda *done: told.append(done))
    assert under_way == 1000
    assert [a.answer for a in found] == [str(k + 1) for k in range(1000)]
    assert told == [(k + 1, 1000) for k in range(1000)]


def test_answers_come_as_they_are_ready_with_their_numbers() -> None:
    async def reply(prompt: str) -> str:
        await asyncio.sleep(0.05 * (4 - numbers(prompt)))
        return f"The answer is {numbers(prompt) + 1}."

    async def collected() -> list[tuple[int, str | None]]:
        return [(k, a.answer) async for k, a in answers(DIRECT, sums(4), LanguageModel(waiting(reply)))]

    assert asyncio.run(collected()) == [(3, "4"), (2, "3"), (1, "2"), (0, "1")]


def test_no_more_are_under_way_than_allowed_and_questions_are_taken_when_needed() -> None:
    under_way, most, taken = 0, 0, 0

    async def reply(prompt: str) -> str:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.002)
        under_way -= 1
        return "The answer is 1."

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"What is {taken} + 1?"

    async def some() -> int:
        count = 0
        stream = answers(DIRECT, endless(), LanguageModel(waiting(reply)), concurrency=7)
        async for _ in stream:
            count += 1
            if count == 50:
                break
        await stream.aclose()  # pyright: ignore[reportAttributeAccessIssue]
        return len(asyncio.all_tasks())

    assert asyncio.run(some()) == 1  # nothing is left running
    assert most == 7
    assert taken <= 57


class Failing:
    """Fails at one question, and counts what became of the others."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.begun, self.cancelled = 0, 0

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        self.begun += 1
        try:
            answer = await DIRECT(question, model)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if question == self.at:
            raise RuntimeError(f"no idea: {question}")
        return answer


def test_a_strategy_that_fails_cancels_the_rest_and_what_was_answered_is_kept(tmp_path: Path) -> None:
    async def reply(prompt: str) -> str:
        if numbers(prompt) > 5:
            await asyncio.sleep(600)
        await asyncio.sleep(0.01 * numbers(prompt))
        return "The answer is 1."

    cache = ReplyCache(tmp_path / "replies.db")
    strategy = Failing(sums(6)[5])
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=r"no idea: What is 5 \+ 1\?"):
        answer_all(strategy, sums(100), LanguageModel(waiting(reply), cache=cache), concurrency=20)
    assert time.monotonic() - began < 60
    assert 20 <= strategy.begun <= 25  # the questions after those under way were never begun
    assert strategy.cancelled == strategy.begun - 6
    assert len(cache) == 6


def test_cancelled_from_outside_nothing_is_left_running_and_a_rerun_asks_for_the_rest(tmp_path: Path) -> None:
    asked: list[int] = []
    hold = True

    async def reply(prompt: str) -> str:
        asked.append(numbers(prompt))
        if hold and numbers(prompt) >= 10:
            await asyncio.sleep(600)
        return f"The answer is {numbers(prompt) + 1}."

    cache = ReplyCache(tmp_path / "replies.db")
    model = LanguageModel(waiting(reply), cache=cache)

    async def run() -> list[str | None]:
        return [a.answer async for _, a in answers(DIRECT, sums(30), model, concurrency=8)]

    async def cancelled() -> int:
        task = asyncio.create_task(run())
        while len(asked) < 18:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(asyncio.all_tasks())

    assert asyncio.run(cancelled()) == 1
    assert len(cache) == 10
    asked.clear()
    hold = False
    assert sorted(asyncio.run(run()), key=str) == sorted((str(k + 1) for k in range(30)), key=str)
    assert sorted(asked) == list(range(10, 30))


def tokens_of(replies: Sequence[Answer]) -> int:
    return sum(a.usage.tokens for a in replies)


def test_a_budget_stops_before_it_is_passed_and_what_was_answered_is_kept(tmp_path: Path) -> None:
    asked: list[str] = []
    cache = ReplyCache(tmp_path / "replies.db")
    budget = Budget(tokens=2000)
    model = scripted(lambda *_: "The answer is 1.", asked, cache=cache, budget=budget)
    found: list[tuple[int, Answer]] = []

    async def run() -> None:
        async for pair in answers(DIRECT, sums(400), model, concurrency=4):
            found.append(pair)

    with pytest.raises(BudgetSpent, match="of 2000 tokens are spent"):
        asyncio.run(run())
    assert 0 < len(found) < 400
    assert tokens_of([a for _, a in found]) <= budget.usage.tokens <= 2000
    assert len(cache) == len(set(asked)) == len(asked)  # a call that was paid for is kept, and none is paid for twice
    assert len(found) <= len(cache) <= len(found) + 4

    kept, before = len(cache), len(asked)
    unbounded = scripted(lambda *_: "The answer is 1.", asked, cache=cache)
    assert [a.answer for a in answer_all(DIRECT, sums(400), unbounded)] == ["1"] * 400
    assert len(asked) == before + 400 - kept
    assert len(set(asked)) == 400


def test_replies_from_disk_do_not_count_against_a_budget(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "replies.db")
    answer_all(DIRECT, sums(50), scripted(lambda *_: "The answer is 1.", cache=cache))
    budget = Budget(tokens=1)
    found = answer_all(DIRECT, sums(50), scripted([], cache=cache, budget=budget))
    assert [a.answer for a in found] == ["1"] * 50
    assert budget.usage.calls == 0


def test_in_an_evaluation_calls_are_recorded(tmp_path: Path) -> None:
    task = Task(dataset=[Sample(input=question, target="1") for question in sums(3)], solver=as_solver(DIRECT))
    model = scripted(lambda *_: "The answer is 1.").inspect
    [log] = evaluate(task, model=model, log_dir=str(tmp_path), display="none")
    assert log.status == "success", log.error
    assert log.samples is not None
    for sample in log.samples:
        assert [event.output.completion for event in sample.events if event.event == "model"] == ["The answer is 1."]
