"""Random augmentations made of the elementary ones, up to RandAugment and AutoAugment.

Published implementations of RandAugment differ in their operations and in what a magnitude means,
so each is a table of its own here. A table maps the name of a function of `zoo.data.augment` to the
strength, as a function of the level (0 to 1, more where the variant allows it), a random sign and
the length of the side that it moves along; or to None where there is no strength.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal, NamedTuple

import numpy as np
from msgspec import Meta

from zoo.data import augment
from zoo.data.augment import Fill, Interpolation
from zoo.data.crops import Image, Positive, Probability

Strength = Callable[[float, int, int], float] | None
NotNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]

_MOVES_PIXELS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


def _signed(most: float) -> Strength:
    return lambda level, sign, side: sign * most * level


def _whole(most: int) -> Strength:
    return lambda level, sign, side: int(most * level)


def _share_of_side(most: float) -> Strength:
    return lambda level, sign, side: sign * most * level * side


def _one_sided(level: float, sign: int, side: int) -> float:
    return 0.1 + 1.8 * level


def _two_sided(level: float, sign: int, side: int) -> float:
    return max(0.1, 1 + sign * 0.9 * level)


class Variant(NamedTuple):
    """A published RandAugment: its operations and its defaults."""

    ops: Mapping[str, Strength]
    top: float  # the magnitude that is level 1
    ceiling: float | None  # larger magnitudes are clipped
    magnitude: float
    magnitude_std: float
    probability: float  # of each drawn operation to be applied
    fill: Fill
    interpolation: Interpolation


_BIG_VISION: Mapping[str, Strength] = {
    "autocontrast": None,
    "equalize": None,
    "invert": None,
    "rotate": _signed(30.0),
    "posterize": _whole(4),  # bits: stronger at a lower magnitude
    "solarize": _whole(256),  # the threshold, likewise
    "color": _one_sided,
    "contrast": _one_sided,
    "brightness": _one_sided,
    "sharpness": _one_sided,
    "shear_x": _signed(0.3),
    "shear_y": _signed(0.3),
    "translate_x": _share_of_side(100 / 224),
    "translate_y": _share_of_side(100 / 224),
    "cutout": lambda level, sign, side: int(40 / 224 * level * side),
    "solarize_add": _whole(110),
}
_TIMM: Mapping[str, Strength] = {
    "autocontrast": None,
    "equalize": None,
    "invert": None,
    "rotate": _signed(30.0),
    "posterize": lambda level, sign, side: 4 - int(4 * level),
    "solarize": lambda level, sign, side: 256 - int(256 * level),
    "solarize_add": _whole(110),
    "color": _two_sided,
    "contrast": _two_sided,
    "brightness": _two_sided,
    "sharpness": _two_sided,
    "shear_x": _signed(0.3),
    "shear_y": _signed(0.3),
    "translate_x": _share_of_side(0.45),
    "translate_y": _share_of_side(0.45),
}
_TORCHVISION: Mapping[str, Strength] = {
    "identity": None,
    "shear_x": _signed(0.3),
    "shear_y": _signed(0.3),
    "translate_x": lambda level, sign, side: float(sign * int(150 / 331 * level * side)),
    "translate_y": lambda level, sign, side: float(sign * int(150 / 331 * level * side)),
    "rotate": _signed(30.0),
    "brightness": _two_sided,
    "color": _two_sided,
    "contrast": _two_sided,
    "sharpness": _two_sided,
    "posterize": lambda level, sign, side: 8 - round(4 * level),
    "solarize": lambda level, sign, side: 255 * (1 - level),
    "autocontrast": None,
    "equalize": None,
}
_VARIANTS = {
    "big_vision": Variant(_BIG_VISION, 10.0, None, 10.0, 0.0, 1.0, 128, "nearest"),
    "timm": Variant(_TIMM, 10.0, 10.0, 9.0, 0.5, 0.5, (124, 116, 104), "bicubic"),
    "torchvision": Variant(_TORCHVISION, 30.0, 30.0, 9.0, 0.0, 1.0, 0, "nearest"),
}

# AutoAugment's policy for CIFAR-10 (Cubuk 2018, table 7): (name, probability, strength 0..9) twice.
_CIFAR_OPS: Mapping[str, Strength] = {**_TORCHVISION, "invert": None}
_CIFAR_POLICY = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("autocontrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("autocontrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
)


def gaussian_blur(
    image: Image,
    *,
    rng: np.random.Generator,
    probability: Probability = 0.5,
    sigma: tuple[Positive, Positive] = (0.1, 2.0),
) -> Image:
    """Blurs by a Gaussian whose standard deviation, in pixels, is uniform in `sigma`."""
    if rng.random() >= probability:
        return image
    return augment.blur(image, rng.uniform(*sigma))


def color_jitter(
    image: Image,
    *,
    rng: np.random.Generator,
    brightness: NotNegative = 0.3,
    contrast: NotNegative = 0.3,
    saturation: NotNegative = 0.3,
) -> Image:
    """Factors uniform in 1 +- the option, at least 0, in random order: torchvision's ColorJitter.

    The defaults are DeiT-III's; there is no change of hue.
    """
    changes = (
        (augment.brightness, brightness),
        (augment.contrast, contrast),
        (augment.color, saturation),
    )
    for index in rng.permutation(len(changes)):
        change, most = changes[index]
        image = change(image, rng.uniform(max(0.0, 1 - most), 1 + most))
    return image


def three_augment(
    image: Image,
    *,
    rng: np.random.Generator,
    sigma: tuple[Positive, Positive] = (0.1, 2.0),
    threshold: Annotated[int, Meta(ge=0, le=256)] = 128,
) -> Image:
    """One of greyscale, solarize and Gaussian blur, each a third of the time (Touvron 2022).

    In DeiT-III a flip stands before it and `color_jitter` after.
    """
    choice = rng.integers(3)
    if choice == 0:
        return augment.grayscale(image)
    if choice == 1:
        return augment.solarize(image, threshold)
    return augment.blur(image, rng.uniform(*sigma))


def randaugment(
    image: Image,
    *,
    rng: np.random.Generator,
    variant: Literal["big_vision", "timm", "torchvision"] = "big_vision",
    num_ops: Count = 2,
    magnitude: NotNegative | None = None,
    magnitude_std: NotNegative | None = None,
    probability: Probability | None = None,
    fill: Fill | None = None,
    interpolation: Interpolation | None = None,
) -> Image:
    """Applies `num_ops` operations, drawn uniformly with replacement (Cubuk 2019).

    Variants, with their defaults of the options that are None:
      big_vision: the 16 operations of the TF code, magnitude 10 (its top, not its limit), fill 128,
        "nearest". Colour operations are one-sided: factors 0.1 to 1.9. Its pixels at 224 x 224,
        translate 100 and cutout 40, are kept as shares of the side (of the shorter one for cutout).
        The two errors of that code are not: contrast blends with the image's mean, not with a
        constant, and no value overflows.
      timm: "rand-m9-mstd0.5-inc1", 15 operations, magnitude N(9, 0.5) clipped to 0..10, each
        applied half the time; strength always grows with magnitude; ImageNet's mean as fill,
        "bicubic" (which timm takes from the resize that the config names; DeiT's).
      torchvision: 14 operations, magnitude 9 of 30, fill 0, "nearest", two-sided colour operations.

    Args:
      image: any size.
      rng: of this example.
      variant: which operations, and what magnitude means.
      num_ops: how many are drawn.
      magnitude: mean strength; 10 of big_vision and timm is 30 of torchvision.
      magnitude_std: of a normal distribution, drawn for each operation.
      probability: of each drawn operation to be applied.
      fill: of pixels that come from outside: one value, or RGB.
      interpolation: of rotate, shear and translate.
    """
    chosen = _VARIANTS[variant]
    magnitude = chosen.magnitude if magnitude is None else magnitude
    magnitude_std = chosen.magnitude_std if magnitude_std is None else magnitude_std
    probability = chosen.probability if probability is None else probability
    fill = chosen.fill if fill is None else fill
    interpolation = chosen.interpolation if interpolation is None else interpolation
    names = tuple(chosen.ops)
    for _ in range(num_ops):
        name = names[rng.integers(len(names))]
        if rng.random() >= probability:
            continue
        drawn = max(0.0, rng.normal(magnitude, magnitude_std))
        level = min(drawn, chosen.ceiling or drawn) / chosen.top
        image = _apply(name, chosen.ops[name], image, level, rng, fill, interpolation)
    return image


def autoaugment_cifar(
    image: Image,
    *,
    rng: np.random.Generator,
    fill: Fill = 128,
    interpolation: Interpolation = "nearest",
) -> Image:
    """One of the 25 pairs of operations that were found on CIFAR-10 (Cubuk 2018).

    Strengths are torchvision's, as in the small-ViT recipes: signs are random, a strength of 9 is
    the top, and a translation's top is 150 / 331 of the side.
    """
    for name, probability, strength in _CIFAR_POLICY[rng.integers(len(_CIFAR_POLICY))]:
        if rng.random() < probability:
            amount = _CIFAR_OPS[name]
            image = _apply(name, amount, image, strength / 9, rng, fill, interpolation)
    return image


def _apply(
    name: str,
    strength: Strength,
    image: Image,
    level: float,
    rng: np.random.Generator,
    fill: Fill,
    interpolation: Interpolation,
) -> Image:
    op = getattr(augment, name)
    if strength is None:
        return op(image)
    rows, cols = image.shape[:2]
    side = {"translate_x": cols, "translate_y": rows}.get(name, min(rows, cols))
    amount = strength(level, 1 if rng.random() < 0.5 else -1, side)
    if name in _MOVES_PIXELS:
        return op(image, amount, fill, interpolation)
    if name == "cutout":
        return op(image, amount, fill, rng=rng)
    return op(image, amount)
