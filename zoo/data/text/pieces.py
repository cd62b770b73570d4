"""The two libraries that cut text into pieces, behind one small face: numbers in, numbers out.

Text is text: what is written like a special token in it, such as `[SEP]`, does not become one.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

GPT2_END = "<|endoftext|>"
SENTINEL = re.compile(r"<extra_id_(\d+)>")  # T5's
# Each special token by the names that published vocabularies give it.
NAMES = {
    "pad": ("[PAD]", "<pad>", "<|pad|>", "<|finetune_right_pad_id|>"),
    "bos": ("<bos>", "<s>", "<|begin_of_text|>", GPT2_END),
    "eos": ("<eos>", "</s>", "<|end_of_text|>", GPT2_END),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<cls>"),
    "sep": ("[SEP]", "<sep>"),
    "mask": ("[MASK]", "<mask>"),
}


class Cut(NamedTuple):
    """One text's pieces, and where in the text each begins and ends, in characters."""

    ids: list[int]
    spans: list[tuple[int, int]]


@runtime_checkable
class Pieces(Protocol):
    """What `Tokenizer` needs of a library."""

    model: str  # WordPiece, BPE, Unigram, WordLevel or SentencePiece
    tokens: list[str | None]  # by id; None where a number is unused
    specials: frozenset[int]  # stand for no text
    texts: list[bytes]  # what each token adds to a text; empty for special ones

    def cut(self, text: str) -> Cut: ...

    def cut_all(self, texts: Sequence[str]) -> list[np.ndarray]: ...

    def join(self, ids: list[int]) -> str: ...


class HfPieces:
    """A tokenizer of Hugging Face's library `tokenizers`."""

    def __init__(self, library: Any):
        """Args: `library` is a `tokenizers.Tokenizer`; it is changed to treat text as text."""
        from tokenizers import decoders

        library.no_truncation()
        library.no_padding()
        library.encode_special_tokens = True
        self.model = type(library.model).__name__
        if self.model == "WordPiece":
            # Its other rules move spaces that were already given out when streaming.
            library.decoder = decoders.WordPiece(prefix="##", cleanup=False)
        self._library = library
        vocabulary = library.get_vocab(with_added_tokens=True)
        if not vocabulary:
            raise ValueError("its vocabulary is empty")
        self.tokens = [None] * (max(vocabulary.values()) + 1)
        for token, number in vocabulary.items():
            self.tokens[number] = token
        added = library.get_added_tokens_decoder()
        self.specials = frozenset(number for number, token in added.items() if token.special)
        self._literal = frozenset(added)
        self._byte_level = "ByteLevel" in repr(library.decoder)
        self.texts = [self._text(number) for number in range(len(self.tokens))]

    def _text(self, number: int) -> bytes:
        token = self.tokens[number]
        if token is None or number in self.specials:
            return b""
        if number in self._literal:
            return token.encode()
        if self._byte_level:
            return bytes(_BYTE_OF.get(char, 0) for char in token)
        if self.model == "WordPiece":
            return token.removeprefix("##").encode()
        return piece_text(token)

    def cut(self, text: str) -> Cut:
        found = self._library.encode(text, add_special_tokens=False)
        return Cut(found.ids, found.offsets)

    def cut_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        found = self._library.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(one.ids, np.int32) for one in found]

    def join(self, ids: list[int]) -> str:
        return self._library.decode(ids, skip_special_tokens=False)


class SentencePieces:
    """A SentencePiece model, and perhaps T5's sentinels, which are numbered above its pieces."""

    model = "SentencePiece"

    def __init__(self, model: bytes, sentinels: int | None):
        """Args: `sentinels` is their number; None: a hundred where the model is like T5's own."""
        from sentencepiece import SentencePieceProcessor

        self._library: Any = SentencePieceProcessor(model_proto=model)
        count = self._library.get_piece_size()
        self.tokens = [self._library.id_to_piece(i) for i in range(count)]
        ends = [self._library.pad_id(), self._library.eos_id(), self._library.unk_id()]
        if sentinels is None:
            like_t5 = ends == [0, 1, 2] and self._library.bos_id() < 0
            sentinels = 100 if like_t5 and "<extra_id_0>" not in self.tokens else 0
        self.tokens += [f"<extra_id_{i}>" for i in reversed(range(sentinels))]
        specials = {i for i in range(count) if self._library.is_control(i)}
        specials |= {i for i in range(count) if self._library.is_unknown(i)}
        self.specials = frozenset(specials | set(range(count, len(self.tokens))))
        self.texts = [
            b"" if i in self.specials else piece_text(token) for i, token in enumerate(self.tokens)
        ]

    def cut(self, text: str) -> Cut:
        found = self._library.encode(text, return_type="offset_mapping")
        return Cut(found["ids"], found["offsets"])

    def cut_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [ids.copy() for ids in self._library.encode(list(texts), return_type="numpy")]

    def join(self, ids: list[int]) -> str:
        return self._library.decode(ids)


def wordpiece(vocabulary: dict[str, int], *, lowercase: bool) -> Any:
    """BERT's `tokenizers.Tokenizer`; accents go where capitals go."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    library = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _with_specials(library, vocabulary)


def byte_level(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], *, lowercase: bool
) -> Any:
    """GPT-2's `tokenizers.Tokenizer`: BPE over bytes, words with the space before them."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    library = Tokenizer(models.BPE(vocabulary, merges))
    if lowercase:
        library.normalizer = normalizers.Lowercase()
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    return _with_specials(library, vocabulary)


def _with_specials(library: Any, vocabulary: dict[str, int]) -> Any:
    names = {name for some in NAMES.values() for name in some}
    found = [token for token in vocabulary if token in names or SENTINEL.fullmatch(token)]
    library.add_special_tokens(found)
    return library


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable character of each byte: itself where it prints, else one from 256 on."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    shown += range(ord("®"), ord("ÿ") + 1)
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    return {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}


_BYTE_OF = _byte_alphabet()


def piece_text(token: str) -> bytes:
    """SentencePiece's: `▁` is a space, `<0xE4>` a byte."""
    if re.fullmatch(r"<0x[0-9A-F]{2}>", token):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode()
