"""Small ViTs that the tests of the models and of sharding share."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.config.vit import ViTConfig
from zoo.models.vit import ViT

# Every option that adds parameters or randomness.
EVERYTHING = {
    "num_registers": 2,
    "representation": True,
    "layer_scale": 0.5,
    "qk_norm": True,
    "dropout": 0.1,
    "drop_path": 0.2,
    "attention_dropout": 0.1,
}
# One value of each option that changes the computation.
OPTIONS: dict[str, dict[str, Any]] = {
    "cls": {},
    "no cls position": {"cls_position": False, "num_registers": 3},
    "gap": {"pool": "gap", "position": "sincos2d", "norm_after_pool": True},
    "cls and gap": {"pool": "cls_gap", "num_registers": 1, "layer_scale": 0.5},
    "distilled": {"distilled": True, "num_registers": 2},
    "distilled, no head": {"distilled": True, "cls_position": False, "num_classes": 0},
    "map": {"pool": "map", "position": "rotary", "num_registers": 1},
    "everything": EVERYTHING,
    "no head": {"num_classes": 0, "position": "none", "representation": True},
    "cut off": {"image_size": (15, 9), "gelu": "erf"},
}


def small_config(**changes: Any) -> ViTConfig:
    """A ViT on images of 8 x 12 pixels, six patches, with weights that all matter."""
    return ViTConfig(
        **{
            "width": 16,
            "depth": 2,
            "mlp_dim": 24,
            "num_heads": 2,
            "patch_size": 4,
            "num_classes": 5,
            "image_size": (8, 12),
            "channels": 3,
            "head_init": "trunc_normal",
            **changes,
        }
    )


def make_params(cfg: ViTConfig, seed: int = 0) -> dict[str, Any]:
    """Random parameters: unlike the initial ones none are zeros, and scales are only near 1."""
    rng = np.random.default_rng(seed)

    def draw(path, shape):
        mean = 1.0 if path[-1].key == "scale" else 0.0
        return jnp.asarray(rng.normal(mean, 0.3, shape.shape), jnp.float32)

    return jax.tree.map_with_path(draw, nnx.to_pure_dict(nnx.split(_abstract(cfg))[1]))


def init_params(cfg: ViTConfig) -> dict[str, Any]:
    """Parameters as a run starts with them."""
    return jax.jit(lambda: nnx.to_pure_dict(nnx.state(ViT(cfg, rngs=nnx.Rngs(0)))))()


def _abstract(cfg: ViTConfig) -> ViT:
    return nnx.eval_shape(lambda: ViT(cfg, rngs=nnx.Rngs(0)))


def make_model(cfg: ViTConfig, params: dict[str, Any]) -> ViT:
    """The model of a config; configs that differ in scan or remat may share parameters."""
    return nnx.merge(nnx.split(_abstract(cfg))[0], params)


@functools.partial(jax.jit, static_argnames=("cfg", "capture"))
def apply(cfg: ViTConfig, params: dict[str, Any], images, keys=None, capture=()):
    """What the model returns."""
    return make_model(cfg, params)(images, keys=keys, capture=capture)


@functools.partial(jax.jit, static_argnames="cfg")
def loss_and_grads(cfg: ViTConfig, params: dict[str, Any], images, keys=None):
    """A loss that every logit matters to, and its gradients."""

    def loss(params):
        logits = make_model(cfg, params)(images, keys=keys)
        return jnp.sum(jnp.sin(logits) * jnp.arange(1.0, 1 + logits.shape[1])[None])

    return jax.value_and_grad(loss)(params)


def make_images(batch: int = 4, rows: int = 8, cols: int = 12) -> jax.Array:
    """Random pixels."""
    return jnp.asarray(np.random.default_rng(7).normal(size=(batch, rows, cols, 3)), jnp.float32)


def make_keys(batch: int = 4) -> jax.Array:
    """One PRNG key an example."""
    return jax.random.split(jax.random.key(11), batch)
