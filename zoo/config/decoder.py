"""Sizes and options of a decoder-only language model, with closed formulas; imports no jax."""

from typing import Any, Literal

import msgspec

from zoo.config.base import Remat, Section

_GPT2 = {
    "max_length": 1024,
    "position": "learned",
    "norm": "layer",
    "activation": "gelu_tanh",
    "gated": False,
    "attention_bias": True,
    "mlp_bias": True,
}
_LM1B = {
    "max_length": 2048,
    "position": "sinusoidal",
    "norm": "layer",
    "norm_epsilon": 1e-6,
    "activation": "relu",
    "gated": False,
    "mlp_bias": True,
    "head_bias": True,
    "tied": False,
    "init": "xavier",
}
_LLAMA3 = {"max_length": 131_072, "rope_base": 500_000.0}
_QWEN3 = {"max_length": 40_960, "rope_base": 1e6, "norm_epsilon": 1e-6, "qk_norm": True}
_GEMMA3 = {
    "max_length": 32_768,
    "window": 512,
    "global_every": 6,
    "rope_base": 1e6,
    "local_rope_base": 10_000.0,
    "norm_epsilon": 1e-6,
    "norm_from_zero": True,
    "post_norm": True,
    "qk_norm": True,
    "activation": "gelu_tanh",
    "embed_scale": True,
}

_DIMENSIONS = ("width", "depth", "mlp_dim", "num_heads", "num_kv_heads", "head_size")
# name: (the dimensions, in that order; options that are not the default). GPT-2: Radford 2019 and
# its published weights; lm1b: Flax's example of that name; Llama 3: arXiv 2407.21783 and the
# published configs, as for Qwen 3 (arXiv 2505.09388) and Gemma 3 (arXiv 2503.19786); maxtext-1b:
# the defaults of MaxText's base.yml.
SIZES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "gpt2": ((768, 12, 3072, 12, 12, 64), _GPT2),
    "gpt2-medium": ((1024, 24, 4096, 16, 16, 64), _GPT2),
    "gpt2-large": ((1280, 36, 5120, 20, 20, 64), _GPT2),
    "gpt2-xl": ((1600, 48, 6400, 25, 25, 64), _GPT2),
    "lm1b": ((512, 6, 2048, 8, 8, 64), _LM1B),
    "llama3.2-1b": ((2048, 16, 8192, 32, 8, 64), {**_LLAMA3, "rope_scaling": 32.0}),
    "llama3.1-8b": ((4096, 32, 14336, 32, 8, 128), {**_LLAMA3, "rope_scaling": 8.0, "tied": False}),
    "qwen3-0.6b": ((1024, 28, 3072, 16, 8, 128), _QWEN3),
    "gemma3-270m": ((640, 18, 2048, 4, 1, 256), _GEMMA3),
    "gemma3-1b": ((1152, 26, 6912, 4, 1, 256), _GEMMA3),
    "maxtext-1b": ((2048, 16, 7168, 16, 16, 128), {"max_length": 2048, "tied": False}),
}
# The published vocabularies: a run takes its tokenizer's.
VOCABULARIES = {
    "gpt2": 50_257,
    "lm1b": 30_000,
    "llama3.2": 128_256,
    "llama3.1": 128_256,
    "qwen3": 151_936,
    "gemma3": 262_144,
    "maxtext": 32_000,
}

# What an option is where neither the config nor its size says.
_DEFAULTS: dict[str, Any] = {
    "position": "rotary",
    "rope_base": 10_000.0,
    "rope_scaling": 1.0,
    "local_rope_base": 0.0,
    "window": 0,
    "global_every": 0,
    "norm": "rms",
    "norm_epsilon": 1e-5,
    "norm_from_zero": False,
    "post_norm": False,
    "qk_norm": False,
    "activation": "silu",
    "gated": True,
    "attention_bias": False,
    "mlp_bias": False,
    "head_bias": False,
    "tied": True,
    "embed_scale": False,
    "init": "normal",
}
# The default of what `size` may name: as the size has it, else as _DEFAULTS has it. It is set
# after construction, so that the types of the fields are what a reader of a config sees.
_OPEN: Any = None


