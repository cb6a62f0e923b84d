"""Classifiers of texts: what padding may not change, means by hand, and that they learn."""

import pytest
import torch
from torch import nn

import heuretic as hr
from heuretic.data.vocabulary import Vocabulary
from heuretic.nn.text_classifier import TextClassifier, WordConvolutions, WordTransformer

pytestmark = pytest.mark.usefixtures("fixed_weights")
BODIES = {
    "mean": lambda: None,
    "convolutions": lambda: WordConvolutions(16, depth=2),
    "transformer": lambda: WordTransformer(16, length=12, depth=1),
}


@pytest.mark.parametrize("name", BODIES)
def test_padding_changes_nothing(name: str) -> None:
    model = TextClassifier(30, 4, 16, BODIES[name]()).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)  # zero biases would hide what padding adds
    model.embedding.weight.data[0] = 0.7  # even if training moved it
    numbers = torch.randint(1, 30, (5, 7))
    numbers[1, 4:] = 0
    numbers[2] = 0
    padded = nn.functional.pad(numbers, (0, 4))
    out = model(numbers)
    assert out.shape == (5, 4)
    assert torch.isfinite(out).all()
    torch.testing.assert_close(model(padded), out)
    torch.testing.assert_close(model(numbers[1:2, :4]), out[1:2])
    if name != "transformer":
        torch.testing.assert_close(out[2], model.head.bias)


def test_the_mean_by_hand() -> None:
    model = TextClassifier(5, 2, 3, dropout=0.0)
    numbers = torch.tensor([[2, 4, 2, 0], [3, 0, 0, 0]])
    e = model.embedding.weight
    means = torch.stack([(2 * e[2] + e[4]) / 3, e[3]])
    torch.testing.assert_close(model(numbers), means @ model.head.weight.T + model.head.bias)
    model(numbers).sum().backward()
    assert model.embedding.weight.grad is not None
    assert not model.embedding.weight.grad[:2].any()  # padding, and a number that is not there


@pytest.mark.parametrize("name", BODIES)
def test_word_order_matters_with_a_body_only(name: str) -> None:
    model = TextClassifier(30, 4, 16, BODIES[name]()).eval()
    one, other = model(torch.tensor([[5, 6, 7, 8]])), model(torch.tensor([[8, 6, 5, 7]]))
    assert torch.allclose(one, other, atol=1e-6) == (name == "mean")


@pytest.mark.parametrize("name", BODIES)
def test_it_learns(name: str) -> None:
    texts = [f"{'good' if i % 2 else 'bad'} film number {i % 9} , really" for i in range(40)]
    vocabulary = Vocabulary.build(texts)
    numbers, labels = torch.from_numpy(vocabulary.encode(texts, 12)), torch.arange(40) % 2
    model = TextClassifier(vocabulary.size, 2, 16, BODIES[name]())
    optimizer = torch.optim.AdamW(model.parameters(), 0.02)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(numbers), labels).backward()
        optimizer.step()
    assert (model.eval()(numbers).argmax(1) == labels).all()


def test_it_can_be_described_and_built() -> None:
    program = hr.sym(TextClassifier)(30, 4, width=16, body=hr.sym(WordConvolutions)(16))
    assert isinstance(hr.build(program).body, WordConvolutions)
    assert hr.loads(hr.dumps(program)) == program


def test_refusals() -> None:
    with pytest.raises(ValueError, match="vocabulary must be >= 2 and classes >= 1, got 1 and 2"):
        TextClassifier(1, 2)
    with pytest.raises(ValueError, match=r"kernel must be odd, got kernel=4\. Try 5"):
        WordConvolutions(8, kernel=4)
    with pytest.raises(ValueError, match="depth must be >= 1, got depth=0"):
        WordConvolutions(8, depth=0)
    with pytest.raises(ValueError, match="texts must have at most 12 words, got 13"):
        TextClassifier(9, 2, 16, WordTransformer(16, 12))(torch.ones(1, 13, dtype=torch.int64))
