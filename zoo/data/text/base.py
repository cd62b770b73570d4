"""What rows of text are made from: a tokenizer, tokens by document, records of fields."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int32, Int64

from zoo.config import UserError
from zoo.data.batches import permutation

Tokens = Int32[np.ndarray, " _"]

# The order of a training split's documents before they are joined or packed. It must not change
# between two runs, whatever their seeds: the seed orders the rows that come of it.
_ORDER = 20_170_612


@runtime_checkable
class Vocabulary(Protocol):
    """The part of a tokenizer that rows need."""

    size: int
    pad: int | None
    bos: int | None
    eos: int | None
    cls: int | None
    sep: int | None
    mask: int | None
    sentinels: list[int]
    word_starts: Bool[np.ndarray, " V"]  # whether a token can begin a word
    byte_lengths: Int32[np.ndarray, " V"]  # UTF-8 bytes; 0 for what is no text

    def encode(self, text: str) -> Tokens: ...

    def encode_offsets(self, text: str) -> tuple[Tokens, Any, Any]: ...

    def encode_words(self, words: list[str]) -> tuple[Tokens, Any]: ...


@runtime_checkable
class Documents(Protocol):
    """One field of a split in tokens, without special ones: what `TokenStore` does."""

    lengths: Int64[np.ndarray, " N"]  # tokens

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...

    def read(self, index: int, start: int, stop: int) -> Tokens: ...

    def sentence_lengths(
        self,
    ) -> tuple[Int64[np.ndarray, " S"], Int64[np.ndarray, " N"]]: ...


@runtime_checkable
class Examples(Protocol):
    """One split's examples as dicts of fields."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def describe(self, index: int) -> str: ...


def require(vocabulary: Vocabulary, kind: str, *names: str) -> list[int]:
    """The numbers of special tokens that a kind of data needs.

    Raises:
      UserError: the tokenizer does not have one of them.
    """
    found = {name: getattr(vocabulary, name) for name in names}
    missing = [f"[{name.upper()}]" for name, number in found.items() if number is None]
    if missing:
        raise UserError(
            f"data.kind {kind!r} needs {' and '.join(missing)}, which the tokenizer does not have: "
            "set data.tokenizer to one that was made for it"
        )
    return list(found.values())


def fixed_order(count: int) -> Int64[np.ndarray, " count"]:
    """A shuffled order of `count` things, always the same."""
    return permutation(_ORDER, 0, count)
