"""Small models with ReLU whose authors know nothing of patches, each with an input.

Two are plain torch, the others come unmodified from `transformers`, made from a configuration without any download.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
TEXT = {"vocab_size": 32, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
TOKENS = torch.tensor([[5, 9, 3, 7, 11], [1, 3, 3, 8, 4]])
IMAGES = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
Built = tuple[nn.Module, dict[str, Any]]


def cnn() -> Built:
    """Return a convolutional classifier of (2, 3, 8, 8) images."""
    layers = (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10))
    return nn.Sequential(*layers), {"input": IMAGES}


def encoder() -> Built:
    """Return torch's transformer encoder for sequences of shape (2, 5, 16), the last two positions padding."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    padding = torch.tensor([[False] * 3 + [True] * 2] * 2)
    source = torch.linspace(-1, 1, 2 * 5 * 16).reshape(2, 5, 16)
    return nn.TransformerEncoder(layer, 2), {"src": source, "src_key_padding_mask": padding}


def bert() -> Built:
    """Return BERT for masked language modelling."""
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(BertConfig(**SIZES, vocab_size=32, hidden_act="relu")), {"input_ids": TOKENS}


def gpt2() -> Built:
    """Return GPT-2."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(**TEXT, n_embd=32, n_layer=2, n_head=2, activation_function="relu")
    return GPT2LMHeadModel(config), {"input_ids": TOKENS}


def llama() -> Built:
    """Return Llama, whose feed-forward layers are gated."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**TEXT, **SIZES, hidden_act="relu")), {"input_ids": TOKENS}


def opt() -> Built:
    """Return OPT, which has ReLU from its authors."""
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        **TEXT, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, ffn_dim=48, word_embed_proj_dim=32
    )
    return OPTForCausalLM(config), {"input_ids": TOKENS}


def t5() -> Built:
    """Return T5, encoder and decoder, which has ReLU from its authors."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2, vocab_size=32)
    return T5ForConditionalGeneration(config), {"input_ids": TOKENS, "decoder_input_ids": TOKENS}


def vit() -> Built:
    """Return ViT for image classification."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(**SIZES, image_size=8, patch_size=4, hidden_act="relu")
    return ViTForImageClassification(config), {"pixel_values": IMAGES}


MODELS: Mapping[str, Callable[[], Built]] = {
    "cnn": cnn, "encoder": encoder, "bert": bert, "gpt2": gpt2, "llama": llama, "opt": opt, "t5": t5, "vit": vit,
}  # fmt: skip
