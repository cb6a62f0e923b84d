"""Small models with ReLU whose authors know nothing of patches, each with an input.

Two are written here in plain torch, one is torch's own, two are this library's, and the others come unmodified from
`transformers`, made from a configuration without any download.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
TEXT = {"vocab_size": 32, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
TOKENS = torch.tensor([[5, 9, 3, 7, 11], [1, 3, 3, 8, 4]])
IMAGES = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
LARGE_IMAGES = torch.linspace(-50, 50, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32).sin()
Built = tuple[nn.Module, dict[str, Any]]


def cnn() -> Built:
    """Return a convolutional classifier of (2, 3, 8, 8) images."""
    layers = (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10))
    return nn.Sequential(*layers), {"input": IMAGES}


class Block(nn.Module):
    """A residual block as people write it, with one ReLU used twice."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """A residual network of two stages."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(Block(16, 16), Block(16, 16))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32))
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x)))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def plain_resnet() -> Built:
    """Return a residual network as people write it."""
    return ResNet(), {"x": LARGE_IMAGES}


def our_resnet() -> Built:
    """Return this library's residual network, of two stages of bottlenecks."""
    from heuretic.nn import Bottleneck, ResNet, Stage

    stages = (Stage(2, 8, stride=1), Stage(2, 16))
    return ResNet(stages, block=Bottleneck, classes=10, stem=16, small_images=True), {"x": LARGE_IMAGES}


def our_mobile_net() -> Built:
    """Return this library's mobile network, of inverted bottlenecks with squeeze-and-excitation."""
    from heuretic.nn import Block, MBConv, MobileNet

    blocks = (
        Block(MBConv(1), 8),
        Block(MBConv(3), 16, layers=2, stride=2, se_ratio=0.25),
        Block(MBConv(3), 24, layers=2, stride=2, kernel_size=5, se_ratio=0.25),
    )
    return MobileNet(blocks, classes=10, stem=8, head=32, dropout=0.1), {"x": LARGE_IMAGES}


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


def bart() -> Built:
    """Return BART, encoder and decoder, which drops by functions and not by modules."""
    from transformers import BartConfig, BartForConditionalGeneration

    config = BartConfig(
        **TEXT, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=48, decoder_ffn_dim=48, activation_function="relu", decoder_start_token_id=1,
        forced_eos_token_id=None,
    )  # fmt: skip
    return BartForConditionalGeneration(config), {"input_ids": TOKENS, "decoder_input_ids": TOKENS}


def vit() -> Built:
    """Return ViT for image classification."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(**SIZES, image_size=8, patch_size=4, hidden_act="relu")
    return ViTForImageClassification(config), {"pixel_values": IMAGES}


def swin() -> Built:
    """Return Swin, which drops some of its residual paths by itself."""
    from transformers import SwinConfig, SwinForImageClassification

    config = SwinConfig(
        image_size=32, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 2], window_size=4, hidden_act="relu"
    )
    return SwinForImageClassification(config), {"pixel_values": LARGE_IMAGES}


def segformer() -> Built:
    """Return SegFormer, a transformer with convolutions, which drops residual paths by itself."""
    from transformers import SegformerConfig, SegformerForImageClassification

    config = SegformerConfig(
        num_encoder_blocks=2, depths=[2, 2], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[7, 3], strides=[4, 2],
        num_attention_heads=[1, 2], mlp_ratios=[2, 2], hidden_act="relu",
    )  # fmt: skip
    return SegformerForImageClassification(config), {"pixel_values": LARGE_IMAGES}


def poolformer() -> Built:
    """Return PoolFormer, which has pooling where transformers have attention."""
    from transformers import PoolFormerConfig, PoolFormerForImageClassification

    config = PoolFormerConfig(
        num_encoder_blocks=2, depths=[2, 2], hidden_sizes=[8, 16], patch_sizes=[7, 3], strides=[4, 2], padding=[2, 1],
        hidden_act="relu",
    )  # fmt: skip
    return PoolFormerForImageClassification(config), {"pixel_values": LARGE_IMAGES}


def convnext() -> Built:
    """Return ConvNeXt."""
    from transformers import ConvNextConfig, ConvNextForImageClassification

    config = ConvNextConfig(hidden_sizes=[8, 16], num_stages=2, depths=[2, 2], hidden_act="relu")
    return ConvNextForImageClassification(config), {"pixel_values": LARGE_IMAGES}


def resnet() -> Built:
    """Return the ResNet of `transformers`."""
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[2, 2], layer_type="basic")
    return ResNetForImageClassification(config), {"pixel_values": LARGE_IMAGES}


def regnet() -> Built:
    """Return RegNetY, whose blocks have squeeze-and-excitation."""
    from transformers import RegNetConfig, RegNetForImageClassification

    config = RegNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[2, 2], groups_width=4)
    return RegNetForImageClassification(config), {"pixel_values": LARGE_IMAGES}


def mobilenet_v2() -> Built:
    """Return MobileNetV2, which has ReLU6 from its authors."""
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    return MobileNetV2ForImageClassification(MobileNetV2Config(depth_multiplier=0.25, image_size=32)), {
        "pixel_values": LARGE_IMAGES
    }


def efficientnet() -> Built:
    """Return EfficientNet."""
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

    config = EfficientNetConfig(
        in_channels=[32, 16, 24], out_channels=[16, 24, 32], kernel_sizes=[3, 3, 5], strides=[1, 2, 2],
        num_block_repeats=[1, 2, 2], expand_ratios=[1, 3, 3], depthwise_padding=[], width_coefficient=1.0,
        depth_coefficient=1.0, image_size=32, hidden_dim=1280, hidden_act="relu", initializer_range=0.5,
    )  # fmt: skip
    return EfficientNetForImageClassification(config), {"pixel_values": LARGE_IMAGES}


def settled(make: Callable[[], Built]) -> Callable[[], Built]:
    """Return `make` with the statistics of batch normalisation set to those of the input, as they are after training.

    With the first ones a deep network gives out almost nothing, and any two are alike.
    """

    def made() -> Built:
        model, inputs = make()
        momenta = {part: part.momentum for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)}
        for part in momenta:
            part.momentum = None  # the mean over all batches
        with torch.no_grad():
            model.train()(**inputs)
        for part, momentum in momenta.items():
            part.momentum = momentum
        return model, inputs

    return made


MODELS: Mapping[str, Callable[[], Built]] = {
    make.__name__: settled(make)
    for make in (
        cnn, plain_resnet, our_resnet, our_mobile_net, encoder, bert, gpt2, llama, opt, t5, bart, vit, swin, segformer,
        poolformer, convnext, resnet, regnet, mobilenet_v2, efficientnet,
    )
}  # fmt: skip
