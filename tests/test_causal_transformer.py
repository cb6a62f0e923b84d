"""The causal transformer against attention written out, and its promise not to look ahead."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import heuretic as hr
from heuretic.nn import CausalAttention, CausalTransformer, parameter_count


@pytest.fixture
def model(fixed_weights: None) -> CausalTransformer:
    torch.manual_seed(0)
    return CausalTransformer(11, width=12, depth=2, heads=3, context=9)


def test_attention_is_what_the_paper_writes(fixed_weights: None) -> None:
    torch.manual_seed(0)
    attention, x = CausalAttention(6, heads=2).double(), torch.randn(2, 5, 6, dtype=torch.float64)
    q, k, v = attention.qkv(x).split(6, dim=-1)
    expected = torch.empty_like(x)
    for example in range(2):
        for head in (slice(0, 3), slice(3, 6)):
            for place in range(5):
                scores = [
                    q[example, place, head] @ k[example, other, head] / math.sqrt(3) for other in range(place + 1)
                ]
                shares = torch.stack(scores).softmax(0)
                expected[example, place, head] = sum(
                    share * v[example, other, head] for other, share in enumerate(shares)
                )
    torch.testing.assert_close(attention(x), attention.out(expected))


def test_logits_depend_on_what_came_before_and_on_nothing_after(model: CausalTransformer) -> None:
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6]])
    logits = model(tokens)
    assert logits.shape == (1, 6, 11)
    for place in range(6):
        other = tokens.clone()
        other[0, place] = 9
        changed = (model(other) - logits).abs().amax(-1)[0] > 1e-7
        assert changed.tolist() == [False] * place + [True] * (6 - place)
    torch.testing.assert_close(model(tokens[:, :4]), logits[:, :4])


def test_weights_are_those_that_one_counts(model: CausalTransformer) -> None:
    block = 2 * 2 * 12 + (12 * 36 + 36) + (12 * 12 + 12) + (12 * 48 + 48) + (48 * 12 + 12)
    assert sum(p.numel() for p in model.parameters()) == 11 * 12 + 9 * 12 + 2 * block + 2 * 12 + 12 * 11
    large = CausalTransformer(50, width=256, depth=2, heads=4)
    assert large.tokens.weight.std().item() == pytest.approx(0.02, rel=0.05)
    out = large.blocks[0].attention.out.weight  # type: ignore[union-attr]
    assert out.std().item() == pytest.approx(0.02 / 2, rel=0.05)


def test_it_learns_to_copy(model: CausalTransformer) -> None:
    """Each token is the one three places before, which only attention can know."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        text = torch.randint(11, (32, 3), generator=generator).repeat(1, 4)
        loss = F.cross_entropy(model(text[:, :9])[:, 3:].flatten(0, 1), text[:, 4:10].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 < math.log(11)


def test_it_is_a_program_whose_shape_may_be_open() -> None:
    program = hr.sym(CausalTransformer)(
        11, width=hr.one_of(8, 16), depth=hr.one_of(1, 2, 3), heads=2, activation=nn.ReLU
    )
    space = hr.search.Space(program)
    assert space.size == 6
    built = hr.build(hr.replace(program, width=8, depth=1))
    assert len(built.blocks) == 1
    assert isinstance(built.blocks[0].feed_forward[1], nn.ReLU)
    assert parameter_count(hr.replace(program, width=8, depth=1)) == sum(p.numel() for p in built.parameters())


def test_wrong_sizes_are_refused(model: CausalTransformer) -> None:
    with pytest.raises(ValueError, match="width must be divisible by heads, got width=10, heads=4"):
        CausalTransformer(11, width=10, heads=4)
    with pytest.raises(ValueError, match="depth must be >= 1, got 0"):
        CausalTransformer(11, depth=0)
    with pytest.raises(ValueError, match="tokens must have at most 9 places, got 10"):
        model(torch.zeros(1, 10, dtype=torch.long))
