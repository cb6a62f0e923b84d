"""Weights read from a GGUF file or a Hugging Face folder. Broken files are refused before anything computes with them.

A GGUF file is unpacked tensor by tensor, by the published layout of its blocks (package gguf), so that the memory needed is
that of the model and one tensor. Names, configuration and tokenizer are translated by transformers, which must know the
architecture. Code that comes with weights is never run, and weights in pickles are not read.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heuretic.lm.local.decoder import pack
from heuretic.lm.model import ModelError
from heuretic.lm.weights import find_weights

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Formats of values in a GGUF file by the numbers of their types; 8 is a text and 9 an array."""


_AS_THEY_ARE = ("token_embd.weight", "output.weight")
"""Tensors whose numbers no architecture changes on the way into a file; they are the largest."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model and what belongs to it.

    Attributes:
        template: The chat template in Jinja, if there is one. context: Most tokens of a sequence.
        ends: Tokens that end a reply. digest: Of the weights and the way they are computed.
    """

    model: Any
    tokenizer: TextTokenizer
    template: str | None
    context: int
    ends: frozenset[int]
    digest: str


class TextTokenizer:
    """A tokenizer of transformers. Special tokens in a prompt's text are recognised; they are left out of what is decoded.

    Args: begin: Put before every prompt that does not begin with it.
    """

    def __init__(self, tokenizer: Any, begin: int | None) -> None:
        self._tokenizer = tokenizer
        self._begin = begin
        self.names: dict[str, str | None] = {
            k: str(v) for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)
        }

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a prompt: at least one, which for an empty text is a special token that separates texts."""
        tokens = self._tokenizer.encode(text, add_special_tokens=False)
        if self._begin is not None and tokens[:1] != [self._begin]:
            tokens = [self._begin, *tokens]
        return tokens or [self._tokenizer.bos_token_id or self._tokenizer.eos_token_id or 0]

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens."""
        return self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def load(name: str, dtype: str) -> Loaded:
    """Return the weights of that name, ready to compute. Raises: ModelError if they are not there, broken or unknown."""
    from transformers.utils import logging

    weights = find_weights(name)
    if dtype not in ("bfloat16", "float32"):
        raise ModelError(f"dtype must be bfloat16 or float32, got {dtype!r}")
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        if weights.format == "gguf":
            model, tokenizer, begin = _from_gguf(weights.path, getattr(torch, dtype))
        else:
            model, tokenizer, begin = _from_folder(weights.path, getattr(torch, dtype))
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{weights.path} cannot be read as weights: {' '.join(str(error).split())[:400]}") from error
    finally:
        if bars:
            logging.enable_progress_bar()
    config = model.config.get_text_config()
    if getattr(config, "attn_logit_softcapping", None) or config.model_type == "gpt_oss":
        raise ModelError(
            f"{weights.path} must have plain attention, got {config.model_type}, whose soft caps or sinks are not computed here. "
            "Try a server for it, such as vllm/..., and openai-api/... for any other"
        )
    ends: set[int | None] = {tokenizer.eos_token_id}
    for source in (config, model.generation_config):
        end = getattr(source, "eos_token_id", None)
        ends |= set(end) if isinstance(end, list) else {end}
    context = getattr(config, "max_position_embeddings", None) or 2048
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    return Loaded(
        model,
        TextTokenizer(tokenizer, begin),
        template,
        context,
        frozenset(e for e in ends if e is not None),
        f"{weights.sha256} torch {dtype} 1",
    )


def _from_folder(path: Path, dtype: torch.dtype) -> tuple[Any, Any, int | None]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    model: Any = AutoModelForCausalLM.from_pretrained(
        str(path), local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=dtype,
        attn_implementation="heuretic",
    )  # fmt: skip
    begun = tokenizer.encode("a")
    begin = tokenizer.bos_token_id
    return model, tokenizer, begin if begin is not None and begun[:1] == [begin] else None


