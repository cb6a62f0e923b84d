"""Many questions at once through one strategy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from heuretic.lm.answer import Answer, Strategy
from heuretic.lm.model import LanguageModel
from heuretic.lm.questions import Question

T = TypeVar("T")
R = TypeVar("R")


async def answers(
    strategy: Strategy, questions: Iterable[Question | str], model: LanguageModel, *, concurrency: int = 64
) -> AsyncIterator[tuple[int, Answer]]:
    """Yield the number of a question and its answer, as they come; at most `concurrency` questions are under way.

    Raises: whatever the strategy raises, after the questions under way were cancelled; what was answered is in the cache.
    """
    found = as_done(lambda question: strategy(question, model), questions, concurrency)
    try:
        async for number, _, answer in found:
            yield number, answer
    finally:
        await found.aclose()


async def as_done(
    work: Callable[[T], Awaitable[R]], items: Iterable[T], concurrency: int
) -> AsyncGenerator[tuple[int, T, R]]:
    """Yield the number of an item, the item and what `work` made of it, as they come; at most `concurrency` are under way.

    Items are taken when there is room for them, so they need not all be in memory.

    Raises: what `work` raises, after what is under way was cancelled.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency must be >= 1, got {concurrency}")
    waiting: Iterator[tuple[int, T]] = enumerate(items)
    under_way: dict[asyncio.Task[R], tuple[int, T]] = {}

    async def one(item: T) -> R:
        return await work(item)

    try:
        while True:
            while len(under_way) < concurrency and (following := next(waiting, None)) is not None:
                under_way[asyncio.ensure_future(one(following[1]))] = following
            if not under_way:
                return
            done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield *under_way.pop(task), task.result()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


def answer_all(
    strategy: Strategy,
    questions: Sequence[Question | str],
    model: LanguageModel,
    *,
    concurrency: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> list[Answer]:
    """Return the answers to all questions, in order. `progress` is called with how many are answered, and of how many.

    Raises: RuntimeError inside a running event loop, where `answers` is to be used.
    """

    async def run() -> list[Answer]:
        found: dict[int, Answer] = {}
        async for number, answer in answers(strategy, questions, model, concurrency=concurrency):
            found[number] = answer
            if progress is not None:
                progress(len(found), len(questions))
        return [found[k] for k in range(len(questions))]

    return asyncio.run(run())
