"""Vision Transformer (Dosovitskiy 2020, arXiv 2010.11929) and what became of it.

Reads top to bottom: the block, the model, the heads. A token sequence is cls (pool
"cls" and "cls_gap" only), the distilled token, registers, then patches row by row.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from zoo.config.vit import ViTConfig
from zoo.models.initializers import Initializer, initializers
from zoo.models.layers import (
    Attention,
    Dense,
    LayerNorm,
    Mlp,
    drop_path,
    dropout,
    fold_in,
    lift,
    make_param,
    run_stack,
    stack,
)
from zoo.models.positions import Rotation, resize_positions, rotations, sincos2d
from zoo.sharding.rules import constrain

# Arrays that a call can return besides the logits.
CAPTURES = {
    "patch_embed": "[B, patches, D] before positions are added",
    "blocks": "[L, B, T, D] the output of every block",
    "attention": "[L, B, N, T, T] probabilities",
    "tokens": "[B, T, D] what the pooling sees: after the last norm, unless it follows the pooling",
    "representation": "[B, D] what the head sees, [B, 2 D] of cls_gap, the distilled tokens' mean",
}


class Block(nnx.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, cfg: ViTConfig, *, rngs: nnx.Rngs):
        D, epsilon, init = cfg.width, cfg.norm_epsilon, initializers(cfg)
        self.attn_norm = LayerNorm(D, epsilon=epsilon, rngs=rngs)
        self.attn = Attention(
            D,
            cfg.num_heads,
            make_norm=partial(LayerNorm, epsilon=epsilon, rngs=rngs) if cfg.qk_norm else None,
            kernel=cfg.attention,
            kernel_init=init["kernel"],
            rngs=rngs,
        )
        self.mlp_norm = LayerNorm(D, epsilon=epsilon, rngs=rngs)
        self.mlp = Mlp(
            D,
            cfg.mlp_dim,
            activation=f"gelu_{cfg.gelu}",
            kernel_init=init["kernel"],
            bias_init=init["mlp_bias"],
            rngs=rngs,
        )

        def layer_scale() -> nnx.Param | None:
            if cfg.layer_scale is None:
                return None
            return make_param(
                nnx.initializers.constant(cfg.layer_scale), (D,), ("norm",), rngs=rngs
            )

        self.attn_scale, self.mlp_scale = layer_scale(), layer_scale()
        self.dropout, self.attention_dropout = cfg.dropout, cfg.attention_dropout

    def __call__(
        self,
        x: Float[Array, "B T D"],
        *,
        rotation: Rotation | None = None,
        keys: Key[Array, " B"] | None = None,
        drop_rate: Float[Array, ""] | None = None,
        probabilities: bool = False,
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B N T T"] | None]:
        """The output, and attention's probabilities if asked for; `drop_rate`: of `drop_path`."""

        def branch(y, scale, purpose):
            y = dropout(y, fold_in(keys, purpose), self.dropout)
            y = y if scale is None else y * lift(scale, 3, y.dtype)
            return drop_path(y, fold_in(keys, purpose + 1), drop_rate)

        x = constrain(x, "batch", "tokens", None)
        y, weights = self.attn(
            self.attn_norm(x),
            rotation=rotation,
            keys=fold_in(keys, 5),
            rate=self.attention_dropout,
            probabilities=probabilities,
        )
        x = constrain(x + branch(y, self.attn_scale, 0), "batch", "tokens", None)
        y = self.mlp(self.mlp_norm(x), keys=fold_in(keys, 2), rate=self.dropout)
        x = constrain(x + branch(y, self.mlp_scale, 3), "batch", "tokens", None)
        return x, weights


