"""Elementary changes of colour and geometry, equal to Pillow's; `zoo.data.policies` draws them.

Each takes an image (uint8, rows x cols x channels, one channel or RGB) and its strength. Where the
result is a table look-up or a small sum, OpenCV computes it up to 9 times faster than Pillow (and
at most 1 of 255 apart, where Pillow cuts a fraction off); where pixels move, it is Pillow's own
code, since OpenCV places samples on a grid of 1/32 pixel and mixes the fill into the border.
"""

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image as Pillow

from zoo.data.crops import Image, from_pillow, to_pillow

Fill = int | tuple[int, int, int]  # of pixels that come from outside; grey images take the mean
Interpolation = Literal["nearest", "bilinear", "bicubic"]
_RESAMPLING = {
    "nearest": Pillow.Resampling.NEAREST,
    "bilinear": Pillow.Resampling.BILINEAR,
    "bicubic": Pillow.Resampling.BICUBIC,
}
_LEVELS = np.arange(256)


def identity(image: Image) -> Image:
    """No change: one of torchvision's choices."""
    return image


def invert(image: Image) -> Image:
    """255 - x."""
    return cv2.bitwise_not(image).reshape(image.shape)


def autocontrast(image: Image) -> Image:
    """Stretches each channel so that its extremes become 0 and 255."""
    tables = []
    for channel in cv2.split(image):
        low, high, *_ = cv2.minMaxLoc(channel)
        scale = 255.0 / (high - low) if high > low else 1.0
        offset = -low * scale if high > low else 0.0
        tables.append(np.clip((_LEVELS * scale + offset).astype(int), 0, 255))
    return _look_up(image, tables)


