"""Small encoder-decoders that the tests share."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.config.transformer import TransformerConfig
from zoo.models.transformer import Transformer

VOCAB = 13
T5 = {
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
T5_1_1 = {**T5, "activation": "gelu_tanh", "gated": True, "tied": False, "logits_scale": False}
# One of each family, and what no family has.
OPTIONS: dict[str, dict[str, Any]] = {
    "vaswani": {},
    "pre-norm": {"norm_order": "pre", "embed_scale": False, "logits_scale": True},
    "t5": {**T5, "decoder_depth": 3, "head_size": 6},
    "t5_1_1": T5_1_1,
    "nothing shared": {"attention_bias": True, "shared": False, "tied": False},
    "marian": {
        "position": "sinusoidal_marian",
        "attention_bias": True,
        "activation": "silu",
        "logits_bias": True,
        "start_token": 12,
    },
    "biased gates": {"gated": True, "norm": "rms", "shared": False, "activation": "silu"},
}
DROPPING = {"dropout": 0.1, "attention_dropout": 0.2, "mlp_dropout": 0.3}


def small_config(**changes: Any) -> TransformerConfig:
    """Two layers each, four heads, thirteen tokens."""
    sizes = {"width": 16, "depth": 2, "mlp_dim": 24, "num_heads": 4, "vocab_size": VOCAB}
    return TransformerConfig(**{**sizes, **changes})


def make_params(cfg: TransformerConfig, seed: int = 0) -> dict[str, Any]:
    """Random parameters: unlike the initial ones none are zeros, and norms' scales are near 1."""
    rng = np.random.default_rng(seed)

    def draw(path, shape):
        mean = 1.0 if path[-1].key == "scale" else 0.0
        return jnp.asarray(rng.normal(mean, 0.3, shape.shape), jnp.float32)

    return jax.tree.map_with_path(draw, nnx.to_pure_dict(nnx.split(_abstract(cfg))[1]))


def init_params(cfg: TransformerConfig) -> dict[str, Any]:
    """Parameters as a run starts with them."""
    return jax.jit(lambda: nnx.to_pure_dict(nnx.state(Transformer(cfg, rngs=nnx.Rngs(0)))))()


def _abstract(cfg: TransformerConfig) -> Transformer:
    return nnx.eval_shape(lambda: Transformer(cfg, rngs=nnx.Rngs(0)))


def make_model(cfg: TransformerConfig, params: dict[str, Any]) -> Transformer:
    """The model of a config; configs that differ in scan or remat may share parameters."""
    return nnx.merge(nnx.split(_abstract(cfg))[0], params)


@functools.partial(jax.jit, static_argnames="cfg")
def apply(cfg: TransformerConfig, params: dict[str, Any], source, target_in, **inputs):
    """Logits."""
    return make_model(cfg, params)(source, target_in, **inputs)


@functools.partial(jax.jit, static_argnames="cfg")
def loss_and_grads(cfg: TransformerConfig, params, source, target_in, target, mask=None, **inputs):
    """The mean cross-entropy of the targets where `mask` is 1, and its gradients."""
    mask = jnp.ones(target.shape) if mask is None else mask

    def loss(params):
        logits = make_model(cfg, params)(source, target_in, **inputs)
        nll = -jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], -1)[..., 0]
        return jnp.sum(nll * mask) / jnp.sum(mask)

    return jax.value_and_grad(loss)(params)


def make_tokens(batch: int = 4, length: int = 10, seed: int = 7) -> jax.Array:
    """Random tokens, none of which is the padding 0."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.integers(1, VOCAB, (batch, length)), jnp.int32)


def make_keys(batch: int = 4) -> jax.Array:
    """One PRNG key an example."""
    return jax.random.split(jax.random.key(11), batch)