class DecoderConfig(Section, frozen=True, tag_field="family", tag="decoder"):
    """A decoder-only language model. Give `size`, or the dimensions that it names.

    A size names the options as well; each may still be given, and then wins.
    """

    size: str | None = None  # of SIZES: gpt2, gpt2-medium, ..., llama3.2-1b, gemma3-270m, ...
    width: int = _OPEN
    depth: int = _OPEN
    mlp_dim: int = _OPEN
    num_heads: int = _OPEN
    num_kv_heads: int = _OPEN  # heads of keys and values that the query heads share; num_heads
    head_size: int = _OPEN  # width / num_heads
    # Filled from the data where it is left out.
    vocab_size: int | None = None
    # Tokens of the longest text: rows of the learned table, and where generation ends. Filled from
    # the data where neither it nor the size says.
    max_length: int | None = None

    # sinusoidal as in tensor2tensor: sines, then cosines; rotary: half-split (Su 2021,
    # arXiv 2104.09864).
    position: Literal["learned", "sinusoidal", "rotary", "none"] = _OPEN
    rope_base: float = _OPEN
    # Llama 3's: stretches the slow rotations by this factor, those that do not come round in
    # rope_original_length tokens; 1 is off.
    rope_scaling: float = _OPEN
    rope_original_length: int = 8192
    window: int = _OPEN  # tokens that a local layer sees back, itself included; 0: no local layers
    global_every: int = _OPEN  # with a window, each so many-th layer is not local; 0: none
    local_rope_base: float = _OPEN  # of the local layers; 0: as rope_base

    norm: Literal["layer", "rms"] = _OPEN
    norm_epsilon: float = _OPEN
    norm_from_zero: bool = _OPEN  # RMSNorm's scale is stored less 1, so that it decays to 1
    post_norm: bool = _OPEN  # norms of what attention and MLP give, besides those of what they get
    qk_norm: bool = _OPEN
    activation: Literal["gelu_tanh", "gelu_erf", "relu", "silu"] = _OPEN
    gated: bool = _OPEN
    attention_bias: bool = _OPEN  # of all four projections
    mlp_bias: bool = _OPEN
    head_bias: bool = _OPEN
    tied: bool = _OPEN  # logits by the table of the embeddings
    embed_scale: bool = _OPEN  # embeddings times sqrt(width)
    # normal: GPT-2's, N(0, 0.02^2), what goes back on the residual / sqrt(2 depth); xavier: Flax's
    # examples', kernels by Xavier, embeddings N(0, 1), MLP biases N(0, 1e-12).
    init: Literal["normal", "xavier"] = _OPEN

    dropout: float = 0.0  # of the embeddings, and of what attention and MLP give
    attention_dropout: float = 0.0  # of attention's probabilities
    mlp_dropout: float = 0.0  # of the MLP's hidden units

    # auto: without attention_dropout a kernel, on TPUs (heads of 64, 128 or 256, from 1,024 tokens
    # in multiples of 128; up to 640 where no head of keys is shared; not where local and other
    # layers mix, as in Gemma) and NVIDIA GPUs since Ampere (bfloat16, heads up to 128). Else, from
    # a cache, and with xla: plain operations.
    attention: Literal["auto", "xla"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; parameters are float32
    scan: bool = True  # one compiled block in a loop, or every block unrolled: the same numbers
    remat: Remat = "none"  # what the backward pass recomputes

    def __post_init__(self):
        options: dict[str, Any] = dict(_DEFAULTS)
        if self.size is not None:
            if self.size not in SIZES:
                raise ValueError(f"size {self.size!r} is not one of {', '.join(SIZES)}")
            numbers, theirs = SIZES[self.size]
            options |= theirs
            named = dict(zip(_DIMENSIONS, numbers, strict=True))
            mine = {name: getattr(self, name) for name in named}
            if any(mine[name] not in (None, named[name]) for name in named):
                given = {name: value for name, value in mine.items() if value is not None}
                raise ValueError(f"size {self.size!r} means {named}, not {given}: drop one")
            options |= named
        for name, value in options.items():
            self._default(name, value)
        for name in ("width", "depth", "mlp_dim", "num_heads"):
            if getattr(self, name) is None:
                raise ValueError(f"{name} is missing: set it, or size")
        self._default("num_kv_heads", self.num_heads)
        positive = (*_DIMENSIONS, "vocab_size", "max_length", "rope_base", "rope_original_length")
        for name in positive:
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
        for name in ("window", "global_every", "local_rope_base"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)} is below 0")
        for name in ("dropout", "attention_dropout", "mlp_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not in [0, 1)")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if self.position == "rotary" and self.head_size % 2:
            raise ValueError(f"position 'rotary' needs an even head_size, not {self.head_size}")
        if self.position == "sinusoidal" and (self.width % 2 or self.width < 4):
            raise ValueError(f"position 'sinusoidal' needs a width of 4, 6, ..., not {self.width}")
        if self.rope_scaling < 1:
            raise ValueError(f"rope_scaling {self.rope_scaling} is below 1, which is off")
        # An option that would do nothing is a mistake.
        rotary, window = self.position == "rotary", self.window > 0
        idle = {
            "rope_scaling": (self.rope_scaling != 1 and not rotary, "position 'rotary'"),
            "local_rope_base": (self.local_rope_base and not (rotary and window), "a window"),
            "global_every": (self.global_every and not window, "a window"),
            "norm_from_zero": (self.norm_from_zero and self.norm != "rms", "norm 'rms'"),
            "head_bias": (self.head_bias and self.tied, "tied False"),
        }
        for name, (wrong, partner) in idle.items():
            if wrong:
                raise ValueError(f"{name} {getattr(self, name)} goes with {partner}")

    @property
    def local(self) -> tuple[bool, ...]:
        """Of each layer, whether it sees a window only."""
        every = self.global_every
        return tuple(
            self.window > 0 and not (every and (i + 1) % every == 0) for i in range(self.depth)
        )


