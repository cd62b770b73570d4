"""Readers of text files: random access by an index of places, so that a file may be any size."""

import csv
import gzip
import io
import mmap
import re
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec
import numpy as np
from jaxtyping import Int64

from zoo.config import UserError

_CHUNK = 2**24  # bytes that are looked through at a time
_BLANK_CHARS = 8  # a line of more spaces than that is a line
_BLANK_LINES = re.compile(rb"\n(?:[ \t\r]*\n)+")


@runtime_checkable
class Reader(Protocol):
    """A whole split; pickles, so that worker processes can read."""

    fields: tuple[str, ...]  # of its first example
    names: dict[str, tuple[str, ...]]  # of the fields that are classes: all that there are
    files: tuple[Path, ...]  # where it lies

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One example.

        Raises:
          UserError: it is damaged.
        """
        ...

    def describe(self, index: int) -> str: ...


class Places:
    """Stretches of one file, which is mapped; a .gz is unpacked into memory."""

    def __init__(self, path: Path):
        """Opens it.

        Raises:
          UserError: it is empty, or no .gz.
        """
        self.path = path
        self.files = (path,)
        self.names: dict[str, tuple[str, ...]] = {}
        self._buffer = _open(path)
        self._starts = self._stops = np.zeros(0, np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_buffer": None}

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, index: int) -> str:
        """The text of a stretch.

        Raises:
          UserError: it is not UTF-8.
        """
        if self._buffer is None:  # in another process
            self._buffer = _open(self.path)
        if not 0 <= index < len(self):
            raise IndexError(index)
        found = self._buffer[self._starts[index] : self._stops[index]]
        try:
            return found.decode("utf-8-sig" if self._starts[index] == 0 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.describe(index)} is not UTF-8 ({error.reason})") from error

    def describe(self, index: int) -> str:
        return f"{self.path}[{index}]"


class Lines(Places):
    """A file's lines, or the rows of a quoted table, which may hold line breaks."""

    def __init__(self, path: Path, *, quoted: bool = False, blank: bool = False):
        """Args: `blank` keeps lines without text."""
        super().__init__(path)
        stops = _line_ends(self._buffer, quoted)
        starts = np.concatenate([[0], stops[:-1] + 1])
        self._numbers = np.arange(1, len(stops) + 1)
        if not blank:
            some = stops > starts
            for i in np.flatnonzero(some & (stops - starts <= _BLANK_CHARS)):
                some[i] = bool(self._buffer[starts[i] : stops[i]].strip(b" \r"))
            starts, stops, self._numbers = starts[some], stops[some], self._numbers[some]
        self._starts, self._stops = starts, stops

    def read(self, index: int) -> str:
        return super().read(index).removesuffix("\r")

    def describe(self, index: int) -> str:
        return f"{self.path}:{self._numbers[index]}"


class JsonLines(Lines):
    """`*.jsonl`: an object a line."""

    def __init__(self, path: Path):
        super().__init__(path)
        if not len(self):
            raise UserError(f"{path} is empty")
        self.fields = tuple(self[0])

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            return msgspec.json.decode(self.read(index), type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise UserError(f"{self.describe(index)} is no JSON object: {error}") from error


class Table(Lines):
    """`*.tsv`, whose cells hold no tabs and no line breaks, or `*.csv`, quoted; with a header."""

    def __init__(self, path: Path, *, comma: bool):
        super().__init__(path, quoted=comma)
        self._comma = comma
        if len(self) < 2:
            raise UserError(f"{path} is empty: it needs a line of names and others below it")
        self.fields = tuple(self._cells(0))
        if len(set(self.fields)) < len(self.fields):
            raise UserError(f"{path}:1 names a column twice: {', '.join(self.fields)}")
        self._starts, self._stops, self._numbers = (
            places[1:] for places in (self._starts, self._stops, self._numbers)
        )

    def __getitem__(self, index: int) -> dict[str, Any]:
        cells = self._cells(index)
        if len(cells) != len(self.fields):
            raise UserError(
                f"{self.describe(index)} has {len(cells)} cells, the first line {len(self.fields)}"
            )
        return dict(zip(self.fields, cells, strict=True))

    def _cells(self, index: int) -> list[str]:
        text = self.read(index)
        if not self._comma:
            return text.split("\t")
        try:
            return next(csv.reader(io.StringIO(text, newline=""), strict=True))
        except csv.Error as error:
            raise UserError(f"{self.describe(index)}: {error}") from error


class Blocks(Places):
    """What blank lines part."""

    def __init__(self, path: Path):
        super().__init__(path)
        gaps = [match.span() for match in _BLANK_LINES.finditer(self._buffer)]
        starts = [0, *(stop for _, stop in gaps)]
        stops = [*(start for start, _ in gaps), len(self._buffer)]
        # Only at its ends can a file have blocks without text.
        while starts and not self._buffer[starts[0] : stops[0]].strip():
            starts, stops = starts[1:], stops[1:]
        while starts and not self._buffer[starts[-1] : stops[-1]].strip():
            starts, stops = starts[:-1], stops[:-1]
        if not starts:
            raise UserError(f"{path} holds no text")
        self._starts, self._stops = np.array(starts, np.int64), np.array(stops, np.int64)

    def read(self, index: int) -> str:
        return super().read(index).replace("\r\n", "\n").strip("\r\n")


class Documents(Blocks):
    """`*.txt`: documents that blank lines part; the line breaks within one stay."""

    fields: tuple[str, ...] = ("text",)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"text": self.read(index)}


