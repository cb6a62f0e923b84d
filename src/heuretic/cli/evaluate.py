"""`heuretic eval`: benchmarks on any model, and runs against each other."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from heuretic.cli.ask import LOCAL, strategy_at
from heuretic.cli.files import UsageError
from heuretic.cli.study import DEFAULT_STORE

if TYPE_CHECKING:
    from heuretic.evals import Evaluation
    from heuretic.evals.comparing import Difference
    from heuretic.evals.estimating import Estimated
    from heuretic.evals.running import Run, Spent
    from heuretic.lm import LanguageModel, Price

_MOST_CATEGORIES = 30
_MOST_PUBLISHED = 6
_TOLD_S = 30
"""How often a run says how far it is where no bar can be drawn."""


def evaluate(
    names: Annotated[
        list[str] | None, typer.Argument(help="Evaluations by address, such as bbeh or 'bbeh?mini=true', a file of questions, or compare LOG LOG...; none to list them.")
    ] = None,
    suite: Annotated[str | None, typer.Option(help="Instead of names: reasoning, factuality, long-context, vision or honesty.")] = None,
    model: Annotated[str, typer.Option(help="Such as heuretic/smollm2-135m, heuretic/FILE.gguf or openai/gpt-4o-mini.")] = LOCAL,
    judge: Annotated[str | None, typer.Option(help="Who scores, where a model has to.")] = None,
    strategy: Annotated[str | None, typer.Option(help="How to ask; an address, FILE.py:NAME or FILE.json. Default: as the benchmark does.")] = None,
    search: Annotated[
        str | None,
        typer.Option(help="Who looks things up, such as 'bm25?paths=[\"notes\"]' or 'serper | recorded?file=lookups.jsonl'; for longfact, and for --strategy fresh-prompt."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many questions of each, evenly from all categories.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Most questions under way at once.")] = 64,
    tokens: Annotated[int | None, typer.Option(min=1, help="Hard limit on tokens of all models, prompts and replies together.")] = None,
    dollars: Annotated[float | None, typer.Option(help="Hard limit on US dollars, more than 0.")] = None,
    price: Annotated[
        list[str] | None, typer.Option(help="What a model costs where that is not known, in US dollars for a million tokens of prompts and of replies: NAME=0.15,0.60.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Neither look replies up on disk nor keep them.")] = False,
    logs: Annotated[Path, typer.Option(help="Where logs go, for `inspect view --log-dir`.")] = Path("logs"),
    store: Annotated[str, typer.Option(envvar="HEURETIC_STORE", help="Where the study with the results is kept.")] = DEFAULT_STORE,
    energy: Annotated[bool, typer.Option("--energy", help="Measure energy and emissions too (heuretic[carbon]).")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell calls, tokens and price beforehand.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text for people.")] = False,
) -> None:  # fmt: skip
    """Evaluate a model. Run again to go on with a stopped run: replies that came are kept."""
    from heuretic.evals import SUITES
    from heuretic.lm import Budget, ModelError
    from heuretic.lm import model as model_named
    from heuretic.search.addresses import AddressError

    if suite is not None:
        if suite not in SUITES or names:
            raise UsageError(f"suite must be one of {', '.join(SUITES)}, without names, got {suite!r}")
        names = list(SUITES[suite])
    if not names:
        _list(as_json)
        return
    if names[0] == "compare":
        _compare(names[1:], as_json)
        return
    prices, done, left_out, several = _prices(price or []), [], 0, suite is not None or len(names) > 1
    try:
        evaluations = [_named(name) for name in names]
        how, evaluations = _searching(evaluations, strategy, search)
        if dry_run:
            paid, judging_paid = (
                (name and (prices.get(name) or _known_price(name))) or None for name in (model, judge)
            )
            _dry_run(evaluations, how, limit, paid, judging_paid, several, as_json)
            return
        budget = None if tokens is None and dollars is None else Budget(tokens, dollars)
        given: dict[str, Any] = {"budget": budget, **({"cache": None} if fresh else {})}
        asked = model_named(model, price=prices.get(model), **given)
        judging = None if judge is None else model_named(judge, price=prices.get(judge), **given)
        # A job's end is what Ctrl-C is: the log is closed, and the numbers so far are told.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        for evaluation in evaluations:
            try:
                run = _run(evaluation, asked, judging, how, limit, concurrency, logs, energy, as_json)
            except (ModelError, FileNotFoundError, ValueError) as error:
                if not several:
                    raise
                left_out += 1
                _leave_out(evaluation, error)
                continue
            kept = _keep(run, strategy or "the benchmark's", store)
            done.append(run)
            if not as_json:
                _show(run, store if kept else "")
            if run.stopped:
                break
    except (ModelError, AddressError, FileNotFoundError, ValueError) as error:
        raise UsageError(str(error)) from error
    if as_json:
        from heuretic.evals.log import record

        shown = [record(run) for run in done]
        print(json.dumps(shown if several else shown[0]))
    elif len(done) > 1:
        Console().print(_overview(done))
    if any(run.stopped for run in done):
        raise typer.Exit(130 if done[-1].stopped == "interrupted" else 1)
    if not any(run.score.count for run in done) or (left_out and suite is None):
        raise typer.Exit(1)


def _leave_out(evaluation: Evaluation, why: Exception) -> None:
    told = f"{evaluation.title} is left out: {why}"
    Console(stderr=True).print(told, markup=False, highlight=False, soft_wrap=True)


def _prices(given: Sequence[str]) -> dict[str, Price]:
    """Return prices by name of the model."""
    from heuretic.lm import Price

    prices = {}
    for each in given:
        name, _, numbers = each.rpartition("=")
        try:
            paid = [float(number) for number in numbers.split(",")]
            if not name or len(paid) != 2 or not all(0 <= number < float("inf") for number in paid):
                raise ValueError
        except ValueError:
            raise UsageError(
                f"price must be NAME=INPUT,OUTPUT, got {each!r}. Try openai/gpt-4o-mini=0.15,0.60"
            ) from None
        prices[name] = Price(*paid)
    return prices


def _known_price(name: str) -> Price | None:
    """Return what a model costs, None if nobody knows or it cannot be opened here, which an estimate need not."""
    from heuretic.lm import ModelError
    from heuretic.lm import model as model_named

    try:
        return model_named(name, cache=None).price
    except ModelError:
        return None


def _named(address: str) -> Evaluation:
    from heuretic.evals import EVALUATIONS
    from heuretic.evals.labelled import Labelled, is_question_file

    if "?" not in address and is_question_file(address):
        return Labelled(set=address)
    if Path(address).is_file():
        raise UsageError(f"a file of questions must be .jsonl or .csv (also .gz), got {address}")
    return EVALUATIONS.at(address)


def _searching(evaluations: list[Evaluation], strategy: str | None, search: str | None) -> tuple[Any, list[Evaluation]]:
    """Return the strategy, and evaluations whose raters look facts up."""
    from heuretic.evals.running import searching
    from heuretic.lm.retrieval.addresses import SEARCHES

    found = None if search is None else SEARCHES.at(search)
    how = None if strategy is None else strategy_at(strategy, found)
    if found is None:
        return how, evaluations
    return how, [searching(each, how, found) for each in evaluations]


def _run(
    evaluation: Evaluation, model: LanguageModel, judge: LanguageModel | None, strategy: Any, limit: int | None, concurrency: int,
    logs: Path, energy: bool, quiet: bool,
) -> Run:  # fmt: skip
    from heuretic.evals.running import evaluate

    with _progress(evaluation.title, quiet) as told:
        return evaluate(
            evaluation, model, strategy=None if strategy is None else evaluation.fitted(strategy), judge=judge, limit=limit,
            concurrency=concurrency, logs=logs, energy=energy, progress=told,
        )  # fmt: skip


@contextmanager
def _progress(name: str, quiet: bool) -> Iterator[Any]:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("score {task.fields[score]:.3f}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    console, last = Console(stderr=True), time.monotonic()
    if quiet or console.is_terminal:
        with Progress(*columns, console=console, disable=quiet, transient=True) as bar:
            task = bar.add_task(name, total=None, score=float("nan"))
            yield lambda done, total, mean: bar.update(task, completed=done, total=total, score=mean)
        return

    def told(done: int, total: int | None, mean: float) -> None:
        nonlocal last
        if time.monotonic() - last > _TOLD_S:
            last = time.monotonic()
            console.print(f"{name}: {done:,}{f' of {total:,}' if total else ''}, score {mean:.3f}", highlight=False)

    yield told


def _keep(run: Run, strategy: str, store: str) -> bool:
    """Store the numbers of a run as a trial; return whether there are any."""
    from heuretic.evals import EVALUATIONS
    from heuretic.study.recording import record

    values = {"score": run.score.value}
    for name, found in run.summary.items():
        for suffix, value in (("", found.value), ("_low", found.low), ("_high", found.high)):
            if value is not None and value == value:
                values[f"{name}{suffix}".replace(" ", "_")] = value
    for prefix, spent in (("", run.spent), ("judge_", run.judge_spent)):
        values[f"{prefix}input_tokens"] = spent.usage.input_tokens
        values[f"{prefix}output_tokens"] = spent.usage.output_tokens
        if spent.cost is not None:
            values[f"{prefix}dollars"] = spent.cost
    values["unscored"], values["stopped"] = sum(run.unscored.values()), float(bool(run.stopped))
    choices = {
        "evaluation": EVALUATIONS.of(run.evaluation), "model": run.model, "strategy": strategy,
        "judge": run.judge or "none", "questions": run.questions,
    }  # fmt: skip
    if values["score"] != values["score"]:
        return False
    facts = {f"data {name}": checksum for name, checksum in run.checksums.items()}
    record(
        choices, values, store=store, name=f"eval {run.evaluation.title}", objective="score", started=run.started,
        seconds=run.seconds, energy=run.energy, files=[run.log] if run.log else [], facts=facts,
    )  # fmt: skip
    return True


def _show(run: Run, store: str) -> None:
    console = Console(highlight=False)
    judge = f", judged by {escape(run.judge)}" if run.judge else ""
    asked = f"{run.questions:,}" + (f" of {run.total:,}" if run.total and run.total > run.questions else "")
    console.print(f"[bold]{run.evaluation.title}[/]  {escape(run.model)}, {asked} questions{judge}", soft_wrap=True)
    table = Table(box=None, show_header=False)
    for name, found in run.summary.items():
        table.add_row(name, str(found) if found.count else "none", f"{found.count:,} scores")
    unit, published = run.evaluation.unit, list(run.evaluation.references.items())
    baselines = [
        (name, value / unit)
        for name, value in (("random choice", run.chance), ("constant answer", run.constant))
        if value is not None
    ]
    for name, value in (*baselines, *published[:_MOST_PUBLISHED]):
        table.add_row(name, f"{value:.3f}" if unit == 1 else f"{value:.3g}", "")
    console.print(table)
    if len(published) > _MOST_PUBLISHED:
        console.print(f"{len(published) - _MOST_PUBLISHED} more published numbers with --json", style="dim")
    for key, groups in run.groups.items():
        if 1 < len(groups) <= run.questions / 2:
            console.print(_breakdown(key, groups))
    picture = run.evaluation.picture(run.results)
    if picture is not None:
        console.print(picture[0], markup=False)
        if run.log:
            drawn = run.log.with_suffix(".svg")
            drawn.write_text(picture[1], encoding="utf-8")
            console.print(f"Picture: {escape(str(drawn))}", soft_wrap=True)
    outcomes = ", ".join(f"{name} {count:,}" for name, count in run.outcomes.items())
    console.print(f"outcomes: {outcomes}", soft_wrap=True)
    if run.unscored:
        reasons = ", ".join(f"{escape(name)} {count:,}" for name, count in run.unscored.items())
        low, high = run.bounds
        console.print(
            f"without a score: {reasons}; the mean is between {low:.3f} and {high:.3f} if all had one", soft_wrap=True
        )
    for note in run.notes:
        console.print(f"note: {escape(note)}", style="dim", soft_wrap=True)
    console.print(_spent(run), style="dim", soft_wrap=True)
    if run.stopped:
        why = "Interrupted" if run.stopped == "interrupted" else f"Stopped by {escape(run.stopped)}"
        console.print(f"[bold]{why}.[/] Run again to go on.", soft_wrap=True)
    if run.log:
        console.print(
            f"Log: {escape(str(run.log))} (inspect view --log-dir {escape(str(run.log.parent))})", soft_wrap=True
        )
    stored = (
        f"Stored in {escape(store)} as 'eval {run.evaluation.title}'."
        if store
        else "Not stored: no question has a score."
    )
    console.print(f"{stored}\n", soft_wrap=True)


def _breakdown(key: str, groups: Any) -> Table:
    table = Table(key, "score", "", "questions", box=None, header_style="bold")
    for name, found in list(groups.items())[:_MOST_CATEGORIES]:
        bar = "█" * round(20 * min(max(found.value, 0.0), 1.0)) if found.value == found.value else ""
        table.add_row(escape(name), str(found) if found.count else "none", bar, f"{found.count:,}")
    if len(groups) > _MOST_CATEGORIES:
        table.add_row(f"... and {len(groups) - _MOST_CATEGORIES} more, see --json", "", "", "")
    return table


def _spent(run: Run) -> str:
    parts = [f"model: {_tokens(run.spent)}"]
    if run.judge:
        parts.append(f"judge: {_tokens(run.judge_spent)}")
    if run.energy:
        from heuretic.study.report_energy import energy_text, mass_text

        kwh = sum(run.energy[part] for part in ("cpu_kwh", "gpu_kwh", "ram_kwh"))
        parts.append(f"{energy_text(kwh)}, {mass_text(run.energy['co2e_kg'])} CO2e")
    return "; ".join([*parts, f"{run.seconds:.1f} s"])


def _tokens(spent: Spent) -> str:
    usage = spent.usage
    kept = f", {spent.cached:,} of {spent.replies:,} replies from disk" if spent.cached else ""
    cost = f", ${spent.cost:.4f}" if spent.cost else ", price not known" if spent.cost is None else ""
    return f"{usage.input_tokens:,} prompt tokens, {usage.output_tokens:,} generated{kept}{cost}"


def _overview(runs: Sequence[Run]) -> Table:
    table = Table("evaluation", "score", "random", "constant", "questions", box=None, header_style="bold")
    for run in runs:
        known = ("" if value is None else f"{value:.3f}" for value in (run.chance, run.constant))
        table.add_row(run.evaluation.title, str(run.score), *known, f"{run.questions:,}")
    return table


def _dry_run(
    evaluations: Sequence[Evaluation], strategy: Any, limit: int | None, price: Price | None, judge_price: Price | None,
    several: bool, as_json: bool,
) -> None:  # fmt: skip
    from heuretic.evals.estimating import estimate

    told: list[dict[str, Any]] = []
    columns = ("evaluation", "", "calls", "prompt tokens", "generated at most", "dollars at most")
    table = Table(*columns, box=None, header_style="bold")
    for evaluation in evaluations:
        how = evaluation.strategy() if strategy is None else evaluation.fitted(strategy)
        try:
            asked, judged = estimate(evaluation, how, limit, price, judge_price)
        except (FileNotFoundError, ValueError) as error:
            if not several:
                raise
            told.append({"evaluation": evaluation.title, "left_out": str(error)})
            _leave_out(evaluation, error)
            continue
        told.append({"evaluation": evaluation.title, "model": asdict(asked), "judge": asdict(judged)})
        table.add_row(evaluation.title, f"{asked.questions:,} questions", *_row(asked))
        if judged.calls:
            table.add_row("", "judge", *_row(judged))
    if as_json:
        print(json.dumps(told))
    else:
        Console(highlight=False).print(table)


def _row(found: Estimated) -> tuple[str, ...]:
    price = "price not known" if found.dollars is None else f"{found.dollars:.2f}"
    return f"{found.calls:,}", f"about {found.input_tokens:,}", f"{found.output_tokens:,}", price


def _compare(logs: Sequence[str], as_json: bool) -> None:
    from heuretic.evals.comparing import compare, read_run

    try:
        runs = [read_run(log) for log in logs]
        names = list(dict.fromkeys(name.split()[0] for name, _ in runs))
        if len(names) > 1:
            raise ValueError(f"runs must be of one evaluation, got {' and '.join(names)}. Try runs of {names[0]}")
        found = compare(runs)
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(str(error)) from error
    if as_json:
        print(json.dumps([asdict(each) for each in found]))
        return
    console = Console(highlight=False)
    for (name, results), log in zip(runs, logs, strict=True):
        console.print(f"{escape(name)}: {results.mean()}  [dim]{escape(log)}[/]", soft_wrap=True)
    table = Table(
        "compared with the first",
        "difference",
        "p",
        "corrected",
        "better",
        "worse",
        "equal",
        box=None,
        header_style="bold",
    )
    for each in found:
        table.add_row(escape(each.first), _signed(each), f"{each.p:.3g}", f"{each.corrected:.3g}", f"{each.better:,}", f"{each.worse:,}", f"{each.equal:,}")  # fmt: skip
        if each.only_one:
            table.add_row(f"{each.only_one:,} questions were in one of the two only", "", "", "", "", "", "")
    console.print(table)


def _signed(found: Difference) -> str:
    each = found.estimate
    if each.low is None or each.high is None:
        return f"{each.value:+.3f}"
    return f"{each.value:+.3f} [{each.low:+.3f}, {each.high:+.3f}]"


def _list(as_json: bool) -> None:
    from importlib.util import find_spec

    from heuretic.evals import EVALUATIONS, SUITES
    from heuretic.evals.addresses import ABOUT

    if find_spec("inspect_ai") is None:
        raise UsageError("evaluations need inspect-ai. Try: pip install 'heuretic[lm]'")
    rows = []
    for name in EVALUATIONS.names():
        kind = EVALUATIONS.kind(name)
        about = ABOUT.get(name) or (kind.__doc__ or "").strip().partition("\n")[0]
        rows.append((name, [s for s, members in SUITES.items() if name in members], kind.judged, about))
    if as_json:
        print(json.dumps([{"name": n, "suites": s, "judged": j, "about": a} for n, s, j, a in rows]))
        return
    table = Table("evaluation", "suite", "judge", "", box=None, header_style="bold")
    for name, suites, judged, about in rows:
        table.add_row(name, ", ".join(suites), "needed" if judged else "", escape(about))
    Console().print(table)
