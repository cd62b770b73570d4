"""Encoder-decoder Transformers: Vaswani 2017 (arXiv 1706.03762) and T5 (arXiv 1910.10683).

Reads top to bottom: the block, a stack of blocks, the model, the cache that it decodes with.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from zoo.config.transformer import RELATIVE_BUCKETS, TransformerConfig
from zoo.models.attention import Mask
from zoo.models.decoder import Cache
from zoo.models.initializers import Initializer, zeros
from zoo.models.layers import (
    Attention,
    Dense,
    Embedding,
    KeysValues,
    LayerNorm,
    Mlp,
    RMSNorm,
    dropout,
    fold_in,
    lift,
    make_param,
    run_stack,
    stack,
)
from zoo.models.positions import relative_bucket, sinusoids
from zoo.sharding.rules import constrain


class Block(nnx.Module):
    """Self-attention, in a decoder attention to the source, and an MLP: a residual branch each."""

    def __init__(self, cfg: TransformerConfig, *, cross: bool, rngs: nnx.Rngs):
        D, init = cfg.width, initializers(cfg)
        norm = make_norm(cfg, rngs)
        attention = partial(
            Attention,
            D,
            cfg.num_heads,
            head_size=cfg.head_size,
            use_bias=cfg.attention_bias,
            scale=None if cfg.attention_scale else 1.0,
            kernel=cfg.attention,
            kernel_init=init["kernel"],
            q_init=init["query"],
            out_init=init["attn_out"],
            rngs=rngs,
        )
        self.attn_norm, self.attn = norm(D), attention()
        self.cross_norm = norm(D) if cross else None
        self.cross_attn = attention() if cross else None
        self.mlp_norm = norm(D)
        self.mlp = Mlp(
            D,
            cfg.mlp_dim,
            activation=cfg.activation,
            gated=cfg.gated,
            use_bias=cfg.mlp_bias,
            kernel_init=init["kernel"],
            out_init=init["mlp_out"],
            bias_init=init["bias"],
            rngs=rngs,
        )
        self.pre = cfg.norm_order == "pre"
        self.rates = (cfg.dropout, cfg.attention_dropout, cfg.mlp_dropout)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        *,
        mask: Mask | None,
        bias: Float[Array, "_ N T own"] | None = None,
        cross_kv: KeysValues | None = None,
        cross_mask: Mask | None = None,
        keys: Key[Array, " B"] | None = None,
        remember: Callable[[KeysValues], KeysValues] | None = None,
    ) -> Float[Array, "B T D"]:
        """One layer.

        Args:
          cross_kv: the source's keys and values; None in an encoder.
          remember: puts these tokens' keys and values to those before, and returns them all.
        """
        rate, attention_rate, mlp_rate = self.rates

        def add(x, norm, function, purpose):
            y = dropout(function(norm(x) if self.pre else x), fold_in(keys, purpose), rate)
            return constrain(x + y if self.pre else norm(x + y), "batch", "tokens", None)

        def attend(y):
            kv = None if remember is None else remember(self.attn.keys_values(y))
            drop = {"keys": fold_in(keys, 0), "rate": attention_rate}
            return self.attn(y, kv=kv, mask=mask, bias=bias, **drop)[0]

        x = add(constrain(x, "batch", "tokens", None), self.attn_norm, attend, 1)
        cross = self.cross_attn
        if cross is not None:
            drop = {"keys": fold_in(keys, 2), "rate": attention_rate}
            look = lambda y: cross(y, kv=cross_kv, mask=cross_mask, **drop)[0]
            x = add(x, self.cross_norm, look, 3)
        return add(x, self.mlp_norm, lambda y: self.mlp(y, keys=fold_in(keys, 4), rate=mlp_rate), 5)


class Stack(nnx.Module):
    """The encoder's or the decoder's layers, what they know of distances, and the last norm."""

    def __init__(self, cfg: TransformerConfig, *, decoder: bool, rngs: nnx.Rngs):
        self.cfg, self.decoder = cfg, decoder
        self.depth = cfg.decoder_depth if decoder else cfg.depth
        self.blocks = stack(
            lambda rngs: Block(cfg, cross=decoder, rngs=rngs), self.depth, rngs=rngs
        )
        shape, axes = (RELATIVE_BUCKETS, cfg.num_heads), (None, "heads")
        self.relative = (
            make_param(initializers(cfg)["relative"], shape, axes, rngs=rngs)
            if cfg.position == "relative"
            else None
        )
        self.norm = make_norm(cfg, rngs)(cfg.width) if cfg.norm_order == "pre" else None

    def __call__(
        self,
        x: Float[Array, "B T D"],
        *,
        mask: Mask | None,
        encoded: Float[Array, "B S D"] | None = None,
        cross_mask: Mask | None = None,
        keys: Key[Array, " B"] | None = None,
        cache: "SourceCache | None" = None,
        index: Int[Array, "B T"] | None = None,
    ) -> tuple[Float[Array, "B T D"], Any]:
        """The last hidden states, and the cache where there is one.

        Args:
          encoded: the source, unless a cache holds its keys and values.
          index: of the tokens in the cache.
        """
        cfg = self.cfg
        own = None if cache is None else cache.own
        bias = self._bias(x.shape[1], index, own)
        layers: dict[str, Any] = {"number": jnp.arange(self.depth)}
        if cache is not None:
            layers["source"] = cache.source

        def call(block, carry, layer):
            x, own = carry
            cross_kv = layer.get("source")
            if encoded is not None:
                cross_kv = block.cross_attn.keys_values(encoded)

            def remember(new):
                nonlocal own
                own = own.write(new, layer["number"], index)
                return own.read(layer["number"])

            x = block(
                x,
                mask=mask,
                bias=bias,
                cross_kv=cross_kv,
                cross_mask=cross_mask,
                keys=fold_in(keys, layer["number"]),
                remember=None if own is None else remember,
            )
            return (x, own), None

        x = dropout(x, fold_in(keys, self.depth), cfg.dropout)
        (x, own), _ = run_stack(
            call, self.blocks, (x, own), layers, depth=self.depth, scan=cfg.scan, remat=cfg.remat
        )
        x = x if self.norm is None else self.norm(x)
        if cfg.output_dropout:
            x = dropout(x, fold_in(keys, self.depth + 1), cfg.dropout)
        return x, None if cache is None else SourceCache(own, cache.source, cache.segment)

    def _bias(
        self, num_queries: int, index: Int[Array, "B T"] | None, own: Cache | None
    ) -> Float[Array, "_ N T S"] | None:
        if self.relative is None:
            return None
        query = jnp.arange(num_queries)[None] if index is None else index
        num_keys = num_queries if own is None else own.k.shape[2]
        distance = jnp.arange(num_keys)[None, None] - query[:, :, None]
        bucket = relative_bucket(distance, both_ways=not self.decoder)
        bias = jnp.moveaxis(jnp.take(self.relative[...], bucket, axis=0), -1, 1)
        return constrain(bias, "batch", "heads", "tokens", None)


class Transformer(nnx.Module):
    """Source and target tokens -> logits of each target token from those before it.

    Raises:
      ValueError: `vocab_size` is not filled in.
    """

    def __init__(self, cfg: TransformerConfig, *, rngs: nnx.Rngs):
        if cfg.vocab_size is None:
            raise ValueError("vocab_size of a TransformerConfig must be filled in")
        self.cfg = cfg
        D, V, init = cfg.width, cfg.vocab_size, initializers(cfg)
        self.token_embed = Embedding(V, D, init=init["embed"], rngs=rngs)
        self.target_embed = None if cfg.shared else Embedding(V, D, init=init["embed"], rngs=rngs)
        self.encoder = Stack(cfg, decoder=False, rngs=rngs)
        self.decoder = Stack(cfg, decoder=True, rngs=rngs)
        head = {"axes": ("embed", "vocab"), "kernel_init": init["kernel"], "use_bias": False}
        self.head = None if cfg.tied else Dense(D, V, **head, rngs=rngs)
        bias = make_param(zeros, (V,), ("vocab",), rngs=rngs) if cfg.logits_bias else None
        self.logits_bias = bias

    def encode(
        self,
        source: Int[Array, "B S"],
        *,
        segment: Int[Array, "B S"] | None = None,
        position: Int[Array, "B S"] | None = None,
        keys: Key[Array, " B"] | None = None,
    ) -> Float[Array, "B S D"]:
        """The source as the decoder sees it, in the config's dtype.

        Args:
          segment: the document of each token, which sees no other; 0 is padding.
          position: of each token in its document; default: in its row. Relative positions need
            none: distances within a document are those within its row.
          keys: one PRNG key an example, for dropout; None evaluates.
        """
        x = self._embed(self.token_embed, source, position)
        mask = None if segment is None else Mask(q_segment=segment, kv_segment=segment)
        return self.encoder(x, mask=mask, keys=self._dropout_keys(keys, 0))[0]

    def hidden(
        self,
        source: Int[Array, "B S"],
        target_in: Int[Array, "B T"],
        *,
        source_segment: Int[Array, "B S"] | None = None,
        target_segment: Int[Array, "B T"] | None = None,
        source_position: Int[Array, "B S"] | None = None,
        target_position: Int[Array, "B T"] | None = None,
        keys: Key[Array, " B"] | None = None,
    ) -> Float[Array, "B T D"]:
        """What `logits` sees; `target_in` is the target shifted right, in each document."""
        encoded = self.encode(source, segment=source_segment, position=source_position, keys=keys)
        cross_mask = None
        if source_segment is not None or target_segment is not None:
            # A side without segments is one document.
            q = jnp.ones_like(target_in) if target_segment is None else target_segment
            kv = jnp.ones_like(source) if source_segment is None else source_segment
            cross_mask = Mask(q_segment=q, kv_segment=kv)
        target = self.token_embed if self.target_embed is None else self.target_embed
        return self.decoder(
            self._embed(target, target_in, target_position),
            mask=Mask(causal=True, q_segment=target_segment, kv_segment=target_segment),
            encoded=encoded,
            cross_mask=cross_mask,
            keys=self._dropout_keys(keys, 1),
        )[0]

    def logits(self, hidden: Float[Array, "B *T D"]) -> Float[Array, "B *T V"]:
        """float32 scores of every token of the vocabulary."""
        if self.cfg.logits_scale:
            hidden = hidden * self.cfg.width**-0.5
        table = self.token_embed if self.target_embed is None else self.target_embed
        scores = table.attend(hidden) if self.head is None else self.head(hidden)
        middle = ("tokens",) * (scores.ndim - 2)
        scores = scores.astype(jnp.float32)
        if self.logits_bias is not None:
            scores = scores + lift(self.logits_bias, scores.ndim, jnp.float32)
        return constrain(scores, "batch", *middle, "vocab")

    def __call__(
        self, source: Int[Array, "B S"], target_in: Int[Array, "B T"], **inputs: Any
    ) -> Float[Array, "B T V"]:
        """float32 logits; further arguments are those of `hidden`."""
        return self.logits(self.hidden(source, target_in, **inputs))

    def init_cache(
        self,
        encoded: Float[Array, "B S D"],
        source_segment: Int[Array, "B S"] | None,
        length: int,
    ) -> "SourceCache":
        """The source's keys and values in every layer, and room for `length` target tokens.

        Args:
          source_segment: 0 where `encoded` is padding; rows hold one document each.
        """
        cfg, B = self.cfg, encoded.shape[0]
        source = jax.vmap(lambda block: block.cross_attn.keys_values(encoded))(self.decoder.blocks)
        shape = (cfg.decoder_depth, B, length, cfg.num_heads, cfg.head_size)
        return SourceCache(Cache.empty(shape, cfg.dtype), source, source_segment)

    def decode(
        self, target_in: Int[Array, "B T"], cache: "SourceCache", index: Int[Array, "B T"]
    ) -> tuple[Float[Array, "B T D"], "SourceCache"]:
        """Reads on: as `hidden`, of target tokens after those that the cache holds.

        Args:
          index: where in the target each token stands: its position, and its place in the cache.
        """
        target = self.token_embed if self.target_embed is None else self.target_embed
        segment, cross_mask = cache.segment, None
        if segment is not None:
            real = (segment > 0).astype(jnp.int32)
            cross_mask = Mask(q_segment=jnp.ones_like(target_in), kv_segment=real)
        return self.decoder(
            self._embed(target, target_in, index),
            mask=Mask(causal=True, q_index=index),
            cross_mask=cross_mask,
            cache=cache,
            index=index,
        )

    def _embed(
        self, embedding: Embedding, tokens: Int[Array, "B T"], position: Int[Array, "_ T"] | None
    ) -> Float[Array, "B T D"]:
        cfg = self.cfg
        x = embedding(tokens, cfg.dtype)
        if cfg.embed_scale:
            x = x * cfg.width**0.5
        if cfg.position != "relative":
            place = jnp.arange(tokens.shape[1])[None] if position is None else position
            last = cfg.position == "sinusoidal"
            x = x + sinusoids(place, cfg.width, last=last).astype(x.dtype)
        return x

    def _dropout_keys(self, keys: Key[Array, " B"] | None, purpose: int) -> Key[Array, " B"] | None:
        cfg = self.cfg
        drops = cfg.dropout or cfg.attention_dropout or cfg.mlp_dropout
        return fold_in(keys, purpose) if drops else None


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("own", "source", "segment"),
    meta_fields=(),
)
@dataclass(frozen=True)
class SourceCache:
    """What decoding remembers: the target so far, and the source.

    Attributes:
      own: keys and values of the target's tokens so far.
      source: those of the source, [L, B, S, N, H] each.
      segment: 0 where the source is padding; None: nowhere.
    """

    own: Cache
    source: tuple[Float[Array, "L B S N H"], Float[Array, "L B S N H"]]
    segment: Int[Array, "B S"] | None

    def repeat(self, times: int) -> "SourceCache":
        """Each row so many times, one after the other: the beams of an example."""
        own, source = jax.tree.map(lambda x: jnp.repeat(x, times, axis=1), (self.own, self.source))
        segment = None if self.segment is None else jnp.repeat(self.segment, times, axis=0)
        return SourceCache(own, source, segment)

    def reorder(self, row: Int[Array, " B"]) -> "SourceCache":
        """The target's tokens of other rows, which must be of the same source."""
        own = jax.tree.map(lambda x: jnp.take(x, row, axis=1), self.own)
        return SourceCache(own, self.source, self.segment)


