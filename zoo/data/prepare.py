"""`zoo data prepare | info | check`: any source into ArrayRecord, what it holds, what is broken.

A prepared dataset is a few large files instead of a million small ones: it copies, mounts and reads
at random fast, and it needs neither TFDS nor TensorFlow.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import cv2
import msgspec
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from zoo.config import UserError
from zoo.config.data import ImageData
from zoo.data.base import Source, no_split
from zoo.data.catalog import data_dir
from zoo.data.images import decode
from zoo.data.record import FORMAT, INFO_FILE, Info, Record, write_shards
from zoo.data.sources import list_splits, open_source

T = TypeVar("T")

SHARD_BYTES = 256 * 2**20
_AHEAD = 256  # examples that are read or decoded at a time


def prepare(
    data: ImageData,
    out: Path,
    splits: Sequence[str] | None = None,
    *,
    shard_bytes: int = SHARD_BYTES,
) -> dict[str, Any]:
    """Writes a dataset into ArrayRecord shards and an `info.json`, all of it or nothing.

    Encoded images pass through byte for byte, readable or not (`check` tells); arrays become PNG,
    which loses nothing.

    Args:
      data: `name` and `dir` say what to read, `threads` how many files at a time.
      out: a directory that does not exist yet, or is empty.
      splits: names without slices; default: all of them.
      shard_bytes: a file is closed when it has grown past this size.

    Returns:
      `{"dir", "classes": how many, "splits": {name: {"count", "shards", "bytes"}}}`.

    Raises:
      UserError: the source cannot be read, a split is not there, or `out` holds something.
    """
    names = list_splits(data)
    for split in splits or ():
        if split not in names:
            raise no_split(split, names, data.name)
    sources = {split: open_source(data, split) for split in splits or names}
    classes = {source.classes for source in sources.values()}
    if len(classes) != 1:
        raise UserError(f"{data.name}: the splits {', '.join(sources)} have different classes")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already: give another directory, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    # Written beside its place and then renamed: `out` appears whole or not at all.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        work = Path(temporary) / "prepared"
        work.mkdir()
        shards = {
            split: write_shards(work, split, _records(source, data, split), shard_bytes=shard_bytes)
            for split, source in sources.items()
        }
        info = Info(format=FORMAT, name=data.name, classes=classes.pop(), splits=shards)
        (work / INFO_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(info)))
        if out.exists():
            out.rmdir()
        work.rename(out)
    summary = {
        split: {
            "count": sum(shard.count for shard in some),
            "shards": len(some),
            "bytes": sum(shard.bytes for shard in some),
        }
        for split, some in shards.items()
    }
    return {"dir": str(out), "classes": len(info.classes), "splits": summary}


def info(data: ImageData) -> dict[str, Any]:
    """What a dataset holds, without reading its images.

    Returns:
      `{"name", "dir", "classes": names, "splits": {name: {"count"}}}`; "dir" is None where the
      examples come with a library, or lie where that library keeps them.

    Raises:
      UserError: the dataset cannot be opened.
    """
    sources = {split: open_source(data, split) for split in list_splits(data)}
    return {
        "name": data.name,
        "dir": str(data_dir(data)) if data_dir(data).is_dir() else None,
        "classes": list(next(iter(sources.values())).classes),
        "splits": {split: {"count": len(source)} for split, source in sources.items()},
    }


def check(data: ImageData, split: str) -> dict[str, Any]:
    """Reads and decodes every image of a split.

    Args:
      data: `name`, `dir` and `threads` count.
      split: a name, or a slice of one.

    Returns:
      `{"split", "count", "ok": whether all can be read, "unreadable": [{"name", "reason"}],
      "per_class": {class: count}, "rows": [least, most], "cols": [least, most]}`; the last three
      are of the readable ones.

    Raises:
      UserError: the dataset cannot be opened.
    """
    source = open_source(data, split)
    unreadable: list[dict[str, str]] = []
    labels: list[int] = []
    shapes: set[tuple[int, ...]] = set()

    def look(index: int) -> tuple[int, tuple[int, ...]] | str:
        try:
            example = source[index]
            image = example["image"]
            pixels = decode(image, data.channels) if isinstance(image, bytes) else image
        except (OSError, RuntimeError, ValueError) as error:
            return str(error)
        if not 0 <= example["label"] < len(source.classes):
            return f"its label is {example['label']}"
        return example["label"], pixels.shape

    for index, found in enumerate(_in_threads(look, len(source), data.threads, split)):
        if isinstance(found, str):
            unreadable.append({"name": source.describe(index), "reason": found})
        else:
            labels.append(found[0])
            shapes.add(found[1])
    counts = np.bincount(np.array(labels, int), minlength=len(source.classes))
    return {
        "split": split,
        "count": len(source),
        "ok": not unreadable,
        "unreadable": unreadable,
        "per_class": dict(zip(source.classes, counts.tolist(), strict=True)),
        "rows": [min(s[0] for s in shapes), max(s[0] for s in shapes)] if shapes else [],
        "cols": [min(s[1] for s in shapes), max(s[1] for s in shapes)] if shapes else [],
    }


def encode_png(image: UInt8[np.ndarray, "_ _ channels"]) -> bytes:
    """A lossless PNG of one or three channels."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.shape[-1] == 3 else image
    return cv2.imencode(".png", bgr)[1].tobytes()


def _records(source: Source, data: ImageData, split: str) -> Iterator[Record]:
    root = f"{data_dir(data)}/"

    def read(index: int) -> Record:
        example = source[index]
        image = example["image"]
        return Record(
            image=image if isinstance(image, bytes) else encode_png(image),
            label=example["label"],
            name=source.describe(index).removeprefix(root),
        )

    return _in_threads(read, len(source), data.threads, split)


def _in_threads(function: Callable[[int], T], count: int, threads: int, title: str) -> Iterator[T]:
    """`map` over range(count), a bounded number ahead; with a bar where stderr is a terminal."""
    with ThreadPoolExecutor(threads) as pool, tqdm(total=count, desc=title, disable=None) as bar:
        for start in range(0, count, _AHEAD):
            yield from pool.map(function, range(start, min(start + _AHEAD, count)))
            bar.update(min(_AHEAD, count - start))
