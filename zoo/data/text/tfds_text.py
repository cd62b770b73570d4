"""Text of TensorFlow Datasets: lm1b, c4, wmt, glue, squad, cnn_dailymail and others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.base import no_split
from zoo.data.tfds import open_builder, open_examples


class TfdsText:
    """A split's examples; bytes become text, and classes their names."""

    def __init__(self, name: str, root: str | None, split: str):
        """Opens it.

        Args:
          name: `tfds:NAME`, where NAME may end in `/CONFIG` and `:VERSION`.
          root: TFDS's `data_dir`; None is TFDS's own default.
          split: without a slice.

        Raises:
          UserError: TFDS is not installed, the dataset unknown or not prepared.
        """
        builder = open_builder(name, root)
        if split not in builder.info.splits:
            raise no_split(split, list(builder.info.splits), name)
        self._features = builder.info.features
        self._arguments = (name, root, split)
        self.fields = tuple(self._features)
        classes = {field: _class_names(one) for field, one in self._features.items()}
        self.names = {field: names for field, names in classes.items() if names}
        self.files = tuple(Path(path) for path in builder.info.splits[split].filepaths)
        self._examples = open_examples(name, builder, split)

    def __reduce__(self):
        # TFDS's own pickles fail in a process that lacks the class of a custom builder.
        return TfdsText, self._arguments

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return _plain(self._examples[index], self._features)

    def describe(self, index: int) -> str:
        name, _, split = self._arguments
        return f"{name} {split}[{index}]"


def _class_names(feature: Any) -> tuple[str, ...]:
    """Of a class, or of a sequence of classes."""
    return tuple(getattr(getattr(feature, "feature", feature), "names", None) or ())


def _plain(value: Any, feature: Any) -> Any:
    """TFDS's arrays as Python's own types."""
    if isinstance(value, Mapping):
        inner = getattr(feature, "feature", feature)  # a sequence of dicts comes as one of lists
        return {key: _plain(one, inner[key]) for key, one in value.items()}
    if isinstance(value, np.ndarray | list):
        inner = getattr(feature, "feature", feature)
        return [_plain(one, inner) for one in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    value = value.item() if isinstance(value, np.generic) else value
    names = _class_names(feature)
    # A test split without labels has -1.
    return names[value] if names and 0 <= value < len(names) else value
