"""Corrupted images: hand-computed values, constants that grow worse, and what a seed fixes."""

from io import BytesIO

import numpy as np
import pytest

from heuretic.data import CORRUPTIONS, corrupted, mean_corruption_error
from heuretic.data.corruptions import _elastic_transform, _streaks

pytest.importorskip("scipy")
Image = pytest.importorskip("PIL.Image")


def smooth_images(side: int = 32, channels: int = 3, count: int = 4) -> np.ndarray:
    """Return images of slow waves, values 40 to 215."""
    y, x = np.mgrid[:side, :side] / side
    phases = np.random.default_rng(0).uniform(0, 6.28, (count, 1, 1, channels, 2))
    waves = np.sin(6 * y[..., None] + phases[..., 0]) + np.sin(9 * x[..., None] + phases[..., 1])
    return (127.5 + 43.75 * waves).astype(np.uint8)


def distance(images: np.ndarray, others: np.ndarray) -> float:
    return float(np.abs(images.astype(int) - others).mean())


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_shape_seed_and_severity(corruption: str) -> None:
    for images in (smooth_images(), smooth_images(28, 1), smooth_images(72, 3, 1)[:, :, :65]):
        mild, worst = corrupted(images, corruption, 1, seed=5), corrupted(images, corruption, 5, seed=5)
        assert (worst.shape, worst.dtype) == (images.shape, np.uint8)
        assert (worst == corrupted(images, corruption, 5, seed=5)).all()
        assert (worst[:1] == corrupted(images[:1], corruption, 5, seed=5)).all()
        assert distance(images, worst) > 0.5
        if corruption != "elastic_transform":  # whose severities differ in kind
            assert distance(images, worst) > distance(images, mild)
    random = corruption.endswith("noise") or corruption in (
        "glass_blur",
        "motion_blur",
        "snow",
        "fog",
        "elastic_transform",
    )
    images = smooth_images()
    assert (corrupted(images, corruption, seed=1) != corrupted(images, corruption, seed=2)).any() == random


def test_noise_has_the_published_strength() -> None:
    grey = np.full((8, 32, 32, 3), 128, np.uint8)
    noise = corrupted(grey, "gaussian_noise", 3).astype(float)
    assert noise.std() / 255 == pytest.approx(0.08, rel=0.03)
    assert noise.mean() == pytest.approx(127.5, abs=0.6)  # cut off, so half a step lower
    shot = corrupted(grey, "shot_noise", 3).astype(float)
    assert shot.std() / 255 == pytest.approx((128 / 255 / 100) ** 0.5, rel=0.03)
    impulse = corrupted(grey, "impulse_noise", 5)
    assert (impulse == 0).mean() == pytest.approx(0.035, abs=0.005)
    assert (impulse == 255).mean() == pytest.approx(0.035, abs=0.005)
    assert set(np.unique(impulse)) == {0, 128, 255}


def test_values_computed_by_hand() -> None:
    pixels = np.array([[0, 100], [200, 40]], np.uint8).reshape(1, 2, 2, 1)
    assert corrupted(pixels, "contrast", 2).ravel().tolist() == [42, 92, 142, 62]  # halfway to the mean, 85
    assert corrupted(pixels, "brightness", 5).ravel().tolist() == [76, 176, 255, 116]  # 76.5 more
    colour = np.array([100, 50, 0], np.uint8).reshape(1, 1, 1, 3)
    assert corrupted(colour, "brightness", 2).ravel().tolist() == [125, 62, 0]  # the same hue, 25.5 brighter
    assert corrupted(np.zeros_like(colour), "brightness", 2).ravel().tolist() == [25, 25, 25]
    dot = np.zeros((1, 33, 33, 1), np.uint8)
    dot[0, 16, 16] = 255
    disk = corrupted(dot, "defocus_blur", 1, constants="imagenet")[0, :, :, 0]
    # 29 places within 3 of the middle, 9 each; at its rim a Gaussian of deviation 0.1 changes nothing
    assert (disk == int(255 / 29 + 1e-9)).sum() == 29
    assert (disk > 0).sum() == 29
    side = np.array([[0, 0, 0, 100, 0, 0, 0]], float)[..., None]
    weights = np.exp(-(np.arange(5) ** 2) / 2) / np.exp(-(np.arange(5) ** 2) / 2).sum()
    streak = _streaks(side, 2, 1, 0)[0, :, 0]  # each place takes from those to its right
    assert streak == pytest.approx([100 * weights[3], 100 * weights[2], 100 * weights[1], 100 * weights[0], 0, 0, 0])


def test_pillow_does_what_it_did_in_the_published_sets() -> None:
    image = smooth_images(32, 3, 1)
    file = BytesIO()
    Image.fromarray(image[0]).save(file, "JPEG", quality=58)
    assert (corrupted(image, "jpeg_compression", 3)[0] == np.asarray(Image.open(file))).all()
    small = Image.fromarray(image[0]).resize((24, 24), Image.Resampling.BOX)
    assert (corrupted(image, "pixelate", 4)[0] == np.asarray(small.resize((32, 32), Image.Resampling.BOX))).all()


def test_elastic_transform_without_strength_keeps_the_image() -> None:
    image = smooth_images(32, 3, 1)[0] / 255
    assert _elastic_transform(image, (0, 0.1, 0), np.random.default_rng(0)) == pytest.approx(image)


def test_glass_blur_only_moves_pixels() -> None:
    image = smooth_images(32, 1, 1)
    image[:, :, 16:] = 0
    image[:, :, :16] = 200
    blurred = corrupted(image, "glass_blur", 1)  # whose Gaussian, of deviation 0.05, changes nothing
    assert set(np.unique(blurred)) == {0, 200}
    assert (blurred[:, :, :14] == 200).all()  # nothing moves further than a pixel a round
    assert (blurred[:, :, 18:] == 0).all()
    assert (blurred != image).any()


def test_mean_corruption_error() -> None:
    errors = {"fog": [0.1, 0.3], "snow": [0.5, 0.7]}
    assert mean_corruption_error(errors) == pytest.approx(0.4)
    assert mean_corruption_error(errors, {"fog": [0.4, 0.4], "snow": [1.0, 1.0]}) == pytest.approx((0.5 + 0.6) / 2)
    with pytest.raises(ValueError, match="the baseline's corruptions, got \\['fog', 'snow'\\] and \\['fog'\\]"):
        mean_corruption_error(errors, {"fog": [0.4]})


def test_what_cannot_be_corrupted() -> None:
    images = smooth_images()
    with pytest.raises(ValueError, match=r"corruption must be one of gaussian_noise, .*, got 'frost'"):
        corrupted(images, "frost")
    with pytest.raises(ValueError, match="severity must be 1 to 5, got 6"):
        corrupted(images, "fog", 6)
    with pytest.raises(ValueError, match=r"images must be uint8 of shape .*, got float64 of shape \(4, 32, 32, 3\)"):
        corrupted(images / 255, "fog")  # type: ignore[arg-type]
