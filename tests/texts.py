"""Texts, tokens and a tokenizer small enough to check by hand: shared by the tests of rows."""

import re

import numpy as np

NAMES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>")
SENTINELS = 30
WORDS = ["a", "be", "the", "cat", "stood", "under", "apples", "yesterday", "greenhouses"]


class Trios:
    """Cuts words into pieces of three letters; those that go on begin with ##."""

    pad, unk, cls, sep, mask, bos, eos = range(7)

    def __init__(self, text: str, **changes):
        pieces = sorted({piece for word in text.split() for piece in trios(word)})
        marks = [f"<extra_id_{i}>" for i in range(SENTINELS)]
        self.tokens = [*NAMES, *marks, *pieces]
        self.size = len(self.tokens)
        self.sentinels = [self.tokens.index(mark) for mark in marks]
        self.word_starts = np.array([not token.startswith("##") for token in self.tokens])
        special = len(NAMES) + SENTINELS
        lengths = [0] * special + [len(piece.removeprefix("##")) for piece in pieces]
        self.byte_lengths = np.array(lengths, np.int32)
        for name, value in changes.items():
            setattr(self, name, value)

    def encode(self, text: str) -> np.ndarray:
        return self.encode_offsets(text)[0]

    def encode_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = []
        for word in re.finditer(r"\S+", text):
            place = word.start()
            for piece in trios(word[0]):
                end = place + len(piece.removeprefix("##"))
                found.append((self.tokens.index(piece), place, end))
                place = end
        ids, starts, ends = np.array(found, np.int32).reshape(-1, 3).T
        return ids, starts, ends

    def encode_words(self, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids = [self.encode(word) for word in words]
        index = np.repeat(np.arange(len(words)), [len(some) for some in ids])
        return np.concatenate([*ids, np.zeros(0, np.int32)]), index.astype(np.int32)

    def decode(self, ids) -> str:
        return " ".join(self.tokens[i] for i in ids).replace(" ##", "")


def trios(word: str) -> list[str]:
    pieces = [word[i : i + 3] for i in range(0, len(word), 3)]
    return [pieces[0], *(f"##{piece}" for piece in pieces[1:])]


class Stored:
    """One field of a split in tokens: an array an example, or a list of them, a sentence each."""

    def __init__(self, documents: list):
        self.documents = documents
        self.lengths = np.array(
            [sum(map(len, d)) if isinstance(d, list) else len(d) for d in documents], np.int64
        )

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, index: int):
        return self.documents[index]

    def read(self, index: int, start: int, stop: int) -> np.ndarray:
        return self.documents[index][start:stop]

    def sentence_lengths(self) -> tuple[np.ndarray, np.ndarray]:
        lengths = [len(sentence) for document in self.documents for sentence in document]
        return np.array(lengths, np.int64), np.array([len(d) for d in self.documents], np.int64)


class Examples(list):
    """Records in memory."""

    def describe(self, index: int) -> str:
        return f"test[{index}]"


def numbered(lengths, start: int = 100) -> Stored:
    """Documents of so many tokens, no two of which are the same."""
    ends = start + np.cumsum(lengths)
    return Stored([np.arange(e - n, e, dtype=np.int32) for e, n in zip(ends, lengths, strict=True)])


def sentences(count: int, seed: int = 0, words: int = 9) -> list[str]:
    """Random sentences of 1 to `words` words of 1 to 11 letters."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, words + 1))) for _ in range(count)]


def real(row: dict, name: str = "tokens", segment: str = "segment") -> np.ndarray:
    """A row's tokens without its padding."""
    return row[name][row[segment] > 0]
