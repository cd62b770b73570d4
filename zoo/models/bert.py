"""BERT (Devlin 2018, arXiv 1810.04805): an encoder whose tokens see each other both ways.

Reads top to bottom: the block, the encoder, the heads. A head is a method on what `Bert.hidden`
returns; which of them a model has, its config says.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from zoo.config.bert import BertConfig
from zoo.models.attention import Mask
from zoo.models.initializers import zeros
from zoo.models.layers import (
    ACTIVATIONS,
    Attention,
    Dense,
    Embedding,
    LayerNorm,
    Mlp,
    dropout,
    fold_in,
    lift,
    make_param,
    run_stack,
    stack,
)
from zoo.sharding.rules import constrain

# All matrices and tables. TensorFlow's truncated_normal, and this one, cut N(0, 0.02^2) at two
# standard deviations and leave it at that: what comes out has a standard deviation of 0.0176.
_init = nnx.initializers.truncated_normal(0.02)


class Block(nnx.Module):
    """Post-norm transformer block: norm(x + attention(x)), then norm(x + mlp(x))."""

    def __init__(self, cfg: BertConfig, *, rngs: nnx.Rngs):
        D, epsilon = cfg.width, cfg.norm_epsilon
        self.attn = Attention(D, cfg.num_heads, kernel=cfg.attention, kernel_init=_init, rngs=rngs)
        self.attn_norm = LayerNorm(D, epsilon=epsilon, rngs=rngs)
        self.mlp = Mlp(D, cfg.mlp_dim, activation=f"gelu_{cfg.gelu}", kernel_init=_init, rngs=rngs)
        self.mlp_norm = LayerNorm(D, epsilon=epsilon, rngs=rngs)
        self.dropout, self.attention_dropout = cfg.dropout, cfg.attention_dropout

    def __call__(
        self,
        x: Float[Array, "B T D"],
        *,
        mask: Mask | None = None,
        keys: Key[Array, " B"] | None = None,
    ) -> Float[Array, "B T D"]:
        """What follows each of the two branches is dropout, then the sum, then the norm."""
        x = constrain(x, "batch", "tokens", None)
        y, _ = self.attn(x, mask=mask, keys=fold_in(keys, 0), rate=self.attention_dropout)
        x = self.attn_norm(x + dropout(y, fold_in(keys, 1), self.dropout))
        x = constrain(x, "batch", "tokens", None)
        x = self.mlp_norm(x + dropout(self.mlp(x), fold_in(keys, 2), self.dropout))
        return constrain(x, "batch", "tokens", None)


class MaskedHead(nnx.Module):
    """What comes before the logits of masked tokens: Dense, GELU, norm; and the logits' bias."""

    def __init__(self, cfg: BertConfig, vocab_size: int, *, rngs: nnx.Rngs):
        D = cfg.width
        self.dense = Dense(D, D, axes=("embed", "norm"), kernel_init=_init, rngs=rngs)
        self.norm = LayerNorm(D, epsilon=cfg.norm_epsilon, rngs=rngs)
        self.bias = make_param(zeros, (vocab_size,), ("vocab",), rngs=rngs)
        self.activation = f"gelu_{cfg.gelu}"

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        return self.norm(ACTIVATIONS[self.activation](self.dense(x)))


