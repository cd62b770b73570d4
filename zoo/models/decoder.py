"""Decoder-only language models: GPT-2 (Radford 2019), Llama, Qwen, Gemma, and what lies between.

Reads top to bottom: the block, the model, the cache that it decodes with. All families are one
pre-norm block with options, and one stack: where layers differ (Gemma's local ones), the
difference goes in as numbers.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from zoo.config.decoder import DecoderConfig
from zoo.models.attention import Mask
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
    make_param,
    run_stack,
    stack,
)
from zoo.models.positions import Rotation, rope, rope_frequencies, sinusoids
from zoo.sharding.rules import constrain

# The window of a layer without one.
_EVERYTHING = np.iinfo(np.int32).max


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); with post-norms, each branch ends in one."""

    def __init__(self, cfg: DecoderConfig, *, rngs: nnx.Rngs):
        D, init = cfg.width, initializers(cfg)
        norm = make_norm(cfg, rngs)
        kernels = {"kernel_init": init["kernel"], "out_init": init["out"], "rngs": rngs}
        self.attn_norm = norm(D)
        self.attn = Attention(
            D,
            cfg.num_heads,
            num_kv_heads=cfg.num_kv_heads,
            head_size=cfg.head_size,
            use_bias=cfg.attention_bias,
            make_norm=norm if cfg.qk_norm else None,
            kernel=cfg.attention,
            **kernels,
        )
        self.attn_post_norm = norm(D) if cfg.post_norm else None
        self.mlp_norm = norm(D)
        self.mlp = Mlp(
            D,
            cfg.mlp_dim,
            activation=cfg.activation,
            gated=cfg.gated,
            use_bias=cfg.mlp_bias,
            bias_init=init["bias"],
            **kernels,
        )
        self.mlp_post_norm = norm(D) if cfg.post_norm else None
        self.rates = (cfg.dropout, cfg.attention_dropout, cfg.mlp_dropout)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        *,
        mask: Mask,
        rotation: Rotation | None = None,
        keys: Key[Array, " B"] | None = None,
        remember: Callable[[KeysValues], KeysValues] | None = None,
    ) -> Float[Array, "B T D"]:
        """`remember`: puts these tokens' keys and values to those before, and returns them all."""
        rate, attention_rate, mlp_rate = self.rates
        x = constrain(x, "batch", "tokens", None)
        y = self.attn_norm(x)
        kv = None if remember is None else remember(self.attn.keys_values(y, rotation))
        y, _ = self.attn(
            y, kv=kv, mask=mask, rotation=rotation, keys=fold_in(keys, 0), rate=attention_rate
        )
        y = y if self.attn_post_norm is None else self.attn_post_norm(y)
        x = constrain(x + dropout(y, fold_in(keys, 1), rate), "batch", "tokens", None)
        y = self.mlp(self.mlp_norm(x), keys=fold_in(keys, 2), rate=mlp_rate)
        y = y if self.mlp_post_norm is None else self.mlp_post_norm(y)
        return constrain(x + dropout(y, fold_in(keys, 3), rate), "batch", "tokens", None)