class TaggedWords(Blocks):
    """`*.conll`: a word a line, its tag the last of the columns; a blank line ends a sentence."""

    fields: tuple[str, ...] = ("words", "tags")

    def __init__(self, path: Path):
        super().__init__(path)
        kept = [i for i in range(len(self)) if not self.read(i).startswith("-DOCSTART-")]
        self._starts, self._stops = self._starts[kept], self._stops[kept]

    def __getitem__(self, index: int) -> dict[str, Any]:
        columns = [line.split() for line in self.read(index).split("\n")]
        if any(len(cells) < 2 for cells in columns):
            raise UserError(f"{self.describe(index)}: each line needs a word and a tag")
        return {"words": [cells[0] for cells in columns], "tags": [cells[-1] for cells in columns]}


class Parallel:
    """`SPLIT.SRC` and `SPLIT.TGT`: line by line the same in two languages, or in more."""

    names: dict[str, tuple[str, ...]] = {}  # noqa: RUF012

    def __init__(self, paths: dict[str, Path]):
        """Args: `paths` by the name of their language."""
        self._sides = {name: Lines(path, blank=True) for name, path in paths.items()}
        self.fields, self.files = tuple(paths), tuple(paths.values())
        counts = {str(side.path): len(side) for side in self._sides.values()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{path} has {count:,} lines" for path, count in counts.items())
            raise UserError(f"{told}: files that are parallel have equally many")

    def __len__(self) -> int:
        return len(self._sides[self.fields[0]])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: side.read(index) for name, side in self._sides.items()}

    def describe(self, index: int) -> str:
        return self._sides[self.fields[0]].describe(index)


class TextFolder:
    """`DIR/*.txt`, a document each, or `DIR/CLASS/*.txt`."""

    def __init__(self, root: Path, classes: tuple[str, ...]):
        """Args: `classes` are the names of folders; () for documents without a class."""
        self.fields: tuple[str, ...] = ("text", "label") if classes else ("text",)
        self.names: dict[str, tuple[str, ...]] = {"label": classes} if classes else {}
        self.files = tuple(
            path for name in classes or (".",) for path in sorted((root / name).glob("*.txt"))
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.files[index]
        try:
            text = path.read_text("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 ({error.reason})") from error
        return {"text": text, "label": path.parent.name} if self.names else {"text": text}

    def describe(self, index: int) -> str:
        return str(self.files[index])


class Questions:
    """SQuAD's JSON, 1.1 or 2.0: a question an example; one without an answer has no answers."""

    fields: tuple[str, ...] = ("id", "title", "question", "context", "answers")
    names: dict[str, tuple[str, ...]] = {}  # noqa: RUF012

    def __init__(self, path: Path):
        self._path, self.files = path, (path,)
        try:
            articles = msgspec.json.decode(path.read_bytes())["data"]
            self._asked = [
                (article.get("title", ""), paragraph["context"], asked)
                for article in articles
                for paragraph in article["paragraphs"]
                for asked in paragraph["qas"]
            ]
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} is not laid out as SQuAD's JSON ({error}); other text comes as *.jsonl, "
                "an object a line"
            ) from error
        if not self._asked:
            raise UserError(f"{path} holds no question")

    def __reduce__(self):
        return Questions, (self._path,)

    def __len__(self) -> int:
        return len(self._asked)

    def __getitem__(self, index: int) -> dict[str, Any]:
        title, context, asked = self._asked[index]
        try:
            answers = asked.get("answers", [])
            found = {
                "text": [answer["text"] for answer in answers],
                "answer_start": [answer["answer_start"] for answer in answers],
            }
            question = {"id": asked["id"], "question": asked["question"]}
        except KeyError as error:
            raise UserError(f"{self.describe(index)} lacks {error}") from error
        return question | {"title": title, "context": context, "answers": found}

    def describe(self, index: int) -> str:
        return f"{self._path}[{index}]"


def _open(path: Path) -> Any:
    """A file's bytes.

    Raises:
      UserError: it is empty, or no .gz.
    """
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(path.read_bytes())
        except (OSError, EOFError) as error:
            raise UserError(f"{path} cannot be unpacked ({error}): fetch it again") from error
        if content:
            return content
    elif path.stat().st_size:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    raise UserError(f"{path} is empty")


def _line_ends(buffer: Any, quoted: bool) -> Int64[np.ndarray, " _"]:
    """Where lines end, the last one too; a line break within quotes ends none."""
    places, inside = [], 0
    for start in range(0, len(buffer), _CHUNK):
        chunk = np.frombuffer(buffer, np.uint8, min(_CHUNK, len(buffer) - start), start)
        found = np.flatnonzero(chunk == ord("\n"))
        if quoted:
            quotes = inside + np.cumsum(chunk == ord('"'))
            found, inside = found[quotes[found] % 2 == 0], int(quotes[-1])
        places.append(start + found)
    ends = np.concatenate(places)
    if not len(ends) or ends[-1] != len(buffer) - 1:
        ends = np.append(ends, len(buffer))
    return ends
