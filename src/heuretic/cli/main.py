"""The command `heuretic`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from heuretic import __version__
from heuretic.cli.artifacts import artifacts_app
from heuretic.cli.ask import LOCAL, ask
from heuretic.cli.carbon import carbon
from heuretic.cli.compare import compare
from heuretic.cli.describe import describe
from heuretic.cli.evaluate import evaluate as evaluate_models
from heuretic.cli.files import UsageError, engine_name, load_module, load_object
from heuretic.cli.models import models_app
from heuretic.cli.optimize_prompt import optimize_prompt
from heuretic.cli.study import DEFAULT_STORE, study_app
from heuretic.cli.worker import worker
from heuretic.symbolic import PatchError

if TYPE_CHECKING:
    from heuretic.ideas import Idea

app = typer.Typer(
    help="Programs as values, published ideas as patches, and a search over everything left open.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(study_app, name="study")
app.add_typer(artifacts_app, name="artifacts")
app.add_typer(models_app, name="models")
app.command()(ask)
app.command("eval")(evaluate_models)
app.command()(compare)
app.command()(carbon)
app.command()(describe)
app.command()(worker)
app.command()(optimize_prompt)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text for people.")]


def _version(asked: bool) -> None:
    if asked:
        print(f"heuretic {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Programs as values, published ideas as patches, and a search over everything left open."""


