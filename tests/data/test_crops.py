"""Resizing by known formulas, crops in the right place, random boxes with the right statistics."""

import math

import numpy as np
import pytest

from zoo.config import UserError
from zoo.data import crops

ROOT = math.sqrt(0.08)


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def resample(image, size, kernel, radius, antialias):
    """Columns, then rows, with half-pixel centres; in float, but for what Pillow rounds between."""
    for axis in (1, 0):
        old, new = image.shape[axis], size[axis]
        scale = old / new
        width = max(scale, 1) if antialias else 1
        centres = (np.arange(new) + 0.5) * scale - 0.5
        reach = math.ceil(radius * width) + 1
        near = np.floor(centres)[:, None].astype(int) + np.arange(-reach, reach + 1)
        weights = kernel((near - centres[:, None]) / width)
        if antialias:  # Pillow leaves out what lies outside; OpenCV repeats the border
            weights *= (near >= 0) & (near < old)
        weights /= weights.sum(axis=1, keepdims=True)
        matrix = np.zeros((new, old))
        np.add.at(matrix, (np.arange(new)[:, None], near.clip(0, old - 1)), weights)
        image = np.moveaxis(np.tensordot(matrix, image, (1, axis)), 0, axis)
        if antialias:
            image = (image + 0.5).clip(0, 255).astype(np.uint8)
    return image


def triangle(x):
    return np.maximum(1 - np.abs(x), 0)


def cubic(a):
    def kernel(x):
        x = np.abs(x)
        inner = (a + 2) * x**3 - (a + 3) * x**2 + 1
        outer = a * (x**3 - 5 * x**2 + 8 * x - 4)
        return np.where(x <= 1, inner, np.where(x < 2, outer, 0))

    return kernel


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(7, 5), (40, 13), (30, 24)])
@pytest.mark.parametrize(
    ("method", "kernel", "radius"),
    [
        ("bilinear", triangle, 1),
        ("bicubic", cubic(-0.75), 2),
        ("bilinear_antialias", triangle, 1),
        ("bicubic_antialias", cubic(-0.5), 2),
    ],
)
def test_resize_equals_the_formula_up_to_rounding(method, kernel, radius, size, channels):
    image = noise(23, 18, channels)
    expected = resample(image, size, kernel, radius, antialias=method.endswith("antialias"))
    result = crops.resize(image, size=size, method=method)
    assert np.abs(result - expected.astype(float).clip(0, 255)).max() <= 1


def test_area_is_the_mean_of_the_covered_pixels():
    image = noise(24, 36, 3)
    means = image.reshape(8, 3, 12, 3, 3).mean(axis=(1, 3))
    assert np.abs(crops.resize(image, size=(8, 12), method="area") - means).max() <= 0.51


@pytest.mark.parametrize(
    ("rounding", "fraction", "have", "want"),
    [
        ("nearest", 0.875, (375, 500), (256, 341)),  # big_vision's resize_small(256)
        ("nearest", 0.9, (500, 375), (332, 249)),
        ("down", 0.9, (500, 375), (330, 248)),  # timm: floor(224 / 0.9), then its aspect
        ("nearest", 1.0, (10, 10), (224, 224)),
    ],
)
def test_resize_small_brings_the_shorter_side_to_size_over_fraction(rounding, fraction, have, want):
    image = np.zeros((*have, 1), np.uint8)
    result = crops.resize_small(
        image, size=(224, 224), crop_fraction=fraction, rounding=rounding, method="bilinear"
    )
    assert result.shape[:2] == want


def test_resize_small_covers_a_size_that_is_no_square():
    for have in [(30, 50), (50, 30), (7, 100), (100, 7)]:
        rows, cols = crops.resize_small(np.zeros((*have, 3), np.uint8), size=(8, 16)).shape[:2]
        assert (rows == 8 and cols >= 16) or (cols == 16 and rows >= 8)


def test_central_crop_is_the_middle():
    image = np.arange(7 * 9, dtype=np.uint8).reshape(7, 9, 1)
    np.testing.assert_array_equal(crops.central_crop(image, size=(4, 5)), image[1:5, 2:7])


@pytest.mark.parametrize("crop", [crops.central_crop, crops.random_crop])
def test_a_crop_larger_than_the_image_is_refused(crop):
    random = {"rng": np.random.default_rng(0)} if crop is crops.random_crop else {}
    with pytest.raises(UserError, match=r"8 x 9 pixels and data.image_size is 9 x 9"):
        crop(np.zeros((8, 9, 1), np.uint8), size=(9, 9), **random)


def test_pad_crop_reaches_every_shift_equally():
    image = np.arange(1, 65, dtype=np.uint8).reshape(8, 8, 1)
    padded = {"zero": np.pad(image, ((2, 2), (2, 2), (0, 0)))}
    padded["reflect"] = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    rng = np.random.default_rng(0)
    for mode, whole in padded.items():
        windows = {whole[i : i + 8, j : j + 8].tobytes(): 0 for i in range(5) for j in range(5)}
        for _ in range(1000):
            windows[crops.pad_crop(image, rng=rng, size=(8, 8), pad=2, mode=mode).tobytes()] += 1
        assert len(windows) == 25
        assert 15 < min(windows.values()) <= max(windows.values()) < 75


