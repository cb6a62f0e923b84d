"""Patches in models of `transformers` that are written in ways of their own."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import heuretic as hr
from heuretic.nn import CondConv2d, DropPaths, StochasticDepth, path_ends
from heuretic.symbolic import PatchError

TOKENS = torch.tensor([[5, 9, 3, 7, 11], [1, 3, 3, 8, 4]])
IMAGES = torch.linspace(-50, 50, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32).sin()
TEXT = {"vocab_size": 32, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}


def bart() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.BartConfig(
        **TEXT, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=48, decoder_ffn_dim=48, decoder_start_token_id=1, forced_eos_token_id=None,
    )  # fmt: skip
    return transformers.BartForConditionalGeneration(config)


def drops(model: nn.Module) -> dict[str, float]:
    """Return the rate of each place where paths are dropped."""
    found = {name: part.rate for name, part in model.named_modules() if isinstance(part, StochasticDepth)}
    for name, part in model.named_modules():
        for hook in part._forward_hooks.values():
            if isinstance(hook, DropPaths):
                found[name] = hook.rate
    return found


# -- stochastic depth --------------------------------------------------------------------------------------------


def test_paths_that_end_in_functional_dropout_and_cross_attention_are_found() -> None:
    model = bart()
    assert [str(end.path) for end in path_ends(model)] == [
        "model.encoder.layers[0].self_attn",
        "model.encoder.layers[0].fc2",
        "model.decoder.layers[0].self_attn",
        "model.decoder.layers[0].encoder_attn",
        "model.decoder.layers[0].fc2",
    ]
    patched = hr.apply(model, "stochastic-depth?rate=0.5").train()
    assert list(drops(patched).values()) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    seen: list[Tensor] = []
    attention: Any = patched.get_submodule("model.decoder.layers.0.encoder_attn")
    attention.register_forward_hook(lambda part, args, output: seen.append(output[0]))
    patched(input_ids=TOKENS.repeat(40, 1), decoder_input_ids=TOKENS.repeat(40, 1))
    dropped = (seen[0] == 0).flatten(1)
    assert torch.equal(dropped.all(1), dropped.any(1)), "whole examples"
    assert 0.2 < dropped.all(1).float().mean() < 0.6


def test_what_drops_paths_already_is_replaced_and_not_doubled() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16], num_stages=2, depths=[1, 1], drop_path_rate=0.3)
    model = transformers.ConvNextForImageClassification(config)
    assert any(type(part).__name__ == "ConvNextDropPath" for part in model.modules())
    patched = hr.apply(model, "stochastic-depth?rate=0.2")
    assert not any(type(part).__name__ == "ConvNextDropPath" for part in patched.modules())
    assert list(drops(patched).values()) == pytest.approx([0.1, 0.2])


def test_paths_in_modules_that_cannot_be_followed_are_taken_where_their_authors_drop_them() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 2], window_size=4
    )
    model = transformers.SwinForImageClassification(config).eval()
    patched = hr.apply(model, "stochastic-depth?rate=0.4")
    assert list(drops(patched).values()) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert all(name.endswith("drop_path") for name in drops(patched))
    assert torch.equal(patched(IMAGES).logits, model(IMAGES).logits)


def test_no_examples_are_dropped_where_they_share_an_axis_with_places() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.OPTConfig(
        **TEXT, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, ffn_dim=48, word_embed_proj_dim=32
    )
    with pytest.raises(PatchError, match="stochastic-depth changed nothing"):
        hr.apply(transformers.OPTForCausalLM(config), "stochastic-depth")


# -- mixed kernels -----------------------------------------------------------------------------------------------


def test_convolutions_of_squeeze_and_excitation_stay_under_all_its_names() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.RegNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], groups_width=4)
    patched = hr.apply(transformers.RegNetForImageClassification(config), "condconv?share=1")
    inside = [name for name, part in patched.named_modules() if isinstance(part, nn.Conv2d)]
    assert inside, "the two of each excitation, of which there are two"
    assert all(".attention." in name for name in inside)
    assert len(inside) == 4


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_by_name_becomes_places(padding: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, (3, 5), padding=padding, dilation=2)).double()
    patched = hr.apply(model, "condconv")
    assert isinstance(patched[0], CondConv2d)
    assert patched[0].padding == ((2, 4) if padding == "same" else (0, 0))
    torch.testing.assert_close(patched(IMAGES.double()), model(IMAGES.double()), rtol=0, atol=1e-12)
    with pytest.raises(PatchError, match="zero padding by a number of places, got padding='same'"):
        hr.apply(nn.Sequential(nn.Conv2d(3, 8, 2, padding="same")), "condconv")
