"""Augmentation: operations on batches against Pillow, what is drawn, and labels that are mixed."""

import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import heuretic as hr
from heuretic.data import (
    AutoAugment,
    CutMix,
    Cutout,
    FlipCrop,
    MixUp,
    Policy,
    RandAugment,
    Step,
    load,
    operations,
)
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
    try:
        images = load(name).test.inputs[:count]
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
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


def test_geometry_is_what_its_names_say() -> None:
    image = real_images("cifar10", 1)
    picture, tensor = to_pil(image[0]), torch.from_numpy(image)
    for degrees in (-27, 3.3, 30):
        turned = picture.rotate(degrees, fillcolor=(128,) * 3)
        assert (operate("rotate", tensor, degrees)[0].numpy() == from_pil(turned)).all()
    sheared = picture.transform((32, 32), Image.Transform.AFFINE, (1, 0.27, 0, 0, 1, 0), fillcolor=(128,) * 3)
    assert (operate("shear-x", tensor, 0.27)[0].numpy() == from_pil(sheared)).all()
    upright = operate("shear-y", tensor.transpose(2, 3), 0.27).transpose(2, 3)
    assert torch.equal(upright, operate("shear-x", tensor, 0.27))
    moved = operate("translate-y", tensor, 0.25)
    assert torch.equal(moved[..., :24, :], tensor[..., 8:, :])
    assert (moved[..., 24:, :] == 128).all()
    assert torch.equal(RandAugment()(tensor[:0], seeded()), tensor[:0])


def test_whole_augmentation_equals_pillow() -> None:
    images = real_images("cifar10", 64)
    for augment in (RandAugment(), RandAugment(ops=3, magnitude=14, operations=EVERY)):
        for seed, image in enumerate(images):
            ours = augment(torch.from_numpy(image[None]), seeded(seed))[0]
            assert (ours.numpy() == from_pil(augment.pil(to_pil(image), seeded(seed)))).all()


@pytest.mark.parametrize("function", ["on_cpu", "in_c"])
def test_accelerators_and_systems_without_a_compiler_get_the_same_pixels(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert operations.in_c(torch.zeros(1)) or not shutil.which("cc"), "C is what this is compared with"
    batches = [torch.from_numpy(real_images(name, 64)) for name in ("cifar10", "fashion-mnist")]
    batches.append(torch.zeros(64, 3, 5, 4, dtype=torch.uint8))
    augments = (
        RandAugment(ops=3, operations=EVERY),
        RandAugment(magnitude=20),
        AutoAugment("svhn"),
        FlipCrop(),
        Cutout(8),
    )
    expected = [augment(images, seeded(k)) for k, images in enumerate(batches) for augment in augments]
    monkeypatch.setattr(operations, function, lambda images: False)  # the other way, on the same memory
    found = [augment(images, seeded(k)) for k, images in enumerate(batches) for augment in augments]
    assert [k for k, pair in enumerate(zip(found, expected, strict=True)) if not torch.equal(*pair)] == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gets_the_same_pixels() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (256, 3, 32, 32), dtype=np.uint8))
    for augment in (RandAugment(ops=3, operations=EVERY), AutoAugment(), FlipCrop(), Cutout(8)):
        found = augment(images.cuda(), seeded())
        assert found.is_cuda
        assert torch.equal(found.cpu(), augment(images, seeded()))


def test_large_images_are_changed_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (24, 3, 20, 30), dtype=np.uint8))
    expected = RandAugment(ops=3)(images, seeded())
    monkeypatch.setattr("heuretic.data.augment._LARGE", 0)  # images are then changed one by one
    assert torch.equal(RandAugment(ops=3)(images, seeded()), expected)


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


@pytest.mark.parametrize("name", ["cifar10", "svhn", "imagenet"])
def test_published_policies(name: str) -> None:
    augment = AutoAugment(name)
    policy = augment.as_policy()
    assert [len(steps) for steps in policy.sub_policies] == [2] * 25
    images = torch.from_numpy(real_images("cifar10", 48))
    changed = augment(images, seeded(1))
    assert torch.equal(changed, policy(images, seeded(1)))
    assert 0.2 < (changed == images).flatten(1).all(1).logical_not().float().mean() <= 1
    for seed, image in enumerate(images):
        ours = augment(image[None], seeded(seed))[0]
        assert (ours.numpy() == from_pil(augment.pil(to_pil(image.numpy()), seeded(seed)))).all()


def test_policy_follows_probabilities_and_signs() -> None:
    images = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(1000, 1, 8, 8)
    policy = Policy(
        ((Step("translate-x", 0.5, 10),), (Step("invert", 0.25), Step("solarize-add", 1.0, 10))), translation=0.25
    )
    moved = [torch.full((8, 8), 128, dtype=torch.uint8) for _ in range(2)]
    moved[0][:, :6], moved[1][:, 2:] = images[0, 0, :, 2:], images[0, 0, :, :6]
    expected = {
        "same": (images[0, 0], 0.25), "left": (moved[0], 0.125), "right": (moved[1], 0.125),
        "brighter": (images[0, 0] + 110, 0.375), "inverted": (255 - images[0, 0], 0.125),
    }  # fmt: skip
    changed = policy(images, seeded())[:, 0]
    shares = {name: float((changed == image).flatten(1).all(1).float().mean()) for name, (image, _) in expected.items()}
    assert shares == {name: pytest.approx(share, abs=0.05) for name, (_, share) in expected.items()}
    assert sum(shares.values()) == pytest.approx(1)


