"""`heuretic optimize-prompt`: search for the instruction with which a model answers questions best."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from heuretic.cli.files import UsageError

if TYPE_CHECKING:
    from heuretic.lm import Budget
    from heuretic.lm.opro import Measured, Plan, PromptResult, PromptSearch, Rate
    from heuretic.lm.replies import Usage
    from heuretic.study import Study

DEFAULT_STORE = "sqlite:///heuretic.db"


def optimize_prompt(
    data: Annotated[Path, typer.Argument(help="Questions with answers, JSON lines or CSV with the fields question and answer.")],
    model: Annotated[str, typer.Option(help="Who answers, such as heuretic/smollm2-135m or openai/gpt-4o-mini.")],
    optimizer: Annotated[str | None, typer.Option(help="Who writes instructions. Default: the same model.")] = None,
    budget: Annotated[str | None, typer.Option(help="Hard limit for everything, earlier runs included: '200000 tokens' or '$2'.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps, of --per-step instructions each.")] = 20,
    per_step: Annotated[int, typer.Option(min=1, help="Instructions asked for in a step.")] = 8,
    position: Annotated[
        Literal["before_Q", "Q_begin", "Q_end", "A_begin"], typer.Option(help="Where the instruction stands.")
    ] = "Q_begin",
    initial: Annotated[list[str] | None, typer.Option(help="Instruction to start from. Repeatable. Default: Let's solve the problem.")] = None,
    form: Annotated[
        Literal["chat", "text", "pretrained"], typer.Option(help="Meta-prompt: for chat models, for text-bison, or for plain continuation.")
    ] = "chat",
    topic: Annotated[str, typer.Option(help="With --form pretrained: what the problems are, such as 'grade school math'.")] = "",
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Least accuracy of instructions that the optimiser is shown.")] = 0.0,
    train: Annotated[float, typer.Option(help="Share of the questions that proposals are scored on.")] = 0.2,
    validation: Annotated[float, typer.Option(help="Share that chooses among the best; the rest is held out.")] = 0.2,
    official: Annotated[bool, typer.Option("--official", help="Score as the published code does, where including the answer is enough.")] = False,
    digits: Annotated[bool, typer.Option("--digits/--no-digits", help="Whether instructions may have digits.")] = True,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    proposal_tokens: Annotated[int, typer.Option(min=1, help="Longest reply of the optimiser, in tokens; 512 in the paper.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Decides what the optimiser draws.")] = 0,
    store: Annotated[str, typer.Option(envvar="HEURETIC_STORE", help="Where the study is kept.")] = DEFAULT_STORE,
    name: Annotated[str | None, typer.Option(help="Name of the study. Default: optimize-prompt-FILE.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell calls, tokens and price beforehand.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text for people.")] = False,
) -> None:  # fmt: skip
    """Search for the instruction with which a model answers the questions of DATA best. Run again to go on."""
    from heuretic.lm import ModelError, Price, Sampling, read_questions
    from heuretic.lm import model as model_named
    from heuretic.lm.opro import OPRO, PromptSearch, parse_for, published, split_questions
    from heuretic.lm.strategies.instructed import Instructed
    from heuretic.search import text

    limit = _budget(budget)
    try:
        parts = split_questions(read_questions(data), train, validation)
        labels = position in ("before_Q", "A_begin")
        prompt = published(
            form, position, questions=parts.train, labels=labels, topic=topic, threshold=threshold, digits=digits
        )
        texts = tuple(initial or ("Let's solve the problem.",))
        strategy = Instructed(
            text(*texts), position, labels, parse_for(parts, official), Sampling(max_tokens=max_tokens)
        )
        # What follows the end of an instruction is not read, so it need not be generated.
        stop = () if prompt.strict else (prompt.end,)
        proposing = Sampling(temperature=1.0, max_tokens=proposal_tokens, stop=stop)
        scorer = model_named(model)
        search = PromptSearch(
            parts, strategy, scorer=scorer, optimizer=scorer if optimizer in (None, model) else model_named(optimizer),
            budget=limit, steps=steps, position=position, meta_prompt=prompt, official=official,
            opro=OPRO(prompt, per_step=per_step, sampling=proposing),
        )  # fmt: skip
    except (ModelError, ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    plan = search.plan()
    if dry_run:
        _print_plan(plan, search, as_json)
        return
    title = name or f"optimize-prompt-{data.stem}"
    free = isinstance(scorer.price, Price) and not (scorer.price.input or scorer.price.output)
    if not as_json:
        said = Console(stderr=True, highlight=False)
        likely = f"about {plan.likely.tokens:,} tokens" + (
            "" if free or plan.likely_cost is None else f", ${plan.likely_cost:.2f}"
        )
        said.print(
            f"{plan.evaluations} instructions at most, {likely}. Ctrl-C stops; the same command goes on.", markup=False
        )
    try:
        result, interrupted, study = _run(search, title, store, seed, as_json)
    except ModelError as error:
        raise UsageError(str(error)) from error
    if as_json:
        print(json.dumps({**_record(result, search, parts), "study": study.name, "store": study.store.url}))
    else:
        _print(result, parts, study, free)
    if interrupted:
        raise typer.Exit(130)
    if result.best is None:
        raise typer.Exit(1)


def _run(search: PromptSearch, title: str, store: str, seed: int, quiet: bool) -> tuple[PromptResult, bool, Study]:
    """Run the study, or go on with it, and measure what was found; the last is left out after an interruption."""
    from heuretic.lm.opro import SearchStopped
    from heuretic.study import Study, discover
    from heuretic.study.store import open_store

    opened = open_store(store)
    if search.budget is not None and opened.study(title) is not None:
        _count_earlier(search, Study(opened, title))
    search.reserve()
    stopped, study = "", None
    try:
        study = discover(
            search.program, search.evaluate, algorithm=search.algorithm, trials=None, target=2.0, maximize="train",
            seed=seed, store=opened, name=title, progress=False if quiet else None,
        )  # fmt: skip
        stopped = study.stopped
    except SearchStopped as error:
        stopped = f"budget: {error}"
    study = study or Study(opened, title)
    run = search.algorithm.latest
    if run is not None and run.spent:
        stopped = f"budget: {run.spent}"
    elif stopped == "exhausted" and run is not None:
        stopped = "steps" if run.step + 1 >= (run.settings.steps or 0) else f"nothing new in {run.empty} steps"
    results = [trial.result for trial in study.trials]
    interrupted = stopped == "interrupted"
    if interrupted:
        search.parts = type(search.parts)(search.parts.train, (), ())
    search.release()
    said = Console(stderr=True, highlight=False)
    note = (lambda _: None) if quiet else (lambda line: said.print(line, markup=False))
    return search.finish(results, stopped, note), interrupted, study


def _count_earlier(search: PromptSearch, study: Study) -> None:
    """Count against the budget what earlier runs of the study took."""
    from heuretic.lm.replies import Usage

    assert search.budget is not None
    state, _ = study.store.state(study.name)
    usage, cost = search.taken([trial.result for trial in study.trials])
    if state is not None:
        usage += Usage(*state["search"]["usage"])
        cost = None if cost is None or state["search"]["cost"] is None else cost + state["search"]["cost"]
    search.budget.usage, search.budget.spent = usage, cost or 0.0


def _budget(given: str | None) -> Budget | None:
    from heuretic.lm import Budget

    if given is None:
        return None
    tokens = re.fullmatch(r"\s*([\d_,]+)\s*(k|M)?\s*tokens?\s*", given)
    money = re.fullmatch(r"\s*\$\s*(\d+(?:\.\d+)?)\s*|\s*(\d+(?:\.\d+)?)\s*(?:USD|dollars?)\s*", given, re.IGNORECASE)
    try:
        if tokens:
            return Budget(
                tokens=int(re.sub("[_,]", "", tokens[1])) * {"k": 1000, "M": 1_000_000}.get(tokens[2] or "", 1)
            )
        if money:
            return Budget(cost=float(money[1] or money[2]))
    except ValueError as error:
        raise UsageError(f"budget: {error}") from error
    raise UsageError(f"budget must be like '200000 tokens' or '$2', got {given!r}")


def _print_plan(plan: Plan, search: PromptSearch, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(plan)))
        return
    parts = search.parts
    table = Table("", "likely", "at most", box=None, header_style="bold")
    table.add_row("instructions scored", "", f"{plan.evaluations:,}")
    table.add_row("calls", "", f"{plan.calls:,}")
    table.add_row("prompt tokens", f"{plan.likely.input_tokens:,}", f"{plan.most.input_tokens:,}")
    table.add_row("generated tokens", f"{plan.likely.output_tokens:,}", f"{plan.most.output_tokens:,}")
    price = ["unknown" if c is None else f"${c:,.2f}" for c in (plan.likely_cost, plan.most_cost)]
    table.add_row("price", *price)
    console = Console(highlight=False)
    console.print(
        f"{len(parts.train)} questions to train on, {len(parts.validation)} to choose by, {len(parts.held_out)} held out. Nothing was asked.",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    console.print(table)


def _print(result: PromptResult, parts: Any, study: Study, free: bool) -> None:
    console = Console(highlight=False)
    table = Table("instruction", "train", "validation", "held out", box=None, header_style="bold")
    shown = [*result.finalists]
    if result.initial is not None and result.initial not in shown:
        shown.append(result.initial)
    for each in shown:
        marks = " (best)" * (each is result.best) + " (initial)" * (each is result.initial)
        table.add_row(
            escape(each.instruction + marks), *(_text(a) for a in (each.train, each.validation, each.held_out))
        )
    if not shown:
        console.print("No instruction was scored.", markup=False)
    else:
        console.print(table)
    refused = ", ".join(f"{count} {reason}" for reason, count in sorted(result.refused.items())) or "none"
    console.print(
        f"{result.evaluations} instructions in {result.steps} steps; proposals not used: {refused}.",
        markup=False,
        soft_wrap=True,
    )
    cost = "" if free else ", cost unknown" if result.cost is None else f", ${result.cost:.4f}"
    u = result.usage
    console.print(
        f"{u.input_tokens:,} prompt tokens, {u.output_tokens:,} generated, {u.calls:,} calls{cost}.", markup=False
    )
    console.print(f"Stopped: {result.stopped}.", markup=False, soft_wrap=True)
    console.print(f"Stored in {study.store.url} as {study.name!r}.", markup=False, soft_wrap=True)


def _text(accuracy: Rate | None) -> str:
    return "-" if accuracy is None else escape(str(accuracy))


def _record(result: PromptResult, search: PromptSearch, parts: Any) -> dict[str, Any]:
    return {
        "best": _measured(result.best), "initial": _measured(result.initial), "finalists": [_measured(f) for f in result.finalists],
        "steps": result.steps, "evaluations": result.evaluations, "refused": result.refused, "usage": _usage(result.usage),
        "cost": result.cost, "stopped": result.stopped,
        "questions": {"train": len(parts.train), "validation": len(parts.validation), "held_out": len(parts.held_out)},
    }  # fmt: skip


def _usage(usage: Usage) -> dict[str, int]:
    return asdict(usage)


def _measured(each: Measured | None) -> dict[str, Any] | None:
    if each is None:
        return None
    accuracies = {"train": each.train, "validation": each.validation, "held_out": each.held_out}
    return {
        "instruction": each.instruction, "step": each.step,
        **{part: None if a is None else {"accuracy": a.value, "interval": a.interval, "questions": a.of} for part, a in accuracies.items()},
    }  # fmt: skip