class ViT(nnx.Module):
    """Images -> class logits.

    Raises:
      ValueError: `image_size`, `channels` or `num_classes` of the config is not filled in.
    """

    def __init__(self, cfg: ViTConfig, *, rngs: nnx.Rngs):
        if cfg.image_size is None or cfg.channels is None or cfg.num_classes is None:
            raise ValueError(
                "image_size, channels and num_classes of a ViTConfig must be filled in"
            )
        self.cfg = cfg
        D, init = cfg.width, initializers(cfg)
        self.patch_embed = Dense(
            cfg.patch_size**2 * cfg.channels,
            D,
            axes=("patch", "embed"),
            kernel_init=init["patch"],
            bias_init=init["patch_bias"],
            rngs=rngs,
        )

        def table(init: Initializer, rows: int) -> nnx.Param | None:
            return make_param(init, (rows, D), (None, "norm"), rngs=rngs) if rows else None

        self.cls = table(init["token"], int(cfg.has_cls))
        self.dist = table(init["token"], int(cfg.distilled))
        # Not zeros: equal registers would stay equal.
        self.registers = table(nnx.initializers.normal(0.02), cfg.num_registers)
        self.pos_embed = table(init["position"], cfg.num_positions)
        self.blocks = stack(lambda rngs: Block(cfg, rngs=rngs), cfg.depth, rngs=rngs)
        self.norm = LayerNorm(D, epsilon=cfg.norm_epsilon, rngs=rngs)
        self.pool = MapPool(cfg, rngs=rngs) if cfg.pool == "map" else None
        square = {"axes": ("embed", "norm"), "kernel_init": init["representation"], "rngs": rngs}
        self.representation = Dense(D, D, **square) if cfg.representation else None
        head = {
            "axes": ("embed", "classes"),
            "kernel_init": init["head"],
            "bias_init": nnx.initializers.constant(cfg.head_bias),
            "rngs": rngs,
        }

        def classes(number: int) -> Dense | None:
            return Dense(cfg.pooled_width, number, **head) if number else None

        self.head = classes(cfg.num_classes)
        self.dist_head = classes(cfg.num_classes if cfg.distilled else 0)

    def __call__(
        self,
        image: Float[Array, "B rows cols C"],
        *,
        keys: Key[Array, " B"] | None = None,
        capture: tuple[str, ...] = (),
    ) -> Any:
        """float32 logits [B, classes], or the representation of a model without classes.

        Args:
          image: of any size; positions are interpolated where its patch grid is another than
            the config's. Pixels beyond the last whole patch are cut off.
          keys: one PRNG key an example, for dropout and stochastic depth; None evaluates.
          capture: names of CAPTURES; the result is then (logits, {name: array}).

        Raises:
          ValueError: an unknown name in `capture`, or an image smaller than a patch.
        """
        unknown = set(capture) - set(CAPTURES)
        if unknown:
            raise ValueError(f"no array {sorted(unknown)}; there are: {', '.join(CAPTURES)}")
        cfg = self.cfg
        if cfg.dropout == cfg.attention_dropout == cfg.drop_path == 0.0:
            keys = None
        arrays: dict[str, Array] = {}
        x, grid = self._embed_patches(image)
        arrays["patch_embed"] = x
        x = self._add_tokens(x, grid)
        x = dropout(x, fold_in(keys, cfg.depth), cfg.dropout)
        x, collected = self._run_blocks(x, grid, keys, capture)
        arrays |= collected
        if not cfg.norm_after_pool:
            x = self.norm(x)
        arrays["tokens"] = x
        x = self._pool(x)
        if cfg.norm_after_pool:
            x = self.norm(x)
        if self.representation is not None:
            x = jnp.tanh(self.representation(x))
        arrays["representation"] = x
        x = constrain(x, "batch", None)
        logits = (x if self.head is None else self._classify(x, arrays["tokens"])).astype(
            jnp.float32
        )
        return (logits, {name: arrays[name] for name in capture}) if capture else logits

    def _embed_patches(
        self, image: Float[Array, "B rows cols C"]
    ) -> tuple[Float[Array, "B patches D"], tuple[int, int]]:
        """Each patch, its pixels in the order row, column, channel, times the kernel."""
        P = self.cfg.patch_size
        B, rows, cols, C = image.shape
        rows, cols = rows // P, cols // P
        if not rows or not cols:
            raise ValueError(f"image {image.shape[1:3]} is smaller than a patch of {P} pixels")
        x = image[:, : rows * P, : cols * P].astype(self.cfg.dtype)
        x = x.reshape(B, rows, P, cols, P, C).transpose(0, 1, 3, 2, 4, 5)
        x = constrain(x.reshape(B, rows * cols, P * P * C), "batch", "tokens", None)
        return self.patch_embed(x), (rows, cols)

    def _add_tokens(
        self, x: Float[Array, "B patches D"], grid: tuple[int, int]
    ) -> Float[Array, "B T D"]:
        """Adds positions to the patches, and the cls token and registers before them."""
        cfg = self.cfg
        table = None
        if self.pos_embed is not None:
            table = self.pos_embed[...]
        elif cfg.position == "sincos2d":
            table = jnp.asarray(sincos2d(cfg.grid, cfg.width))
        own = [token[...] for token in (self.cls, self.dist) if token is not None]
        cls = jnp.concatenate(own) if own else None
        if table is not None:
            table = resize_positions(table, cfg.grid, grid, cfg.position_resize)
            if cls is not None and len(table) > x.shape[1]:
                cls = cls + table[: len(cls)]
            x = x + table[None, -x.shape[1] :].astype(x.dtype)
        registers = None if self.registers is None else self.registers[...]
        prefix = [
            jnp.broadcast_to(token[None].astype(x.dtype), (x.shape[0], *token.shape))
            for token in (cls, registers)
            if token is not None
        ]
        return jnp.concatenate([*prefix, x], 1)

    def _run_blocks(
        self,
        x: Float[Array, "B T D"],
        grid: tuple[int, int],
        keys: Key[Array, " B"] | None,
        capture: tuple[str, ...],
    ) -> tuple[Float[Array, "B T D"], dict[str, Array]]:
        cfg = self.cfg
        rotation = None
        if cfg.position == "rotary":
            head_size = cfg.width // cfg.num_heads
            rotation = rotations(grid, head_size, num_prefix=cfg.num_prefix)
        inputs = {"layer": jnp.arange(cfg.depth)}
        if keys is not None and cfg.drop_path > 0:
            first = 0.0 if cfg.drop_path_growth == "linear" else cfg.drop_path
            inputs["drop_rate"] = jnp.linspace(first, cfg.drop_path, cfg.depth)

        def call(block, x, inputs):
            block_keys = fold_in(keys, inputs["layer"])
            drop_rate = inputs.get("drop_rate")
            x, weights = block(
                x,
                rotation=rotation,
                keys=block_keys,
                drop_rate=drop_rate,
                probabilities="attention" in capture,
            )
            collect = {"blocks": x, "attention": weights}
            return x, {name: collect[name] for name in collect if name in capture}

        return run_stack(
            call, self.blocks, x, inputs, depth=cfg.depth, scan=cfg.scan, remat=cfg.remat
        )

    def _pool(self, x: Float[Array, "B T D"]) -> Float[Array, "B pooled"]:
        cfg, patches = self.cfg, x[:, self.cfg.num_prefix :]
        if self.pool is not None:
            return self.pool(patches)
        if cfg.distilled:
            return jnp.mean(x[:, :2], 1)
        if cfg.pool == "cls_gap":
            return jnp.concatenate([x[:, 0], jnp.mean(patches, 1)], 1)
        return x[:, 0] if cfg.pool == "cls" else jnp.mean(patches, 1)

    def _classify(
        self, x: Float[Array, "B pooled"], tokens: Float[Array, "B T D"]
    ) -> Float[Array, "B classes"]:
        assert self.head is not None
        if self.dist_head is None:
            return self.head(x)
        return (self.head(tokens[:, 0]) + self.dist_head(tokens[:, 1])) / 2


class MapPool(nnx.Module):
    """Multi-head attention pooling (Lee 2019; Zhai 2022): a learned probe looks at the patches."""

    def __init__(self, cfg: ViTConfig, *, rngs: nnx.Rngs):
        D, init = cfg.width, initializers(cfg)
        kernel = init["kernel"]
        self.probe = make_param(init["probe"], (1, D), (None, "norm"), rngs=rngs)
        self.attn = Attention(D, cfg.num_heads, kernel_init=kernel, rngs=rngs)
        self.norm = LayerNorm(D, epsilon=cfg.norm_epsilon, rngs=rngs)
        self.mlp = Mlp(
            D,
            cfg.mlp_dim,
            activation=f"gelu_{cfg.gelu}",
            kernel_init=kernel,
            bias_init=init["mlp_bias"],
            rngs=rngs,
        )

    def __call__(self, tokens: Float[Array, "B S D"]) -> Float[Array, "B D"]:
        probe = self.probe[...].astype(tokens.dtype)
        x = jnp.broadcast_to(probe[None], (tokens.shape[0], *probe.shape))
        x = self.attn(x, tokens)[0]
        return (x + self.mlp(self.norm(x)))[:, 0]
