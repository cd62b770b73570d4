"""The elementary operations equal Pillow's; those that are Pillow's equal a formula."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from zoo.data import augment

SHAPES = [(8, 8, 3), (28, 28, 1), (33, 47, 3), (64, 31, 1), (2, 5, 3), (1, 1, 1)]
FACTORS = [0.0, 0.1, 0.55, 1.0, 1.9, 3.7]


def picture(shape):
    """A gradient with noise, not over the whole range, so that autocontrast has work to do."""
    rows, cols, channels = shape
    noise = np.random.default_rng(sum(shape)).integers(0, 60, shape)
    y, x, c = np.ogrid[:rows, :cols, :channels]
    return (20 + 90 * y / rows + 50 * x / cols + 25 * c + noise).astype(np.uint8)


def with_pillow(image, function):
    pillow = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return np.asarray(function(pillow)).reshape(image.shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("name", "amount", "reference"),
    [
        ("invert", (), ImageOps.invert),
        ("autocontrast", (), ImageOps.autocontrast),
        ("equalize", (), ImageOps.equalize),
        *[("posterize", (b,), lambda i, b=b: ImageOps.posterize(i, b)) for b in (1, 4, 8)],
        *[("solarize", (t,), lambda i, t=t: ImageOps.solarize(i, t)) for t in (0, 100, 178.5, 256)],
        *[
            ("brightness", (f,), lambda i, f=f: ImageEnhance.Brightness(i).enhance(f))
            for f in FACTORS
        ],
        *[("contrast", (f,), lambda i, f=f: ImageEnhance.Contrast(i).enhance(f)) for f in FACTORS],
    ],
)
def test_look_ups_equal_pillow_exactly(name, amount, reference, shape):
    image = picture(shape)
    result = getattr(augment, name)(image, *amount)
    np.testing.assert_array_equal(result, with_pillow(image, reference))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", ["color", "sharpness"])
def test_blends_equal_pillow_up_to_the_last_rounding(name, factor, shape):
    image = picture(shape)
    result = getattr(augment, name)(image, factor)
    enhance = getattr(ImageEnhance, name.title())
    expected = with_pillow(image, lambda i: enhance(i).enhance(factor))
    difference = np.abs(result.astype(int) - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.01


def test_contrast_blends_with_the_mean_of_the_image():
    image = np.full((4, 4, 3), 40, np.uint8)
    image[:2] = 80
    np.testing.assert_array_equal(augment.contrast(image, 0.0), np.full((4, 4, 3), 60))


def test_solarize_add_clips_and_leaves_bright_values():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    result = augment.solarize_add(image, 200).ravel()
    np.testing.assert_array_equal(result[:128], np.minimum(np.arange(128) + 200, 255))
    np.testing.assert_array_equal(result[128:], np.arange(128, 256))


def test_posterize_keeps_at_least_the_highest_bit():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(augment.posterize(image, 0), image & 128)


def test_grayscale_equals_pillow_in_each_channel():
    image = picture((33, 47, 3))
    luma = with_pillow(image[..., :1], lambda _: Image.fromarray(image).convert("L"))
    np.testing.assert_array_equal(augment.grayscale(image), np.repeat(luma, 3, axis=-1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("name", "amount", "matrix"),
    [
        ("shear_x", 0.25, ((1, 0.25), (0, 1), (0, 0))),
        ("shear_y", -0.25, ((1, 0), (-0.25, 1), (0, 0))),
        ("translate_x", 3.0, ((1, 0), (0, 1), (3, 0))),
        ("translate_y", -2.0, ((1, 0), (0, 1), (0, -2))),
    ],
)
def test_geometry_takes_each_pixel_from_where_the_matrix_says(name, amount, matrix, shape):
    image = picture(shape)
    result = getattr(augment, name)(image, amount, (9, 9, 9), "nearest")
    rows, cols = shape[:2]
    x, y = np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
    (a, b), (d, e), (c, f) = matrix
    source_x = np.floor(a * x + b * y + c).astype(int)
    source_y = np.floor(d * x + e * y + f).astype(int)
    inside = (source_x >= 0) & (source_x < cols) & (source_y >= 0) & (source_y < rows)
    expected = image[source_y.clip(0, rows - 1), source_x.clip(0, cols - 1)]
    np.testing.assert_array_equal(result, np.where(inside[..., None], expected, 9))


def test_bilinear_shear_mixes_the_two_neighbours():
    image = picture((4, 16, 1))
    result = augment.shear_x(image, 0.5, 0, "bilinear")[1, :14, 0]
    # The centre of row 1 is at y = 1.5, so its pixels come from x + 0.75.
    neighbours = image[1, :15, 0].astype(float)
    expected = 0.25 * neighbours[:-1] + 0.75 * neighbours[1:]
    assert np.abs(result - expected).max() <= 1


def test_rotate_turns_counter_clockwise_and_fills_the_corners():
    image = picture((9, 9, 3))
    np.testing.assert_array_equal(augment.rotate(image, 90.0, 0, "nearest"), np.rot90(image))
    tilted = augment.rotate(image, 45.0, (1, 2, 3), "bicubic")
    np.testing.assert_array_equal(tilted[0, 0], (1, 2, 3))
    np.testing.assert_array_equal(tilted[4, 4], image[4, 4])


def test_grey_images_take_the_mean_of_a_coloured_fill():
    image = picture((8, 8, 1))
    assert (
        augment.translate_x(image, 8.0, (124, 116, 104), "nearest").ravel().tolist() == [115] * 64
    )


def test_cutout_is_a_square_around_any_pixel_cut_off_at_the_border():
    image = np.full((12, 20, 1), 7, np.uint8)
    rng = np.random.default_rng(0)
    cut = np.stack([augment.cutout(image, 3, 200, rng=rng)[..., 0] == 200 for _ in range(600)])
    heights, widths = cut.any(axis=2).sum(axis=1), cut.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(cut.sum(axis=(1, 2)), heights * widths)
    assert set(heights) == set(widths) == {3, 4, 5, 6}
    assert cut.any(axis=0).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_blur_keeps_flat_images_and_spreads_a_point_as_a_gaussian(channels):
    flat = np.full((8, 8, channels), 33, np.uint8)
    np.testing.assert_array_equal(augment.blur(flat, 2.0), flat)
    point = np.zeros((21, 21, channels), np.uint8)
    point[10, 10] = 255
    y, x = np.mgrid[-10:11, -10:11]
    expected = 255 * np.exp(-(x**2 + y**2) / 2) / (2 * np.pi)
    assert np.abs(augment.blur(point, 1.0) - expected[..., None]).max() <= 1
