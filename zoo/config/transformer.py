"""Sizes and options of an encoder-decoder Transformer, with closed formulas; imports no jax."""

from typing import Any, Literal

import msgspec

from zoo.config.base import Remat, Section

# T5's relative positions (Raffel 2020, arXiv 1910.10683): distances up to 128 share 32 buckets.
RELATIVE_BUCKETS, RELATIVE_DISTANCE = 32, 128

_VASWANI: dict[str, Any] = {
    "position": "sinusoidal",
    "norm": "layer",
    "norm_order": "post",
    "activation": "relu",
    "gated": False,
    "attention_bias": False,
    "mlp_bias": True,
    "attention_scale": True,
    "embed_scale": True,
    "shared": True,
    "tied": True,
    "logits_scale": False,
    "logits_bias": False,
    "output_dropout": False,
    "init": "xavier",
}
_T5 = {
    **_VASWANI,
    "position": "relative",
    "norm": "rms",
    "norm_order": "pre",
    "mlp_bias": False,
    "attention_scale": False,
    "embed_scale": False,
    "logits_scale": True,
    "output_dropout": True,
    "init": "t5",
}
_T5_1_1 = {**_T5, "activation": "gelu_tanh", "gated": True, "tied": False, "logits_scale": False}

_DIMENSIONS = ("width", "depth", "mlp_dim", "num_heads", "head_size")
# name: (the dimensions, in that order; options). base and big: Vaswani 2017 (arXiv 1706.03762);
# T5: Raffel 2020 and the published configs of its checkpoints, as for T5 1.1.
SIZES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "base": ((512, 6, 2048, 8, 64), _VASWANI),
    "big": ((1024, 6, 4096, 16, 64), _VASWANI),
    "t5-small": ((512, 6, 2048, 8, 64), _T5),
    "t5-base": ((768, 12, 3072, 12, 64), _T5),
    "t5-large": ((1024, 24, 4096, 16, 64), _T5),
    "t5-xl": ((1024, 24, 16384, 32, 128), _T5),
    "t5_1_1-small": ((512, 8, 1024, 6, 64), _T5_1_1),
    "t5_1_1-base": ((768, 12, 2048, 12, 64), _T5_1_1),
    "t5_1_1-large": ((1024, 24, 2816, 16, 64), _T5_1_1),
    "t5_1_1-xl": ((2048, 24, 5120, 32, 64), _T5_1_1),
}

# The default of what `size` may name: as the size has it, else as Vaswani's have it. It is set
# after construction, so that the types of the fields are what a reader of a config sees.
_OPEN: Any = None


