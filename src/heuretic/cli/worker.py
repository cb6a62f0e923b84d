"""`heuretic worker`: join a study from any machine that reaches its database."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from heuretic.cli.files import UsageError

if TYPE_CHECKING:
    from heuretic.study.sql_store import SqlStore


def worker(
    store: Annotated[
        str,
        typer.Argument(
            envvar="HEURETIC_STORE", metavar="URL",
            help="The store, such as postgresql://user@host/database; a password is better kept in PGPASSWORD or ~/.pgpass.",
        ),
    ],
    name: Annotated[str | None, typer.Option(help="The study; may be left out if only one is shared.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that evaluate, side by side.")] = 1,
    folder: Annotated[Path, typer.Option(help="Where the code of the study lies on this machine.")] = Path("."),
    code: Annotated[
        Literal["same", "own", "kept"],
        typer.Option(
            help="same: run the code found here if it is that of the study. own: run it whatever it is, and record its "
            "digest. kept: run the code kept with the study; only if you trust everybody who may write to the database."
        ),
    ] = "same",
    trust: Annotated[
        list[str] | None, typer.Option(help="A package that programs may name, besides those the code imports. Repeatable.")
    ] = None,
    idle_s: Annotated[
        float, typer.Option("--idle", min=0, help="Leave when nobody led the study and no trial came for so many seconds.")
    ] = 600.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text for people.")] = False,
) -> None:  # fmt: skip
    """Evaluate trials of a shared study. Ctrl-C finishes what is running; twice, or SIGTERM, leaves it to others."""
    from heuretic.study.sharing import join
    from heuretic.study.sql_store import SqlStore
    from heuretic.study.store import open_store

    database = open_store(store)
    if not isinstance(database, SqlStore):
        raise UsageError(f"store must be the URL of a database, got {store!r}")
    said = Console(stderr=True, highlight=False, soft_wrap=True)
    if not as_json:
        database.note = lambda line: said.print(line, markup=False)
    title = _await(database, name, idle_s, (lambda line: None) if as_json else said.print)
    joined = join(database, title, workers=workers, code=code, folder=folder, trust=trust or (), idle_s=idle_s)
    asked: list[Literal["soon", "now"]] = []

    def interrupt(*_: object) -> None:
        asked.append("now" if asked else "soon")
        if not as_json:
            said.print(
                "Stopping when what is running is done; Ctrl-C again to leave it to others." if len(asked) == 1 else ""
            )

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, lambda *_: asked.extend(("soon", "now")))
    if not as_json:
        said.print(f"{joined.name} works for {title!r} in {database.url} with {workers} process(es).", markup=False)
    why = joined.run(lambda: asked[-1] if asked else "")
    if as_json:
        print(json.dumps({"worker": joined.name, "study": title, "evaluated": joined.evaluated, "stopped": why}))
    else:
        said.print(f"Evaluated {joined.evaluated} trial(s). Stopped: {why}.", markup=False)
    sys.exit(130 if why == "asked" else 0)


def _await(store: SqlStore, name: str | None, patience_s: float, note: Callable[[str], None]) -> str:
    """Return the study to work for, once it is shared and goes on: workers may be started before the study is.

    Raises: UsageError if that has not happened after `patience_s`, or several studies are shared and none is named.
    """
    from heuretic.study.queue import Queue

    until, told = time.monotonic() + patience_s, False
    while True:
        names = store.names()
        standings = {
            each: Queue(store, each).standing() for each in ([name] if name in names else [] if name else names)
        }
        shared = [each for each, standing in standings.items() if standing.terms]
        going_on = [each for each in shared if standings[each].leader or not standings[each].stopped]
        if len(going_on) == 1:
            return going_on[0]
        what = f"study {name!r}" if name else "a study"
        over = "".join(f"; {each!r} is over ({standings[each].stopped})" for each in shared)
        said = f"{store.url} has no {what} that is shared with workers; it has {', '.join(names) or 'none'}{over}"
        if len(going_on) > 1:
            raise UsageError(f"name must be given, as {store.url} holds several shared studies: {', '.join(going_on)}")
        if time.monotonic() >= until:
            raise UsageError(f"{said}. Share one with hr.discover(..., engine='workers')")
        if not told:
            note(f"Waiting: {said}.")
            told = True
        time.sleep(min(0.5, max(0.0, until - time.monotonic())))
