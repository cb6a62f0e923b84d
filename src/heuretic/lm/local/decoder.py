"""One step of a language model for many sequences at once, on processors.

The layers are those of transformers; the attention and its memory are ours, so that sequences of different lengths are one
batch without padding their prompts, and prompts with a common beginning keep (and read) its keys and values once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

_MASKED = -1e30
"""Added to scores that do not count. Finite, so that a part with nothing to attend to gets weight 0 and not NaN."""
_GRAIN = 64
"""Slots grow by so many tokens at once."""
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


@dataclass(eq=False)
class Segment:
    """Keys and values of a stretch of tokens that several sequences may begin with.

    Attributes:
        tokens: The stretch. before: What precedes it: other segments, and how many tokens of each count.
        start: Position of the first token. filled: How many tokens have been processed.
        users: Sequences and segments that need it. used: When it was last asked for.
    """

    tokens: list[int]
    before: tuple[tuple[Segment, int], ...]
    start: int
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    filled: int = 0
    users: int = 0
    used: int = 0


@dataclass(eq=False)
class Row:
    """New tokens of one sequence in a step: one when it is being continued, more when its prompt is being read.

    Attributes:
        tokens: Token ids. position: Of the first of them in the sequence. before: Segments the sequence begins with.
        target: Where the keys and values go: a segment, or the number of a slot.
        offset: Place of the first token in that target. wanted: Whether the logits after the last token are wanted.
        all_wanted: Whether those after every token are.
    """

    tokens: list[int]
    position: int
    before: tuple[tuple[Segment, int], ...]
    target: Segment | int
    offset: int
    wanted: bool = True
    all_wanted: bool = False


class Decoder:
    """A model with memory for its sequences: `slots` for what belongs to one sequence, segments for what is shared."""

    def __init__(self, model: Any, slots: int) -> None:
        self.model = model.eval()
        self.config = model.config.get_text_config()
        self.slots = slots
        self.dtype: torch.dtype = model.dtype
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        # Slots begin as zeros: what was never written is masked, but would still spoil sums if it happened to be NaN.
        self._room = 0  # tokens that fit in each slot
        self._step: _Step | None = None
        for module in model.modules():
            if isinstance(getattr(module, "layer_idx", None), int):
                module._heuretic_decoder = self
        for name in [name for name, _ in model.named_modules() if name]:
            pack(model, name)

    @torch.inference_mode()
    def step(self, rows: list[Row]) -> Tensor:
        """Process new tokens.

        Returns: float32 logits [wanted, vocabulary], of the wanted tokens in order.
        """
        step = _Step(rows)
        need = max((row.offset + len(row.tokens) for row in rows if isinstance(row.target, int)), default=0)
        if need > self._room:
            self._grow(need, step.continued)
        self._step = step
        ids = torch.tensor([[t for row in rows for t in row.tokens]])
        positions = torch.tensor([[row.position + k for row in rows for k in range(len(row.tokens))]])
        wanted, at = [], 0
        for row in rows:
            if row.all_wanted:
                wanted += range(at, at + len(row.tokens))
            elif row.wanted:
                wanted.append(at + len(row.tokens) - 1)
            at += len(row.tokens)
        out = self.model(
            input_ids=ids,
            position_ids=positions,
            use_cache=False,
            logits_to_keep=torch.tensor(wanted, dtype=torch.long),
        )
        for row in rows:
            if isinstance(row.target, Segment):
                row.target.filled = row.offset + len(row.tokens)
        return out.logits[0].float()

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of a slot into another."""
        for kept in (self._keys, self._values):
            for tensor in kept.values():
                tensor[target, :, :length] = tensor[source, :, :length]

    def place(self, segment: Segment, slot: int) -> None:
        """Copy the keys and values of a segment to the beginning of a slot."""
        length = len(segment.tokens)
        for layer, (key, value) in enumerate(zip(segment.keys, segment.values, strict=True)):
            for kept, new in ((self._keys, key), (self._values, value)):
                if layer not in kept:
                    kept[layer] = new.new_zeros(self.slots, new.shape[1], self._room, new.shape[3])
        if length > self._room:
            self._grow(length, slot)
        for layer, (key, value) in enumerate(zip(segment.keys, segment.values, strict=True)):
            self._keys[layer][slot, :, :length] = key[0]
            self._values[layer][slot, :, :length] = value[0]

    def _grow(self, need: int, live: int) -> None:
        """Make slots long enough for `need` tokens, keeping what the first `live` hold."""
        room = -(-need // _GRAIN) * _GRAIN
        for kept in (self._keys, self._values):
            for layer, old in kept.items():
                new = old.new_zeros(old.shape[0], old.shape[1], room, old.shape[3])
                new[:live, :, : self._room] = old[:live]
                kept[layer] = new
        self._room = room

    @property
    def token_bytes(self) -> int:
        """Bytes that the keys and values of one token take."""
        config = self.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return 2 * config.num_hidden_layers * heads * size * self.dtype.itemsize

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
        """Return the attention of all new tokens [1, tokens, heads, size] from their queries [1, heads, tokens, size]."""
        step = self._step
        assert step is not None
        if layer not in self._keys:
            for kept, new in ((self._keys, key), (self._values, value)):
                kept[layer] = new.new_zeros(self.slots, new.shape[1], self._room, new.shape[3])
        keys, values = self._keys[layer], self._values[layer]
        kv_heads, size = key.shape[1], query.shape[3]
        group = query.shape[1] // kv_heads
        out = torch.empty(query.shape[2], query.shape[1], value.shape[3], dtype=query.dtype)
        count = step.continued
        if count:  # one new token in each of the slots 0 .. count - 1
            keys[step.slots, :, step.offsets] = key[0, :, :count].transpose(0, 1)
            values[step.slots, :, step.offsets] = value[0, :, :count].transpose(0, 1)
            asked = (
                query[0, :, :count].view(kv_heads, group, count, size).permute(2, 0, 1, 3)
            )  # [rows, kv, group, size]
            longest = step.longest
            tail, weight = _flash(
                asked, keys[:count, :, :longest], values[:count, :, :longest], 0.0, False,
                attn_mask=step.tail_mask(window, query.dtype), scale=scale,
            )  # fmt: skip
            if step.shared:
                tail = _merge(tail.float(), weight.float(), step, layer, asked, window, scale)
            out[:count] = tail.reshape(count, query.shape[1], -1)
        for row, at in step.read:
            length = len(row.tokens)
            k, v = key[:, :, at : at + length], value[:, :, at : at + length]
            end = row.offset + length
            if isinstance(row.target, Segment):
                segment = row.target
                if len(segment.keys) <= layer:
                    segment.keys.append(k.new_empty(1, kv_heads, len(segment.tokens), k.shape[3]))
                    segment.values.append(v.new_empty(1, kv_heads, len(segment.tokens), v.shape[3]))
                own_k, own_v = segment.keys[layer], segment.values[layer]
            else:
                own_k, own_v = keys[row.target : row.target + 1], values[row.target : row.target + 1]
            own_k[:, :, row.offset : end] = k
            own_v[:, :, row.offset : end] = v
            stretches = [(s.keys[layer][:, :, :n], s.values[layer][:, :, :n], s.start) for s, n in row.before]
            stretches.append((own_k[:, :, :end], own_v[:, :, :end], row.position - row.offset))
            q = query[:, :, at : at + length]
            out[at : at + length] = _read(q, stretches, group, row.position, window, scale)
        return out.unsqueeze(0)


class _Step:
    """What the layers need to know about the rows of a step. Rows of one token in slots 0, 1, ... come first."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.continued = 0
        while self.continued < len(rows):
            row = rows[self.continued]
            if row.target != self.continued or len(row.tokens) != 1:
                break
            self.continued += 1
        first = rows[: self.continued]
        self.slots = torch.arange(self.continued)
        self.offsets = torch.tensor([row.offset for row in first], dtype=torch.long)
        self.positions = torch.tensor([row.position for row in first], dtype=torch.long)
        self.longest = int(self.offsets.max()) + 1 if first else 0
        groups: dict[Segment, list[tuple[int, int]]] = {}
        for k, row in enumerate(first):
            for segment, length in row.before:
                groups.setdefault(segment, []).append((k, length))
        self.shared = [
            (segment, torch.tensor([k for k, _ in users]), torch.tensor([n for _, n in users]))
            for segment, users in groups.items()
        ]
        self.read: list[tuple[Row, int]] = []
        at = self.continued
        for row in rows[self.continued :]:
            self.read.append((row, at))
            at += len(row.tokens)
        self._masks: dict[Any, Tensor | None] = {}

    def tail_mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        if ("tail", window) not in self._masks:
            place = torch.arange(self.longest)
            ok = place <= self.offsets[:, None]
            if window is not None:
                ok &= place > self.offsets[:, None] - window
            mask = torch.zeros(self.continued, self.longest, dtype=dtype).masked_fill_(~ok, _MASKED)
            self._masks["tail", window] = mask[:, None, None, :]
        found = self._masks["tail", window]
        assert found is not None
        return found

    def shared_mask(self, number: int, window: int | None, group: int, dtype: torch.dtype) -> Tensor | None:
        """Return what is added to scores [users * group, tokens] of a shared segment; None if all its tokens count."""
        if (number, window) not in self._masks:
            segment, users, lengths = self.shared[number]
            longest = int(lengths.max())
            place = torch.arange(longest)
            ok = place < lengths[:, None]
            if window is not None:
                ok &= place + segment.start > self.positions[users][:, None] - window
            mask = None
            if not bool(ok.all()):
                mask = torch.zeros(ok.shape, dtype=dtype).masked_fill_(~ok, _MASKED)
                mask = mask.repeat_interleave(group, 0)[None, None]
            self._masks[number, window] = mask
        return self._masks[number, window]


def _merge(
    tail: Tensor, weight: Tensor, step: _Step, layer: int, asked: Tensor, window: int | None, scale: float
) -> Tensor:
    """Return attention over tails and shared segments from that over tails [rows, kv, group, size] and its log weights."""
    total = weight  # [rows, kv, group]: log of the sum of exponentials so far
    for number, (segment, users, lengths) in enumerate(step.shared):
        count, heads, group, size = len(users), asked.shape[1], asked.shape[2], asked.shape[3]
        longest = int(lengths.max())
        q = asked[users].permute(1, 0, 2, 3).reshape(1, heads, count * group, size)
        part, logs = _flash(
            q, segment.keys[layer][:, :, :longest], segment.values[layer][:, :, :longest], 0.0, False,
            attn_mask=step.shared_mask(number, window, group, asked.dtype), scale=scale,
        )  # fmt: skip
        part = part.view(heads, count, group, -1).permute(1, 0, 2, 3).float()
        logs = logs.reshape(heads, count, group).permute(1, 0, 2).float()
        old = total[users]
        new = torch.logaddexp(old, logs)
        tail[users] = tail[users] * (old - new).exp()[..., None] + part * (logs - new).exp()[..., None]
        total[users] = new
    return tail.to(asked.dtype)


def _read(
    query: Tensor,
    stretches: list[tuple[Tensor, Tensor, int]],
    group: int,
    position: int,
    window: int | None,
    scale: float,
) -> Tensor:
    """Return the causal attention [tokens, heads, size] of a run of tokens of one sequence over all its stretches."""
    length = query.shape[2]
    key = torch.cat([k for k, _, _ in stretches], 2) if len(stretches) > 1 else stretches[0][0]
    value = torch.cat([v for _, v, _ in stretches], 2) if len(stretches) > 1 else stretches[0][1]
    if group > 1:
        key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    mask, causal = None, position == 0 and (window is None or length <= window)
    if not causal:
        place, own = torch.arange(key.shape[2]), torch.arange(position, position + length)[:, None]
        ok = place <= own
        if window is not None:
            ok &= place > own - window
        mask = torch.zeros(ok.shape, dtype=query.dtype).masked_fill_(~ok, _MASKED)[None, None]
    out, _ = _flash(query, key, value, 0.0, causal, attn_mask=mask, scale=scale)
    return out[0].transpose(0, 1)


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, scaling: float | None = None,
    dropout: float = 0.0, sliding_window: int | None = None, softcap: float | None = None, **rest: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    decoder: Decoder = module._heuretic_decoder  # pyright: ignore
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return decoder.attend(module.layer_idx, query, key, value, scale, sliding_window), None  # pyright: ignore


AttentionInterface.register("heuretic", _attention)


class PackedLinear(nn.Module):
    """A linear layer whose weights are kept in the order that the processor's matrix unit reads."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.out_features = linear.out_features
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), 64)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


def pack(model: nn.Module, name: str) -> None:
    """Replace a linear layer of a bfloat16 model by a packed one; do nothing to other modules."""
    parent, _, leaf = name.rpartition(".")
    layer = model.get_submodule(name)
    if type(layer) is nn.Linear and layer.weight.dtype == torch.bfloat16:
        setattr(model.get_submodule(parent), leaf, PackedLinear(layer))
