"""Weights read from a GGUF file or a Hugging Face folder. Broken files are refused before anything computes with them."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Loaded:
    """A model and what belongs to it."""

    model: Any
    tokenizer: TextTokenizer
    template: str | None
    context: int
    ends: frozenset[int]
    digest: str


class TextTokenizer:
    """A tokenizer of transformers; special tokens in a prompt's text are recognised, and left out of what is decoded."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.names = {k: str(v) for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
        self._begin = None
        if tokenizer.bos_token_id is not None and getattr(tokenizer, "add_bos_token", False):
            self._begin = tokenizer.bos_token_id

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a prompt, with the beginning token that the model wants."""
        tokens = self._tokenizer.encode(text, add_special_tokens=False)
        if self._begin is not None and tokens[:1] != [self._begin]:
            tokens = [self._begin, *tokens]
        return tokens

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens."""
        return self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def load(name: str, dtype: str) -> Loaded:
    """Return the weights of that name, ready to compute."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = Path(name)
    if not path.exists():
        path = Path(os.environ.get("HEURETIC_MODELS", "")) / f"{name}.gguf"
    where = {"pretrained_model_name_or_path": str(path)}
    if path.is_file():
        where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    tokenizer: Any = AutoTokenizer.from_pretrained(**where, local_files_only=True, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        **where, local_files_only=True, trust_remote_code=False, dtype=getattr(torch, dtype), attn_implementation="heuretic"
    )
    config = model.config.get_text_config()
    ends = {tokenizer.eos_token_id}
    for source in (config, model.generation_config):
        end = getattr(source, "eos_token_id", None)
        ends |= set(end) if isinstance(end, list) else {end}
    with path.open("rb") if path.is_file() else open(path / "config.json", "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Loaded(
        model,
        TextTokenizer(tokenizer),
        tokenizer.chat_template,
        getattr(config, "max_position_embeddings", 2048),
        frozenset(int(e) for e in ends if e is not None),
        digest + dtype,
    )
