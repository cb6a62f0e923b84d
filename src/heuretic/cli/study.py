"""`heuretic study`: look at what studies left behind. Nothing that a store names is imported or run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from heapq import nlargest
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from heuretic.cli.files import UsageError
from heuretic.cli.interop import read_from, write_to
from heuretic.study import Study, TrialRecord, open_study
from heuretic.study.store import Store as OpenStore
from heuretic.study.store import open_store

study_app = typer.Typer(help="List, show, report and export studies.", no_args_is_help=True)

Store = Annotated[str, typer.Option(envvar="HEURETIC_STORE", help="Where studies live.")]
Name = Annotated[str | None, typer.Argument(help="The study; may be left out if there is only one.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text for people.")]
DEFAULT_STORE = "sqlite:///heuretic.db"


@study_app.command("list")
def list_studies(store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """List the studies in a store."""
    opened = _open(store)
    studies = [Study(opened, name) for name in opened.names()]
    if as_json:
        print(json.dumps([summary(study) for study in studies]))
        return
    table = Table("study", "trials", "best", "objective", "started", box=None, header_style="bold")
    for study in studies:
        best = study.best
        table.add_row(
            escape(study.name), str(sum(study.counts.values())), f"{best.values[study.objective]:.6g}" if best else "-",
            escape(goals(study)), datetime.fromtimestamp(study.created).strftime("%Y-%m-%d %H:%M"),
        )  # fmt: skip
    Console().print(table)


@study_app.command()
def show(
    name: Name = None, store: Store = DEFAULT_STORE,
    top: Annotated[int, typer.Option(min=1, help="How many trials to list.")] = 10, as_json: Json = False,
) -> None:  # fmt: skip
    """Show a study: its settings, its best trials and what the winner changed."""
    study = open_study(_open(store), name)
    if as_json:
        print(json.dumps(summary(study)))
        return
    console = Console()
    console.print(
        f"[bold]{escape(study.name)}[/]  {escape(goals(study))}  seed {study.seed}",
        highlight=False,
    )
    console.print(f"algorithm {study.algorithm}", highlight=False, markup=False)
    for limit in study.limits:
        console.print(f"limit {limit!r}", highlight=False, markup=False)
    shared = sharing(study)
    if shared is not None:
        slots = sum(shared["workers"].values())
        console.print(
            f"{shared['led']}; {len(shared['workers'])} worker(s) with {slots} slot(s) alive; trials on their way: "
            f"{shared['tickets'].get('claimed', 0)} claimed, {shared['tickets'].get('open', 0)} waiting",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    print_leaderboard(study, top)
    if study.best is not None and study.start is not None:
        console.print("\nThe winner against the starting program:", highlight=False)
        console.print(study.diff())


@study_app.command()
def report(
    name: Name = None, store: Store = DEFAULT_STORE,
    out: Annotated[Path | None, typer.Option(help="Default: NAME.html")] = None,
) -> None:  # fmt: skip
    """Write a self-contained HTML report."""
    study = open_study(_open(store), name)
    print(study.report(out or _file(study, "html")))


@study_app.command()
def export(
    name: Name = None, store: Store = DEFAULT_STORE,
    kind: Annotated[
        Literal["csv", "parquet", "json", "optuna", "mlflow", "tensorboard"], typer.Option("--format", help="File or tool.")
    ] = "csv",
    out: Annotated[
        str | None,
        typer.Option(help="A file, a URL (optuna, mlflow) or a folder (tensorboard). Default: NAME.FORMAT, "
                     "sqlite:///TOOL.db, or runs"),
    ] = None,
) -> None:  # fmt: skip
    """Write all trials to a file, one row each, or into another tool; what is there already is not written again."""
    from heuretic.study.export import export as write

    study = open_study(_open(store), name)
    if kind in ("optuna", "mlflow", "tensorboard"):
        print(write_to(study, kind, out))
        return
    try:
        print(write(study, out or _file(study, kind), kind))
    except ImportError as error:
        raise UsageError(str(error)) from None


@study_app.command("import")
def import_study(
    url: Annotated[str, typer.Argument(help="Where the study is, such as sqlite:///optuna.db")],
    tool: Annotated[Literal["optuna"], typer.Option("--from", help="What wrote it.")] = "optuna",
    name: Annotated[str | None, typer.Option(help="Its name there; may be left out if there is only one.")] = None,
    as_name: Annotated[str | None, typer.Option("--as", help="Its name here. Default: the same.")] = None,
    seed: Annotated[int, typer.Option(help="For going on with it.")] = 0, store: Store = DEFAULT_STORE,
) -> None:  # fmt: skip
    """Take a study of another tool into the store."""
    study, notes = read_from(url, name, open_store(store), as_name, seed)
    for note in notes:
        Console(stderr=True).print(note, markup=False, highlight=False, soft_wrap=True)
    print(
        f"{study.name}: {', '.join(f'{count} {state}' for state, count in study.counts.items())} in {study.store.url}"
    )


def _file(study: Study, kind: str) -> Path:
    return Path(f"{study.name.replace('/', '-')}.{kind}")  # studies of a comparison have slashes in their names


def _open(url: str) -> OpenStore:
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///").partition("?")[0]).exists():
        raise UsageError(f"no store at {url}. Name one with --store or HEURETIC_STORE")
    return open_store(url)


def summary(study: Study) -> dict[str, Any]:
    """Return the facts of a study that scripts ask for."""
    best = study.best
    return {
        "name": study.name, "store": study.store.url, "objective": study.objective, "direction": study.direction,
        "objectives": [{"name": o.name, "direction": o.direction} for o in study.objectives],
        "seed": study.seed, "algorithm": study.algorithm, "counts": study.counts, "reused": study.reused,
        "equivalent": study.equivalent, "created": study.created,
        "best": None if best is None else _trial(study, best),
        "front": [_trial(study, winner) for winner in study.front] if len(study.objectives) > 1 else [],
        "sharing": sharing(study),
    }  # fmt: skip


def sharing(study: Study) -> dict[str, Any] | None:
    """Return who leads and works for a shared study, and its tickets by status; None if it was never shared."""
    from heuretic.study.queue import Queue
    from heuretic.study.sql_store import SqlStore

    if not isinstance(study.store, SqlStore):
        return None
    queue = Queue(study.store, study.name)
    standing = queue.standing()
    if not standing.terms:
        return None
    led = "led" if standing.leader else f"stopped: {standing.stopped}" if standing.stopped else "without a leader"
    return {"led": led, "workers": queue.alive_workers(), "tickets": queue.counts()}


def _trial(study: Study, trial: TrialRecord) -> dict[str, Any]:
    return {
        "number": trial.number, "digest": trial.digest, "values": dict(trial.values), "costs": dict(trial.costs),
        "violation": trial.violation, "choices": study.space(trial.space).chosen(trial.genome),
    }  # fmt: skip


def goals(study: Study) -> str:
    """Return what the study is after, in words."""
    return ", ".join(f"{objective.direction} {objective.name}" for objective in study.objectives)


def print_leaderboard(study: Study, count: int) -> None:
    """Print the best trials as a table, best first, and how many failed. Of several objectives, the front."""
    shown: Sequence[TrialRecord]
    if len(study.objectives) > 1:
        front = study.front
        shown = front[:count]
        print(f"{len(front)} trials on the front{f', the first {count}' if len(front) > count else ''}:")
    else:
        finished = (t for t in study.store.trials(study.name) if t.score is not None)
        shown = nlargest(count, finished, key=lambda t: t.result.rank)
    costs = list(dict.fromkeys(name for t in shown for name in t.costs))
    others = [n for n in dict.fromkeys(name for t in shown for name in t.values) if n != study.objective][:4]
    names = map(escape, (study.objective, *others, *costs))
    table = Table("trial", *names, "s", "choices", box=None, header_style="bold")
    for trial in shown:
        chosen = study.space(trial.space).chosen(trial.genome)
        choices = "  ".join(f"{path.rsplit('.', 1)[-1]}={_short(value)}" for path, value in chosen.items())
        table.add_row(
            f"{trial.number}{'' if trial.violation == 0 else ' (breaks a limit)'}", f"{trial.values[study.objective]:.6g}",
            *(_short(trial.values.get(n)) for n in others), *(_short(trial.costs.get(n)) for n in costs),
            f"{trial.seconds:.2f}", escape(choices),
        )  # fmt: skip
    Console().print(table)
    counts = ", ".join(f"{number} {state}" for state, number in study.counts.items())
    equivalent = f", {study.equivalent} of them by equivalence" if study.equivalent else ""
    print(f"{counts or 'no trials'}; {study.reused} repeats not paid for{equivalent}")
    if study.counts.get("failed"):
        causes: dict[str, int] = {}
        for trial in study.store.trials(study.name):
            if trial.error:
                cause = trial.error.strip().splitlines()[-1][:160]
                causes[cause] = causes.get(cause, 0) + 1
        for cause, number in sorted(causes.items(), key=lambda item: -item[1])[:5]:
            Console().print(f"  failed {number}x: {cause}", markup=False, highlight=False)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    return "" if value is None else str(value)