def _from_gguf(path: Path, dtype: torch.dtype) -> tuple[Any, Any, int | None]:
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
    from transformers.integrations.gguf.gguf_tokenizer_mapping import convert_gguf_tokenizer, get_gguf_tokenizer
    from transformers.modeling_gguf_pytorch_utils import (
        TENSOR_PROCESSORS,
        TensorProcessor,
        get_gguf_hf_weights_map,
        load_gguf_checkpoint,
    )

    tensors, about_model = read_header(path)
    architecture, vocabulary, about = get_gguf_tokenizer(str(path))
    backend, more = convert_gguf_tokenizer(architecture, vocabulary)
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=backend, **{**about, **more})
    common = _settings(architecture, about_model, tensors)
    settings = common or load_gguf_checkpoint(str(path))["config"]
    if not 0 < settings.get("num_hidden_layers", 1) <= len(tensors):
        raise ModelError(
            f"{path} must have tensors for {settings['num_hidden_layers']} layers, got {len(tensors)} in all"
        )
    config = AutoConfig.for_model(**settings)
    with init_empty_weights(include_buffers=False):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="heuretic")
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=settings)
    names = _names(model, architecture) if common else get_gguf_hf_weights_map(model, processor)
    wanted = dict(model.named_parameters())
    for tensor in tensors:
        values = (
            _unpacked(path, tensor, dtype)
            if common and tensor.name in _AS_THEY_ARE
            else processor.process(
                weights=_unpacked(path, tensor, torch.float32).numpy(),
                name=tensor.name,
                tensor_key_mapping=names,
                parsed_parameters={"tensors": {}},
            ).weights
        )
        name = names.get(tensor.name)
        if name is None or name not in wanted:
            continue
        new = torch.as_tensor(np.array(values) if isinstance(values, np.ndarray) else values).to(dtype)
        if new.shape != wanted[name].shape:
            raise ModelError(f"{path}: {tensor.name} must have shape {list(wanted[name].shape)}, got {list(new.shape)}")
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, torch.nn.Parameter(new, requires_grad=False))
        del new, values
        if leaf == "weight" and ".layers." in name:
            pack(model, owner)
    model.tie_weights()
    missing = [name for name, value in model.named_parameters() if value.is_meta]
    if missing:
        raise ModelError(
            f"{path} must have all tensors of a {architecture} model, got none for {', '.join(missing[:4])}"
        )
    begin = tokenizer.bos_token_id if about.get("add_bos_token") else None
    return model, tokenizer, begin


