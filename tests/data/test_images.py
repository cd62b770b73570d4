"""Decoding of what people have on their discs, and configs' operations built strictly."""

import io
import pickle

import cv2
import numpy as np
import pytest
from PIL import Image

from zoo.config import UserError
from zoo.data.crops import resize
from zoo.data.images import OPS, build_ops, decode


def gradient(rows=30, cols=40):
    y, x = np.mgrid[:rows, :cols]
    return np.stack([x * 255 // cols, y * 255 // rows, (x + y) * 2 % 256], -1).astype(np.uint8)


def encode(image, form, *, mode=None, **options):
    file = io.BytesIO()
    pillow = Image.fromarray(image)
    (pillow.convert(mode) if mode else pillow).save(file, form, **options)
    return file.getvalue()


def test_a_jpeg_decodes_to_what_pillow_shows_in_rgb_order():
    data = encode(gradient(), "JPEG", quality=90)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode(data, 3) - expected).max() <= 2
    assert np.abs(decode(data, 3)[..., ::-1] - expected).max() > 100


@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("PNG", None, {}),
        ("PNG", "RGBA", {}),
        ("BMP", None, {}),
        ("TIFF", None, {}),
        ("WEBP", None, {"lossless": True}),
    ],
)
def test_lossless_files_decode_exactly(form, mode, options):
    data = encode(gradient(), form, mode=mode, **options)
    np.testing.assert_array_equal(decode(data, 3), gradient())


def test_alpha_is_dropped_and_not_blended():
    clear = np.dstack([gradient(), np.zeros((30, 40), np.uint8)])
    np.testing.assert_array_equal(decode(encode(clear, "PNG"), 3), gradient())


def test_sixteen_bits_keep_the_high_byte():
    deep = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    data = cv2.imencode(".png", deep)[1].tobytes()
    np.testing.assert_array_equal(decode(data, 1)[..., 0], deep >> 8)
    np.testing.assert_array_equal(decode(data, 3), np.repeat((deep >> 8)[..., None], 3, axis=-1))


def test_grey_becomes_rgb_and_colour_becomes_luma():
    grey = gradient()[..., 0]
    np.testing.assert_array_equal(
        decode(encode(grey, "PNG"), 3), np.repeat(grey[..., None], 3, axis=-1)
    )
    luma = np.asarray(Image.fromarray(gradient()).convert("L")).astype(int)
    assert np.abs(decode(encode(gradient(), "PNG"), 1)[..., 0] - luma).max() <= 1


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_exif_orientation_is_applied(form):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    upright = decode(encode(gradient(), form, exif=exif), 3)
    expected = np.rot90(decode(encode(gradient(), form), 3), -1)
    np.testing.assert_array_equal(upright, expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "data",
    [b"", b"not an image", encode(gradient(), "JPEG")[:-300], encode(gradient(), "PNG")[:-30]],
    ids=["empty", "text", "cut JPEG", "cut PNG"],
)
def test_what_is_no_image_raises(data, channels):
    with pytest.raises(ValueError, match=f"no readable image in {len(data)} bytes"):
        decode(data, channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_reduced_jpeg_keeps_min_side_and_looks_the_same(channels, progressive):
    data = encode(gradient(301, 400), "JPEG", quality=95, progressive=progressive)
    full = decode(data, channels)
    shapes = {min_side: decode(data, channels, min_side=min_side).shape for min_side in (30, 70)}
    assert shapes == {30: (38, 50, channels), 70: (76, 100, channels)}
    for min_side in (151, 1000):
        np.testing.assert_array_equal(decode(data, channels, min_side=min_side), full)
    # Of the smooth part: the third channel wraps around.
    half = decode(data, channels, min_side=150)[..., :2].astype(int)
    assert half.shape[:2] == (151, 200)
    if channels == 3:
        exact = resize(full, size=(151, 200), method="area")[..., :2]
        assert np.abs(half - exact).mean() < 4


def test_the_size_is_found_behind_other_segments():
    data = encode(gradient(301, 400), "JPEG", comment=b"x" * 300)
    at = data.index(b"\xff\xc4")  # a Huffman table may stand before the size
    table = data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
    data = data[:2] + table + data[2:]
    assert decode(data, 3, min_side=70).shape == (76, 100, 3)


def test_min_side_is_for_jpeg_alone():
    data = encode(gradient(301, 400), "PNG")
    assert decode(data, 3, min_side=10).shape == (301, 400, 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (37, 90)])
