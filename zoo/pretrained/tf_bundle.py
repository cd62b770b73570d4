"""TensorFlow's checkpoints of names and arrays, without TensorFlow.

`PREFIX.index` is a table of sorted names; each entry is a protocol buffer that says in which of
`PREFIX.data-00000-of-00001`, ... an array lies, and where (tensorflow/core/protobuf/
tensor_bundle.proto). Read only.
"""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from zoo.config import UserError
from zoo.pretrained.crc32c import masked
from zoo.pretrained.files import Spec
from zoo.pretrained.sstable import Reader, read_table

INDEX = ".index"
_DATA = re.compile(r"\.data-\d{5}-of-\d{5}$")
_HEADER = b""  # the entry of the file itself
_DTYPES = {
    1: np.dtype(np.float32),
    2: np.dtype(np.float64),
    3: np.dtype(np.int32),
    4: np.dtype(np.uint8),
    9: np.dtype(np.int64),
    10: np.dtype(np.bool_),
    14: np.dtype(ml_dtypes.bfloat16),
    19: np.dtype(np.float16),
}
_MOST_INDEX = 2**28  # bytes; a BERT's is some ten thousand


class Place(NamedTuple):
    """Where an array lies."""

    shard: int
    offset: int
    size: int
    checksum: int


class Bundle:
    """A checkpoint's arrays; an `ArrayFile`."""

    def __init__(self, index: Path):
        """Reads the index, and looks at the sizes of the files that it names.

        Raises:
          UserError: a file is missing or damaged, or holds what is not read here.
        """
        self.path = index
        self.specs: dict[str, Spec] = {}
        self.metadata: dict[str, str] = {}
        self._places: dict[str, Place] = {}
        try:
            if index.stat().st_size > _MOST_INDEX:
                raise ValueError("it is too large")
            table = read_table(index.read_bytes())
            self._shards = _shards(index, table.pop(_HEADER, None))
            for key, value in table.items():
                self._add(key.decode("utf-8"), value)
        except (ValueError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UserError(
                f"{index} is no checkpoint of TensorFlow that can be read ({reason}): fetch it "
                "again"
            ) from error

    def read(self, name: str, layer: int | None = None) -> np.ndarray:
        """Reads all of the array, also for one layer of it: the checksum is over all."""
        (shape, dtype), place = self.specs[name], self._places[name]
        path = self._shards[place.shard][0]
        try:
            with path.open("rb") as file:
                file.seek(place.offset)
                found = np.fromfile(file, np.uint8, place.size)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        if len(found) != place.size or masked(found) != place.checksum:
            raise UserError(f"{path}: the checksum of {name} is wrong: fetch it again")
        array = found.view(dtype).reshape(shape)
        return array if layer is None else array[layer]

    def _add(self, name: str, entry: bytes) -> None:
        kind, shape, place, partitioned = _entry(entry)
        if partitioned:
            raise UserError(
                f"{self.path}: {name} is stored in slices, which are not read here: save it whole"
            )
        if kind not in _DTYPES:
            raise UserError(f"{self.path}: {name} is of TensorFlow's type {kind}, not read here")
        dtype = _DTYPES[kind]
        if place.shard not in self._shards:
            raise ValueError(f"{name} lies in file {place.shard} of {len(self._shards)}")
        path, length = self._shards[place.shard]
        if place.offset + place.size > length:
            raise ValueError(f"{name} ends past the end of {path.name}")
        if math.prod(shape) * dtype.itemsize != place.size:
            raise ValueError(f"{name} is {[*shape]} of {dtype}, and has {place.size} bytes")
        self.specs[name], self._places[name] = Spec(shape, dtype), place


def find_index(path: Path) -> Path | None:
    """The index that a path means, if it means one: a directory, a prefix, or a file of it.

    Raises:
      UserError: a directory has several.
    """
    if path.is_dir():
        found = sorted(path.glob(f"*{INDEX}"))
        if len(found) > 1 and not any(path.glob("*.safetensors*")):
            names = ", ".join(one.name for one in found[:3])
            raise UserError(f"{path} holds several checkpoints ({names}): give one of them")
        return found[0] if len(found) == 1 and not any(path.glob("*.safetensors*")) else None
    if path.name.endswith(INDEX):
        return path
    index = path.with_name(_DATA.sub("", path.name) + INDEX)
    return index if index.is_file() else None


def _shards(index: Path, header: bytes | None) -> dict[int, tuple[Path, int]]:
    """The files of arrays by their number, with their sizes, all beside the index."""
    if header is None:
        raise ValueError("it has no header")
    fields = {number: value for number, value in _fields(header) if isinstance(value, int)}
    if fields.get(2, 0):
        raise ValueError("its numbers are big-endian")
    count = fields.get(1, 0)
    if not 1 <= count <= 99_999:
        raise ValueError(f"it says that there are {count} files of arrays")
    prefix, found = index.name.removesuffix(INDEX), {}
    for number in range(count):
        path = index.with_name(f"{prefix}.data-{number:05d}-of-{count:05d}")
        if not path.is_file():
            raise UserError(f"{path} is not there: fetch all files of the checkpoint")
        found[number] = path, os.path.getsize(path)
    return found


def _entry(data: bytes) -> tuple[int, tuple[int, ...], Place, bool]:
    """Type, shape, place, and whether it is in slices, of a BundleEntryProto."""
    numbers = dict.fromkeys((1, 3, 4, 5, 6), 0)
    shape: tuple[int, ...] = ()
    partitioned = False
    for number, value in _fields(data):
        if number == 2 and isinstance(value, bytes):
            shape = tuple(_sizes(value))
        elif number == 7:
            partitioned = True
        elif number in numbers and isinstance(value, int):
            numbers[number] = value
    kind, shard, offset, size, checksum = numbers.values()
    return kind, shape, Place(shard, offset, size, checksum), partitioned


def _sizes(data: bytes) -> Iterator[int]:
    """Of a TensorShapeProto; what is unknown, -1 there, is above any size that there is."""
    for number, value in _fields(data):
        if number == 2 and isinstance(value, bytes):
            yield next((v for n, v in _fields(value) if n == 1 and isinstance(v, int)), 0)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol buffer: their numbers, and numbers or bytes."""
    reader = Reader(data)
    while reader:
        tag = reader.varint()
        kind = tag & 7
        if kind == 0:
            yield tag >> 3, reader.varint()
        elif kind == 2:
            yield tag >> 3, reader.take(reader.varint())
        elif kind in (1, 5):
            yield tag >> 3, reader.fixed(8 if kind == 1 else 4)
        else:
            raise ValueError(f"a field of an unknown kind {kind}")