def _names(model: Any, architecture: str) -> dict[str, str]:
    """Return the names in a model of the tensors in a file."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    known = next(k for k, v in MODEL_ARCH_NAMES.items() if v == architecture)
    table = get_tensor_name_map(known, model.config.num_hidden_layers)
    names = {}
    for name, _ in model.named_parameters():
        stem, _, leaf = name.rpartition(".")
        found = table.get_name(stem)
        if found is not None:
            names[f"{found}.{leaf}"] = name
    return names


def _unpacked(path: Path, tensor: StoredTensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor as numbers, read and converted some rows at a time: vocabularies are large."""
    from gguf import GGMLQuantizationType, dequantize

    rows = tensor.shape[0] if len(tensor.shape) > 1 else 1
    row_bytes = tensor.size // rows
    out = torch.empty(tensor.shape, dtype=dtype)
    flat = out.view(rows, -1)
    at_once = max(1, 2**22 // row_bytes)
    for first in range(0, rows, at_once):
        count = min(at_once, rows - first)
        raw = np.fromfile(path, np.uint8, count * row_bytes, offset=tensor.start + first * row_bytes)
        kind = GGMLQuantizationType(tensor.kind)
        if kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
            values = raw.view(np.float32 if kind == GGMLQuantizationType.F32 else np.float16)
        else:
            values = dequantize(raw.reshape(count, -1) if len(tensor.shape) < 3 else raw, kind)
        flat[first : first + count] = torch.from_numpy(np.array(values, np.float32)).reshape(count, -1)
    return out


def _settings(architecture: str, about: dict[str, Any], tensors: list[StoredTensor]) -> dict[str, Any] | None:
    """Return the configuration of a common architecture; None for others, for which transformers has rules of their own.

    Theirs would be right for all, but read every word of the vocabulary into an array, which takes seconds and 300 MB.
    """
    from transformers.integrations.ggml import GGUF_CONFIG_DEFAULTS_MAPPING, GGUF_CONFIG_MAPPING

    if architecture not in ("llama", "qwen2", "qwen3", "gemma2", "gemma3"):
        return None
    embedding = next((t for t in tensors if t.name == "token_embd.weight"), None)
    if embedding is None or len(embedding.shape) != 2 or "mistral" in str(about.get("general.name")).lower():
        return None
    settings: dict[str, Any] = {
        "model_type": "gemma3_text" if architecture == "gemma3" else architecture,
        "tie_word_embeddings": all(t.name != "output.weight" for t in tensors),
        **(GGUF_CONFIG_DEFAULTS_MAPPING.get(architecture) or {}),
        "vocab_size": embedding.shape[0],
    }
    for group, names in (
        ("tokenizer", GGUF_CONFIG_MAPPING.get("tokenizer", {})),
        (architecture, GGUF_CONFIG_MAPPING[architecture]),
    ):
        for old, new in names.items():
            value = about.get(f"{group}.{old}")
            if new not in (None, -1, "vocab_size") and value is not None:
                settings[new] = value
    return settings


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies in a file: `size` bytes from `start`, of a type of ggml; shape as in torch, slowest axis first."""

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int
    size: int


def read_header(path: Path) -> tuple[list[StoredTensor], dict[str, Any]]:
    """Return the tensors of a GGUF file (version 2 or 3), after checking that all that is declared lies within it.

    Returns: The tensors, and what else is said by name; None for what is an array.

    Raises: ModelError for anything else.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Header(data).read()
    except (struct.error, ValueError, IndexError, RecursionError, OverflowError) as error:
        raise ModelError(f"{path} must be a whole file of GGUF, got a damaged one: {error}") from error


class _Header:
    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def one(self, form: str) -> Any:
        (value,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def skip(self, length: int, what: str) -> None:
        if length > len(self.data) - self.at:
            raise ValueError(f"{what} at byte {self.at} has {length} bytes, and {len(self.data) - self.at} are left")
        self.at += length

    def text(self) -> str:
        length = self.one("Q")
        start = self.at
        self.skip(length, "a text")
        return self.data[start : self.at].decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        """Return a number or text; arrays are walked over, and None returned."""
        if kind in _SCALARS:
            return self.one(_SCALARS[kind])
        if kind == 8:
            return self.text()
        if kind != 9 or depth > 4:
            raise ValueError(f"a value at byte {self.at} has type {kind}, which there is not")
        inner, count = self.one("I"), self.one("Q")
        if inner in _SCALARS:
            self.skip(count * struct.calcsize("<" + _SCALARS[inner]), "an array")
        else:
            if count > (len(self.data) - self.at) // 8:
                raise ValueError(f"an array at byte {self.at} has {count} values, more than fit")
            for _ in range(count):
                self.value(inner, depth + 1)
        return None

    def read(self) -> tuple[list[StoredTensor], dict[str, Any]]:
        from gguf.constants import GGML_QUANT_SIZES

        if self.data[:4] != b"GGUF":
            raise ValueError(f"it begins with {self.data[:4]!r}")
        self.at = 4
        version, count, values = self.one("I"), self.one("Q"), self.one("Q")
        if version not in (2, 3):
            raise ValueError(f"its version must be 2 or 3, got {version}")
        for what, number in (("tensors", count), ("values", values)):
            if number > len(self.data) // 12:
                raise ValueError(f"it declares {number} {what}, more than fit")
        about = {}
        for _ in range(values):
            key = self.text()
            about[key] = self.value(self.one("I"))
        if not isinstance(about.get("general.architecture"), str):
            raise ValueError("it does not say its architecture")
        alignment = about.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"its alignment is {alignment}")
        found = []
        for _ in range(count):
            name, axes = self.text(), self.one("I")
            if not 1 <= axes <= 4:
                raise ValueError(f"{name} has {axes} axes")
            shape = tuple(self.one("Q") for _ in range(axes))[::-1]
            kind, start = self.one("I"), self.one("Q")
            if kind not in GGML_QUANT_SIZES:
                raise ValueError(f"{name} has type {kind}, which there is not")
            block, size = GGML_QUANT_SIZES[kind]  # pyright: ignore[reportArgumentType]
            if 0 in shape or shape[-1] % block:
                raise ValueError(f"{name} has shape {list(shape)}, in blocks of {block}")
            found.append((name, shape, kind, start, math.prod(shape) // block * size))
        begin = -(-self.at // alignment) * alignment
        for name, _, _, start, size in found:
            if start % alignment or begin + start + size > len(self.data):
                raise ValueError(
                    f"{name} has bytes {begin + start} to {begin + start + size}, and the file has {len(self.data)}"
                )
        return [StoredTensor(name, shape, kind, begin + start, size) for name, shape, kind, start, size in found], about
