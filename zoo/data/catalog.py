"""The datasets that a config may name; light to import: `zoo list` answers at once."""

import os
from pathlib import Path
from typing import NamedTuple

from zoo.config import UserError
from zoo.config.data import DataConfig
from zoo.config.load import nearest


class DatasetInfo(NamedTuple):
    """What there is to know of a dataset before a file is opened. None: the files decide."""

    summary: str
    splits: dict[str, int] | None  # name -> number of examples
    num_classes: int | None
    image: str  # rows x cols x channels; empty for text
    license: str
    files: str  # what has to lie in data.dir

    def __str__(self) -> str:
        size = ", ".join(f"{n:,} {split}" for split, n in (self.splits or {}).items())
        classes = f"{self.num_classes} classes" if self.num_classes else ""
        parts = (self.summary, size, classes, self.image, f"licence: {self.license}")
        return "; ".join(filter(None, parts))


TEXT = "text"  # the one dataset that is no pictures, beside TFDS's

DATASETS: dict[str, DatasetInfo] = {
    "digits": DatasetInfo(
        "handwritten digits from the UCI repository, shipped with scikit-learn",
        {"train": 1437, "test": 360},
        10,
        "8x8x1",
        "CC BY 4.0 (UCI); BSD-3-Clause as shipped with scikit-learn",
        "none",
    ),
    "mnist": DatasetInfo(
        "handwritten digits (LeCun 1998)",
        {"train": 60_000, "test": 10_000},
        10,
        "28x28x1",
        "no formal licence; mirrors state CC BY-SA 3.0",
        "train- and t10k- images-idx3-ubyte and labels-idx1-ubyte, each plain or .gz",
    ),
    "fashion_mnist": DatasetInfo(
        "Zalando's articles of clothing (Xiao 2017)",
        {"train": 60_000, "test": 10_000},
        10,
        "28x28x1",
        "MIT",
        "as mnist; Debian's package dataset-fashion-mnist is found by itself",
    ),
    "cifar10": DatasetInfo(
        "small photographs of vehicles and animals (Krizhevsky 2009)",
        {"train": 50_000, "test": 10_000},
        10,
        "32x32x3",
        "no formal licence; for research",
        "the binary or the python version, unpacked or as its .tar.gz",
    ),
    "cifar100": DatasetInfo(
        "as cifar10, with 100 classes (the fine labels)",
        {"train": 50_000, "test": 10_000},
        100,
        "32x32x3",
        "no formal licence; for research",
        "the binary or the python version, unpacked or as its .tar.gz",
    ),
    "folder": DatasetInfo(
        "your own images, one folder a class",
        None,
        None,
        "any",
        "yours",
        "SPLIT/CLASS/*.jpg (.jpeg, .png, .webp, .bmp), or CLASS/*.jpg",
    ),
    TEXT: DatasetInfo(
        "your own text: documents, pairs, labelled texts, tagged words, questions",
        None,
        None,
        "",
        "yours",
        "SPLIT.jsonl (.gz), .tsv, .csv, .txt, .json (SQuAD) or .conll; SPLIT.SRC and SPLIT.TGT, "
        "such as train.en and train.de; SPLIT/*.txt or SPLIT/CLASS/*.txt",
    ),
    "tfds:NAME": DatasetInfo(
        "any dataset of TensorFlow Datasets: tfds:imagenet2012, tfds:lm1b, tfds:glue/sst2, ...",
        None,
        None,
        "any",
        "see the dataset's own",
        "what TFDS prepared with file_format='array_record'",
    ),
}


def check_name(name: str, *, text: bool = False) -> None:
    """Raises `UserError` for a name that is no dataset of images (or of text), with the nearest."""
    if name.startswith("tfds:") and len(name) > len("tfds:"):
        return
    if name not in DATASETS:
        raise UserError(
            f"data.name: there is no dataset {name!r}{nearest(name, list(DATASETS))} "
            f"(tfds:{name} would ask TensorFlow Datasets for it)"
        )
    if text and name != TEXT:
        raise UserError(
            f"data.name: {name!r} holds images: give 'text' (your own files in data.dir) or "
            "tfds:NAME, or another data.kind"
        )
    if name == TEXT and not text:
        raise UserError("data.name: 'text' holds no images: give another data.kind, or data.name")


def default_dir(name: str) -> Path:
    """Where a dataset's files are looked for: $ZOO_DATA_DIR/NAME, else ~/zoo_data/NAME."""
    root = os.environ.get("ZOO_DATA_DIR") or Path.home() / "zoo_data"
    return Path(root) / name.replace(":", "_").replace("/", "_")


def data_dir(data: DataConfig) -> Path:
    """The directory that a config means; it need not exist."""
    return Path(data.dir).expanduser() if data.dir else default_dir(data.name)
