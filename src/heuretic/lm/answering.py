"""Many questions at once through one strategy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

from heuretic.lm.answer import Answer, Strategy
from heuretic.lm.model import LanguageModel
from heuretic.lm.questions import Question


async def answers(
    strategy: Strategy, questions: Iterable[Question | str], model: LanguageModel, *, concurrency: int = 64
) -> AsyncIterator[tuple[int, Answer]]:
    """Yield the number of a question and its answer, as they come; at most `concurrency` questions are under way.

    Raises: whatever the strategy raises, after the questions under way were cancelled; what was answered is in the cache.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency must be >= 1, got {concurrency}")
    waiting: Iterator[tuple[int, Question | str]] = enumerate(questions)
    under_way: dict[asyncio.Task[Answer], int] = {}
    try:
        while True:
            while len(under_way) < concurrency and (following := next(waiting, None)) is not None:
                number, question = following
                under_way[asyncio.ensure_future(_one(strategy, question, model))] = number
            if not under_way:
                return
            done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield under_way.pop(task), task.result()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _one(strategy: Strategy, question: Question | str, model: LanguageModel) -> Answer:
    return await strategy(question, model)


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
