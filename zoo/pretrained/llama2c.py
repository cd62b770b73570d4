"""llama2.c's `.bin`: seven int32, then float32 arrays one after the other, in a fixed order.

Its first version, the only one without a magic number. Keys and queries are stored for rotations
of neighbouring numbers, ours rotate the halves of a head.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo.config import UserError
from zoo.config.decoder import DecoderConfig
from zoo.pretrained.files import Spec, refuse_pickle
from zoo.pretrained.table import TURNED, Layout, Row, Shape, Way

_HEADER = np.dtype(
    [(n, "<i4") for n in ("dim", "hidden", "depth", "heads", "kv", "vocab", "length")]
)
FLOAT = np.dtype("<f4")


class Sizes(NamedTuple):
    """What the header says; `tied` where its vocabulary is not negative."""

    dim: int
    hidden: int
    depth: int
    heads: int
    kv: int
    vocab: int
    length: int
    tied: bool

    def shapes(self) -> dict[str, Shape]:
        """The arrays in the order of the file."""
        L, D, H = self.depth, self.dim, self.dim // self.heads
        shapes = {
            "tok_embeddings": (self.vocab, D),
            "attention_norm": (L, D),
            "wq": (L, D, D),
            "wk": (L, self.kv * H, D),
            "wv": (L, self.kv * H, D),
            "wo": (L, D, D),
            "ffn_norm": (L, D),
            "w1": (L, self.hidden, D),
            "w2": (L, D, self.hidden),
            "w3": (L, self.hidden, D),
            "norm": (D,),
            "freq_cis_real": (self.length, H // 2),
            "freq_cis_imag": (self.length, H // 2),
        }
        return shapes if self.tied else {**shapes, "output": (self.vocab, D)}


class Llama2c:
    """The file as named arrays; see `zoo.pretrained.files.ArrayFile`."""

    def __init__(self, path: Path):
        """Reads the header.

        Raises:
          UserError: it is another kind of file, or of another length than its sizes say.
        """
        self.path = path
        self.metadata: dict[str, str] = {}
        with path.open("rb") as file:
            start = file.read(_HEADER.itemsize)
        if start[:2] == b"PK" or start[:1] == b"\x80":  # as PyTorch's pickles begin
            refuse_pickle(path)
        self.sizes = self._sizes(start)
        self.specs = {name: Spec(shape, FLOAT) for name, shape in self.sizes.shapes().items()}
        self._offsets, at = {}, _HEADER.itemsize
        for name, (shape, _) in self.specs.items():
            self._offsets[name] = at
            at += int(np.prod(shape, dtype=object)) * FLOAT.itemsize
        if at != path.stat().st_size:
            raise UserError(
                f"{path} has {path.stat().st_size:,} bytes, and a llama2.c file of the sizes in "
                f"its header would have {at:,}: it is another kind of file, or cut short"
            )

    def _sizes(self, start: bytes) -> Sizes:
        if len(start) == _HEADER.itemsize:
            numbers = np.frombuffer(start, _HEADER)[0].item()
            dim, hidden, depth, heads, kv, vocab, length = numbers
            found = Sizes(dim, hidden, depth, heads, kv, abs(vocab), length, tied=vocab > 0)
            fits = min(found[:7]) > 0 and not found.dim % found.heads and not found.heads % found.kv
            if fits and max(found[:7]) < 2**24:
                return found
        raise UserError(
            f"{self.path} does not begin as llama2.c's files do: a pickle is written anew with "
            "`safetensors.torch.save_file(torch.load(FILE, weights_only=True), OUT)` where "
            "PyTorch is"
        )

    def read(self, name: str, layer: int | None = None) -> np.ndarray:
        """Reads an array, or one layer of it."""
        shape, at = self.specs[name].shape, self._offsets[name]
        if layer is not None:
            shape = shape[1:]
            at += layer * int(np.prod(shape)) * FLOAT.itemsize
        return np.fromfile(self.path, FLOAT, int(np.prod(shape)), offset=at).reshape(shape)


def read_config(sizes: Sizes) -> DecoderConfig:
    """The model of a file."""
    return DecoderConfig(
        width=sizes.dim,
        depth=sizes.depth,
        mlp_dim=sizes.hidden,
        num_heads=sizes.heads,
        num_kv_heads=sizes.kv,
        vocab_size=sizes.vocab,
        max_length=sizes.length,
        tied=sizes.tied,
    )


def layout(cfg: DecoderConfig) -> Layout:
    """The table; every array of a block has an axis of layers."""
    q, k = interleaved(cfg.num_heads), interleaved(cfg.num_kv_heads)
    rows = (
        Row(("token_embed/table",), "tok_embeddings"),
        Row(("blocks/attn_norm/scale",), "attention_norm"),
        Row(("blocks/attn/q/kernel",), "wq", q),
        Row(("blocks/attn/k/kernel",), "wk", k),
        Row(("blocks/attn/v/kernel",), "wv", TURNED),
        Row(("blocks/attn/out/kernel",), "wo", TURNED),
        Row(("blocks/mlp_norm/scale",), "ffn_norm"),
        Row(("blocks/mlp/gate/kernel",), "w1", TURNED),
        Row(("blocks/mlp/down/kernel",), "w2", TURNED),
        Row(("blocks/mlp/up/kernel",), "w3", TURNED),
        Row(("norm/scale",), "norm"),
        Row(("head/kernel",), "output", TURNED),
    )
    skipped = ((r"freq_cis_(real|imag)", "a constant: the rotations' cosines and sines"),)
    return Layout("llama2.c", rows, {}, skipped)


def interleaved(num_heads: int) -> Way:
    """[out, in], each head's outputs 0, 1, 2, 3, ... being ours 0, H / 2, 1, H / 2 + 1, ..."""

    def export(x: np.ndarray) -> np.ndarray:
        return x.T.reshape(num_heads, 2, -1, len(x)).swapaxes(1, 2).reshape(-1, len(x))

    def restore(x: np.ndarray, shape: Shape) -> np.ndarray:
        return x.reshape(num_heads, -1, 2, shape[0]).swapaxes(1, 2).reshape(-1, shape[0]).T

    return Way(export, restore)