def test_resize_crop_cuts_from_the_resized_image():
    image, rng = noise(16, 16, 3), np.random.default_rng(0)
    larger = crops.resize(image, size=(16, 16))
    corners = {larger[i : i + 14, j : j + 14].tobytes(): (i, j) for i in range(3) for j in range(3)}
    seen = {corners[crops.resize_crop(image, rng=rng, size=(14, 14)).tobytes()] for _ in range(200)}
    assert len(seen) == 9


def test_flip_mirrors_half_the_time():
    image, rng = noise(5, 6, 3), np.random.default_rng(0)
    results = [crops.flip(image, rng=rng) for _ in range(400)]
    mirrored = [np.array_equal(r, image[:, ::-1]) for r in results]
    assert all(m or r is image for m, r in zip(mirrored, results, strict=True))
    assert 160 < sum(mirrored) < 240
    np.testing.assert_array_equal(crops.flip(image, rng=rng, probability=1.0), image[:, ::-1])


def draw(box, rows, cols, *, count=4000, area=(0.08, 1.0), aspect=(3 / 4, 4 / 3)):
    rng = np.random.default_rng(0)
    return np.array([box(rows, cols, rng, area=area, aspect=aspect) for _ in range(count)])


@pytest.mark.parametrize(
    ("box", "mean", "square_mean"),
    [
        # Area uniform in 0.08..1, so its mean is 0.54, and its mean square (1 - s^3) / (1 - s) / 3.
        (crops.torchvision_box, 0.54, (1 - 0.08**3) / 0.92 / 3),
        # Height uniform in s..1 with s^2 = 0.08: E[h^2] and E[h^4].
        (crops.tf_box, (1 - ROOT**3) / (1 - ROOT) / 3, (1 - ROOT**5) / (1 - ROOT) / 5),
    ],
)
def test_areas_of_square_boxes_are_distributed_as_published(box, mean, square_mean):
    _, _, height, width = draw(box, 500, 500, aspect=(1.0, 1.0)).T
    areas = height * width / 250_000
    assert abs(areas.mean() - mean) < 0.015
    assert abs((areas**2).mean() - square_mean) < 0.015
    assert areas.min() >= 0.079


def test_aspects_are_log_uniform_or_uniform():
    small = {"area": (0.1, 0.3), "aspect": (0.5, 2.0)}  # always fits, so nothing is drawn again
    _, _, height, width = draw(crops.torchvision_box, 900, 900, **small).T
    logs = np.log2(width / height)
    assert abs(logs.mean()) < 0.03
    assert abs(logs.std() - 2 / math.sqrt(12)) < 0.02
    _, _, height, width = draw(crops.tf_box, 900, 900, **small).T
    assert abs((width / height).mean() - 1.25) < 0.03
    assert abs((width / height).std() - 1.5 / math.sqrt(12)) < 0.02


def test_the_tf_box_over_samples_small_crops():
    # Both with the defaults on a photo's shape, where large boxes often do not fit.
    mean = {
        box: (draw(box, 375, 500)[:, 2:].prod(axis=1) / (375 * 500)).mean()
        for box in (crops.tf_box, crops.torchvision_box)
    }
    assert mean[crops.tf_box] < mean[crops.torchvision_box] - 0.05


@pytest.mark.parametrize("box", [crops.tf_box, crops.torchvision_box])
@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (3, 50), (375, 500), (41, 20)])
def test_boxes_stay_inside_and_in_range(box, shape):
    rows, cols = shape
    top, left, height, width = draw(box, rows, cols, count=500).T
    assert min(top.min(), left.min()) >= 0
    assert min(height.min(), width.min()) >= 1
    assert (top + height).max() <= rows
    assert (left + width).max() <= cols
    if min(shape) > 30:
        ratio = width / height
        assert 0.7 < ratio.min() < ratio.max() < 1.4


def test_corners_of_boxes_cover_the_whole_range():
    for box in (crops.tf_box, crops.torchvision_box):
        top, left, height, width = draw(box, 12, 12, area=(0.3, 0.5)).T
        assert top.min() == left.min() == 0
        assert (top + height).max() == (left + width).max() == 12


def test_when_nothing_fits_tf_takes_the_image_and_torchvision_its_middle():
    assert draw(crops.tf_box, 10, 1000, count=1).tolist() == [[0, 0, 10, 1000]]
    assert draw(crops.torchvision_box, 10, 1000, count=1).tolist() == [[0, 493, 10, 13]]
    assert draw(crops.torchvision_box, 1000, 10, count=1).tolist() == [[493, 0, 13, 10]]


@pytest.mark.parametrize("convention", ["tf", "torchvision"])
def test_inception_crop_resizes_the_box(convention):
    image, size = noise(40, 60, 3), (16, 24)
    result = crops.inception_crop(
        image, rng=np.random.default_rng(3), size=size, convention=convention, method="area"
    )
    draw_box = crops.tf_box if convention == "tf" else crops.torchvision_box
    top, left, height, width = draw_box(
        40, 60, np.random.default_rng(3), area=(0.08, 1.0), aspect=(3 / 4, 4 / 3)
    )
    box = image[top : top + height, left : left + width]
    np.testing.assert_array_equal(result, crops.resize(box, size=size, method="area"))
