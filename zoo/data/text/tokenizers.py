"""Tokenizers: text to numbers and back, from our own directories and from published files."""

import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import SupportsIndex

import msgspec
import numpy as np
from jaxtyping import Bool, Int32

from zoo.config import UserError
from zoo.data.text import llama2c
from zoo.data.text.learn import learn
from zoo.data.text.opening import (
    MARIAN_TARGETS,
    ROLES_FILE,
    SETTINGS_FILE,
    Files,
    Settings,
    find_files,
    open_library,
    read_roles,
)
from zoo.data.text.pieces import NAMES, SENTINEL, Pieces

Ids = Int32[np.ndarray, " _"]
_BATCH_CHARS = 2**22  # of text that the library has in hand at a time


class Tokenizer:
    """Text to numbers and back; pickles as its path, so that worker processes open it again.

    What is written like a special token in a text stays text: `[MASK]` comes by its number alone.

    Attributes:
      kind: "wordpiece", "bpe", "unigram" or "wordlevel" (the library `tokenizers`), or
        "sentencepiece".
      size: rows that an embedding needs: the largest number and one.
      fingerprint: a hash of what the files hold; a copy elsewhere has the same.
      pad, bos, eos, unk, cls, sep, mask: numbers of special tokens; None where there is none. GPT-2
        has one token for `bos` and `eos`; RoBERTa one for `bos` and `cls`, one for `eos` and `sep`.
        A tokenizer_config.json beside a tokenizer.json says what `bos` and `eos` are.
      sentinels: of T5's <extra_id_0>, <extra_id_1>, ...; may be empty.
      word_starts: whether a token begins a word: no "##", or a space before it. Special ones do.
      byte_lengths: UTF-8 bytes of text that a token stands for, the space before it too; 0 for
        special ones. WordPiece loses spaces: bits per byte want the documents' own length there.
    """

    pad: int | None
    bos: int | None
    eos: int | None
    unk: int | None
    cls: int | None
    sep: int | None
    mask: int | None

    def __init__(self, path: Path, files: Files, library: Pieces):
        self.path, self.kind, self.lowercase = path, library.model.lower(), files.lowercase
        self._files, self._library = files, library
        tokens = library.tokens
        self.size = len(tokens)
        self._ids = {token: number for number, token in enumerate(tokens) if token is not None}
        for role, names in NAMES.items():
            setattr(self, role, next((self._ids[n] for n in names if n in self._ids), None))
        for role, token in read_roles(files).items():
            setattr(self, role, None if token is None else self._ids.get(token))
        if self.mask is not None and self.cls is None:
            self.cls, self.sep = self.bos, self.eos
        found = {int(m[1]): self._ids[m[0]] for m in map(SENTINEL.fullmatch, self._ids) if m}
        self.sentinels = [found[order] for order in sorted(found)]
        self.word_starts: Bool[np.ndarray, " V"] = _word_starts(library)
        lengths = [len(text) for text in library.texts]
        self.byte_lengths: Int32[np.ndarray, " V"] = np.array(lengths, np.int32)
        self.fingerprint = _fingerprint(files)

    def __reduce__(self):
        return _reload, (str(self.path), self._files.kind == MARIAN_TARGETS)

    def for_targets(self) -> "Tokenizer":
        """The tokenizer of what is translated into: MarianMT cuts it otherwise, the rest alike."""
        if self._files.kind != "marian":
            return self
        files = self._files._replace(kind=MARIAN_TARGETS)
        return Tokenizer(self.path, files, open_library(files))

    def encode(self, text: str) -> Ids:
        """The numbers of a text's pieces, without special tokens."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """As `encode`, in parallel; some megabytes of text are in hand at a time."""
        found, start, chars = [], 0, 0
        for stop, text in enumerate(texts, 1):
            chars += len(text) + 64  # a piece of an empty text costs something too
            if chars > _BATCH_CHARS or stop == len(texts):
                found += self._library.cut_all(texts[start:stop])
                start, chars = stop, 0
        return found

    def encode_offsets(self, text: str) -> tuple[Ids, Ids, Ids]:
        """Numbers, and where each piece begins and ends in the text, in characters.

        The space before a piece is not counted to it. A piece of whitespace alone, or one of
        several bytes of one character, may be empty.
        """
        cut = self._library.cut(text)
        starts, ends = np.array(cut.spans, np.int32).reshape(-1, 2).T.copy()
        for i, (start, end) in enumerate(cut.spans):
            while start < end and text[start].isspace():
                start += 1
            starts[i] = start
        return np.array(cut.ids, np.int32), starts, ends

    def encode_words(self, words: Sequence[str]) -> tuple[Ids, Ids]:
        """Numbers of words that a space parts, and of each the index of its word.

        A word of which nothing is left, such as a control character, has no piece.
        """
        ids, starts, _ = self.encode_offsets(" ".join(words))
        begins = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
        return ids, (np.searchsorted(begins, starts, side="right") - 1).astype(np.int32)

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """Text; special tokens are left out."""
        kept = [int(number) for number in ids]
        return self._library.join([n for n in kept if n not in self._library.specials])

    def token(self, number: SupportsIndex) -> str:
        """How a number is written in the vocabulary; "" where it has a hole, and beyond its end.

        Published models have more rows than tokens, for a round number of them.
        """
        tokens = self._library.tokens
        return (tokens[number] if int(number) < len(tokens) else None) or ""

    def id(self, token: str) -> int | None:
        """The number of a token as the vocabulary writes it."""
        return self._ids.get(token)

    def stream_decoder(self) -> "StreamDecoder":
        """Text as its tokens come, one at a time."""
        return StreamDecoder(self)

    def save(self, directory: Path) -> None:
        """Copies what it is made of into a directory, which `load_tokenizer` then opens."""
        directory.mkdir(parents=True, exist_ok=True)
        for path in self._files.paths:
            (directory / path.name).write_bytes(path.read_bytes())
        _write_settings(directory, self._files)

    def publish(self, directory: Path) -> None:
        """The same in a form that Hugging Face's libraries open."""
        if self._files.kind == "llama2c":
            llama2c.write_json(self._files.paths[0], directory)
            return
        for path in self._files.paths:
            (directory / path.name).write_bytes(path.read_bytes())
        if self._files.kind == "wordpiece":
            case = json.dumps({"do_lower_case": self.lowercase})
            (directory / ROLES_FILE).write_text(case + "\n")


