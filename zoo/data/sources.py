"""A dataset's name -> random access to its examples."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from zoo.config import UserError
from zoo.config.data import ImageData
from zoo.data.base import ArraySource, Example, Source, no_split, parse_split
from zoo.data.catalog import check_name, data_dir
from zoo.data.folder import FolderSource, folder_splits
from zoo.data.official import SPLITS, open_cifar, open_mnist
from zoo.data.record import RecordSource, read_info
from zoo.data.tfds import import_tfds, open_builder, open_examples

DIGITS_TEST_PER_CLASS = 36


def open_source(data: ImageData, split: str) -> Source:
    """Opens a split, or a slice of one, of the dataset that a config names.

    A directory that holds a prepared dataset is read as such, whatever the name.

    Args:
      data: `name` and `dir` count.
      split: `train`, `train[:99%]`, `test[1000:2000]`, ...

    Raises:
      UserError: an unknown name or split, or files that are missing or damaged.
    """
    check_name(data.name)
    part = parse_split(split)
    root = data_dir(data)
    info = read_info(root, data.name)
    if info is not None:
        return part.of(RecordSource(root, info, part.name))
    if data.name.startswith("tfds:"):
        return part.of(TfdsSource(data.name, data.dir, part.name))
    if data.name == "folder":
        return part.of(FolderSource(root, part.name))
    return part.of(_open_in_memory(data.name, root, part.name))


def list_splits(data: ImageData) -> tuple[str, ...]:
    """The splits that the dataset has.

    Raises:
      UserError: an unknown name, or files that are missing.
    """
    check_name(data.name)
    root = data_dir(data)
    info = read_info(root, data.name)
    if info is not None:
        return tuple(info.splits)
    if data.name.startswith("tfds:"):
        return tuple(open_builder(data.name, data.dir).info.splits)
    return folder_splits(root) if data.name == "folder" else SPLITS


# Kept for the life of the process: every evaluation opens its split again.
@functools.lru_cache(maxsize=4)
def _open_in_memory(name: str, root: Path, split: str) -> ArraySource:
    if name == "digits":
        return open_digits(split)
    return (open_cifar if name.startswith("cifar") else open_mnist)(name, root, split)


def open_digits(split: str) -> ArraySource:
    """scikit-learn's 1,797 scans of handwritten digits: 8 x 8 x 1, levels 0..16 scaled to 0..255.

    Of each digit, 36 scans that are spread evenly over the file are for testing (360), the other
    1,437 for training. The file goes writer by writer, so both splits have the same writers.
    """
    if split not in SPLITS:
        raise no_split(split, SPLITS, "digits")
    # It takes a second to import, and no other dataset needs it.
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    label = bunch.target.astype(np.int32)
    is_test = np.zeros(len(label), bool)
    for digit in range(10):
        (places,) = np.nonzero(label == digit)
        spread = (np.arange(DIGITS_TEST_PER_CLASS) + 0.5) * len(places) / DIGITS_TEST_PER_CLASS
        is_test[places[spread.astype(int)]] = True
    chosen = is_test if split == "test" else ~is_test
    image = np.round(bunch.images[chosen] * (255 / 16)).astype(np.uint8)
    return ArraySource(
        image[..., None],
        label[chosen],
        classes=tuple("0123456789"),
        name=split,
        reopen=functools.partial(open_digits, split),
    )


class TfdsSource:
    """A split of a TFDS dataset with the features `image` and `label`, prepared as ArrayRecord."""

    def __init__(self, name: str, root: str | None, split: str):
        """Opens it; images stay encoded.

        Args:
          name: `tfds:NAME`, where NAME may end in `/CONFIG` and `:VERSION`.
          root: TFDS's `data_dir`; None is TFDS's own default.
          split: without a slice.

        Raises:
          UserError: TFDS is not installed, the dataset unknown, not prepared or not of this kind.
        """
        builder = open_builder(name, root)
        if split not in builder.info.splits:
            raise no_split(split, list(builder.info.splits), name)
        tfds, features = import_tfds(), builder.info.features
        if not {"image", "label"} <= set(features) or not hasattr(features["label"], "names"):
            raise UserError(
                f"{name} has the features {', '.join(features)}: image classification needs an "
                "image and a class label"
            )
        self.classes = tuple(features["label"].names)
        self._arguments, self._split = (name, root, split), split
        skip = tfds.decode.SkipDecoding()
        # All of them, since some datasets have masks that would be decoded in vain.
        decoders = {k: skip for k, f in features.items() if isinstance(f, tfds.features.Image)}
        self._examples = open_examples(name, builder, split, decoders=decoders)

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        example = self._examples[index]
        return {"image": example["image"], "label": int(example["label"])}

    def describe(self, index: int) -> str:
        return f"{self._split}[{index}]"

    def __reduce__(self):
        # TFDS's own pickles fail in a process that lacks the class of a custom builder.
        return TfdsSource, self._arguments
