"""A field of a split as tokens, made once into a cache and then read from disk as it is needed."""

import hashlib
import itertools
import re
import sys
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Int64
from tqdm import tqdm

from zoo.config import UserError
from zoo.config.data import TextData
from zoo.config.places import cache_dir
from zoo.data.text.records import Records, open_records
from zoo.data.text.tokenizers import Ids, Tokenizer

_FORMAT = 1  # part of the key: another layout of these files makes them anew
_AT_A_TIME = 2**22  # characters
# A sentence ends at its mark, perhaps in quotes, before a space and a capital, figure or quote.
_SENTENCE_END = re.compile(r"[.!?][\"'”’)\]]*(\s+)(?=[\"'“‘(\[]*[A-Z0-9])")


class TokenStore:
    """Documents in tokens, without special ones.

    Attributes:
      lengths: tokens of each document.
      num_bytes: UTF-8 bytes of each document's text.
    """

    def __init__(self, root: Path, *, sentences: bool):
        """Args: `sentences`: whether a document is a list of sentences, or one array."""
        self.root, self.sentences = root, sentences
        settings = msgspec.json.decode((root / "store.json").read_bytes())
        self._tokens = np.memmap(root / "tokens.bin", settings["dtype"], "r")
        self._starts: Int64[np.ndarray, " _"] = np.load(root / "starts.npy", mmap_mode="r")
        self._documents: Int64[np.ndarray, " _"] = np.load(root / "documents.npy", mmap_mode="r")
        self.num_bytes: Int64[np.ndarray, " N"] = np.load(root / "num_bytes.npy", mmap_mode="r")
        self.lengths: Int64[np.ndarray, " N"] = np.diff(self._starts[self._documents])

    def __reduce__(self):
        return _reopen, (self.root, self.sentences)

    def __len__(self) -> int:
        return len(self.num_bytes)

    def __getitem__(self, index: int) -> Ids | list[Ids]:
        """A document's tokens, or those of each of its sentences."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        first, last = self._documents[index], self._documents[index + 1]
        bounds = self._starts[first : last + 1]
        found = self._tokens[bounds[0] : bounds[-1]].astype(np.int32)
        if not self.sentences:
            return found
        return np.split(found, bounds[1:-1] - bounds[0]) if last > first else []

    def read(self, index: int, start: int, stop: int) -> Ids:
        """Tokens [start, stop) of a document, and no others from the disk."""
        first = int(self._starts[self._documents[index]])
        stop = min(stop, int(self.lengths[index]))
        return self._tokens[first + start : first + stop].astype(np.int32)

    def sentence_lengths(self) -> tuple[Int64[np.ndarray, " S"], Int64[np.ndarray, " N"]]:
        """Tokens of each sentence, document after document, and each document's sentences."""
        return np.diff(self._starts), np.diff(self._documents)


def open_tokens(
    data: TextData, split: str, field: str, tokenizer: Tokenizer, *, sentences: bool = False
) -> TokenStore:
    """Opens a field of a split as tokens; the first time makes them, with progress on stderr.

    They lie in $ZOO_CACHE, else ~/.cache/zoo, by the tokenizer's fingerprint, the source's files
    (name, size, time of change), the slice and the field. Several processes may make them at once.

    Args:
      data: `name`, `dir` and `fields` count.
      split: `train`, `train[:99%]`, ...
      field: as an example has it, `data.fields` applied.
      sentences: keep a document's sentences apart: its lines, or where it is one line, what
        ends with `.`, `!` or `?` before a capital or a figure.

    Raises:
      UserError: as `open_records`; the field is missing or no text, or there is no text at all.
    """
    records = open_records(data, split)
    root = cache_dir() / "tokens" / _key(records, data, field, tokenizer, sentences)
    if not root.is_dir():
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=".making-") as temporary:
            work = Path(temporary) / "store"
            work.mkdir()
            _make(work, records, field, tokenizer, sentences=sentences, title=split)
            try:
                work.rename(root)
            except OSError:  # another process was quicker
                if not root.is_dir():
                    raise
    return TokenStore(root, sentences=sentences)


def split_sentences(text: str) -> list[str]:
    """A document's lines; those of a document of one line by its marks."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) != 1:
        return lines
    gaps = [match.span(1) for match in _SENTENCE_END.finditer(lines[0])]
    starts = [0, *(stop for _, stop in gaps)]
    stops = [*(start for start, _ in gaps), len(lines[0])]
    return [lines[0][start:stop] for start, stop in zip(starts, stops, strict=True)]


def _reopen(root: Path, sentences: bool) -> TokenStore:
    return TokenStore(root, sentences=sentences)


def _key(
    records: Records, data: TextData, field: str, tokenizer: Tokenizer, sentences: bool
) -> str:
    stats = [(path, path.stat()) for path in records.files]
    parts = (
        _FORMAT,
        tokenizer.fingerprint,
        sentences,
        (field, data.fields.get(field)),
        (records.start, records.stop),
        [(str(path.absolute()), stat.st_size, stat.st_mtime_ns) for path, stat in stats],
    )
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def _make(
    work: Path, records: Records, field: str, tokenizer: Tokenizer, *, sentences: bool, title: str
) -> None:
    """Writes `tokens.bin`, where its stretches start, and which stretches are a document."""
    dtype = np.dtype(np.uint16 if tokenizer.size <= 2**16 else np.uint32)
    lengths, counts, num_bytes = [np.zeros(1, np.int64)], array("q", [0]), array("q")
    # Lines in a log are for people who wait long.
    pause = 0.1 if sys.stderr.isatty() else 30
    with (
        (work / "tokens.bin").open("wb") as file,
        tqdm(total=len(records), desc=f"tokens of {title}", delay=3, mininterval=pause) as bar,
    ):
        for texts in _batches(records, field):
            parts = [split_sentences(text) if sentences else [text] for text in texts]
            found = tokenizer.encode_batch(list(itertools.chain.from_iterable(parts)))
            for ids in found:
                ids.astype(dtype).tofile(file)
            lengths.append(np.array([len(ids) for ids in found], np.int64))
            counts.extend(len(some) for some in parts)
            num_bytes.extend(len(text.encode()) for text in texts)
            bar.update(len(texts))
    starts = np.cumsum(np.concatenate(lengths))
    if not starts[-1]:
        raise UserError(f"{records.describe(0)}: no document has text in its field {field!r}")
    np.save(work / "starts.npy", starts)
    np.save(work / "documents.npy", np.cumsum(np.array(counts, np.int64)))
    np.save(work / "num_bytes.npy", np.array(num_bytes, np.int64))
    settings = {"dtype": dtype.name, "field": field, "files": len(records.files), "split": title}
    (work / "store.json").write_bytes(msgspec.json.encode(settings))


def _batches(records: Records, field: str) -> Iterator[list[str]]:
    """A field's texts, some megabytes at a time."""
    texts: list[str] = []
    chars = 0
    for record in records:
        text = record.text(field)
        texts.append(text)
        chars += len(text) + 64  # a piece of an empty text costs something too
        if chars > _AT_A_TIME:
            yield texts
            texts, chars = [], 0
    if texts:
        yield texts
