"""Prepared datasets: ArrayRecord shards beside an `info.json`, read at random.

A record is a msgpack map of the image (the encoded file, byte for byte), its label and the name
that the original source gave it. `info.json` says what the shards hold, and how many bytes each one
has, so that a truncated copy is noticed when it is opened.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter  # pyright: ignore

from zoo.config import UserError
from zoo.data.base import Example, no_split

INFO_FILE = "info.json"
FORMAT = "zoo image records 1"
# One record a group: random access reads that record alone. JPEG and PNG do not compress further.
WRITER_OPTIONS = "group_size:1,uncompressed"


class Record(msgspec.Struct):
    """What one ArrayRecord record holds, as msgpack."""

    image: bytes
    label: int
    name: str


class Shard(msgspec.Struct):
    """One ArrayRecord file."""

    file: str
    count: int
    bytes: int


class Info(msgspec.Struct):
    """The content of `info.json`."""

    format: str
    name: str  # data.name of what was prepared
    classes: tuple[str, ...]
    splits: dict[str, list[Shard]]


def read_info(root: Path, name: str) -> Info | None:
    """The `info.json` of a prepared dataset; None where there is none.

    Raises:
      UserError: the file is damaged, or describes another dataset than `name`.
    """
    path = root / INFO_FILE
    if not path.is_file():
        return None
    try:
        info = msgspec.json.decode(path.read_bytes(), type=Info)
    except msgspec.DecodeError as error:
        raise UserError(f"{path} is no description of a prepared dataset: {error}") from error
    if info.format != FORMAT:
        raise UserError(f"{path} has the format {info.format!r}, not {FORMAT!r}: prepare it again")
    if info.name != name:
        raise UserError(
            f"{root} was prepared from {info.name!r}, but data.name is {name!r}: set data.name to "
            f"{info.name!r}, or data.dir to another directory"
        )
    return info


class RecordSource:
    """One split of a prepared dataset."""

    def __init__(self, root: Path, info: Info, split: str):
        """Checks that the shards are there.

        Raises:
          UserError: no such split, or a shard that is missing or has another size than it had.
        """
        if split not in info.splits:
            raise no_split(split, list(info.splits), root)
        self.classes = info.classes
        self._split = split
        for shard in info.splits[split]:
            path = root / shard.file
            size = path.stat().st_size if path.is_file() else None
            if size != shard.bytes:
                state = "is missing" if size is None else f"has {size} bytes, not {shard.bytes}"
                raise UserError(f"{path} {state}: copy it again, or prepare the dataset again")
        # With the counts in the names, a file is opened when it is read, and not before.
        self._records = ArrayRecordDataSource(
            [f"{root / shard.file}[0:{shard.count}]" for shard in info.splits[split]]
        )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        record = self._record(index)
        return {"image": record.image, "label": record.label}

    def describe(self, index: int) -> str:
        try:
            return f"{self._split}[{index}] ({self._record(index).name})"
        except RuntimeError:  # the record is damaged
            return f"{self._split}[{index}]"

    def _record(self, index: int) -> Record:
        return msgspec.msgpack.decode(self._records[index], type=Record)


def write_shards(
    root: Path, split: str, records: Iterable[Record], *, shard_bytes: int
) -> list[Shard]:
    """Writes records into `root`, beginning another file when one has grown past `shard_bytes`."""
    shards: list[Shard] = []
    writer, count, written = None, 0, 0

    def finish() -> None:
        nonlocal writer, count, written
        if writer is not None:
            writer.close()
            path = root / f"{split}-{len(shards):05d}.arrayrecord"
            shards.append(Shard(file=path.name, count=count, bytes=os.path.getsize(path)))
        writer, count, written = None, 0, 0

    for record in records:
        if writer is None:
            path = root / f"{split}-{len(shards):05d}.arrayrecord"
            writer = ArrayRecordWriter(str(path), WRITER_OPTIONS)
        data = msgspec.msgpack.encode(record)
        writer.write(data)
        count, written = count + 1, written + len(data)
        if written >= shard_bytes:
            finish()
    finish()
    return shards
