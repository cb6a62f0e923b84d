"""Small tasks to train on: how data are split, and what training and measuring do."""

import functools
import gzip
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from heuretic.train.optimizers import Lion
from heuretic.train.small_tasks import CONTEXT, digits_task, measure, shakespeare_task, state_bytes, train_network

VERSE = b"The quality of mercy is not strain'd,\nIt droppeth as the gentle rain from heaven\nUpon the place beneath:\n"


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A text in the place of Tiny Shakespeare: a verse again and again, with digits that tell the places apart."""
    written = bytearray(VERSE * 40)
    written[::50] = bytes(48 + i % 10 for i in range(len(written[::50])))
    (tmp_path / "tiny_shakespeare").mkdir()
    (tmp_path / "tiny_shakespeare" / "input.txt.gz").write_bytes(gzip.compress(written))
    monkeypatch.setenv("HEURETIC_DATA", str(tmp_path))
    return bytes(written)


def test_characters_are_predicted_from_those_before_them(text: bytes) -> None:
    task = shakespeare_task(30, 10)
    alphabet = sorted(set(text))
    place = {"train": 0, "validation": len(text) * 9 // 10, "test": len(text) * 9 // 10}
    for name, count in (("train", 30), ("validation", 10)):
        inputs, classes = getattr(task, name)
        assert inputs.shape == classes.shape == (count, CONTEXT)
    decoded = bytes(alphabet[i] for i in task.train[0].flatten())
    assert decoded == text[: 30 * CONTEXT]
    assert bytes(alphabet[i] for i in task.train[1].flatten()) == text[1 : 30 * CONTEXT + 1]
    validation = bytes(alphabet[i] for i in task.validation[0].flatten())
    assert text.index(validation) > 30 * CONTEXT, "not among what is trained on"
    assert text.index(validation) + len(validation) <= place["test"]
    assert bytes(alphabet[i] for i in task.test[0].flatten()).startswith(text[place["test"] :][:200])
    assert task.network()(task.test[0][:2]).shape == (2, CONTEXT, len(alphabet))
    with pytest.raises(ValueError, match=r"train \+ validation must be at most 59, got 70"):
        shakespeare_task(60, 10)


def test_training_repeats_learns_and_leaves_global_randomness_alone(text: bytes, fixed_weights: None) -> None:
    pytest.importorskip("sklearn")
    for task, epochs in ((shakespeare_task(40, 10), 10), (digits_task(300, 300), 3)):
        before = torch.random.get_rng_state()
        make = functools.partial(Lion, lr=3e-3)
        first, optimizer = train_network(task, make, epochs=epochs, batch=10, seed=1)
        second, _ = train_network(task, make, epochs=epochs, batch=10, seed=1)
        other, _ = train_network(task, make, epochs=epochs, batch=10, seed=2)
        assert torch.equal(torch.random.get_rng_state(), before)
        one, two, three = (measure(network, task.validation) for network in (first, second, other))
        assert one == two != three
        classes = first(task.train[0][:1]).shape[-1]
        assert one["loss"] < math.log(classes) - 0.5
        assert one["accuracy"] > 1.5 / classes
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9), "the schedule ends at 0"
        assert state_bytes(optimizer) == 4 * sum(p.numel() for p in first.parameters())


def test_digits_are_split_without_overlap() -> None:
    pytest.importorskip("sklearn")
    task = digits_task(900, 300)
    assert [len(part[0]) for part in (task.train, task.validation, task.test)] == [900, 300, 597]
    images = torch.cat([part[0] for part in (task.train, task.validation, task.test)])
    assert images.shape[1:] == (1, 8, 8)
    assert images.amin() == 0
    assert images.amax() == 1


def test_loss_and_accuracy_are_those_one_counts() -> None:
    class Known(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack((torch.zeros_like(x), x), -1)

    x = torch.tensor([[0.0, math.log(3)], [-1.0, 2.0]])
    found = measure(Known(), (x, torch.tensor([[0, 1], [1, 1]])))
    losses = [math.log(2), math.log(4 / 3), math.log1p(math.exp(1)), math.log1p(math.exp(-2))]
    assert found == pytest.approx({"loss": sum(losses) / 4, "accuracy": 0.75})
