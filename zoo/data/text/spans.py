"""Rows for T5's pretraining: spans of a text become sentinels, and the target holds them.

T5's text and lengths (Raffel 2020, arXiv 1910.10683, 3.1.4): documents are joined without marks and
cut into pieces just so long that, corrupted and ended by EOS, they fill the row.
"""

import numpy as np
from jaxtyping import Int64

from zoo.config import UserError
from zoo.config.data import SpanData
from zoo.config.spans import Noise, noise_of, raw_length
from zoo.data.base import Row
from zoo.data.text.base import Documents, Tokens, Vocabulary, require
from zoo.data.text.layout import lay_out
from zoo.data.text.running import RunningText
from zoo.data.text.token_store import open_tokens
from zoo.data.text.tokenizers import load_tokenizer


def open_span_rows(data: SpanData, split: str, *, train: bool) -> "SpanRows":
    """The rows of a split; training leaves out the last one where it is not full.

    Raises:
      UserError: as `open_tokens`; a tokenizer without EOS or with too few sentinels; no text; a
        rate of 0 or 1, or a length too small for it.
    """
    tokenizer = load_tokenizer(data.tokenizer)
    documents = open_tokens(data, split, "text", tokenizer)
    return SpanRows(documents, tokenizer, data, name=split, train=train)


def random_partition(
    total: int, parts: int, rng: np.random.Generator
) -> Int64[np.ndarray, " parts"]:
    """Lengths of `parts` pieces of `total`, none empty; all such lists are equally likely."""
    cuts = np.sort(rng.permutation(total - 1)[: parts - 1]) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))


def corrupt(
    text: Tokens, noise: Noise, sentinels: Tokens, eos: int, rng: np.random.Generator
) -> tuple[Tokens, Tokens]:
    """Takes spans out of a text; it begins with what stays and ends with a span.

    Returns:
      What stays, each gap marked by the next sentinel, and the spans, each behind its sentinel;
      both end with EOS.
    """
    stay = random_partition(len(text) - noise.tokens, noise.spans, rng)
    gone = random_partition(noise.tokens, noise.spans, rng)
    is_gone = np.repeat(np.arange(2 * noise.spans) % 2 == 1, np.stack([stay, gone], 1).ravel())
    marks, end = sentinels[: noise.spans], np.array([eos], np.int32)
    source = np.insert(text[~is_gone], np.cumsum(stay), marks)
    target = np.insert(text[is_gone], np.cumsum(gone) - gone, marks)
    return np.concatenate([source, end]), np.concatenate([target, end])


class SpanRows:
    """`source` int32 [S], a text with gaps; `target` int32 [T], what a decoder is to say of it;
    `source_segment` and `target_segment` int32, 1 where a token stands and 0 in padding; `mask`
    bool [T], the targets that count. S is `data.length`, and T follows: 114 for 512.
    """

    classes = ()
    repeats = 1

    def __init__(
        self,
        documents: Documents,
        vocabulary: Vocabulary,
        data: SpanData,
        *,
        name: str,
        train: bool,
    ):
        (self._eos,) = require(vocabulary, "span_corruption", "eos")
        self._pad = vocabulary.pad or 0
        self._sentinels = np.array(vocabulary.sentinels, np.int32)
        self._rate, self._mean_span, self._name = data.mask_rate, data.mean_span, name
        self._raw = raw_length(data.length, data.mask_rate, data.mean_span)
        noise = noise_of(self._raw, data.mask_rate, data.mean_span)
        if noise.spans > len(self._sentinels):
            raise UserError(
                f"a row of {data.length} tokens has {noise.spans} spans, but the tokenizer has "
                f"{len(self._sentinels)} sentinels: make one with more, or set data.length or "
                "data.mask_rate lower or data.mean_span higher"
            )
        self._text = RunningText(documents, shuffle=train)
        self._source, self._target = data.length, noise.target
        full, rest = divmod(len(self._text), self._raw)
        # Of one token nothing can be taken and something left.
        self._count = max(full, 1) if train else full + (rest > 1)
        if len(self._text) < 2:
            raise UserError(f"{name} is a text of one token: there is nothing to corrupt")

    def __len__(self) -> int:
        return self._count

    def describe(self, index: int) -> str:
        return f"{self._name}, piece {index}"

    def make(self, index: int, rng: np.random.Generator) -> Row:
        """One text; `rng` places the gaps."""
        start = index * self._raw
        text = np.concatenate(self._text.read(start, min(start + self._raw, len(self._text))))
        noise = noise_of(len(text), self._rate, self._mean_span)
        source, target = corrupt(text, noise, self._sentinels, self._eos, rng)
        source = lay_out([source], self._source, pad=self._pad)
        target = lay_out([target], self._target, pad=self._pad)
        return {
            "source": source.tokens,
            "source_segment": source.segment,
            "target": target.tokens,
            "target_segment": target.segment,
            "mask": target.segment > 0,
        }
