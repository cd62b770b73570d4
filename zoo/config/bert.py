"""Sizes and options of a BERT (Devlin 2018, arXiv 1810.04805), with closed formulas; no jax."""

from typing import Literal

import msgspec

from zoo.config.base import Remat, Section

# name: (width, depth, mlp_dim, num_heads). Base and large: Devlin 2018; the small ones: Turc 2019
# (arXiv 1908.08962).
SIZES: dict[str, tuple[int, int, int, int]] = {
    "tiny": (128, 2, 512, 2),
    "mini": (256, 4, 1024, 4),
    "small": (512, 4, 2048, 8),
    "medium": (512, 8, 2048, 8),
    "base": (768, 12, 3072, 12),
    "large": (1024, 24, 4096, 16),
}

_NAMED = ("width", "depth", "mlp_dim", "num_heads")

# What comes out of the encoder:
#   pretraining           masked tokens, and whether the second text follows the first
#   masked_lm             masked tokens alone, as RoBERTa (Liu 2019, arXiv 1907.11692)
#   classification        a class of each row; one number for regression
#   token_classification  a class of each token
#   question_answering    where an answer starts and where it ends
#   pooled                a vector of each row, besides those of all tokens
#   none                  the vectors of all tokens
Head = Literal[
    "pretraining",
    "masked_lm",
    "classification",
    "token_classification",
    "question_answering",
    "pooled",
    "none",
]


class BertConfig(Section, frozen=True, tag_field="family", tag="bert"):
    """A BERT. Give `size`, or the four numbers that it names; after construction they are set.

    Published RoBERTa weights fit `num_types=1, gelu="erf", norm_epsilon=1e-5`, DistilBERT's
    `num_types=0, gelu="erf", pooler_activation="relu"`.
    """

    size: str | None = None  # a name of SIZES; names the next four
    width: int = 0
    depth: int = 0
    mlp_dim: int = 0
    num_heads: int = 0
    vocab_size: int | None = None  # filled from the tokenizer where it is left out
    max_length: int = 512  # learned positions, and so the most tokens of a row
    # Kinds of text that are told apart: first and second. With 1 there is a vector, but the same
    # for all tokens; with 0 none.
    num_types: int = 2

    head: Head = "pretraining"
    # Of a head that has any, filled from the data where it is left out; 1 for regression.
    num_classes: int | None = None
    # Of the vector of a row, where the head has one: BERT's, or that of DistilBERT's classes.
    pooler_activation: Literal["tanh", "relu"] = "tanh"

    # After the embeddings, attention and the MLP, and before a head's classes (as published).
    dropout: float = 0.1
    attention_dropout: float = 0.1  # of attention's probabilities
    # Google's code and weights have the tanh form; Hugging Face's `"gelu"` is the erf form.
    gelu: Literal["tanh", "erf"] = "tanh"
    norm_epsilon: float = 1e-12

    # auto: without attention_dropout a kernel, on NVIDIA GPUs since Ampere (bfloat16, even lengths)
    # and on TPUs up to 640 tokens and from 1,024 on. Else, and with xla: plain operations.
    attention: Literal["auto", "xla"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; parameters are float32
    scan: bool = True  # one compiled block in a loop, or every block unrolled: the same numbers
    remat: Remat = "none"  # what the backward pass recomputes

    def __post_init__(self):
        sizes = (self.width, self.depth, self.mlp_dim, self.num_heads)
        if self.size:
            if self.size not in SIZES:
                raise ValueError(f"size {self.size!r} is not one of {', '.join(SIZES)}")
            named = SIZES[self.size]
            if any(mine not in (0, theirs) for mine, theirs in zip(sizes, named, strict=True)):
                raise ValueError(
                    f"size {self.size!r} means {_NAMED} = {named}, not {sizes}: drop one"
                )
            sizes = named
        for name, value in zip(_NAMED, sizes, strict=True):
            if value <= 0:
                raise ValueError(f"{name} is missing: set it, or size")
            msgspec.structs.force_setattr(self, name, value)
        self._check()

    def _check(self) -> None:
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not a multiple of num_heads {self.num_heads}")
        for name, least in (("max_length", 1), ("num_types", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)} is less than {least}")
        for name in ("vocab_size", "num_classes"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is less than 1")
        if self.num_classes is not None and not self.has_classes:
            raise ValueError(f"num_classes {self.num_classes}: head {self.head!r} has no classes")
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not in [0, 1)")

    @property
    def has_classes(self) -> bool:
        """Whether the head is for classes that the data names."""
        return self.head in ("classification", "token_classification")

    @property
    def has_pooler(self) -> bool:
        """Whether a row's first token is pooled into a vector of the row."""
        return self.head in ("pretraining", "classification", "pooled")

    @property
    def has_masked_lm(self) -> bool:
        """Whether masked tokens are predicted."""
        return self.head in ("pretraining", "masked_lm")

    @property
    def num_outputs(self) -> int:
        """Numbers that `head` gives for a row or a token; 0 without such a layer."""
        if self.has_classes:
            assert self.num_classes is not None
            return self.num_classes
        return 2 if self.head == "question_answering" else 0


def num_params(cfg: BertConfig) -> int:
    """Numbers that a model learns; exact for every option."""
    assert cfg.vocab_size is not None
    D, dense, norm = cfg.width, cfg.width**2 + cfg.width, 2 * cfg.width
    block = 4 * dense + 2 * D * cfg.mlp_dim + cfg.mlp_dim + D + 2 * norm
    total = (cfg.vocab_size + cfg.max_length + cfg.num_types) * D + norm + cfg.depth * block
    if cfg.has_pooler:
        total += dense
    if cfg.has_masked_lm:  # the output is tied to the embedding, but for its bias
        total += dense + norm + cfg.vocab_size
    if cfg.head == "pretraining":
        total += 2 * D + 2
    return total + cfg.num_outputs * (D + 1)


def macs(cfg: BertConfig, length: int, num_masked: int = 0) -> int:
    """Multiply-adds of the matrix products of one row, forward; training takes 3 x as much.

    Args:
      length: tokens of the row.
      num_masked: tokens that are predicted, with a head that predicts masked tokens.
    """
    assert cfg.vocab_size is not None
    D, T = cfg.width, length
    total = cfg.depth * (4 * T * D * D + 2 * T * T * D + 2 * T * D * cfg.mlp_dim)
    if cfg.has_pooler:
        total += D * D
    if cfg.has_masked_lm:
        total += num_masked * (D * D + D * cfg.vocab_size)
    if cfg.head == "pretraining":
        total += 2 * D
    return total + D * cfg.num_outputs * (1 if cfg.head == "classification" else T)