def equalize(image: Image) -> Image:
    """Flattens each channel's histogram, with Pillow's integer steps."""
    tables = []
    for counts in _histograms(image):
        present = np.flatnonzero(counts)
        step = (image[..., 0].size - counts[present[-1]]) // 255
        if step:
            before = np.cumsum(counts) - counts
            tables.append(np.clip((step // 2 + before) // step, 0, 255))
        else:
            tables.append(_LEVELS)
    return _look_up(image, tables)


def posterize(image: Image, bits: int) -> Image:
    """Keeps the high `bits` of each value; below 1 counts as 1 (TF's shift does the same)."""
    shift = 8 - min(max(bits, 1), 8)
    return _look_up(image, [_LEVELS >> shift << shift])


def solarize(image: Image, threshold: int | float = 128) -> Image:
    """Inverts the values from `threshold` up; 256 changes nothing."""
    return _look_up(image, [np.where(threshold > _LEVELS, _LEVELS, 255 - _LEVELS)])


def solarize_add(image: Image, addition: int, threshold: int = 128) -> Image:
    """Adds to the values below `threshold`, and clips at 255."""
    return _look_up(
        image, [np.where(threshold > _LEVELS, np.clip(_LEVELS + addition, 0, 255), _LEVELS)]
    )


def brightness(image: Image, factor: float) -> Image:
    """0 is black, 1 no change."""
    return _look_up(image, [_blend_levels(0, factor)])


def contrast(image: Image, factor: float) -> Image:
    """0 is the mean of the grey image everywhere, 1 no change."""
    mean = int(_luma(image).mean() + 0.5)
    return _look_up(image, [_blend_levels(mean, factor)])


def color(image: Image, factor: float) -> Image:
    """0 is grey, 1 no change; a one-channel image is left as it is."""
    if image.shape[-1] == 1:
        return image
    return _blend(cv2.cvtColor(_luma(image), cv2.COLOR_GRAY2RGB), image, factor)


def grayscale(image: Image) -> Image:
    """The luma, in each channel."""
    return color(image, 0.0)


def sharpness(image: Image, factor: float) -> Image:
    """0 is smoothed by a 3 x 3 kernel (except for the border), 1 no change, 2 sharpened."""
    smooth = image.copy()
    if min(image.shape[:2]) >= 3:
        kernel = np.ones((3, 3), np.float32)
        kernel[1, 1] = 5
        filtered = cv2.filter2D(image, -1, kernel / 13).reshape(image.shape)
        smooth[1:-1, 1:-1] = filtered[1:-1, 1:-1]
    return _blend(smooth, image, factor)


def rotate(image: Image, degrees: float, fill: Fill, interpolation: Interpolation) -> Image:
    """Counter-clockwise about the centre."""
    rotated = to_pillow(image).rotate(
        degrees, _RESAMPLING[interpolation], fillcolor=_fill_for(image, fill)
    )
    return from_pillow(rotated)


def shear_x(image: Image, shear: float, fill: Fill, interpolation: Interpolation) -> Image:
    """Pixel (x, y) comes from (x + shear * y, y); the top row stays."""
    return _affine(image, (1.0, shear, 0.0, 0.0, 1.0, 0.0), fill, interpolation)


def shear_y(image: Image, shear: float, fill: Fill, interpolation: Interpolation) -> Image:
    """Pixel (x, y) comes from (x, y + shear * x); the left column stays."""
    return _affine(image, (1.0, 0.0, 0.0, shear, 1.0, 0.0), fill, interpolation)


def translate_x(image: Image, pixels: float, fill: Fill, interpolation: Interpolation) -> Image:
    """Pixel (x, y) comes from (x + pixels, y)."""
    return _affine(image, (1.0, 0.0, pixels, 0.0, 1.0, 0.0), fill, interpolation)


def translate_y(image: Image, pixels: float, fill: Fill, interpolation: Interpolation) -> Image:
    """Pixel (x, y) comes from (x, y + pixels)."""
    return _affine(image, (1.0, 0.0, 0.0, 0.0, 1.0, pixels), fill, interpolation)


def cutout(image: Image, half: int, fill: Fill, *, rng: np.random.Generator) -> Image:
    """Fills a square of side 2 `half` whose centre is any pixel, cut off at the border."""
    rows, cols = image.shape[:2]
    row, col = int(rng.integers(rows)), int(rng.integers(cols))
    result = image.copy()
    result[max(row - half, 0) : row + half, max(col - half, 0) : col + half] = _fill_for(
        image, fill
    )
    return result


def blur(image: Image, sigma: float) -> Image:
    """By a Gaussian of standard deviation `sigma` pixels; the border is repeated outwards.

    Pillow's GaussianBlur approximates it by three box blurs: 0.3 of 255 from this on average in a
    photo, up to 10 at edges.
    """
    blurred = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return blurred.reshape(image.shape)


def _look_up(image: Image, tables: Sequence[np.ndarray]) -> Image:
    """Applies one table of 256 values, or one a channel."""
    table = np.stack(tables, axis=-1).astype(np.uint8)[None]
    return cv2.LUT(image, table).reshape(image.shape)


def _histograms(image: Image) -> list[np.ndarray]:
    """Each channel's 256 counts."""
    channels = range(image.shape[-1])
    histograms = [cv2.calcHist([image], [c], None, [256], [0, 256]) for c in channels]
    return [counts.ravel().astype(np.int64) for counts in histograms]


def _luma(image: Image) -> UInt8[np.ndarray, "rows cols"]:
    """Pillow's grey: 0.299 R + 0.587 G + 0.114 B, rounded in 16 bits (OpenCV keeps 15)."""
    return np.asarray(to_pillow(image).convert("L"))


def _blend_levels(base: int, factor: float) -> np.ndarray:
    """The table of Pillow's blend from the constant `base`; in float32 and cut off, as there."""
    levels = np.float32(base) + np.float32(factor) * (_LEVELS - base).astype(np.float32)
    return np.clip(levels, 0, 255).astype(np.uint8)


def _blend(base: Image, image: Image, factor: float) -> Image:
    """Pillow's blend: `base` for factor 0, `image` for 1, beyond it for more.

    addWeighted rounds where Pillow cuts off: less 0.499 is the same except for the last 0.001.
    """
    mixed = cv2.addWeighted(image, factor, base, 1 - factor, -0.499)
    return mixed.reshape(image.shape)


def _fill_for(image: Image, fill: Fill) -> int | tuple[int, int, int]:
    """One value for a one-channel image, three for RGB."""
    if image.shape[-1] == 1:
        return fill if isinstance(fill, int) else round(sum(fill) / 3)
    return (fill, fill, fill) if isinstance(fill, int) else fill


def _affine(
    image: Image, matrix: tuple[float, ...], fill: Fill, interpolation: Interpolation
) -> Image:
    """Pixel (x, y) comes from (a x + b y + c, d x + e y + f), both counted at pixel centres."""
    source = to_pillow(image)
    moved = source.transform(
        source.size,
        Pillow.Transform.AFFINE,
        matrix,
        resample=_RESAMPLING[interpolation],
        fillcolor=_fill_for(image, fill),
    )
    return from_pillow(moved)
