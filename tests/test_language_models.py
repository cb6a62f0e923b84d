"""Samples of prompts: what is asked for and what comes from the cache, counted and within a budget."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.model import ChatMessageUser, GenerateConfig, ModelOutput, ModelUsage, get_model

from heuretic.lm import Budget, BudgetSpent, LanguageModel, Price, Reply, ReplyCache, Sampling
from scripted import scripted


def seeded(prompt: str, config: GenerateConfig) -> str:
    return f"{prompt} {config.seed}"


def cached(asked: list[str], path: Path | None = None, **arguments: Any) -> LanguageModel:
    return scripted(seeded, asked, cache=ReplyCache(path), **arguments)


def said(text: str) -> ModelOutput:
    used = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    return ModelOutput.from_content("m", text).model_copy(update={"usage": used})


def ask(model: LanguageModel, prompt: str = "a", n: int = 1, first: int = 0, **sampling: Any) -> list[Reply]:
    return asyncio.run(model.sample(prompt, n, Sampling(**sampling), first=first))


def test_the_same_is_asked_once() -> None:
    asked: list[str] = []
    model = cached(asked)
    once, again = ask(model), ask(model)
    assert (once[0].text, once[0].cached, again[0].cached) == (again[0].text, False, True)
    assert (asked, again[0].usage) == (["a"], once[0].usage)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"top_k": 5},
        {"max_tokens": 9},
        {"stop": ("x",)},
        {"seed": 1},
        {"logprobs": True},
    ],
)
def test_any_other_setting_is_another_request(change: dict[str, Any]) -> None:
    asked: list[str] = []
    model = cached(asked)
    ask(model)
    ask(model, **change)
    ask(model, **change)
    assert len(asked) == 2


def test_another_prompt_role_default_or_weights_are_another_request(tmp_path: Path) -> None:
    asked: list[str] = []
    model = cached(asked, tmp_path / "replies.db")
    ask(model, "a")
    ask(model, "a ")
    asyncio.run(model.sample([ChatMessageUser(content="a")]))
    assert len(asked) == 2, "a text is the message of a user"
    ask(cached(asked, tmp_path / "replies.db", defaults=GenerateConfig(reasoning_effort="low")))
    assert len(asked) == 3
    ask(cached(asked, tmp_path / "replies.db", defaults=GenerateConfig(max_retries=1, timeout=5)))
    assert len(asked) == 3, "how it is delivered does not change what is said"
    for digest in ("one", "two", "one"):
        inner = scripted(seeded, asked).inspect
        inner.api.digest = digest  # pyright: ignore[reportAttributeAccessIssue]
        ask(LanguageModel(inner, cache=ReplyCache(tmp_path / "replies.db")))
    assert len(asked) == 5


def test_more_samples_later_keep_the_earlier_ones() -> None:
    asked: list[str] = []
    model = cached(asked)
    two = ask(model, n=2, temperature=1)
    five = ask(model, n=5, temperature=1)
    assert [r.text for r in five[:2]] == [r.text for r in two]
    assert (len(asked), len({r.text for r in five})) == (5, 5)
    assert [r.text for r in ask(model, n=2, first=2, temperature=1)] == [r.text for r in five[2:4]]
    assert [r.text for r in ask(cached([]), n=5, temperature=1)] == [r.text for r in five], "each has a seed of its own"


def test_two_that_ask_the_same_at_once_wait_for_one_call() -> None:
    asked: list[str] = []

    async def reply(*given: Any) -> ModelOutput:
        asked.append(given[0][-1].text)
        await asyncio.sleep(0.02)
        if len(asked) == 1:
            raise ValueError("once")
        return said(f"reply {len(asked)}")

    model = LanguageModel(get_model("mockllm/model", custom_outputs=reply, memoize=False), cache=ReplyCache(None))

    async def all_of_them() -> list[Reply]:
        calls = [asyncio.create_task(model.sample("a")) for _ in range(3)]
        await calls[0]
        calls += [asyncio.create_task(model.sample("a")) for _ in range(3)]  # while others are waiting
        return [(await call)[0] for call in calls]

    replies = asyncio.run(all_of_them())
    assert replies[0].outcome == "error"
    assert {r.text for r in replies[1:]} == {"reply 2"}
    assert (len(asked), model._turns) == (2, {})


def test_one_that_is_cancelled_does_not_block_the_others() -> None:
    async def reply(*given: Any) -> ModelOutput:
        await asyncio.sleep(0.05)
        return said("reply")

    model = LanguageModel(
        get_model("mockllm/model", custom_outputs=reply, memoize=False),
        cache=ReplyCache(None),
        budget=Budget(tokens=2000),
    )

    async def cancel_one() -> Reply:
        first, second = asyncio.create_task(model.sample("a")), asyncio.create_task(model.sample("a"))
        await asyncio.sleep(0.01)
        first.cancel()
        return (await second)[0]

    assert asyncio.run(cancel_one()).text == "reply"
    assert model.budget is not None
    assert model.budget._reserved.tokens == 0, "what was set aside for the cancelled call is free again"


# --- Budgets


def test_a_budget_is_hard_however_many_ask_at_once() -> None:
    asked: list[str] = []
    budget = Budget(tokens=1000)
    model = scripted(lambda prompt, config: "word " * 20, asked, budget=budget)

    async def many() -> list[Any]:
        calls = (model.sample(f"question {k}", sampling=Sampling(max_tokens=100)) for k in range(50))
        return await asyncio.gather(*calls, return_exceptions=True)

    done = asyncio.run(many())
    stopped = [d for d in done if isinstance(d, BudgetSpent)]
    assert len(stopped) + len(asked) == 50
    assert stopped
    assert asked
    assert budget.usage.tokens <= 1000
    assert budget.usage.calls == len(asked)
    more = 0
    while True:  # what was set aside and not used can be spent
        try:
            asyncio.run(model.sample(f"more {more}", sampling=Sampling(max_tokens=100)))
        except BudgetSpent:
            break
        more += 1
    assert more > 0
    assert 1000 - 200 < budget.usage.tokens <= 1000


def test_a_budget_in_money_and_its_price() -> None:
    budget = Budget(cost=0.001)
    model = scripted(["one two three"] * 9, budget=budget, price=Price(input=1.0, output=10.0))
    (reply,) = ask(model, "a b", max_tokens=50)
    assert reply.cost == pytest.approx((2 * 1 + 3 * 10) / 1e6)
    assert budget.spent == reply.cost
    with pytest.raises(BudgetSpent, match="dollars are spent, and the next call may cost"):
        ask(model, "a b", max_tokens=100)
    with pytest.raises(ValueError, match="needs a price"):
        ask(scripted(["x"], budget=Budget(cost=1)))


def test_replies_from_the_cache_cost_nothing(tmp_path: Path) -> None:
    ask(cached([], tmp_path / "replies.db"), n=3)
    budget = Budget(tokens=1)
    assert [r.cached for r in ask(cached([], tmp_path / "replies.db", budget=budget), n=3)] == [True] * 3
    assert budget.usage.tokens == 0


def test_a_prompt_that_several_samples_share_is_counted_once() -> None:
    def several(messages: Any, tools: Any, choice: Any, config: GenerateConfig) -> ModelOutput:
        n = config.num_choices or 1
        output = ModelOutput.from_content("m", "yes")
        return output.model_copy(
            update={
                "choices": output.choices * n,
                "usage": ModelUsage(input_tokens=9, output_tokens=sum(range(n + 1)), total_tokens=9),
                "metadata": {"output_tokens": list(range(1, n + 1))},
            }
        )

    inner = get_model("mockllm/model", custom_outputs=several, memoize=False)
    inner.api.several_choices = True  # pyright: ignore[reportAttributeAccessIssue]
    replies = ask(LanguageModel(inner), n=4)
    assert [r.usage.output_tokens for r in replies] == [1, 2, 3, 4]
    assert [r.usage.input_tokens for r in replies] == [9, 0, 0, 0]
    assert [r.usage.calls for r in replies] == [1, 0, 0, 0]


# --- Mistakes and files


def test_mistakes_in_the_program_are_not_outcomes() -> None:
    with pytest.raises(NameError, match="nowhere"):
        ask(scripted(lambda prompt, config: nowhere))  # noqa: F821  # pyright: ignore
    with pytest.raises(ValueError, match="n must be >= 1, got 0"):
        ask(scripted(["x"]), n=0)


def test_two_processes_share_a_cache(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, json; from scripted import scripted; from heuretic.lm import ReplyCache\n"
        "model = scripted(lambda p, c: p + '!', cache=ReplyCache(sys.argv[1]))\n"
        "async def main():\n"
        "    found = await asyncio.gather(*(model.sample(f'q{k}') for k in range(60)))\n"
        "    print(json.dumps([r[0].text for r in found]))\n"
        "asyncio.run(main())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "replies.db")]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) for _ in range(2)]
    wanted = [f"q{k}!" for k in range(60)]
    assert [json.loads(process.communicate(timeout=120)[0]) for process in running] == [wanted] * 2
    assert len(ReplyCache(tmp_path / "replies.db")) == 60


def test_a_cache_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "replies.db").write_bytes(b"not a database" * 500)
    with pytest.raises(ValueError, match=r"cache must be a file of replies, got .*replies\.db.* Name another file"):
        ReplyCache(tmp_path / "replies.db")


def test_a_cache_that_was_damaged(tmp_path: Path) -> None:
    """Rows that cannot be read are asked for again; a file that cannot be read is named."""
    path = tmp_path / "replies.db"
    asked: list[str] = []
    ask(cached(asked, path), n=2)
    kept = ReplyCache(path)
    kept._connection.execute("UPDATE replies SET reply = '{' WHERE sample = 0")
    kept.close()
    assert [r.cached for r in ask(cached(asked, path), n=2)] == [False, True]
    assert [r.cached for r in ask(cached(asked, path), n=2)] == [True, True]

    model = cached(asked, path)
    assert model.cache is not None
    model.cache._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    model.cache.close()
    data = bytearray(path.read_bytes())
    data[100:] = b"\xff" * (len(data) - 100)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"cache must be a file of replies, got .*replies\.db"):
        ask(cached(asked, path), n=2)
