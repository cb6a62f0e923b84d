"""`heuretic describe`: what a model is made of and what each part costs, as a table, a page or JSON."""

from __future__ import annotations

import importlib
import inspect
import json
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from heuretic.cli.files import UsageError, load_object
from heuretic.symbolic import LoadError, loads, open_choices
from heuretic.symbolic.names import owner_of
from heuretic.symbolic.trees import brief_choice
from heuretic.symbolic.values import Node


def describe(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="An architecture of heuretic.nn such as efficientnet_b0; FILE.py:NAME or package.module:NAME (a module, a program, "
            "or a function or class that makes one without arguments); or a saved FILE.json or FILE.safetensors, of which nothing is run but names "
            "under heuretic.nn and torch.nn.",
        ),
    ],
    input_shape: Annotated[
        str | None,
        typer.Option("--input", metavar="SIZES", help="Shape of the input, such as 1,3,224,224. Default: what the model says it takes, else 1,3,224,224."),
    ] = None,
    depth: Annotated[int | None, typer.Option(min=0, help="List modules so far below the model. Default: what fits into 40 rows.")] = None,
    latency: Annotated[bool, typer.Option("--latency", help="Build it with random weights and time it here, on one thread.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a picture and the table to this file, a page that needs nothing else.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text for people.")] = False,
) -> None:  # fmt: skip
    """Show the modules of a model: outputs, parameters, multiply-adds, memory for activations, and latency."""
    from heuretic.nn import describe as described

    shape = _sizes(input_shape) if input_shape is not None else _published(model)
    found = _found(model)
    still = open_choices(found) if isinstance(found, Node) else []
    if still:
        shown = "; ".join(f"{path or 'the root'}: {brief_choice(choice)}" for path, choice in still[:3])
        raise UsageError(
            f"{model} must be complete, {len(still)} choice(s) still open ({shown}{'; ...' if len(still) > 3 else ''})"
        )
    try:
        name = "" if ":" in model or model.endswith((".json", ".safetensors")) else model
        result = described(found, shape, latency=latency, depth=depth, name=name)
    except Exception as error:  # a model may raise anything
        raise _unusable(model, error) from error
    if html is not None:
        html.write_text(result.html(), encoding="utf-8")
    if as_json:
        print(json.dumps({**result.record(), "html": html and str(html)}))
        return
    console = Console()
    if console.is_terminal:
        console.print(result)
    else:  # whoever reads it may have any width
        print(result)
    if html is not None:
        console.print(f"Written to {html}", soft_wrap=True, markup=False, highlight=False)


def _sizes(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--input must be sizes such as 1,3,224,224, got {text!r}")
    return tuple(int(part) for part in parts)


def _published(model: str) -> tuple[int, ...] | None:
    """Return the shape of the images that an architecture of ours was published with."""
    from heuretic.nn.published import PUBLISHED

    return next(((1, 3, each.side, each.side) for each in PUBLISHED if each.name == model), None)


def _found(model: str) -> Any:
    """Return the module or program that is meant."""
    if model.endswith(".json"):
        return _saved(Path(model))
    if model.endswith(".safetensors"):
        from heuretic.nn import program_in

        return program_in(model)
    if ":" in model:
        return _made(_loaded(model), model)
    from heuretic.nn.architecture import architectures

    known = architectures()
    if model in known:
        return known[model].program()
    close = get_close_matches(model, known, 1)
    raise UsageError(
        f"MODEL must be an architecture of heuretic.nn, FILE.py:NAME, package.module:NAME or FILE.json, got {model!r}. "
        + (f"Did you mean {close[0]!r}?" if close else f"Architectures: {', '.join(known)}")
    )


def _loaded(model: str) -> Any:
    where = model.rpartition(":")[0]
    if where and not where.endswith(".py"):
        try:
            importlib.import_module(where)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{where}.".startswith(f"{error.name}."):
                raise  # something that the module needs itself
            raise UsageError(f"no module {where!r} for {model!r}") from None
    return load_object(model)


def _made(found: Any, model: str) -> Any:
    """Return a module or program, made by a call if a function or class is what was found."""
    from torch import nn

    if isinstance(found, nn.Module | Node):
        return found
    if callable(found):
        make = getattr(found, "program", found)  # of an architecture
        needed = [
            name
            for name, parameter in inspect.signature(make).parameters.items()
            if parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]  # fmt: skip
        if needed:
            raise UsageError(f"{model} must be callable without arguments, but needs {', '.join(needed)}")
        made = make()
        if isinstance(made, nn.Module | Node):
            return made
        raise UsageError(f"{model} must return a torch module or a program of one, got {type(made).__name__}")
    raise UsageError(f"{model} must be a torch module or a program of one, got {type(found).__name__}")


def _saved(path: Path) -> Any:
    """Read a saved program that can be built without trust in whoever wrote it.

    Raises: UsageError if it names what only its author can be trusted with; LoadError if it cannot be read.
    """
    from heuretic.nn.architecture import architectures
    from heuretic.nn.checkpoints import trusted_program

    if not path.is_file():
        raise UsageError(f"no file {path}")
    text = path.read_bytes()
    loads(text, resolve_names=False)  # a damaged file says so itself
    try:
        return trusted_program(text, path, trust={owner_of(each) for each in architectures().values()})
    except LoadError as error:
        raise UsageError(
            f"{path} must name nothing outside heuretic.nn and torch.nn to be described here: {error}. "
            f"In Python: hr.nn.describe(hr.loads(text, trust=(...)))"
        ) from error


def _unusable(model: str, error: Exception) -> UsageError:
    """Return the error of a model on one line, with what is known of its place."""
    notes = getattr(error, "__notes__", [])
    is_run = any(note.startswith("while running") for note in notes)
    said = " ".join(str(error).split())
    told = UsageError(
        f"{model} cannot be described: {type(error).__name__}: {said}{'. Try another --input' if is_run else ''}"
    )
    for note in notes:
        told.add_note(note)
    return told
