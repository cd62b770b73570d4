"""Rows for BERT's pretraining (Devlin 2018, arXiv 1810.04805, appendix A), made without state.

Where this departs from create_pretraining_data.py:

* Row i is always cut from the same run of sentences, and anew each time it is made. What a random
  next text or a shorter length leaves over is not begun with in the next row, but left out until
  another epoch cuts elsewhere.
* Nothing is written ten times over: `masking="static"` draws once for each row, "dynamic" for each
  epoch.
* Another document is drawn from all others, and never the same one.
* Without `next_sentence` a row is one stretch of a document's tokens, wherever sentences end.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64

from zoo.config import UserError
from zoo.config.data import MaskedData
from zoo.data.base import Row
from zoo.data.batches import ExampleRng
from zoo.data.text.base import Documents, Tokens, Vocabulary, require
from zoo.data.text.chunks import chunk_sentences, chunk_tokens
from zoo.data.text.layout import longest_first, make_frame
from zoo.data.text.token_store import open_tokens
from zoo.data.text.tokenizers import load_tokenizer

_STATIC = 12_345  # the seed of what `masking="static"` draws


def open_masked_rows(data: MaskedData, split: str, *, train: bool) -> "MaskedRows":
    """The rows of a split; evaluation draws as training does, always the same for a row.

    Raises:
      UserError: as `open_tokens`; a tokenizer without [CLS], [SEP], [MASK] or [PAD]; no text, or,
        for next_sentence, none of several sentences.
    """
    tokenizer = load_tokenizer(data.tokenizer)
    require(tokenizer, "masked_lm", "mask", "cls", "sep", "pad")  # before a corpus is tokenised
    documents = open_tokens(data, split, "text", tokenizer, sentences=data.next_sentence)
    return MaskedRows(documents, tokenizer, data, name=split)


class Masking(NamedTuple):
    """What is masked, and by what."""

    rate: float
    most: int  # tokens of a row
    mask: int
    size: int  # of the vocabulary
    word_starts: Bool[np.ndarray, " V"] | None  # to mask whole words; None: tokens

    def __call__(
        self, tokens: Int32[np.ndarray, " T"], maskable: Bool[np.ndarray, " T"], total: int, rng
    ) -> tuple[Int32[np.ndarray, " T"], Int64[np.ndarray, " M"]]:
        """Masks some of a row's tokens: 80 % become [MASK], 10 % any token, 10 % stay.

        Args:
          tokens: of the row.
          maskable: those that are no special ones.
          total: tokens of the row, special ones too: the rate is of these.
          rng: decides.

        Returns:
          The row with masks, and the places of those that are to be guessed.
        """
        count = min(self.most, max(1, round(self.rate * total)))
        places = np.flatnonzero(maskable)
        if self.word_starts is None:
            chosen = np.sort(rng.permutation(places)[:count])
        else:
            chosen = whole_words(tokens, places, self.word_starts, count, rng)
        fate, masked = rng.random(len(chosen)), tokens.copy()
        masked[chosen[fate < 0.8]] = self.mask
        other = chosen[fate >= 0.9]
        masked[other] = rng.integers(0, self.size, len(other))
        return masked, chosen


def whole_words(
    tokens: Int32[np.ndarray, " T"],
    places: Int64[np.ndarray, " P"],
    word_starts: Bool[np.ndarray, " V"],
    count: int,
    rng: np.random.Generator,
) -> Int64[np.ndarray, " M"]:
    """The places of random words, all pieces of each; a word past `count` pieces is passed over."""
    # A text that begins inside a word, as one that was cut may, begins with what is left of it.
    begins = word_starts[tokens[places]] | (np.diff(places, prepend=-1) > 1)
    begins[:1] = True
    first = np.flatnonzero(begins)
    size = np.diff(np.append(first, len(places)))
    chosen, left = [], count
    for word in rng.permutation(len(first)).tolist():
        if size[word] <= left:
            chosen.append(word)
            left -= size[word]
            if not left:
                break
    taken = np.zeros(len(first), bool)
    taken[chosen] = True
    return places[np.repeat(taken, size)]


class MaskedRows:
    """`tokens`, `type` and `segment` int32 [T] as `Frame` makes them, some tokens masked;
    `masked_positions` and `masked_targets` int32 [M], where and what those are; `mask` bool [M],
    which of the M are there; with next_sentence, int32 `next_sentence`: 0 where B follows A in its
    document, 1 where it comes from another.
    """

    classes = ()
    repeats = 1

    def __init__(
        self, documents: Documents, vocabulary: Vocabulary, data: MaskedData, *, name: str
    ):
        (mask,) = require(vocabulary, "masked_lm", "mask")
        self._frame = make_frame(vocabulary, data.length, "masked_lm")
        self._room = self._frame.room(1 + data.next_sentence)
        if self._room < 2:
            raise UserError(f"data.length is {data.length}: special tokens leave too few to mask")
        word_starts = np.asarray(vocabulary.word_starts) if data.whole_words else None
        self._masking = Masking(
            data.mask_rate, data.max_predictions, mask, vocabulary.size, word_starts
        )
        self._documents, self._data, self._name = documents, data, name
        if data.next_sentence:
            lengths, counts = sentence_lengths(documents)
            self._chunks = chunk_sentences(lengths, counts, self._room)
            self._full = np.flatnonzero(counts)
            self._check_documents()
        else:
            self._chunks = chunk_tokens(np.asarray(documents.lengths), self._room)
        if not len(self):
            raise UserError(f"{name} holds no text: all of its documents are empty")

    def _check_documents(self) -> None:
        if len(self) and len(self._full) < 2:
            raise UserError(
                f"{self._name} is one document: random next texts come from another, so give "
                "several, or set data.next_sentence=False"
            )
        if len(self) and np.all(self._chunks.stop - self._chunks.start == 1):
            raise UserError(
                f"no row of {self._name} holds two sentences, so none could be followed by its "
                "next: put sentences on lines of their own, or set data.next_sentence=False"
            )

    def __len__(self) -> int:
        return len(self._chunks.document)

    def describe(self, index: int) -> str:
        return f"{self._name}[{self._chunks.document[index]}], part {index}"

    def make(self, index: int, rng: np.random.Generator) -> Row:
        """One row; `rng` draws the texts and the masks, unless the masking is static."""
        if self._data.masking == "static":
            rng = ExampleRng(_STATIC).at(index)
        document, start, stop = (int(part[index]) for part in self._chunks)
        draw = self._pair if self._data.next_sentence else self._text
        row = draw(document, start, stop, rng)
        tokens, total = row["tokens"], int(row["segment"].sum())
        maskable = row["segment"] == 1
        maskable[[0, total - 1]] = False
        if self._data.next_sentence:
            maskable[np.argmax(row["type"]) - 1] = False  # the [SEP] before the first of type 1
        row["tokens"], chosen = self._masking(tokens, maskable, total, rng)
        positions, targets = np.zeros((2, self._data.max_predictions), np.int32)
        positions[: len(chosen)], targets[: len(chosen)] = chosen, tokens[chosen]
        mask = np.arange(self._data.max_predictions) < len(chosen)
        return {**row, "masked_positions": positions, "masked_targets": targets, "mask": mask}

    def _text(self, document: int, start: int, stop: int, rng: np.random.Generator) -> Row:
        """[CLS] a stretch of one document [SEP]."""
        if rng.random() < self._data.short_rate:
            length = int(rng.integers(min(2, stop - start), stop - start + 1))
            start += int(rng.integers(0, stop - start - length + 1))
            stop = start + length
        return self._frame(self._documents.read(document, start, stop))

    def _pair(self, document: int, start: int, stop: int, rng: np.random.Generator) -> Row:
        """[CLS] A [SEP] B [SEP], and whether B is what follows."""
        sentences, target = self._sentences(document)[start:stop], self._room
        if rng.random() < self._data.short_rate:
            target = int(rng.integers(2, self._room + 1))
            sentences = sentences[: _reach(sentences, target)]
        split = int(rng.integers(1, len(sentences))) if len(sentences) > 2 else 1
        first = np.concatenate(sentences[:split])
        elsewhere = len(sentences) == 1 or rng.random() < 0.5
        if elsewhere:
            sentences, split = self._elsewhere(document, rng), 0
            sentences = sentences[: _reach(sentences, target - len(first))]
        second = np.concatenate(sentences[split:])
        lengths = longest_first(len(first), len(second), self._room)
        cut = [_cut(text, n, rng) for text, n in zip((first, second), lengths, strict=True)]
        return {**self._frame(*cut), "next_sentence": int(elsewhere)}

    def _elsewhere(self, document: int, rng: np.random.Generator) -> list[Tokens]:
        """The sentences of another document, from a random one on."""
        here = int(np.searchsorted(self._full, document))
        other = int(rng.integers(len(self._full) - 1))
        sentences = self._sentences(int(self._full[other + (other >= here)]))
        return sentences[int(rng.integers(len(sentences))) :]

    def _sentences(self, document: int) -> list[Tokens]:
        return [sentence for sentence in self._documents[document] if len(sentence)]


def sentence_lengths(
    documents: Documents,
) -> tuple[Int64[np.ndarray, " S"], Int64[np.ndarray, " D"]]:
    """Tokens of all sentences that have any, and how many of these each document has."""
    lengths, counts = documents.sentence_lengths()
    document = np.repeat(np.arange(len(counts)), counts)[lengths > 0]
    return lengths[lengths > 0], np.bincount(document, minlength=len(counts))


def _reach(sentences: list[Tokens], target: int) -> int:
    """How many sentences reach `target` tokens; at least one, at most all."""
    total = 0
    for i, sentence in enumerate(sentences):
        total += len(sentence)
        if total >= target:
            return i + 1
    return len(sentences)


def _cut(text: Tokens, length: int, rng: np.random.Generator) -> Tokens:
    """What is left when tokens are taken one by one, each from the front or the end by chance."""
    start = int(rng.binomial(len(text) - length, 0.5)) if len(text) > length else 0
    return text[start : start + length]
