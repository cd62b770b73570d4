"""Encoded bytes -> pixels, and a config's list of operations -> one checked function."""

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args, get_origin, get_type_hints

import cv2
import msgspec
import numpy as np

from zoo.config import UserError
from zoo.config.load import nearest
from zoo.data import crops, policies
from zoo.data.crops import Image, Size

# libjpeg's scaled DCT: it decodes to a half, a quarter or an eighth for a fraction of the time.
_REDUCED = (
    (8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
    (4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
    (2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
)

OPS: Mapping[str, Callable[..., Image]] = {
    op.__name__: op
    for op in (
        crops.resize,
        crops.resize_small,
        crops.resize_crop,
        crops.central_crop,
        crops.random_crop,
        crops.pad_crop,
        crops.inception_crop,
        crops.flip,
        policies.color_jitter,
        policies.gaussian_blur,
        policies.three_augment,
        policies.randaugment,
        policies.autoaugment_cifar,
    )
}


def decode(data: bytes, channels: int, *, min_side: int | None = None) -> Image:
    """Decodes a JPEG, PNG, WebP, GIF (its first frame), BMP, TIFF or AVIF file.

    The EXIF orientation is applied, as every viewer does; TF and torchvision ignore it. Alpha is
    dropped, not blended, as in both of them. 16-bit samples keep their high byte. One channel of a
    colour JPEG is the luma stored in the file, up to a few levels from Pillow's `convert("L")`.

    Args:
      data: the file's content.
      channels: 3 for RGB (grey is repeated), 1 for grey.
      min_side: a JPEG may be decoded at 1/2, 1/4 or 1/8 as long as its shorter side keeps this many
        pixels; see `Ops.min_side`.

    Raises:
      ValueError: the bytes are no image that OpenCV reads, or end too early.
    """
    flags = cv2.IMREAD_COLOR_RGB if channels == 3 else cv2.IMREAD_GRAYSCALE
    side = _shorter_side(data) if min_side else None
    if side and min_side:
        flags |= next((flag for factor, flag in _REDUCED if side // factor >= min_side), 0)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:  # no bytes at all, or more pixels than OpenCV allows
        raise ValueError(f"no readable image in {len(data)} bytes: {error.err}") from error
    if image is None:
        raise ValueError(f"no readable image in {len(data)} bytes")
    return image.reshape(*image.shape[:2], channels)


def _shorter_side(data: bytes) -> int | None:
    """Of a JPEG, from its header; None for other files and for headers out of the ordinary."""
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while data[at : at + 1] == b"\xff" and at + 9 <= len(data):
        marker = data[at + 1]
        # Start of frame, whatever the coding; C4, C8 and CC in its range are tables.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            rows, cols = data[at + 5 : at + 7], data[at + 7 : at + 9]
            return min(int.from_bytes(rows, "big"), int.from_bytes(cols, "big"))
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


@dataclasses.dataclass(frozen=True)
class Ops:
    """Operations in a row; pickles, so that worker processes can have it."""

    steps: tuple[Callable[..., Image], ...]
    size: Size
    min_side: int | None  # pixels that `decode` must leave the shorter side; None: do not reduce

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """The same image and state of `rng` give the same result.

        Raises:
          UserError: an image is too small for a crop, or the result is not of `size`.
        """
        for step in self.steps:
            image = step(image, rng=rng)
        if image.shape[:2] != self.size:
            have, want = image.shape, self.size
            raise UserError(
                f"the image operations leave {have[0]} x {have[1]} pixels, and data.image_size is "
                f"{want[0]} x {want[1]}; end them with resize or a crop"
            )
        return image


def build_ops(ops: Sequence[Mapping[str, Any]], size: int | Size, *, where: str = "ops") -> Ops:
    """Binds the options of each operation and `size`.

    Args:
      ops: as in a config: `{"op": NAME, **options}`, each option by its name in the signature.
      size: data.image_size: a square's side, or (rows, cols).
      where: the config's key, for messages.

    Raises:
      UserError: no such operation or option, or a value of the wrong type or range.
    """
    size = (size, size) if isinstance(size, int) else size
    checked = [_check(op, f"{where}[{index}]") for index, op in enumerate(ops)]
    steps = tuple(_step(name, options, size) for name, options in checked)
    return Ops(steps, size, _min_side(*checked[0], size) if checked else None)


def _check(op: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """The operation's name and all its options, defaults filled in."""
    given = dict(op)
    name = given.pop("op", "")
    if name not in list(OPS):
        raise UserError(f"{where}: there is no op {name!r}{nearest(str(name), list(OPS))}")
    kinds = _option_types(OPS[name])
    parameters = inspect.signature(OPS[name]).parameters
    fields = [(option, kind, parameters[option].default) for option, kind in kinds.items()]
    struct = msgspec.defstruct(name, fields, forbid_unknown_fields=True, kw_only=True)
    try:
        options = msgspec.structs.asdict(msgspec.convert(given, struct))
    except msgspec.ValidationError as error:
        raise UserError(f"{where} {name!r}: {_explain(str(error), given, kinds)}") from error
    for option, value in options.items():
        if isinstance(value, tuple) and len(value) == 2 and value[0] > value[1]:
            raise UserError(f"{where} {name!r}: {option} {value} is not (least, most)")
    return name, options


def _option_types(function: Callable[..., Image]) -> dict[str, Any]:
    """What a config may set: every keyword but `rng` and `size`."""
    kinds = get_type_hints(function, include_extras=True)
    return {k: v for k, v in kinds.items() if k not in ("image", "rng", "size", "return")}


def _explain(message: str, given: Mapping[str, Any], kinds: Mapping[str, Any]) -> str:
    """msgspec's message in a user's words, with the nearest valid name."""
    message, _, path = message.partition(" - at `$.")
    unknown = [option for option in given if option not in kinds]
    if unknown:
        return f"there is no option {unknown[0]!r}{nearest(unknown[0], list(kinds))}"
    option = path.rstrip("`").partition("[")[0]
    choices = [c for c in _flatten(kinds[option]) if isinstance(c, str)]
    value = given[option]
    if choices:
        return f"{option}: {value!r} is not valid{nearest(str(value), choices)}"
    return f"{option}: {value!r}: {message}"


def _flatten(kind: Any) -> list[Any]:
    """The members of a Literal, also inside a union."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [member for inner in get_args(kind) for member in _flatten(inner)]


def _step(name: str, options: dict[str, Any], size: Size) -> Callable[..., Image]:
    """The operation as a function of (image, rng=...)."""
    function = OPS[name]
    parameters = inspect.signature(function).parameters
    if "size" in parameters:
        options = {**options, "size": size}
    if "rng" in parameters:
        return partial(function, **options)
    return partial(_without_rng, function, **options)


def _without_rng(
    function: Callable[..., Image], image: Image, *, rng: np.random.Generator, **options: Any
) -> Image:
    return function(image, **options)


def _min_side(name: str, options: Mapping[str, Any], size: Size) -> int | None:
    """Pixels of the shorter side that a random crop, first in the list, needs; None: all of them.

    The smallest crop keeps 1.5 times the pixels of the result. In a photo the reduced decoding then
    moves the result by 1 to 4 of 255 on average, less than to leave antialiasing out does; so it is
    for training only, and evaluation sees what a full decoding gives.
    """
    if name == "resize_crop":
        share = options["crop_fraction"]
    elif name == "inception_crop":
        narrowest = min(options["aspect"][0], 1 / options["aspect"][1])
        share = math.sqrt(options["area"][0] * narrowest)
    else:
        return None
    return math.ceil(1.5 * max(size) / share)
