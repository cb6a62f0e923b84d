"""`heuretic compare`: several algorithms on one problem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from heuretic.cli.files import UsageError, engine_name, load_module

DEFAULT_STORE = "sqlite:///heuretic.db"


def compare(
    file: Annotated[
        Path | None,
        typer.Argument(help="Python file that defines `program` and `evaluate`, and optionally `settings`, as for discover."),
    ] = None,
    algorithms: Annotated[
        str, typer.Option(help="Addresses with commas between them, such as random,evolution?population=20,optuna-tpe.")
    ] = "auto,random,evolution",
    seeds: Annotated[int, typer.Option(min=2, help="How many seeds.")] = 10,
    budget: Annotated[int | None, typer.Option(min=1, help="Evaluations of each algorithm with each seed. Default: 200.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    store: Annotated[str | None, typer.Option(envvar="HEURETIC_STORE", help=f"Default: {DEFAULT_STORE}")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the comparison. Default: the file's name.")] = None,
    from_store: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show what a store holds under this name; runs nothing.")
    ] = None,
    optimum: Annotated[float | None, typer.Option(help="The best value there is, if known.")] = None,
    engine: Annotated[str | None, typer.Option(callback=engine_name, help="Where evaluations run: inline, processes or ray.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; implies --engine processes.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the plot and the table to this HTML file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text for people.")] = False,
) -> None:  # fmt: skip
    """Compare algorithms on what FILE's program leaves open, over paired seeds. Run again to go on with a stopped one."""
    from heuretic.search import InfeasibleError
    from heuretic.study.comparison import open_comparison

    if (file is None) == (from_store is None):
        raise UsageError("give FILE to run a comparison, or --from-store NAME to read one")
    try:
        if file is None:
            from heuretic.cli.study import _open as open_existing

            found = open_comparison(open_existing(store or DEFAULT_STORE), from_store, optimum=optimum, trials=budget)
        else:
            found = _run(
                file, [a for a in algorithms.split(",") if a.strip()], seeds=seeds, seed=seed, store=store, name=name,
                trials=budget, optimum=optimum, engine=engine or ("processes" if workers else None), workers=workers,
                progress=False if as_json else None,
            )  # fmt: skip
    except KeyboardInterrupt:
        typer.echo("Interrupted. What is finished is kept: the same command goes on from there.", err=True)
        raise typer.Exit(130) from None
    except InfeasibleError:
        raise
    except (ImportError, ValueError) as error:  # evaluations do not raise here, so it is about what was asked for
        raise UsageError(str(error)) from error
    written = found.report(out) if out else None
    if as_json:
        print(json.dumps({**found.record(), "report": written and str(written)}))
        return
    print(found)
    if written:
        print(f"Plot: {written}")


def _run(file: Path, algorithms: list[str], **flags: Any) -> Any:
    from heuretic.study.comparison import compare as run

    module = load_module(file)
    missing = [n for n in ("program", "evaluate") if not hasattr(module, n)]
    if missing:
        raise UsageError(f"{file} must define {' and '.join(missing)}")
    given: dict[str, Any] = {"store": DEFAULT_STORE, "name": file.stem, **getattr(module, "settings", {})}
    for own in ("algorithm", "time_s", "target", "plateau"):  # those that compare decides, or that end a run early
        given.pop(own, None)
    given.update({key: value for key, value in flags.items() if value is not None})
    return run(module.program, module.evaluate, algorithms, **given)