@app.command()
def discover(
    file: Annotated[
        Path,
        typer.Argument(
            help="Python file that defines `program` and `evaluate`, and optionally `settings`, a dict of arguments for hr.discover; "
            "or questions with answers (.jsonl, .csv), for which --strategy is searched."
        ),
    ],
    strategy: Annotated[
        str | None,
        typer.Option(help="With a file of questions: FILE.py:NAME or FILE.json of a strategy with places left open."),
    ] = None,
    model: Annotated[str, typer.Option(help="With a file of questions: who answers them.")] = LOCAL,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials in all, earlier runs included.")] = None,
    algorithm: Annotated[
        str | None, typer.Option(help="Such as auto, 'evolution?population=20', nsga2 or optuna-tpe.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Decides everything random.")] = None,
    store: Annotated[str | None, typer.Option(envvar="HEURETIC_STORE", help="Default: sqlite:///heuretic.db")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study. Default: the file's name.")] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            callback=engine_name,
            help="Where evaluations run: inline, processes, workers (which `heuretic worker` may join), ray or ray://HOST:PORT.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Worker processes here; implies --engine processes.")
    ] = None,
    time_s: Annotated[float | None, typer.Option("--time", min=0, help="Stop after so many seconds.")] = None,
    target: Annotated[float | None, typer.Option(help="Stop when the objective reaches this.")] = None,
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", help="Seconds that one evaluation may take; implies --engine processes."),
    ] = None,
    memory_mb: Annotated[
        float | None, typer.Option("--memory", help="MiB that one evaluation may use; implies --engine processes.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Search over everything that FILE's program leaves open. Run again to go on with a stopped study."""
    from heuretic.study import Study
    from heuretic.study import discover as run

    program, evaluate, settings = _searched(file, strategy, model)
    given: dict[str, Any] = {"store": "sqlite:///heuretic.db", "name": file.stem, **settings}
    flags = {
        "trials": trials, "algorithm": algorithm, "seed": seed, "store": store, "name": name, "workers": workers, "time_s": time_s,
        "target": target, "timeout_s": timeout_s, "memory_mb": memory_mb,
        "engine": engine or ("processes" if workers or timeout_s or memory_mb else None),
    }  # fmt: skip
    given.update({key: value for key, value in flags.items() if value is not None})
    if as_json:
        given.setdefault("progress", False)
    study: Study = run(program, evaluate, **given)
    written = study.report(report) if report else None
    if as_json:
        from heuretic.cli.study import summary

        print(json.dumps({**summary(study), "stopped": study.stopped, "report": written and str(written)}))
    else:
        from heuretic.cli.study import print_leaderboard

        print_leaderboard(study, 5)
        store_url = study.store.url
        Console().print(
            f"Stopped: {study.stopped}. Stored in {store_url} as {study.name!r}.", soft_wrap=True, markup=False
        )
        Console().print(
            f"Report: {written}" if written else f"Report: heuretic study report {study.name} --store {store_url}",
            soft_wrap=True,
        )
    if study.stopped == "interrupted":
        raise typer.Exit(130)
    if study.best is None:
        raise typer.Exit(1)


def _searched(file: Path, strategy: str | None, model: str) -> tuple[Any, Any, dict[str, Any]]:
    """Return the program, its evaluation and the settings that a file stands for."""
    if file.suffix in (".jsonl", ".csv"):
        from heuretic.lm import Accuracy

        if strategy is None:
            raise UsageError(
                f"--strategy must say what is searched on {file}. Try --strategy examples/strategy.py:program"
            )
        try:
            return load_object(strategy), Accuracy(file, model), {"maximize": "accuracy"}
        except (FileNotFoundError, ValueError) as error:
            raise UsageError(str(error)) from error
    if strategy is not None:
        raise UsageError(f"--strategy must come with a file of questions (.jsonl, .csv), got {file}")
    module = load_module(file)
    missing = [n for n in ("program", "evaluate") if not hasattr(module, n)]
    if missing:
        raise UsageError(f"{file} must define {' and '.join(missing)}")
    return module.program, module.evaluate, getattr(module, "settings", {})


@app.command()
def ideas(
    name: Annotated[str | None, typer.Argument(help="Show one idea in full.")] = None,
    as_json: Json = False,
) -> None:
    """List the catalogue of published ideas, or show one."""
    from heuretic.ideas import get
    from heuretic.symbolic.catalog import entries

    if name is not None:
        idea = get(name)
        print(json.dumps(idea.summary(), indent=2)) if as_json else _show_idea(idea)
        return
    listed: list[dict[str, Any]] = []
    for slug in entries():
        try:
            listed.append(get(slug).summary())
        except PatchError as error:  # one that cannot be imported here does not hide the others
            listed.append({"slug": slug, "title": "", "status": str(error)})
    if as_json:
        print(json.dumps(listed, indent=2))
        return
    table = Table("idea", "what it is", "here", box=None, header_style="bold")
    for row in listed:
        table.add_row(*(escape(row[key]) for key in ("slug", "title", "status")))
    Console().print(table)


def _show_idea(idea: Idea) -> None:
    console = Console(highlight=False)
    console.print(f"[bold]{escape(idea.title)}[/] ({idea.slug})")
    console.print(
        f"{idea.paper}\n{idea.paper.url}\n\nClaim: {idea.claim}\nHere: {idea.status}\n\n{idea.usage}", markup=False
    )
    fields = idea.patch.__fields__.values() if idea.patch else ()
    for field in fields:
        default = f" = {field.default!r}" if field.optional else ""
        console.print(f"  {field.name}{default}  {field.doc}", markup=False)


@app.command()
def patch(
    target: Annotated[
        str, typer.Argument(metavar="FILE:OBJECT", help="FILE.py:NAME, package.module:NAME or a saved FILE.json.")
    ],
    patches: Annotated[
        list[str],
        typer.Option("--with", help="Address of a patch, such as 'primer' or 'name?param=value'. Repeatable."),
    ],
    show_diff: Annotated[bool, typer.Option("--diff", help="Show what changed instead of the whole program.")] = False,
    out: Annotated[Path | None, typer.Option(help="Save the patched program as JSON.")] = None,
    as_json: Json = False,
) -> None:
    """Apply published ideas to a program or model, and show what they change."""
    from heuretic.symbolic import Change, apply, dumps

    changes: list[Change] = []
    patched = apply(load_object(target), *patches, changes=changes)
    if out is not None:
        out.write_text(dumps(patched, indent=1), encoding="utf-8")
    if as_json:
        print(
            json.dumps(
                {"changes": [{"path": str(c.path), "before": repr(c.before), "after": repr(c.after)} for c in changes]}
            )
        )
    elif show_diff:
        colours = {"+": "green", "-": "red", "~": "yellow"}
        for line in map(str, changes):
            Console().print(line, style=colours.get(line[0], ""), markup=False, highlight=False, soft_wrap=True)
    else:
        print(patched)
    if out is not None and not as_json:
        print(f"Saved to {out}")


@app.command()
def reproduce(
    slug: Annotated[str, typer.Argument(help="The idea, as `heuretic ideas` lists it.")],
    scale: Annotated[
        Literal["smoke", "small", "full"], typer.Option(help="Seconds, minutes on 2 cores, or hours on a GPU.")
    ] = "smoke",
    out: Annotated[
        Path | None, typer.Option(help="Folder for SLUG/SCALE.json. Default for small and full: results.")
    ] = None,
    store: Annotated[
        str, typer.Option(envvar="HEURETIC_STORE", help="Where the measurements are kept, as a study.")
    ] = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Check the headline claim of an idea's paper, and say plainly whether it held."""
    from heuretic.ideas import get
    from heuretic.ideas.studies import keep

    check = get(slug).reproduce
    if check is None:
        raise UsageError(f"{slug} has no check of its claim yet")
    said = Console(stderr=True, highlight=False)
    try:
        result = check(scale, progress=None if as_json else lambda line: said.print(line, markup=False))
    except (FileNotFoundError, ImportError) as error:  # data or packages that are not here
        raise UsageError(str(error)) from error
    folder = out or (Path("results") if scale != "smoke" else None)
    written = result.write(folder) if folder else None
    study = keep(result, store)
    if as_json:
        print(json.dumps({**result.record(), "study": study.name, "store": study.store.url}))
        return
    console = Console(highlight=False)
    console.print(f"Claim: {result.claim}", markup=False)
    table = Table("arm or difference", "metric", "mean [95% interval]", box=None, header_style="bold")
    for name, arm in result.arms.items():
        for metric in arm.measurements:
            table.add_row(escape(name), escape(metric), escape(str(result.estimate(name, metric))))
    for each in result.comparisons:
        table.add_row(escape(f"{each.treatment} minus {each.control}"), escape(each.metric), escape(str(each.estimate)))
    console.print(table)
    console.print(f"[bold]{result.verdict}[/]: {escape(result.reason)}")
    if written:
        print(f"Written to {written}")
    print(f"Kept as study {study.name!r} in {study.store.url}")


def main() -> NoReturn:
    """Run the command line; errors that a user can mend are one line, without a traceback."""
    from heuretic.search import InfeasibleError
    from heuretic.search.addresses import AddressError
    from heuretic.study import EngineError, StoreError
    from heuretic.study.artifacts import ArtifactError
    from heuretic.symbolic import InvalidField, LoadError, PathError

    mendable = (
        UsageError, StoreError, EngineError, ArtifactError, InfeasibleError, AddressError, PatchError, LoadError, PathError, InvalidField,
    )  # fmt: skip
    try:
        app()
    except mendable as error:
        Console(stderr=True).print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        for note in getattr(error, "__notes__", []):
            print(f"  {note}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(0)
