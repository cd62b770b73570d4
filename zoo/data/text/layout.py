"""How tokens lie in a row: one after the other, framed as BERT frames them, cut where too long."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from zoo.data.base import Row
from zoo.data.text.base import Tokens, Vocabulary, require


class Laid(NamedTuple):
    """Texts one after the other, in a row of T tokens that ends in padding."""

    tokens: Int32[np.ndarray, " T"]
    segment: Int32[np.ndarray, " T"]  # a text's number in the row, from 1; 0 is padding
    position: Int32[np.ndarray, " T"]  # from 0 in each text


def lay_out(texts: list[Tokens], length: int, *, pad: int) -> Laid:
    """Texts that together have `length` tokens or fewer, one after the other."""
    lengths = np.array([len(text) for text in texts], np.int32)
    total = int(lengths.sum())
    laid = Laid(np.full(length, pad, np.int32), *np.zeros((2, length), np.int32))
    if total:
        np.concatenate(texts, out=laid.tokens[:total])
        laid.segment[:total] = np.repeat(np.arange(1, len(texts) + 1), lengths)
        laid.position[:total] = np.arange(total)
        laid.position[:total] -= np.repeat(np.cumsum(lengths) - lengths, lengths)
    return laid


class Frame(NamedTuple):
    """[CLS] A [SEP], or [CLS] A [SEP] B [SEP], in a row of `length` tokens.

    `parting` is the number of [SEP] between two texts: RoBERTa's is 2.
    """

    length: int
    cls: int
    sep: int
    pad: int
    parting: int = 1

    def room(self, texts: int) -> int:
        """Tokens that one text or two may have together."""
        return self.length - 1 - (1 if texts == 1 else 1 + self.parting)

    def second(self, first: int) -> int:
        """Where a second text begins, after a first one of so many tokens."""
        return 1 + first + self.parting

    def __call__(self, first: Tokens, second: Tokens | None = None) -> Row:
        """`tokens`, `type` (0 up to the first [SEP], then 1) and `segment` (1; 0 is padding)."""
        tokens = np.full(self.length, self.pad, np.int32)
        kind, segment = np.zeros((2, self.length), np.int32)
        end = len(first) + 2
        tokens[0], tokens[1 : end - 1], tokens[end - 1] = self.cls, first, self.sep
        if second is not None:
            start = self.second(len(first))
            tokens[end:start] = self.sep
            end = start + len(second) + 1
            tokens[start : end - 1], tokens[end - 1] = second, self.sep
            kind[start:end] = 1
        segment[:end] = 1
        return {"tokens": tokens, "type": kind, "segment": segment}


def make_frame(vocabulary: Vocabulary, length: int, kind: str) -> Frame:
    """The frame of a kind of data; RoBERTa's where [CLS] is the token that any text begins with.

    Raises:
      UserError: the tokenizer has no [CLS], [SEP] or [PAD].
    """
    cls, sep, pad = require(vocabulary, kind, "cls", "sep", "pad")
    return Frame(length, cls, sep, pad, parting=2 if cls == vocabulary.bos else 1)


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """What is left of two lengths when the longer loses a token (of equals, the second one) until
    both fit: the rule of BERT's own code, and of Hugging Face's "longest_first".
    """
    if first + second <= room:
        return first, second
    shorter = min(first, second)
    if 2 * shorter > room:
        return room - room // 2, room // 2
    return (shorter, room - shorter) if first < second else (room - shorter, shorter)
