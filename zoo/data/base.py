"""What a source of examples is, slices of one (`train[:99%]`), and sources that fit in memory."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypedDict, runtime_checkable

import numpy as np
from jaxtyping import Integer, UInt8

from zoo.config import UserError
from zoo.config.load import nearest


class Example(TypedDict):
    """One labelled image."""

    image: np.ndarray | bytes  # uint8 rows x cols x channels, or an encoded file
    label: int


@runtime_checkable
class Source(Protocol):
    """Random access to the examples of one split; it pickles, so that worker processes can read."""

    classes: tuple[str, ...]  # names, in the order of the labels

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...

    def describe(self, index: int) -> str:
        """A file name, or `train[17]`: for messages and reports."""
        ...


Row = dict[str, Any]  # what one example brings to a batch: arrays and numbers, by name


class Unreadable(Exception):
    """An example that cannot be read, and whose place another may take."""


@runtime_checkable
class Rows(Protocol):
    """The examples of one split as rows of a batch, whose arrays `zoo.data.shapes` names; pickles,
    as a source does.
    """

    classes: tuple[str, ...]  # names, in the order of the labels; () where there are none
    repeats: int  # neighbouring rows of a batch that are made of the same example

    def __len__(self) -> int: ...

    def make(self, index: int, rng: np.random.Generator) -> Row:
        """One row; what is random in it is drawn from `rng`.

        Raises:
          Unreadable: another may take its place.
          UserError: nothing can go on.
        """
        ...

    def describe(self, index: int) -> str:
        """As of a source."""
        ...


class ArraySource:
    """A split whose decoded images are in memory."""

    def __init__(
        self,
        image: UInt8[np.ndarray, "N rows cols channels"],
        label: Integer[np.ndarray, " N"],
        *,
        classes: tuple[str, ...],
        name: str,
        reopen: Callable[[], "ArraySource"],
    ):
        """Args: `reopen` is what travels to another process in place of the pixels."""
        if len(image) != len(label):
            raise UserError(f"{name} has {len(image)} images and {len(label)} labels")
        if len(label) and not 0 <= label.min() <= label.max() < len(classes):
            raise UserError(
                f"{name} has labels {label.min()} to {label.max()}, but {len(classes)} classes"
            )
        self.classes = classes
        self._image, self._label, self._name, self._reopen = image, label, name, reopen

    def __len__(self) -> int:
        return len(self._label)

    def __getitem__(self, index: int) -> Example:
        return {"image": self._image[index], "label": int(self._label[index])}

    def describe(self, index: int) -> str:
        return f"{self._name}[{index}]"

    def __reduce__(self):
        return self._reopen, ()


class Slice:
    """Examples [start, stop) of a source, counted from 0."""

    def __init__(self, source: Source, start: int, stop: int):
        self.source, self.start, self.stop = source, start, stop
        self.classes = source.classes

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.source[self.start + index]

    def describe(self, index: int) -> str:
        return self.source.describe(self.start + index)


class Split(NamedTuple):
    """A split by name and, as text, the bounds of a slice; both empty for all of it."""

    name: str
    start: str = ""
    stop: str = ""

    def of(self, source: Source) -> Source:
        """The named slice of the opened split.

        Raises:
          UserError: a bound past the end, or nothing between the bounds.
        """
        start, stop = self.bounds(len(source))
        return source if (start, stop) == (0, len(source)) else Slice(source, start, stop)

    def bounds(self, count: int) -> tuple[int, int]:
        """The named slice of `count` examples: its first, and the one after its last.

        Raises:
          UserError: a bound past the end, or nothing between the bounds.
        """
        start = _bound(self.start or "0", count)
        stop = _bound(self.stop or "100%", count)
        if not 0 <= start < stop <= count:
            raise UserError(
                f"split {self.name}[{self.start}:{self.stop}] is examples {start} to {stop} "
                f"of {count}: give bounds with examples between them"
            )
        return start, stop


def parse_split(text: str) -> Split:
    """Reads `train`, `train[:99%]`, `train[1000:2000]` or `train[-10%:]`, as TFDS does.

    Raises:
      UserError: anything else.
    """
    bound = r"-?\d+(?:\.\d+)?%|-?\d+"
    match = re.fullmatch(rf"([\w-]+)(?:\[({bound})?:({bound})?\])?", text.strip())
    if not match:
        raise UserError(
            f"split {text!r} is neither a split's name nor a slice of one, such as "
            "train[:99%], train[1000:2000] or train[-10%:]"
        )
    return Split(match[1], match[2] or "", match[3] or "")


def no_split(name: str, splits: tuple[str, ...] | list[str], where: object) -> UserError:
    """The complaint about a split that a dataset does not have."""
    return UserError(f"{where} has no split {name!r}{nearest(name, list(splits))}")


def _bound(text: str, count: int) -> int:
    """The absolute place of `-10%` or `1000`; percentages round to the nearest example."""
    if text.endswith("%"):
        percent = float(text[:-1])
        place = round(percent * count / 100)
        return place + count if percent < 0 else place
    return int(text) + count if text.startswith("-") else int(text)
