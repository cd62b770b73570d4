"""A split of text as dicts of fields, by index: of the user's files or of TFDS."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from zoo.config import UserError
from zoo.config.data import TextData
from zoo.config.load import nearest
from zoo.data.base import parse_split
from zoo.data.catalog import check_name, data_dir
from zoo.data.text.files import Reader
from zoo.data.text.layouts import open_split, split_names
from zoo.data.text.tfds_text import TfdsText
from zoo.data.tfds import open_builder

MAX_LABELS = 10_000
_IN_BRACES = re.compile(r"\{([^{}]+)\}")


class Record(dict[str, Any]):
    """An example's fields; asking for another says which there are."""

    def __init__(self, fields: dict[str, Any], where: str):
        super().__init__(fields)
        self.where = where

    def text(self, field: str) -> str:
        """A field that has to be text.

        Raises:
          UserError: it is missing, or something else.
        """
        value = self[field]
        if not isinstance(value, str):
            raise UserError(f"{self.where}: {field!r} is {type(value).__name__}, not text")
        return value

    def given(self, source: str) -> Any:
        """What a value of `data.fields` stands for: a field, or a text with fields in braces.

        Raises:
          UserError: a field is missing; one in braces is no text or number.
        """
        return self[source] if _named(source) == [source] else _IN_BRACES.sub(self._piece, source)

    def _piece(self, match: re.Match[str]) -> str:
        value = self[match[1]]
        if not isinstance(value, str | int | float):
            kind = type(value).__name__
            raise UserError(f"{self.where}: {match[1]!r} is {kind}, not text or a number")
        return str(value)

    def __missing__(self, field: str) -> Any:
        raise _no_field(field, tuple(self), self.where)


class Records:
    """Examples [start, stop) of a split; pickles, so that worker processes can read.

    Attributes:
      fields: the names of the first example's fields, those that `data.fields` gives too.
      files: where the split lies.
      names: of fields that are classes and whose source knows them all: their names.
    """

    def __init__(self, reader: Reader, start: int, stop: int, renames: dict[str, str]):
        """Args: `renames` are `data.fields`: from a field's new name to its name in the source, or
        to a text with such names in braces.

        Raises:
          UserError: the source has no such field.
        """
        self._reader, self._renames = reader, renames
        self.start, self.stop = start, stop
        for source in renames.values():
            for name in _named(source):
                if name not in reader.fields:
                    raise _no_field(name, reader.fields, self.describe(0))
        self.fields = tuple(dict.fromkeys((*reader.fields, *renames)))
        self.files = reader.files
        self.names = reader.names | {
            new: reader.names[old] for new, old in renames.items() if old in reader.names
        }

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> Record:
        """One example.

        Raises:
          UserError: it is damaged, or lacks a field that `data.fields` names.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        found = Record(self._reader[self.start + index], self.describe(index))
        found.update({new: found.given(source) for new, source in self._renames.items()})
        return found

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))

    def describe(self, index: int) -> str:
        """A file and line, or a dataset and index: for messages and reports."""
        return self._reader.describe(self.start + index)


def open_records(data: TextData, split: str) -> Records:
    """Opens a split, or a slice of one, of the text that a config names.

    Args:
      data: `name`, `dir` and `fields` count.
      split: `train`, `train[:99%]`, `test[1000:2000]`, ...

    Raises:
      UserError: an unknown name or split, files that are missing, empty or damaged, or a field that
        is not there.
    """
    check_name(data.name, text=True)
    part = parse_split(split)
    if data.name.startswith("tfds:"):
        reader: Reader = TfdsText(data.name, data.dir, part.name)
    else:
        reader = open_split(data_dir(data), part.name)
    return Records(reader, *part.bounds(len(reader)), data.fields)


def label_names(records: Records, data: TextData, field: str = "label") -> tuple[str, ...]:
    """The classes of a field, in the order of their numbers.

    A record's label (or each of its labels, such as the tags of words), as text, is one of them;
    only a split without labels may have -1.

    Returns:
      TFDS's names, the folders' in order of name, or the distinct labels of the whole training
      split: numbers in their order, others in order of name.

    Raises:
      UserError: no such field, or so many labels that they can be no classes.
    """
    if field in records.names:
        return records.names[field]
    found: set[str] = set()
    for record in open_records(data, parse_split(data.train_split).name):
        value = record[field]
        found.update(map(str, value) if isinstance(value, list) else (str(value),))
        if len(found) > MAX_LABELS:
            raise UserError(
                f"{record.where}: {field!r} has more than {MAX_LABELS:,} different values, which "
                "are no classes: name another with data.fields, or set data.regression"
            )
    if all(name.removeprefix("-").isdecimal() for name in found):
        return tuple(sorted(found, key=int))
    return tuple(sorted(found))


def list_splits(data: TextData) -> tuple[str, ...]:
    """The splits that the text has.

    Raises:
      UserError: an unknown name, or files that are missing.
    """
    check_name(data.name, text=True)
    if data.name.startswith("tfds:"):
        return tuple(open_builder(data.name, data.dir).info.splits)
    return split_names(data_dir(data))


def field_texts(data: TextData, splits: Sequence[str], fields: Sequence[str]) -> Iterator[str]:
    """The texts of some fields of all examples, to learn a tokenizer from.

    Raises:
      UserError: as `open_records`, or a field is missing or no text.
    """
    opened = [open_records(data, split) for split in splits]
    return (record.text(field) for records in opened for record in records for field in fields)


def info(data: TextData) -> dict[str, Any]:
    """What there is: `{"name", "dir", "splits": {name: {"count", "fields", "bytes"}}}`.

    Raises:
      UserError: it cannot be opened.
    """
    opened = {split: open_records(data, split) for split in list_splits(data)}
    splits = {
        split: {
            "count": len(records),
            "fields": list(records.fields),
            "bytes": sum(path.stat().st_size for path in records.files),
        }
        for split, records in opened.items()
    }
    return {"name": data.name, "dir": str(data_dir(data)), "splits": splits}


def _named(source: str) -> list[str]:
    """The fields that a value of `data.fields` names: those in its braces, or itself."""
    return _IN_BRACES.findall(source) or [source]


def _no_field(field: str, fields: tuple[str, ...], where: str) -> UserError:
    near = nearest(field, fields)
    have = "" if near.startswith("; there are") else f" it has {', '.join(fields)};"
    return UserError(
        f"{where} has no field {field!r}{near};{have} data.fields names one by another"
    )
