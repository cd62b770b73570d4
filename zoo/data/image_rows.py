"""Labelled images as rows of a batch: read, decoded, augmented."""

import functools

import cv2
import numpy as np
from jaxtyping import UInt8

from zoo.config import UserError
from zoo.config.data import ImageData
from zoo.data.base import Row, Rows, Source, Unreadable
from zoo.data.images import build_ops, decode
from zoo.data.sources import open_source


def open_image_rows(data: ImageData, split: str, *, train: bool) -> Rows:
    """The rows of a split, augmented by `train_ops` or prepared by `eval_ops`.

    Raises:
      UserError: as `open_source`, or `build_ops` refuses the operations.
    """
    return ImageRows(open_source(data, split), data, train=train)


class ImageRows:
    """`image` uint8 [rows, cols, channels] and `label` int32."""

    def __init__(self, source: Source, data: ImageData, *, train: bool):
        self._anew = functools.partial(ImageRows, source, data, train=train)
        self._source, self._data = source, data
        self.classes, self.repeats = source.classes, data.repeats
        key = "train_ops" if train else "eval_ops"
        self._ops = build_ops(getattr(data, key), data.image_size, where=f"data.{key}")
        # Threads take whole images; OpenCV's own, within one image, would compete with them.
        cv2.setNumThreads(1)

    def __reduce__(self):
        return self._anew, ()

    def __len__(self) -> int:
        return len(self._source)

    def describe(self, index: int) -> str:
        return self._source.describe(index)

    def make(self, index: int, rng: np.random.Generator) -> Row:
        """One image, ready; `rng` decides how it is augmented.

        Raises:
          Unreadable: the bytes are no image, and `on_bad_image` says to skip such.
          UserError: they are none and it says to stop; an image without a label or of a size that
            the operations cannot do.
        """
        try:
            image, label = self._read(index)
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a damaged ArrayRecord
            if self._data.on_bad_image == "skip":
                raise Unreadable(str(error)) from error
            raise UserError(
                f"{self.describe(index)} is no readable image ({error}): mend or remove it, or "
                "set data.on_bad_image='skip'; `zoo data check` finds all of them"
            ) from error
        if label < 0:
            raise UserError(
                f"{self.describe(index)} has the label {label}: this split has no labels"
            )
        try:
            return {"image": self._ops(image, rng), "label": label}
        except UserError as error:
            raise UserError(f"{self.describe(index)}: {error}") from error

    def _read(self, index: int) -> tuple[UInt8[np.ndarray, "_ _ channels"], int]:
        example = self._source[index]
        image = example["image"]
        if isinstance(image, bytes):
            image = decode(image, self._data.channels, min_side=self._ops.min_side)
        return to_channels(image, self._data.channels), example["label"]


def to_channels(
    image: UInt8[np.ndarray, "rows cols _"], channels: int
) -> UInt8[np.ndarray, "rows cols channels"]:
    """Repeats grey as RGB, or weighs RGB to grey as `decode` does."""
    if image.shape[-1] == channels:
        return image
    code = cv2.COLOR_GRAY2RGB if channels == 3 else cv2.COLOR_RGB2GRAY
    return cv2.cvtColor(image, code).reshape(*image.shape[:2], channels)
