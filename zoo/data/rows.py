"""A split of any kind of data as rows of a batch."""

from zoo.config.data import DataConfig, ImageData
from zoo.data.base import Rows
from zoo.data.image_rows import open_image_rows


def open_rows(data: DataConfig, split: str, *, train: bool) -> Rows:
    """Opens a split, or a slice of one, as rows of the kind of data that the config names.

    Args:
      split: `train`, `train[:99%]`, `test[1000:2000]`, ...
      train: whether rows are augmented and masked as for training.

    Raises:
      UserError: an unknown name or split, files that are missing or damaged, or options that do
        not fit.
    """
    if isinstance(data, ImageData):
        return open_image_rows(data, split, train=train)
    raise TypeError(f"no rows of {type(data).__name__}")
