"""llama2.c's `tokenizer.bin`: SentencePiece's pieces and scores, as a `tokenizers.Tokenizer`."""

import json
import struct
from pathlib import Path
from typing import Any

BOS, EOS, UNKNOWN = "<s>", "</s>", "<unk>"
_ROLES = (UNKNOWN, BOS, EOS)  # numbers 0, 1, 2


def read_pieces(path: Path) -> list[tuple[str, float]]:
    """The pieces by number, a space written as SentencePiece writes it, and their scores.

    Raises:
      ValueError: the file is cut short, or no such file.
    """
    data, at, found = path.read_bytes(), 4, []  # after the length of the longest piece
    while at < len(data):
        if at + 8 > len(data):
            raise ValueError("it ends within a piece")
        score, length = struct.unpack_from("<fi", data, at)
        at += 8
        if not 0 <= length <= len(data) - at:
            raise ValueError(f"piece {len(found)} is {length} bytes long")
        found.append((data[at : at + length].decode("utf-8").replace(" ", "▁"), score))
        at += length
    if len(found) < 3 + 256:
        raise ValueError(f"{len(found)} pieces are fewer than the three special ones and the bytes")
    names = [*_ROLES, *(f"<0x{byte:02X}>" for byte in range(256))]
    # The file has line breaks around <s> and </s>, for a program that prints them.
    return [*zip(names, (score for _, score in found), strict=False), *found[len(names) :]]


def build(pieces: list[tuple[str, float]]) -> Any:
    """The library's tokenizer: of two neighbours, those whose union scores best join first."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors

    vocabulary: dict[str, int] = {}
    for number, (piece, _) in enumerate(pieces):
        vocabulary.setdefault(piece, number)
    ranked = sorted(range(3 + 256, len(pieces)), key=lambda i: (-pieces[i][1], i))
    merges = [
        (piece[:i], piece[i:])
        for piece in (pieces[number][0] for number in ranked)
        for i in range(1, len(piece))
        if piece[:i] in vocabulary and piece[i:] in vocabulary
    ]
    library: Any = Tokenizer(
        models.BPE(vocabulary, merges, unk_token=UNKNOWN, fuse_unk=True, byte_fallback=True)
    )
    library.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    library.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    library.add_special_tokens([*_ROLES])
    # Not asked for here: what Hugging Face's libraries put before a text.
    library.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, _ROLES.index(BOS))]
    )
    return library


def write_json(path: Path, out: Path) -> None:
    """The same tokenizer as a `tokenizer.json`, and which of its tokens are special for what."""
    build(read_pieces(path)).save(str(out / "tokenizer.json"))
    roles = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "unk_token": UNKNOWN,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(roles, indent=2) + "\n")