def published_vocab_size(size: str) -> int:
    """Of the weights that a size is known by."""
    return VOCABULARIES[size.partition("-")[0]]


def num_params(cfg: DecoderConfig) -> int:
    """Numbers that a model learns; exact for every option."""
    assert cfg.vocab_size is not None
    D, M, H = cfg.width, cfg.mlp_dim, cfg.head_size
    q, kv = cfg.num_heads * H, cfg.num_kv_heads * H
    per_norm = 2 if cfg.norm == "layer" else 1
    block = 2 * D * q + 2 * D * kv + (3 if cfg.gated else 2) * D * M
    block += (4 if cfg.post_norm else 2) * per_norm * D
    if cfg.attention_bias:
        block += q + 2 * kv + D
    if cfg.mlp_bias:
        block += (2 if cfg.gated else 1) * M + D
    if cfg.qk_norm:
        block += 2 * per_norm * H
    total = cfg.vocab_size * D + cfg.depth * block + per_norm * D
    if cfg.position == "learned":
        assert cfg.max_length is not None
        total += cfg.max_length * D
    if not cfg.tied:
        total += cfg.vocab_size * D
    return total + (cfg.vocab_size if cfg.head_bias else 0)


def macs(cfg: DecoderConfig, length: int) -> int:
    """Multiply-adds of the matrix products for one row of `length` tokens, forward.

    Attention is counted in full, as it is computed without a kernel; looking up embeddings is
    none. A training step is 3 x as much, and 2 FLOPs each.
    """
    assert cfg.vocab_size is not None
    D, T = cfg.width, length
    q, kv = cfg.num_heads * cfg.head_size, cfg.num_kv_heads * cfg.head_size
    block = T * D * (2 * q + 2 * kv) + 2 * T * T * q
    block += (3 if cfg.gated else 2) * T * D * cfg.mlp_dim
    return cfg.depth * block + T * D * cfg.vocab_size


def token_macs(cfg: DecoderConfig, length: int) -> int:
    """The same for one token more, the last of a row of `length` that is in the cache."""
    return macs(cfg, 1) + cfg.depth * 2 * (length - 1) * cfg.num_heads * cfg.head_size