def make_norm(cfg: TransformerConfig, rngs: nnx.Rngs) -> Callable[[int], nnx.Module]:
    """Width -> the norm that this config has everywhere."""
    norm = LayerNorm if cfg.norm == "layer" else RMSNorm
    return partial(norm, epsilon=cfg.norm_epsilon, rngs=rngs)


def initializers(cfg: TransformerConfig) -> dict[str, Initializer]:
    """How each kind of parameter starts.

    `t5` is Mesh TensorFlow's; the output layer of T5 1.1 too has a standard deviation of
    width^-0.5, where Hugging Face's starts with 1.
    """
    normal = nnx.initializers.normal
    embed = normal(cfg.width**-0.5 if cfg.embed_scale else 1.0)
    if cfg.init == "xavier":
        kernel = nnx.initializers.xavier_uniform()
        kernels = dict.fromkeys(("kernel", "query", "attn_out", "mlp_out"), kernel)
        return {"embed": embed, "bias": normal(1e-6), "relative": normal(0.02), **kernels}
    return {
        "embed": embed,
        "bias": zeros,
        "relative": normal(cfg.width**-0.5),
        "kernel": normal(cfg.width**-0.5),
        "query": normal((cfg.width * cfg.head_size) ** -0.5),
        "attn_out": normal((cfg.num_heads * cfg.head_size) ** -0.5),
        "mlp_out": normal(cfg.mlp_dim**-0.5),
    }
