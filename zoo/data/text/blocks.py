"""Rows for decoder-only language models: running text, cut into blocks without gaps."""

import numpy as np

from zoo.config.data import LmData
from zoo.data.base import Row
from zoo.data.text.base import Documents, Vocabulary, require
from zoo.data.text.layout import lay_out
from zoo.data.text.running import RunningText
from zoo.data.text.token_store import open_tokens
from zoo.data.text.tokenizers import load_tokenizer


def open_block_rows(data: LmData, split: str, *, train: bool) -> "BlockRows":
    """The rows of a split; training leaves out the last one where it is not full.

    Raises:
      UserError: as `open_tokens`; a tokenizer without an end-of-text token; no text.
    """
    tokenizer = load_tokenizer(data.tokenizer)
    documents = open_tokens(data, split, "text", tokenizer)
    return BlockRows(documents, tokenizer, data.length, name=split, train=train)


class BlockRows:
    """`tokens` int32 [T]; `targets` int32 [T], the tokens that follow them; `mask` bool [T], where
    one does: a document's first token is never a target, any other of the split once; `segment`
    int32 [T], a document's number in the row, from 1 (0 is padding); `position` int32 [T], from 0
    in each document, also in one that goes on from the row before, as its beginning is not here;
    `num_bytes` int32, UTF-8 bytes of the targets that count.

    A document has BOS in front, where the tokenizer has one, and EOS behind. Their order is a fixed
    shuffled one in training, and their own in evaluation.
    """

    classes = ()
    repeats = 1

    def __init__(
        self, documents: Documents, vocabulary: Vocabulary, length: int, *, name: str, train: bool
    ):
        require(vocabulary, "lm", "eos")
        self._text = RunningText(
            documents, before=vocabulary.bos, after=vocabulary.eos, shuffle=train
        )
        self._length, self._name = length, name
        self._byte_lengths = np.asarray(vocabulary.byte_lengths)
        self._pad = vocabulary.pad or 0
        # A row's last target is the next one's first token: none is missed or counted twice.
        full, rest = divmod(len(self._text) - 1, length)
        self._count = max(full, 1) if train else full + (rest > 0)

    def __len__(self) -> int:
        return self._count

    def describe(self, index: int) -> str:
        return f"{self._name}, block {index}"

    def make(self, index: int, rng: np.random.Generator) -> Row:
        """One block; nothing in it is random."""
        start = index * self._length
        stop = min(start + self._length + 1, len(self._text))
        laid = lay_out(self._text.read(start, stop), self._length + 1, pad=self._pad)
        mask = (laid.segment[1:] == laid.segment[:-1]) & (laid.segment[1:] > 0)
        targets = laid.tokens[1:]
        return {
            "tokens": laid.tokens[:-1],
            "targets": np.where(mask, targets, self._pad),
            "mask": mask,
            "segment": laid.segment[:-1],
            "position": laid.position[:-1],
            "num_bytes": self._byte_lengths[targets[mask]].sum(),
        }
