"""A split of any kind of data as rows of a batch."""

from collections.abc import Callable
from typing import Any

from zoo.config import data as kinds
from zoo.config.data import DataConfig
from zoo.data.base import Rows
from zoo.data.image_rows import open_image_rows
from zoo.data.text.blocks import open_block_rows
from zoo.data.text.labelled import open_labelled_rows
from zoo.data.text.masking import open_masked_rows
from zoo.data.text.pairs import open_pair_rows
from zoo.data.text.questions import open_question_rows
from zoo.data.text.spans import open_span_rows
from zoo.data.text.tags import open_tag_rows

_OPEN: dict[type[DataConfig], Callable[..., Any]] = {
    kinds.ImageData: open_image_rows,
    kinds.LmData: open_block_rows,
    kinds.MaskedData: open_masked_rows,
    kinds.SpanData: open_span_rows,
    kinds.PairData: open_pair_rows,
    kinds.LabelledData: open_labelled_rows,
    kinds.TagData: open_tag_rows,
    kinds.QuestionData: open_question_rows,
}


def open_rows(data: DataConfig, split: str, *, train: bool) -> Rows:
    """Opens a split, or a slice of one, as rows of the kind of data that the config names.

    Args:
      split: `train`, `train[:99%]`, `test[1000:2000]`, ...
      train: whether rows are augmented and masked as for training.

    Raises:
      UserError: an unknown name or split, files that are missing or damaged, or options that do
        not fit.
    """
    return _OPEN[type(data)](data, split, train=train)
