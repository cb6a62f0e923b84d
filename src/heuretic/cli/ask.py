"""`heuretic ask`: one question with its trace in the terminal, or a file of questions."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from heuretic.cli.files import UsageError, load_object

if TYPE_CHECKING:
    from heuretic.lm import Answer, LanguageModel, Question
    from heuretic.lm.retrieval.evidence import Search
    from heuretic.lm.strategies import Attempting

LOCAL = "heuretic/smollm2-135m"
_SHOWN_REPLIES = 5


def ask(
    question: Annotated[str | None, typer.Argument(help="What to ask.")] = None,
    model: Annotated[str, typer.Option(help="Such as heuretic/smollm2-135m, heuretic/FILE.gguf or openai/gpt-4o-mini.")] = LOCAL,
    strategy: Annotated[
        str,
        typer.Option(help="Such as direct, chain-of-thought, 'chain-of-thought | self-consistency?samples=10', FILE.py:NAME or FILE.json."),
    ] = "chain-of-thought",
    choices: Annotated[list[str] | None, typer.Option(help="An option of a multiple-choice question. Repeatable.")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="An image that belongs to the question. Repeatable.")] = None,
    file: Annotated[Path | None, typer.Option(help="Many questions instead: JSON lines or CSV with question, answer, choices.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the answers to --file go, as JSON lines. Default: FILE.answers.jsonl.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many questions of --file.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Most questions of --file under way at once.")] = 32,
    tokens: Annotated[int | None, typer.Option(min=1, help="Hard limit on tokens, prompts and replies together.")] = None,
    dollars: Annotated[float | None, typer.Option(help="Hard limit on US dollars.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Neither look replies up on disk nor keep them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text for people.")] = False,
) -> None:  # fmt: skip
    """Ask a model with a strategy, and show how it got to its answer."""
    from heuretic.lm import Budget, BudgetSpent, ModelError, Question
    from heuretic.lm import model as model_named
    from heuretic.lm.parts import image as picture

    if (question is None) == (file is None):
        raise UsageError("a question or --file must be given, and not both. Try: heuretic ask 'What is 17 + 25?'")
    how = _strategy(strategy, bool(choices))
    try:
        budget = Budget(tokens, dollars) if tokens or dollars else None
        asked = model_named(model, budget=budget, **({"cache": None} if fresh else {}))
        if file is not None:
            _ask_file(file, out or file.with_suffix(".answers.jsonl"), limit, how, asked, concurrency, as_json)
            return
        parts = tuple(picture(path) for path in image or ())
        _ask_one(Question(question or "", choices=tuple(choices or ()), parts=parts), how, asked, as_json)
    except (ModelError, BudgetSpent, FileNotFoundError, ValueError) as error:
        raise UsageError(str(error)) from error


def _strategy(address: str, multiple_choice: bool) -> Attempting:
    from heuretic.lm.parsing import Choice, FinalNumber
    from heuretic.symbolic import find, replace

    found = strategy_at(address)
    if multiple_choice and not _is_file(address):  # an address says nothing of how answers look
        found = replace(found, {path: Choice() for path, _ in find(found, FinalNumber)})
    return found


def strategy_at(address: str, search: Search | None = None) -> Attempting:
    """Return the strategy at an address, FILE.py:NAME or FILE.json. Raises: UsageError, AddressError, ValueError."""
    from heuretic.lm.strategies import addresses

    if not _is_file(address):
        return addresses.strategy_at(address, search)
    found = load_object(address)
    if not hasattr(found, "attempts"):
        raise UsageError(
            f"strategy must be one, got {type(found).__name__} at {address}. Try FILE.py:NAME of a strategy"
        )
    return found


def _is_file(address: str) -> bool:
    return ".py:" in address or address.endswith(".json")


def _ask_one(question: Question, strategy: Attempting, model: LanguageModel, as_json: bool) -> None:
    from heuretic.lm.waiting import wait

    console = Console(highlight=False)
    began = time.perf_counter()
    if as_json:
        print(
            json.dumps({**_record(question, wait(strategy(question, model))), "seconds": time.perf_counter() - began})
        )
        return
    with console.status(f"Asking {escape(model.name)} ..."):
        answer = wait(strategy(question, model))
    for step in answer.trace:
        console.print(_shown_step(step, console.is_terminal))
    if len(answer.samples) > 1:
        console.print(_votes(answer))
    final = escape(answer.answer) if answer.answer is not None else f"none ({answer.outcome})"
    share = f", {answer.share:.0%} of the votes" if len(answer.samples) > 1 and answer.answer is not None else ""
    console.print(f"[bold]Answer: {final}[/]{share}")
    console.print(_spent(answer, time.perf_counter() - began), style="dim")
    if answer.answer is None:
        raise typer.Exit(1)


def _shown_step(step: Any, terminal: bool) -> Any:
    replies = [
        Text(reply.text.strip() or f"({reply.outcome}{': ' + reply.error if reply.error else ''})")
        for reply in step.replies[:_SHOWN_REPLIES]
    ]
    if len(step.replies) > _SHOWN_REPLIES:
        replies.append(Text(f"... and {len(step.replies) - _SHOWN_REPLIES} more", style="dim"))
    if not terminal:
        lines = [f"--- {step.name}", step.prompt, *(f">>> {reply.plain}" for reply in replies)]
        return Text("\n".join(lines))
    return Panel(Group(Text(step.prompt, style="dim"), *replies), title=step.name, title_align="left")


def _votes(answer: Answer) -> Table:
    from collections import Counter

    counts = Counter(s.answer if s.answer is not None else f"({s.outcome})" for s in answer.samples)
    table = Table("answer", "attempts", "", box=None, header_style="bold")
    for said, count in counts.most_common(10):
        table.add_row(escape(said), str(count), "█" * max(1, round(30 * count / len(answer.samples))))
    return table


def _spent(answer: Answer, seconds: float) -> str:
    usage, replies = answer.usage, [r for step in answer.trace for r in step.replies]
    kept = sum(r.cached for r in replies)
    parts = [
        f"{usage.input_tokens} prompt tokens"
        + (f" (and {usage.cached_input_tokens} spared)" if usage.cached_input_tokens else ""),
        f"{usage.output_tokens} generated",
        f"{len(replies)} replies" + (f", {kept} of them from disk" if kept else ""),
        *([f"${answer.cost:.4f}"] if answer.cost else []),
        f"{seconds:.1f} s",
    ]
    return ", ".join(parts)


def _record(question: Question, answer: Answer) -> dict[str, Any]:
    return {
        "id": question.id, "question": question.text, "target": question.target, "answer": answer.answer, "outcome": answer.outcome,
        "share": answer.share, "samples": [s.answer for s in answer.samples], "input_tokens": answer.usage.input_tokens,
        "output_tokens": answer.usage.output_tokens, "dollars": answer.cost,
        "trace": [
            {"name": step.name, "prompt": step.prompt, "replies": [{"text": r.text, "outcome": r.outcome, "cached": r.cached, "error": r.error} for r in step.replies]}
            for step in answer.trace
        ],
    }  # fmt: skip


def _ask_file(
    file: Path,
    out: Path,
    limit: int | None,
    strategy: Attempting,
    model: LanguageModel,
    concurrency: int,
    as_json: bool,
) -> None:
    """Answer the questions of a file. Answers are written as they come; a run that was stopped goes on from the cache."""
    from heuretic.lm import BudgetSpent, read_questions
    from heuretic.lm.answering import answers
    from heuretic.lm.tuning import scores
    from heuretic.lm.waiting import wait

    questions = read_questions(file)[:limit]
    found: dict[int, Answer] = {}
    stopped = ""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), disable=as_json
    ) as bar:  # fmt: skip
        task = bar.add_task("answered", total=len(questions))

        async def run() -> None:
            with out.open("w", encoding="utf-8") as written:
                async for number, answer in answers(strategy, questions, model, concurrency=concurrency):
                    found[number] = answer
                    written.write(json.dumps(_record(questions[number], answer), ensure_ascii=False) + "\n")
                    written.flush()
                    bar.update(task, completed=len(found))

        try:
            wait(run())
        except BudgetSpent as error:
            stopped = f"the budget: {error}"
        except KeyboardInterrupt:
            stopped = "interrupted"
    told = sorted(found)
    outcomes: dict[str, int] = {}
    for number in told:
        outcomes[found[number].outcome] = outcomes.get(found[number].outcome, 0) + 1
    summary: dict[str, Any] = {
        "questions": len(questions),
        "answered": len(found),
        "outcomes": outcomes,
        "out": str(out),
        "stopped": stopped,
    }
    share: Any = None
    known = [n for n in told if questions[n].target is not None]
    if known:
        from heuretic.lm.opro.prompts import Rate

        right = wait(scores(strategy, [questions[n] for n in known], [found[n] for n in known]))
        share = Rate(sum(right), len(known))
        summary |= {"accuracy": share.value, "interval": share.interval}
    if as_json:
        print(json.dumps(summary))
    else:
        console = Console(highlight=False)
        for outcome, count in outcomes.items():
            console.print(f"{outcome}: {count}")
        if share is not None:
            console.print(f"[bold]accuracy {share}[/] on {len(known)} questions with targets")
        console.print(
            f"Answers are in {escape(str(out))}."
            + (f" Stopped by {escape(stopped)}; run again to go on." if stopped else ""),
            soft_wrap=True,
        )
    if stopped:
        raise typer.Exit(130 if stopped == "interrupted" else 1)
