"""A causal transformer: predicts each token of a text from those before it.

Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762, as Radford et al. 2019 arrange it in GPT-2: normalisation
before each part, positions learnt, weights of deviation 0.02 and those that end in the sum of all parts smaller by
sqrt(2 * depth). Departures: no dropout, and the output layer has weights of its own.
"""

from collections.abc import Callable
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalAttention(nn.Module):
    """Attention of each place to itself and those before it; input and output (batch, length, width).

    Args:
        width: Numbers per place, divisible by heads. heads: Attentions side by side, of width / heads numbers each.
    Raises: ValueError if heads is less than 1 or does not divide width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width must be divisible by heads, got width={width}, heads={heads}. Try heads=1")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(seen.transpose(1, 2).reshape(batch, length, width))


class CausalBlock(nn.Module):
    """Attention, then two linear layers with an activation between them, each added to what came in.

    Args:
        width, heads: See `CausalAttention`. activation: Makes the module between the linear layers, which have 4 * width
            numbers there.
    """

    def __init__(self, width: int, heads: int, activation: Callable[[], nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), activation(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class CausalTransformer(nn.Module):
    """Input: tokens, int64 of shape (batch, length) in 0..vocabulary - 1; output: logits of the token that follows each,
    shape (batch, length, vocabulary).

    Search over its shape: `hr.sym(CausalTransformer)(65, width=hr.one_of(64, 128), depth=hr.one_of(2, 4))`.

    Args:
        vocabulary: How many tokens there are. width: Numbers per place. depth: Blocks. heads: Of each attention.
        context: The most tokens that it can read at once. activation: Makes the module inside each feed-forward part.
    Raises: ValueError if a number is less than 1 or heads does not divide width.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        context: int = 128,
        activation: Callable[[], nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        sizes = {"vocabulary": vocabulary, "width": width, "depth": depth, "heads": heads, "context": context}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be >= 1, got {size}. Try {name}=1")
        self.context = context
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(context, width))
        self.blocks = nn.Sequential(*(CausalBlock(width, heads, activation) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        nn.init.normal_(self.positions, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            assert isinstance(block, CausalBlock)
            for last in (block.attention.out, block.feed_forward[-1]):
                assert isinstance(last, nn.Linear)
                nn.init.normal_(last.weight, std=0.02 / sqrt(2 * len(self.blocks)))

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        if length > self.context:
            raise ValueError(f"tokens must have at most {self.context} places, got {length}. Try the last ones")
        x = self.tokens(tokens) + self.positions[:length]
        return self.head(self.norm(self.blocks(x)))
