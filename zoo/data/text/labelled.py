"""Rows for classifying texts, or pairs of texts, and for scoring them by a number."""

import math
from typing import Any

import numpy as np

from zoo.config import UserError
from zoo.config.data import LabelledData
from zoo.config.load import nearest
from zoo.data.base import Row
from zoo.data.text.base import Documents, Examples, Tokens, Vocabulary
from zoo.data.text.layout import Frame, longest_first, make_frame
from zoo.data.text.records import label_names, open_records
from zoo.data.text.token_store import open_tokens
from zoo.data.text.tokenizers import load_tokenizer


def open_labelled_rows(data: LabelledData, split: str, *, train: bool) -> "LabelledRows":
    """The rows of a split, the same in training and evaluation; classes are the training split's.

    Raises:
      UserError: as `open_tokens`; a tokenizer without [CLS], [SEP] or [PAD].
    """
    tokenizer = load_tokenizer(data.tokenizer)
    names = ("text", "text_pair") if data.pair else ("text",)
    texts = tuple(open_tokens(data, split, name, tokenizer) for name in names)
    records = open_records(data, split)
    classes = () if data.regression else label_names(open_records(data, data.train_split), data)
    return LabelledRows(texts, records, tokenizer, data, classes=classes)


class LabelledRows:
    """`tokens`, `type` and `segment` int32 [T] as `Frame` makes them, and `label`: int32, the
    class, or float32, the number.
    """

    repeats = 1

    def __init__(
        self,
        texts: tuple[Documents, ...],
        records: Examples,
        vocabulary: Vocabulary,
        data: LabelledData,
        *,
        classes: tuple[str, ...],
    ):
        self.classes = classes
        self._texts, self._records, self._data = texts, records, data
        self._frame = make_frame(vocabulary, data.length, "text_classification")
        if self._frame.room(len(texts)) < len(texts):
            raise UserError(f"data.length is {data.length}: special tokens leave no room for text")
        self._numbers = number_of(classes)

    def __len__(self) -> int:
        return len(self._records)

    def describe(self, index: int) -> str:
        return self._records.describe(index)

    def make(self, index: int, rng: np.random.Generator) -> Row:
        """One row; nothing in it is random.

        Raises:
          UserError: a label that is not there, no number, or none of the training split's.
        """
        row = cut_to_frame(self._frame, *(texts[index] for texts in self._texts))
        return {**row, "label": self._label(index)}

    def _label(self, index: int) -> int | float:
        label: Any = self._records[index]["label"]
        if not self._data.regression:
            return find_class(label, self._numbers, self.describe(index))
        try:
            number = float(label)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise UserError(
                f"{self.describe(index)} has the label {label!r}, which is no number: regression "
                "needs one; for classes set data.regression=False"
            )
        return number


def cut_to_frame(frame: Frame, first: Tokens, second: Tokens | None = None) -> Row:
    """One text or two in a frame; what is too long is cut at its end, the longer one first."""
    if second is None:
        return frame(first[: frame.room(1)])
    lengths = longest_first(len(first), len(second), frame.room(2))
    return frame(first[: lengths[0]], second[: lengths[1]])


def number_of(classes: tuple[str, ...]) -> dict[str, int]:
    """Each class's number by its name."""
    return {name: number for number, name in enumerate(classes)}


def find_class(label: object, numbers: dict[str, int], where: str) -> int:
    """The number of a class.

    Raises:
      UserError: there is no such class.
    """
    number = numbers.get(str(label))
    if number is None:
        raise UserError(
            f"{where} has the label {label!r}, which no example of data.train_split has"
            f"{nearest(str(label), list(numbers))}"
        )
    return number
