"""Small classifiers of texts, which come as padded arrays of word numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WordConvolutions(nn.Module):
    """Residual convolutions along the words: x + conv(relu(norm(x))) in each layer, with padded places kept at zero.

    Input and output (batch, length, width) with a mask (batch, length) that is True at words.

    Args:
        width: Channels. depth: Layers. kernel: Words that a layer sees, odd. dropout: Rate in front of each convolution.
    Raises: ValueError if `kernel` is even, or `depth` < 1.
    """

    def __init__(self, width: int, depth: int = 1, kernel: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got kernel={kernel!r}. Try {kernel + 1}")
        if depth < 1:
            raise ValueError(f"depth must be >= 1, got depth={depth!r}. Try leaving the convolutions out")
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.layers = nn.ModuleList(nn.Conv1d(width, width, kernel, padding=kernel // 2) for _ in range(depth))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        kept = mask.unsqueeze(-1).to(x.dtype)
        x = x * kept
        for norm, layer in zip(self.norms, self.layers, strict=True):
            hidden = self.dropout(torch.relu(norm(x))) * kept  # the norm's bias would fill padded places
            x = x + layer(hidden.transpose(1, 2)).transpose(1, 2) * kept
        return x


class WordTransformer(nn.Module):
    """A transformer encoder with learned positions, normalisation first; input and output as in `WordConvolutions`.

    Args:
        width: Of the vectors. length: Most words of a text. depth: Layers. heads: Of attention. dropout: Rate.
    """

    def __init__(self, width: int, length: int, depth: int = 2, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(length, width).normal_(std=0.02))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if x.shape[1] > len(self.positions):
            raise ValueError(
                f"texts must have at most {len(self.positions)} words, got {x.shape[1]}. Try encoding them with that length"
            )
        some = mask.any(1, keepdim=True)  # softmax over no places is NaN, so texts without words look at all of theirs
        return self.encoder(x + self.positions[: x.shape[1]], src_key_padding_mask=~(mask | ~some))


class TextClassifier(nn.Module):
    """Embed words, optionally mix them, take their mean, classify; without `body` as in fastText (word order is lost).

    Input int64 (batch, length) of word numbers, 0 for padding; output logits (batch, classes). Words behind the end of a
    text change nothing, and a text without words has the mean 0.

    Args:
        vocabulary: How many numbers there are, `Vocabulary.size`. width: Of the embeddings. body: Takes vectors (batch,
            length, width) and the mask (batch, length) of words, and returns such vectors: `WordConvolutions`,
            `WordTransformer` or your own. dropout: Rate, of the mean.
    Raises: ValueError if `vocabulary` < 2 or `classes` < 1.
    Reference: Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification", arXiv:1607.01759.
    """

    def __init__(
        self, vocabulary: int, classes: int, width: int = 64, body: nn.Module | None = None, dropout: float = 0.1
    ) -> None:
        super().__init__()
        if vocabulary < 2 or classes < 1:
            raise ValueError(f"vocabulary must be >= 2 and classes >= 1, got {vocabulary!r} and {classes!r}")
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        with torch.no_grad():
            self.embedding.weight[0].zero_()
        self.body = body
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, numbers: Tensor) -> Tensor:
        mask = numbers != 0
        x = self.embedding(numbers)
        if self.body is not None:
            x = self.body(x, mask)
        count = mask.sum(1, keepdim=True).clamp_min(1)
        mean = (x * mask.unsqueeze(-1).to(x.dtype)).sum(1) / count
        return self.head(self.dropout(mean))


__all__ = ["TextClassifier", "WordConvolutions", "WordTransformer"]