class Decoder(nnx.Module):
    """Tokens -> logits of each next token.

    Raises:
      ValueError: `vocab_size`, or `max_length` with learned positions, is not filled in.
    """

    def __init__(self, cfg: DecoderConfig, *, rngs: nnx.Rngs):
        if cfg.vocab_size is None or (cfg.position == "learned" and cfg.max_length is None):
            raise ValueError("vocab_size and max_length of a DecoderConfig must be filled in")
        self.cfg = cfg
        D, init = cfg.width, initializers(cfg)
        self.token_embed = Embedding(cfg.vocab_size, D, init=init["embed"], rngs=rngs)
        rows = (cfg.max_length or 0) if cfg.position == "learned" else 0
        self.pos_embed = (
            make_param(init["embed"], (rows, D), (None, "norm"), rngs=rngs) if rows else None
        )
        self.blocks = stack(lambda rngs: Block(cfg, rngs=rngs), cfg.depth, rngs=rngs)
        self.norm = make_norm(cfg, rngs)(D)
        head = {
            "axes": ("embed", "vocab"),
            "kernel_init": init["kernel"],
            "bias_init": init["bias"],
            "use_bias": cfg.head_bias,
            "rngs": rngs,
        }
        self.head = None if cfg.tied else Dense(D, cfg.vocab_size, **head)

    def hidden(
        self,
        tokens: Int[Array, "B T"],
        *,
        segment: Int[Array, "B T"] | None = None,
        position: Int[Array, "B T"] | None = None,
        keys: Key[Array, " B"] | None = None,
    ) -> Float[Array, "B T D"]:
        """What `logits` sees: after the last norm, in the config's dtype.

        Args:
          segment: the document of each token, which sees no other; 0 is padding.
          position: of each token in its document; default: in its row.
          keys: one PRNG key an example, for dropout; None evaluates.

        Raises:
          ValueError: a row longer than the table of learned positions.
        """
        cfg, T = self.cfg, tokens.shape[1]
        self._check_length(T)
        if not (cfg.dropout or cfg.attention_dropout or cfg.mlp_dropout):
            keys = None
        if position is None:
            position = jnp.arange(T)[None]
        mask = Mask(causal=True, q_segment=segment, kv_segment=segment)
        return self._run(tokens, position, mask, keys=keys)[0]

    def logits(self, hidden: Float[Array, "B *T D"]) -> Float[Array, "B *T V"]:
        """float32 scores of every token of the vocabulary."""
        scores = self.token_embed.attend(hidden) if self.head is None else self.head(hidden)
        middle = ("tokens",) * (scores.ndim - 2)
        return constrain(scores.astype(jnp.float32), "batch", *middle, "vocab")

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        *,
        segment: Int[Array, "B T"] | None = None,
        position: Int[Array, "B T"] | None = None,
        keys: Key[Array, " B"] | None = None,
    ) -> Float[Array, "B T V"]:
        """float32 logits [B, T, V]; the arguments are those of `hidden`."""
        return self.logits(self.hidden(tokens, segment=segment, position=position, keys=keys))

    def init_cache(self, batch_size: int, length: int) -> "Cache":
        """Room for the keys and values of `length` tokens a row.

        Raises:
          ValueError: `length` is beyond the table of learned positions.
        """
        cfg = self.cfg
        self._check_length(length)
        shape = (cfg.depth, batch_size, length, cfg.num_kv_heads, cfg.head_size)
        return Cache.empty(shape, cfg.dtype)

    def decode(
        self, tokens: Int[Array, "B T"], cache: "Cache", index: Int[Array, "B T"]
    ) -> tuple[Float[Array, "B T D"], "Cache"]:
        """Reads on: as `hidden`, of tokens after those that the cache holds.

        A whole prompt or one token more, it is the same. Prompts of several lengths are padded on
        the right: what padding leaves in the cache no token sees before it is overwritten.

        Args:
          index: where in its row each token stands: its position, and its place in the cache; what
            lies beyond the cache is not kept.
        """
        return self._run(tokens, index, Mask(causal=True, q_index=index), cache=cache)

    def _check_length(self, length: int) -> None:
        limit = self.cfg.max_length
        if self.pos_embed is not None and limit is not None and length > limit:
            raise ValueError(f"{length} tokens are more than the {limit} learned positions")

    def _run(
        self,
        tokens: Int[Array, "B T"],
        position: Int[Array, "_ T"],
        mask: Mask,
        *,
        keys: Key[Array, " B"] | None = None,
        cache: "Cache | None" = None,
    ) -> tuple[Float[Array, "B T D"], Any]:
        cfg = self.cfg
        x = dropout(self._embed(tokens, position), fold_in(keys, cfg.depth), cfg.dropout)
        everywhere, nearby = self._rotations(position)
        layers = {"number": jnp.arange(cfg.depth)}
        if cfg.window:
            layers["local"] = jnp.asarray(cfg.local)

        def call(block, carry, layer):
            x, cache = carry
            seen, rotation = mask, everywhere
            if cfg.window:
                # A number that all layers share is one that a kernel may be compiled for.
                mixed = jnp.where(layer["local"], cfg.window, _EVERYTHING)
                window = cfg.window if all(cfg.local) else mixed
                seen = Mask(mask.causal, window, mask.q_segment, mask.kv_segment, mask.q_index)
            if nearby is not None:
                choose = partial(jnp.where, layer["local"])
                rotation = jax.tree.map(choose, nearby, everywhere)

            def remember(new):
                nonlocal cache
                cache = cache.write(new, layer["number"], position)
                return cache.read(layer["number"])

            x = block(
                x,
                mask=seen,
                rotation=rotation,
                keys=fold_in(keys, layer["number"]),
                remember=None if cache is None else remember,
            )
            return (x, cache), None

        (x, cache), _ = run_stack(
            call, self.blocks, (x, cache), layers, depth=cfg.depth, scan=cfg.scan, remat=cfg.remat
        )
        return self.norm(x), cache

    def _embed(
        self, tokens: Int[Array, "B T"], position: Int[Array, "_ T"]
    ) -> Float[Array, "B T D"]:
        cfg = self.cfg
        x = self.token_embed(tokens, cfg.dtype)
        if cfg.embed_scale:
            x = x * cfg.width**0.5
        if self.pos_embed is not None:
            x = x + jnp.take(self.pos_embed[...].astype(x.dtype), position, axis=0)
        elif cfg.position == "sinusoidal":
            x = x + sinusoids(position, cfg.width).astype(x.dtype)
        return x

    def _rotations(self, position: Int[Array, "_ T"]) -> tuple[Rotation | None, Rotation | None]:
        """That of most layers, and that of local layers where it is another."""
        cfg = self.cfg
        if cfg.position != "rotary":
            return None, None
        scaled = rope_frequencies(
            cfg.head_size,
            cfg.rope_base,
            scaling=cfg.rope_scaling,
            original_length=cfg.rope_original_length,
        )
        everywhere = rope(position, scaled)
        if not cfg.local_rope_base:
            return everywhere, None
        return everywhere, rope(position, rope_frequencies(cfg.head_size, cfg.local_rope_base))


