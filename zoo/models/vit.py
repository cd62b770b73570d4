"""Vision Transformer (Dosovitskiy 2020, arXiv 2010.11929) and what became of it.

Reads top to bottom: the block, the model, the heads.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from zoo.config.vit import ViTConfig
from zoo.models.layers import (
    Attention,
    Dense,
    LayerNorm,
    Mlp,
    make_param,
    stack,
    unstack,
    zeros,
)
from zoo.sharding.rules import constrain

xavier = nnx.initializers.xavier_uniform()


class Block(nnx.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, cfg: ViTConfig, *, rngs: nnx.Rngs):
        norm = lambda: LayerNorm(cfg.width, epsilon=cfg.norm_epsilon, rngs=rngs)
        self.attn_norm = norm()
        self.attn = Attention(
            cfg.width, cfg.num_heads, epsilon=cfg.norm_epsilon, kernel_init=xavier, rngs=rngs
        )
        self.mlp_norm = norm()
        self.mlp = Mlp(
            cfg.width,
            cfg.mlp_dim,
            gelu=cfg.gelu,
            kernel_init=xavier,
            bias_init=nnx.initializers.normal(1e-6),
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        x = constrain(x, "batch", None, None)
        x = x + self.attn(self.attn_norm(x))[0]
        return x + self.mlp(self.mlp_norm(x))


class ViT(nnx.Module):
    """images [B, rows, cols, C] -> logits [B, classes]."""

    def __init__(self, cfg: ViTConfig, *, rngs: nnx.Rngs):
        size, channels, classes = cfg.image_size, cfg.channels, cfg.num_classes
        if size is None or channels is None or classes is None:
            raise ValueError(
                "image_size, channels and num_classes of a ViTConfig must be filled in"
            )
        self.cfg = cfg
        rows, cols = (size, size) if isinstance(size, int) else size
        tokens = (rows // cfg.patch_size) * (cols // cfg.patch_size)
        self.patch_embed = Dense(
            cfg.patch_size**2 * channels,
            cfg.width,
            axes=("patch", "embed"),
            kernel_init=nnx.initializers.lecun_normal(),
            rngs=rngs,
        )
        self.cls = make_param(zeros, (1, cfg.width), (None, "norm"), rngs=rngs)
        self.pos_embed = make_param(
            nnx.initializers.normal(cfg.width**-0.5),
            (1 + tokens, cfg.width),
            ("position", "norm"),
            rngs=rngs,
        )
        self.blocks = stack(lambda rngs: Block(cfg, rngs=rngs), cfg.depth, rngs=rngs)
        self.norm = LayerNorm(cfg.width, epsilon=cfg.norm_epsilon, rngs=rngs)
        self.head = Dense(
            cfg.width, classes, axes=("embed", "classes"), kernel_init=zeros, rngs=rngs
        )

    def __call__(
        self,
        image: Float[Array, "B rows cols C"],
        *,
        keys: Key[Array, " B"] | None = None,
        capture: tuple[str, ...] = (),
    ) -> Any:
        cfg = self.cfg
        B, rows, cols, C = image.shape
        P = cfg.patch_size
        patches = image.reshape(B, rows // P, P, cols // P, P, C).transpose(0, 1, 3, 2, 4, 5)
        x = self.patch_embed(patches.reshape(B, -1, P * P * C).astype(cfg.dtype))
        cls = jnp.broadcast_to(self.cls[...].astype(x.dtype), (B, 1, cfg.width))
        x = jnp.concatenate([cls, x], 1) + self.pos_embed[...].astype(x.dtype)[None]
        if cfg.scan:
            x = jax.lax.scan(lambda x, block: (block(x), None), x, self.blocks)[0]
        else:
            for block in unstack(self.blocks, cfg.depth):
                x = block(x)
        x = self.norm(constrain(x, "batch", None, None))[:, 0]
        return self.head(x).astype(jnp.float32)