class Bert(nnx.Module):
    """Tokens -> vectors -> what the head predicts.

    Randomness comes from `keys`, one PRNG key an example, the same for all methods; None evaluates.

    Raises:
      ValueError: `vocab_size`, or `num_classes` of a head with classes, is not filled in.
    """

    def __init__(self, cfg: BertConfig, *, rngs: nnx.Rngs):
        if cfg.vocab_size is None or (cfg.has_classes and cfg.num_classes is None):
            raise ValueError("vocab_size and num_classes of a BertConfig must be filled in")
        self.cfg = cfg
        D = cfg.width

        def table(rows: int) -> nnx.Param:
            return make_param(_init, (rows, D), (None, "norm"), rngs=rngs)

        def dense(out_size: int, axis: str) -> Dense:
            return Dense(D, out_size, axes=("embed", axis), kernel_init=_init, rngs=rngs)

        self.token_embed = Embedding(cfg.vocab_size, D, init=_init, rngs=rngs)
        self.pos_embed = table(cfg.max_length)
        self.type_embed = table(cfg.num_types) if cfg.num_types else None
        self.embed_norm = LayerNorm(D, epsilon=cfg.norm_epsilon, rngs=rngs)
        self.blocks = stack(lambda rngs: Block(cfg, rngs=rngs), cfg.depth, rngs=rngs)
        self.pooler = dense(D, "norm") if cfg.has_pooler else None
        self.masked_lm = MaskedHead(cfg, cfg.vocab_size, rngs=rngs) if cfg.has_masked_lm else None
        self.next_sentence = dense(2, "classes") if cfg.head == "pretraining" else None
        self.head = dense(cfg.num_outputs, "classes") if cfg.num_outputs else None

    def hidden(
        self,
        tokens: Int[Array, "B T"],
        *,
        type: Int[Array, "B T"] | None = None,
        segment: Int[Array, "B T"] | None = None,
        position: Int[Array, "B T"] | None = None,
        keys: Key[Array, " B"] | None = None,
    ) -> Float[Array, "B T D"]:
        """The vectors of all tokens, after the last layer.

        Args:
          type: 0 for the first text, 1 for the second; default 0. A model with fewer than two
            types does not look at it.
          segment: tokens see those of their own segment only; 0 is padding. Default: all see all.
          position: default 0, 1, ...

        Raises:
          ValueError: more tokens than `max_length`.
        """
        cfg = self.cfg
        if tokens.shape[1] > cfg.max_length and position is None:
            raise ValueError(
                f"{tokens.shape[1]} tokens are more than max_length {cfg.max_length} of the model"
            )
        if cfg.dropout == 0.0 and cfg.attention_dropout == 0.0:
            keys = None
        x = self._embed(tokens, type, position)
        x = dropout(x, fold_in(keys, cfg.depth), cfg.dropout)
        mask = None if segment is None else Mask(q_segment=segment, kv_segment=segment)

        def call(block, x, layer):
            return block(x, mask=mask, keys=fold_in(keys, layer)), None

        layers = jnp.arange(cfg.depth)
        return run_stack(
            call, self.blocks, x, layers, depth=cfg.depth, scan=cfg.scan, remat=cfg.remat
        )[0]

    def _embed(
        self,
        tokens: Int[Array, "B T"],
        type: Int[Array, "B T"] | None,
        position: Int[Array, "B T"] | None,
    ) -> Float[Array, "B T D"]:
        """norm(token + position + type)."""
        x = self.token_embed(tokens, self.cfg.dtype)
        positions = self.pos_embed[...].astype(x.dtype)
        if position is None:
            x = x + positions[None, : x.shape[1]]
        else:
            x = x + jnp.take(positions, position, axis=0)
        if self.type_embed is not None:
            types = self.type_embed[...].astype(x.dtype)[:, None, None]
            own = types[0]
            # Chosen rather than looked up: the gradient is then a sum for each type, where that
            # of a lookup would add up every token of the batch in the same few rows.
            for i in range(1, self.cfg.num_types if type is not None else 1):
                own = jnp.where((type == i)[..., None], types[i], own)
            x = x + own
        return self.embed_norm(constrain(x, "batch", "tokens", None))

    def masked_hidden(
        self, hidden: Float[Array, "B T D"], masked_positions: Int[Array, "B M"] | None = None
    ) -> Float[Array, "B M D"]:
        """What `logits` takes, for the tokens at some positions of each row; default: for all."""
        assert self.masked_lm is not None, f"head {self.cfg.head!r} predicts no masked tokens"
        if masked_positions is not None:
            hidden = jnp.take_along_axis(hidden, masked_positions[..., None], 1)
        return self.masked_lm(constrain(hidden, "batch", "tokens", None))

    def logits(self, x: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
        """float32 scores of every token of the vocabulary, from `masked_hidden`."""
        assert self.masked_lm is not None, f"head {self.cfg.head!r} predicts no masked tokens"
        return self.token_embed.attend(x).astype(jnp.float32) + lift(
            self.masked_lm.bias, x.ndim, jnp.float32
        )

    def pooled(self, hidden: Float[Array, "B T D"]) -> Float[Array, "B D"]:
        """A vector of each row, from its first token."""
        assert self.pooler is not None, f"head {self.cfg.head!r} has no pooler"
        activate = jnp.tanh if self.cfg.pooler_activation == "tanh" else jax.nn.relu
        return constrain(activate(self.pooler(hidden[:, 0])), "batch", None)

    def next_sentence_logits(self, hidden: Float[Array, "B T D"]) -> Float[Array, "B 2"]:
        """float32 scores of: the second text follows the first (0), it is another's (1)."""
        assert self.next_sentence is not None, f"head {self.cfg.head!r} predicts no next sentence"
        return self.next_sentence(self.pooled(hidden)).astype(jnp.float32)

    def class_logits(
        self, hidden: Float[Array, "B T D"], *, keys: Key[Array, " B"] | None = None
    ) -> Float[Array, "B classes"]:
        """float32 scores of each row's classes, or [B, 1] numbers for regression."""
        assert self.head is not None
        x = dropout(self.pooled(hidden), fold_in(keys, self.cfg.depth + 1), self.cfg.dropout)
        return self.head(x).astype(jnp.float32)

    def token_logits(
        self, hidden: Float[Array, "B T D"], *, keys: Key[Array, " B"] | None = None
    ) -> Float[Array, "B T classes"]:
        """float32 scores of each token's classes."""
        assert self.head is not None
        x = dropout(hidden, fold_in(keys, self.cfg.depth + 1), self.cfg.dropout)
        return self.head(x).astype(jnp.float32)

    def span_logits(
        self, hidden: Float[Array, "B T D"]
    ) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
        """float32 scores of the answer to start at each token, and of it to end there."""
        assert self.head is not None
        scores = self.head(hidden).astype(jnp.float32)
        return scores[..., 0], scores[..., 1]
