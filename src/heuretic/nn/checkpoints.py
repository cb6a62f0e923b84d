"""Models in files: weights as safetensors with the model's program beside them, and weights of other libraries."""

import hashlib
import os
import pickle
import re
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from heuretic.nn.architecture import architectures, spelled_out
from heuretic.nn.costs import without_weights
from heuretic.nn.key_maps import names, norm_eps, padding, source_of, translated
from heuretic.nn.module_tree import ADAPTER
from heuretic.symbolic import (
    Call,
    LoadError,
    Open,
    Patch,
    Patched,
    apply,
    build,
    diff,
    dumps,
    loads,
    program_of,
    replace,
    walk,
)
from heuretic.symbolic.names import is_reference, is_trusted, owner_of
from heuretic.symbolic.values import Node

#: Where a file keeps the program of its model, among the metadata of safetensors.
_KEY = "heuretic.program"
_TRUSTED = ("torch.nn", "heuretic.nn", "heuretic.ideas")
#: Modules whose functions compute something of tensors and do nothing else.
_ACTIVATIONS = ("torch.nn.functional", "heuretic.nn.activations")
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")


def save(model: nn.Module, path: str | Path) -> Path:
    """Write a model to a safetensors file: its weights, and its program, from which `load` builds it again.

    The file replaces one that is there only when it is complete. Weights that stand in several places are written once.
    Calls of architectures are written as the programs that they describe, since `load` calls no functions.

    Raises: ValueError if the model does not know its program, or was edited by hand since it was built, naming the first
    difference; ImportError without safetensors.
    """
    from safetensors.torch import save_model

    program = spelled_out(program_of(model))
    try:
        drafted = ADAPTER.draft(program)
    except Exception:  # it can only be built with weights, so there is nothing to compare with
        drafted = None
    if drafted is not None and not any(nn.parameter.is_lazy(p) for p in drafted.parameters()):
        changes = diff(drafted, model)
        if changes:
            raise ValueError(
                f"model must be as its program says, got a difference: {changes[0]}. "
                f"Try editing the program (hr.replace, hr.apply) and building it, or safetensors.torch.save_model"
            )
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_model(model, name, {_KEY: dumps(program)})
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return path


def load(
    model: str | Path | Any,
    *,
    weights: str | Path | None = None,
    sha256: str = "",
    new_classifier: bool = False,
    trust: Collection[str] = (),
    **settings: Any,
) -> Any:
    """Return a model with weights from a file or an address.

        model = hr.nn.load("efficientnet_b0", weights="efficientnet_b0_rwightman-7f5810bc.pth")
        model = hr.nn.load("finetuned.safetensors")  # what hr.nn.save wrote

    Args:
        model: The name of an architecture in `heuretic.nn`; a program; or a file that `save` wrote, of which the
            weights are taken too.
        weights: A safetensors file or one of `torch.save` (read without running anything in it), of ours, torchvision or
            timm; or an http, https or file address of one, which is fetched into a cache once. Where the weights were
            trained with another epsilon of batch normalisation than ours, the model gets theirs; and the padding of
            TensorFlow, where a folder or file is called `tf_...` as in timm. None: random weights.
        sha256: Hexadecimal digits that the file's SHA-256 must begin with. If empty, those in the file's name count, where
            it has some as torchvision's have.
        new_classifier: Leave the classifier as it was initialised: for weights of another number of classes.
        trust: Packages that the program in a file may name, besides torch.nn and heuretic.nn. List only what you would
            import anyway; building the program runs it.
        settings: Arguments of the architecture, such as `classes=10`.

    Raises: ValueError if the name is unknown, the checksum differs, or weights do not fit, naming the first that does not;
    FileNotFoundError; `heuretic.symbolic.LoadError` if a file's program is not to be trusted; ImportError without
    safetensors for its files.
    """
    program = _program(model, settings, trust)
    if weights is None:
        built = build(program)
        if _is_file(model):
            _fill(built, model)
        return built
    path = _local(str(weights), sha256)
    state = read_weights(path, sha256)
    source = source_of(state, without_weights(program).state_dict().keys())
    patches = program.patches if isinstance(program, Patched) and source != "heuretic" else ()
    base = program.program if patches else program  # others' weights are for the model before
    if source != "heuretic" and isinstance(model, str) and hasattr(base, "norm_eps"):
        called = [part for part in urlsplit(str(weights)).path.split("/") if part.startswith("tf_")]
        name = called[-1] if called else model
        base = replace(base, norm_eps=norm_eps(name, source), padding=padding(name, source))
    built = build(base)
    built.load_state_dict(translated(_with_own_classifier(state, built) if new_classifier else state, built))
    return apply(built, *patches) if patches else built


def _fill(model: nn.Module, path: str | Path) -> None:
    """Read the weights that `save` wrote, those that stand in several places once."""
    from safetensors.torch import load_model

    try:
        load_model(model, path)
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} must fit the program in it: {error}") from error


