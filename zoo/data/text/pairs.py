"""Rows for sequence-to-sequence models: a source and its target, or several such pairs."""

import numpy as np
from jaxtyping import Int32, Int64

from zoo.config import UserError
from zoo.config.data import PairData
from zoo.data.base import Row
from zoo.data.text.base import Documents, Tokens, Vocabulary, fixed_order, require
from zoo.data.text.layout import lay_out
from zoo.data.text.packing import pack_pairs
from zoo.data.text.token_store import open_tokens
from zoo.data.text.tokenizers import load_tokenizer


def open_pair_rows(data: PairData, split: str, *, train: bool) -> "PairRows":
    """The rows of a split; evaluation has a row for each pair, in order, cut where it is too long.

    Raises:
      UserError: as `open_tokens`; a tokenizer without EOS; no pair that fits.
    """
    tokenizer = load_tokenizer(data.tokenizer)
    source = open_tokens(data, split, "source", tokenizer)
    target = open_tokens(data, split, "target", tokenizer.for_targets())
    return PairRows(source, target, tokenizer, data, name=split, train=train)


def encode_prefix(vocabulary: Vocabulary, prefix: str) -> Tokens:
    """The tokens of what stands before each source, apart from which sources are tokenised.

    Tokenizers that put a space before any text by themselves (SentencePiece) get none at the
    prefix's end, where that makes the same tokens as both texts in one.
    """
    if not prefix:
        return np.array([], np.int32)
    bare, whole = vocabulary.encode(prefix.rstrip()), vocabulary.encode(prefix + "a")
    if np.array_equal(np.concatenate([bare, vocabulary.encode("a")]), whole):
        return bare
    return vocabulary.encode(prefix)


class PairRows:
    """`source` int32 [S], and `target` int32 [T], what a decoder is to say of it, each text ended
    by EOS; `source_segment` and `target_segment` int32, the pair's number in the row, from 1 (0 is
    padding); `source_position` and `target_position` int32, from 0 in each text; `mask` bool [T],
    the targets that count.
    """

    classes = ()
    repeats = 1

    def __init__(
        self,
        source: Documents,
        target: Documents,
        vocabulary: Vocabulary,
        data: PairData,
        *,
        name: str,
        train: bool,
    ):
        self._texts, self._name = (source, target), name
        self._prefix = encode_prefix(vocabulary, data.prefix)
        self._end = np.array(require(vocabulary, "seq2seq", "eos"), np.int32)
        self._pad = vocabulary.pad or 0
        self._rooms = data.length, data.target_length
        if len(self._prefix) >= data.length:
            raise UserError(
                f"data.prefix has {len(self._prefix)} tokens, which leaves nothing of data.length, "
                f"{data.length}: set a longer data.length"
            )
        self._order, self._bounds = self._plan(data, train=train)

    def _plan(
        self, data: PairData, *, train: bool
    ) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " R"]]:
        """The pairs row after row, and where each row's begin; a last entry is their end."""
        lengths = self._lengths()
        pairs = np.arange(lengths.shape[1])
        fits = np.all(lengths <= np.array(self._rooms)[:, None], axis=0)
        if train and data.on_long == "drop":
            pairs = pairs[fits]
        if not len(pairs):
            longest = f"the {len(fits)} pairs are too long" if len(fits) else "there are no pairs"
            raise UserError(
                f"{self._name} makes no row: {longest}; set a longer data.length and "
                "data.target_length, or data.on_long='cut'"
            )
        if not (train and data.pack):
            return pairs, np.arange(len(pairs) + 1)
        pairs = pairs[fixed_order(len(pairs))]
        source, target = np.minimum(lengths[:, pairs], np.array(self._rooms)[:, None])
        rows = pack_pairs(source, target, *self._rooms)
        counts = np.bincount(rows)
        bounds = np.concatenate([[0], np.cumsum(counts)])
        return pairs[np.argsort(rows, kind="stable")], bounds

    def _lengths(self) -> Int64[np.ndarray, "2 N"]:
        """Tokens of sources and targets, with the prefix and EOS."""
        source, target = (np.asarray(text.lengths, np.int64) for text in self._texts)
        if len(source) != len(target):
            raise UserError(
                f"{self._name} has {len(source)} sources and {len(target)} targets: pairs need "
                "as many of both"
            )
        return np.stack([source + len(self._prefix), target]) + 1

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def describe(self, index: int) -> str:
        pairs = self.pairs(index)
        return ", ".join(f"{self._name}[{pair}]" for pair in pairs)

    def pairs(self, index: int) -> list[int]:
        """The pairs in a row, as numbered in the split."""
        return self._order[self._bounds[index] : self._bounds[index + 1]].tolist()

    def fill(self) -> tuple[float, float]:
        """The share of all rows' source tokens, and of their targets, that is not padding."""
        used = np.minimum(self._lengths()[:, self._order], np.array(self._rooms)[:, None]).sum(1)
        source, target = (used / (len(self) * np.array(self._rooms))).tolist()
        return source, target

    def make(self, index: int, rng: np.random.Generator) -> Row:
        """One row; nothing in it is random."""
        pairs, row = self.pairs(index), {}
        for side, texts, room in zip(("source", "target"), self._texts, self._rooms, strict=True):
            before = self._prefix if side == "source" else self._prefix[:0]
            ready = [self._ready(before, texts[pair], room) for pair in pairs]
            laid = lay_out(ready, room, pad=self._pad)
            row |= {
                side: laid.tokens,
                f"{side}_segment": laid.segment,
                f"{side}_position": laid.position,
            }
        return {**row, "mask": row["target_segment"] > 0}

    def _ready(self, before: Tokens, text: Tokens, room: int) -> Int32[np.ndarray, " _"]:
        """A text with what comes before it and EOS, cut to its row."""
        return np.concatenate([before, text[: room - 1 - len(before)], self._end])
