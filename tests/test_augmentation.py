"""Augmentation: operations on batches against Pillow, what is drawn, and labels that are mixed."""

import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heuretic.data import FlipCrop, RandAugment, fashion_mnist
from heuretic.data.operations import MORE_OPERATIONS, OPERATIONS, argument, operate, operate_pil

Image = pytest.importorskip("PIL.Image")
EVERY = OPERATIONS + MORE_OPERATIONS
LEVELS = (0, 1, 4.5, 9, 10, 30)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def to_pil(image: np.ndarray) -> Any:
    return Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))


def from_pil(image: Any) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def differing(operation: str, images: np.ndarray, value: float) -> int:
    """Return how many values of pixels differ between the two ways."""
    ours = operate(operation, torch.from_numpy(images), value).numpy()
    return sum(
        int((mine != from_pil(operate_pil(operation, to_pil(image), value))).sum())
        for mine, image in zip(ours, images, strict=True)
    )


def real_images(name: str, count: int) -> np.ndarray:
    """Return real test images, shape (count, channels, height, width)."""
    if not os.environ.get("HEURETIC_DATA"):
        pytest.skip("needs images in $HEURETIC_DATA")
    if name == "fashion-mnist":
        return fashion_mnist()[1].pixels[:count, None]
    parquet = pytest.importorskip("pyarrow.parquet")
    path = Path(os.environ["HEURETIC_DATA"], "cifar10", "test.parquet")
    if not path.is_file():
        pytest.skip(f"needs {path}")
    files = parquet.read_table(path, columns=["jpeg"]).column("jpeg").slice(0, count).to_pylist()
    return np.stack([from_pil(Image.open(BytesIO(file)).convert("RGB")) for file in files])


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar-10"])
def test_operations_equal_pillow_on_real_images(name: str) -> None:
    images = real_images(name, 40)
    for operation in EVERY:
        for level in LEVELS:
            for sign in (1, -1):
                value = argument(operation, level, sign)
                assert differing(operation, images, value) == 0, (operation, level, sign)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_operations_equal_pillow_on_any_image(data: st.DataObject) -> None:
    shape = (
        data.draw(st.integers(1, 3)),
        data.draw(st.sampled_from([1, 3])),
        *data.draw(st.tuples(*[st.integers(1, 9)] * 2)),
    )
    values = data.draw(
        st.sampled_from([st.integers(0, 255), st.sampled_from([3, 200]), st.just(77), st.integers(120, 123)])
    )
    images = data.draw(hnp.arrays(np.uint8, shape, elements=values))
    operation = data.draw(st.sampled_from(EVERY))
    value = argument(operation, data.draw(st.floats(0, 30)), data.draw(st.sampled_from([1, -1])))
    assert differing(operation, images, value) == 0


def test_whole_augmentation_equals_pillow() -> None:
    images = real_images("cifar-10", 64)
    for augment in (RandAugment(), RandAugment(ops=3, magnitude=14, operations=EVERY)):
        for seed, image in enumerate(images):
            ours = augment(torch.from_numpy(image[None]), seeded(seed))[0]
            assert (ours.numpy() == from_pil(augment.pil(to_pil(image), seeded(seed)))).all()


def test_rand_augment_draws_all_operations_evenly_from_its_generator() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(20, 250, (2000, 3, 20, 20), dtype=np.uint8))
    before = torch.random.get_rng_state()
    changed = RandAugment(ops=1)(images, seeded(3))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(changed, RandAugment(ops=1)(images, seeded(3)))
    assert not torch.equal(changed, RandAugment(ops=1)(images, seeded(4)))
    left = torch.ones(len(images), dtype=torch.bool)
    for operation in OPERATIONS:
        ways = {argument(operation, 9, sign) for sign in (1, -1)}
        made = [(changed == operate(operation, images, value)).flatten(1).all(1) for value in ways]
        for same in made:  # of 2,000: 143 with a standard deviation of 11.5, and half of that for each direction
            assert abs(same.sum() - 143 / len(ways)) < 45, operation
            left &= ~same
    assert not left.any()


def test_flip_crop_on_a_ramp() -> None:
    ramp = torch.arange(1, 37, dtype=torch.uint8).view(1, 1, 6, 6).expand(400, 3, 6, 6)
    padded = torch.nn.functional.pad(ramp[0, 0], (1, 1, 1, 1))
    windows = [padded[y : y + 6, x : x + 6] for y in range(3) for x in range(3)]
    either = [window.flip(1) if mirrored else window for window in windows for mirrored in (0, 1)]
    counts = torch.zeros(len(either))
    for image in FlipCrop(pad=1)(ramp, seeded()):
        (found,) = [k for k, window in enumerate(either) if torch.equal(image, window.expand(3, 6, 6))]
        counts[found] += 1
    assert counts.min() > 5  # of 400 over 18: 22 with a standard deviation of 4.6
    assert counts.max() < 45
    assert torch.equal(FlipCrop(pad=0, flip=False)(ramp, seeded()), ramp)


def test_what_cannot_be_augmented() -> None:
    for images in (
        torch.zeros(1, 3, 4, 4),
        torch.zeros(1, 2, 4, 4, dtype=torch.uint8),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
    ):
        with pytest.raises(ValueError, match="images must be uint8 of shape"):
            RandAugment()(images, seeded())
        with pytest.raises(ValueError, match="images must be uint8 of shape"):
            FlipCrop()(images, seeded())
    with pytest.raises(ValueError, match=r"operations must be among identity, .*, got 'spin'"):
        RandAugment(operations=("spin",))


def test_the_room_opens_without_torch_and_pillow() -> None:
    code = "import heuretic.data, sys; assert not {'torch', 'PIL'} & set(sys.modules); heuretic.data.RandAugment"
    subprocess.run([sys.executable, "-c", code], check=True)