@pytest.mark.parametrize("name", OPS)
def test_every_op_works_at_every_size_and_repeats_with_the_seed(name, shape, channels):
    image = np.random.default_rng(0).integers(0, 256, (*shape, channels), dtype=np.uint8)
    before, size = image.copy(), (8, 8)
    to_size = {"op": "resize"}
    ops = build_ops([{"op": name}, to_size], size)
    for seed in range(10):
        first, second = (ops(image, np.random.default_rng(seed)) for _ in range(2))
        assert first.shape == (*size, channels)
        assert first.dtype == np.uint8
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    "name", [n for n in OPS if n not in ("resize", "resize_small", "central_crop")]
)
def test_random_ops_depend_on_the_seed(name):
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    ops = build_ops([{"op": name}, {"op": "resize"}], (24, 24))
    results = {ops(image, np.random.default_rng(seed)).tobytes() for seed in range(10)}
    assert len(results) > 1


def test_ops_run_in_order_and_pickle():
    ops = build_ops(
        [
            {"op": "resize_small", "crop_fraction": 0.5, "method": "bicubic_antialias"},
            {"op": "inception_crop", "area": [0.3, 1], "convention": "tf"},
            {"op": "randaugment", "num_ops": 3, "fill": [1, 2, 3], "interpolation": "bilinear"},
        ],
        16,
    )
    image = gradient()
    again = pickle.loads(pickle.dumps(ops))
    for seed in range(5):
        result = ops(image, np.random.default_rng(seed))
        assert result.shape == (16, 16, 3)
        np.testing.assert_array_equal(again(image, np.random.default_rng(seed)), result)


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (
            {"op": "randaugmet"},
            r"train_ops\[1\]: there is no op 'randaugmet'; did you mean",
        ),
        ({"num_ops": 2}, r"there is no op ''"),
        ({"op": "randaugment", "num_op": 2}, r"no option 'num_op'; did you mean 'num_ops'"),
        ({"op": "flip", "size": 3}, r"'flip': there is no option 'size'; there are: probability"),
        ({"op": "resize", "method": "bilinaer"}, r"method: 'bilinaer' is not valid; did you mean"),
        ({"op": "randaugment", "interpolation": "cubic"}, r"did you mean 'bicubic'"),
        ({"op": "flip", "probability": 1.5}, r"probability: 1.5: Expected `float` <= 1.0"),
        ({"op": "pad_crop", "pad": "4"}, r"pad: '4': Expected `int`"),
        ({"op": "inception_crop", "area": [0.1]}, r"area: \[0.1\]: Expected `array` of length 2"),
        ({"op": "inception_crop", "area": [0.1, 2]}, r"area: \[0.1, 2\]: Expected `float` <= 1"),
        ({"op": "gaussian_blur", "sigma": [2, 1]}, r"sigma \(2.0, 1.0\) is not \(least, most\)"),
    ],
)
def test_a_wrong_op_or_option_is_named_with_the_nearest(op, message):
    with pytest.raises(UserError, match=message):
        build_ops([{"op": "flip"}, op], (8, 8), where="config.data.train_ops")


def test_ops_that_leave_another_size_are_refused():
    ops = build_ops([{"op": "flip"}], (8, 8))
    with pytest.raises(UserError, match=r"leave 8 x 9 pixels, and data.image_size is 8 x 8"):
        ops(np.zeros((8, 9, 3), np.uint8), np.random.default_rng(0))


def test_only_a_random_crop_that_comes_first_allows_a_reduced_decoding():
    crop = {"op": "inception_crop", "area": (0.25, 1.0), "aspect": (1.0, 1.0)}
    assert build_ops([crop], (224, 224)).min_side == 672  # a crop of 25 % then has 336 pixels
    assert build_ops([{"op": "resize_crop", "crop_fraction": 0.5}], 100).min_side == 300
    for first in ("resize_small", "resize", "pad_crop", "flip"):
        assert build_ops([{"op": first}, crop], (224, 224)).min_side is None
    assert build_ops([], (224, 224)).min_side is None