def _with_own_classifier(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    called, own = names(state, model), model.state_dict()
    return {**state, **{called[key]: own[key] for key in own if key.startswith(("classifier.", "fc."))}}


def _program(model: Any, settings: Mapping[str, Any], trust: Collection[str]) -> Any:
    if isinstance(model, Node):
        if settings:
            raise ValueError(
                f"settings must be in the program, got {', '.join(settings)}. Try hr.replace(program, ...)"
            )
        return model
    if _is_file(model):
        if settings:
            raise ValueError(f"{model} says what its model is, got {', '.join(settings)} besides")
        return program_in(model, trust=trust)
    name, known = str(model), architectures()
    if name not in known:
        close = get_close_matches(name, known, 1)
        hint = f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(known)}"
        raise ValueError(f"model must be an architecture, a program or a file, got {name!r}. {hint}")
    return known[name].program(**settings)


def _is_file(model: Any) -> bool:
    return isinstance(model, Path) or (isinstance(model, str) and ("/" in model or model.endswith(".safetensors")))


def program_in(path: str | Path, *, trust: Collection[str] = ()) -> Any:
    """Return the program of the model in a file that `save` wrote, without building it.

    It may only call modules and patches of torch.nn and heuretic, and what is in the packages of `trust`; and name besides,
    as arguments, activation functions.
    Raises: LoadError if it names others, is damaged, or the file has none; FileNotFoundError.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with safe_open(str(path), "pt") as file:
            text = (file.metadata() or {}).get(_KEY)
    except SafetensorError as error:
        raise LoadError(f"{path} must be a safetensors file, got another or a damaged one: {error}") from error
    if text is None:
        raise LoadError(f"{path} must hold a program, got weights only. Try load(NAME, weights={str(path)!r})")
    return trusted_program(text, path, trust=trust)


def trusted_program(text: str | bytes, path: str | Path, *, trust: Collection[str] = ()) -> Any:
    """Return a saved program that can be built without trust in whoever wrote it, once its choices are made.

    Args: path: Where it is from, for messages. trust: See `load`.
    Raises: LoadError if it is damaged, or names what `program_in` does not allow.
    """
    program = loads(text, trust=(*_TRUSTED, *trust))
    for place, value in walk(program):
        if isinstance(value, Call):  # a function could read files or fetch addresses
            target = value.__target__
            is_harmless = isinstance(target, type) and (issubclass(target, nn.Module | Patch) or is_dataclass(target))
        elif isinstance(value, Node):
            target, is_harmless = type(value), isinstance(value, Patch | Patched | Open)
        elif is_reference(value):
            target = value
            is_harmless = owner_of(value) in _ACTIVATIONS or (isinstance(value, type) and issubclass(value, nn.Module))
        else:
            continue
        owner = owner_of(target)
        if not (is_harmless or is_trusted(owner, trust)):
            raise LoadError(
                f"the program in {path} must be made of modules and patches, got {owner}:{target.__qualname__} "
                f"at {place or 'the root'}. If you trust the file's author, add trust=({owner!r},)"
            )
    return program


def read_weights(path: Path, sha256: str = "") -> dict[str, Tensor]:
    """Return the tensors in a safetensors file or one of `torch.save`, checked against the digits its SHA-256 begins with.

    Nothing in the file is run. A file with several dictionaries gives the one called model, state_dict or the like.
    Raises: ValueError if the checksum differs or there are no tensors; FileNotFoundError.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    wanted = _wanted(path.name, sha256)
    if wanted:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(wanted):
            raise ValueError(f"the SHA-256 of {path} must begin with {wanted}, got {found[: max(16, len(wanted))]}")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise ValueError(
            f"{path} must hold tensors and nothing that would have to be run, got another: {reason}"
        ) from error
    for name in ("state_dict_ema", "state_dict", "model_ema", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} must hold a dictionary of tensors, got {type(content).__name__}")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _wanted(name: str, sha256: str) -> str:
    match = _HASH_IN_NAME.search(name)
    return sha256.lower() or (match.group(1) if match else "")


def _local(weights: str, sha256: str) -> Path:
    """Return the path of a file, fetched into the cache if `weights` is an address."""
    parts = urlsplit(weights)
    if parts.scheme not in ("http", "https", "file"):
        return Path(weights)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "heuretic" / "weights"
    name = Path(parts.path).name or "weights"
    target = cache / hashlib.sha256(weights.encode()).hexdigest()[:16] / name
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(weights, str(target), _wanted(name, sha256) or None)
        except RuntimeError as error:
            raise ValueError(f"{weights} must have the checksum that was asked for: {error}") from error
        except OSError as error:
            raise FileNotFoundError(f"cannot fetch {weights}: {error}") from error
    return target
