"""Small decoder-only models that the tests share."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.config.decoder import DecoderConfig
from zoo.models.decoder import Decoder

VOCAB = 13
GPT2 = {
    "position": "learned",
    "max_length": 12,
    "norm": "layer",
    "activation": "gelu_tanh",
    "gated": False,
    "attention_bias": True,
    "mlp_bias": True,
}
LM1B = {
    **GPT2,
    "position": "sinusoidal",
    "max_length": None,
    "activation": "relu",
    "attention_bias": False,
    "tied": False,
    "head_bias": True,
    "init": "xavier",
}
LLAMA = {
    "num_kv_heads": 2,
    "head_size": 16,
    "rope_scaling": 4.0,
    "rope_original_length": 64,
    "tied": False,
}
QWEN = {"num_kv_heads": 2, "head_size": 6, "qk_norm": True}
GEMMA = {
    "num_kv_heads": 1,
    "head_size": 6,
    "window": 3,
    "global_every": 2,
    "rope_base": 1000.0,
    "local_rope_base": 10.0,
    "norm_from_zero": True,
    "post_norm": True,
    "qk_norm": True,
    "activation": "gelu_tanh",
    "embed_scale": True,
}
# One of each family, and what no family has.
OPTIONS: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    "lm1b": LM1B,
    "llama": LLAMA,
    "qwen": QWEN,
    "gemma": GEMMA,
    "no positions": {"position": "none", "norm": "layer", "qk_norm": True, "window": 4},
    "biased gates": {"mlp_bias": True, "attention_bias": True, "activation": "gelu_erf"},
}


def small_config(**changes: Any) -> DecoderConfig:
    """Two layers, four heads, thirteen tokens."""
    sizes = {"width": 16, "depth": 2, "mlp_dim": 24, "num_heads": 4, "vocab_size": VOCAB}
    return DecoderConfig(**{**sizes, **changes})


def make_params(cfg: DecoderConfig, seed: int = 0) -> dict[str, Any]:
    """Random parameters: unlike the initial ones none are zeros, and norms' scales are near 1."""
    rng = np.random.default_rng(seed)
    one = 0.0 if cfg.norm_from_zero else 1.0

    def draw(path, shape):
        mean = one if path[-1].key == "scale" else 0.0
        return jnp.asarray(rng.normal(mean, 0.3, shape.shape), jnp.float32)

    return jax.tree.map_with_path(draw, nnx.to_pure_dict(nnx.split(_abstract(cfg))[1]))


def init_params(cfg: DecoderConfig) -> dict[str, Any]:
    """Parameters as a run starts with them."""
    return jax.jit(lambda: nnx.to_pure_dict(nnx.state(Decoder(cfg, rngs=nnx.Rngs(0)))))()


def _abstract(cfg: DecoderConfig) -> Decoder:
    return nnx.eval_shape(lambda: Decoder(cfg, rngs=nnx.Rngs(0)))


def make_model(cfg: DecoderConfig, params: dict[str, Any]) -> Decoder:
    """The model of a config; configs that differ in scan or remat may share parameters."""
    return nnx.merge(nnx.split(_abstract(cfg))[0], params)


@functools.partial(jax.jit, static_argnames="cfg")
def apply(cfg: DecoderConfig, params: dict[str, Any], tokens, **inputs):
    """Logits."""
    return make_model(cfg, params)(tokens, **inputs)


@functools.partial(jax.jit, static_argnames="cfg")
def loss_and_grads(cfg: DecoderConfig, params: dict[str, Any], tokens, keys=None):
    """The mean cross-entropy of each next token, and its gradients."""

    def loss(params):
        logits = make_model(cfg, params)(tokens, keys=keys)[:, :-1]
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], -1)
        return -jnp.mean(chosen)

    return jax.value_and_grad(loss)(params)


def make_tokens(batch: int = 4, length: int = 10, seed: int = 7) -> jax.Array:
    """Random tokens."""
    return jnp.asarray(np.random.default_rng(seed).integers(0, VOCAB, (batch, length)), jnp.int32)


def make_keys(batch: int = 4) -> jax.Array:
    """One PRNG key an example."""
    return jax.random.split(jax.random.key(11), batch)