def test_a_policy_is_a_program_to_search_and_to_save() -> None:
    step = Step(hr.one_of("rotate", "invert"), hr.one_of(0.4, 0.8), hr.one_of(1, 9))
    open_policy = Policy(((step, Step("equalize")),))
    assert hr.Space(open_policy).size == 8
    found = {
        hr.dumps(Policy(((Step(name, chance, level), Step("equalize")),)))
        for name in ("rotate", "invert")
        for chance in (0.4, 0.8)
        for level in (1, 9)
    }
    assert len(found) == 8
    policy = AutoAugment("svhn").as_policy()
    assert hr.loads(hr.dumps(policy)) == policy
    assert hr.Space(RandAugment(magnitude=hr.one_of(3, 9))).size == 2
    for bad in (lambda: Policy(()), lambda: Step("spin"), lambda: AutoAugment("mnist")):
        with pytest.raises(ValueError, match="must be"):
            bad()


def test_cutout_blanks_a_square_anywhere() -> None:
    images = torch.full((500, 3, 9, 7), 5, dtype=torch.uint8)
    blank = Cutout(size=4, fill=77)(images, seeded()) == 77
    assert torch.equal(blank[:, 0], blank[:, 2])
    whole = blank[:, 0].flatten(1).sum(1) == 16
    # a centre keeps the square inside if it is at rows 2 to 7 of 9 and columns 2 to 5 of 7
    assert whole.float().mean() == pytest.approx(6 / 9 * 4 / 7, abs=0.08)
    for square in blank[:, 0]:
        rows, columns = square.any(1), square.any(0)
        assert torch.equal(square, rows[:, None] & columns)
        assert 2 <= rows.sum() <= 4
        assert 2 <= columns.sum() <= 4


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_mixup(dtype: torch.dtype) -> None:
    images = torch.arange(8, dtype=dtype).view(8, 1, 1, 1).expand(8, 3, 2, 2)
    labels = torch.eye(8)
    weights = []
    for seed in range(300):
        mixed, shares = MixUp(alpha=0.4)(images, labels, seeded(seed))
        assert (mixed.dtype, mixed.shape) == (torch.float32, images.shape)
        assert torch.allclose(shares.sum(1), torch.ones(8))
        assert torch.allclose(mixed[:, 0, 0, 0], shares @ torch.arange(8.0), atol=1e-5)
        apart = [float(row[k]) for k, row in enumerate(shares) if row.max() < 1 or row[k] < 1]
        weights += apart[:1]
    # Beta(0.4, 0.4): mean 1/2 and variance 1 / (4 (2 alpha + 1))
    assert np.mean(weights) == pytest.approx(0.5, abs=0.08)
    assert np.var(weights) == pytest.approx(1 / 7.2, abs=0.03)
    assert torch.equal(MixUp()(images, labels, seeded(5))[0], MixUp()(images, labels, seeded(5))[0])


def test_cutmix_labels_are_the_areas() -> None:
    images = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(6, 3, 10, 7)
    areas = []
    for seed in range(300):
        mixed, shares = CutMix()(images, torch.eye(6), seeded(seed))
        assert mixed.dtype == torch.uint8
        for image, row in zip(mixed, shares, strict=True):
            assert torch.allclose(row, (image[0].flatten()[:, None] == torch.arange(6)).float().mean(0), atol=1e-6)
        pasted = (mixed != images)[:, 0]
        different = [mask for mask in pasted if mask.any()]
        assert all(
            torch.equal(mask, mask.any(1)[:, None] & mask.any(0)) and torch.equal(mask, different[0])
            for mask in different
        )
        areas.append(float(different[0].float().mean()) if different else 0.0)
    assert 0.2 < np.mean(areas) < 0.4  # uniform, less what falls outside
    with pytest.raises(
        ValueError, match=r"labels must be floats of shape \(6, classes\), got torch.int64 of shape \(6,\)"
    ):
        CutMix()(images, torch.arange(6), seeded())


@pytest.mark.parametrize("images", [torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 4, 4, dtype=torch.uint8)])
def test_operations_refuse_what_is_no_image(images: torch.Tensor) -> None:
    for operation in EVERY:
        with pytest.raises(ValueError, match="images must be uint8 of shape"):
            operate(operation, images, 1.0)


def test_operations_take_images_with_channels_last() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)).permute(
        0, 3, 1, 2
    )
    for operation in EVERY:
        value = argument(operation, 9.0)
        assert torch.equal(operate(operation, images, value), operate(operation, images.contiguous(), value))
