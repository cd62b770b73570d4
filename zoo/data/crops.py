"""Resizing, cropping and flipping: how an image comes to the size that the model takes.

An image is a uint8 array of rows x cols x channels, RGB or one channel, of any size from one pixel
up. The functions that a config may name (`zoo.data.images.OPS`) take the image first, then by
keyword `size` (rows, cols) and `rng` where they need them, then their options.
"""

import math
from typing import Annotated, Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from msgspec import Meta
from PIL import Image as Pillow

from zoo.config import UserError

Image = UInt8[np.ndarray, "_ _ channels"]
Size = tuple[int, int]  # rows, cols
Box = tuple[int, int, int, int]  # top, left, rows, cols
Probability = Annotated[float, Meta(ge=0, le=1)]
Fraction = Annotated[float, Meta(gt=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]

# How pixels are resampled; all with half-pixel centres, rounded to the nearest integer.
#   bilinear, bicubic: OpenCV, four and sixteen neighbours (cubic a = -0.75) and no antialiasing:
#     what TF's resize does by default, up to its cubic (a = -0.5).
#   area: OpenCV, the mean of the covered area when shrinking, TF's "area"; enlarges bilinearly.
#   *_antialias: Pillow, the kernel (cubic a = -0.5) widened by the scale: torchvision's on PIL
#     images, and TF's with antialias=True.
Method = Literal["bilinear", "area", "bicubic", "bilinear_antialias", "bicubic_antialias"]
_OPENCV = {
    "bilinear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "bicubic": cv2.INTER_CUBIC,
}
_PILLOW = {
    "bilinear_antialias": Pillow.Resampling.BILINEAR,
    "bicubic_antialias": Pillow.Resampling.BICUBIC,
}


def resize(image: Image, *, size: Size, method: Method = "bilinear") -> Image:
    """Resizes to `size` whatever the aspect, as vit_jax does for evaluation."""
    rows, cols = size
    if image.shape[:2] == size:
        return image
    if method in _OPENCV:
        resized = cv2.resize(image, (cols, rows), interpolation=_OPENCV[method])
        return resized.reshape(rows, cols, -1)
    return from_pillow(to_pillow(image).resize((cols, rows), _PILLOW[method]))


def resize_small(
    image: Image,
    *,
    size: Size,
    crop_fraction: Fraction = 1.0,
    method: Method = "area",
    rounding: Literal["nearest", "down"] = "nearest",
) -> Image:
    """Resizes, keeping the aspect, so that `size` is `crop_fraction` of the shorter side.

    big_vision's `resize_small(256)` before a crop of 224 is crop_fraction=0.875, method="area".
    timm's and torchvision's sizes are those of rounding="down" with "bicubic_antialias". For a
    `size` that is no square, the image just covers `size` / `crop_fraction`.
    """
    whole = round if rounding == "nearest" else math.floor
    rows, cols = image.shape[:2]
    want_rows, want_cols = (whole(side / crop_fraction) for side in size)
    if want_rows * cols >= want_cols * rows:  # the rows are the shorter side
        shape = want_rows, max(want_cols, whole(cols * want_rows / rows))
    else:
        shape = max(want_rows, whole(rows * want_cols / cols)), want_cols
    return resize(image, size=shape, method=method)


def central_crop(image: Image, *, size: Size) -> Image:
    """Cuts `size` out of the middle; an odd pixel stays at the bottom and right (big_vision's)."""
    _check_covers(image, size, "central_crop")
    top, left = ((have - want) // 2 for have, want in zip(image.shape[:2], size, strict=True))
    return image[top : top + size[0], left : left + size[1]]


def random_crop(image: Image, *, rng: np.random.Generator, size: Size) -> Image:
    """Cuts `size` out at a place that is uniform over all possible ones."""
    _check_covers(image, size, "random_crop")
    top, left = _corner(rng, image.shape[:2], size)
    return image[top : top + size[0], left : left + size[1]]


def resize_crop(
    image: Image,
    *,
    rng: np.random.Generator,
    size: Size,
    crop_fraction: Fraction = 0.875,
    method: Method = "bilinear",
) -> Image:
    """`resize_small`, then `random_crop`: the crop of big_vision's transfers to small data sets.

    The simple random crop of DeiT-III is `resize_small` with "bicubic_antialias", then `pad_crop`
    with mode="reflect".
    """
    larger = resize_small(image, size=size, crop_fraction=crop_fraction, method=method)
    return random_crop(larger, rng=rng, size=size)


def pad_crop(
    image: Image,
    *,
    rng: np.random.Generator,
    size: Size,
    pad: Annotated[int, Meta(ge=0)] = 4,
    mode: Literal["zero", "reflect"] = "zero",
) -> Image:
    """Pads each side by `pad` pixels, then `random_crop`: the augmentation of CIFAR and MNIST.

    "reflect" does not repeat the border pixel (NumPy's and torchvision's "reflect").
    """
    border = cv2.BORDER_CONSTANT if mode == "zero" else cv2.BORDER_REFLECT_101
    padded = cv2.copyMakeBorder(image, pad, pad, pad, pad, border, value=(0, 0, 0))
    return random_crop(padded.reshape(*padded.shape[:2], -1), rng=rng, size=size)


def inception_crop(
    image: Image,
    *,
    rng: np.random.Generator,
    size: Size,
    convention: Literal["torchvision", "tf"] = "torchvision",
    area: tuple[Fraction, Fraction] = (0.08, 1.0),
    aspect: tuple[Positive, Positive] = (3 / 4, 4 / 3),
    method: Method = "bilinear",
) -> Image:
    """Cuts out a random box and resizes it to `size` (Szegedy 2014).

    Args:
      image: any size.
      rng: of this example.
      size: of the result.
      convention: how the box is drawn: `torchvision_box` or `tf_box`.
      area: the box's least and largest share of the image; big_vision has (0.05, 1).
      aspect: least and largest cols / rows; big_vision has (0.75, 1.33).
      method: of the resize; "bilinear" is big_vision's, "bicubic_antialias" DeiT's.
    """
    draw = tf_box if convention == "tf" else torchvision_box
    rows, cols = image.shape[:2]
    top, left, height, width = draw(rows, cols, rng, area=area, aspect=aspect)
    return resize(image[top : top + height, left : left + width], size=size, method=method)


def flip(image: Image, *, rng: np.random.Generator, probability: Probability = 0.5) -> Image:
    """Mirrors left and right."""
    if rng.random() >= probability:
        return image
    return cv2.flip(image, 1).reshape(image.shape)


def tf_box(
    rows: int,
    cols: int,
    rng: np.random.Generator,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> Box:
    """A box as TF's `sample_distorted_bounding_box` draws it with no object to cover.

    The aspect is uniform, then the height is uniform over what area and image allow: small crops
    are more frequent than with `torchvision_box`. After 100 failures the whole image. (TF never
    places a box at the very last row or column; here it may.)
    """
    smallest, largest = (share * rows * cols for share in area)
    for _ in range(100):
        ratio = rng.uniform(*aspect)
        tallest = min(round(math.sqrt(largest / ratio)), rows)
        if round(tallest * ratio) > cols:
            tallest = math.floor((cols + 0.5) / ratio)
            tallest -= round(tallest * ratio) > cols
        height = min(round(math.sqrt(smallest / ratio)), tallest)
        height = int(rng.integers(height, tallest + 1))
        # Rounding may have left the range of areas by a row: TF tries one more, or one less.
        if height * round(height * ratio) < smallest:
            height += 1
        if height * round(height * ratio) > largest:
            height -= 1
        width = round(height * ratio)
        if smallest <= height * width <= largest and 0 < height <= rows and 0 < width <= cols:
            return *_corner(rng, (rows, cols), (height, width)), height, width
    return 0, 0, rows, cols


def torchvision_box(
    rows: int,
    cols: int,
    rng: np.random.Generator,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> Box:
    """A box as torchvision's and timm's `RandomResizedCrop` draw it.

    The area is uniform and the aspect log-uniform. After 10 failures the largest central box whose
    aspect is in range.
    """
    for _ in range(10):
        pixels = rng.uniform(*area) * rows * cols
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        height, width = round(math.sqrt(pixels / ratio)), round(math.sqrt(pixels * ratio))
        if 0 < height <= rows and 0 < width <= cols:
            return *_corner(rng, (rows, cols), (height, width)), height, width
    height = min(rows, max(1, round(cols / aspect[0])))
    width = min(cols, max(1, round(rows * aspect[1])))
    return (rows - height) // 2, (cols - width) // 2, height, width


def to_pillow(image: Image) -> Pillow.Image:
    """As mode RGB, or L for one channel."""
    return Pillow.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def from_pillow(image: Pillow.Image) -> Image:
    """Of mode RGB or L; the array is writable."""
    pixels = np.array(image)
    return pixels.reshape(*pixels.shape[:2], -1)


def _corner(rng: np.random.Generator, outer: Size, inner: Size) -> tuple[int, int]:
    rows, cols = outer[0] - inner[0], outer[1] - inner[1]
    return int(rng.integers(rows + 1)), int(rng.integers(cols + 1))


def _check_covers(image: Image, size: Size, op: str) -> None:
    rows, cols = image.shape[:2]
    if rows < size[0] or cols < size[1]:
        raise UserError(
            f"{op}: the image has {rows} x {cols} pixels and data.image_size is "
            f"{size[0]} x {size[1]}; put resize or resize_small before it"
        )