class StreamDecoder:
    """Gives text out as soon as its characters are whole; all of it together is `decode`'s."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # since a token before the last that was given out
        self._given = 0  # of these

    def add(self, number: SupportsIndex) -> str:
        """The text that a token makes whole; "" if it takes more tokens."""
        if number in self._tokenizer._library.specials:
            return ""
        self._ids.append(int(number))
        # A last character that is not whole yet shows as a replacement character.
        return self._give(lambda text: text.endswith("\ufffd"))

    def end(self) -> str:
        """What is left, which no further token can make whole."""
        return self._give(lambda _: False) if self._given < len(self._ids) else ""

    def _give(self, is_unfinished) -> str:
        before = self._tokenizer.decode(self._ids[: self._given])
        text = self._tokenizer.decode(self._ids)
        if is_unfinished(text):
            return ""
        # A piece reads differently at the beginning of a text: one is kept before the next.
        self._ids, self._given = self._ids[self._given :], len(self._ids) - self._given
        return text[len(before) :]


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Opens a tokenizer.

    Args:
      path: a directory that `zoo data tokenizer` made, `tokenizer.json`, `vocab.txt` (WordPiece,
        uncased where a tokenizer_config.json beside it says so, else where it has no capitals),
        `vocab.bpe` or `merges.txt` beside its `encoder.json` or `vocab.json` (byte-level BPE), a
        `*.model` (SentencePiece), MarianMT's `source.spm` beside `target.spm` and `vocab.json`,
        llama2.c's `tokenizer.bin`, or a directory with one of these.

    Raises:
      UserError: nothing is there, or something else.
    """
    where = Path(path).expanduser().absolute()
    files = find_files(where)
    return Tokenizer(where, files, open_library(files))


def train_tokenizer(
    kind: str,
    texts: Iterable[str],
    vocab_size: int,
    out: str | Path,
    *,
    lowercase: bool | None = None,
    sentinels: int = 0,
) -> Tokenizer:
    """Makes a tokenizer from text; the same text makes the same one.

    Args:
      kind: "wordpiece" (BERT's), "bpe" (GPT-2's, over bytes) or "sentencepiece" (T5's: unigrams,
        with bytes for what is rare).
      vocab_size: all of it, special tokens and sentinels too.
      out: a directory that does not exist yet, or is empty; appears whole or not at all.
      lowercase: whether capitals (and in WordPiece accents) go; default: in WordPiece alone.
      sentinels: T5's <extra_id_0> ... to add.

    Raises:
      UserError: another kind, too little text for so large a vocabulary, or `out` holds something.
    """
    out = Path(out).expanduser().absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already: give another directory, or remove it")
    lowercase = kind == "wordpiece" if lowercase is None else lowercase
    made = learn(kind, texts, vocab_size, lowercase=lowercase, sentinels=sentinels)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        work = Path(temporary) / "made"
        work.mkdir()
        for name, content in made.items():
            (work / name).write_bytes(content)
        paths = tuple(work / name for name in made)
        above = sentinels if kind == "sentencepiece" else None  # elsewhere they are in the files
        _write_settings(work, Files(kind, paths, lowercase, above))
        if out.exists():
            out.rmdir()
        work.rename(out)
    return load_tokenizer(out)


def _reload(path: str, targets: bool) -> Tokenizer:
    found = load_tokenizer(path)
    return found.for_targets() if targets else found


def _write_settings(directory: Path, files: Files) -> None:
    settings = Settings(
        kind=files.kind,
        files=tuple(path.name for path in files.paths),
        lowercase=files.lowercase,
        sentinels=files.sentinels,
    )
    (directory / SETTINGS_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(settings)))


def _word_starts(library: Pieces) -> Bool[np.ndarray, " V"]:
    tokens = itertools.count(), library.tokens, library.texts
    starts = [
        number in library.specials
        or (
            not (token or "").startswith("##")
            if library.model == "WordPiece"
            else text[:1].isspace()
        )
        for number, token, text in zip(*tokens)  # noqa: B905
    ]
    return np.array(starts, bool)


def _fingerprint(files: Files) -> str:
    digest = hashlib.sha256(repr((files.kind, files.lowercase, files.sentinels)).encode())
    for path in files.paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
