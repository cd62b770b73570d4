"""Small BERTs that the tests share."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from zoo.config.bert import BertConfig
from zoo.models.bert import Bert

CLASSES = {"classification": 3, "token_classification": 5}
# One value of each option that changes the parameters or the computation.
OPTIONS: dict[str, dict[str, Any]] = {
    "pretraining": {},
    "masked_lm": {"head": "masked_lm", "gelu": "erf"},
    "classification": {"head": "classification"},
    "relu pooler": {"head": "classification", "pooler_activation": "relu"},
    "regression": {"head": "classification", "num_classes": 1},
    "token_classification": {"head": "token_classification"},
    "question_answering": {"head": "question_answering"},
    "none": {"head": "none"},
    "one type": {"num_types": 1},
    "no types": {"num_types": 0, "head": "masked_lm"},
    "three types": {"num_types": 3},
}


def small_config(**changes: Any) -> BertConfig:
    """A BERT of 30 words and 12 positions."""
    head = changes.get("head", "pretraining")
    return BertConfig(
        **{
            "width": 16,
            "depth": 2,
            "mlp_dim": 24,
            "num_heads": 2,
            "vocab_size": 30,
            "max_length": 12,
            "num_classes": CLASSES.get(head),
            **changes,
        }
    )


def shapes(cfg: BertConfig) -> nnx.State:
    """The shapes of the parameters, with their metadata."""
    return nnx.state(_abstract(cfg))


def make_params(cfg: BertConfig, seed: int = 0) -> dict[str, Any]:
    """Random parameters: unlike the initial ones none are zeros, and scales are only near 1."""
    rng = np.random.default_rng(seed)

    def draw(path, shape):
        mean = 1.0 if path[-1].key == "scale" else 0.0
        return jnp.asarray(rng.normal(mean, 0.3, shape.shape), jnp.float32)

    return jax.tree.map_with_path(draw, nnx.to_pure_dict(nnx.split(_abstract(cfg))[1]))


def _abstract(cfg: BertConfig) -> Bert:
    return nnx.eval_shape(lambda: Bert(cfg, rngs=nnx.Rngs(0)))


def make_model(cfg: BertConfig, params: dict[str, Any]) -> Bert:
    """The model of a config; configs that differ in scan or remat may share parameters."""
    return nnx.merge(nnx.split(_abstract(cfg))[0], params)


def make_batch(batch: int = 4, length: int = 8) -> dict[str, jax.Array]:
    """Random rows of one or two texts, the last two a little padded, with labels of every kind."""
    rng = np.random.default_rng(5)
    ends = np.full(batch, length)
    ends[-2:] -= [1, 3][-batch:]
    real = np.arange(length)[None] < ends[:, None]
    masked = np.stack([np.sort(rng.permutation(int(end))[:3]) for end in ends])
    draw = lambda high, *shape: rng.integers(0, high, shape)
    arrays = {
        "tokens": np.where(real, rng.integers(1, 30, (batch, length)), 0),
        "type": (np.arange(length)[None] >= ends[:, None] // 2) & real,
        "segment": real,
        "masked_positions": masked,
        "masked_targets": draw(30, batch, 3),
        "next_sentence": draw(2, batch),
        "class": draw(3, batch),
        "tags": draw(5, batch, length),
        "start": draw(3, batch),
        "end": 2 + draw(3, batch),
    }
    batch_arrays = {name: jnp.asarray(a, jnp.int32) for name, a in arrays.items()}
    number = jnp.asarray(rng.normal(size=batch), jnp.float32)
    return {**batch_arrays, "number": number}


def make_keys(batch: int = 4) -> jax.Array:
    """One PRNG key an example."""
    return jax.random.split(jax.random.key(11), batch)


def run_head(cfg: BertConfig, params: dict[str, Any], batch, keys=None) -> dict[str, jax.Array]:
    """All that the head of a model predicts."""
    model = make_model(cfg, params)
    hidden = model.hidden(batch["tokens"], type=batch["type"], segment=batch["segment"], keys=keys)
    out = {"hidden": hidden}
    if cfg.has_masked_lm:
        masked = model.masked_hidden(hidden, batch["masked_positions"])
        out["masked"] = model.logits(masked)
    if cfg.head == "pretraining":
        out["next_sentence"] = model.next_sentence_logits(hidden)
    if cfg.head == "classification":
        out["class"] = model.class_logits(hidden, keys=keys)
    if cfg.head == "token_classification":
        out["tags"] = model.token_logits(hidden, keys=keys)
    if cfg.head == "question_answering":
        out["start"], out["end"] = model.span_logits(hidden)
    return out


apply = jax.jit(run_head, static_argnums=0)


@functools.partial(jax.jit, static_argnames="cfg")
def loss_and_grads(cfg: BertConfig, params: dict[str, Any], batch, keys=None):
    """A loss that every prediction matters to, and its gradients."""

    def loss(params):
        outputs = run_head(cfg, params, batch, keys)
        return sum(
            jnp.sum(jnp.sin(x.reshape(x.shape[0], -1)) * jnp.linspace(0.5, 1.5, x[0].size)[None])
            for x in outputs.values()
        )

    return jax.value_and_grad(loss)(params)


def assert_same_grads(actual: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    """Equal within a share of each array's largest number.

    The gradient of attention's key biases is zero but for rounding errors, which are as large as
    the other gradients make them.
    """
    noise = 1e-6 * max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    for path, leaf in jax.tree.leaves_with_path(expected):
        atol = tolerance * np.abs(leaf).max() + noise
        value = functools.reduce(lambda tree, entry: tree[entry.key], path, actual)
        np.testing.assert_allclose(
            value, leaf, rtol=0, atol=atol, err_msg=jax.tree_util.keystr(path)
        )
