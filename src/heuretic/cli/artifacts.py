"""`heuretic artifacts`: list, copy out, check and clean up the files that trials saved."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from heuretic.cli.files import UsageError
from heuretic.cli.study import DEFAULT_STORE, Json, Store
from heuretic.study import open_store
from heuretic.study.artifacts import Artifacts, artifacts_url
from heuretic.study.records import Artifact
from heuretic.study.store import Store as OpenStore

artifacts_app = typer.Typer(help="List, copy out, check and clean up files that trials saved.", no_args_is_help=True)

Place = Annotated[
    str | None,
    typer.Option(
        "--artifacts", envvar="HEURETIC_ARTIFACTS", show_envvar=True,
        help="Folder or URL of the files. Default: beside an SQLite store.",
    ),
]  # fmt: skip
Which = Annotated[str | None, typer.Argument(metavar="[STUDY[/TRIAL[/NAME]]]", help="Default: all studies.")]
#: A file with the study and the number of the trial that saved it.
Saved = tuple[str, int, Artifact]


@artifacts_app.command("list")
def list_files(which: Which = None, store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """List the files that trials saved."""
    found = list(_saved(_open(store), which))
    if as_json:
        print(json.dumps([_facts(each) for each in found]))
        return
    table = Table("file", "size", "digest", box=None, header_style="bold")
    for study, number, file in found:
        table.add_row(escape(f"{study}/{number}/{_printable(file.name)}"), decimal(file.size), escape(file.digest[:12]))
    Console().print(table)
    unique = {file.digest: file.size for _, _, file in found}
    print(f"{len(found)} files, {len(unique)} different ones with {decimal(sum(unique.values()))}")


@artifacts_app.command()
def get(
    which: Annotated[str, typer.Argument(metavar="STUDY[/TRIAL[/NAME]]", help="One file, or all of a trial or study.")],
    store: Store = DEFAULT_STORE, place: Place = None,
    out: Annotated[
        Path, typer.Option(help="Folder: files go to NAME in it, those of a whole study to TRIAL/NAME.")
    ] = Path(),
    as_json: Json = False,
) -> None:  # fmt: skip
    """Copy files out. Each appears whole and checked; none that is there already is replaced."""
    opened = _open(store)
    found = list(_saved(opened, which))
    if not found:
        raise UsageError(f"no files are saved in {which!r}")
    whole = which in opened.names()
    targets = [out / str(number) if whole else out for _, number, _ in found]
    present = [t / f.name for t, (_, _, f) in zip(targets, found, strict=True) if (t / f.name).exists()]
    if present:
        raise UsageError(f"{present[0]} is there already. Name another folder with --out")
    files = _files(place, opened)
    with _progress("copying", sum(file.size for _, _, file in found), as_json) as advance:
        try:
            written = [str(files.extract(f, t, advance)) for t, (_, _, f) in zip(targets, found, strict=True)]
        except OSError as error:
            raise UsageError(str(error)) from error
    print(json.dumps(written)) if as_json else print("\n".join(written))


@artifacts_app.command()
def verify(
    which: Which = None, store: Store = DEFAULT_STORE, place: Place = None, as_json: Json = False
) -> None:  # fmt: skip
    """Read files again and say which are missing or damaged; then the exit code is 1."""
    opened = _open(store)
    files = _files(place, opened)
    saved = {file.digest: file for _, _, file in _saved(opened, which)}
    with _progress("checking", sum(file.size for file in saved.values()), as_json) as advance:
        wrong = files.verify(saved.values(), advance)
    if as_json:
        print(json.dumps({"checked": len(saved), "wrong": {digest: str(error) for digest, error in wrong.items()}}))
    else:
        for study, number, file in _saved(opened, which):
            if file.digest in wrong:
                print(f"{study}/{number}/{_printable(file.name)}: {wrong[file.digest]}")
        print(f"{len(saved)} different files checked in {files.url}: {len(wrong) or 'none'} missing or damaged")
    if wrong:
        raise typer.Exit(1)


@artifacts_app.command()
def gc(
    store: Annotated[
        list[str], typer.Option(envvar="HEURETIC_STORE", help="Each store whose studies keep files here. Repeatable.")
    ] = [DEFAULT_STORE],  # noqa: B006
    place: Place = None,
    older_than_h: Annotated[
        float, typer.Option(min=0, help="Spare what was saved in so many hours: more than an evaluation takes.")
    ] = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: Json = False,
) -> None:
    """Remove files to which no trial of any study of the stores refers, and what killed processes left unfinished."""
    opened = [_open(url) for url in store]
    files = _files(place, opened[0])
    if place is None and len({artifacts_url(None, each.url) for each in opened}) > 1:
        raise UsageError("--artifacts must say which place is meant, as the stores have different ones")
    referenced = {file.digest for each in opened for _, _, file in _saved(each, None)}
    with Console(stderr=True, quiet=as_json).status("looking for files that no trial refers to"):
        here = files.digests()
        if here and not referenced & here.keys() and not dry_run:
            raise UsageError(
                f"the stores must refer to some of the {len(here)} files in {files.url}, got none: are they the stores "
                f"of this place? If no file is wanted any more, remove the folder itself"
            )
        removed = files.collect(referenced, older_than_h * 3600, dry_run)
    if as_json:
        facts = {"digests": removed.digests, "bytes": removed.size, "leftovers": removed.leftovers, "dry_run": dry_run}
        print(json.dumps(facts))
        return
    if dry_run:
        for digest in removed.digests:
            print(digest)
    print(
        f"{'would remove' if dry_run else 'removed'} {len(removed.digests)} files that no trial refers to and "
        f"{removed.leftovers} unfinished ones: {decimal(removed.size)} in {files.url}"
    )


def _open(url: str) -> OpenStore:
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///").partition("?")[0]).exists():
        raise UsageError(f"no store at {url}. Name one with --store or HEURETIC_STORE")
    return open_store(url)


def _files(given: str | None, store: OpenStore) -> Artifacts:
    try:
        place = artifacts_url(given, store.url)
        if place is None:
            raise UsageError(f"{store.url} implies no place of files. Name it with --artifacts or HEURETIC_ARTIFACTS")
        return Artifacts(place)
    except ImportError as error:
        raise UsageError(str(error)) from None


def _saved(store: OpenStore, which: str | None) -> Iterator[Saved]:
    """Yield the files of all studies, or of STUDY, STUDY/TRIAL or STUDY/TRIAL/NAME; names of all may have slashes.

    Raises: UsageError if there is no such study, trial or file.
    """
    names = store.names()
    rest = ""
    if which is not None:
        fitting = [name for name in names if f"{which}/".startswith(f"{name}/")]
        if not fitting:
            raise UsageError(f"no study {which!r} in {store.url}; it has {', '.join(names) or 'none'}")
        names = [max(fitting, key=len)]
        rest = which[len(names[0]) + 1 :]
    trial, _, file = rest.partition("/")
    if trial and not trial.isdecimal():
        raise UsageError(f"trial must be a number, got {trial!r} in {which!r}")
    for name in names:
        records = list(store.trials(name, [int(trial)])) if trial else store.trials(name)
        if trial and not records:
            raise UsageError(f"study {name!r} has no trial {trial}")
        found = [(name, record.number, each) for record in records for each in record.artifacts]
        if file and not any(each.name == file for _, _, each in found):
            had = ", ".join(_printable(each.name) for _, _, each in found)
            raise UsageError(f"trial {trial} of {name!r} saved no {file!r}; it has {had or 'no files'}")
        yield from (each for each in found if not file or each[2].name == file)


def _facts(saved: Saved) -> dict[str, str | int]:
    study, number, file = saved
    return {"study": study, "trial": number, "name": file.name, "size": file.size, "digest": file.digest}


def _printable(name: str) -> str:
    return name if name.isprintable() else repr(name)  # a name from elsewhere must not control the terminal


@contextmanager
def _progress(what: str, total: int, silent: bool) -> Iterator[Callable[[int], object]]:
    """Show bytes done on standard error, in a terminal, while the context lasts."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=silent or not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda size: progress.advance(task, size)