@functools.partial(jax.tree_util.register_dataclass, data_fields=("k", "v"), meta_fields=())
@dataclass(frozen=True)
class Cache:
    """Keys and values of the tokens so far, of all layers."""

    k: Float[Array, "L B S K H"]
    v: Float[Array, "L B S K H"]

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: Any) -> "Cache":
        """Room for keys and values of this shape each."""
        return cls(*(_pin(jnp.zeros(shape, dtype)) for _ in range(2)))

    def write(self, kv: KeysValues, layer: Int[Array, ""], index: Int[Array, "B T"]) -> "Cache":
        """Puts a layer's keys and values [B, T, K, H] at their places."""
        row = jnp.arange(index.shape[0])[:, None]
        pairs = zip((self.k, self.v), kv, strict=True)
        return Cache(*(_pin(old.at[layer, row, index].set(new)) for old, new in pairs))

    def read(self, layer: Int[Array, ""]) -> KeysValues:
        """A layer's keys and values [B, S, K, H]."""
        return self.k[layer], self.v[layer]


def _pin(x: Float[Array, "L B S K H"]) -> Float[Array, "L B S K H"]:
    return constrain(x, "layers", "batch", None, "heads", None)


def make_norm(cfg: DecoderConfig, rngs: nnx.Rngs) -> Callable[[int], nnx.Module]:
    """Width -> the norm that this config has everywhere."""
    if cfg.norm == "layer":
        return partial(LayerNorm, epsilon=cfg.norm_epsilon, rngs=rngs)
    offset = 1.0 if cfg.norm_from_zero else 0.0
    return partial(RMSNorm, epsilon=cfg.norm_epsilon, offset=offset, rngs=rngs)


def initializers(cfg: DecoderConfig) -> dict[str, Initializer]:
    """How each kind of parameter starts; `out`: kernels that end a branch."""
    normal = nnx.initializers.normal
    if cfg.init == "xavier":
        kernel = nnx.initializers.xavier_uniform()
        return {"embed": normal(1.0), "kernel": kernel, "out": kernel, "bias": normal(1e-6)}
    # The residual adds up 2 depth branches.
    out = normal(0.02 * (2 * cfg.depth) ** -0.5)
    return {"embed": normal(0.02), "kernel": normal(0.02), "out": out, "bias": zeros}
