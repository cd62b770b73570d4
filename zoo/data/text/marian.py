"""MarianMT's pieces: a SentencePiece model a language, and one vocabulary that numbers them all."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.data.text.pieces import Cut, piece_text

VOCABULARY, SOURCE, TARGET = "vocab.json", "source.spm", "target.spm"
_ENDS = ("</s>", "<unk>")
_SPECIALS = (*_ENDS, "<pad>")
_LANGUAGE = re.compile(r">>[^<>]*<<")  # what models of several languages read first
_MOST = 2**24  # numbers of tokens


class Parts(NamedTuple):
    """What its three files hold."""

    vocabulary: dict[str, int]
    source: bytes
    target: bytes


def read_parts(paths: Sequence[Path]) -> Parts:
    """Reads the three files, in the order of their names above.

    Raises:
      ValueError: the vocabulary is none.
    """
    vocabulary, source, target, *_ = paths
    found = json.loads(vocabulary.read_bytes())
    if not isinstance(found, dict) or not {*_ENDS} <= found.keys():
        raise ValueError(f"{vocabulary.name} needs pieces with numbers, {' and '.join(_ENDS)} too")
    numbers = [*found.values()]
    if not all(type(number) is int and 0 <= number < _MOST for number in numbers):
        raise ValueError(f"{vocabulary.name} has a piece whose number is none")
    if len({*numbers}) != len(numbers):
        raise ValueError(f"{vocabulary.name} has one number for two pieces")
    return Parts(found, source.read_bytes(), target.read_bytes())


class MarianPieces:
    """Cuts texts of one of the two languages, and joins pieces of the one translated into."""

    model = "SentencePiece"

    def __init__(self, parts: Parts, *, targets: bool):
        """Args: `targets`: cut as what is translated into, rather than what is translated."""
        from sentencepiece import SentencePieceProcessor

        self._numbers = parts.vocabulary
        self._unknown = self._numbers["<unk>"]
        source, target = (SentencePieceProcessor(model_proto=m) for m in parts[1:])
        self._cutter: Any = target if targets else source
        self._joiner: Any = target
        self.tokens: list[str | None] = [None] * (max(self._numbers.values()) + 1)
        for token, number in self._numbers.items():
            self.tokens[number] = token
        self.specials = frozenset(
            self._numbers[name] for name in _SPECIALS if name in self._numbers
        )
        self.texts = [
            b"" if token is None or i in self.specials else piece_text(token)
            for i, token in enumerate(self.tokens)
        ]

    def cut(self, text: str) -> Cut:
        before, rest = self._language(text)
        start = len(text) - len(rest)
        spans = self._cutter.encode(rest, return_type="offset_mapping")["offsets"]
        spans = [(0, start)] * len(before) + [(a + start, b + start) for a, b in spans]
        return Cut(self._number(before, self._cutter.encode(rest, out_type=str)), spans)

    def cut_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        parts = [self._language(text) for text in texts]
        found = self._cutter.encode([rest for _, rest in parts], out_type=str)
        numbers = (self._number(before, p) for (before, _), p in zip(parts, found, strict=True))
        return [np.array(one, np.int32) for one in numbers]

    def join(self, ids: list[int]) -> str:
        known = (self.tokens[number] for number in ids if number < len(self.tokens))
        pieces = [token for token in known if token is not None]
        # A piece that the model does not know, of the other language, is left as it is written.
        return self._joiner.decode(pieces).replace("▁", " ").strip()

    def _language(self, text: str) -> tuple[list[str], str]:
        """The language that a text asks for first, if the vocabulary has it, and the rest."""
        asked = _LANGUAGE.match(text)
        if asked is None or asked[0] not in self._numbers:
            return [], text
        return [asked[0]], text[asked.end() :]

    def _number(self, before: list[str], pieces: list[str]) -> list[int]:
        return [self._numbers.get(piece, self._unknown) for piece in (*before, *pieces)]