class TransformerConfig(Section, frozen=True, tag_field="family", tag="transformer"):
    """An encoder-decoder. Give `size`, or the dimensions that it names.

    A size names the options as well; each may still be given, and then wins.
    """

    size: str | None = None  # of SIZES: base, big, t5-small, ..., t5_1_1-xl
    width: int = _OPEN
    depth: int = _OPEN  # layers of the encoder
    decoder_depth: int = _OPEN  # default: as many
    mlp_dim: int = _OPEN
    num_heads: int = _OPEN
    head_size: int = _OPEN  # default: width / num_heads
    vocab_size: int | None = None  # filled from the data where it is left out

    # sinusoidal as in tensor2tensor: sines, then cosines, where the paper takes turns;
    # sinusoidal_marian: the same with the paper's frequencies; relative as in T5: a learned number
    # a head for each bucket of distances is added to the scores, by one table for all layers of the
    # encoder, which knows both directions, and one of the decoder.
    position: Literal["sinusoidal", "sinusoidal_marian", "relative"] = _OPEN
    norm: Literal["layer", "rms"] = _OPEN
    # pre: x + f(norm(x)), and a norm after the last layer; post: norm(x + f(x)), and no other.
    norm_order: Literal["pre", "post"] = _OPEN
    norm_epsilon: float = 1e-6
    activation: Literal["gelu_tanh", "gelu_erf", "relu", "silu"] = _OPEN
    gated: bool = _OPEN
    attention_bias: bool = _OPEN  # of all four projections
    mlp_bias: bool = _OPEN
    attention_scale: bool = _OPEN  # scores times head_size^-0.5; T5's queries start smaller instead
    embed_scale: bool = _OPEN  # embeddings times sqrt(width)
    shared: bool = _OPEN  # one table embeds the source and the target
    tied: bool = _OPEN  # logits by the table of the target
    logits_scale: bool = _OPEN  # logits times width^-0.5
    logits_bias: bool = _OPEN  # a number a token is added to its logits
    # What the decoder reads before a target's first token, and a translation never says: Marian's
    # padding. None: 0, which it may say.
    start_token: int | None = None
    # xavier: kernels by Xavier, MLP biases N(0, 1e-12); t5: kernels N(0, 1 / fan_in), queries'
    # divided by sqrt(head_size) more. Embedded tokens start as N(0, 1) in both.
    init: Literal["xavier", "t5"] = _OPEN

    dropout: float = 0.0  # of the embeddings, and of what attention and MLP give
    attention_dropout: float = 0.0  # of attention's probabilities
    mlp_dropout: float = 0.0  # of the MLP's hidden units
    output_dropout: bool = _OPEN  # `dropout` after the last norm of each stack too

    # auto: without attention_dropout and relative positions a kernel, on TPUs (heads of 64, 128 or
    # 256, as many keys as queries, up to 640 or from 1,024 in multiples of 128) and NVIDIA GPUs
    # since Ampere (bfloat16, heads up to 128). Else, from a cache, and with xla: plain operations.
    attention: Literal["auto", "xla"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; parameters are float32
    scan: bool = True  # one compiled block in a loop, or every block unrolled: the same numbers
    remat: Remat = "none"  # what the backward pass recomputes

    def __post_init__(self):
        options = dict(_VASWANI)
        if self.size is not None:
            if self.size not in SIZES:
                raise ValueError(f"size {self.size!r} is not one of {', '.join(SIZES)}")
            numbers, theirs = SIZES[self.size]
            named = dict(zip(_DIMENSIONS, numbers, strict=True))
            mine = {name: getattr(self, name) for name in named}
            if any(mine[name] not in (None, named[name]) for name in named):
                given = {name: value for name, value in mine.items() if value is not None}
                raise ValueError(f"size {self.size!r} means {named}, not {given}: drop one")
            options |= theirs | named
        for name, value in options.items():
            self._default(name, value)
        for name in ("width", "depth", "mlp_dim", "num_heads"):
            if getattr(self, name) is None:
                raise ValueError(f"{name} is missing: set it, or size")
        self._default("decoder_depth", self.depth)
        for name in (*_DIMENSIONS, "decoder_depth", "vocab_size"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} {getattr(self, name)} is not above 0")
        if self.head_size is None and self.width % self.num_heads:
            raise ValueError(
                f"width {self.width} is not a multiple of num_heads {self.num_heads}: change one, "
                "or set head_size"
            )
        self._default("head_size", self.width // self.num_heads)
        self._check()

    def _default(self, name: str, value: Any) -> None:
        if getattr(self, name) is None:
            msgspec.structs.force_setattr(self, name, value)

    def _check(self) -> None:
        for name in ("dropout", "attention_dropout", "mlp_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not in [0, 1)")
        if self.position != "relative" and (self.width % 2 or self.width < 4):
            raise ValueError(
                f"position {self.position!r} needs a width of 4, 6, ..., not {self.width}"
            )
        start, rows = self.start_token, self.vocab_size
        if start is not None and not 0 <= start < (start + 1 if rows is None else rows):
            raise ValueError(f"start_token {start} is no number of a vocabulary of {rows}")


def num_params(cfg: TransformerConfig) -> int:
    """Numbers that a model learns; exact for every option."""
    assert cfg.vocab_size is not None
    D, M, heads = cfg.width, cfg.mlp_dim, cfg.num_heads * cfg.head_size
    norm = 2 * D if cfg.norm == "layer" else D
    attention, mlp = 4 * D * heads, (3 if cfg.gated else 2) * D * M
    if cfg.attention_bias:
        attention += 3 * heads + D
    if cfg.mlp_bias:
        mlp += (2 if cfg.gated else 1) * M + D
    total = cfg.depth * (attention + mlp + 2 * norm)
    total += cfg.decoder_depth * (2 * attention + mlp + 3 * norm)
    if cfg.norm_order == "pre":
        total += 2 * norm
    if cfg.position == "relative":
        total += 2 * RELATIVE_BUCKETS * cfg.num_heads
    tables = 1 + (not cfg.shared) + (not cfg.tied)  # source, target, logits
    return total + (tables * D + cfg.logits_bias) * cfg.vocab_size


def macs(cfg: TransformerConfig, source_length: int, target_length: int) -> int:
    """Multiply-adds of the matrix products for one row of source and target tokens, forward.

    Attention is counted in full, as it is computed without a kernel; looking up embeddings is
    none. A training step is 3 x as much, and 2 FLOPs each.
    """
    assert cfg.vocab_size is not None
    D, S, T = cfg.width, source_length, target_length
    heads = cfg.num_heads * cfg.head_size
    mlp = (3 if cfg.gated else 2) * D * cfg.mlp_dim
    encoder = S * (4 * D * heads + mlp) + 2 * S * S * heads
    decoder = T * (4 * D * heads + mlp) + 2 * T * T * heads
    decoder += 2 * (T + S) * D * heads + 2 * T * S * heads  # what the target sees of the source
    return cfg.depth * encoder + cfg.decoder_depth * decoder + T * D * cfg.vocab_size
